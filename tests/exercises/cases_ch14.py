"""Right and wrong answers to the exercises of chapter 14."""

import math
from itertools import combinations

import numpy as np

from tests.exercises.trying import Wrong


def searched_size(alpha, beta, share):
    low, high = 0.0, 1e15
    for _ in range(200):
        middle = (low + high) / 2
        seen = middle / (alpha + middle / beta)
        low, high = (middle, high) if seen < share * beta else (low, middle)
    return np.float64(high)


def crossing_by_line(ranks, alpha, beta):
    gain, loss = alpha, 1 / beta - 2 / ranks / beta  # what each byte takes away again
    return gain / loss if loss else math.inf


def report_in_loops(entered, left):
    ranks, collectives = entered.shape
    talk, wait = [0.0] * ranks, [0.0] * ranks
    for c in range(collectives):
        begin = max(float(entered[r, c]) for r in range(ranks))
        for r in range(ranks):
            wait[r] += begin - float(entered[r, c])
            talk[r] += float(left[r, c]) - begin
    return {
        "rank": wait.index(min(wait)),
        "waiting": np.float32(sum(wait) / ranks),
        "talking": np.float32(sum(talk) / ranks),
    }


def tried_buckets(ready, sizes, ranks, alpha, beta):
    count = len(sizes)
    ways = []
    for number in range(count):
        for cuts in combinations(range(1, count), number):
            ends, end = [*cuts, count], 0.0
            for first, last in zip([0, *cuts], ends, strict=True):
                took = 2 * (ranks - 1) * (alpha + sum(sizes[first:last]) / ranks / beta)
                end = max(end, ready[last - 1]) + took
            ways.append((end, np.diff([0, *ends])))
    return min(ways, key=lambda way: way[0])[1]


def whole_span(entered, left):
    right = report_in_loops(entered, left)
    return right | {"talking": float((left - entered).sum(1).mean())}


def from_the_first(entered, left):
    begins = entered.min(0).values
    return {"talking": (left - begins).sum(1).mean(), "waiting": (begins - entered).sum(1).mean(),
            "rank": int((begins - entered).sum(1).argmin())}  # fmt: skip


def summed(entered, left):
    right, ranks = report_in_loops(entered, left), len(entered)
    return {"talking": right["talking"] * ranks, "waiting": right["waiting"] * ranks,
            "rank": right["rank"]}  # fmt: skip


def the_patient(entered, left):
    waits = (entered.amax(0) - entered).sum(1)
    return report_in_loops(entered, left) | {"rank": int(waits.argmax())}


def capped(ready, sizes, ranks, alpha, beta):
    """A bucket is sent when it has half a megabyte."""
    cut, held = [0], 0
    for size in sizes:
        cut[-1], held = cut[-1] + 1, held + size
        if held >= 5e5:
            cut, held = [*cut, 0], 0
    return [number for number in cut if number]


def last_of_the_most(entered, left):
    """Who comes last in most collectives, if only by a hair."""
    return report_in_loops(entered, left) | {"rank": entered.argmax(0).mode().values}


RIGHT = {
    "check_size": [searched_size],
    "check_crossing": [crossing_by_line],
    "check_report": [report_in_loops],
    "check_buckets": [tried_buckets],
}
WRONG = {
    "check_size": [
        Wrong("the half", lambda a, b, s: a * b, "place of the half"),
        Wrong("of alpha", lambda a, b, s: s * a * b, "share of alpha"),
        Wrong("no bytes", lambda a, b, s: a * b / (1 - s), "the whole message's time"),
        Wrong("upside down", lambda a, b, s: a * b * (1 - s) / s, "went to alpha"),
    ],
    "check_crossing": [
        Wrong("no pieces", lambda p, a, b: a * b, "pieces were left out"),
        Wrong("upside down", lambda p, a, b: a * b * (p - 2) / p, "on its head"),
        Wrong("one round", lambda p, a, b: a * b * p / (p - 1), "goes round twice"),
        Wrong("none", lambda p, a, b: a * b * p / (p - 2) if p > 2 else 0, "in twice as many"),
        Wrong("two ranks", lambda p, a, b: a * b * p / (p - 2), "ZeroDivisionError"),
        Wrong("no limit", lambda p, a, b: a * b * p / max(p - 2, 1), "in twice as many messages"),
    ],
    "check_report": [
        Wrong("all is talk", whole_span, "whole span still counts"),
        Wrong("the first", from_the_first, "begins with the first rank"),
        Wrong("summed", summed, "take the mean"),
        Wrong("last most often", last_of_the_most, "by a hair"),
        Wrong("the patient", the_patient, "waits most"),
        Wrong("no waiting", lambda entered, left: {"talking": 1.2}, "amax(dim=0)"),
    ],
    "check_buckets": [
        Wrong("one bucket", lambda r, sizes, p, a, b: [len(sizes)], "nothing hides"),
        Wrong("a bucket each", lambda r, sizes, p, a, b: [1] * len(sizes), "own postage"),
        Wrong("a cap", capped, "looks at bytes"),
        Wrong("too many", lambda r, sizes, p, a, b: [len(sizes), 1], "does not cut"),
        Wrong("a number", lambda r, sizes, p, a, b: len(sizes), "does not cut"),
        Wrong("infinite", lambda r, sizes, p, a, b: [math.inf], "does not cut"),
    ],
}
