"""Checks of the exercises to chapter 11, GPU training."""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dlrm_mini.exercises import checking
from dlrm_mini.exercises.checking import Mistake, NotRight, call, difference, expect, right

Times = Sequence[float]
Step = Callable[[Tensor, Tensor, float, float], Sequence[object]]
LOAD, ASK, COPY, STEP = 200.0, 5.0, 150.0, 250.0  # µs of the pretended GPU of exercise 5
BATCHES, ROOM, TARGET = 8, 2, 2500.0  # the puzzle's batches, the batches that fit, and µs


def check_batch(answer: Callable[[int, float, float, float], int]) -> None:
    """Exercise 1: the smallest batch with which a GPU waits for at most this share of the step."""

    def rows(operations: int, launch: float, sample: float, idle: float) -> Fraction:
        return (1 - Fraction(idle)) * operations * Fraction(launch) / Fraction(sample)

    cases = [(79, 5.0, 2.5, 0.5), (79, 5.0, 0.625, 0.5), (100, 4.0, 3.0, 0.0), (3, 1.0, 50.0, 0.25)]
    expect(
        answer,
        lambda *case: max(1, math.ceil(rows(*case))),
        [dict(zip(("operations", "launch", "sample", "idle"), c, strict=True)) for c in cases],
        mistakes=[
            Mistake(
                lambda n, launch, sample, idle: max(1, math.ceil(n * launch / sample)),
                "with this batch the GPU never waits; it may, for a share `idle` of the step.",
            ),
            Mistake(lambda *case: float(rows(*case)), "rows are whole: round up, to one at least."),
            Mistake(
                lambda *case: max(1, math.floor(rows(*case))),
                "with one row less than needed it waits a little too long: round up.",
            ),
            Mistake(
                lambda n, launch, sample, idle: max(1, math.ceil(idle * n * launch / sample)),
                "`idle` is the share in which the GPU waits, not that in which it works.",
            ),
        ],
        otherwise="while launches set the pace the step takes operations * launch, and the work "
        "fills batch * sample of that.",
        tolerance=0.0,
        learnt="Four times as fast a card wants four times the batch before it earns its price.",
    )


def check_two_clocks(answer: Callable[[Times, Times], Sequence[Sequence[float]]]) -> None:
    """Exercise 2: when a device begins and ends each piece of work that a host launches."""
    cases = [([1, 1, 1], [5, 5, 5]), ([4, 4, 4], [1, 1, 1]), ([2, 2, 2, 2], [9, 1, 1, 1]),
             ([3], [2]), ([1, 6, 1, 1], [2, 1, 8, 0.5])]  # fmt: skip
    expect(
        answer,
        _two_clocks,
        [{"launches": launches, "works": works} for launches, works in cases],
        mistakes=[
            Mistake(
                lambda launches, works: _ending(np.cumsum(launches) + works, works),
                "two pieces of work overlap: a stream does one after the other.",
            ),
            Mistake(
                lambda launches, works: _ending(np.cumsum(np.add(launches, works)), works),
                "the host waits for each piece before it launches the next. It does not: `launch` "
                "returns at once.",
            ),
            Mistake(
                lambda launches, works: _ending(np.cumsum(works), works),
                "work begins before it was asked for: launches take time, too.",
            ),
        ],
        otherwise="a piece begins when it has been launched and the one before it is done, "
        "whichever is later.",
        learnt="Where each launch takes longer than its work, a device ten times as fast would end "
        "with the same launch, and hardly sooner.",
    )  # fmt: skip


def _two_clocks(launches: Times, works: Times) -> NDArray[np.float64]:
    ends, host, device = [], 0.0, 0.0
    for launch, work in zip(launches, works, strict=True):
        host += launch
        device = max(host, device) + work
        ends.append(device)
    return _ending(np.array(ends), works)


def _ending(ends: NDArray[np.float64], works: Times) -> NDArray[np.float64]:
    return np.stack([ends - works, ends], axis=1)


