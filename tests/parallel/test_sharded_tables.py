"""Split tables: first entries, what is held, what goes where, and every byte of it."""

import pytest
import torch

from dlrm_mini.datasets.sparse import SparseFeatures
from dlrm_mini.embeddings import EmbeddingTables
from dlrm_mini.errors import UserError
from dlrm_mini.models.dlrm import DLRM
from dlrm_mini.parallel import sharded_tables
from dlrm_mini.parallel.exchange import blocks, holdings
from dlrm_mini.parallel.sharded_model import ShardedDLRM, rows_of, share
from dlrm_mini.parallel.sharded_rules import make_optimizer
from dlrm_mini.parallel.sharded_step import ShardedStep
from dlrm_mini.parallel.sharded_tables import ShardedTables
from dlrm_mini.parallel.sharding import FORMS, Placement, Plan
from dlrm_mini.parallel.simulated import SimulatedCluster
from dlrm_mini.parallel.topology import topology
from tests.parallel.cases import DIM, TABLES, Case, batch, placed, whole_model


def started(case, **options):
    """Rank 0's state dict of the whole model, as it starts."""

    def full(communicator):
        model = ShardedDLRM(case.config, case.plan, communicator, **options)
        return model.full_state_dict()

    return SimulatedCluster(case.size).run(full)[0]


@pytest.mark.parametrize("form", [*FORMS, "mixed"])
def test_every_plan_and_number_of_ranks_starts_from_the_same_bits(form, monkeypatch):
    monkeypatch.setattr(sharded_tables, "BLOCK", 2)  # so that shards cross blocks
    one = started(Case(1, placed("table-wise", 1)))
    assert list(one) == list(DLRM(Case(1, {}).config).state_dict())
    for size in (2, 3, 5):
        for fused in (False, True):
            other = started(Case(size, placed(form, size)), fused=fused)
            assert all(torch.equal(other[name], weight) for name, weight in one.items())


def test_first_entries_are_uniform_and_follow_the_seed():
    case = Case(2, placed("row-wise", 2))
    first, other = started(case, seed=0), started(case, seed=1)
    for name, rows in TABLES.items():
        table = first[f"tables.tables.{name}"]
        assert table.abs().max() <= rows**-0.5
        assert table.unique().numel() == rows * DIM
        assert not torch.equal(table, other[f"tables.tables.{name}"])
    assert not torch.equal(first["bottom.0.weight"], other["bottom.0.weight"])


@pytest.mark.parametrize("form", [*FORMS, "mixed"])
@pytest.mark.parametrize("fused", [False, True])
def test_weights_of_one_device_come_back_as_they_went_in(form, fused):
    case = Case(4, placed(form, 4), dtype=torch.float32)
    state = whole_model(case).state_dict()

    def there_and_back(communicator):
        model = ShardedDLRM(case.config, case.plan, communicator, seed=5, fused=fused)
        model.load_full(state)
        return model.full_state_dict()

    back = SimulatedCluster(4).run(there_and_back)[0]
    assert list(back) == list(state)
    assert all(torch.equal(back[name], weight) for name, weight in state.items())


@pytest.mark.parametrize("pooling", ["sum", "mean"])
def test_vectors_are_those_of_whole_tables_whatever_else_a_batch_holds(pooling):
    case = Case(3, placed("mixed", 3), pooling=pooling, dtype=torch.float32)
    sparse = batch(case, 7, seed=0).sparse
    whole = EmbeddingTables(TABLES, DIM, pooling=pooling)
    columns = {name: sparse[name] for name in reversed(TABLES)}  # in another order
    other = SparseFeatures.from_columns({"more": sparse["user"], **columns})

    def look_up(communicator):
        tables = ShardedTables(case.plan, communicator, pooling=pooling)
        for held in tables.held():
            rows, columns = slice(*held.shard.rows), slice(*held.shard.columns)
            held.weight.copy_(whole.tables[held.shard.table].detach()[rows, columns])
        first, last = rows_of(7, communicator.rank, 3)
        return tables(other.select(torch.arange(first, last))).detach()

    vectors = torch.cat(SimulatedCluster(3).run(look_up))
    torch.testing.assert_close(vectors, whole(sparse))


def test_ids_with_weights_on_one_rank_only_count_one_elsewhere():
    case = Case(2, placed("row-wise", 2), weighted=True, dtype=torch.float32)
    weighted = batch(case, 4, seed=0).sparse
    plain = SparseFeatures(weighted.names, weighted.values, weighted.offsets)
    given = [weighted, plain]
    whole = whole_model(case).tables

    def look_up(communicator):
        model = ShardedDLRM(case.config, case.plan, communicator)
        model.load_full(whole_model(case).state_dict())
        return model.tables(given[communicator.rank]).detach()

    for vectors, sparse in zip(SimulatedCluster(2).run(look_up), given, strict=True):
        torch.testing.assert_close(vectors, whole(sparse).detach())


def test_bags_are_cut_at_blocks_of_rows():
    ids, offsets = torch.tensor([4, 0, 3, 2, 2, 1]), torch.tensor([0, 3, 3, 6])
    weights = torch.arange(6.0)
    sparse = SparseFeatures.from_columns({"item": (ids, offsets, weights)})
    first, second = blocks(sparse, "item", (0, 3))
    assert first.lengths.tolist() == [1, 0, 3] and first.ids.tolist() == [0, 2, 2, 1]
    assert second.lengths.tolist() == [2, 0, 0] and second.ids.tolist() == [1, 0]
    assert first.weights.tolist() == [1, 3, 4, 5] and second.weights.tolist() == [0, 2]


