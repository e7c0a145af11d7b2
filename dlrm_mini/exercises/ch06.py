"""Checks of the exercises to chapter 06, which interactions matter."""

from collections.abc import Callable
from itertools import combinations_with_replacement, permutations
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dlrm_mini.exercises.checking import Mistake, NotRight, call, expect, right, shown, tensor

Model = Callable[[Tensor], Tensor]
LETTERS = "abc"
MONOMIALS = [
    "".join(one) for order in range(4) for one in combinations_with_replacement(LETTERS, order)
]
FEWEST = 4  # numbers of a two-layer cross network that makes abc; exercise 5 proves it


def check_width(answer: Callable[[int, int, int, int], int]) -> None:
    """Exercise 1: the widest vectors that a budget leaves beside a cross network."""

    def widest(cost: Callable[[int, int, int, int], int]) -> Callable[[int, int, int, int], int]:
        def search(rows: int, n: int, layers: int, budget: int) -> int:
            dim = 0
            while cost(rows, n, layers, dim + 1) <= budget:
                dim += 1
            return dim

        return search

    right_one = widest(lambda rows, n, layers, d: rows * d + layers * ((n * d) ** 2 + n * d))
    expect(
        answer,
        right_one,
        [
            {"rows": 240, "n": 9, "layers": 0, "budget": 7620},
            {"rows": 10, "n": 3, "layers": 1, "budget": 195},
            {"rows": 10, "n": 3, "layers": 1, "budget": 196},
            {"rows": 240, "n": 9, "layers": 2, "budget": 7620},
            {"rows": 240, "n": 9, "layers": 2, "budget": 200},
            {"rows": 33_762_577, "n": 27, "layers": 2, "budget": 541_000_000},
        ],
        mistakes=[
            Mistake(
                widest(lambda rows, n, layers, d: rows * d + layers * (n * d) ** 2),
                "the biases are missing: a layer has n D of them beside its weights.",
            ),
            Mistake(
                widest(lambda rows, n, layers, d: rows * d + layers * (n * d * d + n * d)),
                "the matrix is too small: it maps n D numbers to n D numbers, so it has a block "
                "of D² for each of n² pairs of vectors.",
            ),
            Mistake(
                widest(lambda rows, n, layers, d: rows * d + (n * d) ** 2 + n * d),
                "one layer was counted, whatever `layers` says.",
            ),
            Mistake(
                lambda rows, n, layers, budget: right_one(rows, n, layers, budget - 1),
                "a width that costs exactly the budget fits into it.",
            ),
            Mistake(lambda *sizes: right_one(*sizes) + 1, "rounded up, and over the budget."),
        ],
        otherwise="write the cost of a width D as a function first, then try D = 1, 2, 3, ...",
        tolerance=1e-9,
        learnt="Beside tables of 240 rows two cross layers take four fifths of the width; beside "
        "34 million rows they cost less than a thousandth of it.",
    )


def _without(term: Tensor, weights: list[Tensor]) -> Tensor:
    """The term less its weighted mean over each axis in turn."""
    left = term.double()
    for axis, weight in enumerate(weights):
        shape = [-1 if axis == one else 1 for one in range(3)]
        left = left - (left * weight.double().view(shape)).sum(axis, keepdim=True)
    return left


def _hidden(term: Tensor, *shares: Tensor) -> Tensor:
    return _without(term, list(shares))


def _evenly(term: Tensor, *shares: Tensor) -> Tensor:
    return _without(term, [torch.full_like(p, 1 / len(p)) for p in shares])


def _main_effects(term: Tensor, p_a: Tensor, p_b: Tensor, p_c: Tensor) -> Tensor:
    t, a, b, c = (one.double() for one in (term, p_a, p_b, p_c))
    mean = torch.einsum("abc,a,b,c->", t, a, b, c)
    of_a, of_b = torch.einsum("abc,b,c->a", t, b, c), torch.einsum("abc,a,c->b", t, a, c)
    of_c = torch.einsum("abc,a,b->c", t, a, b)
    return t - of_a[:, None, None] - of_b[:, None] - of_c + 2 * mean


