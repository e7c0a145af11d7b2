"""The fused embedding path on a CPU, in numba: one pass over the rows that a batch looks up.

No vector of a lookup and no gradient of one is ever written to memory. Both functions compute in
float32, with as many threads as torch; they give the same bits on every run with the same number.

What numba compiles is kept for the next process, in `__pycache__` or the user's cache folder. It
does not notice when `radix` or `prefetch` change: touch this file then.
"""

import functools
from typing import Any

import numba
import numpy as np
import torch
from numba import njit, prange
from numpy.typing import NDArray
from torch import Tensor

from dlrm_mini.errors import UserError
from dlrm_mini.kernels.prefetch import LINE, prefetch
from dlrm_mini.kernels.radix import rows_of, sorted_lookups
from dlrm_mini.kernels.rules import Lookups, Rule

CHECKS_IDS = True  # whether `forward` raises for an id without a row
AHEAD = 32  # lookups between asking for a row and using it; 80 were equally good

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

_NONE: Floats = np.empty(0, np.float32)
# Sums may be taken in any order, so that they can be vectorised. NaN stays NaN.
_compile = njit(
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
    shape = lookups.batch_size, lookups.n_features, table.shape[1]
    pooled = torch.empty(shape, dtype=torch.float32, device="cpu")
    wrong = np.zeros(1, np.int64)
    use_torch_threads()
    loop = _forward(table.shape[1], lookups.weights is not None)
    loop(_array(table), *_arrays(lookups), pooled.numpy(), wrong)
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

    Duplicates are summed before they are squared. SGD takes them one by one: the rule is linear,
    though in float32 steps far smaller than the row's last digit are lost one by one as well.

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
    kind = table.shape[1], lookups.weights is not None
    if state is None:
        _sgd(*kind)(*given, np.float32(lr), parts)
        return
    sums = _array(state).reshape(len(state), -1)  # (N, D) or (N, 1)
    loop = _adagrad(*kind, by_row=state.ndim == 1)
    loop(*given, sums, np.float32(lr), np.float32(eps), parts)


# With the width of a row and the rule as constants, the compiler unrolls what is done to a row:
# that takes a quarter off the time of a step. So each loop is made for its constants, compiled when
# it is first called, and kept for the next process.


@functools.cache
def _forward(dim: int, weighted: bool) -> Any:
    @_compile
    def loop(
        table: Floats, ids: Ints, offsets: Ints, first: Ints, weights: Floats, pooled: Floats,
        wrong: Ints,
    ) -> None:  # fmt: skip
        batch_size = len(pooled)
        for bag in prange(len(offsets) - 1):
            feature, row = bag // batch_size, bag % batch_size
            place, end = offsets[bag], offsets[bag + 1]
            start, last = first[feature], offsets[(feature + 1) * batch_size] - 1
            rows = first[feature + 1] - start
            out = pooled[row, feature]
            out[:] = 0
            missing = 0
            for k in range(place, end):
                missing += ids[k] < 0 or ids[k] >= rows
            if missing:
                wrong[0] = 1
                continue
            # Four rows at a time: their ways from memory overlap, and `out` is written once.
            while place + 4 <= end and not weighted:
                for k in range(place + AHEAD, place + AHEAD + 4):
                    for column in range(0, dim, LINE):
                        prefetch(table, start + ids[min(k, last)], column)
                a, b = table[start + ids[place]], table[start + ids[place + 1]]
                c, e = table[start + ids[place + 2]], table[start + ids[place + 3]]
                for d in range(dim):
                    out[d] += (a[d] + b[d]) + (c[d] + e[d])
                place += 4
            while place < end:
                for column in range(0, dim, LINE):
                    prefetch(table, start + ids[min(place + AHEAD, last)], column)
                weight = weights[place] if weighted else np.float32(1)
                vector = table[start + ids[place]]
                for d in range(dim):
                    out[d] += weight * vector[d]
                place += 1

    return loop


@functools.cache
def _sgd(dim: int, weighted: bool) -> Any:
    @_compile
    def loop(
        table: Floats, ids: Ints, offsets: Ints, first: Ints, weights: Floats, gradient: Floats,
        lr: np.float32, parts: int,
    ) -> None:  # fmt: skip
        batch_size, n_features, _ = gradient.shape
        for job in prange(n_features * parts):
            feature, part = job // parts, job % parts
            start, last = first[feature], offsets[(feature + 1) * batch_size] - 1
            for row in range(batch_size):
                bag, slope = feature * batch_size + row, gradient[row, feature]
                for place in range(offsets[bag], offsets[bag + 1]):
                    if parts > 1 and ids[place] % parts != part:
                        continue
                    for column in range(0, dim, LINE):
                        prefetch(table, start + ids[min(place + AHEAD, last)], column)
                    step = lr * weights[place] if weighted else lr
                    vector = table[start + ids[place]]
                    for d in range(dim):
                        vector[d] -= step * slope[d]

    return loop


@functools.cache
def _adagrad(dim: int, weighted: bool, by_row: bool) -> Any:
    @_compile
    def loop(
        table: Floats, ids: Ints, offsets: Ints, first: Ints, weights: Floats, gradient: Floats,
        sums: Floats, lr: np.float32, eps: np.float32, parts: int,
    ) -> None:  # fmt: skip
        batch_size, n_features, _ = gradient.shape
        for job in prange(n_features * parts):
            feature, part = job // parts, job % parts
            start, begin = first[feature], offsets[feature * batch_size]
            rows = rows_of(offsets, feature, batch_size)
            keys, places = sorted_lookups(ids[begin : begin + len(rows)], parts, part)
            rows = rows[places]
            slopes = gradient[:, feature].copy()  # side by side, they stay in the second cache
            total = np.zeros(dim, np.float32)
            end = len(keys)
            for here in range(end):
                weight = weights[begin + places[here]] if weighted else np.float32(1)
                slope = slopes[rows[here]]
                for d in range(dim):
                    total[d] += weight * slope[d]
                if here + 1 < end and keys[here + 1] == keys[here]:
                    continue  # not the last lookup of this row
                row, coming = start + keys[here], start + keys[min(here + AHEAD, end - 1)]
                for column in range(0, dim, LINE):
                    prefetch(table, coming, column)
                prefetch(sums, coming, 0)
                if by_row:
                    square = np.float32(0)
                    for d in range(dim):
                        square += total[d] * total[d]
                    sums[row, 0] += square / np.float32(dim)
                    step = lr / (np.sqrt(sums[row, 0]) + eps)
                    for d in range(dim):
                        table[row, d] -= step * total[d]
                else:
                    for d in range(dim):
                        sums[row, d] += total[d] * total[d]
                        table[row, d] -= lr * total[d] / (np.sqrt(sums[row, d]) + eps)
                total[:] = 0

    return loop


def use_torch_threads() -> int:
    """Let numba use as many threads as torch; how many these are."""
    most: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    torchs = torch.get_num_threads()
    threads = min(torchs, most)
    numba.set_num_threads(threads)
    if torch.get_num_threads() != torchs:  # numba's first call tells OpenMP its own number
        torch.set_num_threads(torchs)
    return threads


def _array(tensor: Tensor) -> Any:
    """The tensor's own memory as an array: what is written there is written in the tensor."""
    return tensor.detach().numpy()


def _arrays(lookups: Lookups) -> tuple[Any, Any, Any, Any]:
    weights = _NONE if lookups.weights is None else _array(lookups.weights)
    return _array(lookups.ids), _array(lookups.offsets), _array(lookups.first), weights
