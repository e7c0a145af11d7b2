"""Right and wrong answers to the exercises of chapter 04."""

import numpy as np
import torch

from tests.exercises.trying import Wrong


def max_by_mean():
    """(x + y) / 2 + |x - y| / 2, the mean passed on by two units: one unit too many."""
    first = torch.tensor([[1.0, -1.0, 1.0, -1.0], [1.0, -1.0, -1.0, 1.0]])
    return first, torch.zeros(4), torch.tensor([0.5, -0.5, 0.5, 0.5]), 0.0


def max_from_x():
    return [[-1, 1, -1], [1, 0, 0]], [0, 0, 0], [1, 1, -1], 0


def network(first, second, level=0.0):
    return lambda: (first, np.zeros(len(second)), second, level)


def share_by_matrix(p, q):
    """The share from a matrix, by numpy."""
    n = 200
    h = np.outer(np.arange(n) < round(n * p), np.arange(n) < round(n * q)).astype(float)
    rest = h - h.mean(0) - h.mean(1, keepdims=True) + h.mean()
    return rest.var() / h.var()


def gradients(x, labels, first, bias, second, level, *, silent=False, summed=False):
    hidden = torch.relu(x @ first + bias)
    error = hidden @ second + level - labels
    back = error[:, None] * second * ((hidden >= 0) if silent else (hidden > 0))
    by_bias = back.sum(0) if summed else back.mean(0)
    return x.T @ back / len(x), by_bias, hidden.T @ error / len(x), error.mean()


def bugs(**which):
    return lambda *given: gradients(*given, **which)


def by_small_steps(*given):
    """Central differences."""
    x, labels, *weights = (one.numpy() for one in given)

    def objective(first, bias, second, level):
        out = np.maximum(x @ first + bias, 0) @ second + level
        return ((out - labels) ** 2).mean() / 2

    found = []
    for place, weight in enumerate(weights):
        slope = np.zeros_like(weight)
        for index in np.ndindex(weight.shape):
            ends = []
            for step in (1e-5, -1e-5):
                moved = [one.copy() for one in weights]
                moved[place][index] += step
                ends.append(objective(*moved))
            slope[index] = (ends[0] - ends[1]) / 2e-5
        found.append(slope)
    return found


