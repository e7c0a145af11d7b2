"""The Triton kernels against float64: on a GPU where there is one, else in Triton's interpreter."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dlrm_mini.kernels.rules import Lookups

CUDA = torch.cuda.is_available()
if not CUDA and "TRITON_INTERPRET" not in os.environ:
    if "triton" in sys.modules:
        pytest.skip("Triton was imported as a compiler already.", allow_module_level=True)
    os.environ["TRITON_INTERPRET"] = "1"  # read when Triton is imported
if not CUDA and os.environ["TRITON_INTERPRET"] != "1":
    pytest.skip("Needs a GPU, or TRITON_INTERPRET=1 instead of one.", allow_module_level=True)
pytest.importorskip("triton", reason="Triton is not installed: it comes with torch for GPUs.")

import triton  # noqa: E402
import triton.language as tl  # noqa: E402

from dlrm_mini.kernels import gpu  # noqa: E402


@triton.jit
def _loop(times):
    for _ in range(tl.load(times)):
        pass


if not CUDA:
    try:
        _loop[(1,)](torch.ones(1, dtype=torch.int64))
    except triton.runtime.errors.InterpreterError:  # Triton 3.6 with numpy 2.4, for one
        pytest.skip("This Triton's interpreter fails with this numpy.", allow_module_level=True)

DEVICE = "cuda" if CUDA else "cpu"
LR, EPS = 0.3, 0.1  # large, so that it is seen
RULES = ["sgd", "adagrad", "rowwise_adagrad"]
WIDTHS = [1, 3, 16, 64, 100]


def make_lookups(rows, lengths, *, weighted=False, seed=0):
    """Random ids for tables of `rows` rows; `lengths` (F, B) ids a bag."""
    draw = torch.Generator().manual_seed(seed)
    per_table = zip(rows, lengths.sum(1).tolist(), strict=True)
    ids = torch.cat([torch.randint(n, (count,), generator=draw) for n, count in per_table])
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.flatten().cumsum(0)])
    weights = torch.randn(len(ids), generator=draw).to(DEVICE) if weighted else None
    first = torch.tensor([0, *rows]).cumsum(0)
    return Lookups(ids.to(DEVICE), offsets.to(DEVICE), first.to(DEVICE), weights)


def counts_of(lookups):
    """What each row of the stacked tables counts in each bag, (F * B, N) float64."""
    n_bags = len(lookups.offsets) - 1
    bags = torch.arange(n_bags, device=DEVICE).repeat_interleave(lookups.offsets.diff())
    features = bags // max(lookups.batch_size, 1)
    counts = torch.zeros(n_bags, int(lookups.first[-1]), dtype=torch.float64, device=DEVICE)
    ones = torch.ones(len(bags), device=DEVICE)
    weights = ones if lookups.weights is None else lookups.weights
    places = bags, lookups.first[features] + lookups.ids
    return counts.index_put_(places, weights.double(), accumulate=True)


def expected_forward(table, lookups):
    pooled = counts_of(lookups) @ table.double()
    return pooled.view(lookups.n_features, lookups.batch_size, -1).transpose(0, 1)


def expected_update(table, state, lookups, gradient, rule):
    g = counts_of(lookups).T @ gradient.double().transpose(0, 1).flatten(0, 1)
    if rule == "sgd":
        return table - LR * g, None
    square = g.square() if rule == "adagrad" else g.square().mean(1)
    state = state.double() + square
    root = state.sqrt() if rule == "adagrad" else state.sqrt()[:, None]
    return table - LR * g / (root + EPS), state


def make_state(rule, n_rows, dim):
    shape = {"sgd": None, "adagrad": (n_rows, dim), "rowwise_adagrad": (n_rows,)}[rule]
    return None if shape is None else torch.rand(shape, device=DEVICE) + 0.1


def near(got, expected):
    torch.testing.assert_close(got, expected.float(), rtol=2e-5, atol=1e-5)


def check(rows, lengths, dim, *, weighted=False, rules=RULES, seed=0):
    """Compare `forward` and `update` to float64; give back the rows before and after."""
    torch.manual_seed(seed)
    lookups = make_lookups(rows, lengths, weighted=weighted, seed=seed)
    before = torch.randn(sum(rows), dim, device=DEVICE)
    near(gpu.forward(before, lookups), expected_forward(before, lookups))
    gradient = torch.randn(lookups.batch_size, len(rows), dim, device=DEVICE)
    touched = counts_of(lookups).ne(0).any(0)
    for rule in rules:
        table, state = before.clone(), make_state(rule, sum(rows), dim)
        sums = None if state is None else state.clone()
        wanted = expected_update(before, state, lookups, gradient, rule)
        assert gpu.update(table, state, lookups, gradient, rule, LR, EPS) is None
        near(table, wanted[0])
        assert torch.equal(table[~touched], before[~touched])
        if state is not None:
            near(state, wanted[1])
            assert torch.equal(state[~touched], sums[~touched])


@pytest.mark.parametrize("dim", WIDTHS)
@pytest.mark.parametrize("weighted", [False, True])
def test_every_width(dim, weighted):
    lengths = torch.tensor([[2, 0, 3, 1], [1, 1, 1, 1], [0, 0, 9, 2]])
    check([40, 5, 7], lengths, dim, weighted=weighted, seed=dim)


@settings(max_examples=15)
@given(data=st.data(), dim=st.sampled_from([1, 3, 8]), weighted=st.booleans())
def test_any_bags(data, dim, weighted):
    rows = data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=3))
    size = data.draw(st.integers(1, 4))
    bag = st.lists(st.integers(0, 5), min_size=size, max_size=size)
    lengths = torch.tensor([data.draw(bag) for _ in rows])
    check(rows, lengths, dim, weighted=weighted, seed=data.draw(st.integers(0, 99)))


@pytest.mark.parametrize("dim", [16, 100])
def test_a_row_of_more_lookups_than_a_program_adds_at_a_time(dim):
    many = 2 * gpu._TILE // dim + 5
    check([1, 2], torch.tensor([[many, 0, 2], [1, many, 0]]), dim, weighted=True)


def test_tables_of_one_row():
    check([1, 1, 1], torch.ones(3, 5, dtype=torch.int64), 16)


def test_bags_that_are_all_empty():
    check([3, 2], torch.zeros(2, 4, dtype=torch.int64), 16)


def test_a_batch_without_rows():
    lookups = make_lookups([3, 2], torch.zeros(2, 0, dtype=torch.int64))
    table = torch.ones(5, 4, device=DEVICE)
    assert gpu.forward(table, lookups).shape == (0, 2, 4)
    gpu.update(table, None, lookups, torch.empty(0, 2, 4, device=DEVICE), "sgd", LR, EPS)
    assert torch.equal(table, torch.ones_like(table))


def test_duplicates_are_summed_before_they_are_squared():
    lookups = Lookups(
        *(torch.tensor(part, device=DEVICE) for part in ([1, 1], [0, 2], [0, 2])), None
    )
    table, state = torch.zeros(2, 1, device=DEVICE), torch.zeros(2, device=DEVICE)
    gradient = torch.full((1, 1, 1), 3.0, device=DEVICE)
    gpu.update(table, state, lookups, gradient, "rowwise_adagrad", lr=0.5, eps=0.0)
    assert state.tolist() == [0, 36]  # (3 + 3)^2, not 3^2 + 3^2
    assert table.flatten().tolist() == [0, -0.5]


@pytest.mark.parametrize("rule", RULES)
def test_a_gradient_that_is_not_contiguous(rule):
    """The gradient of a sum is one number seen as many."""
    lookups = make_lookups([4, 6], torch.tensor([[1, 2], [3, 0]]))
    gradient = torch.tensor(2.0, device=DEVICE).expand(2, 2, 3)
    table, state = torch.randn(10, 3, device=DEVICE), make_state(rule, 10, 3)
    wanted = expected_update(table, state, lookups, gradient, rule)
    gpu.update(table, state, lookups, gradient, rule, LR, EPS)
    near(table, wanted[0])


@pytest.mark.parametrize("rule", RULES)
def test_the_same_bits_every_time(rule):
    lookups = make_lookups([2, 50], torch.full((2, 40), 3), weighted=True)
    table, gradient = torch.randn(52, 16, device=DEVICE), torch.randn(40, 2, 16, device=DEVICE)
    start, runs = make_state(rule, 52, 16), []
    for _ in range(3):
        mine, state = table.clone(), None if start is None else start.clone()
        gpu.update(mine, state, lookups, gradient, rule, LR, EPS)
        runs.append(mine if state is None else torch.cat([mine.flatten(), state.flatten()]))
    assert torch.equal(runs[0], runs[1]) and torch.equal(runs[0], runs[2])


@pytest.mark.skipif(not CUDA, reason="Needs a GPU.")
@pytest.mark.parametrize("rule", RULES)
def test_the_host_never_waits(rule):
    lookups = make_lookups([40, 5], torch.tensor([[2, 0, 3, 1], [1, 1, 9, 2]]), weighted=True)
    table, gradient = torch.randn(45, 16, device=DEVICE), torch.randn(4, 2, 16, device=DEVICE)
    state = make_state(rule, 45, 16)
    mode = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        gpu.forward(table, lookups)
        gpu.update(table, state, lookups, gradient, rule, LR, EPS)
    finally:
        torch.cuda.set_sync_debug_mode(mode)


COMPILE = """
import sys, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from dlrm_mini.kernels import gpu

