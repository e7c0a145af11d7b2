"""Chapter 09's experiment: the loss of a DLRM against the bytes of its tables, method by method.

    python -m dlrm_mini measure smaller-tables

records `smaller_tables`; the chapter trains two of its runs again, live. `smaller_table_methods`
says what each method makes of a budget, `smaller_table_runs` on what it is trained and how.

Each method gets its own learning rate and prior, the best of the same few on other rows, at one
budget. Every run is kept in `build/smaller_tables.jsonl` as it ends: a second call goes on where
the first was stopped.
"""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from dlrm_mini import measurements
from dlrm_mini.errors import UserError
from dlrm_mini.ladders import smaller_table_methods as methods
from dlrm_mini.ladders import smaller_table_runs as runs
from dlrm_mini.ladders.click_log_training import Setting
from dlrm_mini.ladders.click_logs import Data
from dlrm_mini.ladders.smaller_table_runs import BASE, Run, Store
from dlrm_mini.models.dlrm import DLRM
from dlrm_mini.paths import build_dir
from dlrm_mini.progress import bar
from dlrm_mini.training import predict

PARTS = (2, 4, 8, 16, 32, 64)  # of the full tables' bytes: a half, a quarter, ...
FEW_PARTS = (4, 16, 64)
SEEDS = (0, 1, 2)
TRIED = (BASE, replace(BASE, prior=30.0), *(replace(BASE, table_rate=r) for r in (0.2, 0.8)))
TUNED_AT = {"full": 1, "mixed": 8, "narrow": 8}  # the others at a sixteenth, which mixed lacks
TUNING_SEED = 100
COMBINES = ("qr sum", "qr product", "qr concat")
COMPARED = ("hash", "threshold", "mixed", "narrow")  # and the best of `COMBINES`
COLLIDED_AT = 64
NOTHING = 20_000  # this part of the bytes is a row a table: all ids of a field are one
LIVE = (("hash", 64), ("threshold", 64))
MEASURED = "smaller_tables"


def tuning(method: str) -> list[Run]:
    """The runs among which a method's setting is chosen."""
    part = TUNED_AT.get(method, 16)
    return [Run("silent", method, part, TUNING_SEED, setting, valid=True) for setting in TRIED]


def measure(progress: bool = True) -> Path:
    """Train and record `smaller_tables`: about 20 minutes on one quiet core."""
    store = Store(build_dir() / f"{MEASURED}.jsonl")
    with bar(desc="smaller-tables", unit="run", disable=not progress) as shown:

        def done(run: Run) -> dict[str, Any]:
            found = store(run, _data)
            shown.update()
            return found

        tuned = {
            method: [(run.setting, done(run)["ne"]) for run in tuning(method)]
            for method in ("hash", "threshold", *COMBINES, "mixed", "narrow", "full")
        }
        chosen = {method: min(of, key=lambda one: one[1])[0] for method, of in tuned.items()}
        best = min(COMBINES, key=lambda name: min(ne for _, ne in tuned[name]))
        plain = chosen["hash"]

        def point(world: str, method: str, part: int, setting: Setting) -> dict[str, Any] | None:
            found = [done(Run(world, method, part, seed, setting)) for seed in SEEDS]
            return summary(found) if found[0]["possible"] else None

        def points(world: str, names: Sequence[str], parts: Sequence[int]) -> dict[str, Any]:
            return {
                name: {
                    str(part): found
                    for part in parts
                    if (found := point(world, name, part, chosen[name])) is not None
                }
                for name in names
            }

        worlds = {"silent": points("silent", ("full",), (1,))}
        silent = points("silent", (best, *COMPARED), FEW_PARTS)
        nothing = point("silent", "hash alike", NOTHING, plain)
        collided = {
            how: point("silent", f"collide {how}", COLLIDED_AT, plain) for how in methods.COLLISIONS
        }
        alike = {str(part): point("silent", "hash alike", part, plain) for part in FEW_PARTS[1:]}
        worlds["telling"] = points("telling", ("full",), (1,))
        worlds["telling"] |= points("telling", (best, "hash", "threshold"), FEW_PARTS)
        worlds["silent"] |= points("silent", list(silent), PARTS)
    results = {
        "scores": "of test rows, expected over their labels; logloss in nats",
        "fields": _data_sizes(),
        "full_bytes": methods.full_bytes(_data_sizes()),
        "optimizer": "Adagrad's state, as many bytes again in training, is not counted",
        "tuning": {
            name: [{**_told(setting), "ne": ne} for setting, ne in of] for name, of in tuned.items()
        },
        "chosen": {name: asdict(setting) for name, setting in chosen.items()},
        "combine": best,
        "optimum": {world: _data(Run(world, "full", 1, 0, BASE)).best for world in worlds},
        "counts": {world: _shares(world) for world in worlds},
        "worlds": worlds,
        "collided": {"part": COLLIDED_AT, "arms": collided},
        "alike": alike,
        "nothing": nothing,
    }
    return measurements.write(MEASURED, results, "python -m dlrm_mini measure smaller-tables")


