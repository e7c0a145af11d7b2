"""The ratings ladder beside its peers: Surprise, and myFM's Bayesian factorization machine.

Test RMSE and seconds on two of the canonical folds of MovieLens-100K (the recorded ladder has all
five), one seed, one thread. Matrix factorization and Surprise come from the benchmark mf-fold. Both
Bayesian machines are measured with user and movie alone ("ids") and with the same side features.
The seconds of ours hold making the features and predicting the test rows as well, myFM's hold
fitting alone.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks import mf_fold, panels, peer_env
from benchmarks.arms import Arm, Measured, Outcome, alternate, measured, to_rows
from benchmarks.report import Row
from dlrm_mini import hardware, metrics
from dlrm_mini.datasets import movielens, splits
from dlrm_mini.datasets.batches import Batch
from dlrm_mini.datasets.movielens import MovieLens
from dlrm_mini.datasets.rating_features import RatingTask, rating_features
from dlrm_mini.datasets.splits import Split
from dlrm_mini.ladders.rating_models import FM_GROUPS
from dlrm_mini.ladders.rating_rungs import RUNGS

NAME = "ratings"
FOLDS = (1, 2)
OURS = ("svdpp", "mlp", "mlp+dot", "dlrm", "fm", "fm_bayes_ids", "fm_bayes")
PEERS: dict[str, tuple[str, ...]] = {"myfm-ids": (), "myfm": FM_GROUPS}  # arm -> side features


def run(folder: Path) -> list[Row]:
    """Measure all arms that can be had here, draw the picture, return the rows."""
    ml = movielens.load()
    first = mf_fold.measure(folder)
    arms: dict[str, Arm[Split]] = {
        f"ours-{name}": lambda split, name=name: ours(ml, split, name) for name in OURS
    }
    arms |= {
        name: lambda split, groups=groups: myfm(ml, split, groups, folder)
        for name, groups in PEERS.items()
    }
    outcome = alternate(arms, [splits.canonical_fold(k) for k in FOLDS], "fold")
    known = {
        "ours-mf" if arm == "ours" else arm: [runs[k - 1] for k in FOLDS]
        for arm, runs in first.measured.items()
    }
    together = Outcome(known | outcome.measured, first.missing | outcome.missing)
    title = f"Ratings on MovieLens-100K, {len(FOLDS)} folds, one thread"
    panels.draw(mf_fold.rmse_and_seconds(together), title).savefig(folder / f"bench-{NAME}.png")
    return to_rows(NAME, together, mf_fold.UNITS)


def ours(ml: MovieLens, split: Split, name: str) -> Measured:
    """A rung of the ladder."""
    started = time.perf_counter()
    prediction = RUNGS[name](ml, split, 0)
    seconds = time.perf_counter() - started
    values = {"rmse": metrics.rmse(prediction, ml.rating[split.test]), "s": seconds}
    note = f"as `python -m dlrm_mini measure ratings-ladder` does; folds {FOLDS}, seed 0"
    return Measured(values, hardware.versions("dlrm-mini", "torch", "numpy"), note)


def myfm(ml: MovieLens, split: Split, groups: tuple[str, ...], folder: Path) -> Measured:
    """myFM's, on the same features."""
    python = peer_env.of("myfm", folder)
    task = rating_features(ml, split, groups)
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "fold.npz"
        design = _design(task.train, task, "train") | _design(task.test, task, "test")
        np.savez(path, group_sizes=list(task.cardinalities.values()), **design)
        said = peer_env.call(python, "myfm_fold.py", path)
    note = f"rank 10, 300 samples, features {', '.join(task.cardinalities)}; folds {FOLDS}"
    return measured(said, tuple(mf_fold.UNITS), note)


def _design(batch: Batch, task: RatingTask, part: str) -> dict[str, np.ndarray]:
    """The rows as a sparse matrix with a column for each id: columns, where rows begin, labels."""
    rows, columns, first = [], [], 0
    for name, size in task.cardinalities.items():
        ids, offsets, _ = batch.sparse.bag(name)
        rows.append(torch.arange(len(batch)).repeat_interleave(offsets.diff()))
        columns.append(ids + first)
        first += size
    order = torch.cat(rows).argsort(stable=True)
    ends = torch.cat(rows).bincount(minlength=len(batch)).cumsum(0)
    offsets = torch.cat([ends.new_zeros(1), ends])
    arrays = {"columns": torch.cat(columns)[order], "offsets": offsets, "rating": batch.labels}
    return {f"{part}_{name}": array.numpy() for name, array in arrays.items()}
