"""The map of chapter 14: over links and ranks, where most of a step is waiting, and its coast."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from matplotlib.colors import Colormap, LinearSegmentedColormap, ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from dlrm_mini import style
from dlrm_mini.parallel.topology import LINKS

Floats = NDArray[np.float64]
COAST = 0.5  # of the map: most
TINTS = np.linspace(0, 1, 11)  # bands of one colour


@dataclass(frozen=True)
class Landscape:
    """Shares of a step over ranks and links.

    Attributes:
        ranks: (n,) of P.
        bandwidths: (m,) bytes a second.
        shares: what is waited for -> (n, m), 0 to 1, of the step in which a rank waits for it.
        seconds: (n, m) of a step.
    """

    ranks: tuple[int, ...]
    bandwidths: Floats
    shares: Mapping[str, Floats]
    seconds: Floats

    def first(self, reading: str, share: float) -> list[int | None]:
        """For each link, the least number of ranks with at least that share; None: there is none.

        Args:
            reading: which of the shares.
            share: 0 to 1.
        """
        most = self.shares[reading] >= share
        return [self.ranks[int(column.argmax())] if column.any() else None for column in most.T]


def sea_and_land(found: Landscape, reading: str, *, title: str, named: bool = True) -> Figure:
    """The map: links to the right, ranks upwards; where most of the step is waiting is land.

    Args:
        found: shares, on links and ranks that are evenly spaced by their logarithms.
        reading: which of its shares.
        title: what the picture shows.
        named: whether axes, coast and links are explained; without, it is a picture to wonder at.
    """
    # Places by hand: the search for a layout would take longer than all the rest.
    figure = Figure(figsize=(8.8, 4.5))
    figure.set_layout_engine("none")
    axes = figure.add_axes((0.075, 0.12, 0.78, 0.74) if named else (0.04, 0.07, 0.94, 0.85))
    x, y = np.log10(found.bandwidths), np.log2(found.ranks)
    across, up = np.linspace(x[0], x[-1], 160), np.linspace(y[0], y[-1], 100)
    share = _between(_between(found.shares[reading], y, up).T, x, across).T
    axes.contourf(across, up, share, TINTS, cmap=_sea_and_land(), vmin=0, vmax=1)
    if share.max() > COAST > share.min():
        axes.contour(across, up, share, [COAST], colors=style.INK, linewidths=2.2)
    heights = [k / 10 for k in range(1, 10) if k != 5 and share.min() < k / 10 < share.max()]
    lines = axes.contour(across, up, share, heights, colors="white", linewidths=0.7)
    everywhere = Rectangle(
        (x[0], y[0]), x[-1] - x[0], y[-1] - y[0], fill=False, linewidth=0, hatch="/",
        edgecolor="white", alpha=0.35,
    )  # fmt: skip
    axes.add_patch(everywhere)  # all of it is modelled
    axes.grid(visible=False)
    if not named:
        axes.set(xticks=[], yticks=[], xlabel="links: slow to the west, fast to the east",
                 ylabel="devices: few in the south, many in the north")  # fmt: skip
        axes.set_title(title)
        return figure
    inks = ["white" if abs(level - COAST) > 0.15 else style.INK for level in heights]
    axes.clabel(lines, fmt=lambda level: f"{100 * level:.0f} %", fontsize=8.5, colors=inks)
    for link in LINKS.values():
        axes.axvline(np.log10(link.beta), color=style.INK, linewidth=0.9, linestyle=":")
        side = {"100 Gbit/s": "right", "PCIe": "left"}.get(link.name, "center")
        axes.text(np.log10(link.beta), y[-1] + 0.06, link.name, fontsize=9, ha=side)
    ticks = [0.5e9, 1e9, 2e9, 5e9, 10e9, 20e9, 50e9, 100e9, 200e9, 500e9]
    axes.set_xticks(np.log10(ticks), [f"{tick / 1e9:g}" for tick in ticks])
    powers = [power for power in range(int(y[-1]) + 1) if power >= y[0]]
    axes.set_yticks(powers, [str(2**power) for power in powers])
    axes.set(xlim=(x[0], x[-1]), ylim=(y[0], y[-1]), ylabel="ranks",
             xlabel="GB/s of the link that is everywhere (modelled)")  # fmt: skip
    figure.suptitle(title, x=0.075, y=0.975, ha="left", weight="bold", fontsize=12)
    _scale(figure, reading)
    return figure


def _scale(figure: Figure, reading: str) -> None:
    bar = figure.add_axes((0.885, 0.12, 0.022, 0.74))
    middles = (TINTS[1:] + TINTS[:-1]) / 2
    bar.bar(0.5, 10, 1.0, bottom=100 * TINTS[:-1], color=_sea_and_land()(middles))
    bar.axhline(100 * COAST, color=style.INK, linewidth=2.2)
    bar.yaxis.tick_right()
    bar.yaxis.set_label_position("right")
    bar.set(xlim=(0, 1), ylim=(0, 100), xticks=[], xlabel="%",
            ylabel=f"share of the step, waiting for: {reading}")  # fmt: skip
    bar.grid(visible=False)


def _between(values: Floats, at: Floats, wanted: Floats) -> Floats:
    """Rows at other places, on straight lines between."""
    place = np.clip(np.searchsorted(at, wanted) - 1, 0, len(at) - 2)
    weight = ((wanted - at[place]) / (at[place + 1] - at[place]))[:, None]
    found: Floats = (1 - weight) * values[place] + weight * values[place + 1]
    return found


@lru_cache(maxsize=1)
def _sea_and_land() -> Colormap:
    """Blue below the coast, the deeper the darker; sand and then purple above it."""
    sea = LinearSegmentedColormap.from_list("sea", style.SEA)
    land = LinearSegmentedColormap.from_list("land", style.LAND)
    steps = np.linspace(0, 1, 128)
    return ListedColormap(np.concatenate([sea(steps), land(steps)]))
