"""Checks of the exercises to chapter 14, what communication costs."""

import math
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from dlrm_mini.exercises.checking import Mistake, NotRight, call, expect, right, shown
from dlrm_mini.parallel.topology import LINKS, Link

Report = dict[str, Any]
NVLINK, SLOW = LINKS["NVLink"], LINKS["10 Gbit/s"]
SLACK = 1e-6  # of a step's end: two cuts that end together are equally good


def check_size(answer: Callable[[float, float, float], float]) -> None:
    """Exercise 1: the bytes from which on a link with alpha and beta shows a share of beta."""
    expect(
        answer,
        lambda alpha, beta, share: alpha * beta * share / (1 - share),
        [
            {"alpha": link.alpha, "beta": link.beta, "share": share}
            for link, share in ((NVLINK, 0.9), (NVLINK, 0.5), (SLOW, 0.75), (SLOW, 0.99))
        ],
        mistakes=[
            Mistake(
                lambda alpha, beta, share: alpha * beta,
                "that is the place of the half, whatever share is asked for.",
            ),
            Mistake(
                lambda alpha, beta, share: alpha * beta * share,
                "n / beta was made a share of alpha; it is to be a share of the whole time, of "
                "which n / beta is a part itself.",
            ),
            Mistake(
                lambda alpha, beta, share: alpha * beta / (1 - share),
                "the whole message's time times beta; its bytes are the share of that.",
            ),
            Mistake(
                lambda alpha, beta, share: alpha * beta * (1 - share) / share,
                "the share went to alpha. A larger share needs a larger message.",
            ),
        ],
        otherwise="put the answer into n / (alpha + n / beta), and divide by beta.",
        learnt=f"Half of NVLink takes {NVLINK.alpha * NVLINK.beta / 1e6:.1f} MB a message, 90 % "
        "nine times that, 99 % ninety-nine times. A fast link is one for those who have much to "
        "say at once.",
    )


def check_crossing(answer: Callable[[int, float, float], float]) -> None:
    """Exercise 2: the bytes below which sending whole tensors to P - 1 others beats the ring."""
    expect(
        answer,
        lambda ranks, alpha, beta: alpha * beta * ranks / (ranks - 2) if ranks > 2 else math.inf,
        [
            {"ranks": ranks, "alpha": link.alpha, "beta": link.beta}
            for link, ranks in ((SLOW, 4), (SLOW, 8), (NVLINK, 3), (NVLINK, 128), (SLOW, 2))
        ],
        mistakes=[
            Mistake(
                lambda ranks, alpha, beta: alpha * beta,
                "the ring's pieces were left out: its messages have n / P bytes.",
            ),
            Mistake(
                lambda ranks, alpha, beta: alpha * beta * (ranks - 2) / ranks or math.nan,
                "a fraction stands on its head: n (1 - 2 / P) = alpha beta.",
            ),
            Mistake(
                lambda ranks, alpha, beta: (
                    alpha * beta * ranks / (ranks - 1) if ranks > 2 else math.nan
                ),
                "the ring was given P - 1 messages; it goes round twice, once to add and once to "
                "hand out.",
            ),
            Mistake(
                lambda ranks, alpha, beta: alpha * beta / (ranks - 2),
                "the factor P was lost when n / P was cleared.",
            ),
        ],
        otherwise="set both times equal, without the factor P - 1 that they share. With two ranks "
        "the ring sends as many bytes, in twice as many messages.",
        learnt="Two ranks need no ring, and many ranks none for a tensor below alpha times beta: "
        "few bytes want few messages, many bytes want each byte sent once.",
    )


