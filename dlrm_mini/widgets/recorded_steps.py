"""Chapter 11's widget: an explorer of the training steps that were recorded, machine by machine."""

from collections.abc import Mapping, Sequence
from typing import Any

import ipywidgets
from matplotlib.figure import Figure

from dlrm_mini.ladders.gpu_steps import machine, rows
from dlrm_mini.pictures import recorded_steps as pictures
from dlrm_mini.profiling import record
from dlrm_mini.widgets import Explorer, explore

EVERY = "every way"
PREDICTED = (
    "wide and solid: measured; narrow and hatched: predicted from the same machine's ceilings"
)
NO_GPU = (
    "No GPU has been measured yet: "
    "python -m dlrm_mini bench step --preset profile --device cuda --record"
)


class RecordedSteps:
    """The recorded files, as choices; `start` holds the arguments of the first picture.

    Args:
        records: what `profiling.record.recorded()` returns; read from the course's folder if None.
    """

    def __init__(self, records: Sequence[Mapping[str, Any]] | None = None) -> None:
        found = record.recorded() if records is None else records
        self.records = {machine(one): one for one in found}
        entries = [entry for one in found for entry in one["results"]["entries"]]
        self.runs = list(dict.fromkeys(run_of(entry) for entry in entries))
        self.arms = [EVERY, *dict.fromkeys(entry["arm"] for entry in entries)]
        on_gpus = [name for name, one in self.records.items() if _device(one) == "cuda"]
        self.missing = "" if on_gpus else NO_GPU
        self.start = {
            "hardware": next(iter([*on_gpus, *self.records]), "no machine"),
            "run": "profile" if "profile" in self.runs else next(iter(self.runs), "nothing"),
            "way": EVERY,
            "show": pictures.SHOWN[0],
        }

    def draw(self, hardware: str, run: str, way: str, show: str) -> Figure:
        """The measured steps of a run on a machine, with their predictions.

        Args:
            hardware: one of `records`.
            run: one of `runs`.
            way: one of `arms`.
            show: one of `pictures.SHOWN`.
        """
        one = self.records.get(hardware)
        chosen = [
            entry
            for entry in (one["results"]["entries"] if one else ())
            if run_of(entry) == run and way in (EVERY, entry["arm"])
        ]
        title = f"{run}, {hardware}" if one else "Recorded training steps"
        lines = [self.missing] if self.missing else []
        if one and chosen:
            preset = one["results"]["presets"][chosen[0]["preset"]]
            lines.insert(0, f"measured on {hardware}, {preset['date']}: {preset['command']}")
            title += f", {rows(chosen)}"
            if any(entry["predicted_ms"] for entry in chosen):
                lines.insert(0, PREDICTED)
        shown = [_row(entry, way) for entry in chosen]
        return pictures.recorded_steps(shown, show=show, title=title, foot="\n".join(lines))

    def widget(self) -> Explorer:
        """Choose the machine, what was run, the way to train, and what to show."""
        choices = {
            "hardware": list(self.records),
            "run": self.runs,
            "way": self.arms,
            "show": list(pictures.SHOWN) if self.records else [],
        }
        controls = {
            name: ipywidgets.Dropdown(options=options, value=self.start[name], description=name)
            for name, options in choices.items()
            if len(options) > 1  # a control without a choice would be a dead one
        }
        return explore(
            "recorded training steps",
            lambda **values: self.draw(**(self.start | values)),
            **controls,
        )


def run_of(entry: Mapping[str, Any]) -> str:
    """What an entry is compared with: a preset's other ways, or a sweep's other values."""
    return f"sweep: {entry['sweep']['knob']}" if entry["sweep"] else str(entry["preset"])


def _device(one: Mapping[str, Any]) -> str:
    return str(one["results"]["device"])


def _row(entry: Mapping[str, Any], way: str) -> pictures.Row:
    name = entry["configuration"]  # a preset's only one is in the title
    if way == EVERY or not entry["sweep"]:
        name = f"{name}: {entry['arm']}" if entry["sweep"] else entry["arm"]
    breakdown = entry["breakdown"]
    return pictures.Row(
        name=name,
        ms=entry["ms"],
        spread=entry["spread_ms"],
        batch_size=entry["workload"]["batch_size"],
        parts=breakdown and breakdown["parts"],
        predicted=entry["predicted_ms"],
    )
