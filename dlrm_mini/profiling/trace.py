"""From a Chrome trace of torch.profiler to the time of each part of a step.

A trace is a list of spans: host spans (labels and operators, each inside the one that called it, on
one row a thread) and, with CUDA, device spans (kernels and copies, one row a stream). Every host
span belongs to the innermost label around it. Two rules lead from there to everything else:

- A node of backward has the sequence number of the operator in forward that made it, on whatever
  thread it runs: its part is the backward of that operator's part. A gradient is accumulated right
  after the node that computed it, and belongs to the same part.
- A kernel has the correlation number of the host call that launched it; a whole CUDA graph has one.
"""

from __future__ import annotations

import bisect
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from dlrm_mini.errors import UserError
from dlrm_mini.profiling.operators import OTHER, SHOWN, WHOLE, operator
from dlrm_mini.profiling.parts import BACKWARD, FORWARD, PARTS, in_order

Span = Mapping[str, Any]

BLOCK = "profiled steps"  # the label around all that is timed, with its waits for the device
NODE = "autograd::engine::evaluate_function: "  # what a span of backward's engine begins with
DEVICE = ("kernel", "gpu_memcpy", "gpu_memset")


class Owner(NamedTuple):
    """Whose a piece of time is."""

    part: str
    operator: str | None = None  # the paper's name; None between operators


NOBODY = Owner("remainder")
STARTING = Owner("loss backward")  # a backward that has not come to its first node


@dataclass(frozen=True)
class Times:
    """What a block of steps took, in milliseconds: the parts add up to the wall.

    Attributes:
        wall: from the block's begin to its end.
        parts: part -> its time; "idle" and "remainder" are always there.
        operators: the same time by the paper's operators.
        launches: kernels on the device.
    """

    wall: float
    parts: dict[str, float]
    operators: dict[str, float]
    launches: int


def read(path: Path) -> list[Span]:
    """The spans of a Chrome trace.

    Raises:
        UserError: the file is no such trace.
    """
    try:
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is no Chrome trace: expected JSON with 'traceEvents'. Profile again."
        ) from error
    return [event for event in events if event.get("ph") == "X" and "cat" in event]


def attribute(spans: Iterable[Span], *, cuda: bool, fused: bool) -> Times:
    """Divide the time of the block among the parts.

    On a CPU that is the time of the block's thread. With CUDA it is the device's: two streams at
    work at once count once, as the kernel rather than the copy, and of two kernels as the one that
    began first; when no stream works, the device is idle.

    Args:
        spans: of a trace, in any order; times in microseconds.
        cuda: whether the device's spans are what is divided.
        fused: whether backward of the lookups is the update of the tables.

    Raises:
        UserError: no block, or no work of the device in it.
    """
    spans = list(spans)
    blocks = [s for s in spans if s["name"] == BLOCK and s["cat"] == "user_annotation"]
    if len(blocks) != 1:
        raise UserError(
            f"The trace has {len(blocks)} blocks named '{BLOCK}'; expected one. Traces are "
            "divided that dlrm_mini.profiling.breakdown made."
        )
    begin, end = blocks[0]["ts"], blocks[0]["ts"] + blocks[0]["dur"]
    threads, operators = _host(spans, fused)
    launches = 0
    if cuda:
        device = [s for s in spans if s["cat"] in DEVICE]
        launches = sum(s["cat"] == "kernel" and begin <= s["ts"] < end for s in device)
        spent = _device_time(device, _launchers(spans, threads, operators), begin, end)
        if not spent:
            raise UserError(
                "The trace has no work of the device in it: the driver may forbid profiling "
                "(CUPTI), or another profiler is running. Stop it, or ask who runs the machine."
            )
    else:
        spent = threads[blocks[0]["tid"]].between(begin, end)
    return _times(spent, end - begin, launches, rest="idle" if cuda else "remainder")


def _times(spent: Mapping[Owner, float], wall: float, launches: int, rest: str) -> Times:
    """Milliseconds from microseconds; what nobody owns is `rest`."""
    parts: dict[str, float] = defaultdict(float, idle=0.0, remainder=0.0)
    operators: dict[str, float] = defaultdict(float, idle=0.0, remainder=0.0)
    for owner, time in spent.items():
        parts[owner.part] += time / 1e3
        name = owner.part if owner.part == "remainder" else owner.operator or OTHER
        operators[name] += time / 1e3
    left = max(0.0, wall / 1e3 - sum(parts.values()))  # not -1e-15
    parts[rest] += left
    operators[rest] += left
    shown = {name: operators[name] for name in SHOWN if name in operators}
    return Times(wall / 1e3, in_order(parts), shown, launches)


