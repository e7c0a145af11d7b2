"""What does one number of state a row cost? Chapter 08's question to two data sets.

The same model is trained with Adagrad and with row-wise Adagrad on its tables: chapter 05's DLRM on
MovieLens' clicks, and a small one on chapter 07's generated log. The MLPs get the same Adagrad each
time. On the log there is a third way, chapter 07's, whose prior moves every row in every step. Each
way has the best of the same learning rates, chosen on rows of their own with one seed.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from dlrm_mini import metrics, optimizers
from dlrm_mini.datasets import movielens, splits
from dlrm_mini.datasets.clicks import ClickTask, click_task
from dlrm_mini.datasets.synthetic import ClickLog
from dlrm_mini.embeddings import FusedEmbeddingTables
from dlrm_mini.ladders import click_log_training as training
from dlrm_mini.ladders import click_logs
from dlrm_mini.ladders.click_settings import CHOSEN as CLICKS
from dlrm_mini.ladders.clicks import validation_split
from dlrm_mini.ladders.plans import Plan, one_thread, penalised
from dlrm_mini.models.dlrm import DLRM
from dlrm_mini.models.dlrm_config import DLRMConfig
from dlrm_mini.models.dlrm_presets import kaggle
from dlrm_mini.models.mlp import INIT_STD
from dlrm_mini.training import logistic_loss, predict, set_seed

Rows = TypeVar("Rows")

WAYS = {"Adagrad": optimizers.Adagrad, "row-wise Adagrad": optimizers.RowWiseAdagrad}
PRIOR = "Adagrad, prior"  # chapter 07's, dense
ROWS = 250_000  # of the log, to train on
RATES = {"movielens": (0.025, 0.05, 0.1, 0.15, 0.25), "log": (0.1, 0.2, 0.4, 0.8)}  # of the tables
SEEDS = (0, 1, 2, 3, 4)
CHOSEN_ON = range(2**32, 2**32 + 100_000)  # rows of the log, neither training nor test
NET = CLICKS["random"]["dlrm"]
LOG_NET = replace(training.SMALL, batch_size=training.part_setting(ROWS).batch_size)


@dataclass(frozen=True)
class Recipe:
    """What both data sets' trainings have.

    Attributes:
        batch_size: examples in a step.
        epochs: passes over the training rows.
        mlp_rate: Adagrad's for the MLPs.
        warm_up: steps in which the rates climb; then they fall in a straight line.
        l2: weight of the squared lengths of the vectors that an example looks up.
    """

    batch_size: int
    epochs: int
    mlp_rate: float
    warm_up: int = 0
    l2: float = 0.0


def plan(
    config: DLRMConfig, rows: int, share: float, way: str, rate: float, how: Recipe
) -> Plan[DLRM]:
    """A DLRM with fused tables, yet to be trained.

    Args:
        config: its sizes.
        rows: training rows.
        share: of clicks, where the last bias starts.
        way: one of `WAYS`.
        rate: of the tables.
        how: everything else.
    """
    tables = FusedEmbeddingTables(config.cardinalities, config.dim, init_std=INIT_STD)
    model = DLRM(config, tables=tables)
    output = model.top[-1]
    assert isinstance(output, nn.Linear)
    nn.init.constant_(output.bias, torch.tensor(share).logit().item())
    mlps = [*model.bottom.parameters(), *model.top.parameters()]
    groups = [
        {"params": list(tables.parameters()), "lr": rate},
        {"params": mlps, "lr": how.mlp_rate},
    ]
    optimizer = WAYS[way](groups, lr=rate)
    tables.fuse(optimizer)
    steps = how.epochs * -(-rows // how.batch_size)
    schedule = LambdaLR(
        optimizer, lambda step: min((step + 1) / (how.warm_up + 1), 1) * (1 - step / steps)
    )
    objective = penalised(logistic_loss, {"tables": how.l2})
    return Plan(model, objective, optimizer, how.batch_size, how.epochs, schedule)


def task(valid: bool = False) -> ClickTask:
    """MovieLens' clicks, split at random; with `valid` the validation rows are its test rows."""
    ml = movielens.load()
    split = validation_split(ml, "random") if valid else splits.random_split(len(ml.user), seed=0)
    return click_task(ml, split)


