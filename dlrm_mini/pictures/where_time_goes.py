"""Chapter 10's pictures: shares beside a guess, what moves them, and what an update costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from dlrm_mini import style
from dlrm_mini.plots import GROUP_COLOURS

Where = Literal["outside lower center", "outside upper center"]
OPERATOR_COLOURS = {  # of the paper's names; what is not here is grey
    "EmbeddingBag": style.BLUE,
    "FC": style.ORANGE,
    "ReLU": style.PALE_ORANGE,
    "BatchMatMul": style.GREEN,
    "Concat": style.PALE_GREEN,
    "Optimizer": style.PURPLE,
}


def shares(
    guess: Mapping[str, float],
    measured: Mapping[str, Mapping[str, float]],
    operators: Mapping[str, Mapping[str, float]],
    machine: str,
) -> Figure:
    """Bars of 100 %: the reader's guess, what was measured by group, and the same by operator.

    Args:
        guess: group -> the reader's share of it, of any total.
        measured: what was measured -> group -> ms.
        operators: what was measured -> operator -> ms.
        machine: what it was measured on.
    """
    rows: dict[str, Mapping[str, float]] = {"your guess": guess, **measured, **operators}
    picture = Figure(figsize=(10.2, 1.7 + 0.72 * len(rows)), layout="constrained")
    axes = picture.subplots()
    places = [place + 0.3 * (name in operators) for place, name in enumerate(rows)]
    for place, (name, amounts) in zip(places, rows.items(), strict=True):
        colours = OPERATOR_COLOURS if name in operators else GROUP_COLOURS
        _share_bar(axes, place, amounts, colours, alpha=1.0 if place else 0.45)
    axes.set_yticks(places, list(rows))
    axes.set(xlim=(0, 1), ylim=(places[-1] + 0.55, -0.55), ylabel="step")
    axes.set_title("Where the time of a training step goes")
    axes.set_xlabel(f"share of the step\n{machine}", fontsize=9.5)
    percent(axes.xaxis)
    axes.grid(axis="y", visible=False)
    _legend(picture, "outside lower center")
    return picture


def _legend(picture: Figure, where: Where) -> None:
    """The groups and their colours."""
    handles = [Patch(color=colour, label=group) for group, colour in GROUP_COLOURS.items()]
    picture.legend(handles=handles, loc=where, ncols=len(handles))


def _not_yet(title: str) -> Figure:
    """In the place of what nobody measured."""
    picture = Figure(figsize=(8.0, 1.6), layout="constrained")
    axes = picture.subplots()
    axes.text(0.5, 0.5, "not yet measured", ha="center", va="center", color=style.GREY,
              style="italic", fontsize=13)  # fmt: skip
    axes.set_title(title)
    axes.axis("off")
    return picture


def percent(axis: Any) -> None:
    """Ticks at every quarter, as percentages."""
    axis.set_ticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])


def _share_bar(
    axes: Axes, place: float, amounts: Mapping[str, float], colours: Mapping[str, str], alpha: float
) -> None:
    """One bar of 100 %, wide pieces with their percentage written in, operators with their name."""
    total, left = sum(amounts.values()), 0.0
    for name, amount in amounts.items():
        wide, colour = amount / total, colours.get(name, style.GREY)
        axes.barh(place, wide, 0.72, left, color=colour, edgecolor="white", alpha=alpha)
        words = f"{100 * wide:.0f} %"
        words = f"{name}\n{words}" if colours is OPERATOR_COLOURS else words
        if wide > 0.0115 * max(map(len, words.split("\n"))):
            dark = colour in (style.BLUE, style.GREEN, style.GREY) and alpha == 1
            axes.text(left + wide / 2, place, words, ha="center", va="center", fontsize=9.5,
                      color="white" if dark else style.INK, linespacing=1.1)  # fmt: skip
        left += wide


WAYS = {  # way to train -> marker, colour and words
    "sparse": ("s", style.SKY, "sparse gradients"),
    "fused": ("o", style.ORANGE, "fused tables"),
    "bfloat16": ("^", style.PURPLE, "fused tables, products in bfloat16"),
}


def intensities(
    intensity: Mapping[str, float],
    shares: Mapping[tuple[str, str], float],
    ridge: float,
    span: tuple[str, str],
    *,
    significant: float,
    machine: str,
) -> Figure:
    """The layers' share of a step by the model's intensity, and where a formula has it.

    Args:
        intensity: model -> FLOP of the MLPs for each byte of embeddings, in forward.
        shares: (model, one of `WAYS`) -> measured share of the fully connected layers in a step.
        ridge: intensity at which the layers take half of the modelled step, I / (I + ridge).
        span: two models, from the lower intensity to the higher, whose ratio is written in.
        significant: share from which the claim is taken to hold.
        machine: what it was measured on.
    """
    picture = Figure(figsize=(10.0, 4.9), layout="constrained")
    axes = picture.subplots()
    low, high = min(intensity.values()), max(intensity.values())
    first, last = (intensity[name] for name in span)
    arrow = {"arrowstyle": "<->", "color": style.INK, "linewidth": 0.9}
    axes.annotate("", (first, 0.99), (last, 0.99), arrowprops=arrow)
    axes.text((first * last) ** 0.5, 0.975, f"{last / first:.0f} times", ha="center", va="top")
    x = np.geomspace(low / 2.2, 2.2 * high, 200)
    axes.plot(x, x / (x + ridge), "--", color=style.INK, linewidth=1.4, zorder=1,
              label=f"modelled: I / (I + {ridge:.0f})")  # fmt: skip
    axes.axhline(significant, color=style.GREY, linewidth=1, linestyle=":")
    axes.text(x[0], significant, " significant, from here up", va="bottom", fontsize=9,
              color=style.INK)  # fmt: skip
    for model, at in intensity.items():
        found = [shares[key] for key in shares if key[0] == model]
        axes.vlines(at, min(found, default=0), max(found, default=0), style.GREY, linewidth=1)
        axes.text(at, 1.03, model, ha="center", va="bottom", weight="bold", fontsize=10)
    for way, (marker, colour, words) in WAYS.items():
        points = [(intensity[model], y) for (model, one), y in shares.items() if one == way]
        if points:
            axes.plot(*zip(*points, strict=True), marker, color=colour, markersize=9, zorder=3,
                      markeredgecolor=style.INK, markeredgewidth=0.6, label=words)  # fmt: skip
    if not shares:
        axes.text(0.5, 0.5, "not yet measured", transform=axes.transAxes, ha="center",
                  color=style.GREY, style="italic", fontsize=13)  # fmt: skip
    axes.set(xscale="log", xlim=(x[0], x[-1]), ylim=(0, 1.13))
    axes.xaxis.set_major_formatter("{x:g}")
    percent(axes.yaxis)
    axes.set_title(
        f"{len(intensity)} models, and how much of a step their fully connected layers take"
    )
    axes.set_ylabel("fully connected layers,\nshare of the training step")
    where = f"solid: measured on {machine}" if machine else "not yet measured"
    axes.set_xlabel(f"intensity I: forward FLOP of the MLPs for each byte of embeddings\n{where}",
                    fontsize=10)  # fmt: skip
    picture.legend(loc="outside lower center", ncols=4)
    return picture


Found = Mapping[str, Mapping[str, Sequence[tuple[str, Mapping[str, float]]]]]


def sweeps(found: Found, machine: str) -> Figure:
    """Small multiples: shares of the groups by the value of a knob, a row of panels for each arm.

    Args:
        found: arm -> knob -> (value, group -> ms), in the order of the values.
        machine: what it was measured on.
    """
    if not any(points for knobs in found.values() for points in knobs.values()):
        return _not_yet("What moves the shares of a step")
    columns = max(map(len, found.values()))
    picture = Figure(figsize=(10.4, 0.9 + 2.35 * len(found)), layout="constrained")
    panels = picture.subplots(len(found), columns, squeeze=False, sharey=True)
    for row, (arm, knobs) in zip(panels, found.items(), strict=True):
        for axes, (knob, points) in zip(row, knobs.items(), strict=True):
            for place, (_, groups) in enumerate(points):
                _pile(axes, place, groups)
            axes.set_xticks(range(len(points)), [value for value, _ in points])
            axes.set_ylim(0, 1.14)
            axes.set_title(f"{knob}; {arm}", fontsize=10.5)
            axes.grid(axis="x", visible=False)
            axes.tick_params(axis="x", length=0)
        percent(row[0].yaxis)
    picture.supylabel("share of the step", fontsize=10.5)
    picture.supxlabel(f"value; milliseconds of the step above its bar; measured on {machine}",
                      fontsize=9.5)  # fmt: skip
    _legend(picture, "outside upper center")
    return picture


def _pile(axes: Axes, place: float, groups: Mapping[str, float]) -> None:
    """One upright bar of 100 % with its milliseconds above."""
    total, low = sum(groups.values()), 0.0
    for group, ms in groups.items():
        axes.bar(place, ms / total, 0.8, low, color=GROUP_COLOURS[group], edgecolor="white",
                 linewidth=0.6)  # fmt: skip
        low += ms / total
    axes.text(place, 1.02, f"{total:.0f}" if total >= 10 else f"{total:.1f}", ha="center",
              va="bottom", fontsize=9)  # fmt: skip


TABLE_PARTS = {  # part -> colour and words
    "embedding forward": (style.BLUE, "lookups"),
    "embedding backward": (style.SKY, "their backward"),
    "embedding update": (style.PURPLE, "their update"),
}


def updates(arms: Mapping[str, Mapping[str, float]], guess: float, machine: str) -> Figure:
    """Milliseconds of a step by way to train the tables: lookups, their backward, their update.

    Args:
        arms: way -> part -> ms.
        guess: the reader's, of backward and update together over the lookups, under the second.
        machine: what it was measured on.
    """
    title = "The same step, with three ways to change the tables"
    if len(arms) < 2:
        return _not_yet(title)
    picture = Figure(figsize=(10.0, 1.75 + 0.72 * len(arms)), layout="constrained")
    axes = picture.subplots()
    rest = "everything else"
    longest = max(sum(parts.values()) for parts in arms.values())
    for place, parts in enumerate(arms.values()):
        pieces = {part: parts.get(part, 0.0) for part in TABLE_PARTS}
        pieces[rest] = sum(parts.values()) - sum(pieces.values())
        left = 0.0
        for part, ms in pieces.items():
            colour = TABLE_PARTS.get(part, (style.GREY, ""))[0]
            axes.barh(place, ms, 0.62, left, color=colour, edgecolor="white")
            if ms > 0.035 * longest:
                axes.text(left + ms / 2, place, f"{ms:,.0f}", ha="center", va="center",
                          color="white" if colour in (style.BLUE, style.GREY) else style.INK,
                          fontsize=10)  # fmt: skip
            left += ms
        axes.text(left + 0.01 * longest, place, f"{left:,.0f} ms", va="center", weight="bold")
    lookups = list(arms.values())[1]["embedding forward"]
    axes.plot([lookups, lookups * (1 + guess)], [1.42] * 2, color=style.RED, linewidth=3,
              solid_capstyle="butt")  # fmt: skip
    axes.annotate(" your guess", (lookups * (1 + guess), 1.42), color=style.RED,
                  va="center", fontsize=9.5)  # fmt: skip
    axes.set_yticks(range(len(arms)), list(arms))
    axes.set(ylim=(len(arms) - 0.45, -0.5), xlim=(0, 1.14 * longest), ylabel="tables")
    axes.set_xlabel(f"milliseconds of a step; measured on {machine}")
    axes.set_title(title)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.grid(axis="y", visible=False)
    handles = [Patch(color=colour, label=words) for colour, words in TABLE_PARTS.values()]
    handles += [Patch(color=style.GREY, label="MLPs, interaction and all else")]
    picture.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return picture
