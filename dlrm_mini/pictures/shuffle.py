"""The butterfly shuffle, step by step: from all rows of a rank's tables to all tables of its rows.

Each block is one pooled vector. Its column is a table, in the colour of the rank that holds it; its
row is a row of the batch, with a dot in the colour of the rank whose row it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Patch, Rectangle

from dlrm_mini import style
from dlrm_mini.errors import UserError

Colour = tuple[float, float, float]
State = Literal["full", "gone", "awaited"]
KEY = (
    "column: a table, in the colour of the rank that holds it; row: a row of the batch, the dot is "
    "its rank's; pale: sent; dotted: awaited"
)
WIDTH = 30  # cells, at the least
SMALL = 0.62  # of a block on its way, beside one that is at rest
MOST = len(style.PALETTE)  # ranks: one colour each


def steps(ranks: int) -> int:
    """How many pictures there are: before, one for each distance 1..P-1, and after."""
    return ranks + 1


def draw_shuffle(
    tables: Sequence[int], rows: Sequence[int], step: int, *, backward: bool = False
) -> Figure:
    """One picture of the all-to-all between lookups and dense part.

    At step k, every rank sends to the rank k further, round the circle; what it has for itself is
    in place from the first step on, and moves over no link.

    Args:
        tables: of each rank: how many whole tables it holds.
        rows: of each rank: how many rows of the batch it has.
        step: 0, before; 1..P-1, messages on their way; P, after. Any further step looks as P.
        backward: gradients on the way back, instead of vectors on the way there.

    Raises:
        UserError: no ranks, more than have a colour, or lists that do not fit each other.
    """
    if not 1 <= len(tables) == len(rows) <= MOST or min(*tables, *rows) < 0:
        raise UserError(
            f"The shuffle has {len(tables)} ranks with tables and {len(rows)} with rows; expected "
            f"as many of both, 1 to {MOST}, and no number below 0."
        )
    scene = _Scene(list(tables), list(rows), backward, min(max(step, 0), len(tables)))
    return scene.draw()


@dataclass(frozen=True)
class _Scene:
    tables: list[int]
    rows: list[int]
    backward: bool
    step: int

    @property
    def size(self) -> int:
        return len(self.tables)

    @property
    def holders(self) -> list[int]:
        """The rank of each table."""
        return [rank for rank, number in enumerate(self.tables) for _ in range(number)]

    @property
    def homes(self) -> list[int]:
        """The rank of each row of the batch."""
        return [rank for rank, number in enumerate(self.rows) for _ in range(number)]

    @property
    def pitch(self) -> float:
        """From one rank to the next, in cells."""
        return max(len(self.holders), WIDTH / self.size - 2.3, 3) + 2.3

    @property
    def middle(self) -> float:
        """Cells between the two rows of ranks: room for two messages, one above the other."""
        return 2 * SMALL * max(self.rows) + 2.2 + 0.4 * self.size

    def distance(self, row: int, table: int) -> int:
        """How much further than its sender a block's receiver is, round the circle."""
        there, here = self.homes[row], self.holders[table]
        return (here - there if self.backward else there - here) % self.size

    def state(self, row: int, table: int, arriving: bool) -> State:
        """What is seen of a block where it comes from, or where it goes to."""
        at = self.distance(row, table)
        left = self.step >= max(at, 1)
        if arriving:
            return "full" if left and (self.step > at or not at) else "awaited"
        return "gone" if left else "full"

    def draw(self) -> Figure:
        batch, most = len(self.homes), max(self.rows)
        high = [batch, most] if not self.backward else [most, batch]
        wide, tall = self.size * self.pitch, sum(high) + self.middle + 7.1
        inch = min(0.27, 12.5 / wide)
        height = inch * tall + 0.75
        figure = Figure(figsize=(inch * wide + 0.3, height))
        figure.set_layout_engine("none")
        axes = figure.add_axes((0.01, 0.01, 0.98, 1 - 0.7 / height))
        axes.set(xlim=(-0.2, wide), ylim=(tall - 0.3, -0.3), aspect="equal")
        axes.axis("off")
        scale = inch * 72  # points a cell
        for place, arriving in enumerate((False, True)):
            top = 2.2 if not arriving else 2.2 + high[0] + self.middle + 2.6
            for rank in range(self.size):
                by_table = arriving == self.backward
                self._rank(axes, rank, top, high[place], by_table, arriving, scale)
        if 0 < self.step < self.size:
            for sender in range(self.size):
                self._message(axes, sender, 2.2 + high[0] + 0.5, self.middle - 0.2, scale)
        axes.text(0.15, tall - 0.8, KEY, fontsize=10, va="center", color=style.GREY)
        figure.suptitle(self._title(), x=0.015, ha="left", fontsize=12.5, weight="bold",
                        linespacing=1.5)  # fmt: skip
        return figure

    def _title(self) -> str:
        what = "gradient" if self.backward else "vector"
        table, row = f"every rank has its own tables' {what}s, for the whole batch", (
            f"every rank has its own rows' {what}s, of all tables"
        )  # fmt: skip
        first, last = (row, table) if self.backward else (table, row)
        distances = [
            self.distance(row, table)
            for row in range(len(self.homes)) for table in range(len(self.holders))
        ]  # fmt: skip
        moving = sum(at == self.step for at in distances)
        there = sum(at < self.step for at in distances)
        if self.step == 0:
            return f"Before: {first}"
        if self.step == self.size:
            over = sum(at > 0 for at in distances)
            return f"After: {last}\n{over} {what}s came over links, {there - over} stayed"
        return (
            f"Round {self.step} of {self.size - 1}: every rank sends to the one {self.step} "
            f"further round\n{moving} {what}s on their way, {there} in place, "
            f"{len(distances) - moving - there} still to go"
        )

    def _rank(
        self, axes: Axes, rank: int, top: float, high: int, by_table: bool, arriving: bool,
        scale: float,
    ) -> None:  # fmt: skip
        """One rank's card: the blocks that it has, had, or waits for."""
        columns = [t for t, holder in enumerate(self.holders) if not by_table or holder == rank]
        rows = [s for s, home in enumerate(self.homes) if by_table or home == rank]
        left = rank * self.pitch + 0.15
        card = self.pitch - 0.6
        colour = style.PALETTE[rank]
        axes.add_patch(FancyBboxPatch(
            (left, top - 1.6), card, high + 2.0, boxstyle="round,pad=0,rounding_size=0.5",
            facecolor=_pale(colour, 0.9), edgecolor=colour, linewidth=1.4,
        ))  # fmt: skip
        axes.text(left + 0.4, top - 1.05, f"rank {rank}", color=_dark(colour), weight="bold",
                  va="center", fontsize=max(0.62 * scale, 7.5))  # fmt: skip
        x = left + (card - len(columns)) / 2 + 0.3
        y = top + (high - len(rows)) / 2
        dots = [
            Circle((x - 0.5, y + row + 0.5), 0.2, linewidth=0,
                   facecolor=style.PALETTE[self.homes[s]])
            for row, s in enumerate(rows)
        ]  # fmt: skip
        blocks = [
            self._block(x + column, y + row, 1.0, t, self.state(s, t, arriving))
            for row, s in enumerate(rows)
            for column, t in enumerate(columns)
        ]
        _add(axes, dots, 1)
        _add(axes, blocks, 4)
        for column, t in enumerate(columns):
            axes.text(x + column + 0.5, y - 0.32, f"{t}", ha="center", va="center",
                      color=style.INK, fontsize=max(0.45 * scale, 5.5))  # fmt: skip

    def _block(self, x: float, y: float, side: float, table: int, state: State) -> Rectangle:
        colour, gap = self._colour(table), 0.07 * side
        looks: dict[State, dict[str, Any]] = {
            "full": {"facecolor": colour, "linewidth": 0},
            "gone": {"facecolor": _pale(colour, 0.78), "linewidth": 0},
            "awaited": {"facecolor": "white", "edgecolor": _pale(colour, 0.45), "linestyle": ":"},
        }
        return Rectangle((x + gap, y + gap), side - 2 * gap, side - 2 * gap, **looks[state])

    def _message(self, axes: Axes, sender: int, top: float, high: float, scale: float) -> None:
        """What one rank sends at this step: an arrow, and its blocks on it."""
        receiver = (sender + self.step) % self.size
        holder, home = (receiver, sender) if self.backward else (sender, receiver)
        tables = [t for t, rank in enumerate(self.holders) if rank == holder]
        rows = self.rows[home]
        if not tables or not rows:
            return
        ends = [((rank + 0.5) * self.pitch - 0.15, y)
                for rank, y in ((sender, top), (receiver, top + high))]  # fmt: skip
        arrow = f"-|>,head_length={0.35 * scale},head_width={0.16 * scale}"
        line = _pale(style.PALETTE[sender], 0.35)
        axes.add_patch(FancyArrowPatch(
            *ends, arrowstyle=arrow, color=line, linewidth=1.8, shrinkA=0, shrinkB=0, zorder=2
        ))  # fmt: skip
        # Those that go round the end cross the others: they are drawn further on their way.
        at = 0.27 if receiver > sender else 0.66
        (x0, y0), (x1, y1) = ends
        x = x0 + at * (x1 - x0) - SMALL * len(tables) / 2
        y = y0 + at * (y1 - y0) - SMALL * rows / 2
        axes.add_patch(FancyBboxPatch(
            (x, y), SMALL * len(tables), SMALL * rows,
            boxstyle="round,pad=0.14,rounding_size=0.2", facecolor="white",
            edgecolor=style.PALETTE[sender], linewidth=1.2, zorder=3,
        ))  # fmt: skip
        blocks = [
            self._block(x + SMALL * column, y + SMALL * row, SMALL, t, "full")
            for row in range(rows)
            for column, t in enumerate(tables)
        ]
        _add(axes, blocks, 4)

    def _colour(self, table: int) -> Colour:
        """A shade of its rank's colour for each table."""
        rank = self.holders[table]
        place = table - self.holders.index(rank)
        return _pale(style.PALETTE[rank], 0.42 * place / max(self.tables[rank] - 1, 1))


def _add(axes: Axes, patches: Sequence[Patch], zorder: float) -> None:
    """All patches at once: one by one, hundreds of them would take longer than a hand waits."""
    together = PatchCollection(patches, match_original=True, zorder=zorder)
    axes.add_collection(together, autolim=False)


def _pale(colour: str | Colour, white: float) -> Colour:
    red, green, blue = np.array(to_rgb(colour)) * (1 - white) + white
    return float(red), float(green), float(blue)


def _dark(colour: str) -> Colour:
    red, green, blue = 0.72 * np.array(to_rgb(colour))
    return float(red), float(green), float(blue)
