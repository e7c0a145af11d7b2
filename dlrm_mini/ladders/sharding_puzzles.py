"""Chapter 13's puzzles: tables to place by hand, targets, and a check that says what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from matplotlib.figure import Figure

from dlrm_mini.models.dlrm_config import DLRMConfig
from dlrm_mini.models.dlrm_presets import KAGGLE_ROWS, kaggle
from dlrm_mini.parallel import planner
from dlrm_mini.parallel.cost import StepCost, cost_of, step_cost
from dlrm_mini.parallel.loads import Job
from dlrm_mini.parallel.machine import MACHINES, Rule
from dlrm_mini.parallel.planner import Planned
from dlrm_mini.parallel.sharding import Placement, Plan
from dlrm_mini.parallel.skew import Skew
from dlrm_mini.parallel.topology import Topology, topology
from dlrm_mini.pictures.timeline import draw_timeline
from dlrm_mini.profiling.work import NUMBER

MACHINE = MACHINES["V100 16 GB"]
BATCH = 2048  # rows of all ranks together
Placements = Mapping[str, Placement]


def whole(rank: int) -> Placement:
    """The whole table on one rank."""
    return Placement("table-wise", (rank,))


def rows(*ranks: int) -> Placement:
    """A block of rows on each of these ranks."""
    return Placement("row-wise", ranks)


def columns(*ranks: int) -> Placement:
    """Some columns on each of these ranks."""
    return Placement("column-wise", ranks)


def copies() -> Placement:
    """A copy on every rank."""
    return Placement("data-parallel")


@dataclass(frozen=True)
class Puzzle:
    """Tables, ranks, and what a plan has to achieve.

    Attributes:
        name: for the reader.
        config: the model.
        topology: the ranks, with their memory.
        rule: of the tables.
        most_mb: what all ranks together may send for the tables in a step, in MB; None: no limit.
        silent: whether no byte may be sent in forward.
        solution: placements that meet all targets; empty where none are set.
        most_ms: what a step may take by prediction; None: as long as it likes.
    """

    name: str
    config: DLRMConfig
    topology: Topology
    rule: Rule
    solution: Placements = field(default_factory=dict)
    most_mb: float | None = None
    most_ms: float | None = None
    silent: bool = False

    def plan(self, placements: Placements) -> Plan:
        """Placements as a plan.

        Raises:
            UserError: a table without a placement, or one that cannot be.
        """
        config = self.config
        return Plan(self.topology.ranks, config.cardinalities, config.dim, placements)

    def answer(self, placements: Placements) -> Answer:
        """What a plan costs, beside the targets.

        Raises:
            UserError: a table without a placement, or one that cannot be.
        """
        plan = self.plan(placements)
        return Answer(self, plan, cost_of(self.job, plan, self.topology))

    @cached_property
    def job(self) -> Job:
        """All of a step but the plan; it remembers what plans have in common."""
        return Job(self.config, self.topology.ranks, MACHINE, BATCH, self.rule)

    def cost(self, plan: Plan, skew: Skew | None = None) -> StepCost:
        """Of a step under a plan.

        Args:
            plan: for these tables and ranks.
            skew: as in `step_cost`.
        """
        return step_cost(
            self.config, plan, self.topology, MACHINE, BATCH, rule=self.rule, skew=skew
        )

    def planned(self, skew: Skew | None = None) -> Planned:
        """The planner's answer.

        Args:
            skew: as in `planner.plan`.

        Raises:
            UserError: nothing fits.
        """
        return planner.plan(self.config, self.topology, MACHINE, BATCH, rule=self.rule, skew=skew)


@dataclass(frozen=True)
class Answer:
    """A plan for a puzzle, measured against its targets.

    Attributes:
        puzzle: the puzzle.
        plan: what was answered.
        cost: of the plan.
    """

    puzzle: Puzzle
    plan: Plan
    cost: StepCost

    @property
    def ms(self) -> float:
        """Predicted for a step."""
        return 1e3 * self.cost.seconds

    @property
    def mb(self) -> float:
        """What all ranks together send for the tables in a step: all but the MLPs' gradients."""
        placements, size = self.plan.placements, self.plan.size
        copied = sum(
            rows
            for name, rows in self.plan.cardinalities.items()
            if placements[name].form == "data-parallel"
        )
        ring = 2 * (size - 1) * NUMBER * self.plan.dim * copied
        return (sum(self.cost.bytes("all_to_all")) + ring) / 1e6

    @property
    def forward_mb(self) -> float:
        """What all ranks together send of ids, lengths and vectors before backward begins."""
        return sum(
            sum(exchange.sent)
            for exchange in self.cost.exchanges
            if exchange.operation == "all_to_all" and exchange.stage in ("inputs", "forward")
        ) / 1e6  # fmt: skip

    @property
    def fits(self) -> bool:
        """Whether no rank holds more than it may."""
        limit = self.puzzle.topology.memory
        return limit is None or max(self.cost.memory) <= limit

    @property
    def targets(self) -> dict[str, bool]:
        """What was asked, with what was found -> whether it is met."""
        puzzle, memory = self.puzzle, np.array(self.cost.memory)
        fullest, limit = int(memory.argmax()), puzzle.topology.memory
        found = {}
        if limit is not None:
            words = f"memory: rank {fullest} holds {memory.max() / 1e6:,.1f} MB"
            found[f"{words} of {limit / 1e6:,.0f}"] = bool(memory.max() <= limit)
        if puzzle.silent:
            found[f"forward: {self.forward_mb:.2f} MB sent, at most 0"] = self.forward_mb == 0
        if puzzle.most_mb is not None:
            words = f"for the tables: {self.mb:.2f} MB sent in a step"
            found[f"{words}, at most {puzzle.most_mb:g}"] = self.mb <= puzzle.most_mb
        words = f"predicted: {self.ms:.3f} ms a step"
        if puzzle.most_ms is not None:
            found[f"{words}, at most {puzzle.most_ms:g}"] = self.ms <= puzzle.most_ms
        return found

    @property
    def met(self) -> bool:
        """Whether all targets are."""
        return all(self.targets.values())

    @property
    def word(self) -> str:
        """For a table."""
        return "solved" if self.met else "not yet"

    def __str__(self) -> str:
        """Target by target."""
        return "\n".join(
            f"{'met    ' if met else 'NOT YET'}  {what}" for what, met in self.targets.items()
        )

    def draw(self) -> Figure:
        """The predicted timeline of all ranks."""
        title = f"{self.puzzle.name}: {self.ms:.3f} ms a step, predicted"
        return draw_timeline(self.cost.timeline(), title=title, modelled=True)


