"""Chapter 09's experiment: budgets, who shares a row, where the loss is counted, and its record."""

import json
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dlrm_mini import measurements
from dlrm_mini.errors import UserError
from dlrm_mini.ladders import click_logs
from dlrm_mini.ladders import smaller_table_methods as methods
from dlrm_mini.ladders import smaller_table_runs as runs
from dlrm_mini.ladders import smaller_tables as ladder
from dlrm_mini.smaller_tables import HashedTables

TEST = range(2**33, 2**33 + 2000)
QUICK = replace(runs.BASE, epochs=1, batch_size=512, warm_up=2)
ROW = methods.DIM * methods.NUMBER


@pytest.fixture(scope="module")
def data() -> click_logs.Data:
    return runs.draw("silent", 6000, TEST)


@pytest.fixture(scope="module")
def record():
    return measurements.read("smaller_tables")["results"]


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 60), min_size=1),
    st.integers(0, 250),
)
def test_the_largest_tables_are_cut_to_one_size_as_high_as_fits(sizes, rows):
    cut = methods.capped(sizes, rows)
    cap = max(cut.values())
    assert cut == {name: min(n, cap) for name, n in sizes.items()}
    assert cap == 0 or sum(cut.values()) <= rows
    if cap < max(sizes.values()):
        assert sum(min(n, cap + 1) for n in sizes.values()) > rows


