"""One look for every picture of the course.

Colours are Okabe and Ito's palette ("Color Universal Design", 2008), which stays distinguishable
with every common form of colour blindness. Measured things are solid, modelled things hatched.
"""

from typing import Any

import matplotlib as mpl
from cycler import cycler

BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#E69F00", "#009E73", "#CC79A7"
SKY, RED, YELLOW, INK, GREY = "#56B4E9", "#D55E00", "#F0E442", "#222222", "#8A8A8A"
GROUP_COLOURS = {  # of the parts of a training step (`profiling.parts`), in every picture
    "embeddings": BLUE,
    "fully connected": ORANGE,
    "interaction": GREEN,
    "everything else": GREY,
}
COMMUNICATION = PURPLE  # between devices, in every timeline and breakdown
PALETTE = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, YELLOW, GREY)

SEQUENTIAL = "cividis"  # a colour map for amounts: perceptually even, safe for the colour-blind
DIVERGING = "RdBu_r"  # a colour map for signed values, white at zero
MODELLED: dict[str, Any] = {"hatch": "////", "fill": False}
LITERATURE: dict[str, Any] = {"color": GREY, "linestyle": "--", "linewidth": 1.2}


def use() -> None:
    """Set matplotlib's defaults for the course; each chapter's set-up cell calls it once."""
    mpl.rcParams.update(
        {
            "figure.figsize": (8.0, 3.8),
            "figure.dpi": 90,
            "savefig.dpi": 90,
            "figure.constrained_layout.use": True,
            "figure.facecolor": "white",
            "axes.prop_cycle": cycler(color=PALETTE),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.edgecolor": INK,
            "axes.labelcolor": INK,
            "axes.titlesize": 12,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "axes.labelsize": 11,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": "#E6E6E6",
            "grid.linewidth": 0.8,
            "lines.linewidth": 2.0,
            "lines.markersize": 5,
            "xtick.color": INK,
            "ytick.color": INK,
            "xtick.labelsize": 10,
            "ytick.labelsize": 10,
            "legend.frameon": False,
            "legend.fontsize": 10,
            "font.size": 11,
            "image.cmap": SEQUENTIAL,
            "hatch.color": "white",
        }
    )
