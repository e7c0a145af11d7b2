"""Factorization machines: any feature interacts with any other, through their vectors.

Rendle 2010, "Factorization Machines", equation (1): with x_j the value of feature j,

    y = w_0 + sum_j w_j x_j + sum_{i < j} <v_i, v_j> x_i x_j

A *feature* here is one id of one table or one dense column; a *field* is a table or a dense column
as a whole. A row has one id in most fields, several in a bag, and its weight or value is x_j.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from dlrm_mini.datasets.batches import Batch, check_dense
from dlrm_mini.embeddings import EmbeddingTables
from dlrm_mini.models.matrix_factorization import MatrixFactorization


def pairwise_naive(x: Tensor) -> Tensor:
    """The dot products of all pairs, summed: n (n - 1) / 2 products of D, O(n^2 D).

    Args:
        x: (B, n, D), n vectors a row, each already times its value.

    Returns:
        (B,), the sum over i < j of <x_i, x_j>.
    """
    total = x.new_zeros(len(x))
    for i in range(x.shape[1]):
        for j in range(i + 1, x.shape[1]):
            total = total + (x[:, i] * x[:, j]).sum(1)
    return total


def pairwise_fast(x: Tensor) -> Tensor:
    """The same sum in O(n D): half of the squared sum minus the sum of squares (Rendle 2010, 3.1).

    Args:
        x: (B, n, D), n vectors a row, each already times its value.

    Returns:
        (B,), the sum over i < j of <x_i, x_j>.
    """
    return 0.5 * (x.sum(1).square() - x.square().sum(1)).sum(1)


class Terms(NamedTuple):
    """What was looked up for B examples in n fields; a bag's entries are summed."""

    linear: Tensor  # (B, n): sum of w_j x_j
    linear_squares: Tensor  # (B, n): sum of (w_j x_j)^2
    vectors: Tensor  # (B, n, D): sum of v_j x_j
    squares: Tensor  # (B, n, D): sum of (v_j x_j)^2 by element


class Contributions(NamedTuple):
    """A prediction taken apart: bias + linear.sum(1) + pairs.triu().sum((1, 2)) is the whole."""

    bias: Tensor  # ()
    linear: Tensor  # (B, n)
    pairs: Tensor  # (B, n, n), symmetric; the diagonal is what the ids of one bag do to each other


class FactorizationMachine(nn.Module):
    """A second-order factorization machine over tables, bags and dense columns.

    It returns a rating or a logit, depending on what it is trained on.

    Args:
        cardinalities: feature -> rows of its table, as for `EmbeddingTables`.
        dim: D, the rank.
        n_dense: dense columns; each is a field with one weight and one vector.
        bias: first value of w_0, such as the mean rating or the log-odds of a click.
        init_std: standard deviation of the first vectors' entries; the linear weights start at 0.
        check: whether ids without a row and dense features that are not finite are looked for.

    Example:
        >>> model = FactorizationMachine({"user": 943, "item": 1682, "genres": 19}, 8, n_dense=1)
        >>> model.field_names
        ('user', 'item', 'genres', 'dense 0')
    """

    def __init__(
        self,
        cardinalities: dict[str, int],
        dim: int,
        *,
        n_dense: int = 0,
        bias: float = 0.0,
        init_std: float = 0.03,
        check: bool = True,
    ) -> None:
        super().__init__()
        self.n_dense = n_dense
        self.bias = nn.Parameter(torch.tensor(float(bias)))
        self.linear = EmbeddingTables(cardinalities, 1, init_std=0.0, check=False)
        self.vectors = EmbeddingTables(cardinalities, dim, init_std=init_std, check=check)
        self.dense_linear = nn.Parameter(torch.zeros(n_dense))
        self.dense_vectors = nn.Parameter(torch.randn(n_dense, dim) * init_std)

    @property
    def field_names(self) -> tuple[str, ...]:
        """The n fields, tables first."""
        return (*self.vectors.names, *(f"dense {column}" for column in range(self.n_dense)))

    def look_up(self, batch: Batch) -> Terms:
        """The rows of each example in every field, times their values.

        Raises:
            UserError: a feature is missing, an id has no row, or the dense columns are not n_dense
                or not finite.
        """
        if self.vectors.check:
            check_dense(batch.dense, self.n_dense)
        vectors = self.vectors(batch.sparse)  # (B, F, D); checks the ids, for the linear part too
        squares = _squares(self.vectors, batch, vectors)  # (B, F, D)
        linear = self.linear(batch.sparse)  # (B, F, 1)
        linear_squares = _squares(self.linear, batch, linear)
        if self.n_dense:
            dense = batch.dense[:, :, None] * self.dense_vectors  # (B, n_dense, D)
            vectors = torch.cat([vectors, dense], dim=1)
            squares = torch.cat([squares, dense.square()], dim=1)
            dense = (batch.dense * self.dense_linear)[:, :, None]  # (B, n_dense, 1)
            linear = torch.cat([linear, dense], dim=1)
            linear_squares = torch.cat([linear_squares, dense.square()], dim=1)
        return Terms(linear.squeeze(2), linear_squares.squeeze(2), vectors, squares)

    def combine(self, terms: Terms) -> Tensor:
        """The ratings or logits (B,) that the looked-up rows give, in O(n D)."""
        pairs = 0.5 * (terms.vectors.sum(1).square() - terms.squares.sum(1)).sum(1)  # (B,)
        return self.bias + terms.linear.sum(1) + pairs

    def forward(self, batch: Batch) -> Tensor:
        """The ratings or logits (B,) of a batch.

        Raises:
            UserError: as `look_up`.
        """
        return self.combine(self.look_up(batch))

    def contributions(self, batch: Batch) -> Contributions:
        """What every field and every pair of fields adds to each prediction.

        Raises:
            UserError: as `look_up`.
        """
        terms = self.look_up(batch)
        pairs = terms.vectors @ terms.vectors.transpose(1, 2)  # (B, n, n)
        within = 0.5 * (terms.vectors.square() - terms.squares).sum(2)  # (B, n)
        pairs = pairs - torch.diag_embed(pairs.diagonal(dim1=1, dim2=2) - within)
        return Contributions(self.bias, terms.linear, pairs)


