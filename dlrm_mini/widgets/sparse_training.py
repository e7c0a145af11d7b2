"""Chapter 08's widget: how many rows a batch touches, and what a step then moves."""

from functools import lru_cache

import ipywidgets
import numpy as np
from matplotlib.figure import Figure

from dlrm_mini.ladders.sparse_counts import moved, touched
from dlrm_mini.pictures import sparse_costs as pictures
from dlrm_mini.widgets import Explorer, explore

EXPONENTS = (0.0, 1.05, 1.5)  # always drawn, to compare with
LOOKUPS: list[float] = np.geomspace(100, 10_000_000, 26).tolist()


class Touched:
    """One table, and batches of all sizes.

    Args:
        rows: N.
        dim: D.
    """

    def __init__(self, rows: int, dim: int) -> None:
        self.rows, self.dim = rows, dim
        self._curve = lru_cache(maxsize=None)(
            lambda zipf: (LOOKUPS, [touched(rows, lookups, zipf) for lookups in LOOKUPS])
        )

    def draw(self, batch: int, pooling: int, zipf: float) -> Figure:
        """Distinct rows by lookups for this exponent, and the bytes of this batch's step."""
        lookups = batch * pooling
        distinct = touched(self.rows, lookups, zipf)
        return pictures.touched_and_moved(
            {exponent: self._curve(exponent) for exponent in (*EXPONENTS, zipf)},
            zipf,
            (lookups, distinct),
            self.rows,
            moved(self.rows, self.dim, batch, pooling, distinct),
        )

    def widget(self, batch: int, pooling: int, zipf: float) -> Explorer:
        """Choose the batch, the lookups in a bag, and how unequal the ids are."""
        sizes = [2**power for power in range(7, 17)]
        return explore(
            "distinct rows and bytes of a step",
            self.draw,
            batch=ipywidgets.SelectionSlider(
                options=[(f"{one:,}", one) for one in sizes], value=batch, description="batch"
            ),
            pooling=ipywidgets.IntSlider(pooling, min=1, max=100, description="pooling"),
            zipf=ipywidgets.FloatSlider(zipf, min=0, max=1.5, step=0.05, description="Zipf"),
        )
