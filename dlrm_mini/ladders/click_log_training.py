"""How chapter 07 trains: DLRM with the Kaggle preset's MLPs, on rows in memory or a prepared file.

Three habits are followed; the chapter trains once without the first and once without the second.

- *A prior.* Every number in a table is pulled to zero as by a Gaussian prior of variance 1/`prior`:
  to the summed loss of all training rows comes half of `prior` times its square. A penalty on what
  an example looks up would pull hardest where there is most evidence, and least in the long tail.
- *A warm-up.* Adagrad's first step for a parameter is the whole rate, however small its gradient.
- *A rate that falls to zero*, in a straight line, as in the other ladders.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from dlrm_mini import metrics_streaming as streaming
from dlrm_mini.datasets.batches import Batch
from dlrm_mini.datasets.criteo import Prepared
from dlrm_mini.datasets.criteo_loader import PreparedLoader
from dlrm_mini.interactions import Interaction
from dlrm_mini.ladders.plans import Plan, one_thread
from dlrm_mini.models.dlrm import DLRM
from dlrm_mini.models.dlrm_presets import kaggle
from dlrm_mini.models.factorization_machine import FactorizationMachine
from dlrm_mini.models.mlp import INIT_STD
from dlrm_mini.training import History, fit, logistic_loss, set_seed

M = TypeVar("M", bound=nn.Module)

SCORED = 65_536  # rows at a time
SCORES = {
    "auc": streaming.BinnedAUC,
    "logloss": streaming.LogLoss,
    "ne": streaming.NormalisedEntropy,
    "calibration": streaming.Calibration,
    "ece": streaming.ECE,
}


@dataclass(frozen=True)
class Setting:
    """The hyper-parameters of a DLRM on a click log.

    Attributes:
        bottom: widths of the bottom MLP; the last is that of the tables.
        top: widths of the top MLP; the last is 1.
        interaction: "dot" or "cat".
        threshold: an id needs so many training rows for a table row of its own.
        table_rate: Adagrad's highest learning rate for the tables.
        mlp_rate: the same for the MLPs.
        warm_up: steps in which the rates climb from zero.
        prior: one over the variance of the tables' Gaussian prior; 0: none.
        accumulator: where Adagrad's sums of squared gradients start.
        batch_size: examples in a step.
        epochs: passes over the training rows.
    """

    bottom: tuple[int, ...]
    top: tuple[int, ...]
    interaction: Interaction = "dot"
    threshold: int = 10
    table_rate: float = 0.1
    mlp_rate: float = 0.01
    warm_up: int = 100
    prior: float = 100.0
    accumulator: float = 1e-7
    batch_size: int = 2048
    epochs: int = 2


ROWS = 1_000_000  # to train on, where `CHOSEN` was chosen by hand on validation rows
CHOSEN = Setting(kaggle().bottom, kaggle().top)
FEW = 125_000  # up to so many rows a gentler prior was better
FEW_PRIOR = 30.0
SMALL = replace(CHOSEN, bottom=(64, 16), top=(64, 1))  # where many tables are compared


def build_net(sizes: Mapping[str, int], setting: Setting) -> DLRM:
    """The DLRM of a setting with a table of so many rows for each field."""
    how = {"bottom": setting.bottom, "top": setting.top, "interaction": setting.interaction}
    config = replace(kaggle(), cardinalities=dict(sizes), dim=setting.bottom[-1], **how)  # type: ignore[arg-type]
    return DLRM(config)


def part_setting(rows: int) -> Setting:
    """The hyper-parameters for so many training rows: at least as many steps as a million take."""
    batch_size = min(CHOSEN.batch_size, max(1, CHOSEN.batch_size * rows // ROWS))
    prior = FEW_PRIOR if rows <= FEW else CHOSEN.prior
    return replace(CHOSEN, batch_size=batch_size, prior=prior)


def plan_net(sizes: Mapping[str, int], rows: int, rate: float, setting: Setting) -> Plan[DLRM]:
    """A DLRM on a click log, yet to be trained.

    Args:
        sizes: field -> rows of its table.
        rows: training rows, by which the prior and the schedule are measured.
        rate: share of clicks, where the last bias starts.
        setting: the hyper-parameters.
    """
    model = build_net(sizes, setting)
    for table in model.tables.parameters():
        nn.init.normal_(table, std=INIT_STD)
    output = model.top[-1]
    assert isinstance(output, nn.Linear)
    nn.init.constant_(output.bias, torch.tensor(rate).logit().item())
    tables = list(model.tables.parameters())
    mlps = [*model.bottom.parameters(), *model.top.parameters()]
    groups = [
        {"params": tables, "lr": setting.table_rate, "weight_decay": setting.prior / rows},
        {"params": mlps, "lr": setting.mlp_rate},
    ]
    return _plan(model, groups, rows, setting)


def plan_lr(
    sizes: Mapping[str, int], n_dense: int, rows: int, rate: float, setting: Setting
) -> Plan[FactorizationMachine]:
    """Logistic regression on every id and dense column by itself, treated like DLRM's tables.

    Args:
        sizes: field -> rows of its table.
        n_dense: dense columns.
        rows: training rows; as `plan_net`.
        rate: share of clicks, where the bias starts.
        setting: the hyper-parameters; of its rates that of the tables.
    """
    bias = torch.tensor(rate).logit().item()
    model = FactorizationMachine(dict(sizes), 1, n_dense=n_dense, bias=bias, init_std=0.0)
    for vectors in (*model.vectors.parameters(), model.dense_vectors):
        vectors.requires_grad_(False)  # zero, and so they stay
    tables = list(model.linear.parameters())
    groups = [
        {"params": tables, "lr": setting.table_rate, "weight_decay": setting.prior / rows},
        {"params": [model.bias, model.dense_linear], "lr": setting.table_rate},
    ]
    return _plan(model, groups, rows, setting)


def _plan(model: M, groups: list[dict[str, Any]], rows: int, setting: Setting) -> Plan[M]:
    """Adagrad with rates that climb and then fall."""
    optimizer = torch.optim.Adagrad(groups, initial_accumulator_value=setting.accumulator)
    steps = setting.epochs * -(-rows // setting.batch_size)
    schedule = LambdaLR(
        optimizer, lambda step: min((step + 1) / (setting.warm_up + 1), 1) * (1 - step / steps)
    )
    return Plan(model, logistic_loss, optimizer, setting.batch_size, setting.epochs, schedule)


def fit_net(
    train: Batch, sizes: Mapping[str, int], seed: int, setting: Setting | None = None
) -> DLRM:
    """Fit a DLRM.

    Args:
        train: the training rows.
        sizes: field -> rows of its table.
        seed: of the first weights and of the order of the rows.
        setting: the hyper-parameters; None: `part_setting` of the training rows.
    """
    set_seed(seed)
    rows, rate = len(train), float(train.labels.mean())
    plan = plan_net(sizes, rows, rate, setting or part_setting(rows))
    plan.run(train, seed)
    return plan.model


def fit_lr(train: Batch, sizes: Mapping[str, int], seed: int) -> FactorizationMachine:
    """Fit logistic regression on the dense columns and on every id by itself; as `fit_net`."""
    set_seed(seed)
    rows, rate = len(train), float(train.labels.mean())
    plan = plan_lr(sizes, train.dense.shape[1], rows, rate, part_setting(rows))
    plan.run(train, seed)
    return plan.model


def plan_prepared(prepared: Prepared, setting: Setting) -> Plan[DLRM]:
    """A DLRM for a prepared click log, yet to be trained; its rules, not `threshold`, decide ids.

    Args:
        prepared: what `python -m dlrm_mini criteo prepare` made.
        setting: the hyper-parameters.
    """
    rows = prepared.splits["train"]
    labels = prepared.labels[prepared.rows("train", 0, rows)]
    return plan_net(prepared.cardinalities, rows, float(labels.mean()), setting)


@one_thread()
def fit_prepared(
    prepared: Prepared,
    seed: int = 0,
    setting: Setting | None = None,
    *,
    checkpoint: Path | None = None,
    resume: bool = False,
    progress: bool = True,
) -> tuple[DLRM, History]:
    """Fit the same DLRM to a prepared click log, generated or Criteo's own.

    Args:
        prepared: what `python -m dlrm_mini criteo prepare` made; its rules decide the ids, not the
            setting's threshold.
        seed: of the first weights and of the order of the rows.
        setting: the hyper-parameters; None: `part_setting` of the training rows.
        checkpoint: file that is rewritten after every epoch.
        resume: go on from it when it exists.
        progress: show a bar.
    """
    set_seed(seed)
    setting = setting or part_setting(prepared.splits["train"])
    loader = PreparedLoader(prepared, "train", setting.batch_size, seed=seed)
    plan = plan_prepared(prepared, setting)
    history = fit(
        plan.model,
        loader,
        objective=plan.objective,
        optimizer=plan.optimizer,
        schedule=plan.schedule,
        epochs=plan.epochs,
        checkpoint=checkpoint,
        resume=resume,
        progress=progress,
    )
    return plan.model, history


@torch.no_grad()
def score_prepared(model: nn.Module, prepared: Prepared, split: str = "test") -> dict[str, float]:
    """`SCORES` of one split, batch by batch.

    Args:
        model: gives logits.
        prepared: a prepared click log.
        split: "train", "valid" or "test".
    """
    found: dict[str, Any] = {name: metric() for name, metric in SCORES.items()}
    model.eval()
    device = next(model.parameters()).device
    for batch in PreparedLoader(prepared, split, SCORED, shuffle=False):
        logits = model(batch.to(device)).cpu()
        for metric in found.values():
            metric.update(logits, batch.labels)
    return {name: metric.value() for name, metric in found.items()}
