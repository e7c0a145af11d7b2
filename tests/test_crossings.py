"""Chapter 06's experiment: equal budgets, known optimum, and a record that still holds."""

import statistics
from itertools import combinations, pairwise
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from dlrm_mini import measurements
from dlrm_mini.datasets import movielens, splits
from dlrm_mini.datasets.batches import Batch, SparseFeatures
from dlrm_mini.datasets.clicks import click_task
from dlrm_mini.datasets.synthetic import ClickLog
from dlrm_mini.ladders import crossing_models, crossing_settings, crossings
from dlrm_mini.ladders.crossing_settings import (
    ARMS,
    DOUBLE,
    FLOPS,
    LINEAR,
    MOVIELENS_BUDGETS,
    PARAMETERS,
    SEEDS,
    SHARES,
    Setting,
    World,
)
from dlrm_mini.models.interaction_models import InteractionModel
from dlrm_mini.models.interaction_strength import pair_strengths
from dlrm_mini.training import predict


@pytest.fixture(scope="module")
def record():
    return measurements.read("interactions")["results"]


@pytest.fixture(scope="module")
def world():
    return World(0.5)


@pytest.mark.parametrize("budget", (PARAMETERS, DOUBLE, FLOPS), ids=lambda budget: budget.name)
@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_costs_what_it_may(arm, budget):
    config = crossing_settings.arm_config(arm, budget)
    assert abs(config.cost(budget.of) - budget.cost) <= 0.01 * budget.cost
    built = sum(p.numel() for p in InteractionModel(config).parameters())
    assert built == config.cost("parameters")


def test_every_arm_costs_what_it_may_on_movielens():
    task = click_task(movielens.load(), splits.random_split(splits.N_RATINGS))
    for budget in MOVIELENS_BUDGETS:
        for arm in ARMS:
            config = crossing_settings.movielens_config(arm, budget, task)
            assert abs(config.cost(budget.of) - budget.cost) <= 0.01 * budget.cost, arm
            assert config.cross_rank or "cross" not in arm


@given(st.lists(st.tuples(st.floats(-8, 8), st.floats(0, 1)), min_size=1, max_size=9))
def test_the_expected_logloss_is_the_mean_over_labels(rows):
    z, p = torch.tensor(rows, dtype=torch.float64).unbind(1)
    click, none = -torch.sigmoid(z).log(), -torch.sigmoid(-z).log()
    wanted = (p * click + (1 - p) * none).mean()
    assert crossing_settings.expected_logloss(z, p) == pytest.approx(float(wanted), abs=1e-9)


def test_a_share_is_nothing_at_logistic_regression_and_all_at_the_optimum():
    ends = [crossing_settings.share(loss, 0.54, 0.46) for loss in (0.54, 0.46, 0.5)]
    assert ends == pytest.approx([0, 1, 0.5])


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("loud", [True, False])
def test_all_worlds_plant_the_same_variance(share, loud):
    log = World(share, loud).log
    second = float(log.planted_pairs()[1].square().sum()) / 2
    third = sum(strength**2 for strength in log.planted_triples().values())
    times = crossing_settings.LOUDER if loud else 1
    assert second + third == pytest.approx((times * crossing_settings.INTERACTIONS) ** 2)
    assert third == pytest.approx(share * (second + third))


def test_nobody_is_judged_on_rows_that_somebody_learned_from(monkeypatch):
    world, asked = World(0.25), []
    monkeypatch.setattr(ClickLog, "batch", lambda _, *ends: asked.append(ends) or (None, None))
    for seed in (*SEEDS, SEEDS[-1] + 1):  # the search takes rows of its own
        world.train(seed)
    world.valid()
    world.test()
    asked.sort()
    assert len(asked) == len(SEEDS) + 3
    assert all(end <= start for (_, end), (start, _) in pairwise(asked))


def test_the_search_never_asks_for_test_rows(monkeypatch):
    monkeypatch.setattr(crossing_settings, "ROWS", 2000)
    monkeypatch.setattr(crossing_settings, "VALID", 500)
    monkeypatch.setattr(World, "test", lambda _: pytest.fail("test rows in the search"))
    found = crossings._search_worlds((World(0.5),), progress=False)
    assert set(found["0.5 noisy"]) == {LINEAR, *ARMS}
    assert set(found["0.5 noisy"].values()) <= set(crossing_settings.GRID)


