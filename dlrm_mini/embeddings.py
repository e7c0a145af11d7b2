"""Embedding tables: what a DLRM keeps of each id, looked up and pooled for a whole batch.

A row may hold several ids of one feature (a *bag*): their vectors are pooled, by sum or by mean,
into one vector per feature and row. The convention is that of
`torch.nn.functional.embedding_bag`, and of EmbeddingBagCollection in TorchRec.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from dlrm_mini.datasets.sparse import Bag, SparseFeatures
from dlrm_mini.errors import UserError

Pooling = Literal["sum", "mean"]


def check_ids(feature: str, ids: Tensor, n_rows: int) -> None:
    """Raise a UserError unless every id has a row in the feature's table of `n_rows` rows."""
    if ids.numel() == 0:
        return
    low, high = (int(end) for end in ids.aminmax())
    if low < 0 or high >= n_rows:
        wrong = low if low < 0 else high
        raise UserError(
            f"Feature '{feature}' has the id {wrong}, but its embedding table has {n_rows} rows; "
            f"expected ids in 0..{n_rows - 1}. Train with a table that has a row for this id, or "
            "leave the example out."
        )


def check_features(sparse: SparseFeatures, cardinalities: Mapping[str, int]) -> None:
    """Raise a UserError unless every feature is there and every id of it has a row.

    The smallest and the largest id of each feature are all that is read back, once for the whole
    batch, so that a GPU is not waited for feature by feature.

    Args:
        sparse: the features of a batch; those that are not in `cardinalities` are not looked at.
        cardinalities: feature -> rows of its table.
    """
    places = {name: sparse.index(name) for name in cardinalities}
    if not sparse.batch_size:
        return
    starts = sparse.offsets[:: sparse.batch_size].tolist()  # of each feature's ids, V at the end
    ids = {name: sparse.values[starts[f] : starts[f + 1]] for name, f in places.items()}
    ids = {name: mine for name, mine in ids.items() if len(mine)}  # all bags may be empty
    if not ids:
        return
    extremes = torch.stack([end for mine in ids.values() for end in mine.aminmax()]).tolist()
    for name, low, high in zip(ids, extremes[::2], extremes[1::2], strict=True):
        if low < 0 or high >= cardinalities[name]:
            check_ids(name, ids[name], cardinalities[name])


class EmbeddingTables(nn.Module):
    """One table of vectors for each sparse feature, all of the same width.

    Args:
        cardinalities: feature -> N_t, the rows of its table. Their order is the order of the
            vectors that `forward` returns.
        dim: D, the width of a vector.
        pooling: how the vectors of a bag become one. "mean" divides by the number of ids, whatever
            their weights. An empty bag gives zeros either way.
        init_std: standard deviation of the first entries. None: uniform in ±1/sqrt(N_t), as in the
            reference implementation of Naumov et al. 2019.
        check: whether `forward` looks for ids without a row; without the check, such an id ends in
            an error of torch's that names neither the feature nor the id.
        sparse_gradient: whether the tables get gradients of the rows touched only, which some
            optimizers cannot use.

    Raises:
        UserError: no feature, a table without a row, a width below one, another pooling, or a name
            that torch cannot store a parameter under.

    Example:
        >>> tables = EmbeddingTables({"item": 10, "genres": 4}, dim=3, init_std=0.1)
        >>> genres = torch.tensor([0, 3]), torch.tensor([0, 2, 2])  # the second row has none
        >>> batch = SparseFeatures.from_columns({"item": torch.tensor([7, 1]), "genres": genres})
        >>> tables(batch).shape  # (B, F, D)
        torch.Size([2, 2, 3])
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
        _check_sizes(cardinalities, dim, pooling)
        self.cardinalities, self.dim = dict(cardinalities), dim
        self.pooling, self.check, self.sparse_gradient = pooling, check, sparse_gradient
        self.tables = nn.ParameterDict()
        for name, n_rows in cardinalities.items():
            table = torch.empty(n_rows, dim)
            if init_std is None:
                nn.init.uniform_(table, -(n_rows**-0.5), n_rows**-0.5)
            else:
                nn.init.normal_(table, std=init_std)
            self.tables[name] = nn.Parameter(table)

    @property
    def names(self) -> tuple[str, ...]:
        """The F features, in the order of the vectors."""
        return tuple(self.cardinalities)

    def forward(self, sparse: SparseFeatures) -> Tensor:
        """The pooled vectors (B, F, D) of a batch, in the order of `names`.

        Raises:
            UserError: a feature is missing, or an id has no row in its table.
        """
        if self.check:
            check_features(sparse, self.cardinalities)
        pooled = [
            self._pool(self.tables[name], sparse.bag(name), sparse.one_hot[sparse.index(name)])
            for name in self.names
        ]
        return torch.stack(pooled, dim=1)  # F times (B, D) -> (B, F, D)

    def _pool(self, table: Tensor, bag: Bag, one_hot: bool) -> Tensor:
        """The pooled vectors (B, D) of one feature."""
        if one_hot:  # nothing to pool: a plain lookup, whose gradient is cheaper than a bag's
            vectors = F.embedding(bag.ids, table, sparse=self.sparse_gradient)
            return vectors if bag.weights is None else vectors * bag.weights[:, None]
        # With weights, "mean" has no kernel: sum and divide.
        pooled = _sum_bags(table, bag, self.sparse_gradient)
        if self.pooling == "mean":
            pooled = pooled / bag.offsets.diff().clamp(min=1)[:, None]
        return pooled

    def squares(self, sparse: SparseFeatures, names: Sequence[str]) -> list[Tensor]:
        """For some features, the sum over the bag of (weight * vector)^2 by element, (B, D) each.

        The whole table is squared: bags live in small tables, and come with many ids.
        """
        pooled = []
        for name in names:
            ids, offsets, weights = sparse.bag(name)
            weights = None if weights is None else weights.square()
            pooled.append(_sum_bags(self.tables[name].square(), Bag(ids, offsets, weights)))
        return pooled


def _sum_bags(table: Tensor, bag: Bag, sparse_gradient: bool = False) -> Tensor:
    """The sum of weight * vector over each bag, (B, D)."""
    return F.embedding_bag(
        bag.ids,
        table,
        bag.offsets,
        mode="sum",
        per_sample_weights=None if bag.weights is None else bag.weights.to(table),
        include_last_offset=True,
        sparse=sparse_gradient,
    )


def _check_sizes(cardinalities: Mapping[str, int], dim: int, pooling: str) -> None:
    """Raise a UserError unless tables of these sizes can be built."""
    if not cardinalities:
        raise UserError("There is no sparse feature; expected at least one embedding table.")
    if dim < 1:
        raise UserError(f"The embedding dimension is {dim}; expected at least 1.")
    if pooling not in get_args(Pooling):
        raise UserError(f"The pooling is {pooling!r}; expected 'sum' or 'mean'.")
    for name, n_rows in cardinalities.items():
        if n_rows < 1:
            raise UserError(
                f"The table of feature '{name}' has {n_rows} rows; expected at least 1: "
                "the largest id plus one."
            )
        if not name or "." in name or hasattr(nn.ParameterDict, name):
            raise UserError(
                f"A feature cannot be called {name!r}: torch stores a table under its feature's "
                "name. Choose another name, without a dot."
            )
