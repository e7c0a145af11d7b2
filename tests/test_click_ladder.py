"""The click ladder's fitting functions, its search, and what they write."""

import json
from dataclasses import replace

import pytest
import torch

from dlrm_mini import measurements, metrics
from dlrm_mini.datasets import movielens, splits
from dlrm_mini.datasets.batches import Batch, SparseFeatures
from dlrm_mini.datasets.clicks import PRIOR_ROWS, ClickTask, click_task
from dlrm_mini.errors import UserError
from dlrm_mini.ladders import click_ablations, click_settings, clicks, plans
from dlrm_mini.ladders.click_ablations import PairsOnly, with_dense, with_leaking_means, with_tables
from dlrm_mini.ladders.click_models import (
    FITTERS,
    METRICS,
    WideDLRM,
    fit_dlrm,
    fit_fm,
    fit_mf,
)
from dlrm_mini.models.dlrm import DLRM, random_batch
from dlrm_mini.models.dlrm_config import DLRMConfig
from dlrm_mini.training import logistic_loss, predict

SIZES = {"user": 30, "item": 40, "genres": 3}
FM = replace(click_settings.FM, dim=8, l2=1e-3, rate=0.2, batch_size=250, epochs=15)
NET = replace(
    click_settings.NET, dim=8, table_rate=0.2, mlp_rate=0.03, l2=1e-3, batch_size=250, epochs=15
)
QUICK = {
    "constant": None,
    "lr": replace(FM, dim=0),
    "mf": FM,
    "fm": FM,
    "mlp": replace(NET, bottom=(), top=(32,)),
    "dlrm": NET,
}


@pytest.fixture(scope="module")
def task():
    """A planted model: users of two kinds like items of two kinds, and one dense column matters."""
    g = torch.Generator().manual_seed(0)
    n = 4000
    user = torch.randint(0, SIZES["user"], (n,), generator=g)
    item = torch.randint(0, SIZES["item"], (n,), generator=g)
    dense = torch.randn(n, 2, generator=g)
    taste = (1 - 2 * (user % 2)) * (1 - 2 * (item % 2))
    odds = 2.0 * taste + dense[:, 0]
    labels = (torch.rand(n, generator=g) < odds.sigmoid()).float()
    genres = torch.cat([item % 3, (item % 3 + 1) % 3]).view(2, n).T.reshape(-1)
    sparse = SparseFeatures.from_columns(
        {"user": user, "item": item, "genres": (genres, 2 * torch.arange(n + 1))}
    )
    data = Batch(dense, sparse, labels)
    rows = torch.arange(n)
    return ClickTask(data.select(rows[:3000]), data.select(rows[3000:]), SIZES, ("a", "b"))


def auc_of(model, task):
    return metrics.auc(predict(model, task.test), task.test.labels)


# --- the fitting functions ------------------------------------------------------------------------


def test_who_can_find_the_planted_taste(task):
    """It is an interaction: out of reach without one, whatever else is there."""
    auc = {name: auc_of(FITTERS[name](task, 0, QUICK[name])[0], task) for name in FITTERS}
    assert auc["constant"] == 0.5
    assert 0.6 < auc["lr"] < 0.72  # the dense column
    assert min(auc["mf"], auc["fm"], auc["mlp"], auc["dlrm"]) > 0.8
    assert auc["mf"] < auc["fm"]  # which also knows the dense column
    no_products = replace(NET, interaction="cat")  # and a linear top
    assert auc_of(fit_dlrm(task, 0, no_products)[0], task) < 0.72


def test_dim_0_is_logistic_regression(task):
    model, _ = fit_fm(task, 0, QUICK["lr"])
    part = model.contributions(task.test)
    assert not part.pairs.any() and part.linear.any()
    assert clicks._n_trained(model) == 1 + sum(SIZES.values()) + 2


def test_matrix_factorization_sees_user_and_item_alone(task):
    model, _ = fit_mf(task, 0, QUICK["mf"])
    other = Batch(task.test.dense + 1, task.test.sparse, task.test.labels)
    assert torch.equal(predict(model, task.test), predict(model, other))
    assert clicks._n_trained(model) == 1 + (SIZES["user"] + SIZES["item"]) * (1 + FM.dim)


