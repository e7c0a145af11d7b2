"""How the models with an MLP are fitted to ratings: the MLP in NCF's shape, NeuMF's, and DLRM.

One recipe for all: Adagrad with rates of their own for tables and MLPs, squared error, all starting
at the mean rating. Vectors pay the penalty of matrix factorization, and so must the MLP's weights:
else vectors shrink, weights grow to make up for it, and the penalty is evaded.
"""

from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import nn

from dlrm_mini.datasets.batches import Batch
from dlrm_mini.datasets.clicks import click_task
from dlrm_mini.datasets.movielens import MovieLens
from dlrm_mini.datasets.rating_features import RatingTask, rating_features
from dlrm_mini.datasets.splits import Split
from dlrm_mini.ladders.plans import Plan, penalised
from dlrm_mini.ladders.rating_models import FM_GROUPS, INIT_STD
from dlrm_mini.models.dlrm import DLRM
from dlrm_mini.models.dlrm_config import DLRMConfig
from dlrm_mini.models.mlp import EmbeddingMLP
from dlrm_mini.training import set_seed, squared_error

N = TypeVar("N", EmbeddingMLP, DLRM)

# Where a DLRM starts, how much is left of the random weights of its bottom and its output.
BOTTOM_SHARE, HIDDEN_SHARE = 0.3, 0.1
DENSE = ("age", "year", "user_log_count", "item_log_count")


@dataclass(frozen=True)
class NetSetting:
    """The hyper-parameters of a model with tables and an MLP.

    Attributes:
        dim: D, the width of the embeddings; of a DLRM's without their F slots.
        hidden: widths of the MLP's hidden layers; of a DLRM's top MLP, one.
        l2: weight of the vectors' squared lengths, per example.
        l2_dot: the same for the second set of vectors of an MLP with a dot path.
        weight_decay: of the MLPs' weights and biases: half the weight of their squares, per step.
        table_rate: of Adagrad, for the tables of user and item.
        side_rate: the other tables' share of it.
        mlp_rate: of Adagrad, for the MLPs.
        batch_size: examples in a step.
        epochs: passes over the training rows.
    """

    dim: int
    hidden: tuple[int, ...]
    l2: float
    l2_dot: float
    weight_decay: float
    table_rate: float
    side_rate: float
    mlp_rate: float
    batch_size: int
    epochs: int


# What `python -m dlrm_mini measure ratings-upper-search` found; a test holds them to its record.
CHOSEN_MLP = NetSetting(
    dim=16,
    hidden=(64,),
    l2=0.5,
    l2_dot=0.0,
    weight_decay=0.0,
    table_rate=0.1,
    side_rate=1.0,
    mlp_rate=0.01,
    batch_size=1024,
    epochs=19,
)
CHOSEN_NEUMF = NetSetting(
    dim=64,
    hidden=(16,),
    l2=0.7,
    l2_dot=0.12,
    weight_decay=0.001,
    table_rate=0.05,
    side_rate=1.0,
    mlp_rate=0.01,
    batch_size=1024,
    epochs=15,
)
CHOSEN_DLRM = NetSetting(
    dim=48,
    hidden=(32,),
    l2=0.12,
    l2_dot=0.0,
    weight_decay=1.0,
    table_rate=0.04,
    side_rate=0.2,
    mlp_rate=0.0003,
    batch_size=1024,
    epochs=14,
)


def dlrm_task(ml: MovieLens, split: Split) -> RatingTask:
    """What a DLRM sees: the factorization machine's fields, and the dense features `DENSE`.

    The click task's means of other ratings are left out: of two training rows with the same id, the
    one with the higher rating has the lower mean, which would give the label away.

    Args:
        ml: all ratings.
        split: which rows to train and to test on.
    """
    task, clicks = rating_features(ml, split, FM_GROUPS), click_task(ml, split, label="rating")
    columns = [clicks.dense_names.index(name) for name in DENSE]

    def with_dense(part: Batch, source: Batch) -> Batch:
        return Batch(source.dense[:, columns], part.sparse, part.labels)

    return replace(
        task, train=with_dense(task.train, clicks.train), test=with_dense(task.test, clicks.test)
    )


def fit_mlp(
    task: RatingTask, *, seed: int, setting: NetSetting = CHOSEN_MLP, progress: bool = False
) -> EmbeddingMLP:
    """Fit an MLP on the concatenated vectors, with a dot path if the setting has an `l2_dot`.

    Args:
        task: the rows to learn from, without dense features or with.
        seed: of the first weights and of the order of the examples.
        setting: the hyper-parameters.
        progress: show a bar.
    """
    set_seed(seed)
    plan = plan_mlp(task, setting)
    plan.run(task.train, seed, progress=progress)
    return plan.model


