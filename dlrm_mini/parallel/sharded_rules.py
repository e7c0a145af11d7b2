"""Optimizers for tables that are split over ranks: the rules of `dlrm_mini.optimizers`.

SGD and Adagrad treat every entry by itself, so that each rank updates its rectangles alone. The
row-wise rule needs the mean square of a row's whole gradient: for a table that is cut by columns,
its holders tell each other their sums of squares first, or their rows would train at different
rates. All holders see all ids, so that they have touched the same R rows, and send one number a row
to each other holder: s R bytes (k - 1) times from each of k holders, s bytes a number.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from dlrm_mini.embeddings import FusedEmbeddingTables
from dlrm_mini.errors import UserError
from dlrm_mini.optimizers import SGD, Adagrad, RowOptimizer, RowWiseAdagrad, coalesce
from dlrm_mini.parallel.sharded_model import ShardedDLRM
from dlrm_mini.parallel.sharded_tables import ShardedTables
from dlrm_mini.sparse_rules import state_bytes

RuleName = Literal["sgd", "rowwise_adagrad", "adagrad"]


def make_optimizer(model: ShardedDLRM, rule: RuleName, lr: float) -> RowOptimizer:
    """An optimizer over this rank's part of a model; fused tables are given to it.

    Args:
        model: this rank's.
        rule: of the tables; MLPs take the dense form of SGD or Adagrad.
        lr: learning rate.

    Raises:
        UserError: another rule, a learning rate that is not above 0, or a state that does not fit
            into a simulated rank's memory.
    """
    kinds = {"sgd": SGD, "adagrad": Adagrad}
    if rule == "rowwise_adagrad":
        optimizer: RowOptimizer = ShardedRowWiseAdagrad(model, lr)
    elif rule in kinds:
        optimizer = kinds[rule](model.parameters(), lr)
    else:
        raise UserError(f"The rule is {rule!r}; expected 'sgd', 'rowwise_adagrad' or 'adagrad'.")
    tables = model.tables
    for held in tables.held():
        rows, columns = held.shard.shape
        number = state_bytes(rule, rows, columns, tables.dtype.itemsize)
        if number:
            tables.communicator.hold(f"state of table '{held.shard.table}'", number, rows)
    for group in tables.groups:
        if isinstance(group, FusedEmbeddingTables):
            group.fuse(optimizer)
    return optimizer


class ShardedRowWiseAdagrad(RowWiseAdagrad):
    """`RowWiseAdagrad` of one rank: a row's mean square is taken over all its columns.

    Args:
        model: this rank's.
        lr: learning rate.
        eps: as in `RowWiseAdagrad`.
    """

    def __init__(self, model: ShardedDLRM, lr: float, eps: float = 1e-8) -> None:
        super().__init__(model.parameters(), lr, eps)
        self.tables: ShardedTables = model.tables
        self._squares: dict[Tensor, Tensor] = {}  # parameter -> (R,), over all columns

    @torch.no_grad()
    def sum_squares(self) -> None:
        """Sum the squares of rows over the ranks that hold their columns, in one all-to-all.

        Every rank calls it, once the tables have their gradients and before `step`.
        """
        plan, communicator = self.tables.plan, self.tables.communicator
        cut = {  # table -> the ranks that hold its columns
            name: placement.ranks
            for name, placement in plan.placements.items()
            if placement.form == "column-wise" and len(placement.ranks) > 1
        }
        if not cut:
            return
        squares: dict[str, Tensor] = {}  # table -> (R,), over this rank's columns
        parameters = {held.shard.table: held.parameter for held in self.tables.split()}
        shared = [
            [name for name in cut if {rank, communicator.rank} <= {*cut[name]}]
            for rank in range(plan.size)
        ]
        for name in shared[communicator.rank]:
            gradient = parameters[name].grad
            assert gradient is not None
            rows, summed = coalesce(gradient._indices()[0], gradient._values())
            parameters[name].grad = of_rows(rows, summed, gradient.shape)
            squares[name] = summed.square().sum(1)
        # What a rank gets from another has the lengths of what it sends there: R for each table.
        names = [name for each in shared for name in each]
        splits = [sum(len(squares[name]) for name in each) for each in shared]
        empty = torch.empty(0, dtype=self.tables.dtype, device=self.tables.device)
        sent = torch.cat([empty, *(squares[name] for name in names)])
        received = communicator.all_to_all(sent, splits, splits)
        totals = {name: torch.zeros_like(part) for name, part in squares.items()}
        parts = torch.split(received, [len(squares[name]) for name in names])
        for name, part in zip(names, parts, strict=True):
            totals[name] += part
        self._squares = {parameters[name]: total for name, total in totals.items()}

    def _mean_square(self, parameter: Tensor, summed: Tensor) -> Tensor:
        if parameter.shape[1] == self.tables.dim:
            return super()._mean_square(parameter, summed)
        if parameter not in self._squares:
            raise UserError(
                f"A table's {parameter.shape[1]} of {self.tables.dim} columns are to be updated by "
                "row-wise Adagrad, which needs the squares of the other columns. Call sum_squares "
                "on every rank before step, as ShardedStep does."
            )
        return self._squares.pop(parameter) / self.tables.dim


def of_rows(rows: Tensor, values: Tensor, shape: torch.Size) -> Tensor:
    """A table's gradient (N, D) that is zero but in these distinct, rising rows (R,)."""
    return torch.sparse_coo_tensor(
        rows[None], values, shape, is_coalesced=True, check_invariants=False
    )
