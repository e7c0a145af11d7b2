"""SVD++, FM, MLP, DLRM and the sampler on ratings: how they are fitted, and what was recorded."""

import json
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
import torch

from dlrm_mini import measurements, metrics
from dlrm_mini.datasets import movielens, splits
from dlrm_mini.datasets.batches import Batch
from dlrm_mini.datasets.rating_features import GROUPS, rating_features
from dlrm_mini.datasets.sparse import SparseFeatures
from dlrm_mini.errors import UserError
from dlrm_mini.ladders import fm_features, rating_nets, rating_rungs, upper_search
from dlrm_mini.ladders.history import HistoryMachine
from dlrm_mini.ladders.rating_models import FM_GROUPS, fit_fm, fit_fm_to
from dlrm_mini.ladders.rating_rungs import RUNGS, UPPER, GibbsSetting, sample_fm
from dlrm_mini.models.factorization_machine import FactorizationMachine
from dlrm_mini.training import predict, set_seed

N, N_USERS, N_ITEMS = 4000, 60, 80
QUICK = {
    "svdpp": replace(UPPER["svdpp"], dim=8, l2=0.02, batch_size=256),
    "fm": replace(UPPER["fm"], dim=8, l2=0.02, batch_size=128, epochs=10),
    "mlp": replace(UPPER["mlp"], l2=0.0, l2_dot=0.0, weight_decay=0.0, batch_size=64),
    "mlp+dot": replace(UPPER["mlp+dot"], l2=0.02, l2_dot=0.02, batch_size=128),
    "dlrm": replace(UPPER["dlrm"], dim=8, l2=0.02, weight_decay=0.0, batch_size=128),
    "fm_bayes": GibbsSetting(dim=4, samples=20, burn_in=5, init_std=0.1),
}


@pytest.fixture(scope="module")
def small():
    """Ratings of a planted model: biases, and two groups of users with opposite tastes."""
    g = torch.Generator().manual_seed(0)
    user = torch.randint(0, N_USERS, (N,), generator=g)
    item = torch.randint(0, N_ITEMS, (N,), generator=g)
    taste = torch.where(user % 2 == 0, 1.0, -1.0) * torch.where(item % 2 == 0, 1.0, -1.0)
    rating = 3 + taste + 0.5 * torch.randn(N_ITEMS, generator=g)[item]
    about = {"age": 30, "gender": "F", "occupation": "artist", "zip": "12345"}
    return movielens.MovieLens(
        user=user,
        item=item,
        rating=(rating + 0.3 * torch.randn(N, generator=g)).clamp(1, 5),
        timestamp=torch.arange(N) * 600,
        users=pd.DataFrame(about, index=range(N_USERS)),
        movies=pd.DataFrame({"year": pd.array([1990] * N_ITEMS, dtype="Int64")}),
        genres=np.eye(19, dtype=np.uint8)[np.arange(N_ITEMS) % 19],
        source="made for the tests",
    )


@pytest.mark.parametrize("name", QUICK)
def test_every_rung_finds_the_planted_taste_and_its_seed_fixes_it(small, name):
    split = splits.random_split(N)
    runs = [RUNGS[name](small, split, seed, QUICK[name]) for seed in (0, 0, 1)]
    biases = RUNGS["biases"](small, split, 0)
    truth = small.rating[split.test]
    assert metrics.rmse(runs[0], truth) < 0.75 < 0.9 < metrics.rmse(biases, truth)
    assert torch.equal(runs[0], runs[1]) and not torch.equal(runs[0], runs[2])


@pytest.mark.parametrize("name", QUICK)
def test_no_rung_looks_at_a_test_label(small, name):
    split = splits.Split(torch.arange(1500), torch.arange(1500, 1600))
    other = replace(small, rating=small.rating.clone())
    other.rating[1500:] = 1.0
    one, same = (RUNGS[name](ml, split, 0, QUICK[name]) for ml in (small, other))
    assert torch.equal(one, same)


# --- the history ----------------------------------------------------------------------------------


def explicit(batch: Batch, histories: SparseFeatures) -> Batch:
    """The same rows with the history's bag in every one of them."""
    bags = histories.select(batch.sparse.ids("user")).bag("history")
    columns = {name: batch.sparse.bag(name)[:2] for name in batch.sparse.names}
    sparse = SparseFeatures.from_columns(columns | {"history": tuple(bags)})
    return Batch(batch.dense, sparse, batch.labels)


