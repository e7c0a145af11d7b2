"""DLRM: dense features through a bottom MLP, ids through tables, dot products, a top MLP.

Naumov et al. 2019, "Deep Learning Recommendation Model for Personalization and Recommendation
Systems". Layers, orders and starting values are those of its public implementation
(facebookresearch/dlrm), so that weights trained there can be copied in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from dlrm_mini.datasets.batches import Batch, SparseFeatures, check_dense
from dlrm_mini.embeddings import EmbeddingTables, FusedEmbeddingTables
from dlrm_mini.errors import UserError
from dlrm_mini.interactions import cat_interaction, dot_interaction, fused_dot_interaction, gram
from dlrm_mini.models.dlrm_config import DLRMConfig
from dlrm_mini.models.dlrm_description import describe, live_shapes
from dlrm_mini.models.mlp import fully_connected

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class DLRM(nn.Module):
    """The deep learning recommendation model.

    Args:
        config: the sizes.
        check: whether `forward` looks for ids without a row and for dense features that are not
            finite; later, `model.tables.check` switches both.
        sparse_gradient: whether the tables get gradients of the rows touched only.
        tables: a module with the interface of `EmbeddingTables` to take its place: fused tables, or
            smaller ones. The other two arguments are then its own.

    Raises:
        UserError: `tables` of other features, another width or another pooling than the config's.

    Example:
        >>> model = DLRM(DLRMConfig(4, {"user": 9, "item": 7}, dim=8, bottom=(8,), top=(16, 1)))
        >>> model(random_batch(model.config, 5)).shape
        torch.Size([5])
    """

    def __init__(
        self,
        config: DLRMConfig,
        *,
        check: bool = True,
        sparse_gradient: bool = False,
        tables: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.bottom = fully_connected(config.bottom_sizes, last="relu")
        self.tables: Any = tables or EmbeddingTables(
            config.cardinalities,
            config.dim,
            pooling=config.pooling,
            init_std=None,  # uniform in ±1/sqrt(rows)
            check=check,
            sparse_gradient=sparse_gradient,
        )
        _check_tables(self.tables, config)
        self.top = fully_connected(config.top_sizes, last="none", dropout=config.dropout)
        # What takes the place of `dense_part` while it is set: see `dlrm_mini.dense_part`.
        self.faster: Callable[[Tensor, Tensor], Tensor] | None = None

    @property
    def vector_names(self) -> tuple[str, ...]:
        """The n vectors that interact, in order."""
        return ("dense", *self.tables.names)

    def interact(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The vectors that interact: the dense one (B, D), and those of the tables (B, F, D).

        Raises:
            UserError: a missing feature, an id without a row, or dense columns that are too many,
                too few or not finite.
        """
        vectors = self._look_up(batch)
        dense = self.bottom(batch.dense.to(vectors.dtype))  # (B, n_dense) -> (B, D)
        return dense, vectors

    def _look_up(self, batch: Batch) -> Tensor:
        """The vectors of the tables (B, F, D), after a look at the dense features."""
        if self.tables.check:
            check_dense(batch.dense, self.config.n_dense)
        vectors: Tensor = self.tables(batch.sparse)
        return vectors

    def forward(self, batch: Batch) -> Tensor:
        """The logits (B,) of a batch.

        Raises:
            UserError: as `interact`.
        """
        return (self.faster or self.dense_part)(batch.dense, self._look_up(batch))

    def dense_part(self, dense: Tensor, vectors: Tensor) -> Tensor:
        """All but the tables: bottom MLP, interaction and top MLP.

        Args:
            dense: (B, n_dense), the dense features.
            vectors: (B, F, D), what the tables gave.

        Returns:
            The logits (B,).
        """
        dense = self.bottom(dense.to(vectors.dtype))  # (B, n_dense) -> (B, D)
        vectors = vectors.to(dense.dtype)  # which under autocast is that of the products
        if self.config.interaction == "dot":
            # Who asks for fused tables asks for speed; a compiler makes a kernel of its own.
            fused = isinstance(self.tables, FusedEmbeddingTables)
            fused = fused or getattr(self.tables, "fused", False)  # those of `parallel`
            fused = fused and not torch.compiler.is_compiling()
            dot = fused_dot_interaction if fused else dot_interaction
            own = self.config.self_interaction
            together = dot(dense, vectors, self_interaction=own)  # (B, D + pairs)
        else:
            together = cat_interaction(dense, vectors)  # (B, n * D)
        logits: Tensor = self.top(together).squeeze(1)  # (B, 1) -> (B,)
        return logits

    def interaction_matrix(self, batch: Batch) -> Tensor:
        """The dot product of every two of the n vectors, (B, n, n), in order of `vector_names`.

        Raises:
            UserError: as `interact`.
        """
        return gram(*self.interact(batch))

    def describe(self, batch_size: int = 2048) -> str:
        """The architecture as a table, with the shapes that a forward pass really had.

        Args:
            batch_size: rows of the random batch that goes through.
        """
        device = next(self.parameters()).device
        batch = random_batch(self.config, batch_size).to(device)
        return describe(self.config, live_shapes(self, batch))

    def draw(self) -> Figure:
        """The architecture as a block diagram."""
        from dlrm_mini.models import dlrm_drawing  # matplotlib need not be there to train

        return dlrm_drawing.draw(self.config)


def _check_tables(tables: Any, config: DLRMConfig) -> None:
    """Raise a UserError unless the tables are those that the config describes."""
    found, expected = (
        (list(of.cardinalities.items()), of.dim, of.pooling) for of in (tables, config)
    )
    if found != expected:
        raise UserError(
            f"The tables have the ids {dict(found[0])}, width {found[1]} and pooling '{found[2]}'; "
            f"the config describes {dict(expected[0])}, width {expected[1]} and pooling "
            f"'{expected[2]}', in this order. Make both from one config."
        )


def random_batch(config: DLRMConfig, batch_size: int, seed: int = 0) -> Batch:
    """Rows of the shape that `config` wants: uniform dense features, ids and labels.

    Args:
        config: the sizes; each bag holds `lookups` ids.
        batch_size: B.
        seed: which rows.
    """
    generator = torch.Generator().manual_seed(seed)
    columns = {}
    for name, ids in config.lookups_by_table.items():
        values = torch.randint(config.cardinalities[name], (batch_size * ids,), generator=generator)
        columns[name] = values, torch.arange(batch_size + 1) * ids
    dense = torch.rand(batch_size, config.n_dense, generator=generator)
    labels = torch.randint(2, (batch_size,), generator=generator).float()
    return Batch(dense, SparseFeatures.from_columns(columns), labels)
