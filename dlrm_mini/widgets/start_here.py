"""Chapter 00: how full is the rating matrix? A hundred squares, a guess and the truth."""

import ipywidgets
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from dlrm_mini import plots, style
from dlrm_mini.widgets import Explorer, explore


def waffle(guess: int, filled: float | None = None) -> Figure:
    """A hundred squares are the whole matrix: those you guess are framed, the filled ones blue.

    Args:
        guess: your guess, percent of the cells, 0 to 100.
        filled: the measured share of cells in percent; None keeps it hidden.
    """
    picture, axes = plots.figure(4.6, 4.4)
    for square in range(100):
        x, y = square % 10, 9 - square // 10
        blue = min(max((filled or 0) - square, 0), 1)  # how much of this square is filled
        axes.add_patch(Rectangle((x + 0.06, y + 0.06), 0.88, 0.88, color="#EEEEEE"))
        if blue:
            axes.add_patch(Rectangle((x + 0.06, y + 0.06), 0.88 * blue, 0.88, color=style.BLUE))
        if square < guess:
            axes.add_patch(
                Rectangle((x + 0.06, y + 0.06), 0.88, 0.88, fill=False, edgecolor=style.ORANGE,
                          linewidth=2.5)
            )  # fmt: skip
    truth = "" if filled is None else f"\nmeasured: {filled:.1f} % (blue)"
    axes.set(xlim=(0, 10), ylim=(0, 10), aspect="equal")
    axes.set_title(f"Your guess: {guess} % of the matrix (framed){truth}", fontsize=10.5)
    axes.set_axis_off()
    return picture


def guess_the_density(filled: float) -> Explorer:
    """Move the slider to your guess, then tick the box to see the truth.

    Args:
        filled: the measured share of filled cells, percent.
    """

    def draw(guess: int, show: bool) -> Figure:
        return waffle(guess, filled if show else None)

    return explore(
        "guess how full the rating matrix is",
        draw,
        guess=ipywidgets.IntSlider(30, 0, 100, description="guess, %"),
        show=ipywidgets.Checkbox(False, description="show the truth"),
    )
