"""Sparse features: named ids, one a row or several, as tensors.

Sparse features are jagged: one row may hold one movie but three genres. The lists are kept end to
end in one tensor of ids, with a second tensor that says where each list (a *bag*) begins: the
convention of `torch.nn.functional.embedding_bag`, one feature after the other as in TorchRec's
KeyedJaggedTensor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from dlrm_mini.errors import UserError

Column = Tensor | tuple[Tensor, Tensor] | tuple[Tensor, Tensor, Tensor]


class Bag(NamedTuple):
    """One feature of B rows, as `torch.nn.functional.embedding_bag` wants it."""

    ids: Tensor  # (V_f,) int64
    offsets: Tensor  # (B + 1,) int64
    weights: Tensor | None  # (V_f,) float32; None: all are 1


def expect(name: str, tensor: Tensor, dtype: torch.dtype, ndim: int) -> None:
    """Raise a UserError unless `tensor` has this dtype and number of dimensions."""
    if tensor.dtype != dtype or tensor.ndim != ndim:
        raise UserError(
            f"{name} is a {tensor.ndim}-dimensional tensor of {tensor.dtype}, shape "
            f"{tuple(tensor.shape)}; expected {ndim} dimension(s) of {dtype}."
        )


def _expect_offsets(name: str, offsets: Tensor, n_values: int) -> None:
    """Raise a UserError unless `offsets` climbs from 0 to the number of ids."""
    first, last = int(offsets[0]), int(offsets[-1])
    if first != 0 or last != n_values or bool((offsets[1:] < offsets[:-1]).any()):
        raise UserError(
            f"The offsets of {name} run from {first} to {last} for {n_values} ids; expected them "
            f"to begin at 0, never to fall, and to end at {n_values}."
        )


@dataclass(frozen=True, eq=False)
class SparseFeatures:
    """F named lists of ids for each of B rows, feature-major.

    The bag of feature f and row b is `values[offsets[f * B + b] : offsets[f * B + b + 1]]`.

    Args:
        names: the F features, at least one.
        values: (V,) int64, all ids; feature 0's B bags come first.
        offsets: (F * B + 1,) int64, where each bag begins, and V at the end.
        weights: (V,) float32, how much each id counts, or None when all count 1.

    Raises:
        UserError: when the parts do not fit together.

    Example:
        >>> ids = torch.tensor([7, 3])
        >>> genres = torch.tensor([0, 4, 5]), torch.tensor([0, 2, 3])  # row 0: {0, 4}, row 1: {5}
        >>> sparse = SparseFeatures.from_columns({"item": ids, "genres": genres})
        >>> sparse.lengths()
        tensor([[1, 1],
                [2, 1]])
    """

    names: tuple[str, ...]
    values: Tensor
    offsets: Tensor
    weights: Tensor | None = None

    def __post_init__(self) -> None:
        expect("values", self.values, torch.int64, 1)
        expect("offsets", self.offsets, torch.int64, 1)
        if self.weights is not None:
            expect("weights", self.weights, torch.float32, 1)
            if len(self.weights) != len(self.values):
                raise UserError(
                    f"There are {len(self.weights)} weights for {len(self.values)} ids; "
                    "expected one weight an id."
                )
        if not self.names or len(set(self.names)) != len(self.names):
            raise UserError(f"The feature names are {self.names}; expected one or more, each once.")
        if not len(self.offsets) or (len(self.offsets) - 1) % len(self.names):
            raise UserError(
                f"{len(self.offsets)} offsets cannot be shared by {len(self.names)} features; "
                "expected features * rows + 1 of them."
            )
        if self.offsets.device.type == "cpu":  # elsewhere, looking would make the host wait
            _expect_offsets("the sparse features", self.offsets, len(self.values))

    @classmethod
    def from_columns(cls, columns: Mapping[str, Column]) -> SparseFeatures:
        """Put columns together, one per feature, in the order of the mapping.

        Args:
            columns: a column is (N,) int64 ids, one a row, or a pair of (V,) ids and (N + 1,)
                offsets, or these two and (V,) float32 weights.

        Raises:
            UserError: when a column has the wrong dtype or offsets, or columns differ in length.
        """
        values, weights, lengths, sizes = [], [], [], {}
        for name, column in columns.items():
            ids, offsets, weight = _parts(column)
            expect(f"The ids of feature '{name}'", ids, torch.int64, 1)
            if offsets is None:
                lengths.append(torch.ones_like(ids))
            else:
                expect(f"The offsets of feature '{name}'", offsets, torch.int64, 1)
                if not len(offsets):
                    raise UserError(f"Feature '{name}' has no offsets; expected rows + 1.")
                _expect_offsets(f"feature '{name}'", offsets, len(ids))
                lengths.append(offsets.diff())
            if weight is not None:
                expect(f"The weights of feature '{name}'", weight, torch.float32, 1)
                if len(weight) != len(ids):
                    raise UserError(
                        f"Feature '{name}' has {len(weight)} weights for {len(ids)} ids; "
                        "expected one weight an id."
                    )
            values.append(ids)
            weights.append(weight)
            sizes[name] = len(lengths[-1])
        if len(set(sizes.values())) != 1:
            raise UserError(
                f"The features have these numbers of rows: {sizes}; expected one number."
            )
        ends = torch.cat(lengths).cumsum(0)
        return cls(
            tuple(columns),
            torch.cat(values),
            torch.cat([ends.new_zeros(1), ends]),
            _joined(weights, values),
        )

    @property
    def batch_size(self) -> int:
        """B, the number of rows."""
        return (len(self.offsets) - 1) // len(self.names)

    def lengths(self) -> Tensor:
        """Ids in each bag, (F, B) int64."""
        return self.offsets.diff().view(len(self.names), self.batch_size)

    @cached_property
    def one_hot(self) -> tuple[bool, ...]:
        """For each feature, whether every row has exactly one id."""
        return tuple((self.lengths() == 1).all(1).tolist())

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """Where the ids of each feature begin in `values`, and V at the end: F + 1 numbers."""
        if not self.batch_size:
            return (0,) * (len(self.names) + 1)
        return tuple(self.offsets[:: self.batch_size].tolist())

    @cached_property
    def _all_one_hot(self) -> bool:
        return len(self.values) == len(self.offsets) - 1 and all(self.one_hot)

    def index(self, name: str) -> int:
        """The place of a feature.

        Raises:
            UserError: there is no such feature; the message names those there are.
        """
        if name not in self.names:
            raise UserError(f"There is no feature '{name}'; there are {', '.join(self.names)}.")
        return self.names.index(name)

    def bag(self, name: str) -> Bag:
        """The ids (V_f,), offsets (B + 1,) and weights (V_f,) of one feature.

        Raises:
            UserError: there is no such feature.
        """
        index = self.index(name)
        first = index * self.batch_size
        if self._all_one_hot:
            place = slice(first, first + self.batch_size)
            offsets = self.offsets[: self.batch_size + 1]
        else:
            offsets = self.offsets[first : first + self.batch_size + 1]
            place = slice(self.starts[index], self.starts[index + 1])
            offsets = offsets - offsets[0]
        weights = None if self.weights is None else self.weights[place]
        return Bag(self.values[place], offsets, weights)

    def __getitem__(self, name: str) -> tuple[Tensor, Tensor]:
        """The ids (V_f,) and offsets (B + 1,) of one feature."""
        return self.bag(name)[:2]

    def ids(self, name: str) -> Tensor:
        """The ids (B,) of a feature that has exactly one a row.

        Raises:
            UserError: when a row of this feature has none or several.
        """
        values, offsets = self[name]
        if not self.one_hot[self.index(name)]:
            lengths = offsets.diff()
            row = int((lengths != 1).nonzero()[0])
            raise UserError(
                f"Row {row} of feature '{name}' has {int(lengths[row])} ids; expected exactly "
                f"one a row. Use sparse['{name}'], which gives ids and offsets."
            )
        return values

    def select(self, rows: Tensor) -> SparseFeatures:
        """The same features for these rows, (b,) int64, in this order; a row may come twice."""
        n_features, n_rows = len(self.names), self.batch_size
        if self._all_one_hot:
            first = torch.arange(n_features, device=rows.device) * n_rows  # of each feature
            source = (first[:, None] + rows).view(-1)  # (F * b,)
            offsets = torch.arange(len(source) + 1, device=rows.device)
        else:
            starts, ends = (  # of the chosen bags, (F * b,) each
                part.view(n_features, n_rows).index_select(1, rows).view(-1)
                for part in (self.offsets[:-1], self.offsets[1:])
            )
            lengths = ends - starts
            offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
            # Where each id comes from: its bag's old place, minus the new place, plus its own.
            total = int(offsets[-1])
            source = torch.repeat_interleave(starts - offsets[:-1], lengths, output_size=total)
            source += torch.arange(total, device=source.device)
        weights = None if self.weights is None else self.weights.index_select(0, source)
        return SparseFeatures(self.names, self.values.index_select(0, source), offsets, weights)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> SparseFeatures:
        """The same features on another device."""
        return self.moved(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def moved(self, move: Callable[[Tensor], Tensor]) -> SparseFeatures:
        """The same features, each tensor moved by a function that leaves its numbers alone."""
        weights = None if self.weights is None else move(self.weights)
        features = SparseFeatures(self.names, move(self.values), move(self.offsets), weights)
        # What the host needs in each step: looked up there, before it has to wait for a GPU.
        leaves = self.offsets.device.type == "cpu" != features.offsets.device.type
        known = [name for name in ("one_hot", "starts") if leaves or name in vars(self)]
        vars(features).update({name: getattr(self, name) for name in known})
        return features


def _parts(column: Column) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Ids, offsets and weights of a column, None for what it leaves out."""
    if not isinstance(column, tuple):
        return column, None, None
    return column if len(column) == 3 else (*column, None)


def _joined(weights: list[Tensor | None], values: list[Tensor]) -> Tensor | None:
    """All features' weights end to end, 1 where a feature has none; None when no feature has."""
    if all(weight is None for weight in weights):
        return None
    pairs = zip(weights, values, strict=True)
    return torch.cat([torch.ones(len(v), device=v.device) if w is None else w for w, v in pairs])
