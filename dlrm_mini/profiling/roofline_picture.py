"""The roofline model as a picture (Williams, Waterman and Patterson 2009).

A program that does I FLOP for each byte that it moves cannot be faster than the lower of two roofs:
the fastest product, and I times the bytes a second. Rows at random places have a lower roof of
their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.path import Path
from matplotlib.transforms import Bbox

from dlrm_mini import style
from dlrm_mini.profiling import roofline
from dlrm_mini.profiling.ceilings import Ceilings
from dlrm_mini.profiling.parts import GROUPS
from dlrm_mini.profiling.work import Work
from dlrm_mini.training_step import Precision

ROW = 256  # bytes: of the random rows whose roof is drawn
# Where a name may stand beside its dot, points on paper to the right and up.
PLACES = [
    (side * reach * np.cos(angle), reach * np.sin(angle))
    for reach in (14, 22, 32, 44, 58, 76, 98)
    for angle in np.radians((0, -30, 30, -60, 60, -80, 80))
    for side in (1, -1)
]


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
    _roofs(axes, ceilings, left, right)
    figure.draw_without_rendering()  # now everything has its place on paper
    _label(figure, axes, points)
    return figure


def _seconds(
    name: str, work: Work, ceilings: Ceilings, precision: Precision, measured: Mapping[str, float]
) -> float:
    if name in measured:
        return measured[name] / 1e3
    return roofline.seconds(work, ceilings, precision)


def _roofs(axes: Axes, ceilings: Ceilings, left: float, right: float) -> None:
    """A slope for each way to memory, named in a corner that lies above all roofs; flat roofs."""
    top = max(map(ceilings.best, ceilings.products))
    slopes = {"copy": ceilings.copy, f"rows of {ROW} B at random": ceilings.gather(ROW)}
    best = max(slopes.values())
    for name, rate in slopes.items():
        x = np.array([left, min(right, top / rate)])
        line, words = "-" if name == "copy" else "--", f"{name}: {rate / 1e9:,.3g} GB/s"
        axes.plot(x, x * rate, line, color=style.INK, linewidth=1.5, label=words)
    axes.legend(loc="upper left", title="slopes: bytes a second", alignment="left", frameon=False)
    for kind in sorted(ceilings.products, key=ceilings.best):
        rate = ceilings.best(kind)
        axes.plot([rate / best, right], [rate, rate], color=style.INK, linewidth=1.5)
        axes.annotate(
            f"{kind} products: {rate / 1e9:,.4g} GFLOP/s", (right, rate), xytext=(0, 3),
            textcoords="offset points", ha="right", va="bottom", fontsize=9,
        )  # fmt: skip


def _colour(name: str) -> str:
    """That of a part's group; ink for anything else, such as a whole model."""
    for group, parts in GROUPS.items():
        if name in parts:
            return style.GROUP_COLOURS[group]
    return style.INK


def _label(figure: Figure, axes: Axes, points: Mapping[str, tuple[float, float]]) -> None:
    """Each name at a free place beside its dot, with a thin line to it."""
    point = figure.dpi / 72  # of paper, in pixels
    dots = {name: axes.transData.transform(place) for name, place in points.items()}
    solid = {name: Bbox.from_extents(*(dot - 6), *(dot + 6)) for name, dot in dots.items()}
    boxes = [text.get_window_extent() for text in axes.texts]
    roofs = [line.get_path().transformed(axes.transData) for line in axes.lines]
    leaders: list[Path] = []

    def cost(box: Bbox, leader: Path, others: Sequence[Bbox]) -> float:
        """How much a name there would hide, cross, or leave the picture by."""
        return (
            9 * sum(map(box.overlaps, [*others, *boxes]))
            + 9 * sum(leader.intersects_bbox(other) for other in [*others, *boxes])
            + 9 * sum(leader.intersects_path(other) for other in leaders)
            + 9 * sum(other.intersects_bbox(box) for other in leaders)
            + 4 * sum(roof.intersects_bbox(box, filled=False) for roof in roofs)
            + 9 * (not axes.bbox.x0 < box.x0 < box.x1 < axes.bbox.x1)
            + float(np.ptp(leader.vertices, axis=0).sum()) / 30
        )

    for name, dot in sorted(dots.items(), key=lambda item: -item[1][0]):
        words = axes.annotate(
            name, points[name], (0, 0), textcoords="offset points", fontsize=9.5, va="center",
            color=_colour(name), zorder=4, arrowprops={
                "arrowstyle": "-", "color": _colour(name), "linewidth": 0.8, "shrinkA": 1,
                "shrinkB": 5,
            },
        )  # fmt: skip
        size = words.get_window_extent()
        others = [box for other, box in solid.items() if other != name]
        found = []
        for across, up in PLACES:
            x, y = dot + point * np.array((across, up))
            left, low = x - size.width * (across < 0), y - size.height / 2
            box = Bbox.from_bounds(left, low, size.width, size.height).padded(2)
            leader = Path(np.array([dot, (x, y)]))
            found.append((cost(box, leader, others), across, up, box, leader))
        _, across, up, box, leader = min(found, key=lambda one: one[0])
        words.set(position=(across, up), horizontalalignment="left" if across > 0 else "right")
        boxes.append(box)
        leaders.append(leader)
