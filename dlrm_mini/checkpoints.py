"""Checkpoints: everything a run needs to go on as if it had never stopped.

Model, optimizer, learning-rate schedule, sampler and random state go into one file. It is written
beside its target and renamed, so a run killed at any moment leaves the previous one whole; it is
read with `weights_only=True`, so a file from a stranger cannot run code.
"""

import os
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dlrm_mini.datasets.batches import Batches
from dlrm_mini.errors import UserError

PARTS = {"optimizer", "optimizer_class", "loader", "schedule", "random", "extra"}


def save(path: Path, content: dict[str, Any]) -> None:
    """Write `content` (tensors, numbers, strings, lists, dicts) to `path`, all or nothing.

    Raises:
        UserError: the file cannot be written (disk full, no permission); `path` keeps what it held.
    """
    path = Path(path)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(content, part)
        part.replace(path)
    except (OSError, RuntimeError) as error:  # torch's own words on a full disk say nothing of it
        disk = isinstance(error, OSError) and error.strerror
        why = disk or "is the disk full, or the folder protected?"
        raise UserError(f"the checkpoint {path} could not be written: {why}") from error
    finally:
        part.unlink(missing_ok=True)


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU.

    Raises:
        UserError: there is no such file, or it is not a checkpoint of this course.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no checkpoint at {path}. Train first, or name another file.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError) as error:
        raise UserError(
            f"{path} is not a checkpoint that can be read. It may be cut short or of another "
            "program. Name the file that training wrote, or train again."
        ) from error
    if not isinstance(content, dict) or not isinstance(content.get("model"), dict):
        raise UserError(f"{path} holds no model: expected a checkpoint written by dlrm-mini.")
    return content


def load_weights(model: nn.Module, weights: dict[str, Tensor], source: str | Path) -> None:
    """Copy `weights` into `model` after comparing names and shapes.

    Raises:
        UserError: the weights are another model's; names the first difference, changes nothing.
    """
    check_weights(model, weights, source)
    model.load_state_dict(weights)


def check_weights(model: nn.Module, weights: dict[str, Tensor], source: str | Path) -> None:
    """Raise a UserError unless names and shapes are the model's; names the first difference."""
    mine = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    theirs = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    for name in sorted(mine.keys() | theirs.keys()):
        if mine.get(name) != theirs.get(name):
            found = f"shape {theirs[name]}" if name in theirs else "nothing of that name"
            wanted = f"shape {mine[name]}" if name in mine else "no such tensor"
            raise UserError(
                f"the checkpoint {source} is of another model: for {name!r} it holds {found}, "
                f"{type(model).__name__} expects {wanted}. "
                "Build the model with the sizes it was trained with, or train again."
            )


def _random_state() -> dict[str, Any]:
    """The states of Python's, NumPy's and torch's generators, in types `weights_only` reads."""
    version, words, gauss = random.getstate()
    name, keys, *rest = np.random.get_state()
    return {
        "python": [version, list(words), gauss],
        "numpy": [name, torch.from_numpy(np.asarray(keys, dtype=np.int64)), *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all(),
    }


def _set_random_state(state: dict[str, Any]) -> None:
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])


class Run:
    """The moving parts of one training run, saved and restored together."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        loader: Batches,
        schedule: torch.optim.lr_scheduler.LRScheduler | None = None,
        scaler: torch.amp.GradScaler | None = None,
    ) -> None:
        self.model, self.optimizer, self.loader, self.schedule = model, optimizer, loader, schedule
        self.scaler = scaler

    def save(self, path: Path, extra: dict[str, Any]) -> None:
        """Write all parts, the random state and `extra` to `path`."""
        content = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "loader": self.loader.state_dict(),
            "schedule": self.schedule.state_dict() if self.schedule else None,
            "scaler": self.scaler.state_dict() if self.scaler else None,
            "optimizer_class": type(self.optimizer).__name__,
            "random": _random_state(),
            "extra": extra,
        }
        save(path, content)

    def load(self, path: Path) -> dict[str, Any]:
        """Restore all parts from `path` and return the `extra` that was saved with them."""
        content = load(path)
        if missing := sorted(PARTS - content.keys()):
            raise UserError(
                f"{path} lacks {', '.join(missing)}: it holds a model, but no run to go on with. "
                "Train again, or load its weights only."
            )
        trained_with, given = content["optimizer_class"], type(self.optimizer).__name__
        if trained_with != given:
            raise UserError(
                f"{path} was trained with {trained_with}, and is to go on with {given}. "
                "Use the same optimizer, or train again."
            )
        scaled = content.get("scaler") is not None
        if scaled != (self.scaler is not None):
            raise UserError(
                f"{path} was trained {'in' if scaled else 'without'} float16, and is to go on "
                f"{'without' if scaled else 'in'} it. Use the same precision, or train again."
            )
        check_weights(self.model, content["model"], path)
        try:
            self.optimizer.load_state_dict(content["optimizer"])
        except ValueError as error:
            raise UserError(
                f"the optimizer's state in {path} belongs to other parameters ({error}). A run "
                "with fused tables goes on with fused tables, one with plain tables with plain."
            ) from error
        self.model.load_state_dict(content["model"])  # after what may fail
        self.loader.load_state_dict(content["loader"])
        if self.schedule is not None:
            self.schedule.load_state_dict(content["schedule"])
        if self.scaler is not None:
            self.scaler.load_state_dict(content["scaler"])
        _set_random_state(content["random"])
        extra: dict[str, Any] = content["extra"]
        return extra
