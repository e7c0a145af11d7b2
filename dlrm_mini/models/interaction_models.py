"""One model, six ways for the vectors to meet: what chapter 06 compares.

All kinds have the same first order: a weight for each id and each dense column, as in a
factorization machine. They differ in how the n vectors meet (the tables', and that of the bottom
MLP) and in whether a top MLP with hidden layers reads the result or one linear layer does:

    kind              what the top reads                                             width
    "linear"          nothing: there are no vectors, it is logistic regression       0
    "cat"             all vectors, end to end                                        n D
    "dot"             the dense vector and all dot products, as DLRM                 D + pairs
    "cross"           all vectors after `CrossNetwork`, as DCN-v2                    n D
    "cross_low_rank"  the same with matrices of low rank                             n D
    "third"           what "dot" reads, and the D sums over triples                  2 D + pairs

Without dense columns there is no bottom MLP, and "dot" and "third" read D numbers less. Of two
vectors there is no triple.
"""

import torch
from torch import Tensor, nn

from dlrm_mini.crossing import CrossNetwork, third_order
from dlrm_mini.datasets.batches import Batch, check_dense
from dlrm_mini.embeddings import EmbeddingTables
from dlrm_mini.interactions import dot_products
from dlrm_mini.models.interaction_config import InteractionConfig, Kind, matched
from dlrm_mini.models.mlp import fully_connected

__all__ = ["InteractionConfig", "InteractionModel", "Kind", "matched"]

# Larger than the other models' 0.03: of a product of three such numbers nothing would be left, and
# a third order that starts at nothing hardly learns.
INIT_STD = 0.1


class InteractionModel(nn.Module):
    """Tables, a bottom MLP, one of six interactions, a top; and a weight for each id beside them.

    The children `tables` and `linear` are named as in the other models, so that
    `ladders.plans.penalised` finds them.

    Args:
        config: the sizes.
        bias: where the logit starts, such as the log-odds of a click.
        init_std: standard deviation of the vectors' first entries; the linear weights start at 0.
        check: whether `forward` looks for ids without a row and for dense features that are not
            finite.
        sparse_gradient: whether the tables get gradients of the rows touched only.

    Example:
        >>> sizes = {"user": 943, "item": 1682}
        >>> model = InteractionModel(InteractionConfig("third", 5, sizes, dim=8))
        >>> model.top[0].in_features  # the dense vector, three pairs, the third order
        19
    """

    def __init__(
        self,
        config: InteractionConfig,
        *,
        bias: float = 0.0,
        init_std: float = INIT_STD,
        check: bool = True,
        sparse_gradient: bool = False,
    ) -> None:
        super().__init__()
        self.config, self.check = config, check
        self.bias = nn.Parameter(torch.tensor(float(bias)))
        self.linear_dense = nn.Parameter(torch.zeros(config.n_dense))
        sizes, sparse = config.cardinalities, sparse_gradient
        self.linear = EmbeddingTables(sizes, 1, init_std=0.0, check=check, sparse_gradient=sparse)
        if config.kind == "linear":
            return
        self.tables = EmbeddingTables(
            sizes, config.dim, init_std=init_std, check=False, sparse_gradient=sparse
        )
        if config.bottom_sizes:
            self.bottom = fully_connected(config.bottom_sizes, last="relu")
        if config.kind.startswith("cross"):
            width = config.n_vectors * config.dim
            self.cross = CrossNetwork(width, config.layers, config.cross_rank)
        self.top = fully_connected(config.top_sizes, last="none")
        output = self.top[-1]
        assert isinstance(output, nn.Linear)
        nn.init.zeros_(output.bias)  # the logit starts at `bias`

    def forward(self, batch: Batch) -> Tensor:
        """The logits (B,) of a batch.

        Raises:
            UserError: a missing feature, an id without a row, or dense columns that are too many,
                too few or not finite.
        """
        if self.check:
            check_dense(batch.dense, self.config.n_dense)
        of_ids = self.linear(batch.sparse).sum((1, 2))  # (B, F, 1) -> (B,)
        dense = batch.dense.to(of_ids.dtype)  # (B, n_dense)
        logits: Tensor = self.bias + of_ids + dense @ self.linear_dense
        if self.config.kind != "linear":
            logits = logits + self.top(self.interact(self.vectors(batch))).squeeze(1)
        return logits

    def vectors(self, batch: Batch) -> Tensor:
        """The vectors that meet, (B, n, D), the dense one first; unchecked."""
        vectors: Tensor = self.tables(batch.sparse)  # (B, F, D)
        if not self.config.n_dense:
            return vectors
        dense = self.bottom(batch.dense.to(vectors.dtype))  # (B, n_dense) -> (B, D)
        return torch.cat([dense[:, None], vectors], dim=1)

    def interact(self, x: Tensor) -> Tensor:
        """What the top reads, (B, top_input), of the vectors (B, n, D)."""
        kind = self.config.kind
        if kind == "cat":
            return x.flatten(1)
        if kind.startswith("cross"):
            crossed: Tensor = self.cross(x.flatten(1))
            return crossed
        parts = [x[:, 0]] if self.config.n_dense else []
        parts.append(dot_products(x))
        if kind == "third" and x.shape[1] > 2:
            parts.append(third_order(x))
        return torch.cat(parts, dim=1)