def check_hidden(answer: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> None:
    """Exercise 2: what a term of three features says that no two of them say."""
    generator = torch.Generator().manual_seed(6)
    one = torch.zeros(2, 2, 2)
    one[1, 1, 1] = 8.0
    half = torch.full((2,), 0.5)
    random = torch.randn(2, 3, 4, generator=generator)
    shares = [torch.rand(size, generator=generator) + 0.1 for size in (2, 3, 4)]
    shares = [share / share.sum() for share in shares]
    expect(
        answer,
        _hidden,
        [
            {"term": one, "p_a": half, "p_b": half, "p_c": half},
            dict(zip(("term", "p_a", "p_b", "p_c"), (random, *shares), strict=True)),
        ],
        mistakes=[
            Mistake(
                _evenly,
                "every id counted alike: with these shares the mean over a feature's ids is a "
                "weighted one.",
            ),
            Mistake(
                lambda term, p_a, p_b, p_c: term - (term * p_c).sum(2, keepdim=True),
                "only the mean over c is gone. The pairs (a, c) and (b, c) still see something: "
                "take away the mean over b and over a as well.",
            ),
            Mistake(
                _main_effects,
                "what each feature says alone is gone, but not what pairs say: for given a and b "
                "the mean over c is not zero yet.",
            ),
        ],
        otherwise="for any two ids given, the mean over the third feature has to be 0.",
        learnt="A single cell of 8 leaves 1 or -1 in every cell: the parity of the three ids, of "
        "which any two know nothing. The order of the subtractions makes no difference.",
    )


def _additive(rows: Tensor) -> Tensor:
    return rows[:, 0] + 2 * rows[:, 1] - rows[:, 2].square()


def _product(rows: Tensor) -> Tensor:
    return rows[:, 0] + 3 * rows[:, 0] * rows[:, 1] + rows[:, 2]


def _triple(rows: Tensor) -> Tensor:
    return rows[:, 0] * rows[:, 1] * rows[:, 2] + rows[:, 1]


def _swaps(z: Model, rows: Tensor, other: Tensor, *groups: tuple[int, ...]) -> list[Tensor]:
    """The logits with the features of each group taken from the other rows."""
    found = []
    for group in groups:
        taken = rows.double().clone()
        for feature in group:
            taken[:, feature] = other[:, feature].double()
        found.append(z(taken))
    return found


def _strength(z: Model, rows: Tensor, other: Tensor, f: int, g: int) -> float:
    plain, one, two, both = _swaps(z, rows, other, (), (f,), (g,), (f, g))
    return float((plain - one - two + both).square().mean().sqrt() / 2)


def _piling_up(z: Model, rows: Tensor, other: Tensor, f: int, g: int) -> float:
    plain, one, two, both = _swaps(z, rows, other, (), (f,), (f, g), (f, g))
    return float((plain - one - two + both).square().mean().sqrt() / 2)


def check_strength(answer: Callable[[Model, Tensor, Tensor, int, int], float]) -> None:
    """Exercise 3: the mended strength of a pair."""
    generator = torch.Generator().manual_seed(3)
    rows, other = torch.randn(2, 5, 3, generator=generator)
    expect(
        answer,
        _strength,
        [
            {"z": z, "rows": rows, "other": other, "f": f, "g": g}
            for z, f, g in ((_additive, 0, 1), (_product, 0, 1), (_product, 2, 0), (_triple, 1, 2))
        ],
        mistakes=[
            Mistake(
                _piling_up,
                "the second swap starts from rows in which the first one is still done. Each of "
                "the three swaps needs a fresh copy.",
            ),
            Mistake(lambda *case: 2 * _strength(*case), "the half is missing."),
        ],
        otherwise="for a model that only adds, plain - one - other + both is 0 in every row.",
        learnt="`taken = rows` is a second name and no copy. A model that only adds is the test "
        "that finds it: its pairs have strength 0.",
    )


def _orders(x: Tensor, highest: int) -> Tensor:
    found = torch.zeros(highest + 1, x.shape[1], dtype=torch.float64)
    found[0] = 1
    for vector in x.double():
        found[1:] += vector * found[:-1].clone()
    return found


def _tuples(x: Tensor, highest: int, tuples: Callable[[range, int], Any]) -> Tensor:
    """For each order the sum of products over the tuples of so many vectors."""
    if len(x) > 8:
        raise ValueError("too many groups to write down")
    found = [torch.ones(x.shape[1], dtype=torch.float64)]
    for order in range(1, highest + 1):
        chosen = [list(group) for group in tuples(range(len(x)), order)]
        each = [x[group].double().prod(0) for group in chosen]
        found.append(torch.stack(each).sum(0) if each else torch.zeros(x.shape[1]).double())
    return torch.stack(found)


def check_orders(answer: Callable[[Tensor, int], Tensor]) -> None:
    """Exercise 4: the sums over all pairs, triples, ... of (n, D) vectors, by coordinate."""
    few = torch.tensor([[1.0], [2.0], [3.0]])
    many = torch.randn(20, 2, generator=torch.Generator().manual_seed(4))
    same = Mistake(
        lambda x, highest: _tuples(x, highest, combinations_with_replacement),
        "a vector is multiplied by itself: while a vector comes in, the new sums were used "
        "already. Compute all new ones from the old ones, or go from the highest order down.",
    )
    ordered = Mistake(
        lambda x, highest: _tuples(x, highest, permutations),
        "each triple counted in all its six orders, each pair in two.",
    )
    powers = Mistake(
        lambda x, highest: torch.stack([x.double().pow(m).sum(0) for m in range(highest + 1)]),
        "these are the power sums, which formulas begin with.",
    )
    shifted = Mistake(lambda x, highest: _orders(x, highest)[1:], "row 0, all ones, is missing.")
    expect(
        answer,
        _orders,
        [{"x": few, "highest": 3}, {"x": few, "highest": 4}, {"x": many, "highest": 20}],
        mistakes=[same, ordered, powers, shifted],
        otherwise="of 1, 2, 3 the pairs give 2 + 3 + 6, and the only triple gives 6.",
        learnt="All million subsets of 20 vectors, order by order, in 20 steps: the number of "
        "terms says nothing about their price, as long as no term has a weight of its own.",
    )


def _terms(weights: list[Tensor]) -> dict[str, float]:
    """The polynomial in a, b, c that the first number of the output is: monomial -> factor."""
    x0 = torch.rand(60, 3, generator=torch.Generator().manual_seed(5), dtype=torch.float64) + 0.5
    w1, b1, w2, b2 = weights
    x1 = x0 * (x0 @ w1.T + b1) + x0
    x2 = x0 * (x1 @ w2.T + b2) + x1
    columns = [
        torch.stack([x0[:, LETTERS.index(letter)] for letter in one]).prod(0)
        if one else torch.ones(60).double() for one in MONOMIALS
    ]  # fmt: skip
    factors = np.linalg.lstsq(torch.stack(columns, 1).numpy(), x2[:, 0].numpy())[0]
    return {
        one: round(float(factor), 4)
        for one, factor in zip(MONOMIALS, factors, strict=True)
        if abs(factor) > 1e-5
    }


def _polynomial(terms: dict[str, float]) -> str:
    parts = [f"{factor:+g} {one}".replace("1 ", " ", 1) if abs(factor) == 1 and one
             else f"{factor:+g} {one}" for one, factor in terms.items()]  # fmt: skip
    return " ".join(parts).strip() or "0"


def check_abc(answer: Callable[[], tuple[Tensor, Tensor, Tensor, Tensor]]) -> None:
    """Exercise 5: two cross layers whose first number is exactly abc, of four numbers."""
    found = call(answer, {})
    names, shapes = ("W1", "b1", "W2", "b2"), ((3, 3), (3,), (3, 3), (3,))
    if not isinstance(found, list | tuple) or len(found) != 4:
        raise NotRight(f"Expected the four of {', '.join(names)}; got {shown(found)}.")
    weights = [tensor(one, name) for one, name in zip(found, names, strict=True)]
    for name, one, shape in zip(names, weights, shapes, strict=True):
        if one.shape != shape:
            raise NotRight(f"{name} has the shape {tuple(one.shape)}; expected {shape}.")
    terms = _terms(weights)
    used = sum(int((one != 0).sum()) for one in weights)
    if "abc" not in terms:
        raise NotRight(
            f"The first number of your output is {_polynomial(terms)}: abc is not in it.\nThis "
            "usually means: nothing carries b·c on. In layer 1, a row of W1 has to give b or c "
            "the other one as a factor; in layer 2, row 0 of W2 has to pick up that place."
        )
    over = {one: factor for one, factor in terms.items() if one != "abc"}
    if over or abs(terms["abc"] - 1) > 1e-4:
        raise NotRight(
            f"The first number of your output is {_polynomial(terms)}; expected abc alone.\n"
            "This usually means: each layer adds its input (`+ x`), and that is still there. A "
            "bias of -1 takes it away: x0 · (... - 1) + x0."
        )
    if used > FEWEST:
        raise NotRight(
            f"It is abc, with {used} numbers that are not zero; {FEWEST} are enough. Of the other "
            "two numbers of the output nothing is asked, so let them be what they like."
        )
    right(
        f"{used} numbers. Fewer cannot do it: two carry the product, and two terms that the "
        "layers add by themselves, ab and a, have to go. A cross network can be one triple alone."
    )
