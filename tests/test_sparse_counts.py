"""Chapter 08's counting: distinct rows, bytes moved, bytes kept, held to brute force."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dlrm_mini.ladders.sparse_counts import draw_ids, kept, moved, touched
from dlrm_mini.models import dlrm_presets


@given(rows=st.integers(1, 900), lookups=st.integers(1, 500), zipf=st.floats(0, 2))
def test_distinct_rows_are_the_sum_over_rows_of_the_chance_to_be_touched(rows, lookups, zipf):
    power = 1 - zipf
    ends = [math.log(k) if abs(power) < 1e-6 else (k**power - 1) for k in range(1, rows + 2)]
    chances = [(b - a) / ends[-1] for a, b in itertools.pairwise(ends)]
    brute = sum(1 - (1 - min(p, 1.0)) ** lookups for p in chances)
    assert touched(rows, lookups, zipf) == pytest.approx(brute, rel=1e-6)


@pytest.mark.parametrize("zipf", [0.0, 0.8, 1.0, 1.05, 1.5])
@pytest.mark.parametrize("rows", [5_000, 1_000_000])
def test_distinct_rows_are_those_of_ids_that_are_drawn(rows, zipf):
    drawn = [len(draw_ids(rows, 20_000, zipf, seed).unique()) for seed in range(5)]
    assert touched(rows, 20_000, zipf) == pytest.approx(sum(drawn) / 5, rel=0.01)


def test_the_profile_configuration_touches_the_rows_that_are_known():
    assert 8 * touched(1_000_000, 204_800, 0.0) == pytest.approx(1.48e6, rel=0.002)


def test_ids_are_dealt_out_without_two_becoming_one():
    first = draw_ids(1000, 5000, 1.05, dealt=False)
    dealt = draw_ids(1000, 5000, 1.05)
    assert first.bincount().argmax() == 0 and first.min() == 0 and first.max() < 1000
    assert sorted(first.bincount()[first.bincount() > 0].tolist()) == sorted(
        dealt.bincount()[dealt.bincount() > 0].tolist()
    )
    assert dealt.bincount().argmax() == 0  # zero stays, its neighbours go
    assert dealt.bincount(minlength=1000)[1:10].sum() < first.bincount(minlength=1000)[1:10].sum()
    assert torch.equal(dealt, draw_ids(1000, 5000, 1.05))


def test_bytes_of_a_step_are_counted_number_by_number():
    rows, dim, batch, pooling = 7, 3, 2, 5
    lookups, vector = batch * pooling, 12
    forward = lookups * 8 + lookups * vector + batch * vector + batch * vector
    gradient = rows * vector + 2 * lookups * vector  # zeros written, each lookup added to
    found = moved(rows, dim, batch, pooling, distinct=4)
    assert found["dense SGD"] == forward + gradient + 3 * rows * vector
    assert found["dense Adam"] == found["dense SGD"] + 4 * rows * vector
    assert found["fused SGD"] == forward + lookups * (8 + 2 * vector)
    assert found["sparse SGD"] == found["fused SGD"] + 2 * lookups * vector
    once = found["each row once"]
    assert once == 2 * lookups * 8 + 3 * 4 * vector + 2 * batch * vector
    assert list(moved(rows, dim, batch, pooling)) == list(found)[:-1]


def test_only_dense_ways_know_the_table():
    small, large = (moved(rows, 16, 2048, 20) for rows in (10_000, 10_000_000))
    grows = {way for way in small if large[way] > small[way]}
    assert grows == {"dense Adam", "dense SGD"}


def test_states_of_the_kaggle_tables():
    sizes = dlrm_presets.kaggle().cardinalities
    found = kept(sizes, 16)
    weights = 4 * 16 * sum(sizes.values())
    assert found["weights"] == found["Adagrad"] == found["SGD with momentum"] == weights
    assert found["row-wise Adagrad"] * 16 == weights and found["SGD"] == 0
    assert found["Adam"] == pytest.approx(2 * weights, rel=1e-6)
