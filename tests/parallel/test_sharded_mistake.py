"""Tables that see P times their gradient: seen in the weights, and hardly in the loss."""

from dataclasses import replace

import pytest
import torch

from tests.parallel.cases import Case, check, off, placed, reference, simulate


@pytest.mark.parametrize("form", ["table-wise", "row-wise", "column-wise"])
def test_weights_of_tables_are_wrong_and_losses_hardly(form):
    case = Case(4, placed(form, 4), rows=(12,) * 10, lr=0.01, mistake=True)
    losses, state = simulate(case)
    expected, weights = reference(case)
    torch.testing.assert_close(losses, expected, rtol=0.02, atol=0)
    worst = off(case, state, weights)
    tables = [error for name, error in worst.items() if name.startswith("tables")]
    assert min(tables) > 2  # about P - 1: they have moved P times as far
    with pytest.raises(AssertionError):
        check(case, losses, state)
    check(case, *simulate(replace(case, mistake=False)))


def test_data_parallel_tables_are_spared_where_ranks_have_equally_many_rows():
    case = Case(4, placed("data-parallel", 4), rows=(12, 8), mistake=True)
    check(case, *simulate(case))


def test_where_they_have_not_the_average_is_wrong_too():
    case = Case(4, placed("data-parallel", 4), rows=(13, 13), mistake=True)
    _, state = simulate(case)
    assert off(case, state, reference(case)[1])["top.0.weight"] > 1e-3


@pytest.mark.parametrize("rule", ["adagrad", "rowwise_adagrad"])
def test_adagrad_divides_it_away_but_for_its_state(rule):
    """P g / sqrt(sum of (P g)^2) is g / sqrt(sum of g^2): under these rules nobody would notice."""
    case = Case(4, placed("table-wise", 4), rule, rows=(12,) * 10, lr=0.01, mistake=True)
    _, state = simulate(case)
    assert max(off(case, state, reference(case)[1]).values()) < 1e-4
