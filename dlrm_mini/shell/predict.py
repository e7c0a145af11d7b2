"""`predict`: what a checkpoint says of a user and a movie, of all movies, of all test rows.

Ids are those of the data files, which begin at 1.
"""

from __future__ import annotations

import datetime
from argparse import Namespace
from pathlib import Path

import pandas as pd
import torch

from dlrm_mini.datasets.clicks import CLICK
from dlrm_mini.datasets.movielens import MovieLens
from dlrm_mini.errors import UserError
from dlrm_mini.shell.files import check_target, write_csv
from dlrm_mini.shell.trained import Trained

MEANING = {
    "clicks": f"the probability of a click, that is, of {CLICK:g} stars or more",
    "ratings": "in stars, not clipped to 1..5",
}


def predict(options: Namespace) -> int:
    """Print one prediction or a user's best movies, or write the predictions for all test rows.

    Raises:
        UserError: the checkpoint cannot be used, an id is not in the data, a file would be lost, or
            the options ask for none or for several of the three.
    """
    asked = [name for name in ("movie", "top", "out") if getattr(options, name) is not None]
    if len(asked) != 1 or (options.user is None) != (asked == ["out"]):
        raise UserError(
            "expected one of three: --user ID --movie ID (one prediction), --user ID --top N (the "
            "user's best unseen movies), or --out FILE.csv (all test rows)."
        )
    if options.top is not None and options.top < 1:
        raise UserError(f"--top is {options.top}; expected at least 1.")
    if options.out is not None:
        check_target(options.out, "predictions", overwrite=options.overwrite)
    trained = Trained.load(options.checkpoint, options.device)
    if options.out is not None:
        _write(trained, options.out)
        return 0
    ml = trained.rows.ml
    user = _row("user", options.user, ml.n_users)
    if options.movie is not None:
        _one(trained, user, _row("movie", options.movie, ml.n_items))
    else:
        _best(trained, user, options.top)
    return 0


def _row(what: str, number: int, n: int) -> int:
    """The row of an id of the data files."""
    if not 1 <= number <= n:
        raise UserError(
            f"there is no {what} {number}; expected an id as in the data files, 1..{n}."
        )
    return number - 1


def _one(trained: Trained, user: int, item: int) -> None:
    """Print the prediction for a user and a movie, and what the data says."""
    rows, ml = trained.rows, trained.rows.ml
    found = ((ml.user == user) & (ml.item == item)).nonzero().flatten()
    if len(found):
        learnt = (rows.train_rows == found[0]).nonzero().flatten()
        batch = rows.train.select(learnt) if len(learnt) else rows.of(found)
        kind = "has learnt from this" if len(learnt) else "has not learnt from this"
        fact = f"{ml.rating[found[0]]:g} stars, {_when(ml.timestamp[found[0]])}; the model {kind}"
    else:
        batch = rows.imagined(user, torch.tensor([item]))
        fact = f"no rating; asked as if at the user's last, {_when(_last(ml, user))}"
    print(trained.recipe.title)
    print(f"user {user + 1} and movie {item + 1}, {_title(ml, item)}")
    print(f"prediction: {float(trained.scores(batch)[0]):.4f}, {MEANING[trained.recipe.task]}")
    print(f"in the data: {fact}")


def _best(trained: Trained, user: int, top: int) -> None:
    """Print the user's movies with the highest scores, without those learnt from."""
    rows, ml = trained.rows, trained.rows.ml
    by_user = rows.train_rows[ml.user[rows.train_rows] == user]
    unseen = torch.ones(ml.n_items, dtype=torch.bool)
    unseen[ml.item[by_user]] = False
    items = unseen.nonzero().flatten()
    scores = trained.scores(rows.imagined(user, items))
    order = scores.argsort(descending=True, stable=True)[:top]
    learnt = torch.bincount(ml.item[rows.train_rows], minlength=ml.n_items)
    own = ml.user == user
    given = dict(zip(ml.item[own].tolist(), ml.rating[own].tolist(), strict=True))
    print(trained.recipe.title)
    print(f"user {user + 1}: the best of {len(items):,} movies that the model has not seen rated "
          f"by this user,\nas if at the user's last rating, {_when(_last(ml, user))}")  # fmt: skip
    print(f"{'':>4} {'score':>7} {'movie':>6} {'ratings':>8} {'given':>6}  title")
    best = zip(items[order].tolist(), scores[order].tolist(), strict=True)
    for place, (item, score) in enumerate(best, 1):
        stars = f"{given[item]:g}" if item in given else "-"
        print(f"{place:>4} {score:>7.4f} {item + 1:>6} {int(learnt[item]):>8} {stars:>6}  "
              f"{_title(ml, item)}")  # fmt: skip
    print(
        f"score: {MEANING[trained.recipe.task]}\n"
        "ratings: of the movie, among the training rows; given: stars of this user, held back"
    )


def _write(trained: Trained, path: Path) -> None:
    """Write user, movie, time, label and prediction of all test rows."""
    rows, ml, task = trained.rows, trained.rows.ml, trained.recipe.task
    which = rows.test_rows
    table = pd.DataFrame({
        "user": ml.user[which] + 1,
        "movie": ml.item[which] + 1,
        "timestamp": ml.timestamp[which],
        "click" if task == "clicks" else "rating": rows.test.labels.int(),
        "prediction": trained.scores(rows.test),
    })  # fmt: skip
    write_csv(table, path)
    print(trained.recipe.title)
    print(f"{len(table):,} test rows, with the ids of the data files; "
          f"prediction: {MEANING[task]}\nwritten: {path}")  # fmt: skip


def _last(ml: MovieLens, user: int) -> torch.Tensor:
    return ml.timestamp[ml.user == user].max()


def _when(timestamp: torch.Tensor) -> str:
    moment = datetime.datetime.fromtimestamp(int(timestamp), datetime.UTC)
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _title(ml: MovieLens, item: int) -> str:
    title, year = ml.movies["title"][item], ml.movies["year"][item]
    return str(title) if pd.isna(year) else f"{title} ({year})"
