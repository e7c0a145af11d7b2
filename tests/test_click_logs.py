"""Chapter 07's experiment: scores against brute force, ids against counting, and its record."""

import math
from collections import Counter
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from dlrm_mini import measurements
from dlrm_mini.datasets.batches import Batch, SparseFeatures
from dlrm_mini.datasets.synthetic import ClickLog, ClickLogConfig, criteo_cardinalities
from dlrm_mini.ladders import click_log_ceiling as ceiling
from dlrm_mini.ladders import click_log_ids as ids
from dlrm_mini.ladders import click_log_scores as scores
from dlrm_mini.ladders import click_log_training as training
from dlrm_mini.ladders import click_logs as ladder
from dlrm_mini.training import predict

SIZES = {"a": 7, "b": 40}  # the last id of each is missing


def batch(rows: int, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    columns = {
        name: (torch.rand(rows, generator=generator) ** 3 * size).long()
        for name, size in SIZES.items()
    }
    sparse = SparseFeatures(
        tuple(SIZES), torch.cat(list(columns.values())), torch.arange(2 * rows + 1)
    )
    return Batch(torch.randn(rows, 2, generator=generator), sparse, torch.ones(rows))


def brute_auc(values, chance) -> float:
    """Over all ordered pairs of two rows, in float64."""
    values, chance = np.asarray(values, float), np.asarray(chance, float)
    weight = chance[:, None] * (1 - chance)
    np.fill_diagonal(weight, 0)
    first = (values[:, None] > values) + 0.5 * (values[:, None] == values)
    return float((weight * first).sum() / weight.sum())


# The log


@pytest.mark.parametrize("rows", [1, 10_000, training.ROWS, ladder.CRITEO, 10 * ladder.CRITEO])
def test_fields_shrink_with_the_rows_but_small_ones_stay(rows):
    found, criteo = ladder.cardinalities(rows), criteo_cardinalities()
    assert list(found) == list(criteo)
    for name, size in criteo.items():
        assert min(size, ladder.KEPT_WHOLE) <= found[name] <= size
        if size * rows / ladder.CRITEO > ladder.KEPT_WHOLE:
            assert found[name] == min(size, round(size * rows / ladder.CRITEO))
    if rows >= ladder.CRITEO:
        assert found == criteo


# Scores


@settings(max_examples=40, deadline=None)
@given(
    values=arrays.arrays(
        float, st.shared(st.integers(2, 12), key="n"), elements=st.integers(-3, 3)
    ),
    chance=arrays.arrays(
        float, st.shared(st.integers(2, 12), key="n"), elements=st.floats(0.01, 0.99)
    ),
)
def test_expected_auc_is_the_mean_over_all_pairs(values, chance):
    found = scores.expected_auc(torch.from_numpy(values), torch.from_numpy(chance))
    assert found == pytest.approx(brute_auc(values, chance), abs=1e-12)
    turned = scores.expected_auc(torch.from_numpy(-values), torch.from_numpy(chance))
    assert found + turned == pytest.approx(1)
    moved = scores.expected_auc(torch.from_numpy(values).mul(3).add(1), torch.from_numpy(chance))
    assert moved == found  # only the order counts


def test_expected_scores_are_the_mean_over_drawn_labels():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(400, generator=generator, dtype=torch.float64)
    chance = (0.7 * logits + torch.randn(400, generator=generator)).sigmoid()
    found = scores.expected(logits, chance)
    labels = (torch.rand(4000, 400, generator=generator) < chance).double()
    loss = torch.nn.functional.binary_cross_entropy_with_logits
    drawn = loss(logits.expand_as(labels), labels, reduction="none").mean(1)
    assert found["logloss"] == pytest.approx(float(drawn.mean()), abs=4 * float(drawn.std()) / 60)
    assert found["calibration"] == pytest.approx(float(logits.sigmoid().sum() / chance.sum()))
    rate = float(chance.mean())
    entropy = -rate * math.log(rate) - (1 - rate) * math.log(1 - rate)
    assert found["ne"] == pytest.approx(found["logloss"] / entropy)


def test_nobody_beats_the_true_chances():
    chance = torch.rand(500, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    best = scores.expected(chance.logit(), chance)
    assert best["calibration"] == pytest.approx(1)
    for other in (2 * chance.logit(), chance.logit() + 0.1, -chance.logit(), torch.zeros(500)):
        found = scores.expected(other, chance)
        assert found["logloss"] > best["logloss"] and found["auc"] <= best["auc"] + 1e-12


def test_recovered_is_the_share_of_the_way():
    assert scores.recovered(0.7, 0.6, 0.8) == pytest.approx(0.5)
    assert scores.recovered(0.3, 0.5, 0.1) == pytest.approx(0.5)  # a loss falls


def test_a_histogram_has_every_row_once():
    logits = torch.tensor([-100.0, -7.95, 0.05, 0.05, 100.0], dtype=torch.float64)
    chance = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5], dtype=torch.float64)
    found = scores.histogram(logits, chance)
    clicks, others = np.array(found["clicks"]), np.array(found["others"])
    assert clicks.sum() + others.sum() == pytest.approx(1000)
    assert clicks.sum() == pytest.approx(300)
    assert clicks[0] == pytest.approx(60) and clicks[-1] == pytest.approx(100)
    middle = int((0.05 - found["low"]) / found["width"])
    assert clicks[middle] == pytest.approx(140) and others[middle] == pytest.approx(260)


