"""One pass over the training rows, without making a GPU wait for the host."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from dlrm_mini import devices
from dlrm_mini.datasets.batches import Batches
from dlrm_mini.errors import UserError
from dlrm_mini.prefetching import Prefetched
from dlrm_mini.training_step import TrainingStep


class TrainingDivergedError(UserError):
    """The loss became infinite or not a number; the message names the step and what to try."""


def one_epoch(
    step: TrainingStep,
    train: Batches,
    schedule: torch.optim.lr_scheduler.LRScheduler | None,
    epoch: int,
) -> float:
    """One pass over the training rows; returns the objective averaged over them.

    To look at a loss is to wait for it. On a CPU that costs nothing, and comes before the weights
    move; a GPU would be idle until the host has gone on, so there it comes a step late.

    Args:
        step: what moves the model.
        train: the batches.
        schedule: stepped once a batch.
        epoch: its number, for the message.

    Raises:
        TrainingDivergedError: a loss is not finite.
    """
    late, pending = _looks_late(step.device), None
    total, rows = 0.0, 0

    def look(found: _Found) -> None:
        nonlocal total, rows
        found.wait()
        value = found.loss.item()
        if not math.isfinite(value):
            where = f"step {found.number} of {len(train)} in epoch {epoch}"
            raise TrainingDivergedError(_diverged(value, where, step.optimizer, late))
        total, rows = total + value * found.size, rows + found.size

    for number, batch in enumerate(Prefetched(train, step.device), start=1):
        loss = step.forward(batch)
        if not late:
            look(_Found(number, len(batch), loss, lambda: None))
        step.backward(loss)
        if schedule is not None:
            schedule.step()
        if late:
            copied = loss.detach().to("cpu", non_blocking=True)
            found = _Found(number, len(batch), copied, devices.waiter(step.device))
            if pending is not None:
                look(pending)
            pending = found
    if pending is not None:
        look(pending)
    return total / max(rows, 1)


def _looks_late(device: torch.device) -> bool:
    return device.type == "cuda"


class _Found(NamedTuple):
    """A loss on its way to the host: that of step `number`, over `size` rows."""

    number: int
    size: int
    loss: Tensor
    wait: Callable[[], None]


def _diverged(value: float, where: str, optimizer: torch.optim.Optimizer, late: bool) -> str:
    rate = optimizer.param_groups[0]["lr"]
    weights = (
        "It was looked at when the next step was under way, so the weights have moved by it and "
        "cannot be used any more: go on from a checkpoint, or build the model anew."
        if late
        else "The weights are from before this step."
    )
    return (
        f"the loss is {value} at {where}. Try a learning rate below {rate:g} (a tenth of it first) "
        f"or clip gradients, and look for huge or missing dense features. {weights}"
    )
