"""Which ratings a run learns from and is judged on, as batches with their features."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from dlrm_mini.datasets import splits
from dlrm_mini.datasets.batches import Batch
from dlrm_mini.datasets.movielens import MovieLens
from dlrm_mini.datasets.splits import Split
from dlrm_mini.shell.models import KINDS, Task

VALIDATION = 0.1  # the share of the training rows that --validate sets aside


def named_split(ml: MovieLens, name: str) -> Split:
    """The split that the shell calls "random", "temporal" or "u1" to "u5"."""
    if name == "random":
        return splits.random_split(len(ml.rating))
    if name == "temporal":
        return splits.user_temporal_split(ml)
    return splits.canonical_fold(int(name.removeprefix("u")))


def _set_aside(ml: MovieLens, rows: Tensor, split: str) -> Split:
    """A part of the training rows, taken from them the way the split takes its test rows."""
    if split != "temporal":
        return splits.holdout(rows, VALIDATION)
    columns = {name: getattr(ml, name)[rows] for name in ("user", "item", "rating", "timestamp")}
    part = splits.user_temporal_split(replace(ml, **columns), VALIDATION)
    return Split(rows[part.train], rows[part.test])


class Rows:
    """The rows of a run and their features, those that are statistics taken from `train` alone.

    Args:
        ml: all ratings.
        model: one of the four, which decides on the features.
        task: "clicks" or "ratings".
        split: its name.
        validate: whether to set a part of the split's training rows aside.

    Attributes:
        train_rows, valid_rows, test_rows: (N,), (V,), (T,) int64; V is 0 without `validate`.
        train, valid, test: the same as batches.
        made: the task as the model's ladder makes it, its test rows `valid` and `test` together.
    """

    def __init__(self, ml: MovieLens, model: str, task: str, split: str, *, validate: bool) -> None:
        self.ml, self._features = ml, KINDS[model, task].features
        whole = named_split(ml, split)
        self.train_rows, self.test_rows = whole.train, whole.test
        self.valid_rows = whole.train[:0]
        if validate:
            part = _set_aside(ml, whole.train, split)
            self.train_rows, self.valid_rows = part.train, part.test
        others = torch.cat([self.valid_rows, self.test_rows])
        self.made = self._with(ml, others)
        self.train, rest = self.made.train, self.made.test
        self.valid = rest.select(torch.arange(len(self.valid_rows)))
        self.test = rest.select(torch.arange(len(self.valid_rows), len(others)))

    def of(self, rows: Tensor) -> Batch:
        """Some rows (B,), none of them a training row, as a batch."""
        return self._with(self.ml, rows).test

    def imagined(self, user: int, items: Tensor) -> Batch:
        """One user with each of `items` (B,), as if rated in the second of the user's last rating.

        The labels of this batch mean nothing.
        """
        ml, n = self.ml, len(items)
        when = ml.timestamp[ml.user == user].max()
        more = replace(
            ml,
            user=torch.cat([ml.user, torch.full_like(items, user)]),
            item=torch.cat([ml.item, items]),
            rating=torch.cat([ml.rating, ml.rating.new_ones(n)]),
            timestamp=torch.cat([ml.timestamp, when.expand(n)]),
        )
        return self._with(more, torch.arange(n) + len(ml.rating)).test

    def _with(self, ml: MovieLens, others: Tensor) -> Task:
        """The training rows and `others`, with what the model looks at."""
        return self._features(ml, Split(self.train_rows, others))
