"""Checks of the exercises to chapter 04, the MLP."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from dlrm_mini.exercises.checking import Mistake, NotRight, call, expect, right, shown, tensor
from dlrm_mini.pictures.hidden_units import take_apart

Weights = tuple[Tensor, Tensor, Tensor, Tensor]
MOST = 3  # hidden units of the maximum
ABOVE = 1.01  # times the lowest worst error of a parabola: what still counts as reached


def check_max(answer: Callable[[], Sequence[Any]]) -> None:
    """Exercise 1: the larger of two numbers, exactly, with three hidden units."""
    weights = _weights(call(answer, {}), 2, "my_max")
    points = [
        (2, 1),
        (1, 2),
        (3, -1),
        (-1, 3),
        (-1, -2),
        (-5, -4),
        (0, 0),
        (1e4, -1e4),
        (-1e30, -2e30),
    ]
    x = torch.tensor(points, dtype=torch.float64)
    got, wanted = _network(x, *weights), x.amax(1)
    wrong = ~((got - wanted).abs() <= 1e-6 * (1 + x.abs().amax(1)))  # also where it is NaN
    if bool(wrong.any()):
        place = int(wrong.nonzero()[0])
        meaning = "does each of the units do what you had in mind at this point? Try them singly."
        if not bool((wrong & (x > 0).all(1)).any()):
            meaning = (
                "a unit passes no negative number on. A number z that has to come through "
                "unchanged takes two: max(0, z) - max(0, -z)."
            )
        elif torch.allclose(got, x.amin(1)):
            meaning = "this is the smaller of the two: a sign is the other way round."
        elif torch.allclose(got, x.sum(1) / 2):
            meaning = "this is the mean of the two; half of their distance has to be added."
        raise NotRight(
            "The network is not right yet.\n"
            f"  input      x = {x[place, 0]:g}, y = {x[place, 1]:g}\n"
            f"  got        {got[place]:g}\n  expected   {wanted[place]:g}\n"
            f"This usually means: {meaning}"
        )
    units = len(weights[1])
    if units > MOST:
        raise NotRight(f"It is right, with {units} units; {MOST} are enough. Which say the same?")
    right(
        f"{units} folds, and no error anywhere, for numbers of any size: a maximum is made of flat "
        "pieces, as a network is. A product is not, and no number of folds makes one exactly."
    )


def check_share(answer: Callable[[float, float], float]) -> None:
    """Exercise 2: how much of an and-unit's variance is interaction."""

    def parts(p: float, q: float) -> Tensor:
        """The variance of users alone, movies alone and the interaction, of a real matrix."""
        people = torch.arange(100, dtype=torch.float64)
        pushes = [(people < round(100 * share)).double() for share in (p, q)]
        matrix = torch.relu(pushes[0][:, None] + pushes[1] - 1).numpy()
        return torch.tensor([float((part**2).mean()) for part in take_apart(matrix)[-3:]])

    def share(p: float, q: float) -> float:
        of = parts(p, q)
        return float(of[2] / of.sum())

    shares = ((0.2, 0.5), (0.5, 0.5), (0.01, 0.01), (1.0, 0.3), (0.9, 0.8))
    expect(
        answer,
        share,
        [{"p": p, "q": q} for p, q in shares],
        mistakes=[
            Mistake(
                lambda p, q: p * (1 - p) * q * (1 - q),
                "this is the variance of the interaction; the share is wanted, so divide by the "
                "variance of the unit.",
            ),
            Mistake(
                lambda p, q: (1 - p) * (1 - q),
                "the variance of a unit that is 1 with probability p q is p q (1 - p q), not p q.",
            ),
            Mistake(
                lambda p, q: 1 - share(p, q), "this is the part that users or movies say alone."
            ),
            Mistake(
                lambda p, q: p * q,
                "this is how often the unit fires. Where it fires always, nothing is interaction.",
            ),
        ],
        otherwise="take p = q = 1/2, write the four cells down, and subtract the rows' and the "
        "columns' means.",
        learnt=f"Of an and of two halves only {share(0.5, 0.5):.0%} is interaction, of one in a "
        f"hundred each {share(0.01, 0.01):.0%}. A unit that fires often mostly says what a bias "
        "could have said; the rarer it fires, the more of it is news.",
    )


