"""MovieLens 100K: 100,000 ratings by 943 users of 1,682 movies, with what is known of both.

Harper and Konstan 2015, doi 10.1145/2827872. Ids are zero-based here: user 1 of the file is row 0.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from dlrm_mini.datasets.batches import Batch, SparseFeatures
from dlrm_mini.datasets.ratings_file import read_ratings
from dlrm_mini.datasets.sources import ensure

GENRES = (
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
)
GENRES_SHA256 = "a80ae775977814b56f1608b9281c6ec091cee0ea3978a5fa4eac475afb00dfb0"
# "Title (1995)"; made-for-video and television movies carry a second bracket, "(1995) (V)".
_TITLE_AND_YEAR = re.compile(r"(.*?)\s*\((\d{4})\)(?:\s*\((?:V|TV)\))?\s*")
_ARTICLE_BEHIND = re.compile(
    r"(^|\()([^()]+), (The|An?|Il|Las?|Les?|Los|L'|Das|Der|Det|Die|El|O)(?=$|\)| \()"
)


@dataclass(frozen=True, eq=False)
class MovieLens:
    """The data set, N = 100,000 ratings in the order of the file.

    Args:
        user: (N,) int64, 0 to 942.
        item: (N,) int64, 0 to 1681.
        rating: (N,) float32, 1 to 5.
        timestamp: (N,) int64, seconds since 1970-01-01 UTC.
        users: one row a user: age (int), gender ("F" or "M"), occupation, zip (text).
        movies: one row a movie: title without the year, year (Int64, missing for one movie).
        genres: (1682, 19) uint8, 1 where the movie has the genre; columns as in `GENRES`.
        source: where the files came from, in words.
    """

    user: Tensor
    item: Tensor
    rating: Tensor
    timestamp: Tensor
    users: pd.DataFrame
    movies: pd.DataFrame
    genres: np.ndarray[tuple[int, int], np.dtype[np.uint8]]
    source: str

    @property
    def n_users(self) -> int:
        """943."""
        return len(self.users)

    @property
    def n_items(self) -> int:
        """1,682."""
        return len(self.movies)

    def examples(self, rows: Tensor | None = None) -> Batch:
        """Ratings as a batch: sparse features "user" and "item", no dense ones, labels 1 to 5.

        Args:
            rows: (B,) int64, which ratings; all of them when None.
        """
        columns = {"user": self.user, "item": self.item}
        everything = Batch(
            torch.empty(len(self.rating), 0), SparseFeatures.from_columns(columns), self.rating
        )
        return everything if rows is None else everything.select(rows)


def load() -> MovieLens:
    """MovieLens 100K from the data folder, fetched and verified when it is not there yet.

    Raises:
        UserError: see `dlrm_mini.datasets.sources.ensure`.
    """
    found = ensure("ml-100k")
    assert found.usable and found.source  # or `ensure` had raised
    ratings_name, users_name, movies_name = found.usable
    folder = found.dataset.folder
    ratings = read_ratings(folder / ratings_name)
    movies, genres = read_movies(folder / movies_name)
    assert hashlib.sha256(genres.tobytes()).hexdigest() == GENRES_SHA256
    return MovieLens(
        user=ratings.user - 1,
        item=ratings.item - 1,
        rating=ratings.rating,
        timestamp=ratings.timestamp,
        users=_read_users(folder / users_name),
        movies=movies,
        genres=genres,
        source=found.source,
    )


def _read_users(path: Path) -> pd.DataFrame:
    """The users of `u.user`, in the order of their ids."""
    columns = ["user", "age", "gender", "occupation", "zip"]
    table = pd.read_csv(path, sep="|", names=columns, dtype={"zip": str})
    return table.drop(columns="user")


def read_movies(path: Path) -> tuple[pd.DataFrame, np.ndarray[tuple[int, int], np.dtype[np.uint8]]]:
    """Titles, years and genres, the same from `u.item` and from the wheel's `ml-100k.item`.

    Args:
        path: a verified file; one that ends in `u.item` is read as such.

    Returns:
        The table of `MovieLens.movies`, and the genres (n_items, 19) uint8.
    """
    read = _from_u_item if path.name == "u.item" else _from_wheel
    texts, flags = read(path)
    matches = [_TITLE_AND_YEAR.fullmatch(text) for text in texts]
    titles = [match[1] if match else text for match, text in zip(matches, texts, strict=True)]
    years = pd.array([int(match[2]) if match else pd.NA for match in matches], dtype="Int64")
    movies = pd.DataFrame({"title": [as_people_say(title) for title in titles], "year": years})
    return movies, np.array(flags, dtype=np.uint8)


def as_people_say(title: str) -> str:
    """A title with its article in front: "Godfather, The" becomes "The Godfather".

    The files sort by the first noun; a second title in parentheses is treated alike.
    """
    turned = _ARTICLE_BEHIND.sub(r"\1\3 \2", " ".join(title.split()))
    return turned.replace("L' ", "L'")


def _from_u_item(path: Path) -> tuple[list[str], list[list[int]]]:
    """`u.item`, latin-1: id | title (year) | three columns not used here | 19 flags."""
    rows = [line.split("|") for line in path.read_text("latin-1").splitlines()]
    return [row[1] for row in rows], [[int(flag) for flag in row[5:]] for row in rows]


def _from_wheel(path: Path) -> tuple[list[str], list[list[int]]]:
    """The wheel's file, utf-8: a header, then id, title, year, names of genres between tabs.

    Movie 1412 has "V" for its year, since its year is still in its title, and movie 267, which has
    neither title nor year, says "unkonwn" for both. With "title (year)" put together again, the
    first reads as in `u.item`.
    """
    titles, flags = [], []
    for line in path.read_text("utf-8").splitlines()[1:]:
        _, title, year, genres = line.split("\t")
        titles.append("unknown" if title == "unkonwn" else f"{title} ({year})")
        flags.append([int(genre in genres.split()) for genre in GENRES])
    return titles, flags
