"""Chapter 16's pictures: the ledger on one page, and what its verdicts hang on."""

import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Wedge
from matplotlib.ticker import MaxNLocator

from dlrm_mini import style
from dlrm_mini.claims import VERDICTS
from dlrm_mini.experiments import Kind
from dlrm_mini.ledger import Row

KINDS: tuple[Kind, ...] = ("measured", "counted", "modelled")
_ROWS, _LEFT, _RIGHT = 9, 0.0, 8.35  # a page: claims in a column, where the two columns begin


def one_page(rows: Sequence[Row], judged: bool = True) -> Figure:
    """The whole ledger as one slide: a mark, the sentence, its condition and its number.

    Args:
        rows: the ledger.
        judged: False leaves the circles empty and the findings out, to be filled in by hand.
    """
    picture = Figure(figsize=(14.6, 8.8), layout="constrained")
    axes = picture.subplots()
    for place, row in enumerate(rows):
        left = _LEFT if place < _ROWS else _RIGHT
        _claim(axes, row, left, -float(place % _ROWS), judged)
    if judged:
        _tally(axes, rows)
    else:
        words = "which hold, which hold when, which do not?"
        axes.text(-0.3, 1.2, words, fontsize=15, va="center", color=style.INK)
    axes.set(xlim=(-0.4, 16.2), ylim=(-_ROWS + 0.3, 1.6), aspect="equal")
    axes.set_axis_off()
    picture.suptitle(
        f"{len(rows)} sentences about recommendation models, put on trial",
        fontsize=21, fontweight="bold", x=0.02, ha="left",
    )  # fmt: skip
    return picture


def _claim(axes: Axes, row: Row, left: float, y: float, judged: bool) -> None:
    if judged:
        mark(axes, (left, y), 0.27, row.verdict)
    else:
        axes.add_patch(Circle((left, y), 0.27, fill=False, edgecolor=style.GREY, linewidth=2.2))
    title = textwrap.wrap(row.claim.sentence, 55)
    first = row.numbers[0]
    modelled = ", modelled" if row.kind == "modelled" else ""
    lines = [(one, 12.5, "bold", style.INK) for one in title]
    if judged and row.verdict == "holds when":
        lines.append((f"when {row.condition}", 11.5, "normal", style.BLUE))
    number = f"{first.text()} {first.number.words}{modelled}" if judged else row.claim.source
    lines.append((f"{number}  ·  chapter {row.claim.chapter}", 10.5, "normal", style.INK))
    top = y + 0.1125 * (len(lines) - 1)
    for place, (text, size, weight, colour) in enumerate(lines):
        axes.text(left + 0.5, top - 0.225 * place, textwrap.shorten(text, 92, placeholder=" ..."),
                  fontsize=size, fontweight=weight, color=colour, va="center")  # fmt: skip


def mark(axes: Axes, centre: tuple[float, float], radius: float, verdict: str) -> None:
    """A verdict as a shape that needs no colour: full, half, crossed out, or hatched.

    Args:
        axes: where; equal aspect.
        centre: of the circle.
        radius: of the circle, in data units.
        verdict: one of `claims.VERDICTS`.
    """
    colour = style.VERDICT_COLOURS[verdict]
    ring = {"edgecolor": colour, "linewidth": 2.2}
    if verdict == "holds":
        axes.add_patch(Circle(centre, radius, facecolor=colour, **ring))
        return
    hatch = "////" if verdict == "not yet measured" else None
    axes.add_patch(Circle(centre, radius, facecolor="none" if hatch else "white", hatch=hatch,
                          hatchcolor=colour, **ring))  # fmt: skip
    if verdict == "holds when":
        axes.add_patch(Wedge(centre, radius, 90, 270, facecolor=colour, edgecolor="none"))
    elif verdict == "does not hold":
        half = 0.62 * radius
        for sign in (1, -1):
            across = [centre[0] - half, centre[0] + half]
            axes.plot(across, [centre[1] - sign * half, centre[1] + sign * half], color=colour,
                      linewidth=3, solid_capstyle="round")  # fmt: skip


def _tally(axes: Axes, rows: Sequence[Row]) -> None:
    counts, x = Counter(row.verdict for row in rows), 0.0
    for verdict in VERDICTS:
        if not counts[verdict]:
            continue
        mark(axes, (x, 1.2), 0.27, verdict)
        axes.text(x + 0.45, 1.2, f"{counts[verdict]}  {verdict}", fontsize=15, va="center",
                  fontweight="bold", color=style.INK)  # fmt: skip
        x += 1.5 + 0.19 * len(verdict)


