"""A DLRM as a block diagram that can grow: its seven parts, from the inputs to the loss.

Boxes are not to scale; widths and numbers of parameters are written in.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Patch, Polygon, Rectangle

from dlrm_mini import style
from dlrm_mini.errors import UserError
from dlrm_mini.models.dlrm_config import DLRMConfig

STAGES = (
    "dense and sparse inputs",
    "embedding tables",
    "bottom MLP",
    "the vectors side by side",
    "interaction",
    "concatenation and top MLP",
    "logit, sigmoid and loss",
)
DENSE, SPARSE, PAIRS, TOP, LOSS = style.BLUE, style.GREEN, style.ORANGE, style.PURPLE, style.RED
FAINT = "#D9D9D9"
ALL = 5  # up to ALL tables are drawn, of more the first three and the last
LANE, LOW, HIGH = 40.0, 6.0, 29.0  # heights of the dense lane, the last table and the first
MIDDLE = 24.0  # height of the interaction
BAR = (11.0, 43.0)  # from where to where the top MLP's input reaches


def draw(config: DLRMConfig, stage: int = len(STAGES)) -> Figure:
    """The architecture from left to right; 900 pixels wide at 90 dots an inch.

    Args:
        config: the sizes.
        stage: how many of the seven parts are drawn in colour; the others are faint outlines.

    Raises:
        UserError: a stage that is not in 1..7.
    """
    if stage not in range(1, len(STAGES) + 1):
        raise UserError(f"stage is {stage}; change it to a whole number in 1..{len(STAGES)}.")
    picture = Figure(figsize=(10, 5.5), constrained_layout=False, facecolor="white")
    axes = picture.add_axes((0, 0, 1, 0.92))
    axes.set(xlim=(0, 100), ylim=(0, 50.6))
    axes.set_axis_off()
    total = sum(config.parameters().values())
    title = f"{total:,} parameters: where do they sit?"
    if stage < len(STAGES):
        title = f"Step {stage} of {len(STAGES)}: {STAGES[stage - 1]}"
    axes.set_title(title, loc="left", x=0.012, fontsize=12, fontweight="bold", color=style.INK)
    for part, painter in enumerate(
        (_inputs, _tables, _bottom, _vectors, _interaction, _top, _loss), start=1
    ):
        painter(_Brush(axes, part <= stage), config)
    return picture


@dataclass(frozen=True)
class _Brush:
    """Draws in colour, or, for what is not built yet, faint outlines without words."""

    axes: Axes
    lit: bool

    def text(self, x: float, y: float, words: str, size: float = 8.5, **more: Any) -> None:
        if self.lit:
            look: dict[str, Any] = {"ha": "center", "va": "center", "color": style.INK}
            self.axes.text(x, y, words, fontsize=size, **(look | more))

    def heading(self, x: float, words: str, colour: str = style.INK) -> None:
        self.text(x, LANE + 7.6, words, 10, fontweight="bold", color=colour, va="baseline")

    def rectangle(self, x: float, y: float, width: float, height: float, colour: str,
                  alpha: float = 1.0) -> None:  # fmt: skip
        face, edge = ((colour, alpha), "white") if self.lit else ("white", FAINT)
        self._put(Rectangle((x, y), width, height, facecolor=face, edgecolor=edge, linewidth=0.7))

    def _put(self, patch: Patch) -> None:
        self.axes.add_artist(patch)  # add_patch would measure it, which takes most of the time

    def box(self, x: float, y: float, width: float, height: float, colour: str,
            tint: float = 0.12) -> None:  # fmt: skip
        """A rounded box with its left lower corner at (x, y)."""
        rounded = "round,pad=0,rounding_size=0.7"
        face = (colour, tint) if self.lit else "white"
        edge = colour if self.lit else FAINT
        self._put(
            FancyBboxPatch((x, y), width, height, rounded, facecolor=face, edgecolor=edge,
                           linewidth=1.2)
        )  # fmt: skip

    def arrow(self, start: tuple[float, float], end: tuple[float, float],
              colour: str = style.GREY) -> None:  # fmt: skip
        look = {"arrowstyle": "-|>", "color": colour if self.lit else FAINT, "linewidth": 1.2,
                "shrinkA": 0, "shrinkB": 0, "mutation_scale": 9}  # fmt: skip
        self.axes.annotate("", end, start, arrowprops=look)

    def mlp(self, x: tuple[float, float], middle: float, heights: Sequence[float],
            widths: Sequence[int], colour: str) -> None:  # fmt: skip
        """Layers as bars, joined by shades, each with its width above it."""
        step = (x[1] - x[0]) / (len(widths) - 1)
        bars = [(x[0] + place * step, height / 2) for place, height in enumerate(heights)]
        for (left, a), (right, b) in pairwise(bars):
            corners = [(left, middle - a), (left, middle + a), (right, middle + b),
                       (right, middle - b)]  # fmt: skip
            face, edge = ((colour, 0.18), "none") if self.lit else ("white", FAINT)
            self._put(Polygon(corners, facecolor=face, edgecolor=edge, linewidth=0.7))
        tight = step < 0.85 * len(str(max(widths)))  # then every second number moves up
        for number, ((place, half), width) in enumerate(zip(bars, widths, strict=True)):
            self.rectangle(place - 0.6, middle - half, 1.2, 2 * half, colour)
            lift = 1.6 if tight and number % 2 else 0.0
            self.text(place, middle + half + 1.1 + lift, str(width), 8)


def _rows(config: DLRMConfig) -> list[tuple[str | None, float]]:
    """The tables that are drawn, with their heights; None stands for those left out."""
    names: list[str | None] = list(config.cardinalities)
    if len(names) > ALL:
        names = [*names[:3], None, names[-1]]
    if len(names) == 1:
        return [(names[0], MIDDLE)]
    pitch = min(10.0, (HIGH - LOW) / (len(names) - 1))
    return [(name, HIGH - place * pitch) for place, name in enumerate(names)]


def _shorten(name: str, length: int = 10) -> str:
    return name if len(name) <= length else f"{name[: length - 1]}…"


def _many(number: int, thing: str) -> str:
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def _log_heights(widths: Sequence[int], tallest: float) -> list[float]:
    """Heights that grow with the logarithm of a width, the largest `tallest`."""
    top = math.log2(max(widths) + 1)
    return [max(0.8, tallest * math.log2(width + 1) / top) for width in widths]


def _dots(brush: _Brush, x: float, y: float) -> None:
    brush.text(x, y, "⋮", 13, color=style.GREY)


def _inputs(brush: _Brush, config: DLRMConfig) -> None:
    cells = min(config.n_dense, 6)
    for place in range(cells):
        brush.rectangle(5.5, LANE - cells + 2 * place, 2.2, 2, DENSE, (0.5, 0.85, 0.65)[place % 3])
    brush.text(6.6, LANE - cells - 1.3, f"{config.n_dense} dense")
    for name, y in _rows(config):
        if name is None:
            _dots(brush, 6.6, y)
            continue
        ids = config.lookups_by_table[name]
        brush.box(1.2, y - 1.9, 10.8, 3.8, SPARSE)
        brush.text(6.6, y + 0.75, _shorten(name), fontweight="bold")
        brush.text(6.6, y - 0.85, _many(ids, "id"), 8)


def _tables(brush: _Brush, config: DLRMConfig) -> None:
    for name, y in _rows(config):
        if name is None:
            rest = len(config.cardinalities) - 4
            _dots(brush, 27, y)
            brush.text(28.2, y, f"{rest} more", 8, ha="left", color=style.GREY)
            continue
        rows = config.cardinalities[name]
        brush.arrow((12.2, y), (16.8, y))
        brush.box(17, y - 2.3, 21, 4.6, SPARSE)
        for line in range(4):  # the table, and the row that is looked up
            brush.rectangle(18, y - 1.6 + 0.8 * line, 3.6, 0.8, SPARSE, 0.9 if line == 2 else 0.3)
        brush.text(30, y + 0.85, f"{rows:,} \u00d7 {config.dim}", fontweight="bold")
        brush.text(30, y - 0.95, _many(rows * config.dim, "parameter"), 8)
    below = _rows(config)[-1][1] - 4.1
    brush.text(27.5, below, "embedding tables", 10, fontweight="bold", color=SPARSE)


def _bottom(brush: _Brush, config: DLRMConfig) -> None:
    sizes = config.bottom_sizes
    brush.arrow((8, LANE), (15.6, LANE))
    brush.mlp((17, 37), LANE, _log_heights(sizes, 8.5), sizes, DENSE)
    count = config.parameters()["bottom MLP"]
    brush.heading(27, "bottom MLP", DENSE)
    brush.text(27, LANE - 6.3, _many(count, "parameter"), 8)


def _vectors(brush: _Brush, config: DLRMConfig) -> None:
    rows = _rows(config)
    brush.box(42, rows[-1][1] - 2.6, 10.6, LANE - rows[-1][1] + 5.2, style.GREY, 0.1)
    brush.heading(47.3, f"n = {config.n_vectors} vectors")
    brush.text(47.3, LANE + 5.4, f"of width {config.dim}")
    cells = min(config.dim, 8)
    for row, (name, y) in enumerate([("dense", LANE), *rows]):
        if name is None:
            _dots(brush, 47.3, y)
            continue
        start = 37.8 if y == LANE else 38.2
        brush.arrow((start, y), (41.8, y))
        for place in range(cells):
            alpha = (0.45, 0.8, 0.6, 0.95, 0.7)[(place * 3 + row * 4) % 5]
            x = 47.3 + (place - cells / 2) * 1.15
            brush.rectangle(x, y - 1.1, 1.15, 2.2, DENSE if y == LANE else SPARSE, alpha)


def _interaction(brush: _Brush, config: DLRMConfig) -> None:
    if config.interaction == "dot":
        _triangle(brush, config)
        return
    brush.heading(63.5, "concatenation")
    brush.text(63.5, LANE + 5.4, f"{config.n_vectors} · {config.dim} = {config.top_input}")
    for name, y in _rows(config):
        if name is not None:
            brush.arrow((52.8, y), (73.6, _segment(y)), SPARSE)


def _segment(y: float) -> float:
    """Where on the top MLP's input bar the vector from height y ends."""
    low, high = BAR[0] + 2, LANE - 6
    return low + (y - LOW) / (HIGH - LOW) * (high - low)


