"""Chapter 15's widget: steps as they were measured here, above what was predicted."""

from collections.abc import Mapping, Sequence

import ipywidgets
from matplotlib.figure import Figure

from dlrm_mini.parallel.events import Event
from dlrm_mini.pictures import for_real as pictures
from dlrm_mini.widgets import Explorer, explore

Runs = Mapping[tuple[int, int], Sequence[Event]]  # processes, batch -> events of a step


class RealSteps:
    """Measured and predicted timelines of the same steps.

    Args:
        measured: (processes, batch) -> events without waiting, from zero.
        predicted: the same, of the cost model.
        hardware: whose time is measured.
    """

    def __init__(self, measured: Runs, predicted: Runs, hardware: str) -> None:
        self.measured, self.predicted, self.hardware = measured, predicted, hardware

    def draw(self, processes: int, batch: int) -> Figure:
        """One step, twice.

        Args:
            processes: P.
            batch: B.
        """
        words = f"{processes} process{'es' * (processes > 1)}, batch {batch:,}"
        one = processes, batch
        return pictures.two_timelines(
            self.measured[one], self.predicted[one], title=words, hardware=self.hardware
        )

    def widget(self, processes: int, batch: int) -> Explorer:
        """Choose how many processes, and slide through the batches."""
        sizes = sorted({size for size, _ in self.measured})
        batches = sorted({batch for _, batch in self.measured})
        return explore(
            "a step, measured and predicted",
            self.draw,
            processes=ipywidgets.ToggleButtons(
                options=sizes, value=processes, description="processes",
                style={"button_width": "3em"},
            ),
            batch=ipywidgets.SelectionSlider(
                options=[(f"{one:,}", one) for one in batches], value=batch, description="batch"
            ),
        )  # fmt: skip
