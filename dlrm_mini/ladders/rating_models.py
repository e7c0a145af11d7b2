"""How each rung of the ratings ladder is fitted, with the hyper-parameters that the search chose.

The chapters, the ladder and the benchmark call these functions, so that all measure the same thing.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dlrm_mini import metrics
from dlrm_mini.datasets.batches import Batch
from dlrm_mini.datasets.movielens import MovieLens
from dlrm_mini.datasets.rating_features import RatingTask, rating_features
from dlrm_mini.datasets.splits import Split
from dlrm_mini.ladders.history import HistoryMachine
from dlrm_mini.ladders.plans import Plan
from dlrm_mini.models.baselines import fit_biases, fit_constant, fit_popularity
from dlrm_mini.models.factorization_machine import FactorizationMachine, regularised_loss
from dlrm_mini.models.matrix_factorization import MatrixFactorization, regularised_squared_error
from dlrm_mini.training import History, predict, set_seed

Fitter = Callable[[MovieLens, Tensor, int], nn.Module]  # data set, training rows (N,), seed


@dataclass(frozen=True)
class Setting:
    """The hyper-parameters of matrix factorization.

    Attributes:
        dim: D, the rank.
        l2: weight of the vectors' squared lengths, per example.
        l2_bias: weight of the biases' squares, per example.
        learning_rate: of Adagrad.
        batch_size: examples in a step.
        init_std: standard deviation of the first vectors' entries.
        epochs: passes over the training rows; with early stopping, the most of them.
    """

    dim: int
    l2: float
    l2_bias: float
    learning_rate: float
    batch_size: int
    init_std: float
    epochs: int


@dataclass(frozen=True)
class Shrinkage:
    """How many ratings at the mean the baselines are given beforehand."""

    popularity: float
    user: float
    item: float


# What `python -m dlrm_mini measure ratings-search` found; a test holds both to its record.
CHOSEN = Setting(
    dim=128, l2=0.12, l2_bias=0.02, learning_rate=0.07, batch_size=1024, init_std=0.03, epochs=11
)
SHRINK = Shrinkage(popularity=2.0, user=5.0, item=2.0)

PATIENCE = 3


@dataclass(frozen=True)
class FMSetting:
    """The hyper-parameters of a factorization machine with features.

    Attributes:
        dim: D, the rank.
        l2: weight of the vectors' squared lengths, per example.
        learning_rate: of Adagrad, for the tables of user and item.
        side_rate: the other tables' share of it. Their rows have seen more ratings, and all fields
            step the same way at first.
        batch_size: examples in a step.
        epochs: passes over the training rows.
    """

    dim: int
    l2: float
    learning_rate: float
    side_rate: float
    batch_size: int
    epochs: int


# What `python -m dlrm_mini measure ratings-upper-search` found; a test holds them to its record.
CHOSEN_FM = FMSetting(
    dim=96, l2=0.13, learning_rate=0.05, side_rate=0.1, batch_size=1024, epochs=12
)
CHOSEN_SVDPP = FMSetting(
    dim=64, l2=0.14, learning_rate=0.05, side_rate=0.2, batch_size=2048, epochs=18
)
FM_GROUPS = ("user", "movie", "time")
L2_LINEAR = 0.02
INIT_STD = 0.03
# A user's history holds some hundred ids, each with a weight of a tenth: when all of their vectors
# take one step in the same direction, the sum takes ten.
HISTORY_RATE = 0.05


def fit_mf(
    ml: MovieLens,
    train_rows: Tensor,
    *,
    seed: int,
    setting: Setting = CHOSEN,
    valid_rows: Tensor | None = None,
    progress: bool = False,
) -> tuple[MatrixFactorization, History]:
    """Fit matrix factorization to some of the ratings.

    Adagrad gives each parameter a step size of its own, which shrinks with the gradients that this
    parameter has seen: a movie with three ratings still takes long steps when a popular one has
    settled. One rate serves; plain SGD wants a falling one. Runs on one thread.

    Args:
        ml: the data set.
        train_rows: (N,) int64, the rows to learn from.
        seed: of the first weights and of the order of the examples.
        setting: the hyper-parameters.
        valid_rows: rows that are not trained on and stop the training early. None: run all epochs.
        progress: show a bar.

    Returns:
        The model and its history; `best_epoch` is the number of epochs behind its weights.
    """
    set_seed(seed)
    train = ml.examples(train_rows)
    plan = plan_mf(train, ml.n_users, ml.n_items, setting)
    watched = (
        {}
        if valid_rows is None
        else {
            "valid": ml.examples(valid_rows),
            "metrics": {"rmse": metrics.rmse},
            "patience": PATIENCE,
        }
    )
    return plan.model, plan.run(train, seed, progress=progress, **watched)


def plan_mf(
    train: Batch, n_users: int, n_items: int, setting: Setting = CHOSEN
) -> Plan[MatrixFactorization]:
    """Matrix factorization, yet to be trained: it starts at the mean of the training rows."""
    mean = train.labels.mean().item()
    model = MatrixFactorization(n_users, n_items, setting.dim, mean, init_std=setting.init_std)
    objective = regularised_squared_error(setting.l2, setting.l2_bias)
    optimizer = torch.optim.Adagrad(model.parameters(), lr=setting.learning_rate)
    return Plan(model, objective, optimizer, setting.batch_size, setting.epochs)


def fit_fm(
    ml: MovieLens,
    train_rows: Tensor,
    *,
    seed: int,
    groups: Collection[str] = FM_GROUPS,
    setting: FMSetting = CHOSEN_FM,
    progress: bool = False,
) -> tuple[FactorizationMachine, RatingTask]:
    """Fit a factorization machine of user, item and some groups of side features.

    Adagrad as in `fit_mf`, with smaller steps for the side features, on one thread.

    Args:
        ml: the data set.
        train_rows: (N,) int64, the rows to learn from.
        seed: of the first weights and of the order of the examples.
        groups: which groups of `rating_features.GROUPS` to add.
        setting: the hyper-parameters.
        progress: show a bar.

    Returns:
        The model, and its task: the training rows, and all other rows to test on.
    """
    others = torch.ones(len(ml.rating), dtype=torch.bool)
    others[train_rows] = False
    task = rating_features(ml, Split(train_rows, others.nonzero().squeeze(1)), groups)
    return fit_fm_to(task, seed=seed, setting=setting, progress=progress), task


def fit_fm_to(
    task: RatingTask, *, seed: int, setting: FMSetting = CHOSEN_FM, progress: bool = False
) -> FactorizationMachine:
    """Fit a factorization machine to the training rows of a task, as `fit_fm` does."""
    set_seed(seed)
    plan = plan_fm(task, setting)
    plan.run(task.train, seed, progress=progress)
    return plan.model


def plan_fm(task: RatingTask, setting: FMSetting = CHOSEN_FM) -> Plan[FactorizationMachine]:
    """A factorization machine of a task's features, yet to be trained."""
    sizes, histories, mean = task.cardinalities, task.histories, task.train.labels.mean().item()
    model = (
        FactorizationMachine(sizes, setting.dim, bias=mean, init_std=INIT_STD)
        if histories is None
        else HistoryMachine(sizes, histories, setting.dim, bias=mean, init_std=INIT_STD)
    )
    objective = regularised_loss("squared", setting.l2, L2_LINEAR)
    optimizer = torch.optim.Adagrad(_rates(model, setting), lr=setting.learning_rate)
    return Plan(model, objective, optimizer, setting.batch_size, setting.epochs)


