"""Chapter 07's experiment: DLRM on a click log of Criteo's shape whose best model is known.

    python -m dlrm_mini measure click-log

records `click_log`; the chapter trains the first part of it again, live. `click_log_training` says
how the models are trained, `click_log_ids` which ids they keep.

The log has Criteo's columns, missing values and share of clicks. Its fields of more than a thousand
ids shrink by the factor by which it has fewer rows, so that an id is seen as often as there, but
none to less than a thousand. What is planted is far more second order than Criteo seems to have
(its leaderboards put logistic regression much closer to the best): the chapter is about finding it.
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from dlrm_mini import measurements
from dlrm_mini.datasets.batches import Batch
from dlrm_mini.datasets.synthetic import ClickLog, ClickLogConfig, criteo_cardinalities
from dlrm_mini.ladders import click_log_ids as ids
from dlrm_mini.ladders.click_log_ceiling import best_additive
from dlrm_mini.ladders.click_log_scores import (
    expected,
    expected_auc,
    histogram,
    recovered,
    unknown,
)
from dlrm_mini.ladders.click_log_training import (
    CHOSEN,
    ROWS,
    SMALL,
    Setting,
    fit_lr,
    fit_net,
)
from dlrm_mini.progress import bar
from dlrm_mini.training import predict

CRITEO = 45_840_617  # rows
KEPT_WHOLE = 1000  # ids: fields of at most so many keep them all
TEST = range(2**33, 2**33 + 200_000)  # far from training; settings were chosen at 2**32
SEEDS = (0, 1, 2)
CURVE = (31_250, 62_500, 125_000, 250_000, 500_000, ROWS, 2_000_000)
LIVE = CURVE[0]
EVERY = 1  # threshold: whatever training saw has a row of its own
BUCKETS = (10, 30, 100, 300, 1000, 3000, 10_000)
VARIANTS = {
    "no warm-up": replace(CHOSEN, warm_up=0),
    "no prior": replace(CHOSEN, prior=0.0),
    "no dot products": replace(CHOSEN, interaction="cat"),
    "no hidden layer on top": replace(CHOSEN, top=(1,)),
    "twice the epochs": replace(CHOSEN, epochs=2 * CHOSEN.epochs),
    "threshold 100": replace(CHOSEN, threshold=100),
    "threshold 1000": replace(CHOSEN, threshold=1000),
}

Found = TypeVar("Found")


def cardinalities(rows: int = ROWS) -> dict[str, int]:
    """Criteo's fields for a log of so many rows, shrunk as the module says."""
    scale = min(1.0, rows / CRITEO)
    return {
        name: max(min(size, KEPT_WHOLE), round(size * scale))
        for name, size in criteo_cardinalities().items()
    }


def config() -> ClickLogConfig:
    """What is planted: 8 pairs, among the 32 most frequent ids of each field, in 2 dimensions."""
    return ClickLogConfig(
        cardinalities(),
        first=0.9,
        second=1.5,
        n_pairs=8,
        teacher_dim=2,
        teacher_ids=32,
        noise=0.3,
    )


@dataclass(frozen=True, eq=False)
class Data:
    """The first rows of a log to train on, and others far away to test on.

    Attributes:
        train: its first rows.
        test: T rows that no model has seen.
        chance: (T,) float64, the true probability of a click in each of them.
        sizes: field -> ids.
    """

    train: Batch
    test: Batch
    chance: Tensor
    sizes: dict[str, int]

    @classmethod
    def draw(cls, log: ClickLog, rows: int, test: range = TEST) -> "Data":
        """The first `rows` rows of a log, and those of `test`."""
        judged, chance = log.batch(test.start, test.stop)
        return cls(log.batch(0, rows)[0], judged, chance, dict(log.config.cardinalities))

    def encoded(self, encoding: ids.Encoding) -> "Data":
        """The same rows with the ids of a model's tables."""
        sizes = encoding.cardinalities
        return replace(self, train=encoding(self.train), test=encoding(self.test), sizes=sizes)

    def frequent(self, least: int = CHOSEN.threshold) -> "Data":
        """The same rows, the ids with fewer than `least` training rows out of vocabulary."""
        return self.encoded(ids.frequent(self.train, self.sizes, least))

    @cached_property
    def best(self) -> dict[str, float]:
        """What nobody beats: the scores of the true probability."""
        return expected(self.chance.logit(), self.chance)

    def net(self, seed: int, setting: Setting | None = None) -> Tensor:
        """The test logits (T,) of a DLRM."""
        return predict(fit_net(self.train, self.sizes, seed, setting), self.test).double()

    def lr(self, seed: int) -> Tensor:
        """The test logits (T,) of logistic regression."""
        return predict(fit_lr(self.train, self.sizes, seed), self.test).double()

    def scored(self, logits: Tensor) -> dict[str, float]:
        """`expected` of test logits."""
        return expected(logits, self.chance)


