"""Checks of the exercises to chapter 15, for real."""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dlrm_mini.errors import UserError
from dlrm_mini.exercises.checking import (
    Mistake,
    NotRight,
    call,
    difference,
    expect,
    right,
    shown,
    tensor,
)
from dlrm_mini.parallel.communicator import Communicator
from dlrm_mini.parallel.simulated import SimulatedCluster

Range = tuple[int, int]
YEAR = 365.25 * 24 * 3600.0  # seconds
TRIPLES = 10_000


def check_numbers(answer: Callable[[], Sequence[float]]) -> None:
    """Exercise 1: three numbers in (0, 1] whose sum in float64 depends on where one begins."""
    found = call(answer, {})
    numbers = tensor(found, "The answer")
    if numbers.shape != (3,):
        raise NotRight(f"Expected three numbers, such as [1.0, 0.5, 0.25]; got {shown(found)}.")
    outside = [float(number) for number in numbers if not 0 < number <= 1]
    if outside:
        raise NotRight(
            f"The numbers are {numbers.tolist()}; {outside[0]!r} is not above 0 and at most 1. "
            "With huge numbers, or with signs, it would be easy."
        )
    a, b, c = numbers.tolist()
    first, second = (a + b) + c, a + (b + c)
    if first == second:
        raise NotRight(
            f"Both orders give {first!r} for {numbers.tolist()}: no rounding happened that the "
            "other order does not do as well. Numbers of few bits, such as 0.5, add without any."
        )
    generator = np.random.default_rng(15)
    x, y, z = generator.uniform(size=(3, TRIPLES))
    share = float(np.mean((x + y) + z != x + (y + z)))
    right(
        f"One order gives {first!r}, the other {second!r}. Of {TRIPLES:,} random triples, "
        f"{share:.0%} do so: with three ranks or more, the same bits are luck."
    )


def check_interval(answer: Callable[[float, float, int], float]) -> None:
    """Exercise 2: the seconds between checkpoints that waste least."""
    thousand = math.sqrt(2 * 60 * 3 * YEAR / 1000)
    waste = 60 / thousand + thousand / 2 * 1000 / (3 * YEAR)
    expect(
        answer,
        lambda save, death, ranks: math.sqrt(2 * save * death / ranks),
        [
            {"save": 60.0, "death": 3 * YEAR, "ranks": 1000},
            {"save": 60.0, "death": 3 * YEAR, "ranks": 1},
            {"save": 2.0, "death": 100.0, "ranks": 4},
        ],
        mistakes=[
            Mistake(
                lambda save, death, ranks: math.sqrt(2 * save * death),
                "that is for one rank. Any of P deaths ends the run, so it dies P times as often.",
            ),
            Mistake(
                lambda save, death, ranks: math.sqrt(save * death / ranks),
                "the half is missing: a death comes in the middle of an interval, on average.",
            ),
            Mistake(
                lambda save, death, ranks: math.sqrt(2 * save * death * ranks),
                "more ranks make the run live longer here; they make it die more often.",
            ),
            Mistake(
                lambda save, death, ranks: 2 * save * death / ranks,
                "that is the square of it: c / tau² = P / (2 M).",
            ),
        ],
        otherwise="set the derivative by tau of c / tau + tau P / (2 M) to zero.",
        learnt=f"A thousand ranks save every {thousand / 60:.0f} minutes and waste {waste:.1%}, "
        "though each of them lives for three years. It is a root: four times the ranks, half the "
        "interval.",
    )


def check_training(answer: Callable[..., int]) -> None:
    """Exercise 3: all ranks stop after the same step, by their mean loss."""

    @functools.wraps(answer)
    def on_all_ranks(losses: list[list[float]], enough: float, most: int) -> list[int]:
        """Each rank's answer, on simulated ranks that name who waits in vain."""

        def train(comm: Communicator) -> int:
            made: list[float] = []

            def step() -> float:
                if len(made) == most:
                    raise NotRight(
                        f"Rank {comm.rank} begins step {most + 1}, and `most` is {most}: by then "
                        "all stop, whether the loss is low or not."
                    )
                comm.all_reduce(torch.ones(1))  # the gradients
                made.append(losses[comm.rank][len(made)])
                return made[-1]

            found = answer(comm, step, enough, most)
            if difference(found, len(made)):
                raise NotRight(
                    f"Rank {comm.rank} made {len(made)} steps and returned {shown(found)}. Leave "
                    "the loop with the step that decides, and return how many were made."
                )
            return int(found)

        with torch.no_grad():  # no gradient is asked for
            return SimulatedCluster(len(losses)).run(train)

    expect(
        on_all_ranks,
        lambda losses, enough, most: _steps(losses, enough, most, np.mean),
        [
            {
                "losses": [
                    [0.9, 0.7, 0.6, 0.4, 0.3, 0.2, 0.1],
                    [0.9, 0.4, 0.2, 0.2, 0.2, 0.1, 0.1],
                    [0.9, 0.8, 0.6, 0.6, 0.4, 0.1, 0.1],
                ],
                "enough": 0.5,
                "most": 7,
            },
            {"losses": [[0.5, 0.4, 0.3, 0.2, 0.1]] * 3, "enough": 0.25, "most": 5},
            {"losses": [[0.7, 0.6], [0.1, 0.1], [0.7, 0.7]], "enough": 0.3, "most": 2},
            {"losses": [[0.8, 0.3, 0.2]], "enough": 0.5, "most": 3},
            {
                "losses": [[1.0, 0.75, 0.625, 0.25], [1.0, 0.25, 0.25, 0.25]],  # a mean of 0.5
                "enough": 0.5,
                "most": 4,
            },
        ],
        mistakes=[
            Mistake(
                lambda losses, enough, most: _steps(losses, enough, most, np.sum),
                "the sum of the losses was compared; divide it by the number of ranks.",
            ),
            Mistake(
                lambda losses, enough, most: _steps(losses, enough, most, np.max),
                "it goes on until every rank is content; asked is for the mean.",
            ),
            Mistake(
                lambda losses, enough, most: _steps(losses, enough, most, np.min),
                "it stops as soon as one rank is content; asked is for the mean.",
            ),
            Mistake(
                lambda losses, enough, most: _steps(losses, enough, most, lambda all_: all_[0]),
                "rank 0 decides for all; asked is for the mean of all ranks' losses.",
            ),
            Mistake(
                lambda losses, enough, most: _steps(
                    losses, math.nextafter(enough, 0), most, np.mean
                ),
                "a mean of exactly `enough` is enough: at most, so <= and not <.",
            ),
            Mistake(
                lambda losses, enough, most: [most] * len(losses),
                "nobody stops early: training makes all the steps that it may.",
            ),
        ],
        otherwise="the parts are the ranks' numbers of steps: stop after the first step whose mean "
        "loss is at most `enough`.",
        learnt="What decides when to leave a loop has to be the same number on all ranks. "
        "Losses, norms and clocks are not, before they have been summed.",
    )


