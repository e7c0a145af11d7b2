"""Matrix factorization beside Surprise's SVD and SVD++ on the canonical folds of MovieLens-100K.

Test RMSE and seconds of fitting, fold by fold, one arm after the other within a fold, so that a
machine that grows slower does so for all. Both sides fit on one thread. Our arm has the
hyper-parameters that the search chose, Surprise its defaults. Reading data, importing and
predicting are not in the seconds.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from benchmarks import peer_env
from benchmarks.report import Row
from dlrm_mini import hardware, style
from dlrm_mini.datasets import movielens, splits
from dlrm_mini.datasets.movielens import MovieLens
from dlrm_mini.datasets.splits import Split
from dlrm_mini.ladders.rating_models import CHOSEN, fit_mf, rmse_on

NAME = "mf-fold"
PEERS = ("surprise-svd", "surprise-svdpp")
UNITS = {"rmse": "stars", "s": "s"}
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Measured:
    """One arm on one fold."""

    rmse: float
    s: float
    versions: dict[str, str]


Arm = Callable[[Split], Measured]


def run(folder: Path) -> list[Row]:
    """Measure all arms that can be had here, draw the picture, return the rows."""
    ml = movielens.load()
    arms: dict[str, Arm] = {"ours": lambda split: ours(ml, split)}
    try:
        python = peer_env.ensure(folder / "bench-env", HERE / "requirements-surprise.txt")
        arms |= {peer: _peer_arm(python, peer, ml) for peer in PEERS}
    except peer_env.PeerError as error:
        print(f"SKIPPED {', '.join(PEERS)}: {error}", flush=True)
    fit_mf(ml, splits.canonical_fold(1).train[:1000], seed=0)  # torch loads parts of itself lazily
    folds = [splits.canonical_fold(k) for k in range(1, splits.FOLDS + 1)]
    measured = alternate(arms, folds)
    folder.mkdir(parents=True, exist_ok=True)
    draw(measured).savefig(folder / f"bench-{NAME}.png")
    return to_rows(measured)


def ours(ml: MovieLens, split: Split) -> Measured:
    """Fit and judge this project's matrix factorization."""
    started = time.perf_counter()
    model, _ = fit_mf(ml, split.train, seed=0, setting=CHOSEN)
    seconds = time.perf_counter() - started
    return Measured(
        rmse_on(model, ml, split.test), seconds, hardware.versions("dlrm-mini", "torch", "numpy")
    )


def _peer_arm(python: Path, model: str, ml: MovieLens) -> Arm:
    """An arm that fits one of Surprise's models in its own process."""

    def arm(split: Split) -> Measured:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "fold.npz"
            np.savez(path, **_columns(ml, split))
            said = peer_env.call(python, HERE / "surprise_fold.py", model, str(path))
        return Measured(**json.loads(said.splitlines()[-1]))

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


def alternate(arms: dict[str, Arm], folds: Iterable[Split]) -> dict[str, list[Measured]]:
    """Every arm on every fold, all arms on one fold before the next; one that fails is dropped."""
    measured: dict[str, list[Measured]] = {name: [] for name in arms}
    for number, fold in enumerate(folds, start=1):
        for name in list(measured):
            try:
                one = arms[name](fold)
            except peer_env.PeerError as error:
                print(f"SKIPPED {name}: {error}", flush=True)
                del measured[name]
                continue
            measured[name].append(one)
            print(f"fold {number} {name:<16} RMSE {one.rmse:.4f} in {one.s:6.2f} s", flush=True)
    return measured


def to_rows(measured: dict[str, list[Measured]]) -> list[Row]:
    """Mean and standard deviation over the folds, one row an arm and metric."""
    machine = hardware.describe()
    rows = []
    for arm, folds in measured.items():
        for metric, unit in UNITS.items():
            values = [getattr(fold, metric) for fold in folds]
            mean, spread = statistics.mean(values), statistics.stdev(values)
            rows.append(Row(NAME, arm, metric, mean, spread, unit, machine, folds[0].versions))
    return rows


def draw(measured: dict[str, list[Measured]]) -> Figure:
    """RMSE against seconds of fitting: a small dot a fold, a large one for the mean."""
    style.use()
    figure = Figure(figsize=(8, 4), dpi=100)
    axes = figure.subplots()
    for (arm, folds), colour in zip(measured.items(), style.PALETTE, strict=False):
        seconds, rmse = [f.s for f in folds], [f.rmse for f in folds]
        axes.scatter(seconds, rmse, s=22, color=colour, alpha=0.5)
        means = statistics.mean(seconds), statistics.mean(rmse)
        label = f"{arm}: {means[1]:.4f} in {means[0]:.2f} s"
        axes.scatter(*means, s=130, color=colour, edgecolor=style.INK, label=label, zorder=3)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set(
        xlabel="seconds to fit one fold (log scale)",
        ylabel="test RMSE, stars",
        title="Matrix factorization on MovieLens-100K, folds u1 to u5",
    )
    axes.legend(title="mean of five folds")
    return figure
