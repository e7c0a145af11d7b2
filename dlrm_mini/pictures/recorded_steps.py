"""Chapter 11's picture of recorded steps: measured bars, solid, with their prediction hatched."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dlrm_mini import style
from dlrm_mini.pictures.sparse_training import modelled
from dlrm_mini.pictures.step_time import legend, milliseconds, stack
from dlrm_mini.plots import GROUP_COLOURS
from dlrm_mini.profiling.parts import grouped

SHOWN = ("milliseconds", "shares", "samples/s")
AXIS = {
    "milliseconds": "milliseconds of a step: median ± standard deviation",
    "shares": "share of the step",
    "samples/s": "training samples a second",
}


@dataclass(frozen=True)
class Row:
    """One measured way to train one configuration.

    Attributes:
        name: for the reader.
        ms: of a step, the median without the profiler.
        spread: standard deviation of the repetitions, ms.
        batch_size: B.
        parts: part -> ms with the profiler; None where only the whole step was timed.
        predicted: part -> ms by the ceilings of the machine; None where there is no prediction.
    """

    name: str
    ms: float
    spread: float
    batch_size: int
    parts: Mapping[str, float] | None
    predicted: Mapping[str, float] | None

    def groups(self) -> dict[str, float] | None:
        """The measured step split as the profiler saw it: its shares of the time without it."""
        if self.parts is None:
            return None
        groups = grouped(self.parts)
        whole = sum(groups.values())
        return {group: self.ms * ms / whole for group, ms in groups.items()}


def recorded_steps(rows: Sequence[Row], *, show: str, title: str, foot: str) -> Figure:
    """A solid bar for every measured step, its prediction hatched under it.

    Args:
        rows: from top to bottom; none draws a sentence.
        show: one of `SHOWN`.
        title: what was measured.
        foot: hardware, date and command, and what is not measured yet.
    """
    lines = 0.17 * (foot.count("\n") + 1)  # inches
    high = 1.65 + lines + 0.5 * max(len(rows), 2)
    picture = Figure(figsize=(10.2, high), constrained_layout=False)
    axes = picture.add_axes((0.27, (1.05 + lines) / high, 0.71, 1 - (1.5 + lines) / high))
    draw = _throughput if show == "samples/s" else _stacks
    ends = [draw(axes, place, row, show) for place, row in enumerate(rows)]
    longest = max(ends, default=0.0) or 1.0  # there may be no row, or none that is split
    for place, row in enumerate(rows):
        end, text = _label(row, show)
        axes.text(end + 0.012 * longest, place - 0.13, text, va="center", fontsize=9.5)
    names = [textwrap.fill(row.name, 30) for row in rows]
    axes.set_yticks(range(len(rows)), names, fontsize=9.5)
    axes.set(xlim=(0, 1.2 * longest), ylim=(max(len(rows), 1) - 0.4, -0.6))
    axes.set(title=title, xlabel=AXIS[show], ylabel="way to train")
    axes.yaxis.set_label_coords(-0.345, 0.5)
    axes.grid(axis="y", visible=False)
    if show == "shares":
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
    else:
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.6g}")
    if not rows:
        axes.set_xticks([])
        axes.text(0.5, 0.5, "not yet measured", transform=axes.transAxes, ha="center",
                  fontsize=15, color=style.GREY)  # fmt: skip
    if show == "samples/s":
        colours = {"measured": style.SKY}
    elif all(row.parts for row in rows):
        colours = GROUP_COLOURS
    else:
        colours = {**GROUP_COLOURS, "not split": style.INK}
    legend(picture, colours, y=(0.1 + lines) / high)
    picture.text(0.5, 0.1 / high, foot, ha="center", fontsize=8.5, color=style.GREY)
    return picture


def _stacks(axes: Axes, place: float, row: Row, show: str) -> float:
    """Both bars of a row, by groups; returns where the longer one ends."""
    ends = []
    for groups, middle, height, hatched in (
        (row.groups(), place - 0.13, 0.36, False),
        (row.predicted and grouped(row.predicted), place + 0.2, 0.2, True),
    ):
        if groups is None:
            continue
        whole = sum(groups.values()) if show == "shares" else 1.0
        parts = {group: value / whole for group, value in groups.items()}
        ends.append(stack(axes, middle, parts, height, hatched=hatched))
    if row.parts is None and show == "milliseconds":  # timed as a whole
        axes.barh(place - 0.13, row.ms, 0.36, color=style.INK)
        ends.append(row.ms)
    return max(ends, default=0.0)


def _throughput(axes: Axes, place: float, row: Row, show: str) -> float:
    """Samples a second, measured and predicted; returns where the longer bar ends."""
    ends = [_label(row, show)[0]]
    axes.barh(place - 0.13, ends[0], 0.36, color=style.SKY)
    if row.predicted:
        ends.append(1e3 * row.batch_size / sum(row.predicted.values()))
        look: dict[str, Any] = modelled(style.SKY)
        axes.barh(place + 0.2, ends[1], 0.2, **look)
    return max(ends)


def _label(row: Row, show: str) -> tuple[float, str]:
    """Where the measured bar of a row ends, and what is written there."""
    if show == "samples/s":
        samples = 1e3 * row.batch_size / row.ms
        return samples, f"{samples:,.0f}"
    text = milliseconds(row.ms)
    if show == "milliseconds":
        return row.ms, text + (f" ± {row.spread:.2g}" if row.spread else "")
    return (1.0, text) if row.parts else (0.0, f"{text}, not split into parts")