def check_gradients(answer: Callable[..., Sequence[Tensor]]) -> None:
    """Exercise 3: the gradients of a network with one hidden layer."""
    expect(
        answer,
        _gradients,
        [_layer(rows=3, units=2, seed=4), _layer(rows=1, units=3, seed=5), _layer(7, 5, seed=6)],
        mistakes=[
            Mistake(
                lambda *given: _by_hand(*given, silent=True),
                "one bug is left: units learn from rows for which they were silent.",
            ),
            Mistake(
                lambda *given: _by_hand(*given, summed=True),
                "one bug is left: one of the four is a sum over the rows, the others are means.",
            ),
            Mistake(
                lambda *given: _by_hand(*given, silent=True, summed=True),
                "both bugs are left: units learn from rows for which they were silent, and one of "
                "the four gradients is a sum over the rows instead of a mean.",
            ),
            Mistake(
                lambda *given: [len(given[0]) * one for one in _gradients(*given)],
                "these are sums over the rows; the objective is a mean.",
            ),
            Mistake(
                lambda *given: [2 * one for one in _gradients(*given)],
                "the half in front of the square cancels the 2.",
            ),
            Mistake(
                lambda *given: [-one for one in _gradients(*given)],
                "the sign: the error is the output minus the label.",
            ),
        ],
        otherwise="compare with `by_autograd` on the same input, one gradient after the other.",
        learnt="Where a unit is silent its gradient is zero: that is all a fold is in backward. A "
        "loss that falls is no proof of a gradient; autograd, or a small step each way, is.",
    )


def check_parabola(answer: Callable[[int], Sequence[Any]]) -> None:
    """Exercise 4: z squared on -1..1 with the lowest worst error."""
    z = torch.linspace(-1, 1, 4001, dtype=torch.float64)[:, None]
    score = []
    for k in (2, 4, 8, 32):
        weights = _weights(call(answer, {"k": k}), 1, f"my_parabola({k})")
        if len(weights[1]) != k:
            raise NotRight(f"my_parabola({k}) has {len(weights[1])} hidden units; expected {k}.")
        off = _network(z, *weights) - z[:, 0].square()  # (n,)
        worst, lowest = float(off.abs().max()), 1 / (2 * (k + 1) ** 2)
        score.append(f"{k} units: {worst:.5f}")
        if not worst <= ABOVE * lowest:
            place = int(off.abs().argmax())
            raise NotRight(
                f"With {k} units the worst error is {worst:.5f}, {worst / lowest:.1f} times the "
                f"lowest possible, {lowest:.5f}.\n"
                f"  input      z = {float(z[place]):.3f}\n"
                f"  got        {float(off[place] + z[place] ** 2):.4f}\n"
                f"  expected   {float(z[place] ** 2):.4f}\n"
                f"This usually means: {_bent(weights, off, worst / lowest)}"
            )
    right(
        f"Worst errors: {', '.join(score)}. Twice the units, about a quarter of the error; a tenth "
        "of it costs about three times the units. A product is two such parabolas, and a dot "
        "product a product for each pair of coordinates."
    )


def check_memory(answer: Callable[[Tensor], Sequence[Any]]) -> None:
    """Exercise 5: vectors and a network that give any table."""
    generator = torch.Generator().manual_seed(8)
    tables = [
        torch.tensor([[1.0, 5.0], [5.0, 1.0], [3.0, 4.0]], dtype=torch.float64),
        torch.tensor([[-2.0, 0.5], [4.0, -3.0]], dtype=torch.float64),
        torch.tensor([[9.0, -9.0, 0.0, 7.0, 100.0]], dtype=torch.float64),
        torch.randn(6, 9, generator=generator, dtype=torch.float64).mul(50).round(),
    ]
    for table in tables:
        n, m = table.shape
        found = call(answer, {"table": table})
        if not isinstance(found, tuple | list) or len(found) != 6:
            raise NotRight("Return six things: users, movies, first, bias, second and level.")
        users, movies = (tensor(part, "A table of vectors") for part in found[:2])
        shapes = tuple(users.shape), tuple(movies.shape)
        if users.ndim != 2 or shapes != ((n, users.shape[1]), (m, users.shape[1])):
            raise NotRight(
                f"For {n} users and {m} movies, users are of shape {shapes[0]} and movies "
                f"{shapes[1]}; expected ({n}, D) and ({m}, D)."
            )
        weights = _weights(found[2:], 2 * users.shape[1], "my_memory")
        pairs = torch.cat([users.repeat_interleave(m, 0), movies.repeat(n, 1)], dim=1)
        got = _network(pairs, *weights).view(n, m)
        wrong = ~((got - table).abs() <= 1e-6 * (1 + table.abs().max()))
        if bool(wrong.any()):
            u, i = (int(one) for one in wrong.nonzero()[0])
            level = weights[3]  # what is left when no unit fires
            below = bool((got[wrong] == level).all()) and bool((table[wrong] < level).all())
            meaning = "look at which units fire for this pair, and at what they pass on."
            if below:
                meaning = "a unit passes no negative number on. Lift the table, lower the level."
            elif bool((got[wrong] > table[wrong]).all()):
                meaning = (
                    "more than one unit fires here, so other cells are added. Is the gate wide "
                    "enough for the largest number of this table?"
                )
            raise NotRight(
                f"The network does not give the table.\n  input      table = {shown(table)}\n"
                f"  got        {shown(got)}\n"
                f"  first difference: [{u}, {i}]: {got[u, i]:g} is not {table[u, i]:g}\n"
                f"This usually means: {meaning}"
            )
        if len(weights[1]) > min(n, m):
            raise NotRight(
                f"It is right, with {len(weights[1])} units for {n} users and {m} movies; expected "
                f"at most {min(n, m)}. A unit for each movie is enough, or one for each user."
            )
    right(
        "Every table of ratings is within reach, noise and all, without a product anywhere. So "
        '"it can represent it" says little: what counts is what training finds, and what it says '
        "about cells it has not seen."
    )


