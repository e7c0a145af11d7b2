"""One step on several ranks: when batches end, what stays put, and what cannot go together."""

from itertools import pairwise

import pytest
import torch

from dlrm_mini.errors import UserError
from dlrm_mini.models import dlrm
from dlrm_mini.parallel.recorded import Recorded
from dlrm_mini.parallel.sharded_model import ShardedDLRM, rows_of, share
from dlrm_mini.parallel.sharded_rules import make_optimizer
from dlrm_mini.parallel.sharded_step import ShardedStep
from dlrm_mini.parallel.simulated import SimulatedCluster
from tests.parallel.cases import Case, batch, placed

CASE = Case(3, placed("mixed", 3), dtype=torch.float32)


def build(communicator, case=CASE, rule="sgd", **options):
    model = ShardedDLRM(case.config, case.plan, communicator, **options)
    return model, ShardedStep(model, make_optimizer(model, rule, 0.1))


def copies(model):
    return [parameter.detach().clone() for parameter in model.parameters()]


def test_shares_are_contiguous_and_as_even_as_can_be():
    for rows in range(12):
        for size in range(1, 6):
            parts = [rows_of(rows, rank, size) for rank in range(size)]
            assert parts[0][0] == 0 and parts[-1][1] == rows
            assert all(a[1] == b[0] for a, b in pairwise(parts))
            numbers = [last - first for first, last in parts]
            assert max(numbers) - min(numbers) <= 1


def test_a_step_says_which_it_is_also_through_a_diary():
    """What a run that fails tells of each rank; and the memory meter is not gone round."""

    def go(communicator):
        told, diary = [], Recorded(communicator)
        communicator.reached = told.append
        _, step = build(diary)
        for number in range(3):
            step.step(share(batch(CASE, 6, number), diary))
        return told

    cluster = SimulatedCluster(3)
    assert cluster.run(go) == [[1, 2, 3]] * 3
    assert all(meter.used for meter in cluster.memory)


@pytest.mark.parametrize("fused", [False, True])
def test_fused_tables_ask_for_the_fused_interaction_too(fused, monkeypatch):
    called = []
    kept = dlrm.fused_dot_interaction
    monkeypatch.setattr(
        dlrm, "fused_dot_interaction", lambda *a, **k: called.append(1) or kept(*a, **k)
    )

    def go(communicator):
        build(communicator, fused=fused)[1].step(share(batch(CASE, 6, 0), communicator))

    SimulatedCluster(3).run(go)
    assert len(called) == 3 * fused


def test_all_batches_ended_is_the_end_and_moves_nothing():
    def end(communicator):
        model, step = build(communicator)
        before = copies(model)
        assert step.step(None) is None
        return all(map(torch.equal, before, model.parameters()))

    assert all(SimulatedCluster(3).run(end))


def test_some_ended_is_said_on_every_rank_and_moves_nothing():
    said = []

    def go(communicator):
        model, step = build(communicator)
        before = copies(model)
        mine = None if communicator.rank == 1 else share(batch(CASE, 6, 0), communicator)
        with pytest.raises(UserError) as error:
            step.step(mine)
        said.append(str(error.value))
        assert all(map(torch.equal, before, model.parameters()))

    SimulatedCluster(3).run(go)
    assert len(said) == 3 and len(set(said)) == 1
    assert "rank 1 have ended, and ranks 0 and 2 have one more" in said[0]


def test_a_batch_without_a_row_anywhere_is_refused():
    def go(communicator):
        build(communicator)[1].step(batch(CASE, 4, 0).select(torch.tensor([], dtype=torch.int64)))

    with pytest.raises(UserError, match="at least one row"):
        SimulatedCluster(3).run(go)


@pytest.mark.parametrize("fused", [False, True])
def test_replicated_weights_stay_the_same_bits_on_all_ranks(fused):
    def go(communicator):
        model, step = build(communicator, rule="rowwise_adagrad", fused=fused)
        for seed in range(3):
            step.step(share(batch(CASE, 7, seed), communicator))
        return [parameter.detach().clone() for parameter in model.replicated()]

    first, *others = SimulatedCluster(3).run(go)
    assert all(all(map(torch.equal, first, other)) for other in others)


def test_pieces_of_columns_keep_the_same_squares_on_all_ranks():
    case = Case(4, placed("column-wise", 4), dtype=torch.float32)

    def go(communicator):
        model, step = build(communicator, case, "rowwise_adagrad")
        for seed in range(3):
            step.step(share(batch(case, 9, seed), communicator))
        state = step.optimizer.state
        return {h.shard.table: state[h.parameter]["sum"].clone() for h in model.tables.held()}

    first, *others = SimulatedCluster(4).run(go)
    assert all(torch.equal(first[name], other[name]) for other in others for name in first)


def test_row_wise_adagrad_without_the_other_columns_is_refused():
    case = Case(2, placed("column-wise", 2), dtype=torch.float32)

    def go(communicator):
        _, step = build(communicator, case, "rowwise_adagrad")
        step.optimizer.sum_squares = lambda: None
        step.step(share(batch(case, 4, 0), communicator))

    with pytest.raises(UserError, match="sum_squares"):
        SimulatedCluster(2).run(go)


def test_an_unknown_rule_is_refused():
    with pytest.raises(UserError, match="'adam'"):
        SimulatedCluster(3).run(lambda communicator: build(communicator, rule="adam"))


@pytest.mark.parametrize("form", ["table-wise", "data-parallel"])
def test_one_backward_through_the_model_gives_the_same_gradients(form):
    """`ShardedStep` goes piece by piece; autograd alone finds the same way back."""
    case = Case(3, placed(form, 3))
    whole = batch(case, 7, 0)

    def go(communicator):
        found = []
        for stepwise in (False, True):
            model, step = build(communicator, case, dtype=torch.float64)
            before = copies(model)
            mine = share(whole, communicator)
            if stepwise:
                step.step(mine)
                moved = [(b - p) / 0.1 for b, p in zip(before, model.parameters(), strict=True)]
            else:
                loss = torch.nn.functional.binary_cross_entropy_with_logits(
                    model(mine), mine.labels.double(), reduction="sum"
                )
                (loss / 7).backward()
                replicated = {id(parameter) for parameter in model.replicated()}
                moved = []
                for parameter in model.parameters():
                    gradient = parameter.grad.to_dense()
                    if id(parameter) in replicated:
                        gradient = communicator.all_reduce(gradient).detach()
                    moved.append(gradient)
            found.append(moved)
        torch.testing.assert_close(*found)

    SimulatedCluster(3).run(go)
