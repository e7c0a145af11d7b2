"""The loop of one rank: its share of every batch, a step, and a sharded checkpoint.

All ranks read the same batches, in the same order, and each takes its share of every one. So the
batches of a run do not depend on the number of ranks, and a run may go on with another.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from dlrm_mini.datasets.batches import Batch, Batches
from dlrm_mini.epochs import TrainingDivergedError
from dlrm_mini.errors import UserError
from dlrm_mini.parallel import sharded_checkpoints
from dlrm_mini.parallel.communicator import Communicator
from dlrm_mini.parallel.sharded_model import ShardedDLRM, rows_of, share


class Step(Protocol):
    """What moves the weights: a `ShardedStep`, or another engine's."""

    def step(self, batch: Batch | None) -> float | None:
        """The loss of all ranks' rows; None when all say None, and the epoch has ended."""


class Trainer:
    """Trains one rank's part of a model, epoch by epoch. Every rank makes one.

    Args:
        step: of the model.
        batches: whole ones, the same on every rank.
        communicator: this rank's.
        schedule: of the learning rate, stepped once a batch.
        folder: for sharded checkpoints, one that all ranks see; None: none are written.
        every: steps between checkpoints within an epoch; None: only at its end.

    Attributes:
        rows: one dict for each epoch that has ended, with `epoch` and `loss`, the mean over its
            rows, and what `watch` gave.
        note: what else the checkpoints are to hold.

    Example:
        >>> trainer = Trainer(ShardedStep(model, optimizer), loader, communicator, folder=folder)
        >>> trainer.resume()  # if there is something to go on from
        >>> trainer.train(epochs=4)
    """

    def __init__(
        self,
        step: Step,
        batches: Batches,
        communicator: Communicator,
        *,
        schedule: torch.optim.lr_scheduler.LRScheduler | None = None,
        folder: Path | None = None,
        every: int | None = None,
    ) -> None:
        if every is not None and every < 1:
            raise UserError(f"every is {every}; expected at least 1 step between checkpoints.")
        self.step, self.batches, self.communicator = step, batches, communicator
        self.schedule, self.folder, self.every = schedule, folder, every
        self.note: dict[str, Any] = {}
        self.rows: list[dict[str, float]] = []
        self._done, self._loss, self._seen = 0, 0.0, 0  # of this epoch: steps, summed loss, rows

    def train(
        self, epochs: int, watch: Callable[[], dict[str, float]] | None = None
    ) -> list[dict[str, float]]:
        """Go on until so many epochs have ended, those before a resume included; their `rows`.

        Args:
            epochs: in all.
            watch: measures after each epoch; every rank calls it.

        Raises:
            TrainingDivergedError: the loss is not finite; on every rank.
            UserError: what a step or a checkpoint cannot do, or a rank that has gone.
        """
        while self.batches.epoch < epochs:
            loss = self._epoch()
            row = {"epoch": self.batches.epoch, "loss": loss}
            self.rows.append(row | (watch() if watch else {}))
            self._keep()
        return self.rows

    def resume(self) -> bool:
        """Go on from the folder's checkpoint, whatever plan and number of ranks wrote it.

        Returns:
            Whether there was one; if not, nothing has changed.

        Raises:
            UserError: as `sharded_checkpoints.load`.
        """
        if self.folder is None:
            return False
        there = torch.tensor([int(sharded_checkpoints.exists(self.folder))])
        if not int(self.communicator.broadcast(there)[0]):
            return False
        step: Any = self.step
        state = sharded_checkpoints.load(self.folder, step.model, step.optimizer, self.communicator)
        self.batches.load_state_dict(state["batches"])
        if self.schedule is not None:
            self.schedule.load_state_dict(state["schedule"])
        self.rows, self.note = list(state["rows"]), state["note"]
        self._done, self._loss, self._seen = state["within"]
        return True

    def _epoch(self) -> float:
        """The rest of this epoch; the loss, averaged over its rows."""
        batches = itertools.islice(iter(self.batches), self._done, None)
        while True:
            batch = next(batches, None)
            mine = None if batch is None else share(batch, self.communicator)
            loss = self.step.step(mine)
            if loss is None or batch is None:
                break
            self._done += 1
            if not math.isfinite(loss):
                where = f"step {self._done} of epoch {self.batches.epoch + 1}"
                raise TrainingDivergedError(
                    f"the loss is {loss} at {where}. Try a tenth of the learning rate first, and "
                    "look for huge or missing dense features. The weights have moved by this step "
                    "and cannot be used any more: go on from a checkpoint, or begin anew."
                )
            if self.schedule is not None:
                self.schedule.step()
            self._loss, self._seen = self._loss + loss * len(batch), self._seen + len(batch)
            if self.every is not None and self._done % self.every == 0:
                self._keep()
        mean = self._loss / max(self._seen, 1)
        self._done, self._loss, self._seen = 0, 0.0, 0
        return mean

    def _keep(self) -> None:
        if self.folder is None:
            return
        state = {
            "batches": self.batches.state_dict(),
            "schedule": self.schedule.state_dict() if self.schedule else None,
            "rows": self.rows,
            "within": [self._done, self._loss, self._seen],
            "note": self.note,
        }
        step: Any = self.step
        sharded_checkpoints.save(self.folder, step.model, step.optimizer, self.communicator, state)


class Together(nn.Module):
    """A split model that all ranks ask the same: a whole batch in, all its logits out.

    With it, whatever measures a model on one device measures one on several, as long as every rank
    does the same.

    Args:
        model: this rank's part.
    """

    def __init__(self, model: ShardedDLRM) -> None:
        super().__init__()
        self.model, self.communicator = model, model.communicator

    @torch.no_grad()
    def forward(self, batch: Batch) -> Tensor:
        """The logits (B,), the same on every rank."""
        size = self.communicator.size
        counts = [
            last - first for first, last in (rows_of(len(batch), r, size) for r in range(size))
        ]
        mine = self.model(share(batch, self.communicator))
        padded = mine.new_zeros(max(counts))
        padded[: len(mine)] = mine
        parts = torch.split(self.communicator.all_gather(padded), max(counts))
        return torch.cat([part[:n] for part, n in zip(parts, counts, strict=True)])
