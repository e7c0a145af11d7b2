"""Chapter 08's pictures of time and bytes: against the rows of a table, in a race, by the batch."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from dlrm_mini import style
from dlrm_mini.pictures.dlrm import count
from dlrm_mini.pictures.sparse_training import WAYS, bytes_moved, modelled

MARKS = dict(zip(WAYS, "ovsDo", strict=True))


def against_rows(
    rows: Sequence[int],
    seconds: Mapping[str, Sequence[float]],
    by_bytes: Sequence[float],
    laws: Mapping[str, Sequence[float]],
    *,
    machine: str,
    guess: float | None = None,
) -> Figure:
    """Left the time of a step by the rows of the table; right the fused ones, from zero.

    Args:
        rows: N, of each table that was measured.
        seconds: way -> seconds a step.
        by_bytes: seconds of dense Adam's bytes at the speed of a copy.
        laws: law of the ids -> seconds of the fused step.
        machine: what it was measured on.
        guess: the reader's, of dense Adam's time over the fused step's with the most rows.
    """
    picture = Figure(figsize=(10.4, 4.3), layout="constrained")
    left, right = picture.subplots(1, 2, width_ratios=(1.25, 1))
    for way, values in seconds.items():
        left.loglog(rows, 1e3 * np.array(values), MARKS[way] + "-", color=WAYS[way], label=way)
    look: dict[str, Any] = {"color": style.GREY, "linestyle": (0, (1, 1.5)), "linewidth": 3}
    words = "dense Adam, modelled: bytes / copy speed"
    left.loglog(rows, 1e3 * np.array(by_bytes), **look, label=words)
    if guess is not None:
        high = 1e3 * guess * seconds["fused SGD"][-1]
        left.plot(rows[-1], high, "*", color=style.PURPLE, markersize=16, clip_on=False,
                  label="your guess for dense Adam")  # fmt: skip
    left.set(title="A step, by the rows of the table", ylabel="milliseconds")
    left.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    left.legend(fontsize=8.5, loc="upper left")
    for (law, values), colour in zip(laws.items(), (style.BLUE, style.PURPLE), strict=True):
        right.semilogx(rows, 1e3 * np.array(values), "D-", color=colour, label=law)
    right.set_ylim(0, 1e3 * 1.6 * max(map(max, laws.values())))
    right.set(title="Fused SGD again, from zero", ylabel="milliseconds")
    right.legend(fontsize=9.5, loc="upper left")
    for axes in (left, right):
        axes.set_xticks(rows, [count(one) for one in rows])
        axes.minorticks_off()
        axes.set_xlabel("rows of the table")
    picture.supxlabel(machine, fontsize=8.5, color=style.GREY)
    return picture


def race(
    seconds: Mapping[str, float], floors: Mapping[str, float], machine: str, guess: float
) -> Figure:
    """Milliseconds of a step by way, measured solid, with the modelled floors hatched above.

    Args:
        seconds: way -> measured seconds a step; the first is what the others are compared with.
        floors: what is counted -> its bytes over the speed of a copy, in seconds.
        machine: what it was measured on.
        guess: the reader's, of how many times as fast as the first the last is.
    """
    picture = Figure(figsize=(9.4, 1.7 + 0.5 * (len(seconds) + len(floors))), layout="constrained")
    axes = picture.subplots()
    names = [*floors, *seconds]
    first, longest = next(iter(seconds.values())), max(seconds.values())
    for place, (name, value) in enumerate([*floors.items(), *seconds.items()]):
        own = style.BLUE if place >= len(names) - 2 else style.SKY
        look = modelled(style.GREY) if name in floors else {"color": own}
        axes.barh(place, 1e3 * value, 0.62, **look)
        times = f" = {first / value:.1f} times as fast" if name in seconds and value < first else ""
        axes.text(1e3 * (value + 0.01 * longest), place, f"{1e3 * value:.1f}{times}",
                  va="center", fontsize=10)  # fmt: skip
    star = (1e3 * first / guess, len(names) - 0.3)
    axes.plot(*star, "*", color=style.PURPLE, markersize=15)
    axes.annotate("your guess", star, xytext=(11, 0), textcoords="offset points", va="center",
                  fontsize=9.5)  # fmt: skip
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) + 0.1, -0.6)
    axes.set(xlim=(0, 1.25e3 * longest), ylabel="way", title="One step, forward and update")
    axes.set_xlabel("milliseconds; hatched: modelled, solid: measured")
    axes.grid(axis="y", visible=False)
    picture.supxlabel(machine, fontsize=8.5, color=style.GREY)
    return picture


def touched_and_moved(
    curves: Mapping[float, tuple[Sequence[float], Sequence[float]]],
    zipf: float,
    at: tuple[float, float],
    rows: int,
    moved: Mapping[str, float],
) -> Figure:
    """Left the distinct rows that so many lookups touch; right the bytes that a step moves.

    Args:
        curves: exponent -> lookups and distinct rows; `zipf` and some to compare it with.
        zipf: the exponent that is chosen.
        at: the lookups of the batch that is chosen, and its distinct rows.
        rows: N of the table.
        moved: way of training -> bytes of a step.
    """
    picture = Figure(figsize=(10.2, 4.0), constrained_layout=False)  # laying out costs 100 ms
    left = picture.add_axes((0.075, 0.15, 0.43, 0.74))
    right = picture.add_axes((0.66, 0.15, 0.325, 0.74))
    low, high = (end(curves[zipf][0]) for end in (min, max))
    left.loglog((low, high), (low, high), ":", color=style.GREY, label="no duplicates")
    left.axhline(rows, **style.LITERATURE)
    left.text(low, rows * 1.1, f"all {rows:,} rows", fontsize=9)
    for exponent, (lookups, distinct) in curves.items():
        chosen = exponent == zipf
        look: dict[str, Any] = {"color": style.BLUE, "linewidth": 3, "zorder": 3} if chosen else {
            "color": style.SKY, "linewidth": 1, "alpha": 0.8}  # fmt: skip
        left.plot(lookups, distinct, **look, label="this exponent" if chosen else None)
        place = 2 * len(lookups) // 3
        left.annotate(f"{exponent:g}", (lookups[place], distinct[place]), xytext=(5, -11),
                      textcoords="offset points", fontsize=9, color=look["color"],
                      weight="bold" if chosen else "normal")  # fmt: skip
    left.plot(*at, "o", color=style.RED, markersize=11, zorder=4)
    left.set(xlim=(low, high), ylim=(10, 3 * rows))
    left.set(xlabel="lookups in a batch", ylabel="distinct rows touched")
    for ticks, end in ((left.set_xticks, high), (left.set_yticks, rows)):
        tens = [10.0**power for power in range(1, 8) if 10**power <= end]
        ticks(tens, [count(one) for one in tens])
    left.set_xlim(low, high)
    left.minorticks_off()
    left.set_title(f"{at[0]:,.0f} lookups, {at[1]:,.0f} rows: {at[1] / at[0]:.0%}")
    left.legend(loc="lower right", fontsize=9)
    bytes_moved(right, moved, (1e5, 1e11))
    right.set_title("Bytes of a step")
    return picture