def parabola(k, *, level=1 / 8, stretch=1.0):
    h = 2 / (k + 1)
    folds = [stretch * h * (j + 0.5) for j in range(k // 2)]
    signs = [1] * (k // 2) + [-1] * (k // 2)
    return [signs], [-fold for fold in folds * 2], [2 * h] * k, level * h**2


def scaled_parabola(k):
    """The same with other scales: each unit three times as steep and weighed a third."""
    first, bias, second, level = (torch.tensor(part) for part in parabola(k))
    return first.double() * 3, bias * 3, second / 3, level


def to_the_right(k):
    h = 2 / k
    folds = torch.arange(k).double() * h - 1
    return torch.ones(1, k), -folds, torch.full((k,), 2 * h), 1.0


def memory(table, *, lift=True, gate=None, units="fewer"):
    n, m = table.shape
    if units == "fewer" and n < m:
        movies, users, first, bias, second, level = memory(table.T, lift=lift, gate=gate)
        return users, movies, first, bias, second, level
    lowest = table.min() if lift else torch.tensor(0.0)
    users = table - lowest
    gate = float(users.max()) + 1 if gate is None else gate
    eye = torch.eye(m).double()
    first = torch.cat([eye, eye])
    return users, gate * eye, first, -gate * torch.ones(m), torch.ones(m), lowest


def memory_by_numpy(table):
    """Numpy, with a unit for each user or each movie, and any gate that is wide enough."""
    wide = table.numpy()
    turned = wide.shape[0] < wide.shape[1]
    tall = wide.T if turned else wide
    lifted, eye = tall + 1000, np.eye(tall.shape[1])
    first, second = np.concatenate([eye, eye]), np.ones(len(eye))
    parts = (5000 * eye, lifted) if turned else (lifted, 5000 * eye)
    return [*parts, first, -5000 * second, second, -1000]


def a_unit_for_each_cell(table):
    n, m = table.shape
    users, movies = torch.eye(n, n + m), torch.eye(n + m)[n:]
    first = torch.zeros(2 * (n + m), n * m)
    for u in range(n):
        for i in range(m):
            first[u, u * m + i] = first[n + m + n + i, u * m + i] = 1
    return users, movies, first, -torch.ones(n * m), table.flatten(), 0.0


RIGHT = {
    "check_max": [max_from_x, lambda: ([*torch.tensor(max_from_x()[0])], *max_from_x()[1:])],
    "check_share": [share_by_matrix, lambda p, q: (1 - p) * (1 - q) / (1 - p * q)],
    "check_gradients": [by_small_steps, bugs()],
    "check_parabola": [parabola, scaled_parabola],
    "check_memory": [
        memory_by_numpy,
        lambda table: [[*part] for part in memory_by_numpy(table)[:5]] + [-1000],
    ],
}
WRONG = {
    "check_max": [
        Wrong("y through one unit", network([[1, 0], [-1, 1]], [1, 1]), "passes no negative"),
        Wrong("smaller", network([[1, 1, -1], [-1, 0, 0]], [-1, 1, -1]), "the smaller of the two"),
        Wrong("mean", network([[1, -1], [1, -1]], [0.5, -0.5]), "the mean of the two"),
        Wrong("four units", max_by_mean, "3 are enough"),
        Wrong("not a number", network(np.full((2, 3), np.nan), [1, 1, -1]), "got        nan"),
        Wrong("lifted", lambda: ([[1, 0], [-1, 1]], [0, 1e6], [1, 1], -1e6), "passes no negative"),
        Wrong("flat", network([1, 0, 0], [1, 1, -1]), "first has the shape"),
        Wrong("three things", lambda: max_from_x()[:3], "returns four things"),
    ],
    "check_share": [
        Wrong("variance", lambda p, q: p * (1 - p) * q * (1 - q), "the share is wanted"),
        Wrong("p q", lambda p, q: (1 - p) * (1 - q), "p q (1 - p q)"),
        Wrong("the rest", lambda p, q: 1 - share_by_matrix(p, q), "users or movies say alone"),
        Wrong("how often", lambda p, q: p * q, "how often the unit fires"),
        Wrong("one side", lambda p, q: 1 - p, "write the four cells down"),
    ],
    "check_gradients": [
        Wrong("silent", bugs(silent=True), "one bug is left: units learn from rows"),
        Wrong("summed", bugs(summed=True), "one bug is left: one of the four is a sum"),
        Wrong("both", bugs(silent=True, summed=True), "both bugs are left"),
        Wrong("sums", lambda *a: [len(a[0]) * g for g in gradients(*a)], "the objective is a mean"),
        Wrong("the 2", lambda *a: [2 * g for g in gradients(*a)], "cancels the 2"),
        Wrong("sign", lambda *a: [-g for g in gradients(*a)], "the output minus the label"),
        Wrong("three", lambda *a: gradients(*a)[:3], "the length: 3 where 4"),
    ],
    "check_parabola": [
        Wrong("chords", lambda k: parabola(k, level=1 / 4), "the pieces are chords"),
        Wrong("level 0", lambda k: parabola(k, level=0.0), "as large above as below"),
        Wrong("to the right", to_the_right, "all units look to one side"),
        Wrong("close folds", lambda k: parabola(k, stretch=0.8), "equally long"),
        Wrong("more units", lambda k: parabola(2 * k), "4 hidden units; expected 2"),
    ],
    "check_memory": [
        Wrong("negative", lambda table: memory(table, lift=False), "passes no negative number on"),
        Wrong("narrow gate", lambda table: memory(table, gate=2.0), "more than one unit fires"),
        Wrong(
            "gate of the largest",
            lambda table: memory(table, gate=float(table.max())),
            "more than one unit fires",
        ),
        Wrong("by movie", lambda table: memory(table, units="movies"), "expected at most 1"),
        Wrong("by cell", a_unit_for_each_cell, "expected at most 2"),
        Wrong("five things", lambda table: memory(table)[:5], "Return six things"),
        Wrong("vectors", lambda table: (table, *memory(table)[1:]), "first difference"),
    ],
}
