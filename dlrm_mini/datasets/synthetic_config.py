"""What a synthetic click log is made of, checked before a row is drawn.

This file imports neither numba nor torch, so that a configuration costs nothing to make.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from dlrm_mini.errors import UserError

# Rows of C1..C26 in Criteo's Kaggle data, as every public port of DLRM counts them.
CRITEO_ROWS = (
    *(1460, 583, 10131227, 2202608, 305, 24, 12517, 633, 3, 93145, 5683, 8351593, 3194),
    *(27, 14992, 5461306, 10, 5652, 2173, 4, 7046547, 18, 15, 286181, 105, 142572),
)
MOST_IDS = 2**31 - 1  # ids are computed in 32 bits, which every processor converts quickly


def criteo_cardinalities(scale: float = 1.0) -> dict[str, int]:
    """C1..C26 with the rows of Criteo's Kaggle data times `scale`, rounded, at least 1.

    Args:
        scale: factor on the rows of every field, above 0.

    Raises:
        UserError: a scale that is not above 0.
    """
    if not (math.isfinite(scale) and scale > 0):
        raise UserError(
            f"scale is {scale}; expected a number above 0: 1.0 for Criteo's own cardinalities, "
            "0.01 for a hundredth of them."
        )
    return {f"C{n}": max(1, round(scale * rows)) for n, rows in enumerate(CRITEO_ROWS, 1)}


@dataclass(frozen=True)
class ClickLogConfig:
    """A click log's features, and the teacher that draws its labels.

    The strengths are variances over all rows there could be: what is planted in ids that hardly
    occur is not reached in a finite log.

    Args:
        cardinalities: for each sparse field, in order, its ids: 0, the most frequent, and up. Where
            `missing_sparse` is above 0, the last of two or more ids means "missing".
        n_dense: dense columns, named I1, I2, ...
        zipf: exponent of the ids' distribution: id k has a probability of about (k + 1) ** -zipf.
        bags: field -> mean length of its bags of ids; their lengths are uniform in 0..2 * mean. The
            other fields have one id a row. A bag has no id for "missing": it is empty.
        missing_dense: share of the values missing in each dense column.
        missing_sparse: share of the values missing in each field that is not a bag.
        first: standard deviation, in logits, that the first-order terms add; 0 for none.
        second: the same of the second-order terms, one for each planted pair.
        third: the same of the third-order terms, one for each planted triple.
        n_pairs: pairs planted.
        n_triples: triples of sparse fields planted.
        dense_pairs: how many of the planted pairs are of a dense column and a sparse field; the
            others are of two sparse fields.
        teacher_dim: width of the vectors that the second- and third-order terms are made of.
        teacher_ids: in each field, the ids 0..teacher_ids-1 (and "missing") have effects of their
            own; those beyond, the long tail, share one row of the teacher, which is zero.
        noise: standard deviation, in logits, of what nobody can see. The true probability is
            averaged over it.
        base_rate: share of clicks.
        seed: which log; not negative.

    Raises:
        UserError: an argument that makes no log; the message names it.

    Example:
        >>> ClickLogConfig(criteo_cardinalities(0.001), second=0.5).cardinalities["C3"]
        10131
    """

    cardinalities: Mapping[str, int] = field(default_factory=criteo_cardinalities)
    n_dense: int = 13
    zipf: float = 1.05
    bags: Mapping[str, int] = field(default_factory=dict)
    missing_dense: float = 0.21
    missing_sparse: float = 0.11
    first: float = 0.8
    second: float = 1.0
    third: float = 0.0
    n_pairs: int = 6
    n_triples: int = 4
    dense_pairs: int = 1
    teacher_dim: int = 4
    teacher_ids: int = 32
    noise: float = 0.5
    base_rate: float = 0.256
    seed: int = 0

    def __post_init__(self) -> None:
        self._check_fields()
        self._check_numbers()
        self._check_planted()

    @property
    def dense_names(self) -> tuple[str, ...]:
        """I1, I2, ..."""
        return tuple(f"I{number}" for number in range(1, self.n_dense + 1))

    def _check_fields(self) -> None:
        """The fields, their sizes and their bags."""
        if not self.cardinalities:
            raise UserError("There are no cardinalities; expected at least one sparse field.")
        _whole("n_dense", self.n_dense, 0)
        taken = {"dense", *self.dense_names} & set(self.cardinalities)
        if taken:
            raise UserError(
                f"A sparse field is called {sorted(taken)[0]!r}, which is the name of dense "
                "features; give it another."
            )
        for name, rows in self.cardinalities.items():
            _whole(f"The cardinality of {name}", rows, 1, MOST_IDS)
        for name, mean in self.bags.items():
            if name not in self.cardinalities:
                raise UserError(
                    f"bags names {name!r}, which is no field; there are "
                    f"{', '.join(self.cardinalities)}."
                )
            _whole(f"The mean length of the bags of {name}", mean, 1, 1000)

    def _check_numbers(self) -> None:
        """The shares, strengths and whole numbers."""
        for name, low, high in (
            *(("zipf", 0.0, 4.0), ("noise", 0.0, 5.0)),
            *(("first", 0.0, 10.0), ("second", 0.0, 10.0), ("third", 0.0, 10.0)),
            *(
                ("missing_dense", 0.0, 0.9),
                ("missing_sparse", 0.0, 0.9),
                ("base_rate", 1e-4, 0.9999),
            ),
        ):
            value = getattr(self, name)
            if not low <= value <= high:  # also what is not a number
                raise UserError(f"{name} is {value}; expected a number in {low:g}..{high:g}.")
        for name, low_, high_ in (
            *(("n_pairs", 0, 100_000), ("n_triples", 0, 100_000), ("dense_pairs", 0, 100_000)),
            *(("teacher_dim", 1, 64), ("teacher_ids", 2, 2**20), ("seed", 0, 2**63 - 1)),
        ):
            _whole(name, getattr(self, name), low_, high_)

    def _check_planted(self) -> None:
        """That every order with a strength has terms, and that the terms exist."""
        varied = sum(rows > 1 for rows in self.cardinalities.values())  # others cannot take part
        if self.second and not self.n_pairs:
            raise UserError(
                f"second is {self.second} but n_pairs 0; plant a pair, or set second to 0."
            )
        if self.third and not self.n_triples:
            raise UserError(
                f"third is {self.third} but n_triples 0; plant a triple, or set third to 0."
            )
        if self.first and not (varied or self.n_dense):
            raise UserError(
                f"first is {self.first}, but every field has one id only; expected a field with "
                "two or more, or first=0."
            )
        if self.second:
            among_fields, mixed = self.n_pairs - self.dense_pairs, varied * self.n_dense
            most = math.comb(varied, 2)
            if not (0 <= among_fields <= most and self.dense_pairs <= mixed):
                raise UserError(
                    f"n_pairs is {self.n_pairs}, dense_pairs {self.dense_pairs} of them; {varied} "
                    f"fields with two ids or more and {self.n_dense} dense columns have at most "
                    f"{most} pairs of fields and {mixed} of a dense column and a field."
                )
        if self.third and self.n_triples > math.comb(varied, 3):
            raise UserError(
                f"n_triples is {self.n_triples}; {varied} fields with two ids or more have at most "
                f"{math.comb(varied, 3)} triples."
            )


def _whole(name: str, value: int, low: int, high: int | None = None) -> None:
    """Raise a UserError unless `value` is a whole number in low..high."""
    if type(value) is not int or value < low or (high is not None and value > high):
        expected = f"{low} or more" if high is None else f"in {low:,}..{high:,}"
        raise UserError(f"{name} is {value!r}; expected a whole number, {expected}.")
