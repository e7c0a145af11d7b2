"""Right and wrong answers to the exercises of chapter 08."""

import numpy as np
import torch

from tests.exercises.trying import Wrong


def gradients_by_autograd(ids, offsets, arrives):
    table = torch.zeros(10, arrives.shape[1], requires_grad=True)
    torch.nn.functional.embedding_bag(
        ids, table, offsets, mode="mean", include_last_offset=True
    ).backward(arrives)
    rows = ids.unique()
    return rows.tolist(), table.grad[rows]


def gradients_in_lists(ids, offsets, arrives):
    found = {}
    for bag, gradient in enumerate(arrives.tolist()):
        mine = ids[offsets[bag] : offsets[bag + 1]].tolist()
        for row in mine:
            before = found.get(row, [0.0] * len(gradient))
            found[row] = [x + g / len(mine) for x, g in zip(before, gradient, strict=True)]
    return sorted(found), [found[row] for row in sorted(found)]


def bag_of(offsets):
    return torch.arange(len(offsets) - 1).repeat_interleave(offsets.diff())


def summed(ids, of_lookup):
    rows, place = ids.unique(return_inverse=True)
    return rows, torch.zeros(len(rows), of_lookup.shape[1]).index_add_(0, place, of_lookup)


def by_lookup(ids, offsets, arrives):
    bag = bag_of(offsets)
    return ids, arrives[bag] / offsets.diff()[bag, None]


def mean_of_row(ids, offsets, arrives):
    rows, total = summed(ids, arrives[bag_of(offsets)])
    return rows, total / ids.bincount()[rows, None]


def streams(same, apart):
    return lambda: (np.array(same), np.array(apart))


SAME, APART = [[2.0, -2.0], [1.0, 1.0], [-4.0, 4.0]], [[10.0, 0.5]]


def adagrad_dense(table, sums, ids, gradients, lr, eps=1e-8):
    dense = np.zeros(table.shape)
    np.add.at(dense, ids.numpy(), gradients.numpy())
    sums = sums.numpy() + dense**2
    return table.numpy() - lr * dense / (np.sqrt(sums) + eps), sums


def adagrad_by_row(table, sums, ids, gradients, lr, eps=1e-8):
    table, sums = table.clone(), sums.clone()
    for row in set(ids.tolist()):
        g = gradients[ids == row].sum(0)
        sums[row] += g**2
        table[row] -= lr * g / (sums[row].sqrt() + eps)
    return table, sums


def adagrad_last(table, sums, ids, gradients, lr, eps=1e-8):
    table, sums = table.clone(), sums.clone()
    sums[ids] += gradients.square()
    table[ids] -= lr * gradients / (sums[ids].sqrt() + eps)
    return table, sums


def adagrad_squares(table, sums, ids, gradients, lr, eps=1e-8):
    sums = sums.index_add(0, ids, gradients**2)
    return table.index_add(0, ids, -lr * gradients / (sums[ids].sqrt() + eps)), sums


def adagrad_first(table, sums, ids, gradients, lr, eps=1e-8):
    rows = ids.unique()
    return adagrad_last(table, sums, rows, gradients[: len(rows)], lr, eps)


def adagrad_in_place(table, sums, ids, gradients, lr, eps=1e-8):
    rows, total = summed(ids, gradients)
    sums[rows] += total.square()
    table[rows] -= lr * total / (sums[rows].sqrt() + eps)
    return table, sums


def caught_up(weights, velocity, missed, lr, momentum):
    w, v = weights.double().numpy().copy(), velocity.double().numpy().copy()
    for row, steps in enumerate(missed.tolist()):
        for _ in range(steps):
            v[row] *= momentum
            w[row] -= lr * v[row]
    return w, v


def caught_up_in_float32(weights, velocity, missed, lr, momentum):
    w, v = torch.zeros(weights.shape), torch.zeros(weights.shape)
    everywhere = torch.arange(len(missed))
    left = (momentum**missed)[:, None]
    w[everywhere] = weights - lr * momentum * (1 - left) / (1 - momentum) * velocity
    v[everywhere] = left * velocity
    return w, v


def owed(way, decayed=True):
    def answer(w, v, missed, lr, m):
        k = missed.double()[:, None]
        return w - lr * way(k, m) * v, v * m**k if decayed else v

    return answer


RIGHT = {
    "check_row_gradients": [gradients_by_autograd, gradients_in_lists],
    "check_break_even": [lambda lookups, dim: round(lookups / 2 + lookups / (2 * dim))],
    "check_streams": [streams(SAME, APART)],
    "check_adagrad": [adagrad_dense, adagrad_by_row],
    "check_catch_up": [caught_up, caught_up_in_float32],
}
WRONG = {
    "check_row_gradients": [
        Wrong("sum", lambda i, o, a: summed(i, a[bag_of(o)]), "gradient of a sum"),
        Wrong("by lookup", by_lookup, "not added up yet"),
        Wrong("by count", mean_of_row, "how often the row comes"),
        Wrong("unsorted", lambda i, o, a: [x.flip(0) for x in summed(*by_lookup(i, o, a))],
              "rising order"),
        Wrong("gradients only", lambda i, o, a: summed(*by_lookup(i, o, a))[1], "the type"),
    ],
    "check_break_even": [
        Wrong("no ids", lambda v, d: v / 2, "ids are missing"),
        Wrong("no scatter", lambda v, d: v + v / (2 * d), "cost by lookup too"),
        Wrong("no zeros", lambda v, d: (2 * v + 2 * v / d) / 3, "zeros are missing"),
        Wrong("Adam", lambda v, d: v / 4 + v / (4 * d), "this is for Adam"),
        Wrong("the lookups", lambda v, d: v, "as functions of N"),
    ],
    "check_streams": [
        Wrong("one", lambda: np.array(SAME), "Expected two streams"),
        Wrong("wide", streams(np.ones((3, 3)), APART), "expected (S, 2)"),
        Wrong("too large", streams(SAME, [[100.0, 1.0]]), "from -10 to 10"),
        Wrong("columns alike", streams(np.ones((3, 2)), APART), "one number written twice"),
        Wrong("not same", streams([[2.0, 1.0]] * 3, APART), "the two rules part"),
        Wrong("wrong way", streams(SAME, [[0.5, 10.0]]), "is the small one"),
        Wrong("not enough", streams(SAME, [[10.0, 4.0]]), "too much like the first"),
    ],
    "check_adagrad": [
        Wrong("the broken one", adagrad_last, "last one written stays"),
        Wrong("squares added", adagrad_squares, "squared by itself"),
        Wrong("first of each", adagrad_first, "add up the gradients first"),
        Wrong("uphill", lambda t, s, i, g, lr: adagrad_by_row(t, s, i, g, -lr), "as they were"),
        Wrong("in place", adagrad_in_place, "changed its input table"),
    ],
    "check_catch_up": [
        Wrong("too early", owed(lambda k, m: (1 - m**k) / (1 - m)), "one step too early"),
        Wrong("full", owed(lambda k, m: k), "shrinks from step to step"),
        Wrong("last", owed(lambda k, m: m**k), "only the last missed"),
        Wrong(
            "velocity", owed(lambda k, m: m * (1 - m**k) / (1 - m), False), "has to shrink as well"
        ),
        Wrong("nothing", lambda w, v, *_: (w, v), "after one missed step"),
    ],
}  # fmt: skip
