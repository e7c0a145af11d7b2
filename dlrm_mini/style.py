"""One look for every picture of the course.

Colours are Okabe and Ito's palette ("Color Universal Design", 2008), which stays distinguishable
with every common form of colour blindness, and a grey that is dark enough not to be taken for their
green or purple (`tests/test_colours.py` simulates it). Measured things are solid, modelled things
hatched.
"""

from typing import Any

import matplotlib as mpl
from cycler import cycler

from dlrm_mini import alternative_text

BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#E69F00", "#009E73", "#CC79A7"
SKY, RED, YELLOW, INK, GREY = "#56B4E9", "#D55E00", "#F0E442", "#222222", "#646464"
GROUP_COLOURS = {  # of the parts of a training step (`profiling.parts`), in every picture
    "embeddings": BLUE,
    "fully connected": ORANGE,
    "interaction": GREEN,
    "everything else": GREY,
}
VERDICT_COLOURS = {  # never alone: each verdict has a shape as well (`pictures.verdicts.mark`)
    "holds": BLUE,
    "holds when": BLUE,
    "does not hold": RED,
    "not yet measured": GREY,
}
COMMUNICATION = PURPLE  # between devices, in every timeline and breakdown
PALETTE = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, YELLOW, GREY)

# Shades of these, for the parts of a whole; no picture has a colour of its own.
BLUES = (BLUE, "#3D93C4", "#6CADD2", "#98C6E0", "#C0DDED")
ORANGES = ("#CC8A00", "#FCE8C4", "#F7CE86", "#F0B44C", ORANGE)
PALE_ORANGE, DARK_ORANGE, PALE_GREEN, PALE_BLUE = "#F4CF85", "#A06E00", "#8CD8C4", "#E8ECF5"
PALE_PURPLE, FAINT_PURPLE, MID_PURPLE, DARK_PURPLE = "#E9C9DA", "#E8D5E0", "#9A4A77", "#7A3B5E"
NIGHT, SAND, PALE_SAND = "#0B1026", "#F4E9C8", "#F0E9D8"
PAPER_TO_INK = ("white", SKY, BLUE, "#001E33")  # how full something is
SEA, LAND = ("#08366B", BLUE, "#BFE3F5"), (SAND, COMMUNICATION, "#4A1F3A")  # of a map with a coast

SEQUENTIAL = "cividis"  # a colour map for amounts: perceptually even, safe for the colour-blind
DIVERGING = "RdBu_r"  # a colour map for signed values, white at zero
STARS = "YlOrRd_r"  # amounts that shine in the dark
GLOW = "magma"  # the picture that chapter 09 keeps in fewer bytes
BYTES = "Purples"  # bytes between devices, in shades of `COMMUNICATION`
MODELLED: dict[str, Any] = {"hatch": "////", "fill": False}
LITERATURE: dict[str, Any] = {"color": GREY, "linestyle": "--", "linewidth": 1.2}


def use() -> None:
    """Set matplotlib's defaults for the course; each chapter's set-up cell calls it once.

    In a notebook each picture is stored with a description from then on (`alternative_text`).
    """
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
    alternative_text.install()