def what_it_rests_on(rows: Sequence[Row]) -> Figure:
    """How many of the ledger's numbers were measured, counted or modelled, chapter by chapter."""
    chapters = sorted({row.claim.chapter for row in rows})
    counts = {
        kind: np.array([
            sum(n.number.kind == kind for r in rows if r.claim.chapter == c for n in r.numbers)
            for c in chapters
        ])
        for kind in KINDS
    }  # fmt: skip
    picture = Figure(figsize=(9.6, 3.6), layout="constrained")
    axes, bottom = picture.subplots(), np.zeros(len(chapters))
    axes.bar(chapters, bottom)  # the order of the chapters, whatever comes first below
    looks = {
        "measured": {"color": style.BLUE},
        "counted": {"color": style.SKY},
        "modelled": {**style.MODELLED, "edgecolor": style.PURPLE, "hatch_linewidth": 1.2,
                     "hatchcolor": style.PURPLE},
    }  # fmt: skip
    for kind in KINDS:
        shown = counts[kind] > 0  # an empty bar would leave its edge
        names = [chapter for chapter, there in zip(chapters, shown, strict=True) if there]
        axes.bar(names, counts[kind][shown], 0.7, bottom=bottom[shown], label=kind, **looks[kind])
        bottom += counts[kind]
    axes.set(xlabel="chapter", ylabel="numbers in the ledger", title="What the verdicts rest on")
    axes.legend(ncols=3)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    return picture


def effects(found: Mapping[str, tuple[float, float]]) -> Figure:
    """Effects in units of their own scatter, the least certain at the top.

    Args:
        found: what is compared -> the difference of two means, and its scatter: the root of the
            two squared spreads over seeds.
    """
    ordered = sorted(found.items(), key=lambda one: abs(one[1][0]) / one[1][1])
    ratios = [abs(effect) / scatter for _, (effect, scatter) in ordered]
    picture = Figure(figsize=(9.6, 0.42 * len(ordered) + 1.7), layout="constrained")
    axes = picture.subplots()
    low = min(0.02, *ratios)
    for y, ratio in enumerate(ratios):
        sure = ratio >= 2
        axes.plot([low, ratio], [y, y], color=style.GREY, linewidth=1.2)
        axes.plot(ratio, y, "o", markersize=10, color=style.BLUE,
                  markerfacecolor=style.BLUE if sure else "white")  # fmt: skip
    axes.axvline(2, **style.LITERATURE)
    axes.text(2.1, -0.75, "twice its scatter", fontsize=10, color=style.INK)
    axes.set_yticks(range(len(ordered)), [name for name, _ in ordered])
    axes.set(
        xscale="log", ylabel="what is compared (chapter)",
        xlabel="difference, in units of its scatter over seeds",
        ylim=(len(ordered) - 0.4, -1.1),
        title="How sure: what a second experimenter would probably see again",
    )  # fmt: skip
    axes.grid(axis="y", visible=False)
    return picture


def retrial(
    recorded: Mapping[str, Sequence[float]], fresh: Mapping[str, Sequence[float]]
) -> Figure:
    """The AUC of each seed, of the record and of today, a row a model.

    Args:
        recorded: model -> a value a seed.
        fresh: the same of seeds that were not used before; not every model need be there.
    """
    picture = Figure(figsize=(9.0, 2.9), layout="constrained")
    axes = picture.subplots()
    for y, (name, values) in enumerate(recorded.items()):
        axes.plot(values, [y + 0.12] * len(values), "o", color=style.BLUE, markersize=9,
                  label="recorded" if y == 0 else None)  # fmt: skip
        again = fresh.get(name, ())
        axes.plot(again, [y - 0.12] * len(again), "o", color=style.ORANGE, markersize=9,
                  markerfacecolor="white", markeredgewidth=2)  # fmt: skip
        mean = float(np.mean([*values, *again]))
        axes.plot([mean, mean], [y - 0.3, y + 0.3], color=style.INK, linewidth=2)
    axes.plot([], [], "o", color=style.ORANGE, markersize=9, markerfacecolor="white",
              markeredgewidth=2, label="new seeds, just now")  # fmt: skip
    axes.plot([], [], color=style.INK, linewidth=2, label="mean of all")
    axes.set_yticks(range(len(recorded)), [name.upper() for name in recorded])
    axes.set(xlabel="test AUC, random split", ylabel="model", ylim=(-0.6, len(recorded) - 0.4),
             title="Would another jury have said the same?")  # fmt: skip
    axes.grid(axis="y", visible=False)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return picture
