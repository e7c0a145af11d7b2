"""How each rung of the click ladder is fitted, with the hyper-parameters that the search chose.

The chapters, the ladder, the benchmark and the shell call these functions, so that all measure the
same thing:

    task = click_task(ml, split)
    model, history = fit_dlrm(task, seed=0, setting=CHOSEN["random"]["dlrm"])

All models share one recipe: Adagrad, a rate that falls in a straight line to zero, and a penalty on
the vectors that an example looks up. Two things matter more than they seem to. At a constant rate
the logloss jumps up and down between epochs by more than two rungs are apart. And Adagrad's first
step for a parameter is the whole rate, however small its gradient: a movie's vector would leap at
its first rating. A sum of squared gradients that does not start at zero (`accumulator`) softens it.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from dlrm_mini import metrics
from dlrm_mini.datasets.batches import Batch, SparseFeatures
from dlrm_mini.datasets.clicks import ClickTask
from dlrm_mini.embeddings import EmbeddingTables
from dlrm_mini.ladders.click_settings import CHOSEN, FMSetting, NetSetting
from dlrm_mini.ladders.plans import Plan, falling, penalised
from dlrm_mini.models.baselines import Biases
from dlrm_mini.models.dlrm import DLRM
from dlrm_mini.models.dlrm_config import DLRMConfig
from dlrm_mini.models.factorization_machine import FactorizationMachine, regularised_loss
from dlrm_mini.models.mlp import INIT_STD, EmbeddingMLP
from dlrm_mini.training import History, Objective, logistic_loss, set_seed

__all__ = ["CHOSEN", "FITTERS", "METRICS", "FMSetting", "Fitter", "NetSetting"]

M = TypeVar("M", bound=nn.Module)
N = TypeVar("N", EmbeddingMLP, DLRM)

L2_LINEAR = 3e-4  # of a `WideDLRM`, per example: what the search chose for the FM's linear weights
METRICS = {"auc": metrics.auc, "logloss": metrics.logloss, "ne": metrics.normalised_entropy}

# Of a task, a seed and a setting, and optionally valid= rows; all fit_ functions below are of it.
Fitter = Callable[..., tuple[nn.Module, History]]


def fit_constant(task: ClickTask, seed: int = 0, setting: None = None) -> tuple[Biases, History]:
    """The log-odds of the training rows for everyone and everything; the seed changes nothing."""
    users, items = (torch.zeros(task.cardinalities[name]) for name in ("user", "item"))
    return Biases(_log_odds(task), users, items), History()


def fit_fm(
    task: ClickTask, seed: int, setting: FMSetting, valid: Batch | None = None
) -> tuple[FactorizationMachine, History]:
    """Fit a factorization machine of all features; with dim 0, logistic regression.

    Args:
        task: the rows to learn from, and what they look like.
        seed: of the first weights and of the order of the examples.
        setting: the hyper-parameters, such as `CHOSEN["random"]["fm"]`.
        valid: rows that are not trained on and are measured after each epoch; they decide nothing.

    Returns:
        The model, whose `forward` gives logits, and its history.
    """
    set_seed(seed)
    return _run(plan_fm(task, setting), task, seed, valid)


def fit_mf(
    task: ClickTask, seed: int, setting: FMSetting, valid: Batch | None = None
) -> tuple["IdsOnly", History]:
    """Fit matrix factorization, as a factorization machine of user and item; see `fit_fm`."""
    valid = None if valid is None else ids_only(valid)
    model, history = fit_fm(only_ids(task), seed, setting, valid)
    return IdsOnly(model), history


def fit_mlp(
    task: ClickTask, seed: int, setting: NetSetting, valid: Batch | None = None
) -> tuple[EmbeddingMLP, History]:
    """Fit an MLP on the concatenated vectors and dense columns; see `fit_fm`."""
    set_seed(seed)
    return _run(plan_mlp(task, setting), task, seed, valid)


def fit_dlrm(
    task: ClickTask,
    seed: int,
    setting: NetSetting,
    valid: Batch | None = None,
    kind: type[DLRM] = DLRM,
) -> tuple[DLRM, History]:
    """Fit a DLRM, or a `kind` of it for an ablation; see `fit_fm`."""
    set_seed(seed)
    return _run(plan_dlrm(task, setting, kind), task, seed, valid)


def plan_fm(task: ClickTask, setting: FMSetting) -> Plan[FactorizationMachine]:
    """A factorization machine of all features, yet to be trained; with dim 0, logistic regression.

    Args:
        task: whose training rows say where the model starts and how fast the rate falls.
        setting: the hyper-parameters.
    """
    model = FactorizationMachine(
        task.cardinalities,
        max(setting.dim, 1),
        n_dense=task.train.dense.shape[1],
        bias=_log_odds(task),
        init_std=INIT_STD if setting.dim else 0.0,
    )
    if not setting.dim:  # vectors of zeros have gradients of zero; nothing has to compute them
        model.vectors.requires_grad_(False)
        model.dense_vectors.requires_grad_(False)
    groups = [{"params": [p for p in model.parameters() if p.requires_grad], "lr": setting.rate}]
    objective = regularised_loss("logistic", setting.l2, setting.l2_linear)
    return _plan(model, task, setting, objective, groups)


def plan_mlp(task: ClickTask, setting: NetSetting) -> Plan[EmbeddingMLP]:
    """An MLP on the concatenated vectors and dense columns, yet to be trained; see `plan_fm`."""
    model = EmbeddingMLP(
        task.cardinalities,
        setting.dim,
        setting.top,
        n_dense=task.train.dense.shape[1],
        dropout=setting.dropout,
        bias=_log_odds(task),
    )
    return _plan_net(model, task, setting)


def plan_dlrm(task: ClickTask, setting: NetSetting, kind: type[DLRM] = DLRM) -> Plan[DLRM]:
    """A DLRM, yet to be trained; see `plan_fm`.

    It starts where the other models start: small vectors, and the log-odds of a click in the last
    bias.
    """
    model = kind(
        DLRMConfig(
            task.train.dense.shape[1],
            task.cardinalities,
            setting.dim,
            bottom=(*setting.bottom, setting.dim),
            top=(*setting.top, 1),
            interaction=setting.interaction,
            dropout=setting.dropout,
        )
    )
    for table in model.tables.parameters():
        nn.init.normal_(table, std=INIT_STD)
    output = model.top[-1]
    assert isinstance(output, nn.Linear)
    nn.init.constant_(output.bias, _log_odds(task))
    return _plan_net(model, task, setting)


def _plan_net(model: N, task: ClickTask, setting: NetSetting) -> Plan[N]:
    """For a model with tables and MLPs, each with a rate of their own."""
    parts: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, parameter in model.named_parameters():
        parts["tables." in name].append(parameter)
    groups = [
        {"params": parts[True], "lr": setting.table_rate},
        {"params": parts[False], "lr": setting.mlp_rate},
    ]
    objective = penalised(logistic_loss, {"tables": setting.l2, "linear": L2_LINEAR})
    return _plan(model, task, setting, objective, groups)


def _plan(
    model: M,
    task: ClickTask,
    setting: FMSetting | NetSetting,
    objective: Objective,
    groups: list[dict[str, Any]],
) -> Plan[M]:
    """Adagrad with rates that fall to zero."""
    optimizer = torch.optim.Adagrad(groups, initial_accumulator_value=setting.accumulator)
    schedule = falling(optimizer, len(task.train), setting.batch_size, setting.epochs)
    return Plan(model, objective, optimizer, setting.batch_size, setting.epochs, schedule)


def _run(plan: Plan[M], task: ClickTask, seed: int, valid: Batch | None) -> tuple[M, History]:
    """Train a plan's model."""
    measured = None if valid is None else METRICS
    return plan.model, plan.run(task.train, seed, valid=valid, metrics=measured)


