"""The cross network and the third order against loops in float64, and their counts against both."""

from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dlrm_mini.crossing import (
    CrossNetwork,
    cross_cost,
    third_order,
    third_order_cost,
    third_order_sum,
)
from dlrm_mini.errors import UserError
from dlrm_mini.interactions import dot_products, gram, interaction_cost


def numbers(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def cross_by_loops(network, x0):
    """Equation 1 of Wang et al. 2021, one number at a time; (B, width)."""
    rows = []
    for start in x0.tolist():
        x = list(start)
        for layer in network.layers:
            if isinstance(layer, nn.Linear):
                weight, bias = layer.weight.tolist(), layer.bias.tolist()
            else:
                inner, outer = layer
                u, v = outer.weight.tolist(), inner.weight.tolist()  # (width, r), (r, width)
                weight = [
                    [sum(u[i][k] * v[k][j] for k in range(len(v))) for j in range(len(x))]
                    for i in range(len(x))
                ]
                bias = outer.bias.tolist()
            x = [
                start[i] * (sum(weight[i][j] * x[j] for j in range(len(x))) + bias[i]) + x[i]
                for i in range(len(x))
            ]
        rows.append(x)
    return torch.tensor(rows, dtype=torch.float64)


def third_by_loops(x):
    """All triples of vectors, coordinate by coordinate; (B, D)."""
    n_rows, n, dim = x.shape
    total = [[0.0] * dim for _ in range(n_rows)]
    for b in range(n_rows):
        for i, j, k in combinations(range(n), 3):
            for d in range(dim):
                total[b][d] += float(x[b, i, d] * x[b, j, d] * x[b, k, d])
    return torch.tensor(total, dtype=torch.float64).view(n_rows, dim)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 3),
    width=st.integers(1, 6),
    layers=st.integers(1, 3),
    rank=st.none() | st.integers(1, 6),
    seed=st.integers(0, 1000),
)
def test_the_cross_network_is_its_equation(rows, width, layers, rank, seed):
    rank = None if rank is None else min(rank, width)
    torch.manual_seed(seed)
    network = CrossNetwork(width, layers, rank).double()
    for parameter in network.parameters():  # biases that are not zero
        nn.init.normal_(parameter)
    x0 = numbers(rows, width, seed=seed)
    out = network(x0)
    torch.testing.assert_close(out, cross_by_loops(network, x0), rtol=1e-10, atol=1e-10)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(0, 3), n=st.integers(0, 7), dim=st.integers(1, 4), seed=st.integers(0, 1000)
)
def test_power_sums_are_the_triples(rows, n, dim, seed):
    x = numbers(rows, n, dim, seed=seed)
    expected = third_by_loops(x)
    torch.testing.assert_close(third_order(x), expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(third_order_sum(x), expected.sum(1), rtol=1e-10, atol=1e-10)


def test_power_sums_keep_their_digits_in_float32():
    """27 vectors: the cancellation costs no more than a few units of the last place."""
    x = numbers(64, 27, 4)
    exact = third_order(x)
    error = (third_order(x.float()).double() - exact).abs()
    assert error.max() < 1e-5 * exact.abs().max()


def test_by_hand():
    x = torch.tensor([[[1.0, 1.0], [2.0, 0.0], [3.0, 5.0], [4.0, 2.0]]])
    assert third_order(x).tolist() == [[6 + 8 + 12 + 24, 0 + 0 + 10 + 0]]
    assert third_order_sum(x).tolist() == [60]
    network = CrossNetwork(2, 1)
    with torch.no_grad():
        network.layers[0].weight.copy_(torch.tensor([[0.0, 1.0], [2.0, 0.0]]))
        network.layers[0].bias.copy_(torch.tensor([10.0, 20.0]))
    assert network(torch.tensor([[3.0, 4.0]])).tolist() == [[3 * (4 + 10) + 3, 4 * (6 + 20) + 4]]


def test_layers_reach_one_order_more_each():
    """Along a line t * x0 without biases, L layers give a polynomial in t of degree L + 1."""
    for layers in (1, 2, 3):
        network = CrossNetwork(4, layers).double()
        x0 = numbers(1, 4)
        values = torch.cat([network(t * x0) for t in range(layers + 4)])
        differences = values
        for _ in range(layers + 1):
            differences = differences.diff(dim=0)
        assert differences.abs().min() > 1e-6  # of degree L + 1 ...
        assert differences.diff(dim=0).abs().max() < 1e-9  # ... and no higher


def test_full_rank_is_a_product_of_two_matrices():
    low, full = CrossNetwork(5, 2, rank=5).double(), CrossNetwork(5, 2).double()
    with torch.no_grad():
        for (inner, outer), layer in zip(low.layers, full.layers, strict=True):
            layer.weight.copy_(outer.weight @ inner.weight)
            layer.bias.copy_(outer.bias)
    x = numbers(3, 5)
    torch.testing.assert_close(low(x), full(x))


@pytest.mark.parametrize("rank", [None, 2])
def test_gradients_against_finite_differences(rank):
    network = CrossNetwork(4, 2, rank).double()
    x = numbers(2, 4).requires_grad_()
    weights = tuple(network.parameters())
    assert torch.autograd.gradcheck(lambda x0, *_: network(x0), (x, *weights))
    y = numbers(2, 4, 3).requires_grad_()
    assert torch.autograd.gradcheck(third_order, (y,))
    assert torch.autograd.gradcheck(third_order_sum, (y,))


@pytest.mark.parametrize("width, layers, rank", [(4, 1, None), (6, 3, None), (6, 2, 2), (5, 1, 1)])
@pytest.mark.parametrize("batch", [1, 7])
def test_the_cross_network_costs_what_its_loops_do(width, layers, rank, batch):
    network = CrossNetwork(width, layers, rank)
    cost = network.cost(batch)
    assert cost == cross_cost(width, layers, rank, batch)
    assert cost.parameters == sum(p.numel() for p in network.parameters())
    flops = moved = 0
    shapes = [(width, width)] if rank is None else [(width, rank), (rank, width)]
    for layer in range(layers):
        for n_in, n_out in shapes:
            flops += batch * 2 * n_in * n_out
            moved += batch * (n_in + n_out)  # in and out
        flops += batch * 2 * width  # times x_0, plus x_l
        if layer:
            moved += batch * width  # x_0, no longer the same as x_l
    assert cost.flops == flops
    assert cost.bytes == 4 * (cost.parameters + moved)


class Counted:
    """A number that counts what is done with it."""

    def __init__(self, value, log):
        self.value, self.log = value, log

    def _do(self, value):
        self.log.append(1)
        return Counted(value, self.log)

    def __add__(self, other):
        return self._do(self.value + getattr(other, "value", other))

    def __sub__(self, other):
        return self._do(self.value - getattr(other, "value", other))

    def __mul__(self, other):
        return self._do(self.value * getattr(other, "value", other))

    __rmul__ = __mul__

    def __truediv__(self, other):
        return self._do(self.value / other)


@pytest.mark.parametrize("n, dim", [(3, 1), (5, 4), (27, 8)])
def test_the_third_order_costs_what_its_loops_do(n, dim):
    log, x = [], numbers(1, n, dim)
    for d in range(dim):
        column = [Counted(float(value), log) for value in x[0, :, d]]
        squares = [one * one for one in column]
        cubes = [square * one for square, one in zip(squares, column, strict=True)]
        p1, p2, p3 = (sums(powers) for powers in (column, squares, cubes))
        result = (p1 * (p1 * p1 - 3 * p2) + 2 * p3) / 6
        assert result.value == pytest.approx(float(third_order(x)[0, d]))
    cost = third_order_cost(n, dim, batch_size=3)
    assert cost == (0, 3 * len(log), 3 * 4 * (n * dim + dim))


def sums(terms):
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


@pytest.mark.parametrize("itself", [False, True])
def test_dot_and_concatenation_are_counted_alike(itself):
    n, dim, batch = 5, 3, 7
    x = numbers(batch, n, dim)
    products = dot_products(x, self_interaction=itself)
    pairs = [(i, j) for i in range(n) for j in range(i + itself)]
    expected = torch.stack([(x[:, i] * x[:, j]).sum(1) for i, j in pairs], 1)
    torch.testing.assert_close(products, expected)
    matrix = gram(x[:, 0], x[:, 1:])
    torch.testing.assert_close(products, torch.stack([matrix[:, i, j] for i, j in pairs], 1))
    cost = interaction_cost("dot", n, dim, batch, self_interaction=itself)
    assert cost == (
        0,
        batch * 2 * dim * len(pairs),
        4 * batch * (n * dim + dim + len(pairs)),
    )
    assert interaction_cost("cat", n, dim, batch) == (0, 0, 4 * batch * 2 * n * dim)


@pytest.mark.parametrize(
    "sizes, sentence",
    [
        ((0, 1), "width is 0; change it to at least 1"),
        ((4, 0), "layers is 0"),
        ((4, 1, 0), "rank is 0"),
        ((4, 1, 5), "rank is 5, but the rows are 4 wide"),
    ],
)
def test_sizes_that_cannot_be(sizes, sentence):
    for build in (CrossNetwork, cross_cost):
        with pytest.raises(UserError, match=sentence):
            build(*sizes)


def test_shapes_that_do_not_fit():
    with pytest.raises(UserError, match=r"given the shape \(2, 3\); expected \(B, 4\)"):
        CrossNetwork(4, 1)(torch.zeros(2, 3))
    with pytest.raises(UserError, match=r"the shape \(2, 3\); expected \(B, n, D\)"):
        third_order(torch.zeros(2, 3))
    with pytest.raises(UserError, match="n is 0"):
        third_order_cost(0, 3)
