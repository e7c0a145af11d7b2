"""Checks of the exercises to chapter 03, factorization machines."""

from collections.abc import Callable, Sequence
from itertools import combinations

import torch
from torch import Tensor

from dlrm_mini.exercises.checking import Mistake, NotRight, call, expect, right, shown, tensor
from dlrm_mini.models.factorization_machine import pairwise_fast

FACTS = ("user", "movie", "day")  # of the puzzle
SMALL = 1e-4  # of the ratings' variance: what counts as nothing


def check_fm(answer: Callable[[Tensor, float, Tensor, Tensor], Tensor]) -> None:
    """Exercise 1: a factorization machine on rows with any values."""
    generator = torch.Generator().manual_seed(3)
    w, v = _normal(generator, 3), _normal(generator, 3, 2)
    rows = [
        torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]]),
        torch.tensor([[1.0, 0.5, 0.0]]),
        torch.tensor([[-1.0, 2.0, 0.3]]),
    ]
    expect(
        answer,
        _machine,
        [
            {"x": x.double(), "bias": bias, "w": w, "v": v}
            for x, bias in zip(rows, (3.5, 2.0, 0.0), strict=True)
        ],
        mistakes=[
            Mistake(
                lambda x, bias, w, v: bias + x @ w + 0.5 * ((x @ v) ** 2 - x @ v**2).sum(1),
                "the value in the diagonal is not squared: |x_j v_j|² is x_j² |v_j|². Zeros and "
                "ones are their own squares and cannot show it.",
            ),
            Mistake(
                lambda x, bias, w, v: bias + x @ w + 0.5 * ((x @ v) ** 2 - (x @ v**2) ** 2).sum(1),
                "the sum over the columns was squared as a whole; each value has to be squared "
                "before they are added.",
            ),
            Mistake(
                lambda x, bias, w, v: 2 * _machine(x, bias, w, v) - bias - x @ w,
                "the half is missing: the square holds each pair twice.",
            ),
            Mistake(
                lambda x, bias, w, v: bias + x @ w + 0.5 * ((x @ v) ** 2).sum(1),
                "the diagonal was not subtracted: no feature is a pair with itself.",
            ),
        ],
        otherwise="compare the three parts, bias, weights and pairs, one by one.",
        learnt="A test whose inputs are all zeros and ones cannot tell x from x². Give a test the "
        "values that will come later, not only those that came so far.",
    )


def check_query(answer: Callable[[float, Tensor, Tensor], tuple[float, Tensor]]) -> None:
    """Exercise 2: what is known, as a constant and a vector that every movie is held against."""
    generator = torch.Generator().manual_seed(4)
    inputs = [
        {"bias": 3.5, "w_known": _normal(generator, n), "z_known": _normal(generator, n, dim)}
        for n, dim in ((2, 2), (1, 3), (40, 8))
    ]
    expect(
        answer,
        _query,
        inputs,
        mistakes=[
            Mistake(
                lambda bias, w, z: (bias + w.sum(), z.sum(0)),
                "the pairs among the known features are missing. They are the same for all movies, "
                "so the order would be right and the stars wrong.",
            ),
            Mistake(
                lambda bias, w, z: (bias + w.sum() + 0.5 * (z.sum(0) @ z.sum(0)), z.sum(0)),
                "no feature is a pair with itself: the diagonal has to be subtracted.",
            ),
            Mistake(
                lambda bias, w, z: (_query(bias, w, z)[0], z.mean(0)),
                "the query is the sum of the known vectors, not their mean: each of them meets the "
                "movie once, in full.",
            ),
            Mistake(
                lambda bias, w, z: (_query(bias, w, z)[0] - bias, z.sum(0)), "w_0 was forgotten."
            ),
        ],
        otherwise="for one movie, write all pairs down: which are not in your two parts?",
        learnt="However much is known about somebody, ranking all movies is a dot product each, "
        "and the constant does not even change the order.",
    )


def check_pairs_between(answer: Callable[[Tensor, Tensor], float]) -> None:
    """Exercise 3: the pairs of features from different fields."""
    generator = torch.Generator().manual_seed(5)
    fields = ([0, 1, 2], [0, 0, 1], [7, 2, 7, 2, 2], [1, 1], [3])
    inputs = [
        {"z": _normal(generator, len(field), 2), "field": torch.tensor(field)} for field in fields
    ]
    expect(
        answer,
        _between,
        inputs,
        mistakes=[
            Mistake(
                lambda z, field: pairwise_fast(z[None])[0],
                "pairs within a field are still counted: features 0 and 1 may belong to the same.",
            ),
            Mistake(
                lambda z, field: 2 * _between(z, field),
                "the half is missing: each pair was counted from both sides.",
            ),
            Mistake(
                lambda z, field: _between(z, field) - 0.5 * z.square().sum(),
                "the diagonal was subtracted once too often: it is in the sum over all features "
                "and in those over the fields, and cancels.",
            ),
            Mistake(
                lambda z, field: _between(z, field.ne(field.roll(1)).cumsum(0)),
                "features of one field need not stand side by side: here a field comes back.",
            ),
        ],
        otherwise="for the smallest input that fails, write down all pairs and cross out those "
        "within a field.",
        learnt="Add up each field first, and the pairs between the sums are all that is left: the "
        "diagonal cancels. A model that pools a bag into one vector has exactly these pairs.",
    )


