"""A sharding plan of low predicted step time that fits into memory, and why it is as it is.

The prediction is `parallel.cost`'s; the search is in `parallel.planner_search`. It finds a plan
that no move of one table, and with few tables none of two, makes better, among the places it tries;
or, where the work that it allows itself ends before, as with 26 tables on 128 ranks, one near that.
On small cases that is nearly always the best plan there is: the tests compare it with all plans. In
general nobody knows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dlrm_mini.errors import UserError
from dlrm_mini.models.dlrm_config import DLRMConfig
from dlrm_mini.parallel.cost import StepCost, cost_of
from dlrm_mini.parallel.loads import MEMORY, Job
from dlrm_mini.parallel.machine import Machine, Rule
from dlrm_mini.parallel.planner_score import Scorer
from dlrm_mini.parallel.planner_search import Search
from dlrm_mini.parallel.planner_search import uniform as uniform
from dlrm_mini.parallel.planner_text import columns, held_text, ranks_text, reason, seconds, size
from dlrm_mini.parallel.sharding import FORMS, Form, Placement, Plan
from dlrm_mini.parallel.skew import Skew
from dlrm_mini.parallel.topology import Topology
from dlrm_mini.profiling.work import NUMBER
from dlrm_mini.sparse_rules import state_bytes


@dataclass(frozen=True)
class Choice:
    """One table's place, and what else there was.

    Attributes:
        table: its name.
        placement: form and ranks.
        bytes: of the whole table, weights and optimizer state.
        largest: bytes of its largest piece, likewise, without buffers.
        others: form -> seconds of a step with the table in the best place of that form and all
            other tables where they are; None: then it does not fit.
        reason: a sentence.
    """

    table: str
    placement: Placement
    bytes: int
    largest: int
    others: Mapping[Form, float | None]
    reason: str


@dataclass(frozen=True)
class Planned:
    """A plan and why.

    Attributes:
        plan: for `ShardedTables`.
        cost: of a step.
        choices: one for each table, the largest first.
    """

    plan: Plan
    cost: StepCost
    choices: tuple[Choice, ...]

    @property
    def reasons(self) -> dict[str, str]:
        """Table -> why it is where it is."""
        return {choice.table: choice.reason for choice in self.choices}

    def table(self) -> str:
        """For every table: form, ranks, bytes, and why; as plain text."""
        lines = [("table", "rows", "bytes", "form", "ranks", "why")] + [
            (c.table, f"{self.plan.cardinalities[c.table]:,}", size(c.bytes), c.placement.form,
             ranks_text(c.placement.ranks, self.plan.size), c.reason)
            for c in self.choices
        ]  # fmt: skip
        return columns(lines, right=(1, 2))

    def __str__(self) -> str:
        return (
            f"{self.table()}\n{held_text(self.cost.memory)}; a step is predicted to take "
            f"{seconds(self.cost.seconds)}."
        )


def plan(
    config: DLRMConfig,
    topology: Topology,
    machine: Machine,
    batch_size: int,
    *,
    rule: Rule = "sgd",
    bytes_forward: int = 4,
    bytes_backward: int = 4,
    overlap: bool = False,
    skew: Skew | None = None,
    forms: Sequence[Form] = FORMS,
) -> Planned:
    """Find a plan.

    Args:
        config: the model.
        topology: the links, and `memory`, the bytes that a rank may hold.
        machine: what each rank computes with.
        batch_size: B, of all ranks together.
        rule: as in `step_cost`, with all that follow.
        bytes_forward: of a number in the exchange of vectors.
        bytes_backward: of a number in the exchange of their gradients.
        overlap: whether communication hides behind compute.
        skew: counts of lookups along the rows of tables; (bins,) each.
        forms: that may be used.

    Raises:
        UserError: nothing was found that fits: which table, and by how much.
    """
    job = Job(
        config, topology.ranks, machine, batch_size, rule, bytes_forward, bytes_backward, skew
    )
    if not forms or not set(forms) <= set(FORMS):
        raise UserError(f"forms is {tuple(forms)}; expected some of {FORMS}.")
    if topology.memory is not None and job.base_memory > topology.memory:
        raise UserError(
            f"Without any table a rank holds {size(job.base_memory)} (MLPs with gradients and "
            f"state, and {job.rows.max()} rows of a batch), which is "
            f"{size(job.base_memory - topology.memory)} more than its {size(topology.memory)}. "
            "Make the batch smaller, or give the ranks more memory."
        )
    search = Search(Scorer(job, topology, overlap), forms)
    placements = search.run()
    _check_memory(search)
    found = Plan(topology.ranks, config.cardinalities, config.dim, placements)
    cost = cost_of(job, found, topology, overlap)
    choices = tuple(_choice(search, found, table, cost.seconds) for table in search.tables)
    return Planned(found, cost, choices)


def _check_memory(search: Search) -> None:
    """Raise a UserError if the best plan does not fit."""
    job, limit = search.scorer.job, search.scorer.topology.memory
    held = search.total[MEMORY] + job.base_memory
    if limit is None or held.max() <= limit:
        return
    # Tables are placed again from the largest; the first with which the rest is too much is named.
    search.placements, search.loads = {}, {}
    for table in search.tables:
        search.place(table, search.total)
        search.descend()
        over = search.total[MEMORY] + job.base_memory - limit
        if over.max() > 0:
            break
    placed = len(search.placements) - 1
    rows = job.config.cardinalities[table]
    everything = sum(whole_bytes(job, name) for name in search.tables)
    beside = f", beside {placed} larger table{'s' * (placed > 1)}" if placed else ""
    raise UserError(
        f"No plan was found that fits: table '{table}' ({rows:,} rows, "
        f"{size(whole_bytes(job, table))} with optimizer state) has no place{beside}. In the best "
        f"one that was found, {search.placements[table].form}, a rank would hold "
        f"{size(over.max())} more than its {size(limit)}. All tables take {size(everything)} with "
        f"optimizer state; all ranks together have {size(job.size * limit)}, of which "
        f"{size(job.size * job.base_memory)} go to MLPs and batches. Take more "
        "ranks, more memory a rank, or smaller tables."
    )


def whole_bytes(job: Job, table: str) -> int:
    """Bytes of a table in one piece, with optimizer state, without buffers."""
    return _bytes(job, job.config.cardinalities[table], job.config.dim)


def _bytes(job: Job, rows: int, width: int) -> int:
    return NUMBER * rows * width + state_bytes(job.rule, rows, width, NUMBER)


def _choice(search: Search, found: Plan, table: str, now: float) -> Choice:
    """What stands in the table of a plan for one table, whose step takes so many seconds."""
    job, limit = search.scorer.job, search.scorer.topology.memory
    here = found.placements[table]
    rest = search.total - search.loads[table]
    candidates = search.candidates(table, rest)
    score = search.scorer.score(rest + np.stack([search.scorer.load(table, p) for p in candidates]))
    # What the scorer says too much, of this plan, is taken off every plan near it.
    surplus = float(search.scorer.score(search.total[None]).seconds[0]) - now
    others: dict[Form, float | None] = {}
    for placement, taken, excess in zip(
        candidates, score.seconds - surplus, score.excess, strict=True
    ):
        best = others.setdefault(placement.form, None)
        if not excess and (best is None or taken < best):
            others[placement.form] = float(taken)
    whole = whole_bytes(job, table)
    largest = max(_bytes(job, *shard.shape) for shard in found.shards(table))
    return Choice(table, here, whole, largest, others, reason(here, others, now, whole, limit))
