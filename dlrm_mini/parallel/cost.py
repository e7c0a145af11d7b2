"""What a training step costs under a plan: bytes by operation and rank, and seconds by part.

Bytes are those that `ShardedTables` and `ShardedStep` give to the communicator for a batch with the
config's lookups (`parallel.exchange` lists them). What depends on the ids themselves is an
expectation: how many fall into a block of rows, and how many different rows a batch touches. All
else is exact. Seconds are modelled:

- compute: counts of work at the machine's rates (`parallel.machine`, `profiling.roofline`). A rank
  computes its b = B / P rows of the MLPs, and the lookups of all B rows in its pieces of tables;
- communication: alpha and beta of the links (`Topology.seconds`), each with its source there;
- what waits for what: `parallel.schedule`.

What quantised vectors take to be rounded is not counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dlrm_mini.errors import UserError
from dlrm_mini.models.dlrm_config import DLRMConfig
from dlrm_mini.parallel.cost_parts import GROUPS, STAGES, exchanges, parts_of, replicated, stages
from dlrm_mini.parallel.cost_parts import Exchange as Exchange
from dlrm_mini.parallel.events import Event
from dlrm_mini.parallel.loads import MEMORY, Job
from dlrm_mini.parallel.machine import Machine, Rule
from dlrm_mini.parallel.schedule import Schedule, in_turn, overlapping, visible
from dlrm_mini.parallel.sharding import Plan
from dlrm_mini.parallel.skew import Skew
from dlrm_mini.parallel.topology import Topology
from dlrm_mini.parallel.traffic import Operation

Ranks = tuple[float, ...]
COMMUNICATION = {
    "inputs": "input exchange",
    "forward": "all-to-all forward",
    "backward": "all-to-all backward",
    "squares": "squares",
    "reduce": "all-reduce",
}
"""Stage of `parallel.schedule` -> its name in a breakdown."""


@dataclass(frozen=True)
class StepCost:
    """A step's bytes and seconds.

    Attributes:
        size: P.
        batch_size: B.
        seconds: from a step's begin to the next one's.
        exchanges: the collectives, in order.
        parts: part -> seconds on each rank.
        visible: name of `COMMUNICATION` -> seconds on each rank that hide behind nothing.
        waiting: seconds on each rank in which it waits for slower ones.
        memory: bytes that each rank holds: weights, optimizer state and an allowance for buffers.
        events: what each rank does when.
    """

    size: int
    batch_size: int
    seconds: float
    exchanges: tuple[Exchange, ...]
    parts: Mapping[str, Ranks]
    visible: Mapping[str, Ranks]
    waiting: Ranks
    memory: Ranks
    events: tuple[Event, ...]

    def bytes(self, operation: Operation | None = None) -> Ranks:
        """What each rank sends to others in a step, in one operation or in all."""
        sent = [e.sent for e in self.exchanges if operation in (None, e.operation)]
        return tuple(map(sum, zip(*sent, strict=True))) if sent else (0.0,) * self.size

    def communication(self) -> dict[str, float]:
        """Name of `COMMUNICATION` -> seconds in all, hidden or not."""
        found = dict.fromkeys(COMMUNICATION.values(), 0.0)
        for exchange in self.exchanges:
            found[COMMUNICATION[exchange.stage]] += exchange.seconds
        return found

    def breakdown(self) -> dict[str, float]:
        """Where the seconds go, as a mean over ranks; adds up to `seconds`.

        Groups of compute, each kind of communication as far as it is visible, and waiting.
        """
        found = dict.fromkeys(GROUPS, 0.0)
        for group, names in GROUPS.items():
            found[group] = sum(float(np.mean(self.parts.get(name, 0.0))) for name in names)
        found |= {name: float(np.mean(ranks)) for name, ranks in self.visible.items()}
        return found | {"waiting": float(np.mean(self.waiting))}

    def share(self, *names: str) -> float:
        """The share of the step that some entries of the breakdown have together, 0 to 1."""
        found = self.breakdown()
        return sum(found[name] for name in names) / self.seconds

    @property
    def all_to_all(self) -> float:
        """The share of the step in which a rank waits for an all-to-all of any kind, 0 to 1.

        Of ids, with the few bytes in which ranks announce their rows; vectors; gradients; squares.
        """
        return self.share("input exchange", "all-to-all forward", "all-to-all backward", "squares")

    def timeline(self) -> list[Event]:
        """What each rank does when, as the simulated cluster tells it."""
        return list(self.events)


def step_cost(
    config: DLRMConfig,
    plan: Plan,
    topology: Topology,
    machine: Machine,
    batch_size: int,
    *,
    rule: Rule = "sgd",
    bytes_forward: int = 4,
    bytes_backward: int = 4,
    overlap: bool = False,
    skew: Skew | None = None,
) -> StepCost:
    """The cost of a training step.

    Args:
        config: the model; its `lookups` are ids a row of each table.
        plan: where the tables are.
        topology: what lies between the ranks.
        machine: what each rank computes with.
        batch_size: B, of all ranks together. Weak scaling: b times P; strong: the same for all P.
        rule: of the tables.
        bytes_forward: of a number in the exchange of vectors: 4; 2; or 1 and 8 bytes a vector.
        bytes_backward: of a number in the exchange of their gradients, likewise.
        overlap: whether what can pass at the same time does: see `parallel.schedule`.
        skew: counts of lookups along the rows of tables: see `parallel.skew`.

    Raises:
        UserError: the plan is for other tables or another number of ranks, or as `Job`.
    """
    job = Job(
        config, topology.ranks, machine, batch_size, rule, bytes_forward, bytes_backward, skew
    )
    return cost_of(job, plan, topology, overlap)


def cost_of(job: Job, plan: Plan, topology: Topology, overlap: bool = False) -> StepCost:
    """As `step_cost`; of several plans for one job, what they share is computed once.

    Raises:
        UserError: as `step_cost`.
    """
    if plan.size != topology.ranks or plan.size != job.size:
        raise UserError(
            f"The plan is for {plan.size} ranks, the topology has {topology.ranks}; make both for "
            "one number."
        )
    tables = job.config.cardinalities
    if (plan.cardinalities, plan.dim) != (tables, job.config.dim):
        raise UserError(
            f"The plan is for the tables {dict(plan.cardinalities)} of width {plan.dim}, the model "
            f"has {dict(tables)} of width {job.config.dim}; make both from one config."
        )
    load = sum(job.load(name, plan.placements[name]) for name in tables)
    assert isinstance(load, np.ndarray)
    sent = exchanges(job, plan, topology)
    took = dict.fromkeys(COMMUNICATION, 0.0)
    for exchange in sent:
        took[exchange.stage] += exchange.seconds
    parts = parts_of(job, load)
    schedule = (overlapping if overlap else in_turn)(
        stages(parts, {name: np.array(seconds) for name, seconds in took.items()})
    )
    seen, waiting = visible(schedule)
    memory = job.base_memory + load[MEMORY]
    return StepCost(
        size=plan.size,
        batch_size=job.batch_size,
        seconds=float(schedule.seconds),
        exchanges=sent,
        parts={name: tuple(map(float, ranks)) for name, ranks in parts.items()},
        visible={COMMUNICATION[name]: tuple(map(float, seen[name])) for name in COMMUNICATION},
        waiting=tuple(map(float, waiting)),
        memory=tuple(map(float, memory)),
        events=tuple(_events(schedule, parts, sent, plan.size)),
    )


def _events(
    schedule: Schedule,
    parts: Mapping[str, np.ndarray],
    sent: tuple[Exchange, ...],
    size: int,
) -> list[Event]:
    """Each stage as its parts, one after the other."""
    found = []
    for rank in range(size):
        for stage, (begin, _) in schedule.compute.items():
            start = float(begin[rank])
            for name in STAGES[stage]:
                end = start + float(parts[name][rank])
                if end > start:
                    found.append(Event(rank, name, start, end, "compute"))
                start = end
        for stage, (at, _) in schedule.net.items():
            start = float(at)
            for exchange in (e for e in sent if e.stage == stage):
                end, number = start + exchange.seconds, round(exchange.sent[rank])
                if end > start:
                    found.append(Event(rank, exchange.name, start, end, "communication", number))
                start = end
    return sorted(found, key=lambda event: (event.start, event.rank))


__all__ = ["COMMUNICATION", "Exchange", "StepCost", "cost_of", "replicated", "step_cost"]
