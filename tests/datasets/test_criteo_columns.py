"""Hashing, vocabularies and splits, each beside a slow reference."""

from collections import Counter

import numpy as np
import pytest
from criteotext import hashed_ids, some_rows, threshold_ids
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dlrm_mini.datasets import criteo_vocabulary as vocabulary
from dlrm_mini.datasets.criteo_columns import Buckets, Threshold, hash_ids, id_type, rule
from dlrm_mini.datasets.criteo_splits import SPLITS, Days, Random
from dlrm_mini.errors import UserError


def chunks_of(values, counted, size):
    def chunks():
        for start in range(0, len(values), size):
            yield values[start : start + size], counted[start : start + size]

    return chunks


@given(
    n=st.integers(0, 200),
    distinct=st.integers(1, 150),
    least=st.integers(1, 4),
    size=st.integers(1, 70),
    limit=st.integers(8, 60),
    seed=st.integers(0, 2**32),
)
@example(n=200, distinct=100, least=2, size=13, limit=8, seed=0)  # in several parts
@settings(max_examples=100, deadline=None)
def test_a_vocabulary_is_what_counting_gives_in_however_many_parts(
    n, distinct, least, size, limit, seed
):
    draw = np.random.default_rng(seed)
    spread = draw.integers(0, distinct, n) * 2654435761 % 2**32  # over the whole range
    values = np.where(spread == 0, 2**32 - 1, spread).tolist()
    counted, missing = draw.random(n) < 0.8, draw.random(n) < 0.1
    numbers = np.array(values, np.uint32)
    words = vocabulary.build(chunks_of(numbers, counted, size), least, limit)
    counts = Counter(value for value, one in zip(values, counted, strict=True) if one)
    assert words.tolist() == sorted(value for value, count in counts.items() if count >= least)
    ids = {word: 2 + place for place, word in enumerate(words.tolist())}
    pairs = zip(values, missing, strict=True)
    expected = [0 if absent else ids.get(value, 1) for value, absent in pairs]
    for encode in (vocabulary.encoder(words), vocabulary.encoder(words, limit=0)):
        found = encode(numbers, missing)
        assert found.tolist() == expected and found.dtype == np.uint32


def test_a_table_grows_as_long_as_there_are_new_values():
    values = (np.arange(50_000, dtype=np.uint32) * np.uint32(2654435761)).repeat(2)
    words = vocabulary.build(chunks_of(values, np.ones(100_000, np.bool_), 30_000), 2)
    assert words.tolist() == sorted(set(values.tolist()))
    assert not len(vocabulary.build(chunks_of(values, np.ones(100_000, np.bool_), 30_000), 3))


@pytest.mark.parametrize("buckets", [1, 7, 255, 100_000, 2**31 - 1])
def test_hashing_is_the_fixed_mix_of_column_and_value(buckets):
    rows = some_rows(300, seed=3)
    for column in (0, 1, 25):
        texts = [row[14 + column] for row in rows]
        values = np.array([int(text or "0", 16) for text in texts], np.uint32)
        missing = np.array([(not text) << column for text in texts], np.uint32)
        ids = np.empty(len(rows), id_type(buckets))
        hash_ids(values, missing, column, buckets, ids)
        assert ids.tolist() == hashed_ids(rows, column, buckets)


def test_hashing_fills_the_buckets_evenly_and_differs_by_column():
    n, buckets = 100_000, 1000
    values, none = np.arange(n, dtype=np.uint32), np.zeros(n, np.uint32)
    ids = np.empty((2, n), np.uint32)
    for column in range(2):
        hash_ids(values, none, column, buckets, ids[column])
        counts = np.bincount(ids[column], minlength=buckets + 1)
        assert counts[0] == 0 and len(counts) == buckets + 1
        assert (
            abs(((counts[1:] - 100) ** 2 / 100).sum() - 999) < 6 * (2 * 999) ** 0.5
        )  # chi squared
    assert 0 < (ids[0] == ids[1]).mean() < 0.003


def test_the_reference_of_the_tests_itself():
    rows = [
        ("1", *[""] * 13, text, *[""] * 25) for text in ("0000000a", "", "0000000a", "0000000b")
    ]
    assert threshold_ids(rows, 0, 2, [0, 1, 2, 3]) == [2, 0, 2, 1]
    assert threshold_ids(rows, 0, 2, [0, 1]) == [1, 0, 1, 1]


@pytest.mark.parametrize("n", [1, 2, 6, 7, 13, 14, 15, 700, 45_840_617])
def test_seven_days(n):
    valid, test = Days().bounds(n)
    assert 0 <= n * 6 / 7 - valid < 1 and 0 <= (n - valid) / 2 - (test - valid) < 1
    for start in (0, max(valid - 2, 0), max(test - 3, 0)):
        stop = min(start + 5, n)
        rows = np.arange(start, stop)
        expected = (rows >= valid).astype(int) + (rows >= test)
        assert Days().of_rows(start, stop, n).tolist() == expected.tolist()


def test_a_random_split_is_the_same_in_any_pieces_and_another_for_another_seed():
    whole = Random(5).of_rows(0, 100_000, 100_000)
    pieces = [Random(5).of_rows(start, start + 1000, 7) for start in range(0, 100_000, 1000)]
    assert (whole == np.concatenate(pieces)).all()
    shares = np.bincount(whole, minlength=len(SPLITS)) / len(whole)
    assert np.abs(shares - [0.8, 0.1, 0.1]).max() < 0.006  # six standard deviations
    other = Random(6).of_rows(0, 100_000, 100_000)
    assert abs((whole == other).mean() - 0.66) < 0.01  # as independent draws agree


def test_rules_and_ranges():
    assert rule("buckets:10") == Buckets(10) and rule("threshold:3") == Threshold(3)
    assert rule(str(Buckets(7))) == Buckets(7) and rule(str(Threshold(7))) == Threshold(7)
    for text in ("bucket:10", "buckets", "buckets:-1", "threshold:1.5", ""):
        with pytest.raises(UserError, match="expected buckets:N or threshold:N"):
            rule(text)
    for wrong in (lambda: Buckets(0), lambda: Buckets(2**31), lambda: Threshold(0)):
        with pytest.raises(UserError, match="expected a number"):
            wrong()
    with pytest.raises(UserError, match="seed is -1"):
        Random(-1)
    assert [id_type(n).name for n in (255, 256, 65535, 65536)] == [
        "uint8",
        "uint16",
        "uint16",
        "uint32",
    ]