def check_report(answer: Callable[[Tensor, Tensor], Report]) -> None:
    """Exercise 3: {"talking", "waiting", "rank"} of entered (P, C) and left (P, C), in ms."""
    entered = torch.tensor(
        [[1.0, 4.0, 8.5], [1.2, 4.1, 8.6], [1.1, 4.3, 8.4], [3.0, 7.9, 12.0]],
        dtype=torch.float64,
    )
    left = torch.tensor([[3.4, 8.2, 12.5]] * 4, dtype=torch.float64)
    turns = torch.tensor([[2.0, 5.0], [1.0, 5.5], [1.5, 4.0]], dtype=torch.float64)
    uneven = torch.tensor([[3.0, 6.0], [3.5, 7.0], [3.0, 6.5]], dtype=torch.float64)
    # rank 0 comes last in two of three, by a hair; still it waits longer than rank 1 in all
    hair = torch.tensor([[2.0, 5.0, 7.0], [1.9, 4.9, 9.0], [1.0, 4.0, 8.0]], dtype=torch.float64)
    alone = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    expect(
        answer,
        lambda entered, left: _report(entered, left, entered.amax(0)),
        [
            {"entered": entered, "left": left},
            {"entered": turns, "left": uneven},
            {"entered": hair, "left": hair.amax(0) + torch.tensor([[0.5], [1.0], [0.5]])},
            {"entered": alone, "left": alone + 0.5},
        ],
        mistakes=[
            Mistake(
                lambda entered, left: {
                    **_report(entered, left, entered.amax(0)),
                    "talking": float((left - entered).sum(1).mean()),
                },
                "the whole span still counts as talk. What comes before the last rank has entered "
                "is waiting.",
            ),
            Mistake(
                lambda entered, left: _report(entered, left, entered.amin(0)),
                "the collective begins with the first rank here; it cannot, before the last has "
                "come.",
            ),
            Mistake(
                lambda entered, left: _report(entered, left, entered.mean(0)),
                "the collective begins at the ranks' mean here; it cannot, before the last has "
                "come.",
            ),
            Mistake(
                lambda entered, left: _report(entered, left, entered.amax(0), total=True),
                "the ranks' times were summed; they pass side by side, so take the mean.",
            ),
            Mistake(
                lambda entered, left: {
                    **_report(entered, left, entered.amax(0)),
                    "rank": int((entered.amax(0) - entered).sum(1).argmax()),
                },
                "that rank waits most; the others wait for the one that waits least.",
            ),
            *(
                Mistake(
                    lambda entered, left, last=last: {
                        **_report(entered, left, entered.amax(0)),
                        "rank": int(last(entered)),
                    },
                    "that rank comes last in some collective, maybe by a hair; sum each rank's "
                    "waiting over all of them, and name the one that waits least.",
                )
                for last in (
                    lambda entered: entered.argmax(0).mode().values,
                    lambda entered: entered[:, 0].argmax(),
                    lambda entered: entered[:, -1].argmax(),
                )
            ),
        ],
        otherwise="cut every span at entered.amax(dim=0): waiting before, talk behind.",
        learnt="Of 9.0 ms in collectives, 1.2 were talk: a link of no cost at all would save "
        "those, and a plan that evens out rank 3 up to 7.8.",
    )


def _report(entered: Tensor, left: Tensor, begins: Tensor, total: bool = False) -> Report:
    waiting, talking = (begins - entered).sum(1), (left - begins).sum(1)
    ranks = len(entered) if total else 1
    return {
        "talking": ranks * float(talking.mean()),
        "waiting": ranks * float(waiting.mean()),
        "rank": int(waiting.argmin()),
    }


def check_buckets(
    answer: Callable[[list[float], list[int], int, float, float], Sequence[int]],
) -> None:
    """Exercise 4: how many gradients go into each bucket, so that the last ends earliest."""
    lines = []
    for case in _bucket_cases():
        found = _cut(answer, case)
        count = len(case["sizes"])
        ends = [_end(case, cut) for cut in ([count], [1] * count, found, _best(case))]
        together, apart, mine, best = ends
        if mine > best * (1 + SLACK):
            raise NotRight(
                f"There is a better cut than {shown(found)}.\n  input      {shown(case)}\n"
                f"  yours ends at {1e6 * mine:.1f} µs, the best at {1e6 * best:.1f}; one bucket "
                f"{1e6 * together:.1f}, a bucket each {1e6 * apart:.1f}\n"
                f"This usually means: {_why(found, count)}"
            )
        lines.append(
            f"  {shown(found):24} {1e6 * best:7.1f} µs; one bucket {1e6 * together:7.1f}, "
            f"a bucket each {1e6 * apart:7.1f}"
        )
    right(
        "The best that there is, in every case:\n" + "\n".join(lines) + "\n"
        "What decides is what is left when backward ends: the last bucket hides behind nothing, "
        "so it is to be small, and must not wait for the one before it."
    )


