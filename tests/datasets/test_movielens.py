"""The real data set is what `data/README.md` says, from whichever file it is read."""

import hashlib
import time

import pytest
import torch

from dlrm_mini.datasets import movielens, registry
from dlrm_mini.datasets.movielens import GENRES


def test_the_ratings(ml):
    assert torch.bincount(ml.rating.long()).tolist() == [0, 6110, 11370, 27145, 34174, 21201]
    assert (ml.n_users, ml.n_items) == (943, 1682)
    assert torch.bincount(ml.user).min() == 20 and len(torch.bincount(ml.user)) == 943
    assert torch.bincount(ml.item).min() == 1 and len(torch.bincount(ml.item)) == 1682
    assert (int(ml.timestamp.min()), int(ml.timestamp.max())) == (874724710, 893286638)
    first = [int(column[0]) for column in (ml.user, ml.item, ml.rating, ml.timestamp)]
    assert first == [195, 241, 3, 881250949], "ids are zero-based, rows in the order of the file"


def test_the_users(ml):
    assert ml.users.columns.tolist() == ["age", "gender", "occupation", "zip"]
    assert ml.users.loc[0].tolist() == [24, "M", "technician", "85711"]
    assert ml.users.loc[8, "zip"] == "01002", "a zip code is no number"
    assert ml.users["occupation"].nunique() == 21 and set(ml.users["gender"]) == {"F", "M"}


def test_the_movies(ml):
    assert ml.movies.columns.tolist() == ["title", "year"]
    assert ml.movies.loc[0].tolist() == ["Toy Story", 1995]
    land = "Land Before Time III: The Time of the Great Giving"
    assert ml.movies.loc[1411].tolist() == [land, 1995]
    assert ml.movies.loc[266, "title"] == "unknown"
    assert ml.movies["year"].isna().to_numpy().nonzero()[0].tolist() == [266]
    assert (ml.movies["year"].min(), ml.movies["year"].max()) == (1922, 1998)
    assert ml.movies.loc[542, "title"] == "Les Misérables"
    assert not ml.movies["title"].str.contains(r"\(\d{4}\)|\(V\)").any()


def test_the_genres(ml):
    assert ml.genres.shape == (1682, 19)
    assert hashlib.sha256(ml.genres.tobytes()).hexdigest() == movielens.GENRES_SHA256
    per_movie = ml.genres.sum(axis=1)
    assert (per_movie.min(), per_movie.max(), round(per_movie.mean(), 2)) == (1, 6, 1.72)
    assert [GENRES[g] for g in ml.genres[0].nonzero()[0]] == ["Animation", "Children's", "Comedy"]


def test_both_files_of_movies_read_the_same(ml, tmp_path):
    """`u.item`, made from the data set as GroupLens writes it: brackets after the year, latin-1."""
    lines = []
    for number, (title, year) in enumerate(ml.movies.itertuples(index=False), 1):
        shown = title if number == 267 else f"{title} ({year})"
        shown += {1412: " (V)", 1201: " "}.get(number, "")
        flags = "|".join(map(str, ml.genres[number - 1]))
        lines.append(f"{number}|{shown}|01-Jan-1995||http://us.imdb.com/M|{flags}\n")
    path = tmp_path / "u.item"
    path.write_bytes("".join(lines).encode("latin-1"))
    movies, genres = movielens.read_movies(path)
    assert movies.equals(ml.movies) and (genres == ml.genres).all()


@pytest.mark.parametrize(
    ("stored", "shown"),
    [
        ("Godfather, The", "The Godfather"),
        ("Good, The Bad and The Ugly, The", "The Good, The Bad and The Ugly"),
        ("Star Maker, The (Uomo delle stelle, L')", "The Star Maker (L'Uomo delle stelle)"),
        ("Die xue shuang xiong (Killer, The)", "Die xue shuang xiong (The Killer)"),
        ("Sex, Lies, and Videotape", "Sex, Lies, and Videotape"),
        ("Mrs. Brown (Her Majesty, Mrs. Brown)", "Mrs. Brown (Her Majesty, Mrs. Brown)"),
        ("Fargo", "Fargo"),
    ],
)
def test_titles_read_as_people_say_them(stored, shown):
    assert movielens.as_people_say(stored) == shown


@pytest.mark.parametrize(
    ("text", "title", "year"),
    [
        ("Seven (Se7en) (1995)", "Seven (Se7en)", 1995),
        ("2001: A Space Odyssey (1968)", "2001: A Space Odyssey", 1968),
        ("Some Film (1996) (V)", "Some Film", 1996),
        ("Some Film (1996) (TV) ", "Some Film", 1996),
        ("unknown", "unknown", None),
    ],
)
def test_title_and_year(tmp_path, text, title, year):
    path = tmp_path / "u.item"
    path.write_text(f"1|{text}||||" + "|".join("0" * 19) + "\n", "latin-1")
    movies, _ = movielens.read_movies(path)
    found = movies.loc[0]
    assert found["title"] == title
    assert found["year"] is movielens.pd.NA if year is None else found["year"] == year


def test_examples(ml):
    batch = ml.examples()
    assert len(batch) == 100_000 and batch.dense.shape == (100_000, 0)
    some = ml.examples(torch.tensor([5, 2]))
    assert some.sparse.ids("user").tolist() == ml.user[[5, 2]].tolist()
    assert some.sparse.ids("item").tolist() == ml.item[[5, 2]].tolist()
    assert torch.equal(some.labels, ml.rating[[5, 2]])


def test_loading_again_is_quick_and_asks_no_network(ml, monkeypatch):
    monkeypatch.setattr("dlrm_mini.datasets.sources._fetch", None)
    begin = time.process_time()
    again = movielens.load()
    assert time.process_time() - begin < 2  # 0.35 s where it was written
    assert torch.equal(again.rating, ml.rating)


def test_the_registry_says_what_to_cite():
    entry = registry.dataset("ml-100k")
    assert "10.1145/2827872" in entry.citation and "not to be redistributed" in entry.licence
    zipped, wheel = entry.sources
    assert (zipped.bytes, zipped.md5) == (4_924_029, "0e33842e24a9c977be4e0107933c0723")
    assert (wheel.bytes, wheel.requirement) == (2_130_151, "recbole==1.2.1")
    for names in entry.complete:
        assert any(set(names) <= set(source.members) for source in entry.sources)
