"""Chapter 07's widgets: what collisions do and cost, and a threshold where clicks are rarer."""

from collections.abc import Mapping
from typing import Any

import ipywidgets
from matplotlib.figure import Figure

from dlrm_mini.pictures import click_logs as pictures
from dlrm_mini.pictures import click_promises
from dlrm_mini.widgets import Explorer, explore

SHOW = {"different values": "counted", "lookups": "lookups"}


class Collisions:
    """All 26 fields of the generated log, hashed into more and fewer buckets.

    Args:
        record: the results of `click_log`.
        guess: the reader's, of the share of values with company where values equal buckets.
    """

    def __init__(self, record: Mapping[str, Any], guess: float) -> None:
        self.record, self.guess = record, guess
        self.buckets = [one["buckets"] for one in record["buckets"]]

    def draw(self, buckets: int, show: str) -> Figure:
        """The collisions in so many buckets a field, and the NE of a model that has to live so."""
        return pictures.collisions(self.record, buckets, SHOW[show], self.guess)

    def widget(self, buckets: int) -> Explorer:
        """Choose how many buckets, and whether to count values or lookups."""
        options = [(f"{one:,}", one) for one in self.buckets]
        return explore(
            "collisions, counted in every field, and their price",
            self.draw,
            buckets=ipywidgets.SelectionSlider(
                options=options, value=buckets, description="buckets"
            ),
            show=ipywidgets.Dropdown(options=list(SHOW), description="count"),
        )


class PriorShift:
    """A trained model at work where the share of clicks is another one.

    Args:
        histogram: of its test logits, as `click_log_scores.histogram` makes it.
    """

    def __init__(self, histogram: Mapping[str, Any]) -> None:
        self.shift = click_promises.Shift(histogram)

    def draw(self, threshold: float, rate: float, told: bool) -> Figure:
        """What a threshold selects there, and how the promises hold."""
        return click_promises.shifted(self.shift, threshold, rate, told=told)

    def widget(self, threshold: float, rate: float) -> Explorer:
        """Move the threshold and the share of clicks, and tell the model or do not."""
        return explore(
            "a threshold, where clicks are rarer or more frequent than in training",
            self.draw,
            threshold=ipywidgets.FloatSlider(
                threshold, min=0.05, max=0.95, step=0.05, description="threshold"
            ),
            rate=ipywidgets.FloatSlider(
                rate, min=0.01, max=0.6, step=0.01, description="clicks", readout_format=".0%"
            ),
            told=ipywidgets.Checkbox(value=False, description="correct the logits"),
        )
