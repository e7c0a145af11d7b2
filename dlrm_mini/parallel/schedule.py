"""When what happens in a step: each rank computes in one lane, and all share one lane of the net.

A collective begins when the last rank has come to it, and ends for all at once. There are two
orders. *In turn*: everything waits for everything, as `ShardedStep` does it:

    ids in | lookups | vectors | MLPs | gradients | squares | tables | all-reduce | MLPs' update

*Overlapping*: what does not depend on each other passes at the same time, as in TorchRec's
`TrainPipelineSparseDist` and DistributedDataParallel. The net takes one collective after the other:

- the vectors' exchange hides behind the bottom MLP, which needs none of them;
- then the next batch's ids are exchanged, behind the interaction and the top MLP;
- the gradients' exchange hides behind the bottom MLP's backward;
- the all-reduce of what is replicated hides behind the update of the tables.

Arrays are (..., P), or (...) for the net, so that many plans are timed at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dlrm_mini.parallel.skew import Floats


@dataclass(frozen=True)
class Stages:
    """Seconds of what a step is made of.

    Attributes:
        ids: ranks make ready what they ask for, (..., P).
        lookups: rows are fetched and pooled, and put together, (..., P).
        bottom: forward, (..., P).
        middle: interaction and top MLP, forward and back, (..., P).
        bottom_back: bottom MLP backward, and gradients of copied tables, (..., P).
        tables: update of the tables, (..., P).
        dense: update of what is replicated, (..., P).
        inputs: exchange of batch sizes, bag lengths and ids, (...).
        forward: exchange of pooled vectors, (...).
        backward: exchange of their gradients, (...).
        squares: exchange of rows' squared gradients between column-wise pieces, (...).
        reduce: all-reduces, (...).
    """

    ids: Floats
    lookups: Floats
    bottom: Floats
    middle: Floats
    bottom_back: Floats
    tables: Floats
    dense: Floats
    inputs: Floats
    forward: Floats
    backward: Floats
    squares: Floats
    reduce: Floats


COMPUTE = ("ids", "lookups", "bottom", "middle", "bottom_back", "tables", "dense")
NET = ("inputs", "forward", "backward", "squares", "reduce")


@dataclass(frozen=True)
class Schedule:
    """When each stage begins and ends, in seconds.

    Attributes:
        compute: stage -> (begin, end), each (..., P).
        net: stage -> (begin, end), each (...).
        seconds: of the step, (...).
    """

    compute: dict[str, tuple[Floats, Floats]]
    net: dict[str, tuple[Floats, Floats]]
    seconds: Floats


class _Lanes:
    def __init__(self, stages: Stages) -> None:
        self.stages = stages
        self.compute: dict[str, tuple[Floats, Floats]] = {}
        self.net: dict[str, tuple[Floats, Floats]] = {}
        self.here = np.zeros_like(stages.ids)  # (..., P), when each rank is free
        self.there = np.zeros_like(stages.inputs)  # (...), when the net is

    def work(self, *names: str, after: str = "") -> None:
        """Stages that every rank computes, once a collective has ended."""
        if after:
            self.here = np.maximum(self.here, self.net[after][1][..., None])
        for name in names:
            begin, self.here = self.here, self.here + getattr(self.stages, name)
            self.compute[name] = begin, self.here

    def send(self, *names: str) -> None:
        """Collectives that begin when every rank has come this far and the net is free."""
        for name in names:
            self.exchange(name, self.here.max(-1))

    def exchange(self, name: str, ready: Floats) -> None:
        begin = np.maximum(ready, self.there)
        self.there = begin + getattr(self.stages, name)
        self.net[name] = begin, self.there


def in_turn(stages: Stages) -> Schedule:
    """One after the other."""
    lanes = _Lanes(stages)
    lanes.work("ids")
    lanes.send("inputs")
    lanes.work("lookups", after="inputs")
    lanes.send("forward")
    lanes.work("bottom", "middle", "bottom_back", after="forward")
    lanes.send("backward", "squares")
    lanes.work("tables", after="squares")
    lanes.send("reduce")
    lanes.work("dense", after="reduce")
    return Schedule(lanes.compute, lanes.net, lanes.here.max(-1))


def overlapping(stages: Stages) -> Schedule:
    """As much as possible at once, in a step like any other: its ids are there when it begins."""
    lanes = _Lanes(stages)
    lanes.work("ids")  # of the next batch
    ready = lanes.here.max(-1)
    lanes.work("lookups")
    lanes.send("forward")
    lanes.exchange("inputs", ready)
    lanes.work("bottom")
    lanes.work("middle", after="forward")
    lanes.send("backward")
    # Squares of gradients wait for nothing but the gradients.
    lanes.exchange("squares", lanes.net["backward"][1])
    lanes.work("bottom_back")
    lanes.send("reduce")
    lanes.work("tables", after="squares")
    lanes.work("dense", after="reduce")
    return Schedule(lanes.compute, lanes.net, lanes.here.max(-1))


def visible(schedule: Schedule) -> tuple[dict[str, Floats], Floats]:
    """Stage of the net -> seconds in which a rank has nothing to do but wait for it, (P,).

    Returns:
        And the seconds, (P,), in which a rank waits for slower ranks, to the end of the step.
    """
    end = schedule.seconds[..., None]
    spans = list(schedule.compute.values())  # one after the other
    starts = [begin for begin, _ in spans] + [np.broadcast_to(end, spans[0][0].shape)]
    ends = [np.zeros_like(spans[0][0])] + [stop for _, stop in spans]
    found = {}
    for name, (begin, stop) in schedule.net.items():
        seen = [
            np.minimum(high, stop[..., None]) - np.maximum(low, begin[..., None])
            for low, high in zip(ends, starts, strict=True)
        ]
        found[name] = np.maximum(seen, 0.0).sum(0)
    idle = sum(high - low for low, high in zip(ends, starts, strict=True))
    return found, idle - sum(found.values())