def test_empty_blocks_and_copies_are_no_shards_that_ids_go_to():
    placements = {"user": Placement("row-wise", (3, 2, 1, 0)), "item": Placement("data-parallel")}
    found = holdings(Plan(4, {"user": 5, "item": 4}, 8, placements))
    assert [[shard.rows for shard in shards] for shards in found] == [
        [], [(4, 5)], [(2, 4)], [(0, 2)],
    ]  # fmt: skip


@pytest.mark.parametrize("rule", ["sgd", "rowwise_adagrad"])
@pytest.mark.parametrize("form", [*FORMS, "mixed"])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_step_sends_the_bytes_that_the_formulas_say(form, rule, weighted):
    size, item = 3, 4
    case = Case(size, placed(form, size), rule, weighted=weighted, dtype=torch.float32)
    whole = batch(case, 13, seed=0)
    cluster, plan = SimulatedCluster(size), case.plan

    def step(communicator):
        model = ShardedDLRM(case.config, plan, communicator)
        ShardedStep(model, make_optimizer(model, rule, 0.1)).step(share(whole, communicator))
        return sum(parameter.numel() for parameter in model.replicated())

    replicated = cluster.run(step)[0]
    held = holdings(plan)
    width = [sum(shard.shape[1] for shard in shards) for shards in held]
    for r in range(size):
        first, last = rows_of(13, r, size)
        ours, b = whole.sparse.select(torch.arange(first, last)), last - first
        expected = 0
        for q in (other for other in range(size) if other != r):
            b_q = rows_of(13, q, size)[1] - rows_of(13, q, size)[0]
            ids = sum(
                ((ours[shard.table][0] >= shard.rows[0]) & (ours[shard.table][0] < shard.rows[1]))
                .sum().item()
                for shard in held[q]
            )  # fmt: skip
            expected += 8 * b * len(held[q]) + (12 if weighted else 8) * ids
            expected += item * (b_q * width[r] + b * width[q])
            if rule == "rowwise_adagrad":
                expected += item * sum(
                    len(whole.sparse[name][0].unique())
                    for name, placement in plan.placements.items()
                    if placement.form == "column-wise" and {r, q} <= {*placement.ranks}
                )
        sent = cluster.traffic[r].by_operation()
        assert sent.get("all_to_all", 0) == expected
        assert sent["all_gather"] == 16 * (size - 1)
    ring = [traffic.by_operation()["all_reduce"] for traffic in cluster.traffic]
    assert sum(ring) == 2 * (size - 1) * item * (replicated + 1)


@pytest.mark.parametrize("fused", [False, True])
def test_what_is_held_is_where_the_optimizer_has_its_state(fused):
    case = Case(2, placed("row-wise", 2), "rowwise_adagrad", dtype=torch.float32)

    def train(communicator):
        model = ShardedDLRM(case.config, case.plan, communicator, fused=fused)
        before = [held.weight.clone() for held in model.tables.held()]
        optimizer = make_optimizer(model, "rowwise_adagrad", 0.1)
        ShardedStep(model, optimizer).step(share(batch(case, 13, seed=0), communicator))
        for held, old in zip(model.tables.held(), before, strict=True):
            state = optimizer.state[held.parameter]["sum"][held.rows]
            assert held.weight.shape == held.shard.shape and len(state) == len(held.weight)
            assert torch.equal(state > 0, (held.weight != old).any(dim=1))
        return len(before)

    assert SimulatedCluster(2).run(train) == [5, 4]  # "one" is on one rank only


def test_a_simulated_rank_counts_tables_and_their_state_and_refuses_what_does_not_fit():
    placements = {"user": Placement("table-wise", (1,)), "item": Placement("row-wise", (0, 1))}
    plan = Plan(2, {"user": 10, "item": 6}, DIM, placements)
    config = Case(2, {}).config
    config = type(config)(4, {"user": 10, "item": 6}, DIM, bottom=(DIM,), top=(1,))

    def make(communicator):
        make_optimizer(ShardedDLRM(config, plan, communicator), "rowwise_adagrad", 0.1)

    cluster = SimulatedCluster(2)
    cluster.run(make)
    table, state = 4 * DIM, 4
    assert [meter.used for meter in cluster.memory] == [
        3 * (table + state), 13 * (table + state),
    ]  # fmt: skip
    with pytest.raises(UserError, match="user"):
        SimulatedCluster(topology("NVLink", 2, memory=200)).run(make)


def test_a_plan_for_other_ranks_is_refused():
    case = Case(3, placed("row-wise", 3))
    with pytest.raises(UserError, match="for 3 ranks, and there are 2"):
        SimulatedCluster(2).run(lambda comm: ShardedTables(case.plan, comm))


def test_an_id_without_a_row_is_named():
    case = Case(2, placed("row-wise", 2), dtype=torch.float32)
    sparse = SparseFeatures.from_columns(
        {name: torch.tensor([rows]) for name, rows in TABLES.items()}
    )

    def look_up(communicator):
        return ShardedTables(case.plan, communicator)(sparse)

    with pytest.raises(UserError, match="'user' has the id 13"):
        SimulatedCluster(2).run(look_up)
