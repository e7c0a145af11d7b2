"""The roofline model as a picture (Williams, Waterman and Patterson 2009).

A program that does I FLOP for each byte that it moves cannot be faster than the lower of two roofs:
the fastest product, and I times the bytes a second. Rows at random places have a lower roof of
their own.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dlrm_mini import style
from dlrm_mini.profiling import roofline
from dlrm_mini.profiling.ceilings import Ceilings
from dlrm_mini.profiling.parts import GROUPS
from dlrm_mini.profiling.work import Work
from dlrm_mini.training_step import Precision

COLOURS = dict(zip(GROUPS, (style.BLUE, style.ORANGE, style.GREEN, style.GREY), strict=True))
ROW = 256  # bytes: of the random rows whose roof is drawn


def draw(
    ceilings: Ceilings,
    works: Mapping[str, Work],
    *,
    precision: Precision,
    title: str,
    measured: Mapping[str, float],
) -> Figure:
    """The roofs, and each work at its intensity: see `roofline.draw`."""
    figure = Figure(figsize=(8.6, 5.0), layout="constrained", dpi=90)
    axes = figure.add_subplot(xscale="log", yscale="log")
    placed = {name: work for name, work in works.items() if work.flops and work.bytes}
    points = {
        name: (work.intensity, work.flops / _seconds(name, work, ceilings, precision, measured))
        for name, work in placed.items()
    }
    x = [point[0] for point in points.values()] or [1.0]
    left, right = min(*x, 0.1) / 2, max(*x, 100.0) * 6
    lowest = min(ceilings.gather(ROW), ceilings.copy)
    floor = min(y for y in (left * lowest, *(y for _, y in points.values()))) / 3
    axes.set(xlim=(left, right), ylim=(floor, 3 * max(map(ceilings.best, ceilings.products))))
    for name, (intensity, rate) in points.items():
        colour = _colour(name)
        axes.plot(
            intensity, rate, "o", markersize=9, markeredgecolor=colour, markeredgewidth=2,
            color=colour if name in measured else "white", zorder=5,
        )  # fmt: skip
    axes.set_xlabel("FLOP for each byte that is moved")
    axes.set_ylabel("FLOP/s")
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_major_formatter(ticker.EngFormatter(sep=" "))
    axes.set_title(title or ceilings.name, loc="left", fontweight="bold")
    axes.grid(color="#E6E6E6", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    kinds = {"measured": bool(measured), "predicted": any(name not in measured for name in points)}
    shown = [
        f"{'solid' if kind == 'measured' else 'hollow'}: {kind}" for kind in kinds if kinds[kind]
    ]
    source = ceilings.source if ceilings.measured else "from data sheets"
    figure.supxlabel(
        f"{', '.join(shown)}; roofs of {ceilings.name}, {source}", fontsize=8.5, color=style.INK
    )
    figure.draw_without_rendering()  # now the axes have their size, and slopes an angle
    _roofs(axes, ceilings, left, right)
    _label(axes, points)
    return figure


def _seconds(
    name: str, work: Work, ceilings: Ceilings, precision: Precision, measured: Mapping[str, float]
) -> float:
    if name in measured:
        return measured[name] / 1e3
    return roofline.seconds(work, ceilings, precision)


def _roofs(axes: Axes, ceilings: Ceilings, left: float, right: float) -> None:
    """A slope for each way to memory, a flat roof for each precision."""
    top = max(map(ceilings.best, ceilings.products))
    slopes = {"copy": ceilings.copy, f"rows of {ROW} B at random": ceilings.gather(ROW)}
    best = max(slopes.values())
    for name, rate in slopes.items():
        x = np.array([left, min(right, top / rate)])
        line = "-" if name == "copy" else "--"
        axes.plot(x, x * rate, line, color=style.INK, linewidth=1.5)
        axes.text(
            1.2 * left, 1.2 * left * rate * (1.15 if rate == best else 0.87),
            f"{name}: {rate / 1e9:,.3g} GB/s", rotation=_slope(axes), rotation_mode="anchor",
            fontsize=9, va="bottom" if rate == best else "top",
        )  # fmt: skip
    for kind in sorted(ceilings.products, key=ceilings.best):
        rate = ceilings.best(kind)
        axes.plot([rate / best, right], [rate, rate], color=style.INK, linewidth=1.5)
        axes.annotate(
            f"{kind} products: {rate / 1e9:,.4g} GFLOP/s", (right, rate), xytext=(0, 3),
            textcoords="offset points", ha="right", va="bottom", fontsize=9,
        )  # fmt: skip


def _slope(axes: Axes) -> float:
    """Degrees at which a line of slope 1 climbs in the picture."""
    box = axes.get_window_extent()
    across, up = (np.log10(high / low) for low, high in (axes.get_xlim(), axes.get_ylim()))
    return float(np.degrees(np.arctan2(box.height / up, box.width / across)))


def _colour(name: str) -> str:
    """That of a part's group; ink for anything else, such as a whole model."""
    for group, parts in GROUPS.items():
        if name in parts:
            return COLOURS[group]
    return style.INK


def _label(axes: Axes, points: Mapping[str, tuple[float, float]]) -> None:
    """Names to the right of their points and of any near them, one below the other."""
    places = {name: (np.log10(x), np.log10(y)) for name, (x, y) in points.items()}
    taken: list[tuple[float, float]] = []
    for name, (x, y) in sorted(places.items(), key=lambda item: -item[1][1]):
        right = max(a for a, b in places.values() if 0 <= a - x < 0.35 and abs(b - y) < 0.35)
        height = y
        while any(abs(right - a) < 1.0 and abs(height - b) < 0.17 for a, b in taken):
            height -= 0.04
        taken.append((right, height))
        axes.annotate(
            name, points[name], xytext=(10 ** (right + 0.08), 10**height), fontsize=9.5,
            color=_colour(name), va="center", zorder=4,
            bbox={"boxstyle": "square,pad=0.05", "color": "white", "alpha": 0.75},
        )  # fmt: skip
