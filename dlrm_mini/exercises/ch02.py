"""Checks of the exercises to chapter 02, matrix factorization."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from dlrm_mini.exercises import checking
from dlrm_mini.exercises.checking import Mistake, NotRight, call, expect, report, right

Pair = tuple[Tensor, Tensor]


def _largest_rank(
    n_users: int, n_items: int, budget: int, *, numbers: int = 2, size: int = 4, bias: int = 1
) -> int:
    return max(0, budget // (numbers * size * (n_users + n_items)) - bias)


def check_largest_rank(answer: Callable[[int, int, int], int]) -> None:
    """Exercise 1: the longest vectors whose tables, with Adagrad's state, fit into some bytes."""
    keys = ("n_users", "n_items", "budget")
    sizes = ((943, 1682, 189_000), (943, 1682, 1_000_000), (10, 5, 60), (10**6, 10**6, 8 * 10**9))
    expect(
        answer,
        _largest_rank,
        [dict(zip(keys, size, strict=True)) for size in sizes],
        mistakes=[
            Mistake(
                lambda u, i, budget: -(-budget // (8 * (u + i))) - 1,
                "it was rounded up: a little more than the budget is more than the budget.",
            ),
            Mistake(
                lambda *n: _largest_rank(*n, numbers=1),
                "Adagrad's state was forgotten: it keeps one number beside every parameter.",
            ),
            Mistake(
                lambda *n: _largest_rank(*n, bias=0),
                "the biases were forgotten: every row has D + 1 numbers.",
            ),
            Mistake(lambda *n: _largest_rank(*n, size=8), "float32 has 4 bytes, not 8."),
            Mistake(
                lambda u, i, budget: budget // (8 * (u + i)) - 1,
                "no vector fits at all here; the answer is 0 then, not a negative length.",
            ),
        ],
        otherwise="write down the bytes for a given D first, then solve for D and round down.",
        learnt="The tables grow with users and items, and nothing else in this model does.",
    )


def check_absorb(answer: Callable[[float, Tensor, Tensor, Tensor, Tensor], Pair]) -> None:
    """Exercise 2: vectors two longer whose dot products alone are the whole prediction."""
    log = torch.Generator().manual_seed(2)
    tables = [torch.randn(shape, generator=log) for shape in ((4,), (3,), (4, 5), (3, 5))]
    short = [torch.tensor(x) for x in ([0.5, -1.0], [2.0], [[1.0], [3.0]], [[2.0]])]
    for mean, (b_u, b_i, p, q) in ((3.0, short), (3.5, tables)):
        case = {"mean": mean, "b_u": b_u, "b_i": b_i, "P": p, "Q": q}
        long_p, long_q = _tables(answer, case)
        width = p.shape[1] + 2
        if long_p.shape != (len(p), width) or long_q.shape != (len(q), width):
            raise NotRight(
                f"The tables have the shapes {tuple(long_p.shape)} and {tuple(long_q.shape)}; "
                f"{(len(p), width)} and {(len(q), width)} were expected: two columns are added."
            )
        p, q, b_u, b_i = p.double(), q.double(), b_u.double()[:, None], b_i.double()
        wanted = mean + b_u + b_i + p @ q.T
        wrong = [
            (wanted - mean, "the mean is missing; it fits into either bias."),
            (wanted + mean, "the mean was counted twice, once on either side."),
        ]
        for left, other, rest in itertools.product((0, mean), (0, mean), (0, 1, mean)):
            wrong.append(((b_u + left) * (b_i + other) + rest + p @ q.T, _MULTIPLIED))
        _same(answer, case, long_p @ long_q.T, wanted, wrong, _ABSORBED)
    right("A bias is a coordinate whose partner is always one. Chapter 03 builds on that.")


_MULTIPLIED = (
    "the user's bias meets the movie's bias and is multiplied by it. A bias has to meet a one."
)
_ABSORBED = "shown are all dot products of your vectors, users by movies; compare one with the sum."


def _step(
    p: Tensor, q: Tensor, user: Tensor, item: Tensor, rating: Tensor, rate: float, *, how: str = ""
) -> Pair:
    """One SGD step; `how` names a mistake to make."""
    p, q = p.double().clone(), q.double().clone()
    n = 1 if how == "sum" else len(rating)
    factor = {"half": 1.0, "climb": -2.0}.get(how, 2.0) * rate / n
    error = ((p[user] * q[item]).sum(1) - rating)[:, None]
    if how in ("lost", "lost and moved"):
        before = p.clone()
        p[user] -= factor * error * q[item]
        q[item] -= factor * error * (p if how == "lost and moved" else before)[user]
        return p, q
    old_p, old_q = p[user], q[item]
    if how == "movies first":
        q.index_add_(0, item, -factor * error * old_p)
        return p.index_add_(0, user, -factor * error * q[item]), q
    p.index_add_(0, user, -factor * error * old_q)
    return p, q.index_add_(0, item, -factor * error * (p[user] if how == "moved" else old_p))


def check_step(answer: Callable[..., Pair]) -> None:
    """Exercise 3: both tables (n, D) after one step of SGD on the mean squared error."""
    log = torch.Generator().manual_seed(3)
    keys = ("P", "Q", "user", "item", "rating", "rate")
    one = (torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0, 1.0]]), [0], [0], [4.0], 0.25)
    two = (
        torch.tensor([[1.0, 2.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]]),
        [0, 0, 1], [0, 1, 1], [2.0, 1.0, 3.0], 0.5,
    )  # fmt: skip
    many = (
        torch.randn(6, 4, generator=log), torch.randn(5, 4, generator=log),
        torch.randint(0, 6, (32,), generator=log).tolist(),
        torch.randint(0, 5, (32,), generator=log).tolist(),
        torch.randn(32, generator=log).tolist(), 0.1,
    )  # fmt: skip
    inputs = [
        dict(zip(keys, (p, q, *map(torch.tensor, rows), rate), strict=True))
        for p, q, *rows, rate in (one, two, many)
    ]
    meanings = {
        "moved": "the movies' gradient was taken at users that had already moved. Both gradients "
        "belong to the weights before the step.",
        "movies first": "the users' gradient was taken at movies that had already moved. Both "
        "gradients belong to the weights before the step.",
        "lost": "a row that occurs twice in the batch kept only its last gradient: `P[user] -= g` "
        "writes each row once. `index_add_` adds them all.",
        "half": "the derivative of e² is 2 e; the 2 is missing.",
        "climb": "the sign: a step goes against the gradient.",
        "sum": "the objective is the mean over the batch; divide by its length.",
    }
    expect(
        answer,
        _step,
        inputs,
        mistakes=[
            Mistake(lambda *c, how=how: _step(*c, how=how), meaning)
            for how, meaning in (meanings | {"lost and moved": meanings["lost"]}).items()
        ],
        otherwise="compare with autograd: requires_grad_(), the mean of e², backward().",
        learnt="A step reads all weights before it writes one, and a row that occurs twice gets "
        "both gradients. A falling loss proves neither.",
    )


