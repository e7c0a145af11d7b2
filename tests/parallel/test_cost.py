"""The cost model's bytes against what the simulated cluster sends, and its seconds by hand."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dlrm_mini.datasets.batches import Batch
from dlrm_mini.errors import UserError
from dlrm_mini.models.dlrm import random_batch
from dlrm_mini.models.dlrm_config import DLRMConfig
from dlrm_mini.parallel import skew
from dlrm_mini.parallel.cost import COMMUNICATION, cost_of, step_cost
from dlrm_mini.parallel.cost_parts import GROUPS, STAGES
from dlrm_mini.parallel.loads import Job
from dlrm_mini.parallel.machine import MACHINES, Machine
from dlrm_mini.parallel.planner import uniform
from dlrm_mini.parallel.planner_score import Scorer
from dlrm_mini.parallel.sharded_model import ShardedDLRM, rows_of
from dlrm_mini.parallel.sharded_rules import make_optimizer
from dlrm_mini.parallel.sharded_step import ShardedStep
from dlrm_mini.parallel.sharding import Placement, Plan
from dlrm_mini.parallel.simulated import SimulatedCluster
from dlrm_mini.parallel.topology import LINKS, Link, Topology, topology
from dlrm_mini.parallel.traffic import OPERATIONS
from dlrm_mini.profiling import roofline
from dlrm_mini.profiling.ceilings import Ceilings
from dlrm_mini.profiling.workload import Workload

CONFIG = DLRMConfig(
    3, {"a": 7, "b": 40, "c": 5, "d": 2, "e": 11}, 8, bottom=(6, 8), top=(5, 1),
    lookups={"a": 2, "c": 3},
)  # fmt: skip
V100 = MACHINES["V100 16 GB"]
# The configuration of FACTS: 26 tables of width 128, the MLPs of 2.37 M parameters.
LARGE = DLRMConfig(
    13, {f"t{place}": 100_000 for place in range(26)}, 128,
    bottom=(512, 256, 128), top=(1024, 1024, 512, 256, 1),
)  # fmt: skip


def plan_of(size: int, config: DLRMConfig = CONFIG, **ranks) -> Plan:
    """Table -> "t3", "r013", "c10" or "d"; tables left out lie whole on rank 0."""
    names = {"t": "table-wise", "r": "row-wise", "c": "column-wise", "d": "data-parallel"}
    texts = dict.fromkeys(config.cardinalities, "t0") | ranks
    places = {
        name: Placement(names[text[0]], tuple(map(int, text[1:]))) for name, text in texts.items()
    }
    return Plan(size, config.cardinalities, config.dim, places)


PLANS = {
    "one rank": plan_of(1, a="d"),
    "table-wise": plan_of(3, b="t1", c="t2", e="t1"),
    "row-wise": plan_of(4, a="r0123", b="r31", c="r012", e="r2103"),
    "an empty block": plan_of(4, c="r0123", d="r20"),
    "column-wise": plan_of(3, a="c012", b="c20", c="t1", e="c12"),
    "copies": plan_of(2, a="d", c="d", d="d", b="t1"),
    "mixed": plan_of(4, a="r01", b="c0213", c="d", d="t3", e="r23"),
}


def shares(batch: Batch, size: int) -> list[Batch]:
    return [batch.select(torch.arange(*rows_of(len(batch), rank, size))) for rank in range(size)]


@pytest.mark.parametrize("rule", ["sgd", "rowwise_adagrad", "adagrad"])
@pytest.mark.parametrize("name", PLANS)
def test_bytes_are_those_that_the_simulated_cluster_sends(name, rule):
    plan = PLANS[name]
    batch = random_batch(CONFIG, 23, seed=3)
    mine = shares(batch, plan.size)
    cluster = SimulatedCluster(plan.size)

    def train(communicator):
        model = ShardedDLRM(CONFIG, plan, communicator)
        step = ShardedStep(model, make_optimizer(model, rule, 0.1))
        communicator.traffic.sent.clear()
        step.step(mine[communicator.rank])

    cluster.run(train)
    counts = skew.of_batch([each.sparse for each in mine], CONFIG.cardinalities)
    cost = step_cost(CONFIG, plan, topology("PCIe", plan.size), V100, 23, rule=rule, skew=counts)
    for operation in OPERATIONS:
        sent = np.array([t.by_operation().get(operation, 0) for t in cluster.traffic])
        found = np.array(cost.bytes(operation))
        if operation == "all_to_all" and name in ("column-wise", "mixed"):
            # How many different rows a batch touches is an expectation: counted here.
            squares = [e for e in cost.exchanges if e.name == "squares"]
            assert bool(squares) == (rule == "rowwise_adagrad")
            if squares:
                found = found - squares[0].sent + squares_by_hand(plan, batch)
        np.testing.assert_allclose(found, sent, rtol=1e-12, err_msg=operation)
    assert sum(cost.bytes()) == pytest.approx(cluster.links().sum(), rel=0.05)


def squares_by_hand(plan: Plan, batch: Batch) -> np.ndarray:
    found = np.zeros(plan.size)
    for table, placement in plan.placements.items():
        if placement.form == "column-wise":
            different = len(batch.sparse.bag(table).ids.unique())
            found[list(placement.ranks)] += 4 * different * (len(placement.ranks) - 1)
    return found


def test_the_seconds_of_exchanges_are_those_of_the_simulated_cluster():
    plan, where = PLANS["mixed"], topology("NVLink + 100 Gbit/s", 4, per_node=2)
    mine = shares(random_batch(CONFIG, 23), 4)
    cluster = SimulatedCluster(where)

    def train(communicator):
        model = ShardedDLRM(CONFIG, plan, communicator)
        ShardedStep(model, make_optimizer(model, "sgd", 0.1)).step(mine[communicator.rank])

    cluster.run(train)
    counts = skew.of_batch([each.sparse for each in mine], CONFIG.cardinalities)
    cost = step_cost(CONFIG, plan, where, V100, 23, skew=counts)
    assert sum(e.seconds for e in cost.exchanges) == pytest.approx(cluster.seconds, rel=1e-12)


def test_the_arithmetic_of_the_facts():
    """26 tables, D = 128, float32, b = 2048, P = 8, table-wise; bytes sent, the mean over ranks.

    Bandwidth alone: the links have no latency. Times of the exchanges are for a rank that sends
    the mean: 26 tables do not divide by 8, and the slowest rank has 4 of them.
    """
    cost = step_cost(LARGE, uniform(LARGE, 8), topology("NVLink", 8), V100, 8 * 2048)
    forward, back = (
        next(np.mean(e.sent) for e in cost.exchanges if e.stage == stage)
        for stage in ("forward", "backward")
    )
    assert forward == back == 7 / 8 * 2048 * 26 * 128 * 4
    assert forward == pytest.approx(23.9e6, rel=0.005)
    assert np.mean(cost.bytes("all_reduce")) == pytest.approx(16.6e6, rel=0.005)
    parameters = LARGE.parameters()
    fully = parameters["bottom MLP"] + parameters["top MLP"]
    assert fully == pytest.approx(2.37e6, rel=0.002)
    for beta, milliseconds in ((300e9, 0.16), (16e9, 3.0), (12.5e9, 3.8)):
        # The facts have 0.3, 3.3 and 5-8 ms, with losses that a bandwidth alone does not have.
        assert 1e3 * (forward + back) / beta == pytest.approx(milliseconds, rel=0.02)
    # Three products of 2 FLOP a weight and row, but the first layer's input gradient.
    assert 6 * fully * 2048 / 10e12 == pytest.approx(2.9e-3, rel=0.01)


def test_with_one_rank_the_parts_are_those_of_one_device():
    for name, machine in MACHINES.items():
        for rule in ("sgd", "rowwise_adagrad"):
            config = replace(LARGE, lookups=5)
            cost = step_cost(config, uniform(config, 1), topology("PCIe", 1), machine, 512,
                             rule=rule)  # fmt: skip
            workload = Workload(config, 512, rule=rule)
            expected = roofline.predict(workload, machine.ceilings)
            for part in ("bottom MLP", "interaction", "top MLP backward", "dense update"):
                assert 1e3 * cost.parts[part][0] == pytest.approx(expected[part])
            begun = 1e3 * machine.ceilings.overhead
            ours = 1e3 * cost.parts["lookups"][0]
            assert ours == pytest.approx(expected["embedding forward"], abs=20 * begun), name
            assert cost.bytes() == (0.0,)
            assert sum(map(sum, cost.visible.values())) == 0


def machine_of_round_numbers() -> Machine:
    sheet = Ceilings.from_datasheet(
        "round", "made up", products={"float32": 1e12}, bandwidth=1e11, overhead=0.0, device="cpu"
    )
    return Machine.from_ceilings(sheet)


def test_in_turn_the_step_is_the_slowest_of_each_stage():
    link = Link("round", 1e-5, 1e9, "made up")
    where = Topology(3, 3, link, link)
    cost = step_cost(CONFIG, PLANS["table-wise"], where, machine_of_round_numbers(), 30)
    slowest = {
        stage: max(sum(cost.parts[name][rank] for name in names) for rank in range(3))
        for stage, names in STAGES.items()
    }
    exchanges = sum(e.seconds for e in cost.exchanges)
    # All b are equal, so that the MLPs take as long everywhere.
    assert cost.seconds == pytest.approx(sum(slowest.values()) + exchanges)
    lengths = next(e for e in cost.exchanges if e.name == "lengths")
    # 10 rows and tables on the ranks: a d | b e | c. Rank 2 sends 8 * 10 * (2 + 2).
    assert lengths.sent == (8 * 10 * 3, 8 * 10 * 3, 8 * 10 * 4)
    assert lengths.seconds == pytest.approx(2 * 1e-5 + 8 * 10 * 4 / 1e9)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_breakdown_adds_up_and_overlap_never_costs(data):
    size = data.draw(st.integers(1, 6))
    ranks = st.permutations(range(size)).flatmap(
        lambda order: st.integers(1, min(size, 2)).map(lambda k: tuple(order[:k]))
    )
    places = {
        name: data.draw(
            st.one_of(
                st.just(Placement("data-parallel")),
                st.integers(0, size - 1).map(lambda r: Placement("table-wise", (r,))),
                ranks.map(lambda r: Placement("row-wise", r)),
                ranks.map(lambda r: Placement("column-wise", r)),
            )
        )
        for name in CONFIG.cardinalities
    }
    plan = Plan(size, CONFIG.cardinalities, CONFIG.dim, places)
    where = topology(data.draw(st.sampled_from(["PCIe", "10 Gbit/s", "NVLink + 100 Gbit/s"])), size)
    rule = data.draw(st.sampled_from(["sgd", "rowwise_adagrad"]))
    job = Job(CONFIG, size, V100, data.draw(st.integers(size, 5000)), rule)
    took = []
    for overlap in (False, True):
        cost = cost_of(job, plan, where, overlap)
        assert sum(cost.breakdown().values()) == pytest.approx(cost.seconds)
        assert set(cost.visible) == set(COMMUNICATION.values())
        for name, seconds in cost.communication().items():
            assert max(cost.visible[name]) <= seconds * (1 + 1e-9)
        for rank in range(size):
            mine = [e for e in cost.timeline() if e.rank == rank]
            for kind in ("compute", "communication"):
                lane = [e for e in mine if e.kind == kind]
                assert all(a.end <= b.start + 1e-12 for a, b in pairwise(lane))
            # A lane may be ahead with the next batch's ids, never behind.
            assert max(e.end for e in mine if e.kind == "compute") <= cost.seconds + 1e-12
        took.append(cost.seconds)
        scorer = Scorer(job, where, overlap)
        load = sum(scorer.load(name, placement) for name, placement in places.items())
        score = scorer.score(load[None])
        # Squares of several tables between two ranks are one message, and the planner counts more.
        alone = sum(p.form == "column-wise" for p in places.values()) < 2 or rule == "sgd"
        assert score.seconds[0] >= cost.seconds * (1 - 1e-9)
        if alone:
            assert score.seconds[0] == pytest.approx(cost.seconds)
    assert took[1] <= took[0] * (1 + 1e-9)


def test_what_hides_behind_what():
    """A link so slow, or MLPs so slow, that all or nothing of an exchange stays visible."""
    plan = uniform(LARGE, 8)
    fast, slow = (topology(name, 8) for name in ("NVLink", "10 Gbit/s"))
    sluggish = Machine(replace(V100.ceilings, products={"float32": ((1.0, 1.0, 1.0, 1e11),)}))
    hidden = step_cost(LARGE, plan, fast, sluggish, 8 * 2048, overlap=True)
    assert max(hidden.visible["input exchange"]) == max(hidden.visible["all-to-all forward"]) == 0
    assert max(hidden.visible["all-to-all backward"]) == 0
    shown = step_cost(LARGE, plan, slow, V100, 8 * 2048, overlap=True)
    whole = shown.communication()
    # Of the rank that looks up longest: the others begin their bottom MLPs before the exchange.
    forward, behind = min(shown.visible["all-to-all forward"]), shown.parts["bottom MLP"][0]
    assert forward == pytest.approx(whole["all-to-all forward"] - behind)
    assert shown.all_to_all > 0.5 > hidden.all_to_all


@pytest.mark.parametrize(("number", "a_vector"), [(4, 4 * 128), (2, 2 * 128), (1, 128 + 8)])
def test_quantised_vectors(number, a_vector):
    cost = step_cost(LARGE, uniform(LARGE, 8), topology("PCIe", 8), V100, 8 * 64,
                     bytes_forward=number)  # fmt: skip
    forward, back = (
        sum(next(e.sent for e in cost.exchanges if e.stage == stage))
        for stage in ("forward", "backward")
    )
    assert forward == 7 * 64 * 26 * a_vector
    assert back == 7 * 64 * 26 * 4 * 128


def test_hot_rows_make_row_wise_shards_uneven():
    plan = uniform(LARGE, 8, "row-wise")
    config = replace(LARGE, lookups=20)
    hot = {name: skew.zipf(rows, 1.2) for name, rows in config.cardinalities.items()}
    even, uneven = (
        step_cost(config, plan, topology("NVLink", 8), V100, 8 * 256, skew=counts)
        for counts in (None, hot)
    )
    share = np.array(skew.shares(8, [(i, i + 1) for i in range(8)], np.arange(8)[::-1]))
    np.testing.assert_allclose(share, np.arange(8)[::-1] / 28)
    assert max(uneven.parts["lookups"]) > 2 * max(even.parts["lookups"])
    assert min(uneven.parts["lookups"]) < min(even.parts["lookups"])
    assert uneven.seconds > even.seconds
    assert sum(uneven.bytes()) == pytest.approx(sum(even.bytes()), rel=0.02)


def test_zipf_in_bins_is_zipf_by_row():
    rows = np.arange(1, 1001) ** -1.05
    counts = skew.zipf(1000, 1.05, bins=10)
    np.testing.assert_allclose(
        counts / counts.sum(), rows.reshape(10, 100).sum(1) / rows.sum(), rtol=0.05
    )
    assert math.isclose(skew.zipf(1000, 1.0, bins=2).sum(), math.log(1000.5 / 0.5))


@pytest.mark.parametrize("name", LINKS)
def test_weak_and_strong_scaling_from_1_to_128_ranks(name):
    """With b fixed MLPs take as long on any number of ranks; with B fixed, ever less."""
    weak, strong = {}, {}
    for size in (1, 2, 8, 32, 128):
        plan, where = uniform(LARGE, size), topology(name, size)
        weak[size] = step_cost(LARGE, plan, where, V100, 256 * size)
        strong[size] = step_cost(LARGE, plan, where, V100, 8192)
    dense = [cost.breakdown()["fully connected"] for cost in weak.values()]
    assert max(dense) == pytest.approx(min(dense))
    dense = [cost.parts["top MLP"][0] for cost in strong.values()]
    assert dense == sorted(dense, reverse=True)
    assert weak[128].all_to_all > weak[2].all_to_all > weak[1].all_to_all == 0


def test_memory_is_weights_state_and_an_allowance():
    plan, where = uniform(LARGE, 26), topology("PCIe", 26)
    small, large = (
        step_cost(LARGE, plan, where, V100, 260, rule=rule) for rule in ("sgd", "rowwise_adagrad")
    )
    table = 100_000 * 128 * 4
    assert all(table < held < 1.5 * table for held in small.memory)
    state = 100_000 * 4 + 4 * sum(LARGE.parameters()[part] for part in ("bottom MLP", "top MLP"))
    np.testing.assert_allclose(np.subtract(large.memory, small.memory), state)


def test_every_part_has_a_stage_and_a_group():
    staged = [name for names in STAGES.values() for name in names]
    grouped = [name for names in GROUPS.values() for name in names]
    assert sorted(staged) == sorted(grouped)
    cost = step_cost(CONFIG, PLANS["mixed"], topology("PCIe", 4), V100, 23)
    assert set(cost.parts) == set(staged)


def test_more_ranks_than_rows():
    cost = step_cost(CONFIG, PLANS["mixed"], topology("PCIe", 4), V100, 3)
    assert cost.parts["top MLP"][0] == 0 < cost.parts["top MLP"][3]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"batch_size": 0}, "4 ranks and 0 rows"),
        ({"bytes_forward": 3}, "bytes_forward is 3; expected 4"),
        ({"rule": "adam"}, "rule is 'adam'; expected 'sgd'"),
        ({"skew": {"z": np.ones(2)}}, "names the table 'z'"),
        ({"skew": {"a": np.zeros(7)}}, "table 'a' have 7 bins for 7 rows and add up to 0"),
        ({"topology": topology("PCIe", 3)}, "for 4 ranks, the topology has 3"),
        ({"config": replace(CONFIG, cardinalities={"a": 8}, lookups=1)}, "one config"),
    ],
)
def test_what_does_not_go_together_is_said(changes, sentence):
    given = {
        "config": CONFIG, "plan": PLANS["mixed"], "topology": topology("PCIe", 4),
        "machine": V100, "batch_size": 23,
    } | changes  # fmt: skip
    with pytest.raises(UserError, match=sentence):
        step_cost(**given)
