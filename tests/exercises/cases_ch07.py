"""Right and wrong answers to the exercises of chapter 07."""

import math
from collections import Counter

import numpy as np
import torch

from tests.exercises.trying import Wrong


def moved_in_logits(p, trained, here):
    logit = torch.tensor([trained, here], dtype=torch.float64).logit()
    return (p.double().logit() + logit[1] - logit[0]).sigmoid().numpy()


def buckets_by_search(values, share):
    low, high = 0, 1 << 40
    while high - low > 1:
        middle = (low + high) // 2
        enough = 1 - (1 - 1 / middle) ** (values - 1) <= share
        low, high = (low, middle) if enough else (middle, high)
    return high


def buckets_by_approximation(values, share):
    return max(1, math.ceil((values - 1) / -math.log(1 - share)))


def entropy(rate):
    return -rate * math.log(rate) - (1 - rate) * math.log(1 - rate)


def ne_by_arrays(rows, clicks, losses):
    rows, clicks, losses = map(np.array, (rows, clicks, losses))
    rate = torch.tensor(clicks.sum() / rows.sum())
    return (rows * losses).sum() / rows.sum() / torch.distributions.Bernoulli(rate).entropy()


def ne_of_days(rows, clicks, losses):
    return [
        loss / entropy(c / n) if c else 0 for n, c, loss in zip(rows, clicks, losses, strict=True)
    ]


def encode(train, test, least, *, counted=None, more=False, order=sorted, missing=True, start=2):
    counts = Counter(train if counted is None else counted)
    words = [w for w, n in counts.items() if (w or not missing) and n >= least + more]
    rows = {w: i for i, w in enumerate(order(words), start)} | ({"": 0} if missing else {})
    return [rows.get(w, 1) for w in train], [rows.get(w, 1) for w in test]


def encode_arrays(train, test, least):
    train = np.array(train)
    words, counts = np.unique(train[train != ""], return_counts=True)
    words = words[counts >= least]

    def rows(column):
        found = np.array([np.flatnonzero(words == w).sum() + 2 if w in words else 1
                          for w in column], dtype=int)  # fmt: skip
        return np.where(np.array(column) == "", 0, found)

    return rows(train), rows(test)


def promises_just_below(labels):
    rate = labels.numpy().mean()
    return np.where(labels.numpy() == 1, rate * 0.9999, rate * 0.9998).tolist()


def around(width):
    return lambda labels: labels.double().mean() + width * (labels - labels.double().mean())


RIGHT = {
    "check_moved": [moved_in_logits],
    "check_buckets": [buckets_by_search, buckets_by_approximation],
    "check_whole_ne": [ne_by_arrays],
    "check_encode": [encode_arrays],
    "check_promises": [promises_just_below],
}
WRONG = {
    "check_moved": [
        Wrong("scaled", lambda p, t, h: p * h / t, "the chance was scaled"),
        Wrong("clipped", lambda p, t, h: (p * h / t).clip(max=1), "the chance was scaled"),
        Wrong(
            "shares", lambda p, t, h: p * h / t / (p * h / t + 1 - p), "both sides have to be odds"
        ),
        Wrong("back", lambda p, t, h: moved_in_logits(p, h, t), "other way round"),
        Wrong("shifted", lambda p, t, h: p + h - t, "has to become 0.05"),
    ],
    "check_buckets": [
        Wrong("linear", lambda d, s: math.ceil(d / s), "was taken for d/m"),
        Wrong("d others", lambda d, s: math.ceil(-d / math.log(1 - s)), "counted among the others"),
        Wrong(
            "party",
            lambda d, s: math.ceil(-d * (d - 1) / 2 / math.log(1 - s)),
            "no two may meet",
        ),
        Wrong(
            "d others but alone",
            lambda d, s: 1 if d == 1 else math.ceil(-d / math.log(1 - s)),
            "counted among the others",
        ),
        Wrong("rounded down", lambda d, s: math.floor((d - 1) / -math.log(1 - s)), "the share"),
        Wrong("alone", lambda d, s: math.ceil(-(d - 1) / math.log(s)), "of being alone"),
        Wrong("as many", lambda d, s: d, "put your number into"),
    ],
    "check_whole_ne": [
        Wrong("mean of NE", lambda *days: np.mean(ne_of_days(*days)), "mean of the days' NE"),
        Wrong(
            "weighted NE",
            lambda rows, c, x: np.average(ne_of_days(rows, c, x), weights=rows),
            "days' NE",
        ),
        Wrong(
            "days alike",
            lambda rows, c, x: np.mean(x) / entropy(sum(c) / sum(rows)),
            "different numbers of them",
        ),
        Wrong("in bits", lambda *days: ne_by_arrays(*days) / math.log(2), "nats of all rows"),
    ],
    "check_encode": [
        Wrong("leak", lambda a, b, n: encode(a, b, n, counted=a + b), "test rows were counted"),
        Wrong("more than", lambda a, b, n: encode(a, b, n, more=True), "at least, not more than"),
        Wrong("missing", lambda a, b, n: encode(a, b, n, missing=False), "empty text"),
        Wrong("unordered", lambda a, b, n: encode(a, b, n, order=list), "ascending order"),
        Wrong("from 1", lambda a, b, n: encode(a, b, n, start=1), "the four rules"),
        Wrong("always 2", lambda a, b, n: encode(a, b, 2), "the four rules"),
        Wrong("train alone", lambda a, b, n: encode(a, b, n)[0], "the four rules"),
        Wrong(
            "missing as it comes",
            lambda a, b, n: (encode(a, b, n)[0], encode(a, b, n, missing="" in a)[1]),
            "the four rules",
        ),
        Wrong(
            "all four",
            lambda a, b, n: encode(a, b, n, counted=a + b, more=True, order=list, missing=False),
            "empty text",
        ),
    ],
    "check_promises": [
        Wrong("a word", lambda labels: "sure", "numbers were expected"),
        Wrong("constant", around(0.0), "a tie counts one half"),
        Wrong("labels", lambda labels: labels, "above 0 and below 1"),
        Wrong("sure", around(0.99), "say too much"),
        Wrong("hair", around(1e-6), "in different bins"),
        Wrong("half", lambda labels: around(1e-6)(labels) / 2, "add up to the clicks"),
    ],
}
