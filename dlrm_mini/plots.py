"""Pictures that more than one chapter draws. Each function returns a figure and shows nothing."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dlrm_mini import style


def figure(width: float = 8.0, height: float = 3.8) -> tuple[Figure, Axes]:
    """A figure with one pair of axes, outside pyplot's registry."""
    picture = Figure(figsize=(width, height), layout="constrained")
    return picture, picture.subplots()


def ladder(
    rungs: Mapping[str, tuple[float, float]],
    *,
    xlabel: str,
    title: str,
    literature: Mapping[str, float] | None = None,
    prediction: float | None = None,
    start: float | None = None,
) -> Figure:
    """Models one above the other, best at the bottom: a bar each, its spread, the published lines.

    Args:
        rungs: name -> (mean, standard deviation over seeds; 0 when there is nothing to vary).
        xlabel: the metric with its unit and split.
        title: what the picture shows.
        literature: name -> value, drawn as dashed lines.
        prediction: the reader's guess, drawn as a star on the last rung.
        start: where the axis begins; bars are measured from there, so it is written on the axis.
    """
    picture, axes = figure(8.0, 1.3 + 0.42 * len(rungs) + (0.5 if literature else 0))
    names, pairs = list(rungs), list(rungs.values())
    means, spreads = np.array([m for m, _ in pairs]), np.array([s for _, s in pairs])
    left = float(means.min() * 0.97) if start is None else start
    colours = [style.BLUE] * (len(names) - 1) + [style.ORANGE]
    axes.barh(names, means - left, left=left, color=colours, height=0.62, xerr=spreads, capsize=3)
    for row, (mean, spread) in enumerate(pairs):
        text = f"{mean:.4f}" + (f" ± {spread:.4f}" if spread else "")
        axes.text(mean + spread, row, f" {text}", va="center", fontsize=10)
    values = sorted((literature or {}).items(), key=lambda item: item[1])
    for step, (name, value) in enumerate(values):
        axes.axvline(value, **style.LITERATURE)
        axes.annotate(
            f"{name} {value:.3f}",
            (value, 0),
            xycoords=("data", "axes fraction"),
            xytext=(3, 3 + 11 * step),
            textcoords="offset points",
            fontsize=8,
            color=style.INK,
            va="bottom",
            backgroundcolor=(1, 1, 1, 0.7),
        )
    if prediction is not None:
        axes.plot([prediction], [len(names) - 1], "*", color=style.RED, markersize=14)
        axes.annotate("your guess", (prediction, len(names) - 1), xytext=(0, 9), ha="center",
                      textcoords="offset points", color=style.RED, fontsize=9)  # fmt: skip
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set(xlabel=xlabel, title=title, ylabel="model")
    span = float(means.max() - left)
    axes.set_xlim(left, left + span * 1.22)
    return picture


def heat_map(
    values: NDArray[Any],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    title: str,
    xlabel: str,
    ylabel: str,
    unit: str,
    form: str = "{:.3f}",
    diverging: bool = False,
    mark: tuple[int, int] | None = None,
) -> Figure:
    """A matrix of numbers as colours with the numbers written in.

    Args:
        values: (len(rows), len(columns)).
        rows: label of each row.
        columns: label of each column.
        title: what the picture shows.
        xlabel: what the columns are.
        ylabel: what the rows are.
        unit: label of the colour bar.
        form: format of the written numbers.
        diverging: signed values, white at zero.
        mark: (row, column) of a cell to frame, such as the best one.
    """
    picture, axes = figure(1.9 + 0.85 * len(columns), 1.3 + 0.5 * len(rows))
    limit = float(np.nanmax(np.abs(values)))
    scale: dict[str, Any] = (
        {"cmap": style.DIVERGING, "vmin": -limit, "vmax": limit}
        if diverging
        else {"cmap": style.SEQUENTIAL}
    )
    image = axes.imshow(values, aspect="auto", **scale)
    middle = (float(np.nanmin(values)) + float(np.nanmax(values))) / 2
    for (row, column), value in np.ndenumerate(values):
        dark = abs(value) < 0.6 * limit if diverging else value > middle
        axes.text(column, row, form.format(value), ha="center", va="center", fontsize=9,
                  color="black" if dark else "white")  # fmt: skip
    if mark is not None:
        frame = {"fill": False, "edgecolor": style.RED, "linewidth": 2.5}
        axes.add_patch(_square(mark[1] - 0.5, mark[0] - 0.5, frame))
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.grid(visible=False)
    axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
    picture.colorbar(image, ax=axes, label=unit)
    return picture


def _square(x: float, y: float, keywords: dict[str, Any]) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((x, y), 1, 1, **keywords)
