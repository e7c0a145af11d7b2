"""Checks of the exercises to chapter 00, how the course works."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from dlrm_mini.exercises.checking import Mistake, NotRight, call, expect, report, right, tensor

Numbers = Sequence[float] | torch.Tensor


def check_percent(answer: Callable[[torch.Tensor, float], float]) -> None:
    """Exercise 1: how many percent of the ratings (n,) are at least so good; NaN when n is 0."""
    inputs = [
        {"ratings": torch.tensor([5.0, 3.0, 5.0]), "at_least": 4.0},
        {"ratings": torch.tensor([4.0, 4.0, 2.0, 5.0, 1.0]), "at_least": 4.0},
        {"ratings": torch.tensor([2.0, 1.0, 3.5]), "at_least": 3.0},
        {"ratings": torch.tensor([]), "at_least": 4.0},
    ]
    expect(
        answer,
        lambda ratings, at_least: float(100 * (ratings >= at_least).double().mean()),
        inputs,
        mistakes=[
            Mistake(
                lambda ratings, at_least: (ratings >= at_least).double().mean(),
                "the unit: a share runs from 0 to 1, and percent was asked for.",
            ),
            Mistake(
                lambda ratings, at_least: (ratings > at_least).double().mean(),
                "the unit: a share runs from 0 to 1, and percent was asked for.",
            ),
            Mistake(
                lambda ratings, at_least: 100 * (ratings > at_least).double().mean(),
                "the border: a rating that is exactly `at_least` counts as well.",
            ),
            Mistake(
                lambda ratings, at_least: 0.0 if not len(ratings) else float("nan"),
                "nobody has rated, and that was called zero. What is not known is not zero.",
            ),
        ],
        otherwise="count by hand on this input; it is short.",
        learnt="A message names the input: try that input yourself, and you are near the bug.",
    )


def check_factors(answer: Callable[[torch.Tensor, float], torch.Tensor]) -> None:
    """Exercise 2: by what factor, 1 or more, each guess (n,) misses the measured number."""
    inputs = [
        {"guesses": torch.tensor([30.0, 10.0]), "measured": 6.0},
        {"guesses": torch.tensor([6.0, 1.2, 30.0]), "measured": 6.0},
        {"guesses": torch.tensor([0.5, 0.001, 100.0]), "measured": 0.01},
    ]
    expect(
        answer,
        lambda guesses, measured: (guesses.double() / measured).log().abs().exp(),
        inputs,
        mistakes=[
            Mistake(
                lambda guesses, measured: guesses / measured,
                "a guess that is too small came out below 1, so that it looks better than perfect.",
            ),
            Mistake(
                lambda guesses, measured: measured / guesses,
                "a guess that is too large came out below 1: a factor of 1 is the best there is.",
            ),
            Mistake(
                lambda guesses, measured: (guesses - measured).abs(),
                "that is the distance in points; a factor comes from a division.",
            ),
            Mistake(
                lambda guesses, measured: 1 + (guesses - measured).abs() / measured,
                "the distance was divided by the measured number: then no guess, however small, "
                "is ever off by more than a factor of 2.",
            ),
        ],
        otherwise="five times too much and five times too little are both a factor of 5.",
        learnt="30 and 1.2 miss 6 by the same factor, though one lies 24 points away and the other "
        "4.8.",
    )


def _judge(a: Numbers, b: Numbers, *, less: int = 1, times: float = 2.0) -> str:
    first, second = np.asarray(a, float), np.asarray(b, float)
    if min(len(first), len(second)) < 2:
        return "cannot tell"
    error = np.sqrt(first.var(ddof=less) / len(first) + second.var(ddof=less) / len(second))
    gap = first.mean() - second.mean()
    return "cannot tell" if abs(gap) <= times * error else "B" if gap > 0 else "A"


def _by_mean(a: Numbers, b: Numbers) -> str:
    return "A" if np.mean(np.asarray(a, float)) < np.mean(np.asarray(b, float)) else "B"


def _by_best(a: Numbers, b: Numbers) -> str:
    return "A" if np.min(np.asarray(a, float)) < np.min(np.asarray(b, float)) else "B"


def _by_spread(a: Numbers, b: Numbers) -> str:
    first, second = np.asarray(a, float), np.asarray(b, float)
    gap, spread = first.mean() - second.mean(), max(first.std(ddof=1), second.std(ddof=1))
    return "cannot tell" if abs(gap) <= 2 * spread else "B" if gap > 0 else "A"


def check_judgement(answer: Callable[[list[float], list[float]], str]) -> None:
    """Exercise 3: which of two models has the lower RMSE, from one number a seed, or neither."""
    many = np.random.default_rng(3).normal(0.0, 0.01, (2, 30))
    many -= many.mean(1, keepdims=True)
    inputs: list[dict[str, Any]] = [
        {"a": [0.951, 0.949, 0.953], "b": [0.912, 0.915, 0.913]},
        {"a": [0.90, 0.97, 0.96], "b": [0.93, 0.94, 0.95]},
        {"a": [0.92], "b": [0.94]},
        {"a": [0.9375, 0.9375, 0.9375], "b": [0.9375, 0.9375]},  # equal in any arithmetic
        {"a": [0.90, 0.92, 0.94], "b": [0.923, 0.943, 0.963]},  # 1.4 standard errors
        {"a": [0.90, 0.92, 0.94], "b": [0.93, 0.95, 0.97]},  # 1.8 standard errors
        {"a": [0.91, 0.93, 0.95], "b": [0.865, 0.885, 0.905]},  # 2.8 of them
        {"a": [round(float(x), 4) for x in 0.930 + many[0]],
         "b": [round(float(x), 4) for x in 0.945 + many[1]]},
        {"a": [0.931, 0.929, 0.932, 0.928], "b": [0.90]},
    ]  # fmt: skip
    expect(
        answer,
        _judge,
        inputs,
        mistakes=[
            Mistake(
                lambda a, b: {"A": "B", "B": "A"}.get(_judge(a, b), ""),
                "an RMSE is an error: the lower one is the better.",
            ),
            Mistake(
                lambda a, b: _by_mean(a, b) if min(len(a), len(b)) < 2 else "",
                "a single seed was believed. It has no spread, so nothing can be told.",
            ),
            Mistake(
                lambda a, b: _judge(a, b, less=0),
                "the variance was divided by n, which is too small for a few seeds: divide by "
                "n - 1 (ddof=1).",
            ),
            Mistake(
                lambda a, b: _judge(a, b, times=1.0),
                "once its standard error is not enough: the difference has to be more than twice "
                "as large.",
            ),
            Mistake(
                _by_mean,
                "the lower mean won, though the seeds differ more among themselves than the models "
                "do.",
            ),
            Mistake(_by_best, "the best seed decided; it is the luckiest of them."),
            Mistake(
                _by_spread,
                "the difference was held against the spread of single runs. A mean over n seeds "
                "is steadier: divide each variance by n.",
            ),
            Mistake(
                lambda a, b: "cannot tell",
                "the difference of the means is more than twice its standard error here.",
            ),
        ],
        otherwise="the answer is one of 'A', 'B', 'cannot tell'; print the difference of the means "
        "and its standard error for this input.",
        learnt="The same difference may be chance over three seeds and a finding over thirty.",
    )


def check_lottery(answer: Callable[[int, int], float]) -> None:
    """Exercise 4: how often the best of `theirs` runs beats the best of `mine`, same model."""
    expect(
        answer,
        lambda theirs, mine: theirs / (theirs + mine),
        [{"theirs": a, "mine": b} for a, b in ((1, 1), (9, 1), (3, 1), (20, 5), (2, 7))],
        mistakes=[
            Mistake(
                lambda theirs, mine: 1 - 0.5**theirs,
                "each of their runs was given an even chance against yours, one by one. But all "
                "of them meet the same run of yours: when yours is lucky, they all lose together.",
            ),
            Mistake(
                lambda theirs, mine: 0.5,
                "the same model does have the same chance in one run; but they report the best of "
                "several.",
            ),
            Mistake(lambda theirs, mine: mine / (theirs + mine), "that is how often you win."),
            Mistake(
                lambda theirs, mine: 100 * theirs / (theirs + mine),
                "that is percent; a chance from 0 to 1 was asked for.",
            ),
            Mistake(
                lambda theirs, mine: theirs / (theirs + 1),
                "you reported the best of several runs, too.",
            ),
        ],
        otherwise="all the runs are draws from one pot. Which of them is the best of all?",
    )
    runs = np.random.default_rng(0).normal(0.9126, 0.002, (20_000, 10))
    won = (runs[:, :9].min(1) < runs[:, 9]).mean()
    print(
        f"Drawn 20,000 times: the best of nine seeds beat a tenth of the same model in {won:.1%}.\n"
        "Whoever reports the best of many seeds wins against their own model."
    )


def check_split(answer: Callable[..., tuple[Any, Any]]) -> None:
    """Exercise 5: train and test rows of a log, no pair of user and item on both sides."""
    log = torch.Generator().manual_seed(5)
    user = torch.randint(0, 60, (2000,), generator=log)
    item = (torch.rand(2000, generator=log) ** 2 * 15).long()  # early items are met more often
    apart = {"user": torch.arange(40) % 8, "item": torch.arange(40) // 8, "share": 0.4, "seed": 0}
    again = {"user": user, "item": item, "share": 0.2, "seed": 0}
    found = [_split(answer, case) for case in (apart, again, again, {**again, "seed": 1})]
    name = getattr(answer, "__name__", "my_split")
    if found[1] != found[2]:
        raise NotRight(
            f"{name} gave two splits for the same seed. Nobody can repeat a result like that: let "
            "the seed decide every random choice, for example by "
            "torch.Generator().manual_seed(seed)."
        )
    if found[1] == found[3]:
        raise NotRight(
            f"{name} gave the same split for seed 0 and seed 1. Then a spread over splits would be "
            "zero for the wrong reason: shuffle by the seed."
        )
    right("Rows are kept apart only when nothing that identifies a row lies on both sides.")


def _split(answer: Callable[..., Any], case: dict[str, Any]) -> tuple[int, ...]:
    """The test rows of one call, once they are known to be a clean split."""
    result = call(answer, case)
    if not isinstance(result, tuple | list) or len(result) != 2:
        raise NotRight("my_split returns a pair: the training rows and the test rows.")
    n, parts = len(case["user"]), []
    for rows, part in zip(result, ("training", "test"), strict=True):
        found = [*rows] if isinstance(rows, set | frozenset | range) else rows
        numbers = tensor(found, f"The {part} part").numpy().ravel()
        if getattr(found, "dtype", None) in (torch.bool, np.bool_) or len(numbers) == n:
            raise NotRight(
                f"The {part} part has {len(numbers)} entries for {n} rows.\nThis usually means: "
                "a mask was returned. `mask.nonzero().squeeze(1)` are the numbers of its rows."
            )
        if wrong := [one for one in numbers if not (0 <= one < n and one == int(one))]:
            raise NotRight(
                f"The {part} part names row {wrong[0]:g}; rows are 0 to {n - 1}.\nThis usually "
                "means: these are the numbers of pairs, or rows counted from 1."
            )
        parts.append(numbers.astype(np.int64))
    (train, test), seen = parts, np.concatenate(parts)
    counts = np.bincount(seen, minlength=n)
    if (counts != 1).any():
        row = int(np.argmax(counts != 1))
        where = "in neither part" if counts[row] == 0 else f"{counts[row]} times in all"
        meaning = "every row belongs into exactly one of the two parts."
        raise NotRight(
            report(answer, case, f"row {row} {where}", "each row once", "the rows", meaning)
        )
    pairs = (case["user"] * 1000 + case["item"]).numpy()
    if both := sorted(set(pairs[train]) & set(pairs[test])):
        first = [int(rows[pairs[rows] == both[0]][0]) for rows in (train, test)]
        raise NotRight(
            report(
                answer,
                case,
                f"row {first[0]} in train and row {first[1]} in test",
                "no pair of user and item on both sides",
                f"both are user {both[0] // 1000} and item {both[0] % 1000}; "
                f"{len(both)} such pairs in all",
                "rows were dealt out one by one. Deal out pairs, and let their rows follow.",
            )
        )
    share = len(test) / n
    if abs(share - case["share"]) > 0.05:
        meaning = (
            "the two parts changed places: the training rows come first."
            if abs(1 - share - case["share"]) <= 0.05
            else "counted were pairs, users or items, but the rows are unevenly spread over them: "
            "shuffle the pairs and fill the test part until it has enough rows."
        )
        got, wanted = f"{share:.1%} of the rows in test", f"{case['share']:.0%} ± 5 %"
        raise NotRight(report(answer, case, got, wanted, "the size of the test part", meaning))
    return tuple(sorted(test.tolist()))
