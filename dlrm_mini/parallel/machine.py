"""What a rank computes with, and the seconds that its pieces of tables and its MLPs take there.

The works are those of `profiling.counts`, for a piece of a table instead of a whole one, and the
times are `profiling.roofline`'s: nothing here is a rate. With one rank the parts are exactly those
that `roofline.predict` has for fused tables on one device.

Two things are assumed beyond that:

- caches are shared as in an even plan: between two fetches of a row pass a P-th of the bytes that
  all tables' rows of a batch have;
- what is sent or received is copied once on each end, into and out of the buffers of a collective.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from dlrm_mini.models.dlrm_config import DLRMConfig
from dlrm_mini.profiling import roofline
from dlrm_mini.profiling.ceilings import Ceilings
from dlrm_mini.profiling.counts import count, distinct
from dlrm_mini.profiling.known_hardware import KNOWN
from dlrm_mini.profiling.work import ID, NUMBER, Rows, Work
from dlrm_mini.profiling.workload import Workload
from dlrm_mini.training_step import Precision

Rule = Literal["sgd", "rowwise_adagrad", "adagrad"]


@dataclass(frozen=True)
class Machine:
    """One rank's processor.

    Attributes:
        ceilings: what it can do at best, measured or from documents.
        precision: of the products of the MLPs and the interaction.
    """

    ceilings: Ceilings
    precision: Precision = "float32"

    @classmethod
    def from_ceilings(cls, ceilings: Ceilings, precision: Precision = "float32") -> Machine:
        """The machine that these ceilings are of."""
        return cls(ceilings, precision)

    @property
    def name(self) -> str:
        """Of the hardware."""
        return self.ceilings.name

    def seconds(self, work: Work) -> float:
        """The time of some work."""
        return roofline.seconds(work, self.ceilings, self.precision)

    def overhead(self, worked: float, operations: int) -> float:
        """The time of work that is known already, and of beginning its operations.

        A GPU's host runs ahead, so the longer of the two counts there, and their sum on a CPU.
        """
        begun = operations * self.ceilings.overhead
        return max(worked, begun) if self.ceilings.device == "cuda" else worked + begun

    def dense_parts(self, config: DLRMConfig, rows: int, rule: Rule) -> dict[str, float]:
        """Part (names of `profiling.parts`) -> seconds of all but the tables, for a local batch.

        Raises:
            UserError: the precision's rate is not known for this machine.
        """
        if not rows:
            return {}
        kind: Literal["sgd", "rowwise_adagrad"] = "sgd" if rule == "sgd" else "rowwise_adagrad"
        works = count(Workload(config, rows, rule=kind, precision=self.precision),
                      self.ceilings.device)  # fmt: skip
        return {
            name: self.seconds(work)
            for name, work in works.items()
            if not name.startswith("embedding")
        }


MACHINES: Mapping[str, Machine] = {name: Machine(ceilings) for name, ceilings in KNOWN.items()}
"""Name -> a machine at the peaks of its documents: see `profiling.known_hardware`."""


@dataclass(frozen=True)
class Piece:
    """A piece of a table and what a batch does with it; ids are uniform within the piece.

    Attributes:
        rows: of the piece.
        width: its columns.
        lookups: ids that fall into it, an expectation.
        bags: vectors that it makes.
        fetched: bytes of distinct rows that pass on a rank in a step.
        rule: of the update.
    """

    rows: int
    width: int
    lookups: float
    bags: int
    fetched: float
    rule: Rule

    @property
    def state(self) -> int:
        """Bytes of optimizer state for each row."""
        return {"sgd": 0, "rowwise_adagrad": NUMBER, "adagrad": NUMBER * self.width}[self.rule]

    @property
    def row(self) -> int:
        """Bytes of a row."""
        return NUMBER * self.width

    @property
    def touched(self) -> float:
        """Distinct rows of a batch."""
        return distinct(self.rows, self.lookups) if self.rows else 0.0

    @property
    def since(self) -> float:
        """Bytes fetched since a row was fetched last."""
        return max(self.fetched * self.rows / self.touched, self.row)

    def _lots(self, since: float, each: int) -> tuple[Rows, ...]:
        """Rows that come the first time in a batch, and those that come again."""
        again = max(0.0, self.lookups - self.touched)
        first = (self.row, since, each * self.touched)
        return first, (self.row, self.row * self.touched, each * again)

    def forward(self) -> Work:
        """Ids and offsets read, rows fetched and added up, a vector a bag written: fused."""
        streamed = ID * (self.lookups + self.bags) + self.row * self.bags
        if not self.touched:
            return Work(streamed=streamed)
        return Work(streamed=streamed, bags=self.bags, gathered=self._lots(self.since, self.row))

    def update(self, device: str) -> Work:
        """Gradients of bags to the rows: a row changed a lookup, or once after a sort of the ids.

        The first is SGD on a CPU, where several lookups of a row add up by themselves.
        """
        pooled = self.row * self.bags
        if not self.touched:
            return Work()
        if self.rule == "sgd" and device == "cpu":
            changed = self._lots(self.since, 2 * self.row)
            return Work(streamed=ID * self.lookups + pooled, changed=changed)
        streamed = ID * self.lookups + 3 * pooled
        if device == "cuda":
            streamed = ID * (7 * self.bags + 20 * self.lookups)
        each = self.row + self.state
        return Work(
            streamed=streamed,
            gathered=((self.row, pooled, self.row * self.lookups),),
            changed=((each, self.since, 2 * each * self.touched),),
            sorted=self.lookups,
        )

    def copy_backward(self) -> Work:
        """Of a copy on every rank: a table of zeros, each gradient added to it, all of it packed.

        Packed: read and written once more, into the buffer of the all-reduce.
        """
        table = self.row * self.rows
        return Work(
            streamed=3 * table + ID * self.lookups,
            gathered=((self.row, self.row * self.bags, self.row * self.lookups),),
            changed=self._lots(table, 2 * self.row) if self.touched else (),
            fresh=table,
        )

    def copy_update(self) -> Work:
        """Of such a copy: rows without gradient are looked for, and the others changed."""
        each = self.row + self.state
        return Work(
            streamed=self.row * self.rows,
            gathered=((self.row, self.row * self.rows, self.row * self.touched),),
            changed=((each, self.since, 2 * each * self.touched),) if self.touched else (),
        )