def test_a_history_pooled_once_is_a_machine_with_the_bag_in_every_row(small):
    split = splits.random_split(N)
    task = rating_features(small, split, ["movie", "history"])
    set_seed(0)
    pooled = HistoryMachine(task.cardinalities, task.histories, 3, bias=2.0, init_std=0.5).double()
    sizes = task.cardinalities | {"history": N_ITEMS}
    plain = FactorizationMachine(sizes, 3).double()
    with torch.no_grad():
        plain.bias.copy_(pooled.bias)
        for kind in ("linear", "vectors"):
            for name, table in getattr(plain, kind).tables.items():
                source = pooled.history if name == "history" else pooled
                own = getattr(source, kind).tables[name]
                torch.nn.init.normal_(own)
                table.copy_(own)
    assert pooled.field_names == plain.field_names
    batch = task.test.select(torch.arange(50))
    rows = explicit(batch, task.histories)
    torch.testing.assert_close(pooled(batch), plain(rows))
    for ours, theirs in zip(pooled.contributions(batch), plain.contributions(rows), strict=True):
        torch.testing.assert_close(ours, theirs)
    pooled(batch).square().sum().backward()
    plain(rows).square().sum().backward()
    torch.testing.assert_close(
        pooled.history.vectors.tables["history"].grad, plain.vectors.tables["history"].grad
    )


def test_fit_fm_gives_the_model_of_its_groups_and_its_task(small):
    rows = torch.arange(500)
    setting = replace(QUICK["fm"], epochs=1)
    model, task = fit_fm(small, rows, seed=0, groups=["movie", "history"], setting=setting)
    assert model.field_names == ("user", "item", *GROUPS["movie"], "history")
    assert len(task.train) == 500 and len(task.test) == N - 500
    again = fit_fm_to(task, seed=0, setting=setting)
    assert torch.equal(predict(model, task.test), predict(again, task.test))


def test_fitting_gives_the_threads_back(small):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        fit_fm(small, torch.arange(300), seed=0, setting=replace(QUICK["fm"], epochs=1))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_sampling_gives_the_posterior_and_the_last_sample(small):
    split = splits.random_split(N)
    posterior, model = sample_fm(small, split, seed=0, setting=QUICK["fm_bayes"])
    task = rating_features(small, split, FM_GROUPS)
    last = metrics.rmse(predict(model, task.test), task.test.labels)
    assert posterior.rmse_single[-1] == pytest.approx(last, abs=1e-6)
    assert len(posterior.rmse_average) == 20


def test_the_sampler_names_the_group_it_does_not_take(small):
    with pytest.raises(UserError, match="does not take the group 'history'"):
        sample_fm(small, splits.random_split(N), seed=0, groups=["movie", "history"])


# --- DLRM -----------------------------------------------------------------------------------------


def test_a_dlrm_begins_as_the_machine_that_its_tables_hold(small):
    """With no other hidden unit and no dense product, it is the FM of slots and vectors exactly."""
    task = rating_nets.dlrm_task(small, splits.random_split(N))
    fields = list(task.cardinalities)
    torch.manual_seed(0)
    model = rating_nets.plan_dlrm(task, replace(QUICK["dlrm"], dim=4, hidden=(2,))).model
    fm = FactorizationMachine(task.cardinalities, 4, bias=task.train.labels.mean().item())
    with torch.no_grad():
        model.bottom[0].weight.zero_()  # the dense vector is then ones in the slots
        for slot, name in enumerate(fields):
            table = model.tables.tables[name]
            fm.vectors.tables[name].copy_(table[:, :4])
            fm.linear.tables[name].copy_(table[:, 4 + slot, None])
    batch = task.test.select(torch.arange(40))
    without = Batch(torch.empty(40, 0), batch.sparse, batch.labels)
    one_genre = batch.sparse.lengths().max() == 1  # bags have no place in the equality
    assert one_genre
    torch.testing.assert_close(model(batch), fm(without), atol=1e-5, rtol=0)


def test_dense_columns_are_those_named(small):
    task = rating_nets.dlrm_task(small, splits.random_split(N))
    assert task.train.dense.shape[1] == len(rating_nets.DENSE) == 4
    assert "user_mean" not in rating_nets.DENSE and "item_mean" not in rating_nets.DENSE


# --- the search and the table of features ---------------------------------------------------------


@pytest.fixture
def caught(small, monkeypatch):
    """What the commands write, with rungs that take no time and note the rows they saw."""
    found = {"splits": []}

    def quick(ml, split, seed, setting=None, groups=()):
        found["splits"].append(split)
        return torch.full((len(split.test),), 3.0) + len(groups) / 10

    fold = splits.random_split(N)
    monkeypatch.setattr(movielens, "load", lambda: small)
    monkeypatch.setattr(splits, "canonical_fold", lambda k: fold)
    monkeypatch.setattr(upper_search, "RUNGS", dict.fromkeys(RUNGS, quick))
    monkeypatch.setattr(fm_features, "fm", quick)
    monkeypatch.setattr(fm_features, "RARE", 45)  # as many as half of the made-up movies have
    monkeypatch.setattr(
        measurements, "write", lambda name, results, command: found.update({name: results})
    )
    return found | {"fold": fold, "found": found}


