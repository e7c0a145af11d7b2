"""The vocabulary of one column: how often values occur, which are kept, and the id of each.

Counting needs a table of the column's distinct values. Beyond `LIMIT` of them the values are
counted in two halves of their range, or four quarters, one after the other, so that memory does not
grow with the file; this is also why ids go by value and not by frequency.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from dlrm_mini.datasets.criteo_columns import MISSING, OUT_OF_VOCABULARY, Values

LIMIT = 10_000_000  # distinct values at a time: a table of 134 MB
FIRST = OUT_OF_VOCABULARY + 1  # the id of the first word

Counted = NDArray[np.bool_]  # which rows to count
Encode = Callable[[Values, NDArray[np.bool_]], NDArray[np.uint32]]


@dataclass
class _Table:
    """A hash table with open addressing; a place is free where `numbers` is 0."""

    keys: Values
    numbers: NDArray[np.uint32]  # counts or ids
    used: int = 0

    @classmethod
    def of_size(cls, size: int) -> _Table:
        """An empty table of a power of two."""
        return cls(np.zeros(size, np.uint32), np.zeros(size, np.uint32))

    def grown(self) -> _Table:
        """The same entries with twice the room."""
        larger = _Table.of_size(2 * len(self.keys))
        kept = self.numbers > 0
        _fill(self.keys[kept], self.numbers[kept], larger.keys, larger.numbers)
        larger.used = self.used
        return larger

    def words(self, least: int) -> Values:
        """The keys whose number is at least `least`, ascending."""
        return np.sort(self.keys[self.numbers >= max(least, 1)])


def build(
    chunks: Callable[[], Iterable[tuple[Values, Counted]]], least: int, limit: int = LIMIT
) -> Values:
    """The values that at least `least` of the counted rows hold, ascending (V,).

    Args:
        chunks: gives the column from its beginning, in pieces, and which rows of each to count;
            called once for each part of the range.
        least: the threshold.
        limit: distinct values at a time.
    """
    parts = 1
    while (words := _in_parts(chunks, least, limit, parts)) is None:
        parts *= 2
    return words


def _in_parts(
    chunks: Callable[[], Iterable[tuple[Values, Counted]]], least: int, limit: int, parts: int
) -> Values | None:
    """As `build`, the range of values cut into parts; None when one holds too many values."""
    words = []
    for part in range(parts):
        low, high = (bound * 2**32 // parts for bound in (part, part + 1))
        table = _Table.of_size(1 << 12)
        for values, counted in chunks():
            row = 0
            while row < len(values):
                room = len(table.keys) * 5 // 8
                row, table.used = _count(
                    values, counted, row, low, high, table.keys, table.numbers, table.used, room
                )
                if table.used > limit:
                    return None
                if row < len(values):
                    table = table.grown()
        words.append(table.words(least))
    return np.concatenate(words)


def encoder(words: Values, limit: int = LIMIT) -> Encode:
    """What makes ids (n,) of values (n,), of which some are missing (n,).

    Args:
        words: the vocabulary, ascending; may be memory-mapped.
        limit: a longer vocabulary is searched where it lies, without a table in memory.
    """
    if len(words) > limit:
        return lambda values, missing: search(words, values, missing)
    table = _Table.of_size(1 << max(2 * len(words), 2).bit_length())
    _fill(words, np.arange(FIRST, FIRST + len(words), dtype=np.uint32), table.keys, table.numbers)
    return lambda values, missing: _look_up(values, missing, table.keys, table.numbers)


def search(words: Values, values: Values, missing: NDArray[np.bool_]) -> NDArray[np.uint32]:
    """The ids by binary search: slow for many rows, but there is nothing to build."""
    place = np.searchsorted(words, values)
    known = np.zeros(len(values), np.bool_)
    inside = place < len(words)
    known[inside] = words[place[inside]] == values[inside]
    ids = np.where(known, place + FIRST, OUT_OF_VOCABULARY)
    return np.where(missing, MISSING, ids).astype(np.uint32)


@numba.njit(nogil=True, cache=True, inline="always")
def _place(key: np.uint32, keys: Values, numbers: NDArray[np.uint32]) -> np.uint64:
    """Where a key is, or where it would go."""
    mask = np.uint64(len(keys) - 1)
    place = ((np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)) & mask
    while numbers[place] != 0 and keys[place] != key:
        place = (place + np.uint64(1)) & mask
    return place


@numba.njit(nogil=True, cache=True)
def _fill(
    new: Values, new_numbers: NDArray[np.uint32], keys: Values, numbers: NDArray[np.uint32]
) -> None:
    for entry in range(len(new)):
        place = _place(new[entry], keys, numbers)
        keys[place], numbers[place] = new[entry], new_numbers[entry]


@numba.njit(nogil=True, cache=True)
def _count(
    values: Values,
    counted: Counted,
    row: int,
    low: int,
    high: int,
    keys: Values,
    numbers: NDArray[np.uint32],
    used: int,
    room: int,
) -> tuple[int, int]:
    """Count from `row` on until the table is full; the row to go on with, and places used."""
    while row < len(values):
        value = values[row]
        if counted[row] and low <= value < high:
            place = _place(value, keys, numbers)
            if numbers[place] == 0:
                if used >= room:
                    return row, used
                keys[place] = value
                used += 1
            numbers[place] += np.uint32(1)
        row += 1
    return row, used


@numba.njit(nogil=True, cache=True)
def _look_up(
    values: Values, missing: NDArray[np.bool_], keys: Values, numbers: NDArray[np.uint32]
) -> NDArray[np.uint32]:
    ids = np.empty(len(values), np.uint32)
    for row in range(len(values)):
        found = numbers[_place(values[row], keys, numbers)]
        known = np.uint32(1) if found == 0 else found
        ids[row] = np.uint32(0) if missing[row] else known
    return ids
