"""Keeping the recorded ledger in step with the chapters: what each of them measured and judged."""

import datetime
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock

from dlrm_mini import hardware, measurements
from dlrm_mini.course.compare import same_text
from dlrm_mini.errors import UserError
from dlrm_mini.paths import build_dir

COMMAND = "python -m dlrm_mini notebooks"
RELATIVE, ABSOLUTE = 1e-3, 1e-4  # a result that moved by less has only scattered
Entries = dict[str, dict[str, Any]]


def keep(chapter: str, results: Entries, verdicts: Entries) -> bool:
    """Put a chapter's results and verdicts into `data/measurements/ledger.json`.

    What only scatters leaves the file as it is, so that a second run gives no diff.

    Args:
        chapter: its two digits.
        results: as `claims.results` returns them.
        verdicts: as `claims.verdicts` returns them.

    Returns:
        Whether the file changed.
    """
    build_dir().mkdir(exist_ok=True)
    with FileLock(build_dir() / "ledger.lock"):  # two chapters may be rewritten at once
        try:
            chapters: dict[str, Any] = measurements.read("ledger")["results"]["chapters"]
        except UserError:  # the first of all
            chapters = {}
        old = chapters.get(chapter)
        if old is not None and not differences(old, results, verdicts):
            return False
        chapters[chapter] = {
            "date": datetime.date.today().isoformat(),
            "hardware": hardware.describe(),
            "results": results,
            "verdicts": verdicts,
        }
        measurements.write("ledger", {"chapters": dict(sorted(chapters.items()))}, COMMAND)
    return True


def differences(recorded: dict[str, Any], results: Entries, verdicts: Entries) -> list[str]:
    """What a chapter's record no longer says, as sentences; empty when it holds.

    Args:
        recorded: the chapter's entry in the record.
        results: what the chapter gives now.
        verdicts: what it says now.
    """
    found = [*verdict_differences(recorded, verdicts)]
    for name in sorted(recorded["results"].keys() | results.keys()):
        old, new = recorded["results"].get(name), results.get(name)
        if old is None or new is None:
            found.append(f"the result {name} is {'new' if old is None else 'gone'}")
        elif not _near(old, new):
            found.append(f"the result {name} is {new['value']:.6g}, was {old['value']:.6g}")
    return found


def verdict_differences(recorded: dict[str, Any], verdicts: Entries) -> Iterator[str]:
    """Which of a chapter's verdicts read otherwise than recorded, as sentences."""
    for key in sorted(recorded["verdicts"].keys() | verdicts.keys()):
        old, new = recorded["verdicts"].get(key), verdicts.get(key)
        if old is None or new is None:
            yield f"the verdict {key} is {'new' if old is None else 'gone'}"
        elif old["verdict"] != new["verdict"] or not same_text(old["because"], new["because"]):
            yield (
                f"the verdict {key} is {new['verdict']}: {new['because']}, "
                f"was {old['verdict']}: {old['because']}"
            )


def of_run(folder: Path) -> tuple[Entries, Entries]:
    """The results and verdicts that a run wrote beside each other in a folder."""
    files = (folder / "results.json", folder / "results.verdicts.json")
    first, second = (
        json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {} for file in files
    )
    return first, second


def _near(old: dict[str, Any], new: dict[str, Any]) -> bool:
    value = math.isclose(old["value"], new["value"], rel_tol=RELATIVE, abs_tol=ABSOLUTE)
    return value and all(old[key] == new[key] for key in ("unit", "seeds", "split", "chapter"))
