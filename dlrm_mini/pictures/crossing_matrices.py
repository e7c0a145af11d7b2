"""Chapter 06's matrices: which pairs and triples were planted, and which a model found."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from dlrm_mini import style

Floats = NDArray[np.float64]
UNSEEN = 1 / 3  # of what was planted: a model that found less of a pair has missed it
WRITTEN = 0.2  # of a matrix's largest cell: those above have their number written in


def matrices(
    names: Sequence[str],
    panels: Mapping[str, Floats],
    planted: Mapping[tuple[str, ...], float],
    *,
    title: str,
    label: str = "std of what a pair does, logits",
) -> Figure:
    """Matrices of pairs side by side, what was planted framed in each.

    Args:
        names: of the n vectors.
        panels: title -> (n, n); the strictly lower triangle is drawn, all in one scale.
        planted: the planted pairs and triples of names -> strength; pairs of a triple are dotted.
        title: what the picture shows.
        label: of the colour bar.
    """
    width = 0.9 / len(panels)
    picture = Figure(figsize=(10.4, 3.9), constrained_layout=False)  # laying out costs 100 ms
    lower = np.tri(len(names), k=-1, dtype=bool)
    limit = max(float(values[lower].max()) for values in panels.values())
    for place, (words, values) in enumerate(panels.items()):
        axes = picture.add_axes((0.06 + place * width, 0.19, width - 0.06, 0.64))
        shown = np.ma.array(values, mask=~lower)
        image = axes.imshow(shown, cmap=style.SEQUENTIAL, vmin=0, vmax=limit, aspect="auto")
        for row, column in np.argwhere(lower & (values > WRITTEN * limit)):
            ink = "black" if values[row, column] > 0.55 * limit else "white"
            axes.text(column, row, f"{values[row, column]:.1f}", fontsize=8, color=ink,
                      ha="center", va="center")  # fmt: skip
        _frames(axes, names, planted)
        axes.set_xticks(range(len(names)), names, rotation=60, fontsize=8.5)
        axes.set_yticks(range(len(names)), names, fontsize=8.5)
        axes.set(xlim=(-0.5, len(names) - 1.5), ylim=(len(names) - 0.5, 0.5))
        axes.set(xlabel="... and this one", ylabel="this feature ...", title=words)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
    scale = picture.add_axes((0.06 + len(panels) * width - 0.05, 0.19, 0.012, 0.64))
    picture.colorbar(image, cax=scale, label=label)
    picture.suptitle(title, x=0.02, y=0.985, ha="left", fontweight="bold", fontsize=12)
    return picture


def compare(
    names: Sequence[str],
    panels: Mapping[str, Floats],
    planted: Mapping[tuple[str, ...], float],
) -> Figure:
    """What was planted and what a model found, in one scale; framed cells that it missed ask.

    Args:
        names: of the n vectors.
        panels: title -> (n, n), what was planted first; the strictly lower triangle is drawn.
        planted: the planted pairs and triples of names -> strength; pairs of a triple are dotted.
    """
    picture = Figure(figsize=(10.4, 5.4), constrained_layout=False)  # laying out costs 100 ms
    lower = np.tri(len(names), k=-1, dtype=bool)
    limit = max(float(values[lower].max()) for values in panels.values())
    paper = LinearSegmentedColormap.from_list("paper", style.PAPER_TO_INK[:3])
    first = next(iter(panels.values()))
    for place, (words, values) in enumerate(panels.items()):
        axes = picture.add_axes((0.07 + 0.48 * place, 0.15, 0.43, 0.7))
        axes.imshow(np.ma.array(values, mask=~lower), cmap=paper, vmin=0, vmax=limit, aspect="auto")
        for row, column in np.argwhere(lower & (first > WRITTEN * limit)):
            missed = values[row, column] < UNSEEN * first[row, column]
            text = "?" if missed else f"{values[row, column]:.1f}"
            ink = "white" if values[row, column] > 0.7 * limit else "black"
            axes.text(column, row, text, fontsize=20 if missed else 12, ha="center", va="center",
                      color=style.RED if missed else ink,
                      weight="bold" if missed else None)  # fmt: skip
        _frames(axes, names, planted)
        axes.set_xticks(range(len(names)), names, fontsize=11)
        axes.set_yticks(range(len(names)), names, fontsize=11)
        axes.set(xlim=(-0.5, len(names) - 1.5), ylim=(len(names) - 0.5, 0.5))
        axes.set(xlabel="... and this one", ylabel="this feature ...", title=words)
        axes.tick_params(length=0)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
    picture.suptitle("What is missing on the right?", x=0.02, y=0.985, ha="left",
                     fontweight="bold", fontsize=15)  # fmt: skip
    return picture


def everybody(
    names: Sequence[str], panels: Mapping[str, Floats], planted: Mapping[tuple[str, ...], float]
) -> Figure:
    """What was planted and what each model found, small and side by side.

    Args:
        names: of the n vectors.
        panels: title -> (n, n), what was planted first; all in one scale.
        planted: the planted pairs and triples of names -> strength; pairs of a triple are dotted.
    """
    lower = np.tri(len(names), k=-1, dtype=bool)
    limit = max(float(values[lower].max()) for values in panels.values())
    picture = Figure(figsize=(10.4, 5.4), layout="constrained")
    grid = picture.subplots(2, -(-len(panels) // 2), sharex=True, sharey=True)
    for axes, (words, values) in zip(grid.flat, panels.items(), strict=False):
        shown = np.ma.array(values, mask=~lower)
        image = axes.imshow(shown, cmap=style.SEQUENTIAL, vmin=0, vmax=limit)
        _frames(axes, names, planted)
        axes.set_xticks(range(len(names)), names, rotation=60, fontsize=7.5)
        axes.set_yticks(range(len(names)), names, fontsize=7.5)
        axes.set(xlim=(-0.5, len(names) - 1.5), ylim=(len(names) - 0.5, 0.5), title=words)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
    for axes in grid[-1]:
        axes.set_xlabel("... and this one")
    for axes in grid[:, 0]:
        axes.set_ylabel("this feature ...")
    picture.colorbar(image, ax=grid, label="std of what a pair does, logits", shrink=0.7)
    return picture


def _frames(axes: Axes, names: Sequence[str], planted: Iterable[tuple[str, ...]]) -> None:
    """A frame around each planted pair, a dotted one around the pairs of each triple."""
    for group in planted:
        found = sorted((names.index(name) for name in group), reverse=True)
        look: dict[str, Any] = {"fill": False, "edgecolor": style.RED, "linewidth": 1.8}
        look["linestyle"] = ":" if len(group) == 3 else "-"
        for row, column in combinations(found, 2):
            axes.add_patch(Rectangle((column - 0.46, row - 0.46), 0.92, 0.92, **look))
