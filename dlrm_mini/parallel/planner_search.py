"""The search for a plan: greedy, then better one table at a time, then two, then from elsewhere.

1. *Greedy*: tables from the largest to the smallest, each where the step is shortest with what is
   placed so far.
2. *Descent*: each table in turn is taken out and put where the step is shortest, until none moves.
   So too from plans with all tables in one form; the best plan goes on.
3. *Pairs*, with few tables: two at once, the places of one against those of the other.
4. *Shaken*: from the best plan so far, some tables are put anywhere, and 2 and 3 follow.

What does not fit into memory is worse than anything that does, so a plan that fits is found first.
The search is deterministic and ends after a fixed amount of work.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from dlrm_mini.models.dlrm_config import DLRMConfig
from dlrm_mini.parallel.loads import COPY, FORWARD, IDS, LOOKUPS, MEMORY, UPDATE
from dlrm_mini.parallel.planner_score import ROWS, Scorer
from dlrm_mini.parallel.sharding import FORMS, Form, Placement, Plan
from dlrm_mini.parallel.skew import Floats
from dlrm_mini.profiling.work import ID

FEW = 4  # ranks of which every choice is tried
NEAR = 6  # ranks tried for a whole table, by each of the orders below
WORK = 800  # table moves, of 2,000 candidate ranks or fewer each
PATIENCE = 5  # shakes without a better plan
EQUAL = 1e-9  # relative difference that is none


def uniform(config: DLRMConfig, size: int, form: Form = "table-wise") -> Plan:
    """All tables in one form: whole ones dealt out like cards, pieces on as many ranks as can be.

    With a piece for every rank, rank r has the r-th piece of each table.

    Args:
        config: the model.
        size: P.
        form: of every table.
    """
    found = {}
    for place, (table, rows) in enumerate(config.cardinalities.items()):
        most = {"table-wise": 1, "row-wise": rows, "column-wise": config.dim, "data-parallel": 0}
        ranks = tuple(sorted((place + i) % size for i in range(min(most[form], size))))
        found[table] = Placement(form, ranks)
    return Plan(size, config.cardinalities, config.dim, found)


class Search:
    """A search over the plans of one job.

    Args:
        scorer: of plans.
        forms: which may be used.
        seed: of the shakes.

    Attributes:
        placements: table -> where it is in the best plan so far.
    """

    def __init__(self, scorer: Scorer, forms: Sequence[Form] = FORMS, seed: int = 0) -> None:
        self.scorer, self.forms = scorer, tuple(forms)
        self.random = np.random.default_rng(seed)
        config = scorer.job.config
        self.tables = sorted(config.cardinalities, key=lambda t: -config.cardinalities[t])
        self.placements: dict[str, Placement] = {}
        self.loads: dict[str, Floats] = {}
        self.spent = 0.0

    @property
    def total(self) -> Floats:
        """The loads of all placed tables together, (ROWS, P)."""
        return sum(self.loads.values(), np.zeros((ROWS, self.scorer.job.size)))

    @property
    def value(self) -> float:
        """How good the present plan is: less is better."""
        return float(self.values(self.total[None])[0])

    def values(self, loads: Floats) -> Floats:
        """How good plans with these loads are, (n,)."""
        self.spent += 1 + loads.shape[0] * loads.shape[2] / 2000
        return self.scorer.score(loads).order(self.scorer.topology.memory)

    def run(self) -> dict[str, Placement]:
        """Search; table -> its placement."""
        for table in self.tables:
            self.place(table, self.total)
        self.descend()
        best, value = self._state(), self.value
        for form in self.forms:
            self._restore(
                dict(uniform(self.scorer.job.config, self.scorer.job.size, form).placements)
            )
            self.descend()
            if self.value < value * (1 - EQUAL):
                best, value = self._state(), self.value
        self._restore(best)
        self.pairs()
        best, value, failures = self._state(), self.value, 0
        while self.spent < WORK and failures < PATIENCE:
            self._restore(self._shaken(best))
            self.descend()
            self.pairs()
            failures += 1
            if self.value < value * (1 - EQUAL):
                best, value, failures = self._state(), self.value, 0
        self._restore(best)
        return dict(self.placements)

    @property
    def few(self) -> bool:
        """Whether there are so few tables that all pairs of them can be tried again and again."""
        return len(self.tables) <= 2 * FEW

    def place(self, table: str, rest: Floats) -> bool:
        """Put a table where the plan is best; whether it moved."""
        placements, loads = self._loaded(table, rest)
        values = self.values(rest + loads)
        best = int(values.argmin())
        if table in self.placements:
            here = self.values((rest + self.loads[table])[None])[0]
            if values[best] >= here * (1 - EQUAL):
                return False
        self.placements[table], self.loads[table] = placements[best], loads[best]
        return True

    def descend(self) -> None:
        """Move one table at a time for the better, until none can."""
        still = 0
        while still < len(self.loads) and self.spent < WORK:
            for table in list(self.loads):
                moved = self.place(table, self.total - self.loads[table])
                still = 0 if moved else still + 1
                if still >= len(self.loads):
                    break

    def pairs(self) -> None:
        """Move two tables at once for the better, until no pair can; of many tables, none."""
        better = self.few
        while better and self.spent < WORK:
            better = False
            for first, second in combinations(self.tables, 2):
                if self.spent >= WORK:
                    break
                better |= self._pair(first, second)

    def _pair(self, first: str, second: str) -> bool:
        rest = self.total - self.loads[first] - self.loads[second]
        some, loads = self._loaded(first, rest)
        if self.scorer.job.size > FEW:
            near = self.values(rest + loads).argsort()[:NEAR]
            some, loads = [some[place] for place in near], loads[near]
        others, more = self._loaded(second, rest + loads[0])
        together = rest + loads[:, None] + more[None]  # (n, m, ROWS, P)
        values = self.values(together.reshape(-1, *rest.shape))
        best = int(values.argmin())
        if values[best] >= self.value * (1 - EQUAL):
            return False
        mine, other = divmod(best, len(others))
        self.placements |= {first: some[mine], second: others[other]}
        self.loads |= {first: loads[mine], second: more[other]}
        return True

    def _loaded(self, table: str, rest: Floats) -> tuple[list[Placement], Floats]:
        """Where a table may go, and what each place loads, (n, ROWS, P)."""
        placements = self.candidates(table, rest)
        return placements, np.stack([self.scorer.load(table, p) for p in placements])

    def candidates(self, table: str, rest: Floats) -> list[Placement]:
        """Where a table may go: all places with few ranks, else those that are least busy."""
        found: dict[Placement, None] = {}
        for form in self.forms:
            for ranks in self._ranks(table, form, rest):
                found[Placement(form, ranks)] = None
        return list(found)

    def _ranks(self, table: str, form: Form, rest: Floats) -> Iterator[tuple[int, ...]]:
        size, config = self.scorer.job.size, self.scorer.job.config
        if form == "data-parallel":
            yield ()
            return
        orders = self._orders(rest)
        if form == "table-wise":
            near = size if size <= FEW else NEAR
            for order in orders:
                yield from ((rank,) for rank in order[:near])
            return
        most = min(size, config.cardinalities[table] if form == "row-wise" else config.dim)
        # Pieces; where whole tables are not asked for, what cannot be cut is one.
        least = 2 if "table-wise" in self.forms else min(2, most)
        if size <= FEW:
            for number in range(least, most + 1):
                for few in combinations(orders[0], number):
                    yield self._fitted(table, form, few)
            return
        for number in sorted({*(2**i for i in range(1, 8)), self.scorer.topology.per_node, most}):
            if least <= number <= most:
                for order in orders:
                    yield self._fitted(table, form, order[:number])

    def _orders(self, rest: Floats) -> list[list[int]]:
        """The ranks, those with least to do first, or with most memory free, or node by node."""
        scorer = self.scorer
        sent = scorer.job.batch_size * (2 * rest[FORWARD] + ID * rest[IDS])
        busy = rest[LOOKUPS] + rest[UPDATE] + rest[COPY] + sent / scorer.topology.across.beta
        by_node = np.bincount(scorer.nodes, weights=busy)[scorer.nodes]
        keys = [(busy,), (busy, rest[MEMORY])]
        if scorer.topology.per_node < scorer.job.size:
            keys += [(busy, scorer.nodes, by_node)]
        return [list(map(int, np.lexsort(key))) for key in keys]

    def _fitted(self, table: str, form: Form, ranks: Sequence[int]) -> tuple[int, ...]:
        """The ranks, the least busy first, in the order in which the heaviest piece goes to it."""
        cut = self.scorer.job.cut(table, form, len(ranks))
        heaviest = np.argsort(-(cut[LOOKUPS] + cut[UPDATE]), kind="stable")
        found = [0] * len(ranks)
        for rank, piece in zip(ranks, heaviest, strict=True):
            found[piece] = rank
        return tuple(found)

    def _shaken(self, placements: dict[str, Placement]) -> dict[str, Placement]:
        """A plan with a few tables put anywhere."""
        number = min(len(self.tables), int(self.random.integers(2, 5)))
        found = dict(placements)
        for table in self.random.choice(self.tables, number, replace=False):
            places = self.candidates(str(table), self.total)
            found[str(table)] = places[int(self.random.integers(len(places)))]
        return found

    def _state(self) -> dict[str, Placement]:
        return dict(self.placements)

    def _restore(self, placements: dict[str, Placement]) -> None:
        self.placements = dict(placements)
        self.loads = {table: self.scorer.load(table, p) for table, p in placements.items()}