@pytest.mark.parametrize("name", [name for name in FITTERS if name != "constant"])
def test_a_seed_fixes_the_model_and_another_seed_changes_it(task, name):
    setting = replace(QUICK[name], epochs=1)
    one, again, other = (
        predict(FITTERS[name](task, seed, setting)[0], task.test) for seed in (0, 0, 1)
    )
    assert torch.equal(one, again) and not torch.equal(one, other)


@pytest.mark.parametrize("name", [name for name in FITTERS if name != "constant"])
def test_valid_rows_are_measured_and_change_nothing(task, name):
    setting = replace(QUICK[name], epochs=2)
    alone, none = FITTERS[name](task, 0, setting)
    watched, history = FITTERS[name](task, 0, setting, valid=task.test)
    logits = predict(watched, task.test)
    assert torch.equal(predict(alone, task.test), logits)
    assert none.values("logloss") == []
    assert len(history.values("auc")) == len(history.values("ne")) == 2
    assert history.values("logloss")[-1] == metrics.logloss(logits, task.test.labels)


def test_fitting_gives_the_threads_back(task):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        fit_dlrm(task, 0, replace(NET, epochs=1))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_models_start_at_the_log_odds(task, monkeypatch):
    """Before any step a model is off by no more than its small vectors."""
    monkeypatch.setattr(plans, "fit", lambda *a, **k: None)
    share = task.train.labels.mean().logit()
    for name in ("constant", "lr", "mf", "fm"):
        model, _ = FITTERS[name](task, 0, QUICK[name])
        torch.testing.assert_close(predict(model, task.test), share.expand(1000), atol=0.1, rtol=0)
    outputs = fit_dlrm(task, 0, NET)[0].top[-1], FITTERS["mlp"](task, 0, QUICK["mlp"])[0].output
    for output in outputs:
        torch.testing.assert_close(output.bias, share[None], atol=1e-6, rtol=0)


def test_the_rate_falls_to_zero_and_the_tables_have_their_own(task, monkeypatch):
    seen = []

    class Spy(torch.optim.Adagrad):
        def step(self, closure=None):
            seen.append([group["lr"] for group in self.param_groups])
            assert {group["initial_accumulator_value"] for group in self.param_groups} == {1e-7}
            super().step(closure)

    monkeypatch.setattr(torch.optim, "Adagrad", Spy)
    fit_dlrm(task, 0, replace(NET, epochs=2))
    steps = 2 * 12  # 3000 rows in batches of 250
    expected = [[0.2 * (1 - k / steps), 0.03 * (1 - k / steps)] for k in range(steps)]
    torch.testing.assert_close(torch.tensor(seen), torch.tensor(expected))


def test_the_penalty_is_the_squares_of_the_vectors_looked_up(task):
    model = DLRM(DLRMConfig(2, SIZES, 4, bottom=(4,), top=(1,)))
    part = task.test.select(torch.arange(50))
    squares = model.tables(part.sparse).square().sum() / 50
    objective = plans.penalised(logistic_loss, {"tables": 0.3, "other_tables": 9.0})
    found = objective(model, part)
    torch.testing.assert_close(found, logistic_loss(model, part) + 0.3 * squares)
    found.backward()
    assert model.tables.tables["item"].grad.any()
    with pytest.raises(UserError):
        objective(model, Batch(part.dense[:, :1], part.sparse, part.labels))
    assert not model.tables._forward_hooks  # nothing stays behind


# --- the variants ---------------------------------------------------------------------------------


def test_pairs_only_reads_the_products_and_nothing_else():
    config = DLRMConfig(2, {"user": 5, "item": 6}, 4, bottom=(4,), top=(8, 1))
    model = PairsOnly(config)
    assert model.top[0].in_features == 3
    batch = random_batch(config, 9)
    products = model.interaction_matrix(batch)
    pairs = torch.stack([products[:, 1, 0], products[:, 2, 0], products[:, 2, 1]], dim=1)
    torch.testing.assert_close(model(batch), model.top(pairs).squeeze(1))


