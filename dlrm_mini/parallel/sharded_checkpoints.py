"""Checkpoints of a split model, which load under any other plan and number of ranks.

Each rank writes the rectangles that it holds, of weights and of optimizer state; rank 0 writes what
all ranks have alike. Who loads cuts the rectangles that it needs out of those that were written:
the same bits, wherever they lie now. One device is the case of one rank that holds every table
whole, so an ordinary `DLRM` is saved and loaded by the same two functions:

    load(folder, model, optimizer)                  # onto one device, whatever wrote the folder
    save(folder, model, optimizer, extra={...})     # and from one device to many

The folder must be one that all ranks see. How it looks: `dlrm_mini.parallel.shard_files`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dlrm_mini.errors import UserError
from dlrm_mini.parallel import shard_files
from dlrm_mini.parallel.communicator import Communicator
from dlrm_mini.parallel.held import (
    dtype_of,
    held,
    made_state,
    numbers_of,
    plan_of,
    replicated,
    rule_of,
    state_of,
)  # fmt: skip
from dlrm_mini.parallel.shard_files import DamagedError
from dlrm_mini.parallel.sharded_reading import Checkpoint, fill

__all__ = ["DamagedError", "exists", "extra_of", "gather", "load", "save"]


def exists(folder: Path) -> bool:
    """Whether there is a checkpoint to load."""
    return shard_files.newest(Path(folder)) > 0


def save(
    folder: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    communicator: Communicator | None = None,
    extra: dict[str, Any] | None = None,
) -> None:
    """Write a checkpoint, all or nothing, and remove the one before. Every rank calls it.

    Args:
        folder: holds the checkpoint; the same for all ranks.
        model: a `ShardedDLRM`, or a `DLRM` on one device.
        optimizer: over its parameters.
        communicator: the ranks; None on one device.
        extra: what else is to be kept, of rank 0: numbers, strings, lists, dicts, tensors.

    Raises:
        UserError: a rank cannot write (disk full, no permission, a folder that is not shared), said
            on all of them, or `extra` holds something else; what the folder held stays.
    """
    folder, rank = Path(folder), communicator.rank if communicator else 0
    number, problem = 0, None
    if not rank:
        number = shard_files.newest(folder) + 1
        problem = _tried(folder, lambda: shard_files.begin(shard_files.unfinished(folder, number)))
    number = _told(number, communicator)
    part = shard_files.unfinished(folder, number)
    try:
        _agree(problem, communicator)
        problem = _tried(folder, lambda: _write_rank(part, model, optimizer, rank))
        _agree(problem, communicator)
        if not rank:
            problem = _tried(folder, lambda: _finish(folder, number, model, optimizer, extra or {}))
        _agree(problem, communicator)
    except UserError:
        if not rank:
            shard_files.forget(part)
        raise
    if not rank:
        for before, path in shard_files.whole(folder).items():
            if before < number:
                shard_files.forget(path)


def load(
    folder: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    communicator: Communicator | None = None,
) -> dict[str, Any]:
    """Put a checkpoint into a model and its optimizer, and return `extra`. Every rank calls it.

    Of the tables, a rank reads only the rectangles that it holds.

    Args:
        folder: as `save` had it.
        model: of the same sizes, under any plan.
        optimizer: of the same rule.
        communicator: the ranks; None on one device.

    Raises:
        UserError: there is no checkpoint, it is damaged, or it is of another model or optimizer;
            nothing was changed on any rank.
    """
    folder, problem = Path(folder), None
    number = _told(shard_files.newest(folder), communicator)
    try:
        checkpoint = Checkpoint(folder, number)
        checkpoint.check(model, optimizer)
        found = [(piece, checkpoint.piece(piece.shard)) for piece in held(model)]
    except UserError as error:
        problem = error
    _agree(problem, communicator)
    with torch.no_grad():
        for piece, (tensors, numbers) in found:
            fill(piece.weight, tensors.pop("weight"))
            for name, parts in tensors.items():
                fill(made_state(piece, optimizer, name, parts[0].values.ndim == 1), parts)
            for name, state in state_of(piece, optimizer).items():
                if name not in tensors:
                    state.zero_()
            for name, value in numbers.items():
                optimizer.state[piece.parameter][name] = torch.tensor(value)
        _put_replicated(checkpoint.replicated, model, optimizer)
    extra: dict[str, Any] = checkpoint.replicated["extra"]
    return extra


def extra_of(folder: Path) -> dict[str, Any]:
    """What was kept beside model and optimizer.

    Raises:
        UserError: there is no checkpoint, or it is damaged.
    """
    folder = Path(folder)
    extra: dict[str, Any] = Checkpoint(folder, shard_files.newest(folder)).replicated["extra"]
    return extra


def gather(folder: Path) -> dict[str, Tensor]:
    """The weights of a checkpoint, whole, under the names that a `DLRM` gives them, on the CPU.

    Raises:
        UserError: there is no checkpoint, or it is damaged.
    """
    folder = Path(folder)
    return Checkpoint(folder, shard_files.newest(folder)).full_state_dict()


def _write_rank(part: Path, model: nn.Module, optimizer: torch.optim.Optimizer, rank: int) -> None:
    """Write the rectangles that this rank answers for."""
    plan, tensors, pieces = plan_of(model), dict[str, Tensor](), dict[str, Any]()
    for piece in held(model):
        shard = piece.shard
        if plan.placements[shard.table].form == "data-parallel" and rank:
            continue  # rank 0 has the same
        mine = {"weight": piece.weight, **state_of(piece, optimizer)}
        pieces[shard.table] = {
            "rows": shard.rows,
            "columns": shard.columns,
            "checksums": {name: shard_files.checksums(tensor) for name, tensor in mine.items()},
            "numbers": numbers_of(piece, optimizer),
        }
        tensors |= {f"{shard.table}/{name}": tensor for name, tensor in mine.items()}
    data, about = shard_files.of_rank(part, rank)
    shard_files.write(data, tensors)
    shard_files.write(about, {"pieces": pieces})


def _finish(
    folder: Path,
    number: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    extra: dict[str, Any],
) -> None:
    """Rank 0's last part: what all have alike, the manifest, and the name."""
    part, plan, dense = shard_files.unfinished(folder, number), plan_of(model), replicated(model)
    content = {
        "weights": {name: parameter.detach() for name, parameter in dense.items()},
        "state": {name: dict(optimizer.state.get(p, {})) for name, p in dense.items()},
        "groups": [
            {key: value for key, value in group.items() if key != "params"}
            for group in optimizer.param_groups
        ],
        "extra": extra,
    }
    common = part / shard_files.REPLICATED
    shard_files.write(common, content)
    shard_files.check_readable(common)
    files: dict[str, Any] = {common.name: shard_files.described(common)}
    for rank in range(plan.size):
        data, about = shard_files.of_rank(part, rank)
        if not about.is_file():
            raise UserError(
                f"rank {rank} has written its part of the checkpoint, but rank 0 does not find it "
                f"in {part}. Name a folder that all ranks see, on a shared file system."
            )
        files[data.name] = {"bytes": data.stat().st_size}
        files[about.name] = shard_files.described(about)
    manifest = {
        "format": shard_files.FORMAT,
        "ranks": plan.size,
        "dim": plan.dim,
        "dtype": dtype_of(model),
        "tables": plan.cardinalities,
        "plan": {
            name: {"form": placement.form, "ranks": placement.ranks}
            for name, placement in plan.placements.items()
        },
        "optimizer": rule_of(optimizer),
        "files": files,
    }
    shard_files.write(part / shard_files.MANIFEST, shard_files.sealed(manifest))
    shard_files.publish(folder, number)


