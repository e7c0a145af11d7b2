"""Chapter 10's clock: one profiled step, once around, and the bars that it is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.projections.polar import PolarAxes

from dlrm_mini import style
from dlrm_mini.pictures.sparse_training import NIGHT
from dlrm_mini.plots import GROUP_COLOURS
from dlrm_mini.profiling.parts import GROUPS, PARTS

GROUP_OF = {part: group for group, parts in GROUPS.items() for part in parts}
INNER, STRIP, RINGS = 2.7, 0.8, 5  # radius, width of the strip's ring, rings of operators
LETTER = 0.105  # how far around a letter is
PALE = style.PALE_BLUE


class Bar(NamedTuple):
    """From `start` to `end`, in milliseconds since the step began; `part` is of `parts.PARTS`.

    `depth` counts the operators around this one.
    """

    start: float
    end: float
    depth: int
    part: str


@dataclass(frozen=True)
class Film:
    """One step.

    Attributes:
        strip: without gaps or overlaps: whose the time is.
        operators: what ran, each inside the one that called it.
        phases: "forward", "backward" and "update" -> begin and end.
    """

    strip: list[Bar]
    operators: list[Bar]
    phases: dict[str, tuple[float, float]]

    @property
    def wall(self) -> float:
        """The milliseconds of the step."""
        return self.strip[-1].end

    def parts(self) -> dict[str, float]:
        """Part -> milliseconds of the strip."""
        found = {part: sum(b.end - b.start for b in self.strip if b.part == part) for part in PARTS}
        return {part: ms for part, ms in found.items() if ms}


def clock(film: Film) -> Figure:
    """One step, once around: the strip as a ring, and what ran at each moment as its corona.

    The colours are those of the groups, but nobody says which is which: that is the question.

    Args:
        film: the step.
    """
    picture = Figure(figsize=(8.6, 7.6), facecolor=NIGHT)
    picture.set_layout_engine("none")
    axes = picture.add_axes((0.07, 0.045, 0.86, 0.86), projection="polar")
    assert isinstance(axes, PolarAxes)
    axes.set(facecolor=NIGHT)
    axes.set_theta_zero_location("N")
    axes.set_theta_direction(-1)
    turn = 2 * np.pi / film.wall
    _ring(axes, film.strip, turn, INNER, STRIP, 1.0)
    low = INNER + STRIP + 0.06
    for depth in range(RINGS):
        high = 0.62 * 0.82**depth
        row = [bar for bar in film.operators if bar.depth == depth]
        _ring(axes, row, turn, low, high, 0.9 * 0.8**depth)
        low += high + 0.04
    _dial(axes, film, turn, low)
    axes.text(0, 0, f"one training step\n{film.wall:.0f} ms", ha="center", va="center",
              color=PALE, fontsize=15, linespacing=1.5)  # fmt: skip
    axes.set_ylim(0, low + 0.5)
    axes.axis("off")
    title = "Where does the time go?"
    picture.suptitle(title, x=0.03, y=0.975, ha="left", color="white", fontsize=17, weight="bold")
    handles = [Patch(color=colour, label="?") for colour in GROUP_COLOURS.values()]
    picture.legend(handles=handles, loc="lower left", labelcolor=PALE, fontsize=12,
                   bbox_to_anchor=(0.015, 0.01), handlelength=1.1)  # fmt: skip
    return picture


def _ring(
    axes: PolarAxes, bars: Sequence[Bar], turn: float, low: float, high: float, alpha: float
) -> None:
    """Bars around a circle."""
    start, wide = (
        turn * np.array(v) for v in ([b.start for b in bars], [b.end - b.start for b in bars])
    )
    colours = [GROUP_COLOURS[GROUP_OF[bar.part]] for bar in bars]
    axes.bar(start, high, wide, low, align="edge", color=colours, alpha=alpha, linewidth=0.4,
             edgecolor=NIGHT)  # fmt: skip


def _dial(axes: PolarAxes, film: Film, turn: float, rim: float) -> None:
    """Ticks of milliseconds outside, the three phases inside."""
    every = next(n for n in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1e9) if film.wall / n <= 12)
    for ms in np.arange(0, film.wall - 0.3 * every, every):
        axes.plot([ms * turn] * 2, [rim, rim + 0.12], color=PALE, linewidth=1.2)
        axes.text(
            ms * turn, rim + 0.38, f"{ms:g}", color=PALE, ha="center", va="center", fontsize=11
        )
    for name, (start, end) in film.phases.items():
        around = np.linspace(start * turn, end * turn, 200)[2:-2]
        axes.plot(around, np.full(len(around), INNER - 0.14), color=PALE, linewidth=2)
        if (end - start) * turn > LETTER * len(name):
            _along(axes, name, (start + end) / 2 * turn, INNER - 0.45)


def _along(axes: PolarAxes, word: str, middle: float, radius: float) -> None:
    """A word written along a circle, upright in the upper half and in the lower."""
    lower = np.pi / 2 < middle % (2 * np.pi) < 3 * np.pi / 2
    step = -LETTER if lower else LETTER
    for place, letter in enumerate(word):
        angle = middle + (place - (len(word) - 1) / 2) * step
        turned = -np.degrees(angle) + (180 if lower else 0)
        axes.text(angle, radius, letter, color=PALE, ha="center", va="center", fontsize=12.5,
                  rotation=turned, family="monospace")  # fmt: skip
