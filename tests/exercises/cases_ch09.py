"""Right and wrong answers to the exercises of chapter 09."""

import math

import numpy as np
import torch

from dlrm_mini import quantization
from dlrm_mini.ladders.smaller_table_methods import who_collides
from tests.exercises.trying import Wrong


def bytes_of_the_package(width, bits):
    if bits == 32:
        return 4 * width
    return quantization.QuantizedTables({"item": 1}, width, bits).n_bytes


def bits_in_numpy(table):
    rows = table.numpy().astype(np.float64)
    low, reach = rows.min(1, keepdims=True), np.ptp(rows, axis=1, keepdims=True)
    step = np.maximum(reach / 15, 1e-12)
    return np.floor((rows - low) / step + 0.5).astype(int), low, step


def bits_row_by_row(table):
    codes, lows, steps = [], [], []
    for row in table.tolist():
        low, step = min(row), (max(row) - min(row)) / 15
        codes.append([round((x - low) / step) if step else 0 for x in row])
        lows.append(low)
        steps.append(step)
    return codes, lows, steps


def bits_made(low_of, code_of, levels=15, safe=True):
    def made(table):
        low, high = low_of(table)
        step = (high - low) / levels
        divisor = torch.where(step > 0, step, 1.0) if safe else step
        codes = code_of((table - low) / divisor)
        return codes, low.expand(len(table), 1), step.expand(len(table), 1)

    return made


def bits_with_a_step_of_one(table):
    """Where a row's numbers are equal, the step is 1 and not 0."""
    codes, low, step = (torch.as_tensor(part) for part in bits_row_by_row(table))
    return codes.to(torch.uint8), low, torch.where(step > 0, step, 1.0)


def bits_in_sixteenths(table):
    low, high = by_row(table)
    step = (high - low) / 16
    codes = ((table - low) / step.clamp(min=1e-9)).floor().clamp(max=15)
    return codes, low, step


def rounded_to_int(x):
    return x.round().long()


def by_row(table):
    return table.amin(1, keepdim=True), table.amax(1, keepdim=True)


def by_table(table):
    return table.min(), table.max()


def numbering_of_lists(counts, m):
    order = sorted(range(len(counts)), key=lambda i: -counts[i])
    numbers = [0] * len(counts)
    for place, number in enumerate(sorted(range(len(counts)), key=lambda n: n % m)):
        numbers[order[place]] = number
    return numbers


def rank(counts):
    return who_collides(counts, len(counts), "head with tail")


def kept_step_by_step(counts, n_bytes, dim):
    kept, left = dict.fromkeys(counts, 0), n_bytes - 4 * dim * len(counts)
    sorted_counts = {name: of.sort(descending=True).values for name, of in counts.items()}
    while left >= 4 * dim + 4:
        open_tables = [name for name, of in counts.items() if kept[name] < len(of)]
        if not open_tables:
            break
        kept[max(open_tables, key=lambda name: sorted_counts[name][kept[name]])] += 1
        left -= 4 * dim + 4
    return kept


def kept_with(room):
    def made(counts, n_bytes, dim):
        ranked = sorted(((-int(n), name) for name, of in counts.items() for n in of))
        names = [name for _, name in ranked[: room(counts, n_bytes, dim)]]
        return {name: names.count(name) for name in counts}

    return made


