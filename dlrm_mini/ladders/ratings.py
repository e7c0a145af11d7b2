"""The RMSE ladder of MovieLens-100K, from a constant to a factorization machine's posterior.

`search` chooses the hyper-parameters of biases and matrix factorization on validation rows out of
fold 1's training rows, and `upper_search` those of the rungs above; `ladder` measures all models on
the canonical folds, and the four lowest on other splits too, with what was chosen.
"""

import itertools
import random
import statistics
import time
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from dlrm_mini import measurements, metrics
from dlrm_mini.datasets import movielens, splits
from dlrm_mini.datasets.movielens import MovieLens
from dlrm_mini.datasets.splits import Split
from dlrm_mini.ladders import rating_models
from dlrm_mini.ladders.rating_models import (
    CHOSEN,
    FM_GROUPS,
    PATIENCE,
    SHRINK,
    Setting,
    fit_mf,
    rmse_on,
)
from dlrm_mini.ladders.rating_rungs import RUNGS, UPPER, Rung, rung
from dlrm_mini.models.baselines import fit_biases, fit_popularity
from dlrm_mini.progress import bar

SEEDS = (0, 1, 2)
FOLDS = range(1, splits.FOLDS + 1)

# Where the search looks: the heat map varies rank and L2 around START, the random search all else
# too. Batches and epochs are bounded so that no setting takes longer than 4 s to fit a fold.
MAX_EPOCHS = 30
START = Setting(
    dim=64,
    l2=0.1,
    l2_bias=0.02,
    learning_rate=0.07,
    batch_size=1024,
    init_std=0.03,
    epochs=MAX_EPOCHS,
)
DIMS = (1, 2, 4, 8, 16, 32, 64, 128)
L2S = (0.0, 0.02, 0.05, 0.08, 0.1, 0.12, 0.15, 0.2)
RANDOM_GRID: dict[str, tuple[Any, ...]] = {
    "dim": (32, 48, 64, 96),
    "l2": (0.1, 0.11, 0.12, 0.13),
    "l2_bias": (0.01, 0.02, 0.05),
    "learning_rate": (0.04, 0.05, 0.07, 0.1),
    "batch_size": (1024, 2048),
    "init_std": (0.01, 0.03, 0.1),
}
N_RANDOM = 30
SHRINKS = (0.5, 1.0, 2.0, 3.0, 5.0, 7.0, 10.0, 15.0, 25.0)


def search(progress: bool = True) -> Path:
    """Choose the hyper-parameters on validation rows and record `ratings_search`; minutes.

    Everything is chosen on a tenth of fold 1's training rows and then used for every fold and
    split. Those rows are among the test rows of the other folds, as in any cross-validation with
    one shared setting. So each fold also chooses for itself, among the random settings, on a tenth
    of its own training rows: `own_choice`, which no test row of that fold has had a part in.
    """
    started = time.perf_counter()
    ml = movielens.load()
    split, *others = [splits.holdout(splits.canonical_fold(k).train, 0.1) for k in FOLDS]
    grid = [replace(START, dim=dim, l2=l2) for dim in DIMS for l2 in L2S]
    heat = [attempt(ml, split, setting) for setting in _shown(grid, "rank x L2", progress)]
    drawn = [attempt(ml, split, one) for one in _shown(_draw(), "random search", progress)]
    rows = [heat[first : first + len(L2S)] for first in range(0, len(heat), len(L2S))]
    own_choice = [_best(drawn)]
    for other in _shown(others, "other folds", progress):
        own_choice.append(_best([attempt(ml, other, setting) for setting in _draw()]))
    results = {
        "validation": "a tenth of canonical fold 1's training rows; own_choice: of each fold's",
        "train_rows": len(split.train),
        "valid_rows": len(split.test),
        "max_epochs": MAX_EPOCHS,
        "patience": PATIENCE,
        "heat_map": {
            "dim": list(DIMS),
            "l2": list(L2S),
            "valid_rmse": [[cell["valid_rmse"] for cell in row] for row in rows],
            "epochs": [[cell["setting"]["epochs"] for cell in row] for row in rows],
        },
        "tried": heat + drawn,
        "best": _best(heat + drawn)["setting"],
        "own_choice": own_choice,
        "shrinkage": _search_shrinkage(ml, split),
        "seconds": round(time.perf_counter() - started, 1),
    }
    return measurements.write(
        "ratings_search", results, "python -m dlrm_mini measure ratings-search"
    )


def attempt(ml: MovieLens, split: Split, setting: Setting) -> dict[str, Any]:
    """Fit one setting with early stopping, on a holdout of training rows.

    Returns:
        `setting` with the epochs early stopping found, `valid_rmse`, and `seconds` of the fit with
        its evaluations.
    """
    setting = replace(setting, epochs=MAX_EPOCHS)
    model, history = fit_mf(ml, split.train, seed=0, setting=setting, valid_rows=split.test)
    return {
        "setting": asdict(replace(setting, epochs=history.best_epoch)),
        "valid_rmse": round(rmse_on(model, ml, split.test), 5),
        "seconds": round(history.seconds, 2),
    }


def _draw() -> list[Setting]:
    """Settings drawn without repetition from the product of `RANDOM_GRID`, always the same ones."""
    product = list(itertools.product(*RANDOM_GRID.values()))
    drawn = random.Random(0).sample(product, N_RANDOM)
    return [replace(START, **dict(zip(RANDOM_GRID, values, strict=True))) for values in drawn]


