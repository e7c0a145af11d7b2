"""What each way to cut a table loads onto the ranks that hold the pieces: ids, vectors, seconds.

Loads of different tables add up, rank by rank, which is what lets a planner try thousands of plans:
a plan is a sum of small arrays. What a rank sends in an exchange follows from its load, since every
rank has rows for every piece: rank s sends its b_s rows' ids to a piece on rank t, and gets the
piece's b_s vectors back.

Memory is counted in three lots: weights; optimizer state; and an allowance for buffers, for each
piece the ids and lengths of the whole batch, its pooled vectors and their gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dlrm_mini.errors import UserError
from dlrm_mini.models.dlrm_config import DLRMConfig
from dlrm_mini.parallel.machine import Machine, Piece, Rule
from dlrm_mini.parallel.sharded_model import rows_of
from dlrm_mini.parallel.sharding import Form, Placement, Plan
from dlrm_mini.parallel.skew import Floats, Skew, shares
from dlrm_mini.profiling.counts import distinct
from dlrm_mini.profiling.work import ID, NUMBER

# Rows of the array of a load, each (P,): see `Job.load`.
LENGTHS, IDS, FORWARD, BACKWARD, LOOKUPS, UPDATE, COPY, COPY_BACK, MEMORY = range(9)
COPIES_BACK, COPIES_UPDATE = 9, 10
LOADS = 11
# Operations that the code begins on each rank, read off it: on a CPU for every table whose ids are
# sent (more where they are sorted by block), and for every piece. On a GPU nothing is added for a
# table: one kernel for all is what engines have (FBGEMM), and is assumed.
WHOLE, BLOCKS, A_PIECE, HOME_BACK = 4, 13, 1, 2
HEADER = 8  # bytes of scale and bias of a vector in 8 bits, as FBGEMM lays it out


@dataclass(frozen=True)
class Job:
    """A model, a batch and a machine: all of a step but the plan and the links.

    Attributes:
        config: the model; its `lookups` say how many ids a bag holds.
        size: P.
        machine: what each rank computes with.
        batch_size: B, of all ranks together.
        rule: of the tables; the MLPs take Adagrad unless it is "sgd".
        bytes_forward: of a number in the exchange of vectors: 4; 2 for 16-bit floats; 1 for 8 bits
            a number and 8 bytes a vector for its scale and bias.
        bytes_backward: of a number in the exchange of their gradients.
        skew: counts of lookups along the rows of tables; tables left out are looked up evenly.

    Raises:
        UserError: no rank or no row, other bytes, or a skew of a table that does not exist.
    """

    config: DLRMConfig
    size: int
    machine: Machine
    batch_size: int
    rule: Rule = "sgd"
    bytes_forward: int = 4
    bytes_backward: int = 4
    skew: Skew | None = None
    _cuts: dict[tuple[str, Form, int], Floats] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.size < 1 or self.batch_size < 1:
            raise UserError(
                f"There are {self.size} ranks and {self.batch_size} rows; expected at least one."
            )
        for name in ("bytes_forward", "bytes_backward"):
            if getattr(self, name) not in (1, 2, 4):
                raise UserError(
                    f"{name} is {getattr(self, name)}; expected 4 (float32), 2 (16-bit floats) or "
                    "1 (8 bits, with a scale and a bias for each vector)."
                )
        if self.rule not in ("sgd", "rowwise_adagrad", "adagrad"):
            raise UserError(
                f"rule is {self.rule!r}; expected 'sgd', 'rowwise_adagrad' or 'adagrad'."
            )
        for name in self.skew or {}:
            if name not in self.config.cardinalities:
                raise UserError(
                    f"The skew names the table '{name}'; expected one of "
                    f"{', '.join(self.config.cardinalities)}."
                )

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """Each rank's b, (P,)."""
        ends = (rows_of(self.batch_size, rank, self.size) for rank in range(self.size))
        return np.array([last - first for first, last in ends])

    @cached_property
    def fetched(self) -> float:
        """Bytes of distinct rows that a batch touches, a P-th of them."""
        per_bag, batch = self.config.lookups_by_table, self.batch_size
        touched = sum(
            distinct(rows, batch * per_bag[name])
            for name, rows in self.config.cardinalities.items()
        )
        return NUMBER * self.config.dim * touched / self.size

    @cached_property
    def dense_parameters(self) -> int:
        """Numbers in both MLPs."""
        parameters = self.config.parameters()
        return parameters["bottom MLP"] + parameters["top MLP"]

    @cached_property
    def base_memory(self) -> float:
        """Bytes that every rank holds whatever the plan.

        The MLPs' weights, gradients and state; what each layer gave and its gradient; the local
        batch; the (b, F, D) vectors and their gradients.
        """
        config, rows = self.config, int(self.rows.max())
        copies = 2 + (self.rule != "sgd")
        layers = sum(config.bottom) + sum(config.top) + config.top_input
        vectors = config.n_vectors * config.dim
        batch = NUMBER * (config.n_dense + 1) + ID * sum(config.lookups_by_table.values())
        return float(
            NUMBER * copies * self.dense_parameters
            + rows * (2 * NUMBER * (layers + vectors) + batch)
        )

    @cached_property
    def dense_parts(self) -> dict[str, Floats]:
        """Part -> seconds on each rank, (P,), of all but the tables."""
        found: dict[str, Floats] = {}
        for rows in sorted(set(self.rows.tolist())):
            parts = self.machine.dense_parts(self.config, rows, self.rule)
            for name, seconds in parts.items():
                found.setdefault(name, np.zeros(self.size))[self.rows == rows] = seconds
        return found

    def shares(self, table: str, pieces: int) -> Floats:
        """Share of a table's lookups in each of k blocks of rows: (k,), or (P, k)."""
        rows = self.config.cardinalities[table]
        plan = Plan(pieces, {table: rows}, self.config.dim,
                    {table: Placement("row-wise", tuple(range(pieces)))})  # fmt: skip
        counts = (self.skew or {}).get(table)
        return shares(rows, [shard.rows for shard in plan.shards(table)], counts, table)

    def cut(self, table: str, form: Form, pieces: int) -> Floats:
        """The load of each of k pieces, (LOADS, k); of a copy on every rank, (LOADS, P).

        Rows of the array: LENGTHS, bags for each row of the batch; IDS, ids likewise; FORWARD and
        BACKWARD, bytes of vectors likewise; LOOKUPS and UPDATE, seconds; COPY and COPY_BACK,
        seconds to put ids and vectors into and out of buffers; MEMORY, bytes; COPIES_BACK and
        COPIES_UPDATE, seconds for a copy, before and after gradients are summed over ranks.
        """
        key = (table, form, pieces)
        if key not in self._cuts:
            make = self._copies if form == "data-parallel" else self._pieces
            self._cuts[key] = make(table, form, pieces)
        return self._cuts[key]

    def _pieces(self, table: str, form: Form, pieces: int) -> Floats:
        rows, dim, batch = self.config.cardinalities[table], self.config.dim, self.batch_size
        plan = Plan(pieces, {table: rows}, dim, {table: Placement(form, tuple(range(pieces)))})
        shapes = [shard.shape for shard in plan.shards(table)]
        ids = np.full(pieces, float(self.config.lookups_by_table[table]))
        if form == "row-wise":
            share = self.shares(table, pieces)
            ids *= share if share.ndim == 1 else self.rows @ share / batch
        load = np.zeros((LOADS, pieces))
        known: dict[tuple[int, int, float], Floats] = {}
        for place, (block, width) in enumerate(shapes):
            if not block:
                continue  # Nobody sends anything to a block without rows.
            load[LENGTHS, place], load[IDS, place] = 1, ids[place]
            same = (block, width, float(ids[place]))
            if same not in known:
                known[same] = self._of_piece(*same)
            load[FORWARD:COPIES_BACK, place] = known[same]
        return load

    def _of_piece(self, rows: int, width: int, ids: float) -> Floats:
        """FORWARD and all below of a piece."""
        batch, machine = self.batch_size, self.machine
        piece = Piece(rows, width, ids * batch, batch, self.fetched, self.rule)
        forward, backward = (
            width * number + HEADER * (number == 1)
            for number in (self.bytes_forward, self.bytes_backward)
        )
        copied = machine.ceilings.copy
        return np.array([
            forward,
            backward,
            machine.seconds(piece.forward()),
            machine.seconds(piece.update(machine.ceilings.device)),
            # Each is read and written once, on the rank that holds the piece.
            2 * batch * (ID * (ids + 1) + forward) / copied,
            2 * batch * backward / copied,
            rows * (piece.row + piece.state) + batch * (ID * (ids + 1) + 2 * piece.row),
        ])  # fmt: skip

    def _copies(self, table: str, form: Form, pieces: int) -> Floats:
        rows, lookups = self.config.cardinalities[table], self.config.lookups_by_table[table]
        load = np.zeros((LOADS, self.size))
        for local in sorted(set(self.rows.tolist())):
            piece = Piece(rows, self.config.dim, lookups * local, local, self.fetched, self.rule)
            here = self.rows == local
            load[LOOKUPS, here] = self.machine.seconds(piece.forward())
            load[COPIES_BACK, here] = self.machine.seconds(piece.copy_backward())
            every = replace(piece, lookups=float(lookups * self.batch_size), bags=self.batch_size)
            load[COPIES_UPDATE, here] = self.machine.seconds(every.copy_update())
            # Weights, their gradient and their state; vectors are in what every rank has.
            load[MEMORY, here] = rows * (2 * piece.row + piece.state)
        return load

    def load(self, table: str, placement: Placement) -> Floats:
        """What a placement loads onto all ranks, (LOADS, P)."""
        if placement.form == "data-parallel":
            return self.cut(table, "data-parallel", 0)
        load, pieces = np.zeros((LOADS, self.size)), len(placement.ranks)
        load[:, list(placement.ranks)] = self.cut(table, placement.form, pieces)
        load[[COPY, COPY_BACK]] += self.begun(placement.form, pieces)[:, None]
        return load

    def begun(self, form: Form, pieces: int) -> Floats:
        """Seconds of COPY and COPY_BACK, (2,), that a split table costs every rank."""
        if self.machine.ceilings.device == "cuda" or form == "data-parallel":
            return np.zeros(2)
        first = BLOCKS if form == "row-wise" and pieces > 1 else WHOLE
        number = np.array([first, HOME_BACK]) + A_PIECE * pieces
        return number * self.machine.ceilings.overhead

    def replicated(self, tables: Sequence[str] = ()) -> int:
        """Numbers whose gradients are summed over all ranks: both MLPs, and copies of tables."""
        cardinalities = self.config.cardinalities
        return self.dense_parameters + self.config.dim * sum(cardinalities[t] for t in tables)
