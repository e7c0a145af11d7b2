"""Right and wrong answers to the exercises of chapter 06."""

from itertools import combinations

import numpy as np
import torch

from tests.exercises.trying import Wrong


def width_by_formula(rows, n, layers, budget):
    if layers == 0:
        return budget // rows
    a, b = layers * n * n, rows + layers * n
    return int((-b + np.sqrt(b * b + 4.0 * a * budget)) / (2 * a))


def width_of(cost):
    def search(rows, n, layers, budget):
        dim = 0
        while cost(rows, n, layers, dim + 1) <= budget:
            dim += 1
        return dim

    return search


def hidden_by_inclusion(term, p_a, p_b, p_c):
    t = term.double().numpy()
    a, b, c = (p.double().numpy() for p in (p_a, p_b, p_c))
    ab, ac = np.einsum("abc,c->ab", t, c), np.einsum("abc,b->ac", t, b)
    bc = np.einsum("abc,a->bc", t, a)
    left = t - ab[:, :, None] - ac[:, None] - bc[None]
    left += (ab @ b)[:, None, None] + (a @ ab)[None, :, None] + (a @ ac)[None, None]
    return left - a @ ab @ b


def hidden_evenly(term, *_shares):
    for axis in range(3):
        term = term - term.mean(axis, keepdim=True)
    return term


def hidden_from_each(term, p_a, p_b, p_c):
    mean = torch.einsum("abc,a,b,c->", term, p_a, p_b, p_c)
    of_a = torch.einsum("abc,b,c->a", term, p_b, p_c)[:, None, None]
    of_b = torch.einsum("abc,a,c->b", term, p_a, p_c)[:, None]
    return term - of_a - of_b - torch.einsum("abc,a,b->c", term, p_a, p_b) + 2 * mean


def strength_by_where(z, rows, other, f, g):
    taken = torch.zeros(4, rows.shape[1], dtype=torch.bool)
    taken[1, f] = taken[2, g] = taken[3, f] = taken[3, g] = True
    plain, one, two, both = (z(torch.where(which, other, rows)) for which in taken)
    return float(np.sqrt(np.mean((plain - one - two + both).numpy() ** 2)) / 2)


def strength_in_place(z, rows, other, f, g):
    def swapped(*features):
        taken = rows
        for feature in features:
            taken[:, feature] = other[:, feature]
        return z(taken)

    return (z(rows) - swapped(f) - swapped(g) + swapped(f, g)).square().mean().sqrt() / 2


def strength_of_one_copy(z, rows, other, f, g):
    return strength_in_place(z, rows.clone(), other, f, g)


def orders_by_polynomial(x, highest):
    # the product of (1 + x t) has the sums as the factors of t^k
    columns = []
    for coordinate in x.double().numpy().T:
        factors = np.ones(1)
        for number in coordinate:
            factors = np.convolve(factors, [1.0, number])
        columns.append(np.pad(factors, (0, highest + 1))[: highest + 1])
    return np.stack(columns, axis=1)


def orders_with_itself(x, highest):
    sums = torch.zeros(highest + 1, x.shape[1])
    sums[0] = 1
    for vector in x:
        for k in range(1, highest + 1):
            sums[k] += vector * sums[k - 1]
    return sums


def orders_twice(x, highest):
    sums = [torch.ones(x.shape[1])]
    for k in range(1, highest + 1):
        groups = [x[list(group)].prod(0) for group in combinations(range(len(x)), k)]
        sums.append(np.prod(range(1, k + 1)) * sum(groups, torch.zeros(x.shape[1])))
    return torch.stack(sums)


def network(numbers):
    found = {"W1": np.zeros((3, 3)), "b1": np.zeros(3), "W2": np.zeros((3, 3)), "b2": np.zeros(3)}
    for (name, *place), number in numbers.items():
        found[name][tuple(place)] = number
    return lambda: tuple(found.values())


RIGHT = {
    "check_width": [width_by_formula],
    "check_hidden": [hidden_by_inclusion],
    "check_strength": [strength_by_where],
    "check_orders": [orders_by_polynomial],
    "check_abc": [
        network({("W1", 2, 1): 2, ("b1", 2): -1, ("W2", 0, 2): 0.5, ("b2", 0): -1}),
        network({("W1", 1, 2): 1, ("W1", 0, 1): -1, ("W2", 0, 1): 1, ("b2", 0): -1}),
    ],
}
WRONG = {
    "check_width": [
        Wrong(
            "no bias", width_of(lambda r, n, k, d: r * d + k * (n * d) ** 2), "biases are missing"
        ),
        Wrong(
            "diagonal",
            width_of(lambda r, n, k, d: r * d + k * (n * d * d + n * d)),
            "matrix is too small",
        ),
        Wrong(
            "one layer", width_of(lambda r, n, k, d: r * d + (n * d) ** 2 + n * d), "one layer was"
        ),
        Wrong("below the budget", lambda r, n, k, b: width_by_formula(r, n, k, b - 1), "exactly"),
        Wrong("too wide", lambda *sizes: width_by_formula(*sizes) + 1, "over the budget"),
    ],
    "check_hidden": [
        Wrong("evenly", hidden_evenly, "counted alike"),
        Wrong("c only", lambda t, a, b, c: t - (t * c).sum(2, keepdim=True), "mean over c is gone"),
        Wrong("main effects", hidden_from_each, "not what pairs say"),
        Wrong("pairs", lambda t, a, b, c: (t * c).sum(2), "the shape"),
    ],
    "check_strength": [
        Wrong("the broken one", strength_in_place, "changed its input rows"),
        Wrong("one copy", strength_of_one_copy, "a fresh copy"),
        Wrong("no half", lambda *case: 2 * strength_by_where(*case), "half is missing"),
        Wrong(
            "both only",
            lambda z, rows, other, f, g: strength_by_where(
                lambda x: z(x) if (x == other).any() else 0 * z(x), rows, other, f, g
            ),
            "only adds",
        ),
    ],
    "check_orders": [
        Wrong("with itself", orders_with_itself, "multiplied by itself"),
        Wrong("ordered", orders_twice, "all its six orders"),
        Wrong("power sums", lambda x, k: torch.stack([x**m for m in range(k + 1)]).sum(1), "power"),
        Wrong("no order 0", lambda x, k: orders_by_polynomial(x, k)[1:], "the shape"),
    ],
    "check_abc": [
        Wrong("nothing", network({}), "abc is not in it"),
        Wrong("left over", network({("W1", 1, 2): 1, ("W2", 0, 1): 1}), "expected abc alone"),
        Wrong(
            "five",
            network({("W1", 1, 2): 1, ("b1", 1): -1, ("b1", 0): -1, ("W2", 0, 1): 1, ("b1", 2): 3}),
            "4 are enough",
        ),
        Wrong("two of four", lambda: (torch.zeros(3, 3), torch.zeros(3)), "Expected the four"),
        Wrong(
            "flat",
            lambda: (torch.zeros(9), torch.zeros(3), torch.zeros(9), torch.zeros(3)),
            "W1 has the shape",
        ),
    ],
}