def _weights(found: Any, n_in: int, name: str) -> Weights:
    """What a reader returned as the weights of a network, as float64 and of fitting shapes."""
    if not isinstance(found, tuple | list) or len(found) != 4:
        raise NotRight(f"{name} returns four things: first, bias, second and level.")
    names = ("first", "bias", "second", "level")
    first, bias, second, level = (tensor(f, n) for f, n in zip(found, names, strict=True))
    k = bias.shape[0] if bias.ndim else 0
    wanted = {"first": (n_in, k), "bias": (k,), "second": (k,), "level": ()}
    for name_of, one in zip(names, (first, bias, second, level), strict=True):
        if tuple(one.shape) != wanted[name_of]:
            raise NotRight(
                f"{name}: {name_of} has the shape {tuple(one.shape)}; expected {wanted[name_of]}, "
                f"with the {k} units of bias."
            )
    return first, bias, second, level


def _network(x: Tensor, first: Tensor, bias: Tensor, second: Tensor, level: Tensor) -> Tensor:
    return torch.relu(x @ first + bias) @ second + level


def _layer(rows: int, units: int, seed: int) -> dict[str, Tensor]:
    """Inputs of `my_gradients`, with units that are silent for some rows."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        drawn = torch.randn(shape, generator=generator, dtype=torch.float64)
        return (drawn * 10).round() / 10 + 0.01  # readable, and no unit exactly at its fold

    x, labels, first = draw(rows, 2), draw(rows), draw(2, units)
    weights = {"first": first, "bias": draw(units), "second": draw(units), "level": draw()}
    return {"x": x, "labels": labels, **weights}


def _gradients(x: Tensor, labels: Tensor, *weights: Tensor) -> list[Tensor]:
    leaves = [one.double().requires_grad_() for one in weights]
    first, bias, second, level = leaves
    loss = (_network(x, first, bias, second, level) - labels).square().mean() / 2
    return [*torch.autograd.grad(loss, leaves)]


def _by_hand(
    x: Tensor, labels: Tensor, *weights: Tensor, silent: bool = False, summed: bool = False
) -> list[Tensor]:
    """The gradients with the mistakes that are asked for."""
    first, bias, second, level = weights
    hidden = torch.relu(x @ first + bias)
    error = (hidden @ second + level - labels) / len(x)
    back = error[:, None] * second * (True if silent else hidden > 0)
    return [x.T @ back, back.sum(0) * (len(x) if summed else 1), hidden.T @ error, error.sum()]


def _bent(weights: Weights, off: Tensor, times: float) -> str:
    """What is usually wrong with a parabola, from its error (n,) on -1..1."""
    first, bias, _, _ = weights
    if bool((first[0] > 0).all()) or bool((first[0] < 0).all()):
        return (
            "all units look to one side: where all are silent the network is flat, one piece lost."
        )
    if float(off.min()) > -1e-9 and abs(times - 2) < 0.1:
        return "the pieces are chords: they touch the parabola at their ends and lie above it."
    folds = (-bias / first[0]).sort().values
    pieces = torch.cat([folds.new_tensor([-1.0]), folds, folds.new_tensor([1.0])]).diff()
    if bool((pieces - 2 / len(pieces)).abs().max() > 0.01 * 2 / len(pieces)):
        return f"the folds are at {shown(folds)}: not all pieces from -1 to 1 are equally long."
    return "do all slopes change by the same at a fold, and is the error as large above as below?"
