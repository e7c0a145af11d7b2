"""What is asked before a table is made, and before an id is looked up in it."""

from collections.abc import Mapping
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from dlrm_mini.datasets.sparse import SparseFeatures
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
    starts = sparse.starts
    ids = {name: sparse.values[starts[f] : starts[f + 1]] for name, f in places.items()}
    ids = {name: mine for name, mine in ids.items() if len(mine)}  # all bags may be empty
    if not ids:
        return
    extremes = torch.stack([end for mine in ids.values() for end in mine.aminmax()]).tolist()
    for name, low, high in zip(ids, extremes[::2], extremes[1::2], strict=True):
        if low < 0 or high >= cardinalities[name]:
            check_ids(name, ids[name], cardinalities[name])


def check_sizes(cardinalities: Mapping[str, int], dim: int, pooling: str) -> None:
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
