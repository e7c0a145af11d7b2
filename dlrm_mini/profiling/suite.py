"""Measure training steps, and say what they were measured on: what `bench step` runs.

For every configuration of a preset the arms take turns; then each is profiled, predicted from this
machine's ceilings, and its losses are held to those of plain float32. What does not fit or does not
run is recorded as skipped, with the reason.

Needs torch and numpy, and Triton on a GPU; without numba, fused tables on a CPU run in plain torch.
"""

from __future__ import annotations

import datetime
import gc
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from dlrm_mini import hardware
from dlrm_mini.errors import UserError
from dlrm_mini.profiling import breakdown, ceilings, record, roofline
from dlrm_mini.profiling.ceilings import Ceilings
from dlrm_mini.profiling.plans import ARMS, ORDER, Configuration, Device, plan
from dlrm_mini.profiling.turns import Builder, Ready, compare, curve
from dlrm_mini.profiling.workload import Workload
from dlrm_mini.training_step import TrainingStep

SEED = 0
AGAINST = "sparse"  # what the ratios are to: nn.EmbeddingBag(sparse=True)
VERSIONS = ("torch", "triton", "numpy", "numba")
DIGITS = 6  # kept of a number


@dataclass(frozen=True)
class Budget:
    """How long to measure.

    Attributes:
        repetitions: turns of every arm; odd.
        seconds: of a turn; one step may be longer.
        profiled: repetitions of the breakdown.
        ceilings: seconds for the ceilings.
        beside: seconds an arm takes besides: building, warming up, the breakdown and the losses.
    """

    repetitions: int
    seconds: float
    profiled: int
    ceilings: float
    beside: float


BUDGETS: Mapping[Device, Budget] = {
    "cpu": Budget(repetitions=5, seconds=0.5, profiled=3, ceilings=8.0, beside=10.0),
    "cuda": Budget(repetitions=7, seconds=0.15, profiled=3, ceilings=10.0, beside=4.0),
}


def presets_of(preset: str) -> tuple[str, ...]:
    """The presets that a word of the command names."""
    return ORDER if preset == "all" else (preset,)


def planned(preset: str, device: Device, budget: Budget) -> str:
    """What a run is going to measure, and about how long, for a reader who waits."""
    plans = [one for name in presets_of(preset) for one in plan(name, device)]
    arms = sum(len(one.arms) for one in plans)
    measured = arms * budget.repetitions * budget.seconds
    minutes = (measured + arms * budget.beside + budget.ceilings) / 60
    return (
        f"{preset} on {device}: {arms} entries; of each {budget.repetitions} turns of "
        f"{budget.seconds:g} s, {measured:.0f} s together; about {max(1.0, minutes):.0f} min with "
        "everything else"
    )


