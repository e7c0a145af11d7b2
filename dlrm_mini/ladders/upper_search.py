"""The search behind the upper rungs of the ratings ladder: SVD++, FM, the MLPs, DLRM, the sampler.

As in `ratings.search`, everything is chosen on a tenth of canonical fold 1's training rows and then
used for every fold and split. Where to look was found by some dozens of trials by hand, on the same
rows.
"""

import itertools
import random
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from dlrm_mini import measurements, metrics
from dlrm_mini.datasets import movielens, splits
from dlrm_mini.datasets.movielens import MovieLens
from dlrm_mini.datasets.splits import Split
from dlrm_mini.ladders.rating_models import FMSetting
from dlrm_mini.ladders.rating_nets import NetSetting
from dlrm_mini.ladders.rating_rungs import RUNGS, GibbsSetting
from dlrm_mini.progress import bar

# Rung -> the setting that the trials by hand ended with, what else to try, how many draws of it.
SPACES: dict[str, tuple[Any, dict[str, tuple[Any, ...]], int]] = {
    "svdpp": (
        FMSetting(64, 0.12, 0.07, 0.2, 2048, 18),
        {
            "dim": (32, 64, 96),
            "l2": (0.11, 0.12, 0.13, 0.14),
            "learning_rate": (0.05, 0.07, 0.1),
            "epochs": (12, 15, 18),
        },
        9,
    ),
    "fm": (
        FMSetting(64, 0.12, 0.07, 0.2, 1024, 14),
        {
            "dim": (48, 64, 96),
            "l2": (0.11, 0.12, 0.13),
            "learning_rate": (0.05, 0.07, 0.09),
            "side_rate": (0.1, 0.2, 0.4),
            "epochs": (12, 14, 16),
        },
        14,
    ),
    "mlp": (
        NetSetting(16, (64,), 0.5, 0.0, 0.0, 0.1, 1.0, 0.01, 1024, 19),
        {
            "dim": (8, 16, 32),
            "hidden": ((32,), (64,), (128,), (64, 32)),
            "l2": (0.2, 0.35, 0.5, 0.7),
            "weight_decay": (0.0, 0.001, 0.01),
            "table_rate": (0.05, 0.1, 0.2),
            "mlp_rate": (0.005, 0.01, 0.02),
            "epochs": (14, 19, 24),
        },
        50,
    ),
    "mlp+dot": (
        NetSetting(32, (32,), 0.5, 0.12, 0.0, 0.07, 1.0, 0.01, 1024, 12),
        {
            "dim": (16, 32, 64),
            "hidden": ((16,), (32,), (64,)),
            "l2": (0.3, 0.5, 0.7),
            "l2_dot": (0.1, 0.12, 0.14),
            "weight_decay": (0.0, 0.001, 0.01),
            "table_rate": (0.05, 0.07, 0.1),
            "mlp_rate": (0.003, 0.01),
            "epochs": (9, 12, 15),
        },
        50,
    ),
    "dlrm": (
        NetSetting(32, (64,), 0.13, 0.0, 0.3, 0.05, 0.4, 0.001, 1024, 14),
        {
            "dim": (32, 48, 64),
            "hidden": ((16,), (32,), (64,), (128,)),
            "l2": (0.12, 0.13, 0.14),
            "weight_decay": (0.1, 0.3, 1.0),
            "table_rate": (0.04, 0.05, 0.07),
            "side_rate": (0.2, 0.4),
            "mlp_rate": (0.0003, 0.001, 0.002),
            "epochs": (10, 12, 14),
        },
        24,
    ),
    "fm_bayes": (
        GibbsSetting(dim=8, samples=100, burn_in=20, init_std=0.1),
        {"dim": (4, 6, 12, 16, 24)},
        5,
    ),
}


def search(progress: bool = True) -> Path:
    """Choose the upper rungs' hyper-parameters and record `ratings_upper_search`; half an hour."""
    started = time.perf_counter()
    ml = movielens.load()
    split = splits.holdout(splits.canonical_fold(1).train, 0.1)
    rungs: dict[str, Any] = {}
    for name in SPACES:
        settings = bar(draw(name), desc=name, unit="run", disable=not progress)
        tried = [attempt(ml, split, name, setting) for setting in settings]
        best = min(tried, key=lambda one: float(one["valid_rmse"]))
        rungs[name] = {"tried": tried, "best": best["setting"]}
    results = {
        "validation": "a tenth of canonical fold 1's training rows",
        "train_rows": len(split.train),
        "valid_rows": len(split.test),
        "rungs": rungs,
        "seconds": round(time.perf_counter() - started, 1),
    }
    return measurements.write(
        "ratings_upper_search", results, "python -m dlrm_mini measure ratings-upper-search"
    )


def draw(name: str) -> list[Any]:
    """A rung's settings: the one found by hand, and others drawn from the product of its space."""
    start, space, n = SPACES[name]
    product = list(itertools.product(*space.values()))
    drawn = random.Random(0).sample(product, n)
    return [start, *(replace(start, **dict(zip(space, one, strict=True))) for one in drawn)]


def attempt(ml: MovieLens, split: Split, name: str, setting: Any) -> dict[str, Any]:
    """One setting: itself, `valid_rmse`, and `seconds` with features and prediction."""
    started = time.perf_counter()
    prediction = RUNGS[name](ml, split, 0, setting)
    rmse = metrics.rmse(prediction, ml.rating[split.test])
    seconds = time.perf_counter() - started
    return {
        "setting": asdict(setting),
        "valid_rmse": round(rmse, 5),
        "seconds": round(seconds, 2),
    }