def _rates(model: FactorizationMachine, setting: FMSetting) -> list[dict[str, Any]]:
    """The parameters of a machine with the learning rate of each."""

    def share(name: str) -> float:
        if name.startswith("history."):
            return HISTORY_RATE
        return 1.0 if name.endswith((".user", ".item")) else setting.side_rate

    return [
        {"params": [parameter], "lr": setting.learning_rate * share(name)}
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    ]


def rmse_on(model: nn.Module, ml: MovieLens, rows: Tensor) -> float:
    """The RMSE of a model's ratings, not clipped to 1..5, on some rows (N,) int64."""
    test = ml.examples(rows)
    return metrics.rmse(predict(model, test), test.labels)


def constant(ml: MovieLens, rows: Tensor, seed: int = 0) -> nn.Module:
    """The first rung; the seed changes nothing."""
    return fit_constant(ml.examples(rows), ml.n_users, ml.n_items)


def popularity(ml: MovieLens, rows: Tensor, seed: int = 0) -> nn.Module:
    """The second rung; the seed changes nothing."""
    train = ml.examples(rows)
    return fit_popularity(train, ml.n_users, ml.n_items, shrink=SHRINK.popularity)


def biases(ml: MovieLens, rows: Tensor, seed: int = 0) -> nn.Module:
    """The third rung; the seed changes nothing."""
    return fit_biases(
        ml.examples(rows),
        ml.n_users,
        ml.n_items,
        shrink_user=SHRINK.user,
        shrink_item=SHRINK.item,
    )


def mf(ml: MovieLens, rows: Tensor, seed: int) -> nn.Module:
    """The fourth rung."""
    return fit_mf(ml, rows, seed=seed)[0]


RUNGS: dict[str, Fitter] = {
    "constant": constant,
    "popularity": popularity,
    "biases": biases,
    "mf": mf,
}
