"""The course as one picture: a line with seventeen stations, a question at each."""

import textwrap

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, PathPatch
from matplotlib.path import Path

from dlrm_mini import style
from dlrm_mini.pictures.course_glyphs import GLYPHS

# Part -> its chapters: number, title, the question it answers.
PARTS: dict[str, list[tuple[str, str, str]]] = {
    "I  Begin": [
        ("00", "Start here", "How does one read this course?"),
        ("01", "The data", "How far do you get with no model at all?"),
        ("02", "Matrix factorization", "What do two vectors know about taste?"),
    ],
    "II  Build": [
        ("03", "Factorization machines", "May any feature meet any other?"),
        ("04", "The MLP", "Can a network find the product by itself?"),
        ("05", "DLRM", "What do all the parts make together?"),
    ],
    "III  Judge": [
        ("06", "Which interactions", "Is the third order worth its cost?"),
        ("07", "Click logs", "What changes at a million rows?"),
        ("08", "Sparse training", "What does one lookup's gradient cost?"),
        ("09", "Smaller tables", "What may a table forget?"),
    ],
    "IV  Measure": [
        ("10", "Where time goes", "Lookups or matrix products?"),
        ("11", "GPU training", "And on a GPU?"),
    ],
    "V  Distribute": [
        ("12", "The split", "Why cut the tables, not the batch?"),
        ("13", "Sharding plans", "Which table goes where?"),
        ("14", "Communication", "Is it the all-to-all?"),
        ("15", "For real", "Does the model predict the machine?"),
    ],
}
LAST = ("16", "Verdicts", "Which sentences still stand, and when?")
COLOURS = (style.BLUE, style.GREEN, style.ORANGE, style.RED, style.PURPLE)
_STEP, _DOWN, _RADIUS = 3.86, 1.22, 0.44  # between columns and stations; of a station
_BOTTOM = -3 * _DOWN  # the lowest station of the longest column


def course_map() -> Figure:
    """All chapters along one line in the order they are read, part by part."""
    picture = Figure(figsize=(15.0, 5.9), layout="constrained")
    axes = picture.subplots()
    columns = list(PARTS.items())
    for column, (part, chapters) in enumerate(columns):
        x, colour = column * _STEP, COLOURS[column]
        low = -(len(chapters) - 1) * _DOWN
        axes.plot([x, x], [0, low], color=colour, linewidth=7, alpha=0.35, zorder=1,
                  solid_capstyle="round")  # fmt: skip
        numeral, _, name = part.partition("  ")
        axes.text(x - _RADIUS, 0.78, f"{numeral}   {name}", fontsize=17, fontweight="bold",
                  color=style.INK)  # fmt: skip
        axes.plot([x - _RADIUS, x + 2.45], [0.68, 0.68], color=colour, linewidth=3)
        if column + 1 < len(columns):
            _onwards(axes, (x, low), x + _STEP)
        for row, chapter in enumerate(chapters):
            _station(axes, (x, -row * _DOWN), colour, chapter)
    end = ((len(columns) - 1) * _STEP, _BOTTOM)
    _last(axes, end)
    _nest(axes, -_RADIUS, _BOTTOM - 0.42)
    axes.set(xlim=(-0.6, end[0] + 2.75), ylim=(_BOTTOM - 1.72, 1.2), aspect="equal")
    axes.set_axis_off()
    axes.set_title("Seventeen chapters, one question each", fontsize=15)
    return picture


def _station(
    axes: Axes, at: tuple[float, float], colour: str, chapter: tuple[str, str, str]
) -> None:
    number, title, question = chapter
    x, y = at
    axes.add_patch(
        Circle(at, _RADIUS, facecolor="white", edgecolor=colour, linewidth=2.6, zorder=2)
    )
    GLYPHS[number](axes, x, y, colour)
    axes.text(x + 0.58, y + 0.22, f"{number}  {title}", fontsize=10, fontweight="bold",
              color=style.INK, va="center")  # fmt: skip
    axes.text(x + 0.58, y + 0.06, textwrap.fill(question, 23), fontsize=10, color=style.INK,
              va="top", linespacing=1.15)  # fmt: skip


def _onwards(axes: Axes, end: tuple[float, float], beyond: float) -> None:
    """From the last station of a column to the first one of the next."""
    x, low = end
    bend, gutter = low - 0.72, beyond - 0.66
    points = [
        (x, low - _RADIUS), (x, bend), (x + 0.3, bend), (gutter - 0.3, bend), (gutter, bend),
        (gutter, bend + 0.3), (gutter, -0.3), (gutter, 0), (beyond - _RADIUS, 0),
    ]  # fmt: skip
    codes = [Path.MOVETO, Path.CURVE3, Path.CURVE3, Path.LINETO, Path.CURVE3, Path.CURVE3,
             Path.LINETO, Path.CURVE3, Path.CURVE3]  # fmt: skip
    axes.add_patch(
        PathPatch(Path(points, codes), facecolor="none", edgecolor="#BBBBBB", linewidth=2.2,
                  zorder=0)
    )  # fmt: skip


def _last(axes: Axes, end: tuple[float, float]) -> None:
    """Chapter 16, where the line arrives."""
    x, y = end[0], end[1] - 1.2
    axes.plot([x, x], [end[1] - _RADIUS, y], color="#BBBBBB", linewidth=2.2, zorder=0)
    _station(axes, (x, y), style.INK, LAST)


def _nest(axes: Axes, left: float, top: float) -> None:
    """Each model is recovered inside the next: three boxes, one in the other."""
    rounded = "round,pad=0.02,rounding_size=0.1"
    names = (("DLRM", style.GREEN), ("FM", style.SKY), ("MF", style.BLUE))
    for depth, (name, colour) in enumerate(names):
        x, inset = left + 0.95 * depth, 0.12 * depth
        corner, size = (x, top - 1.1 + inset), (2.75 - 0.95 * depth - inset, 1.0 - 2 * inset)
        axes.add_patch(
            FancyBboxPatch(corner, *size, rounded, facecolor="white", edgecolor=colour,
                           linewidth=2.2)
        )  # fmt: skip
        axes.text(x + 0.14, top - 0.6, name, fontsize=13, fontweight="bold", va="center")
    words = "each model is recovered inside\nthe next, by copying its weights"
    axes.text(left + 3.0, top - 0.6, words, fontsize=11.5, style="italic", va="center")
