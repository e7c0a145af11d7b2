"""Chapter 11's pictures of whole steps: the ladder, the batch sweep, the paper's 1,000 batches."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from dlrm_mini import style
from dlrm_mini.pictures.sparse_training import modelled
from dlrm_mini.pictures.step_time import NEGLIGIBLE, milliseconds, stack
from dlrm_mini.plots import GROUP_COLOURS
from dlrm_mini.profiling.parts import grouped


class Ladder(NamedTuple):
    """The rungs on one machine.

    Attributes:
        title: the machine and the size.
        measured: way to train -> milliseconds of a step.
        predicted: the same; a way that is in neither was not tried there.
    """

    title: str
    measured: Mapping[str, float]
    predicted: Mapping[str, float]


def ladders(found: Sequence[Ladder], *, guess: float) -> Figure:
    """A panel for each ladder: a solid bar for each rung measured, a hatched one if predicted.

    Args:
        found: side by side; the rungs are those of all.
        guess: the reader's, times as fast the last rung is as the first.
    """
    each = (name for one in found for ms in (one.predicted, one.measured) for name in ms)
    names = list(dict.fromkeys(each))
    picture = Figure(figsize=(10.4, 1.5 + 0.46 * len(names)), layout="constrained")
    panels = picture.subplots(1, len(found), sharey=True, squeeze=False)[0]
    for axes, one in zip(panels, found, strict=True):
        for place, name in enumerate(names):
            _rung(axes, place, name, one)
        shown = one.measured or one.predicted
        first, last = next(name for name in names if name in shown), list(shown)[-1]
        axes.plot(shown[first] / guess, names.index(last) + 0.4, "*", color=style.RED,
                  markersize=13, label="your guess", zorder=5)  # fmt: skip
        longest = max(*one.measured.values(), *one.predicted.values())
        axes.set(xlabel="milliseconds of a step", xlim=(0, 1.42 * longest))
        axes.set_title(one.title, fontsize=11)
        axes.grid(axis="y", visible=False)
        axes.legend(loc="lower right", fontsize=9.5)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].invert_yaxis()
    panels[0].set_ylabel("way to train")
    return picture


def _rung(axes: Axes, place: int, name: str, one: Ladder) -> None:
    """The bars of one way, and in words its time and how many times as fast it is as the first."""
    alone = not (one.measured and one.predicted)
    if name in one.predicted:
        middle, height = (place, 0.6) if alone else (place + 0.22, 0.2)
        axes.barh(middle, one.predicted[name], height, **modelled(style.BLUE))
    if name in one.measured:
        middle, height = (place, 0.6) if alone else (place - 0.1, 0.4)
        axes.barh(middle, one.measured[name], height, color=style.BLUE)
    shown = one.measured or one.predicted
    if name not in shown:
        axes.annotate("not tried here", (0, place), (4, 0), textcoords="offset points",
                      va="center", fontsize=9.5, color=style.GREY)  # fmt: skip
        return
    first = next(iter(shown))
    words = milliseconds(shown[name])
    words += "" if name == first else f", {shown[first] / shown[name]:.1f} times"
    end = max(shown[name], one.predicted.get(name, 0.0))
    axes.annotate(words, (end, place), (5, 0), textcoords="offset points", va="center",
                  fontsize=9.5)  # fmt: skip


class Sweep(NamedTuple):
    """Steps with batches of several sizes.

    Attributes:
        batches: their sizes.
        ms: of a step.
        idle: share of the step in which the device waits for the host; None: not known.
        measured: whether they were; else predicted.
    """

    batches: Sequence[int]
    ms: Sequence[float]
    idle: Sequence[float] | None
    measured: bool


def batch_sweep(sweeps: Mapping[str, Sweep]) -> Figure:
    """Left time per sample by batch size; right how much of a step the device waits.

    Args:
        sweeps: what was trained where -> its steps; solid lines are measured, dashed predicted.
    """
    picture = Figure(figsize=(10.4, 4.0), layout="constrained")
    left, right = picture.subplots(1, 2)
    for (name, sweep), colour in zip(sweeps.items(), style.PALETTE, strict=False):
        look: dict[str, Any] = {"color": colour, "label": name}
        look |= {"marker": "o"} if sweep.measured else {"linestyle": (0, (4, 2))}
        each = 1e3 * np.array(sweep.ms) / np.array(sweep.batches)
        left.plot(sweep.batches, each, **look)
        if sweep.idle is not None:
            right.plot(sweep.batches, 100 * np.array(sweep.idle), **look)
    right.axhline(50, **style.LITERATURE)
    right.text(right.get_xlim()[1], 51, "half of the step", ha="right", va="bottom", fontsize=9)
    sizes = sorted({size for sweep in sweeps.values() for size in sweep.batches})
    shown = sizes[:: -(-len(sizes) // 6)]
    for axes in (left, right):
        axes.set(xscale="log", xlabel="batch size")
        axes.set_xticks(shown, [f"{size:,}" for size in shown])
        axes.minorticks_off()
    left.set(yscale="log", ylabel="microseconds a sample", title="A larger batch is cheaper ...")
    right.set(ylim=(0, 102), ylabel="per cent of the step")
    right.set_title("... while the device waits for launches")
    picture.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=2,
                   fontsize=9.5, title="dashed: predicted; solid: measured",
                   title_fontsize=9.5)  # fmt: skip
    return picture


class Run(NamedTuple):
    """A thousand batches on one machine.

    Attributes:
        name: the machine, and how it trains.
        seconds: of all of them.
        parts: part of a step -> any unit of time; None where no split is known.
        kind: how the seconds are known: "extrapolated" is measured for some steps, times a
            thousand; "published" by the paper.
    """

    name: str
    seconds: float
    parts: Mapping[str, float] | None
    kind: Literal["published", "extrapolated", "predicted"]


PAPER = {"facecolor": "white", "edgecolor": "none", "pad": 1.2}  # behind words on a line
KNOWN_BY = {
    "published": "published",
    "extrapolated": "1,000 times a step",
    "predicted": "predicted",
}


def thousand_batches(runs: Sequence[Run], *, guess: float, of: str, title: str) -> Figure:
    """Left the seconds of each run, on a logarithmic axis; right the shares of its groups of parts.

    Args:
        runs: from top to bottom.
        guess: the reader's, in seconds.
        of: what the guess is about.
        title: what is trained.
    """
    picture = Figure(figsize=(10.4, 1.7 + 0.52 * len(runs)), layout="constrained")
    left, right = picture.subplots(1, 2, sharey=True, width_ratios=(1.2, 1))
    for place, run in enumerate(runs):
        hatched = run.kind == "predicted"
        look: dict[str, Any] = modelled(style.SKY) if hatched else {"color": style.SKY}
        if run.kind == "published":
            look["color"] = style.INK
        left.barh(place, run.seconds, 0.6, **look)
        number = f"{run.seconds:,.0f}" if run.seconds >= 100 else f"{run.seconds:.3g}"
        words = f"{number} s, {KNOWN_BY[run.kind]}"
        left.text(1.12 * run.seconds, place, words, va="center", fontsize=9.5, bbox=PAPER)
        _shares(right, place, run, hatched)
    left.axvline(guess, color=style.RED, linestyle=":", linewidth=1.8, zorder=0.9)
    right.axvline(NEGLIGIBLE, color=style.INK, linestyle="--", linewidth=1.2)
    least = min(min(run.seconds for run in runs), guess)
    most = max(max(run.seconds for run in runs), guess)
    left.set(xscale="log", xlim=(0.3 * least, 300 * most), xlabel="seconds, logarithmic")
    left.set(title="A thousand batches of 2,048", ylabel="machine, way to train")
    left.set_xticks([1, 10, 100, 1000], ["1", "10", "100", "1,000"])
    left.minorticks_off()
    left.set_yticks(range(len(runs)), [textwrap.fill(run.name, 30) for run in runs],
                    fontsize=9.5)  # fmt: skip
    left.set_ylim(len(runs) - 0.3, -0.6)
    right.set(xlim=(0, 1), xlabel="share of the step", title="Who takes them")
    right.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
    for axes in (left, right):
        axes.grid(axis="y", visible=False)
    handles: list[Any] = [Patch(color=c, label=group) for group, c in GROUP_COLOURS.items()]
    handles += [
        Patch(color=style.INK, label="published"),
        Patch(color=style.SKY, label="measured, one step"),
        Patch(**modelled(style.SKY), label="predicted"),
        Line2D([], [], color=style.RED, linestyle=":", label=f"your guess, {of}"),
        Line2D([], [], color=style.INK, linestyle="--",
               label=f"negligible: below {100 * NEGLIGIBLE:.0f} %"),
    ]  # fmt: skip
    picture.legend(handles=handles, loc="outside lower center", ncols=5, fontsize=9)
    picture.suptitle(title, x=0.01, ha="left", fontsize=12, weight="bold")
    return picture


def _shares(axes: Axes, place: int, run: Run, hatched: bool) -> None:
    """One bar of shares, fully connected layers first, with theirs in figures."""
    if run.parts is None:
        axes.text(0.13, place, "not known", va="center", fontsize=9.5, color=style.GREY)
        return
    groups = grouped(run.parts)
    whole = sum(groups.values())
    order = sorted(groups, key=lambda group: group != "fully connected")
    shares = {group: groups[group] / whole for group in order}
    stack(axes, place, shares, 0.6, hatched=hatched)
    share = shares["fully connected"]
    axes.text(share + 0.01, place, f"{100 * share:.0f} %", va="center", fontsize=9.5, zorder=3,
              bbox=PAPER)  # fmt: skip
