"""The fused embedding path on a CPU, in numba: one pass over the rows that a batch looks up.

No vector of a lookup and no gradient of one is ever written to memory. Both functions compute in
float32, with as many threads as torch; they give the same bits on every run with the same number.
"""

from typing import Any

import numba
import numpy as np
import torch
from numba import njit, prange
from numpy.typing import NDArray
from torch import Tensor

from dlrm_mini.errors import UserError
from dlrm_mini.kernels.prefetch import LINE, prefetch
from dlrm_mini.kernels.rules import Lookups, Rule

AHEAD = 24  # lookups between asking for a row and using it; 12 to 32 were equally good
DIGIT = 11  # bits that one pass of the radix sort looks at

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

_NONE: Floats = np.empty(0, np.float32)
_helper: Any = njit(cache=True, error_model="numpy")
# Sums may be taken in any order, so that they can be vectorised. NaN stays NaN.
_compile: Any = njit(
    parallel=True, cache=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz"}
)


def forward(table: Tensor, lookups: Lookups) -> Tensor:
    """The weighted sum of each bag's rows, (B, F, D) float32; an empty bag gives zeros.

    Args:
        table: (N, D) float32, all tables stacked.
        lookups: a batch's ids.

    Raises:
        UserError: an id without a row. Nothing outside the tables is read.
    """
    pooled = torch.empty(lookups.batch_size, lookups.n_features, table.shape[1])
    wrong = np.zeros(1, np.int64)
    use_torch_threads()
    _forward(_array(table), *_arrays(lookups), pooled.numpy(), wrong)
    if wrong[0]:
        raise UserError("An id has no row in its table; expected ids in 0..rows - 1.")
    return pooled


def update(
    table: Tensor,
    state: Tensor | None,
    lookups: Lookups,
    gradient: Tensor,
    rule: Rule,
    lr: float,
    eps: float,
) -> None:
    """Change the rows that were looked up, and their state, in place.

    Duplicates are summed before they are squared. SGD needs no sum: it is linear.

    Args:
        table: (N, D) float32, all tables stacked.
        state: sums of squares: None for "sgd", (N, D) for "adagrad", (N,) for "rowwise_adagrad".
        lookups: the batch's ids; `forward` has checked them.
        gradient: (B, F, D) float32, of the loss with respect to what `forward` returned.
        rule: see `Rule`.
        lr: learning rate.
        eps: what is added to the root.
    """
    threads = use_torch_threads()
    # A row belongs to one thread: a thread has whole tables, or every k-th row of each.
    parts = -(-threads // lookups.n_features)
    given = _array(table), *_arrays(lookups), _array(gradient.contiguous())
    if state is None:
        _update_sgd(*given, np.float32(lr), parts)
        return
    sums = _array(state).reshape(len(state), -1)  # (N, D) or (N, 1)
    _update_adagrad(*given, sums, np.float32(lr), np.float32(eps), parts)


@_compile
def _forward(
    table: Floats, ids: Ints, offsets: Ints, first: Ints, weights: Floats, pooled: Floats,
    wrong: Ints,
) -> None:  # fmt: skip
    batch_size, _, dim = pooled.shape
    for bag in prange(len(offsets) - 1):
        feature, row = bag // batch_size, bag % batch_size
        start, last = first[feature], offsets[(feature + 1) * batch_size] - 1
        rows = first[feature + 1] - start
        out = pooled[row, feature]
        out[:] = 0
        for place in range(offsets[bag], offsets[bag + 1]):
            coming = start + ids[min(place + AHEAD, last)]
            for column in range(0, dim, LINE):
                prefetch(table, coming, column)
            if ids[place] < 0 or ids[place] >= rows:
                wrong[0] = 1
                continue
            vector = table[start + ids[place]]
            weight = weights[place] if len(weights) else np.float32(1)
            for d in range(dim):
                out[d] += weight * vector[d]


@_compile
def _update_sgd(
    table: Floats, ids: Ints, offsets: Ints, first: Ints, weights: Floats, gradient: Floats,
    lr: np.float32, parts: int,
) -> None:  # fmt: skip
    batch_size, n_features, dim = gradient.shape
    for job in prange(n_features * parts):
        feature, part = job // parts, job % parts
        start, last = first[feature], offsets[(feature + 1) * batch_size] - 1
        for row in range(batch_size):
            bag, slope = feature * batch_size + row, gradient[row, feature]
            for place in range(offsets[bag], offsets[bag + 1]):
                if parts > 1 and ids[place] % parts != part:
                    continue
                coming = start + ids[min(place + AHEAD, last)]
                for column in range(0, dim, LINE):
                    prefetch(table, coming, column)
                step = lr * weights[place] if len(weights) else lr
                vector = table[start + ids[place]]
                for d in range(dim):
                    vector[d] -= step * slope[d]


@_compile
def _update_adagrad(
    table: Floats, ids: Ints, offsets: Ints, first: Ints, weights: Floats, gradient: Floats,
    sums: Floats, lr: np.float32, eps: np.float32, parts: int,
) -> None:  # fmt: skip
    batch_size, n_features, dim = gradient.shape
    by_row = sums.shape[1] == 1 and dim > 1
    for job in prange(n_features * parts):
        feature, part = job // parts, job % parts
        start = first[feature]
        begin = offsets[feature * batch_size]
        bags = _bags(offsets, feature, batch_size)
        keys, places = _sorted_lookups(ids[begin : begin + len(bags)], parts, part)
        total = np.empty(dim, np.float32)
        here, end = 0, len(keys)
        while here < end:
            key = keys[here]
            coming = start + keys[min(here + AHEAD, end - 1)]
            for column in range(0, dim, LINE):
                prefetch(table, coming, column)
            total[:] = 0
            while here < end and keys[here] == key:  # every lookup of this row
                slope = gradient[bags[places[here]], feature]
                weight = weights[begin + places[here]] if len(weights) else np.float32(1)
                for d in range(dim):
                    total[d] += weight * slope[d]
                here += 1
            vector, state = table[start + key], sums[start + key]
            if by_row:
                square = np.float32(0)
                for d in range(dim):
                    square += total[d] * total[d]
                state[0] += square / np.float32(dim)
                step = lr / (np.sqrt(state[0]) + eps)
                for d in range(dim):
                    vector[d] -= step * total[d]
            else:
                for d in range(dim):
                    state[d] += total[d] * total[d]
                    vector[d] -= lr * total[d] / (np.sqrt(state[d]) + eps)


@_helper
def _bags(offsets: Ints, feature: int, batch_size: int) -> Any:
    """The batch's row of each lookup of one feature."""
    begin = offsets[feature * batch_size]
    bags = np.empty(offsets[(feature + 1) * batch_size] - begin, np.int32)
    for row in range(batch_size):
        bag = feature * batch_size + row
        bags[offsets[bag] - begin : offsets[bag + 1] - begin] = row
    return bags


@_helper
def _sorted_lookups(ids: Ints, parts: int, part: int) -> Any:
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


def use_torch_threads() -> int:
    """Let numba use as many threads as torch; how many these are."""
    most: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    threads = min(torch.get_num_threads(), most)
    numba.set_num_threads(threads)
    return threads


def _array(tensor: Tensor) -> Any:
    """The tensor's own memory as an array: what is written there is written in the tensor."""
    return tensor.detach().numpy()


def _arrays(lookups: Lookups) -> tuple[Any, Any, Any, Any]:
    weights = _NONE if lookups.weights is None else _array(lookups.weights)
    return _array(lookups.ids), _array(lookups.offsets), _array(lookups.first), weights
