"""Right and wrong answers to the exercises of chapter 01."""

import math

import numpy as np
import pandas as pd
import torch

from tests.exercises.trying import Wrong


def bytes_by_tensors(users, items, ratings):
    rows, stars = torch.empty(1, dtype=torch.int64), torch.empty(1, dtype=torch.float32)
    return {
        "bags": (ratings + users + 1) * rows.element_size() + ratings * stars.element_size(),
        "matrix": users * items * stars.element_size(),
        "coordinates": ratings * (2 * rows.nbytes + stars.nbytes),
    }


def bytes_of(row=8, column=8, stars=4, last=1):
    return lambda u, i, n: {
        "matrix": 4 * u * i,
        "coordinates": n * (row + column + stars),
        "bags": n * (8 + stars) + 8 * (u + last),
    }


def select_by_lists(values, offsets, rows):
    v, o = values.tolist(), offsets.tolist()
    bags = [v[o[r] : o[r + 1]] for r in rows.tolist()]
    ends = [0]
    for bag in bags:
        ends.append(ends[-1] + len(bag))
    return [one for bag in bags for one in bag], np.array(ends)


def imaginary_by_search(n1, a1, n2, a2):
    for k in range(10_000):
        if n2 * a2 * (n1 + k) >= n1 * a1 * (n2 + k):
            return k
    return float("inf")


def select_by_cat(values, offsets, rows, kind=torch.int64):
    bags = [values[offsets[r] : offsets[r + 1]] for r in rows]
    ends = torch.zeros(len(rows) + 1, dtype=kind)
    ends[1:] = torch.tensor([len(bag) for bag in bags]).cumsum(0)
    return torch.cat([values[:0], *bags]), ends


def select_sets(values, offsets, rows):
    bags = [sorted(set(values[offsets[r] : offsets[r + 1]].tolist())) for r in rows]
    return [one for bag in bags for one in bag], np.cumsum([0, *map(len, bags)])


def formula(*movies, rounded=math.ceil):
    n1, a1, n2, a2 = movies
    return rounded(n1 * n2 * (a1 - a2) / (n2 * a2 - n1 * a1)) if n2 * a2 > n1 * a1 else math.inf


def imaginary_by_formula_only(n1, a1, n2, a2):
    return max(0, math.ceil(n1 * n2 * (a1 - a2) / (n2 * a2 - n1 * a1 + 1e-9)))


def imaginary_strictly(n1, a1, n2, a2):
    return next((k for k in range(5000) if n2 * a2 / (n2 + k) > n1 * a1 / (n1 + k)), math.inf)


def so_far_by_loop(user, rating, time, default):
    history, result = {}, [default] * len(user)
    order = sorted(range(len(user)), key=lambda row: int(time[row]))
    waiting = []
    for row in order:
        if waiting and time[waiting[0]] != time[row]:
            for past in waiting:
                history.setdefault(int(user[past]), []).append(float(rating[past]))
            waiting = []
        if past := history.get(int(user[row])):
            result[row] = sum(past) / len(past)
        waiting.append(row)
    return result


def masked(compare, missing=None):
    def answer(user, rating, time, default):
        result = []
        for row in range(len(user)):
            rows = (user == user[row]) & compare(time, torch.arange(len(time)), row)
            value = default if missing is None else missing
            result.append(float(rating[rows].mean()) if rows.any() else value)
        return torch.tensor(result)

    return answer


def expanding(user, rating, time, default):
    table = pd.DataFrame({"user": user.numpy(), "rating": rating.numpy()})
    means = table.groupby("user")["rating"].expanding().mean()
    return means.droplevel(0).sort_index().to_numpy()


def said(*ratings):
    return lambda: [(u, i, s) for u, i, s in ratings]