def check_master_copy(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Exercise 3: bfloat16 weights after many small updates, none of them lost."""

    def reference(weight: Tensor, updates: Tensor) -> Tensor:
        return (weight.double() - updates.double().sum(0)).bfloat16()

    def kept_in_bfloat16(start: Tensor, updates: Tensor) -> Tensor:
        for update in updates:
            start = start - update.bfloat16()
        return start

    generator = torch.Generator().manual_seed(11)
    cases = [
        (torch.tensor([1.0, -2.0]), torch.tensor([[0.5, 0.25], [0.25, 0.5]])),
        (torch.tensor([1.0, 8.0]), torch.full((1000, 2), 1e-3)),
        (torch.tensor([1.0]), torch.full((3000, 1), 1e-4)),
        (torch.zeros(3), 1e-2 * torch.randn(100, 3, generator=generator)),
    ]
    for weight, updates in cases:
        case = {"weight": weight.bfloat16(), "updates": updates}
        found, wanted = call(answer, case), reference(*case.values())
        quiet = {"weight": weight.bfloat16().float(), "updates": updates}  # numpy has no bfloat16
        if not isinstance(found, Tensor) or found.dtype != torch.bfloat16:
            kind = found.dtype if isinstance(found, Tensor) else type(found).__name__
            raise NotRight(f"The model computes in bfloat16, and your weights came as {kind}.")
        if place := difference(found.float(), wanted.float(), 0.01):
            start, got = case["weight"], found.float()
            summed = start + kept_in_bfloat16(0 * start, updates)
            meaning = "all updates are to be subtracted, one by one or at once, in float32."
            if not difference(got, kept_in_bfloat16(start, updates), 0.002):
                meaning = (
                    "each new weight was rounded to bfloat16. Next to 1 its numbers are 0.004 or "
                    "more apart: a smaller update rounds back to where it came from."
                )
            elif not difference(got, summed, 0.002):
                meaning = "the sum of the updates was kept in bfloat16, and got stuck in its turn."
            elif not difference(got, 2 * weight - wanted.float(), 0.02):
                meaning = "updates are subtracted, not added."
            raise NotRight(checking.report(answer, quiet, got, wanted.float(), place, meaning))
    right(
        "Products in 16 bits, a master copy in 32. In bfloat16 alone, a thousand updates of a "
        "thousandth leave a weight of 1 at 1."
    )


def check_scaled_step(answer: Step) -> None:
    """Exercise 4: a step with float16 gradients of a scaled loss: weights, and the next scale."""

    def step(test: Callable[[Tensor], Tensor], kind: torch.dtype) -> Step:
        def made(w: Tensor, g: Tensor, s: float, r: float) -> tuple[Tensor, float]:
            return (w, s / 2) if test(g) else (w - r * (g.to(kind) / s), s)

        return made

    def overflow(g: Tensor) -> Tensor:
        return ~g.isfinite().all()

    def half(*gradients: float) -> Tensor:
        return torch.tensor(gradients, dtype=torch.float16)

    weights, large = torch.tensor([1.0, -1.0]), 65536.0
    expect(
        answer,
        step(overflow, torch.float64),
        [
            {"weights": weights, "gradients": half(3.0, 8.0), "scale": 4.0, "rate": 0.5},
            {"weights": weights, "gradients": half(1.5, -0.01), "scale": large, "rate": 1e6},
            {"weights": weights, "gradients": half(torch.inf, 0.01), "scale": large, "rate": 1e6},
            {"weights": weights, "gradients": half(1.0, torch.nan), "scale": 8.0, "rate": 1.0},
        ],
        mistakes=[
            Mistake(
                step(overflow, torch.float16),
                "gradients were divided in float16, where they vanish once more: they were scaled "
                "up for nothing. To float32 first.",
            ),
            Mistake(
                lambda w, g, s, r: (
                    torch.where(g.isfinite(), w - r * g.float() / s, w),
                    s / 2 if overflow(g) else s,
                ),
                "the whole step is skipped, not the one number: the others come from the same "
                "backward, in which something went wrong.",
            ),
            Mistake(
                step(lambda g: g.isnan().any(), torch.float32),
                "float16 overflows to infinity, which is not `nan`.",
            ),
            Mistake(
                lambda w, g, s, r: (w if overflow(g) else w - r * g.float() / s, s),
                "after an overflow the scale is halved, or the next step overflows, too.",
            ),
        ],
        otherwise="unscale in float32; if anything is infinite or nan, skip the step and halve.",
        tolerance=1e-5,
        learnt="Nothing complains about either mistake; training only gets a little worse, or "
        "infinite.",
    )


class IllegalMove(Exception):  # noqa: N818  the sentence is for the reader
    """What the pretended GPU will not do, and why."""


class Gpu:
    """Exercise 5's GPU, a host that loads, one queue of copies and one of steps; time is made up.

    `load` keeps the host for 200 µs. `copy` and `step` are asked for in 5 µs and take 150 and 250
    on the GPU, side by side; a step waits for its own copy. `wait` and `loss` keep the host until
    the step is done. Two batches fit: the memory of one is free once its step is done.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.spans: dict[str, dict[int, tuple[float, float]]] = {"load": {}, "copy": {}, "step": {}}

    def __deepcopy__(self, memo: object) -> "Gpu":
        return self  # the check looks at what was done with it

    def __repr__(self) -> str:
        return "the pretended GPU"

    def load(self, i: int) -> None:
        """Read batch i on the host."""
        self.spans["load"][i] = (self.now, self.now + LOAD)
        self.now += LOAD

    def copy(self, i: int) -> None:
        """Ask for batch i to be copied, and go on."""
        if i not in self.spans["load"]:
            raise IllegalMove(f"batch {i} cannot be copied: it has not been loaded.")
        begin = self._ask("copy", i, COPY)
        done = {j for j, (_, end) in self.spans["step"].items() if end <= begin}
        there = sorted(set(self.spans["copy"]) - done - {i})
        if len(there) >= ROOM:
            raise IllegalMove(
                f"there is no room for batch {i}: at {begin:.0f} µs batches "
                f"{' and '.join(map(str, there))} are on the GPU, and their steps are not done. "
                f"Step batch {there[0]}, and gpu.wait({there[0]}) before you send another."
            )

    def step(self, i: int) -> None:
        """Ask for the training step on batch i, and go on."""
        if i not in self.spans["copy"]:
            raise IllegalMove(f"step {i} has no batch: gpu.copy({i}) was not asked for.")
        self._ask("step", i, STEP, after=self.spans["copy"][i][1])

    def wait(self, i: int) -> None:
        """Wait on the host until step i is done."""
        if i not in self.spans["step"]:
            raise IllegalMove(f"nobody asked for step {i}, so gpu.wait({i}) would wait for ever.")
        self.now = max(self.now, self.spans["step"][i][1])

    def loss(self, i: int) -> float:
        """The loss of step i; waits for it, as `.item()` does."""
        self.wait(i)
        return math.exp(-i / 4)

    def _ask(self, what: str, i: int, takes: float, after: float = 0.0) -> float:
        if i in self.spans[what]:
            raise IllegalMove(f"gpu.{what}({i}) was asked for twice.")
        self.now += ASK
        begin = max(self.now, after, *(end for _, end in self.spans[what].values()))
        self.spans[what][i] = (begin, begin + takes)
        return begin

    def timeline(self, unit: float = 50.0) -> str:
        """Who worked when: a line for each, a digit for the batch, a character for 50 µs."""
        lines = []
        for what, of in self.spans.items():
            cells = ["."] * math.ceil(self.now / unit)
            for i, (begin, stop) in of.items():
                for place in range(round(begin / unit), min(round(stop / unit), len(cells))):
                    cells[place] = str(i % 10)
            lines.append(f"  {what} {''.join(cells)}")
        return "\n".join(lines)


def check_loop(answer: Callable[[Gpu, int], Sequence[float]]) -> None:
    """Exercise 5: train on all batches, each loss told, the GPU hardly ever idle."""
    for n in (1, 3, BATCHES):
        gpu = Gpu()
        found = call(answer, {"gpu": gpu, "n": n})
        left = [i for i in range(n) if i not in gpu.spans["step"]]
        if left:
            raise NotRight(f"Batch {left[0]} of {n} was never trained on: gpu.step({left[0]}).")
        if difference(found, [math.exp(-i / 4) for i in range(n)]):
            raise NotRight(
                f"The losses of the steps 0 to {n - 1} are asked for; got {checking.shown(found)}"
            )
        if list(gpu.spans["step"]) != list(range(n)):
            raise NotRight(f"Steps came in the order {list(gpu.spans['step'])}, not 0, 1, 2, ...")
    if gpu.now > TARGET:
        raise NotRight(
            f"All right, but slow: {gpu.now:.0f} µs for {n} batches, where at most {TARGET:.0f} "
            f"are allowed.\n{gpu.timeline()}\nWhile the GPU is at step i, the host can load batch "
            "i + 1 and have it copied. Whoever asks for a loss, waits: when must one?"
        )
    idle = 1 - n * STEP / gpu.now
    right(
        f"{gpu.now:.0f} µs for {n} batches; the steps alone take {n * STEP:.0f}, so the GPU was "
        f"without a step for {idle:.0%}.\n{gpu.timeline()}\nWait for what you need, and no sooner "
        "than you need it."
    )
