"""One training step on one embedding table, in chapter 08's five ways, and how long it takes.

A step is forward, backward from a gradient that is given, and update. Each one gets a batch of its
own: with the same ids again and again, their rows would wait in a cache.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any

import torch
from torch import Tensor

from dlrm_mini import optimizers
from dlrm_mini.datasets.sparse import SparseFeatures
from dlrm_mini.embeddings import EmbeddingTables, FusedEmbeddingTables
from dlrm_mini.ladders.sparse_counts import draw_ids

FUSED = {"fused SGD": optimizers.SGD, "fused row-wise Adagrad": optimizers.RowWiseAdagrad}
WAYS = ("dense Adam", "dense SGD", "sparse SGD", *FUSED)
RATE = 0.01
COPIED = 256_000_000  # bytes, more than a core's caches hold


def batches(
    rows: int, batch: int, pooling: int, zipf: float = 0.0, number: int = 12
) -> list[SparseFeatures]:
    """Batches of one feature, "table", each bag with `pooling` ids of the law of `draw_ids`.

    Args:
        rows: N.
        batch: B.
        pooling: L.
        zipf: exponent of the ids' law.
        number: how many batches.
    """
    offsets = torch.arange(batch + 1) * pooling
    return [
        SparseFeatures(("table",), draw_ids(rows, batch * pooling, zipf, seed), offsets)
        for seed in range(number)
    ]


def stepper(way: str, rows: int, dim: int) -> Callable[[SparseFeatures, Tensor], None]:
    """A table of its own, and a function that takes one step on it.

    Args:
        way: one of `WAYS`.
        rows: N.
        dim: D.
    """
    sizes: dict[str, Any] = {"cardinalities": {"table": rows}, "dim": dim, "init_std": 0.01}
    if way in FUSED:
        tables = FusedEmbeddingTables(**sizes, check=False)
        tables.fuse(FUSED[way](tables.parameters(), lr=RATE))
        return lambda sparse, gradient: tables(sparse).backward(gradient)
    sparse_gradient = way == "sparse SGD"
    plain = EmbeddingTables(**sizes, check=False, sparse_gradient=sparse_gradient)
    optimizer: torch.optim.Optimizer = torch.optim.SGD(plain.parameters(), lr=RATE)
    if way == "dense Adam":  # torch's fastest: one pass over the table, where its default has many
        optimizer = torch.optim.Adam(plain.parameters(), lr=RATE, fused=True)

    def step(sparse: SparseFeatures, gradient: Tensor) -> None:
        plain(sparse).backward(gradient)
        optimizer.step()
        optimizer.zero_grad()

    return step


def seconds(
    way: str, rows: int, dim: int, given: list[SparseFeatures], steps: int | None = None
) -> float:
    """The median time of a step, after two to warm up.

    Args:
        way: one of `WAYS`.
        rows: N.
        dim: D.
        given: the batches, taken in turn.
        steps: how many to time; None: every batch once, but five of a dense way.
    """
    step, turn = stepper(way, rows, dim), cycle(given)
    gradient = torch.randn(given[0].batch_size, 1, dim)
    count = steps or (5 if way.startswith("dense") else len(given))
    return statistics.median(list(_times(lambda: step(next(turn), gradient), count))[2:])


def copy_speed(n_bytes: int = COPIED) -> float:
    """Bytes a second, those read and those written, of copying one array to another."""
    source = torch.ones(n_bytes // 4)
    target = torch.empty_like(source)
    return 2 * n_bytes / min(list(_times(lambda: target.copy_(source), 4))[2:])


def _times(call: Callable[[], object], count: int) -> Iterator[float]:
    """The seconds of each of `count` calls after two more."""
    for _ in range(count + 2):
        start = time.perf_counter()
        call()
        yield time.perf_counter() - start