def _best(tried: list[dict[str, Any]]) -> dict[str, Any]:
    """The attempt with the lowest validation RMSE, the first of equals."""
    return min(tried, key=lambda one: float(one["valid_rmse"]))


def _search_shrinkage(ml: MovieLens, split: Split) -> dict[str, Any]:
    """The baselines' shrinkages, all of them with their validation RMSE, and the best."""
    train, sizes = ml.examples(split.train), (ml.n_users, ml.n_items)

    def rmse_with(model: Any) -> float:
        return round(rmse_on(model, ml, split.test), 5)

    popularity = [
        {"popularity": s, "valid_rmse": rmse_with(fit_popularity(train, *sizes, shrink=s))}
        for s in SHRINKS
    ]
    both = [
        {
            "user": u,
            "item": i,
            "valid_rmse": rmse_with(fit_biases(train, *sizes, shrink_user=u, shrink_item=i)),
        }
        for u in SHRINKS
        for i in SHRINKS
    ]
    best = [min(tried, key=lambda one: one["valid_rmse"]) for tried in (popularity, both)]
    chosen = {name: value for one in best for name, value in one.items() if name != "valid_rmse"}
    return {"popularity": popularity, "biases": both, "best": chosen}


def ladder_splits(ml: MovieLens) -> dict[str, list[Split]]:
    """Every way of splitting that the ladder is measured on, with its folds."""
    return {
        "canonical": [splits.canonical_fold(k) for k in FOLDS],
        "random": [splits.random_split(len(ml.rating), seed=k) for k in FOLDS],
        "user_temporal": [splits.user_temporal_split(ml)],
        "global_temporal": [splits.global_temporal_split(ml)],
    }


def ladder(progress: bool = True) -> Path:
    """Measure the models on every split, fold and seed and record `ratings_ladder`; half an hour.

    All of them on the canonical folds; on the other splits the four that take no time.
    """
    ml = movielens.load()
    measured = {}
    for split, folds in ladder_splits(ml).items():
        names = RUNGS if split == "canonical" else rating_models.RUNGS
        runs = _shown(names, f"{split} split", progress)
        measured[split] = {name: measure(ml, folds, RUNGS[name]) for name in runs}
    results = {
        "metric": "test RMSE in stars, predictions not clipped",
        "setting": asdict(CHOSEN),
        "upper_settings": {name: asdict(setting) for name, setting in UPPER.items()},
        "groups": list(FM_GROUPS),
        "shrinkage": asdict(SHRINK),
        "seeds": list(SEEDS),
        "splits": measured,
        "own_choice": _measure_own_choice(ml),
    }
    return measurements.write(
        "ratings_ladder", results, "python -m dlrm_mini measure ratings-ladder"
    )


def measure(ml: MovieLens, folds: list[Split], predicted: Rung) -> dict[str, Any]:
    """One model on all folds of a split and all seeds.

    Returns:
        `rmse`: mean over folds and seeds. `spread`: standard deviation over the seeds of the mean
        over the folds. `per_fold`: means over the seeds. `per_seed`: means over the folds.
        `fit_seconds`: median seconds of one fold and seed, from the ratings to the predictions,
        and `fit_seconds_max`.
    """
    table, seconds = [], []  # table: (seeds, folds)
    for seed in SEEDS:
        row = []
        for fold in folds:
            started = time.perf_counter()
            prediction = predicted(ml, fold, seed)
            seconds.append(time.perf_counter() - started)
            row.append(metrics.rmse(prediction, ml.rating[fold.test]))
        table.append(row)
    per_seed = [statistics.mean(row) for row in table]
    return {
        "rmse": round(statistics.mean(per_seed), 5),
        "spread": round(statistics.stdev(per_seed), 5),
        "per_fold": [round(statistics.mean(column), 5) for column in zip(*table, strict=True)],
        "per_seed": [round(value, 5) for value in per_seed],
        "fit_seconds": round(statistics.median(seconds), 3),
        "fit_seconds_max": round(max(seconds), 3),
    }


def _measure_own_choice(ml: MovieLens) -> dict[str, Any]:
    """Matrix factorization on the canonical folds, each with the setting it chose for itself."""
    choices = measurements.read("ratings_search")["results"]["own_choice"]
    per_fold = []
    for k, chosen in zip(FOLDS, choices, strict=True):
        setting = Setting(**chosen["setting"])

        def fitter(ml: MovieLens, rows: Tensor, seed: int, setting: Setting = setting) -> nn.Module:
            return fit_mf(ml, rows, seed=seed, setting=setting)[0]

        per_fold.append(measure(ml, [splits.canonical_fold(k)], rung(fitter)))
    per_seed = np.mean([one["per_seed"] for one in per_fold], axis=0).tolist()
    return {
        "rmse": round(statistics.mean(per_seed), 5),
        "spread": round(statistics.stdev(per_seed), 5),
        "per_fold": [one["rmse"] for one in per_fold],
    }


def _shown(items: Iterable[Any], what: str, progress: bool) -> Any:
    """The items, with a bar that counts them."""
    listed = list(items)
    return bar(listed, total=len(listed), desc=what, unit="run", disable=not progress)