def score_clicks(of: ClickTask, way: str, rate: float, seed: int) -> float:
    """The test NE of chapter 05's DLRM on MovieLens.

    Args:
        of: its rows.
        way: one of `WAYS`.
        rate: of the tables.
        seed: of the first weights and the order of the rows.
    """
    set_seed(seed)
    bottom, top = (*NET.bottom, NET.dim), (*NET.top, 1)
    config = DLRMConfig(of.train.dense.shape[1], of.cardinalities, NET.dim, bottom=bottom, top=top)
    how = Recipe(NET.batch_size, NET.epochs, NET.mlp_rate, l2=NET.l2)
    share = float(of.train.labels.mean())
    made = plan(config, len(of.train), share, way, rate, how)
    made.run(of.train, seed)
    return metrics.normalised_entropy(predict(made.model, of.test), of.test.labels)


def log_data(log: ClickLog, test: range = click_logs.TEST) -> click_logs.Data:
    """The first `ROWS` rows of the log, and those to score on, rare ids out of vocabulary."""
    return click_logs.Data.draw(log, ROWS, test).frequent(LOG_NET.threshold)


def score_log(data: click_logs.Data, way: str, rate: float, seed: int) -> float:
    """The NE of a small DLRM on the test rows of the log, expected over their labels.

    Args:
        data: its rows.
        way: one of `WAYS`, or `PRIOR`.
        rate: of the tables.
        seed: of the first weights and the order of the rows.
    """
    if way == PRIOR:
        return data.scored(data.net(seed, replace(LOG_NET, table_rate=rate)))["ne"]
    set_seed(seed)
    bottom, top = LOG_NET.bottom, LOG_NET.top
    sizes = dict(data.sizes)
    config = replace(kaggle(), cardinalities=sizes, dim=bottom[-1], bottom=bottom, top=top)
    how = Recipe(LOG_NET.batch_size, LOG_NET.epochs, LOG_NET.mlp_rate, LOG_NET.warm_up)
    share = float(data.train.labels.mean())
    made = plan(config, len(data.train), share, way, rate, how)
    made.run(data.train, seed)
    return data.scored(predict(made.model, data.test).double())["ne"]


@one_thread()
def compare(done: Callable[[float], float] = lambda found: found) -> dict[str, Any]:
    """Choose each way's rate, then train with every seed, on both data sets.

    Args:
        done: called with each training's NE, which it gives back.
    """
    clicks = partial(_compared, score_clicks, task(valid=True), task(), RATES["movielens"], done)
    log = ClickLog(click_logs.config(), threads=1)
    choose, judge = log_data(log, CHOSEN_ON), log_data(log)
    planted = partial(_compared, score_log, choose, judge, RATES["log"], done)
    return {
        "movielens": {way: clicks(way) for way in WAYS},
        "log": {way: planted(way) for way in (*WAYS, PRIOR)},
        "log_rows": ROWS,
        "log_optimum": judge.best["ne"],
    }


def trainings() -> int:
    """How many trainings `compare` makes."""
    ways = {"movielens": len(WAYS), "log": len(WAYS) + 1}
    return sum(ways[name] * (len(rates) + len(SEEDS)) for name, rates in RATES.items())


def _compared(
    score: Callable[[Rows, str, float, int], float],
    choose: Rows,
    judge: Rows,
    rates: Sequence[float],
    done: Callable[[float], float],
    way: str,
) -> dict[str, Any]:
    """The NE of each rate on rows of their own, and with the best rate that of every seed."""
    tried = {rate: done(score(choose, way, rate, SEEDS[0])) for rate in rates}
    best = min(rates, key=lambda rate: tried[rate])
    ne = [done(score(judge, way, best, seed)) for seed in SEEDS]
    return {
        "tried": [{"rate": rate, "ne": value} for rate, value in tried.items()],
        "rate": best,
        "ne": {"mean": statistics.fmean(ne), "spread": statistics.stdev(ne), "per_seed": ne},
    }
