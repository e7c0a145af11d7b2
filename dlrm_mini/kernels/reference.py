"""The fused embedding path in plain torch: what the other kernels are tested against.

It runs on every device and in every float type, and makes what the others avoid: one vector for
each lookup.
"""

import torch
from torch import Tensor

from dlrm_mini.kernels.rules import Lookups, Rule

CHECKS_IDS = False  # whether `forward` raises for an id without a row


def forward(table: Tensor, lookups: Lookups) -> Tensor:
    """The weighted sum of each bag's rows, (B, F, D); an empty bag gives zeros.

    Args:
        table: (N, D), all tables stacked.
        lookups: a batch's ids, each within its table.
    """
    rows, bags = _rows(lookups), _bags(lookups)
    vectors = table[rows]  # (V, D)
    if lookups.weights is not None:
        vectors = vectors * lookups.weights.to(table)[:, None]
    pooled = table.new_zeros(len(lookups.offsets) - 1, table.shape[1])  # (F * B, D)
    pooled.index_add_(0, bags, vectors)
    by_feature = pooled.view(lookups.n_features, lookups.batch_size, table.shape[1])
    return by_feature.transpose(0, 1).contiguous()


def update(
    table: Tensor,
    state: Tensor | None,
    lookups: Lookups,
    gradient: Tensor,
    rule: Rule,
    lr: float,
    eps: float,
) -> None:
    """Change the rows that were looked up, and their state, in place.

    Args:
        table: (N, D), all tables stacked.
        state: sums of squares: None for "sgd", (N, D) for "adagrad", (N,) for "rowwise_adagrad".
        lookups: the batch's ids.
        gradient: (B, F, D), of the loss with respect to what `forward` returned.
        rule: see `Rule`.
        lr: learning rate.
        eps: what is added to the root.
    """
    by_bag = gradient.transpose(0, 1).reshape(-1, table.shape[1])  # (F * B, D)
    vectors = by_bag[_bags(lookups)]  # (V, D)
    if lookups.weights is not None:
        vectors = vectors * lookups.weights.to(table)[:, None]
    rows, place = torch.unique(_rows(lookups), return_inverse=True)
    summed = table.new_zeros(len(rows), table.shape[1]).index_add_(0, place, vectors)
    if state is None:
        table[rows] -= lr * summed
    else:
        squares = summed.square() if rule == "adagrad" else summed.square().mean(1)
        state[rows] += squares
        root = state[rows].sqrt() + eps
        table[rows] -= lr * summed / (root if rule == "adagrad" else root[:, None])


def _bags(lookups: Lookups) -> Tensor:
    """The bag of each lookup, (V,)."""
    lengths = lookups.offsets.diff()
    return torch.arange(len(lengths), device=lengths.device).repeat_interleave(lengths)


def _rows(lookups: Lookups) -> Tensor:
    """The row of the stacked matrix of each lookup, (V,)."""
    if not len(lookups.ids):
        return lookups.ids
    return lookups.ids + lookups.first[_bags(lookups) // lookups.batch_size]
