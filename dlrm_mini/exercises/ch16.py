"""Checks of the exercises to chapter 16, the verdicts."""

import math
import statistics
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlrm_mini.claims import CLAIMS
from dlrm_mini.exercises.checking import Mistake, NotRight, call, expect, right

Answer = Callable[..., Any]
Values = Sequence[float]
Floats = NDArray[np.float64]
FORM: dict[str, Any] = {
    "claim": str,
    "prediction": Real,
    "line": Real,
    "seeds": Integral,
    "between": str,
}
EXPECTED: dict[Any, str] = {str: "text", Real: "a number", Integral: "a whole number"}


def check_scatter(answer: Answer) -> None:
    """Exercise 1: the difference of two means over seeds, in units of its scatter."""
    inputs = [
        {"one": [0.80, 0.82, 0.84], "other": [0.70, 0.71, 0.72]},
        {"one": [0.5, 0.5], "other": [0.4, 0.8]},
        {"one": [0.79242, 0.79458, 0.79668], "other": [0.79506, 0.79385, 0.79517, 0.79646]},
    ]

    def by(spread: Callable[[Values], float], join: Callable[[float, float], float]) -> Answer:
        def lead(one: Values, other: Values) -> float:
            gap = statistics.mean(one) - statistics.mean(other)
            return gap / join(spread(one), spread(other))

        return lead

    expect(
        answer,
        by(statistics.stdev, math.hypot),
        inputs,
        mistakes=[
            Mistake(
                by(statistics.pstdev, math.hypot),
                "divided by n where n - 1 belongs: of a few seeds the mean was estimated, too. "
                "numpy's std does so unless told ddof=1.",
            ),
            Mistake(
                by(statistics.stdev, lambda a, b: a + b),
                "the two spreads were added. Both seldom err to the same side: their squares add.",
            ),
            Mistake(
                lambda one, other: by(statistics.stdev, math.hypot)(other, one),
                "the sign: it is the first less the second.",
            ),
            Mistake(
                lambda one, other: statistics.mean(one) - statistics.mean(other),
                "that is the difference itself, not in units of its scatter.",
            ),
        ],
        otherwise="mean less mean, over the root of the two squared standard deviations.",
        learnt="The third pair were DLRM and the FM of chapter 05, the FM with a fourth seed. An "
        "effect below 2 is one that the next experimenter may not see.",
    )


def check_paired(answer: Answer) -> None:
    """Exercise 2: a mean difference of losses on the same rows, with its standard error."""
    rng = np.random.default_rng(16)
    hard = rng.exponential(size=200)  # rows that are hard for both models
    inputs: list[dict[str, Any]] = [
        {"one": np.array([0.5, 0.7, 0.9]), "other": np.array([0.6, 0.7, 1.1])},
        {"one": hard, "other": hard + 0.01 + 0.02 * rng.standard_normal(200)},
    ]

    def paired(one: Floats, other: Floats) -> tuple[float, float]:
        gap = np.asarray(one, dtype=np.float64) - np.asarray(other, dtype=np.float64)
        return float(gap.mean()), float(gap.std(ddof=1) / math.sqrt(len(gap)))

    def apart(one: Floats, other: Floats) -> tuple[float, float]:
        errors = (float(np.var(x, ddof=1) / len(x)) for x in (one, other))
        return float(np.mean(one) - np.mean(other)), math.sqrt(sum(errors))

    times = apart(**inputs[1])[1] / paired(**inputs[1])[1]
    expect(
        answer,
        paired,
        inputs,
        mistakes=[
            Mistake(
                apart,
                "the rows were taken for two samples that have nothing to do with each other. Both "
                "models saw the same rows: subtract row by row first.",
            ),
            Mistake(
                lambda one, other: (
                    paired(one, other)[0],
                    paired(one, other)[1] * math.sqrt(len(one)),
                ),
                "that is the scatter of one row. The mean of n rows scatters less, by the root of "
                "n.",
            ),
            Mistake(
                lambda one, other: (
                    paired(one, other)[0],
                    float(np.std(np.asarray(one) - other) / math.sqrt(len(one))),
                ),
                "divided by n where n - 1 belongs (ddof=1).",
            ),
        ],
        otherwise="subtract row by row, one less other; then the mean, and the standard deviation "
        "over the root of the number of rows.",
        tolerance=1e-7,
        learnt=f"On the second input the paired error is {times:.0f} times smaller than that of "
        "two separate samples: what makes a row hard for both models cancels.",
    )


