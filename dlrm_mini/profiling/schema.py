"""The form of a recorded file, and the sentences for one that has another.

What a file holds is said by `SCHEMA`, whose language is: a type; a tuple of the words allowed; a
list with the form of every item; a dict of the fields that must be there, or, under `Any`, the form
of every value; `Maybe` for what may be null. Numbers are finite and not negative. Fields that it
does not name are let be.
"""

import json
import math
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, get_args

from dlrm_mini.errors import UserError
from dlrm_mini.models.dlrm_config import DLRMConfig
from dlrm_mini.profiling.parts import PARTS
from dlrm_mini.profiling.workload import Rule, Tables, Workload
from dlrm_mini.training_step import DensePart, Precision

ADDS_UP = 0.03  # how far the parts' sum may be from the wall time, as a share of it


@dataclass(frozen=True)
class Maybe:
    """Null, or `form`."""

    form: Any


WORKLOAD: dict[str, Any] = {
    "config": {
        "n_dense": int, "cardinalities": {Any: int}, "dim": int, "bottom": [int], "top": [int],
        "interaction": str, "self_interaction": bool, "pooling": str, "lookups": object,
        "dropout": float,
    },
    "batch_size": int,
    "tables": get_args(Tables),
    "rule": get_args(Rule),
    "precision": get_args(Precision),
    "dense_part": get_args(DensePart),
}  # fmt: skip
PLACE = {
    "preset": str,  # which was asked for
    "configuration": str,  # a model and a batch size, such as "profile" or "batch 512"
    "arm": str,  # a way to train it, such as "fused"
    "workload": WORKLOAD,  # all that is needed to build it again
}
SCHEMA: dict[str, Any] = {
    "name": str,
    "command": str,
    "date": str,
    "hardware": {"cpu": str, "cores": int, "system": str, "gpu": str},
    "versions": {Any: str},
    "results": {
        "device": ("cpu", "cuda"),
        "threads": int,
        "ceilings": Maybe(dict),  # `profiling.ceilings.Ceilings.from_json` reads it
        "presets": {Any: {"date": str, "command": str, "seconds": float}},
        "entries": [
            {
                **PLACE,
                "sweep": Maybe({"knob": str, "value": object}),  # what was changed, to what
                "scale": float,  # factor on the rows of the published tables
                "about": str,  # a sentence for a reader
                "prefetch": bool,  # batches copied beforehand, on a stream of their own
                "kernel": Maybe(str),  # of fused tables: "cpu" (numba), "gpu" (Triton), "reference"
                "seed": int,  # of the weights; batches have it and those after it
                "ms": float,  # of a step: median of the repetitions
                "spread_ms": float,  # their standard deviation
                "repetitions_ms": [float],  # arms take turns: at one place of all, at one time
                "against": str,  # the arm that the ratios are to
                "ratios": [float],  # this arm's time over that arm's, by repetition
                "samples_per_s": float,
                "breakdown": Maybe(
                    {
                        "parts": {Any: float},
                        "operators": {Any: float},
                        "wall_ms": float,  # of a step with the profiler
                        "plain_ms": float,  # without, by turns
                        "launches": float,  # kernels a step; 0 on a CPU
                    }
                ),
                "predicted_ms": Maybe({Any: float}),  # by part, from the ceilings
                "peak_bytes": Maybe(int),  # of device memory; null on a CPU
                "curve": Maybe(
                    {
                        "losses": [float],  # a step each, tables cut to `rows` rows
                        "rows": int,
                        "deviation": float,  # largest |loss - reference| / reference
                        "tolerance": float,
                    }
                ),
            }
        ],
        "skipped": [{**PLACE, "reason": str}],
    },
}  # fmt: skip


