"""What can be predicted without any interaction: a constant, popularity, and biases.

All three are r = mean + b_user + b_item; they differ in which biases are zero and how the others
are fitted. No gradient is needed: a bias has a closed form once the others are known.
"""

import torch
from torch import Tensor, nn

from dlrm_mini.datasets.batches import Batch
from dlrm_mini.embeddings import check_ids


class Biases(nn.Module):
    """r = mean + b_user + b_item, with nothing left to train.

    Args:
        mean: the mean rating of the training rows.
        user_bias: (n_users,) float.
        item_bias: (n_items,) float.
    """

    mean: Tensor
    user_bias: Tensor
    item_bias: Tensor

    def __init__(self, mean: float, user_bias: Tensor, item_bias: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(float(mean)))
        self.register_buffer("user_bias", user_bias)
        self.register_buffer("item_bias", item_bias)

    def forward(self, batch: Batch) -> Tensor:
        """The ratings (B,) of a batch with the one-hot sparse features "user" and "item".

        Raises:
            UserError: an id has no bias.
        """
        user, item = batch.sparse.ids("user"), batch.sparse.ids("item")
        check_ids("user", user, len(self.user_bias))
        check_ids("item", item, len(self.item_bias))
        return self.mean + self.user_bias[user] + self.item_bias[item]


def fit_constant(train: Batch, n_users: int, n_items: int) -> Biases:
    """The mean rating for everyone and everything: the rung that every model has to beat."""
    return Biases(_mean(train), torch.zeros(n_users), torch.zeros(n_items))


def fit_popularity(train: Batch, n_users: int, n_items: int, *, shrink: float) -> Biases:
    """Each item's mean rating, drawn towards the global mean when few have rated it.

    Args:
        train: the training rows.
        n_users: users in the data set.
        n_items: items in the data set; one without a rating gets the global mean.
        shrink: how many ratings at the global mean every item is given beforehand.
    """
    mean = _mean(train)
    item_bias = _shrunken_mean(train.labels - mean, train.sparse.ids("item"), n_items, shrink)
    return Biases(mean, torch.zeros(n_users), item_bias)


def fit_biases(
    train: Batch,
    n_users: int,
    n_items: int,
    *,
    shrink_user: float,
    shrink_item: float,
    sweeps: int = 15,
) -> Biases:
    """User and item biases that minimise the regularised squared error, fitted by turns.

    sum of (r - mean - b_user - b_item)^2 + shrink_user * sum b_user^2 + shrink_item * sum b_item^2
    is quadratic in the biases of one side when the other's are held still, with the shrunken mean
    of the residuals as its minimum: alternating least squares.

    Args:
        train: the training rows.
        n_users: users in the data set.
        n_items: items in the data set.
        shrink_user: L2 of a user's bias, in ratings.
        shrink_item: L2 of an item's bias, in ratings.
        sweeps: how often both sides are fitted.
    """
    user, item = train.sparse.ids("user"), train.sparse.ids("item")
    mean = _mean(train)
    residual = train.labels - mean  # (N,)
    user_bias, item_bias = torch.zeros(n_users), torch.zeros(n_items)
    for _ in range(sweeps):
        item_bias = _shrunken_mean(residual - user_bias[user], item, n_items, shrink_item)
        user_bias = _shrunken_mean(residual - item_bias[item], user, n_users, shrink_user)
    return Biases(mean, user_bias, item_bias)


def _mean(train: Batch) -> float:
    """The mean label, summed in float64."""
    return float(train.labels.double().mean())


def _shrunken_mean(values: Tensor, ids: Tensor, n_rows: int, shrink: float) -> Tensor:
    """For each id, the sum of its values (N,) over its count plus `shrink`, (n_rows,) float32."""
    sums = torch.bincount(ids, weights=values.double(), minlength=n_rows)
    counts = torch.bincount(ids, minlength=n_rows)
    return (sums / (counts + shrink).clamp(min=1e-12)).float()
