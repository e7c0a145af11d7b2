"""Right and wrong answers to the exercises of chapter 16."""

import math
import statistics

import numpy as np

from tests.exercises.trying import Wrong

COMMITMENT = {
    "claim": "time-gpu", "prediction": 0.3, "line": 0.1, "seeds": 3,
    "between": "More seeds first, and no verdict until then.",
}  # fmt: skip


def scatter(one, other, spread=statistics.stdev, join=math.hypot):
    return (sum(one) / len(one) - sum(other) / len(other)) / join(spread(one), spread(other))


def paired(one, other):
    gaps = [a - b for a, b in zip(one, other, strict=True)]
    return [statistics.mean(gaps), statistics.stdev(gaps) / len(gaps) ** 0.5]


def unpaired(one, other):
    errors = [np.var(x, ddof=1) / len(x) for x in (one, other)]
    return np.mean(one) - np.mean(other), sum(errors) ** 0.5


def best(settings, place=0):
    return sorted(settings, key=lambda setting: setting[place])[-1]


def exactly(k):
    x = np.arange(-9, 9, 0.01)
    cumulative = np.array([0.5 * (1 + math.erf(v / 2**0.5)) for v in x])
    return float((x[1:] * np.diff(cumulative**k)).sum())


def commitment(**changes):
    whole = COMMITMENT | changes
    return lambda: {key: value for key, value in whole.items() if value is not None}


RIGHT = {
    "check_scatter": [scatter],
    "check_paired": [paired],
    "check_lead": [lambda own, other: best(own)[1] - best(other)[1]],
    "check_luck": [exactly, lambda k: np.float32(exactly(k))],
    "check_commitment": [
        commitment(),
        commitment(prediction=1, line=2),
        commitment(prediction=np.float32(0.3), line=np.array(0.1), seeds=np.int64(4)),
    ],
}
WRONG = {
    "check_scatter": [
        Wrong("n", lambda a, b: scatter(a, b, statistics.pstdev), "ddof=1"),
        Wrong("added", lambda a, b: scatter(a, b, join=lambda s, t: s + t), "their squares add"),
        Wrong("turned", lambda a, b: scatter(b, a), "the sign"),
        Wrong("bare", lambda a, b: np.mean(a) - np.mean(b), "the difference itself"),
    ],
    "check_paired": [
        Wrong("unpaired", unpaired, "subtract row by row"),
        Wrong("a row", lambda a, b: (np.mean(a - b), np.std(a - b, ddof=1)), "scatter of one row"),
        Wrong("n", lambda a, b: (np.mean(a - b), np.std(a - b) / len(a) ** 0.5), "n - 1"),
        Wrong("only one", lambda a, b: np.mean(a - b), "the shape"),
    ],
    "check_lead": [
        Wrong("by test", lambda a, b: best(a, 1)[1] - best(b, 1)[1], "no part in it"),
        Wrong("own by test", lambda a, b: best(a, 1)[1] - best(b)[1], "only the other model's"),
        Wrong("first", lambda a, b: best(a)[1] - b[0][1], "its first setting"),
        Wrong("validation", lambda a, b: best(a)[0] - best(b)[0], "flatter"),
    ],
    "check_luck": [
        Wrong("limit", lambda k: math.sqrt(2 * math.log(k)), "too much for so few"),
        Wrong("one draw", lambda k: 0.0, "largest of k"),
        Wrong("half", lambda k: exactly(k) / 2, "nothing is chosen"),
        Wrong("always", lambda k: 1.0, "nothing is chosen"),
    ],
    "check_commitment": [
        Wrong("no such claim", commitment(claim="speed"), "there is no claim 'speed'"),
        Wrong("one seed", commitment(seeds=1), "at least 3"),
        Wrong("on the line", commitment(line=0.3), "nothing was predicted"),
        Wrong("no sentence", commitment(between="we shall see"), "Write a sentence"),
        Wrong("incomplete", commitment(line=None), "'line' is missing"),
        Wrong("words", commitment(prediction="more"), "expected a number"),
        Wrong("nan", commitment(prediction=math.nan), "expected a number"),
        Wrong("no line at all", commitment(line=math.inf), "expected a number"),
        Wrong("half a seed", commitment(seeds=3.5), "expected a whole number"),
    ],
}
