"""Chapter 13's pictures of what plans cost: a bag, a rank's load, many plans, one by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from dlrm_mini import style
from dlrm_mini.parallel.sharding import FORMS, Form
from dlrm_mini.pictures.sharding_plans import RANKS
from dlrm_mini.pictures.sparse_training import modelled

Floats = NDArray[np.float64]
FORM_COLOURS: dict[Form, str] = dict(
    zip(FORMS, (style.INK, style.BLUE, style.ORANGE, style.GREEN), strict=True)
)


def price_of_a_bag(
    many: NDArray[np.int64], lines: Mapping[Form, Sequence[float]], guess: float
) -> Figure:
    """What one bag sends under each form against its ids.

    Args:
        many: (n,) ids of the bag.
        lines: form -> (n,) kB; where "row-wise" falls to "column-wise" is marked.
        guess: the reader's, of that place.
    """
    picture = Figure(figsize=(8.0, 3.8), layout="constrained")
    axes = picture.subplots()
    for form, values in lines.items():
        axes.plot(many, values, color=FORM_COLOURS[form], label=form)
    by_rows, by_columns = (np.asarray(lines[form]) for form in ("row-wise", "column-wise"))
    place = int(np.argmax(by_rows <= by_columns))
    axes.plot(many[place], by_rows[place], "o", color=style.INK, markersize=8)
    axes.annotate(f"{many[place]} ids", (many[place], by_rows[place]), (0, -14),
                  textcoords="offset points", va="top", ha="center")  # fmt: skip
    axes.plot(guess, np.interp(guess, many, by_rows), "*", color=style.RED, markersize=15,
              label="your guess")  # fmt: skip
    axes.set(title="Cut in three: what one bag sends", xlabel="ids of the bag, L",
             ylabel="kB, forward and back", xlim=(0, many[-1]))  # fmt: skip
    axes.set_ylim(bottom=0)
    axes.legend()
    return picture


def loads(ways: Mapping[str, Mapping[str, Floats]], *, ranks: int) -> Figure:
    """What share of the lookups each rank serves; one panel a data set, one group a way.

    Args:
        ways: panel -> way -> (P,) lookups.
        ranks: P.
    """
    picture = Figure(figsize=(10.4, 3.9), layout="constrained")
    panels = picture.subplots(1, len(ways), sharey=True, squeeze=False)[0]
    for axes, (title, found) in zip(panels, ways.items(), strict=True):
        for place, lookups in enumerate(found.values()):
            share = 100 * lookups / lookups.sum()
            for rank, value in enumerate(share):
                at = place + 0.8 * ((rank + 0.5) / ranks - 0.5)
                axes.bar(at, value, 0.74 / ranks, color=RANKS[rank])
            worst = int(share.argmax())
            at = place + 0.8 * ((worst + 0.5) / ranks - 0.5)
            axes.text(at, share[worst] + 1, f"{share[worst]:.0f} %", ha="center", fontsize=9.5)
        axes.axhline(100 / ranks, **style.LITERATURE)
        axes.set_xticks(range(len(found)), list(found))
        axes.set(title=title, xlabel="how the rows are spread")
        axes.grid(axis="x", visible=False)
    panels[0].set(ylabel="share of the lookups, %", ylim=(0, 1.08 * panels[0].get_ylim()[1]))
    handles = [Patch(color=RANKS[rank], label=f"rank {rank}") for rank in range(ranks)]
    picture.legend(handles=handles, loc="outside lower center", ncols=ranks)
    return picture


class Cloud(NamedTuple):
    """Predicted step times of many plans, and some that are named.

    Attributes:
        title: of the panel.
        times: (n,) ms.
        what: the many plans, such as "random plans".
        marks: name -> ms.
    """

    title: str
    times: Floats
    what: str
    marks: Mapping[str, float]


def clouds(panels: Sequence[Cloud]) -> Figure:
    """Histograms of predicted step times, with the named plans as lines below each other.

    Args:
        panels: one histogram each.
    """
    picture = Figure(figsize=(10.4, 4.2), layout="constrained")
    colours = (style.RED, style.ORANGE, style.GREEN, style.BLUE)
    for axes, cloud in zip(picture.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        every = np.array([*cloud.times, *cloud.marks.values()])
        edges = np.geomspace(0.97 * every.min(), 1.03 * every.max(), 36)
        heights, _, _ = axes.hist(cloud.times, edges, **modelled(style.GREY), label=cloud.what)
        top = float(np.max(heights))
        for place, (name, ms) in enumerate(cloud.marks.items()):
            y = top * (1.62 - 0.14 * place)
            axes.plot([ms, ms], [0, y], color=colours[place], linewidth=1.6)
            axes.annotate(
                f"{name} {ms:.3g} ms", (ms, y), (4, 0), textcoords="offset points", va="top",
                color=colours[place], fontsize=10.5, zorder=3,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
            )  # fmt: skip
        axes.set(xscale="log", ylim=(0, 1.7 * top), title=cloud.title, ylabel=cloud.what)
        ticks = [t for t in (0.5, 1, 2, 5, 10, 20, 50, 100, 200) if edges[0] <= t <= edges[-1]]
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.set_xlabel("predicted ms of a step")
    return picture


class Hand(NamedTuple):
    """What a plan asks of each rank.

    Attributes:
        memory: (P,) bytes.
        lookups: (P,) bytes of rows looked up in a step.
        sent: (P,) bytes sent in a step.
        ms: predicted for a step.
    """

    memory: Floats
    lookups: Floats
    sent: Floats
    ms: float


def by_hand(yours: Hand, planner: Hand, limit: float, words: str) -> Figure:
    """The reader's plan rank by rank, the planner's as a faint mark, the limit of memory drawn.

    Args:
        yours: the reader's.
        planner: the planner's.
        limit: bytes a rank may hold.
        words: what the reader's plan amounts to.
    """
    # Places by hand: the search for a layout would take longer than all the rest.
    picture = Figure(figsize=(10.4, 3.2), constrained_layout=False)
    kinds = (
        ("memory", yours.memory / 1e6, planner.memory / 1e6),
        ("rows looked up in a step", yours.lookups / 1e6, planner.lookups / 1e6),
        ("sent in a step", yours.sent / 1e6, planner.sent / 1e6),
    )
    for place, (label, mine, its) in enumerate(kinds):
        axes = picture.add_axes((0.07 + 0.325 * place, 0.15, 0.255, 0.63))
        memory, ranks = place == 0, np.arange(len(mine))
        bars = axes.bar(ranks, mine, 0.7, color=RANKS[: len(mine)])
        axes.hlines(its, ranks - 0.42, ranks + 0.42, color=style.INK, linewidth=2, alpha=0.45)
        highest = max(float(mine.max()), float(its.max()), limit / 1e6 if memory else 0)
        if memory:
            for bar, value in zip(bars, mine, strict=True):
                if value > limit / 1e6:
                    bar.set(edgecolor=style.INK, linewidth=2.5, hatch="xx")
            axes.axhline(limit / 1e6, color=style.RED, linestyle="--", linewidth=1.6)
            axes.text(len(mine) - 0.5, limit / 1e6, "limit", color=style.RED, ha="right",
                      va="bottom", fontsize=9.5)  # fmt: skip
        axes.set(ylim=(0, 1.12 * highest), xlabel="rank")
        axes.set_title(label, fontsize=10.5, weight="normal")
        axes.set_ylabel("MB")
        axes.set_xticks(ranks)
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.grid(axis="x", visible=False)
    picture.suptitle(words, x=0.01, y=0.98, ha="left", fontsize=12, weight="bold")
    picture.text(0.995, 0.955, "grey: the planner", ha="right", va="top", fontsize=9.5,
                 color=style.GREY)  # fmt: skip
    return picture
