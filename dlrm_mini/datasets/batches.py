"""What a model sees: dense features, sparse features, labels; and a loader that cuts them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from dlrm_mini.datasets.sparse import SparseFeatures, expect
from dlrm_mini.errors import UserError

__all__ = ["Batch", "Batches", "Loader", "SparseFeatures", "check_dense"]


@dataclass(frozen=True, eq=False)
class Batch:
    """Some examples, or all of them: a whole data set is a batch of N rows.

    Args:
        dense: (B, n_dense) float32; n_dense may be 0.
        sparse: F features of B rows.
        labels: (B,) float32; a rating, or 0 and 1 for a click.

    Raises:
        UserError: when the parts differ in rows, dtype or dimensions.
    """

    dense: Tensor
    sparse: SparseFeatures
    labels: Tensor

    def __post_init__(self) -> None:
        expect("dense", self.dense, torch.float32, 2)
        expect("labels", self.labels, torch.float32, 1)
        rows = (len(self.dense), self.sparse.batch_size, len(self.labels))
        if len(set(rows)) != 1:
            raise UserError(
                f"dense has {rows[0]} rows, sparse {rows[1]}, labels {rows[2]}; "
                "expected the same number."
            )

    def __len__(self) -> int:
        """B, the number of rows."""
        return len(self.labels)

    def select(self, rows: Tensor) -> Batch:
        """These rows, (b,) int64, in this order, on the device the batch is on.

        Raises:
            UserError: when a row is not in 0..B-1.
        """
        expect("rows", rows, torch.int64, 1)
        if rows.device.type == "cpu" and len(rows):
            low, high = (int(end) for end in rows.aminmax())
            if low < 0 or high >= len(self):
                wrong = low if low < 0 else high
                raise UserError(f"Row {wrong} was asked for; expected rows in 0..{len(self) - 1}.")
        return Batch(  # index_select takes half the time of indexing
            self.dense.index_select(0, rows),
            self.sparse.select(rows),
            self.labels.index_select(0, rows),
        )

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The same rows on another device, in one call."""
        return self.moved(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def moved(self, move: Callable[[Tensor], Tensor]) -> Batch:
        """The same rows, each tensor moved by a function that leaves its numbers alone."""
        return Batch(move(self.dense), self.sparse.moved(move), move(self.labels))


def check_dense(dense: Tensor, n_columns: int) -> None:
    """Raise a UserError unless `dense` has `n_columns` columns of finite numbers.

    One sum says whether any number is not finite; only then is the place looked for.

    Args:
        dense: (B, n_columns).
        n_columns: how many columns the model was built for.
    """
    if dense.shape[1] != n_columns:
        raise UserError(
            f"The batch has {dense.shape[1]} dense columns, but the model was built for "
            f"{n_columns}; give it batches with {n_columns}, or change n_dense to "
            f"{dense.shape[1]}."
        )
    if not bool(torch.isfinite(dense.sum())):
        wrong = (~torch.isfinite(dense)).nonzero()
        if len(wrong):  # none: the sum of large numbers overflowed
            row, column = wrong[0].tolist()
            raise UserError(
                f"Dense column {column} holds {float(dense[row, column])} in row {row} of the "
                f"batch ({len(wrong)} such values in all); expected finite numbers. Fill in what "
                "is missing, for example with the column's mean over the training rows."
            )


class Batches(Protocol):
    """What training asks of a loader, wherever its rows are: `Loader` is one, and not the only."""

    @property
    def epoch(self) -> int:
        """How many passes have ended."""

    def __len__(self) -> int:
        """The number of batches in an epoch."""

    def __iter__(self) -> Iterator[Batch]:
        """The batches of the next epoch."""

    def state_dict(self) -> dict[str, int]:
        """What has to be saved to go on with the next epoch."""

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on where the run that gave `state` ended."""


class Loader:
    """Cuts batches out of a data set, in order or shuffled anew for each epoch.

    The order depends on the seed and the epoch alone, so that a resumed run sees the batches an
    uninterrupted one would have seen. An epoch ends when its last batch has been used.

    Args:
        data: all N rows.
        batch_size: rows in a batch.
        shuffle: whether to draw a new order for each epoch.
        seed: which orders to draw; not negative.
        drop_last: whether to leave out a last batch that is not full.

    Raises:
        UserError: when the arguments leave no batch.
    """

    def __init__(
        self,
        data: Batch,
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        if batch_size < 1 or seed < 0:
            raise UserError(
                f"batch_size is {batch_size} and seed {seed}; expected at least 1 and at least 0."
            )
        self.data = data
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.drop_last = drop_last
        self.epoch = 0
        if not len(self):
            raise UserError(
                f"{len(data)} rows make no batch of {batch_size}; give more rows, smaller batches, "
                "or drop_last=False."
            )

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        extra = 0 if self.drop_last else self.batch_size - 1
        return (len(self.data) + extra) // self.batch_size

    def order(self) -> Tensor:
        """All rows in the order of the current epoch, (N,) int64."""
        if not self.shuffle:
            return torch.arange(len(self.data))
        # A seed made of both: with seed + epoch, runs with seeds 0 and 1 would share most orders.
        state = np.random.SeedSequence([self.seed, self.epoch]).generate_state(1, np.uint64)[0]
        generator = torch.Generator().manual_seed(int(state) >> 1)
        return torch.randperm(len(self.data), generator=generator)

    def __iter__(self) -> Iterator[Batch]:
        order = self.order().to(self.data.labels.device)
        for number in range(len(self)):
            first = number * self.batch_size
            yield self.data.select(order[first : first + self.batch_size])
        self.epoch += 1

    def state_dict(self) -> dict[str, int]:
        """What has to be saved to go on with the next epoch."""
        return {"epoch": self.epoch, "seed": self.seed}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on where the run that gave `state` ended."""
        self.epoch, self.seed = state["epoch"], state["seed"]
