"""How a category becomes an id: by hashing into buckets, or by a vocabulary of frequent values.

Id 0 always means that the value is missing. With `Buckets(n)` the ids 1 to n are those of a fixed
hash of column and value (the hashing trick, Weinberger et al. 2009): no memory, no first pass, some
values share an id. With `Threshold(n)` the values that at least n *training* rows hold have the ids
from 2 on, in ascending order of value, and every other value, of whatever split and whenever it
turns up, has id 1, out-of-vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from dlrm_mini.errors import UserError

MISSING, OUT_OF_VOCABULARY = 0, 1

Values = NDArray[np.uint32]


@dataclass(frozen=True)
class Buckets:
    """Hashing into `number` buckets."""

    number: int

    def __post_init__(self) -> None:
        if not 1 <= self.number < 2**31:
            raise UserError(f"{self.number} buckets; expected a number from 1 to 2,147,483,647.")

    def __str__(self) -> str:
        return f"buckets:{self.number}"


@dataclass(frozen=True)
class Threshold:
    """A vocabulary of the values that at least `number` training rows hold."""

    number: int

    def __post_init__(self) -> None:
        if self.number < 1:
            raise UserError(f"a threshold of {self.number}; expected a number of rows from 1 on.")

    def __str__(self) -> str:
        return f"threshold:{self.number}"


Rule = Buckets | Threshold


def rule(text: str) -> Rule:
    """A rule from `buckets:N` or `threshold:N`.

    Raises:
        UserError: the text says neither.
    """
    kind, _, number = text.partition(":")
    kinds: dict[str, Callable[[int], Rule]] = {"buckets": Buckets, "threshold": Threshold}
    if kind not in kinds or not number.isdecimal():
        raise UserError(f"'{text}' is no rule for a column; expected buckets:N or threshold:N.")
    return kinds[kind](int(number))


def id_type(largest: int) -> np.dtype[np.generic]:
    """The smallest unsigned type that holds the ids 0 to `largest`."""
    return np.min_scalar_type(largest)


@numba.njit(nogil=True, cache=True, inline="always")
def mix(x: np.uint64) -> np.uint64:
    """A fixed hash of 64 bits in which every bit depends on every bit (splitmix64's finish)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@numba.njit(nogil=True, cache=True)
def hash_ids(values: Values, missing: Values, column: int, buckets: int, ids: NDArray[Any]) -> None:
    """Write the ids (n,) of a column's values (n,): 1 to `buckets`, and 0 where missing.

    Args:
        values: (n,) uint32.
        missing: (n,) uint32, of which bit `column` says that this column has nothing.
        column: its number, from 0.
        buckets: how many there are.
        ids: (n,), of a type that holds `buckets`.
    """
    salt = np.uint64(column + 1) << np.uint64(32)
    bit = np.uint32(1 << column)
    for row in range(len(values)):
        high = mix(salt | np.uint64(values[row])) >> np.uint64(32)
        bucket = (high * np.uint64(buckets)) >> np.uint64(32)  # 0 to buckets - 1, all as likely
        ids[row] = np.uint64(0) if missing[row] & bit else bucket + np.uint64(1)
