"""Optimizers over touched rows: equal to the dense rules where they are, and resumed to the bit."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.utils._python_dispatch import TorchDispatchMode

from dlrm_mini import checkpoints
from dlrm_mini.datasets.batches import Batch, Loader, SparseFeatures
from dlrm_mini.embeddings import EmbeddingTables
from dlrm_mini.errors import UserError
from dlrm_mini.kernels.rules import Lookups
from dlrm_mini.models.dlrm import DLRM, random_batch
from dlrm_mini.models.dlrm_config import DLRMConfig
from dlrm_mini.optimizers import (
    SGD,
    Adagrad,
    RowWiseAdagrad,
    check_sparse,
    coalesce,
    state_bytes,
)
from dlrm_mini.training import fit, logistic_loss, set_seed, squared_error

OURS = [SGD, Adagrad, RowWiseAdagrad]
TORCHS = {SGD: torch.optim.SGD, Adagrad: torch.optim.Adagrad}
N, D = 9, 3


def table(seed: int = 0, rows: int = N, dtype: torch.dtype = torch.float64) -> nn.Parameter:
    generator = torch.Generator().manual_seed(seed)
    return nn.Parameter(torch.randn(rows, D, dtype=torch.float64, generator=generator).to(dtype))


def look_up(weight: Tensor, bags: list[list[int]], sparse: bool, seed: int = 0) -> Tensor:
    """A loss of these bags whose gradients are of all sizes; empty bags count for nothing."""
    ids = torch.tensor([one for bag in bags for one in bag], dtype=torch.int64)
    offsets = torch.tensor([0, *(len(bag) for bag in bags)]).cumsum(0)
    pooled = F.embedding_bag(
        ids, weight, offsets, mode="sum", include_last_offset=True, sparse=sparse
    )
    target = torch.randn(D, generator=torch.Generator().manual_seed(seed)).to(weight)
    return (pooled - target).pow(2).sum()


def walk(optimizer, weight: Tensor, steps: list[list[list[int]]], sparse: bool) -> list[Tensor]:
    """The table after each step; each step looks up its own bags."""
    seen = []
    for number, bags in enumerate(steps):
        optimizer.zero_grad()
        look_up(weight, bags, sparse, seed=number).backward()
        assert weight.grad.is_sparse == sparse
        optimizer.step()
        seen.append(weight.detach().clone())
    return seen


def row_gradient(weight: Tensor, rows: list[int], values: list[list[float]]) -> None:
    """Give a table the gradient that an embedding would, duplicates and all."""
    where, what = torch.tensor([rows], dtype=torch.int64), torch.tensor(values, dtype=weight.dtype)
    what = what.view(len(rows), weight.shape[1])
    weight.grad = torch.sparse_coo_tensor(where, what, weight.shape, check_invariants=True)


several_bags = st.lists(
    st.lists(st.lists(st.integers(0, N - 1), max_size=5), min_size=1, max_size=4),
    min_size=1,
    max_size=4,
)


# Coalescing


@given(st.lists(st.integers(0, 6), max_size=30), st.integers(0, 1000))
def test_coalesce_is_torchs_to_the_bit_on_whole_numbers(ids, seed):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.tensor(ids, dtype=torch.int64)
    gradients = torch.randint(-9, 9, (len(ids), D), generator=generator).float()
    rows, summed = coalesce(ids, gradients)
    wanted = torch.sparse_coo_tensor(ids[None], gradients, (7, D), check_invariants=True).coalesce()
    assert torch.equal(rows, wanted.indices()[0])
    assert torch.equal(summed, wanted.values())


def test_coalesce_sums_in_either_precision_and_leaves_its_input_alone():
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(50, (4000,), generator=generator)
    gradients = torch.randn(4000, 16, dtype=torch.float64, generator=generator)
    kept = gradients.clone()
    rows, summed = coalesce(ids, gradients)
    wanted = torch.stack([gradients[ids == row].sum(0) for row in rows])
    assert torch.equal(rows, torch.arange(50))
    torch.testing.assert_close(summed, wanted, rtol=1e-12, atol=1e-12)
    single = coalesce(ids, gradients.float())[1]
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), wanted, rtol=1e-5, atol=1e-5)
    assert torch.equal(gradients, kept)


# Equal where they are equal


@pytest.mark.parametrize("kind", [SGD, Adagrad])
@given(steps=several_bags, seed=st.integers(0, 100))
def test_sparse_steps_are_the_dense_steps(kind, steps, seed):
    mine, torchs, dense = table(seed), table(seed), table(seed)
    ours = walk(kind([mine], lr=0.1), mine, steps, sparse=True)
    theirs = walk(TORCHS[kind]([torchs], lr=0.1), torchs, steps, sparse=False)
    ours_dense = walk(kind([dense], lr=0.1), dense, steps, sparse=False)
    for a, b, c in zip(ours, theirs, ours_dense, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)
        assert torch.equal(b, c)  # densely, they are torch's to the bit


def test_row_wise_adagrad_on_dense_gradients_is_adagrad():
    mine, torchs = table(), table()
    steps = [[[0, 1, 1]], [[1], [2, 3]]]
    ours = walk(RowWiseAdagrad([mine], lr=0.1, eps=1e-10), mine, steps, sparse=False)
    theirs = walk(torch.optim.Adagrad([torchs], lr=0.1), torchs, steps, sparse=False)
    assert all(map(torch.equal, ours, theirs))


def rowwise_by_hand(weight, sums, rows, values, lr, eps):
    """One step in NumPy, row by row; changes `weight` and `sums`."""
    for row in sorted(set(rows)):
        gradient = sum(np.asarray(v) for r, v in zip(rows, values, strict=True) if r == row)
        sums[row] += (gradient**2).sum() / len(gradient)
        weight[row] -= lr * gradient / (np.sqrt(sums[row]) + eps)


@given(
    steps=st.lists(st.lists(st.integers(0, N - 1), max_size=12), min_size=1, max_size=5),
    seed=st.integers(0, 1000),
)
def test_row_wise_adagrad_is_the_rule_by_hand(steps, seed):
    numbers = np.random.default_rng(seed)
    weight = table(seed)
    optimizer = RowWiseAdagrad([weight], lr=0.3, eps=1e-3)
    by_hand, sums = weight.detach().numpy().copy(), np.zeros(N)
    for rows in steps:
        values = numbers.normal(size=(len(rows), D))
        row_gradient(weight, rows, values.tolist())
        optimizer.step()
        rowwise_by_hand(by_hand, sums, rows, values, lr=0.3, eps=1e-3)
    np.testing.assert_allclose(weight.detach().numpy(), by_hand, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(optimizer.state[weight]["sum"].numpy(), sums, rtol=1e-12)
    assert optimizer.state[weight]["sum"].shape == (N,)


@pytest.mark.parametrize("kind", [Adagrad, RowWiseAdagrad])
def test_duplicates_are_summed_before_the_square(kind):
    """Two gradients of 3 are one of 6: s is 36. Squared one by one, it would be 18."""
    weight = nn.Parameter(torch.zeros(2, 2, dtype=torch.float64))
    optimizer = kind([weight], lr=1.0, eps=1e-12)
    row_gradient(weight, [1, 1], [[3.0, 3.0], [3.0, 3.0]])
    optimizer.step()
    assert optimizer.state[weight]["sum"][1].flatten()[0] == 36
    torch.testing.assert_close(weight.data[1], -torch.ones(2, dtype=torch.float64))
    row_gradient(weight, [0, 0], [[5.0, -5.0], [-5.0, 5.0]])  # they cancel: nothing happened
    optimizer.step()
    assert not optimizer.state[weight]["sum"][0].any() and not weight.data[0].any()


@pytest.mark.parametrize("kind", OURS)
def test_in_float32_to_rounding(kind):
    generator = torch.Generator().manual_seed(2)
    steps = [torch.randint(N, (4, 6), generator=generator).tolist() for _ in range(20)]
    eps = {} if kind is SGD else {"eps": 1e-8}
    exact, single = table(), table(dtype=torch.float32)
    wanted = walk(kind([exact], lr=0.005, **eps), exact, steps, sparse=True)[-1]
    found = walk(kind([single], lr=0.005, **eps), single, steps, sparse=True)[-1]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=2e-6)


# Rows that are not touched


@pytest.mark.parametrize("kind", OURS)
@given(steps=several_bags)
def test_untouched_rows_keep_their_bits(kind, steps):
    weight = table(dtype=torch.float32)
    before = weight.detach().clone()
    optimizer = kind([weight], lr=0.1)
    walk(optimizer, weight, steps, sparse=True)
    touched = {one for bags in steps for bag in bags for one in bag}
    others = [row for row in range(N) if row not in touched]
    assert torch.equal(weight.data[others], before[others])
    if kind is not SGD:
        assert not optimizer.state[weight]["sum"][others].any()


def second_step(optimizer, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The table before and after a step that looks up row 1; the step before looked up row 0."""
    first, second = walk(optimizer, weight, [[[0]], [[1]]], sparse=False)
    return first, second


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.Adam(p, lr=0.1),
        lambda p: torch.optim.NAdam(p, lr=0.1),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
        lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.01),
        lambda p: torch.optim.Adagrad(p, lr=0.1, weight_decay=0.01),
        lambda p: torch.optim.AdamW(p, lr=0.1, betas=(0.0, 0.9), weight_decay=0.01),
    ],
)
def test_these_dense_rules_move_rows_that_nobody_looked_up(make):
    """They are what `check_sparse` refuses; the three here would leave row 0 where it was."""
    weight = table()
    optimizer = make([weight])
    before, after = second_step(optimizer, weight)
    assert not torch.equal(before[0], after[0])
    with pytest.raises(UserError):
        check_sparse(optimizer)
    for kind in OURS:
        weight = table()
        before, after = second_step(kind([weight], lr=0.1), weight)
        assert torch.equal(before[0], after[0]) and not torch.equal(before[1], after[1])


