"""Chapter 08's counting: rows that a batch touches, bytes that a step moves, bytes that are kept.

All of it is arithmetic: nothing here is timed. A number has four bytes (float32), an id eight.
"""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dlrm_mini import optimizers

NUMBER, ID = 4, 8  # bytes
EXACT = 1000  # most frequent ids counted one by one; the others in blocks
SPREAD = 2_654_435_761  # a prime: multiplying by it, modulo the rows, deals the ids out

RULES = {  # name -> what `optimizers.state_bytes` calls it
    "SGD": "sgd",
    "row-wise Adagrad": "rowwise_adagrad",
    "SGD with momentum": "momentum",
    "Adagrad": "adagrad",
    "Adam": "adam",
}


def draw_ids(rows: int, lookups: int, zipf: float, seed: int = 0, *, dealt: bool = True) -> Tensor:
    """Ids (V,) int64 by the bounded power law of chapter 06's generator.

    Args:
        rows: N, the ids there are.
        lookups: V.
        zipf: the exponent; 0: all ids equally often.
        seed: of the draw.
        dealt: frequent ids anywhere in the table, as a hash would have them; else they come first.
    """
    u = torch.rand(lookups, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    power = 1 - zipf
    if abs(power) < 1e-6:
        x = (rows + 1.0) ** u
    else:
        x = (1 + u * ((rows + 1.0) ** power - 1)) ** (1 / power)
    ids = (x.long() - 1).clamp(0, rows - 1)
    return ids * SPREAD % rows if dealt else ids


def touched(rows: int, lookups: float, zipf: float) -> float:
    """The distinct rows that so many independent lookups are expected to touch.

    Row k is missed by all V lookups with chance (1 - p_k)^V, so the sum over the rows of
    1 - (1 - p_k)^V; p_k is the bounded power law of `draw_ids`, taken as constant within a block of
    rare ids.

    Args:
        rows: N.
        lookups: V.
        zipf: the exponent.
    """
    edges = np.arange(1.0, min(rows, EXACT) + 2)
    if rows > EXACT:
        far = np.geomspace(edges[-1], rows + 1, 2000)
        edges = np.unique(np.concatenate([edges, np.round(far)]))
    sizes, share = np.diff(edges), np.diff(_below(edges, rows, zipf))
    p = np.minimum(share / sizes, 1 - 1e-15)
    return float(-(sizes * np.expm1(lookups * np.log1p(-p))).sum())


def _below(x: NDArray[np.float64], rows: int, zipf: float) -> NDArray[np.float64]:
    """The chance of an id whose place in the power law, 1 to rows + 1, is below x."""
    power = 1 - zipf
    if abs(power) < 1e-6:
        return np.asarray(np.log(x) / np.log(rows + 1))
    return np.asarray((x**power - 1) / ((rows + 1.0) ** power - 1))


def moved(
    rows: int, dim: int, batch: int, pooling: int, distinct: float | None = None
) -> dict[str, float]:
    """Bytes that one step on one table has to read and write, by way of training.

    Every lookup counts, as if no cache held a row that comes twice, but for the last way; sorting
    ids is left out.

    - All ways read the rows looked up, write the pooled vectors, and read their gradient.
    - A dense gradient is written as zeros, then added to, a lookup at a time. SGD reads it, reads
      the weights and writes them; Adam reads and writes two states as well.
    - A sparse gradient has a vector a lookup: written, read again, and the rows read and written.
    - A fused update reads and writes the rows, and has no gradient of its own.
    - "each row once" is the fused way where a cache holds every row until the step is over.

    Args:
        rows: N.
        dim: D.
        batch: B bags.
        pooling: L lookups in each.
        distinct: the rows touched; None: leave the last way out.
    """
    vector = NUMBER * dim
    lookups = batch * pooling
    common = lookups * (vector + ID) + 2 * batch * vector
    scatter = 2 * lookups * vector
    table = rows * vector
    found: dict[str, float] = {
        "dense Adam": common + scatter + 8 * table,
        "dense SGD": common + scatter + 4 * table,
        "sparse SGD": common + 4 * lookups * vector + lookups * ID,
        "fused SGD": common + 2 * lookups * vector + lookups * ID,
    }
    if distinct is not None:
        found["each row once"] = 3 * distinct * vector + 2 * lookups * ID + 2 * batch * vector
    return found


def kept(cardinalities: Mapping[str, int], dim: int) -> dict[str, int]:
    """Bytes of all tables under "weights", then optimizer -> bytes of its state for them.

    Args:
        cardinalities: table -> its rows.
        dim: D.
    """
    sizes = cardinalities.values()
    found = {"weights": NUMBER * dim * sum(sizes)}
    for name, rule in RULES.items():
        found[name] = sum(optimizers.state_bytes(rule, rows, dim) for rows in sizes)
    return found
