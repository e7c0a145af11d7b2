"""Chapter 12's widgets: the steps of hybrid parallelism, and one shuffle in slow motion."""

from collections.abc import Sequence
from itertools import pairwise

import ipywidgets
from matplotlib.figure import Figure

from dlrm_mini.pictures import shuffle
from dlrm_mini.pictures import split_steps as pictures
from dlrm_mini.widgets import Explorer, explore

BATCHES = [2**power for power in range(3, 15)]


class Shuffle:
    """A model whose tables are shared out, in order, over some ranks.

    Args:
        names: the tables, each with one id a row.
        dim: D.
        mlps: bytes of both MLPs, which every rank has.
    """

    def __init__(self, names: Sequence[str], dim: int, mlps: int) -> None:
        self.names, self.dim, self.mlps = tuple(names), dim, mlps

    def draw(self, step: int, ranks: int, batch: int) -> Figure:
        """What lies where after a step, and the bytes that it and all others send.

        Args:
            step: a place in `pictures.split_steps.STEPS`.
            ranks: P.
            batch: B.
        """
        tables = len(self.names)
        homes = {name: place * ranks // tables for place, name in enumerate(self.names)}
        ends = [rank * batch // ranks for rank in range(ranks + 1)]
        rows = [high - low for low, high in pairwise(ends)]
        return pictures.step_and_bytes(step, homes, rows, self.dim, self.mlps)

    def widget(self, step: int, ranks: int, batch: int) -> Explorer:
        """Walk through the steps, on more or fewer ranks, with a larger or smaller batch."""
        steps = [(one.words.split()[0], place) for place, one in enumerate(pictures.STEPS)]
        return explore(
            "the shuffle, step by step",
            self.draw,
            step=ipywidgets.SelectionSlider(options=steps, value=step, description="step"),
            ranks=ipywidgets.SelectionSlider(options=[2, 4, 8], value=ranks, description="ranks"),
            batch=ipywidgets.SelectionSlider(
                options=[(f"{one:,}", one) for one in BATCHES], value=batch, description="batch"
            ),
        )


class Parcels:
    """One all-to-all, in rounds.

    Args:
        tables: of each rank, how many it holds.
        rows: of each rank, how many rows of the batch it has.
    """

    def __init__(self, tables: Sequence[int], rows: Sequence[int]) -> None:
        self.tables, self.rows = tuple(tables), tuple(rows)

    def draw(self, step: int, backward: bool = False) -> Figure:
        """What has arrived, what is on its way, and what waits.

        Args:
            step: 0, before; P, after.
            backward: gradients on the way back instead of vectors on the way home.
        """
        return shuffle.draw_shuffle(self.tables, self.rows, step, backward=backward)

    def widget(self, step: int) -> Explorer:
        """Let the parcels go, round by round, home or back."""
        last = shuffle.steps(len(self.rows)) - 1
        return explore(
            "the parcels of one shuffle",
            self.draw,
            step=ipywidgets.IntSlider(step, min=0, max=last, description="round"),
            backward=ipywidgets.Checkbox(False, description="backward"),
        )
