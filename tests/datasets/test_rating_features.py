"""The rating task: the groups, their ids, and that all memory is of training rows."""

import dataclasses

import pytest
import torch

from dlrm_mini.datasets import rating_features as module
from dlrm_mini.datasets import splits
from dlrm_mini.datasets.clicks import click_task
from dlrm_mini.datasets.rating_features import GROUPS, TENURES, histories, rating_features
from dlrm_mini.errors import UserError

DAY = 86_400


@pytest.fixture(scope="module")
def split():
    return splits.canonical_fold(2)


@pytest.fixture(scope="module")
def task(ml, split):
    return rating_features(ml, split, list(GROUPS))


def test_without_groups_there_are_user_and_movie(ml, split):
    task = rating_features(ml, split)
    assert task.cardinalities == {"user": 943, "item": 1682} and task.histories is None
    assert task.train.sparse.names == task.test.sparse.names == ("user", "item")
    assert torch.equal(task.train.sparse.ids("user"), ml.user[split.train])
    assert torch.equal(task.test.sparse.ids("item"), ml.item[split.test])
    assert torch.equal(task.test.labels, ml.rating[split.test])
    assert task.train.dense.shape == (80_000, 0)


def test_the_order_of_the_fields_is_that_of_the_groups(ml, split):
    task = rating_features(ml, split, ["time", "user"])
    assert tuple(task.cardinalities) == ("user", "item", *GROUPS["user"], *GROUPS["time"])


def test_every_id_has_a_row_in_its_table(task):
    assert task.train.sparse.names == tuple(task.cardinalities)
    for part in (task.train, task.test):
        for name, size in task.cardinalities.items():
            ids = part.sparse.bag(name).ids
            assert int(ids.min()) >= 0 and int(ids.max()) < size


def test_shared_fields_are_the_click_tasks(ml, split, task):
    clicks = click_task(ml, split)
    for name in (*GROUPS["user"], *GROUPS["movie"], "hour", "weekday"):
        for part, expected in ((task.train, clicks.train), (task.test, clicks.test)):
            for ours, theirs in zip(part.sparse[name], expected.sparse[name], strict=True):
                assert torch.equal(ours, theirs)


def test_weeks_begin_with_the_first_rating(ml, split, task):
    weeks = task.test.sparse.ids("week")
    days = (ml.timestamp[split.test] - ml.timestamp.min()) / DAY
    assert torch.equal(weeks, (days / 7).floor().long())
    assert task.cardinalities["week"] == 31


def test_tenure_is_the_time_since_the_first_training_rating(ml, split, task):
    ids = task.test.sparse.ids("tenure")
    for place in range(0, 20_000, 1777):
        row = int(split.test[place])
        own = split.train[ml.user[split.train] == ml.user[row]]
        name = TENURES[int(ids[place])]
        seconds = int(ml.timestamp[row] - ml.timestamp[own].min())
        limits = {"before": (-1e9, 0), "30 minutes": (0, 1800), "longer": (112 * DAY, 1e9)}
        limits |= {"1 hour": (1800, 3600), "1 week": (4 * DAY, 7 * DAY)}
        if name in limits:
            low, high = limits[name]
            assert low <= seconds < high, (name, seconds)
    assert len(TENURES) == len(module._TENURE_EDGES) + 2


def test_strangers_have_a_tenure_of_their_own(ml):
    cold = splits.cold_split(ml, "user")
    task = rating_features(ml, cold, ["time"])
    assert (task.test.sparse.ids("tenure") == TENURES.index("stranger")).all()
    assert (task.train.sparse.ids("tenure") != TENURES.index("stranger")).all()


def test_a_history_is_what_the_user_rated_in_training(ml, split, task):
    ids, offsets, weights = task.histories.bag("history")
    assert len(ids) == len(split.train) and task.histories.batch_size == ml.n_users
    for user in (0, 5, 942):
        bag = slice(int(offsets[user]), int(offsets[user + 1]))
        rated = ml.item[split.train][ml.user[split.train] == user]
        assert sorted(ids[bag].tolist()) == sorted(rated.tolist())
        assert float(weights[bag].square().sum()) == pytest.approx(1, abs=1e-5)


def test_a_user_without_training_rows_has_an_empty_history(ml):
    empty = histories(ml, torch.arange(10))
    assert int(empty.lengths().sum()) == 10 and int((empty.lengths() == 0).sum()) > 900


def test_features_of_test_rows_do_not_depend_on_other_test_rows(ml, split, task):
    """Without most of the test rows, and with other ratings in them, nothing changes."""
    few = split.test[::100]
    other = dataclasses.replace(ml, rating=ml.rating.clone())
    other.rating[split.test] = 1.0
    same = rating_features(other, splits.Split(split.train, few), list(GROUPS))
    assert torch.equal(
        same.test.sparse.values, task.test.sparse.select(torch.arange(0, 20_000, 100)).values
    )
    assert torch.equal(same.train.sparse.values, task.train.sparse.values)
    assert torch.equal(same.histories.values, task.histories.values)


def test_an_unknown_group_is_named(ml, split):
    with pytest.raises(UserError, match="no feature group 'weather'; there are user, movie, time"):
        rating_features(ml, split, ["weather"])
