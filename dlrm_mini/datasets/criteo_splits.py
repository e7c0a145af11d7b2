"""Which rows of a click log are for training, for validation and for testing."""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from dlrm_mini.datasets.criteo_columns import mix
from dlrm_mini.errors import UserError

SPLITS = ("train", "valid", "test")
DAYS = 7


@dataclass(frozen=True)
class Days:
    """Seven days: the file is in order of time and has seven, so equal sevenths stand for them.

    The first six are for training; the seventh's first half is for validation, the second to test.
    """

    def __str__(self) -> str:
        return "seven days"

    def bounds(self, n: int) -> tuple[int, int]:
        """The first row of validation and of test among n."""
        first = n * (DAYS - 1) // DAYS
        return first, first + (n - first) // 2

    def of_rows(self, start: int, stop: int, n: int) -> NDArray[np.uint8]:
        """The split of the rows start..stop of n, as its place in `SPLITS`."""
        splits = np.zeros(stop - start, np.uint8)
        for bound in self.bounds(n):
            splits[max(bound - start, 0) :] += 1
        return splits


@dataclass(frozen=True)
class Random:
    """Eight tenths of the rows for training, one for validation, one to test.

    Where a row goes is a hash of the seed and its number, whatever the other rows are.
    """

    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise UserError(f"the split's seed is {self.seed}; expected 0 to 4,294,967,295.")

    def __str__(self) -> str:
        return f"random, seed {self.seed}"

    def of_rows(self, start: int, stop: int, n: int) -> NDArray[np.uint8]:
        """The split of the rows start..stop of n, as its place in `SPLITS`."""
        return _random(start, stop, self.seed)


Split = Days | Random


@numba.njit(nogil=True, cache=True)
def _random(start: int, stop: int, seed: int) -> NDArray[np.uint8]:
    splits = np.empty(stop - start, np.uint8)
    salt = mix(np.uint64(seed) + np.uint64(0x9E3779B97F4A7C15))
    for place in range(stop - start):
        high = mix(salt + np.uint64(start + place)) >> np.uint64(32)
        tenth = np.int64((high * np.uint64(10)) >> np.uint64(32))
        splits[place] = max(tenth, np.int64(7)) - np.int64(7)
    return splits
