"""A dot product made of folds: a network whose weights are written down, not learned.

It says how well a ReLU network of some width *can* do, so that what training reaches can be held
against it. The identity is x y = ((x + y)^2 - (x - y)^2) / 4; each square is drawn with folds.
"""

from functools import cache

import torch
from torch import Tensor, nn

from dlrm_mini.models.mlp import fully_connected


@cache
def folded_parabola(folds: int) -> tuple[Tensor, Tensor, float]:
    """The best approximation of z^2 under a standard normal z by a function with folds.

    z^2 is approximated by a + sum_j c_j relu(|z| - t_j), with the knots t_j evenly spaced from half
    a space on; space and weights are those with the lowest mean squared error on a fine grid.

    Args:
        folds: m, how many knots on either side of zero.

    Returns:
        The knots (m,), the weights c (m,) and the share of the variance of z^2 that is missed.
    """
    z = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    density = torch.exp(-z.square() / 2)
    density /= density.sum()
    best: tuple[Tensor, Tensor, float] | None = None
    for space in torch.arange(0.4, 2.0, 0.05, dtype=torch.float64):
        knots = space * (torch.arange(folds, dtype=torch.float64) + 0.5)
        hinges = torch.relu(z.abs()[:, None] - knots)  # (4001, m)
        wide = torch.cat([torch.ones_like(hinges[:, :1]), hinges], dim=1)
        scaled = density.sqrt()[:, None]
        weights = torch.linalg.lstsq(scaled * wide, scaled * z.square()[:, None]).solution
        error = float((density * ((wide @ weights).squeeze(1) - z.square()).square()).sum() / 2)
        if best is None or error < best[2]:
            best = knots, weights[1:, 0], error
    assert best is not None
    return best


def by_hand(dim: int, folds: int, pairs: int | None = None) -> nn.Sequential:
    """A network that computes <x, y> / sqrt(dim) with weights nobody trained.

    x_j y_j = ((x_j + y_j)^2 - (x_j - y_j)^2) / 4, and each square is a folded parabola. It has
    4 * folds units for each pair of coordinates that it covers, and misses
    1 - pairs / dim * (1 - the parabola's share).

    Args:
        dim: d.
        folds: knots of each parabola on either side of zero.
        pairs: how many of the d pairs of coordinates are covered; all of them when None.
    """
    covered = dim if pairs is None else pairs
    knots, bends, _ = folded_parabola(folds)
    network = fully_connected([2 * dim, 4 * folds * covered, 1], last="none").double()
    first, second = network[0], network[2]
    assert isinstance(first, nn.Linear) and isinstance(second, nn.Linear)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        unit = 0
        for j in range(covered):
            for sign in (1.0, -1.0):  # (x + y)^2 with a plus, (x - y)^2 with a minus
                for knot, bend in zip(knots, bends, strict=True):
                    for side in (1.0, -1.0):  # relu(|z| - t) = relu(z - t) + relu(-z - t)
                        first.weight[unit, j] = side / 2**0.5  # z = (x ± y) / sqrt 2 is normal
                        first.weight[unit, dim + j] = side * sign / 2**0.5
                        first.bias[unit] = -knot
                        second.weight[0, unit] = sign * bend / 2 / dim**0.5
                        unit += 1
    return network


def representable(dim: int, width: int) -> float:
    """The lowest share missed by the networks of `by_hand` with at most `width` hidden units."""
    shares = [1.0]
    for folds in range(1, 9):
        pairs = min(dim, width // (4 * folds))
        shares.append(1 - pairs / dim * (1 - folded_parabola(folds)[2]))
    return min(shares)
