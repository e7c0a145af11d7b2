"""Matrix factorization beside Surprise's SVD and SVD++ on the canonical folds of MovieLens-100K.

Test RMSE and seconds of fitting, fold by fold, one arm after the other within a fold, so that a
machine that grows slower does so for all. Both sides fit on one thread. Our arm has the
hyper-parameters that the search chose, Surprise its defaults. Reading data, importing and
predicting are not in the seconds.
"""

import functools
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import panels, peer_env
from benchmarks.arms import Arm, Measured, Outcome, alternate, measured, to_rows
from benchmarks.report import Row
from dlrm_mini import hardware
from dlrm_mini.datasets import movielens, splits
from dlrm_mini.datasets.movielens import MovieLens
from dlrm_mini.datasets.splits import Split
from dlrm_mini.ladders.rating_models import CHOSEN, fit_mf, rmse_on

NAME = "mf-fold"
PEERS = ("surprise-svd", "surprise-svdpp")
FOLDS = range(1, splits.FOLDS + 1)
UNITS = {"rmse": "stars", "s": "s"}


def run(folder: Path) -> list[Row]:
    """Measure all arms that can be had here, draw the picture, return the rows."""
    outcome = measure(folder)
    folder.mkdir(parents=True, exist_ok=True)
    title = "Matrix factorization on MovieLens-100K, folds u1 to u5, one thread"
    panels.draw(rmse_and_seconds(outcome), title).savefig(folder / f"bench-{NAME}.png")
    return to_rows(NAME, outcome, UNITS)


@functools.cache
def measure(folder: Path) -> Outcome:
    """All arms on all folds; kept, since the benchmark ratings shows them as well."""
    ml = movielens.load()
    arms: dict[str, Arm[Split]] = {"ours": lambda split: ours(ml, split)}
    arms |= {peer: _peer_arm(folder, peer, ml) for peer in PEERS}
    fit_mf(ml, splits.canonical_fold(1).train[:1000], seed=0)  # torch loads parts of itself lazily
    return alternate(arms, [splits.canonical_fold(k) for k in FOLDS], "fold")


def rmse_and_seconds(outcome: Outcome) -> list[panels.Panel]:
    """The two panels of the picture."""

    def of(metric: str) -> dict[str, list[float]]:
        return {arm: [run.values[metric] for run in runs] for arm, runs in outcome.measured.items()}

    seconds = panels.Panel("seconds to fit a fold (log scale)", of("s"), "{:.1f}", log=True)
    return [panels.Panel("test RMSE, stars", of("rmse")), seconds]


def ours(ml: MovieLens, split: Split) -> Measured:
    """Fit and judge this project's matrix factorization."""
    started = time.perf_counter()
    model, _ = fit_mf(ml, split.train, seed=0, setting=CHOSEN)
    seconds = time.perf_counter() - started
    values = {"rmse": rmse_on(model, ml, split.test), "s": seconds}
    return Measured(values, hardware.versions("dlrm-mini", "torch", "numpy"), f"{CHOSEN}")


def _peer_arm(folder: Path, model: str, ml: MovieLens) -> Arm[Split]:
    """An arm that fits one of Surprise's models in its own process."""

    def arm(split: Split) -> Measured:
        python = peer_env.of("surprise", folder)
        with tempfile.TemporaryDirectory() as temporary:
            path = Path(temporary) / "fold.npz"
            np.savez(path, **_columns(ml, split))
            said = peer_env.call(python, "surprise_fold.py", model, path)
        return measured(said, tuple(UNITS), "defaults")

    return arm


def _columns(ml: MovieLens, split: Split) -> dict[str, Any]:
    """The fold as arrays, each (n,)."""
    parts = {"train": split.train, "test": split.test}
    columns = {"user": ml.user, "item": ml.item, "rating": ml.rating}
    return {
        f"{part}_{name}": column[rows].numpy()
        for part, rows in parts.items()
        for name, column in columns.items()
    }
