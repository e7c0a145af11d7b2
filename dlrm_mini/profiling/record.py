"""Recorded training steps: one JSON for each machine, checked whenever it is written or read.

The files are `data/measurements/steps_<device>_<hardware>.json`; `SCHEMA` says what is in them. The
environment variable `DLRM_MINI_MEASUREMENTS` names another folder, to read and to write.
"""

import datetime
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dlrm_mini.errors import UserError
from dlrm_mini.paths import build_dir, checkout, course_file, try_writing
from dlrm_mini.profiling.schema import SCHEMA, as_json, check, workload
from dlrm_mini.profiling.workload import Workload

__all__ = ["SCHEMA", "as_json", "check", "file_of", "read", "recorded", "workload", "write"]

PREFIX = "steps"
REPAIR = "Measure again with `python -m dlrm_mini bench step --record`, or restore the file."
NUMBERS = re.compile(r"\[\s*((?:[-+.\de]+,\s*)*[-+.\de]+)\s*\]")  # a list of nothing else
Predict = Callable[[Workload, bool], dict[str, float] | None]


def folder() -> Path:
    """Where the files are: `DLRM_MINI_MEASUREMENTS`, else the course's `data/measurements`."""
    if chosen := os.environ.get("DLRM_MINI_MEASUREMENTS"):
        return Path(chosen).expanduser().absolute()
    return course_file("data/measurements")


def recorded(device: str | None = None) -> list[dict[str, Any]]:
    """All recorded files, in the order of their names; an empty list where nothing was recorded.

    Args:
        device: only those of "cpu" or "cuda".

    Raises:
        UserError: a file is damaged; it is named.
    """
    records = [read(path) for path in sorted(folder().glob(f"{PREFIX}_*.json"))]
    return [record for record in records if device in (None, record["results"]["device"])]


def read(path: Path) -> dict[str, Any]:
    """One recorded file.

    Raises:
        UserError: it is not JSON, or not such a record.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not JSON ({error}). {REPAIR}") from error
    try:
        check(record)
    except UserError as error:
        raise UserError(f"{path} is damaged: {error} {REPAIR}") from error
    return dict(record)


def slug(name: str) -> str:
    """The name of a processor as part of a file's name.

    Example:
        >>> slug("Intel(R) Xeon(R) Platinum 8370C CPU @ 2.80GHz")
        'intel_xeon_platinum_8370c'
    """
    words = re.sub(r"\(R\)|\(TM\)|\bCPU\b|@.*", " ", name, flags=re.IGNORECASE)
    return "_".join(re.findall(r"[a-z0-9]+", words.lower())) or "unknown"


def file_of(device: str, hardware: Mapping[str, Any]) -> Path:
    """Where the steps of this hardware are recorded; `data/measurements` outside a checkout too."""
    chosen = os.environ.get("DLRM_MINI_MEASUREMENTS")
    root = checkout()
    if chosen or root:
        place = folder() if chosen else Path(str(root), "data", "measurements")
    else:
        place = build_dir() / "measurements"
    name = slug(str(hardware["gpu" if device == "cuda" else "cpu"]))
    return place / f"{PREFIX}_{device}_{name}.json"


def check_place(path: Path) -> None:
    """Make the folder of a file, and raise a UserError unless something can be written there."""
    try:
        try_writing(path.parent)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error}). Name another folder in DLRM_MINI_MEASUREMENTS."
        ) from error


def write(path: Path, new: Mapping[str, Any], predict: Predict | None = None) -> Path:
    """Record some presets: those that are in the file already are replaced, the others kept.

    Args:
        path: what `file_of` said.
        new: a record of these presets alone.
        predict: a workload, and whether it prefetches -> part -> ms from the ceilings in `new`, for
            the entries kept: a file has one set of ceilings, and all predictions are from them.

    Raises:
        UserError: the file is of other hardware or other versions, or damaged. It stays as it was.
    """
    check(new)
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {field: new[field] for field in SCHEMA}
    record |= {"name": path.stem, "date": datetime.date.today().isoformat()}
    if path.exists():
        record["results"] = _merged(path, read(path), new, predict)
    part = path.with_suffix(".json.part")
    text = json.dumps(record, indent=1, allow_nan=False)
    # Hundreds of numbers, each on a line of its own, would bury the rest.
    text = NUMBERS.sub(lambda found: " ".join(found[1].split()).join("[]"), text)
    part.write_text(text + "\n", encoding="utf-8")
    part.replace(path)
    return path


def check_same(path: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Raise a UserError unless both were measured on the same hardware with the same versions."""
    threads = {"threads": old["results"]["threads"]}, {"threads": new["results"]["threads"]}
    for what, before, now in (
        ("hardware", old["hardware"], new["hardware"]),
        ("versions", old["versions"], new["versions"]),
        ("results", *threads),
    ):
        for name in {**before, **now}:
            was, is_ = before.get(name, "nothing"), now.get(name, "nothing")
            if was != is_:
                raise UserError(
                    f"{path} was recorded with {what}.{name} {was}; this is {is_}. Both in one "
                    "file could not be compared: move or delete the file, and record all presets "
                    "again."
                )


def _merged(
    path: Path, old: Mapping[str, Any], new: Mapping[str, Any], predict: Predict | None
) -> dict[str, Any]:
    """The results of `new`, and those of `old` whose presets are not in `new`."""
    check_same(path, old, new)
    before, results = old["results"], new["results"]
    merged = {**results, "presets": {**before["presets"], **results["presets"]}}
    for kind in ("entries", "skipped"):
        kept = [entry for entry in before[kind] if entry["preset"] not in results["presets"]]
        merged[kind] = kept + results[kind]
        if kind == "entries" and predict:
            for entry in kept:
                entry["predicted_ms"] = predict(workload(entry), entry["prefetch"])
    return merged
