"""Which ratings to learn from and which to be judged on. Each split answers another question.

A random split asks how well gaps can be filled in, a split by time how well the future is foreseen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from dlrm_mini.datasets.movielens import MovieLens
from dlrm_mini.errors import UserError

FOLDS = 5
N_RATINGS = 100_000


@dataclass(frozen=True, eq=False)
class Split:
    """Rows to train on and rows to test on, each (n,) int64 and ascending, with none in common."""

    train: Tensor
    test: Tensor


def _split(rows: Tensor, in_test: Tensor) -> Split:
    """A split of ascending `rows` by a mask of the same length, with something on either side."""
    split = Split(rows[~in_test], rows[in_test])
    if not len(split.train) or not len(split.test):
        raise UserError(
            f"The split leaves {len(split.train)} rows to train on and {len(split.test)} to test "
            "on; expected some of each. Give more rows or another share."
        )
    return split


def _check_share(share: float) -> None:
    """Raise a UserError unless 0 < share < 1."""
    if not 0 < share < 1:
        raise UserError(f"The share to hold out is {share}; expected a number between 0 and 1.")


def canonical_fold(k: int) -> Split:
    """Fold k of the five MovieLens 100K ships as u1 to u5: test rows 20000 (k - 1) to 20000 k.

    Args:
        k: 1 to 5.

    Raises:
        UserError: for another k.
    """
    if k not in range(1, FOLDS + 1):
        raise UserError(f"There is no fold {k}; expected 1 to {FOLDS}.")
    rows = torch.arange(N_RATINGS)
    return _split(rows, rows // (N_RATINGS // FOLDS) == k - 1)


def random_split(n: int, test: float = 0.2, seed: int = 0) -> Split:
    """Rows 0 to n - 1, a random share of them to test on.

    Raises:
        UserError: when the share is not between 0 and 1, or leaves a side empty.
    """
    return holdout(torch.arange(n), test, seed)


def holdout(rows: Tensor, fraction: float, seed: int = 0) -> Split:
    """Set a random part of some rows aside: of training rows, the part to choose settings on.

    Args:
        rows: (n,) int64.
        fraction: the share of them for `test`.
        seed: which part.

    Raises:
        UserError: when the fraction is not between 0 and 1, or leaves a side empty.
    """
    _check_share(fraction)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
    in_test = order < round(len(rows) * fraction)
    ascending = rows.sort().values
    return _split(ascending, in_test)


def user_temporal_split(ml: MovieLens, test: float = 0.2) -> Split:
    """The last ratings of each user to test on: everyone is known, and the future is not.

    Of a user's n ratings the last n * test, rounded down, go to test; ratings of the same second
    stay in the order of the file.

    Raises:
        UserError: when the share is not between 0 and 1.
    """
    _check_share(test)
    user, timestamp = ml.user.numpy(), ml.timestamp.numpy()
    order = np.lexsort((timestamp, user))  # by user, then time, then place in the file
    counts = np.bincount(user, minlength=ml.n_users)
    place = np.arange(len(user)) - np.repeat(counts.cumsum() - counts, counts)
    kept = counts - (counts * test).astype(np.int64)
    in_test = torch.zeros(len(user), dtype=torch.bool)
    in_test[order] = torch.from_numpy(place >= np.repeat(kept, counts))
    return _split(torch.arange(len(user)), in_test)


def global_temporal_split(ml: MovieLens, test: float = 0.2) -> Split:
    """The last ratings of all to test on: the honest future, mostly of users never seen before.

    Raises:
        UserError: when the share is not between 0 and 1.
    """
    _check_share(test)
    order = ml.timestamp.sort(stable=True).indices
    in_test = torch.zeros(len(order), dtype=torch.bool)
    in_test[order[len(order) - round(len(order) * test) :]] = True
    return _split(torch.arange(len(order)), in_test)


def cold_split(
    ml: MovieLens, side: Literal["user", "item"], share: float = 0.2, seed: int = 0
) -> Split:
    """All ratings of some users, or of some movies, to test on: nobody knows them from training.

    Args:
        ml: all ratings.
        side: whether users or movies are held out.
        share: of the users or movies with at least one rating, how many.
        seed: which of them.

    Raises:
        UserError: the side is neither; the share is not between 0 and 1, or leaves a side empty.
    """
    if side not in ("user", "item"):
        raise UserError(f"The side to hold out is {side!r}; expected 'user' or 'item'.")
    ids = ml.user if side == "user" else ml.item
    hidden = holdout(ids.unique(), share, seed).test  # type: ignore[no-untyped-call]
    return _split(torch.arange(len(ids)), torch.isin(ids, hidden))
