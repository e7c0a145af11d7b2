"""How the lookups of a batch spread over a table's rows: evenly, or with hot rows.

A row-wise shard gets the ids of its block of rows. Where a few rows are hot, one block gets most of
them. Spread is given as *counts*: table -> numbers of lookups in bins of equally many rows, in the
order of the rows; only their proportions matter. Within a bin all rows are taken to be alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from dlrm_mini.datasets.sparse import SparseFeatures
from dlrm_mini.errors import UserError

Floats = NDArray[np.float64]
Skew = Mapping[str, Floats]
"""Table -> (bins,), or (P, bins) where the ids of each rank's rows of the batch differ."""


def zipf(rows: int, exponent: float = 1.05, bins: int = 1024) -> Floats:
    """Counts (bins,) where row i is looked up in proportion to (i + 1)^-exponent.

    Rows are in order of their frequency, as a vocabulary sorted by counts has them: what is hottest
    lies in one block. With `bins` below `rows` a bin holds what its rows add up to (an integral
    from the midpoints of the rows).
    """
    bins = min(bins, rows)
    ends = np.linspace(0.5, rows + 0.5, bins + 1)
    if exponent == 1:
        logs: Floats = np.diff(np.log(ends))
        return logs
    powers: Floats = np.diff(ends ** (1 - exponent) / (1 - exponent))
    return powers


def of_batch(batches: Sequence[SparseFeatures], cardinalities: Mapping[str, int]) -> Skew:
    """The ids of each rank's batch, counted row by row: table -> (P, N_t).

    Args:
        batches: one for each rank.
        cardinalities: feature -> N_t.
    """
    return {
        name: np.stack([
            np.bincount(batch.bag(name).ids.cpu().numpy(), minlength=rows).astype(float)
            for batch in batches
        ])
        for name, rows in cardinalities.items()
    }  # fmt: skip


def shares(
    rows: int, blocks: Sequence[tuple[int, int]], counts: Floats | None, name: str = ""
) -> Floats:
    """The share of a table's lookups in each block of rows.

    Args:
        rows: N_t.
        blocks: first row and the one after the last of each of k blocks.
        counts: (bins,) or (P, bins); None: all rows alike.
        name: of the table.

    Returns:
        (k,), or (P, k), between 0 and 1.

    Raises:
        UserError: counts that are negative, not finite or all zero, or more bins than rows.
    """
    ends = np.array(blocks, dtype=float).reshape(-1, 2)
    if counts is None:
        even: Floats = (ends[:, 1] - ends[:, 0]) / rows
        return even
    counts = np.asarray(counts, dtype=float)
    bins, totals = counts.shape[-1], counts.sum(-1, keepdims=True)
    if bins > rows or not np.isfinite(counts).all() or counts.min() < 0 or not totals.any():
        raise UserError(
            f"The counts of table '{name}' have {bins} bins for {rows} rows and add up to "
            f"{float(totals.sum()):g}; expected at most one bin a row and numbers of at least 0, "
            "not all of them 0."
        )
    below = np.concatenate([np.zeros_like(totals), np.cumsum(counts, -1)], -1)
    below = below / np.where(totals, totals, 1)
    places = ends * bins / rows
    low = np.minimum(places.astype(int), bins - 1)
    at = below[..., low] + (places - low) * (below[..., low + 1] - below[..., low])
    found: Floats = at[..., 1] - at[..., 0]
    return found