def _squares(tables: EmbeddingTables, batch: Batch, pooled: Tensor) -> Tensor:
    """For each table, the sum of the squares of what was pooled, (B, F, D)."""
    names, sparse = tables.names, batch.sparse
    bags = [name for name in names if not sparse.one_hot[sparse.index(name)]]
    squares = pooled.square()  # right where there was one id
    if bags:
        columns = list(squares.unbind(1))
        for name, column in zip(bags, tables.squares(sparse, bags), strict=True):
            columns[names.index(name)] = column
        squares = torch.stack(columns, dim=1)
    return squares


def fm_from_mf(mf: MatrixFactorization) -> FactorizationMachine:
    """The factorization machine with one-hot user and item that is this matrix factorization.

    Its only pair is user and item: the weights are copied, and every prediction is the same.
    """
    users, items = mf.user_vectors, mf.item_vectors
    sizes = {"user": users.num_embeddings, "item": items.num_embeddings}
    fm = FactorizationMachine(sizes, users.embedding_dim).to(users.weight)
    with torch.no_grad():
        fm.bias.copy_(mf.global_mean)
        fm.linear.tables["user"].copy_(mf.user_bias.weight)
        fm.linear.tables["item"].copy_(mf.item_bias.weight)
        fm.vectors.tables["user"].copy_(users.weight)
        fm.vectors.tables["item"].copy_(items.weight)
    return fm


def regularised_loss(
    loss: Literal["squared", "logistic"], l2: float, l2_linear: float
) -> Callable[[nn.Module, Batch], Tensor]:
    """The objective: the loss plus the squared length of what each example touched.

    mean over the batch of loss + l2 * sum_j |v_j x_j|^2 + l2_linear * sum_j (w_j x_j)^2, paid per
    example as in `matrix_factorization.regularised_squared_error`.

    Args:
        loss: "squared" for ratings, "logistic" for clicks.
        l2: weight of the vectors' squared lengths.
        l2_linear: weight of the linear weights' squares.
    """

    def objective(model: nn.Module, batch: Batch) -> Tensor:
        assert isinstance(model, FactorizationMachine)
        terms = model.look_up(batch)
        prediction = model.combine(terms)  # (B,)
        if loss == "squared":
            fit = nn.functional.mse_loss(prediction, batch.labels)
        else:
            fit = nn.functional.binary_cross_entropy_with_logits(prediction, batch.labels)
        vectors, linear = terms.squares.sum((1, 2)), terms.linear_squares.sum(1)  # (B,)
        return fit + (l2 * vectors + l2_linear * linear).mean()

    return objective
