"""Interactions beyond pairs: the cross network of DCN-v2, and a third order by power sums.

Both read the n vectors of a row. The cross network takes them end to end as one x_0 of n * D
numbers and multiplies by x_0 once a layer, so that L layers reach order L + 1:

    x_{l+1} = x_0 * (W_l x_l + b_l) + x_l          (Wang et al. 2021, "DCN V2", equation 1)

The third order takes each coordinate d on its own and adds the products of all triples of vectors,
n (n - 1) (n - 2) / 6 of them, without ever forming one (Newton's identities; Blondel et al. 2016,
"Higher-Order Factorization Machines"):

    sum over i < j < k of x_id x_jd x_kd = (p_1^3 - 3 p_1 p_2 + 2 p_3) / 6,   p_m = sum_i x_id^m

The costs follow the conventions of `interactions.Cost`.
"""

import torch
from torch import Tensor, nn

from dlrm_mini.errors import UserError
from dlrm_mini.interactions import Cost


class CrossNetwork(nn.Module):
    """Layers that each multiply by the input once more, with the width unchanged.

    Weights start as Xavier's normal and biases at zero, as in TorchRec's DCN modules.

    Args:
        width: n * D, the numbers of a row.
        layers: L; the highest order is L + 1.
        rank: r, for W_l = U_l V_l^T of (width, r) each (equation 2); None: full matrices. The low
            rank has fewer weights where r < width / 2.

    Raises:
        UserError: a number below 1, or a rank above the width.

    Example:
        >>> CrossNetwork(12, layers=2, rank=3)(torch.rand(5, 12)).shape
        torch.Size([5, 12])
    """

    def __init__(self, width: int, layers: int, rank: int | None = None) -> None:
        super().__init__()
        _check_sizes(width, layers, rank)
        self.width, self.rank = width, rank
        self.layers = nn.ModuleList(_layer(width, rank) for _ in range(layers))

    def forward(self, x0: Tensor) -> Tensor:
        """The crossed rows, (B, width), from rows of (B, width).

        Raises:
            UserError: rows of another width.
        """
        if x0.ndim != 2 or x0.shape[1] != self.width:
            raise UserError(
                f"The cross network was given the shape {tuple(x0.shape)}; expected "
                f"(B, {self.width}). Put the vectors of a row end to end, or change width."
            )
        x = x0
        for layer in self.layers:
            x = torch.addcmul(x, x0, layer(x))  # x + x0 * (W x + b)
        return x

    def cost(self, batch_size: int = 1) -> Cost:
        """What a forward pass of B = `batch_size` rows costs; see `cross_cost`."""
        return cross_cost(self.width, len(self.layers), self.rank, batch_size)


def cross_cost(width: int, layers: int, rank: int | None = None, batch_size: int = 1) -> Cost:
    """The parameters, FLOP and bytes of a `CrossNetwork`, before it is built.

    A layer costs 2 FLOP for each of its weights, and 2 for each number of a row that is multiplied
    by x_0 and added. A layer's input and x_0 are both read; x_0 is x_l in the first.

    Args:
        width: n * D.
        layers: L.
        rank: r; None: full matrices.
        batch_size: B.

    Raises:
        UserError: as `CrossNetwork`.
    """
    _check_sizes(width, layers, rank)
    weights = width * width if rank is None else 2 * width * rank
    parameters = layers * (weights + width)
    flops = layers * (2 * weights + 2 * width)
    inner = 0 if rank is None else 2 * layers * rank  # V^T x, written and read
    rows = (3 * layers - 1) * width + inner
    return Cost(parameters, batch_size * flops, 4 * (parameters + batch_size * rows))


def third_order(x: Tensor) -> Tensor:
    """The products of all triples of vectors, coordinate by coordinate, in O(n D).

    Args:
        x: (B, n, D), the vectors that interact; with n < 3 there is no triple, and all is 0.

    Returns:
        (B, D), for each d the sum over i < j < k of x_id x_jd x_kd: a vector for a top MLP to read.

    Raises:
        UserError: x has not three dimensions.
    """
    if x.ndim != 3:
        raise UserError(f"The vectors have the shape {tuple(x.shape)}; expected (B, n, D).")
    squares = x.square()
    p1, p2, p3 = x.sum(1), squares.sum(1), (squares * x).sum(1)  # (B, D) each
    return (p1 * (p1.square() - 3 * p2) + 2 * p3) / 6


def third_order_sum(x: Tensor) -> Tensor:
    """The third-order term of a factorization machine whose three orders share their vectors.

    Args:
        x: (B, n, D), the vectors that interact.

    Returns:
        (B,), the sum over i < j < k of sum_d x_id x_jd x_kd.

    Raises:
        UserError: as `third_order`.
    """
    return third_order(x).sum(1)


def third_order_cost(n: int, dim: int, batch_size: int = 1) -> Cost:
    """What `third_order` costs: for each coordinate 2 n products, 3 (n - 1) sums and 7 to finish.

    Args:
        n: vectors that interact.
        dim: D, their width.
        batch_size: B.

    Raises:
        UserError: a number below 1.
    """
    _check_positive(n=n, dim=dim)
    return Cost(0, batch_size * dim * (5 * n + 4), 4 * batch_size * dim * (n + 1))


def _layer(width: int, rank: int | None) -> nn.Module:
    """One layer: W x + b."""
    outer = nn.Linear(rank or width, width)
    nn.init.zeros_(outer.bias)
    nn.init.xavier_normal_(outer.weight)
    if rank is None:
        return outer
    inner = nn.Linear(width, rank, bias=False)
    nn.init.xavier_normal_(inner.weight)
    return nn.Sequential(inner, outer)  # V^T, U


def _check_sizes(width: int, layers: int, rank: int | None) -> None:
    """Raise a UserError unless a cross network of these sizes can be built."""
    _check_positive(width=width, layers=layers, rank=1 if rank is None else rank)
    if rank is not None and rank > width:
        raise UserError(
            f"rank is {rank}, but the rows are {width} wide, and no matrix of theirs has a higher "
            f"rank: change rank to at most {width}, or to None for full matrices."
        )


def _check_positive(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise UserError(f"{name} is {size}; change it to at least 1.")
