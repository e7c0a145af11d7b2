"""The click task: what each feature means, and that no label reaches its own features."""

import dataclasses

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dlrm_mini import metrics
from dlrm_mini.datasets import clicks, splits
from dlrm_mini.datasets.clicks import click_task, leave_one_out
from dlrm_mini.datasets.splits import Split
from dlrm_mini.errors import UserError

STATISTICS = [clicks.DENSE.index(name) for name in clicks.DENSE if name.startswith(("us", "it"))]


@pytest.fixture(scope="module")
def split():
    return splits.random_split(100_000, 0.2, seed=0)


@pytest.fixture(scope="module")
def task(ml, split):
    return click_task(ml, split)


def test_shapes_labels_and_cardinalities(ml, split, task):
    assert task.cardinalities == {
        **{"user": 943, "item": 1682, "occupation": 21, "gender": 2, "age_bucket": 7},
        **{"zip_prefix": 11, "decade": 9, "hour": 24, "weekday": 7, "genres": 19},
    }
    assert (len(task.train), len(task.test)) == (80_000, 20_000)
    assert task.train.dense.shape == (80_000, len(task.dense_names)) == (80_000, 6)
    assert torch.equal(task.test.labels, (ml.rating[split.test] >= 4).float())
    everything = torch.cat([task.train.labels, task.test.labels])
    assert round(float(everything.double().mean()), 3) == 0.554


def test_every_id_has_a_row_in_its_table(task):
    assert task.train.sparse.names == tuple(task.cardinalities)
    for part in (task.train, task.test):
        for name, size in task.cardinalities.items():
            values, offsets = part.sparse[name]
            assert values.min() >= 0 and values.max() < size
            lengths = offsets.diff()
            most = 6 if name == "genres" else 1
            assert (int(lengths.min()), int(lengths.max())) == (1, most)


def test_features_say_what_the_tables_say(ml, split, task):
    """Some rows, looked up one by one."""
    occupations = sorted(ml.users["occupation"].unique())
    for place in (0, 7, 12_345, 19_999):
        row = int(split.test[place])
        one = task.test.select(torch.tensor([place])).sparse
        user = ml.users.loc[int(ml.user[row])]
        year = ml.movies.loc[int(ml.item[row]), "year"]
        when = pd.Timestamp(int(ml.timestamp[row]), unit="s")
        assert int(one.ids("user")) == ml.user[row] and int(one.ids("item")) == ml.item[row]
        assert occupations[int(one.ids("occupation"))] == user["occupation"]
        assert "FM"[int(one.ids("gender"))] == user["gender"]
        assert clicks.DECADES[int(one.ids("decade"))] == f"{year // 10 * 10}s"
        assert clicks.ZIP_PREFIXES[int(one.ids("zip_prefix"))] == user["zip"][0]
        assert int(one.ids("hour")) == when.hour
        assert clicks.WEEKDAYS[int(one.ids("weekday"))] == when.day_name()
        genres = ml.genres[ml.item[row]].nonzero()[0].tolist()
        assert one["genres"][0].tolist() == genres


@pytest.mark.parametrize(
    ("age", "bucket"),
    [(7, "under 18"), (17, "under 18"), (18, "18-24"), (24, "18-24"), (49, "45-49"), (55, "50-55"),
     (56, "56+"), (73, "56+")],
)  # fmt: skip
def test_age_buckets(ml, task, age, bucket):
    """Every user of this age, and of every part, is in this bucket."""
    users = torch.tensor((ml.users["age"] == age).to_numpy().nonzero()[0])
    part = torch.isin(task.train.sparse.ids("user"), users)
    found = task.train.sparse.ids("age_bucket")[part].unique().tolist()
    assert [clicks.AGE_BUCKETS[i] for i in found] == [bucket]


def test_dense_features_are_standardised_with_the_training_rows(task):
    mean = task.train.dense.double().mean(dim=0)
    deviation = task.train.dense.double().std(dim=0, correction=0)
    torch.testing.assert_close(mean, torch.zeros(6).double(), atol=1e-5, rtol=0)
    torch.testing.assert_close(deviation, torch.ones(6).double(), atol=1e-5, rtol=0)
    assert task.test.dense.mean(dim=0).abs().max() > 1e-3


def test_the_movie_without_a_year(ml, task):
    rows = task.train.sparse.ids("item") == 266
    assert rows.any()
    unknown = clicks.DECADES.index("unknown")
    assert set(task.train.sparse.ids("decade")[rows].tolist()) == {unknown}
    year = task.train.dense[:, clicks.DENSE.index("year")]
    assert torch.isfinite(task.train.dense).all()
    torch.testing.assert_close(year[rows], torch.zeros(int(rows.sum())), atol=1e-5, rtol=0)


# Leaks

rows_of_a_small_world = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 1), st.booleans()), min_size=2, max_size=12
)


