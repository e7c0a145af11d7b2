"""Right and wrong answers to the exercises of chapter 02."""

import math

import numpy as np
import torch

from tests.exercises.trying import Wrong


def rank_by_search(users, items, budget):
    dim = 0
    while 8 * (dim + 2) * (users + items) <= budget:
        dim += 1
    return dim


def absorb_behind(mean, b_u, b_i, p, q):
    users = np.column_stack([np.ones(len(p)), b_u.numpy(), p.numpy()])
    return users, np.column_stack([b_i.numpy() + mean, np.ones(len(q)), q.numpy()])


def absorb(users, movies, mean_in_users=0.0, mean_in_movies=0.0):
    """Columns by name, "1" or "b", for either side."""

    def answer(mean, b_u, b_i, p, q):
        column = {"1": lambda b: torch.ones_like(b), "b": lambda b: b}
        left = [column[c](b_u + mean_in_users * mean * (c == "b")) for c in users]
        other = [column[c](b_i + mean_in_movies * mean * (c == "b")) for c in movies]
        return torch.column_stack([p, *left]), torch.column_stack([q, *other])

    return answer


def step_by_autograd(p, q, user, item, rating, rate):
    p, q = (x.clone().requires_grad_() for x in (p, q))
    ((p[user] * q[item]).sum(1) - rating).square().mean().backward()
    return p.detach() - rate * p.grad, q.detach() - rate * q.grad


def step_by_loop(p, q, user, item, rating, rate):
    new_p, new_q = p.clone(), q.clone()
    for u, i, r in zip(user.tolist(), item.tolist(), rating.tolist(), strict=True):
        error = float(p[u] @ q[i]) - r
        new_p[u] -= rate * 2 * error * q[i] / len(rating)
        new_q[i] -= rate * 2 * error * p[u] / len(rating)
    return new_p, new_q


def step_in_place(p, q, user, item, rating, rate):
    p -= 0.1
    return p, q


def step_moved(p, q, user, item, rating, rate):
    p, q = p.clone(), q.clone()
    error = ((p[user] * q[item]).sum(1) - rating)[:, None]
    p.index_add_(0, user, -rate * 2 * error * q[item] / len(rating))
    q.index_add_(0, item, -rate * 2 * error * p[user] / len(rating))
    return p, q


def step_lost(p, q, user, item, rating, rate):
    new_p, new_q = p.clone(), q.clone()
    error = ((p[user] * q[item]).sum(1) - rating)[:, None]
    new_p[user] -= rate * 2 * error * q[item] / len(rating)
    new_q[item] -= rate * 2 * error * p[user] / len(rating)
    return new_p, new_q


def scaled_step(factor):
    return lambda p, q, u, i, r, rate: step_by_autograd(p, q, u, i, r, factor(r) * rate)


def newcomer_by_rows(q, residual, l2):
    """The penalty as D more ratings of zero."""
    n, dim = q.shape
    if not n:
        return [0.0] * dim
    more = np.vstack([q.numpy(), math.sqrt(n * l2) * np.eye(dim)])
    return np.linalg.lstsq(more, np.append(residual.numpy(), np.zeros(dim)), rcond=None)[0]


def newcomer(times=None, sign=1):
    def answer(q, residual, l2):
        n, dim = q.shape
        squares = q.T @ q + l2 * (n if times is None else times) * torch.eye(dim)
        return sign * torch.linalg.solve(squares + 1e-7 * torch.eye(dim), q.T @ residual)

    return answer


def singular(q, residual, l2):
    return torch.linalg.solve(q.T @ q + len(q) * l2 * torch.eye(q.shape[1]), q.T @ residual)


def turned_by_qr(p, q, item):
    columns = torch.cat([q[item][:, None], torch.eye(q.shape[1])], 1).double()
    basis, r = torch.linalg.qr(columns, mode="complete")
    basis[:, 0] *= r[0, 0].sign()
    return p.double() @ basis, q.double() @ basis


def mirror(q):
    v = q.double() - q.double().norm() * torch.eye(len(q)).double()[0]
    return torch.eye(len(q)).double() - 2 * torch.outer(v, v) / (v @ v)


def turned_always(p, q, item):
    return p.double() @ mirror(q[item]), q.double() @ mirror(q[item])


def turned_half(p, q, item):
    return p, q.double() @ mirror(q[item])


def turned_backwards(p, q, item):
    users, movies = turned_by_qr(p, q, item)
    return -users, -movies


