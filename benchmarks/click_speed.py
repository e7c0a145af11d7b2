"""How fast DLRM trains beside DeepCTR-Torch's DeepFM: samples a second on the click task.

The same rows, features, table width, batch size and optimizer (Adam with torch's defaults), as many
parameters up to a thousandth, one thread. Each side has a process of its own, and they take turns,
an epoch each; cutting batches is part of the time. DeepCTR-Torch computes its metrics for every
batch unless it is silenced: both ways are measured. Values are medians of the repetitions; how many
times faster ours is, is the median of that factor within a repetition.
"""

import contextlib
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks import arms, click_rows, peer_env
from benchmarks.report import Row
from dlrm_mini import hardware, style
from dlrm_mini.datasets import movielens, splits
from dlrm_mini.datasets.clicks import click_task

NAME = "click-speed"
REPETITIONS = 7
OURS, PEER, WITH_METRICS = "ours-dlrm", "deepctr-deepfm", "deepctr-deepfm-metrics"
UNIT = "samples/s"
DIM = 16  # as in ours_speed.py and deepctr_speed.py


@dataclass(frozen=True)
class Setup:
    """What both sides train: a batch size and the widths of the hidden layers."""

    batch_size: int
    ours: str  # bottom MLP / top MLP
    peer: str


# About the size of the course's DLRM, with two batch sizes; and DeepFM with its default layers,
# where both sides spend much of their time in the same matrix products. The widths of ours are
# those that make the parameters as many.
SETUPS = {
    "small-1024": Setup(1024, "64/91", "32"),
    "small-2048": Setup(2048, "64/91", "32"),
    "wide-2048": Setup(2048, "64/326,163", "256,128"),
}


@dataclass(frozen=True)
class Epoch:
    """One epoch of one arm: samples a second, and of what."""

    rate: float
    parameters: int
    versions: dict[str, str]


Rates = dict[str, dict[str, list[Epoch]]]  # setup -> arm -> repetition


def run(folder: Path) -> list[Row]:
    """Measure, draw the picture, return the rows."""
    folder.mkdir(parents=True, exist_ok=True)
    rows_file, missing = folder / "bench-click-rows.npz", {}
    ml = movielens.load()
    click_rows.write(click_task(ml, splits.random_split(len(ml.rating))), rows_file)
    with contextlib.ExitStack() as workers:

        def worker(*command: str | Path) -> peer_env.Worker:
            return workers.enter_context(contextlib.closing(peer_env.Worker(command)))

        ours = worker(sys.executable, "-m", "benchmarks.ours_speed")
        asks = {OURS: lambda setup: ours.ask(f"{setup.batch_size}:{setup.ours}")}
        try:
            python = peer_env.of("deepctr", folder)
        except peer_env.PeerError as error:
            missing[PEER] = str(error)
            print(f"SKIPPED {PEER}: {error}", flush=True)
        else:
            peer = worker(python, peer_env.HERE / "deepctr_speed.py", PEER, rows_file)
            asks[PEER] = lambda setup: peer.ask(f"{setup.batch_size}:{setup.peer}:0")
            asks[WITH_METRICS] = lambda setup: peer.ask(f"{setup.batch_size}:{setup.peer}:1")
        rates = take_turns(asks, missing)
    rows_file.unlink()
    rows = to_rows(rates) + arms.to_rows(NAME, arms.Outcome({}, missing), {})
    draw(rows).savefig(folder / f"bench-{NAME}.png")
    return rows


def take_turns(
    asks: dict[str, Callable[[Setup], dict[str, Any]]], missing: dict[str, str]
) -> Rates:
    """Every setup, repetition by repetition, the arms one after the other; the first warms up.

    A peer that fails is dropped from all setups and goes to `missing`, arm -> why.
    """
    rates: Rates = {name: {arm: [] for arm in asks} for name in SETUPS}
    for repetition in range(REPETITIONS + 1):
        for name, setup in SETUPS.items():
            for arm in [arm for arm in asks if arm not in missing]:
                try:
                    epoch = Epoch(**asks[arm](setup))
                except peer_env.PeerError as error:
                    missing[arm] = str(error)
                    print(f"SKIPPED {arm}: {error}", flush=True)
                    continue
                if repetition:
                    rates[name][arm].append(epoch)
            last = {arm: round(e[-1].rate) for arm, e in rates[name].items() if e}
            print(f"repetition {repetition} {name} {last} {UNIT}", flush=True)
    return {
        name: {arm: epochs for arm, epochs in by_arm.items() if arm not in missing}
        for name, by_arm in rates.items()
    }


def to_rows(rates: Rates) -> list[Row]:
    """Medians of the rates, and of how many times faster ours is within a repetition."""
    machine, rows = hardware.describe(), []

    def add(name: str, arm: str, metric: str, values: list[float], unit: str, note: str) -> None:
        value, spread = statistics.median(values), statistics.stdev(values)
        versions = rates[name][arm][0].versions
        about = (value, spread, unit, machine, versions, note)
        rows.append(Row(f"{NAME}-{name}", arm, metric, *about))

    for name, setup in SETUPS.items():
        own = rates[name][OURS]
        for arm, epochs in rates[name].items():
            hidden = setup.ours if arm == OURS else setup.peer
            note = (
                f"{epochs[0].parameters} parameters, hidden layers {hidden}, tables {DIM} wide, "
                f"batch {setup.batch_size}, Adam, one thread; median of {len(epochs)}"
            )
            add(name, arm, "samples_per_s", [epoch.rate for epoch in epochs], UNIT, note)
            if arm != OURS:
                factors = [a.rate / b.rate for a, b in zip(own, epochs, strict=True)]
                add(name, arm, "ours_is_faster", factors, "times", note)
    return rows


def draw(rows: list[Row]) -> Figure:
    """A bar an arm, grouped by setup, with the factor beside the peer's bars."""
    style.use()
    figure = Figure(figsize=(8, 4.2), dpi=100)
    axes = figure.subplots()
    colours = {OURS: style.BLUE, PEER: style.ORANGE, WITH_METRICS: style.YELLOW}
    found = {(row.benchmark, row.arm, row.metric): row for row in rows if row.value is not None}
    for group, name in enumerate(SETUPS):
        for place, (arm, colour) in enumerate(colours.items()):
            row = found.get((f"{NAME}-{name}", arm, "samples_per_s"))
            if row is None:
                continue
            y = group + 0.27 * (place - 1)
            axes.barh(y, row.value, 0.25, xerr=row.spread, color=colour, capsize=3,
                      label=arm if group == 0 else None)  # fmt: skip
            factor = found.get((f"{NAME}-{name}", arm, "ours_is_faster"))
            text = f"{row.value:,.0f}" + (f"   ours: {factor.value:.1f} times" if factor else "")
            axes.text(row.value + (row.spread or 0), y, "  " + text, va="center", fontsize=9)
    labels = [f"{name.split('-')[0]},\nbatch {s.batch_size}" for name, s in SETUPS.items()]
    axes.set_yticks(range(len(SETUPS)), labels)
    axes.set_ylim(len(SETUPS) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    axes.set_xlim(right=axes.get_xlim()[1] * 1.25)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set(
        xlabel="training samples a second, one thread, loading included (median)",
        title="Training speed on the MovieLens click task",
        ylabel="model size and batch",
    )
    axes.legend(loc="lower right")
    return figure