class Suite:
    """A run on one device.

    Args:
        device: "cpu" or "cuda".
        command: what a reader types to measure it again.
        budget: how long; None: that of the device.
        quiet: whether nothing is said on standard error.
    """

    def __init__(
        self, device: Device, command: str, budget: Budget | None = None, *, quiet: bool = False
    ) -> None:
        self.device = torch.device(device)
        self.command, self.quiet = command, quiet
        self.budget = budget or BUDGETS[device]
        self.started = time.perf_counter()
        self.about = about(device)
        self.ceilings: Ceilings | None = None

    def say(self, text: str) -> None:
        """A line of progress."""
        if not self.quiet:
            seconds = time.perf_counter() - self.started
            print(f"[{seconds:4.0f} s] {text}", file=sys.stderr, flush=True)

    def run(self, preset: str) -> dict[str, Any]:
        """Measure a preset.

        Returns:
            A record (`record.SCHEMA`) of it alone.

        Raises:
            UserError: there is no such preset.
        """
        begun = time.perf_counter()
        plans = plan(preset, self.about["results"]["device"])
        if self.ceilings is None:
            self._wake_profiler()
            self.say("the ceilings of this machine")
            self.ceilings = ceilings.measure(self.device.type, seconds=self.budget.ceilings)
        results: dict[str, Any] = {"entries": [], "skipped": []}
        for configuration in plans:
            for kind, entry in self.measure(configuration):
                results[kind].append({"preset": preset, **entry})
        when = {
            "date": datetime.date.today().isoformat(),
            "command": self.command,
            "seconds": time.perf_counter() - begun,
        }
        made = {"ceilings": self.ceilings.as_json(), "presets": {preset: when}, **results}
        everything = {
            **self.about, "name": "", "command": self.command, "date": when["date"],
            "results": {**self.about["results"], **rounded(made)},
        }  # fmt: skip
        record.check(everything)
        return everything

    def _wake_profiler(self) -> None:
        """Profile something before a CUDA graph is recorded.

        The profiler's first start has broken graphs from before it (pytorch/pytorch, issue 75504).
        """
        if self.device.type == "cuda":
            workload = plan("tiny", "cuda")[0].workload.but(tables="dense")
            self._breakdown(workload.build(self.device), workload.batches(1), "the profiler")

    def _breakdown(self, step: TrainingStep, data: Any, what: str) -> dict[str, Any] | None:
        """The breakdown as it is recorded; None, and said, where there can be none."""
        try:
            return breakdown.profile(step, data, repetitions=self.budget.profiled).as_json()
        except Exception as error:  # no permission to profile, say: the times are not to be lost
            self.say(f"{what}: no breakdown: {reason(error)}")
            return None

    def measure(self, configuration: Configuration) -> Iterator[tuple[str, dict[str, Any]]]:
        """The entries of a configuration, each with "entries" or "skipped" before it."""
        self.say(f"{configuration.name}: {configuration.about}")
        gc.collect()  # the tables of the configuration before
        if "compiled" in configuration.arms:
            torch.compiler.reset()  # else the eighth model would not be compiled any more
        ready, skipped = self._build(configuration)
        for _ in range(self.budget.repetitions):
            for name in [*ready]:
                try:
                    ready[name].turn()
                except Exception as error:  # the others are not to be lost for it
                    skipped[name] = reason(error)
                    del ready[name]
        against = AGAINST if AGAINST in ready else next(iter(ready), "")
        reference = None
        if configuration.sweep is None and ready:
            try:
                reference = curve(ARMS["naive"], configuration.workload, self.device, SEED)
            except Exception as error:
                self.say(f"{configuration.name}: no losses to compare with: {reason(error)}")
        for name, one in ready.items():
            try:
                entry = self._entry(configuration, name, one, reference)
            except Exception as error:
                skipped[name] = reason(error)
                continue
            times = [rounded(ms) for ms in one.times]
            others = [rounded(ms) for ms in ready[against].times]
            entry["against"] = against
            entry["ratios"] = [ms / other for ms, other in zip(times, others, strict=True)]
            self.say(f"{configuration.name}, {name}: {entry['ms']:.4g} ms")
            yield "entries", entry
        for name, why in skipped.items():
            self.say(f"{configuration.name}, {name}: skipped: {why}")
            yield "skipped", {**self._place(configuration, name), "reason": why}

    def _build(self, configuration: Configuration) -> tuple[dict[str, Ready], dict[str, str]]:
        """The arms that run, warm, and why the others do not."""
        ready: dict[str, Ready] = {}
        skipped: dict[str, str] = {}
        builder = Builder(configuration, self.device, SEED)
        for name in configuration.arms:
            try:
                one = builder.build(name)
                one.warm_up(self.budget.seconds)
            except Exception as error:  # out of memory, no compiler, no kernel for this card
                skipped[name] = reason(error)
            else:
                ready[name] = one
        return ready, skipped

    def _place(self, configuration: Configuration, name: str) -> dict[str, Any]:
        workload = configuration.workload.but(**ARMS[name].changes)
        return {
            "configuration": configuration.name,
            "arm": name,
            "workload": record.as_json(workload),
        }

    def _entry(
        self, configuration: Configuration, name: str, one: Ready, reference: list[float] | None
    ) -> dict[str, Any]:
        times = [rounded(ms) for ms in one.times]
        ms = statistics.median(times)
        shown = self._breakdown(one.step, one.data, f"{configuration.name}, {name}")
        losses = None
        if reference is not None:
            found = curve(ARMS[name], configuration.workload, self.device, SEED)
            losses = compare(found, reference, one.workload.precision)
        return {
            **self._place(configuration, name),
            "sweep": configuration.sweep,
            "scale": configuration.scale,
            "about": configuration.about,
            "prefetch": one.arm.prefetch,
            "kernel": one.kernel,
            "seed": SEED,
            "ms": ms,
            "spread_ms": statistics.stdev(times) if len(times) > 1 else 0.0,
            "repetitions_ms": times,
            "samples_per_s": 1e3 * one.workload.batch_size / ms,
            "breakdown": shown,
            "predicted_ms": self.predict(one.workload, one.arm.prefetch),
            "peak_bytes": one.peak_bytes,
            "curve": losses,
        }

    def predict(self, workload: Workload, prefetch: bool) -> dict[str, float] | None:
        """Part -> ms at this machine's ceilings; None where they know no such precision.

        Of batches that are prefetched only the part of the copy counts that outlasts the step.
        """
        assert self.ceilings is not None
        try:
            predicted: dict[str, float] = rounded(roofline.predict(workload, self.ceilings))
        except UserError:
            return None
        if prefetch:
            copy = predicted.pop("input")
            predicted = {"input": max(0.0, copy - sum(predicted.values())), **predicted}
        return predicted


def about(device: Device) -> dict[str, Any]:
    """What a file says once: hardware, versions, device and threads."""
    machine: dict[str, Any] = {**hardware.describe()}
    if device == "cpu":
        machine["gpu"] = "none"  # that it was measured on
    else:
        properties = torch.cuda.get_device_properties(0)
        machine["gpu_bytes"] = properties.total_memory
        machine["driver"] = driver()
    versions = hardware.versions(*VERSIONS)
    versions["cuda"] = (device == "cuda" and torch.version.cuda) or "none"
    results = {"device": device, "threads": torch.get_num_threads()}
    return {"hardware": machine, "versions": versions, "results": results}


def driver() -> str:
    """The version of NVIDIA's driver, or "unknown"."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.split("\n")[0].strip() or "unknown"


def reason(error: Exception) -> str:
    """Why an arm was skipped, in one line."""
    first = (str(error).strip() or "no reason given").split("\n")[0]
    return first if isinstance(error, UserError) else f"{type(error).__name__}: {first}"


def rounded(value: Any) -> Any:
    """Numbers with `DIGITS` digits, inside whatever holds them."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, Mapping):
        return {name: rounded(inside) for name, inside in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(inside) for inside in value]
    return value