class WideDLRM(DLRM):
    """A DLRM and, beside it, what it has no place for: a linear weight for each id and column.

    A factorization machine has these weights, and so has the wide part of Wide & Deep (Cheng et al.
    2016). They start at zero.
    """

    def __init__(self, config: DLRMConfig) -> None:
        super().__init__(config)
        self.linear = EmbeddingTables(config.cardinalities, 1, init_std=0.0, check=False)
        self.linear_dense = nn.Linear(config.n_dense, 1, bias=False)
        nn.init.zeros_(self.linear_dense.weight)

    def forward(self, batch: Batch) -> Tensor:
        """The logits (B,) of a batch."""
        of_ids = self.linear(batch.sparse).sum((1, 2))  # (B, F, 1) -> (B,)
        of_columns = self.linear_dense(batch.dense).squeeze(1)  # (B, n_dense) -> (B,)
        logits: Tensor = super().forward(batch) + of_ids + of_columns
        return logits


class IdsOnly(nn.Module):
    """A model of user and item alone, which takes batches with all features."""

    def __init__(self, model: FactorizationMachine) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> Tensor:
        """The logits (B,) of a batch."""
        logits: Tensor = self.model(ids_only(batch))
        return logits


def ids_only(batch: Batch) -> Batch:
    """The same rows with user and item as the only features, and no dense column."""
    columns = {name: batch.sparse.ids(name) for name in ("user", "item")}
    return Batch(batch.dense[:, :0], SparseFeatures.from_columns(columns), batch.labels)


def only_ids(task: ClickTask) -> ClickTask:
    """The same task with user and item as the only features."""
    sizes = {name: task.cardinalities[name] for name in ("user", "item")}
    return ClickTask(ids_only(task.train), ids_only(task.test), sizes, ())


def _log_odds(task: ClickTask) -> float:
    """The log-odds of a click among the training rows."""
    return float(task.train.labels.double().mean().logit())


FITTERS: dict[str, Fitter] = {
    "constant": fit_constant,
    "lr": fit_fm,
    "mf": fit_mf,
    "fm": fit_fm,
    "mlp": fit_mlp,
    "dlrm": fit_dlrm,
}
