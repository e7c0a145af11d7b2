"""Right and wrong answers to the exercises of chapter 05."""

import numpy as np
import torch
from torch.nn import functional

from dlrm_mini.interactions import dot_interaction
from dlrm_mini.models.dlrm_config import DLRMConfig
from tests.exercises.trying import Wrong


def place_by_listing(first, second, dim):
    order = [(i, j) for i in range(40) for j in range(i)]
    return torch.tensor(dim + order.index((max(first, second), min(first, second))))


def counts_by_config(n, rows, bottom, top):
    names = {str(place): number for place, number in enumerate(rows)}
    parts = DLRMConfig(n, names, bottom[-1], tuple(bottom), tuple(top)).parameters()
    once = parts["bottom MLP"] + parts["top MLP"]
    return [sum(parts.values()), once + len(rows) * bottom[-1]]


def without_biases(n, rows, bottom, top):
    return [c - sum(bottom) - sum(top) for c in counts_by_config(n, rows, bottom, top)]


def without_dense_vector(n, rows, bottom, top):
    """What the top MLP of one table fewer would read, and its dense vector."""
    whole, used = counts_by_config(n, rows, bottom, top)
    return whole - len(rows) * top[0], used - len(rows) * top[0]


def by_hand(z, pooled, hidden, output, labels):
    """The loss row by row, in numpy and float64."""
    together = [np.asarray(part, dtype=float) for part in (z, *pooled)]
    losses = []
    for row, label in enumerate(np.asarray(labels)):
        own = [part[row] for part in together]
        pairs = [own[i] @ own[j] for i in range(len(own)) for j in range(i)]
        h = np.maximum(np.asarray(hidden[0]) @ [*own[0], *pairs] + np.asarray(hidden[1]), 0)
        logit = float((np.asarray(output[0]) @ h)[0] + np.asarray(output[1])[0])
        losses.append(np.log1p(np.exp(-logit if label else logit)))
    return float(np.mean(losses))


def loss(z, pooled, hidden, output, labels, *, reshape=False, relu=False, twice=False):
    vectors = torch.stack(pooled)
    vectors = vectors.reshape(len(z), len(pooled), -1) if reshape else vectors.transpose(0, 1)
    h = torch.relu(functional.linear(dot_interaction(z, vectors), *hidden))
    logits = functional.linear(h, *output).squeeze(1)
    logits = torch.relu(logits) if relu else logits
    logits = torch.sigmoid(logits) if twice else logits
    return functional.binary_cross_entropy_with_logits(logits, labels)


def bugs(**which):
    return lambda *given: loss(*given, **which)


def swap_two_directions(z, vectors):
    """A rotation by a half turn in the last two directions of a basis that begins with z."""
    start = torch.cat([z[:, None], torch.eye(len(z)).double()], dim=1)
    basis, _ = torch.linalg.qr(start)
    signs = torch.ones(basis.shape[1]).double()
    signs[-1] = -1
    return ((vectors @ basis * signs) @ basis.T).tolist()


def divides_by_zero(z, vectors):
    a = vectors[0] - (vectors[0] @ z) / (z @ z) * z
    return vectors - 2 * torch.outer(vectors @ a / (a @ a), a)


def mirrors_the_first_only(z, vectors):
    new = vectors.clone()
    new[0] = 2 * (vectors[0] @ z) / (z @ z).clamp(min=1e-9) * z - vectors[0]
    return new


def slots(epsilon, back=None):
    def answer(v, w):
        e = torch.cat([v, epsilon * w[:, :, None]], dim=2)
        z = torch.zeros_like(e[:, 0])
        z[:, -1] = 1 / epsilon if back is None else back
        return z, e

    return answer


def slot_in_front(v, w):
    """The other way round: the slot comes first, and is negative."""
    e = np.concatenate([-1e-5 * w[:, :, None].numpy(), v.numpy()], axis=2)
    return np.array([[-1e5] + [0.0] * v.shape[2]] * len(v)), e


def weights_in_z(v, w):
    z = torch.cat([torch.zeros_like(v[:, 0]), w.sum(1, keepdim=True)], dim=1)
    e = torch.cat([v, torch.zeros_like(w)[:, :, None]], dim=2)
    e[:, 0, -1] = 1
    return z, e


