"""Checks of the exercises to chapter 08, sparse training."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dlrm_mini import optimizers
from dlrm_mini.exercises import checking
from dlrm_mini.exercises.checking import Mistake, NotRight, call, expect, right, shown, tensor
from dlrm_mini.ladders import sparse_counts

RATE = 0.1  # learning rate of the streams
MOST_STEPS, LARGEST = 10, 10.0  # of a stream: its steps, and the size of a gradient's number
APART, NEAR = 5.0, 2.0  # of the second stream: how much farther, and how near the first number is
STEPS, ROWS, TOUCHED = 30, 200, 6  # of the training in exercise 5
Pair = tuple[Tensor, Tensor]


def _bags(offsets: Tensor) -> Tensor:
    """The bag of each lookup."""
    return torch.arange(len(offsets) - 1).repeat_interleave(offsets.diff())


def _of_sum(ids: Tensor, offsets: Tensor, arrives: Tensor) -> Pair:
    return optimizers.coalesce(ids, arrives.double()[_bags(offsets)])


def _of_mean(ids: Tensor, offsets: Tensor, arrives: Tensor) -> Pair:
    return _of_sum(ids, offsets, arrives.double() / offsets.diff()[:, None])


def _mean_of_row(ids: Tensor, offsets: Tensor, arrives: Tensor) -> Pair:
    rows, summed = _of_sum(ids, offsets, arrives)
    return rows, summed / ids.bincount()[rows][:, None]


def check_row_gradients(answer: Callable[[Tensor, Tensor, Tensor], Pair]) -> None:
    """Exercise 1: the coalesced gradient of bags pooled by their mean."""
    arrives = torch.tensor([[4.0, 0.0], [1.0, 2.0], [-6.0, 3.0]])
    expect(
        answer,
        _of_mean,
        [
            {"ids": torch.tensor([7, 2, 7, 5, 2, 2]), "offsets": torch.tensor([0, 2, 3, 6]),
             "arrives": arrives},
            {"ids": torch.tensor([3, 3, 1]), "offsets": torch.tensor([0, 2, 2, 3]),
             "arrives": arrives},
        ],
        mistakes=[
            Mistake(
                _of_sum,
                "this is the gradient of a sum. A mean hands each of its L lookups one L-th of "
                "what arrives.",
            ),
            Mistake(
                lambda ids, offsets, arrives: (
                    ids, (arrives / offsets.diff()[:, None])[_bags(offsets)]
                ),
                "one gradient a lookup: rows that come twice are not added up yet.",
            ),
            Mistake(_mean_of_row, "divided by how often the row comes, not by the bag's length."),
        ],
        otherwise="a row gets from each lookup what arrives at its bag, divided by the bag's "
        "length, and all of it is added; rows come in rising order.",
        learnt="A bag of a hundred ids pulls each row a hundred times less than a bag of one. "
        "The empty bag pulls nobody, whatever arrives at it.",
    )  # fmt: skip


def _break_even(lookups: int, dim: int) -> float:
    """Where the two lines of `sparse_counts.moved` cross; both are straight in the rows."""
    none, one = (sparse_counts.moved(rows, dim, lookups, 1) for rows in (0, 1))
    slope = one["dense SGD"] - none["dense SGD"]
    return (none["sparse SGD"] - none["dense SGD"]) / slope


def check_break_even(answer: Callable[[int, int], float]) -> None:
    """Exercise 2: the rows at which a dense step of SGD moves as many bytes as a sparse one."""
    expect(
        answer,
        _break_even,
        [{"lookups": 2048, "dim": 16}, {"lookups": 40_960, "dim": 64}, {"lookups": 100, "dim": 1}],
        mistakes=[
            Mistake(lambda lookups, dim: lookups / 2, "the ids are missing: 8 bytes a lookup."),
            Mistake(
                lambda lookups, dim: lookups * (1 + 1 / (2 * dim)),
                "the dense way has a cost by lookup too: each adds its gradient into the "
                "table's, which reads and writes a vector.",
            ),
            Mistake(
                lambda lookups, dim: lookups * (2 / 3 + 2 / (3 * dim)),
                "the zeros are missing: the dense gradient is written once before anything is "
                "added to it.",
            ),
            Mistake(
                lambda lookups, dim: lookups / 4 + lookups / (4 * dim),
                "this is for Adam, which passes over the table eight times; SGD does four times.",
            ),
        ],
        otherwise="write both sums of bytes as functions of N, and set them equal.",
        learnt="The table may have about half as many rows as there are lookups, and is better "
        "off dense below that. For tables of millions of rows nobody has to count.",
    )


def _moves(stream: Tensor) -> Pair:
    """How far each number of a row moves under Adagrad, and under row-wise Adagrad, (S, D)."""
    squares = stream.square()
    state = squares.cumsum(0), squares.mean(1, keepdim=True).cumsum(0)
    full, by_row = (RATE * stream / (sums.sqrt() + 1e-12) for sums in state)
    return full.cumsum(0), by_row.cumsum(0)


def check_streams(answer: Callable[[], tuple[Tensor, Tensor]]) -> None:
    """Exercise 3: gradients (S, 2) under which the two rules agree, and some where they do not."""
    found = call(answer, {})
    if not isinstance(found, list | tuple) or len(found) != 2:
        raise NotRight(f"Expected two streams, `same` and `apart`; got {shown(found)}.")
    same, apart = (tensor(one, "A stream") for one in found)
    for name, one in (("same", same), ("apart", apart)):
        fits = one.ndim == 2 and one.shape[1] == 2 and 1 <= len(one) <= MOST_STEPS
        if not fits or not bool(((one != 0) & (one.abs() <= LARGEST)).all()):
            raise NotRight(
                f"The stream `{name}` is {shown(one)}; expected (S, 2) with 1 to {MOST_STEPS} "
                f"steps, of numbers from -{LARGEST:g} to {LARGEST:g} that are not zero."
            )
    if len(same) < 3 or not bool((same[:, 0] != same[:, 1]).any()):
        raise NotRight(
            f"The stream `same` is {shown(same)}; expected at least three steps, and its two "
            "columns not all alike: that would be one number written twice."
        )
    full, by_row = _moves(same)
    if place := checking.difference(by_row, full, 1e-6):
        raise NotRight(
            f"Under `same` the two rules part.\n  Adagrad    {shown(full)}\n"
            f"  row-wise   {shown(by_row)}\n  first difference: {place}\nThis usually means: the "
            "mean of the squares is not the square of each number. When is it?"
        )
    (one, two), (one_row, two_row) = (moves[-1].abs().tolist() for moves in _moves(apart))
    facts = (
        f"  first number:  {one:.3g} under Adagrad, {one_row:.3g} row-wise\n"
        f"  second number: {two:.3g} under Adagrad, {two_row:.3g} row-wise"
    )
    if not max(one, one_row) <= NEAR * min(one, one_row):
        raise NotRight(
            f"Under `apart` the first number should move about alike.\n{facts}\nThis usually "
            "means: it is the small one, or its steps cancel. Pull the first one hard."
        )
    if not two >= APART * two_row:
        raise NotRight(
            f"Under `apart` the second number should move {APART:g} times as far under Adagrad."
            f"\n{facts}\nThis usually means: its gradients are too much like the first one's. Its "
            "rate row-wise is set by the larger of the two."
        )
    right(
        f"Adagrad moves the second number {two / two_row:.0f} times as far. A row has one rate, "
        "set by what pulls hardest; a direction whose gradient is small beside it starves."
    )


def _adagrad(table: Tensor, sums: Tensor, ids: Tensor, gradients: Tensor, lr: float) -> Pair:
    rows, summed = optimizers.coalesce(ids, gradients.double())
    table, sums = table.double(), sums.double()
    sums[rows] += summed.square()
    table[rows] -= lr * summed / (sums[rows].sqrt() + 1e-8)
    return table, sums


def _last_wins(*given: Any) -> Pair:
    table, sums, ids, gradients, lr = given
    sums[ids] += gradients.square()
    table[ids] -= lr * gradients / (sums[ids].sqrt() + 1e-8)
    return table, sums


def _squares_added(*given: Any) -> Pair:
    table, sums, ids, gradients, lr = given
    sums.index_add_(0, ids, gradients.square())
    return table.index_add_(0, ids, -lr * gradients / (sums[ids].sqrt() + 1e-8)), sums


def check_adagrad(answer: Callable[[Tensor, Tensor, Tensor, Tensor, float], Pair]) -> None:
    """Exercise 4: the mended sparse step of Adagrad."""
    start = {"table": torch.zeros(4, 2), "sums": torch.ones(4, 2)}
    gradients = torch.tensor([[1.0, 3.0], [2.0, -1.0], [3.0, 1.0]])
    expect(
        answer,
        _adagrad,
        [
            start | {"ids": torch.tensor([2, 0, 2]), "gradients": gradients, "lr": 0.1},
            start | {"ids": torch.tensor([3, 1, 0]), "gradients": gradients, "lr": 0.1},
            start | {"ids": torch.tensor([1, 1, 1]), "gradients": gradients, "lr": 0.5},
        ],
        mistakes=[
            Mistake(
                _last_wins,
                "of an id that comes twice only one gradient has arrived: `x[ids] += g` reads "
                "all, adds, and writes all, and the last one written stays.",
            ),
            Mistake(
                _squares_added,
                "each gradient was squared by itself. The rule squares the gradient of the row, "
                "which is the sum: (a + b)² is not a² + b².",
            ),
        ],
        otherwise="of equal ids add up the gradients first; then every row comes once, and the "
        "four lines are right as they were.",
        learnt="Two bugs lay behind one another, and a test whose ids all differ sees neither: "
        "`+=` keeps one of the duplicates, and squares added are not the sum squared.",
    )


CaughtUp = Callable[[Tensor, Tensor, Tensor, float, float], Pair]


def _series(weights: Tensor, velocity: Tensor, missed: Tensor, lr: float, momentum: float) -> Pair:
    w, v = weights.double(), velocity.double()
    for step in range(int(missed.max())):
        late = (missed > step).double()[:, None]
        v = v * (1 - late + late * momentum)
        w = w - lr * late * v
    return w, v


def _train(answer: CaughtUp) -> None:
    """Train lazily with the reader's function and densely with torch's SGD, and compare."""
    generator = torch.Generator().manual_seed(8)
    dense = torch.nn.Parameter(torch.ones(ROWS, 2))
    sgd = torch.optim.SGD([dense], lr=RATE, momentum=0.9)
    w, v = torch.ones(ROWS, 2), torch.zeros(ROWS, 2)
    last = torch.zeros(ROWS, dtype=torch.int64)

    def catch_up(ids: Tensor, until: int) -> None:
        owing = {"weights": w[ids], "velocity": v[ids], "missed": until - last[ids]}
        pair = call(answer, {**owing, "lr": RATE, "momentum": 0.9})
        w[ids], v[ids] = (tensor(one, "A row or a velocity").float() for one in pair)

    for step in range(1, STEPS + 1):
        ids = torch.randperm(ROWS, generator=generator)[:TOUCHED]
        gradient = torch.randn(TOUCHED, 2, generator=generator)
        dense.grad = torch.zeros_like(dense).index_add_(0, ids, gradient)
        sgd.step()
        catch_up(ids, step - 1)
        v[ids] = 0.9 * v[ids] + gradient
        w[ids] -= RATE * v[ids]
        last[ids] = step
    catch_up(torch.arange(ROWS), STEPS)
    if place := checking.difference(w, dense.detach()):
        raise NotRight(f"A whole training with your function differs from torch's at {place}.")


def check_catch_up(answer: CaughtUp) -> None:
    """Exercise 5: rows (R, D) under momentum after so many steps without a gradient."""
    weights = torch.tensor([[1.0, 2.0], [0.0, 1.0], [3.0, -1.0]])
    velocity = torch.tensor([[1.0, -2.0], [4.0, 0.5], [0.0, 1.0]])
    missed = torch.tensor([2, 0, 7])

    def like(of_weights: Callable[[Tensor, float], Tensor]) -> CaughtUp:
        def wrong(w: Tensor, v: Tensor, k: Tensor, lr: float, m: float) -> Pair:
            steps = k.double()[:, None]
            return w - lr * of_weights(steps, m) * v, v * m**steps

        return wrong

    inputs = [
        {"weights": weights, "velocity": velocity, "missed": missed, "lr": 0.1, "momentum": m}
        for m in (0.5, 0.9, 0.0)
    ]
    mistakes = [
        Mistake(
            like(lambda k, m: (1 - m**k) / (1 - m)),
            "the series begins one step too early: in the first missed step the velocity shrinks "
            "before the row moves by it.",
        ),
        Mistake(
            like(lambda k, m: k),
            "the row moved by the full velocity in every step; it shrinks from step to step.",
        ),
        Mistake(like(lambda k, m: m**k), "only the last missed step was made; their sum is owed."),
        Mistake(
            lambda w, v, *rest: (_series(w, v, *rest)[0], v),
            "the row has moved, but its velocity has to shrink as well.",
        ),
    ]
    expect(
        answer,
        _series,
        inputs,
        mistakes=mistakes,
        otherwise="write down v and w after one missed step, after two, after three.",
        learnt="Momentum can be made sparse after all, if a row pays what it owes before it is "
        "looked up. That is another rule than leaving out what it owes.",
    )
    _train(answer)
    print(
        f"A training of {STEPS} steps with your function ends where torch's dense momentum ends; "
        f"each step moves {TOUCHED} of {ROWS} rows."
    )
