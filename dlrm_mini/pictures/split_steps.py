"""The steps of hybrid parallelism, drawn: what lies on which rank, and what was sent to get there.

Each rank is a window onto the whole batch, rows down and tables across. Rows belong to a rank, and
tables do: the all-to-all turns the one kind of band into the other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch, Rectangle

from dlrm_mini import style
from dlrm_mini.pictures.sparse_training import size

RANKS = (  # a colour for each rank; a ninth begins again
    style.BLUE, style.ORANGE, style.GREEN, style.RED,
    style.SKY, style.YELLOW, style.INK, style.GREY,
)  # fmt: skip
Kind = Literal["ids", "vectors", "logits", "gradients", "MLP gradients"]


@dataclass(frozen=True)
class Step:
    """A moment of hybrid parallelism.

    Attributes:
        words: what happens.
        kind: what lies on the ranks then.
        by: whether a rank has all tables of its rows, or all rows of its tables.
    """

    words: str
    kind: Kind
    by: Literal["rows", "tables"]


STEPS = (
    Step("1  each rank reads its own rows", "ids", "rows"),
    Step("2  ids go to where the tables are", "ids", "tables"),
    Step("3  each rank looks up for everybody", "vectors", "tables"),
    Step("4  the shuffle: vectors come home", "vectors", "rows"),
    Step("5  MLPs and interaction, own rows only", "logits", "rows"),
    Step("4'  gradients of the vectors", "gradients", "rows"),
    Step("3'  the shuffle back: gradients to the tables", "gradients", "tables"),
    Step("5'  the MLPs' gradients, summed over ranks", "MLP gradients", "rows"),
)


def film(
    homes: Mapping[str, int], rows: Sequence[int], chosen: Sequence[int] = (0, 1, 2, 3)
) -> Figure:
    """Some of `STEPS`, one under the other, a column for each rank.

    Args:
        homes: table -> the rank that holds it.
        rows: rows of the batch that each rank has.
        chosen: which steps.
    """
    ranks = len(rows)
    picture = Figure(
        figsize=(9.6, 0.9 + 1.62 * len(chosen)), layout=ConstrainedLayoutEngine(h_pad=0.14)
    )
    grid = picture.subplots(len(chosen), ranks, squeeze=False)
    for panels, number in zip(grid, chosen, strict=True):
        for rank, axes in enumerate(panels):
            draw_rank(axes, STEPS[number], homes, rows, rank)
        words = panels[0].text(0, 1.08, STEPS[number].words, transform=panels[0].transAxes,
                               weight="bold", fontsize=11.5)  # fmt: skip
        words.set_in_layout(False)
    for rank, axes in enumerate(grid[-1]):
        axes.text(0.45, -0.08, f"rank {rank}", transform=axes.transAxes, ha="center", va="top",
                  color=style.INK)  # fmt: skip
    mlps = style.GROUP_COLOURS["fully connected"]
    key = [
        Patch(color=style.INK, label="a table that lives here"),
        Patch(facecolor=style.BLUE, alpha=0.28, label="ids"),
        Patch(color=style.BLUE, label="vectors"),
        Patch(facecolor="white", edgecolor=mlps, label="the rank's copy of the MLPs"),
    ]
    picture.legend(handles=key, loc="outside lower center", ncols=len(key))
    picture.suptitle("What lies on which rank", weight="bold")
    return picture


def draw_rank(
    axes: Axes, step: Step, homes: Mapping[str, int], rows: Sequence[int], rank: int
) -> None:
    """What one rank has at a step: a window onto the whole batch, rows down, tables across.

    Tables that live here are marked above. Colours say which rank holds the table. Ids are pale,
    vectors solid, gradients striped; the last column is for logits, the square for the MLPs.
    """
    names, ends = list(homes), [0, *accumulate(rows)]
    whole, width = ends[-1], len(homes)
    axes.set(xlim=(-0.2, width + 2.4), ylim=(whole * 1.02, -0.16 * whole))
    axes.axis("off")
    axes.add_patch(Rectangle((0, 0), width, whole, fill=False, edgecolor="#BBBBBB"))
    for place, name in enumerate(names):
        if homes[name] == rank:
            axes.add_patch(Rectangle((place + 0.08, -0.13 * whole), 0.84, 0.1 * whole,
                                     facecolor=style.INK, edgecolor="none"))  # fmt: skip
    for owner, (low, high) in enumerate(pairwise(ends)):
        for place, name in enumerate(names):
            here = owner == rank if step.by == "rows" else homes[name] == rank
            if here and step.kind in ("ids", "vectors", "gradients"):
                _cell(axes, place, low, high, homes[name], step.kind)
    _dense(axes, step, ends[rank], ends[rank + 1], rank, (width, whole))


def _cell(axes: Axes, left: float, low: float, high: float, rank: int, kind: Kind) -> None:
    """A table's share of one rank's rows, in a rank's colour."""
    colour = RANKS[rank % len(RANKS)]
    look = {
        "ids": {"facecolor": colour, "alpha": 0.28, "edgecolor": colour},
        "gradients": {"facecolor": colour, "hatch": "////", "edgecolor": "white"},
    }.get(kind, {"facecolor": colour, "edgecolor": "white"})
    gap = 0.04 * (high - low)
    patch = Rectangle((left + 0.08, low + gap), 0.84, high - low - 2 * gap, linewidth=0.8)
    patch.set(**look)  # type: ignore[arg-type]
    axes.add_patch(patch)


