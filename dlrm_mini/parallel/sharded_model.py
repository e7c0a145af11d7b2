"""A DLRM on several ranks: tables split, MLPs replicated (Naumov et al. 2019, section 4).

It is `DLRM` itself with `ShardedTables` in the place of its tables. Each rank calls it with its own
rows; `parallel.sharded_step` trains it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from dlrm_mini.datasets.batches import Batch
from dlrm_mini.models.dlrm import DLRM
from dlrm_mini.models.dlrm_config import DLRMConfig
from dlrm_mini.parallel.communicator import Communicator
from dlrm_mini.parallel.sharded_tables import ShardedTables
from dlrm_mini.parallel.sharding import Plan


class ShardedDLRM(DLRM):
    """One rank's part of a DLRM.

    Args:
        config: the sizes of the whole model.
        plan: where its tables lie.
        communicator: this rank's.
        seed: of the first weights. Every rank starts with the same MLPs, and every plan and number
            of ranks with the same tables.
        dtype: of the weights.
        check: as in `DLRM`.
        fused: as in `ShardedTables`.

    Raises:
        UserError: as `ShardedTables`, or a plan for other tables than the config's.

    Example:
        >>> model = ShardedDLRM(config, plan, communicator)  # on every rank
        >>> model(share(batch, communicator)).shape  # logits of this rank's rows
        torch.Size([3])
    """

    tables: ShardedTables

    def __init__(
        self,
        config: DLRMConfig,
        plan: Plan,
        communicator: Communicator,
        *,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        check: bool = True,
        fused: bool = False,
    ) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            tables = ShardedTables(
                plan, communicator, pooling=config.pooling, check=check, dtype=dtype, fused=fused,
                seed=seed,
            )  # fmt: skip
            torch.manual_seed(seed)  # what went before depends on the rank
            super().__init__(config, tables=tables)
        self.bottom.to(dtype)
        self.top.to(dtype)
        self.communicator = communicator

    def replicated(self) -> list[torch.nn.Parameter]:
        """What every rank holds in full: the MLPs, then data-parallel tables."""
        copies = self.tables.copies
        own = [] if copies is None else list(copies.parameters())
        return [*self.bottom.parameters(), *self.top.parameters(), *own]

    @torch.no_grad()
    def load_full(self, state: Mapping[str, Tensor]) -> None:
        """Take this rank's part of the weights of a whole `DLRM`, without a word to the others."""
        for held in self.tables.held():
            rows, columns = slice(*held.shard.rows), slice(*held.shard.columns)
            held.weight.copy_(state[f"tables.tables.{held.shard.table}"][rows, columns])
        for name in ("bottom", "top"):
            mine = {
                key.removeprefix(f"{name}."): value
                for key, value in state.items()
                if key.startswith(f"{name}.")
            }
            self.get_submodule(name).load_state_dict(mine)

    @torch.no_grad()
    def full_state_dict(self) -> dict[str, Tensor] | None:
        """The `state_dict` of the whole `DLRM`, on rank 0; None elsewhere. Every rank has to ask.

        One table after the other goes to rank 0, which must have room for all.
        """
        rank, size = self.communicator.rank, self.communicator.size
        held = {held.shard.table: held for held in self.tables.held()}
        tables: dict[str, Tensor] = {}
        for name, n_rows in self.config.cardinalities.items():
            shards = self.tables.plan.shards(name)
            if self.tables.plan.placements[name].form == "data-parallel":
                shards = shards[:1]  # rank 0's copy will do
            receive = [0] * size
            for shard in shards:
                receive[shard.rank] = shard.shape[0] * shard.shape[1]
            mine = held[name].weight.flatten() if receive[rank] else self.tables.here
            send = [receive[rank], *[0] * (size - 1)]
            numbers = self.communicator.all_to_all(
                mine.to(self.tables.dtype), send, receive if rank == 0 else [0] * size
            )
            if rank == 0:
                tables[name] = torch.empty(n_rows, self.config.dim, dtype=self.tables.dtype)
                parts = torch.split(numbers, receive)
                for shard in shards:
                    piece = parts[shard.rank].view(shard.shape)
                    tables[name][slice(*shard.rows), slice(*shard.columns)] = piece
        if rank:
            return None
        mlps = {
            part: {
                f"{part}.{k}": v.clone() for k, v in self.get_submodule(part).state_dict().items()
            }
            for part in ("bottom", "top")
        }
        named = {f"tables.tables.{name}": table for name, table in tables.items()}
        return mlps["bottom"] | named | mlps["top"]


def rows_of(batch_size: int, rank: int, size: int) -> tuple[int, int]:
    """First row and the one after the last of a rank's share of a batch, as even as can be.

    Example:
        >>> [rows_of(5, rank, 3) for rank in range(3)]
        [(0, 1), (1, 3), (3, 5)]
    """
    return batch_size * rank // size, batch_size * (rank + 1) // size


def share(batch: Batch, communicator: Communicator) -> Batch:
    """This rank's rows of a batch that every rank has read; there may be none."""
    first, last = rows_of(len(batch), communicator.rank, communicator.size)
    return batch.select(torch.arange(first, last, device=batch.labels.device))
