"""What a model is trained with, in one place for the ladders, the chapters and the shell.

A `plan_` function of `click_models`, `rating_models` or `rating_nets` builds the untrained model
with its objective, optimizer and schedule; `Plan.run` trains it. The shell takes the same plan and
runs it epoch by epoch, so both end at the same weights.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from dlrm_mini.datasets.batches import Batch, Loader
from dlrm_mini.training import History, Objective, fit

M = TypeVar("M", bound=nn.Module)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread meanwhile.

    The steps are so small that a second thread saves a seventh of the time at best, and costs many
    times as much when another process wants the core.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class Plan(Generic[M]):
    """An untrained model, and all that the loop needs to train it but the rows.

    Attributes:
        model: with its first weights.
        objective: maps model and batch to what is minimised.
        optimizer: over the model's parameters.
        batch_size: examples in a step.
        epochs: passes over the training rows.
        schedule: of the learning rate, stepped once a batch. None: a constant rate.
    """

    model: M
    objective: Objective
    optimizer: torch.optim.Optimizer
    batch_size: int
    epochs: int
    schedule: LRScheduler | None = None

    @one_thread()
    def run(self, train: Batch, seed: int, *, progress: bool = False, **options: Any) -> History:
        """Train the model in place, on one thread.

        Args:
            train: the training rows.
            seed: of the order of the examples.
            progress: show a bar.
            options: `valid`, `metrics` and `patience` of `training.fit`.
        """
        return fit(
            self.model,
            Loader(train, self.batch_size, shuffle=True, seed=seed),
            objective=self.objective,
            optimizer=self.optimizer,
            schedule=self.schedule,
            epochs=self.epochs,
            progress=progress,
            **options,
        )


def falling(
    optimizer: torch.optim.Optimizer, n_rows: int, batch_size: int, epochs: int
) -> LRScheduler:
    """A schedule by which every rate falls in a straight line, to zero after the last step."""
    steps = epochs * math.ceil(n_rows / batch_size)
    return LambdaLR(optimizer, lambda step: 1 - step / steps)


def penalised(loss: Objective, weights: Mapping[str, float]) -> Objective:
    """A loss plus the squared lengths of the vectors that each example looks up.

    mean over the batch of loss + sum over tables of l2 * sum_f |e_f|^2, with e_f the pooled vector
    of feature f: the penalty of `factorization_machine.regularised_loss`, for a model with
    `EmbeddingTables` inside.

    Args:
        loss: an objective that is a mean over the batch.
        weights: name of the `EmbeddingTables` within the model -> l2. What the model does not have
            costs nothing.
    """

    def objective(model: nn.Module, batch: Batch) -> Tensor:
        caught: list[Tensor] = []  # the penalties, taken as the vectors pass into the model
        hooks = [
            module.register_forward_hook(
                lambda _, __, found, l2=weights[name]: caught.append(
                    l2 * found.square().sum((1, 2)).mean()  # (B, F, D) -> ()
                )
            )
            for name, module in model.named_children()
            if weights.get(name)
        ]
        try:
            value = loss(model, batch)
        finally:  # a bad batch must not leave a hook that later batches pay for
            for hook in hooks:
                hook.remove()
        return value + sum(caught)

    return objective