FLOATS, LONGS = "table state gradient weights pooled", "ids offsets first lengths places"
types = dict.fromkeys(FLOATS.split(), "*fp32") | dict.fromkeys(LONGS.split(), "*i64")
types |= dict.fromkeys(["lr", "eps"], "fp32") | {"rows": "*i32"}
types |= dict.fromkeys(["size", "features", "dim"], "i32")
for rule in ("sgd", "adagrad", "rowwise_adagrad"):
    for kernel in (gpu._pool, gpu._update_rows):
        given = {"width": 16, "height": 128, "rule": rule}
        if rule == "sgd":
            given |= {"state": None, "weights": None}
        names = kernel.arg_names
        source = ASTSource(
            fn=kernel,
            signature={n: "constexpr" if n in given else types[n] for n in names},
            constexprs={(names.index(n),): value for n, value in given.items() if n in names},
        )
        options = {"num_warps": 2}
        for capability in (80, 90):  # A100, H100
            target = GPUTarget("cuda", capability, 32)
            compiled = triton.compile(source, target=target, options=options)
            assert ".entry" in compiled.asm["ptx"]
"""


@pytest.mark.skipif(CUDA, reason="The other tests compile the kernels.")
def test_the_kernels_compile_for_a_gpu(tmp_path):
    """The interpreter runs Python that the compiler does not take."""
    environ = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", COMPILE], capture_output=True, text=True, cwd=root, env=environ
    )
    assert done.returncode == 0, done.stderr
