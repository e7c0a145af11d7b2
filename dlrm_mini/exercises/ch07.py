"""Checks of the exercises to chapter 07, click logs."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dlrm_mini import metrics
from dlrm_mini.datasets.criteo_columns import MISSING, OUT_OF_VOCABULARY
from dlrm_mini.exercises.checking import (
    Mistake,
    NotRight,
    call,
    difference,
    expect,
    report,
    right,
    shown,
    tensor,
)
from dlrm_mini.ladders.click_log_ids import expected_sharing

CLOSE, WORTHLESS = 0.01, 0.99  # of the puzzle: how near calibration and ECE, and the least NE
BINS = 10


def check_moved(answer: Callable[[Tensor, float, float], Tensor]) -> None:
    """Exercise 1: chances (B,) of a model that works at another share of clicks."""

    def moved(p: Tensor, trained: float, here: float) -> Tensor:
        odds = here / (1 - here) * (1 - trained) / trained
        return p.double() * odds / (p.double() * odds + 1 - p.double())

    p = torch.tensor([0.0, 0.1, 0.25, 0.5, 0.9])
    expect(
        answer,
        moved,
        [
            {"p": p, "trained": 0.25, "here": 0.05},
            {"p": p, "trained": 0.05, "here": 0.25},
            {"p": p, "trained": 0.5, "here": 0.5},
        ],
        mistakes=[
            Mistake(
                lambda p, trained, here: p * here / trained,
                "the chance was scaled. Where clicks get more frequent that ends above 1; what "
                "grows by one factor are the odds.",
            ),
            Mistake(
                lambda p, trained, here: (p * here / trained) / (p * here / trained + 1 - p),
                "the odds were multiplied by a ratio of shares; both sides have to be odds, "
                "share / (1 - share).",
            ),
            Mistake(
                lambda p, trained, here: moved(p, here, trained),
                "the other way round: this takes a model of `here` to where clicks are as in "
                "`trained`.",
            ),
        ],
        otherwise="a promise as high as the share of clicks in training, 0.25, knew nothing; at "
        "a share of 0.05 it has to become 0.05.",
        learnt="One number added to every logit. Twice moved is moved once, and back again is "
        "where it was: no row was needed for it, only the two shares.",
    )


def _buckets(values: int, share: float) -> int:
    """The fewest buckets of `expected_sharing`, found by halving an interval."""
    low, high = 0, 1
    while expected_sharing(values, high) > share:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if expected_sharing(values, middle) > share else (low, middle)
    return high


def check_buckets(answer: Callable[[int, float], int]) -> None:
    """Exercise 2: the buckets that leave so many values without company."""
    expect(
        answer,
        _buckets,
        [
            {"values": 1000, "share": 0.5},
            {"values": 1000, "share": 0.1},
            {"values": 1, "share": 0.1},
            {"values": 200_000, "share": 0.01},
        ],
        mistakes=[
            Mistake(
                lambda values, share: math.ceil(-values / math.log(1 - share)),
                "the value was counted among the others: a value alone has no company in "
                "any number of buckets.",
            ),
            Mistake(
                lambda values, share: math.ceil(values / share),
                "1 - e^(-d/m) was taken for d/m, which it is only where both are small.",
            ),
            Mistake(
                lambda values, share: math.ceil(values * (values - 1) / -2 / math.log(1 - share)),
                "that is the birthday problem for a whole party, in which no two may meet. Here "
                "a share of the values may.",
            ),
            Mistake(
                lambda values, share: math.ceil((values - 1) / -math.log(share)),
                "the chance of being alone was set to the share that has company.",
            ),
        ],
        otherwise="put your number into 1 - (1 - 1/m)^(d-1): it has to give the share.",
        tolerance=2e-4,  # the approximation and the formula differ by half a bucket
        learnt="To leave all but one value in a hundred alone takes a hundred buckets a value, "
        "nearly all of them empty. Hashing is cheap because one does not ask for that.",
    )


def _entropy(rate: float) -> float:
    return -sum(p * math.log(p) for p in (rate, 1 - rate) if p)


def _whole_ne(rows: Sequence[int], clicks: Sequence[int], loglosses: Sequence[float]) -> float:
    loss = np.average(loglosses, weights=rows)
    return float(loss) / _entropy(sum(clicks) / sum(rows))


def _nes(rows: Sequence[int], clicks: Sequence[int], loglosses: Sequence[float]) -> list[float]:
    days = zip(rows, clicks, loglosses, strict=True)
    return [loss / _entropy(click / row) for row, click, loss in days]


def check_whole_ne(
    answer: Callable[[Sequence[int], Sequence[int], Sequence[float]], float],
) -> None:
    """Exercise 3: the NE of several days from each day's rows, clicks and logloss."""
    two = [_entropy(0.1), _entropy(0.5)]
    expect(
        answer,
        _whole_ne,
        [
            {"rows": [1000, 1000], "clicks": [100, 500], "loglosses": two},
            {"rows": [3000, 500, 1500], "clicks": [300, 200, 600], "loglosses": [0.3, 0.6, 0.5]},
            {"rows": [100, 400], "clicks": [0, 100], "loglosses": [0.02, 0.5]},
        ],
        mistakes=[
            Mistake(
                lambda rows, clicks, losses: np.average(_nes(rows, clicks, losses)),
                "the mean of the days' NE. Each day has its own base rate to be compared with; "
                "all days together have another one.",
            ),
            Mistake(
                lambda rows, clicks, losses: np.average(_nes(rows, clicks, losses), weights=rows),
                "the days' NE, weighted by rows. Sums may be added up over days, ratios may not: "
                "the logloss below the line is that of one base rate for all days.",
            ),
            Mistake(
                lambda rows, clicks, losses: np.mean(losses) / _entropy(sum(clicks) / sum(rows)),
                "the loglosses are means over rows, and the days have different numbers of them.",
            ),
            Mistake(
                lambda rows, clicks, losses: np.average(losses, weights=rows)
                / np.average([_entropy(c / n) for n, c in zip(rows, clicks, strict=True)],
                             weights=rows),
                "below the line stands what it costs to know each day's share. NE compares with "
                "one share for all rows.",
            ),
        ],
        otherwise="add up the nats of all rows, and compare with always promising the share of "
        "all rows together.",
        learnt="A model that knows nothing but the day has an NE of 1 on each day and less than 1 "
        "on both. Keep sums (rows, clicks, nats), never ratios.",
    )  # fmt: skip


