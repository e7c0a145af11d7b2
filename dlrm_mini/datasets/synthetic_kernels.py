"""The loops that draw a synthetic click log, compiled by numba.

Every number is a hash of (seed, column, row): the column and the seed make a 64-bit key, the row
counts on from it in steps of an odd constant, and SplitMix64's finaliser (Steele, Lea and Flood
2014) mixes the sum. No number depends on another, so rows can be drawn in any order and anywhere.

Powers are taken by series in plain additions, products and one division: the compiler turns them
into vector instructions, which it cannot do with calls of the C library, and every processor
rounds them alike, so that a seed is the same log on every machine.

A block of rows goes through the columns one by one, so that the inner loops run over rows, without
branches, and their numbers stay in the cache. Threads are the caller's: the kernels hold no lock of
the interpreter (`nogil`), and unlike numba's own threads they survive a fork, as data loaders do.

What numba compiles is kept for the next process (`cache=True`), in `__pycache__` beside this file,
or in the user's cache folder where that cannot be written; compiling takes ten seconds. It notices
when the file of a kernel changes, but not when that of a helper does: they belong in one file.
"""

from typing import Any

import numpy as np
from numba import float64, njit, uint64
from numba.extending import intrinsic

from dlrm_mini.datasets.synthetic_plan import Plan

BLOCK = 256  # rows
BITS = 12  # of a dense value's hash: which of 2**BITS values it is
KNOTS_PER_LOGIT = 128
MOST_LOGIT = 32  # beyond, a probability is that of +-32 logits: 1e-14 from 0 or 1

_STEP = np.uint64(0x9E3779B97F4A7C15)
_M1, _M2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_U12, _U27, _U30, _U31 = np.uint64(12), np.uint64(27), np.uint64(30), np.uint64(31)
_U52, _INDEX = np.uint64(52), np.uint64(64 - BITS)
_ONE = np.uint64(0x3FF0000000000000)  # 1.0 as bits; with 52 random bits below it, 1.0 <= x < 2.0
_MANTISSA = np.uint64(0x000FFFFFFFFFFFFF)
_SQRT2, _LOG2E, _LN2 = 1.4142135623730951, 1.4426950408889634, 0.6931471805599453
_ROUND = 1.5 * 2**52  # adding it leaves the nearest whole number in the low bits
_ROUND_BITS = np.uint64(0x4338000000000000)

kernel = njit(cache=True, nogil=True, error_model="numpy")  # "numpy": no check for division by 0
inlined = njit(cache=True, inline="always", error_model="numpy")  # as calls, they stop vectorising


def _cast(result: Any, argument: Any) -> Any:
    """A function for kernels that reads a number's 64 bits as another type, in a register."""

    def instruction(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(signature.return_type))

    def cast(typing: Any, value: Any) -> Any:
        return result(argument), instruction

    return intrinsic(cast)


_as_bits, _as_float = _cast(uint64, float64), _cast(float64, uint64)


@inlined
def mix(z: Any) -> Any:
    """SplitMix64's finaliser: a uint64 for a uint64."""
    z = (z ^ (z >> _U30)) * _M1
    z = (z ^ (z >> _U27)) * _M2
    return z ^ (z >> _U31)


@inlined
def uniform(z: Any) -> Any:
    """A uint64 as one of 2**52 numbers in 0 <= u < 1."""
    return _as_float((z >> _U12) | _ONE) - 1.0


@inlined
def log2(x: Any) -> Any:
    """Of a normal, positive number, to 1e-13."""
    shifted = x * _SQRT2
    bits = _as_bits(shifted)
    exponent = np.int32(bits >> _U52) - np.int32(1023)
    m = _as_float((bits & _MANTISSA) | _ONE) * (1.0 / _SQRT2)  # sqrt(1/2) <= m < sqrt(2)
    t = (m - 1.0) / (m + 1.0)
    q = t * t
    series = 1 / 13 + q * (1 / 15)
    series = 1 / 9 + q * (1 / 11 + q * series)
    series = 1 / 5 + q * (1 / 7 + q * series)
    return exponent + (2 * _LOG2E) * t * (1.0 + q * (1 / 3 + q * series))