def test_a_wide_dlrm_is_the_dlrm_plus_a_weight_for_each_id_and_column():
    config = DLRMConfig(2, {"user": 5, "item": 6}, 4, bottom=(4,), top=(1,))
    model, plain = WideDLRM(config), DLRM(config)
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if "linear" not in k})
    batch = random_batch(config, 9)
    assert torch.equal(model(batch), plain(batch))  # they start at zero
    with torch.no_grad():
        for weights in model.linear.parameters():
            weights.normal_()
        model.linear_dense.weight.copy_(torch.tensor([[2.0, -3.0]]))
    user, item = (
        model.linear.tables[name][batch.sparse.ids(name), 0] for name in config.cardinalities
    )
    own = user + item + 2 * batch.dense[:, 0] - 3 * batch.dense[:, 1]
    torch.testing.assert_close(model(batch), plain(batch) + own)


def test_variants_of_the_task(task):
    kept = with_dense(task, ["b"])
    assert torch.equal(kept.train.dense, task.train.dense[:, [1]]) and kept.dense_names == ("b",)
    assert torch.equal(with_dense(task, ()).test.dense, torch.ones(1000, 1))
    few = with_tables(task, ["item"])
    assert few.cardinalities == {"item": 40} and few.train.sparse.names == ("item",)
    for variant in (kept, few):
        assert torch.equal(variant.train.labels, task.train.labels)


def test_leaking_means_contain_the_own_label():
    ml = movielens.load()
    split = splits.random_split(100_000)
    whole = click_task(ml, split, prior_rows=0.0)
    leaking = with_leaking_means(whole, ml, split)
    counts = torch.bincount(ml.item[split.train], minlength=ml.n_items)
    once = counts[ml.item[split.train]] == 1
    column = whole.dense_names.index("item_mean")
    labels = whole.train.labels[once]
    assert metrics.auc(leaking.train.dense[once, column], labels) == 1
    assert torch.equal(leaking.test.dense, whole.test.dense)
    assert torch.equal(leaking.train.dense[:, :2], whole.train.dense[:, :2])


# --- search, ladder, ablations --------------------------------------------------------------------


def test_validation_rows_come_from_the_training_rows_and_are_like_the_test_rows():
    ml = movielens.load()
    for name in clicks.SPLITS:
        whole, part = clicks.click_split(ml, name), clicks.validation_split(ml, name)
        rows = torch.cat([part.train, part.test]).sort().values
        assert torch.equal(rows, whole.train)
    latest = torch.zeros(ml.n_users, dtype=torch.int64)
    latest.scatter_reduce_(0, ml.user[part.train], ml.timestamp[part.train], "amax")
    assert bool((ml.timestamp[part.test] >= latest[ml.user[part.test]]).all())
    share = len(part.test) / len(whole.train)
    assert clicks.VALIDATION - 0.01 < share <= clicks.VALIDATION


@pytest.fixture
def written(task, monkeypatch):
    """What is recorded, with all models and tasks made small."""
    caught = {"tasks": []}

    def write(name, results, command):
        caught[name] = json.loads(json.dumps(results, allow_nan=False))
        return name

    def fake_task(ml, split, prior_rows=PRIOR_ROWS):
        caught["tasks"].append(split)
        return task

    small = {
        name: replace(setting, epochs=1, batch_size=1000)
        for name, setting in QUICK.items()
        if setting is not None
    }
    grids = {name: (small.get(name, small["dlrm"]), {}) for name in clicks.GRIDS}
    grids["lr"] = (small["lr"], {"rate": (0.01, 0.2)})
    monkeypatch.setattr(clicks, "GRIDS", grids)
    monkeypatch.setattr(clicks, "FM", small["fm"])
    monkeypatch.setattr(clicks, "DRAWS", 3)
    monkeypatch.setattr(clicks, "FINALISTS", 2)
    monkeypatch.setattr(clicks, "PRIORS", (0.0, 5.0))
    monkeypatch.setattr(measurements, "write", write)
    monkeypatch.setattr(measurements, "read", lambda name: {"results": caught[name]})
    for module in (clicks, click_ablations):
        monkeypatch.setattr(module, "click_task", fake_task)
        monkeypatch.setattr(module, "CHOSEN", {"random": small, "temporal": small})
    monkeypatch.setattr(click_ablations, "with_leaking_means", lambda task, ml, split: task)
    monkeypatch.setattr(click_ablations, "MEANS", ("b",))
    monkeypatch.setattr(click_ablations, "DIMS", (1, 2))
    return caught