def _why(found: list[int], count: int) -> str:
    if len(found) == 1:
        return "nothing hides: a single all-reduce begins when backward has ended."
    if len(found) == count:
        return "every gradient pays its own postage, 2 (P - 1) alphas."
    return (
        "the rule looks at bytes or at one bucket at a time. When a bucket ends depends on when "
        "its last gradient is ready and on the bucket before."
    )


def _cut(answer: Callable[..., Any], case: dict[str, Any]) -> list[int]:
    """The reader's buckets, if they are a cut of the gradients at all."""
    found, count = call(answer, case), len(case["sizes"])
    try:
        numbers = [int(number) for number in found]
        whole = all(float(n) == m for n, m in zip(found, numbers, strict=True))
    except (TypeError, ValueError, OverflowError):
        whole = False
    if not whole or sum(numbers) != count or min(numbers) < 1:
        raise NotRight(
            f"{getattr(answer, '__name__', 'The answer')} does not cut {count} gradients into "
            f"buckets.\n  input      {shown(case)}\n  got        {shown(found)}\n"
            f"  expected   whole numbers from 1 on that add up to {count}: how many gradients "
            "each bucket holds"
        )
    return numbers


def _seconds(case: dict[str, Any], nbytes: float) -> float:
    ranks: int = case["ranks"]
    link = Link("", case["alpha"], case["beta"], "")
    return 2 * (ranks - 1) * link.seconds(nbytes / ranks)


def _end(case: dict[str, Any], cut: Sequence[int]) -> float:
    """When the last bucket has been summed."""
    free, first = 0.0, 0
    for last in accumulate(cut):
        took = _seconds(case, sum(case["sizes"][first:last]))
        free, first = max(free, case["ready"][last - 1]) + took, last
    return free


def _best(case: dict[str, Any]) -> list[int]:
    """The best of all cuts, by trying them."""
    count = len(case["sizes"])
    cuts = []
    for choice in range(2 ** (count - 1)):
        ends = [place + 1 for place in range(count - 1) if choice >> place & 1] + [count]
        cuts.append([end - begin for begin, end in zip([0, *ends], ends, strict=False)])
    return min(cuts, key=lambda cut: _end(case, cut))


def _bucket_cases() -> list[dict[str, Any]]:
    link = LINKS["100 Gbit/s"]
    top = [1024, 1_050_624, 4_198_400, 2_099_200, 1_967_104]  # bytes; of the terabyte model, about
    bottom = [131_584, 525_312, 28_672]
    return [
        {"ready": [1e-4, 2e-4, 3e-4], "sizes": [400_000] * 3, "ranks": 2,
         "alpha": SLOW.alpha, "beta": SLOW.beta},
        {"ready": [1e-5, 2e-5, 3e-5, 4e-5], "sizes": [1000] * 4, "ranks": 8,
         "alpha": link.alpha, "beta": link.beta},
        {"ready": [2e-5, 1.5e-4, 6e-4, 9e-4, 1.2e-3, 1.3e-3, 1.4e-3, 1.5e-3],
         "sizes": top + bottom, "ranks": 4, "alpha": link.alpha, "beta": link.beta},
        {"ready": [2e-5, 1.5e-4, 6e-4, 9e-4, 1.2e-3, 1.3e-3, 1.4e-3, 1.5e-3],
         "sizes": top + bottom, "ranks": 8, "alpha": NVLINK.alpha, "beta": NVLINK.beta},
        {"ready": [1e-4], "sizes": [4096], "ranks": 2, "alpha": SLOW.alpha, "beta": SLOW.beta},
    ]  # fmt: skip
