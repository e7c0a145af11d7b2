"""Chapter 10: one profiled step as a film, and what it takes from the recorded steps of a CPU."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any

import numpy as np

from dlrm_mini.pictures.step_clock import Bar, Film
from dlrm_mini.profiling import record
from dlrm_mini.profiling.ceilings import Ceilings
from dlrm_mini.profiling.parts import BACKWARD, FORWARD, PARTS, grouped
from dlrm_mini.profiling.trace import BLOCK, NODE

NOBODY = "remainder"
COMMAND = "python -m dlrm_mini bench step --preset all --device cpu --record"


def film(spans: Iterable[Mapping[str, Any]]) -> Film:
    """The film of the one step in a trace: every span paints over what is around it.

    Time within backward before its first node is "remainder" here; `profiling.breakdown`, which
    knows more kinds of tables and of devices, counts it as "loss backward".

    Args:
        spans: as `profiling.trace.read` gives them, of a trace that `breakdown.profile` made on a
            CPU with one step in a block and tables that are not fused.
    """
    spans = list(spans)
    (block,) = (s for s in spans if s["name"] == BLOCK)
    host = [
        s for s in spans
        if s["tid"] == block["tid"] and s["cat"] in ("cpu_op", "user_annotation")
        and 0 <= s["ts"] - block["ts"] < block["dur"]
    ]  # fmt: skip
    host.sort(key=lambda s: (s["ts"], -s["dur"], s["args"].get("External id", 0)))  # outer first
    times = np.array([(s["ts"], s["ts"] + s["dur"]) for s in host]) - block["ts"]
    edges = np.unique(times)
    part = np.full(len(edges) - 1, NOBODY, dtype=object)  # between two edges
    depth = np.zeros(len(edges) - 1, dtype=int)
    made: dict[int, str] = {}  # sequence number -> the part of the node that an operator made
    node, operators, backward = NOBODY, [], (0.0, 0.0)
    for span, when in zip(host, times, strict=True):
        i, j = np.searchsorted(edges, when)
        start, end = map(float, when / 1e3)
        number = span["args"].get("Sequence number")
        if span["name"] in PARTS:
            part[i:j] = span["name"]
        elif span["name"] == "backward":
            part[i:j], backward = NOBODY, (start, end)
        elif span["name"].startswith(NODE):
            node = part[i:j] = made.get(number, node)
        elif number is not None and part[i] in FORWARD:
            name = f"{part[i].removesuffix(' forward')} backward"
            made[number] = name if name in BACKWARD else NOBODY
        if span["cat"] == "cpu_op":
            operators.append(Bar(start, end, int(depth[i]), part[i]))
            depth[i:j] += 1
    wall = float(edges[-1]) / 1e3
    return Film(
        strip=list(_runs(edges / 1e3, part)),
        operators=operators,
        phases={"forward": (0.0, backward[0]), "backward": backward, "update": (backward[1], wall)},
    )


def _runs(edges: Any, part: Any) -> Iterable[Bar]:
    """One bar for each run of pieces of the same part."""
    for name, places in groupby(range(len(part)), key=lambda place: part[place]):
        first, *rest = places
        yield Bar(edges[first], edges[[first, *rest][-1] + 1], 0, name)


def _divided(ms: float, among: Mapping[str, float]) -> dict[str, float]:
    """So many milliseconds, in the proportions of others."""
    whole = sum(among.values())
    return {name: ms * share / whole for name, share in among.items()}


class Recorded:
    """The recorded steps of one CPU; empty where none was recorded.

    Attributes:
        machine: the hardware and the threads, for a figure; "" when empty.
        steps: (configuration, arm) -> part -> ms: the step without the profiler (its median),
            divided as the profiler saw it.
        operators: the same by operator.
        predicted: (configuration, arm) -> ms of a step, by the ceilings.
        ceilings: the machine's, measured before the steps; None where they were not.
        about: one line: hardware, date and command.
    """

    def __init__(self) -> None:
        found = record.recorded("cpu")
        self.machine, self.about = "", f"no CPU was recorded yet: {COMMAND}"
        self.steps: dict[tuple[str, str], dict[str, float]] = {}
        self.operators: dict[tuple[str, str], dict[str, float]] = {}
        self.predicted: dict[tuple[str, str], float] = {}
        self.ceilings: Ceilings | None = None
        self._sweeps: list[tuple[str, str, str]] = []
        if not found:
            return
        # Of equals the oldest: the course's own, until somebody records more.
        first = min(found, key=lambda one: (-len(one["results"]["entries"]), one["date"]))
        number = first["results"]["threads"]
        cpu = first["hardware"]["cpu"]
        self.machine = f"{cpu}, {number} thread{'s' if number > 1 else ''}"
        self.about = f"recorded on {self.machine}, {first['date']}: {COMMAND}"
        if ceilings := first["results"]["ceilings"]:
            self.ceilings = Ceilings.from_json(ceilings)
        for entry in first["results"]["entries"]:
            name = entry["configuration"]
            key = name, entry["arm"]
            if shown := entry["breakdown"]:
                self.steps[key] = _divided(entry["ms"], shown["parts"])
                self.operators[key] = _divided(entry["ms"], shown["operators"])
            if guess := entry["predicted_ms"]:
                self.predicted[key] = sum(guess.values())
            if entry["sweep"]:
                self._sweeps.append((entry["sweep"]["knob"], str(entry["sweep"]["value"]), name))

    def sweeps(self, arms: tuple[str, ...], knobs: tuple[str, ...]) -> dict[str, Any]:
        """Arm -> knob -> (value, group -> ms), for `pictures.where_time_goes.sweeps`."""
        return {
            arm: {
                knob: [
                    (value, grouped(self.steps[name, arm]))
                    for value, name in dict.fromkeys(
                        (v, n) for k, v, n in self._sweeps if k == knob
                    )
                    if (name, arm) in self.steps
                ]
                for knob in knobs
            }
            for arm in arms
        }
