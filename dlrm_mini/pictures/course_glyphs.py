"""A small drawing for each chapter, for the course map: what the chapter is about, in one glance.

Each takes axes, where its centre is, and its colour, and stays within half a unit of the centre.
"""

from collections.abc import Callable, Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Circle, FancyArrowPatch, Polygon, Rectangle, Wedge

Place = tuple[float, float]
Glyph = Callable[[Axes, float, float, str], None]


def _dots(axes: Axes, points: list[Place], colour: str, size: float = 9) -> None:
    x, y = np.array(points).T
    axes.scatter(x, y, size, color=colour, linewidths=0, zorder=4)


def _lines(axes: Axes, ends: list[tuple[Place, Place]], colour: str, width: float = 1.4) -> None:
    for (x0, y0), (x1, y1) in ends:
        axes.plot([x0, x1], [y0, y1], color=colour, linewidth=width, zorder=3,
                  solid_capstyle="round")  # fmt: skip


def _boxes(axes: Axes, boxes: list[tuple[float, float, float, float]], colour: str,
           fill: float = 1.0) -> None:  # fmt: skip
    """Rectangles as left, bottom, width, height."""
    for x, y, width, height in boxes:
        axes.add_patch(
            Rectangle((x, y), width, height, facecolor=colour, edgecolor=colour, alpha=fill,
                      linewidth=0, zorder=3)
        )  # fmt: skip


def _arrow(axes: Axes, start: Place, end: Place, colour: str, width: float = 1.6) -> None:
    axes.add_patch(
        FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=9, color=colour,
                        linewidth=width, shrinkA=0, shrinkB=0, zorder=4)
    )  # fmt: skip


def start(axes: Axes, x: float, y: float, colour: str) -> None:
    """A page to turn: a triangle that says go."""
    corners = [(x - 0.13, y - 0.21), (x - 0.13, y + 0.21), (x + 0.24, y)]
    axes.add_patch(Polygon(corners, facecolor=colour, zorder=3))


def ratings(axes: Axes, x: float, y: float, colour: str) -> None:
    """A matrix that is mostly holes."""
    there = np.random.default_rng(4).random((6, 6)) < 0.28
    _boxes(axes, [(x - 0.24, y - 0.24, 0.48, 0.48)], colour, 0.12)
    cells = [(x - 0.24 + 0.08 * j, y - 0.24 + 0.08 * i, 0.07, 0.07) for i, j in np.argwhere(there)]
    _boxes(axes, cells, colour)


def two_vectors(axes: Axes, x: float, y: float, colour: str) -> None:
    """A user and a movie as arrows, and what one throws on the other."""
    _arrow(axes, (x - 0.2, y - 0.16), (x + 0.25, y - 0.05), colour)
    _arrow(axes, (x - 0.2, y - 0.16), (x + 0.06, y + 0.24), colour)
    axes.plot([x + 0.06, x + 0.143], [y + 0.24, y - 0.075], ":", color=colour, linewidth=1.4)


def all_pairs(axes: Axes, x: float, y: float, colour: str) -> None:
    """Any feature meets any other."""
    turns = np.linspace(0, 2 * np.pi, 5, endpoint=False) + np.pi / 2
    at = [(x + 0.25 * np.cos(t), y + 0.25 * np.sin(t)) for t in turns]
    pairs = [(at[i], at[j]) for i in range(5) for j in range(i)]
    _lines(axes, pairs, colour, 1.0)
    _dots(axes, at, colour, 20)


def layers(axes: Axes, x: float, y: float, colour: str) -> None:
    """A bent line through points: what layers of hinges make."""
    across = np.linspace(-0.26, 0.26, 60)
    bends = -0.2 + 1.5 * np.maximum(across + 0.14, 0) - 2.4 * np.maximum(across - 0.04, 0)
    bends += 2.2 * np.maximum(across - 0.16, 0)
    axes.plot(x + across, y + bends, color=colour, linewidth=2.2, zorder=4)
    scatter = np.random.default_rng(5).normal(0, 0.045, 18)
    at = np.linspace(-0.25, 0.25, 18)
    _dots(axes, [*zip(x + at, y + np.interp(at, across, bends) + scatter, strict=True)], colour, 7)


def whole_model(axes: Axes, x: float, y: float, colour: str) -> None:
    """Tables and a bottom MLP, a crossing, a top MLP."""
    _boxes(axes, [(x - 0.25 + 0.14 * i, y - 0.28, 0.1, 0.16) for i in range(4)], colour, 0.55)
    _lines(axes, [((x - 0.2 + 0.14 * i, y - 0.11), (x, y + 0.02)) for i in range(4)], colour, 1.0)
    _boxes(axes, [(x - 0.12, y + 0.02, 0.24, 0.09), (x - 0.07, y + 0.15, 0.14, 0.12)], colour)


def triangle(axes: Axes, x: float, y: float, colour: str) -> None:
    """Three that meet at once."""
    at = [(x, y + 0.24), (x - 0.23, y - 0.15), (x + 0.23, y - 0.15)]
    axes.add_patch(Polygon(at, facecolor=colour, alpha=0.3, zorder=2))
    _lines(axes, [(at[i], at[i - 1]) for i in range(3)], colour, 1.4)
    _dots(axes, at, colour, 26)


def log_lines(axes: Axes, x: float, y: float, colour: str) -> None:
    """Rows without end, a few of them clicked."""
    for i in range(6):
        height = y + 0.2 - 0.085 * i
        _boxes(axes, [(x - 0.17, height, 0.4 - 0.06 * (i * 7 % 3), 0.035)], colour, 0.45)
    _dots(axes, [(x - 0.24, y + 0.134), (x - 0.24, y - 0.121)], colour, 16)