def test_the_loss_is_told_apart_by_unknown_ids(monkeypatch):
    monkeypatch.setattr(scores, "MANY", 2)
    values = torch.tensor([1, 1, 2, 5, 1, 0, 1, 1])  # of a: 1 1 2 5, of b: 1 0 1 1
    sparse = SparseFeatures(("a", "b"), values, torch.arange(9))
    rows = Batch(torch.zeros(4, 0), sparse, torch.zeros(4))  # unknown ids: 2, 1, 1, 1
    chance = torch.tensor([0.5, 0.2, 0.4, 0.9], dtype=torch.float64)
    logits = torch.zeros(4, dtype=torch.float64)
    none, one, two = scores.unknown(rows, logits, chance)
    assert (none["rows"], one["rows"], two["rows"]) == (0, 0.75, 0.25)
    entropy = -(chance * chance.log() + (1 - chance) * (1 - chance).log())
    assert one["excess"] == pytest.approx(float((math.log(2) - entropy[1:]).mean()))
    assert two["excess"] == pytest.approx(0, abs=1e-12)


# Ids


@pytest.mark.parametrize("least", [1, 3, 10])
def test_frequent_keeps_what_counting_keeps(least):
    train, test = batch(300), batch(200, seed=1)
    found = ids.frequent(train, SIZES, least)
    for name, size in SIZES.items():
        counts = Counter(train.sparse.ids(name).tolist())
        kept = [id_ for id_ in range(size - 1) if counts[id_] >= least]
        place = {id_: row for row, id_ in enumerate(kept, start=2)} | {size - 1: 0}
        assert found.cardinalities[name] == len(kept) + 2
        for rows in (train, test):
            wanted = [place.get(id_, 1) for id_ in rows.sparse.ids(name).tolist()]
            assert found(rows).sparse.ids(name).tolist() == wanted


@pytest.mark.parametrize("buckets", [1, 5, 1000])
def test_sharing_is_what_counting_finds(buckets):
    train = batch(300)
    found = ids.hashed(SIZES, buckets)
    encoded = found(train)
    for name, size in SIZES.items():
        assert found.cardinalities[name] == buckets + 1
        before, after = (rows.sparse.ids(name).tolist() for rows in (train, encoded))
        pairs = {(a, b) for a, b in zip(before, after, strict=True) if a != size - 1}
        in_bucket = Counter(b for _, b in pairs)
        shared = {a for a, b in pairs if in_bucket[b] > 1}
        assert all(b == 0 for a, b in zip(before, after, strict=True) if a == size - 1)
        assert all(1 <= b <= buckets for _, b in pairs)
        sharing = ids.sharing(found, train, name)
        assert sharing.values == len(pairs)
        assert sharing.counted == pytest.approx(len(shared) / len(pairs))
        assert sharing.lookups == pytest.approx(sum(a in shared for a in before) / len(before))
        assert sharing.expected == ids.expected_sharing(len(pairs), buckets)


