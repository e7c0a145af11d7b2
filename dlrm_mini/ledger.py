"""The ledger read out: every claim with its experiment, its numbers and its verdict.

Nothing here is typed but words: the numbers come from `data/measurements/ledger.json`, which
`python -m dlrm_mini notebooks` keeps in step with the chapters (`course.ledger_record`).
"""

import re
from dataclasses import dataclass
from typing import Any

from dlrm_mini import measurements
from dlrm_mini.claims import CLAIMS, Claim
from dlrm_mini.errors import UserError
from dlrm_mini.experiments import EXPERIMENTS, Experiment, Kind, Number
from dlrm_mini.paths import course_file


@dataclass(frozen=True)
class Found:
    """A `Number` with what was recorded under its name; spread None where one seed ran."""

    number: Number
    value: float
    spread: float | None
    seeds: int
    unit: str
    split: str

    def text(self) -> str:
        """The value with its spread, as the number's form wants it."""
        form = self.number.form
        tail = "" if self.spread is None else f" ± {format(self.spread, form)}"
        return f"{format(self.value, form)}{tail}"


@dataclass(frozen=True)
class Row:
    """One line of the ledger.

    Attributes:
        key: the claim's key in `CLAIMS`.
        claim: sentence, source and chapter.
        experiment: how it was put on trial.
        verdict: one of `claims.VERDICTS`.
        because: the sentence that the chapter's cell made of its numbers.
        numbers: in the experiment's order.
        hardware: processor, cores and GPU of the machine that its numbers come from.
        date: when they were recorded.
        link: from `notebooks/` to the cell that judged it.
    """

    key: str
    claim: Claim
    experiment: Experiment
    verdict: str
    because: str
    numbers: tuple[Found, ...]
    hardware: dict[str, Any]
    date: str
    link: str

    @property
    def condition(self) -> str:
        """The first clause of `because`: for `holds when`, when."""
        return re.split(r"[.;:] | \(", self.because)[0]

    @property
    def kind(self) -> Kind:
        """How its first number came about."""
        return self.numbers[0].number.kind

    @property
    def on(self) -> str:
        """What the numbers were measured on, or that no machine was needed."""
        if self.kind == "measured":
            gpu = "" if self.hardware["gpu"] == "none" else f", {self.hardware['gpu']}"
            cores = self.hardware["cores"]
            plural = "core" if cores == 1 else "cores"
            return f"{self.hardware['cpu']}, {cores} {plural}{gpu}"
        return self.kind


def rows() -> list[Row]:
    """The whole ledger in the order of the course, from the recorded results.

    Raises:
        UserError: a claim was not judged, or a number it needs was not recorded.
    """
    chapters, recorded = _chapters(), results()
    verdicts = {key: one for of in chapters.values() for key, one in of["verdicts"].items()}
    found = []
    for key, claim in CLAIMS.items():
        experiment = EXPERIMENTS[key]
        lacking = [number.name for number in experiment.numbers if number.name not in recorded]
        if key not in verdicts or lacking:
            raise UserError(
                f"the recorded ledger lacks {', '.join(lacking) or 'the verdict'} of the claim "
                f"{key!r}. Run `python -m dlrm_mini notebooks {claim.chapter}`."
            )
        origin = measurements.read(experiment.record) if experiment.record else None
        by = origin or chapters[claim.chapter]
        numbers = tuple(_found(number, recorded[number.name]) for number in experiment.numbers)
        found.append(
            Row(
                key,
                claim,
                experiment,
                verdicts[key]["verdict"],
                " ".join(verdicts[key]["because"].split()),
                numbers,
                by["hardware"],
                by["date"],
                f"{_name(claim.chapter)}#verdict-{key}",
            )
        )
    return found


def results() -> dict[str, dict[str, Any]]:
    """Every recorded result by name, with value, unit, spread, seeds, split and chapter."""
    return {name: one for of in _chapters().values() for name, one in of["results"].items()}


def _chapters() -> dict[str, Any]:
    found: dict[str, Any] = measurements.read("ledger")["results"]["chapters"]
    return found


def _found(number: Number, entry: dict[str, Any]) -> Found:
    return Found(number, *(entry[key] for key in ("value", "spread", "seeds", "unit", "split")))


def _name(chapter: str) -> str:
    return next(path.name for path in course_file("notebooks").glob(f"{chapter}_*.ipynb"))
