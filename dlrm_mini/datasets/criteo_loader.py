"""Shuffled batches out of a prepared click log, for one process or for several ranks.

The rows of a split are cut into blocks. An epoch takes the blocks in a drawn order and the rows
within each in another, so that a batch is mixed while the disk is read in long stretches. Rank r
of P takes the r-th of P equal parts of that sequence: the ranks share no row, and all have the same
number of batches of the same sizes. At most P - 1 rows sit out an epoch, others each time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dlrm_mini.datasets.batches import Batch, SparseFeatures
from dlrm_mini.datasets.criteo import Prepared
from dlrm_mini.datasets.criteo_format import SPARSE
from dlrm_mini.errors import UserError

BLOCK = 1 << 16  # rows: one column's ids of them fit into a processor's cache


class PreparedLoader:
    """Cuts batches out of one split, in order or shuffled anew for each epoch.

    The order depends on the seed and the epoch alone, as with `batches.Loader`, and on the same
    rows in the same order it depends on neither the batch size nor the number of ranks.

    Args:
        prepared: the click log.
        split: "train", "valid" or "test".
        batch_size: rows in a batch; an epoch's last one may be smaller.
        seed: which orders to draw; not negative.
        shuffle: whether to draw orders at all.
        rank: which part of the rows is this process's.
        world: into how many parts they are dealt.
        block: rows shuffled together.

    Raises:
        UserError: when the arguments make no sense or leave no batch.
    """

    def __init__(
        self,
        prepared: Prepared,
        split: str,
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = True,
        rank: int = 0,
        world: int = 1,
        block: int = BLOCK,
    ) -> None:
        if batch_size < 1 or seed < 0 or block < 1:
            raise UserError(
                f"batch_size is {batch_size}, seed {seed} and block {block}; expected at least 1, "
                "0 and 1."
            )
        if not 0 <= rank < world:
            raise UserError(f"rank is {rank} of {world}; expected ranks from 0 to one below.")
        prepared.rows(split, 0, 0)  # there is such a split
        self.prepared, self.split = prepared, split
        self.seed, self.shuffle, self.block, self.epoch = seed, shuffle, block, 0
        self.rank, self.world = rank, world
        if not self.rows:
            raise UserError(
                f"the {split} split has {prepared.splits[split]:,} rows, too few for "
                f"{world} rank(s)."
            )
        self.batch_size = min(batch_size, self.rows)

    @property
    def rows(self) -> int:
        """How many rows an epoch has for this rank, as for every other."""
        return self.prepared.splits[self.split] // self.world

    def __len__(self) -> int:
        """The number of batches in an epoch, the same for every rank."""
        return -(-self.rows // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        offsets = torch.arange(len(SPARSE) * self.batch_size + 1)  # the same for all full batches
        waiting: list[_Rows] = []
        have = 0
        for rows in self._blocks():
            first = 0
            while first < len(rows):
                part = rows.cut(first, first + self.batch_size - have)
                first, have = first + len(part), have + len(part)
                waiting.append(part)
                if have == self.batch_size:
                    yield _joined(waiting).batch(offsets)
                    waiting, have = [], 0
        if have:
            yield _joined(waiting).batch(offsets[: len(SPARSE) * have + 1])
        self.epoch += 1

    def _blocks(self) -> Iterator[_Rows]:
        """This rank's part of the epoch's sequence, block by block."""
        n = self.prepared.splits[self.split]
        numbers = np.arange(-(-n // self.block))
        if self.shuffle:
            numbers = np.random.default_rng([self.seed, self.epoch]).permutation(numbers)
        begin, end, first = self.rank * self.rows, (self.rank + 1) * self.rows, 0
        for number in numbers.tolist():
            size = min(self.block, n - number * self.block)
            low, high = max(begin - first, 0), min(end - first, size)
            first += size
            if low < high:
                yield self._read(number, size, low, high)

    def _read(self, number: int, size: int, low: int, high: int) -> _Rows:
        """Rows low..high of a block in its order for this epoch."""
        start = number * self.block
        where = self.prepared.rows(self.split, start, start + size)
        if self.shuffle:
            np.random.default_rng([self.seed, self.epoch, number]).shuffle(where)
        where = where[low:high]
        ids = np.empty((len(SPARSE), len(where)), np.int64)
        for place, column in enumerate(self.prepared.columns.values()):
            ids[place] = column[where]
        labels = self.prepared.labels[where].astype(np.float32)
        return _Rows(*map(torch.from_numpy, (self.prepared.dense[where], ids, labels)))

    def state_dict(self) -> dict[str, int]:
        """What has to be saved to go on with the next epoch."""
        return {"epoch": self.epoch, "seed": self.seed}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on where the run that gave `state` ended."""
        self.epoch, self.seed = state["epoch"], state["seed"]


@dataclass(frozen=True, eq=False)
class _Rows:
    """Some rows in the order in which they are used."""

    dense: Tensor  # (n, 13) float32
    ids: Tensor  # (26, n) int64
    labels: Tensor  # (n,) float32

    def __len__(self) -> int:
        return len(self.labels)

    def cut(self, start: int, stop: int) -> _Rows:
        return _Rows(self.dense[start:stop], self.ids[:, start:stop], self.labels[start:stop])

    def batch(self, offsets: Tensor) -> Batch:
        sparse = SparseFeatures(SPARSE, self.ids.reshape(-1), offsets)
        return Batch(self.dense, sparse, self.labels)


def _joined(parts: list[_Rows]) -> _Rows:
    """Rows behind one another."""
    if len(parts) == 1:
        return parts[0]
    return _Rows(
        torch.cat([part.dense for part in parts]),
        torch.cat([part.ids for part in parts], 1),
        torch.cat([part.labels for part in parts]),
    )
