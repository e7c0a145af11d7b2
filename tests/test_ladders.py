"""The ladder's fitting functions, and the two records it leaves."""

import time
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
import torch

from dlrm_mini import measurements
from dlrm_mini.datasets import movielens, splits
from dlrm_mini.ladders import rating_models, ratings
from dlrm_mini.ladders.rating_models import CHOSEN, RUNGS, SHRINK, fit_mf, rmse_on
from dlrm_mini.ladders.rating_rungs import rung

N, N_USERS, N_ITEMS = 4000, 60, 80


@pytest.fixture(scope="module")
def small():
    """Ratings of a planted model: biases, and two groups of users with opposite tastes."""
    g = torch.Generator().manual_seed(0)
    user = torch.randint(0, N_USERS, (N,), generator=g)
    item = torch.randint(0, N_ITEMS, (N,), generator=g)
    taste = torch.where(user % 2 == 0, 1.0, -1.0) * torch.where(item % 2 == 0, 1.0, -1.0)
    bias = 0.5 * torch.randn(N_ITEMS, generator=g)[item]
    rating = 3 + taste + bias + 0.3 * torch.randn(N, generator=g)
    return movielens.MovieLens(
        user=user,
        item=item,
        rating=rating.clamp(1, 5),
        timestamp=torch.arange(N),
        users=pd.DataFrame(index=range(N_USERS)),
        movies=pd.DataFrame(index=range(N_ITEMS)),
        genres=np.zeros((N_ITEMS, 19), dtype=np.uint8),
        source="made for the tests",
    )


QUICK = replace(CHOSEN, dim=2, batch_size=256, learning_rate=0.1, l2=0.02, init_std=0.1, epochs=8)


def test_mf_finds_the_planted_taste_and_biases_cannot(small):
    split = splits.random_split(N)
    model, history = fit_mf(small, split.train, seed=0, setting=QUICK)
    biases = RUNGS["biases"](small, split.train, 0)
    assert rmse_on(model, small, split.test) < 0.5 < 0.9 < rmse_on(biases, small, split.test)
    assert history.best_epoch == QUICK.epochs


def test_a_seed_fixes_the_weights_and_another_seed_changes_them(small):
    rows = torch.arange(1000)
    one, again, other = (
        fit_mf(small, rows, seed=seed, setting=QUICK)[0].user_vectors.weight for seed in (0, 0, 1)
    )
    assert torch.equal(one, again) and not torch.equal(one, other)


def test_validation_rows_stop_the_training_and_are_not_trained_on(small):
    split = splits.random_split(N)
    setting = replace(QUICK, l2=0.0, epochs=40, learning_rate=0.3, dim=16)
    model, history = fit_mf(small, split.train, seed=0, setting=setting, valid_rows=split.test)
    curve = history.values("rmse")
    assert history.best_epoch == int(np.argmin(curve)) + 1 < len(curve) < 40
    assert rmse_on(model, small, split.test) == pytest.approx(min(curve))
    alone, _ = fit_mf(
        small, split.train, seed=0, setting=replace(setting, epochs=history.best_epoch)
    )
    assert torch.equal(alone.item_vectors.weight, model.item_vectors.weight)


def test_fitting_gives_the_threads_back(small):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        fit_mf(small, torch.arange(500), seed=0, setting=replace(QUICK, epochs=1))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_measure_averages_over_folds_and_spreads_over_seeds(small):
    """With a model whose error is known for every fold and seed."""
    folds = [splits.random_split(N, seed=k) for k in range(2)]
    errors = iter([1.0, 2.0, 1.5, 2.5, 2.0, 3.0])  # seed 0: two folds, seed 1: two folds, ...

    def off(ml, split, seed):
        return ml.rating[split.test] + next(errors)

    result = ratings.measure(small, folds, off)
    assert result["rmse"] == 2.0
    assert result["per_seed"] == [1.5, 2.0, 2.5] and result["per_fold"] == [1.5, 2.5]
    assert result["spread"] == 0.5


