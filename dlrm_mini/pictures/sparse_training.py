"""Chapter 08's pictures: what a batch touches, its gradient three times, and optimizer states."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch
from numpy.typing import NDArray

from dlrm_mini import style

Floats = NDArray[np.float64]
NIGHT = style.NIGHT
WAYS = {  # the same colours in every picture of the chapter
    "dense Adam": style.RED,
    "dense SGD": style.ORANGE,
    "sparse SGD": style.SKY,
    "fused SGD": style.BLUE,
    "fused row-wise Adagrad": style.GREEN,
}


def size(n_bytes: float) -> str:
    """Bytes as a person says them: 640 MB."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= scale:
            return f"{n_bytes / scale:.3g} {unit}"
    return f"{n_bytes:.0f} B"


def sky(counts: NDArray[np.int64], moved: Mapping[str, float]) -> Figure:
    """Left every row of a table, shining when a batch looks it up; right what a step then moves.

    Args:
        counts: (N,) lookups of each row in the batch, N a square number.
        moved: way of training -> bytes that a step reads and writes.
    """
    picture = Figure(figsize=(10.2, 5.0), layout="constrained")
    left, right = picture.subplots(1, 2, width_ratios=(1.15, 1))
    side = round(len(counts) ** 0.5)
    rows = counts.nonzero()[0]
    rows = rows[counts[rows].argsort(kind="stable")]
    often = counts[rows]
    left.set_facecolor(NIGHT)
    left.scatter(rows % side, rows // side, s=1.5 + 5 * np.log2(often), c=np.log2(often),
                 cmap=style.STARS, vmin=-4, vmax=6, linewidths=0)  # fmt: skip
    left.set(xlim=(0, side), ylim=(0, side), aspect="equal")
    left.set(xlabel="row, its last three digits", ylabel="row, in thousands")
    left.set_title(f"{len(counts):,} rows; one batch touches {len(rows):,}")
    left.grid(visible=False)
    bytes_moved(right, moved, (1e5, 1e10))
    right.set_title("What one step of training moves")
    return picture


def bytes_moved(axes: Axes, moved: Mapping[str, float], limits: tuple[float, float]) -> None:
    """A hatched bar for the bytes of each way of training, since they are counted, not measured.

    Args:
        axes: where.
        moved: way -> bytes.
        limits: of the horizontal axis, powers of ten.
    """
    ways = list(moved)
    for place, way in enumerate(ways):
        axes.barh(place, moved[way], 0.6, **modelled(WAYS.get(way, style.GREEN)))
        axes.text(moved[way] * 1.25, place, size(moved[way]), va="center")
    axes.set_yticks(range(len(ways)), ways)
    axes.invert_yaxis()
    ticks = 10 ** np.arange(np.log10(limits[0]), np.log10(limits[1]) + 0.5)
    axes.set(xscale="log", xlim=limits, xlabel="bytes read and written, counted", ylabel="way")
    axes.set_xticks(ticks, [size(tick) * (place % 2) for place, tick in enumerate(ticks)])
    axes.minorticks_off()
    axes.grid(axis="y", visible=False)


def modelled(colour: str) -> dict[str, Any]:
    """The look of a bar that was counted or modelled: hatched, in a colour."""
    return {**style.MODELLED, "fill": True, "facecolor": colour, "edgecolor": "white"}


def three_gradients(ids: Sequence[int], gradients: Floats, n_rows: int) -> Figure:
    """The gradient of a lookup by lookup, by distinct row, and of the whole table.

    Args:
        ids: (V,) the row of each lookup.
        gradients: (V, D) the gradient of each looked-up vector.
        n_rows: N.
    """
    picture = Figure(figsize=(9.6, 4.4), layout="constrained")
    picture.set_layout_engine("constrained", wspace=0.15)
    panels = picture.subplots(1, 3)
    rows = np.unique(ids)
    dense = np.zeros((n_rows, gradients.shape[1]))
    np.add.at(dense, np.asarray(ids), gradients)
    limit = np.abs(dense).max()
    titles = (
        f"{len(ids)} lookups",
        f"coalesced: {len(rows)} rows",
        f"dense: {n_rows} rows, {n_rows - len(rows)} of zeros",
    )
    for axes, values, title in zip(panels, (gradients, dense[rows], dense), titles, strict=True):
        shown = axes.imshow(values, aspect="auto", cmap=style.DIVERGING, vmin=-limit, vmax=limit)
        axes.set(title=title, xlabel="the D numbers of a vector", xticks=[], yticks=[])
        axes.grid(visible=False)
        axes.spines[:].set_visible(True)
    names = (ids, rows, rows)
    places: tuple[Sequence[int], ...] = (range(len(ids)), range(len(rows)), [*map(int, rows)])
    box: dict[str, Any] = {"facecolor": "white", "edgecolor": "none", "pad": 1.2}
    for axes, of, where in zip(panels, names, places, strict=True):
        for row, place in zip(of, where, strict=True):
            axes.text(0, place, f"{row}", ha="center", va="center", fontsize=9, bbox=box)
    edge = gradients.shape[1] - 0.5
    for here, row in enumerate(ids):
        there = int(np.searchsorted(rows, row))
        _join(panels[0], panels[1], edge, here, there, there)
    for here, row in enumerate(rows):
        _join(panels[1], panels[2], edge, here, int(row), here)
    picture.supylabel("white labels: row of the table", fontsize=10.5)
    picture.colorbar(shown, ax=panels[2], label="gradient")
    return picture


