"""What `bench step` measures: models, batch sizes, and ways to train, the arms.

A plan is a list of configurations; each is trained in several ways, and all of those compute the
same, to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from dlrm_mini.errors import UserError
from dlrm_mini.models.dlrm_config import DLRMConfig
from dlrm_mini.models.dlrm_presets import PRESETS as MODELS
from dlrm_mini.profiling.workload import Workload

Device = Literal["cpu", "cuda"]
SWEEPS, TINY = "sweeps", "tiny"
ORDER = ("profile", "kaggle", "rm1", "rm2", "rm3", SWEEPS)
PRESETS = (*ORDER, TINY)  # "tiny" tries every arm in seconds; it is in no "all"
BATCH = 2048
# What a CPU gets less of, as (factor on the rows of the published tables, batch size): 4 GB of
# tables, and as much again of dense gradients, would leave a laptop no memory, and eight million
# lookups a step no patience.
SMALLER: Mapping[Device, Mapping[str, tuple[float, int]]] = {
    "cpu": dict.fromkeys(("rm1", "rm2", "rm3"), (0.25, 512)),
    "cuda": {},
}


@dataclass(frozen=True)
class Arm:
    """A way to train.

    Attributes:
        changes: fields of a `Workload` with fused tables, float32 and an eager dense part.
        prefetch: whether batches wait in pinned memory and are copied on a stream of their own.
    """

    changes: Mapping[str, Any] = field(default_factory=dict)
    prefetch: bool = False


_BF16 = {"precision": "bfloat16"}
_GRAPHED = {**_BF16, "dense_part": "graphed"}
# Each step of the ladder adds to the one before; float16 stands beside bfloat16.
ARMS: Mapping[str, Arm] = {
    "naive": Arm({"tables": "dense"}),
    "sparse": Arm({"tables": "sparse"}),
    "fused": Arm(),
    "bfloat16": Arm(_BF16),
    "float16": Arm({"precision": "float16"}),
    "compiled": Arm({**_BF16, "dense_part": "compiled"}),
    "graphed": Arm(_GRAPHED),
    "prefetch": Arm(_GRAPHED, prefetch=True),
}
LADDER: Mapping[Device, tuple[str, ...]] = {
    "cpu": ("naive", "sparse", "fused", "bfloat16"),
    "cuda": tuple(ARMS),
}
SWEPT: Mapping[Device, tuple[str, ...]] = {
    "cpu": ("sparse", "fused"),
    "cuda": ("sparse", "fused", "graphed"),
}
# Knob -> its values. The one of the base is in each, so that every sweep stands by itself.
KNOBS: Mapping[Device, Mapping[str, tuple[Any, ...]]] = {
    "cpu": {
        "batch": (64, 256, 512, 2048),
        "pooling": (1, 10, 100),
        "width": (16, 64, 128),
        "MLP size": (0.25, 1.0, 2.0),
        "precision": ("float32", "bfloat16"),
    },
    "cuda": {
        "batch": (128, 512, 2048, 8192),
        "pooling": (1, 10, 100, 200),
        "width": (16, 64, 128, 256),
        "MLP size": (0.25, 1.0, 2.0, 4.0),
        "precision": ("float32", "bfloat16", "float16"),
    },
}


@dataclass(frozen=True)
class Configuration:
    """A model and a batch size, and the arms that take turns on it.

    Attributes:
        name: unique within a preset.
        workload: with fused tables, float32, eager.
        scale: factor on the rows of the published tables.
        about: a sentence for a reader.
        arms: names of `ARMS`.
        sweep: {"knob": ..., "value": ...}, or None.
    """

    name: str
    workload: Workload
    scale: float
    about: str
    arms: tuple[str, ...]
    sweep: dict[str, Any] | None = None


def plan(preset: str, device: Device) -> list[Configuration]:
    """The configurations of a preset on a device.

    Raises:
        UserError: there is no such preset.
    """
    if preset == SWEEPS:
        return list(_sweeps(device))
    if preset == TINY:
        tiny = DLRMConfig(4, {"a": 50, "b": 20}, 8, bottom=(16, 8), top=(16, 1), lookups=3)
        about = "a small model that tries every arm; its times mean nothing"
        return [Configuration(TINY, Workload(tiny, 64), 1.0, about, LADDER[device])]
    if preset not in MODELS:
        raise UserError(f"There is no preset {preset!r}; expected one of {', '.join(PRESETS)}.")
    scale, batch = SMALLER[device].get(preset, (1.0, BATCH))
    workload = Workload(MODELS[preset](scale), batch)
    about = f"{preset}, {_tables(scale)}, batch {batch}"
    return [Configuration(preset, workload, scale, about, LADDER[device])]


def _sweeps(device: Device) -> Iterator[Configuration]:
    """One number at a time, around the paper's profile; on a CPU around a smaller one."""
    scale, batch = (1.0, BATCH) if device == "cuda" else (0.1, 512)
    base = Workload(MODELS["profile"](scale), batch)
    for knob, values in KNOBS[device].items():
        for value in values:
            about = f"profile, {_tables(scale)}, batch {batch}, but {knob} {value}"
            arms = ("fused",) if knob == "precision" else SWEPT[device]
            sweep = {"knob": knob, "value": value}
            workload = base.but(**_turned(base.config, knob, value))
            yield Configuration(f"{knob} {value}", workload, scale, about, arms, sweep)


def _turned(config: DLRMConfig, knob: str, value: Any) -> dict[str, Any]:
    """The fields of a workload or a model that a knob's value changes."""
    if knob == "width":
        return {"dim": value, "bottom": (*config.bottom[:-1], value)}
    if knob == "MLP size":
        bottom, top = (
            tuple(round(value * width) for width in widths[:-1])
            for widths in (config.bottom, config.top)
        )
        return {"bottom": (*bottom, config.dim), "top": (*top, 1)}
    return {{"batch": "batch_size", "pooling": "lookups"}.get(knob, knob): value}


def _tables(scale: float) -> str:
    return "tables as published" if scale == 1 else f"tables with {scale:g} of the published rows"