RULE = (
    "look the four rules up again: 0 is missing, 1 is what fewer than `least` training rows hold, "
    "and from 2 on come all other values of the training rows, in ascending order."
)
Ids = tuple[Sequence[int], Sequence[int]]


def _encode(train: Sequence[str], test: Sequence[str], least: int) -> Ids:
    words = sorted({word for word in train if word and train.count(word) >= least})
    rows = {word: row for row, word in enumerate(words, OUT_OF_VOCABULARY + 1)} | {"": MISSING}
    return (
        [rows.get(word, OUT_OF_VOCABULARY) for word in train],
        [rows.get(word, OUT_OF_VOCABULARY) for word in test],
    )


def check_encode(answer: Callable[[Sequence[str], Sequence[str], int], Ids]) -> None:
    """Exercise 4: the mended vocabulary; each input shows one of its four bugs."""
    many = ["f3", "0a", "9c", "77", "b1", "e2", "41"]
    cases: list[tuple[tuple[Any, ...], Callable[..., Any], str]] = [
        (
            (["x", "x", "x", "", "", ""], ["", "x"], 2),
            lambda train, test: 0 not in {*train, *test},
            "the empty text is no value. However often it occurs, it is `missing`, row 0.",
        ),
        (
            (["x", "x", "y"], ["z"], 2),
            lambda train, test: [*train, *test] == [1, 1, 1, 1],
            "`least` rows are enough: at least, not more than.",
        ),
        (
            (["x", "x", "x", "w", "w", "y"], ["y", "y", "y", "x", ""], 3),
            lambda train, test: train[5] > 1,
            "test rows were counted. A model in use cannot know what tomorrow's rows will hold; "
            "y gets a row here that no training row ever looks up.",
        ),
        (
            (many + many, many[:3], 2),
            lambda train, test: {*train, *test} == {*range(2, 9)},
            "the rows are not in ascending order of the values. A set of texts has another order "
            "in every run of Python: the ids of a saved model would mean something else tomorrow.",
        ),
    ]
    for given, made, meaning in cases:
        case = dict(zip(("train", "test", "least"), given, strict=True))
        found, wanted = call(answer, case), _encode(*given)
        if place := difference(found, wanted):
            try:
                spotted = made(*([int(row) for row in part] for part in found))
            except (TypeError, ValueError, IndexError):
                spotted = False
            sense = meaning if spotted else RULE
            raise NotRight(report(answer, case, found, wanted, place, sense))
    right(
        "Four bugs, and none would have raised an error: a score that is too good, a table that "
        "is too small, a hole that is a value, and a model that cannot be loaded again."
    )