def stretched(p, q, item):
    """The first axis keeps its length, the others are halved for movies and doubled for users."""
    users, movies = turned_by_qr(p, q, item)
    scale = torch.full((q.shape[1],), 0.5).double()
    scale[0] = 1
    return users / scale, movies * scale


def shortened(p, q, item):
    users, movies = turned_by_qr(p, q, item)
    return users * q[item].norm(), movies / q[item].norm()


def tastes_on_a_parabola(n):
    place = torch.arange(n).float()
    users = torch.stack([place, place**2], 1)
    movies = torch.stack([2 * place, -torch.ones(n)], 1)
    return users, movies, 0.5 - place**2


def by_row(two_tables):
    """The same as lists of rows."""
    return lambda *given: tuple([*table] for table in two_tables(*given))


def circle(n, threshold):
    angle = 2 * np.pi * np.arange(n) / n
    points = np.column_stack([np.cos(angle), np.sin(angle)])
    return points, points, np.full(n, -threshold)


RIGHT = {
    "check_largest_rank": [rank_by_search],
    "check_absorb": [absorb_behind, by_row(absorb("b1", "1b", 1))],
    "check_step": [step_by_autograd, step_by_loop],
    "check_newcomer": [newcomer_by_rows],
    "check_turned": [turned_by_qr, by_row(turned_by_qr)],
    "check_tastes": [tastes_on_a_parabola, lambda n: [[*x] for x in tastes_on_a_parabola(n)]],
}
WRONG = {
    "check_largest_rank": [
        Wrong("no state", lambda u, i, b: max(0, b // (4 * (u + i)) - 1), "Adagrad's state"),
        Wrong("no biases", lambda u, i, b: b // (8 * (u + i)), "D + 1 numbers"),
        Wrong("float64", lambda u, i, b: max(0, b // (16 * (u + i)) - 1), "4 bytes, not 8"),
        Wrong("below zero", lambda u, i, b: b // (8 * (u + i)) - 1, "not a negative length"),
        Wrong("rounded up", lambda u, i, b: -(-b // (8 * (u + i))) - 1, "rounded up"),
        Wrong("users alone", lambda u, i, b: b // (8 * u) - 1, "solve for D"),
    ],
    "check_absorb": [
        Wrong("no mean", absorb("b1", "1b"), "the mean is missing"),
        Wrong("two means", absorb("b1", "1b", 1, 1), "counted twice"),
        Wrong("biases multiplied", absorb("b1", "b1", 1), "multiplied by it"),
        Wrong("words", lambda *_: ("P", "Q"), "numbers were expected"),
        Wrong("one column", absorb("b", "1", 1), "two columns are added"),
    ],
    "check_step": [
        Wrong("in place", step_in_place, "changed its input"),
        Wrong("already moved", step_moved, "already moved"),
        Wrong("duplicates", step_lost, "kept only its last gradient"),
        Wrong("uphill", scaled_step(lambda r: -1), "against the gradient"),
        Wrong("no 2", scaled_step(lambda r: 0.5), "the 2 is missing"),
        Wrong("a sum", scaled_step(len), "divide by its length"),
    ],
    "check_newcomer": [
        Wrong("penalty once", newcomer(times=1), "n times"),
        Wrong("no penalty", newcomer(times=0), "the penalty is missing"),
        Wrong("a sum of vectors", lambda q, r, l2: q.T @ r / (len(q) * (1 + l2)), "right angles"),
        Wrong("the sign", newcomer(sign=-1), "the sign"),
        Wrong("nothing rated", singular, "singular"),
    ],
    "check_turned": [
        Wrong("on the axis already", turned_always, "divided by zero"),
        Wrong("movies only", turned_half, "turn the users alike"),
        Wrong("the other end", turned_backwards, "the other way"),
        Wrong("stretched", stretched, "were stretched"),
        Wrong("length one", shortened, "its length is part of it"),
    ],
    "check_tastes": [
        Wrong("no bias", lambda n: circle(n, 0.0), "where between its own user"),
        Wrong("too high", lambda n: circle(n, 1.0), "but not this one"),
        Wrong("one-hot", lambda n: (torch.eye(n), torch.eye(n), torch.zeros(n)), "no puzzle"),
        Wrong("one for a hundred", lambda n: circle(n, 0.9995), "must it lie"),
        Wrong("words", lambda n: ("P", "Q", "b"), "numbers were expected"),
        Wrong("two things", lambda n: circle(n, 0.5)[:2], "three things"),
    ],
}