def check(record: Any) -> None:
    """Raise a UserError that names the first field which is not as it should be."""
    _check(record, SCHEMA, "")
    results, seen = record["results"], set()
    for place, entry in enumerate(results["entries"]):
        where = f"results.entries[{place}]"
        _check_entry(entry, where)
        key = entry["preset"], entry["configuration"], entry["arm"]
        if key in seen:
            raise UserError(f"{where} is a second one of {', '.join(key)}; expected one.")
        seen.add(key)
    for place, entry in enumerate([*results["entries"], *results["skipped"]]):
        if entry["preset"] not in results["presets"]:
            raise UserError(
                f"results.presets lacks '{entry['preset']}', the preset of entry {place}."
            )


def _check_entry(entry: Mapping[str, Any], where: str) -> None:
    """What the fields of an entry have to do with each other."""
    times = entry["repetitions_ms"]
    if not times or not math.isclose(entry["ms"], statistics.median(times), rel_tol=1e-6):
        raise UserError(f"{where}.ms is {entry['ms']}; expected the median of repetitions_ms.")
    if len(entry["ratios"]) != len(times):
        raise UserError(
            f"{where}.ratios has {len(entry['ratios'])} numbers; expected {len(times)}, one for "
            "each repetition."
        )
    try:
        workload(entry)
    except UserError as error:
        raise UserError(f"{where}.workload cannot be built: {error}") from error
    for field in ("breakdown", "predicted_ms"):
        parts = entry[field] and entry[field].get("parts", entry[field])
        if unknown := [part for part in parts or () if part not in PARTS]:
            raise UserError(
                f"{where}.{field} has the part '{unknown[0]}'; expected one of {', '.join(PARTS)}."
            )
    if shown := entry["breakdown"]:
        for field in ("parts", "operators"):
            total = sum(shown[field].values())
            if abs(total - shown["wall_ms"]) > ADDS_UP * shown["wall_ms"]:
                raise UserError(
                    f"{where}.breakdown.{field} add up to {total:.4g} ms; expected "
                    f"{shown['wall_ms']:.4g}, the time of the step."
                )


def _check(value: Any, form: Any, where: str) -> None:
    """Raise a UserError unless `value` has this form; `where` is its place in the record."""
    if isinstance(form, Maybe):
        if value is not None:
            _check(value, form.form, where)
    elif isinstance(form, tuple):
        if value not in form:
            raise _wrong(value, where, f"one of {', '.join(map(repr, form))}")
    elif isinstance(form, list):
        if not isinstance(value, list):
            raise _wrong(value, where, "a list")
        for place, item in enumerate(value):
            _check(item, form[0], f"{where}[{place}]")
    elif isinstance(form, dict):
        if not isinstance(value, dict):
            raise _wrong(value, where, "an object")
        names = value if Any in form else form
        for name in names:
            inside = f"{where}.{name}".lstrip(".")
            if name not in value:
                raise UserError(f"{inside} is missing.")
            _check(value[name], form.get(Any, form.get(name)), inside)
    elif form in (int, float):
        kinds = int if form is int else (int, float)
        right = isinstance(value, kinds) and not isinstance(value, bool)
        if not right or not (math.isfinite(value) and value >= 0):
            kind = "a whole number" if form is int else "a number"
            raise _wrong(value, where, f"{kind} of at least 0")
    elif not isinstance(value, form):
        names_of = {str: "a text", bool: "true or false", dict: "an object"}
        raise _wrong(value, where, names_of[form])


def _wrong(value: Any, where: str, expected: str) -> UserError:
    found = json.dumps(value) if not isinstance(value, dict | list) else type(value).__name__
    return UserError(f"{where or 'the record'} is {found[:60]}; expected {expected}.")


def as_json(workload: Workload) -> dict[str, Any]:
    """A workload as JSON holds it."""
    return json.loads(json.dumps(asdict(workload)))  # type: ignore[no-any-return]


def workload(entry: Mapping[str, Any]) -> Workload:
    """The workload of an entry, to build or to predict.

    Raises:
        UserError: its numbers do not fit together.
    """
    fields = {name: entry["workload"][name] for name in WORKLOAD if name != "config"}
    config = {name: entry["workload"]["config"][name] for name in WORKLOAD["config"]}
    return Workload(DLRMConfig(**config), **fields)
