"""Recorded measurements: what a chapter's minute cannot hold.

A named command computes them once, `write` records them under `data/measurements/` with hardware,
versions, date and command, and the chapter reads them, re-runs a small part live, and holds the one
against the other.
"""

import datetime
import json
from pathlib import Path
from typing import Any

from dlrm_mini import hardware
from dlrm_mini.errors import UserError
from dlrm_mini.paths import build_dir, checkout, course_file

FIELDS = ("name", "command", "date", "hardware", "versions", "results")


def write(name: str, results: dict[str, Any], command: str) -> Path:
    """Record `results` as `data/measurements/NAME.json` and return the file.

    Args:
        name: lower-case words joined by underscores.
        results: anything JSON can hold; numbers with their units in the keys.
        command: what a reader types to measure it again.
    """
    root = checkout()
    folder = root / "data" / "measurements" if root else build_dir() / "measurements"
    record = {
        "name": name,
        "command": command,
        "date": datetime.date.today().isoformat(),
        "hardware": hardware.describe(),
        "versions": hardware.versions("torch", "numpy"),
        "results": results,
    }
    folder.mkdir(parents=True, exist_ok=True)
    target, part = folder / f"{name}.json", folder / f"{name}.json.part"
    part.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    part.replace(target)
    return target


def read(name: str) -> dict[str, Any]:
    """The record NAME, as `write` wrote it.

    Raises:
        UserError: it was never measured, or the file is damaged.
    """
    path = course_file(f"data/measurements/{name}.json")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not JSON ({error}). Measure again, or restore it.") from error
    missing = [key for key in FIELDS if key not in record]
    if missing:
        raise UserError(f"{path} lacks {', '.join(missing)}. Measure again, or restore the file.")
    return dict(record)


def caption(record: dict[str, Any]) -> str:
    """One line for a figure: hardware, date and the command that measures it again."""
    machine = record["hardware"]
    cores = "1 core" if machine["cores"] == 1 else f"{machine['cores']} cores"
    processor = machine["gpu"] if machine["gpu"] != "none" else f"{machine['cpu']}, {cores}"
    return f"measured on {processor}, {record['date']}: {record['command']}"
