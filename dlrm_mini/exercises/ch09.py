"""Checks of the exercises to chapter 09, smaller tables."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from dlrm_mini.exercises.checking import (
    Mistake,
    NotRight,
    as_array,
    call,
    expect,
    report,
    right,
    shown,
    tensor,
)
from dlrm_mini.smaller_tables import hash_ids

HEADER = {32: 0, 8: 8, 4: 4}  # bytes of scale and bias beside a row's codes
KEY, NUMBER = 4, 4  # bytes of a kept id's key, and of a number
ROOM = 1.2  # the puzzle's target: times the fewest rows


def check_row_bytes(answer: Callable[[int, int], int]) -> None:
    """Exercise 1: bytes of a row of `width` numbers in 32, 8 or 4 bits each."""
    sizes = [(16, 32), (16, 8), (16, 4), (2, 8), (5, 4), (1, 4), (128, 4)]
    expect(
        answer,
        lambda width, bits: math.ceil(width * bits / 8) + HEADER[bits],
        [{"width": width, "bits": bits} for width, bits in sizes],
        mistakes=[
            Mistake(
                lambda width, bits: math.ceil(width * bits / 8),
                "scale and bias were left out: without them nobody can read the codes back.",
            ),
            Mistake(
                lambda width, bits: width * bits // 8 + HEADER[bits],
                "half a byte was dropped: bytes are whole, and the last code needs one.",
            ),
            Mistake(
                lambda width, bits: math.ceil(width * bits / 8) + (8 if bits < 32 else 0),
                "the header of four bits is scale and bias in float16, two bytes each.",
            ),
            Mistake(
                lambda width, bits: math.ceil(width * bits / 8) + {32: 8, 8: 8, 4: 4}[bits],
                "numbers in float32 are kept as they are: no scale, no bias.",
            ),
            Mistake(lambda width, bits: width * bits + HEADER[bits] * 8, "these are bits."),
        ],
        otherwise="count the codes, round up to whole bytes, then add scale and bias.",
        tolerance=0.0,
        learnt="Two wide, eight bits take 10 bytes where float32 takes 8: in narrow rows the "
        "header is the row.",
    )


def check_four_bits(answer: Callable[[Tensor], Sequence[Any]]) -> None:
    """Exercise 2: rows as codes 0..15, with the smallest number and the step of each."""
    generator = torch.Generator().manual_seed(9)
    tame = torch.rand(2, 5, generator=generator)
    inputs = [
        tame,
        torch.stack([tame[0], 100 * tame[1]]),
        torch.tensor([[0.5, 0.5, 0.5], [0.0, 0.3, 0.9]]),
        torch.tensor([[-2.0]]),
    ]
    for table in inputs:
        case = {"table": table}
        found, wanted = call(answer, case), _four_bits(table)
        if not isinstance(found, tuple | list) or len(found) != 3:
            raise NotRight(f"Three things are asked for: codes, low and step; got {shown(found)}.")
        codes, low, step = (tensor(part, "A part of the answer") for part in found)
        if codes.shape != table.shape or {low.numel(), step.numel()} != {len(table)}:
            meaning = "codes are (N, D), low and step one number a row."
            raise NotRight(report(answer, case, found, wanted, "the shape", meaning))
        low, step = low.reshape(-1, 1), step.reshape(-1, 1)
        if meaning := _wrong_bits(table.double(), codes, low, step):
            back = (low + codes * step).nan_to_num(torch.inf)
            n, d = divmod(int((back - table).abs().argmax()), table.shape[1])
            place = f"row {n}, number {d}: {table[n, d]:.4g} comes back as {back[n, d]:.4g}"
            raise NotRight(report(answer, case, found, wanted, place, meaning))
    right(
        "No number is further off than half a step of its own row, and the bug that divides "
        "by zero only came to light when another was mended."
    )


def _four_bits(table: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    low, high = table.double().aminmax(dim=1)
    step = (high - low) / 15
    codes = (table - low[:, None]) / torch.where(step > 0, step, 1.0)[:, None]
    return codes.round().long(), low, step


def _wrong_bits(table: Tensor, codes: Tensor, low: Tensor, step: Tensor) -> str:
    """What is wrong with codes (N, D), low (N, 1) and step (N, 1); "" if nothing is."""
    reach = table.amax(1, keepdim=True) - table.amin(1, keepdim=True)
    slack = 2e-3 * table.abs().amax(1, keepdim=True)  # low and step may be in float16
    back = low + codes * step
    if not (back.isfinite().all() and codes.isfinite().all()):
        return "a row of equal numbers has the step 0, and 0 / 0 is no number."
    if ((codes < 0) | (codes > 15)).any():
        if (reach == 0).any():
            return "a row of equal numbers has the step 0; what was divided by it is no code."
        return "four bits hold 0 to 15; sixteen levels have fifteen steps between them."
    if (codes != codes.round()).any():
        return "a code is a whole number; otherwise it has no place in four bits."
    wide = reach > 0  # where numbers are equal, any step will do: their codes are 0
    if (wide & (step > 1.01 * reach / 15 + slack)).any():
        return "a row's step is wider than its own numbers need: whose smallest and largest is it?"
    error = (back - table).abs()
    if (error > 0.51 * step * wide + slack).any():
        if (wide & (step < 0.98 * reach / 15)).any():
            return "sixteen levels have fifteen steps between them: the largest number is code 15."
        if (error <= 1.01 * step * wide + slack).all():
            return (
                "numbers were cut down to the level below (or up), which may be a whole step away."
            )
        return "low + codes * step does not come near the row."
    return ""


def check_numbering(answer: Callable[[Tensor, int], Any]) -> None:
    """Exercise 3: new numbers of ids under which the most frequent share a remainder."""
    generator = torch.Generator().manual_seed(3)
    zipf = 100_000 // torch.arange(1, 1001)
    inputs = [
        (torch.tensor([50, 3, 9, 1, 40, 2]), 3),
        (torch.tensor([5, 5, 5, 5, 1, 1, 1, 1]), 2),
        (torch.tensor([7, 1, 4]), 3),
        (zipf[torch.randperm(1000, generator=generator)], 50),
    ]
    for counts, m in inputs:
        case = {"counts": counts, "m": m}
        given = tensor(call(answer, case), "The answer").reshape(-1)
        numbers = given.long()
        if sorted(given.tolist()) != list(range(len(counts))):
            raise NotRight(
                f"Numbers must be 0 to {len(counts) - 1}, each once: two ids with one number "
                f"would be one id.\n  input      counts = {counts.tolist()[:12]}, m = {m}\n"
                f"  got        {given.tolist()[:12]}"
            )
        together = _lookups(counts, numbers % m, m)
        most = counts.sort(descending=True).values[: len(counts) // m].sum()
        if together.max() < most:
            order = counts.argsort(descending=True, stable=True)
            meaning = f"only {int(together.max())} of {int(most)} lookups meet in one row."
            if torch.equal(numbers[order], torch.arange(len(counts))):
                meaning += " Numbered by frequency, neighbours differ in the remainder: the best."
            elif torch.equal(numbers[order] // (len(counts) // m), numbers[order] % m):
                meaning += " Neighbours share a quotient now."
            else:
                meaning += " A remainder m apart: 0, m, 2m, ... are the numbers of one row."
            wanted = f"{len(counts) // m} most frequent ids with one remainder"
            place = f"remainders {(numbers[order] % m)[:6].tolist()} of the most frequent ids"
            raise NotRight(report(answer, case, numbers, wanted, place, meaning))
    mixed = _lookups(counts, hash_ids(numbers, m, seed=0), m)
    share, hashed = (float(of.max() / counts.sum()) for of in (together, mixed))
    right(
        f"The modulo sends {share:.0%} of all lookups to one of {m} rows; under the same numbers "
        f"a hash that mixes the bits sends {hashed:.0%} to its fullest. Ids that are given out in "
        "blocks or by time look like this."
    )


def _lookups(counts: Tensor, places: Tensor, m: int) -> Tensor:
    return torch.bincount(places, weights=counts.double(), minlength=m)


def check_kept(answer: Callable[[Mapping[str, Tensor], int, int], Mapping[str, int]]) -> None:
    """Exercise 4: how many ids of each table get a row of their own, within the bytes."""
    generator = torch.Generator().manual_seed(4)
    users = torch.randint(1, 40, (300,), generator=generator)
    inputs = [
        ({"item": torch.tensor([9, 90, 3, 30]), "shop": torch.tensor([8, 80])}, 56, 2),
        ({"item": torch.tensor([9, 90, 3, 30]), "shop": torch.tensor([4, 5])}, 16 + 12 * 3, 2),
        ({"item": torch.tensor([9, 9]), "shop": torch.tensor([1, 5, 0])}, 1000, 2),
        ({"item": torch.tensor([9, 9])}, 64, 16),
        ({"user": users, "item": 2000 // torch.arange(1, 501)}, 8192, 16),
    ]
    for counts, n_bytes, dim in inputs:
        case = {"counts": counts, "n_bytes": n_bytes, "dim": dim}
        found = call(answer, case)
        best = _best_kept(counts, n_bytes, dim)
        if not isinstance(found, Mapping) or set(found) != set(counts):
            raise NotRight(f"A dict with {', '.join(counts)} is asked for; got {shown(found)}.")
        found = {name: _whole(one, f"The number for {name}") for name, one in found.items()}
        wrong = [name for name, of in counts.items() if not 0 <= found[name] <= len(of)]
        kept, row = sum(found.values()), dim * NUMBER
        need, covered = len(counts) * row + kept * (row + KEY), _covered(counts, found)
        meaning, place = "", f"{covered:,} lookups find a row of their own"
        if wrong:
            meaning = f"the table {wrong[0]} has only {len(counts[wrong[0]])} ids to keep, or 0."
        elif need > n_bytes:
            place = f"{need:,} bytes for {n_bytes:,}"
            meaning = "more rows were kept than there is room for."
            if kept == (n_bytes - len(counts) * row) // row:
                meaning = f"the keys were forgotten: {KEY} bytes, to know which id a row is of."
            elif kept == n_bytes // (row + KEY):
                meaning = "the row was forgotten that all other ids of a table share."
        elif covered < _covered(counts, best):
            meaning = "a byte does most for the most frequent id, in whatever table it is."
            if n_bytes - need >= row + KEY and kept < sum(map(len, counts.values())):
                meaning = f"{n_bytes - need} bytes are left, and there are ids without a row."
        if meaning:
            place += f"; {_covered(counts, best):,} lookups can find a row of their own"
            raise NotRight(report(answer, case, found, best, place, meaning))
    share = covered / sum(int(of.sum()) for of in counts.values())
    right(
        f"In the last log {kept} of {sum(map(len, counts.values()))} ids have rows, and they are "
        f"{share:.0%} of the lookups. Nobody told the tables their shares: the counts did."
    )


def _best_kept(counts: Mapping[str, Tensor], n_bytes: int, dim: int) -> dict[str, int]:
    room = max(0, n_bytes - len(counts) * dim * NUMBER) // (dim * NUMBER + KEY)
    ranked = sorted(((-int(n), name) for name, of in counts.items() for n in of))[:room]
    return {name: sum(name == one for _, one in ranked) for name in counts}


def _covered(counts: Mapping[str, Tensor], kept: Mapping[str, int]) -> int:
    return sum(
        int(of.sort(descending=True).values[: kept[name]].sum()) for name, of in counts.items()
    )


def check_moduli(answer: Callable[[int], Iterable[int]]) -> None:
    """Exercise 5: tables of remainders that together keep all ids apart in few rows."""
    scores = []
    for n_ids in (10, 1000, 50_000, 1_000_000):
        found = call(answer, {"n_ids": n_ids})
        if not isinstance(found, Iterable) or getattr(found, "ndim", 1) == 0:
            raise NotRight(f"A list of rows, one number a table, is asked for; got {found!r}.")
        moduli = [_whole(m, "The rows of a table") for m in found]
        if not moduli or min(moduli) < 1:
            raise NotRight(f"For {n_ids:,} ids you gave {moduli}: a table has at least one row.")
        apart, rows, best = math.lcm(*moduli), sum(moduli), fewest_rows(n_ids)
        if apart < n_ids:
            factors = "" if math.prod(moduli) == apart else (
                f" Their product is {math.prod(moduli):,}, but they have factors in common, and "
                "what two tables both know counts once."
            )  # fmt: skip
            raise NotRight(
                f"For {n_ids:,} ids you gave tables of {moduli} rows. Ids 0 and {apart:,} "
                f"have the same remainder in every one.{factors}"
            )
        target = int(ROOM * best)
        if rows > target:
            raise NotRight(
                f"For {n_ids:,} ids your tables {moduli} have {rows:,} rows. They keep all ids "
                f"apart, but {target} rows are enough: with more and smaller tables, or with sizes "
                "that have no factor in common."
            )
        scores.append(f"{rows} rows for {n_ids:,} ids (fewest: {best})")
    right(
        f"{'; '.join(scores)}. To keep ids apart is cheap. What costs is that a row is shared: "
        f"each of yours is moved by at least {n_ids // max(moduli):,} ids of a million."
    )


def _whole(value: object, what: str) -> int:
    """A whole number of the answer, whatever type it came in."""
    number = as_array(value)
    if number is None or number.size != 1 or float(number.item()) % 1 != 0:
        raise NotRight(f"{what} is {shown(value)}; a whole number was expected.")
    return int(number.item())


def fewest_rows(n_ids: int) -> int:
    """The smallest sum of numbers whose least common multiple is at least `n_ids`.

    Powers of different primes do best (Landau's function), so each prime is tried with each power.
    """
    most, bound = [1], 100  # most[s]: the largest multiple with the sum s at most
    most *= bound + 1
    for p in (n for n in range(2, bound) if all(n % d for d in range(2, n))):
        for s in range(bound, p - 1, -1):
            powers = [p**e for e in range(1, 8) if p**e <= s]
            most[s] = max(most[s], *(most[s - q] * q for q in powers))
    return next(s for s, apart in enumerate(most) if apart >= n_ids)
