"""What one rank holds of a model: rectangles of tables with their optimizer state, and the MLPs.

A model on one device is the case of one rank that holds every table whole.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.optim.optimizer import Optimizer

from dlrm_mini.embeddings import EmbeddingTables, FusedEmbeddingTables
from dlrm_mini.errors import UserError
from dlrm_mini.parallel.sharded_tables import Held
from dlrm_mini.parallel.sharding import Placement, Plan, Shard


def held(model: Any) -> list[Held]:
    """The rectangles of a rank, table after table; those without a number left out."""
    tables = model.tables
    if isinstance(tables, EmbeddingTables):
        found = [
            Held(_whole(name, len(table), tables.dim), table, slice(0, len(table)))
            for name, table in tables.tables.items()
        ]
    elif isinstance(tables, FusedEmbeddingTables):
        ends = tables.first.tolist()
        found = [
            Held(_whole(name, end - first, tables.dim), tables.weight, slice(first, end))
            for name, first, end in zip(tables.names, ends[:-1], ends[1:], strict=True)
        ]
    else:
        found = [*tables.held()]
    return [piece for piece in found if all(piece.shard.shape)]


def state_of(piece: Held, optimizer: Optimizer) -> dict[str, Tensor]:
    """Name -> optimizer state of a rectangle, views: (rows, width), or (rows,) of a rule by row."""
    found = optimizer.state.get(piece.parameter, {})
    return {name: of[piece.rows] for name, of in found.items() if of.ndim}


def numbers_of(piece: Held, optimizer: Optimizer) -> dict[str, float]:
    """Name -> optimizer state that is one number for a whole table, such as its steps."""
    found = optimizer.state.get(piece.parameter, {})
    return {name: float(of) for name, of in found.items() if not of.ndim}


def made_state(piece: Held, optimizer: Optimizer, name: str, by_row: bool) -> Tensor:
    """The state of a name, a view, newly made of zeros where there is none."""
    state, weight = optimizer.state[piece.parameter], piece.parameter.detach()
    if name not in state:
        state[name] = weight.new_zeros(weight.shape[:1] if by_row else weight.shape)
    view: Tensor = state[name][piece.rows]
    return view


def plan_of(model: Any) -> Plan:
    """The plan of a model's tables.

    Raises:
        UserError: tables that are neither split nor those of the course's `DLRM`.
    """
    tables = model.tables
    if isinstance(plan := getattr(tables, "plan", None), Plan):
        return plan
    if not isinstance(tables, EmbeddingTables | FusedEmbeddingTables):
        raise UserError(
            f"The tables are {type(tables).__name__}; expected EmbeddingTables, "
            "FusedEmbeddingTables or those of a ShardedDLRM."
        )
    whole = Placement("table-wise", (0,))
    return Plan(1, tables.cardinalities, tables.dim, dict.fromkeys(tables.cardinalities, whole))


def replicated(model: Any) -> dict[str, nn.Parameter]:
    """Name -> the parameters that all ranks have alike, as a `DLRM` names them."""
    return {
        f"{part}.{name}": parameter
        for part in ("bottom", "top")
        for name, parameter in getattr(model, part).named_parameters()
    }


def rule_of(optimizer: Optimizer) -> str:
    """A word for the update rule: the same for a rule on one device and on several."""
    return str(getattr(optimizer, "rule", type(optimizer).__name__))


def dtype_of(model: nn.Module) -> str:
    """Of the weights, such as "float32"."""
    return str(next(model.parameters()).dtype).removeprefix("torch.")


def _whole(name: str, rows: int, dim: int) -> Shard:
    return Shard(name, 0, (0, rows), (0, dim))
