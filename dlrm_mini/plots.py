"""Pictures that more than one chapter draws. Each function returns a figure and shows nothing."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
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
) -> Figure:
    """Models one above the other: a dot each with its spread, and the published lines.

    Args:
        rungs: name -> (mean, standard deviation over seeds; 0 when there is nothing to vary).
        xlabel: the metric with its unit and split.
        title: what the picture shows.
        literature: name -> value, drawn as dashed lines, named above the rungs.
        prediction: the reader's guess, drawn as a star on the last rung.
    """
    published = sorted((literature or {}).items(), key=lambda item: -item[1])
    rows = len(rungs) + 0.5 * len(published)
    picture, axes = figure(8.0, 1.2 + 0.45 * rows)
    every = [mean for mean, _ in rungs.values()] + [value for _, value in published]
    every += [] if prediction is None else [prediction]
    span = max(every) - min(every)
    left = min(every) - 0.08 * span
    for row, (mean, spread) in enumerate(rungs.values()):
        colour = style.ORANGE if row == len(rungs) - 1 else style.BLUE
        axes.hlines(row, left, mean, color=style.GREY, linewidth=0.8, linestyle=":")
        axes.errorbar(
            mean, row, xerr=spread or None, fmt="o", color=colour, markersize=9, capsize=4
        )
        text = f"{mean:.4f}" + (f" ± {spread:.4f}" if spread else "")
        axes.annotate(text, (mean, row), xytext=(9, 0), textcoords="offset points", va="center")
    for step, (name, value) in enumerate(published, start=1):
        axes.axvline(value, **style.LITERATURE)
        words = f"{name} {value:.4g}"
        axes.annotate(words, (value, -0.35 - 0.5 * step), xytext=(4, 0), fontsize=9, va="center",
                      textcoords="offset points")  # fmt: skip
    if prediction is not None:
        place = (prediction, len(rungs) - 1)
        axes.plot(*place, "*", color=style.RED, markersize=15)
        axes.annotate("your guess", place, xytext=(0, 10), textcoords="offset points", ha="center",
                      color=style.RED, fontsize=9)  # fmt: skip
    axes.set_yticks(range(len(rungs)), list(rungs))
    axes.grid(axis="y", visible=False)
    axes.set(xlabel=xlabel, title=title, ylabel="model", xlim=(left, max(every) + 0.25 * span))
    axes.set_ylim(len(rungs) - 0.4, -0.6 - 0.5 * len(published))
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
        frame: dict[str, Any] = {"fill": False, "edgecolor": style.RED, "linewidth": 2.5}
        axes.add_patch(Rectangle((mark[1] - 0.5, mark[0] - 0.5), 1, 1, **frame))
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.grid(visible=False)
    axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
    picture.colorbar(image, ax=axes, label=unit)
    return picture