@inlined
def exp2(x: Any) -> Any:
    """Of a number in -1000..1000, to a relative 1e-13."""
    rounded = x + _ROUND
    whole = rounded - _ROUND
    y = (x - whole) * _LN2  # within +-0.35
    series = 1 / 3628800 + y * (1 / 39916800)
    series = 1 / 40320 + y * (1 / 362880 + y * series)
    series = 1 / 720 + y * (1 / 5040 + y * series)
    series = 1 / 24 + y * (1 / 120 + y * series)
    series = 1.0 + y * (1.0 + y * (0.5 + y * (1 / 6 + y * series)))
    power = (_as_bits(rounded) - _ROUND_BITS + np.uint64(1023)) << _U52
    return series * _as_float(power)


@inlined
def zipf_id(u: Any, a: Any, b: Any, c: Any) -> Any:
    """The id at the quantile u.

    The bounded power law on 1 <= x < N + 1 with density x**-s has the inverse distribution function
    (1 + a u)**b with a = (N + 1)**(1 - s) - 1, b = 1 / (1 - s), and exp2(c u) where s is 1
    (c = log2(N + 1)). Its whole part, counted from 0, is the id.
    """
    power = c * u if b == 0.0 else b * log2(1.0 + a * u)
    return np.int32(exp2(max(power, 0.0))) - np.int32(1)


@kernel
def bag_lengths(plan: Plan, field: int, start: np.uint64, lengths: Any) -> None:
    """Write the length of each row's bag, uniform in 0..most; `lengths` is (n,) int64."""
    for r in range(len(lengths)):
        u = uniform(mix(plan.length_keys[field] + (start + np.uint64(r)) * _STEP))
        lengths[r] = np.int32(u * (plan.most[field] + 1))


@kernel
def click_probability(logits: Any, curve: Any, out: Any) -> None:
    """Write the probability at each logit, between two knots by a cubic with their slopes."""
    top = len(curve) - 2
    for r in range(len(logits)):
        place = (logits[r] + MOST_LOGIT) * KNOTS_PER_LOGIT
        place = min(max(place, 0.0), float(top))
        knot = np.int32(place)
        t = place - knot
        p, slope = curve[knot]
        q, next_slope = curve[knot + 1]
        rise = q - p
        bend = (slope - rise) * (1.0 - t) + (rise - next_slope) * t
        out[r] = p + t * (rise + (1.0 - t) * bend)


@kernel
def _ids(plan: Plan, field: int, start: np.uint64, values: Any, rows: Any) -> None:
    """One id a row: to `values` (b,) int64, and its row in the teacher's table to `rows`."""
    key, share, missing = plan.keys[field], plan.share[field], plan.missing[field]
    a, b, c = plan.zipf[field]
    stretch, last = 1.0 / (1.0 - share), np.int32(plan.regular[field] - 1)
    head, row = plan.head[field], plan.row[field]
    for r in range(len(values)):
        u = uniform(mix(key + (start + np.uint64(r)) * _STEP))
        regular = np.int64(min(zipf_id(max((u - share) * stretch, 0.0), a, b, c), last))
        values[r] = missing if u < share else regular
        rows[r] = row + (head + 1 if u < share else min(regular, head))


@kernel
def _bag(
    plan: Plan, field: int, start: Any, values: Any, offsets: Any, weights: Any, vectors: Any
) -> None:
    """Bags of ids: to `values`, and the sums of their weights and vectors to (b,) and (dim, b).

    `offsets` is (b + 1,) int64; the ids of row r go to values[offsets[r]:offsets[r + 1]].
    """
    a, b, c = plan.zipf[field]
    last, head = np.int32(plan.regular[field] - 1), plan.head[field]
    for r in range(len(offsets) - 1):
        place = mix(plan.keys[field] + (start + np.uint64(r)) * _STEP)
        for k in range(offsets[r], offsets[r + 1]):
            place += _STEP  # a sequence of its own for each row
            i = min(zipf_id(uniform(mix(place)), a, b, c), last)
            values[k] = i
            row = plan.row[field] + min(np.int64(i), head)
            weights[r] += plan.table[row, 0]
            for d in range(len(vectors)):
                vectors[d, r] += plan.table[row, 1 + d]


