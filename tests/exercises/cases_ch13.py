"""Right and wrong answers to the exercises of chapter 13."""

from itertools import pairwise

import numpy as np
import torch
from torch.nn import functional

from tests.exercises.trying import Wrong


def place_one_by_one(ids, n, pieces):
    block = int(np.ceil(n / pieces))
    found = [divmod(one, block) for one in ids.tolist()]
    return [piece for piece, _ in found], [inside for _, inside in found]


def place_as_columns(ids, n, k):
    piece = ids * k // n
    return piece, ids - piece * n // k


def mean_by_joining(blocks, ids, offsets):
    return functional.embedding_bag(
        ids, torch.cat(list(blocks)), offsets, mode="mean", include_last_offset=True
    )


def mean_bag_by_bag(pieces, ids, ends):
    table = np.concatenate([piece.numpy() for piece in pieces])
    found = np.zeros((len(ends) - 1, table.shape[1]))
    for bag, (low, high) in enumerate(pairwise(ends.tolist())):
        for one in ids[low:high].tolist():
            found[bag] += table[one] / int(high - low)
    return found


def mean_broken(blocks, ids, offsets, average=False, count=False, sums=False):
    bags = len(offsets) - 1
    bag = torch.arange(bags).repeat_interleave(offsets.diff())
    total, there = torch.zeros(bags, blocks[0].shape[1]), torch.zeros(bags, 1)
    for k, block in enumerate(blocks):
        mine = ids // len(blocks[0]) == k
        number = bag[mine].bincount(minlength=bags)[:, None]
        part = torch.zeros_like(total).index_add(
            0, bag[mine], block[ids[mine] - k * len(blocks[0])]
        )
        total = total + (part if sums else part / number.clamp(min=1))
        there += number > 0
    return total / len(blocks) if average else total / there.clamp(min=1) if count else total


def mean_of_no_rows(blocks, ids, offsets):
    return mean_broken(blocks, ids, offsets, sums=True) / offsets.diff()[:, None]


def bytes_by_pieces(form, n, d, k, ranks):
    pieces = {
        "table-wise": [(n, d)],
        "row-wise": [(n / k, d)] * k,
        "column-wise": [(n, d / k)] * k,
        "data-parallel": [(n, d)] * ranks,
    }[form]
    return sum(4 * rows * (columns + 1) for rows, columns in pieces)