def test_the_birthday_formula():
    assert ids.expected_sharing(0, 5) == ids.expected_sharing(1, 5) == 0
    assert ids.expected_sharing(2, 5) == pytest.approx(1 / 5)
    assert ids.expected_sharing(23, 365) == pytest.approx(1 - (364 / 365) ** 22)
    assert ids.expected_sharing(4, 1) == 1
    generator = np.random.default_rng(0)
    thrown = generator.integers(50, size=(2000, 60))
    alone = np.mean([(np.bincount(row, minlength=50)[row] > 1).mean() for row in thrown])
    assert ids.expected_sharing(60, 50) == pytest.approx(alone, abs=0.01)


# Training


@pytest.mark.parametrize("rows", ladder.CURVE)
def test_every_part_takes_as_many_steps_as_the_whole(rows):
    setting = training.part_setting(rows)
    steps = -(-rows // setting.batch_size)
    whole = -(-training.ROWS // training.CHOSEN.batch_size)
    assert steps == pytest.approx(whole, rel=0.01) if rows <= training.ROWS else steps > whole
    assert (setting.prior == training.FEW_PRIOR) is (rows <= training.FEW)
    assert setting == replace(training.CHOSEN, batch_size=setting.batch_size, prior=setting.prior)


def test_the_plan_starts_at_the_rate_of_clicks_and_warms_up():
    setting = replace(training.SMALL, warm_up=4, batch_size=10, epochs=2, prior=7.0)
    plan = training.plan_net(SIZES, 100, 0.2, setting)
    tables, mlps = plan.optimizer.param_groups
    assert plan.model.top[-1].bias.detach().sigmoid().item() == pytest.approx(0.2)
    assert tables["weight_decay"] == pytest.approx(0.07) and mlps["weight_decay"] == 0
    assert {id(p) for p in tables["params"]} == {id(p) for p in plan.model.tables.parameters()}
    everything = {id(p) for p in plan.model.parameters()}
    assert {id(p) for group in (tables, mlps) for p in group["params"]} == everything
    steps, rates = 20, []
    for _ in range(steps):
        rates.append((tables["lr"], mlps["lr"]))
        plan.optimizer.step()
        plan.schedule.step()
    for step, (one, other) in enumerate(rates):
        share = min((step + 1) / 5, 1) * (1 - step / steps)
        assert one == pytest.approx(setting.table_rate * share)
        assert other == pytest.approx(setting.mlp_rate * share)
    assert tables["lr"] == pytest.approx(0)


def test_a_net_finds_a_planted_pair_that_logistic_regression_cannot():
    planted = ClickLogConfig(
        {"a": 9, "b": 9, "c": 9},
        first=0.3,
        second=2.5,
        n_pairs=1,
        dense_pairs=0,
        teacher_dim=2,
        noise=0.0,
    )
    data = ladder.Data.draw(ClickLog(planted, threads=1), 12_000, range(2**33, 2**33 + 4000))
    data = data.frequent(10)
    setting = replace(training.SMALL, batch_size=64, warm_up=20, prior=1.0, epochs=2)
    lr, net = (data.scored(z)["auc"] for z in (data.lr(0), data.net(0, setting)))
    assert lr < net < data.best["auc"]
    assert scores.recovered(net, lr, data.best["auc"]) > 0.5


def test_logistic_regression_is_treated_like_the_tables_of_a_net():
    setting = replace(training.SMALL, warm_up=4, batch_size=10, epochs=2, prior=7.0)
    plan, net = (
        training.plan_lr(SIZES, 3, 100, 0.2, setting),
        training.plan_net(SIZES, 100, 0.2, setting),
    )
    tables, others = plan.optimizer.param_groups
    of_net = net.optimizer.param_groups[0]
    for name in ("lr", "initial_lr", "weight_decay"):
        assert tables[name] == of_net[name]
    assert others["lr"] == tables["lr"] and others["weight_decay"] == 0
    assert {id(p) for p in tables["params"]} == {id(p) for p in plan.model.linear.parameters()}
    assert {id(p) for p in others["params"]} == {id(plan.model.bias), id(plan.model.dense_linear)}
    assert plan.model.bias.sigmoid().item() == pytest.approx(0.2)
    (mine,), (theirs,) = plan.schedule.lr_lambdas[:1], net.schedule.lr_lambdas[:1]
    assert [mine(step) for step in range(20)] == [theirs(step) for step in range(20)]
    assert (plan.batch_size, plan.epochs) == (10, 2)


def test_logistic_regression_has_no_pairs_and_takes_as_many_steps_as_a_net(monkeypatch):
    made = []
    plan_lr = training.plan_lr
    monkeypatch.setattr(
        training, "plan_lr", lambda *given: made.append(given[-1]) or plan_lr(*given)
    )
    rows = batch(500)
    rows.labels[::2] = 0
    model = training.fit_lr(rows, SIZES, 0)
    assert made == [training.part_setting(500)]
    assert all(not table.any() for table in model.vectors.parameters())
    assert not model.dense_vectors.any() and model.dense_linear.any()


def test_the_prior_keeps_rare_ids_small_and_leaves_frequent_ones():
    log = ClickLog(ClickLogConfig({"a": 300, "b": 9}, dense_pairs=0, n_pairs=1), threads=1)
    data = ladder.Data.draw(log, 3000, range(2**33, 2**33 + 10)).frequent(1)
    counts = torch.bincount(data.train.sparse.ids("a"), minlength=data.sizes["a"])
    order = counts.argsort(descending=True)
    sizes = []
    for prior in (0.0, 100.0):
        setting = replace(training.SMALL, batch_size=64, prior=prior)
        model = training.fit_net(data.train, data.sizes, 0, setting)
        sizes.append(model.tables.tables["a"].detach().abs().mean(1)[order])
    kept = sizes[1] / sizes[0]
    assert kept[-100:].mean() < 0.6 * kept[:5].mean()


@pytest.mark.parametrize("second", [0.0, 2.0])
def test_the_ceiling_without_pairs_is_the_optimum_only_where_there_are_none(second):
    planted = ClickLogConfig(
        {"a": 40, "b": 9, "c": 5},
        first=1.0,
        second=second,
        n_pairs=2,
        teacher_ids=8,
        noise=0.0,
    )
    log = ClickLog(planted, threads=1)
    data = ladder.Data.draw(log, 20_000, range(2**33, 2**33 + 5000))
    found = data.scored(ceiling.best_additive(log, 20_000, data.test))
    lr = data.frequent(10).scored(data.frequent(10).lr(0))
    if second:
        assert lr["logloss"] < found["logloss"] + 0.02
        assert found["logloss"] > data.best["logloss"] + 0.05
    else:
        assert found["logloss"] == pytest.approx(data.best["logloss"], abs=2e-4)
    assert found["logloss"] < lr["logloss"]


def test_the_same_seed_gives_the_same_model():
    data = ladder.Data.draw(
        ClickLog(ClickLogConfig({"a": 9, "b": 9}, dense_pairs=0, n_pairs=1), threads=1),
        1000,
        range(2**33, 2**33 + 100),
    )
    setting = replace(training.SMALL, batch_size=100)
    first, again, other = (data.net(seed, setting) for seed in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(
        data.lr(0), predict(training.fit_lr(data.train, data.sizes, 0), data.test).double()
    )


# The record


@pytest.fixture(scope="module")
def record():
    return measurements.read("click_log")["results"]


def test_the_record_is_of_this_log_and_these_settings(record):
    assert record["log"]["config"] == as_json(asdict(ladder.config()))
    assert record["log"]["train_rows"] == training.ROWS and record["log"]["test_rows"] == len(
        ladder.TEST
    )
    chosen = {"dlrm": training.CHOSEN, "ids": training.SMALL}
    assert record["settings"] == {name: as_json(asdict(of)) for name, of in chosen.items()}
    assert [one["rows"] for one in record["curve"]] == list(ladder.CURVE)
    assert [one["buckets"] for one in record["buckets"]] == list(ladder.BUCKETS)
    assert set(record["variants"]) == set(ladder.VARIANTS)


def as_json(value):
    """As JSON gives it back: lists for tuples."""
    if isinstance(value, dict):
        return {name: as_json(one) for name, one in value.items()}
    return [as_json(one) for one in value] if isinstance(value, list | tuple) else value


def test_the_recorded_optimum_is_the_logs(record):
    """The first 20,000 test rows: a sample of what the record has of all."""
    _, chance = ClickLog(ladder.config(), threads=1).batch(
        ladder.TEST.start, ladder.TEST.start + 20_000
    )
    found = scores.expected(chance.logit(), chance)
    assert found["auc"] == pytest.approx(record["optimum"]["auc"], abs=0.01)
    assert found["logloss"] == pytest.approx(record["optimum"]["logloss"], abs=0.01)


def test_nothing_recorded_beats_the_optimum(record):
    best = record["optimum"]
    every = [one for part in record["curve"] for model in ("lr", "dlrm") for one in part[model]]
    every += [*record["variants"].values(), *record["buckets"], *record["ids"].values()]
    for one in every:
        assert one["logloss"] > best["logloss"] and one["ne"] > best["ne"]
        assert 0.5 < one["auc"] < best["auc"]


def test_recorded_logistic_regressions_stay_below_what_pairs_alone_can_give(record):
    without = record["additive"]
    assert record["first_order"]["auc"] < without["auc"] < record["optimum"]["auc"]
    for part in record["curve"]:
        assert len(part["lr"]) == len(part["dlrm"]) == (3 if part["rows"] <= training.ROWS else 1)
        for lr in part["lr"]:
            assert lr["auc"] < without["auc"] and lr["ne"] > without["ne"]
    assert record["models"]["lr"]["auc"]["mean"] > without["auc"] - 0.01  # and not far below


def test_recorded_tables_have_no_more_rows_in_use_than_rows(record):
    for one in (*record["buckets"], *record["ids"].values()):
        assert 0 < one["used_rows"] <= one["table_rows"]
    assert record["ids"]["every"]["used_rows"] > record["ids"]["threshold"]["used_rows"]


def test_a_million_rows_recover_95_percent_of_the_gap(record):
    shares, models, best = record["recovered"]["auc"], record["models"], record["optimum"]["auc"]
    assert shares["mean"] >= 0.95
    lr, net = (models[name]["auc"]["mean"] for name in ("lr", "dlrm"))
    assert shares["mean"] == pytest.approx((net - lr) / (best - lr))
    assert len(shares["per_seed"]) == len(ladder.SEEDS)


def test_recorded_collisions_follow_the_birthday_formula(record):
    for one in record["buckets"]:
        assert list(one["fields"]) == list(ladder.cardinalities())
        for name, field in one["fields"].items():
            for share in ("expected", "counted", "lookups"):
                assert 0 <= field[share] <= 1
            assert field["values"] < ladder.cardinalities()[name]
            wanted = ids.expected_sharing(field["values"], one["buckets"])
            assert field["expected"] == pytest.approx(wanted)
            if field["values"] > 500:
                assert field["counted"] == pytest.approx(wanted, abs=0.06), (one["buckets"], name)


def test_recorded_groups_and_histograms_hold_all_rows(record):
    for groups in record["unknown"].values():
        assert [one["ids"] for one in groups] == list(range(scores.MANY + 1))
        assert sum(one["rows"] for one in groups) == pytest.approx(1)
    for name, histogram in record["histograms"].items():
        clicks, others = sum(histogram["clicks"]), sum(histogram["others"])
        assert clicks + others == pytest.approx(1000, abs=0.1), name
        assert clicks / 1000 == pytest.approx(record["log"]["share_of_clicks"], abs=0.01)
