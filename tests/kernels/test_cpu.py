"""The kernels for the CPU against plain torch in float64."""

import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dlrm_mini.errors import UserError
from dlrm_mini.kernels import cpu, reference
from dlrm_mini.kernels.rules import Lookups

RULES = {"sgd": None, "adagrad": True, "rowwise_adagrad": False}  # state: none, a number, a row


def lookups(rows, batch_size, longest, *, weighted=False, seed=0):
    """Random bags of 0 to `longest` ids."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(longest + 1, (len(rows), batch_size), generator=generator)
    ids = [
        torch.randint(n, (int(mine.sum()),), generator=generator)
        for n, mine in zip(rows, lengths, strict=True)
    ]
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.flatten().cumsum(0)])
    weights = torch.rand(len(torch.cat(ids)), generator=generator) if weighted else None
    return Lookups(torch.cat(ids), offsets, torch.tensor([0, *rows]).cumsum(0), weights)


def start(rows, dim, rule):
    """A table and a state for it in float32."""
    generator = torch.Generator().manual_seed(1)
    table = torch.randn(sum(rows), dim, generator=generator)
    if RULES[rule] is None:
        return table, None
    return table, torch.rand(table.shape if RULES[rule] else len(table), generator=generator)


def both(rows, dim, batch, rule, steps=3):
    """What `steps` updates make of the same table, by the kernel and by the reference."""
    found = []
    for kernel, dtype in ((cpu, torch.float32), (reference, torch.float64)):
        table, state = start(rows, dim, rule)
        table, state = table.to(dtype), None if state is None else state.to(dtype)
        for step in range(steps):
            generator = torch.Generator().manual_seed(step)
            shape = batch.batch_size, batch.n_features, dim
            gradient = torch.randn(shape, generator=generator).to(dtype)
            kernel.update(table, state, batch, gradient, rule, 0.1, 1e-8)
        found.append((table.double(), torch.zeros(1) if state is None else state.double()))
    return found


sizes = st.lists(st.sampled_from([1, 2, 7, 3000, 5_000_000]), min_size=1, max_size=3)


@settings(max_examples=40, deadline=None)
@given(rows=sizes, batch_size=st.integers(0, 9), longest=st.integers(0, 6),
       dim=st.sampled_from([1, 3, 16, 33]), weighted=st.booleans())  # fmt: skip
def test_forward_is_the_reference(rows, batch_size, longest, dim, weighted):
    rows = [min(n, 3000) for n in rows]
    batch = lookups(rows, batch_size, longest, weighted=weighted)
    table, _ = start(rows, dim, "sgd")
    expected = reference.forward(table.double(), batch)
    torch.testing.assert_close(cpu.forward(table, batch).double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rule", RULES)
@settings(max_examples=30, deadline=None)
@given(rows=sizes, batch_size=st.integers(0, 9), longest=st.integers(0, 6),
       dim=st.sampled_from([1, 3, 16, 33]), weighted=st.booleans(),
       threads=st.sampled_from([1, 2]))  # fmt: skip
def test_update_is_the_reference(rule, rows, batch_size, longest, dim, weighted, threads):
    rows = [min(n, 3000) for n in rows]
    batch = lookups(rows, batch_size, longest, weighted=weighted)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        (mine, state), (table, sums) = both(rows, dim, batch, rule)
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(mine, table, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(state, sums, rtol=1e-4, atol=1e-4, check_dtype=False)


@pytest.mark.parametrize("rule", RULES)
def test_ids_of_several_digits_are_sorted(rule):
    # Three passes of the radix sort: 3, 2,051 and 4,194,307 share their last digit of 11 bits, so
    # that equal ids end up side by side only if all digits are sorted.
    rows = [5_000_000]
    ids = torch.tensor([4_999_999, 3, 2051, 3, 4_194_307, 2051, 4_999_999, 4_194_307])
    batch = Lookups(ids, torch.arange(9), torch.tensor([0, rows[0]]), None)
    (mine, state), (table, sums) = both(rows, 2, batch, rule)
    touched = ids.unique()
    torch.testing.assert_close(mine[touched], table[touched], rtol=1e-5, atol=1e-6)
    if RULES[rule] is not None:
        torch.testing.assert_close(state[touched], sums[touched], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rule", RULES)
def test_rows_that_are_not_looked_up_keep_their_bits(rule):
    rows, batch = [50, 9], lookups([50, 9], 4, 3)
    table, state = start(rows, 4, rule)
    before = table.clone(), None if state is None else state.clone()
    cpu.update(table, state, batch, torch.randn(4, 2, 4), rule, 0.1, 1e-8)
    touched = torch.zeros(59, dtype=torch.bool)
    feature = torch.arange(8).repeat_interleave(batch.offsets.diff()) // 4
    touched[batch.ids + batch.first[feature]] = True
    assert touched.any()
    assert not touched.all()
    assert torch.equal(table[~touched], before[0][~touched])
    assert not torch.equal(table[touched], before[0][touched])
    if state is not None:
        assert torch.equal(state[~touched], before[1][~touched])


def test_duplicates_are_summed_before_they_are_squared():
    batch = Lookups(torch.tensor([2, 2]), torch.tensor([0, 1, 2]), torch.tensor([0, 3]), None)
    state = torch.zeros(3)
    cpu.update(torch.zeros(3, 2), state, batch, torch.ones(2, 1, 2), "rowwise_adagrad", 0.1, 1e-8)
    assert state.tolist() == [0, 0, 4]  # (1 + 1)^2 and not 1^2 + 1^2


@pytest.mark.parametrize("wrong", [-1, 3])
def test_an_id_without_a_row_reads_nothing_outside(wrong):
    batch = Lookups(torch.tensor([0, wrong]), torch.arange(3), torch.tensor([0, 3]), None)
    with pytest.raises(UserError, match="no row"):
        cpu.forward(torch.zeros(3, 2), batch)


@pytest.mark.parametrize("rule", RULES)
def test_a_step_gives_the_same_bits_again(rule):
    rows = [40, 3, 500]
    batch = lookups(rows, 64, 5)
    first, second = (both(rows, 8, batch, rule)[0] for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("rule", RULES)
def test_not_a_number_stays_one(rule):
    batch = Lookups(torch.tensor([1]), torch.arange(2), torch.tensor([0, 2]), None)
    table, state = start([2], 3, rule)
    cpu.update(table, state, batch, torch.full((1, 1, 3), torch.nan), rule, 0.1, 1e-8)
    assert table[1].isnan().all()
    assert table[0].isfinite().all()


def test_torch_keeps_its_threads_when_numba_starts():
    """Both ask OpenMP, and numba's number would be the last word."""
    code = """
import torch
torch.set_num_threads(1)
from dlrm_mini.kernels import cpu
from dlrm_mini.kernels.rules import Lookups
ids, offsets = torch.zeros(8, dtype=torch.int64), torch.arange(0, 9, 2)
cpu.forward(torch.zeros(2, 4), Lookups(ids, offsets, torch.tensor([0, 2]), None))
print(torch.get_num_threads())
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "NUMBA_NUM_THREADS": "2"},
    )
    assert done.stdout.strip() == "1", done.stderr
