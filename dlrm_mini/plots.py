"""Pictures that more than one chapter draws. Each function returns a figure and shows nothing."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray

from dlrm_mini import style
from dlrm_mini.profiling.parts import BACKWARD, GROUPS, UPDATE, grouped

GROUP_COLOURS = style.GROUP_COLOURS
Colour = tuple[float, float, float]


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


def part_colours() -> dict[str, Colour]:
    """Part of a step -> its group's colour, lighter in backward, lightest in the update."""
    shades = {}
    for group, parts in GROUPS.items():
        full = np.array(to_rgb(GROUP_COLOURS[group]))
        for part in parts:
            white = 0.35 * (part in BACKWARD) + 0.6 * (part in UPDATE)
            red, green, blue = full + white * (1 - full)
            shades[part] = (float(red), float(green), float(blue))
    return shades


def breakdown_bars(
    measured: Mapping[str, Mapping[str, float]],
    predicted: Mapping[str, Mapping[str, float]],
    *,
    title: str,
    hardware: str,
    unit: Literal["ms", "share"] = "ms",
) -> Figure:
    """Where the time of a step goes: measured solid, and predicted hatched under it.

    Args:
        measured: what was trained, or how -> part (`profiling.parts`) -> ms. What is only in
            `predicted` is shown as not yet measured.
        predicted: the same; may be empty, and lack some.
        title: what the picture shows.
        hardware: what it was measured on.
        unit: of the length: "ms" of a step, or the "share" of the measured step, or of the
            predicted one where none was measured. The number at its end is milliseconds in both.
    """
    names = list(dict.fromkeys([*measured, *predicted]))
    kinds = [kind for kind in (measured, predicted) if kind]
    high = 0.8 / len(kinds)
    picture, axes = figure(10.4, 1.5 + (0.2 + 0.42 * len(kinds)) * len(names))
    whole = {
        name: 1.0 if unit == "ms" else sum((measured.get(name) or predicted[name]).values())
        for name in names
    }
    longest = max(sum(kind[name].values()) / whole[name] for kind in kinds for name in kind)
    inch = 1.14 * longest / (0.86 * picture.get_figwidth())  # of the axis
    for place, name in enumerate(names):
        for turn, kind in enumerate(kinds):
            y = place + (turn - (len(kinds) - 1) / 2) * high
            if name in kind:
                parts = {part: ms / whole[name] for part, ms in kind[name].items()}
                end = _row(axes, y, parts, 0.94 * high, inch, kind is predicted)
                axes.annotate(
                    _milliseconds(sum(kind[name].values())), (end, y), (5, 0), fontsize=10,
                    textcoords="offset points", va="center",
                    weight=None if kind is predicted else "bold",
                )  # fmt: skip
            else:
                word = "predicted" if kind is predicted else "measured"
                axes.text(0.01 * longest, y, f"not yet {word}", va="center", fontsize=9,
                          color=style.GREY, style="italic")  # fmt: skip
    axes.set_yticks(range(len(names)), names)
    axes.set(xlim=(0, 1.14 * longest), ylim=(len(names) - 0.45, -0.55), title=title, ylabel="step")
    if unit == "share":
        axes.xaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f} %")
        axes.set_xticks(np.arange(0, 1.14 * longest, 0.25))
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    said = [f"solid: measured on {hardware}"] if measured else [f"hardware: {hardware}"]
    said += ["hatched: predicted"] if predicted else []
    what = "ms of a training step" if unit == "ms" else "share of the measured step"
    axes.set_xlabel(f"{what}\n{'; '.join(said)}", fontsize=9.5, color=style.INK)
    shown = [grouped(parts) for kind in kinds for parts in kind.values()]
    handles = [
        Patch(facecolor=colour, label=group)
        for group, colour in GROUP_COLOURS.items()
        if any(groups[group] for groups in shown)
    ]
    picture.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return picture


def _row(
    axes: Axes, y: float, parts: Mapping[str, float], high: float, inch: float, hatched: bool
) -> float:
    """One bar made of parts, the names of the wide ones written in; returns where it ends.

    Args:
        axes: where.
        y: its middle.
        parts: part -> how long it is.
        high: how high it is.
        inch: that much of the axis is an inch of paper.
        hatched: whether it is predicted.
    """
    colours, left = part_colours(), 0.0
    look: dict[str, Any] = {"hatch": style.MODELLED["hatch"]} if hatched else {}
    for part in (part for names in GROUPS.values() for part in names if parts.get(part, 0) > 0):
        wide = parts[part]
        axes.barh(y, wide, high, left, color=colours[part], edgecolor="white", linewidth=0.8,
                  **look)  # fmt: skip
        if words := _fitting(part, wide / inch):
            dark = np.dot(colours[part], (0.3, 0.59, 0.11)) < 0.5 and not hatched
            axes.text(left + wide / 2, y, words, ha="center", va="center", fontsize=8.5,
                      linespacing=1.0, color="white" if dark else style.INK,
                      bbox={"facecolor": "white", "edgecolor": "none", "pad": 1, "alpha": 0.85}
                      if hatched else None)  # fmt: skip
        left += wide
    return left


def _fitting(words: str, inches: float) -> str:
    """The words, in two lines if need be, or "" where they are too wide (8.5 points)."""
    first, _, rest = words.rpartition(" ")
    for lines in ([words], [first, rest]):
        if max(map(len, lines)) * 0.075 <= inches:
            return "\n".join(filter(None, lines))
    return ""


def _milliseconds(ms: float) -> str:
    return f"{ms:,.0f} ms" if ms >= 100 else f"{ms:.3g} ms"