def _newcomer(q: Tensor, residual: Tensor, l2: float, *, times: float | None = None) -> Tensor:
    q, n = q.double(), len(q) if times is None else times
    if not len(q):
        return torch.zeros(q.shape[1], dtype=torch.float64)
    squares = q.T @ q + n * l2 * torch.eye(q.shape[1], dtype=torch.float64)
    best: Tensor = torch.linalg.pinv(squares) @ q.T @ residual.double()
    return best


def check_newcomer(answer: Callable[[Tensor, Tensor, float], Tensor]) -> None:
    """Exercise 4: the vector (D,) of a user with n ratings, while all movies stand still."""
    log = torch.Generator().manual_seed(4)
    residual = [torch.tensor([3.0]), torch.tensor([2.0, -1.0, 1.0]), torch.randn(9, generator=log)]
    vectors = [
        torch.tensor([[2.0, 0.0]]),
        torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]),
        torch.randn(9, 4, generator=log),
    ]
    inputs = [
        {"Q": q, "residual": r, "l2": l2}
        for q, r, l2 in zip(vectors, residual, (0.5, 0.5, 0.12), strict=True)
    ]
    expect(
        answer,
        _newcomer,
        [*inputs, {"Q": torch.empty(0, 3), "residual": torch.empty(0), "l2": 0.12}],
        mistakes=[
            Mistake(
                lambda q, r, l2: _newcomer(q, r, l2, times=1),
                "the penalty was paid once. It is paid for each rating: n times.",
            ),
            Mistake(
                lambda q, r, l2: _newcomer(q, r, 0.0),
                "the penalty is missing: a single rating would be met exactly, however wild.",
            ),
            Mistake(
                lambda q, r, l2: q.double().T @ r.double() / (len(q) * (1 + l2)),
                "the movies' vectors were added up. They are not at right angles: solve a system.",
            ),
            Mistake(
                lambda q, r, l2: -_newcomer(q, r, l2),
                "the sign: the system is (QᵀQ + n λ I) p = Qᵀ r.",
            ),
        ],
        otherwise="at the minimum the gradient by p is zero: (QᵀQ + n λ I) p = Qᵀ r.",
        learnt="A newcomer with some ratings needs no training run, only D equations. Without a "
        "rating the penalty leaves zero, and the biases speak alone.",
    )


