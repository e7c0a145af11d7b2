"""Chapter 16's widget: where the line is drawn that makes a verdict of many cases."""

from collections.abc import Sequence

import ipywidgets
from matplotlib.figure import Figure

from dlrm_mini.pictures.verdict_lines import Line, where_is_the_line
from dlrm_mini.widgets import Explorer, explore


class Definitions:
    """What "most" and "negligible" mean, and what becomes of the verdicts.

    Args:
        lines: the questions with their cases.
    """

    def __init__(self, lines: Sequence[Line]) -> None:
        self.lines = tuple(lines)

    def draw(self, most: int, negligible: int) -> Figure:
        """The cases with the lines at these shares.

        Args:
            most: per cent of a step.
            negligible: per cent of a step.
        """
        return where_is_the_line(self.lines, most / 100, negligible / 100)

    def widget(self, most: int, negligible: int) -> Explorer:
        """Move the two lines."""
        return explore(
            "what most and negligible mean",
            self.draw,
            most=ipywidgets.IntSlider(most, 10, 95, 5, description="most, %"),
            negligible=ipywidgets.IntSlider(negligible, 2, 50, 2, description="negligible, %"),
        )
