"""Matrix factorization: a rating is a mean, two biases and the dot product of two vectors.

The model of Koren, Bell and Volinsky 2009, "Matrix Factorization Techniques for Recommender
Systems", equations (4) and (5).
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dlrm_mini.datasets.batches import Batch
from dlrm_mini.embeddings import check_ids


class Rows(NamedTuple):
    """What was looked up for B examples."""

    user_bias: Tensor  # (B,)
    item_bias: Tensor  # (B,)
    user_vector: Tensor  # (B, D)
    item_vector: Tensor  # (B, D)


class MatrixFactorization(nn.Module):
    """r = mean + b_user + b_item + <p_user, q_item>.

    The vectors start small, since two zero vectors would have zero gradients and never move. The
    biases start at zero.

    Args:
        n_users: rows of the user's tables.
        n_items: rows of the item's tables.
        dim: D, the length of a vector, also called the rank.
        global_mean: the mean rating of the training rows; it is not trained.
        init_std: standard deviation of the first vectors' entries.

    Example:
        >>> model = MatrixFactorization(943, 1682, dim=8, global_mean=3.5)
        >>> model.score(torch.tensor([0, 0]), torch.tensor([5, 6])).shape
        torch.Size([2])
    """

    global_mean: Tensor

    def __init__(
        self, n_users: int, n_items: int, dim: int, global_mean: float, *, init_std: float = 0.03
    ) -> None:
        super().__init__()
        self.register_buffer("global_mean", torch.tensor(float(global_mean)))
        self.user_bias = nn.Embedding(n_users, 1)
        self.item_bias = nn.Embedding(n_items, 1)
        self.user_vectors = nn.Embedding(n_users, dim)
        self.item_vectors = nn.Embedding(n_items, dim)
        for bias in (self.user_bias, self.item_bias):
            nn.init.zeros_(bias.weight)
        for vectors in (self.user_vectors, self.item_vectors):
            nn.init.normal_(vectors.weight, std=init_std)

    def look_up(self, user: Tensor, item: Tensor) -> Rows:
        """The four rows of each example.

        Args:
            user: (B,) int64.
            item: (B,) int64.

        Raises:
            UserError: an id has no row.
        """
        check_ids("user", user, self.user_bias.num_embeddings)
        check_ids("item", item, self.item_bias.num_embeddings)
        return Rows(
            self.user_bias(user).squeeze(1),
            self.item_bias(item).squeeze(1),
            self.user_vectors(user),
            self.item_vectors(item),
        )

    def combine(self, rows: Rows) -> Tensor:
        """The ratings (B,) that the looked-up rows give."""
        interaction = (rows.user_vector * rows.item_vector).sum(1)  # (B, D) -> (B,)
        return self.global_mean + rows.user_bias + rows.item_bias + interaction

    def score(self, user: Tensor, item: Tensor) -> Tensor:
        """The ratings (B,) of pairs of ids, each (B,) int64; not clipped to the scale.

        Raises:
            UserError: an id has no row.
        """
        return self.combine(self.look_up(user, item))

    def forward(self, batch: Batch) -> Tensor:
        """The ratings (B,) of a batch with the one-hot sparse features "user" and "item"."""
        return self.score(batch.sparse.ids("user"), batch.sparse.ids("item"))


def regularised_squared_error(l2: float, l2_bias: float) -> Callable[[nn.Module, Batch], Tensor]:
    """The objective: squared error plus the squared length of the rows that each example touched.

    mean over the batch of (r - label)^2 + l2 (|p|^2 + |q|^2) + l2_bias (b_user^2 + b_item^2).
    The penalty is paid per example (Koren et al. 2009, equation 5), so a row's total penalty grows
    with its count and its strength relative to the data does not.

    Args:
        l2: weight of the vectors' squared lengths.
        l2_bias: weight of the biases' squares.
    """

    def objective(model: nn.Module, batch: Batch) -> Tensor:
        assert isinstance(model, MatrixFactorization)
        rows = model.look_up(batch.sparse.ids("user"), batch.sparse.ids("item"))
        error = model.combine(rows) - batch.labels  # (B,)
        vectors = rows.user_vector.square().sum(1) + rows.item_vector.square().sum(1)  # (B,)
        biases = rows.user_bias.square() + rows.item_bias.square()  # (B,)
        return (error.square() + l2 * vectors + l2_bias * biases).mean()

    return objective
