"""The click task: MovieLens dressed as what a DLRM sees, ids, bags of ids and dense features.

A rating of 4 or 5 counts as a click. What is known of user, movie and time becomes nine categorical
features, one multi-hot feature (the movie's genres) and six dense ones. Four of the dense ones are
statistics of the ratings, and statistics are where labels leak: they are taken from the training
rows only, and for a training row from the *other* training rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from dlrm_mini.datasets.batches import Batch, SparseFeatures
from dlrm_mini.datasets.movielens import GENRES, MovieLens
from dlrm_mini.datasets.splits import Split
from dlrm_mini.errors import UserError

CLICK = 4.0  # the lowest rating that counts as a click
AGE_BUCKETS = ("under 18", "18-24", "25-34", "35-44", "45-49", "50-55", "56+")  # as in MovieLens 1M
DECADES = (*(f"{year}s" for year in range(1920, 2000, 10)), "unknown")
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
ZIP_PREFIXES = (*"0123456789", "other")  # the first digit is a region of the United States
PRIOR_ROWS = 20.0  # chosen on validation rows: `python -m dlrm_mini measure clicks-search`
DENSE = ("age", "year", "user_log_count", "user_mean", "item_log_count", "item_mean")

_AGE_EDGES = np.array([18, 25, 35, 45, 50, 56])
_DAY, _HOUR = 86_400, 3_600  # seconds


@dataclass(frozen=True, eq=False)
class ClickTask:
    """Examples to train and to test on, and how large the embedding tables have to be.

    Args:
        train: the training rows of the split, in its order.
        test: the test rows of the split, in its order.
        cardinalities: for each sparse feature, in order, the number of its ids.
        dense_names: the columns of `dense`.
    """

    train: Batch
    test: Batch
    cardinalities: dict[str, int]
    dense_names: tuple[str, ...]


def click_task(
    ml: MovieLens,
    split: Split,
    *,
    label: Literal["click", "rating"] = "click",
    prior_rows: float = PRIOR_ROWS,
) -> ClickTask:
    """Features and labels for the rows of a split.

    Sparse: user, item, occupation, gender, age_bucket, zip_prefix, decade (of release), hour and
    weekday (of the rating, UTC) with one id a row, and genres with one to six. Dense: age, year (of
    release), and for user and item the log of 1 + the number of other training rows and the mean
    label of those rows, shrunk towards that of all, see `leave_one_out`. Dense features are
    standardised with the mean and deviation of the training rows. One movie has no year: its decade
    is "unknown", an id of its own, and its year the mean of the training rows.

    Args:
        ml: all ratings.
        split: which rows to train and to test on; all statistics come from its training rows.
        label: "click" for 1 where the rating is at least 4 and else 0, "rating" for the rating.
        prior_rows: how strongly the two means are shrunk.

    Raises:
        UserError: when a row is both in train and in test, or the label is another.
    """
    if label not in ("click", "rating"):
        raise UserError(f"The label is {label!r}; expected 'click' or 'rating'.")
    labels = ml.rating if label == "rating" else (ml.rating >= CLICK).float()
    in_train = torch.zeros(len(labels), dtype=torch.bool)
    in_train[split.train] = True
    if bool(in_train[split.test].any()):
        row = int(split.test[in_train[split.test]][0])
        raise UserError(f"Row {row} is in train and in test; expected each row in one of them.")
    sparse, cardinalities = _sparse(ml)
    everything = Batch(_dense(ml, labels, in_train, prior_rows), sparse, labels)
    train, test = everything.select(split.train), everything.select(split.test)
    return ClickTask(train, test, cardinalities, DENSE)


def leave_one_out(
    ids: Tensor, labels: Tensor, in_train: Tensor, n_ids: int, prior_rows: float = 0.0
) -> tuple[Tensor, Tensor]:
    """For each row, how many *other* training rows share its id, and the mean label of those.

    Where there is none, the mean is that of all other training rows, and `prior_rows` rows with
    that mean can be added to every id's: the mean of two rows says little, and jumps by a half when
    one of them leaves it. No row's own label enters its own statistics. It still shows through,
    faintly, to a model that also knows the id: of two training rows with the same id, the one with
    the higher label has the lower mean.

    Args:
        ids: (N,) int64, below `n_ids`.
        labels: (N,) float32.
        in_train: (N,) bool, which rows the statistics come from.
        n_ids: the number of ids.
        prior_rows: how many rows with the mean label of all others to add to each id's, 0 or more.

    Returns:
        Counts and means, (N,) float64 each.
    """
    own_count = in_train.double()
    own_sum = own_count * labels.double()
    zeros = torch.zeros(n_ids, dtype=torch.float64)
    counts = zeros.index_add(0, ids, own_count)[ids] - own_count
    sums = zeros.index_add(0, ids, own_sum)[ids] - own_sum
    prior = (own_sum.sum() - own_sum) / (own_count.sum() - own_count).clamp(min=1)
    weights = counts + prior_rows
    means = (sums + prior_rows * prior) / weights.clamp(min=1e-9)
    return counts, torch.where(weights > 0, means, prior)


def _dense(ml: MovieLens, labels: Tensor, in_train: Tensor, prior_rows: float) -> Tensor:
    """The dense features of all rows, (N, 6) float32, standardised with the training rows."""
    age = torch.from_numpy(ml.users["age"].to_numpy(np.float64))[ml.user]
    year = torch.from_numpy(ml.movies["year"].to_numpy(np.float64, na_value=np.nan))[ml.item]
    user_count, user_mean = leave_one_out(ml.user, labels, in_train, ml.n_users, prior_rows)
    item_count, item_mean = leave_one_out(ml.item, labels, in_train, ml.n_items, prior_rows)
    columns = [age, year, user_count.log1p(), user_mean, item_count.log1p(), item_mean]
    dense = torch.stack(columns, dim=1)  # (N, 6)
    mean = dense[in_train].nanmean(dim=0)
    dense = torch.where(dense.isnan(), mean, dense)
    deviation = dense[in_train].std(dim=0, correction=0)
    return ((dense - mean) / torch.where(deviation > 0, deviation, 1.0)).float()


def _sparse(ml: MovieLens) -> tuple[SparseFeatures, dict[str, int]]:
    """The sparse features of all rows, and the number of ids of each."""
    occupations = sorted(ml.users["occupation"].unique())
    age, zips = ml.users["age"].to_numpy(), ml.users["zip"].str[0]
    of_user = {
        "occupation": ml.users["occupation"].map(occupations.index),
        "gender": ml.users["gender"].map(("F", "M").index),
        "age_bucket": np.searchsorted(_AGE_EDGES, age, side="right"),
        "zip_prefix": zips.where(zips.isin(ZIP_PREFIXES), "other").map(ZIP_PREFIXES.index),
    }
    decade = (ml.movies["year"] - 1920) // 10
    by_item = torch.from_numpy(decade.to_numpy(np.int64, na_value=len(DECADES) - 1))
    columns: dict[str, Tensor | tuple[Tensor, Tensor]] = {
        "user": ml.user,
        "item": ml.item,
        **{name: torch.tensor(np.array(v, np.int64))[ml.user] for name, v in of_user.items()},
        "decade": by_item[ml.item],
        "hour": ml.timestamp // _HOUR % 24,
        "weekday": (ml.timestamp // _DAY + WEEKDAYS.index("Thursday")) % 7,  # of 1970-01-01
        "genres": _genres(ml),
    }
    sizes = (
        *(ml.n_users, ml.n_items, len(occupations), 2, len(AGE_BUCKETS), len(ZIP_PREFIXES)),
        *(len(DECADES), 24, 7, len(GENRES)),
    )
    return SparseFeatures.from_columns(columns), dict(zip(columns, sizes, strict=True))


def _genres(ml: MovieLens) -> tuple[Tensor, Tensor]:
    """The genres of each row's movie as ids and offsets."""
    genres = torch.from_numpy(ml.genres)
    ids = genres.nonzero()[:, 1]
    ends = genres.sum(dim=1).cumsum(0)
    offsets = torch.cat([ends.new_zeros(1), ends])
    by_item = SparseFeatures.from_columns({"genres": (ids, offsets)})
    return by_item.select(ml.item)["genres"]