@dataclass(frozen=True, eq=False)
class Trained:
    """One model of the experiment.

    Attributes:
        model: trained.
        data: its rows with the ids that the model wants.
        n_bytes: of its tables.
        scores: of its test logits.
    """

    model: DLRM
    data: Data
    n_bytes: int
    scores: dict[str, float]


def again(data: Data, method: str, part: int, record: dict[str, Any], seed: int = 0) -> Trained:
    """Train one of the recorded runs once more.

    Args:
        data: of `runs.draw`.
        method: one that was compared.
        part: of the full tables' bytes.
        record: the results of `smaller_tables`, whose setting is used.
        seed: of the run.

    Raises:
        UserError: the method has no tables that small.
    """
    setting: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in record["chosen"][method].items()
    }
    trained = runs.train(data, method, part, seed, Setting(**setting))
    if trained is None:
        raise UserError(
            f"'{method}' has no tables of 1/{part} of the bytes; ask for a larger part."
        )
    model, encoded, n_bytes = trained
    return Trained(model, encoded, n_bytes, data.scored(predict(model, encoded.test).double()))


def summary(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean, spread and each seed's NE, and the means of what else was scored."""
    told: dict[str, Any] = {"bytes": found[0]["bytes"], "ne": _spread([one["ne"] for one in found])}
    told["auc"] = statistics.fmean(one["auc"] for one in found)
    told["by_count"] = [
        statistics.fmean(of) for of in zip(*(one["by_count"] for one in found), strict=True)
    ]
    if "quantised" in found[0]:
        told["quantised"] = {}
        for bits in found[0]["quantised"]:
            of = [one["quantised"][bits] for one in found]
            told["quantised"][bits] = {
                "bytes": of[0]["bytes"],
                "ne": _spread([one["ne"] for one in of]),
                "worst_of_bound": max(one["worst_of_bound"] for one in of),
                "rms_error": statistics.fmean(one["rms_error"] for one in of),
                "rms_number": statistics.fmean(one["rms_number"] for one in of),
            }
    return told


def _spread(values: Sequence[float]) -> dict[str, Any]:
    mean, spread = statistics.fmean(values), statistics.stdev(values)
    return {"mean": mean, "spread": spread, "per_seed": list(values)}


def _told(setting: Setting) -> dict[str, float]:
    """Where the settings that were tried differ."""
    return {"prior": setting.prior, "table_rate": setting.table_rate}


@cache
def _drawn(world: str, valid: bool) -> Data:
    return runs.draw(world, test=runs.VALID) if valid else runs.draw(world)


def _data(run: Run) -> Data:
    return _drawn(run.world, run.valid)


def _data_sizes() -> dict[str, int]:
    return dict(runs.config("silent").cardinalities)


def _shares(world: str) -> dict[str, list[float]]:
    """Of ids and of test lookups of the large fields: the share in each of `runs.EDGES`."""
    data = _drawn(world, False)
    lookups = torch.cat([groups for _, groups in runs.counted(data)])
    ids = torch.cat(
        [
            torch.bincount(data.train.sparse.ids(name), minlength=data.sizes[name])
            for name in runs.LARGE
        ]
    )
    groups = torch.bucketize(ids, torch.tensor(runs.EDGES[1:]), right=True)
    return {
        name: [float(n) / len(of) for n in torch.bincount(of, minlength=len(runs.EDGES))]
        for name, of in (("ids", groups), ("lookups", lookups))
    }
