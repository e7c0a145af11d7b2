"""A recorded file of a card that does not exist, for tests only."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from dlrm_mini.models.dlrm_presets import PRESETS
from dlrm_mini.profiling import record
from dlrm_mini.profiling.workload import Workload

CARD = "made-up card, not a measurement"
ARMS: dict[str, tuple[float, dict[str, Any]]] = {  # factor on the time, what the arm changes
    "naive": (9.0, {"tables": "dense"}),
    "sparse": (4.0, {"tables": "sparse"}),
    "fused": (1.5, {}),
    "bfloat16": (1.2, {"precision": "bfloat16"}),
    "float16": (1.25, {"precision": "float16"}),
    "compiled": (1.1, {"precision": "bfloat16", "dense_part": "compiled"}),
    "graphed": (0.9, {"precision": "bfloat16", "dense_part": "graphed"}),
    "prefetch": (0.8, {"precision": "bfloat16", "dense_part": "graphed"}),
}
SHARES = {
    "input": 0.1, "embedding forward": 0.2, "bottom MLP": 0.05, "interaction": 0.05,
    "top MLP": 0.1, "loss": 0.02, "loss backward": 0.02, "top MLP backward": 0.1,
    "interaction backward": 0.05, "bottom MLP backward": 0.05, "embedding update": 0.16,
    "dense update": 0.02, "idle": 0.06, "remainder": 0.02,
}  # fmt: skip
OPERATORS = {"FC": 0.4, "EmbeddingBag": 0.4, "BatchMatMul": 0.1, "Other": 0.1}


def made_up_card(ceilings: dict[str, Any] | None = None) -> dict[str, Any]:
    """A record of every preset with every arm, and of sweeps; no number in it means anything."""
    entries, skipped = [], []
    for name, preset in PRESETS.items():
        workload = Workload(preset(0.01), 2048)
        skipped.append(place(name, name, "naive", workload.but(tables="dense")))
        skipped[-1]["reason"] = "made up: it does not fit"
        entries += [entry(name, name, arm, workload) for arm in list(ARMS)[1:]]
    base = Workload(PRESETS["profile"](0.01), 2048)
    for batch in (128, 512, 2048, 8192):
        for arm in ("sparse", "fused", "graphed"):
            one = entry("sweeps", f"batch {batch}", arm, base.but(batch_size=batch))
            entries.append(one | {"sweep": {"knob": "batch", "value": batch}, "curve": None})
    when = {"date": "2000-01-01", "command": "made up", "seconds": 1.0}
    return {
        "name": "steps_cuda_made_up_card",
        "command": "python -m dlrm_mini bench step --preset all --device cuda --record",
        "date": "2000-01-01",
        "hardware": {"cpu": "made up", "cores": 1, "system": "made up", "gpu": CARD},
        "versions": {"python": "0", "torch": "0", "triton": "0", "numpy": "0"},
        "results": {
            "device": "cuda",
            "threads": 1,
            "ceilings": ceilings,
            "presets": dict.fromkeys((*PRESETS, "sweeps"), when),
            "entries": entries,
            "skipped": skipped,
        },
    }


def place(preset: str, configuration: str, arm: str, workload: Workload) -> dict[str, Any]:
    names = {"preset": preset, "configuration": configuration, "arm": arm}
    return {**names, "workload": record.as_json(workload)}


def entry(preset: str, configuration: str, arm: str, workload: Workload) -> dict[str, Any]:
    factor, changes = ARMS[arm]
    workload = workload.but(**changes)
    times = [factor * (3 + workload.batch_size / 512) * wobble for wobble in (1.0, 1.01, 0.99)]
    ms = statistics.median(times)
    return {
        **place(preset, configuration, arm, workload),
        "sweep": None,
        "scale": 0.01,
        "about": "made up",
        "prefetch": arm == "prefetch",
        "kernel": "gpu" if workload.tables == "fused" else None,
        "seed": 0,
        "ms": ms,
        "spread_ms": statistics.stdev(times),
        "repetitions_ms": times,
        "against": "sparse",
        "ratios": [factor / ARMS["sparse"][0]] * len(times),
        "samples_per_s": workload.batch_size / ms * 1e3,
        "breakdown": {
            "parts": {part: share * ms for part, share in SHARES.items()},
            "operators": {name: share * ms for name, share in OPERATORS.items()},
            "wall_ms": ms,
            "plain_ms": ms,
            "walls": [ms],
            "device": "cuda",
            "launches": 120.0,
        },
        "predicted_ms": {part: 0.7 * share * ms for part, share in SHARES.items()},
        "peak_bytes": 10**9,
        "curve": {"losses": [0.7, 0.69], "rows": 1000, "deviation": 1e-4, "tolerance": 1e-2},
    }


def save(folder: Path, made_up: dict[str, Any]) -> Path:
    path = folder / f"{made_up['name']}.json"
    path.write_text(json.dumps(made_up))
    return path