@pytest.fixture
def written(small, monkeypatch):
    """`search` and `ladder` on the small data, with what they write and train on caught."""
    caught = {"rows": []}

    def write(name, results, command):
        caught[name] = results
        return name

    def spy(ml, rows, **keywords):
        caught["rows"].append((rows, keywords.get("valid_rows")))
        return fit_mf(ml, rows, **keywords)

    fold = splits.random_split(N)
    monkeypatch.setattr(movielens, "load", lambda: small)
    monkeypatch.setattr(splits, "canonical_fold", lambda k: fold)
    monkeypatch.setattr(measurements, "write", write)
    monkeypatch.setattr(measurements, "read", lambda name: {"results": caught[name]})
    monkeypatch.setattr(ratings, "fit_mf", spy)
    for name, value in {"DIMS": (1, 2), "L2S": (0.0, 0.02, 0.1), "MAX_EPOCHS": 4}.items():
        monkeypatch.setattr(ratings, name, value)
    monkeypatch.setattr(ratings, "N_RANDOM", 2)
    monkeypatch.setattr(ratings, "START", replace(QUICK, epochs=4))
    monkeypatch.setattr(rating_models, "CHOSEN", QUICK)
    lowest = {name: rung(fitter) for name, fitter in rating_models.RUNGS.items()}
    upper = {"fm": lambda ml, split, seed: ml.rating[split.test] + 0.1}
    monkeypatch.setattr(ratings, "RUNGS", lowest | upper)
    return caught | {"test": set(fold.test.tolist()), "caught": caught}


def test_search_never_sees_a_test_row_and_keeps_what_it_tried(written):
    ratings.search(progress=False)
    for train, valid in written["caught"]["rows"]:
        rows = set(train.tolist()) | set(valid.tolist())
        assert not rows & written["test"]
        assert len(rows) == len(train) + len(valid)
    results = written["caught"]["ratings_search"]
    heat = results["heat_map"]
    assert np.shape(heat["valid_rmse"]) == np.shape(heat["epochs"]) == (2, 3)
    assert len(results["tried"]) == 2 * 3 + 2
    cell = results["tried"][1 * 3 + 2]  # dim 2, L2 0.1
    assert (cell["setting"]["dim"], cell["setting"]["l2"]) == (2, 0.1)
    assert cell["valid_rmse"] == heat["valid_rmse"][1][2]
    best = min(results["tried"], key=lambda one: one["valid_rmse"])
    assert results["best"] == best["setting"]
    assert len(results["own_choice"]) == 5
    own = min(results["tried"][-2:], key=lambda one: one["valid_rmse"])  # of the random ones
    assert results["own_choice"][0]["valid_rmse"] == own["valid_rmse"]


def test_ladder_measures_every_rung_on_every_split(written):
    ratings.search(progress=False)
    ratings.ladder(progress=False)
    assert len(written["caught"]["ratings_ladder"]["own_choice"]["per_fold"]) == 5
    measured = written["caught"]["ratings_ladder"]["splits"]
    assert set(measured) == {"canonical", "random", "user_temporal", "global_temporal"}
    for split, rungs in measured.items():
        upper = ["fm"] if split == "canonical" else []
        assert list(rungs) == ["constant", "popularity", "biases", "mf", *upper]
        folds = 5 if split in ("canonical", "random") else 1
        assert all(len(rung["per_fold"]) == folds for rung in rungs.values())
        assert rungs["constant"]["spread"] == 0


# --- the records ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recorded_ladder():
    return measurements.read("ratings_ladder")["results"]


def test_the_chosen_settings_are_the_recorded_searchs_best():
    results = measurements.read("ratings_search")["results"]
    assert asdict(CHOSEN) == results["best"]
    assert asdict(SHRINK) == results["shrinkage"]["best"]
    assert len(results["own_choice"]) == 5


def test_the_recorded_ladder_reaches_the_quality_promised(recorded_ladder):
    assert recorded_ladder["setting"] == asdict(CHOSEN)
    assert recorded_ladder["shrinkage"] == asdict(SHRINK)
    canonical = recorded_ladder["splits"]["canonical"]
    assert canonical["mf"]["rmse"] <= 0.915
    assert recorded_ladder["own_choice"]["rmse"] <= 0.915  # no test row had a part in any choice
    assert canonical["mf"]["fit_seconds_max"] <= 4
    values = [canonical[name]["rmse"] for name in ("constant", "popularity", "biases", "mf")]
    assert values == sorted(values, reverse=True)


def test_a_fold_measured_now_is_the_recorded_one(recorded_ladder):
    ml, split = movielens.load(), splits.canonical_fold(5)
    started = time.process_time()  # not wall time: the tests share their machine
    model, _ = fit_mf(ml, split.train, seed=0)
    assert time.process_time() - started <= 8  # with torch's own first loading
    recorded = recorded_ladder["splits"]["canonical"]["mf"]
    assert rmse_on(model, ml, split.test) == pytest.approx(recorded["per_fold"][4], abs=0.004)
    rung = RUNGS["biases"](ml, split.train, 0)
    recorded = recorded_ladder["splits"]["canonical"]["biases"]
    assert rmse_on(rung, ml, split.test) == pytest.approx(recorded["per_fold"][4], abs=1e-4)