def test_a_summary_has_the_spread_of_a_sample():
    found = crossings._summary([1, 2, 4])
    assert found == {"mean": 2.33333, "spread": 1.52753, "per_seed": [1, 2, 4]}


def test_the_blocks_are_the_norms_of_their_part_of_the_first_matrix(world, monkeypatch):
    monkeypatch.setattr(crossing_models, "STRENGTH_ROWS", 16)
    model = InteractionModel(crossing_settings.arm_config("cross"))
    dim = model.config.dim
    weight = model.cross.layers[0].weight.detach().double()
    found = crossing_models.learned(model, world)["block_norms"]
    wanted = weight[3 * dim : 4 * dim, dim : 2 * dim].norm()
    assert found[3][1] == pytest.approx(float(wanted), abs=1e-4)


def test_with_a_penalty_the_mlps_get_a_tenth_of_the_rate(world, monkeypatch):
    made = []

    def plan(*arguments):
        made.extend(arguments)
        return SimpleNamespace(run=lambda *_: None)

    monkeypatch.setattr(crossing_models, "Plan", plan)
    train = world.log.batch(0, 100)[0]
    setting = Setting(0.4, 0.1, l2=0.002, batch_size=50)
    crossing_models.fit(crossing_settings.arm_config("dot + MLP"), setting, train, 0)
    tables, others = made[2].param_groups
    assert [tables["initial_lr"], others["initial_lr"]] == pytest.approx([0.4, 0.04])
    assert sum(p.numel() for p in tables["params"]) > sum(p.numel() for p in others["params"]) / 2


class Toy(nn.Module):
    """Three fields of two ids, -1 or 1: a pair of a and b, and a triple."""

    def __init__(self, pair: float, triple: float) -> None:
        super().__init__()
        self.pair, self.triple = pair, triple

    def forward(self, batch: Batch) -> torch.Tensor:
        a, b, c = (2.0 * batch.sparse.ids(name) - 1 for name in "abc")
        return 3 * a - b + self.pair * a * b + self.triple * a * b * c


def toy_rows(n: int) -> Batch:
    generator = torch.Generator().manual_seed(0)
    ids = {name: torch.randint(2, (n,), generator=generator) for name in "abc"}
    return Batch(torch.empty(n, 0), SparseFeatures.from_columns(ids), torch.zeros(n))


@given(pair=st.floats(-2, 2), triple=st.floats(-2, 2))
def test_strengths_are_those_planted(pair, triple):
    rows, toy = toy_rows(20_000), Toy(pair, triple)
    found = crossing_models.triple_strengths(toy, rows, [("a", "b", "c")])
    assert found["a", "b", "c"] == pytest.approx(abs(triple), rel=0.05, abs=1e-6)
    names, pairs = pair_strengths(toy, rows)
    a, b, c = (names.index(name) for name in "abc")
    assert float(pairs[a, b]) == pytest.approx((pair**2 + triple**2) ** 0.5, rel=0.05, abs=1e-6)
    assert float(pairs[a, c]) == pytest.approx(abs(triple), rel=0.05, abs=1e-6)


def test_planted_matrix_adds_each_triple_to_its_three_pairs(world):
    names, matrix = world.planted()
    alone = world.log.planted_pairs()[1]
    (first, strength), *_ = world.log.planted_triples().items()
    for one, two in combinations(first, 2):
        row, column = names.index(one), names.index(two)
        wanted = float(alone[row, column] ** 2) + strength**2
        assert float(matrix[row, column]) ** 2 == pytest.approx(wanted)
    assert torch.equal(matrix, matrix.T)


def test_the_same_seed_gives_the_same_model(world):
    rows, _ = world.log.batch(0, 3000)
    config = crossing_settings.arm_config("third + MLP")
    for setting in (Setting(0.02, 0.1), Setting(0.1, 0.03, l2=0.01)):  # Adam, Adagrad
        one, two, other = (
            predict(crossing_models.fit(config, setting, rows, seed)[0], rows) for seed in (0, 0, 1)
        )
        assert torch.equal(one, two) and not torch.equal(one, other)


def test_a_penalty_makes_vectors_shorter(world):
    rows, _ = world.log.batch(0, 3000)
    config = crossing_settings.arm_config("dot")
    sizes = []
    for l2 in (1e-9, 1.0):
        model, _ = crossing_models.fit(config, Setting(0.1, 0.1, l2), rows, 0)
        sizes.append(sum(float(p.detach().square().sum()) for p in model.tables.parameters()))
    assert sizes[1] < 0.5 * sizes[0]


