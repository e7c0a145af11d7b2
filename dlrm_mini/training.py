"""One fit loop for every model of the course.

A model maps a `Batch` to predictions (B,), an objective maps model and batch to a scalar, and `fit`
does the rest in the open: step, measure, stop early, save. It does not know which model it trains.
"""

import copy
import math
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from dlrm_mini import checkpoints, style
from dlrm_mini.datasets.batches import Batch, Batches, Loader
from dlrm_mini.embeddings import FusedEmbeddingTables
from dlrm_mini.errors import UserError
from dlrm_mini.progress import bar
from dlrm_mini.sparse_rules import check_sparse

Objective = Callable[[nn.Module, Batch], Tensor]
Metric = Callable[[Tensor, Tensor], float]

HIGHER_IS_BETTER = ("auc", "accuracy")


class TrainingDivergedError(UserError):
    """The loss became infinite or not a number; the message names the step and what to try."""


@dataclass
class History:
    """What a training run measured, one row per epoch, split and metric.

    Attributes:
        rows: dicts with `epoch` (from 1), `split` ("train" or "valid"), `metric`, `value`.
        best_epoch: the epoch whose weights the model holds after `fit`.
        seconds: wall time of the epochs, evaluation included.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int = 0
    seconds: float = 0.0

    @property
    def table(self) -> pd.DataFrame:
        """The rows as a tidy data frame."""
        return pd.DataFrame(self.rows, columns=["epoch", "split", "metric", "value"])

    def values(self, metric: str, split: str = "valid") -> list[float]:
        """One metric on one split, in the order of the epochs."""
        return [r["value"] for r in self.rows if (r["metric"], r["split"]) == (metric, split)]

    def plot(self, metric: str, *, title: str | None = None) -> Figure:
        """The learning curve of one metric on every split it was measured on, best epoch marked."""
        figure = Figure(figsize=(8, 3.6), layout="constrained")
        axes = figure.subplots()
        table = self.table.query("metric == @metric")
        for (split, part), colour in zip(table.groupby("split"), style.PALETTE, strict=False):
            axes.plot(part["epoch"], part["value"], marker="o", color=colour, label=split)
        axes.axvline(self.best_epoch, color=style.GREY, linestyle=":", label="weights kept")
        axes.set(xlabel="epoch", ylabel=metric, title=title or f"{metric} by epoch")
        axes.legend()
        return figure


def set_seed(seed: int) -> None:
    """Seed Python's, NumPy's and torch's generators, on every device."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def squared_error(model: nn.Module, batch: Batch) -> Tensor:
    """Mean squared error of the model's ratings: the objective without regularisation."""
    return nn.functional.mse_loss(model(batch), batch.labels)


def logistic_loss(model: nn.Module, batch: Batch) -> Tensor:
    """Mean logloss of the model's logits: the objective for clicks."""
    return nn.functional.binary_cross_entropy_with_logits(model(batch), batch.labels)


@torch.no_grad()
def predict(model: nn.Module, data: Batch, batch_size: int = 65_536) -> Tensor:
    """The model's output for every row of `data`, (N,) float32 on the CPU, in evaluation mode."""
    was_training, device = model.training, _device(model)
    model.eval()
    parts = [model(batch.to(device)).cpu() for batch in Loader(data, batch_size)]
    model.train(was_training)
    return torch.cat(parts) if parts else torch.empty(0)


def evaluate(model: nn.Module, data: Batch, metrics: Mapping[str, Metric]) -> dict[str, float]:
    """Every metric of `metrics` on `data`."""
    prediction = predict(model, data)
    return {name: metric(prediction, data.labels) for name, metric in metrics.items()}


