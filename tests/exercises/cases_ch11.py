"""Right and wrong answers to the exercises of chapter 11."""

import math

import numpy as np
import torch

from tests.exercises.trying import Wrong


def batch_by_search(operations, launch, sample, idle):
    batch = 1
    while 1 - batch * sample / max(batch * sample, operations * launch) > idle:
        batch += 1
    return np.int32(batch)


def clocks_of_arrays(launches, works):
    asked, works = np.cumsum(launches, dtype=np.float64), np.asarray(works, dtype=np.float64)
    before = np.concatenate([[0.0], np.cumsum(works)[:-1]])
    begins = np.maximum.accumulate(asked - before) + before  # the latest launch that holds all up
    return np.stack([begins, begins + works], axis=1)


def overlapping(launches, works):
    asked = np.cumsum(launches)
    return [(a, a + w) for a, w in zip(asked, works, strict=True)]


def in_turn(launches, works):
    ends = np.cumsum(np.array(launches) + works)
    return [(end - work, end) for end, work in zip(ends, works, strict=True)]


def at_once(launches, works):
    ends = np.cumsum(works)
    return [(end - work, end) for end, work in zip(ends, works, strict=True)]


def bfloat16_alone(weight, updates):
    for update in updates:
        weight = weight - update.bfloat16()
    return weight


def summed_in_bfloat16(weight, updates):
    total = torch.zeros_like(weight)
    for update in updates:
        total = total + update.bfloat16()
    return weight - total


def step_in_float64(weights, gradients, scale, rate):
    g = gradients.numpy().astype(np.float64)
    fine = np.isfinite(g).all()
    return (weights.numpy() - rate * g / scale, scale) if fine else (weights.numpy(), 0.5 * scale)


def step_with(bad, kind=torch.float32):
    def my_step(weights, gradients, scale, rate):
        if bad(gradients):
            return weights, scale / 2
        return weights - rate * (gradients.to(kind) / scale), scale

    return my_step


def overflow(g):
    return not g.isfinite().all()


def scale_kept(weights, gradients, scale, rate):
    return step_with(overflow)(weights, gradients, scale, rate)[0], scale


def single_numbers(weights, gradients, scale, rate):
    moved = weights - rate * gradients.float() / scale
    bad = overflow(gradients)
    return torch.where(gradients.isfinite(), moved, weights), scale / 2 if bad else scale


def ahead(gpu, n):
    """Loads one batch further ahead, and reads losses as soon as they cost nothing."""
    losses = []
    gpu.load(0), gpu.copy(0)
    for i in range(n):
        gpu.step(i)
        if i + 1 < n:
            gpu.load(i + 1)
            if i:
                losses.append(gpu.loss(i - 1))
            gpu.copy(i + 1)
    return torch.tensor([*losses, *(gpu.loss(i) for i in range(len(losses), n))])


def serial(gpu, n):
    losses = []
    for i in range(n):
        gpu.load(i), gpu.copy(i), gpu.step(i)
        losses.append(gpu.loss(i))
    return losses


def no_waiting(gpu, n):
    for i in range(n):
        gpu.load(i), gpu.copy(i), gpu.step(i)
    return [gpu.loss(i) for i in range(n)]


def all_first(gpu, n):
    for i in range(n):
        gpu.load(i), gpu.copy(i)
    for i in range(n):
        gpu.step(i)
    return [gpu.loss(i) for i in range(n)]


def unloaded(gpu, n):
    gpu.copy(0)


def uncopied(gpu, n):
    gpu.load(0), gpu.step(0)


def without_losses(gpu, n):
    serial(gpu, n)
    return [0.0] * n


RIGHT = {
    "check_batch": [batch_by_search],
    "check_two_clocks": [clocks_of_arrays],
    "check_master_copy": [lambda w, u: (w.double() - u.double().sum(0)).to(torch.bfloat16)],
    "check_scaled_step": [step_in_float64],
    "check_loop": [ahead],
}
WRONG = {
    "check_batch": [
        Wrong("never idle", lambda n, a, s, i: math.ceil(n * a / s), "never waits"),
        Wrong("not whole", lambda n, a, s, i: (1 - i) * n * a / s, "rows are whole"),
        Wrong("down", lambda n, a, s, i: max(1, int((1 - i) * n * a / s)), "round up"),
        Wrong("upside down", lambda n, a, s, i: max(1, math.ceil(i * n * a / s)), "that in which"),
        Wrong(
            "zero", lambda n, a, s, i: math.ceil((1 - i) * n * a / s) - 1, "launches set the pace"
        ),
    ],
    "check_two_clocks": [
        Wrong("overlap", overlapping, "one after the other"),
        Wrong("in turn", in_turn, "the host waits"),
        Wrong("at once", at_once, "before it was asked for"),
        Wrong("the end only", lambda launches, works: sum(works), "whichever is later"),
    ],
    "check_master_copy": [
        Wrong("in place", lambda w, u: w.sub_(u.sum(0)), "changed its input"),
        Wrong("nothing", lambda w, u: None, "returned nothing"),
        Wrong("bfloat16 alone", bfloat16_alone, "rounds back"),
        Wrong("sum in bfloat16", summed_in_bfloat16, "got stuck in its turn"),
        Wrong("float32", lambda w, u: w.float() - u.sum(0), "torch.float32"),
        Wrong("added", lambda w, u: (w.float() + u.sum(0)).bfloat16(), "not added"),
        Wrong("the last", lambda w, u: (w.float() - u[-1]).bfloat16(), "all updates"),
    ],
    "check_scaled_step": [
        Wrong("theirs", step_with(lambda g: g.isnan().any(), torch.float16), "vanish once more"),
        Wrong("early", step_with(overflow, torch.float16), "vanish once more"),
        Wrong("inf only", step_with(lambda g: g.isinf().any()), "infinite or nan"),
        Wrong("nan only", step_with(lambda g: g.isnan().any()), "not `nan`"),
        Wrong("scale kept", scale_kept, "the scale is halved"),
        Wrong("single numbers", single_numbers, "the whole step"),
        Wrong("not unscaled", lambda w, g, s, r: (w - r * g.float(), s), "unscale in float32"),
    ],
    "check_loop": [
        Wrong("serial", serial, "at most 2500"),
        Wrong("no waiting", no_waiting, "no room for batch 3"),
        Wrong("all first", all_first, "no room for batch 2"),
        Wrong("unloaded", unloaded, "has not been loaded"),
        Wrong("uncopied", uncopied, "has no batch"),
        Wrong("no losses", without_losses, "The losses of the steps"),
        Wrong("none", lambda gpu, n: [], "never trained on"),
    ],
}