def head_one_by_one(c, p, limit, halved=False):
    """Halving in is wrong: a row that is copied may leave the busiest block as it was."""
    c = c.numpy().astype(float)
    order = np.lexsort((np.arange(len(c)), -c))

    def enough(h):
        hot = np.isin(np.arange(len(c)), order[:h])
        blocks = np.zeros(p)
        for rank, rows in enumerate(
            np.array_split(np.arange(len(c)), np.arange(1, p) * -(-len(c) // p))
        ):
            blocks[rank] = c[rows][~hot[rows]].sum()
        return (blocks + c[hot].sum() / p).max() <= limit * c.sum() / p + 1e-9

    low, high = 0, len(c)
    if not halved:
        return next(h for h in range(high + 1) if enough(h))
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return low


def head_not_served(counts, ranks, limit):
    block = torch.arange(len(counts)) // -(-len(counts) // ranks)
    order, rest = counts.argsort(descending=True, stable=True), counts.double()
    for h in range(len(counts) + 1):
        served = torch.zeros(ranks).double().index_add(0, block, rest)
        if served.max() <= limit * max(float(rest.sum()), 1) / ranks + 1e-9:
            return h
        rest[order[h]] = 0
    return None


def head_of_the_last(counts, ranks, limit):
    """Among equals the higher id first."""
    rest, copied, head = counts.double(), 0, 0.0
    block = torch.arange(len(counts)) // -(-len(counts) // ranks)
    while True:
        served = torch.zeros(ranks).double().index_add(0, block, rest) + head / ranks
        if served.max() <= limit * counts.sum() / ranks:
            return copied
        hottest = len(rest) - 1 - int(rest.flip(0).argmax())
        head, copied = head + float(rest[hottest]), copied + 1
        rest[hottest] = 0


def head_from_one(counts, ranks, limit):
    return max(1, head_one_by_one(counts, ranks, limit))


def loads_as_known(p):
    return np.array([5, 5, 4, 4, 3, 3, 3.0]) if p == 3 else {
        2: (30, 30, 20, 20, 20), 4: [7, 7, 6, 6, 5, 5, 4, 4, 4]
    }[p]  # fmt: skip


RIGHT = {
    "check_place": [place_one_by_one],
    "check_mean": [mean_by_joining, mean_bag_by_bag],
    "check_bytes": [bytes_by_pieces],
    "check_head": [head_one_by_one],
    "check_loads": [loads_as_known, lambda p: [x / 3 for x in loads_as_known(p)]],
}
WRONG = {
    "check_place": [
        Wrong("rounded down", lambda i, n, k: (i // (n // k), i % (n // k)), "round up"),
        Wrong("in turns", lambda i, n, k: (i % k, i // k), "dealt out in turns"),
        Wrong("evenly", place_as_columns, "as evenly as can be"),
        Wrong("row of the table", lambda i, n, k: (i // -(-n // k), i), "counts its rows from 0"),
        Wrong("the piece only", lambda i, n, k: i // -(-n // k), "the type"),
    ],
    "check_mean": [
        Wrong("the broken one", mean_broken, "the blocks' means were added"),
        Wrong("over all blocks", lambda *a: mean_broken(*a, average=True), "a mean of means"),
        Wrong("over blocks found", lambda *a: mean_broken(*a, count=True), "a mean of means"),
        Wrong("sums", lambda *a: mean_broken(*a, sums=True), "the bag's length is missing"),
        Wrong("no rows", mean_of_no_rows, "an empty bag was divided by 0"),
    ],
    "check_bytes": [
        Wrong(
            "no state", lambda f, n, d, k, p: 4 * n * d * (p if f[0] == "d" else 1), "is missing"
        ),
        Wrong(
            "one state",
            lambda f, n, d, k, p: 4 * n * (d + 1) * (p if f[0] == "d" else 1),
            "k ranks",
        ),
        Wrong("k states", lambda f, n, d, k, p: 4 * n * (d + k), "where only rows are cut"),
        Wrong(
            "no copies",
            lambda f, n, d, k, p: 4 * n * (d + (k if f[0] == "c" else 1)),
            "all P ranks have a copy",
        ),
        Wrong("Adagrad", lambda f, n, d, k, p: 8 * n * d * (p if f[0] == "d" else 1), "Adagrad's"),
    ],
    "check_head": [
        Wrong("head not served", head_not_served, "were left out"),
        Wrong("one too few", lambda *a: max(0, head_one_by_one(*a) - 1), "one row too few"),
        Wrong("one too many", lambda *a: head_one_by_one(*a) + 1, "one row fewer"),
        Wrong("one at least", head_from_one, "one row fewer"),
        Wrong("halved in", lambda *a: head_one_by_one(*a, halved=True), "from 0 on"),
        Wrong("the higher id first", head_of_the_last, "of equals the lower"),
        Wrong("all", lambda c, p, limit: len(c), "for each number of rows"),
    ],
    "check_loads": [
        Wrong("equal ones", lambda p: [1] * p, "Dealing found the best"),
        Wrong("fooled a little", lambda p: [5, 5, 4, 4, 4], "is possible. You have fooled it"),
        Wrong("too many", lambda p: [1] * 20, "20 loads"),
        Wrong("below 0", lambda p: [3, -1], "numbers above 0"),
        Wrong("beyond all numbers", lambda p: [10**400], "no list of numbers"),
        Wrong("a sum beyond all", lambda p: [1e308] * 5, "is possible"),
        Wrong("one number", lambda p: 7, "no list of numbers"),
        Wrong("for two ranks only", lambda p: [3, 3, 2, 2, 2], "3 ranks"),
    ],
}