def fit(
    model: nn.Module,
    train: Batches,
    *,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    epochs: int,
    valid: Batch | None = None,
    metrics: Mapping[str, Metric] | None = None,
    patience: int | None = None,
    schedule: torch.optim.lr_scheduler.LRScheduler | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
    progress: bool = True,
) -> History:
    """Train `model` in place and return what was measured.

    Args:
        model: maps a `Batch` to predictions (B,).
        train: the training rows, cut into batches; its epoch counter goes on where it stands.
        objective: maps model and batch to the scalar that is minimised.
        optimizer: any torch optimizer over the model's parameters.
        epochs: passes over the training rows in all, those before a resume included.
        valid: rows that choose the epoch and are never trained on.
        metrics: name -> function of (prediction (N,), label (N,)), measured after each epoch on the
            training rows and on `valid`; the first one is watched by `patience`. Only for a `train`
            that has all its rows as `data`, as a `Loader` has.
        patience: stop after this many epochs without a better first metric on `valid`, and put the
            best epoch's weights back. None: run all epochs and keep the last weights.
        schedule: a learning-rate schedule, stepped once a batch.
        checkpoint: file that is rewritten after every epoch.
        resume: go on from `checkpoint` when it exists; the weights then end bit for bit where an
            uninterrupted run on the same machine ends.
        progress: show a bar.

    Raises:
        TrainingDivergedError: the loss is not finite.
        UserError: `patience` without `valid` and `metrics`; `metrics` without rows in memory; a
            checkpoint that does not fit; tables with sparse gradients and an optimizer that would
            have to move their other rows as well; fused tables with another optimizer.
    """
    metrics = dict(metrics or {})
    if patience is not None and (valid is None or not metrics):
        raise UserError("early stopping (patience) needs both `valid` rows and `metrics` to watch.")
    data = getattr(train, "data", None)
    if metrics and not isinstance(data, Batch):
        raise UserError(
            f"metrics ({', '.join(metrics)}) are measured on the training rows in memory, and a "
            f"{type(train).__name__} has no `data`. Give a Loader, or leave metrics out and "
            "measure afterwards."
        )
    _check_tables(model, optimizer)
    run = checkpoints.Run(model, optimizer, train, schedule)
    history, best = History(), _Best(next(iter(metrics), ""))
    if resume and checkpoint is not None and checkpoint.exists():
        extra = run.load(checkpoint)
        history, best.state = History(**extra["history"]), extra["best"]
    first, started = train.epoch, time.perf_counter() - history.seconds
    with bar(total=epochs, initial=first, desc="fit", unit="epoch", disable=not progress) as pbar:
        for epoch in range(first + 1, epochs + 1):
            if patience is not None and epoch - 1 - best.epoch >= patience:
                break
            model.train()
            loss = _one_epoch(model, train, objective, optimizer, schedule, epoch)
            measured = {"train": {"loss": loss}}
            if isinstance(data, Batch) and metrics:
                measured["train"] |= evaluate(model, data, metrics)
            if metrics and valid is not None:
                measured["valid"] = evaluate(model, valid, metrics)
            history.rows += [
                {"epoch": epoch, "split": split, "metric": name, "value": value}
                for split, values in measured.items()
                for name, value in values.items()
            ]
            if patience is not None:
                best.offer(epoch, measured["valid"][best.metric], model)
            history.best_epoch = epoch if patience is None else best.epoch
            history.seconds = time.perf_counter() - started
            if checkpoint is not None:
                run.save(checkpoint, {"history": vars(history), "best": best.state})
            last = measured.get("valid") or measured["train"]
            pbar.set_postfix({name: f"{value:.4f}" for name, value in last.items()}, refresh=False)
            pbar.update()
    if patience is not None and best.weights is not None:
        model.load_state_dict(best.weights)
    return history


def _check_tables(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Raise a UserError unless the optimizer can and will update the model's embedding tables."""
    for module in model.modules():
        if isinstance(module, FusedEmbeddingTables) and module.optimizer is not optimizer:
            raise UserError(
                "The model's fused tables are updated by "
                f"{'nobody' if module.optimizer is None else 'another optimizer'}, whose learning "
                "rate and state this run would neither schedule nor save. Call "
                "model.tables.fuse(optimizer) with the optimizer that is given to fit."
            )
        if getattr(module, "sparse_gradient", False):
            check_sparse(optimizer, getattr(module, "tables", module).parameters())


def _one_epoch(
    model: nn.Module,
    train: Batches,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler | None,
    epoch: int,
) -> float:
    """One pass over the training rows; returns the objective averaged over them."""
    device, total, rows = _device(model), 0.0, 0
    for step, batch in enumerate(train, start=1):
        optimizer.zero_grad(set_to_none=True)
        loss = objective(model, batch.to(device))
        value = loss.item()
        if not math.isfinite(value):
            rate = optimizer.param_groups[0]["lr"]
            raise TrainingDivergedError(
                f"the loss is {value} at step {step} of {len(train)} in epoch {epoch}. Try a "
                f"learning rate below {rate:g} (a tenth of it first) or clip gradients, and look "
                "for huge or missing dense features. The weights are from before this step."
            )
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if schedule is not None:
            schedule.step()
        total, rows = total + value * len(batch), rows + len(batch)
    return total / max(rows, 1)


class _Best:
    """The best epoch so far and its weights, in a form that a checkpoint can hold."""

    def __init__(self, metric: str) -> None:
        self.metric = metric
        self.sign = 1.0 if metric in HIGHER_IS_BETTER else -1.0
        self.state: dict[str, Any] = {"epoch": 0, "score": -math.inf, "weights": None}

    @property
    def epoch(self) -> int:
        return int(self.state["epoch"])

    @property
    def weights(self) -> dict[str, Tensor] | None:
        return self.state["weights"]  # type: ignore[no-any-return]

    def offer(self, epoch: int, value: float, model: nn.Module) -> None:
        if self.sign * value > self.state["score"]:
            weights = copy.deepcopy(model.state_dict())
            self.state = {"epoch": epoch, "score": self.sign * value, "weights": weights}


def _device(model: nn.Module) -> torch.device:
    return next((p.device for p in model.parameters()), torch.device("cpu"))
