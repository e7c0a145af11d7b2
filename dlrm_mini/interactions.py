"""How vectors meet: all pairs by dot product, or side by side.

The order of pairs and of concatenation is that of the paper's own implementation
(`interact_features` in facebookresearch/dlrm), so that a top MLP trained there can be copied in.
TorchRec's DLRM has the same pairs in another order: it reads the upper triangle row by row. Chapter
05 draws ours (`dlrm_mini.pictures.dlrm.pair_order`).

Vector 0 is the dense one, vectors 1..F are the tables'. The dot interaction reads the strictly
lower triangle of their Gram matrix row by row, behind the dense vector itself:

    dense, <1,0>, <2,0>, <2,1>, <3,0>, <3,1>, <3,2>, ...

`dlrm_mini.crossing` has two interactions that go beyond pairs.
"""

import functools
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from dlrm_mini import kernels
from dlrm_mini.errors import UserError

Interaction = Literal["dot", "cat"]


class Cost(NamedTuple):
    """What an interaction costs, counted and not measured.

    The conventions are those of `dlrm_mini.models.dlrm_config`: a multiply-add is 2 FLOP; biases
    and copies are none. The backward pass is not in it.
    """

    parameters: int
    """Numbers that are trained."""
    flops: int
    """Of a forward pass."""
    bytes: int
    """Of a forward pass in float32: each step reads its input and weights once and writes its
    output once."""


def pair_indices(n: int, self_interaction: bool = False) -> tuple[Tensor, Tensor]:
    """The rows and columns of the pairs among n vectors, in order, (n_pairs,) int64 each.

    Args:
        n: how many vectors interact.
        self_interaction: whether a vector meets itself as well (the diagonal).
    """
    rows, columns = torch.tril_indices(n, n, offset=0 if self_interaction else -1)
    return rows, columns


def pair_names(names: Sequence[str], self_interaction: bool = False) -> list[tuple[str, str]]:
    """The names of the pairs among named vectors, in the order of `pair_indices`."""
    rows, columns = pair_indices(len(names), self_interaction)
    pairs = zip(rows.tolist(), columns.tolist(), strict=True)
    return [(names[row], names[column]) for row, column in pairs]


def output_width(kind: Interaction, n: int, dim: int, self_interaction: bool = False) -> int:
    """How many numbers a row is after the interaction: the input of the top MLP.

    Args:
        kind: "dot" or "cat".
        n: vectors that interact, the dense one included.
        dim: D, their width.
        self_interaction: whether the diagonal counts; "cat" has none.

    Raises:
        UserError: there is no such interaction.
    """
    if kind not in get_args(Interaction):
        raise UserError(f"The interaction is {kind!r}; expected 'dot' or 'cat'.")
    if kind == "cat":
        return n * dim
    return dim + n * (n + 1 if self_interaction else n - 1) // 2


def interaction_cost(
    kind: Interaction, n: int, dim: int, batch_size: int = 1, *, self_interaction: bool = False
) -> Cost:
    """What `dot_interaction` or `cat_interaction` costs; of the products, those that are kept.

    Args:
        kind: "dot" or "cat".
        n: vectors that interact, the dense one included.
        dim: D, their width.
        batch_size: B.
        self_interaction: whether the diagonal counts; "cat" has none.

    Raises:
        UserError: there is no such interaction.
    """
    width = output_width(kind, n, dim, self_interaction)
    products = width - dim if kind == "dot" else 0
    return Cost(0, batch_size * 2 * products * dim, 4 * batch_size * (n * dim + width))


def gram(dense: Tensor, vectors: Tensor) -> Tensor:
    """The dot products of all vectors of a row with each other, (B, n, n), dense vector first."""
    together = _together(dense, vectors)  # (B, n, D)
    return together @ together.transpose(1, 2)


