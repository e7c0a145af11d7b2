"""Chapter 06's matrices: which pairs and triples were planted, and which a model found."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from dlrm_mini import style

Floats = NDArray[np.float64]
WRITTEN = 0.2  # of a matrix's largest cell: those above have their number written in


def matrices(
    names: Sequence[str],
    panels: Mapping[str, Floats],
    planted: Mapping[tuple[str, ...], float],
    triples: Mapping[str, float] | None = None,
    *,
    title: str,
    label: str = "std of what a pair does, logits",
) -> Figure:
    """Matrices of pairs side by side, what was planted framed in each; and bars of triples.

    Args:
        names: of the n vectors.
        panels: title -> (n, n); the strictly lower triangle is drawn, all in one scale.
        planted: the planted pairs and triples of names -> strength; pairs of a triple are dotted.
        triples: names of a triple, spaces between -> its strength, drawn as bars.
        title: what the picture shows.
        label: of the colour bar.
    """
    bars = 0.25 if triples else 0.0
    width = (0.9 - bars) / len(panels)
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
    if triples:
        axes = picture.add_axes((0.99 - bars + 0.11, 0.19, bars - 0.12, 0.64))
        known = {" ".join(group): strength for group, strength in planted.items()}
        for row, (triple, strength) in enumerate(triples.items()):
            axes.barh(row, strength, color=style.BLUE if triple in known else style.GREY)
            if triple in known:
                axes.plot(known[triple], row, "|", color=style.RED, markersize=17, mew=2.5)
        axes.set_yticks(range(len(triples)), list(triples), fontsize=8.5)
        axes.set(ylim=(len(triples) - 0.4, -0.6), xlim=(0, 0.9), xlabel="logits", ylabel="triple")
        axes.set_title("top triples")
        axes.grid(axis="y", visible=False)
    picture.suptitle(title, x=0.02, y=0.985, ha="left", fontweight="bold", fontsize=12)
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