def looks_at_others(v, w):
    """The first field's slot carries the sum of all weights; the others' are empty."""
    slot = torch.zeros_like(w)
    slot[:, 0] = w.sum(1)
    z = torch.zeros(len(v), v.shape[2] + 1).double()
    z[:, -1] = 1
    return z, torch.cat([v, slot[:, :, None]], dim=2)


RIGHT = {
    "check_place": [
        place_by_listing,
        lambda a, b, c: c + (max(a, b) ** 2 - max(a, b)) / 2 + min(a, b),
    ],
    "check_counts": [counts_by_config],
    "check_loss": [by_hand],
    "check_twins": [swap_two_directions, lambda *c: [*torch.tensor(swap_two_directions(*c))]],
    "check_narrow": [slot_in_front, slots(1e-4), slots(2.0**-60)],
}
WRONG = {
    "check_place": [
        Wrong("no dense", lambda i, j, d: place_by_listing(i, j, 0), "dense vector"),
        Wrong("unsorted", lambda i, j, d: d + i * (i - 1) // 2 + j, "larger of the two"),
        Wrong("diagonal", lambda i, j, d: place_by_listing(i, j, d) + max(i, j), "diagonal"),
        Wrong("from 1", lambda i, j, d: place_by_listing(i, j, d) + 1, "first six products"),
    ],
    "check_counts": [
        Wrong("biases", without_biases, "biases"),
        Wrong("n = F", without_dense_vector, "the dense vector is part of the pairs"),
        Wrong("in front", lambda *a: [c - a[2][-1] * a[3][0] for c in counts_by_config(*a)],
              "D numbers before the products"),
        Wrong("diagonal", lambda *a: [c + (len(a[1]) + 1) * a[3][0] for c in counts_by_config(*a)],
              "without the diagonal"),
        Wrong("whole tables", lambda *a: [counts_by_config(*a)[0]] * 2, "the vector of one id"),
    ],
    "check_loss": [
        Wrong("reshape", bugs(reshape=True), "one bug is left: a row's logit changes"),
        Wrong("ReLU", bugs(relu=True), "one bug is left: no logit is ever below 0"),
        Wrong("sigmoid", bugs(twice=True), "one bug is left: however right"),
        Wrong("two", bugs(reshape=True, twice=True), "two bugs are left"),
        Wrong("as it was", bugs(reshape=True, relu=True, twice=True), "all three bugs are left"),
        Wrong("sum", lambda *a: loss(*a) * len(a[-1]), "the mean over the rows"),
        Wrong("by row", lambda *a: loss(*a).expand(len(a[-1])), "the shape"),
    ],
    "check_twins": [
        Wrong("the same", lambda z, vectors: vectors, "at least one has to differ"),
        Wrong("turned with z", lambda z, vectors: -vectors, "those with z"),
        Wrong("one alone", mirrors_the_first_only, "those among the vectors did not"),
        Wrong("scaled", lambda z, vectors: 2 * vectors, "no rotation and no reflection"),
        Wrong("z = 0", divides_by_zero, "z is all zeros here"),
        Wrong("not a number", lambda z, vectors: vectors / 0 * 0, "divided by zero, perhaps"),
        Wrong("a word", lambda z, vectors: "mirrored", "numbers were expected"),
        Wrong("one vector", lambda z, vectors: vectors[0], "expected (2, 2)"),
    ],
    "check_narrow": [
        Wrong("full weights", slots(1.0), "each pair adds w_i w_j in full"),
        Wrong("not small enough", slots(0.01), "the slots still meet"),
        Wrong("z stays 1", slots(1e-5, back=1.0), "z · e_i should be w_i"),
        Wrong("too wide", lambda v, w: (w.new_zeros(len(v), 9), v), "expected (1, 2)"),
        Wrong("z by row", weights_in_z, "z differs between rows"),
        Wrong("knows the others", looks_at_others, "got other ids"),
        Wrong("the batch's largest",
              lambda v, w: slots(1e-4 / (1 + float(w.abs().max())))(v, w), "other rows"),
        Wrong("one thing", lambda v, w: slots(1e-5)(v, w)[1], "Return two things"),
    ],
}  # fmt: skip
