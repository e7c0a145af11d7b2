"""What the embedding tables have to do in a step, by kind of tables and rule: see `counts`.

How fast a row comes depends on which cache still holds it. So rows are counted with their *span*:
the bytes of rows fetched since the same row was fetched last. A row that comes a second time in a
batch was last fetched within the table's own share of the batch; for one that comes the first time
in a part, it is as if no other part of the step had fetched it. Ids are uniform, so all of this is
expectation.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import expm1, log1p

from dlrm_mini.profiling.work import ID, NUMBER, Rows, Work, total
from dlrm_mini.profiling.workload import Workload


def distinct(rows: int, lookups: float) -> float:
    """The rows that so many lookups with uniform ids are expected to touch: N (1 - (1 - 1/N)^V)."""
    return 1.0 if rows == 1 else -rows * expm1(lookups * log1p(-1 / rows))


def count_tables(workload: Workload, device: str) -> dict[str, Work]:
    """Forward, backward (where it is not the update itself) and update."""
    config, batch = workload.config, workload.batch_size
    row, per_bag = NUMBER * config.dim, config.lookups_by_table
    touched = {name: distinct(n, batch * per_bag[name]) for name, n in config.cardinalities.items()}
    all_touched = row * sum(touched.values())
    tables = [
        _Table(workload, rows, batch * per_bag[name], touched[name], all_touched)
        for name, rows in config.cardinalities.items()
    ]
    if workload.tables == "fused":
        update = _fused_update_gpu if device == "cuda" else _fused_update
        return {
            "embedding forward": _fused_forward(tables, workload.config.pooling == "mean"),
            "embedding update": update(tables),
        }
    # All ids are looked through for the largest; at the end the vectors are put side by side.
    streamed = sum(ID * table.lookups + 2 * table.pooled for table in tables)
    sparse = workload.tables == "sparse"
    return {
        "embedding forward": total(
            [Work(streamed=streamed, operations=len(tables) + 6), *(t.forward() for t in tables)]
        ),
        "embedding backward": total(table.backward(sparse) for table in tables),
        "embedding update": total(table.update(sparse) for table in tables),
    }


@dataclass(frozen=True)
class _Table:
    """One table and what a batch does with it."""

    workload: Workload
    rows: int
    lookups: int
    touched: float  # distinct rows
    all_touched: float  # bytes of the distinct rows of all tables

    @property
    def dim(self) -> int:
        return self.workload.config.dim

    @property
    def row(self) -> int:
        """Bytes of a row."""
        return NUMBER * self.dim

    @property
    def pooled(self) -> int:
        """Bytes of its pooled vectors, (B, D)."""
        return self.row * self.workload.batch_size

    @property
    def adagrad(self) -> bool:
        return self.workload.rule == "rowwise_adagrad"

    @property
    def one_hot(self) -> bool:
        return self.lookups == self.workload.batch_size

    @property
    def since(self) -> float:
        """Bytes fetched in a part since it fetched a row last: N / touched batches ago."""
        return self.all_touched * self.rows / self.touched

    def read(self) -> tuple[Rows, ...]:
        """A row for each lookup."""
        return self._lots(self.since, self.row)

    def changed(self) -> tuple[Rows, ...]:
        """A row read and written for each lookup."""
        return self._lots(self.since, 2 * self.row)

    def changed_once(self, state: int = 0) -> tuple[Rows, ...]:
        """Each row touched, with some bytes of state, read and written."""
        return ((self.row + state, self.since, 2 * (self.row + state) * self.touched),)

    def slopes(self) -> tuple[Rows, ...]:
        """The gradient of its bag for each lookup."""
        return ((self.row, self.pooled, self.row * self.lookups),)

    def _lots(self, since: float, each: int) -> tuple[Rows, ...]:
        """What comes the first time in a batch, and what comes again."""
        first = (self.row, since, each * self.touched)
        return first, (self.row, self.row * self.touched, each * (self.lookups - self.touched))

    def forward(self) -> Work:
        """`F.embedding_bag`, or `F.embedding` for one id a row: fetched, added up, a vector a bag.

        The ends of the ids are read back, offsets made to begin at 0, and the bag of each id noted.
        """
        mean = self.workload.config.pooling == "mean" and not self.one_hot
        bags = self.workload.batch_size
        noted = 0 if self.one_hot else ID * (self.lookups + 4 * bags)
        return Work(
            flops=(self.lookups - bags) * self.dim + mean * bags * self.dim,
            streamed=self.pooled * (1 + 2 * mean) + ID * self.lookups + noted,
            operations=(1 if self.one_hot else 4) + 3 * mean,
            gathered=self.read(),
        )

    def backward(self, sparse: bool) -> Work:
        """Sparse: a gradient a lookup written. Dense: a table of zeros, and each added to it."""
        values, table, ids = self.row * self.lookups, self.row * self.rows, ID * self.lookups
        if sparse:
            return Work(streamed=values + 2 * ids, operations=1, gathered=self.slopes())
        # The zeros have just passed, all of them: they are what was fetched since.
        changed = self._lots(table, 2 * self.row)
        return Work(
            self.lookups * self.dim, table + ids, operations=1, gathered=self.slopes(),
            changed=changed, sorted=0 if self.one_hot else self.lookups, fresh=table,
        )  # fmt: skip

    def update(self, sparse: bool) -> Work:
        """Dense: a few passes over the whole table. Sparse: of what was looked up."""
        if not sparse:
            return dense_update(self.rows * self.dim, self.adagrad)
        values = self.row * self.lookups
        if not self.adagrad:  # each gradient read, and its row changed, one by one
            streamed = values + ID * self.lookups
            flops = 2 * self.lookups * self.dim
            return Work(flops, streamed, operations=1, changed=self.changed())
        summed = self.row * self.touched
        return Work(
            flops=self.lookups * self.dim + 5 * self.touched * self.dim,
            # Ids ordered and counted; sums written, squared, averaged, divided, added to the rows
            streamed=8 * ID * self.lookups + 7 * summed,
            operations=14,
            gathered=((self.row, values, values),),
            changed=self.changed_once(),
            sorted=self.lookups,
        )


def dense_update(numbers: int, adagrad: bool) -> Work:
    """SGD: w and g read, w written. Adagrad: 11 passes in four operations. For one tensor."""
    if adagrad:
        return Work(7 * numbers, far=11 * NUMBER * numbers, operations=4)
    return Work(2 * numbers, far=3 * NUMBER * numbers, operations=1)


def _fused_forward(tables: list[_Table], mean: bool) -> Work:
    """Ids and offsets read, rows fetched and added up, a vector a bag written: one operation."""
    lookups, bags = sum(t.lookups for t in tables), sum(t.workload.batch_size for t in tables)
    dim = tables[0].dim
    return Work(
        flops=(lookups - bags) * dim + 2 * mean * lookups * dim,
        # The mean's weights: a length and its reciprocal a bag, one number a lookup, read again
        streamed=ID * (lookups + bags) + NUMBER * dim * bags + mean * (24 * bags + 12 * lookups),
        operations=1 + 4 * mean,
        bags=bags,
        gathered=tuple(lot for table in tables for lot in table.read()),
    )


def _fused_update(tables: list[_Table]) -> Work:
    """On a CPU. SGD: a row changed a lookup. Adagrad: ids sorted, a row changed once."""
    lookups, dim = sum(table.lookups for table in tables), tables[0].dim
    pooled = sum(table.pooled for table in tables)
    if not tables[0].adagrad:
        changed = tuple(lot for table in tables for lot in table.changed())
        return Work(2 * lookups * dim, ID * lookups + pooled, operations=1, changed=changed)
    return Work(
        flops=(lookups + 5 * sum(table.touched for table in tables)) * dim,
        streamed=ID * lookups + 3 * pooled,  # gradients are first put side by side by table
        operations=1,
        gathered=tuple(lot for table in tables for lot in table.slopes()),
        changed=tuple(lot for table in tables for lot in table.changed_once(NUMBER)),
        sorted=lookups,
    )


def _fused_update_gpu(tables: list[_Table]) -> Work:
    """In Triton: bags and rows of all lookups made and sorted, then a row changed once."""
    lookups, bags = sum(t.lookups for t in tables), sum(t.workload.batch_size for t in tables)
    touched = sum(table.touched for table in tables)
    state = NUMBER * tables[0].adagrad
    return Work(
        flops=(lookups + (5 if state else 2) * touched) * tables[0].dim,
        # A bag: its place (written, copied), its length. A lookup: its bag, feature, first row and
        # row, which is made shorter, ordered, and its like found; where each was, in that order.
        streamed=ID * (7 * bags + 20 * lookups),
        operations=15,
        gathered=tuple(lot for table in tables for lot in table.slopes()),
        changed=tuple(lot for table in tables for lot in table.changed_once(state)),
        sorted=lookups,
    )
