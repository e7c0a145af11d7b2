"""Embedding tables: what a DLRM keeps of each id, looked up and pooled for a whole batch.

`EmbeddingTables` leaves gradients and updates to torch; `FusedEmbeddingTables` computes the same,
and updates the rows inside the backward pass.

A row of a batch may hold several ids of one feature (a *bag*): their vectors are pooled, by sum or
by mean, into one vector per feature and row. The convention is that of
`torch.nn.functional.embedding_bag`, and of EmbeddingBagCollection in TorchRec.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from dlrm_mini import kernels
from dlrm_mini.datasets.sparse import Bag, Column, SparseFeatures
from dlrm_mini.errors import UserError
from dlrm_mini.kernels.rules import Lookups
from dlrm_mini.memory import check_fits
from dlrm_mini.optimizers import RowOptimizer
from dlrm_mini.table_checks import Pooling, check_features, check_ids, check_sizes

__all__ = ["EmbeddingTables", "FusedEmbeddingTables", "Pooling", "check_features", "check_ids"]


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
        UserError: no feature, a table without a row, a width below one, another pooling, a name
            that torch cannot store a parameter under, or more bytes than there is memory.

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
        check_sizes(cardinalities, dim, pooling)
        check_fits(cardinalities, dim)
        self.cardinalities, self.dim = dict(cardinalities), dim
        self.pooling, self.check, self.sparse_gradient = pooling, check, sparse_gradient
        self.tables = nn.ParameterDict()
        for name, n_rows in cardinalities.items():
            self.tables[name] = nn.Parameter(_start(torch.empty(n_rows, dim), init_std))

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


class FusedEmbeddingTables(nn.Module):
    """The same tables as `EmbeddingTables`, stacked in one matrix and updated inside backward.

    `forward` looks up and pools all tables in one pass. `backward` hands the gradient of the pooled
    vectors to an optimizer, which changes the rows that were looked up at once: no gradient of a
    table or of a lookup is made. That is how FBGEMM's table-batched embeddings work.

    A step cannot be taken back: gradients of batches do not add up, and cannot be clipped. Weights
    of ids get no gradient. A process that was forked after a first step cannot take one.

    Args:
        cardinalities: feature -> N_t, as in `EmbeddingTables`, and with the same first entries.
        dim: D, the width of a vector.
        pooling: "sum" or "mean".
        init_std: as in `EmbeddingTables`.
        check: whether `forward` looks for ids without a row; the kernel for the CPU always does.
            With another and no check, such an id reads and trains a row of another feature.
        kernel: what works on it, see `kernels.choose`.

    Example:
        >>> tables = FusedEmbeddingTables({"item": 10, "genres": 4}, dim=3)
        >>> tables.fuse(RowWiseAdagrad(tables.parameters(), lr=0.1))
        >>> tables(batch).sum().backward()  # the rows of `batch` have moved
    """

    first: Tensor  # (F + 1,) int64: where each table begins in `weight`

    def __init__(
        self,
        cardinalities: Mapping[str, int],
        dim: int,
        *,
        pooling: Pooling = "sum",
        init_std: float | None = None,
        check: bool = True,
        kernel: kernels.Name = "auto",
    ) -> None:
        super().__init__()
        check_sizes(cardinalities, dim, pooling)
        check_fits(cardinalities, dim)
        self.cardinalities, self.dim = dict(cardinalities), dim
        self.pooling, self.check, self.kernel = pooling, check, kernel
        self.optimizer: RowOptimizer | None = None
        first = torch.tensor([0, *cardinalities.values()]).cumsum(0)
        self.register_buffer("first", first, persistent=False)
        # numpy asks Linux for huge pages, torch does not: random rows are found faster in them.
        host, shape = first.device.type == "cpu", (sum(cardinalities.values()), dim)
        new = torch.from_numpy(np.empty(shape, np.float32)) if host else torch.empty(shape)
        self.weight = nn.Parameter(new)
        for table in self.tables.values():
            _start(table, init_std)

    @property
    def names(self) -> tuple[str, ...]:
        """The F features, in the order of the vectors."""
        return tuple(self.cardinalities)

    @property
    def tables(self) -> dict[str, Tensor]:
        """Feature -> its table (N_t, D), a view of `weight`."""
        parts = torch.split(self.weight.detach(), [*self.cardinalities.values()])
        return dict(zip(self.names, parts, strict=True))

    def fuse(self, optimizer: torch.optim.Optimizer) -> None:
        """Let backward apply this optimizer's rule at once; its `step` is for other parameters.

        Raises:
            UserError: the optimizer has no rule for rows, or not these tables.
        """
        if not isinstance(optimizer, RowOptimizer):
            raise UserError(
                f"{type(optimizer).__name__} cannot update tables inside backward; expected SGD, "
                "Adagrad or RowWiseAdagrad of dlrm_mini.optimizers. With momentum, Adam or weight "
                "decay, rows that a batch does not touch would have to move as well."
            )
        held = [p for group in optimizer.param_groups for p in group["params"]]
        if not any(p is self.weight for p in held):
            raise UserError(
                f"The {type(optimizer).__name__} does not hold these tables. Make it from the "
                "parameters of the model that they are part of."
            )
        self.optimizer = optimizer

    def forward(self, sparse: SparseFeatures) -> Tensor:
        """The pooled vectors (B, F, D) of a batch, in the order of `names`.

        Raises:
            UserError: a feature is missing, or an id has no row in its table.
        """
        if self.check and not self.kernels().CHECKS_IDS:
            check_features(sparse, self.cardinalities)
        lookups = self._lookups(sparse)
        try:
            pooled: Tensor = _Fused.apply(self.weight, lookups, self)  # type: ignore[no-untyped-call]
        except UserError:
            check_features(sparse, self.cardinalities)  # which feature it was
            raise
        return pooled

    def _lookups(self, sparse: SparseFeatures) -> Lookups:
        if sparse.names != self.names:
            columns: dict[str, Column] = {}
            for name in self.names:
                ids, offsets, weight = sparse.bag(name)
                columns[name] = (ids, offsets) if weight is None else (ids, offsets, weight)
            sparse = SparseFeatures.from_columns(columns)
        weights = sparse.weights
        if self.pooling == "mean":
            lengths = sparse.offsets.diff()
            shares = lengths.clamp(min=1).reciprocal()
            shares = shares.repeat_interleave(lengths, output_size=len(sparse.values))
            weights = shares if weights is None else shares * weights
        return Lookups(sparse.values, sparse.offsets, self.first, weights)

    def kernels(self) -> Any:
        """The module of `dlrm_mini.kernels` that does the work."""
        return kernels.choose(self.kernel, self.weight)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        """Under the names that `EmbeddingTables` gives its tables: weights fit both ways."""
        for name, table in self.tables.items():
            destination[f"{prefix}tables.{name}"] = table

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, _metadata: Any, strict: bool, *lists: list[str]
    ) -> None:
        missing, unexpected, errors = lists
        mine = {f"{prefix}tables.{name}": table for name, table in self.tables.items()}
        for key, table in mine.items():
            if key not in state_dict:
                missing.append(key)
            elif (shape := state_dict[key].shape) != table.shape:
                errors.append(f"size mismatch for {key}: {shape} instead of {table.shape}")
            else:
                table.copy_(state_dict[key])
        unexpected += [key for key in state_dict if key.startswith(prefix) and key not in mine]


class _Fused(torch.autograd.Function):
    """Pooling whose backward is the update itself."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, lookups: Lookups, tables: FusedEmbeddingTables) -> Tensor:
        # Saved so that torch raises when ids have changed since, or backward comes a second time.
        ctx.save_for_backward(*lookups)
        ctx.tables = tables
        pooled: Tensor = tables.kernels().forward(weight, lookups)
        return pooled

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, None]:
        tables, lookups = ctx.tables, Lookups(*ctx.saved_tensors)
        if tables.optimizer is None:
            raise UserError(
                "These tables have no optimizer, so that backward cannot update them. Call "
                "tables.fuse(optimizer) once, after the optimizer is made."
            )
        gradient = gradient.to(tables.weight.dtype)
        tables.optimizer.update_fused(tables.weight, lookups, gradient, tables.kernels())
        return None, None, None


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


def _start(table: Tensor, init_std: float | None) -> Tensor:
    """Fill a table with its first entries, in place."""
    if init_std is None:
        return nn.init.uniform_(table, -(len(table) ** -0.5), len(table) ** -0.5)
    return nn.init.normal_(table, std=init_std)