def _bins(p: Tensor, labels: Tensor) -> str:
    """In which of the ten bins the promises of clicks and of other rows lie."""
    place = (BINS * p).ceil().clamp(1, BINS).long()
    kinds = {"clicks": labels == 1, "others": labels == 0}
    return "; ".join(
        f"{kind}: " + ", ".join(f"{100 * (b - 1) // BINS} to {100 * b // BINS} %" for b in
                                sorted(set(place[of].tolist())))
        for kind, of in kinds.items()
    )  # fmt: skip


def check_promises(answer: Callable[[Tensor], Tensor]) -> None:
    """Exercise 5: promises with AUC 1, calibration 1, ECE 0, and an NE of 1."""
    for clicks, rows in ((2, 8), (4, 100), (30, 100), (8, 16)):
        labels = torch.zeros(rows)
        labels[:: rows // clicks][:clicks] = 1
        made = call(answer, {"labels": labels})
        p = tensor(made, "The answer")
        if p.shape != labels.shape or not bool(((p > 0) & (p < 1)).all()):
            raise NotRight(
                f"Expected {rows} chances, each above 0 and below 1; got {shown(made)}.\nThis "
                "usually means: logits were returned, or the labels themselves."
            )
        z, y = p.logit(), labels.double()
        auc, calibration = metrics.auc(p, y), metrics.calibration(z, y)
        ne, ece = metrics.normalised_entropy(z, y), metrics.expected_calibration_error(z, y)
        advice = ""
        if auc < 1:
            advice = "a click is not promised more than every other row; a tie counts one half."
        elif abs(calibration - 1) > CLOSE:
            advice = "the promises have to add up to the clicks, nearly."
        elif ne < WORTHLESS:
            advice = "the promises say too much. How far apart do they have to be for AUC?"
        elif ece > CLOSE:
            advice = (
                "the two kinds of rows lie in different bins of ECE, and in each bin the share of "
                f"clicks is 0 or 1 ({_bins(p, labels)})."
            )
        if advice:
            raise NotRight(
                f"Not there yet with {clicks} clicks in {rows} rows.\n"
                f"  AUC {auc:.3f} (target 1), calibration {calibration:.3f} (1), "
                f"ECE {ece:.3f} (at most {CLOSE}), NE {ne:.3f} (at least {WORTHLESS})\n"
                f"This usually means: {advice}"
            )
    right(
        "The order is perfect, the promises are kept on average and in each bin, and yet they are "
        "worth no more than always promising one share: ECE sees no further than its bins. Only "
        "logloss noticed."
    )
