"""Ids in rising order, for kernels: equal ids side by side, so that they can be summed."""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Ints = NDArray[np.int64]

DIGIT = 11  # bits that one pass looks at: 2048 counters stay in the first cache

_helper = njit(cache=True, error_model="numpy")


@_helper
def rows_of(offsets: Ints, feature: int, batch_size: int) -> Any:
    """The batch's row of each lookup of one feature."""
    begin = offsets[feature * batch_size]
    rows = np.empty(offsets[(feature + 1) * batch_size] - begin, np.int32)
    for row in range(batch_size):
        bag = feature * batch_size + row
        rows[offsets[bag] - begin : offsets[bag + 1] - begin] = row
    return rows


@_helper
def sorted_lookups(ids: Ints, parts: int, part: int) -> Any:
    """The ids of one part in rising order, and where each was; equal ids keep their order.

    A radix sort: it counts instead of comparing, and its time grows with the ids alone.
    """
    keys, places = np.empty(len(ids), np.int64), np.empty(len(ids), np.int32)
    n, largest = 0, 0
    for place in range(len(ids)):
        if parts == 1 or ids[place] % parts == part:
            keys[n], places[n] = ids[place], place
            largest = max(largest, ids[place])
            n += 1
    new_keys, new_places = np.empty(n, np.int64), np.empty(n, np.int32)
    starts = np.empty((1 << DIGIT) + 1, np.int64)
    mask, shift = (1 << DIGIT) - 1, 0
    keys, places = keys[:n], places[:n]
    while largest >> shift:
        starts[:] = 0
        for i in range(n):
            starts[((keys[i] >> shift) & mask) + 1] += 1
        for digit in range(mask):
            starts[digit + 1] += starts[digit]
        for i in range(n):
            digit = (keys[i] >> shift) & mask
            new_keys[starts[digit]], new_places[starts[digit]] = keys[i], places[i]
            starts[digit] += 1
        keys, new_keys, places, new_places = new_keys, keys, new_places, places
        shift += DIGIT
    return keys, places
