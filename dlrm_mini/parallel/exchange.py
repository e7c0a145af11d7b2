"""The input exchange: the ids of each rank's rows go to the ranks that hold those table rows.

Rank r has b_r rows of the batch, B over all ranks, and holds S_r shards that are W_r numbers wide
together. A *shard* is here a rectangle of a table that not every rank holds, unless it is empty. A
number has s bytes. In a step, rank r sends to each other rank q, forward

1. all_gather: its number of rows, and whether ids have weights: 16 bytes, passed round a ring;
2. all_to_all: the lengths of its bags for the shards of q, 8 b_r S_q bytes;
3. all_to_all: its ids that lie in them, 8 bytes each;
4. all_to_all: their weights, if any rank's ids have some, 4 bytes each;
5. all_to_all: the pooled vectors of q's rows, s b_q W_r bytes (`ShardedTables.bring_home`);

and backward

6. all_to_all: the gradients of its rows' vectors, s b_r W_q bytes, the mirror of 5;
7. all_to_all, for row-wise Adagrad on tables cut by columns: s bytes for each row touched
   (`parallel.sharded_rules`);
8. all_reduce: the loss and the gradients of all that is replicated, a ring of s bytes for each
   number (`parallel.sharded_step`).

What a rank sends to itself moves over no link. An id goes to one shard of a table that is cut by
rows, and to every shard of one that is cut by columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dlrm_mini.datasets.sparse import SparseFeatures
from dlrm_mini.parallel.communicator import Communicator
from dlrm_mini.parallel.sharding import Plan, Shard


class Announced(NamedTuple):
    """What every rank knows of every other before a step."""

    rows: tuple[int, ...]
    """b of each rank; -1 for a rank whose batches have ended."""
    weighted: bool
    """Whether any rank's ids have weights."""


class Received(NamedTuple):
    """What a rank looks up for the rows of all ranks: its S shards one after the other."""

    lengths: Tensor
    """(S, B) int64, ids in each bag; the rows of rank 0 first."""
    ids: Tensor
    """(V,) int64, rows of the shard; all of shard 0's first."""
    weights: Tensor | None
    """(V,) float32; None: all are 1."""


class Block(NamedTuple):
    """What a rank looks up in one block of rows of a table."""

    lengths: Tensor  # (b,)
    ids: Tensor  # (V_k,), counted from the block's first row
    weights: Tensor | None  # (V_k,)


def holdings(plan: Plan) -> tuple[tuple[Shard, ...], ...]:
    """The shards of each rank that ids are sent to, narrow ones first; copies are none of them."""
    found: list[list[Shard]] = [[] for _ in range(plan.size)]
    for table, placement in plan.placements.items():
        if placement.form != "data-parallel":
            for shard in plan.shards(table):
                if shard.shape[0]:
                    found[shard.rank].append(shard)
    return tuple(tuple(sorted(shards, key=lambda shard: shard.shape[1])) for shards in found)


def announce(
    sparse: SparseFeatures | None, communicator: Communicator, device: torch.device
) -> Announced:
    """Tell all ranks how many rows this one has, and hear theirs; None: its batches have ended."""
    mine = [-1, 0] if sparse is None else [sparse.batch_size, int(sparse.weights is not None)]
    heard = communicator.all_gather(torch.tensor(mine, device=device))
    return Announced(tuple(heard[::2].tolist()), bool(heard[1::2].any()))


def blocks(sparse: SparseFeatures, table: str, starts: Sequence[int]) -> list[Block]:
    """One feature's bags, each cut into what lies in which block of the table's rows.

    Args:
        sparse: b rows.
        table: the feature.
        starts: first row of each of k blocks, all but the last of one size.
    """
    ids, offsets, weights = sparse.bag(table)
    lengths, k = offsets.diff(), len(starts)  # (b,)
    if k == 1:
        return [Block(lengths, ids, weights)]
    block, local = ids // starts[1], ids % starts[1]  # (V_f,) each
    # How many ids of each bag lie in each block.
    b = len(lengths)
    bag = torch.arange(b, device=ids.device).repeat_interleave(lengths, output_size=len(ids))
    cut = torch.bincount(block * b + bag, minlength=k * b).view(k, b)
    # Sorted by block; within one, the ids stay in the order of their bags.
    order, sizes = block.argsort(stable=True), cut.sum(1).tolist()
    locals_ = torch.split(local[order], sizes)
    given = [None] * k if weights is None else torch.split(weights[order], sizes)
    return [Block(*parts) for parts in zip(cut, locals_, given, strict=True)]


class Exchange:
    """Sends ids to the shards they belong to, for one rank.

    Args:
        plan: where the shards are.
        communicator: this rank's.

    Attributes:
        shards_of: the shards of each rank, see `holdings`.
        shards: this rank's.
    """

    def __init__(self, plan: Plan, communicator: Communicator) -> None:
        self.communicator, self.shards_of = communicator, holdings(plan)
        self.shards = self.shards_of[communicator.rank]
        every = [shard for shards in self.shards_of for shard in shards]
        self._starts = {  # table -> the first rows of its blocks
            table: sorted({shard.rows[0] for shard in every if shard.table == table})
            for table in dict.fromkeys(shard.table for shard in every)
        }

    @torch.no_grad()
    def __call__(self, sparse: SparseFeatures, announced: Announced) -> Received:
        """What this rank is to look up for the rows of all ranks.

        Args:
            sparse: this rank's b rows, every id within its table.
            announced: what `announce` gave.
        """
        with self.communicator.part("input exchange"):
            cut = {
                (table, start): block
                for table, starts in self._starts.items()
                for start, block in zip(starts, blocks(sparse, table, starts), strict=True)
            }
            for_rank = [[cut[s.table, s.rows[0]] for s in shards] for shards in self.shards_of]
            given = [block for mine in for_rank for block in mine]
        # Lengths: from each rank p come S b_p numbers.
        n_shards, none = len(self.shards), sparse.values[:0]
        receive = [n_shards * rows for rows in announced.rows]
        flat = self.communicator.all_to_all(
            torch.cat([none, *(block.lengths for block in given)]),
            [len(mine) * sparse.batch_size for mine in for_rank],
            receive,
        )
        parts = zip(torch.split(flat, receive), announced.rows, strict=True)
        lengths = [part.view(n_shards, rows) for part, rows in parts]
        # They say how many ids will come from each rank for each shard.
        counts = torch.stack([part.sum(1) for part in lengths]).tolist()  # (P, S)
        send = [sum(len(block.ids) for block in mine) for mine in for_rank]
        ids = self._swap(torch.cat([none, *(block.ids for block in given)]), send, counts)
        weights = None
        if announced.weighted:
            ones = ids.new_ones(sum(send), dtype=torch.float32)
            mine = [block.weights for block in given if block.weights is not None]
            weights = self._swap(torch.cat(mine) if mine else ones, send, counts)
        return Received(torch.cat(lengths, dim=1), ids, weights)

    def _swap(self, numbers: Tensor, send: list[int], counts: list[list[int]]) -> Tensor:
        """One all-to-all of a number for each id; what comes is put in the order of the shards."""
        received = self.communicator.all_to_all(numbers, send, [sum(row) for row in counts])
        pieces = torch.split(received, [n for row in counts for n in row])  # rank after rank
        step = len(self.shards)
        by_shard = [piece for shard in range(step) for piece in pieces[shard::step]]
        return torch.cat(by_shard) if by_shard else received
