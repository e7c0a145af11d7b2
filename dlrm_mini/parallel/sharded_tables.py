"""Embedding tables split over ranks: what `EmbeddingTables` gives, for the rows of each rank.

Written for one rank. Every table is cut into rectangles (`parallel.sharding`), and there is one way
through them, whatever the cut:

1. ids go to the ranks that hold their rows (`parallel.exchange`);
2. a rank looks up and sums what it was sent, for the rows of *all* ranks: (B, W), its shards side
   by side;
3. each rank's rows of that go home, in one all-to-all: the paper's butterfly shuffle. There, pieces
   of rows are added, and pieces of columns laid side by side: (b, F, D).

Backward is the same way back: step 3 is an all-to-all of gradients, step 2 gives each shard the
gradient of the whole batch. Data-parallel tables are looked up at home; their gradients are summed
with those of the MLPs (`parallel.sharded_step`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dlrm_mini.datasets.sparse import SparseFeatures
from dlrm_mini.embeddings import EmbeddingTables, FusedEmbeddingTables
from dlrm_mini.errors import UserError
from dlrm_mini.parallel.communicator import Communicator
from dlrm_mini.parallel.exchange import Announced, Exchange, Received, announce
from dlrm_mini.parallel.sharding import Plan, Shard
from dlrm_mini.table_checks import Pooling, check_features, check_sizes

BLOCK = 4096  # rows of a table whose first entries come from one generator


@dataclass(frozen=True)
class Held:
    """A shard and where its numbers are.

    Attributes:
        shard: the rectangle of the table.
        parameter: what the optimizer knows; fused shards lie in one, one above the other.
        rows: the shard's rows in it. An optimizer's state, by row or by entry, has the same rows.
    """

    shard: Shard
    parameter: nn.Parameter
    rows: slice

    @property
    def weight(self) -> Tensor:
        """The shard's entries, (rows, columns), a view of the parameter."""
        return self.parameter.detach()[self.rows]


