"""The arms of one configuration, built side by side and timed by turns.

What is measured while a machine warms up, or shares itself with something else, is so for all arms
alike: repetition by repetition they take turns, and what is at one place of their lists belongs
together.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import Any

import torch

from dlrm_mini import devices
from dlrm_mini.datasets.batches import Batch
from dlrm_mini.embeddings import FusedEmbeddingTables
from dlrm_mini.errors import UserError
from dlrm_mini.memory import available_memory, check_fits
from dlrm_mini.prefetching import Prefetched
from dlrm_mini.profiling.plans import ARMS, Arm, Configuration
from dlrm_mini.profiling.workload import Workload
from dlrm_mini.training_step import TrainingStep

HELD = 256_000_000  # bytes of batches that wait in memory, about
ROWS, CURVE_BATCH, CURVE_STEPS, CURVE_RATE = 1000, 256, 30, 0.05
# How far a loss of the curve may be from the reference's, as a share of it. In float32 sums are
# taken in another order; bfloat16 keeps 8 bits of a number, float16 keeps 11.
TOLERANCES = {"float32": 1e-4, "bfloat16": 5e-3, "float16": 2e-3}


@dataclass
class Ready:
    """An arm that has been built.

    Attributes:
        workload: what it does.
        step: does it.
        batches: endless, in its order.
        steps: in a turn.
        times: ms of a step, one for each turn.
    """

    arm: Arm
    workload: Workload
    step: TrainingStep
    data: Any
    batches: Iterator[Batch]
    steps: int = 1
    peak_bytes: int | None = None
    times: list[float] = field(default_factory=list)

    @property
    def kernel(self) -> str | None:
        """What works on fused tables: "cpu", "gpu" or "reference"; None for others."""
        model: Any = self.step.model
        tables = model.tables
        if not isinstance(tables, FusedEmbeddingTables):
            return None
        return str(tables.kernels().__name__.rpartition(".")[2])

    def turn(self) -> None:
        """Time some steps."""
        self.times.append(1e3 * self.run(self.steps) / self.steps)

    def run(self, steps: int) -> float:
        """The seconds that some steps take; the gradients are dropped."""
        device = self.step.device
        devices.synchronize(device)
        started = time.perf_counter()
        for _ in range(steps):
            self.step(next(self.batches))
        devices.synchronize(device)
        seconds = time.perf_counter() - started
        self.step.optimizer.zero_grad(set_to_none=True)  # dense ones are as large as the tables
        return seconds

    def warm_up(self, seconds: float) -> None:
        """Find out how many steps fill a turn of so many seconds, and the memory of a step."""
        self.run(2)
        once = self.run(1)
        if (device := self.step.device).type == "cuda":
            once = self.run(5) / 5
            before = torch.cuda.memory_allocated(device)
            torch.cuda.reset_peak_memory_stats(device)
            self.run(1)
            step = torch.cuda.max_memory_allocated(device) - before
            held = chain(self.step.model.parameters(), self.step.model.buffers())
            self.peak_bytes = step + sum(t.numel() * t.element_size() for t in held)
        self.steps = max(1, round(seconds / once))


class Builder:
    """Builds the arms of a configuration; those with the same kind of tables share their weights.

    So that all arms together need little more memory than one: only times are measured on them.
    """

    def __init__(self, configuration: Configuration, device: torch.device, seed: int) -> None:
        self.configuration, self.device, self.seed = configuration, device, seed
        self.first: dict[str, TrainingStep] = {}  # kind of tables -> what was built first
        workload = configuration.workload
        one = workload.batches(1, seed)
        size = sum(t.numel() * t.element_size() for t in _tensors(one[0]))
        number = min(8, max(2, HELD // size))
        self.batches = one + workload.batches(number - 1, seed + 1)

    def build(self, name: str) -> Ready:
        """An arm.

        Raises:
            UserError: it does not fit in memory, or cannot run here.
        """
        arm = ARMS[name]
        workload = self.configuration.workload.but(**arm.changes)
        self._check_memory(workload)
        step = self._step(workload)
        data: Any = self.batches
        if arm.prefetch:
            pinned = [batch.moved(torch.Tensor.pin_memory) for batch in data]
            data = Prefetched(pinned, self.device)
        return Ready(arm, workload, step, data, chain.from_iterable(repeat(data)))

    def _step(self, workload: Workload) -> TrainingStep:
        kind = workload.tables
        if (first := self.first.get(kind)) is not None:
            choices: dict[str, Any] = {
                "precision": workload.precision, "dense_part": workload.dense_part
            }  # fmt: skip
            return TrainingStep(first.model, first.optimizer, **choices)
        with self.device:  # numbers are drawn there: gigabytes of them take seconds on a CPU
            step = workload.build(self.device, self.seed)
        for other in self.first.values():
            _share(step, other)
        self.first[kind] = step
        return step

    def _check_memory(self, workload: Workload) -> None:
        """Raise a UserError unless tables, gradients and lookups fit beside what is there."""
        if workload.tables in self.first:
            return
        config = workload.config
        free = available_memory()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            free = torch.cuda.mem_get_info(self.device)[0]
        if free is None:
            return
        # A dense gradient is as large as the tables, and there is none while others are built.
        copies = 2 if "dense" in (workload.tables, *self.first) else 1
        lookups = workload.batch_size * sum(config.lookups_by_table.values())
        by_lookup = 3 * lookups * (4 * config.dim + 16) if workload.tables == "sparse" else 0
        check_fits(
            config.cardinalities,
            config.dim,
            bytes_per_number=4 * copies,
            available=int(0.9 * free) - by_lookup,
        )


def _share(step: TrainingStep, other: TrainingStep) -> None:
    """Let tables with dense and with sparse gradients be the same memory."""
    models: tuple[Any, Any] = step.model, other.model
    mine, theirs = ([*model.tables.parameters()] for model in models)
    if [p.shape for p in mine] == [p.shape for p in theirs]:  # else one of them is stacked
        for parameter, shared in zip(mine, theirs, strict=True):
            parameter.data = shared.data


def _tensors(batch: Batch) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []
    batch.moved(lambda tensor: found.append(tensor) or tensor)  # type: ignore[func-returns-value]
    return found


def curve(arm: Arm, workload: Workload, device: torch.device, seed: int) -> list[float]:
    """The losses of the first steps of an arm, on the model's shapes but small tables.

    Few rows are touched often, so that a wrong update shows; and batches come again, so that the
    losses fall. All arms begin with the same weights.
    """
    rows = {name: min(n, ROWS) for name, n in workload.config.cardinalities.items()}
    batch_size = min(workload.batch_size, CURVE_BATCH)
    small = workload.but(cardinalities=rows, batch_size=batch_size)
    plain = small.but(tables="dense", precision="float32", dense_part="eager")
    step = small.but(**arm.changes).build(device, seed)
    step.model.load_state_dict(plain.build("cpu", seed).model.state_dict())
    for group in step.optimizer.param_groups:
        group["lr"] = CURVE_RATE
    batches: Any = small.batches(4, seed)
    if arm.prefetch:
        batches = Prefetched(batches, device)
    turn = chain.from_iterable(repeat(batches))
    return torch.stack([step(next(turn)) for _ in range(CURVE_STEPS)]).tolist()


def compare(found: list[float], reference: list[float], precision: str) -> dict[str, Any]:
    """A curve as it is recorded.

    Raises:
        UserError: a loss is not finite.
    """
    if not all(map(math.isfinite, (*found, *reference))):
        raise UserError("A loss is not finite; expected those of plain float32, to rounding.")
    pairs = zip(found, reference, strict=True)
    return {
        "losses": found,
        "rows": ROWS,
        "batch_size": CURVE_BATCH,
        "rate": CURVE_RATE,
        "deviation": max(abs(mine - other) / other for mine, other in pairs),
        "tolerance": TOLERANCES[precision],
    }