def night_sky(axes: Axes, x: float, y: float, colour: str) -> None:
    """A table in the dark, and the rows that one batch touched."""
    _boxes(axes, [(x - 0.25, y - 0.25, 0.5, 0.5)], colour)
    across, up = np.random.default_rng(11).uniform(-0.21, 0.21, (2, 13))
    axes.scatter(x + across, y + up, np.geomspace(2, 26, 13), color="white", linewidths=0, zorder=5)


def shrinking(axes: Axes, x: float, y: float, colour: str) -> None:
    """The same in less."""
    for side, fill in ((0.5, 0.2), (0.3, 0.45), (0.15, 1.0)):
        _boxes(axes, [(x - 0.25, y - 0.25, side, side)], colour, fill)


def clock(axes: Axes, x: float, y: float, colour: str) -> None:
    """One step, once around."""
    for first, last, fill in ((90, 200, 1.0), (200, 320, 0.5), (320, 450, 0.22)):
        axes.add_patch(
            Wedge((x, y), 0.27, first, last, width=0.13, facecolor=colour, alpha=fill, zorder=3)
        )
    _lines(axes, [((x, y), (x, y + 0.13)), ((x, y), (x + 0.08, y - 0.05))], colour, 1.6)


def chip(axes: Axes, x: float, y: float, colour: str) -> None:
    """A processor with many legs."""
    legs = [-0.12, -0.04, 0.04, 0.12]
    _lines(axes, [((x + d, y - 0.27), (x + d, y + 0.27)) for d in legs], colour, 1.6)
    _lines(axes, [((x - 0.27, y + d), (x + 0.27, y + d)) for d in legs], colour, 1.6)
    _boxes(axes, [(x - 0.18, y - 0.18, 0.36, 0.36)], colour)
    axes.add_patch(Circle((x - 0.1, y + 0.1), 0.025, facecolor="white", zorder=5))


def tower(axes: Axes, x: float, y: float, colour: str) -> None:
    """One tower of tables, or four low houses."""
    heights = (0.14, 0.1, 0.07, 0.05, 0.05)
    bottom = y - 0.26
    for i, height in enumerate(heights):
        _boxes(axes, [(x - 0.26, bottom, 0.14, height)], colour, 1 - 0.15 * i)
        bottom += height + 0.015
    _arrow(axes, (x - 0.06, y), (x + 0.08, y), colour, 1.2)
    _boxes(axes, [(x + 0.13, y - 0.26 + 0.14 * i, 0.15, 0.09) for i in range(4)], colour, 0.8)


def cuts(axes: Axes, x: float, y: float, colour: str) -> None:
    """A table cut by rows, by columns, into blocks."""
    for dx, dy, cut in ((-0.26, 0.03, "rows"), (0.03, 0.03, "columns"), (-0.26, -0.26, "both"),
                        (0.03, -0.26, "whole")):  # fmt: skip
        _boxes(axes, [(x + dx, y + dy, 0.23, 0.23)], colour, 1.0 if cut == "whole" else 0.6)
        middle = ((x + dx, y + dy + 0.115), (x + dx + 0.23, y + dy + 0.115))
        upright = ((x + dx + 0.115, y + dy), (x + dx + 0.115, y + dy + 0.23))
        if cut in ("rows", "both"):
            _lines(axes, [middle], "white", 2)
        if cut in ("columns", "both"):
            _lines(axes, [upright], "white", 2)


def everybody_to_everybody(axes: Axes, x: float, y: float, colour: str) -> None:
    """Parcels from each rank to each other one."""
    rows = [-0.2, -0.067, 0.067, 0.2]
    _lines(axes, [((x - 0.22, y + a), (x + 0.22, y + b)) for a in rows for b in rows], colour, 0.8)
    _dots(axes, [(x + side, y + a) for side in (-0.22, 0.22) for a in rows], colour, 22)


def real_ones(axes: Axes, x: float, y: float, colour: str) -> None:
    """Processes as bars of a timeline, one of them late."""
    bars = ((0.18, -0.26, 0.4), (0.04, -0.26, 0.3), (-0.1, -0.26, 0.52), (-0.24, -0.26, 0.36))
    for dy, dx, length in bars:
        _boxes(axes, [(x + dx, y + dy, length, 0.085)], colour, 1.0 if length > 0.5 else 0.55)
    axes.plot([x + 0.26] * 2, [y - 0.27, y + 0.29], ":", color=colour, linewidth=1.3, zorder=3)


def half_circle(axes: Axes, x: float, y: float, colour: str) -> None:
    """The commonest verdict: holds when."""
    axes.add_patch(Circle((x, y), 0.25, facecolor="white", edgecolor=colour, linewidth=2, zorder=3))
    axes.add_patch(Wedge((x, y), 0.25, 90, 270, facecolor=colour, zorder=4))


GLYPHS: Mapping[str, Glyph] = {
    "00": start,
    "01": ratings,
    "02": two_vectors,
    "03": all_pairs,
    "04": layers,
    "05": whole_model,
    "06": triangle,
    "07": log_lines,
    "08": night_sky,
    "09": shrinking,
    "10": clock,
    "11": chip,
    "12": tower,
    "13": cuts,
    "14": everybody_to_everybody,
    "15": real_ones,
    "16": half_circle,
}