@dataclass
class _Thread:
    """A thread of the host: which owner it worked for, from when on."""

    starts: list[float] = field(default_factory=list)
    owners: list[Owner] = field(default_factory=list)
    stack: list[tuple[float, Owner]] = field(default_factory=list)  # ends and owners of open spans
    node: Owner = NOBODY  # of backward's last node

    def owner(self) -> Owner:
        return self.stack[-1][1] if self.stack else NOBODY

    def close(self, time: float) -> None:
        """Close the spans that have ended by then."""
        while self.stack and self.stack[-1][0] <= time:
            end, _ = self.stack.pop()
            self._mark(end)

    def open(self, time: float, end: float, owner: Owner) -> None:
        if owner is self.node and self.owner() is STARTING:
            self.stack[-1] = self.stack[-1][0], NOBODY
        end = min(end, self.stack[-1][0]) if self.stack else end  # the trace rounds
        self.stack.append((end, owner))
        self._mark(time)

    def _mark(self, time: float) -> None:
        self.starts.append(time)
        self.owners.append(self.owner())

    def at(self, time: float) -> Owner:
        place = bisect.bisect_right(self.starts, time)
        return self.owners[place - 1] if place else NOBODY

    def between(self, begin: float, end: float) -> dict[Owner, float]:
        spent: dict[Owner, float] = defaultdict(float)
        ends = [*self.starts[1:], end]
        for start, stop, owner in zip(self.starts, ends, self.owners, strict=True):
            time = min(stop, end) - max(start, begin)
            if time > 0:
                spent[owner] += time
        return spent


def _host(spans: Iterable[Span], fused: bool) -> tuple[dict[Any, _Thread], dict[Any, Owner]]:
    """The threads of the host, and the owner of each operator by its number."""
    threads: dict[Any, _Thread] = {}
    made: dict[int, str] = {}  # sequence number -> the part whose operator made this node
    numbered: dict[Any, Owner] = {}
    host = [s for s in spans if s["cat"] in ("cpu_op", "user_annotation")]
    # By time, so that forward comes before backward; of two that begin at once, the outer first.
    host.sort(key=lambda s: (s["ts"], -s["dur"], s["args"].get("External id", 0)))
    for span, sequence in zip(host, _sequences(host), strict=True):
        thread = threads.setdefault(span["tid"], _Thread())
        thread.close(span["ts"])
        around = thread.owner()
        if span["cat"] == "user_annotation":
            owner = _of_label(span["name"], around)
        elif span["name"].startswith(NODE):
            if sequence is not None:  # else a gradient that is accumulated
                thread.node = _of_node(span["name"], made.get(sequence), fused)
            owner = thread.node
        else:
            owner = Owner(around.part, around.operator or operator(span["name"]))
            if sequence is not None and around.part in FORWARD:
                made[sequence] = around.part  # the last operator with a number makes the node
        thread.open(span["ts"], span["ts"] + span["dur"], owner)
        numbered[span["args"].get("External id")] = owner
    for thread in threads.values():
        thread.close(float("inf"))
    return threads, numbered


def _sequences(host: list[Span]) -> list[int | None]:
    """The sequence number of each span, in their order.

    The span of the engine has that of the node in it. The profiler copies it there, but only where
    nothing comes before the node, such as a hook of a gradient.
    """
    found: list[int | None] = []
    coming: dict[tuple[Any, str], Span] = {}  # thread and name -> the next with a number
    for span in reversed(host):
        number = span["args"].get("Sequence number")
        if span["name"].startswith(NODE):
            node = coming.get((span["tid"], span["name"].removeprefix(NODE)))
            if node is not None and node["ts"] <= span["ts"] + span["dur"]:
                number = node["args"]["Sequence number"]
        elif number is not None:
            coming[span["tid"], span["name"]] = span
        found.append(number)
    return found[::-1]


def _of_label(name: str, around: Owner) -> Owner:
    """Labels that name no part, as torch's own in an optimizer, change nothing."""
    if name == "backward":
        return STARTING
    return Owner(name, WHOLE.get(name)) if name in PARTS else around


def _of_node(name: str, forward: str | None, fused: bool) -> Owner:
    part = f"{(forward or '').removesuffix(' forward')} backward"
    if part == "embedding backward" and fused:
        part = "embedding update"
    if part not in (*BACKWARD, "embedding update"):
        return NOBODY
    return Owner(part, WHOLE.get(part) or operator(name.removeprefix(NODE)))


def _launchers(
    spans: Iterable[Span], threads: Mapping[Any, _Thread], operators: Mapping[Any, Owner]
) -> dict[int, Owner]:
    """Correlation -> the owner of the host call that launched something on the device."""
    owners = {}
    for call in spans:
        if call["cat"] in ("cuda_runtime", "cuda_driver"):
            owner = threads[call["tid"]].at(call["ts"]) if call["tid"] in threads else NOBODY
            if owner == NOBODY:  # a thread that the trace has under another number
                owner = operators.get(call["args"].get("External id"), NOBODY)
            owners[call["args"].get("correlation")] = owner
    return owners


def _device_time(
    device: list[Span], launchers: Mapping[int, Owner], begin: float, end: float
) -> dict[Owner, float]:
    """The time in which the device worked, each instant given to one owner."""
    # Kernels before copies, then what began first: the smallest place among those at work owns.
    device = sorted(device, key=lambda s: (s["cat"] != "kernel", s["ts"]))
    edges = []
    for place, span in enumerate(device):
        start, stop = max(span["ts"], begin), min(span["ts"] + span["dur"], end)
        if start < stop:
            edges += [(start, True, place), (stop, False, place)]
    owners = [launchers.get(span["args"].get("correlation"), NOBODY) for span in device]
    spent: dict[Owner, float] = defaultdict(float)
    working: set[int] = set()
    before = begin
    for time, starts, place in sorted(edges):
        if working:
            spent[owners[min(working)]] += time - before
        (working.add if starts else working.discard)(place)
        before = time
    return spent