def fit_dlrm(
    task: RatingTask, *, seed: int, setting: NetSetting = CHOSEN_DLRM, progress: bool = False
) -> DLRM:
    """Fit a DLRM to ratings: its logit is the rating. See `fit_mlp` and `start_near_fm`.

    Args:
        task: the rows to learn from, see `dlrm_task`.
        seed: of the first weights and of the order of the examples.
        setting: the hyper-parameters.
        progress: show a bar.
    """
    set_seed(seed)
    plan = plan_dlrm(task, setting)
    plan.run(task.train, seed, progress=progress)
    return plan.model


def plan_mlp(task: RatingTask, setting: NetSetting = CHOSEN_MLP) -> Plan[EmbeddingMLP]:
    """An MLP on the concatenated vectors, yet to be trained; see `fit_mlp`."""
    model = EmbeddingMLP(
        task.cardinalities,
        setting.dim,
        setting.hidden,
        n_dense=task.train.dense.shape[1],
        dot_path=setting.l2_dot > 0,
        bias=task.train.labels.mean().item(),
    )
    return _plan(model, setting)


def plan_dlrm(task: RatingTask, setting: NetSetting = CHOSEN_DLRM) -> Plan[DLRM]:
    """A DLRM near an untrained factorization machine, yet to be trained; see `start_near_fm`."""
    width = setting.dim + len(task.cardinalities)
    model = DLRM(
        DLRMConfig(
            task.train.dense.shape[1],
            task.cardinalities,
            width,
            bottom=(width,),
            top=(*setting.hidden, 1),
        )
    )
    start_near_fm(model, task.train.labels.mean().item())
    return _plan(model, setting)


@torch.no_grad()
def start_near_fm(model: DLRM, bias: float) -> None:
    """Let a DLRM of width d + F begin near a factorization machine that is yet to be trained.

    Trained from a random start, 80,000 ratings are too few for it to find out that pairs are to be
    added up and that a user may be generous to everything: it ends behind matrix factorization. So
    it begins as in `models.fm_in_dlrm`. Each of the F fields has a slot for its linear weight at
    the end of its vectors, where the dense vector has a one. Of the top's first hidden layer, one
    unit gets the sum of all pairs and another minus the sum: the positive part and the negative,
    whose difference is the sum. All else starts as it was, but smaller. Every weight is then
    trained, and nothing keeps the model where it began.

    Args:
        model: with one hidden layer in its top and one layer in its bottom.
        bias: what is added to the sum, the mean rating.
    """
    fields, width = len(model.tables.names), model.config.dim
    bottom, first, output = model.bottom[0], model.top[0], model.top[-1]
    assert isinstance(bottom, nn.Linear)
    assert isinstance(first, nn.Linear) and isinstance(output, nn.Linear)
    bottom.weight *= BOTTOM_SHARE
    bottom.bias.zero_()
    bottom.bias[-fields:] = 1
    for field, table in enumerate(model.tables.parameters()):
        nn.init.normal_(table, std=INIT_STD)
        table[:, width - fields :] = 0
        nn.init.normal_(table[:, width - fields + field], std=INIT_STD)
    sign = torch.tensor([1.0, -1.0])
    first.bias[:2] = 0
    first.weight[:2] = 0
    first.weight[:2, width:] = sign[:, None]  # behind the dense vector are the pairs
    output.weight *= HIDDEN_SHARE
    output.weight[0, :2] = sign
    output.bias.fill_(bias)


def _plan(model: N, setting: NetSetting) -> Plan[N]:
    """Adagrad with a rate for the MLPs, one for the tables of user and item, one for the others."""
    nets: list[nn.Parameter] = []
    tables: dict[float, list[nn.Parameter]] = {1.0: [], setting.side_rate: []}
    for name, parameter in model.named_parameters():
        if "tables." not in name:
            nets.append(parameter)
        else:
            share = 1.0 if name.endswith((".user", ".item")) else setting.side_rate
            tables[share].append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": nets, "lr": setting.mlp_rate, "weight_decay": setting.weight_decay},
        *({"params": some, "lr": setting.table_rate * share} for share, some in tables.items()),
    ]
    objective = penalised(squared_error, {"tables": setting.l2, "dot_tables": setting.l2_dot})
    optimizer = torch.optim.Adagrad([group for group in groups if group["params"]])
    return Plan(model, objective, optimizer, setting.batch_size, setting.epochs)
