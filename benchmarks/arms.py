"""What benchmarks do with their arms: run them by turns, make rows of what they measured."""

import json
import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from benchmarks.peer_env import PeerError
from benchmarks.report import Row
from dlrm_mini import hardware

Job = TypeVar("Job")


@dataclass(frozen=True)
class Measured:
    """One arm on one job.

    Attributes:
        values: metric -> number.
        versions: of Python and the packages that did the work.
        note: how it was set up, for the report.
    """

    values: dict[str, float]
    versions: dict[str, str] = field(default_factory=dict)
    note: str = ""


Arm = Callable[[Job], Measured]


def measured(said: str, metrics: tuple[str, ...], note: str = "") -> Measured:
    """What a script said in a line of JSON: numbers by metric, and versions."""
    fields = json.loads(said)
    return Measured({metric: fields[metric] for metric in metrics}, fields["versions"], note)


@dataclass
class Outcome:
    """What was measured.

    Attributes:
        measured: arm -> one entry a job.
        missing: arm -> why there is nothing.
    """

    measured: dict[str, list[Measured]]
    missing: dict[str, str]


def alternate(arms: Mapping[str, Arm[Job]], jobs: Iterable[Job], label: str = "run") -> Outcome:
    """Every arm on every job, all arms on one job before the next; one that fails is dropped.

    So a machine that grows slower does so for all.

    Args:
        arms: name -> what measures it; raises a PeerError when it cannot.
        jobs: folds, repetitions or the like.
        label: what a job is called in the lines printed meanwhile.
    """
    outcome = Outcome({name: [] for name in arms}, {})
    for number, job in enumerate(jobs, start=1):
        for name in list(outcome.measured):
            try:
                one = arms[name](job)
            except PeerError as error:
                outcome.missing[name] = str(error)
                del outcome.measured[name]
                print(f"SKIPPED {name}: {error}", flush=True)
                continue
            outcome.measured[name].append(one)
            said = ", ".join(f"{metric} {value:.4g}" for metric, value in one.values.items())
            print(f"{label} {number} {name:<20} {said}", flush=True)
    return outcome


def to_rows(benchmark: str, outcome: Outcome, units: Mapping[str, str]) -> list[Row]:
    """Mean and standard deviation over the jobs, a row an arm and metric; a row for what failed."""
    machine = hardware.describe()
    rows = []
    for arm, jobs in outcome.measured.items():
        for metric, unit in units.items():
            values = [job.values[metric] for job in jobs]
            spread = statistics.stdev(values) if len(values) > 1 else None
            about = (unit, machine, jobs[0].versions, jobs[0].note)
            rows.append(Row(benchmark, arm, metric, statistics.mean(values), spread, *about))
    for arm, why in outcome.missing.items():
        rows.append(Row(benchmark, arm, "missing", None, None, "", machine, {}, why))
    return rows
