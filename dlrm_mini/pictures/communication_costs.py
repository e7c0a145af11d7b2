"""Chapter 14's pictures: messages against their size, and steps taken apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray

from dlrm_mini import style
from dlrm_mini.parallel.events import Event
from dlrm_mini.parallel.fit import Sample
from dlrm_mini.parallel.topology import LINKS, Link
from dlrm_mini.parallel.traffic import Operation
from dlrm_mini.pictures.sparse_training import modelled
from dlrm_mini.pictures.timeline import draw_timeline

Floats = NDArray[np.float64]
Breakdown = Mapping[str, float]
PALE, DARK = style.PALE_PURPLE, style.DARK_PURPLE  # of communication's purple
OPERATION_COLOURS: dict[Operation, str] = {
    "all_to_all": style.COMMUNICATION, "all_reduce": DARK, "all_gather": PALE,
}  # fmt: skip
LAYERS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    **{name: (colour, (name,)) for name, colour in style.GROUP_COLOURS.items()},
    "all-to-all of vectors": (
        style.COMMUNICATION, ("all-to-all forward", "all-to-all backward"),
    ),
    "all-to-all of ids": (PALE, ("input exchange", "squares")),
    "all-reduce": (DARK, ("all-reduce",)),
    "waiting for slower ranks": ("white", ("waiting",)),
}  # fmt: skip
"""Layer of a bar -> its colour, and the entries of `StepCost.breakdown` that it is made of."""
LINK_COLOURS = dict(zip(LINKS, (style.BLUE, style.GREEN, style.ORANGE, style.RED), strict=True))


class Published(NamedTuple):
    """One run of TorchRec's public example on the terabyte, on A100s of 40 GB in one node.

    Attributes:
        ranks: P.
        batch_size: B.
        rows_a_second: of training.
    """

    ranks: int
    batch_size: int
    rows_a_second: int

    @property
    def milliseconds(self) -> float:
        """Of a step."""
        return 1e3 * self.batch_size / self.rows_a_second


def sweep(
    samples: Sequence[Sample], links: Mapping[Operation, Link], guess: Link, machine: str
) -> Figure:
    """Measured seconds against bytes, a fitted line each, and where alpha and beta are equal.

    Args:
        samples: of collectives.
        links: operation -> what was fitted to it.
        guess: the reader's, of an all-to-all.
        machine: what it was measured on.
    """
    figure = Figure(figsize=(10.4, 4.0), layout="constrained")
    axes = figure.subplots()
    for name, link in links.items():
        mine = sorted((s for s in samples if s.operation == name), key=lambda s: s.nbytes)
        sizes, words = [s.nbytes for s in mine], name.replace("_", "-")
        colour = OPERATION_COLOURS[name]
        axes.plot(sizes, [1e6 * s.seconds for s in mine], "o", color=colour,
                  label=f"{words}, measured")  # fmt: skip
        axes.plot(sizes, [1e6 * s.predicted(link) for s in mine], "--", color=colour,
                  linewidth=1.4, label=f"{words}, line")  # fmt: skip
        one = mine[-1]
        half = link.alpha * link.beta * one.messages * one.nbytes / one.moved
        axes.plot(half, 2e6 * one.messages * link.alpha, "D", color=colour, markersize=9,
                  markeredgecolor="white")  # fmt: skip
    shuffles = sorted(
        (s.nbytes, s.predicted(guess)) for s in samples if s.operation == "all_to_all"
    )
    axes.plot([n for n, _ in shuffles], [1e6 * seconds for _, seconds in shuffles],
              color=style.RED, linewidth=1.4, label="your guess, all-to-all")  # fmt: skip
    axes.set(xscale="log", yscale="log", title="What a message takes", ylabel="µs",
             xlabel=f"bytes of the whole tensor ({machine})")  # fmt: skip
    figure.legend(loc="outside right upper", fontsize=9.5)
    return figure


def steps(found: Mapping[str, Mapping[str, Mapping[int, Breakdown]]], title: str) -> Figure:
    """Steps as shares: a row a model, a column a link, a bar a number of ranks.

    Args:
        found: model -> link -> P -> `StepCost.breakdown`, seconds.
        title: what the picture shows.
    """
    columns = len(next(iter(found.values())))
    figure = Figure(figsize=(11.0, 1.3 + 2.5 * len(found)), layout="constrained")
    grid = figure.subplots(len(found), columns, sharey=True, sharex=True, squeeze=False)
    for row, (model, links) in zip(grid, found.items(), strict=True):
        for axes, (link, bars) in zip(row, links.items(), strict=True):
            for place, breakdown in enumerate(bars.values()):
                _stack(axes, place, breakdown)
            axes.axhline(50, color=style.INK, linewidth=1.0, linestyle="--")
            axes.set_xticks(range(len(bars)), [str(size) for size in bars])
            axes.grid(visible=False)
            axes.set(ylim=(0, 100))
            axes.set_title(f"{model}, {link}", fontsize=10.5, pad=15)
        row[0].set_ylabel("share of the step, %")
    for axes in grid[-1]:
        axes.set_xlabel("ranks")
    words = f"{title}; above each bar: its ms, modelled"
    figure.suptitle(words, x=0.01, ha="left", weight="bold", fontsize=12)
    _legend(figure)
    return figure


def _stack(axes: Axes, place: int, breakdown: Breakdown) -> None:
    total, bottom = sum(breakdown.values()), 0.0
    for colour, names in LAYERS.values():
        high = 100 * sum(breakdown[name] for name in names) / total
        axes.bar(place, high, 0.86, bottom=bottom, **modelled(colour), linewidth=0)
        bottom += high
    axes.text(place, 101, _short(1e3 * total), fontsize=8, ha="center", va="bottom")


def _legend(figure: Figure) -> None:
    handles = [
        Patch(**(modelled(colour) | {"edgecolor": style.GREY if colour == "white" else "white"}),
              label=name) for name, (colour, _) in LAYERS.items()
    ]  # fmt: skip
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=9.5)


def _short(number: float) -> str:
    return f"{number:.0f}" if number >= 10 else f"{number:.1f}"


def same_batch(
    found: Mapping[str, tuple[Sequence[int], Mapping[str, Floats]]], batch: int
) -> Figure:
    """Strong scaling: the time of a step against ranks, a panel a model, a line a link.

    Args:
        found: model -> (ranks; link -> (n,) seconds), the first of which is one rank.
        batch: rows of all ranks together.
    """
    figure = Figure(figsize=(10.4, 4.2), layout="constrained")
    panels = figure.subplots(1, len(found), squeeze=False)[0]
    for axes, (model, (ranks, links)) in zip(panels, found.items(), strict=True):
        for link, seconds in links.items():
            took, colour = 1e3 * np.asarray(seconds), LINK_COLOURS[link]
            axes.plot(ranks, took, "--o", color=colour, label=link, markerfacecolor="white")
            best = int(took.argmin())
            axes.plot(ranks[best], took[best], "o", color=colour, markersize=11)
        ideal = took[0] / np.asarray(ranks)
        axes.plot(ranks, ideal, color=style.GREY, linewidth=1.0, label="one rank's time / P")
        axes.set(xscale="log", yscale="log", title=model, xlabel="ranks",
                 ylabel=f"ms for {batch:,} rows, modelled",
                 ylim=(0.5 * min(took.min(), took[0] / 8), None))  # fmt: skip
        axes.set_xticks(ranks, [str(size) for size in ranks])
        axes.xaxis.set_minor_locator(NullLocator())
    handles, labels = panels[-1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5)
    return figure


def published_runs(
    runs: Sequence[Published], predicted: Mapping[str, Sequence[Breakdown]], title: str
) -> Figure:
    """What others measured, solid, above what the model says, hatched.

    Args:
        runs: theirs.
        predicted: name of a machine -> a breakdown for each run.
        title: what the picture shows.
    """
    high = 0.84 / (1 + len(predicted))
    figure = Figure(figsize=(10.4, 1.5 + 0.85 * len(runs)), layout="constrained")
    axes = figure.subplots()
    for place, run in enumerate(runs):
        top = place - 0.4 + high / 2
        axes.barh(top, run.milliseconds, 0.92 * high, color=style.INK)
        axes.text(run.milliseconds, top, f" {run.milliseconds:.1f} measured by them", va="center",
                  fontsize=9)  # fmt: skip
        for number, (name, found) in enumerate(predicted.items(), start=1):
            left, y = 0.0, top + number * high
            for colour, names in LAYERS.values():
                wide = 1e3 * sum(found[place][one] for one in names)
                axes.barh(y, wide, 0.92 * high, left=left, **modelled(colour), linewidth=0)
                left += wide
            axes.text(left, y, f" {left:.1f} modelled, {name}", va="center", fontsize=9)
    words = [
        f"{run.ranks} GPU{'s' * (run.ranks > 1)}\n{run.batch_size // run.ranks:,} rows each"
        for run in runs
    ]
    axes.set_yticks(range(len(runs)), words)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set(title=title, xlabel="ms of a step", ylabel="run",
             xlim=(0, 1.25 * max(run.milliseconds for run in runs)))  # fmt: skip
    _legend(figure)
    return figure


def orders(timelines: Mapping[str, Sequence[Event]]) -> Figure:
    """Rank 0's step in several orders, one above the other.

    Args:
        timelines: order -> events of all ranks, `StepCost.timeline`.
    """
    rows = [
        replace(event, rank=row)
        for row, events in enumerate(timelines.values())
        for event in events
        if event.rank == 0
    ]
    figure = draw_timeline(rows, title="What can hide, hides")
    axes = figure.axes[0]
    axes.set_yticks(range(len(timelines)), list(timelines))
    axes.set_ylabel("rank 0")
    return figure


def fewer_bytes(
    saved: Mapping[str, Mapping[int, float]], harm: Mapping[int, Sequence[float]], words: str
) -> Figure:
    """Left what numbers of fewer bytes save, right what they do to training.

    Args:
        saved: link -> bytes of a number -> seconds of a step, the first being the full one.
        harm: bits of a number -> for each seed, the AUC less that of the same seed in full.
        words: what was trained.
    """
    figure = Figure(figsize=(10.4, 4.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    shades = (DARK, style.COMMUNICATION, PALE)
    for place, seconds in enumerate(saved.values()):
        full = next(iter(seconds.values()))
        for number, (size, taken) in enumerate(seconds.items()):
            at = place + 0.27 * (number - 1)
            look, name = modelled(shades[number]), f"{size} byte{'s' * (size > 1)} a number"
            left.bar(at, 100 * taken / full, 0.25, **look, label=name if not place else None)
            left.text(at, 100 * taken / full + 1, _short(1e3 * taken), ha="center", fontsize=8.5)
    left.set_xticks(range(len(saved)), list(saved))
    left.grid(axis="x", visible=False)
    left.set(title="A step gets shorter", xlabel="link; above each bar: ms, modelled",
             ylabel="% of the step in full", ylim=(0, 138))  # fmt: skip
    left.legend(fontsize=9, ncols=3, loc="upper center", columnspacing=0.9, handlelength=1.4)
    for place, changes in enumerate(harm.values()):
        spread = 0.08 * (np.arange(len(changes)) - (len(changes) - 1) / 2)
        right.plot(place + spread, 1e3 * np.asarray(changes), "o", color=style.INK)
        right.hlines(1e3 * np.mean(changes), place - 0.25, place + 0.25, color=style.RED)
    right.axhline(0, **style.LITERATURE)
    right.set_xticks(range(len(harm)), [f"{bits} bit{'s' * (bits > 1)}" for bits in harm])
    right.set_yscale("symlog", linthresh=1.0)
    right.set_yticks([-10, -1, 0, 1, 10], ["-10", "-1", "0", "1", "10"])
    right.set_ylim(-20, 5)
    right.set(title="And learns as before?", xlabel=words, ylabel="AUC, difference in thousandths",
              xlim=(-0.5, len(harm) - 0.5))  # fmt: skip
    right.grid(axis="x", visible=False)
    return figure