def _join(start: Axes, end: Axes, edge: float, here: int, there: int, colour: int) -> None:
    """A line from the right of one panel to the left of the next, in the row's colour."""
    colours = [one for one in style.PALETTE if one != style.YELLOW]
    line = ConnectionPatch(
        (edge, here), (-0.5, there), "data", "data", axesA=start, axesB=end,
        color=colours[colour % len(colours)], linewidth=1.8, alpha=0.9,
    )  # fmt: skip
    line.set_in_layout(False)
    end.add_artist(line)


def paths(
    dense: Mapping[str, Sequence[float]],
    sparse: Mapping[str, Sequence[float]],
    seen: Sequence[int],
) -> Figure:
    """One number of a table, step by step, under dense and under sparse updates.

    Args:
        dense: optimizer -> the number after each step, the start first.
        sparse: the same when only touched rows are updated.
        seen: the steps, from 1, whose batch holds the row.
    """
    picture = Figure(figsize=(10.4, 3.2), layout="constrained")
    panels = picture.subplots(1, len(dense), squeeze=False)[0]
    for axes, name in zip(panels, dense, strict=True):
        same = np.allclose(dense[name], sparse[name], rtol=1e-5, atol=1e-7)
        axes.plot(dense[name], color=style.ORANGE, linewidth=3.5, label="dense")
        axes.plot(sparse[name], "--", color=style.BLUE, linewidth=1.8, label="touched rows only")
        for step in seen:
            axes.axvline(step, color=style.GREY, linewidth=0.8, linestyle=":")
        verdict, colour = ("equal", style.GREEN) if same else ("not equal", style.RED)
        axes.set_title(name, fontsize=11)
        axes.text(0.97, 0.95, verdict, transform=axes.transAxes, ha="right", va="top",
                  color=colour, weight="bold")  # fmt: skip
        axes.set_yticks([])
        axes.set_xticks(seen)
        axes.margins(y=0.2)
        axes.grid(visible=False)
    picture.supylabel("one number of the table", fontsize=10.5)
    picture.supxlabel("step; dotted: those that look the row up", fontsize=10.5)
    panels[0].legend(loc="lower left", fontsize=8.5)
    return picture


def kept(n_bytes: Mapping[str, float]) -> Figure:
    """Bytes of the weights, and behind them those of each optimizer's state.

    Args:
        n_bytes: "weights", then optimizer -> bytes of state, as `sparse_counts.kept` counts them.
    """
    picture = Figure(figsize=(8.6, 3.0), layout="constrained")
    axes = picture.subplots()
    weights = n_bytes["weights"]
    states = {name: value for name, value in n_bytes.items() if name != "weights"}
    for place, (name, state) in enumerate(states.items()):
        colour = style.GREEN if name == "row-wise Adagrad" else style.ORANGE
        axes.barh(place, weights / 1e9, 0.62, color=style.GREY, alpha=0.55)
        axes.barh(place, state / 1e9, 0.62, left=weights / 1e9, color=colour)
        words = f"+ {size(state)}" if state else "nothing"
        axes.text((weights + state) / 1e9 + 0.06, place, words, va="center", fontsize=10)
    axes.text(weights / 2e9, 0, f"weights, {size(weights)}", ha="center", va="center", fontsize=10)
    axes.set_yticks(range(len(states)), list(states))
    axes.invert_yaxis()
    axes.set(xlabel="GB in memory", ylabel="optimizer", xlim=(0, 3.45 * weights / 1e9))
    axes.set_title("What an optimizer keeps beside the tables")
    axes.grid(axis="y", visible=False)
    return picture


def accuracy(
    scores: Mapping[str, Mapping[str, Sequence[float]]], best: Mapping[str, float]
) -> Figure:
    """One dot a seed for each way of training, and a bar for their mean; a panel for each data set.

    Args:
        scores: data set -> way -> test NE with each seed.
        best: data set -> the NE that nobody beats, where it is known.
    """
    picture = Figure(figsize=(10.2, 2.7), layout="constrained")
    panels = picture.subplots(1, len(scores), squeeze=False)[0]
    for axes, (name, ways) in zip(panels, scores.items(), strict=True):
        for place, (way, values) in enumerate(ways.items()):
            colour = style.GREEN if "row-wise" in way else style.ORANGE
            axes.plot(values, [place] * len(values), "o", color=colour, alpha=0.6, markersize=8)
            axes.plot(np.mean(values), place, "|", color=style.INK, markersize=22, mew=2)
        if name in best:
            axes.axvline(best[name], **style.LITERATURE)
            axes.text(best[name], -0.75, " best possible", fontsize=9, va="center")
        axes.set_yticks(range(len(ways)), list(ways))
        axes.set_ylim(len(ways) - 0.4, -1.1)
        axes.set(xlabel="test NE, lower is better", ylabel="tables", title=name)
        axes.margins(x=0.08)
        axes.grid(axis="y", visible=False)
    return picture
