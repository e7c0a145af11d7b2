"""The course as one picture: columns of questions that all end in the verdicts."""

import textwrap
from collections.abc import Collection

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from dlrm_mini import style

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
LAST = ("16", "Verdicts", "Every claim of the literature, read out: which still stand?")
COLOURS = (style.BLUE, style.GREEN, style.ORANGE, style.RED, style.PURPLE)
_WIDTH, _HEIGHT, _STEP = 2.32, 0.86, 2.68


def course_map(written: Collection[str]) -> Figure:
    """All chapters in reading order, column by column; those not written yet are outlined.

    Args:
        written: numbers of the chapters that exist, such as {"00", "01"}.
    """
    picture = Figure(figsize=(11.5, 5.2), layout="constrained")
    axes = picture.subplots()
    for column, (part, chapters) in enumerate(PARTS.items()):
        colour, x = COLOURS[column], column * _STEP
        axes.text(x, 0.72, part, fontsize=14, fontweight="bold", color=colour)
        for row, (number, title, question) in enumerate(chapters):
            corner = (x, -row * 1.08)
            _box(axes, corner, _WIDTH, colour, number in written, (number, title, question))
    width = (len(PARTS) - 1) * _STEP + _WIDTH
    _box(axes, (0, -4.5), width, style.INK, LAST[0] in written, LAST)
    _nest(axes, 0.0, -2.98, _STEP + _WIDTH)
    axes.set(xlim=(-0.1, width + 0.1), ylim=(-5.2, 1.1))
    axes.set_axis_off()
    axes.set_title("Seventeen chapters, one question each (outlined: still to be written)")
    return picture


def _box(
    axes: Axes,
    corner: tuple[float, float],
    width: float,
    colour: str,
    filled: bool,
    words: tuple[str, str, str],
) -> None:
    x, y = corner
    face = colour if filled else "white"
    # White on the palette's lighter colours would be too faint to read.
    ink = "white" if filled and colour in (style.BLUE, style.GREEN, style.INK) else style.INK
    rounded = "round,pad=0.02,rounding_size=0.1"
    axes.add_patch(
        FancyBboxPatch(
            (x, y - _HEIGHT + 0.28), width, _HEIGHT, rounded, facecolor=face, edgecolor=colour,
            linewidth=1.6,
        )
    )  # fmt: skip
    number, title, question = words
    axes.text(x + 0.08, y + 0.09, f"{number}  {title}", fontsize=8.8, fontweight="bold", color=ink,
              va="center")  # fmt: skip
    body = textwrap.fill(question, round(width * 12.2))
    axes.text(x + 0.08, y - 0.28, body, fontsize=9, color=ink, va="center", linespacing=1.1)


def _nest(axes: Axes, x: float, top: float, width: float) -> None:
    """Each model is recovered inside the next: three boxes, one in the other."""
    rounded = "round,pad=0.02,rounding_size=0.08"
    names = (("DLRM", style.GREEN), ("FM", style.SKY), ("MF", style.BLUE))
    for depth, (name, colour) in enumerate(names):
        left, inset = x + 0.84 * depth, 0.1 * depth
        axes.add_patch(
            FancyBboxPatch(
                (left, top - 0.92 + inset),
                2.5 - 0.84 * depth - inset,
                0.92 - 2 * inset,
                rounded,
                facecolor="white",
                edgecolor=colour,
                linewidth=1.6,
            )
        )
        axes.text(left + 0.1, top - 0.46, name, fontsize=11, fontweight="bold", va="center")
    words = "each model is recovered\ninside the next one,\nby copying its weights"
    axes.text(x + width - 2.35, top - 0.46, words, fontsize=9.5, style="italic", va="center")
