"""Checks of the exercises to chapter 02, matrix factorization."""

from collections.abc import Callable

import torch

from dlrm_mini.exercises.checking import Mistake, expect

Vector = torch.Tensor


def check_gradient(answer: Callable[[Vector, Vector, float], Vector]) -> None:
    """Exercise 1: the gradient of (r - p·q)² / 2 by p, from p (D,), q (D,) and the rating r."""
    generator = torch.Generator().manual_seed(2)
    inputs = [
        {"p": torch.tensor([1.0, 0.0]), "q": torch.tensor([2.0, 3.0]), "rating": 5.0},
        {"p": torch.randn(4, generator=generator), "q": torch.randn(4, generator=generator),
         "rating": 3.0},
    ]  # fmt: skip
    expect(
        answer,
        lambda p, q, rating: -(rating - p.double() @ q.double()) * q.double(),
        inputs,
        mistakes=[
            Mistake(
                lambda p, q, rating: (rating - p @ q) * q,
                "the sign: the error falls when p moves along (r - p·q) q, and a gradient points "
                "the other way.",
            ),
            Mistake(
                lambda p, q, rating: -(rating - p @ q) * p,
                "the derivative was taken by q: p·q changes by q when p moves.",
            ),
            Mistake(
                lambda p, q, rating: -2 * (rating - p @ q) * q,
                "the half in front of the square cancels the 2.",
            ),
        ],
        otherwise="compare with autograd on the same input.",
        learnt="The error of one rating moves a vector along the other one.",
    )
