"""What embedding tables have in common, however the vector of an id is made.

`EmbeddingTables` keeps a row of D numbers for each id. The tables of `smaller_tables` and of
`quantization` keep less, and differ in one thing only: how the vector of an id is made from what
is kept (`vectors`). Everything else is here, and does what `EmbeddingTables` does.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TypedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from dlrm_mini.datasets.sparse import Bag, SparseFeatures
from dlrm_mini.table_checks import Pooling, check_features, check_sizes


class Options(TypedDict, total=False):
    """What all of these tables take besides their sizes; the same as in `EmbeddingTables`."""

    pooling: Pooling
    init_std: float | None
    check: bool
    sparse_gradient: bool


class LookupTables(nn.Module, ABC):
    """Tables with the interface of `EmbeddingTables`, which say how a vector is made.

    Args:
        cardinalities: feature -> N_t, its ids; the order is that of the vectors in `forward`.
        dim: D, the width of a vector.
        pooling: how the vectors of a bag become one, "sum" or "mean".
        init_std: standard deviation of the first entries of the vectors. None: that of a plain
            table, uniform in ±1/sqrt(N_t), with the number of ids and not of rows.
        check: whether `forward` looks for ids that are not in 0..N_t - 1.
        sparse_gradient: whether the tables get gradients of the rows touched only.

    Raises:
        UserError: as `EmbeddingTables`.
    """

    def __init__(
        self,
        cardinalities: Mapping[str, int],
        dim: int,
        *,
        pooling: Pooling = "sum",
        init_std: float | None = None,
        check: bool = True,
        sparse_gradient: bool = False,
    ) -> None:
        super().__init__()
        check_sizes(cardinalities, dim, pooling)
        self.cardinalities, self.dim = dict(cardinalities), dim
        self.pooling, self.init_std = pooling, init_std
        self.check, self.sparse_gradient = check, sparse_gradient

    @property
    def names(self) -> tuple[str, ...]:
        """The F features, in the order of the vectors."""
        return tuple(self.cardinalities)

    @property
    def n_bytes(self) -> int:
        """Bytes of all that is kept: four for each number in float32."""
        return sum(p.numel() * p.element_size() for p in self.parameters())

    @abstractmethod
    def vectors(self, name: str, ids: Tensor) -> Tensor:
        """The vectors (V, D) of a feature's ids, (V,) int64 in 0..N_t - 1, which are not checked.

        All ids in order give the plain table (N_t, D) that this module stands for.
        """

    def forward(self, sparse: SparseFeatures) -> Tensor:
        """The pooled vectors (B, F, D) of a batch, in the order of `names`.

        Raises:
            UserError: a feature is missing, or an id is not in 0..N_t - 1.
        """
        if self.check:
            check_features(sparse, self.cardinalities)
        pooled = []
        for name in self.names:
            bag, one_hot = sparse.bag(name), sparse.one_hot[sparse.index(name)]
            pooled.append(_pool(self.vectors(name, bag.ids), bag, one_hot, self.pooling))
        return torch.stack(pooled, dim=1)  # F times (B, D) -> (B, F, D)

    def _rows(self, table: Tensor, places: Tensor) -> Tensor:
        return F.embedding(places, table, sparse=self.sparse_gradient)

    def _plain_std(self, n_ids: int) -> float:
        """Standard deviation of the first entries of a plain table with this many rows."""
        return (3 * n_ids) ** -0.5 if self.init_std is None else self.init_std

    def _table(self, n_rows: int, width: int, std: float) -> nn.Parameter:
        """A table (n_rows, width) whose first entries have this standard deviation."""
        table = torch.empty(n_rows, width)
        if self.init_std is not None:
            return nn.Parameter(nn.init.normal_(table, std=std))
        half = 3**0.5 * std
        return nn.Parameter(nn.init.uniform_(table, -half, half))


def _pool(vectors: Tensor, bag: Bag, one_hot: bool, pooling: Pooling) -> Tensor:
    """One vector a row, (V, D) -> (B, D), from the vectors of a bag's ids."""
    if bag.weights is not None:
        vectors = vectors * bag.weights.to(vectors)[:, None]
    if one_hot:
        return vectors
    places = torch.arange(len(vectors), device=vectors.device)
    return F.embedding_bag(places, vectors, bag.offsets, mode=pooling, include_last_offset=True)
