"""Right and wrong answers to the exercises of chapter 02."""

import torch

from tests.exercises.trying import Wrong


def by_autograd(p, q, rating):
    leaf = p.clone().requires_grad_()
    ((rating - leaf @ q) ** 2 / 2).backward()
    return leaf.grad


RIGHT = {"check_gradient": [by_autograd]}
WRONG = {
    "check_gradient": [
        Wrong("the sign", lambda p, q, rating: (rating - p @ q) * q, "the sign"),
        Wrong("by q", lambda p, q, rating: -(rating - p @ q) * p, "by q"),
        Wrong("the 2", lambda p, q, rating: -2 * (rating - p @ q) * q, "cancels the 2"),
        Wrong("a number", lambda p, q, rating: -(rating - torch.dot(p, q)), "the shape"),
    ]
}