@pytest.mark.parametrize("kind, name", [("RMSprop", "square_avg"), ("Adadelta", "square_avg")])
def test_these_dense_rules_change_the_state_of_rows_that_nobody_looked_up(kind, name):
    weight = table()
    optimizer = getattr(torch.optim, kind)([weight], lr=0.1)
    walk(optimizer, weight, [[[0]]], sparse=False)
    before = optimizer.state[weight][name][0].clone()
    walk(optimizer, weight, [[[1]]], sparse=False)
    assert (optimizer.state[weight][name][0] < before).all()
    with pytest.raises(UserError, match="shrinks in every step for every row"):
        check_sparse(optimizer)


def test_sparse_adam_is_not_adam():
    """Equal while every row is touched in every step; from the first gap on, they part."""
    dense, sparse = table(), table()
    steps = [[list(range(N))], [list(range(N))], [[1]], [[0]]]
    adam = walk(torch.optim.Adam([dense], lr=0.1), dense, steps, sparse=False)
    lazy = walk(torch.optim.SparseAdam([sparse], lr=0.1), sparse, steps, sparse=True)
    torch.testing.assert_close(adam[1], lazy[1], rtol=1e-6, atol=1e-6)
    assert torch.equal(lazy[1][0], lazy[2][0])
    assert (adam[2][0] - lazy[2][0]).abs().min() > 1e-3
    check_sparse(torch.optim.SparseAdam([sparse]))


