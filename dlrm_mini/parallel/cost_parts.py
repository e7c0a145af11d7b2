"""A step taken apart: what is computed in it, and what is sent.

Compute is a function of the loads of a plan (`parallel.loads`), of one plan or of many at once.
Exchanges are listed for one plan, each with the bytes that every rank sends in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from dlrm_mini.parallel.loads import (
    BACKWARD,
    COPIES_BACK,
    COPIES_UPDATE,
    COPY,
    COPY_BACK,
    FORWARD,
    IDS,
    LENGTHS,
    LOOKUPS,
    UPDATE,
    Job,
)
from dlrm_mini.parallel.schedule import Stages
from dlrm_mini.parallel.sharding import Plan
from dlrm_mini.parallel.skew import Floats
from dlrm_mini.parallel.topology import Topology
from dlrm_mini.parallel.traffic import Operation, ring_sends
from dlrm_mini.profiling.counts import distinct
from dlrm_mini.profiling.work import ID, NUMBER

ANNOUNCED = 2 * ID  # bytes a rank announces: its rows, and whether ids have weights
LOSS = 1  # number that is summed along with the gradients

# Stage of `parallel.schedule` -> its parts, in order.
STAGES: Mapping[str, tuple[str, ...]] = {
    "ids": ("input", "input exchange"),
    "lookups": ("lookups",),
    "bottom": ("bottom MLP",),
    "middle": (
        "vectors home", "interaction", "top MLP", "loss", "loss backward", "top MLP backward",
        "interaction backward", "vectors back",
    ),
    "bottom_back": ("bottom MLP backward", "copies backward"),
    "tables": ("table update",),
    "dense": ("copies update", "dense update"),
}  # fmt: skip
GROUPS: Mapping[str, tuple[str, ...]] = {
    "embeddings": ("lookups", "copies backward", "table update", "copies update"),
    "fully connected": (
        "bottom MLP", "top MLP", "top MLP backward", "bottom MLP backward", "dense update",
    ),
    "interaction": ("interaction", "interaction backward"),
    "everything else": (
        "input", "input exchange", "vectors home", "vectors back", "loss", "loss backward",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Exchange:
    """A collective of a step.

    Attributes:
        name: what is sent.
        operation: of the communicator.
        stage: of `parallel.schedule`.
        sent: bytes that each rank sends to others.
        seconds: from when the last rank is there.
    """

    name: str
    operation: Operation
    stage: str
    sent: tuple[float, ...]
    seconds: float


def replicated(plan: Plan) -> tuple[str, ...]:
    """The tables that every rank holds a copy of."""
    return tuple(name for name, p in plan.placements.items() if p.form == "data-parallel")


def parts_of(job: Job, load: Floats) -> dict[str, Floats]:
    """Part -> seconds on each rank, (..., P).

    Args:
        job: all but the plan.
        load: (..., LOADS, P), the sum of the loads of all tables.
    """
    rows, copied = job.rows, job.machine.ceilings.copy
    shape = load[..., LOOKUPS, :].shape
    found = {name: np.broadcast_to(seconds, shape) for name, seconds in job.dense_parts.items()}
    per_row = load.sum(-1)[..., None]  # (..., LOADS, 1): what is sent for each row, to all pieces
    ids = ID * (per_row[..., IDS, :] + per_row[..., LENGTHS, :])
    found["input exchange"] = load[..., COPY, :] + 2 * rows * ids / copied
    found["lookups"] = load[..., LOOKUPS, :]
    # A piece's vectors are read, and read and written where they are added up.
    found["vectors home"] = 3 * rows * per_row[..., FORWARD, :] / copied
    found["vectors back"] = 2 * rows * per_row[..., BACKWARD, :] / copied
    found["copies backward"] = load[..., COPIES_BACK, :]
    found["table update"] = load[..., UPDATE, :] + load[..., COPY_BACK, :]
    found["copies update"] = load[..., COPIES_UPDATE, :]
    return found


def stages(parts: Mapping[str, Floats], net: Mapping[str, Floats]) -> Stages:
    """The stages of a step from its parts, (..., P), and the seconds of its exchanges, (...)."""
    lanes = {stage: sum(parts[name] for name in names) for stage, names in STAGES.items()}
    return Stages(**lanes, **net)  # type: ignore[arg-type]


def exchanges(job: Job, plan: Plan, topology: Topology) -> tuple[Exchange, ...]:
    """The collectives of a step under a plan, in order."""
    lengths, ids, forward, backward, squares = matrices(job, plan)
    found = [_gather(job, topology)]
    for name, stage, matrix in (
        ("lengths", "inputs", lengths), ("ids", "inputs", ids), ("vectors", "forward", forward),
        ("gradients of vectors", "backward", backward),
    ):  # fmt: skip
        found.append(_shuffle(name, stage, matrix, topology))
    numbers = job.replicated(replicated(plan)) + LOSS
    sends = [sum(n for n, _ in ring_sends("all_reduce", rank, job.size, numbers, NUMBER).values())
             for rank in range(job.size)]  # fmt: skip
    took = topology.seconds("all_reduce", NUMBER * numbers)
    found.append(Exchange("replicated gradients", "all_reduce", "reduce", tuple(sends), took))
    if squares.any():
        found.append(_shuffle("squares", "squares", squares, topology))
    return tuple(found)


def _gather(job: Job, topology: Topology) -> Exchange:
    sent = (float(ANNOUNCED * (job.size - 1)),) * job.size
    took = topology.seconds("all_gather", ANNOUNCED * job.size)
    return Exchange("rows", "all_gather", "inputs", sent, took)


def _shuffle(name: str, stage: str, matrix: Floats, topology: Topology) -> Exchange:
    """An all-to-all of a (P, P) matrix of bytes."""
    sent = matrix.sum(1) - matrix.diagonal()
    took = topology.seconds("all_to_all", matrix)
    return Exchange(name, "all_to_all", stage, tuple(map(float, sent)), took)


def matrices(job: Job, plan: Plan) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Bytes from each rank (row) to each rank (column), (P, P): what the all-to-alls move.

    Returns:
        Bag lengths, ids, pooled vectors, their gradients, and rows' squares.
    """
    size, rows = plan.size, job.rows[:, None]
    lengths, ids, forward, backward, squares = np.zeros((5, size, size))
    for table, placement in plan.placements.items():
        if placement.form == "data-parallel":
            continue
        holders = list(placement.ranks)
        cut = job.cut(table, placement.form, len(holders))
        share = cut[IDS]
        if placement.form == "row-wise":
            each = job.shares(table, len(holders))
            share = job.config.lookups_by_table[table] * each  # (k,) or (P, k)
        lengths[:, holders] += ID * rows * cut[LENGTHS]
        ids[:, holders] += ID * rows * share
        forward[holders] += (rows * cut[FORWARD]).T
        backward[:, holders] += rows * cut[BACKWARD]
        if placement.form == "column-wise" and len(holders) > 1 and job.rule == "rowwise_adagrad":
            squares[np.ix_(holders, holders)] += squares_of(job, table)
    return lengths, ids, forward, backward, squares


@lru_cache(maxsize=4096)
def _touched(rows: int, lookups: float) -> float:
    return distinct(rows, lookups)


def squares_of(job: Job, table: str) -> float:
    """Bytes that a column-wise piece sends each other: a number for each row that is touched.

    Row-wise Adagrad takes the mean square of a whole row's gradient, of which each has a part.
    """
    lookups = job.batch_size * job.config.lookups_by_table[table]
    return NUMBER * _touched(job.config.cardinalities[table], lookups)
