"""Chapter 13's pictures: tables before empty rooms, and one table cut four ways."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from dlrm_mini import style
from dlrm_mini.parallel.sharding import Plan

RANKS = style.PALETTE  # one colour a rank


def rooms(
    cardinalities: Mapping[str, int],
    dim: int,
    ranks: int,
    limit: float,
    *,
    title: str,
    plan: Plan | None = None,
) -> Figure:
    """Tables as blocks to scale, and as many rooms of the same scale, empty or filled by a plan.

    Args:
        cardinalities: table -> rows.
        dim: D.
        ranks: P.
        limit: bytes of a room.
        title: what the picture shows.
        plan: who holds what; without it the rooms are empty.
    """
    picture = Figure(figsize=(10.4, 4.2), layout="constrained")
    axes = picture.subplots()
    size = {name: 4e-9 * dim * rows for name, rows in cardinalities.items()}  # GB
    large = sorted((n for n in size if size[n] > 0.02 * limit / 1e9), key=lambda n: -size[n])
    small = [name for name in size if name not in large]
    shades = mpl.colormaps[style.SEQUENTIAL](np.linspace(0.05, 0.85, max(len(large), 2)))
    colour = dict.fromkeys(small, style.YELLOW) | dict(zip(large, shades, strict=False))
    for place, name in enumerate(large):
        axes.bar(place, size[name], 0.86, color=colour[name])
        axes.text(place, size[name], name, ha="center", va="bottom", fontsize=10)
    dust = sum(size[name] for name in small)
    axes.bar(len(large), dust, 0.86, color=style.YELLOW)
    axes.text(len(large), dust, f"{len(small)}\nothers", ha="center", va="bottom", fontsize=9)
    start, height, wide = len(large) + 1.2, limit / 1e9, min(1.0, 9 / ranks)
    top = max(1.12 * max(size.values()), 1.25 * height)
    end = start + ranks * wide
    axes.set(xlim=(-0.7, end + 0.2), ylim=(0, top), title=title, ylabel="GB of weights")
    for rank in range(ranks):
        left = start + rank * wide
        if plan is not None:
            _fill(axes, plan, rank, left, 0.86 * wide, colour)
        axes.add_patch(Rectangle((left, 0), 0.86 * wide, height, fill=False, linewidth=1.8,
                                 edgecolor=style.RED))  # fmt: skip
    axes.text(start, 1.02 * height, f"{ranks} ranks, {height:g} GB each", color=style.RED,
              va="bottom")  # fmt: skip
    axes.set_xticks([len(large) / 2, (start + end) / 2], [f"{len(size)} tables", "rooms"])
    axes.set_xlabel("blocks and rooms to the same scale")
    axes.grid(axis="x", visible=False)
    axes.tick_params(axis="x", length=0)
    return picture


def _fill(
    axes: Axes, plan: Plan, rank: int, left: float, wide: float, colour: Mapping[str, object]
) -> None:
    """A rank's pieces, stacked; cut tables say how."""
    bottom = 0.0
    for shard in sorted(plan.of_rank(rank), key=lambda one: -one.shape[0] * one.shape[1]):
        high = 4e-9 * shard.shape[0] * shard.shape[1]
        axes.add_patch(Rectangle((left, bottom), wide, high, facecolor=colour[shard.table],
                                 edgecolor="white", linewidth=0.5))  # fmt: skip
        if high > 0.055 * axes.get_ylim()[1] and wide > 0.5:
            form = plan.placements[shard.table].form
            cut = {"row-wise": "\nrows", "column-wise": "\ncols"}.get(form, "")
            dark = float(np.dot(np.asarray(colour[shard.table])[:3], (0.3, 0.59, 0.11))) < 0.5
            axes.text(left + wide / 2, bottom + high / 2, shard.table + cut, ha="center",
                      va="center", fontsize=8, linespacing=0.95,
                      color="white" if dark else style.INK)  # fmt: skip
        bottom += high