def dot_interaction(dense: Tensor, vectors: Tensor, *, self_interaction: bool = False) -> Tensor:
    """The dense vector and, behind it, the dot product of each pair (Naumov et al. 2019, 2.1.4).

    Args:
        dense: (B, D), what the bottom MLP made of the dense features.
        vectors: (B, F, D), the pooled embeddings.
        self_interaction: whether each vector's squared length is among the products.

    Returns:
        (B, D + n (n - 1) / 2) with n = F + 1, or (B, D + n (n + 1) / 2) with self-interaction.

    Raises:
        UserError: the two differ in batch size or width.
    """
    pairs = dot_products(_together(dense, vectors), self_interaction=self_interaction)
    return torch.cat([dense, pairs], dim=1)


def fused_dot_interaction(
    dense: Tensor, vectors: Tensor, *, self_interaction: bool = False
) -> Tensor:
    """What `dot_interaction` gives, in float32 and in one pass over memory (`kernels.pairs`).

    Only on a CPU with numba, and in float32; for other devices, and in float64, it is
    `dot_interaction`. Args, result and errors are the same.
    """
    double = torch.float64 in (dense.dtype, vectors.dtype)
    if vectors.device.type != "cpu" or double or not kernels.has("numba"):
        return dot_interaction(dense, vectors, self_interaction=self_interaction)
    _check_shapes(dense, vectors)
    products: Tensor = _Pairs.apply(dense.float(), vectors.float(), self_interaction)  # type: ignore[no-untyped-call]
    return products


class _Pairs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, dense: Tensor, vectors: Tensor, self_interaction: bool) -> Tensor:
        from dlrm_mini.kernels import pairs  # numba takes half a second, and most need it not

        ctx.save_for_backward(dense, vectors)
        ctx.self_interaction = self_interaction
        return pairs.forward(dense, vectors, self_interaction)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        from dlrm_mini.kernels import pairs

        dense, vectors = ctx.saved_tensors
        return *pairs.backward(dense, vectors, ctx.self_interaction, gradient), None


def dot_products(x: Tensor, *, self_interaction: bool = False) -> Tensor:
    """The dot product of each pair alone, (B, n_pairs), in the order of `pair_indices`.

    Args:
        x: (B, n, D), the vectors that interact.
        self_interaction: whether each vector's squared length is among the products.
    """
    places = _places if torch.compiler.is_compiling() else _kept_places
    products = x @ x.transpose(1, 2)  # (B, n, n)
    return products.flatten(1).index_select(1, places(x.shape[1], self_interaction, x.device))


def _places(n: int, self_interaction: bool, device: torch.device) -> Tensor:
    """Where the pairs are in the flattened matrix (n, n), (n_pairs,) int64.

    One index: its gradient is far cheaper than that of two.
    """
    offset = 0 if self_interaction else -1
    rows, columns = torch.tril_indices(n, n, offset=offset, device=device)
    places: Tensor = rows * n + columns
    return places


@functools.cache
def _kept_places(n: int, self_interaction: bool, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # else no later step could use it in backward
        return _places(n, self_interaction, device)


def cat_interaction(dense: Tensor, vectors: Tensor) -> Tensor:
    """All vectors side by side, dense first, (B, n * D): no products, the top MLP may find them.

    Raises:
        UserError: the two differ in batch size or width.
    """
    return _together(dense, vectors).flatten(1)


def _together(dense: Tensor, vectors: Tensor) -> Tensor:
    """All n = F + 1 vectors of each row, (B, n, D)."""
    _check_shapes(dense, vectors)
    return torch.cat([dense[:, None], vectors], dim=1)


def _check_shapes(dense: Tensor, vectors: Tensor) -> None:
    if dense.ndim != 2 or vectors.ndim != 3 or dense.shape != vectors[:, 0].shape:
        raise UserError(
            f"The dense vectors have the shape {tuple(dense.shape)} and the embeddings "
            f"{tuple(vectors.shape)}; expected (B, D) and (B, F, D) with the same B and D. The "
            "bottom MLP must end at the embedding dimension."
        )