def test_the_search_sees_training_rows_alone_and_keeps_what_it_tried(caught):
    upper_search.search(progress=False)
    test = set(caught["fold"].test.tolist())
    for split in caught["found"]["splits"]:
        assert not test & (set(split.train.tolist()) | set(split.test.tolist()))
    rungs = caught["found"]["ratings_upper_search"]["rungs"]
    assert list(rungs) == list(upper_search.SPACES) == list(UPPER)
    for name, rung in rungs.items():
        assert len(rung["tried"]) == upper_search.SPACES[name][2] + 1
        assert rung["best"] == min(rung["tried"], key=lambda one: one["valid_rmse"])["setting"]


def test_draws_are_the_same_each_time_and_all_different():
    for name in upper_search.SPACES:
        one, again = upper_search.draw(name), upper_search.draw(name)
        assert one == again and len(set(one[1:])) == len(one) - 1


def test_features_are_measured_in_all_combinations_on_all_kinds_of_rows(caught, small):
    fm_features.measure(progress=False)
    results = caught["found"]["fm_features"]
    assert list(results["models"])[:3] == ["mf", "", "user"] and len(results["models"]) == 17
    assert "user+movie+time+history" in results["models"]
    kinds = ["all", "cold_movies", "new_users", "new_movies"]
    assert list(results["rows"]) == kinds
    for rmse in results["models"].values():
        assert list(rmse) == kinds
    truth = small.rating[caught["fold"].test]
    expected = metrics.rmse(torch.full_like(truth, 3.2), truth)
    assert results["models"]["movie+time"]["all"] == pytest.approx(expected, abs=1e-5)
    assert sum(results["movie_count_rows"]) == len(truth)
    assert len(results["by_user_count"]["mf"]) == len(results["counts"])


# --- the records ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def canonical():
    return measurements.read("ratings_ladder")["results"]["splits"]["canonical"]


def test_the_chosen_settings_are_the_recorded_searchs_best():
    rungs = measurements.read("ratings_upper_search")["results"]["rungs"]
    for name, setting in UPPER.items():
        best = rungs[name]["best"]
        if name == "fm_bayes":  # the search takes fewer samples, to save time
            best = best | {"samples": setting.samples}
        found = asdict(setting)
        assert {key: list(v) if isinstance(v, tuple) else v for key, v in found.items()} == best


def test_only_the_rungs_with_a_search_have_a_setting():
    assert set(UPPER) | {"fm_bayes_ids"} == set(RUNGS) - set(rating_rungs.rating_models.RUNGS)


def test_the_ladder_used_what_was_chosen():
    recorded = measurements.read("ratings_ladder")["results"]["upper_settings"]
    for name, setting in UPPER.items():
        assert recorded[name] == json.loads(json.dumps(asdict(setting))), name


def test_the_recorded_rungs_are_as_good_as_promised(canonical):
    """The bounds of the averages are myFM 0.4.0's on these folds, with features and without."""
    rmse = {name: of["rmse"] for name, of in canonical.items()}
    assert list(rmse) == list(RUNGS)
    assert rmse["fm"] <= 0.911
    assert min(rmse.values()) == rmse["fm_bayes"] <= 0.8919
    assert rmse["fm_bayes_ids"] <= 0.8973
    assert rmse["svdpp"] < rmse["mf"] < rmse["biases"] and rmse["dlrm"] <= rmse["mf"]
    assert all(of["spread"] < 0.002 and len(of["per_seed"]) == 3 for of in canonical.values())


def test_a_fold_of_the_machine_measured_now_is_near_the_recorded_mean(canonical):
    """One seed of fold 2 with the features, from scratch."""
    ml, split = movielens.load(), splits.canonical_fold(2)
    found = metrics.rmse(RUNGS["fm"](ml, split, 0), ml.rating[split.test])
    assert found == pytest.approx(canonical["fm"]["per_fold"][1], abs=0.003)


def test_recorded_features_tell_the_story_of_the_chapter():
    """What chapter 03 says: features of a movie introduce it, those of a stranger do not."""
    models = measurements.read("fm_features")["results"]["models"]
    assert len(models) == 2 ** len(GROUPS) + 1
    assert models["user+movie+time"]["all"] < models[""]["all"]
    assert models["movie"]["new_movies"] < models[""]["new_movies"] - 0.02
    assert abs(models["user"]["new_users"] - models[""]["new_users"]) < 0.02