@kernel
def _dense(
    plan: Plan, column: int, start: Any, shown: Any, dense: Any, own: Any, vector: Any
) -> None:
    """One dense column of (b, n_dense), and what it adds to the first order and its vector."""
    key, slot, weight = plan.dense_keys[column], plan.dense_slot[column], plan.dense_table[column]
    for r in range(len(dense)):
        which = mix(key + (start + np.uint64(r)) * _STEP) >> _INDEX
        dense[r, column] = shown[column, which]
        seen = plan.dense_value[column, which]
        own[r] += weight[0] * seen
        if slot >= 0:
            for d in range(len(vector)):
                vector[d, r] = weight[1 + d] * seen


@kernel
def _interact(plan: Plan, vectors: Any, rows: int, second: Any, third: Any) -> None:
    """Add the planted pairs and triples of `rows` rows; `vectors` is (slots, dim, BLOCK)."""
    for p in range(len(plan.pairs)):
        one, two = plan.pairs[p]
        for d in range(vectors.shape[1]):
            for r in range(rows):
                second[r] += plan.pair_scale[p] * (vectors[one, d, r] * vectors[two, d, r])
    for p in range(len(plan.triples)):
        one, two, three = plan.triples[p]
        for d in range(vectors.shape[1]):
            for r in range(rows):
                product = vectors[one, d, r] * vectors[two, d, r] * vectors[three, d, r]
                third[r] += plan.triple_scale[p] * product


@kernel
def draw(
    plan: Plan, start: Any, low: int, high: int, shown: Any, values: Any, firsts: Any,
    offsets: Any, dense: Any, labels: Any, probability: Any, terms: Any,
) -> None:  # fmt: skip
    """Write rows low..high-1 of an output of n rows that begins with row `start` of the log.

    Args:
        plan: what to draw.
        start: uint64.
        low: first row to write.
        high: the row after the last.
        shown: (n_dense, 2**BITS) float32, what a dense column shows for each of its values.
        values: (V,) int64, ids, feature-major.
        firsts: (F,) int64, where in `values` each field begins.
        offsets: (F * n + 1,) int64 when there are bags; else not looked at.
        dense: (n, n_dense) float32.
        labels: (n,) float32.
        probability: (n,) float64.
        terms: (3, n) float64.
    """
    n, dim = len(labels), plan.table.shape[1] - 1
    vectors = np.zeros((plan.slots + 1, dim, BLOCK))  # slot -1, the last, is never read
    own = np.zeros((3, BLOCK))
    logits, picked = np.zeros(BLOCK), np.zeros(BLOCK, np.int64)
    for begin in range(low, high, BLOCK):
        rows = min(high - begin, BLOCK)
        row, end = start + np.uint64(begin), begin + rows
        own[:] = 0.0
        for f in range(len(plan.keys)):
            vector = vectors[plan.slot[f]]
            if plan.most[f]:
                vector[:] = 0.0
                part = offsets[f * n + begin : f * n + end + 1]
                _bag(plan, f, row, values, part, own[0], vector)
                continue
            first = firsts[f]
            _ids(plan, f, row, values[first + begin : first + end], picked)
            for r in range(rows):
                own[0, r] += plan.table[picked[r], 0]
            if plan.slot[f] >= 0:
                for r in range(rows):
                    for d in range(dim):
                        vector[d, r] = plan.table[picked[r], 1 + d]
        for j in range(len(plan.dense_keys)):
            _dense(plan, j, row, shown, dense[begin:end], own[0], vectors[plan.dense_slot[j]])
        _interact(plan, vectors, rows, own[1], own[2])
        for r in range(rows):
            logits[r] = plan.bias + (own[0, r] + own[1, r] + own[2, r])
            for order in range(3):
                terms[order, begin + r] = own[order, r]
        chance = probability[begin:end]
        click_probability(logits[:rows], plan.curve, chance)
        for r in range(rows):
            u = uniform(mix(plan.label_key + (row + np.uint64(r)) * _STEP))
            labels[begin + r] = 1.0 if u < chance[r] else 0.0
