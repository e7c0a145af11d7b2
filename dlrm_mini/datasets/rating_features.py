"""The rating task: user, movie, and as many side features as are asked for.

Four groups of features can be switched on, each a few fields of a factorization machine or a DLRM:

- "user": age bucket, gender, occupation and zip prefix of the user;
- "movie": decade of release and genres of the movie;
- "time": week, weekday and hour of the rating (UTC), and the user's tenure, the time since their
  first rating among the training rows. When a rating is to be predicted its time is known, as it is
  in timeSVD++ (Koren 2009): it says who is asking when, and nothing about the answer;
- "history": the bag of all movies that the user rated among the training rows, whatever the rating,
  each weighted 1/sqrt(their number), which is what SVD++ adds (Koren 2008).

All that is counted or remembered comes from training rows.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from dlrm_mini.datasets.batches import Batch
from dlrm_mini.datasets.clicks import click_task
from dlrm_mini.datasets.movielens import MovieLens
from dlrm_mini.datasets.sparse import Column, SparseFeatures
from dlrm_mini.datasets.splits import Split
from dlrm_mini.errors import UserError

GROUPS = {
    "user": ("age_bucket", "gender", "occupation", "zip_prefix"),
    "movie": ("decade", "genres"),
    "time": ("week", "weekday", "hour", "tenure"),
    "history": ("history",),
}
_DAY = 86_400  # seconds
TENURES = (
    *("before", "30 minutes", "1 hour", "2 hours", "12 hours", "1 day", "2 days", "4 days"),
    *("1 week", "2 weeks", "4 weeks", "8 weeks", "16 weeks", "longer", "stranger"),
)
_TENURE_EDGES = torch.tensor([0, 1 / 48, 1 / 24, 1 / 12, 0.5, 1, 2, 4, 7, 14, 28, 56, 112]) * _DAY


@dataclass(frozen=True, eq=False)
class RatingTask:
    """Examples to train and to test on, labels 1 to 5, without dense features.

    Args:
        train: the training rows of the split, in its order.
        test: the test rows of the split, in its order.
        cardinalities: for each sparse feature of the batches, in order, the number of its ids.
        histories: when asked for, the feature "history" with a row for each *user*: 943 bags, where
            a bag for each rating would hold some fifteen million ids. `histories.select(users)`
            gives the bags of a batch.
    """

    train: Batch
    test: Batch
    cardinalities: dict[str, int]
    histories: SparseFeatures | None


def rating_features(ml: MovieLens, split: Split, groups: Collection[str] = ()) -> RatingTask:
    """Features and labels for the rows of a split: user, item, and some groups of side features.

    Args:
        ml: all ratings.
        split: which rows to train and to test on.
        groups: which of `GROUPS` to add.

    Raises:
        UserError: there is no such group; a row is both in train and in test.
    """
    for group in groups:
        if group not in GROUPS:
            raise UserError(f"There is no feature group '{group}'; there are {', '.join(GROUPS)}.")
    task = click_task(ml, split, label="rating")
    times = _times(ml, split.train)
    sizes = task.cardinalities | {name: size for name, (_, size) in times.items()}
    wanted = [name for group, names in GROUPS.items() if group in groups for name in names]
    names = [name for name in ("user", "item", *wanted) if name != "history"]

    def batch(part: Batch, rows: Tensor) -> Batch:
        columns: dict[str, Column] = {
            name: times[name][0][rows] if name in times else part.sparse.bag(name)[:2]
            for name in names
        }
        sparse = SparseFeatures.from_columns(columns)
        return Batch(torch.empty(len(rows), 0), sparse, part.labels)

    return RatingTask(
        train=batch(task.train, split.train),
        test=batch(task.test, split.test),
        cardinalities={name: sizes[name] for name in names},
        histories=histories(ml, split.train) if "history" in wanted else None,
    )


def histories(ml: MovieLens, train_rows: Tensor) -> SparseFeatures:
    """The feature "history": for each of the 943 users, the movies of their training rows.

    Each of a user's n movies has the weight 1/sqrt(n), so that the sum of n independent vectors is
    as long as one of them. A user without training rows has an empty bag.

    Args:
        ml: all ratings.
        train_rows: (N,) int64.
    """
    user = ml.user[train_rows]
    counts = user.bincount(minlength=ml.n_users)
    offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    weights = counts.clamp(min=1).float().rsqrt().repeat_interleave(counts)
    items = ml.item[train_rows][user.argsort(stable=True)]
    return SparseFeatures.from_columns({"history": (items, offsets, weights)})


def _times(ml: MovieLens, train_rows: Tensor) -> dict[str, tuple[Tensor, int]]:
    """The features of a rating's time that the click task does not have, and their numbers of ids.

    Week 0 begins with the data set's first rating. A tenure is the id of one of `TENURES`.
    """
    weeks = (ml.timestamp - ml.timestamp.min()) // (7 * _DAY)
    never = torch.iinfo(torch.int64).max
    first = torch.full((ml.n_users,), never).scatter_reduce(
        0, ml.user[train_rows], ml.timestamp[train_rows], "amin"
    )[ml.user]
    tenure = torch.bucketize((ml.timestamp - first).float(), _TENURE_EDGES, right=True)
    tenure[first == never] = TENURES.index("stranger")
    return {"week": (weeks, int(weeks.max()) + 1), "tenure": (tenure, len(TENURES))}