def four_forms(plans: Sequence[Plan], bag: Sequence[int], home: int = 0) -> Figure:
    """One small table under each plan, and what travels for one bag of the home rank.

    Args:
        plans: of one table, with as many ranks as each other.
        bag: ids that the home rank looks up.
        home: that rank.
    """
    picture = Figure(figsize=(10.4, 5.6), layout="constrained")
    for axes, plan in zip(picture.subplots(1, len(plans)), plans, strict=True):
        (name,) = plan.cardinalities
        _cut(axes, plan, name, bag, home)
        _travel(axes, plan, name, bag, home)
        axes.set(xlim=(-1.2, 7.8), ylim=(17.6, -2.0), aspect="equal")
        axes.set_title(plan.placements[name].form, loc="center", pad=8)
        axes.set_axis_off()
    ranks = [Patch(color=RANKS[r], label=f"rank {r}{', home of the bag' * (r == home)}")
             for r in range(plans[0].size)]  # fmt: skip
    picture.legend(handles=ranks, loc="outside lower center", ncols=len(ranks))
    return picture


def _cut(axes: Axes, plan: Plan, name: str, bag: Sequence[int], home: int) -> None:
    """The table, each rectangle in its holder's colour, rows of the bag framed."""
    copies = plan.placements[name].form == "data-parallel"
    back = sorted(plan.shards(name), key=lambda one: (one.rank == home, -one.rank))
    shift = 0.0
    for place, shard in enumerate(back):  # copies lie behind each other, the home's in front
        shift = 0.45 * (len(back) - 1 - place) if copies else 0.0
        for row in range(*shard.rows):
            for column in range(*shard.columns):
                corner = (2 + column + shift, row - shift)
                axes.add_patch(Rectangle(corner, 1, 1, facecolor=RANKS[shard.rank],
                                         edgecolor="white", linewidth=1.0))  # fmt: skip
    for row in range(plan.cardinalities[name]):
        bold = row in bag
        axes.text(1.7, row + 0.5, str(row), ha="right", va="center", fontsize=10,
                  weight="bold" if bold else "normal",
                  color=style.INK if bold else style.GREY)  # fmt: skip
        if bold:
            axes.add_patch(Rectangle((2, row), plan.dim, 1, fill=False, edgecolor=style.INK,
                                     linewidth=2))  # fmt: skip


def _travel(axes: Axes, plan: Plan, name: str, bag: Sequence[int], home: int) -> None:
    """Rank by rank: which ids go out, and which cells of the pooled vector come back."""
    top = plan.cardinalities[name] + 2.2
    axes.text(-0.9, top - 0.2, "ids", va="bottom", fontsize=10.5, weight="bold")
    axes.text(3.2, top - 0.2, "pooled vector", va="bottom", fontsize=10.5, weight="bold")
    if plan.placements[name].form == "data-parallel":
        axes.text(-0.9, top + 0.5, " ".join(map(str, bag)), va="center", fontsize=10.5,
                  color=style.GREY)  # fmt: skip
        _cells(axes, 3.2, top, plan.dim, range(plan.dim), RANKS[home], kept=True)
        words = "nothing travels forward;\nbackward, every number\nof the table's gradient"
        axes.text(-0.9, top + 1.6, words, va="top", fontsize=10.5)
        return
    for place, shard in enumerate(sorted(plan.shards(name), key=lambda one: one.rank != home)):
        y, kept = top + 1.4 * place, shard.rank == home
        ids = [number for number in bag if shard.rows[0] <= number < shard.rows[1]]
        words = " ".join(map(str, ids)) or "none"
        axes.text(-0.9, y + 0.5, words, va="center", fontsize=10.5,
                  color=style.GREY if kept else style.INK)  # fmt: skip
        if not kept:
            axes.text(2.95, y + 0.5, "⇄", ha="right", va="center", fontsize=11,
                      color=style.COMMUNICATION, weight="bold")  # fmt: skip
        _cells(axes, 3.2, y, plan.dim, range(*shard.columns), RANKS[shard.rank], kept)
    y = top + 1.4 * len(plan.shards(name))
    words = {"row-wise": "added", "column-wise": "joined"}.get(
        plan.placements[name].form, "complete"
    )
    axes.text(3.2, y + 0.15, words, va="top", fontsize=10.5, style="italic")


def _cells(
    axes: Axes, x: float, y: float, dim: int, there: Sequence[int], colour: str, kept: bool
) -> None:
    """A vector as cells: those of a piece in colour, pale where they never leave their rank."""
    for column in range(dim):
        look = {"facecolor": colour, "alpha": 0.45 if kept else 1.0}
        if column not in there:
            look = {"facecolor": "none", "alpha": 1.0}
        axes.add_patch(Rectangle((x + column, y), 1, 1, edgecolor=style.GREY, linewidth=0.8,
                                 **look))  # type: ignore[arg-type]  # fmt: skip
