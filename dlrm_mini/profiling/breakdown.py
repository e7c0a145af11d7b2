"""Where the time of a training step goes: measured by part, adding up to the wall.

The step runs under torch.profiler, `labels` marks its parts, and `trace` divides what was recorded.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch.profiler import ProfilerActivity, record_function

from dlrm_mini import devices
from dlrm_mini.datasets.batches import Batch
from dlrm_mini.errors import UserError
from dlrm_mini.prefetching import Prefetched
from dlrm_mini.profiling import trace as traces
from dlrm_mini.profiling.labels import SEPARABLE, has_fused_tables, labelled
from dlrm_mini.training_step import TrainingStep


@dataclass(frozen=True)
class Breakdown:
    """The time of a training step, in milliseconds.

    Attributes:
        parts: part (`profiling.parts`) -> its time; "idle" and "remainder" are always there, and
            all together are `wall_ms`.
        operators: the same time by the operators of the paper's figure.
        wall_ms: of the profiled step, in the repetition whose wall is the median.
        plain_ms: of the same step without the profiler; the median of as many repetitions.
        walls: of the profiled step in every repetition.
        device: where it ran.
        launches: kernels on the device; 0 on a CPU.
    """

    parts: dict[str, float]
    operators: dict[str, float]
    wall_ms: float
    plain_ms: float
    walls: list[float]
    device: Literal["cpu", "cuda"]
    launches: float

    def as_json(self) -> dict[str, Any]:
        """What JSON can hold, for `from_json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Breakdown:
        """The breakdown that `as_json` gave.

        Raises:
            UserError: other fields than a breakdown has.
        """
        try:
            return cls(**record)
        except TypeError as error:
            raise UserError(
                f"A breakdown has the fields {', '.join(cls.__dataclass_fields__)}; found "
                f"{', '.join(record)}. Measure again."
            ) from error


def profile(
    step: TrainingStep,
    batches: Sequence[Batch] | Prefetched,
    *,
    repetitions: int = 5,
    steps: int | None = None,
    trace: Path | None = None,
) -> Breakdown:
    """Measure a training step of a DLRM by part.

    Profiled and plain blocks of steps take turns, after a warm-up that counts for nothing. On a CPU
    a part's time is what its operators and the Python around them take; what the engine of backward
    needs between its nodes is "remainder". With CUDA it is the device's time, "idle" the time in
    which the device waits for the host, and a block ends when the device has finished.

    Labels cannot see into what is compiled or replayed as a graph: with such a `dense_part`, bottom
    MLP, interaction and top MLP are one part, "dense part". Backward of fused tables is their
    update: they have an "embedding update", and no "embedding backward". Tables and MLPs are
    updated one after the other while profiled, which gives the same weights; what a scaler of
    float16 does to all gradients is in the "dense update".

    Args:
        step: what is measured; its weights move as by any other steps.
        batches: taken in turn, again and again; taking one is "input" as well.
        repetitions: of a profiled and a plain block.
        steps: in a block; None: 1 on a CPU and 10 with CUDA.
        trace: where the Chrome trace of the block that is reported is kept, as .json or .json.gz;
            ui.perfetto.dev opens it.

    Raises:
        UserError: no batch, a number below 1, a model without the parts of a DLRM, an optimizer
            that cannot take its step in halves, another device, another profiler at work, or a
            `trace` with another ending or without a folder.
    """
    cuda = step.device.type == "cuda"
    steps = (10 if cuda else 1) if steps is None else steps
    _check(step, batches, repetitions, steps, trace)
    turn = _turn(batches)
    fused = has_fused_tables(step)
    times, plain = [], []
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{number}.json" for number in range(repetitions)]
        for _ in range(2):
            step(next(turn))
        _profiled(step, turn, steps, files[0])  # the first profile in a process is slow
        for file in files:
            _profiled(step, turn, steps, file)
            times.append(traces.attribute(traces.read(file), cuda=cuda, fused=fused))
            plain.append(_plain(step, turn, steps))
        middle = sorted(range(repetitions), key=lambda i: times[i].wall)[(repetitions - 1) // 2]
        if trace is not None:
            _keep(files[middle], trace)
    shown = times[middle]
    return Breakdown(
        parts={part: ms / steps for part, ms in shown.parts.items()},
        operators={name: ms / steps for name, ms in shown.operators.items()},
        wall_ms=shown.wall / steps,
        plain_ms=statistics.median(plain),
        walls=[each.wall / steps for each in times],
        device="cuda" if cuda else "cpu",
        launches=shown.launches / steps,
    )


def _check(
    step: TrainingStep,
    batches: Sequence[Batch] | Prefetched,
    repetitions: int,
    steps: int,
    trace: Path | None,
) -> None:
    """Raise a UserError where `profile` has nothing it could measure."""
    if not batches or repetitions < 1 or steps < 1:
        raise UserError(
            f"There are {len(batches)} batches, {repetitions} repetitions and {steps} steps; "
            "expected at least one of each."
        )
    if torch.autograd._profiler_enabled():  # type: ignore[attr-defined]
        raise UserError(
            "Another profiler is at work here, which a second one would end. Leave it first."
        )
    if step.device.type not in ("cpu", "cuda"):
        raise UserError(f"The model is on {step.device}; steps are profiled on a CPU or with CUDA.")
    if missing := [name for name in ("tables", "bottom", "top") if not hasattr(step.model, name)]:
        raise UserError(
            f"{type(step.model).__name__} has no {' and no '.join(missing)}; expected a DLRM, "
            "whose parts are known."
        )
    if not isinstance(step.optimizer, SEPARABLE):
        raise UserError(
            f"{type(step.optimizer).__name__} may move a parameter by the gradients of others, so "
            "that tables and MLPs cannot be updated one after the other. Profile with one of "
            f"{', '.join(kind.__name__ for kind in SEPARABLE)}."
        )
    if trace is not None and not trace.name.endswith((".json", ".json.gz")):
        raise UserError(f"{trace} is to hold a trace; change its name to end in .json or .json.gz.")
    if trace is not None and not trace.parent.is_dir():
        raise UserError(f"{trace} is to hold a trace, but {trace.parent} is no folder. Make it.")


def _turn(batches: Iterable[Batch]) -> Iterator[Batch]:
    """One batch after the other, without end; with `Prefetched`, copied when it is asked for."""
    while True:
        yield from batches


def _profiled(step: TrainingStep, turn: Iterator[Batch], steps: int, file: Path) -> None:
    """Run a block of steps under the profiler, and write its trace."""
    cuda = step.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    profiler = torch.profiler.profile(activities=activities, acc_events=True)
    with labelled(step):
        devices.synchronize(step.device)
        with _quiet():
            profiler.start()
        try:
            with record_function(traces.BLOCK):
                for _ in range(steps):
                    with record_function("input"):
                        batch = next(turn)
                    step(batch)
                devices.synchronize(step.device)
        finally:
            with _quiet():
                profiler.stop()
    profiler.export_chrome_trace(str(file))


def _plain(step: TrainingStep, turn: Iterator[Batch], steps: int) -> float:
    """Milliseconds of a step in a block without the profiler."""
    devices.synchronize(step.device)
    begin = time.perf_counter()
    for _ in range(steps):
        step(next(turn))
    devices.synchronize(step.device)
    return (time.perf_counter() - begin) * 1e3 / steps


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Leave out the lines about its own start and stop that the profiler writes to stderr."""
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            caught.seek(0)
            for line in caught:
                if not line.startswith(b"USDT:"):
                    os.write(2, line)


def _keep(file: Path, target: Path) -> None:
    """Copy a trace to its place, all of it or nothing."""
    part = target.with_name(f"{target.name}.part")
    try:
        with file.open("rb") as source:
            opened = gzip.open if target.suffix == ".gz" else open
            with opened(part, "wb") as kept:
                shutil.copyfileobj(source, kept)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