def test_a_world_is_measured_with_every_arm_seed_and_budget(monkeypatch):
    monkeypatch.setattr(crossing_settings, "ROWS", 2000)
    monkeypatch.setattr(crossing_settings, "TEST", 1000)
    setting = dict.fromkeys((LINEAR, *ARMS), Setting(0.02, 0.1))
    found = crossings.measure_world(World(0.0), [PARAMETERS, FLOPS], setting)
    for arm in ARMS:
        budgets = {PARAMETERS.name} if arm == "cat" else {PARAMETERS.name, FLOPS.name}
        assert set(found["arms"][arm]) == budgets
        for of_arm in found["arms"][arm].values():
            shares, losses = of_arm["share"]["per_seed"], of_arm["logloss"]["per_seed"]
            gap = [
                (base - loss) / (base - found["optimum"]["logloss"])
                for base, loss in zip(found[LINEAR]["logloss"]["per_seed"], losses, strict=True)
            ]
            assert shares == pytest.approx(gap, abs=5e-3)


# --- the record -----------------------------------------------------------------------------------


def test_the_record_is_of_these_settings(record):
    assert record["seeds"] == list(SEEDS)
    assert record["rows"]["train"] == crossing_settings.ROWS
    grid = [tuple(setting.values()) for setting in record["grid"]]
    assert grid == [(s.rate, s.init_std, s.l2, s.batch_size, s.epochs) for s in crossing_settings.GRID]  # fmt: skip  # noqa: E501
    for arms in record["settings"].values():
        assert set(arms) == {LINEAR, *ARMS}
        assert all(tuple(setting.values()) in grid for setting in arms.values())
    for name, of_world in record["worlds"].items():
        share, loud = name.split()
        optimum = World(float(share), loud == "loud").optimum()
        assert of_world["optimum"] == pytest.approx(optimum, abs=1e-9), "measure again"


def test_recorded_budgets_and_spreads(record):
    for of_world in record["worlds"].values():
        for budgets in of_world["arms"].values():
            for name, found in budgets.items():
                cost, of = name.split()
                assert abs(found[of] - int(cost)) <= 0.01 * int(cost)
                per_seed = found["share"]["per_seed"]
                assert found["share"]["spread"] == pytest.approx(
                    statistics.stdev(per_seed), abs=2e-5
                )
                assert found["share"]["mean"] == pytest.approx(statistics.mean(per_seed), abs=2e-5)


def test_recorded_orders_are_found_by_those_who_can(record):
    def share(name: str, arm: str) -> float:
        return record["worlds"][name]["arms"][arm][PARAMETERS.name]["share"]["mean"]

    assert share("0.0 noisy", "dot") > 0.95
    assert share("1.0 noisy", "dot") < 0.05
    assert abs(share("0.5 noisy", "cat")) < 0.01
    for arm in ("third", "cross", "dot + MLP"):
        assert share("0.5 noisy", arm) > share("0.5 noisy", "dot") + 0.2


def test_recorded_differences_have_their_sign(record):
    arms = record["movielens"]
    for budgets in arms.values():
        for name, found in budgets.items():
            for arm, key in (("dot", "minus_dot"), ("dot + MLP", "minus_dot_mlp")):
                other = arms[arm][name]["logloss"]["mean"]
                difference = found["logloss"]["mean"] - other
                assert found[key]["logloss"] == pytest.approx(difference, abs=2e-5)


def test_recorded_findings(record):
    triples = {arm: of["triples"] for arm, of in record["learned"].items()}
    assert max(triples["dot"].values()) < 1e-3  # pairs only: there is nothing to find
    strongest = " ".join(World(0.5).log.triples[0])
    assert next(iter(triples["third"])) == strongest == next(iter(triples["cross"]))


def test_a_model_fitted_now_is_near_the_recorded_one(record, world):
    recorded = record["worlds"][world.name]["arms"]["dot"][PARAMETERS.name]["logloss"]["per_seed"]
    setting = Setting(**record["settings"][world.name]["dot"])
    config = crossing_settings.arm_config("dot")
    model, _ = crossing_models.fit(config, setting, world.train(0), 0)
    test, probability = world.test()
    now = crossing_settings.expected_logloss(predict(model, test), probability)
    assert now == pytest.approx(recorded[0], abs=0.001)
