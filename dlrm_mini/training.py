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
from dlrm_mini.epochs import TrainingDivergedError, one_epoch
from dlrm_mini.errors import UserError
from dlrm_mini.progress import bar
from dlrm_mini.sparse_rules import check_sparse
from dlrm_mini.training_step import (
    DensePart,
    Objective,
    Precision,
    TrainingStep,
    logistic_loss,
)

__all__ = [
    "History", "Metric", "Objective", "TrainingDivergedError", "evaluate", "fit", "logistic_loss",
    "predict", "set_seed", "squared_error",
]  # fmt: skip

Metric = Callable[[Tensor, Tensor], float]

HIGHER_IS_BETTER = ("auc", "accuracy")


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
    precision: Precision = "float32",
    dense_part: DensePart = "eager",
    scaler: torch.amp.GradScaler | None = None,
) -> History:
    """Train `model` in place and return what was measured.

    On a GPU, the next batch is copied while a step is at work, and a loss is looked at when the
    next step is under way.

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
        precision: of the products in training, see `TrainingStep`; metrics are float32's.
        dense_part: how a DLRM's MLPs and interaction run in training.
        scaler: of float16's losses, where the caller saves it; None: one that `checkpoint` holds.

    Raises:
        TrainingDivergedError: the loss is not finite. On a CPU the weights are from before that
            step, on a GPU they are lost.
        UserError: `patience` without `valid` and `metrics`; `metrics` without rows in memory; a
            checkpoint that does not fit; tables with sparse gradients and an optimizer that would
            have to move their other rows as well; fused tables with another optimizer; a choice
            that this model or device does not have.
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
    step = TrainingStep(
        model, optimizer, objective, precision=precision, dense_part=dense_part, scaler=scaler
    )
    run = checkpoints.Run(model, optimizer, train, schedule, step.scaler)
    history, best = History(), _Best(next(iter(metrics), ""))
    if resume and checkpoint is not None and checkpoint.exists():
        extra = run.load(checkpoint)
        if (before := extra.get("precision", "float32")) != precision:
            raise UserError(
                f"{checkpoint} was trained in {before}, and is to go on in {precision}. Go on with "
                f"precision={before!r}, or train again."
            )
        history, best.state = History(**extra["history"]), extra["best"]
    first, started = train.epoch, time.perf_counter() - history.seconds
    with bar(total=epochs, initial=first, desc="fit", unit="epoch", disable=not progress) as pbar:
        for epoch in range(first + 1, epochs + 1):
            if patience is not None and epoch - 1 - best.epoch >= patience:
                break
            model.train()
            loss = one_epoch(step, train, schedule, epoch)
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
                extra = {"history": vars(history), "best": best.state, "precision": precision}
                run.save(checkpoint, extra)
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
