"""Checks of the exercises to chapter 10, where the time goes."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations, pairwise
from typing import Any

from dlrm_mini.exercises import checking
from dlrm_mini.exercises.checking import Mistake, NotRight, call, expect, report, right, shown

Span = tuple[str, float, float]
Offer = Mapping[str, Any]
RATIOS = 2.0, 3.0, 1.5, 2.5  # of the two racers' times on each machine, when nothing disturbs
FAIR = 0.1  # how far a measured ratio may be off


def check_intensity(answer: Callable[[int, int, int], float]) -> None:
    """Exercise 1: FLOP for each byte of a product (rows, k) by (k, n) in float32."""

    def reference(rows: int, k: int, n: int) -> float:
        return 2 * rows * k * n / (4 * (rows * k + k * n + rows * n))

    expect(
        answer,
        reference,
        [dict(zip(("rows", "k", "n"), size, strict=True)) for size in
         ((2048, 512, 256), (1, 512, 512), (2048, 1024, 1), (1, 1, 1))],
        mistakes=[
            Mistake(lambda rows, k, n: reference(rows, k, n) / 2, "a multiply-add is two FLOP."),
            Mistake(
                lambda rows, k, n: 4 * reference(rows, k, n),
                "these are FLOP for each number; a number in float32 takes four bytes.",
            ),
            Mistake(
                lambda rows, k, n: 2 * rows * k * n / (4 * (rows * k + k * n)),
                "the result was left out: it has to be written, too.",
            ),
            Mistake(
                lambda rows, k, n: 2 * rows * k * n / (4 * (rows * k + rows * n)),
                "the weights were left out: they have to be read, once.",
            ),
            Mistake(lambda rows, k, n: 1 / reference(rows, k, n), "this is bytes for each FLOP."),
        ],
        otherwise="divide 2 rows k n by four bytes for each number read or written.",
        learnt="With one row a layer does half a FLOP for each byte, little more than a lookup "
        "that is pooled: the batch is what makes weights worth fetching.",
    )  # fmt: skip


def check_batch(answer: Callable[[int, int, float], float]) -> None:
    """Exercise 2: the smallest batch that brings a layer to the ridge; infinity if none does."""

    def reference(k: int, n: int, ridge: float) -> float:
        room = 2 * k * n - 4 * ridge * (k + n)  # FLOP that a row earns beyond its own bytes
        return math.inf if room <= 0 else math.ceil(4 * ridge * k * n / room)

    expect(
        answer,
        reference,
        [{"k": k, "n": n, "ridge": ridge} for k, n, ridge in
         ((1024, 1024, 20.0), (512, 64, 10.0), (1024, 1, 10.0), (64, 64, 8.0), (64, 64, 16.0))],
        mistakes=[
            Mistake(
                lambda k, n, ridge: 4 * ridge * k * n / (2 * k * n - 4 * ridge * (k + n)),
                "rows are whole: the smallest batch that is large enough is the next whole number.",
            ),
            Mistake(
                lambda k, n, ridge: math.floor(
                    4 * ridge * k * n / (2 * k * n - 4 * ridge * (k + n))
                ),
                "with one row less than needed, the layer is still under the slope: round up.",
            ),
            Mistake(
                lambda k, n, ridge: math.ceil(2 * ridge),
                "this counts the bytes of the weights alone; every row brings bytes of its own.",
            ),
        ],
        otherwise="as the batch grows, the intensity rises towards k n / (2 (k + n)) and never "
        "beyond; is the ridge lower than that? Then solve intensity = ridge for the rows.",
        tolerance=1e-9,
        learnt="The last layer of a top MLP, 1,024 to 1, never keeps a multiplier busy: each row "
        "brings 4 kB for 2,048 FLOP, in whatever batch.",
    )  # fmt: skip


def check_self_times(answer: Callable[[Sequence[Span], float], Mapping[str, float]]) -> None:
    """Exercise 3: the time of each name without that of the spans inside, and the remainder."""
    inputs: list[tuple[list[Span], float]] = [
        ([("lookups", 0.0, 3.0), ("bottom MLP", 3.0, 5.0)], 6.0),
        ([("layer", 0.0, 2.0), ("layer", 2.0, 5.0)], 5.0),
        ([("backward", 1.0, 9.0), ("product", 2.0, 5.0), ("product", 5.0, 6.0)], 10.0),
        ([("step", 0.0, 10.0), ("backward", 1.0, 9.0), ("product", 2.0, 8.0)], 10.0),
        ([("sum", 0.0, 8.0), ("sum", 0.0, 6.0), ("copy", 1.0, 2.0)], 9.0),
        ([], 4.0),
    ]
    expect(
        answer,
        _self_times,
        [{"spans": spans, "wall": wall} for spans, wall in inputs],
        mistakes=[
            Mistake(
                _their_times,
                "the broken one gives the same: look at names that come twice, and at spans "
                "inside others.",
            ),
            Mistake(
                lambda spans, wall: _inclusive(spans, wall, clamp=True),
                "the time of a span inside another was counted for both, and a remainder cut off "
                "at zero hides that the parts are more than the wall.",
            ),
            Mistake(
                lambda spans, wall: _inclusive(spans, wall, clamp=False),
                "the time of a span inside another was counted for both: the parts are more than "
                "the wall.",
            ),
            Mistake(
                _all_inside,
                "a span two levels down was taken off twice: from its caller, and from its "
                "caller's caller, which had it taken off already.",
            ),
            Mistake(
                lambda spans, wall: {k: v for k, v in _self_times(spans, wall).items()
                                     if k != "remainder"},
                "what belongs to nobody is a part, too: the remainder.",
            ),
        ],
        otherwise="each moment belongs to the innermost span that is open then, or to nobody.",
        learnt="The parts add up to the wall, because each moment was given away once.",
    )  # fmt: skip


def _self_times(spans: Sequence[Span], wall: float) -> dict[str, float]:
    """By painting: outer spans first, inner ones over them."""
    edges = sorted({0.0, wall, *(t for _, *ends in spans for t in ends)})
    parts = dict.fromkeys([*(name for name, *_ in spans), "remainder"], 0.0)
    for begin, end in pairwise(edges):
        over = [name for name, b, e in spans if b <= begin and end <= e]
        parts[over[-1] if over else "remainder"] += end - begin
    return parts


def _their_times(spans: Sequence[Span], wall: float) -> dict[str, float]:
    parts = {name: end - begin for name, begin, end in spans}
    return parts | {"remainder": max(0.0, wall - sum(parts.values()))}


def _inclusive(spans: Sequence[Span], wall: float, *, clamp: bool) -> dict[str, float]:
    parts: dict[str, float] = {}
    for name, begin, end in spans:
        parts[name] = parts.get(name, 0.0) + end - begin
    left = wall - sum(parts.values())
    return parts | {"remainder": max(0.0, left) if clamp else left}


def _all_inside(spans: Sequence[Span], wall: float) -> dict[str, float]:
    parts = dict.fromkeys((name for name, *_ in spans), 0.0)
    for place, (name, begin, end) in enumerate(spans):
        inside = sum(e - b for _, b, e in spans[place + 1 :] if begin <= b and e <= end)
        parts[name] += end - begin - inside
    return parts | {"remainder": wall - sum(parts.values())}


class Machine:
    """A made-up machine: work moves its clock, and nothing else does; `runs` counts the work."""

    def __init__(self, trouble: str) -> None:
        self.trouble, self.now, self.runs = trouble, 0.0, 0
        self._seen: set[str] = set()

    def racer(self, name: str, seconds: float) -> Callable[[], None]:
        """Something to time, which takes so long when nothing disturbs it."""

        def run() -> None:
            self.now += seconds * self._factor(name) + 0.03 * self._interrupted()
            self.runs += 1

        run.__name__ = name
        return run

    def clock(self) -> Callable[[], float]:
        """What tells the seconds since the machine was switched on."""
        return lambda: self.now  # a method would be copied with its machine

    def _factor(self, name: str) -> float:
        first = name not in self._seen
        self._seen.add(name)
        return {
            "a cold start": 40.0 if first and name == "a" else 1.0,
            "a machine that gets hot": 1 + 0.05 * self.runs,
        }.get(self.trouble, 1.0)

    def _interrupted(self) -> bool:
        return self.trouble == "interruptions" and self.runs % 7 == 3


BIASED = {
    "nothing": "the ratio is the time of b over the time of a.",
    "a cold start": "the first run of a was 40 times as long as the others. What happens once does "
    "not belong into what happens always.",
    "interruptions": "now and then another program took the machine, and one such run weighs more "
    "than all others in a mean or a sum.",
    "a machine that gets hot": "each run was a little slower than the one before, so whoever runs "
    "last loses. Let the two take turns.",
}


def check_race(answer: Callable[..., float]) -> None:
    """Exercise 4: how many times as long b takes as a, on machines that misbehave."""
    for wanted, (trouble, meaning) in zip(RATIOS, BIASED.items(), strict=True):
        machine = Machine(trouble)
        a, b = machine.racer("a", 1e-3), machine.racer("b", wanted * 1e-3)
        case = {"a": a, "b": b, "rounds": 20, "clock": machine.clock()}
        found = call(answer, case)
        ratio = checking.as_array(found)
        if ratio is None or ratio.size != 1:
            raise NotRight(f"One number is asked for, the ratio; got {shown(found)}.")
        if machine.runs < 10:
            raise NotRight(
                f"a and b ran {machine.runs} times in all, where 20 rounds were asked for: call "
                "them as `a()` and `b()` in every round."
            )
        if not abs(ratio.item() - wanted) <= FAIR * wanted:
            if trouble == "nothing" and math.isclose(ratio.item(), 1 / wanted, rel_tol=0.05):
                meaning = "this is a over b."
            place = f"the ratio, on a machine whose trouble is: {trouble}"
            raise NotRight(report(answer, case, ratio.item(), wanted, place, meaning))
    right(
        "A cold start, interruptions, a machine that gets hot: turns and a median (or the least) "
        "saw the true ratio on all of them, and no noise had to be removed."
    )


def check_upgrades(
    answer: Callable[[Mapping[str, float], Mapping[str, Offer], float], Iterable[str]],
) -> None:
    """Exercise 5: which offers to take within a budget, for the shortest step."""
    step = {"lookups": 45.0, "table update": 270.0, "layers": 112.0, "rest": 9.0}
    offers = {
        "fused tables": {"cost": 4, "faster": {"table update": 4.0}},
        "faster memory": {"cost": 3, "faster": {"lookups": 1.5, "table update": 1.5}},
        "tensor cores": {"cost": 3, "faster": {"layers": 8.0}},
        "a second socket": {"cost": 5, "faster": {"lookups": 1.8, "layers": 1.9,
                                                  "table update": 1.2}},
        "a quicker loader": {"cost": 1, "faster": {"rest": 20.0}},
    }  # fmt: skip
    small = {
        "x": {"cost": 2, "faster": {"p": 10.0}},
        "y": {"cost": 1, "faster": {"q": 4.0}},
        "z": {"cost": 1, "faster": {"p": 2.0}},
    }
    greedy = {
        "big": {"cost": 3, "faster": {"p": 10.0}},
        "half": {"cost": 2, "faster": {"p": 2.0}},
        "other": {"cost": 2, "faster": {"q": 10.0}},
    }
    inputs: list[tuple[Mapping[str, float], Mapping[str, Offer], float]] = [
        ({"p": 10.0, "q": 8.0}, small, 2),
        ({"p": 60.0, "q": 50.0}, greedy, 4),
        ({"p": 10.0}, {"x": {"cost": 3, "faster": {"p": 9.0}}}, 2),
        *((step, offers, budget) for budget in (3, 6, 7, 9)),
    ]
    for parts, on_sale, budget in inputs:
        case = {"parts": parts, "offers": on_sale, "budget": budget}
        found = call(answer, case)
        several = isinstance(found, Iterable) and getattr(found, "ndim", not isinstance(found, str))
        taken = [str(name) for name in found] if several else [str(found)]
        unknown = [name for name in taken if name not in on_sale]
        if unknown or len(set(taken)) < len(taken):
            what = f"{unknown[0]!r} is not on offer" if unknown else "an offer was taken twice"
            raise NotRight(f"You took {taken}: {what}.")
        cost = sum(on_sale[name]["cost"] for name in taken)
        if cost > budget:
            raise NotRight(f"{', '.join(taken)} cost {cost}; the budget is {budget}.")
        choices = (c for n in range(len(on_sale) + 1) for c in combinations(on_sale, n))
        best = min((c for c in choices if sum(on_sale[o]["cost"] for o in c) <= budget),
                   key=lambda c: step_after(parts, on_sale, c))  # fmt: skip
        now, least = (step_after(parts, on_sale, c) for c in (taken, best))
        if now > least * (1 + 1e-6):
            raise NotRight(
                f"Not the shortest step yet.\n  parts, ms   {dict(parts)}\n  budget      {budget}\n"
                f"  you took    {', '.join(taken) or 'nothing'}: {now:.1f} ms\n"
                f"  best        {', '.join(best) or 'nothing'}: {least:.1f} ms\n"
                f"Saving most alone, or most for its price, is no ticket into the best set: try "
                "sets. Two offers for the same part share what there is to gain there."
            )
    right(
        f"With a budget of {budget}: {', '.join(sorted(taken))}, {now:.0f} in place of "
        f"{sum(parts.values()):.0f} ms. What an offer is worth depends on what else was bought."
    )


def step_after(
    parts: Mapping[str, float], offers: Mapping[str, Offer], taken: Iterable[str]
) -> float:
    """Milliseconds of the step with these offers; factors on the same part multiply."""
    left = dict(parts)
    for name in taken:
        for part, factor in offers[name]["faster"].items():
            left[part] /= factor
    return sum(left.values())
