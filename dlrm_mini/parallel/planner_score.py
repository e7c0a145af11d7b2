"""Step times of thousands of plans: what `parallel.cost` computes for one, for many at once.

A plan is the sum of its tables' loads. Where a table is asked about, the loads of all others stand
still, and the loads of its candidates are added to them, (n, ROWS, P).

One thing is simpler than in `parallel.cost`: where two tables are cut by columns over the same two
ranks, their squares are one message there, and here two. (Never more than there are other ranks.)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dlrm_mini.parallel import shuffles
from dlrm_mini.parallel.cost_parts import ANNOUNCED, LOSS, parts_of, squares_of, stages
from dlrm_mini.parallel.loads import BACKWARD, FORWARD, IDS, LENGTHS, LOADS, MEMORY, Job
from dlrm_mini.parallel.schedule import in_turn, overlapping
from dlrm_mini.parallel.sharding import Placement
from dlrm_mini.parallel.skew import Floats
from dlrm_mini.parallel.topology import Topology
from dlrm_mini.profiling.work import ID, NUMBER

# Below a job's loads: bytes and messages of squares inside a node and across, numbers replicated.
INSIDE, ACROSS, MESSAGES_INSIDE, MESSAGES_ACROSS, REPLICATED = range(LOADS, LOADS + 5)
ROWS = LOADS + 5


@dataclass(frozen=True)
class Score:
    """How good plans are.

    Attributes:
        seconds: of a step, (n,).
        excess: bytes beyond the limit, of all ranks together, (n,); 0: the plan fits.
        uneven: seconds, (n,): larger where the ranks' loads differ more. It says which way to go
            where the slowest rank stays as slow.
    """

    seconds: Floats
    excess: Floats
    uneven: Floats

    def order(self, limit: float | None) -> Floats:
        """One number for each plan, (n,): what fits comes first, then what is fast."""
        over = self.excess / limit if limit else self.excess
        return np.where(over > 0, 1e6 * (1 + over), self.seconds + 1e-6 * self.uneven)


@dataclass(frozen=True)
class Scorer:
    """Scores plans for one job over one topology.

    Attributes:
        job: all of a step but the plan and the links.
        topology: the links.
        overlap: as in `step_cost`.
    """

    job: Job
    topology: Topology
    overlap: bool = False

    @cached_property
    def nodes(self) -> NDArray[np.int64]:
        """Node of each rank, (P,)."""
        return np.arange(self.job.size) // self.topology.per_node

    @cached_property
    def _gather(self) -> float:
        """Seconds in which ranks announce their rows."""
        return self.topology.seconds("all_gather", ANNOUNCED * self.job.size)

    def load(self, table: str, placement: Placement) -> Floats:
        """What a placement adds, (ROWS, P)."""
        job, found = self.job, np.zeros((ROWS, self.job.size))
        found[:LOADS] = job.load(table, placement)
        if placement.form == "data-parallel":
            found[REPLICATED] = job.config.cardinalities[table] * job.config.dim
        elif placement.form == "column-wise" and job.rule == "rowwise_adagrad":
            holders = list(placement.ranks)
            together = self.nodes[holders][:, None] == self.nodes[holders]
            inside = together.sum(1) - 1
            across = len(holders) - 1 - inside
            found[MESSAGES_INSIDE, holders], found[MESSAGES_ACROSS, holders] = inside, across
            each = squares_of(job, table)
            found[INSIDE, holders], found[ACROSS, holders] = each * inside, each * across
        return found

    def score(self, load: Floats) -> Score:
        """The scores of plans with these loads, (n, ROWS, P), of all their tables together."""
        job, topology = self.job, self.topology
        rows = job.rows.astype(float)
        # Vectors go the other way; since ports are full duplex, that takes as long.
        each = np.stack([ID * load[:, LENGTHS], ID * load[:, IDS], load[:, FORWARD],
                         load[:, BACKWARD]])  # fmt: skip
        lengths, ids, forward, backward = shuffles.seconds(topology, rows, each)
        net = {
            "inputs": self._gather + lengths + ids,
            "forward": forward,
            "backward": backward,
            "squares": self._squares(load),
            "reduce": self._reduce(load[:, REPLICATED, 0]),
        }
        parts = parts_of(job, load[:, :LOADS])
        seconds = (overlapping if self.overlap else in_turn)(stages(parts, net)).seconds
        limit = np.inf if topology.memory is None else topology.memory
        excess = np.maximum(load[:, MEMORY] + job.base_memory - limit, 0).sum(-1)
        bytes_out = load[:, FORWARD] + load[:, BACKWARD] + ID * (load[:, IDS] + load[:, LENGTHS])
        beta = topology.across.beta if topology.ranks > topology.per_node else topology.inside.beta
        busy = parts["lookups"] + parts["table update"] + job.batch_size * bytes_out / beta
        return Score(seconds, excess, np.sqrt((busy**2).mean(-1)))

    def _squares(self, load: Floats) -> Floats:
        """Seconds of the exchange of squares, (n,)."""
        size, topology = self.job.size, self.topology
        peers = np.bincount(self.nodes)[self.nodes]
        inside = np.minimum(load[:, MESSAGES_INSIDE], peers - 1) * topology.inside.alpha
        across = np.minimum(load[:, MESSAGES_ACROSS], size - peers) * topology.across.alpha
        inside = inside + load[:, INSIDE] / topology.inside.beta
        across = across + load[:, ACROSS] / topology.across.beta
        found: Floats = np.maximum(inside, across).max(-1)
        return found

    def _reduce(self, numbers: Floats) -> Floats:
        """Seconds of the all-reduce, (n,)."""
        different, place = np.unique(numbers, return_inverse=True)
        always = self.job.replicated() + LOSS
        took = [
            self.topology.seconds("all_reduce", NUMBER * (always + number)) for number in different
        ]
        return np.array(took)[place]
