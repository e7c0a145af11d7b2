"""What a training step could at best take on this machine.

Answers a plan and then lines `ARM SECONDS` as step_side.py does, and says what the time is made of:

- `ceiling` and `ceiling-bf16`: FLOP of the fully connected layers / the rate of the fastest large
  matrix product, plus bytes of the rows / the rate of a large copy;
- `ceiling-shapes`: the products of this very model, one by one into memory that is there already,
  plus its rows read and changed at random places. No bias, no ReLU, no interaction, no loss.
"""

import statistics
import sys
import time
from collections.abc import Callable
from itertools import pairwise

import numba
import numpy as np
import torch
from numba import njit, prange

from benchmarks.step_side import BATCHES, Plan, batch, begin, say
from dlrm_mini.kernels.prefetch import LINE, prefetch

FLOAT = 4  # bytes
SHAPES = ((2048, 1024, 1024), (2048, 2048, 2048), (4096, 2048, 2048))
COPIED = 1 << 28  # bytes read, and as many written
AHEAD = 24  # rows between asking for one and using it


def flops(plan: Plan) -> int:
    """Of the fully connected layers: 2 a weight and row forward, twice that backward.

    So does `DLRMConfig` count. The gradient of the dense features themselves, which nobody needs,
    is in it: 3 % of the profile's.
    """
    weights = sum(n_in * n_out for w in (plan.bottom, plan.top) for n_in, n_out in pairwise(w))
    return 6 * plan.batch_size * weights


def row_bytes(plan: Plan, lookups: int, distinct: int) -> int:
    """Of the tables: every row looked up is read; every distinct one is read and written again.

    With row-wise Adagrad, so is its one number of state.
    """
    state = FLOAT if plan.rule == "rowwise_adagrad" else 0
    return lookups * plan.dim * FLOAT + 2 * distinct * (plan.dim * FLOAT + state)


def stacked(plan: Plan, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows of a batch in one table made of all: each lookup, and each once in any order."""
    ids = batch(plan, seed).ids.split([plan.batch_size * k for k in plan.lookups])
    starts = np.cumsum([0, *plan.rows])
    rows = np.concatenate([mine.numpy() + first for mine, first in zip(ids, starts, strict=False)])
    return rows, np.random.default_rng(seed).permutation(np.unique(rows))


def median_s(call: Callable[[], object], seconds: float) -> float:
    """The median of as many calls as fit, at least three, after one."""
    call()
    started, times = time.perf_counter(), []
    while len(times) < 3 or time.perf_counter() - started < seconds:
        before = time.perf_counter()
        call()
        times.append(time.perf_counter() - before)
    return statistics.median(times)


class Ceilings:
    """The memory that the measurements need, taken once."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.batches = [stacked(plan, seed) for seed in range(BATCHES)]
        self.source = torch.ones(COPIED // FLOAT)
        self.target = torch.zeros_like(self.source)
        self.table = np.zeros((sum(plan.rows), plan.dim), np.float32)
        self.table[:] = 1  # zeros alone would be one page of memory, read again and again
        self.turn = 0

    def bounds(self, seconds: float, dtype: torch.dtype) -> dict[str, float]:
        """FLOP and bytes over the best rates."""
        part = seconds / (len(SHAPES) + 1)
        rate = max(_product_rate(shape, dtype, part) for shape in SHAPES)
        copied = 2 * COPIED / median_s(lambda: self.target.copy_(self.source), part)
        lookups, distinct = (
            statistics.mean(len(rows[kind]) for rows in self.batches) for kind in (0, 1)
        )
        products = 1e3 * flops(self.plan) / rate
        rows = 1e3 * row_bytes(self.plan, int(lookups), int(distinct)) / copied
        rates = {"gflop_per_s": rate / 1e9, "copy_gb_per_s": copied / 1e9}
        return {"ms": products + rows, "products_ms": products, "rows_ms": rows, **rates}

    def shapes(self, seconds: float) -> dict[str, float]:
        """The model's own products, and its own rows."""
        products = 1e3 * median_s(_products(self.plan), seconds / 2)
        rows = 1e3 * median_s(self._rows, seconds / 2)
        return {"ms": products + rows, "products_ms": products, "rows_ms": rows}

    def _rows(self) -> None:
        self.turn = (self.turn + 1) % BATCHES
        looked_up, distinct = self.batches[self.turn]
        _read(self.table, looked_up, np.zeros((numba.get_num_threads(), self.plan.dim), np.float32))
        _change(self.table, distinct, numba.get_num_threads())


def _product_rate(shape: tuple[int, int, int], dtype: torch.dtype, seconds: float) -> float:
    m, k, n = shape
    a, b, out = (torch.ones(*size, dtype=dtype) for size in ((m, k), (k, n), (m, n)))
    return 2 * m * k * n / median_s(lambda: torch.mm(a, b, out=out), seconds)


def _products(plan: Plan) -> Callable[[], None]:
    """All matrix products of a step: outputs, gradients of weights, gradients of inputs."""
    triples = []
    for widths in (plan.bottom, plan.top):
        for place, (n_in, n_out) in enumerate(pairwise(widths)):
            x, dx = torch.rand(2, plan.batch_size, n_in)
            y, dy = torch.rand(2, plan.batch_size, n_out)
            w, dw = torch.rand(2, n_out, n_in)
            triples += [(x, w.T, y), (dy.T, x, dw)]
            if widths is plan.top or place:  # nobody asks for the gradient of the dense features
                triples.append((dy, w, dx))

    def call() -> None:
        for a, b, out in triples:
            torch.mm(a, b, out=out)

    return call


@njit(parallel=True, fastmath=True)
def _read(table: np.ndarray, rows: np.ndarray, sums: np.ndarray) -> None:
    """Read these rows, each thread its part, and sum them up."""
    for part in prange(len(sums)):
        total, last = sums[part], (part + 1) * len(rows) // len(sums)
        for place in range(part * len(rows) // len(sums), last):
            for column in range(0, table.shape[1], LINE):
                prefetch(table, rows[min(place + AHEAD, last - 1)], column)
            vector = table[rows[place]]  # outside of the loop over d, which is else no vector loop
            for d in range(len(vector)):
                total[d] += vector[d]


@njit(parallel=True, fastmath=True)
def _change(table: np.ndarray, rows: np.ndarray, parts: int) -> None:
    """Read these rows and write them changed."""
    for part in prange(parts):
        last = (part + 1) * len(rows) // parts
        for place in range(part * len(rows) // parts, last):
            for column in range(0, table.shape[1], LINE):
                prefetch(table, rows[min(place + AHEAD, last - 1)], column)
            vector = table[rows[place]]
            for d in range(len(vector)):
                vector[d] += np.float32(1)


def main() -> None:
    plan, threads = begin("torch", "numba", "numpy")
    numba.set_num_threads(threads)
    ceilings = Ceilings(plan)
    arms: dict[str, Callable[[float], dict[str, float]]] = {
        "ceiling": lambda seconds: ceilings.bounds(seconds, torch.float32),
        "ceiling-bf16": lambda seconds: ceilings.bounds(seconds, torch.bfloat16),
        "ceiling-shapes": ceilings.shapes,
    }
    for line in sys.stdin:
        arm, seconds = line.split()
        say(arms[arm](float(seconds)))


if __name__ == "__main__":
    main()