class ShardedTables(nn.Module):
    """One rank's part of a model's embedding tables, with the interface of `EmbeddingTables`.

    Every rank makes one, and calls it at the same time.

    Args:
        plan: which rectangle of which table lies where.
        communicator: this rank's.
        pooling: "sum" or "mean", of a bag's vectors.
        check: whether `forward` looks for ids without a row.
        dtype: of the entries.
        fused: whether whole rows are updated inside backward, all tables at once, as in
            `FusedEmbeddingTables`. Pieces of columns are not: row-wise Adagrad first has to hear
            from the ranks with the other columns. Nor are data-parallel tables.
        seed: of the first entries, uniform in ±1/sqrt(N_t). They are the same bits under every plan
            and number of ranks.

    Raises:
        UserError: a plan for another number of ranks, or what `EmbeddingTables` refuses.

    Example:
        >>> plan = Plan(2, {"user": 5, "item": 4}, 8, {
        ...     "user": Placement("row-wise", (0, 1)), "item": Placement("table-wise", (1,))})
        >>> tables = ShardedTables(plan, communicator)  # on each of the two ranks
        >>> tables(sparse).shape  # of this rank's b rows
        torch.Size([3, 2, 8])
    """

    here: Tensor  # (0,), which a rank without a table has as well

    def __init__(
        self,
        plan: Plan,
        communicator: Communicator,
        *,
        pooling: Pooling = "sum",
        check: bool = True,
        dtype: torch.dtype = torch.float32,
        fused: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_sizes(plan.cardinalities, plan.dim, pooling)
        if plan.size != communicator.size:
            raise UserError(
                f"The plan is for {plan.size} ranks, and there are {communicator.size}; make a "
                f"plan for {communicator.size}."
            )
        self.plan, self.communicator, self.pooling, self.check = plan, communicator, pooling, check
        self.cardinalities, self.dim, self.fused = dict(plan.cardinalities), plan.dim, fused
        self._exchange = Exchange(plan, communicator)
        self.shards_of, self.shards = self._exchange.shards_of, self._exchange.shards
        self.copied_shards = tuple(
            shard
            for shard in plan.of_rank(communicator.rank)
            if plan.placements[shard.table].form == "data-parallel"
        )
        for shard in (*self.shards, *self.copied_shards):
            rows, columns = shard.shape
            communicator.hold(f"table '{shard.table}'", rows * columns * dtype.itemsize, rows)
        # Shards of one width are nothing but small embedding tables.
        self.groups: Any = nn.ModuleList()
        for width, shards in groupby(self.shards, key=lambda shard: shard.shape[1]):
            rows_of = {shard.table: shard.shape[0] for shard in shards}
            if fused and width == plan.dim:
                group: nn.Module = FusedEmbeddingTables(rows_of, width, check=False)
            else:
                group = EmbeddingTables(rows_of, width, check=False, sparse_gradient=True)
            self.groups.append(group.to(dtype))
        self.copies: EmbeddingTables | None = None
        if self.copied_shards:
            sizes = {shard.table: shard.shape[0] for shard in self.copied_shards}
            self.copies = EmbeddingTables(sizes, plan.dim, check=False).to(dtype)
        self.dtype = dtype
        self.register_buffer("here", torch.empty(0), persistent=False)
        for held in self.held():
            self._start(held, seed)

    @property
    def device(self) -> torch.device:
        """Where this rank's tables are."""
        return self.here.device

    @property
    def names(self) -> tuple[str, ...]:
        """The F features, in the order of the vectors."""
        return tuple(self.cardinalities)

    def held(self) -> Iterator[Held]:
        """What lies on this rank: its shards, then its copies of data-parallel tables."""
        yield from self.split()
        yield from self.copied()

    def split(self) -> Iterator[Held]:
        """This rank's shards, without empty ones."""
        shards = iter(self.shards)
        for group in self.groups:
            if isinstance(group, FusedEmbeddingTables):
                ends = group.first.tolist()
                for first, end in pairwise(ends):
                    yield Held(next(shards), group.weight, slice(first, end))
            else:
                for table in group.tables.values():
                    yield Held(next(shards), table, slice(0, len(table)))

    def copied(self) -> Iterator[Held]:
        """This rank's copies of data-parallel tables."""
        if self.copies is not None:
            for shard in self.copied_shards:
                yield Held(shard, self.copies.tables[shard.table], slice(*shard.rows))

    def forward(self, sparse: SparseFeatures) -> Tensor:
        """The pooled vectors (b, F, D) of this rank's b rows, in the order of `names`.

        Raises:
            UserError: a feature is missing, or an id has no row in its table.
        """
        announced = self.announce(sparse)
        pooled = self.pool(self.exchange(sparse, announced))
        return self.bring_home(pooled, sparse, announced)

    def announce(self, sparse: SparseFeatures | None) -> Announced:
        """What every rank needs to know first: the rows of all; None: this one's have ended."""
        return announce(sparse, self.communicator, self.device)

    def exchange(self, sparse: SparseFeatures, announced: Announced) -> Received:
        """Step 1: the ids that this rank is to look up, for all ranks' rows.

        Raises:
            UserError: as `forward`.
        """
        if self.check:
            check_features(sparse, self.cardinalities)
        return self._exchange(sparse, announced)

    def pool(self, received: Received) -> Tensor:
        """Step 2: the sums of the vectors that this rank holds, (B, W), for all ranks' rows."""
        lengths, ids, weights = received
        batch_size = lengths.shape[1]
        offsets = torch.cat([lengths.new_zeros(1), lengths.flatten().cumsum(0)])  # (S * B + 1,)
        pooled, first = [], 0
        with self.communicator.part("lookups"):
            for group in self.groups:
                last = first + len(group.names)
                mine = offsets[first * batch_size : last * batch_size + 1]
                low, high = int(mine[0]), int(mine[-1])
                weight = None if weights is None else weights[low:high]
                bags = SparseFeatures(group.names, ids[low:high], mine - low, weight)
                pooled.append(group(bags).flatten(1))  # (B, S_g, width) -> (B, S_g * width)
                first = last
        if not pooled:  # nothing lies here
            return lengths.new_empty((batch_size, 0), dtype=self.dtype)
        return torch.cat(pooled, dim=1) if len(pooled) > 1 else pooled[0]

    def bring_home(self, pooled: Tensor, sparse: SparseFeatures, announced: Announced) -> Tensor:
        """Step 3: all ranks' pieces of this rank's vectors, put together to (b, F, D).

        Args:
            pooled: (B, W), what `pool` gave.
            sparse: this rank's b rows.
            announced: the rows of every rank.
        """
        b, rank = sparse.batch_size, self.communicator.rank
        widths = [[shard.shape[1] for shard in shards] for shards in self.shards_of]
        receive = [b * sum(each) for each in widths]
        flat = self.communicator.all_to_all(
            pooled.flatten(), [rows * sum(widths[rank]) for rows in announced.rows], receive
        )
        pieces: dict[Shard, Tensor] = {}
        for part, shards, each in zip(
            torch.split(flat, receive), self.shards_of, widths, strict=True
        ):
            if shards:
                side_by_side = torch.split(part.view(b, sum(each)), each, dim=1)
                pieces.update(zip(shards, side_by_side, strict=True))
        found = self._look_up_copies(sparse)
        for name, placement in self.plan.placements.items():
            mine = [pieces[shard] for shard in self.plan.shards(name) if shard in pieces]
            if placement.form == "column-wise":
                found[name] = torch.cat(mine, dim=1)
            elif mine:
                found[name] = sum(mine[1:], mine[0])
        vectors = torch.stack([found[name] for name in self.names], dim=1)  # F times (b, D)
        if self.pooling == "mean":
            lengths = sparse.lengths()[[sparse.index(name) for name in self.names]]  # (F, b)
            vectors = vectors / lengths.clamp(min=1).T[:, :, None]
        return vectors

    def _look_up_copies(self, sparse: SparseFeatures) -> dict[str, Tensor]:
        """Feature -> pooled vectors (b, D) of the tables that every rank holds."""
        if self.copies is None:
            return {}
        with self.communicator.part("lookups"):
            return dict(zip(self.copies.names, self.copies(sparse).unbind(1), strict=True))

    def _start(self, held: Held, seed: int) -> None:
        """Fill a shard with its rectangle of the table's first entries, block after block."""
        table, (begin, end) = held.shard.table, held.shard.rows
        n_rows, place = self.cardinalities[table], self.names.index(table)
        for block in range(begin // BLOCK, -(-end // BLOCK)):
            state = np.random.SeedSequence([seed, place, block]).generate_state(1, np.uint64)
            generator = torch.Generator().manual_seed(int(state[0]) >> 1)
            first = block * BLOCK
            entries = torch.empty(min(BLOCK, n_rows - first), self.dim)
            entries.uniform_(-(n_rows**-0.5), n_rows**-0.5, generator=generator)
            low, high = max(first, begin), min(first + BLOCK, end)
            mine = entries[low - first : high - first, slice(*held.shard.columns)]
            held.weight[low - begin : high - begin] = mine