def _steps(
    losses: list[list[float]], enough: float, most: int, judge: Callable[[Any], float]
) -> list[int]:
    low = [place for place in range(most) if judge([own[place] for own in losses]) <= enough]
    return [low[0] + 1 if low else most] * len(losses)


@dataclass
class Piece:
    """A rectangle of a checkpoint's table.

    Attributes:
        rows: first row and the one after the last, in the table.
        columns: likewise.
        taken: rectangles that were read, in the table.
    """

    rows: Range
    columns: Range
    taken: list[tuple[Range, Range]] = field(default_factory=list, repr=False)

    def read(self, rows: Range, columns: Range) -> Tensor:
        """A part of the piece, counted from its own corner.

        Raises:
            UserError: the piece does not reach that far.
        """
        wanted = []
        for what, (low, high), (first, last) in (
            ("rows", rows, self.rows), ("columns", columns, self.columns)
        ):  # fmt: skip
            if not 0 <= low <= high <= last - first:
                raise UserError(
                    f"The piece with the {what} {first} to {last} of the table was asked for its "
                    f"{what} {low} to {high}; from its own corner it has 0 to {last - first}."
                )
            wanted.append((low + first, high + first))
        self.taken.append((wanted[0], wanted[1]))
        return _numbers(*wanted)


def check_rectangle(answer: Callable[[list[Piece], Range, Range], Tensor]) -> None:
    """Exercise 4: a rectangle of a table out of pieces, with nothing read that is not needed."""

    @functools.wraps(answer)
    def reading(pieces: list[tuple[Range, Range]], rows: Range, columns: Range) -> dict[str, Any]:
        """What was put together, and how many numbers were read for it."""
        written = [Piece(*corners) for corners in pieces]
        found = answer(written, rows, columns)
        if found is None:
            raise NotRight(f"{shown(answer)} returned nothing (None). Is its `return` missing?")
        read = sum((b - a) * (d - c) for one in written for (a, b), (c, d) in one.taken)
        return {"rectangle": found, "numbers read": read}

    by_rows = [((0, 3), (0, 4)), ((3, 6), (0, 4)), ((6, 8), (0, 4))]
    by_columns = [((0, 8), (0, 2)), ((0, 8), (2, 3)), ((0, 8), (3, 4))]
    grid = [((4, 8), (0, 3)), ((0, 4), (3, 4)), ((0, 4), (0, 3)), ((4, 8), (3, 4))]  # any order
    expect(
        reading,
        lambda pieces, rows, columns: {
            "rectangle": _numbers(rows, columns),
            "numbers read": (rows[1] - rows[0]) * (columns[1] - columns[0]),
        },
        [
            {"pieces": by_rows, "rows": (2, 5), "columns": (1, 3)},
            {"pieces": by_columns, "rows": (4, 8), "columns": (0, 4)},
            {"pieces": by_rows, "rows": (6, 8), "columns": (0, 4)},
            {"pieces": grid, "rows": (2, 7), "columns": (1, 4)},
            {"pieces": [*by_rows, ((8, 8), (0, 4))], "rows": (0, 8), "columns": (3, 4)},
            {"pieces": by_rows, "rows": (8, 8), "columns": (0, 4)},
        ],
        mistakes=[
            Mistake(
                lambda pieces, rows, columns: {
                    "rectangle": _numbers(rows, columns),
                    "numbers read": sum((b - a) * (d - c) for (a, b), (c, d) in pieces),
                },
                "every piece was read whole. Ask each for the shared part, and skip those that "
                "share nothing.",
            ),
            Mistake(
                lambda pieces, rows, columns: {
                    "rectangle": _numbers(rows, columns),
                    "numbers read": sum(
                        (b - a) * (d - c)
                        for (a, b), (c, d) in pieces
                        if a < rows[1] and rows[0] < b and c < columns[1] and columns[0] < d
                    ),
                },
                "pieces that share anything were read whole. Ask each for the shared part only.",
            ),
        ],
        otherwise="each wanted number is to be read once. Row 3 and column 1 hold 31: say the "
        "shared range as the piece counts it when reading, and as the wanted rectangle counts it "
        "when writing.",
        learnt="Two plans need not know of each other: rectangles share rectangles, and nobody "
        "reads a number twice.",
    )


def _numbers(rows: Range, columns: Range) -> Tensor:
    """A rectangle of the check's table: 10 times the row plus the column, float32."""
    return 10.0 * torch.arange(*rows)[:, None] + torch.arange(*columns)[None, :]
