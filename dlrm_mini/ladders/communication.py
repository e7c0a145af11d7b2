"""Chapter 14's computations: shares of a step for any link and any number of ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlrm_mini.errors import UserError
from dlrm_mini.models.dlrm_config import DLRMConfig
from dlrm_mini.models.dlrm_presets import PRESETS, terabyte
from dlrm_mini.parallel.cost_parts import ANNOUNCED, LOSS, matrices, parts_of, stages
from dlrm_mini.parallel.loads import Job
from dlrm_mini.parallel.machine import Machine
from dlrm_mini.parallel.schedule import NET, in_turn, overlapping, visible
from dlrm_mini.parallel.sharding import Placement, Plan
from dlrm_mini.pictures.communication_costs import Published
from dlrm_mini.pictures.crossover_map import Landscape
from dlrm_mini.profiling.known_hardware import KNOWN
from dlrm_mini.profiling.work import NUMBER

Floats = NDArray[np.float64]
MODELS = {"terabyte": terabyte, **PRESETS}
RANKS = (2, 4, 8, 16, 32, 64, 128)
BANDWIDTHS = np.geomspace(0.5e9, 600e9, 40)
ALPHA = 5e-6  # seconds, about what `LINKS` have: 3.4 to 10 millionths
READINGS: Mapping[str, tuple[str, ...]] = {
    "vectors": ("forward", "backward"),
    "all-to-all": ("inputs", "forward", "backward", "squares"),
    "all communication": NET,
}
"""What "all-to-all" may mean -> stages of `parallel.schedule`."""


def tf32(name: str) -> Machine:
    """A known GPU that multiplies float32 numbers after rounding them to 19 bits, as TF32.

    PyTorch 1.7 to 1.11 did so on an A100 unless told otherwise. The peak is half of bfloat16's on
    both GPUs that have it, as in PyTorch 2.13's torch/_inductor/analysis/device_info.py.

    Args:
        name: "A100 80 GB" or "H100 80 GB".
    """
    sheet = KNOWN[name]
    points = ((1.0, 1.0, 1.0, sheet.best("bfloat16") / 2),)
    return Machine(replace(sheet, products={**sheet.products, "float32": points}))


GPUS: Mapping[str, Machine] = {
    "V100": Machine(KNOWN["V100 16 GB"]),
    "A100": Machine(KNOWN["A100 80 GB"]),
    "A100, TF32": tf32("A100 80 GB"),
    "A100, bfloat16": Machine(KNOWN["A100 80 GB"], "bfloat16"),
    "H100, bfloat16": Machine(KNOWN["H100 80 GB"], "bfloat16"),
}
"""Known GPUs; products are in float32 where nothing else is said."""


TORCHREC = (  # torchrec_dlrm/README.MD of facebookresearch/dlrm, commit 045094c
    Published(1, 16_384, 740_065),
    Published(4, 16_384, 1_458_176),
    Published(8, 16_384, 1_671_168),
    Published(8, 2_048, 284_615),
    Published(8, 65_536, 5_373_952),
)


def dealt(config: DLRMConfig, ranks: int) -> Plan:
    """Tables dealt out in turn, whole; with twice as many ranks as tables or more, cut by columns.

    A plan for any number of ranks that takes no search.

    Raises:
        UserError: there is no rank.
    """
    if ranks < 1:
        raise UserError(f"There are {ranks} ranks to deal tables to; expected at least 1.")
    names = list(config.cardinalities)
    pieces = min(max(1, ranks // len(names)), config.dim)
    placements = {}
    for place, name in enumerate(names):
        holders = tuple((place * pieces + piece) % ranks for piece in range(pieces))
        form: Any = "table-wise" if pieces == 1 else "column-wise"
        placements[name] = Placement(form, holders)
    return Plan(ranks, config.cardinalities, config.dim, placements)


def landscape(
    config: DLRMConfig,
    machine: Machine,
    batch: int,
    *,
    weak: bool = True,
    overlap: bool = False,
    number: int = 4,
    ranks: Sequence[int] = RANKS,
    bandwidths: Floats = BANDWIDTHS,
    alpha: float | Sequence[float] = ALPHA,
) -> Landscape:
    """What `step_cost` has under `dealt` and plain SGD, for many links at once.

    Args:
        config: the model.
        machine: what each rank computes with.
        batch: rows of each rank (weak scaling) or of all together (strong).
        weak: which of the two.
        overlap: as in `step_cost`.
        number: bytes of a number of vectors and their gradients: 4, 2 or 1.
        ranks: every P.
        bandwidths: (m,) bytes a second of the link that is everywhere.
        alpha: seconds of a message over it; one for all links, or (m,).
    """
    begins = np.broadcast_to(np.asarray(alpha, dtype=float), bandwidths.shape)
    shares: dict[str, list[Floats]] = {name: [] for name in READINGS}
    seconds = []
    for size in ranks:
        total = batch * size if weak else batch
        job = Job(config, size, machine, total, "sgd", number, number)
        plan = dealt(config, size)
        load: Any = sum(job.load(name, plan.placements[name]) for name in plan.placements)
        parts = parts_of(job, np.broadcast_to(load, (len(bandwidths), *load.shape)))
        schedule = (overlapping if overlap else in_turn)(
            stages(parts, _net(job, plan, begins, bandwidths))
        )
        seen, _ = visible(schedule)
        seconds.append(schedule.seconds)
        for reading, names in READINGS.items():
            waits = sum(seen[name].mean(-1) for name in names)
            shares[reading].append(waits / schedule.seconds)
    found = {name: np.stack(rows) for name, rows in shares.items()}
    return Landscape(tuple(ranks), bandwidths, found, np.stack(seconds))


def _net(job: Job, plan: Plan, alpha: Floats, beta: Floats) -> dict[str, Floats]:
    """Stage -> (m,) seconds of its collectives over each link: `Topology.seconds` of one link."""
    size = job.size
    lengths, ids, forward, backward, squares = (
        _shuffles(matrix, alpha, beta) for matrix in matrices(job, plan)
    )
    gathered = (size - 1) * (alpha + ANNOUNCED / beta)
    reduced = NUMBER * (job.replicated() + LOSS)
    return {
        "inputs": gathered + lengths + ids,
        "forward": forward,
        "backward": backward,
        "squares": squares,
        "reduce": 2 * (size - 1) * (alpha + reduced / size / beta),
    }


def _shuffles(matrix: Floats, alpha: Floats, beta: Floats) -> Floats:
    """(m,) seconds of an all-to-all of these bytes: its slowest port."""
    others = np.where(np.eye(len(matrix), dtype=bool), 0.0, matrix)
    messages = np.concatenate([(others > 0).sum(axis) for axis in (0, 1)])
    sent = np.concatenate([others.sum(axis) for axis in (0, 1)])
    took: Floats = (messages * alpha[:, None] + sent / beta[:, None]).max(-1)
    return took
