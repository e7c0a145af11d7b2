"""Splits: what each holds, on the real ratings."""

import pytest
import torch

from dlrm_mini.datasets import splits
from dlrm_mini.datasets.splits import Split
from dlrm_mini.errors import UserError


def parts_fit(split: Split, rows: torch.Tensor) -> bool:
    return torch.equal(torch.cat([split.train, split.test]).sort().values, rows)


def test_canonical_folds_are_blocks_of_the_file():
    folds = [splits.canonical_fold(k) for k in range(1, 6)]
    assert torch.equal(torch.cat([fold.test for fold in folds]), torch.arange(100_000))
    for k, fold in enumerate(folds):
        assert fold.test[0] == 20_000 * k and len(fold.test) == 20_000
        assert parts_fit(fold, torch.arange(100_000))


@pytest.mark.parametrize("k", [0, 6, -1])
def test_there_are_five_folds(k):
    with pytest.raises(UserError, match=f"no fold {k}; expected 1 to 5"):
        splits.canonical_fold(k)


def test_random_split_is_seeded():
    one, same, other = (splits.random_split(1000, 0.2, seed) for seed in (1, 1, 2))
    assert len(one.test) == 200 and parts_fit(one, torch.arange(1000))
    assert torch.equal(one.test, same.test) and not torch.equal(one.test, other.test)


def test_holdout_stays_within_its_rows():
    rows = splits.canonical_fold(2).train
    split = splits.holdout(rows, 0.1, seed=0)
    assert len(split.test) == 8000 and parts_fit(split, rows)


def test_user_temporal_split_keeps_each_users_past(ml):
    split = splits.user_temporal_split(ml)
    assert parts_fit(split, torch.arange(100_000)) and len(split.test) == 19_633
    for user in (0, 404, 942):
        times = [ml.timestamp[rows[ml.user[rows] == user]] for rows in (split.train, split.test)]
        assert len(times[1]) == (len(times[0]) + len(times[1])) // 5
        assert times[0].max() <= times[1].min()
    positive = ml.rating >= 4
    assert round(float(positive.double().mean()), 3) == 0.554
    assert round(float(positive[split.test].double().mean()), 3) == 0.478
    assert len(ml.user[split.train].unique()) == len(ml.user[split.test].unique()) == 943


def test_global_temporal_split_is_mostly_about_strangers(ml):
    split = splits.global_temporal_split(ml)
    assert parts_fit(split, torch.arange(100_000)) and len(split.test) == 20_000
    assert ml.timestamp[split.train].max() <= ml.timestamp[split.test].min()
    unseen = ~torch.isin(ml.user[split.test], ml.user[split.train])
    assert round(float(unseen.double().mean()), 3) == 0.852


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 20])
def test_a_share_is_between_0_and_1(ml, share):
    with pytest.raises(UserError, match="between 0 and 1"):
        splits.random_split(10, share)
    with pytest.raises(UserError, match="between 0 and 1"):
        splits.user_temporal_split(ml, share)
    with pytest.raises(UserError, match="between 0 and 1"):
        splits.global_temporal_split(ml, share)


def test_an_empty_side_is_refused():
    with pytest.raises(UserError, match="leaves 2 rows to train on and 0 to test"):
        splits.random_split(2, 0.1)


@pytest.mark.parametrize("side", ["user", "item"])
def test_cold_split_hides_all_ratings_of_some(ml, side):
    split = splits.cold_split(ml, side, 0.1)
    assert parts_fit(split, torch.arange(100_000))
    ids = ml.user if side == "user" else ml.item
    known, strangers = set(ids[split.train].tolist()), set(ids[split.test].tolist())
    assert not known & strangers
    assert len(strangers) == round(0.1 * (943 if side == "user" else 1682))
    again, other = (splits.cold_split(ml, side, 0.1, seed) for seed in (0, 1))
    assert torch.equal(split.test, again.test) and not torch.equal(split.test, other.test)


def test_cold_split_names_a_wrong_side(ml):
    with pytest.raises(UserError, match="'movie'; expected 'user' or 'item'"):
        splits.cold_split(ml, "movie")