def kept_evenly(counts, n_bytes, dim):
    room = (n_bytes - 4 * dim * len(counts)) // (4 * dim + 4)
    return {name: min(len(of), room // len(counts)) for name, of in counts.items()}


def kept_first(counts, n_bytes, dim):
    room, kept = (n_bytes - 4 * dim * len(counts)) // (4 * dim + 4), {}
    for name, of in counts.items():
        kept[name] = min(len(of), room)
        room -= kept[name]
    return kept


def moduli_by_search(n_ids):
    """Every set of small primes, the first two of them also squared or cubed."""
    primes = [2, 3, 5, 7, 11, 13, 17, 19]
    best: tuple[int, list[int]] = (10**9, [])
    for first in range(1, 2 ** len(primes)):
        chosen = [p for place, p in enumerate(primes) if first >> place & 1]
        for four in (2, 4, 8):
            for nine in (3, 9):
                moduli = [{2: four, 3: nine}.get(p, p) for p in chosen]
                if math.prod(moduli) >= n_ids:
                    best = min(best, (sum(moduli), moduli))
    return np.array(best[1])


def two_coprime(n_ids):
    m = math.ceil(n_ids**0.5)
    while m * (m + 1) < n_ids:
        m += 1
    return [m, m + 1]


RIGHT = {
    "check_row_bytes": [
        bytes_of_the_package,
        lambda w, b: {32: 4 * w, 8: w + 8}.get(b, -(-w // 2) + 4),
    ],
    "check_four_bits": [
        bits_in_numpy, bits_row_by_row, bits_made(by_row, torch.round), bits_with_a_step_of_one,
    ],
    "check_numbering": [
        numbering_of_lists,
        lambda counts, m: torch.tensor(numbering_of_lists(counts, m)).double(),
    ],
    "check_kept": [
        kept_step_by_step,
        lambda *given: {name: np.float64(n) for name, n in kept_step_by_step(*given).items()},
    ],
    "check_moduli": [moduli_by_search, lambda n: torch.tensor(moduli_by_search(n))],
}  # fmt: skip
WRONG = {
    "check_row_bytes": [
        Wrong("no header", lambda w, b: math.ceil(w * b / 8), "scale and bias were left out"),
        Wrong("half a byte", lambda w, b: w * b // 8 + {32: 0, 8: 8, 4: 4}[b], "half a byte"),
        Wrong("float32 header", lambda w, b: math.ceil(w * b / 8) + 8 * (b < 32), "float16"),
        Wrong("header for all", lambda w, b: math.ceil(w * b / 8) + {4: 4}.get(b, 8), "no scale"),
        Wrong("bits", lambda w, b: w * b + {32: 0, 8: 64, 4: 32}[b], "these are bits"),
    ],
    "check_four_bits": [
        Wrong("the table's range", bits_made(by_table, torch.round), "whose smallest"),
        Wrong("cut", bits_made(by_row, torch.floor), "cut down"),
        Wrong("0 / 0", bits_made(by_row, torch.round, safe=False), "0 / 0"),
        Wrong("up", bits_made(by_row, torch.ceil), "or up"),
        Wrong("sixteenths", bits_in_sixteenths, "largest number is code 15"),
        Wrong("words", lambda table: ("codes", "low", "step"), "numbers were expected"),
        Wrong("0 / 0, whole", bits_made(by_row, rounded_to_int, safe=False), "step 0; what"),
        Wrong("16 steps", bits_made(by_row, torch.round, levels=16), "fifteen steps"),
        Wrong("not whole", bits_made(by_row, lambda x: x), "whole number"),
        Wrong("the rows alone", lambda table: table.round().long(), "Three things"),
    ],
    "check_numbering": [
        Wrong("as they are", lambda counts, m: torch.arange(len(counts)), "A remainder m apart"),
        Wrong("by frequency", lambda counts, m: rank(counts), "the best"),
        Wrong("twice", lambda counts, m: rank(counts) * m % len(counts), "each once"),
        Wrong("halves", lambda c, m: torch.tensor(numbering_of_lists(c, m)) + 0.5, "each once"),
        Wrong("words", lambda counts, m: ["first", "second"], "numbers were expected"),
    ],
    "check_kept": [
        Wrong("no keys", kept_with(lambda c, n, d: (n - 4 * d * len(c)) // (4 * d)), "the keys"),
        Wrong("no shared row", kept_with(lambda c, n, d: n // (4 * d + 4)), "all other ids"),
        Wrong("evenly", kept_evenly, "16 bytes are left"),
        Wrong("the first table first", kept_first, "in whatever table"),
        Wrong("none", lambda c, n, d: dict.fromkeys(c, 0), "bytes are left"),
        Wrong("all", lambda c, n, d: {name: len(of) + 1 for name, of in c.items()}, "only"),
        Wrong("half", lambda c, n, d: dict.fromkeys(c, 1.5), "a whole number was expected"),
        Wrong("nothing", lambda c, n, d: dict.fromkeys(c), "a whole number was expected"),
    ],
    "check_moduli": [
        Wrong("twice the same", lambda n: [math.ceil(n**0.5)] * 2, "factors in common"),
        Wrong("two coprime", two_coprime, "more and smaller"),
        Wrong("too few", lambda n: [2, 3], "Ids 0 and 6"),
        Wrong("one table", lambda n: [n], "rows are enough"),
        Wrong("nothing", lambda n: [], "at least one row"),
        Wrong("a number", lambda n: n, "one number a table"),
        Wrong("not whole", lambda n: [m + 0.9 for m in moduli_by_search(n)], "a whole number"),
    ],
}  # fmt: skip