# State that is made when it is first needed


def test_a_row_first_touched_at_the_second_step_has_the_state_of_a_first_step():
    weight = table()
    optimizer = RowWiseAdagrad([weight], lr=0.5)
    row_gradient(weight, [0], [[1.0, 2.0, 2.0]])
    optimizer.step()
    before = weight.detach().clone()
    row_gradient(weight, [4, 0], [[3.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    optimizer.step()
    assert optimizer.state[weight]["sum"].tolist() == [3.0, 0, 0, 0, 3.0, 0, 0, 0, 0]
    moved = (weight.detach() - before)[4]
    np.testing.assert_allclose(moved, [-0.5 * 3 / 3**0.5, 0, 0], rtol=1e-7)


@pytest.mark.parametrize("kind", [Adagrad, RowWiseAdagrad])
@pytest.mark.parametrize("sparse", [True, False])
def test_a_table_first_touched_at_the_second_step_has_its_own_state(kind, sparse):
    """One "initialised" flag for the whole optimizer, a published bug, leaves it without."""
    early, late, alone = table(1), table(2), table(2)
    optimizer = kind([early, late], lr=0.5)
    look_up(early, [[0, 1]], sparse).backward()
    optimizer.step()
    assert set(optimizer.state) == {early}  # nothing is kept for a table without a gradient
    optimizer.zero_grad()
    look_up(late, [[2, 2]], sparse).backward()
    optimizer.step()
    alone_optimizer = kind([alone], lr=0.5)
    walk(alone_optimizer, alone, [[[2, 2]]], sparse)
    assert torch.equal(late, alone)
    assert torch.equal(optimizer.state[late]["sum"], alone_optimizer.state[alone]["sum"])


@pytest.mark.parametrize("kind", OURS)
def test_an_empty_gradient_changes_nothing(kind):
    weight = table()
    before = weight.detach().clone()
    optimizer = kind([weight], lr=0.1)
    row_gradient(weight, [], [])
    optimizer.step()
    walk(optimizer, weight, [[[], []]], sparse=True)
    assert torch.equal(weight, before)


class Watch(TorchDispatchMode):
    """Notes each operation that reads, changes or makes a dense tensor with a table's rows."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.rows, self.seen = rows, set()

    def _big(self, thing) -> bool:
        dense = isinstance(thing, Tensor) and not thing.is_sparse
        return dense and len(thing.shape) > 0 and thing.shape[0] == self.rows

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if any(map(self._big, args)):
            name = function.overloadpacket.__name__
            sparse = any(isinstance(a, Tensor) and a.is_sparse for a in args)
            self.seen.add(f"{name} of a sparse tensor" if sparse else name)
            if self._big(result) and result is not args[0]:
                self.seen.add(f"{name} made a tensor of {len(result)} rows")
        return result


@pytest.mark.parametrize("kind", OURS)
def test_a_step_does_nothing_to_all_the_rows(kind):
    """Whatever meets the whole table, or its state, reads or changes chosen rows of it."""
    weight = table(rows=5000)
    optimizer = kind([weight], lr=0.1)
    walk(optimizer, weight, [[[1, 2]]], sparse=True)  # the state is made here
    row_gradient(weight, [3, 4999, 3], [[1.0] * D] * 3)
    with Watch(5000) as watch:
        optimizer.step()
    allowed = {"add_ of a sparse tensor", "index_select", "detach"}
    assert "add_ of a sparse tensor" in watch.seen <= allowed


# A whole model: groups, schedules, closures, checkpoints


def test_groups_have_their_own_rates():
    fast, slow, alone = table(1), table(2), table(2)
    optimizer = Adagrad([{"params": [fast]}, {"params": [slow], "lr": 0.01, "eps": 0.5}], lr=1.0)
    for weight in (fast, slow):
        look_up(weight, [[0, 1]], sparse=True).backward()
    optimizer.step()
    walk(Adagrad([alone], lr=0.01, eps=0.5), alone, [[[0, 1]]], sparse=True)
    assert torch.equal(slow, alone)
    assert (fast.detach() - table(1).detach()).abs().max() == pytest.approx(1.0)


def test_a_schedule_may_end_at_zero():
    weight = table()
    optimizer = SGD([weight], lr=0.1)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=2)
    seen = [weight.detach().clone()]
    for _ in range(3):
        optimizer.zero_grad()
        row_gradient(weight, [0], [[1.0] * D])
        optimizer.step()
        schedule.step()
        seen.append(weight.detach().clone())
    steps = [float((a - b)[0, 0]) for a, b in itertools.pairwise(seen)]
    assert steps == pytest.approx([0.1, 0.05, 0.0], abs=1e-15)


def test_a_closure_is_called_with_gradients_on():
    weight = table()
    optimizer = SGD([weight], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = look_up(weight, [[0, 0, 5]], sparse=True)
        loss.backward()
        return loss

    first = optimizer.step(closure)
    assert first.item() > optimizer.step(closure).item()


class Clicks(nn.Module):
    """Two tables with gradients of rows, dropout, and a linear layer with dense gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.tables = EmbeddingTables({"item": 10, "genres": 4}, 3, sparse_gradient=True)
        self.linear = nn.Linear(6, 1)
        self.dropout = nn.Dropout(0.3)

    def forward(self, batch: Batch) -> Tensor:
        return self.linear(self.dropout(self.tables(batch.sparse).flatten(1))).squeeze(1)


def clicks(rows: int = 64) -> Batch:
    generator = torch.Generator().manual_seed(5)
    items = torch.randint(10, (rows,), generator=generator)
    lengths = torch.randint(3, (rows,), generator=generator)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    genres = torch.randint(4, (int(offsets[-1]),), generator=generator), offsets
    sparse = SparseFeatures.from_columns({"item": items, "genres": genres})
    return Batch(torch.zeros(rows, 0), sparse, items / 5 - 1)


def train(kind, epochs: int, checkpoint, resume: bool = False):
    set_seed(0)
    model = Clicks()
    optimizer = kind(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.98**step)
    loader = Loader(clicks(), 16, shuffle=True, seed=3)
    if resume:
        torch.rand(7)  # another random state than the one the checkpoint must restore
    history = fit(model, loader, objective=squared_error, optimizer=optimizer, schedule=schedule,
                  epochs=epochs, checkpoint=checkpoint, resume=resume, progress=False)  # fmt: skip
    return model.state_dict(), optimizer, history


@pytest.mark.parametrize("kind", OURS)
def test_a_resumed_training_ends_at_the_same_bits(kind, tmp_path):
    whole, optimizer, history = train(kind, 6, tmp_path / "whole.pt")
    losses = history.values("loss", "train")
    assert losses[-1] < 0.8 * losses[0]
    train(kind, 2, tmp_path / "cut.pt")
    resumed, again, _ = train(kind, 6, tmp_path / "cut.pt", resume=True)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    states = optimizer.state_dict()["state"], again.state_dict()["state"]
    assert states[0].keys() == states[1].keys() == (set() if kind is SGD else {0, 1, 2, 3})
    assert all(torch.equal(states[0][i]["sum"], states[1][i]["sum"]) for i in states[0])


# Fused tables


def fake_kernel(calls: list) -> SimpleNamespace:
    """A kernel that writes its arguments down, and leaves a mark in table and state."""

    def update(table, state, lookups, gradient, rule, lr, eps):
        calls.append((rule, lr, eps, None if state is None else tuple(state.shape)))
        table[0] += 1
        if state is not None:
            state[0] += 2

    return SimpleNamespace(update=update)


def lookups() -> Lookups:
    return Lookups(torch.tensor([0]), torch.tensor([0, 1]), torch.tensor([0, N]), None)


@pytest.mark.parametrize(
    "kind, rule, eps, shape",
    [
        (SGD, "sgd", 0.0, None),
        (Adagrad, "adagrad", 1e-10, (N, D)),
        (RowWiseAdagrad, "rowwise_adagrad", 1e-8, (N,)),
    ],
)
def test_a_fused_update_finds_the_rate_and_the_state(kind, rule, eps, shape, tmp_path):
    weight, other, calls = table(), table(3), []
    before, gradient = weight.detach().clone(), torch.ones(1, 1, D)
    optimizer = kind([{"params": [other]}, {"params": [weight], "lr": 0.25}], lr=1.0)
    optimizer.update_fused(weight, lookups(), gradient, fake_kernel(calls))
    optimizer.update_fused(weight, lookups(), gradient, fake_kernel(calls))
    assert calls == [(rule, 0.25, eps, shape)] * 2
    assert torch.equal(weight[0], before[0] + 2) and torch.equal(weight[1:], before[1:])
    assert set(optimizer.state) == (set() if kind is SGD else {weight})
    optimizer.step()  # no gradient: nothing to do
    assert torch.equal(weight[0], before[0] + 2)

    checkpoints.save(tmp_path / "run.pt", {"model": {}, "optimizer": optimizer.state_dict()})
    restored = kind([{"params": [other]}, {"params": [weight], "lr": 0.5}], lr=1.0)
    restored.load_state_dict(checkpoints.load(tmp_path / "run.pt")["optimizer"])
    restored.update_fused(weight, lookups(), gradient, fake_kernel(calls))
    assert calls[-1] == (rule, 0.25, eps, shape)
    if shape:
        assert restored.state[weight]["sum"].flatten()[0] == 6


def test_a_fused_table_of_another_model_is_refused():
    stranger, calls = table(1), []
    optimizer = Adagrad([table()], lr=0.1)
    with pytest.raises(UserError, match=r"shape \(9, 3\).*Adagrad, which was not given"):
        optimizer.update_fused(stranger, lookups(), torch.ones(1, 1, D), fake_kernel(calls))
    assert not calls and not optimizer.state


# Bad input, and bytes


@pytest.mark.parametrize("value", [0.0, -0.1, float("nan"), float("inf")])
def test_rates_and_epsilons_that_cannot_be(value):
    for kind in OURS:
        with pytest.raises(UserError, match=rf"learning rate \(lr\) of {kind.__name__} is {value}"):
            kind([table()], lr=value)
        with pytest.raises(UserError, match="expected a finite number above 0"):
            kind([{"params": [table()], "lr": value}], lr=0.1)
    for kind in (Adagrad, RowWiseAdagrad):
        with pytest.raises(UserError, match=rf"epsilon \(eps\) of {kind.__name__} is {value}"):
            kind([table()], lr=0.1, eps=value)


@pytest.mark.parametrize("option", ["momentum", "weight_decay"])
def test_options_that_would_be_ignored(option):
    with pytest.raises(UserError, match=f"asks SGD for {option}=0.9"):
        SGD([{"params": [table()], option: 0.9}], lr=0.1)
    SGD([{"params": [table()], option: 0.0}], lr=0.1)


def test_a_state_of_the_other_kind():
    """A table whose gradient is of rows at first and dense later; nothing moves."""
    weight, other = table(), table(1)
    optimizer = RowWiseAdagrad([other, weight], lr=0.1)
    walk(optimizer, weight, [[[0]]], sparse=True)
    before = other.detach().clone()
    look_up(other, [[0]], sparse=True).backward()
    weight.grad = torch.ones_like(weight)
    with pytest.raises(UserError, match=r"state of shape \(9,\).* now dense"):
        optimizer.step()
    assert torch.equal(other, before)


def test_a_gradient_that_is_sparse_in_both_axes():
    weight = table()
    weight.grad = torch.ones_like(weight).to_sparse()
    with pytest.raises(UserError, match=r"sparse in 2 dimension\(s\) and dense in 0"):
        SGD([weight], lr=0.1).step()


@pytest.mark.parametrize(
    "make, sentence",
    [
        (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), "SGD with momentum=0.9 .*goes on"),
        (lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.1), "weight_decay=0.1 .*every row"),
        (lambda p: torch.optim.Adagrad(p, weight_decay=0.1), "Adagrad with weight_decay=0.1"),
        (torch.optim.Adam, "Adam cannot .*: its averages go on"),
        (torch.optim.AdamW, "AdamW cannot .*: its averages go on"),
        (torch.optim.RMSprop, "RMSprop cannot .*: its average of squares shrinks"),
        (torch.optim.LBFGS, "LBFGS cannot .*: it has no step for gradients of rows"),
    ],
)
def test_torchs_optimizers_that_have_no_equal_sparse_step(make, sentence):
    with pytest.raises(UserError, match=f"{sentence}.* Use SGD, Adagrad or RowWiseAdagrad"):
        check_sparse(make([table()]))


def test_torchs_optimizers_that_do():
    group = [{"params": [table()]}, {"params": [table()], "lr": 0.3}]
    for optimizer in (torch.optim.SGD(group, lr=0.1), torch.optim.Adagrad(group)):
        check_sparse(optimizer)
    for kind in OURS:
        check_sparse(kind([table()], lr=0.1))


def measured_bytes(optimizer) -> int:
    states = [value for state in optimizer.state.values() for value in state.values()]
    return sum(t.numel() * t.element_size() for t in states if isinstance(t, Tensor))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "rule, make",
    [
        ("sgd", lambda p: SGD(p, lr=0.1)),
        ("adagrad", lambda p: Adagrad(p, lr=0.1)),
        ("rowwise_adagrad", lambda p: RowWiseAdagrad(p, lr=0.1)),
        ("momentum", lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)),
        ("adam", lambda p: torch.optim.Adam(p, lr=0.1)),
    ],
)
def test_the_bytes_of_the_state_are_those_that_are_there(rule, make, dtype):
    weight = table(dtype=dtype)
    optimizer = make([weight])
    walk(optimizer, weight, [[[0]]], sparse=rule in ("sgd", "adagrad", "rowwise_adagrad"))
    assert state_bytes(rule, N, D, weight.element_size()) == measured_bytes(optimizer)


def test_bytes_of_a_rule_that_there_is_not():
    with pytest.raises(UserError, match="no rule 'rmsprop'; expected one of sgd, momentum"):
        state_bytes("rmsprop", 10, 2)


def test_fit_refuses_momentum_with_sparse_rows():
    config = DLRMConfig(2, {"a": 5}, 4, bottom=(4,), top=(1,))
    loader = Loader(random_batch(config, 8), 4)
    model = DLRM(config, sparse_gradient=True)
    dense = [*model.bottom.parameters(), *model.top.parameters()]
    rows = {"params": [*model.tables.parameters()], "lr": 0.1}

    def run(**options):
        step = torch.optim.SGD([{"params": dense, "momentum": 0.9}, rows | options], lr=0.1)
        fit(model, loader, objective=logistic_loss, optimizer=step, epochs=1, progress=False)

    run()  # momentum on the MLPs alone is fine
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    with pytest.raises(UserError, match=r"SGD with momentum=0\.9 cannot update tables"):
        run(momentum=0.9)
    assert all(torch.equal(before[name], now) for name, now in model.state_dict().items())
