"""Chapter 09's widget: whose row an id finds, and what a row loses in few bits."""

from collections.abc import Mapping
from typing import cast

import ipywidgets
import torch
from matplotlib.figure import Figure
from torch import Tensor

from dlrm_mini.pictures import smaller_tables as pictures
from dlrm_mini.quantization import Bits, dequantize, quantize
from dlrm_mini.smaller_tables import hash_ids
from dlrm_mini.widgets import Explorer, explore

GROUPS = {
    "1 to 9": 1,
    "10 to 99": 10,
    "100 to 999": 100,
    "1,000 or more": 1000,
}  # label -> fewest training rows
PARTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


def row_bytes(dim: int, bits: int) -> int:
    """Bytes of a row, with its scale and bias where it is quantised."""
    return 4 * dim if bits == 32 else dim * bits // 8 + (8 if bits == 8 else 4)


class Shrinker:
    """One table, hashed into the rows that fit into some bytes, in 32, 8 or 4 bits.

    Args:
        counts: (N,) training rows of each id.
        table: (M, D) trained rows, some of which can be looked at.
        name: the table's.
    """

    def __init__(self, counts: Tensor, table: Tensor, name: str) -> None:
        self.counts, self.table, self.name = counts, table.detach(), name

    def company(self, rows: int, seed: int = 0) -> dict[str, list[float]]:
        """By how often ids occur: lookups of a row all their own, mostly so, or mostly another's.

        Args:
            rows: M; with as many as ids, nothing is hashed.
            seed: which hash.
        """
        n = len(self.counts)
        ids = torch.arange(n)
        places = ids if rows >= n else hash_ids(ids, rows, seed)
        total = torch.bincount(places, self.counts.double(), max(rows, n))[places]
        share = self.counts / total.clamp(min=1)
        kinds = torch.where(share == 1, 0, torch.where(share > 0.5, 1, 2))
        found = {}
        lower = [*GROUPS.values(), int(self.counts.max()) + 1]
        for (label, least), beyond in zip(GROUPS.items(), lower[1:], strict=True):
            mine = (self.counts >= least) & (self.counts < beyond)
            lookups = torch.bincount(kinds[mine], self.counts[mine].double(), 3)
            found[label] = (lookups / lookups.sum().clamp(min=1)).tolist()
        return found

    def draw(self, part: int, bits: int, row: int) -> Figure:
        """So small a part of the table's bytes, in so many bits a number, and one of its rows."""
        n, dim = len(self.counts), self.table.shape[1]
        budget = n * row_bytes(dim, 32) // part
        rows = min(n, budget // row_bytes(dim, bits))
        trained = self.table[row - 1 : row]
        kept, levels = trained, torch.empty(0)
        if bits != 32:
            few = cast(Bits, bits)
            packed = quantize(trained, few)
            kept = dequantize(packed, dim, few)
            low, high = packed.clone(), packed.clone()  # the same scale and bias, other codes
            low[:, : dim * bits // 8], high[:, : dim * bits // 8] = 0, 255
            lowest, highest = (float(dequantize(end, dim, few)[0, 0]) for end in (low, high))
            levels = torch.linspace(lowest, highest, 2**bits)
        words = f"{self.name}: {rows:,} rows of {row_bytes(dim, bits)} bytes for {n:,} ids"
        arrays = (one.double().numpy() for one in (trained[0], kept[0], levels))
        return pictures.explored(self.company(rows), words, *arrays)

    def widget(self, part: int, bits: int, row: int) -> Explorer:
        """Choose the bytes, the bits of a number, and the row to look at."""
        parts: Mapping[str, int] = {"full" if one == 1 else f"1/{one}": one for one in PARTS}
        return explore(
            "whose row an id finds in fewer bytes, and what a row loses in fewer bits",
            self.draw,
            part=ipywidgets.SelectionSlider(
                options=list(parts.items()), value=part, description="bytes"
            ),
            bits=ipywidgets.Dropdown(options=[32, 8, 4], value=bits, description="bits"),
            row=ipywidgets.IntSlider(row, min=1, max=len(self.table), description="row"),
        )
