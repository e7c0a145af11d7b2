"""What features buy a factorization machine: every combination of groups, on four kinds of rows.

Features matter most where ids say least. So the machine is also judged on test rows whose movie is
rare, and on two splits in which users, or movies, are not known from training at all.
"""

import time
from collections.abc import Iterator
from dataclasses import asdict
from itertools import combinations
from pathlib import Path

import torch
from torch import Tensor

from dlrm_mini import measurements, metrics
from dlrm_mini.datasets import movielens, splits
from dlrm_mini.datasets.movielens import MovieLens
from dlrm_mini.datasets.rating_features import GROUPS
from dlrm_mini.ladders.rating_models import CHOSEN_FM, RUNGS
from dlrm_mini.ladders.rating_rungs import Rung, fm, rung
from dlrm_mini.progress import bar

SEED = 0
SHARE = 0.2  # of the users, or movies, that are held out
RARE = 5  # training ratings that a movie is rare below
EDGES = (1, 5, 20, 100)
COUNTS = ("0", "1-4", "5-19", "20-99", "100+")  # training ratings, between the edges


def measure(progress: bool = True) -> Path:
    """Fit all sixteen combinations, and MF, on three splits and record `fm_features`; 20 minutes.

    In the record, `models` has for each combination ("" for none, names joined by "+" in the order
    of `GROUPS`) and for matrix factorization ("mf") the RMSE on each kind of rows: "all" test rows
    of canonical fold 1, those of "cold_movies" with under 5 training ratings, "new_users" and
    "new_movies", the test rows of `splits.cold_split`. `by_movie_count` and `by_user_count` have
    the RMSE on fold 1 by training ratings of the movie or user, None where there is no such row.
    """
    started = time.perf_counter()
    ml = movielens.load()
    fold = splits.canonical_fold(1)
    hidden = {
        "new_users": splits.cold_split(ml, "user", SHARE),
        "new_movies": splits.cold_split(ml, "item", SHARE),
    }
    counts = {"movie": _counts(ml.item, fold), "user": _counts(ml.user, fold)}
    rare = counts["movie"] < RARE
    models: dict[str, dict[str, float]] = {}
    tables: dict[str, dict[str, list[float | None]]] = {side: {} for side in counts}
    runs = [("mf", rung(RUNGS["mf"])), *_combinations()]
    for name, predicted in bar(runs, desc="features", unit="model", disable=not progress):
        error = predicted(ml, fold, SEED) - ml.rating[fold.test]
        models[name] = {"all": _rmse(error), "cold_movies": _rmse(error[rare])}
        for kind, split in hidden.items():
            models[name][kind] = _rmse(predicted(ml, split, SEED) - ml.rating[split.test])
        for side, table in tables.items():
            table[name] = _by_count(error, counts[side])
    results = {
        "metric": "test RMSE in stars, predictions not clipped",
        "setting": asdict(CHOSEN_FM),
        "seed": SEED,
        "rows": {
            "all": len(fold.test),
            "cold_movies": int(rare.sum()),
            **{kind: len(split.test) for kind, split in hidden.items()},
        },
        "models": models,
        "counts": list(COUNTS),
        **{f"{side}_count_rows": _rows(of_row) for side, of_row in counts.items()},
        **{f"by_{side}_count": table for side, table in tables.items()},
        "seconds": round(time.perf_counter() - started, 1),
    }
    return measurements.write("fm_features", results, "python -m dlrm_mini measure fm-features")


def _combinations() -> Iterator[tuple[str, Rung]]:
    """The machine with every combination of groups, with its name."""
    for size in range(len(GROUPS) + 1):
        for groups in combinations(GROUPS, size):

            def predicted(
                ml: MovieLens, split: splits.Split, seed: int, groups: tuple[str, ...] = groups
            ) -> Tensor:
                return fm(ml, split, seed, groups=groups)

            yield "+".join(groups), predicted


def _counts(ids: Tensor, split: splits.Split) -> Tensor:
    """For each test row, how many training rows share its id."""
    return torch.bincount(ids[split.train], minlength=int(ids.max()) + 1)[ids[split.test]]


def _bins(counts: Tensor) -> list[Tensor]:
    """For each of `COUNTS`, which test rows have such a count."""
    place = torch.bucketize(counts, torch.tensor(EDGES), right=True)
    return [place == number for number in range(len(COUNTS))]


def _rows(counts: Tensor) -> list[int]:
    return [int(where.sum()) for where in _bins(counts)]


def _by_count(error: Tensor, counts: Tensor) -> list[float | None]:
    return [_rmse(error[where]) if bool(where.any()) else None for where in _bins(counts)]


def _rmse(error: Tensor) -> float:
    return round(metrics.rmse(error, torch.zeros_like(error)), 5)