def _put_replicated(
    content: dict[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    for name, parameter in replicated(model).items():
        parameter.copy_(content["weights"][name])
        optimizer.state.pop(parameter, None)
        if state := content["state"][name]:
            optimizer.state[parameter] = {
                key: value.to(parameter.device, copy=True) if value.ndim else value.clone()
                for key, value in state.items()
            }
    for group, saved in zip(optimizer.param_groups, content["groups"], strict=True):
        group.update(saved)


def _tried(folder: Path, action: Callable[[], None]) -> UserError | None:
    """Why an action failed on the disk, None when it did not."""
    try:
        action()
    except UserError as error:
        return error
    except (OSError, RuntimeError) as error:  # torch's own words on a full disk say nothing of it
        disk = isinstance(error, OSError) and error.strerror
        why = disk or "is the disk full, or the folder protected?"
        return UserError(f"the checkpoint in {folder} could not be written: {why}")
    return None


def _told(number: int, communicator: Communicator | None) -> int:
    """Rank 0's number."""
    if communicator is None:
        return number
    return int(communicator.broadcast(torch.tensor([number]))[0])


def _agree(problem: UserError | None, communicator: Communicator | None) -> None:
    """Raise on every rank when one has a problem: nobody is left to wait for it."""
    failed = [0] if problem else []
    if communicator is not None:
        flags = communicator.all_gather(torch.tensor([int(problem is not None)]))
        failed = flags.nonzero().flatten().tolist()
    if problem is not None:
        raise problem
    if failed:
        raise UserError(
            f"rank {failed[0]} could not do its part of the checkpoint, and says why. Nothing was "
            "changed."
        )
