"""Checks of the exercises to chapter 13, sharding plans."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dlrm_mini.datasets import movielens
from dlrm_mini.exercises.checking import Mistake, NotRight, call, expect, right
from dlrm_mini.parallel.sharding import Form, Placement, Plan
from dlrm_mini.sparse_rules import state_bytes

BYTES = 4  # of a float32


def check_place(answer: Callable[[Tensor, int, int], Any]) -> None:
    """Exercise 1: the piece and the row inside it, of ids in a table cut row-wise in k pieces."""

    def place(ids: Tensor, rows: int, k: int) -> tuple[list[int], list[int]]:
        plan = Plan(k, {"table": rows}, 1, {"table": Placement("row-wise", tuple(range(k)))})
        low = [shard.rows[0] for shard in plan.shards("table")]
        high = [shard.rows[1] for shard in plan.shards("table")]
        pieces = [next(p for p in range(k) if low[p] <= i < high[p]) for i in ids.tolist()]
        return pieces, [i - low[p] for i, p in zip(ids.tolist(), pieces, strict=True)]

    expect(
        answer,
        place,
        [
            {"ids": torch.tensor([0, 3, 6, 7]), "rows": 8, "k": 4},
            {"ids": torch.tensor([9, 2, 2, 3, 8]), "rows": 10, "k": 4},
            {"ids": torch.arange(5), "rows": 5, "k": 4},
            {"ids": torch.tensor([], dtype=torch.int64), "rows": 7, "k": 2},
            {"ids": torch.tensor([4]), "rows": 9, "k": 1},
        ],
        mistakes=[
            Mistake(
                lambda ids, rows, k: (ids // (rows // k), ids % (rows // k)),
                "blocks have rows // k rows, rounded down. Then the last ids fall into a piece "
                "that does not exist: round up.",
            ),
            Mistake(
                lambda ids, rows, k: (ids % k, ids // k),
                "ids are dealt out in turns, which spreads hot rows well, but is no block of rows.",
            ),
            Mistake(
                lambda ids, rows, k: (ids * k // rows, ids - ids * k // rows * rows // k),
                "rows are cut as evenly as can be, as columns are. Blocks of rows have "
                "ceil(N / k), all but the last.",
            ),
            Mistake(
                lambda ids, rows, k: (ids // -(-rows // k), ids),
                "the piece is right. But it counts its rows from 0: take off what lies before it.",
            ),
        ],
        otherwise="a block has ceil(N / k) rows; what comes before an id's block?",
        learnt="Every rank can say who has a row, and nobody had to send a table of addresses. "
        "With 5 rows on 4 ranks, blocks have 2 rows, and rank 3 has none.",
    )


def check_mean(answer: Callable[[Sequence[Tensor], Tensor, Tensor], Any]) -> None:
    """Exercise 2: mean pooling of bags over a table that is cut in blocks of rows."""

    def mean(blocks: Sequence[Tensor], ids: Tensor, offsets: Tensor) -> Tensor:
        table = torch.cat(list(blocks)).double()
        return functional.embedding_bag(ids, table, offsets, mode="mean", include_last_offset=True)

    def parts(blocks: Sequence[Tensor], ids: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
        """Sums (k, bags, D), and how many ids of each bag each block has, (k, bags, 1)."""
        bag = torch.arange(len(offsets) - 1).repeat_interleave(offsets.diff())
        whose, table = ids // len(blocks[0]), torch.cat(list(blocks)).double()
        sums = torch.zeros(len(blocks), len(offsets) - 1, table.shape[1], dtype=torch.float64)
        sums.index_put_((whose, bag), table[ids], accumulate=True)
        number = torch.zeros(sums.shape[:2]).index_put_(
            (whose, bag), torch.ones(len(ids)), accumulate=True
        )
        return sums, number[..., None]

    def added(blocks: Sequence[Tensor], ids: Tensor, offsets: Tensor) -> Tensor:
        sums, number = parts(blocks, ids, offsets)
        return (sums / number.clamp(min=1)).sum(0)

    def by_parts_found(blocks: Sequence[Tensor], ids: Tensor, offsets: Tensor) -> Tensor:
        _, number = parts(blocks, ids, offsets)
        return added(blocks, ids, offsets) / (number > 0).sum(0).clamp(min=1)

    def without_clamp(blocks: Sequence[Tensor], ids: Tensor, offsets: Tensor) -> Tensor:
        sums, number = parts(blocks, ids, offsets)
        return sums.sum(0) / number.sum(0)

    table = torch.tensor([[1.0], [2.0], [3.0], [10.0]])
    random = torch.randn(7, 3, generator=torch.Generator().manual_seed(13))
    few, many = torch.tensor([0, 1, 3]), torch.tensor([6, 0, 0, 3, 1, 2, 5, 4, 6])
    of_means = (
        "a mean of means, as in chapter 12. A block with one id of a bag counts as much as one "
        "with many: let each send its sum, and divide once, by the length of the whole bag."
    )
    expect(
        answer,
        mean,
        [
            {"blocks": table.chunk(2), "ids": few, "offsets": torch.tensor([0, 3])},
            {"blocks": torch.split(random, 3), "ids": many, "offsets": torch.tensor([0, 2, 5, 9])},
            {"blocks": torch.split(random, 4), "ids": many, "offsets": torch.tensor([0, 4, 4, 9])},
            {"blocks": (random,), "ids": few, "offsets": torch.tensor([0, 1, 3])},
        ],
        mistakes=[
            Mistake(
                added,
                "the blocks' means were added. A mean waits until all of a bag is together.",
            ),
            Mistake(lambda *case: added(*case) / len(case[0]), of_means),
            Mistake(by_parts_found, of_means),
            Mistake(
                lambda *case: parts(*case)[0].sum(0),
                "these are sums: the division by the bag's length is missing.",
            ),
            Mistake(
                without_clamp,
                "an empty bag was divided by 0. Its mean is a vector of zeros, as in EmbeddingBag.",
            ),
        ],
        otherwise="the sum of a bag is the sum of its blocks' sums; what is its length?",
        learnt="Sums may be cut anywhere, means may not: the same mistake as the loss of chapter "
        "12, in another place. Whoever has the bag knows its length, so it divides.",
    )


def check_bytes(answer: Callable[[str, int, int, int, int], int]) -> None:
    """Exercise 3: bytes on all ranks of a table and its row-wise Adagrad state, by form."""

    def found(form: Form, rows: int, dim: int, k: int, ranks: int) -> int:
        given = {"table-wise": (0,), "data-parallel": ()}.get(form, tuple(range(k)))
        plan = Plan(ranks, {"table": rows}, dim, {"table": Placement(form, given)})
        shapes = [shard.shape for shard in plan.shards("table")]
        return sum(BYTES * n * d + state_bytes("rowwise_adagrad", n, d) for n, d in shapes)

    cases: list[tuple[Form, int, int, int, int]] = [
        ("table-wise", 10, 4, 1, 4), ("row-wise", 10, 4, 3, 4), ("column-wise", 10, 6, 2, 4),
        ("column-wise", 10, 4, 4, 4), ("data-parallel", 10, 4, 1, 4),
        ("column-wise", 1_000_000, 64, 8, 8),
    ]  # fmt: skip
    expect(
        answer,
        found,
        [dict(zip(("form", "rows", "dim", "k", "ranks"), case, strict=True)) for case in cases],
        mistakes=[
            Mistake(
                lambda form, n, d, k, p: BYTES * n * d * (p if form[0] == "d" else 1),
                "the optimizer's state is missing: one number a row.",
            ),
            Mistake(
                lambda form, n, d, k, p: BYTES * n * (d + 1) * (p if form[0] == "d" else 1),
                "each row is taken to have one number of state, wherever it lies. A row that is "
                "cut lies on k ranks, and each of them needs the number for its piece.",
            ),
            Mistake(
                lambda form, n, d, k, p: BYTES * n * (d + (k if "-wise" in form else p)),
                "where only rows are cut, each row is on one rank, with its one number of state.",
            ),
            Mistake(
                lambda form, n, d, k, p: BYTES * n * (d + (k if form[0] == "c" else 1)),
                "data-parallel: all P ranks have a copy, with its state.",
            ),
            Mistake(
                lambda form, n, d, k, p: 2 * BYTES * n * d * (p if form[0] == "d" else 1),
                "that is Adagrad's state, a number for each weight; here it is one for each row.",
            ),
        ],
        otherwise="count the numbers of one piece, weights and state, and then the pieces.",
        tolerance=1e-9,
        learnt="Cut by columns, a row's one number lives k times. In single columns, the state "
        "that was a D-th of the table is as large as the table.",
    )


def check_head(answer: Callable[[Tensor, int, float], int]) -> None:
    """Exercise 4: how many hot rows have to be copied until no block of rows serves too much."""

    def head(counts: Tensor, ranks: int, limit: float, served: bool = True) -> int:
        """The least; without `served`, lookups of copied rows are forgotten, a mistake."""
        rest = counts.double().numpy().copy()
        order, total = np.argsort(-rest, kind="stable"), rest.sum()
        block = np.arange(len(rest)) // -(-len(rest) // ranks)
        for copied in range(len(rest) + 1):
            busiest = np.bincount(block, rest, ranks).max()
            if served:
                busiest += (total - rest.sum()) / ranks
            if busiest * ranks <= (total if served else max(rest.sum(), 1)) * limit + 1e-6:
                break
            rest[order[copied]] = 0
        return copied

    small, ratings = torch.tensor([8, 1, 5, 1, 1, 0, 2, 0]), movielens.load()
    movies = torch.bincount(ratings.item, minlength=ratings.n_items)
    mixed = movies[torch.randperm(len(movies), generator=torch.Generator().manual_seed(0))]
    expect(
        answer,
        head,
        [
            {"counts": small, "ranks": 2, "limit": 1.5},
            {"counts": small, "ranks": 4, "limit": 1.4},
            {"counts": torch.tensor([3, 3, 3, 3, 3]), "ranks": 4, "limit": 1.25},
            {"counts": torch.tensor([5, 4]), "ranks": 2, "limit": 1.0},
            {"counts": torch.tensor([4, 1, 4, 4]), "ranks": 2, "limit": 1.1},
            {"counts": torch.tensor([2, 1, 3]), "ranks": 2, "limit": 1.0},
            {"counts": movies, "ranks": 4, "limit": 1.5},
        ],
        mistakes=[
            Mistake(
                lambda counts, ranks, limit: head(counts, ranks, limit, False),
                "lookups of copied rows were left out. They still are lookups, and every rank "
                "serves its share of them: a P-th.",
            ),
            Mistake(
                lambda counts, ranks, limit: max(0, head(counts, ranks, limit) - 1),
                "one row too few: there, the busiest rank is over the limit.",
            ),
            Mistake(
                lambda counts, ranks, limit: head(counts, ranks, limit) + 1,
                "one row fewer will do: try 0 rows, too, and stop at the limit itself.",
            ),
        ],
        otherwise="for each number of rows, from 0 on: set the hottest to 0 (of equals the lower "
        "id), add up blocks, give each rank a P-th of the head, compare the busiest with the mean.",
        tolerance=1e-9,
        learnt="A head evens out its own lookups only. Where the rest is uneven, too, it has to be "
        "long; shuffle first, then copy what is left.",
    )
    lines = [
        f"  busiest at most {limit:.2f} times the mean: {head(movies, 4, limit):4} rows of "
        f"{len(movies):,} in blocks, {head(mixed, 4, limit)} when shuffled"
        for limit in (1.5, 1.25, 1.1)
    ]
    print("MovieLens' movies on 4 ranks:", *lines, sep="\n")


def check_loads(answer: Callable[[int], Sequence[float]]) -> None:
    """Exercise 5: tables with which dealing out the largest first is as bad as it can be."""
    for ranks in (2, 3, 4):
        found = call(answer, {"ranks": ranks})
        try:
            loads = [float(one) for one in found]
        except (TypeError, ValueError, OverflowError):
            raise NotRight(f"With {ranks} ranks: {found!r} is no list of numbers.") from None
        if not 0 < len(loads) <= 2 * ranks + 1 or not all(0 < one < np.inf for one in loads):
            raise NotRight(
                f"With {ranks} ranks: {len(loads)} loads, {loads}. Expected one to "
                f"{2 * ranks + 1} numbers above 0."
            )
        dealt, best = _dealt(loads, ranks), _best(sorted(loads, reverse=True), ranks)
        target = (4 * ranks - 1) / (3 * ranks)
        words = (
            f"{ranks} ranks, loads {found}: dealt out, the busiest has {dealt:g}; at best "
            f"{best:g}. That is {dealt / best:.3f} times as much"
        )
        if not dealt / best >= target - 1e-9:
            why = (
                "Dealing found the best, so it is not fooled. It looks good up to its last table: "
                "let that one be large, and come when all ranks are equally full."
                if dealt <= best * (1 + 1e-9)
                else "You have fooled it. Now let the best plan have all ranks equally full, too."
            )
            raise NotRight(f"{words}; {4 * ranks - 1}/{3 * ranks} is possible. {why}")
        print(words)
    right(
        "And it cannot get worse: 4/3 - 1/(3P) is a theorem (Graham 1969). So the simple rule is "
        "never off by more than a third, as long as one number is all that counts."
    )


def _dealt(loads: Sequence[float], ranks: int) -> float:
    """The busiest rank's load, the largest first, each to whoever has least."""
    full = [0.0] * ranks
    for one in sorted(loads, reverse=True):
        full[full.index(min(full))] += one
    return max(full)


def _best(loads: Sequence[float], ranks: int) -> float:
    """The busiest rank's load under the best of all plans, by trying them."""
    best = sum(loads)

    def place(number: int, full: list[float]) -> None:
        nonlocal best
        if number == len(loads):
            best = min(best, max(full))
            return
        for rank in {load: rank for rank, load in enumerate(full)}.values():  # equal ones once
            if full[rank] + loads[number] < best:
                full[rank] += loads[number]
                place(number + 1, full)
                full[rank] -= loads[number]

    place(0, [0.0] * ranks)
    return best
