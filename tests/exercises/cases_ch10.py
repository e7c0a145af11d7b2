"""Right and wrong answers to the exercises of chapter 10."""

import math
import statistics

import numpy as np

from dlrm_mini.exercises.ch10 import step_after
from tests.exercises.trying import Wrong


def intensity(rows, k, n):
    return 0.5 / (1 / n + 1 / rows + 1 / k)  # the same by division


def batch_by_search(k, n, ridge):
    if k * n / (2 * (k + n)) <= ridge:
        return float("inf")
    low, high = 0, 1
    while intensity(high, k, n) < ridge:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if intensity(middle, k, n) >= ridge else (middle, high)
    return np.int64(high)


def one_more(k, n, ridge):
    rows = rows_needed(k, n, ridge)
    return rows if rows == math.inf else int(rows) + 1


def rows_needed(k, n, ridge):
    room = 2 * k * n - 4 * ridge * (k + n)
    return 4 * ridge * k * n / room if room > 0 else math.inf


def by_direct_children(spans, wall):
    """Each span less the longest spans inside it, found pair by pair."""
    parts, top = {}, 0.0
    for i, (name, begin, end) in enumerate(spans):
        around = [j for j in range(i) if spans[j][1] <= begin and end <= spans[j][2]]
        parts[name] = parts.get(name, 0) + end - begin
        if around:
            parts[spans[around[-1]][0]] -= end - begin
        else:
            top += end - begin
    return {"remainder": wall - top, **parts}


def inclusive(spans, wall):
    parts = {}
    for name, begin, end in spans:
        parts[name] = parts.get(name, 0) + end - begin
    parts["remainder"] = wall - sum(parts.values())
    return parts


def clamped(spans, wall):
    parts = inclusive(spans, wall)
    return {name: max(0.0, ms) for name, ms in parts.items()}


def overwritten(spans, wall):
    parts = {name: end - begin for name, begin, end in spans}
    parts["remainder"] = max(0.0, wall - sum(parts.values()))
    return parts


def all_inside(spans, wall):
    parts = {}
    for i, (name, begin, end) in enumerate(spans):
        inside = [e - b for _, b, e in spans[i + 1 :] if begin <= b and e <= end]
        parts[name] = parts.get(name, 0) + end - begin - sum(inside)
    parts["remainder"] = wall - sum(parts.values())
    return parts


def without_remainder(spans, wall):
    parts = by_direct_children(spans, wall)
    del parts["remainder"]
    return parts


def race(combine, turns=True, warm_up=True):
    def my_race(a, b, rounds, clock):
        times = {"a": [], "b": []}

        def lap(name, one):
            start = clock()
            one()
            times[name].append(clock() - start)

        if warm_up:
            a(), b()
        for name in "ab" * rounds if turns else "a" * rounds + "b" * rounds:
            lap(name, {"a": a, "b": b}[name])
        return combine(times["b"], times["a"])

    return my_race


def of(average):
    return lambda b, a: average(b) / average(a)


def median_of_ratios(b, a):
    return statistics.median(y / x for x, y in zip(a, b, strict=True))


def known_ratio(a, b, rounds, clock):
    for _ in range(rounds):
        a(), b()
    return 2.0


def recursive(parts, offers, budget):
    if not offers:
        return set()
    name, *others = offers
    rest = {other: offers[other] for other in others}
    found = recursive(parts, rest, budget)
    if offers[name]["cost"] <= budget:
        faster = {p: ms / offers[name]["faster"].get(p, 1) for p, ms in parts.items()}
        taken = {name} | recursive(faster, rest, budget - offers[name]["cost"])
        found = min(found, taken, key=lambda s: step_after(parts, offers, s))
    return found


def greedy(worth):
    def my_upgrades(parts, offers, budget):
        taken, left = [], budget
        for name in sorted(offers, key=lambda o: worth(parts, offers, o), reverse=True):
            if offers[name]["cost"] <= left:
                taken.append(name)
                left -= offers[name]["cost"]
        return taken

    return my_upgrades


def saved(parts, offers, name):
    return sum(parts.values()) - step_after(parts, offers, [name])


RIGHT = {
    "check_intensity": [intensity],
    "check_batch": [batch_by_search],
    "check_self_times": [by_direct_children],
    "check_race": [
        race(of(min)),
        race(median_of_ratios),
        race(of(statistics.median), warm_up=False),
    ],
    "check_upgrades": [recursive],
}  # fmt: skip
WRONG = {
    "check_intensity": [
        Wrong("one FLOP", lambda r, k, n: intensity(r, k, n) / 2, "is two FLOP"),
        Wrong("numbers", lambda r, k, n: intensity(r, k, n) * 4, "for each number"),
        Wrong("no result", lambda r, k, n: 0.5 / (1 / n + 1 / r), "has to be written"),
        Wrong("no examples", lambda r, k, n: 0.5 / (1 / k + 1 / r), "read or written"),
        Wrong("no weights", lambda r, k, n: 0.5 / (1 / n + 1 / k), "the weights were left out"),
        Wrong("upside down", lambda r, k, n: 1 / intensity(r, k, n), "bytes for each FLOP"),
    ],
    "check_batch": [
        Wrong("not whole", rows_needed, "rows are whole"),
        Wrong("always one more", one_more, "solve intensity = ridge"),
        Wrong("down", lambda *a: x if (x := rows_needed(*a)) == math.inf else int(x), "round up"),
        Wrong("weights alone", lambda k, n, ridge: math.ceil(2 * ridge), "of the weights alone"),
        Wrong("no end", lambda k, n, r: math.ceil(
            4 * r * k * n / (2 * k * n - 4 * r * (k + n))), "never beyond"),
    ],
    "check_self_times": [
        Wrong("theirs", overwritten, "names that come twice"),
        Wrong("twice", inclusive, "more than the wall"),
        Wrong("twice, hidden", clamped, "hides"),
        Wrong("grandchildren", all_inside, "caller's caller"),
        Wrong("no remainder", without_remainder, "a part, too"),
    ],
    "check_race": [
        Wrong("upside down", race(lambda b, a: sum(a) / sum(b)), "a over b"),
        Wrong("cold", race(of(statistics.mean), warm_up=False), "What happens once"),
        Wrong("mean", race(of(statistics.mean)), "in a mean or a sum"),
        Wrong("sum", race(of(sum)), "in a mean or a sum"),
        Wrong("no turns", race(of(statistics.median), turns=False), "take turns"),
        Wrong("once", lambda a, b, rounds, clock: 2.0, "ran 0 times"),
        Wrong("by heart", known_ratio, "the ratio, on a machine"),
        Wrong("two numbers", race(lambda b, a: (sum(a), sum(b))), "One number is asked for"),
    ],
    "check_upgrades": [
        Wrong("saves most", greedy(saved), "try sets"),
        Wrong("for its price", greedy(lambda p, o, n: saved(p, o, n) / o[n]["cost"]), "try sets"),
        Wrong("all", lambda parts, offers, budget: list(offers), "the budget is"),
        Wrong("twice", lambda parts, offers, budget: ["y", "y"], "twice"),
        Wrong("a part", lambda parts, offers, budget: ["p"], "not on offer"),
        Wrong("the time", lambda parts, offers, budget: 12.5, "not on offer"),
        Wrong("the offers", lambda parts, offers, budget: [*offers.values()], "not on offer"),
    ],
}  # fmt: skip
