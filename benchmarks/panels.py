"""The picture of a benchmark: an arm a line, a panel for each thing that was measured."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dlrm_mini import style


@dataclass(frozen=True)
class Panel:
    """One measured thing.

    Attributes:
        xlabel: what it is, with its unit.
        values: arm -> its values, one a fold or seed.
        form: how the mean is written.
        log: whether the axis is logarithmic, as for seconds.
    """

    xlabel: str
    values: Mapping[str, Sequence[float]]
    form: str = "{:.4f}"
    log: bool = False


def draw(panels: Sequence[Panel], title: str) -> Figure:
    """A small dot a fold or seed, a large one for the mean, which is written beside it.

    Arms are in the order of the first panel's, ours in blue and the peers in orange.
    """
    style.use()
    arms = list(panels[0].values)
    figure = Figure(figsize=(2.2 + 3.3 * len(panels), 1.6 + 0.42 * len(arms)), dpi=100)
    for panel, axes in zip(panels, figure.subplots(1, len(panels), sharey=True), strict=True):
        _panel(axes, panel, arms)
    figure.axes[0].set_yticks(range(len(arms)), arms)
    figure.axes[0].set(ylim=(len(arms) - 0.5, -0.5), ylabel="arm")
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    return figure


def _panel(axes: Axes, panel: Panel, arms: Sequence[str]) -> None:
    for row, arm in enumerate(arms):
        values = panel.values[arm]
        colour = style.BLUE if arm.startswith("ours") else style.ORANGE
        mean = statistics.mean(values)
        axes.scatter(values, [row] * len(values), s=16, color=colour, alpha=0.5)
        axes.scatter(mean, row, s=80, color=colour, edgecolor=style.INK, zorder=3)
        axes.annotate(panel.form.format(mean), (max(values), row), xytext=(9, 0), va="center",
                      textcoords="offset points", fontsize=9)  # fmt: skip
    every = [value for arm in arms for value in panel.values[arm]]
    low, high = min(every), max(every)
    if panel.log:
        axes.set_xscale("log")
        axes.set_xlim(low / 1.6, high * (high / low) ** 0.35 * 1.2)
        axes.xaxis.set_major_formatter("{x:g}")
    else:
        span = max(high - low, 1e-9)
        axes.set_xlim(low - 0.1 * span, high + 0.45 * span)
        axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.set_xlabel(panel.xlabel)
