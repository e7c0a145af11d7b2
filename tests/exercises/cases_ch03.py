"""Right and wrong answers to the exercises of chapter 03."""

import numpy as np
import torch

from tests.exercises.trying import Wrong


def fm_by_pairs(rows, start, weights, vectors):
    """Row by row and pair by pair, in lists."""
    found = []
    for row in rows.tolist():
        total = float(start) + sum(value * float(w) for value, w in zip(row, weights, strict=True))
        for j in range(len(row)):
            for k in range(j):
                total += row[j] * row[k] * float(vectors[j] @ vectors[k])
        found.append(total)
    return found


def fm_in_float32(x, bias, w, v):
    z = x.float()[:, :, None] * v.float()
    return bias + x.float() @ w.float() + 0.5 * (z.sum(1) ** 2 - (z**2).sum(1)).sum(1)


def query_by_gram(bias, w, z):
    gram = (z @ z.T).numpy()
    return [float(bias) + float(sum(w)) + float(np.tril(gram, -1).sum()), z.sum(0).tolist()]


def between_by_mask(z, field):
    apart = field[:, None] != field[None]
    return float(((z @ z.T) * apart).sum() / 2)


def between_side_by_side(z, field):
    _, place = field.unique_consecutive(return_inverse=True)
    within = torch.stack([z[place == one].sum(0) for one in place.unique()])
    return 0.5 * (z.sum(0).square().sum() - within.square().sum())


def all_pairs(z, field):
    return 0.5 * (z.sum(0).square().sum() - z.square().sum())


def parity():
    return [[[1, 5], [5, 1]], [[5, 1], [1, 5]]]


def a_and():
    ratings = torch.ones(2, 2, 2)
    ratings[1, 1, 1] = 5
    return ratings


def two_facts():
    """Right in a square, and the day plays no part."""
    return torch.tensor([[1.0, 5.0], [5.0, 1.0]])[:, :, None].expand(2, 2, 2)


def doubts_of_samples(q, rated, sigma):
    """One rating after the other, each a rank-one change of the covariance."""
    covariance = torch.eye(q.shape[1]).double()
    for movie in rated:
        step = covariance @ q[movie]
        covariance = covariance - torch.outer(step, step) / (sigma**2 + q[movie] @ step)
    return torch.einsum("md,de,me->m", q, covariance, q).sqrt().numpy()


def doubts(q, rated, sigma, prior=1.0, power=2):
    seen = q[torch.tensor(rated, dtype=torch.int64)]
    precision = prior * torch.eye(q.shape[1]).double() + seen.T @ seen / sigma**power
    return ((q @ torch.linalg.inv(precision)) * q).sum(1).sqrt()


def without_prior(q, rated, sigma):
    return doubts(q, rated, sigma, prior=1e-9)


def query_without_pairs(bias, w, z):
    return bias + w.sum(), z.sum(0)


def query_with_diagonal(bias, w, z):
    return bias + w.sum() + 0.5 * z.sum(0) @ z.sum(0), z.sum(0)


def query_of_means(bias, w, z):
    return query_by_gram(bias, w, z)[0], z.mean(0)


RIGHT = {
    "check_fm": [fm_by_pairs, fm_in_float32],
    "check_query": [query_by_gram],
    "check_pairs_between": [between_by_mask],
    "check_ratings": [
        parity,
        lambda: [*torch.tensor(parity())],
        lambda: 1e-7 * np.array(parity()),
        lambda: 3.5 - 0.1 * np.array(parity()),
    ],
    "check_doubts": [doubts_of_samples],
}
WRONG = {
    "check_fm": [
        Wrong(
            "x is not squared",
            lambda x, bias, w, v: bias + x @ w + 0.5 * ((x @ v) ** 2 - x @ v**2).sum(1),
            "the value in the diagonal is not squared",
        ),
        Wrong(
            "the sum is squared",
            lambda x, bias, w, v: bias + x @ w + 0.5 * ((x @ v) ** 2 - (x @ v**2) ** 2).sum(1),
            "each value has to be squared",
        ),
        Wrong(
            "no half",
            lambda x, bias, w, v: bias + x @ w + ((x @ v) ** 2 - x**2 @ v**2).sum(1),
            "the half is missing",
        ),
        Wrong(
            "the diagonal",
            lambda x, bias, w, v: bias + x @ w + 0.5 * ((x @ v) ** 2).sum(1),
            "the diagonal was not subtracted",
        ),
        Wrong("no weights", lambda x, bias, w, v: fm_by_pairs(x, bias, 0 * w, v), "three parts"),
        Wrong("always 3.5", lambda x, bias, w, v: fm_by_pairs(x, 3.5, w, v), "three parts"),
        Wrong("by dimension", lambda x, bias, w, v: bias + (x @ v) ** 2, "the shape"),
    ],
    "check_query": [
        Wrong("no pairs", query_without_pairs, "the pairs among the known features are missing"),
        Wrong("diagonal", query_with_diagonal, "the diagonal has to be subtracted"),
        Wrong("mean", query_of_means, "not their mean"),
        Wrong("no bias", lambda bias, w, z: query_by_gram(0.0, w, z), "w_0 was forgotten"),
        Wrong("query only", lambda bias, w, z: z.sum(0), "first difference"),
    ],
    "check_pairs_between": [
        Wrong("all pairs", all_pairs, "pairs within a field are still counted"),
        Wrong("twice", lambda z, field: 2 * between_by_mask(z, field), "the half is missing"),
        Wrong(
            "diagonal again",
            lambda z, field: between_by_mask(z, field) - 0.5 * z.square().sum(),
            "once too often",
        ),
        Wrong("side by side", between_side_by_side, "a field comes back"),
    ],
    "check_ratings": [
        Wrong("all equal", lambda: torch.full((2, 2, 2), 3.0), "All eight ratings are equal"),
        Wrong("one fact", lambda: torch.arange(8.0).reshape(2, 2, 2), "by itself matters"),
        Wrong("an and", a_and, "explains 85.7%"),
        Wrong("two facts", two_facts, "user and movie matter together"),
        Wrong("words", lambda: ["good", "bad"], "numbers were expected"),
        Wrong("flat", lambda: [1, 5, 5, 1, 5, 1, 1, 5], "of shape (2, 2, 2)"),
    ],
    "check_doubts": [
        Wrong("variance", lambda *given: doubts(*given) ** 2, "these are variances"),
        Wrong("sigma", lambda *given: doubts(*given, power=1), "sigma is a standard deviation"),
        Wrong("no noise", lambda *given: doubts(*given, power=0), "the noise plays no part"),
        Wrong(
            "of a rating", lambda q, r, s: (doubts(q, r, s) ** 2 + s**2).sqrt(), "noise included"
        ),
        Wrong("before", lambda q, rated, sigma: q.norm(dim=1), "before any rating"),
        Wrong("no prior", without_prior, "is the precision I + q_m"),
    ],
}
