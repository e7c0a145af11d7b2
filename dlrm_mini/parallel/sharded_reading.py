"""Reading a sharded checkpoint: any rectangle of a table, out of those that were written."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dlrm_mini.errors import UserError
from dlrm_mini.parallel import shard_files
from dlrm_mini.parallel.held import dtype_of, plan_of, replicated, rule_of
from dlrm_mini.parallel.shard_files import DamagedError
from dlrm_mini.parallel.sharding import Placement, Plan, Shard


class Part(NamedTuple):
    """A part of a rectangle: where it goes, and its numbers, still in the file."""

    where: tuple[slice, slice]
    values: Tensor


class Piece(NamedTuple):
    """All that a checkpoint has of one rectangle.

    Attributes:
        tensors: "weight" and the names of optimizer state -> the parts it is made of.
        numbers: names of optimizer state that is one number for the table -> it.
    """

    tensors: dict[str, list[Part]]
    numbers: dict[str, float]


def fill(target: Tensor, parts: list[Part]) -> None:
    """Copy parts into a rectangle (rows, width), or its rows (rows,); zeros where none goes."""
    target.zero_()
    for part in parts:
        target[part.where[: target.ndim]] = part.values.to(target.device)


def overlap(wanted: Shard, written: Shard) -> tuple[slice, slice, slice, slice] | None:
    """Rows and columns that two rectangles share: first within one, then within the other."""
    ends = []
    for ours, theirs in ((wanted.rows, written.rows), (wanted.columns, written.columns)):
        low, high = max(ours[0], theirs[0]), min(ours[1], theirs[1])
        if low >= high:
            return None
        ends.append(
            (slice(low - ours[0], high - ours[0]), slice(low - theirs[0], high - theirs[0]))
        )
    (rows, from_rows), (columns, from_columns) = ends
    return rows, columns, from_rows, from_columns


class Checkpoint:
    """A finished checkpoint.

    Args:
        folder: that holds it.
        number: its number, 0 when there is none.

    Raises:
        UserError: there is none, or it is damaged.
    """

    def __init__(self, folder: Path, number: int) -> None:
        if not number:
            raise UserError(
                f"there is no sharded checkpoint in {folder}. Train first, or name another folder."
            )
        self.path = shard_files.at(folder, number)
        self.manifest = shard_files.read_manifest(self.path)
        placements = {
            name: Placement(where["form"], tuple(where["ranks"]))
            for name, where in self.manifest["plan"].items()
        }
        about = (self.manifest["ranks"], self.manifest["tables"], self.manifest["dim"])
        self.plan = Plan(*about, placements)
        self.replicated = shard_files.read_small(self.path / shard_files.REPLICATED, self.manifest)
        self._about: dict[int, dict[str, Any]] = {}
        self._tensors: dict[int, dict[str, Tensor]] = {}

    def check(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Raise a UserError unless it is of this model and this rule."""
        mine = _sizes(plan_of(model), dtype_of(model), replicated(model))
        theirs = _sizes(self.plan, self.manifest["dtype"], self.replicated["weights"])
        for name in theirs | mine:
            if theirs.get(name) != mine.get(name):
                raise UserError(
                    f"the checkpoint {self.path} is of another model: of {name} it holds "
                    f"{theirs.get(name, 'nothing')}, this one {mine.get(name, 'nothing')}. Build "
                    "the model with the sizes it was trained with, or train again."
                )
        if (rule := rule_of(optimizer)) != (before := self.manifest["optimizer"]):
            raise UserError(
                f"{self.path} was trained with {before}, and is to go on with {rule}. Use the same "
                "rule, or train again."
            )
        groups = self.replicated["groups"]
        if len(groups) != len(optimizer.param_groups):
            raise UserError(
                f"{self.path} has {len(groups)} groups of parameters with a learning rate each, "
                f"the optimizer {len(optimizer.param_groups)}. Use the same groups, or train again."
            )

    def piece(self, wanted: Shard) -> Piece:
        """What there is of a rectangle; all of it that will be read has been checked.

        Raises:
            DamagedError: something has changed since it was written.
        """
        tensors: dict[str, list[Part]] = {}
        numbers: dict[str, float] = {}
        shards = self.plan.shards(wanted.table)
        if self.plan.placements[wanted.table].form == "data-parallel":
            shards = shards[:1]  # the others hold the same
        for written in shards:
            if (shared := overlap(wanted, written)) is None:
                continue
            about, held = self._of(written)
            numbers |= about["numbers"]
            for name, known in about["checksums"].items():
                tensor = held.get(f"{written.table}/{name}")
                tall = written.shape[: 1 if tensor is None else tensor.ndim]
                if tensor is None or tuple(tensor.shape) != tall:
                    raise DamagedError(self.path, f"{name} of {written.table} has another shape")
                *where, rows, columns = shared
                shard_files.check_rows(tensor, known, rows.start, rows.stop, self.path)
                values = tensor[rows] if tensor.ndim == 1 else tensor[rows, columns]
                tensors.setdefault(name, []).append(Part((where[0], where[1]), values))
        return Piece(tensors, numbers)

    def full_state_dict(self) -> dict[str, Tensor]:
        """The weights as a `DLRM` names them, whole."""
        weights: dict[str, Tensor] = dict(self.replicated["weights"])
        bottom = {name: weights.pop(name) for name in [*weights] if name.startswith("bottom.")}
        kind, tables = getattr(torch, self.manifest["dtype"]), {}
        for name, rows in self.plan.cardinalities.items():
            table = tables[f"tables.tables.{name}"] = torch.empty(rows, self.plan.dim, dtype=kind)
            fill(table, self.piece(Shard(name, 0, (0, rows), (0, self.plan.dim))).tensors["weight"])
        return bottom | tables | weights

    def _of(self, written: Shard) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """What is said of a rectangle, and the tensors of its file."""
        rank = written.rank
        if rank not in self._about:
            data, about = shard_files.of_rank(self.path, rank)
            self._about[rank] = shard_files.read_small(about, self.manifest)["pieces"]
            self._tensors[rank] = shard_files.open_tensors(data, self.manifest)
        return self._about[rank][written.table], self._tensors[rank]


def _sizes(plan: Plan, dtype: str, dense: Any) -> dict[str, Any]:
    """What has to be the same in a model and a checkpoint, with a name for the reader."""
    found: dict[str, Any] = {
        f"table '{n}'": f"{rows} rows" for n, rows in plan.cardinalities.items()
    }
    found |= {"the tables' width": plan.dim, "the numbers": dtype}
    return found | {f"'{name}'": f"shape {tuple(tensor.shape)}" for name, tensor in dense.items()}