def check_lead(answer: Answer) -> None:
    """Exercise 3: the lead on test rows of settings that were chosen on validation rows."""
    inputs: list[dict[str, Any]] = [
        {"own": [(0.80, 0.79), (0.79, 0.81), (0.78, 0.80)], "other": [(0.77, 0.75), (0.76, 0.80)]},
        {"own": [(0.70, 0.72)], "other": [(0.71, 0.70), (0.73, 0.71), (0.72, 0.75)]},
        {"own": [(0.60, 0.61), (0.66, 0.60)], "other": [(0.5, 0.6), (0.4, 0.7)]},
    ]

    def lead(own: Sequence[tuple[float, float]], other: Sequence[tuple[float, float]]) -> float:
        return max(own, key=lambda s: s[0])[1] - max(other, key=lambda s: s[0])[1]

    expect(
        answer,
        lead,
        inputs,
        mistakes=[
            Mistake(
                lambda own, other: max(t for _, t in own) - max(t for _, t in other),
                "both settings were chosen by their test scores. Choosing is part of training, and "
                "the test rows take no part in it.",
            ),
            Mistake(
                lambda own, other: max(t for _, t in own) - max(other, key=lambda s: s[0])[1],
                "your own setting was chosen by its test score, only the other model's was not.",
            ),
            Mistake(
                lambda own, other: max(own, key=lambda s: s[0])[1] - other[0][1],
                "the other model got its first setting, not its best: it was searched, too.",
            ),
            Mistake(
                lambda own, other: (
                    max(own, key=lambda s: s[0])[1] - statistics.mean(t for _, t in other)
                ),
                "the other model got the mean of its settings, not the one that its validation "
                "rows choose.",
            ),
            Mistake(
                lambda own, other: max(v for v, _ in own) - max(v for v, _ in other),
                "those are the validation scores: they chose, so they flatter what they chose.",
            ),
        ],
        otherwise="of each list take the entry with the best first number; subtract the second "
        "numbers of the two.",
        learnt="The broken line gave its owner the best of several test scores: a lead that grows "
        "with the number of settings, whatever they are.",
    )


def check_luck(answer: Answer) -> None:
    """Exercise 4: what the best of k equally good settings leads by, in spreads."""
    expect(
        answer,
        luck,
        [{"k": k} for k in (1, 2, 10, 40)],
        mistakes=[
            Mistake(
                lambda k: math.sqrt(2 * math.log(k)),
                "the root of 2 ln k is the limit for very many; it is too much for so few.",
            ),
            Mistake(
                lambda k: 0.0,
                "the mean of single draws is 0; take the largest of k, then the mean of many such.",
            ),
        ],
        otherwise="of a single setting nothing is chosen, so nothing is won; and the more there "
        "are, the more the best one leads by, ever more slowly.",
        tolerance=0.05,
        learnt=f"Forty equal settings, and the best one leads by {luck(40):.1f} spreads. Whoever "
        "searches more for one model than for the other has won before the race.",
    )


def luck(k: int) -> float:
    """The mean of the largest of k standard normal numbers, by the midpoint rule."""
    x = np.linspace(-8, 8, 4001)
    below = np.array([0.5 * math.erfc(-v / math.sqrt(2)) for v in x])
    density = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
    return float(np.sum(x * k * below ** (k - 1) * density) * (x[1] - x[0]))


def check_commitment(answer: Answer) -> None:
    """Exercise 5: the page that is handed in before anything of a capstone is measured."""
    found = call(answer, {})
    if not isinstance(found, dict):
        raise NotRight(f"my_commitment returned a {type(found).__name__}; a dict was expected.")
    given: dict[str, Any] = found
    for key, kind in FORM.items():
        if key not in given:
            raise NotRight(f"{key!r} is missing. The commitment names {', '.join(FORM)}.")
        value = given[key].item() if getattr(given[key], "ndim", 1) == 0 else given[key]
        right_kind = isinstance(value, kind) and not isinstance(value, bool)
        if not right_kind or (kind is Real and not math.isfinite(value)):
            raise NotRight(f"{key!r} is {given[key]!r}; expected {EXPECTED[kind]}.")
    if given["claim"] not in CLAIMS:
        raise NotRight(f"there is no claim {given['claim']!r}; the ledger has {', '.join(CLAIMS)}.")
    if given["seeds"] < 3:
        raise NotRight(
            f"{given['seeds']} seeds have no spread that one could trust; name at least 3."
        )
    if given["prediction"] == given["line"]:
        raise NotRight(
            "the prediction lies on the line: whatever comes out, nothing was predicted. On which "
            "side of it do you expect the number, and by how much?"
        )
    if len(given["between"].split()) < 5:
        raise NotRight(
            "'between' is what you will say when the number is nearer to the line than its own "
            "spread. Write a sentence, now, while you do not know."
        )
    right("Hand it in with a date. What is written down before cannot be remembered differently.")