def _dense(
    axes: Axes, step: Step, low: float, high: float, rank: int, shape: tuple[int, int]
) -> None:
    """The rank's copy of the MLPs, on the right, and its logits when they are there."""
    width, whole = shape
    reduced = step.kind == "MLP gradients"
    colour = style.GROUP_COLOURS["fully connected"]
    filled = step.kind in ("logits", "MLP gradients")
    square = Rectangle((width + 1.25, 0.36 * whole), 1.0, 0.28 * whole, hatch="////" * reduced)
    square.set(facecolor=colour if filled else "white", edgecolor="white" if reduced else colour)
    axes.add_patch(square)
    if step.kind == "logits":
        _cell(axes, width + 0.1, low, high, rank, "vectors")


def sent(
    number: int, homes: Mapping[str, int], rows: Sequence[int], dim: int, mlps: int
) -> list[list[float]]:
    """Bytes that each rank (first index) sends to each other one to arrive at a step.

    An id has 8 bytes, so has the length of its bag, and each bag one id; numbers have 4. The MLPs'
    gradients go round in a ring.

    Args:
        number: which of `STEPS`.
        homes: table -> the rank that holds it.
        rows: rows of the batch that each rank has.
        dim: D.
        mlps: bytes of both MLPs.
    """
    ranks = range(len(rows))
    held = [sum(home == rank for home in homes.values()) for rank in ranks]
    there = [[rows[r] * held[s] * (r != s) for s in ranks] for r in ranks]  # to the tables
    if number == 1:
        return [[16.0 * bags for bags in line] for line in there]
    if number == 3:
        return [[4.0 * dim * there[s][r] for s in ranks] for r in ranks]
    if number == 6:
        return [[4.0 * dim * bags for bags in line] for line in there]
    ring = 2 * (len(rows) - 1) / len(rows) * mlps if number == 7 else 0.0
    after = [(r + 1) % len(rows) for r in ranks]
    return [[ring * (s == after[r] and s != r) for s in ranks] for r in ranks]


def step_and_bytes(
    number: int, homes: Mapping[str, int], rows: Sequence[int], dim: int, mlps: int
) -> Figure:
    """One of `STEPS` on all ranks, and under it who sent what to whom to get there."""
    picture = Figure(figsize=(9.6, 5.0), layout="constrained")
    above, below = picture.subfigures(2, 1, squeeze=False, height_ratios=(1.2, 1))[:, 0]
    panels = above.subplots(1, len(rows), squeeze=False)[0]
    for rank, axes in enumerate(panels):
        draw_rank(axes, STEPS[number], homes, rows, rank)
        axes.text(0.45, -0.04, f"rank {rank}", transform=axes.transAxes, ha="center", va="top",
                  fontsize=10.5)  # fmt: skip
    above.suptitle(STEPS[number].words, weight="bold")
    axes, bars = below.subplots(1, 2, width_ratios=(1.15, 1))
    matrix = np.array(sent(number, homes, rows, dim, mlps))
    top = max(1.0, 1.6 * matrix.max())
    axes.imshow(matrix, cmap=style.BYTES, vmin=0, vmax=top, aspect="auto")
    small = 10.5 if len(rows) < 8 else 6.5
    for r, s in np.argwhere(matrix > 0):
        axes.text(s, r, size(matrix[r, s]), ha="center", va="center", fontsize=small)
    axes.set(xlabel="to rank", ylabel="from rank", title="sent to get there")
    axes.set_xticks(range(len(rows)))
    axes.set_yticks(range(len(rows)))
    axes.grid(visible=False)
    totals = [np.sum(sent(n, homes, rows, dim, mlps)) for n in range(len(STEPS))]
    faint = style.FAINT_PURPLE
    colours = [style.COMMUNICATION if n == number else faint for n in range(len(STEPS))]
    bars.barh(range(len(STEPS)), totals, 0.7, color=colours)
    for place, total in enumerate(totals):
        bars.text(
            total, place, f" {size(total)}" if total else " nothing", va="center", fontsize=10.5
        )
    bars.set_yticks(range(len(STEPS)), [step.words.split()[0] for step in STEPS])
    bars.invert_yaxis()
    bars.set(xlim=(0, 1.4 * max(*totals, 1)), xlabel="bytes, all ranks together", ylabel="step")
    ticks = np.array([0, 0.5, 1]) * max(*totals, 1)
    bars.set_xticks(ticks, [size(tick) for tick in ticks])
    bars.set_title("all steps")
    bars.grid(axis="y", visible=False)
    return picture