def _triangle(brush: _Brush, config: DLRMConfig) -> None:
    names = ["dense", *(name for name, _ in _rows(config))]
    own, n, size = config.self_interaction, config.n_vectors, 14 / len(names)
    left, top = 57.0, MIDDLE + 7
    for row, one in enumerate(names):
        # A margin of colours: which vector the row, and the column, belongs to.
        colour, alpha = DENSE if row == 0 else SPARSE, 0.3 if one is None else 1.0
        brush.rectangle(left - 1.0, top - (row + 1) * size, 0.7, size, colour, alpha)
        brush.rectangle(left + row * size, top - 15.0, size, 0.7, colour, alpha)
        for column, other in enumerate(names[: row + 1]):
            x, y = left + column * size, top - (row + 1) * size
            kept = column < row or own
            alpha = 0.2 if one is None or other is None else 0.85
            if kept:
                brush.rectangle(x, y, size, size, PAIRS, alpha)
            else:
                brush.rectangle(x, y, size, size, "#F2F2F2")
    brush.arrow((52.8, MIDDLE), (55.8, MIDDLE))
    pairs = config.top_input - config.dim
    brush.heading(63.5, "dot interaction", style.DARK_ORANGE)
    formula = f"{n} · {n + 1 if own else n - 1} / 2 = {pairs:,}"
    brush.text(63.5, top - 14 - 3.9, f"each pair once:\n{formula} products")


