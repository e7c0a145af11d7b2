"""Chapter 09's methods: tables of any number of bytes, each by its own way of being smaller.

A method gets a budget in bytes and returns tables that keep no more, with the ids they want. What
can stay whole stays whole: the largest tables are cut to one common number of bytes, as high as the
budget allows. Only "narrow" treats all tables alike, and "hash alike" is there to be compared.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dlrm_mini.datasets.batches import Batch
from dlrm_mini.embeddings import EmbeddingTables
from dlrm_mini.ladders.click_log_ids import Encoding
from dlrm_mini.smaller_tables import (
    Combine,
    HashedTables,
    MixedDimensionTables,
    QuotientRemainderTables,
)

DIM = 16  # numbers in a row of the full tables
NUMBER = 4  # bytes, float32
KEY = 4  # bytes of a kept id in a threshold's sorted list: its place there is its row
OTHER = 0  # with a threshold: the row of all ids that have none
INIT_STD = 0.2  # of the vectors' first entries: with less, products are slow to start


@dataclass(frozen=True, eq=False)
class Tables:
    """Tables to be trained, and what they cost.

    Attributes:
        module: with the interface of `EmbeddingTables`.
        n_bytes: of everything that has to be kept to look an id up, exactly.
        encoding: from the log's ids to the module's; None: they are the same.
    """

    module: nn.Module
    n_bytes: int
    encoding: Encoding | None = None


Method = Callable[[Mapping[str, int], int, Batch], Tables | None]


def full_bytes(sizes: Mapping[str, int]) -> int:
    """Bytes of a row for each id."""
    return sum(sizes.values()) * DIM * NUMBER


def largest(fits: Callable[[int], bool], most: int) -> int:
    """The largest number in 1..most that fits, where every smaller one fits too; 0: none does."""
    low, high = 0, most + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def capped(sizes: Mapping[str, int], rows: int) -> dict[str, int]:
    """Rows of each table when the largest are cut so that there are no more than `rows` in all."""
    every = max(sizes.values())
    cap = largest(lambda cap: sum(min(n, cap) for n in sizes.values()) <= rows, every)
    return {name: min(n, cap) for name, n in sizes.items()}


def full(sizes: Mapping[str, int], budget: int, train: Batch) -> Tables | None:
    """A row for each id."""
    need = full_bytes(sizes)
    return Tables(EmbeddingTables(sizes, DIM, init_std=INIT_STD), need) if need <= budget else None


def hashed(sizes: Mapping[str, int], budget: int, train: Batch) -> Tables | None:
    """The ids of a cut table drawn into its rows."""
    return _hashed(sizes, capped(sizes, budget // (DIM * NUMBER)))


def hashed_alike(sizes: Mapping[str, int], budget: int, train: Batch) -> Tables | None:
    """The same with every table cut by the same factor, small or large."""
    share = budget / full_bytes(sizes)
    return _hashed(sizes, {name: max(1, int(n * share)) for name, n in sizes.items()})


def _hashed(sizes: Mapping[str, int], rows: Mapping[str, int]) -> Tables | None:
    if not all(rows.values()):
        return None
    tables = HashedTables(sizes, DIM, rows, init_std=INIT_STD)
    places = {name: tables.places(name, torch.arange(size)) for name, size in sizes.items()}
    # The ids are hashed once and for all; then these are plain tables.
    plain = EmbeddingTables(rows, DIM, init_std=INIT_STD)
    return Tables(plain, tables.n_bytes, Encoding(places, dict(rows)))


def threshold(sizes: Mapping[str, int], budget: int, train: Batch) -> Tables | None:
    """The most frequent ids keep a row each, and a key to find it by; the others share a row."""
    room = budget - len(sizes) * DIM * NUMBER  # a row for the others in every table
    counts = [torch.bincount(train.sparse.ids(name), minlength=n) for name, n in sizes.items()]
    kept = min(room // (DIM * NUMBER + KEY), sum(int((of > 0).sum()) for of in counts))
    if kept < 1:
        return None
    order = torch.cat(counts).argsort(descending=True, stable=True)
    chosen = torch.zeros(sum(sizes.values()), dtype=torch.bool)
    chosen[order[:kept]] = True
    places, rows = {}, {}
    for name, mine in zip(sizes, torch.split(chosen, list(sizes.values())), strict=True):
        places[name] = torch.where(mine, mine.cumsum(0), OTHER)
        rows[name] = int(mine.sum()) + 1
    n_bytes = sum(rows.values()) * DIM * NUMBER + kept * KEY
    return Tables(EmbeddingTables(rows, DIM, init_std=INIT_STD), n_bytes, Encoding(places, rows))


def quotient_remainder(combine: Combine) -> Method:
    """Two tables for a cut one, with as many remainders as its bytes allow."""

    def method(sizes: Mapping[str, int], budget: int, train: Batch) -> Tables | None:
        width = DIM // 2 if combine == "concat" else DIM

        def chosen(cap: int) -> dict[str, int] | None:
            rows = {}
            for name, n in sizes.items():
                if n * DIM > cap:
                    m = remainders(n, cap // width)
                    if m is None:
                        return None
                    rows[name] = m
            return rows

        def need(cap: int) -> float:
            rows = chosen(cap)
            if rows is None:
                return float("inf")
            return NUMBER * sum(
                (rows[name] + -(-n // rows[name])) * width if name in rows else n * DIM
                for name, n in sizes.items()
            )

        cap = largest(lambda cap: need(cap) <= budget or need(cap) == float("inf"),
                      max(sizes.values()) * DIM)  # fmt: skip
        rows = chosen(cap)
        if rows is None:
            return None
        tables = QuotientRemainderTables(sizes, DIM, rows, combine, init_std=INIT_STD)
        return Tables(tables, tables.n_bytes)

    return method


def remainders(ids: int, rows: int) -> int | None:
    """The most remainders m with m + ceil(ids / m) <= rows; None where there are none.

    Of the two solutions the larger: then fewer ids share a remainder.
    """
    if rows * rows < 4 * ids:
        return None
    m = min(ids, int((rows + (rows * rows - 4 * ids) ** 0.5) / 2))
    while m >= 1 and m + -(-ids // m) > rows:  # what rounding up costs
        m -= 1
    return m or None


def mixed(sizes: Mapping[str, int], budget: int, train: Batch) -> Tables | None:
    """The largest tables narrower, with a projection each."""

    def widths(cap: int) -> dict[str, int]:  # cap: numbers in a table
        return {name: min(DIM, cap // n) for name, n in sizes.items()}

    def need(cap: int) -> float:
        chosen = widths(cap)
        if not all(chosen.values()):
            return 0.0  # too low a cap; a higher one may do
        return NUMBER * sum(
            chosen[name] * (n + (DIM if chosen[name] < DIM else 0)) for name, n in sizes.items()
        )

    cap = largest(lambda cap: need(cap) <= budget, max(sizes.values()) * DIM)
    dims = widths(cap)
    if not all(dims.values()):
        return None
    tables = MixedDimensionTables(sizes, DIM, dims, init_std=INIT_STD)
    return Tables(tables, tables.n_bytes)


def narrow(sizes: Mapping[str, int], budget: int, train: Batch) -> Tables | None:
    """Every vector narrower, that of the dense features too."""
    width = min(DIM, budget // (sum(sizes.values()) * NUMBER))
    if not width:
        return None
    return Tables(
        EmbeddingTables(sizes, width, init_std=INIT_STD), sum(sizes.values()) * width * NUMBER
    )


METHODS: dict[str, Method] = {
    "full": full,
    "hash": hashed,
    "qr sum": quotient_remainder("sum"),
    "qr product": quotient_remainder("product"),
    "qr concat": quotient_remainder("concat"),
    "mixed": mixed,
    "threshold": threshold,
    "narrow": narrow,
    "hash alike": hashed_alike,
}


def who_collides(counts: Tensor, rows: int, how: str) -> Tensor:
    """The row of each id of a table when it is chosen who shares with whom.

    Args:
        counts: (N,) rows that hold each id.
        rows: M, of the table.
        how: "at random"; "head with head", neighbours by frequency share; "head with tail", the M
            most frequent never meet; "tail with tail", all but the M - 1 most frequent share one.

    Returns:
        (N,) int64 in 0..M - 1.
    """
    n = len(counts)
    rank = torch.empty(n, dtype=torch.int64)
    rank[counts.argsort(descending=True, stable=True)] = torch.arange(n)
    if how == "at random":
        return torch.randint(rows, (n,), generator=torch.Generator().manual_seed(0))
    if how == "head with head":
        return rank * rows // n
    return rank % rows if how == "head with tail" else rank.clamp(max=rows - 1)


COLLISIONS = ("at random", "head with head", "head with tail", "tail with tail")


def collided(how: str) -> Method:
    """Hashed as far as rows go, but with tenants that were chosen."""

    def method(sizes: Mapping[str, int], budget: int, train: Batch) -> Tables | None:
        rows = capped(sizes, budget // (DIM * NUMBER))
        places = {}
        for name, n in sizes.items():
            counts = torch.bincount(train.sparse.ids(name), minlength=n)
            cut = rows[name] < n
            places[name] = who_collides(counts, rows[name], how) if cut else torch.arange(n)
        plain = EmbeddingTables(rows, DIM, init_std=INIT_STD)
        return Tables(plain, sum(rows.values()) * DIM * NUMBER, Encoding(places, rows))

    return method


METHODS |= {f"collide {how}": collided(how) for how in COLLISIONS}


def parameter_groups(model: Any) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The numbers of the tables, and those of projections, which are not of any one id."""
    projections = getattr(model.tables, "projections", {})
    glue = list(projections.values())
    return [p for p in model.tables.parameters() if all(p is not one for one in glue)], glue