def check_turned(answer: Callable[[Tensor, Tensor, int], Pair]) -> None:
    """Exercise 5: the same model, turned so that one movie lies on the first axis."""
    log = torch.Generator().manual_seed(5)
    p, q = torch.randn(4, 3, generator=log), torch.randn(5, 3, generator=log)
    axis = torch.tensor([[2.0, 0.0], [1.0, 1.0]])
    for p_old, q_old, item in (
        (torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0], [0.0, 1.0]]), 0),
        (p, q, 3),
        (p, -q, 0),
        (torch.tensor([[1.0, 2.0]]), axis, 0),
    ):
        case = {"P": p_old, "Q": q_old, "item": item}
        new_p, new_q = _tables(answer, case)
        if new_p.shape != p_old.shape or new_q.shape != q_old.shape:
            raise NotRight(
                f"The tables have the shapes {tuple(new_p.shape)} and {tuple(new_q.shape)}; "
                f"they are to stay {tuple(p_old.shape)} and {tuple(q_old.shape)}."
            )
        if bool(torch.cat([new_p, new_q]).isnan().any()):
            raise NotRight(
                report(answer, case, (new_p, new_q), "numbers", "there is a NaN",
                       "something was divided by zero: this movie already lies on the first axis.")
            )  # fmt: skip
        first = torch.zeros(q_old.shape[1], dtype=torch.float64)
        first[0] = q_old[item].double().norm()
        wrong = (
            (-first, "it points the other way: the first coordinate is to be positive."),
            (first / first[0], "the vector was made of length one; its length is part of it."),
        )
        _same(answer, case, new_q[item], first, wrong, "this is the chosen movie's new vector.")
        products = p_old.double() @ q_old.double().T
        kept = ((p_old.double() @ new_q.T, "only the movies were turned; turn the users alike."),)
        _same(answer, case, new_p @ new_q.T, products, kept, "turn both by the same matrix.")
        _same(
            answer, case, new_q.norm(dim=1), q_old.double().norm(dim=1), (),
            "the predictions are kept, but these lengths are not: the movies were stretched, and "
            "the users shrunk. A rotation or reflection keeps lengths, so that the penalty stays.",
        )  # fmt: skip
    right("Any movie can be the first axis, and nothing is lost: an axis alone means nothing.")


def check_tastes(answer: Callable[[int], Any]) -> None:
    """Exercise 6: vectors of length 2 and movie biases, user i likes movie i and no other."""
    lines = []
    for n in (1, 2, 3, 10, 100, 1000):
        case = {"n": n}
        found = call(answer, case)
        if not isinstance(found, tuple | list) or len(found) != 3:
            raise NotRight("my_tastes returns three things: P (n, 2), Q (n, 2) and b (n,).")
        p, q, b = (checking.tensor(x, name) for x, name in zip(found, "PQb", strict=True))
        if p.shape != (n, 2) or q.shape != (n, 2) or b.shape != (n,):
            shapes = ", ".join(str(tuple(x.shape)) for x in (p, q, b))
            raise NotRight(
                f"For n = {n} the shapes are {shapes}; ({n}, 2), ({n}, 2), ({n},) were expected. "
                "With a coordinate for each movie it would be no puzzle."
            )
        score = p @ q.T + b  # (n, n): user, movie
        good = torch.where(torch.eye(n, dtype=torch.bool), score, -score)
        if not bool((good > 1e-9).all()):
            user, movie = (int(x) for x in (~(good > 1e-9)).nonzero()[0])
            wish = "above" if user == movie else "below"
            advice = (
                "a movie's own user is the nearest on the circle: the bias may cut off all others, "
                "but not this one."
                if user == movie
                else "neighbours on the circle point nearly the same way. The movie's bias is a "
                "threshold: where between its own user and the next one must it lie?"
            )
            place, shown = f"user {user}, movie {movie}", f"a score of {score[user, movie]:.4g}"
            raise NotRight(report(answer, case, shown, f"{wish} zero", place, advice))
        largest = float(p.norm(dim=1).max() * q.norm(dim=1).max())
        lines.append(
            f"n = {n:>4}: every score at least {float(good.min()):.2g} from zero, "
            f"longest user times longest movie {largest:.2g}"
        )
    print("\n".join(lines[2:]))
    right("Two coordinates hold a hundred tastes, at a price: thinner margins or longer vectors.")


def _tables(answer: Callable[..., Any], case: dict[str, Any]) -> Pair:
    """The two tables that an answer returns, as float64."""
    found = call(answer, case)
    if not isinstance(found, tuple | list) or len(found) != 2:
        raise NotRight("Two tables are asked for: return a pair, the users' and the movies'.")
    first, second = (checking.tensor(x, "A table") for x in found)
    return first, second


def _same(
    answer: Callable[..., Any],
    case: dict[str, Any],
    found: Tensor,
    wanted: Tensor,
    wrong: Sequence[tuple[Tensor, str]],
    otherwise: str,
) -> None:
    """Say what is wrong where something made of an answer is not what it should be."""
    if place := checking.difference(found, wanted):
        meanings = (m for w, m in wrong if checking.difference(found, w) is None)
        raise NotRight(report(answer, case, found, wanted, place, next(meanings, otherwise)))