def _tables(cardinalities: dict[str, int], dim: int, lookups: int = 1) -> DLRMConfig:
    """A small model around some tables."""
    return DLRMConfig(13, cardinalities, dim, bottom=(64, dim), top=(64, 1), lookups=lookups)


def _kaggle() -> dict[str, Placement]:
    """C3 and C16 share two ranks, the other large ones lie whole, little ones are copied."""
    found = {name: copies() for name, rows in kaggle().cardinalities.items() if rows <= 600}
    large = {name: columns(0, 1) for name in ("C3", "C16")}
    large |= {"C12": whole(2), "C21": whole(3), "C4": whole(3)}
    rest = [name for name in kaggle().cardinalities if name not in {**found, **large}]
    return found | large | {name: whole(2 if name == "C24" else 0) for name in rest}


_RANKS, _DOOR = "10 Gbit/s", {"large": 5_000_000, "small": 400_000}
SILENCE = Puzzle(
    "Silence",
    _tables({name: KAGGLE_ROWS[int(name[1:]) - 1] for name in ("C5", "C6", "C9", "C14")}, 16),
    topology(_RANKS, 4, memory=10e6),
    "sgd",
    {name: copies() for name in ("C5", "C6", "C9", "C14")},
    silent=True,
)
DOOR = Puzzle(
    "Through the door",
    _tables(_DOOR, 64),
    topology(_RANKS, 4, memory=0.5e9),
    "sgd",
    {"large": columns(0, 1, 2), "small": whole(3)},
    most_mb=1.68,
)
BAGS = Puzzle(
    "Longer bags",
    _tables(_DOOR, 64, lookups=200),
    topology(_RANKS, 4, memory=0.5e9),
    "sgd",
    {"large": rows(0, 1, 2), "small": whole(3)},
    most_mb=8.2,
)
KAGGLE = Puzzle(
    "Kaggle",
    kaggle(),
    topology(_RANKS, 4, memory=0.7e9),
    "rowwise_adagrad",
    _kaggle(),
    most_mb=4.5,
    most_ms=6.0,
)

EIGHT = {  # name -> rows, ids of a bag
    "user": (4_000_000, 1),
    "movie": (2_000_000, 1),
    "watched": (1_000_000, 60),
    "clicked": (600_000, 25),
    "query": (300_000, 8),
    "tags": (20_000, 12),
    "city": (5_000, 1),
    "hour": (24, 1),
}


def eight(tables: Sequence[str] = tuple(EIGHT), ranks: int = 4) -> Puzzle:
    """Eight tables of width 32, or some of them, whose bags differ; no target but memory.

    Args:
        tables: those that are there.
        ranks: P, with 1.4 GB of memory together.
    """
    config = DLRMConfig(
        13,
        {name: EIGHT[name][0] for name in tables},
        32,
        bottom=(64, 32),
        top=(128, 1),
        lookups={name: EIGHT[name][1] for name in tables},
    )
    where = topology(_RANKS, ranks, memory=1.4e9 / ranks)
    return Puzzle("eight tables", config, where, "rowwise_adagrad")