def test_search_looks_at_validation_rows_and_keeps_what_it_tried(written):
    clicks.search(progress=False)
    ml = movielens.load()
    allowed = {name: set(clicks.click_split(ml, name).train.tolist()) for name in clicks.SPLITS}
    for split in written["tasks"]:
        rows = set(torch.cat([split.train, split.test]).tolist())
        assert rows in allowed.values()
    results = written["clicks_search"]
    for of_split in results["searches"].values():
        assert list(of_split) == list(clicks.GRIDS)
        one = of_split["lr"]
        assert len(one["tried"]) == 3 and len(one["finalists"]) == 2
        assert len({tried["setting"]["rate"] for tried in one["tried"]}) == 2
        best = min(one["finalists"], key=lambda final: final["logloss"])
        assert one["best"] == best["setting"] and one["logloss"] == best["logloss"]
    assert results["features"]["prior_rows"] == [0.0, 5.0]


def test_the_better_top_becomes_the_dlrm():
    found = {name: {"best": name, "logloss": 0.5} for name in clicks.GRIDS}
    found["dlrm_hidden_top"]["logloss"] = 0.49
    assert clicks._best(found)["dlrm"] == "dlrm_hidden_top"
    found["dlrm_linear_top"]["logloss"] = 0.48
    assert clicks._best(found)["dlrm"] == "dlrm_linear_top"
    assert list(clicks._best(found)) == ["lr", "mf", "fm", "mlp", "dlrm"]


def test_ladder_and_ablations_record_every_model(written):
    clicks.ladder(progress=False)
    ladder = written["clicks_ladder"]
    for split in clicks.SPLITS:
        assert list(ladder["splits"][split]) == list(FITTERS)
        gain = ladder["dlrm_minus_fm"][split]
        models = ladder["splits"][split]
        means = models["dlrm"]["logloss"]["mean"] - models["fm"]["logloss"]["mean"]
        assert gain["logloss"] == pytest.approx(means, abs=2e-5) and gain["standard_error"] > 0
    clicks.search(progress=False)
    click_ablations.ablations(progress=False)
    measured = written["clicks_ablations"]["splits"]["random"]
    assert measured["dlrm"]["auc"] == ladder["splits"]["random"]["dlrm"]["auc"]
    assert {"cat", "cat, own search", "no dense features", "pairs only", "dim 2"} < set(measured)
    assert measured["dim 2"]["parameters"] < measured["dlrm"]["parameters"]
    assert measured["cat"]["setting"]["interaction"] == "cat"
    for name, of in measured.items():
        behind = of["logloss"]["mean"] - measured["dlrm"]["logloss"]["mean"]
        assert of["minus_dlrm"]["logloss"] == pytest.approx(behind, abs=2e-5), name
    extra = measured["linear weights"]["parameters"] - measured["dlrm"]["parameters"]
    assert extra == sum(SIZES.values()) + 2


def test_measure_gives_means_spreads_and_the_rows_losses(task):
    shifts = iter([0.0, 1.0, 2.0])

    class Fixed(torch.nn.Module):
        def __init__(self, shift):
            super().__init__()
            self.shift = torch.nn.Parameter(torch.tensor(shift))

        def forward(self, batch):
            return self.shift + batch.dense[:, 0]

    result, rows = clicks.measure(lambda *_: (Fixed(next(shifts)), None), task, None)
    labels, scores = task.test.labels, task.test.dense[:, 0]
    assert result["logloss"]["per_seed"] == [
        round(metrics.logloss(scores + shift, labels), 5) for shift in (0.0, 1.0, 2.0)
    ]
    assert result["auc"]["spread"] == 0 and result["ne"]["spread"] > 0
    assert float(rows.mean()) == pytest.approx(result["logloss"]["mean"], abs=1e-5)
    assert result["parameters"] == 1 and list(METRICS) == ["auc", "logloss", "ne"]
