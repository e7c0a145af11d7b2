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

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from dlrm_mini import metrics
from dlrm_mini.datasets.batches import Batch, Loader, SparseFeatures
from dlrm_mini.datasets.clicks import ClickTask
from dlrm_mini.ladders.click_settings import CHOSEN, FMSetting, NetSetting
from dlrm_mini.models.baselines import Biases
from dlrm_mini.models.dlrm import DLRM
from dlrm_mini.models.dlrm_config import DLRMConfig
from dlrm_mini.models.factorization_machine import FactorizationMachine, regularised_loss
from dlrm_mini.models.mlp import INIT_STD, EmbeddingMLP
from dlrm_mini.training import History, Objective, fit, logistic_loss, set_seed

__all__ = ["CHOSEN", "FITTERS", "METRICS", "FMSetting", "Fitter", "NetSetting"]

METRICS = {"auc": metrics.auc, "logloss": metrics.logloss, "ne": metrics.normalised_entropy}

# Of a task, a seed and a setting, and optionally valid= rows; all fit_ functions below are of it.
Fitter = Callable[..., tuple[nn.Module, History]]


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread meanwhile: the steps are too small to share."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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
    model = FactorizationMachine(
        task.cardinalities,
        max(setting.dim, 1),
        n_dense=len(task.dense_names),
        bias=_log_odds(task),
        init_std=INIT_STD if setting.dim else 0.0,
    )
    if not setting.dim:  # vectors of zeros have gradients of zero; nothing has to compute them
        model.vectors.requires_grad_(False)
        model.dense_vectors.requires_grad_(False)
    groups = [{"params": [p for p in model.parameters() if p.requires_grad], "lr": setting.rate}]
    objective = regularised_loss("logistic", setting.l2, setting.l2_linear)
    return model, _train(model, task, seed, setting, objective, groups, valid)


def fit_mf(
    task: ClickTask, seed: int, setting: FMSetting, valid: Batch | None = None
) -> tuple["IdsOnly", History]:
    """Fit matrix factorization, as a factorization machine of user and item; see `fit_fm`."""
    sizes = {name: task.cardinalities[name] for name in ("user", "item")}
    small = ClickTask(ids_only(task.train), ids_only(task.test), sizes, ())
    model, history = fit_fm(small, seed, setting, None if valid is None else ids_only(valid))
    return IdsOnly(model), history


def fit_mlp(
    task: ClickTask, seed: int, setting: NetSetting, valid: Batch | None = None
) -> tuple[EmbeddingMLP, History]:
    """Fit an MLP on the concatenated vectors and dense columns; see `fit_fm`."""
    set_seed(seed)
    model = EmbeddingMLP(
        task.cardinalities,
        setting.dim,
        setting.top,
        n_dense=len(task.dense_names),
        dropout=setting.dropout,
        bias=_log_odds(task),
    )
    return model, train_net(model, task, seed, setting, valid)


def fit_dlrm(
    task: ClickTask,
    seed: int,
    setting: NetSetting,
    valid: Batch | None = None,
    kind: type[DLRM] = DLRM,
) -> tuple[DLRM, History]:
    """Fit a DLRM, or a `kind` of it for an ablation; see `fit_fm`.

    It starts where the other models start: small vectors, and the log-odds of a click in the last
    bias.
    """
    set_seed(seed)
    model = kind(
        DLRMConfig(
            len(task.dense_names),
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
    return model, train_net(model, task, seed, setting, valid)


def train_net(
    model: EmbeddingMLP | DLRM,
    task: ClickTask,
    seed: int,
    setting: NetSetting,
    valid: Batch | None = None,
) -> History:
    """Train a model with tables and MLPs in place, as `fit_mlp` and `fit_dlrm` do."""
    tables = list(model.tables.parameters())
    known = {id(table) for table in tables}
    mlps = [parameter for parameter in model.parameters() if id(parameter) not in known]
    groups = [
        {"params": tables, "lr": setting.table_rate},
        {"params": mlps, "lr": setting.mlp_rate},
    ]
    return _train(model, task, seed, setting, penalised_loss(setting.l2), groups, valid)


def penalised_loss(l2: float) -> Objective:
    """Logloss plus the squared length of the vectors that each example looks up.

    mean over the batch of logloss + l2 * sum_f |e_f|^2, with e_f the pooled vector of feature f:
    the penalty of `factorization_machine.regularised_loss`, for a model with `tables`.
    """

    def objective(model: nn.Module, batch: Batch) -> Tensor:
        caught: list[Tensor] = []  # the vectors, on their way from the tables into the model

        def catch(tables: nn.Module, inputs: Any, vectors: Tensor) -> None:
            caught.append(vectors)

        tables = model.tables
        assert isinstance(tables, nn.Module)
        hook = tables.register_forward_hook(catch)
        loss = logistic_loss(model, batch)
        hook.remove()
        return loss + l2 * caught[0].square().sum((1, 2)).mean()  # (B, F, D) -> ()

    return objective


@one_thread()
def _train(
    model: nn.Module,
    task: ClickTask,
    seed: int,
    setting: FMSetting | NetSetting,
    objective: Objective,
    groups: list[dict[str, Any]],
    valid: Batch | None,
) -> History:
    """Adagrad with rates that fall to zero, on one thread."""
    loader = Loader(task.train, setting.batch_size, shuffle=True, seed=seed)
    optimizer = torch.optim.Adagrad(groups, initial_accumulator_value=setting.accumulator)
    steps = setting.epochs * len(loader)
    return fit(
        model,
        loader,
        objective=objective,
        optimizer=optimizer,
        schedule=torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps),
        epochs=setting.epochs,
        valid=valid,
        metrics=None if valid is None else METRICS,
        progress=False,
    )


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