RIGHT = {
    "check_bytes": [bytes_by_tensors],
    "check_select": [select_by_lists, select_by_cat],
    "check_imaginary": [imaginary_by_search],
    "check_paradox": [
        said(("u", "A", 4), ("u", "B", 5), ("v", "A", 5), *((w, "B", 1) for w in "xyz")),
        lambda: np.array([["1", "A", 1], ["1", "B", 2], *([n, "A", 5] for n in "234")]),
    ],
    "check_mean_so_far": [so_far_by_loop, masked(lambda t, at, row: t < t[row])],
}
WRONG = {
    "check_bytes": [
        Wrong("int32 ids", bytes_of(row=4, column=4), "eight bytes each"),
        Wrong("no stars", bytes_of(stars=0), "stars were left out"),
        Wrong("one offset a bag", bytes_of(last=0), "B + 1 offsets"),
        Wrong("cells of 8 bytes", lambda u, i, n: bytes_of()(u, 2 * i, n), "on paper"),
    ],
    "check_select": [
        Wrong(
            "the file's order",
            lambda v, o, r: select_by_lists(v, o, r.sort().values),
            "order of the file",
        ),
        Wrong(
            "old offsets",
            lambda v, o, r: (select_by_lists(v, o, r)[0], torch.cat([o[r], o[-1:]])),
            "begin at 0 again",
        ),
        Wrong(
            "no last offset",
            lambda v, o, r: (select_by_lists(v, o, r)[0], select_by_lists(v, o, r)[1][:-1]),
            "is missing",
        ),
        Wrong(
            "lengths",
            lambda v, o, r: (select_by_lists(v, o, r)[0], o.diff()[r]),
            "those are lengths",
        ),
        Wrong("float", lambda *c: select_by_cat(*c, kind=torch.float32), "of int64; this is"),
        Wrong(
            "sorted bags",
            lambda v, o, r: select_by_cat(torch.tensor([3, 4, 5, 2, 2, 16, 16]), o, r),
            "within a bag",
        ),
        Wrong("bags as sets", select_sets, "a bag is no set"),
        Wrong(
            "each row once",
            lambda v, o, r: select_by_lists(v, o, torch.tensor([*dict.fromkeys(r.tolist())])),
            "twice",
        ),
    ],
    "check_imaginary": [
        Wrong("the formula for all", imaginary_by_formula_only, "math.inf"),
        Wrong("strictly in front", imaginary_strictly, "one too many"),
        Wrong("rounded", lambda *m: round(imaginary_by_search(*m) - 0.8), "one too few"),
        Wrong("never in front", formula, "whatever a formula says"),
        Wrong(
            "sums alone",
            lambda *m: max(0, formula(*m)),
            "whatever a formula says",
        ),
        Wrong(
            "rounded to the nearest",
            lambda *m: 0 if m[3] >= m[1] else formula(*m, rounded=round),
            "one too few",
        ),
        Wrong("at least one", lambda *m: max(1, imaginary_by_search(*m)), "with no imaginary"),
    ],
    "check_paradox": [
        Wrong(
            "a small lead",
            said(("u", "A", 1), ("u", "B", 2), ("v", "A", 5), ("w", "A", 5)),
            "2 are asked for",
        ),
        Wrong("nobody knows both", said(("u", "A", 5), ("v", "B", 1)), "nobody rated both"),
        Wrong(
            "one prefers A",
            said(("u", "A", 5), ("u", "B", 1), ("v", "A", 5)),
            "does not prefer B",
        ),
        Wrong(
            "a crowd",
            said(("u", "A", 1), ("u", "B", 2), *((w, "A", 5) for w in "klmnop")),
            "at most 6",
        ),
        Wrong("pairs", lambda: [("u", "A")], "three things"),
        Wrong("a number", lambda: 6, "three things"),
        Wrong("a word", lambda: [("u", "A", "good")], "three things"),
        Wrong(
            "six stars",
            said(("u", "A", 1), ("u", "B", 2), ("v", "A", 9)),
            "from 1 to 5",
        ),
    ],
    "check_mean_so_far": [
        Wrong("the own rating", expanding, "its own feature"),
        Wrong("same second", masked(lambda t, at, row: t <= t[row]), "its own feature"),
        Wrong("the file's order", masked(lambda t, at, row: at < row), "not sorted by time"),
        Wrong(
            "ties by file",
            masked(lambda t, at, row: (t < t[row]) | ((t == t[row]) & (at < row))),
            "Nobody knows their order",
        ),
        Wrong("leave one out", masked(lambda t, at, row: at != row), "leave-one-out"),
        Wrong("always 3.5", masked(lambda t, at, row: t < t[row], missing=3.5), "default"),
        Wrong(
            "nothing is zero",
            masked(lambda t, at, row: t < t[row], missing=0.0),
            "no history was called zero",
        ),
    ],
}
