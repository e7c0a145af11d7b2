"""Fully connected layers, and the model that lets them find the interactions by themselves.

`EmbeddingMLP` has the shape of neural collaborative filtering (He et al. 2017, "Neural
Collaborative Filtering"): the vectors of all features end to end, an MLP on top. With its dot
product path it is NeuMF, the same paper's union of the MLP and matrix factorization.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from dlrm_mini.datasets.batches import Batch, check_dense
from dlrm_mini.embeddings import EmbeddingTables
from dlrm_mini.errors import UserError
from dlrm_mini.models.factorization_machine import pairwise_fast

INIT_STD = 0.03  # of the vectors' first entries, as in the other models


def fully_connected(
    sizes: Sequence[int], *, last: Literal["relu", "none"], dropout: float = 0.0
) -> nn.Sequential:
    """Linear layers with a ReLU after each; `last` says whether also after the last.

    The start is the public DLRM's (facebookresearch/dlrm, `create_mlp`): weights normal with
    variance 2 / (inputs + outputs), biases normal with variance 1 / outputs. Without dropout, the
    names of the weights (0.weight, 0.bias, 2.weight, ...) are that implementation's as well.

    Args:
        sizes: the width of the input, then of each layer: k + 1 numbers for k layers.
        last: "relu" or "none", what follows the last layer.
        dropout: share of the hidden units that training leaves out, after each ReLU but the last
            layer's.

    Raises:
        UserError: no layer, a width below 1, another `last`, or dropout outside 0..1.

    Example:
        >>> fully_connected([13, 64, 16], last="relu")(torch.rand(5, 13)).shape
        torch.Size([5, 16])
    """
    if len(sizes) < 2 or min(sizes) < 1:
        raise UserError(
            f"The widths of a fully connected network are {tuple(sizes)}; expected the input's and "
            "at least one layer's, each at least 1."
        )
    if last not in ("relu", "none"):
        raise UserError(f"last is {last!r}; change it to 'relu' or 'none'.")
    if not 0 <= dropout < 1:
        raise UserError(f"dropout is {dropout}; change it to at least 0 and less than 1.")
    layers: list[nn.Module] = []
    for place, (n_in, n_out) in enumerate(pairwise(sizes), start=2):
        layer = nn.Linear(n_in, n_out)
        nn.init.normal_(layer.weight, std=(2 / (n_in + n_out)) ** 0.5)
        nn.init.normal_(layer.bias, std=(1 / n_out) ** 0.5)
        layers.append(layer)
        hidden = place < len(sizes)
        if hidden or last == "relu":
            layers.append(nn.ReLU(inplace=True))  # a linear layer does not need its output
        if hidden and dropout:
            layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers)


class EmbeddingMLP(nn.Module):
    """The vectors of all features and the dense columns, end to end, into an MLP.

    Args:
        cardinalities: feature -> rows of its table.
        dim: D, the length of a vector.
        hidden: the widths of the hidden layers; none makes the model linear in its vectors.
        n_dense: dense columns of a batch.
        dot_path: whether to add the sum of all pairs' dot products, of a second set of vectors.
        dropout: share of the hidden units that training leaves out.
        bias: where the output's bias starts, for example the mean rating.

    Raises:
        UserError: a size below 1, or dropout outside 0..1.

    Example:
        >>> model = EmbeddingMLP({"user": 943, "item": 1682}, 16, hidden=[32, 16], dot_path=True)
        >>> model.mlp[0].in_features
        32
    """

    def __init__(
        self,
        cardinalities: Mapping[str, int],
        dim: int,
        hidden: Sequence[int],
        *,
        n_dense: int = 0,
        dot_path: bool = False,
        dropout: float = 0.0,
        bias: float = 0.0,
    ) -> None:
        super().__init__()
        if n_dense < 0:
            raise UserError(f"n_dense is {n_dense}; change it to 0 or more.")
        self.n_dense = n_dense
        self.tables = EmbeddingTables(cardinalities, dim, init_std=INIT_STD)
        sizes = [len(cardinalities) * dim + n_dense, *hidden, 1]
        self.mlp = fully_connected(sizes, last="none", dropout=dropout)
        nn.init.constant_(self.output.bias, bias)
        self.dot_tables = (
            EmbeddingTables(cardinalities, dim, init_std=INIT_STD) if dot_path else None
        )

    @property
    def output(self) -> nn.Linear:
        """The last layer."""
        layer = self.mlp[-1]
        assert isinstance(layer, nn.Linear)
        return layer

    def forward(self, batch: Batch) -> Tensor:
        """The logits or ratings (B,) of a batch.

        Raises:
            UserError: a missing feature, an id without a row, or dense columns that are too many,
                too few or not finite.
        """
        if self.tables.check:
            check_dense(batch.dense, self.n_dense)
        vectors = self.tables(batch.sparse)  # (B, F, D)
        dense = batch.dense.to(vectors.dtype)  # (B, n_dense)
        out: Tensor = self.mlp(torch.cat([dense, vectors.flatten(1)], dim=1)).squeeze(1)  # (B,)
        if self.dot_tables is not None:
            out = out + pairwise_fast(self.dot_tables(batch.sparse))
        return out