def _top(brush: _Brush, config: DLRMConfig) -> None:
    brush.arrow((52.8, LANE), (73.6, LANE), DENSE)
    brush.text(63.5, LANE + 1.4, "the dense vector, as it is", 8, color=DENSE)
    if config.interaction == "dot":
        brush.arrow((71.3, MIDDLE), (73.6, MIDDLE), PAIRS)
    sizes, (low, high) = config.top_sizes, BAR
    middle = (low + high) / 2
    heights = [high - low, *_log_heights(sizes[1:], 17)]
    x = (74.6, 89.5 if len(sizes) > 2 else 84)
    brush.mlp(x, middle, heights, sizes, TOP)
    split = LANE - 3
    rest = PAIRS if config.interaction == "dot" else SPARSE
    brush.rectangle(x[0] - 0.6, low, 1.2, split - low, rest)
    brush.rectangle(x[0] - 0.6, split, 1.2, high - split, DENSE)
    count = config.parameters()["top MLP"]
    brush.heading(83, "top MLP", style.MID_PURPLE)
    brush.text(83, low - 2.2, _many(count, "parameter"), 8)


def _loss(brush: _Brush, config: DLRMConfig) -> None:
    middle = sum(BAR) / 2
    end = 90.4 if len(config.top_sizes) > 2 else 85
    brush.arrow((end, middle), (91.8, middle))
    for y, words in ((middle, "logit"), (middle - 9, "sigmoid"), (middle - 18, "logloss")):
        brush.box(92, y - 1.7, 7.2, 3.4, LOSS)
        brush.text(95.6, y, words)
    brush.arrow((95.6, middle - 1.9), (95.6, middle - 7.1))
    brush.arrow((95.6, middle - 10.9), (95.6, middle - 16.1))
    brush.text(96.3, middle - 13.3, "p", 8.5, ha="left", style="italic")
    brush.arrow((95.6, middle - 23.5), (95.6, middle - 19.9))
    brush.text(95.6, middle - 24.6, "label", 8.5)