@given(rows_of_a_small_world, st.sampled_from([0, 2]))
def test_leave_one_out_is_what_it_says(world, prior_rows):
    ids, labels, in_train = zip(*world, strict=True)
    counts, means = leave_one_out(
        torch.tensor(ids), torch.tensor(labels).float(), torch.tensor(in_train), 4, prior_rows
    )
    for row in range(len(world)):
        others = [y for r, (_, y, used) in enumerate(world) if r != row and used]
        same = [y for r, (i, y, used) in enumerate(world) if r != row and used and i == ids[row]]
        others = others or [0]
        added = [sum(others) / len(others)] * prior_rows
        basis = [*same, *added] or others
        assert counts[row] == len(same)
        assert float(means[row]) == pytest.approx(sum(basis) / len(basis))


@given(rows_of_a_small_world, st.sampled_from([0.0, 2.0]), st.data())
def test_no_label_reaches_its_own_statistics(world, prior_rows, data):
    ids, labels, in_train = (torch.tensor(column) for column in zip(*world, strict=True))
    row = data.draw(st.integers(0, len(world) - 1))
    flipped = labels.clone()
    flipped[row] = 1 - flipped[row]
    for before, after in zip(
        leave_one_out(ids, labels, in_train, 4, prior_rows),
        leave_one_out(ids, flipped, in_train, 4, prior_rows), strict=True,
    ):  # fmt: skip
        torch.testing.assert_close(before[row], after[row], atol=1e-12, rtol=0)


def test_no_test_label_reaches_any_feature(ml, split, task):
    rating = ml.rating.clone()
    rating[split.test] = 6 - rating[split.test]
    other = click_task(dataclasses.replace(ml, rating=rating), split)
    assert not torch.equal(other.test.labels, task.test.labels)
    for one, two in ((task.train, other.train), (task.test, other.test)):
        assert torch.equal(one.dense, two.dense)


def test_a_mean_with_the_own_label_in_it_would_show(ml, split, task):
    """Movies rated once: their mean is their own label, or, without it, says nothing."""
    labels = (ml.rating >= 4).float()
    in_train = torch.zeros(100_000, dtype=torch.bool)
    in_train[split.train] = True
    counts, means = leave_one_out(ml.item, labels, in_train, ml.n_items)
    alone = in_train & (counts == 0)
    assert alone.sum() > 100
    leaky = torch.bincount(ml.item[in_train], labels[in_train].double(), minlength=ml.n_items)
    assert metrics.auc(leaky[ml.item[alone]], labels[alone]) == 1
    assert float(means[alone].max() - means[alone].min()) < 1e-4

    # And over all rows: seen from the labels, training and test rows are alike.
    column = clicks.DENSE.index("item_mean")
    train = metrics.auc(task.train.dense[:, column], task.train.labels)
    test = metrics.auc(task.test.dense[:, column], task.test.labels)
    whole = torch.bincount(ml.item[in_train], minlength=ml.n_items).clamp(min=1)
    naive = metrics.auc((leaky / whole)[ml.item[split.train]], task.train.labels)
    assert abs(train - test) < 0.01 < naive - test


def test_statistics_come_from_the_training_rows(ml, split, task):
    """Of a test row they are plain counts and means, and they differ with the split."""
    other = click_task(ml, Split(split.train[:40_000], split.test))
    assert not torch.allclose(other.test.dense[:, STATISTICS], task.test.dense[:, STATISTICS])
    user = int(ml.user[split.test[0]])
    rows = split.train[ml.user[split.train] == user]
    in_train = torch.zeros(100_000, dtype=torch.bool)
    in_train[split.train] = True
    counts, means = leave_one_out(ml.user, ml.rating, in_train, ml.n_users)
    assert counts[split.test[0]] == len(rows)
    assert float(means[split.test[0]]) == pytest.approx(float(ml.rating[rows].double().mean()))


def test_means_of_few_rows_are_shrunk(ml, split, task):
    """A movie rated once in training: without shrinkage its mean is that one label."""
    column = clicks.DENSE.index("item_mean")
    plain = click_task(ml, split, prior_rows=0.0).test.dense[:, column]
    shrunk = task.test.dense[:, column]
    counts = torch.bincount(ml.item[split.train], minlength=ml.n_items)
    once = counts[ml.item[split.test]] == 1
    assert shrunk[once].abs().max() < plain[once].abs().max() / 2


def test_ratings_for_labels(ml, split, task):
    rated = click_task(ml, split, label="rating")
    assert torch.equal(rated.train.labels, ml.rating[split.train])
    assert torch.equal(rated.train.sparse.values, task.train.sparse.values)
    column = clicks.DENSE.index("user_mean")
    assert not torch.allclose(rated.train.dense[:, column], task.train.dense[:, column])


def test_refused(ml, split):
    with pytest.raises(UserError, match="label is 'clicks'; expected 'click' or 'rating'"):
        click_task(ml, split, label="clicks")
    with pytest.raises(UserError, match="Row 0 is in train and in test"):
        click_task(ml, Split(torch.arange(10), torch.tensor([20, 0])))