def train_part(log: ClickLog, rows: int, seed: int = 0) -> dict[str, Any]:
    """Both models, trained on the first `rows` rows: their scores, under "lr" and "dlrm"."""
    data = Data.draw(log, rows).frequent()
    found = {"lr": data.lr(seed), "dlrm": data.net(seed)}
    return {name: data.scored(logits) for name, logits in found.items()}


def measure(progress: bool = True) -> Path:
    """Train, count and record `click_log`: 20 minutes on one core."""
    started = time.process_time()
    log = ClickLog(config(), threads=1)
    data = Data.draw(log, ROWS)
    results: dict[str, Any] = {
        "scores": "of the test rows, expected over their labels; logloss in nats",
        "log": _about(log, data),
        "settings": {"dlrm": asdict(CHOSEN), "ids": asdict(SMALL)},
        "optimum": data.best,
        "first_order": _first_order(log, data),
        "additive": data.scored(best_additive(log, ROWS, data.test)),
    }
    total = (len(CURVE) - 2) * len(SEEDS) + 1 + 2 * len(SEEDS) + len(VARIANTS) + len(BUCKETS) + 2
    with bar(total=total, desc="click-log", unit="run", disable=not progress) as shown:

        def done(found: Found) -> Found:
            shown.update()
            return found

        whole = data.frequent()
        logits = {
            "lr": [done(whole.lr(seed)) for seed in SEEDS],
            "dlrm": [done(whole.net(seed)) for seed in SEEDS],
        }
        seeds = {name: [data.scored(one) for one in of] for name, of in logits.items()}
        results["models"] = {name: _spread(found) for name, found in seeds.items()}
        results["recovered"] = _recovered(seeds, data.best)
        first = {name: of[0] for name, of in logits.items()}
        results["unknown"] = {
            name: unknown(whole.test, one, data.chance) for name, one in first.items()
        }
        results["histograms"] = {name: histogram(one, data.chance) for name, one in first.items()}
        results["variants"] = {
            name: data.scored(done(data.frequent(how.threshold).net(0, how)))
            for name, how in VARIANTS.items()
        }
        results["curve"] = [
            {"rows": ROWS, **seeds}
            if rows == ROWS
            else _point(
                rows,
                [done(train_part(log, rows, s)) for s in (SEEDS if rows < ROWS else SEEDS[:1])],
            )
            for rows in CURVE
        ]
        results["ids"] = {
            name: done(_table(data.frequent(least)))
            for name, least in (("threshold", CHOSEN.threshold), ("every", EVERY))
        }
        results["buckets"] = [done(_hashed(data, buckets)) for buckets in BUCKETS]
    results["seconds"] = round(time.process_time() - started, 1)
    return measurements.write("click_log", results, "python -m dlrm_mini measure click-log")


def _about(log: ClickLog, data: Data) -> dict[str, Any]:
    """What was trained on, and what was planted."""
    return {
        "config": asdict(log.config),
        "pairs": [list(pair) for pair in log.pairs],
        "train_rows": len(data.train),
        "test_rows": len(data.test),
        "share_of_clicks": float(data.train.labels.double().mean()),
    }


def _point(rows: int, of_seeds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A point of the learning curve: the rows, and each model's scores with each seed."""
    return {"rows": rows} | {name: [one[name] for one in of_seeds] for name in of_seeds[0]}


def _first_order(log: ClickLog, data: Data) -> dict[str, float]:
    """The AUC of the planted first-order terms; an additive model can do a little better."""
    terms = log.rows(TEST.start, TEST.stop).terms  # (3, T)
    return {"auc": expected_auc(terms[0], data.chance)}


def _spread(found: Sequence[dict[str, float]]) -> dict[str, dict[str, Any]]:
    """Score -> mean, standard deviation over the seeds, and each seed's."""
    columns = {name: [one[name] for one in found] for name in found[0]}
    return {
        name: {"mean": statistics.fmean(values), "spread": statistics.stdev(values)}
        | {"per_seed": values}
        for name, values in columns.items()
    }


def _recovered(seeds: dict[str, list[dict[str, float]]], best: dict[str, float]) -> dict[str, Any]:
    """The share of the gap between logistic regression (its mean) and the optimum, by score."""
    shares = [
        {
            name: recovered(
                found[name], statistics.fmean(lr[name] for lr in seeds["lr"]), best[name]
            )
            for name in ("auc", "logloss")
        }
        for found in seeds["dlrm"]
    ]
    return _spread(shares)


def _table(data: Data) -> dict[str, Any]:
    """The small DLRM's scores with these ids, the rows of its tables, and how many are in use."""
    sparse = data.train.sparse
    used = sum(len(torch.unique(sparse.ids(name))) for name in sparse.names)
    rows = {"table_rows": sum(data.sizes.values()), "used_rows": used}
    return rows | data.scored(data.net(0, SMALL))


def _hashed(data: Data, buckets: int) -> dict[str, Any]:
    """The same with hashed ids, and the collisions of each field."""
    encoding = ids.hashed(data.sizes, buckets)
    counted = {name: asdict(ids.sharing(encoding, data.train, name)) for name in data.sizes}
    return {"buckets": buckets, **_table(data.encoded(encoding)), "fields": counted}
