"""Chapter 13's widget: eight tables to place on four ranks, against the planner."""

from __future__ import annotations

from functools import cached_property

import ipywidgets
import numpy as np
from matplotlib.figure import Figure

from dlrm_mini.ladders.sharding_puzzles import BATCH, EIGHT, columns, copies, eight, rows, whole
from dlrm_mini.parallel.sharding import Plan
from dlrm_mini.pictures import sharding_costs as costs
from dlrm_mini.pictures.dlrm import count
from dlrm_mini.profiling.work import NUMBER
from dlrm_mini.widgets import Explorer, explore

RANKS = 4
ROWS, COLUMNS, COPIES = "rows", "columns", "copies"


class ByHand:
    """A plan for eight tables on four ranks of 350 MB, rank by rank, beside the planner's."""

    def __init__(self) -> None:
        self.puzzle = eight(ranks=RANKS)

    @cached_property
    def planned(self) -> Plan:
        """The planner's answer."""
        return self.puzzle.planned().plan

    def plan(self, **choices: str) -> Plan:
        """Table -> "rank 0", ..., "rows", "columns" (both over all ranks) or "copies", as a plan.

        Tables left out lie on rank 0.
        """
        every = tuple(range(RANKS))
        known = {
            ROWS: rows(*every),
            COLUMNS: columns(*every),
            COPIES: copies(),
            **{f"rank {rank}": whole(rank) for rank in every},
        }
        return self.puzzle.plan({name: known[choices.get(name, "rank 0")] for name in EIGHT})

    def asks(self, plan: Plan) -> costs.Hand:
        """What a plan asks of each rank."""
        cost = self.puzzle.answer(plan.placements).cost
        return costs.Hand(
            np.array(cost.memory), self.read(plan), np.array(cost.bytes()), 1e3 * cost.seconds
        )

    def read(self, plan: Plan) -> costs.Floats:
        """Bytes of rows that each rank looks up in a step, (P,), ids being even."""
        found = np.zeros(RANKS)
        for name, lookups in self.puzzle.config.lookups_by_table.items():
            for shard in plan.shards(name):
                height, width = shard.shape
                share = height / plan.cardinalities[name]
                if plan.placements[name].form == "data-parallel":
                    share = 1 / RANKS  # its own rows of the batch
                found[shard.rank] += BATCH * lookups * share * width * NUMBER
        return found

    def draw(self, **choices: str) -> Figure:
        """The plan of these choices, as `plan` takes them."""
        yours, planner_ = self.asks(self.plan(**choices)), self.asks(self.planned)
        limit = float(self.puzzle.topology.memory or 0)
        over = float(yours.memory.max() - limit)
        words = f"{yours.ms:.2f} ms a step, predicted (the planner: {planner_.ms:.2f})"
        if over > 0:
            words += f"; rank {int(yours.memory.argmax())} is {over / 1e6:,.0f} MB over its limit"
        return costs.by_hand(yours, planner_, limit, words)

    def widget(self) -> Explorer:
        """Choose where each table goes."""
        options = [*(f"rank {rank}" for rank in range(RANKS)), ROWS, COLUMNS, COPIES]
        controls = {
            name: ipywidgets.Dropdown(
                options=options,
                value="rank 0",
                description=f"{name}: {count(n)} rows, {lookups} id{'s' * (lookups > 1)}",
            )
            for name, (n, lookups) in EIGHT.items()
        }
        return explore("eight tables on four ranks, placed by hand", self.draw, **controls)
