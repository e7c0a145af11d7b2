"""Sharding plans: which rectangle of which embedding table lies on which rank.

Every form cuts a table (N_t, D) into rectangles:

- *table-wise*: one rank holds the whole table;
- *row-wise*: each of k ranks holds a block of rows, and pools only the ids that lie in it;
- *column-wise*: each of k ranks holds some columns of all rows, and sees all ids;
- *data-parallel*: every rank holds a copy, looks up its own batch, and gradients are summed.

The names are TorchRec's. A plan may give each table a form of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

from dlrm_mini.errors import UserError

Form = Literal["table-wise", "row-wise", "column-wise", "data-parallel"]
FORMS: tuple[Form, ...] = get_args(Form)


@dataclass(frozen=True)
class Shard:
    """A rectangle of a table on a rank.

    Attributes:
        table: name of the feature.
        rank: where it lies.
        rows: first row and the one after the last.
        columns: first column and the one after the last.
    """

    table: str
    rank: int
    rows: tuple[int, int]
    columns: tuple[int, int]

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of the rectangle."""
        return self.rows[1] - self.rows[0], self.columns[1] - self.columns[0]


@dataclass(frozen=True)
class Placement:
    """How one table is cut, and where the pieces go.

    Attributes:
        form: the cut.
        ranks: who holds the pieces, in the order of rows or columns: one rank for "table-wise",
            one to P different ones for "row-wise" and "column-wise", none for "data-parallel"
            (all ranks hold it).
    """

    form: Form
    ranks: tuple[int, ...] = ()


@dataclass(frozen=True)
class Plan:
    """A placement for every table of a model.

    Attributes:
        size: P, the number of ranks.
        cardinalities: feature -> N_t, in the model's order.
        dim: D.
        placements: feature -> its placement.

    Raises:
        UserError: a table without a placement, a placement without a table, a rank that does not
            exist or comes twice, or more pieces than a table has rows or columns.

    Example:
        >>> plan = Plan(2, {"user": 5, "item": 4}, 8, {
        ...     "user": Placement("row-wise", (0, 1)), "item": Placement("table-wise", (1,))})
        >>> [shard.rows for shard in plan.shards("user")]
        [(0, 3), (3, 5)]
    """

    size: int
    cardinalities: Mapping[str, int]
    dim: int
    placements: Mapping[str, Placement]

    def __post_init__(self) -> None:
        object.__setattr__(self, "cardinalities", dict(self.cardinalities))
        object.__setattr__(self, "placements", dict(self.placements))
        if self.size < 1:
            raise UserError(f"The plan is for {self.size} ranks; expected at least 1.")
        differing = [name for name in self.cardinalities if name not in self.placements]
        differing += [name for name in self.placements if name not in self.cardinalities]
        if differing:
            where = "no placement" if differing[0] in self.cardinalities else "no table"
            raise UserError(
                f"The plan has {where} for '{differing[0]}'; expected one placement for each of "
                f"{', '.join(self.cardinalities)}."
            )
        for name, placement in self.placements.items():
            self._check(name, placement)

    def _check(self, name: str, placement: Placement) -> None:
        form, ranks = placement.form, placement.ranks
        if form not in FORMS:
            raise UserError(f"Table '{name}' is placed {form!r}; expected one of {FORMS}.")
        strangers = [rank for rank in ranks if not 0 <= rank < self.size]
        if strangers or len(set(ranks)) != len(ranks):
            raise UserError(
                f"Table '{name}' is placed on the ranks {ranks}; expected different ones in "
                f"0..{self.size - 1}."
            )
        most = {
            "table-wise": 1,
            "row-wise": self.cardinalities[name],
            "column-wise": self.dim,
            "data-parallel": 0,
        }[form]
        if not min(1, most) <= len(ranks) <= most:
            expected = {0: "no ranks, since all hold a copy", 1: "exactly one"}.get(
                most, f"one to {most}"
            )
            raise UserError(
                f"Table '{name}' ({self.cardinalities[name]} rows, width {self.dim}) is placed "
                f"{form} on {len(ranks)} ranks; expected {expected}."
            )

    def shards(self, table: str) -> tuple[Shard, ...]:
        """The rectangles of a table, in the order of rows, columns or ranks.

        Rows are cut as TorchRec cuts them: blocks of ceil(N / k), so that the last may be smaller,
        or empty. Columns are cut as evenly as they can be.
        """
        rows, dim, placement = self.cardinalities[table], self.dim, self.placements[table]
        ranks, form = placement.ranks, placement.form
        if form == "data-parallel":
            return tuple(Shard(table, rank, (0, rows), (0, dim)) for rank in range(self.size))
        if form == "row-wise":
            block = -(-rows // len(ranks))
            ends = [min(rows, place * block) for place in range(len(ranks) + 1)]
            cuts = [((low, high), (0, dim)) for low, high in pairwise(ends)]
        else:  # a whole table is one column-wise piece
            ends = [place * dim // len(ranks) for place in range(len(ranks) + 1)]
            cuts = [((0, rows), (low, high)) for low, high in pairwise(ends)]
        return tuple(Shard(table, rank, *cut) for rank, cut in zip(ranks, cuts, strict=True))

    def of_rank(self, rank: int) -> tuple[Shard, ...]:
        """What lies on a rank, table after table."""
        return tuple(s for name in self.cardinalities for s in self.shards(name) if s.rank == rank)