def check_ratings(answer: Callable[[], Tensor]) -> None:
    """Exercise 4: eight ratings of which a factorization machine explains nothing."""
    ratings = tensor(call(answer, {}), "The answer")
    if ratings.shape != (2, 2, 2) or not bool(torch.isfinite(ratings).all()):
        raise NotRight(
            f"Eight finite numbers of shape (2, 2, 2) are wanted; these are {shown(ratings)}, of "
            f"shape {tuple(ratings.shape)}."
        )
    away = ratings - ratings.mean()
    whole = float(away.square().mean())
    if whole <= 1e-24 * float(ratings.abs().max()) ** 2:
        raise NotRight(
            "All eight ratings are equal, so saying their mean is no failure: the machine has "
            "learned everything there is. Make them differ."
        )
    corners = torch.cartesian_prod(*[torch.arange(2)] * 3).reshape(2, 2, 2, 3)
    explained, reasons = 0.0, []
    for number in (1, 2):
        for facts in combinations(range(3), number):
            others = [axis for axis in range(3) if axis not in facts]
            signs = (-1.0) ** corners[..., facts].sum(-1)
            part = float((away * signs).mean())
            explained += part**2 / whole
            if part**2 / whole > SMALL:
                table = ratings.mean(others) if others else ratings
                reasons.append((" and ".join(FACTS[axis] for axis in facts), number, table))
    if reasons:
        name, number, table = reasons[0]
        what = {
            1: f"the {name} by itself matters: its two means are {shown(table)}. A linear weight "
            "says as much.",
            2: f"{name} matter together: their four means are {shown(table)}. A dot product says "
            "as much.",
        }[number]
        raise NotRight(
            f"A factorization machine explains {explained:.1%} of the variance of your ratings.\n"
            f"  got        {shown(ratings)}\nThis usually means: {what}"
        )
    right(
        "Of eight numbers such a machine can choose seven freely: a mean, three weights, three "
        "pairs. What is left is this pattern: every single fact turns the rating over. "
        "Chapter 06 has models for it, and asks whether data has it."
    )


def check_doubts(answer: Callable[[Tensor, list[int], float], Tensor]) -> None:
    """Exercise 5: how unsure a linear model is about each movie."""
    generator = torch.Generator().manual_seed(6)
    plain = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]], dtype=torch.float64)
    many = _normal(generator, 30, 4)
    inputs = [
        {"q": plain, "rated": [0], "sigma": 0.5},
        {"q": plain, "rated": [], "sigma": 0.5},
        {"q": plain, "rated": [1, 2], "sigma": 2.0},
        {"q": many, "rated": [3, 14, 15, 9, 26], "sigma": 0.9},
    ]

    def doubts(
        q: Tensor, rated: Sequence[int], sigma: float, prior: float = 1.0, power: int = 2
    ) -> Tensor:
        seen = q.double()[torch.tensor([*rated], dtype=torch.int64)]
        precision = prior * torch.eye(q.shape[1]).double() + seen.T @ seen / sigma**power
        doubt: Tensor = ((q.double() @ torch.linalg.inv(precision)) * q.double()).sum(1).sqrt()
        return doubt

    order = doubts(many, [3, 14, 15, 9, 26], 0.9)
    expect(
        answer,
        doubts,
        inputs,
        mistakes=[
            Mistake(
                lambda q, rated, sigma: doubts(q, rated, sigma) ** 2,
                "these are variances; a standard deviation is the root.",
            ),
            Mistake(
                lambda q, rated, sigma: doubts(q, rated, sigma, power=1),
                "sigma is a standard deviation: a rating's precision is 1 / sigma².",
            ),
            Mistake(
                lambda q, rated, sigma: (doubts(q, rated, sigma) ** 2 + sigma**2).sqrt(),
                "this is how far a rating may be off, noise included; wanted is the doubt about "
                "q_m · p itself.",
            ),
            Mistake(
                lambda q, rated, sigma: q.norm(dim=1),
                "this is the doubt before any rating: what was rated has to make the model surer.",
            ),
            Mistake(
                lambda q, rated, sigma: doubts(q, rated, sigma, power=0),
                "the noise plays no part: a rating counts for 1 / sigma².",
            ),
        ],
        otherwise="is the precision I + q_m q_mᵀ / sigma² of each rated movie, added up? And did "
        "you invert it?",
        learnt="The stars are not among the arguments. Which questions were asked decides how sure "
        "the model is, the answers only of what. So the next question can be chosen before the "
        "last is answered: of the thirty movies of the check, ask for number "
        f"{int(order.argmax())}.",
    )


def _normal(generator: torch.Generator, *shape: int) -> Tensor:
    """Random numbers with two decimals, which can be read."""
    return (torch.randn(shape, generator=generator, dtype=torch.float64) * 100).round() / 100


def _machine(x: Tensor, bias: float, w: Tensor, v: Tensor) -> Tensor:
    return bias + x @ w + pairwise_fast(x[:, :, None] * v)


def _query(bias: float, w: Tensor, z: Tensor) -> tuple[float, Tensor]:
    return float(bias + w.sum() + pairwise_fast(z[None])[0]), z.sum(0)


def _between(z: Tensor, field: Tensor) -> Tensor:
    """Pair by pair, so that it shares no idea with the answer."""
    pairs = [
        z[i] @ z[j] for i, j in combinations(range(len(z)), 2) if int(field[i]) != int(field[j])
    ]
    return torch.stack([z.new_zeros(()), *pairs]).sum()