@settings(max_examples=300)
@given(st.integers(1, 400), st.integers(1, 420))
def test_remainders_are_the_most_that_fit(ids, rows):
    fit = [m for m in range(1, ids + 1) if m + -(-ids // m) <= rows]
    assert methods.remainders(ids, rows) == (max(fit) if fit else None)


@pytest.mark.parametrize("name", methods.METHODS)
@pytest.mark.parametrize("part", [1, 2, 4, 8, 16, 32, 64])
def test_no_method_keeps_more_than_its_budget_nor_much_less(data, name, part):
    budget = methods.full_bytes(data.sizes) // part
    made = methods.METHODS[name](data.sizes, budget, data.train)
    if made is None:
        assert (name, part) in {
            *(("full", n) for n in (2, 4, 8, 16, 32, 64)),
            *(("mixed", n) for n in (16, 32, 64)),
            *(("narrow", n) for n in (32, 64)),
            *((f"qr {how}", 64) for how in ("sum", "product")),
        }
        return
    numbers = sum(p.numel() for p in made.module.parameters())
    keys = sum(made.module.cardinalities.values()) - len(data.sizes) if name == "threshold" else 0
    assert made.n_bytes == 4 * numbers + 4 * keys <= budget
    if not (name == "threshold" and part < 32):  # so few ids occur in these few rows
        assert made.n_bytes > 0.9 * budget
    batch = data.test if made.encoding is None else made.encoding(data.test)
    assert made.module(batch.sparse).shape == (len(data.test), len(runs.FIELDS), made.module.dim)


def test_hashed_ids_look_up_what_the_hashed_tables_do(data):
    made = methods.hashed(data.sizes, methods.full_bytes(data.sizes) // 16, data.train)
    rows = {name: len(table) for name, table in made.module.tables.items()}
    tables = HashedTables(data.sizes, methods.DIM, rows)
    tables.load_state_dict(made.module.state_dict())
    expected = tables(data.test.sparse)
    assert torch.equal(made.module(made.encoding(data.test).sparse), expected)
    assert made.n_bytes == tables.n_bytes
    assert [name for name, n in rows.items() if n < data.sizes[name]] == [
        name for name in data.sizes if name in runs.LARGE
    ]


def test_a_threshold_keeps_the_most_frequent_ids_of_all_tables(data):
    made = methods.threshold(data.sizes, methods.full_bytes(data.sizes) // 64, data.train)
    kept, dropped, rows = [], [], 0
    for name, n in data.sizes.items():
        counts = torch.bincount(data.train.sparse.ids(name), minlength=n)
        place = made.encoding.rows[name]
        kept += counts[place > 0].tolist()
        dropped += counts[place == 0].tolist()
        rows += made.encoding.cardinalities[name]
        mine = place[place > 0]
        assert sorted(mine.tolist()) == list(range(1, made.encoding.cardinalities[name]))
    assert min(kept) >= max(dropped) > 0
    budget = methods.full_bytes(data.sizes) // 64
    assert made.n_bytes <= budget < made.n_bytes + ROW + methods.KEY


def test_who_collides_with_whom():
    counts = torch.tensor([5, 80, 1, 40, 3, 20, 2, 10])  # ranks 4 0 7 1 5 2 6 3
    rank = torch.tensor([4, 0, 7, 1, 5, 2, 6, 3])
    found = {how: methods.who_collides(counts, 4, how) for how in methods.COLLISIONS}
    assert torch.equal(found["head with head"], rank // 2)
    assert torch.equal(found["head with tail"], rank % 4)
    assert torch.equal(found["tail with tail"], rank.clamp(max=3))
    for places in found.values():
        assert int(places.min()) >= 0 and int(places.max()) <= 3


def test_the_ids_are_the_logs_under_other_numbers(data):
    plain = click_logs.Data.draw(runs.ClickLog(runs.config("silent"), threads=1), 6000, TEST)
    assert torch.equal(plain.chance, data.chance) and plain.sizes == data.sizes
    for name, n in data.sizes.items():
        ours, theirs = data.train.sparse.ids(name), plain.train.sparse.ids(name)
        number = torch.full((n,), -1)
        number[theirs] = ours
        assert torch.equal(number[theirs], ours)  # one number an id,
        used = number[number >= 0]
        assert len(used.unique()) == len(used)  # and no number twice
    most = torch.bincount(data.train.sparse.ids("C3")).argmax()
    assert int(most) > 100  # the generator's most frequent ids are its smallest


def test_the_loss_is_counted_by_how_often_an_id_was_seen(data):
    logits = torch.randn(len(data.test), dtype=torch.float64)
    p, q = data.chance, logits.sigmoid()
    excess = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()  # Kullback and Leibler's
    total, n = [0.0] * len(runs.EDGES), [0] * len(runs.EDGES)
    for name in runs.LARGE:
        seen = torch.bincount(data.train.sparse.ids(name), minlength=data.sizes[name])
        for row, i in enumerate(data.test.sparse.ids(name).tolist()):
            group = max(g for g, low in enumerate(runs.EDGES) if int(seen[i]) >= low)
            total[group] += float(excess[row])
            n[group] += 1
    expected = [a / max(b, 1) for a, b in zip(total, n, strict=True)]
    assert runs.by_count(data, logits) == pytest.approx(expected, rel=1e-9)


def test_numbers_of_ids_have_the_prior_and_projections_have_none(data):
    made = methods.mixed(data.sizes, methods.full_bytes(data.sizes) // 8, data.train)
    plan = runs.plan(made.module, 6000, 0.25, QUICK)
    tables, mlps, projections = plan.optimizer.param_groups
    assert tables["weight_decay"] == QUICK.prior / 6000 and tables["lr"] > 0
    assert {id(p) for p in tables["params"]} == {id(p) for p in made.module.tables.values()}
    assert {id(p) for p in projections["params"]} == {
        id(p) for p in made.module.projections.values()
    }
    assert mlps["weight_decay"] == projections["weight_decay"] == 0
    every = sum(len(group["params"]) for group in plan.optimizer.param_groups)
    assert every == len(list(plan.model.parameters()))


def test_a_run_is_trained_scored_and_quantised(data):
    run = runs.Run("silent", "hash", 64, 0, QUICK)
    found = runs.outcome(data, run)
    assert found["bytes"] <= methods.full_bytes(data.sizes) // 64
    assert data.best["ne"] < found["ne"] < 1.2
    rows = found["bytes"] // ROW
    assert found["quantised"]["8"]["bytes"] == rows * (16 + 8)
    assert found["quantised"]["4"]["bytes"] == rows * (8 + 4)
    for of in found["quantised"].values():
        assert 0 < of["worst_of_bound"] <= 1 and of["rms_error"] < of["rms_number"]
    assert abs(found["quantised"]["8"]["ne"] - found["ne"]) < 1e-3
    assert runs.outcome(data, replace(run, method="narrow")) == {"possible": False}


def test_quantising_leaves_the_model_as_it_is(data):
    model, encoded, _ = runs.train(data, "hash", 64, 0, QUICK)
    before = model(encoded.test)
    small = runs.quantised(model, 4)
    assert not torch.equal(small(encoded.test), before)
    assert torch.equal(model(encoded.test), before)
    assert small.top is model.top and small.tables is not model.tables


def test_runs_are_kept_as_they_come_and_a_torn_line_is_trained_again(data, tmp_path):
    path = tmp_path / "runs.jsonl"
    run = runs.Run("silent", "hash", 64, 0, QUICK, valid=True)
    found = runs.Store(path)(run, lambda _: data)

    def refuse(_):
        raise AssertionError("trained again")

    assert runs.Store(path)(run, refuse) == found
    with pytest.raises(AssertionError, match="trained again"):
        runs.Store(path)(replace(run, seed=1), refuse)
    text = path.read_text()
    path.write_text(text[:-20])  # as if the power had gone
    assert not runs.Store(path).found
    runs.Store(path)(run, lambda _: data)
    assert runs.Store(path)(run, refuse) == found
    assert json.loads(run.key)["method"] == "hash"


def test_the_record_keeps_to_its_budgets(record):
    whole = record["full_bytes"]
    assert whole == methods.full_bytes(runs.config("silent").cardinalities)
    for world, of_world in record["worlds"].items():
        assert of_world["full"]["1"]["bytes"] == whole
        for of in of_world.values():
            for part, one in of.items():
                assert one["bytes"] <= whole // int(part)
                assert len(one["ne"]["per_seed"]) == len(ladder.SEEDS)
                assert record["optimum"][world]["ne"] < min(one["ne"]["per_seed"])


def test_the_chosen_settings_are_the_best_of_those_tried(record):
    for method, tried in record["tuning"].items():
        assert len(tried) == len(ladder.TRIED)
        best = min(tried, key=lambda one: one["ne"])
        chosen = record["chosen"][method]
        assert (chosen["prior"], chosen["table_rate"]) == (best["prior"], best["table_rate"])
    combines = {name: min(one["ne"] for one in record["tuning"][name]) for name in ladder.COMBINES}
    assert record["combine"] == min(combines, key=combines.get)


def test_what_the_chapter_says_of_the_record(record):
    silent = record["worlds"]["silent"]

    def ne(method, part):
        return silent[method][str(part)]["ne"]["mean"]

    full = ne("full", 1)
    for how in ("8", "4"):
        of = silent["full"]["1"]["quantised"][how]
        assert of["worst_of_bound"] <= 1
        assert of["ne"]["mean"] - full < silent["full"]["1"]["ne"]["spread"]
    for part in (4, 16, 64):
        assert ne("threshold", part) < ne("hash", part)
    assert ne("qr concat", 64) < ne("hash", 64) and ne("narrow", 16) > ne("hash", 64)
    for part, one in record["alike"].items():
        assert one["ne"]["mean"] - full > 5 * (ne("hash", part) - full)
    arms = {how: one["ne"]["mean"] for how, one in record["collided"]["arms"].items()}
    assert sorted(arms, key=arms.get) == [
        *("tail with tail", "head with tail", "at random", "head with head")
    ]
    telling = record["worlds"]["telling"]
    for part in ("16", "64"):
        assert telling["threshold"][part]["ne"]["mean"] < telling["hash"][part]["ne"]["mean"]
    assert record["nothing"]["ne"]["mean"] > max(
        one["ne"]["mean"] for of in silent.values() for one in of.values()
    )


def test_a_recorded_run_can_be_trained_again_and_an_impossible_one_says_so(data, record):
    small = {**record, "chosen": {name: as_dict(QUICK) for name in ("hash", "narrow")}}
    one = ladder.again(data, "hash", 64, small)
    assert one.n_bytes <= methods.full_bytes(data.sizes) // 64
    assert one.scores == ladder.again(data, "hash", 64, small).scores
    with pytest.raises(UserError, match="'narrow' has no tables of 1/64"):
        ladder.again(data, "narrow", 64, small)


def as_dict(setting):
    return json.loads(json.dumps(setting.__dict__))
