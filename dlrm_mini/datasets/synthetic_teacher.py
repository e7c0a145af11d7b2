"""The teacher of a synthetic click log: what it plants, with strengths that are exact.

Fields are drawn independently of each other, and the vector of a field has mean zero over its ids,
tail and "missing" included. So the term of a pair, c <v, w>, has mean zero given either id alone,
and that of a triple, c sum_d v_d w_d x_d, given any two: in logits, models of lower order see
nothing of it. (Through the sigmoid they see a little: where a term spreads the logits, the mean
chance moves.) For the same reason all terms are uncorrelated, and with the
covariances V, W, X of the vectors the variances are c**2 sum(V * W) and c**2 sum(V * W * X), entry
by entry: the strengths asked for are met exactly, not on a sample.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import NormalDist
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from dlrm_mini.datasets.synthetic_config import ClickLogConfig
from dlrm_mini.datasets.synthetic_ids import (
    CHOICES,
    COUNTS,
    DENSE,
    EFFECTS,
    IDS,
    LABEL,
    LENGTHS,
    STRENGTHS,
    Ids,
    keys,
    uniforms,
)
from dlrm_mini.datasets.synthetic_kernels import BITS, KNOTS_PER_LOGIT, MOST_LOGIT
from dlrm_mini.datasets.synthetic_plan import Floats, Plan, Wholes

T = TypeVar("T")
Group = tuple[str, ...]  # the names of a pair or of a triple
WEAKEST = 0.5  # the last planted pair or triple beside the first, the faintest field's share
DENSE_SIGNAL = 2  # every second dense column adds to the first order
NEGATIVE = 1  # the dense column, I2, that holds -1 (one value in ten) and -2 (one in fifty)


@dataclass(frozen=True, eq=False)
class Teacher:
    """What is planted, and the arrays the kernels draw from.

    Args:
        plan: the arrays; the bias is 0 until it has been solved for.
        counts: (n_dense, 2**BITS) float32, the values of each dense column, NaN where missing.
        first: dense column or field -> standard deviation of its first-order term, in logits.
        pairs: planted pair -> the same, strongest first.
        triples: planted triple -> the same, strongest first.
    """

    plan: Plan
    counts: NDArray[np.float32]
    first: dict[str, float]
    pairs: dict[Group, float]
    triples: dict[Group, float]


def build(config: ClickLogConfig) -> Teacher:
    """The teacher of a configuration."""
    dim, names, columns = config.teacher_dim, tuple(config.cardinalities), config.dense_names
    ids = {name: Ids.of(config, name) for name in names}
    effects = keys(config.seed, EFFECTS, len(names) + len(columns))
    tables, covariances = {}, {}
    for name, key in zip(names, effects, strict=False):
        tables[name], covariances[name] = _effects(config, ids[name], config.bags.get(name, 1), key)
    for column, key in zip(columns, effects[len(names) :], strict=True):
        direction = 2 * uniforms(key, dim) - 1
        tables[column] = np.append(1.0, direction * np.sqrt(dim / (direction @ direction)))
        covariances[column] = np.outer(tables[column][1:], tables[column][1:])

    varied = [name for name in names if config.cardinalities[name] > 1]
    first = _first(config, [*columns[::DENSE_SIGNAL], *varied])
    n_triples = config.n_triples if config.third else 0
    pairs, pair_scale = _scaled(_pairs(config, varied), covariances, config.second)
    triples, triple_scale = _scaled(_dealt(varied, 3, n_triples, config), covariances, config.third)
    slots = {n: place for place, n in enumerate(sorted({n for g in (*pairs, *triples) for n in g}))}
    for name, table in tables.items():
        table[..., 0] *= first.get(name, 0.0)

    counts = _counts(config)
    seen = transformed(counts).astype(np.float64)  # (n_dense, 2**BITS)
    sizes = np.array([len(tables[name]) for name in names])
    plan = Plan(
        keys=keys(config.seed, IDS, len(names)),
        length_keys=keys(config.seed, LENGTHS, len(names)),
        dense_keys=keys(config.seed, DENSE, len(columns)),
        label_key=keys(config.seed, LABEL, 1)[0],
        slots=len(slots),
        most=np.array([2 * config.bags.get(name, 0) for name in names]),
        regular=np.array([ids[name].regular for name in names]),
        missing=np.array([ids[name].missing for name in names]),
        share=np.array([ids[name].share for name in names]),
        zipf=np.array([ids[name].inverse() for name in names]),
        head=sizes - 2,
        row=np.cumsum(sizes) - sizes,
        table=np.concatenate([tables[name] for name in names]),
        slot=np.array([slots.get(name, -1) for name in names]),
        dense_slot=np.array([slots.get(column, -1) for column in columns], np.int64),
        dense_value=(seen - seen.mean(1, keepdims=True)) / seen.std(1, keepdims=True),
        dense_table=np.array([tables[column] for column in columns]).reshape(-1, 1 + dim),
        pairs=_places(pairs, slots, 2),
        pair_scale=pair_scale,
        triples=_places(triples, slots, 3),
        triple_scale=triple_scale,
        bias=0.0,
        curve=curve(config.noise),
    )
    return Teacher(plan, counts, first, pairs, triples)


def transformed(counts: NDArray[np.float32]) -> NDArray[np.float32]:
    """log(1 + max(x, 0)) of dense counts, 0 where missing (NaN)."""
    return np.log1p(np.maximum(np.nan_to_num(counts), 0, dtype=np.float32))


def curve(noise: float) -> Floats:
    """The probability of a click and its slope at each knot of the logit, (knots, 2) float64.

    The mean over the noise, by the trapezoidal rule: for an analytic function that vanishes at both
    ends its error falls exponentially with the number of points.
    """
    knots = np.arange(-MOST_LOGIT * KNOTS_PER_LOGIT, MOST_LOGIT * KNOTS_PER_LOGIT + 1)
    points = np.linspace(-8.5, 8.5, 257) if noise else np.zeros(1)
    weights = np.exp(-0.5 * points**2)
    clicks = 1 / (1 + np.exp(-(knots[:, None] / KNOTS_PER_LOGIT + noise * points)))
    slopes = clicks * (1 - clicks) / KNOTS_PER_LOGIT
    means: Floats = np.stack([clicks @ weights, slopes @ weights], axis=1) / weights.sum()
    return means


def _effects(
    config: ClickLogConfig, ids: Ids, lookups: int, key: np.uint64
) -> tuple[Floats, Floats]:
    """Weights and vectors of a field, (head + 2, 1 + dim), and the vectors' covariance (dim, dim).

    Mean 0 over the ids; the weight has variance 1, the vector's entries 1 on average, both summed
    over a bag. The last row but one is the tail's, 0; the last that of "missing".
    """
    head = min(ids.regular, config.teacher_ids)
    chance = np.append(ids.probability(np.arange(head)), [0.0, ids.share])
    table = 2 * uniforms(key, head + 2, 1 + config.teacher_dim) - 1
    table = np.where(chance[:, None] > 0, table - chance @ table / chance.sum(), 0.0)
    covariance = lookups * (table.T * chance) @ table  # of the sum over a bag of this mean length
    variance = np.append(covariance[0, 0], [np.trace(covariance[1:, 1:]) / config.teacher_dim])
    if variance.min() < 1e-20:  # a field with one id
        return np.zeros_like(table), np.zeros_like(covariance[1:, 1:])
    table /= np.sqrt(np.append(variance[0], np.full(config.teacher_dim, variance[1])))
    return table, covariance[1:, 1:] / variance[1]


def _first(config: ClickLogConfig, names: Sequence[str]) -> dict[str, float]:
    """Strengths of the first-order terms, the squares of which add up to that of `first`."""
    key = keys(config.seed, STRENGTHS, 1)[0]
    strengths = WEAKEST + (1 - WEAKEST) * uniforms(key, len(names))
    strengths *= config.first / max(float(np.linalg.norm(strengths)), 1e-9)  # there may be none
    return dict(zip(names, strengths.tolist(), strict=True))


def _shuffled(things: Sequence[T], key: np.uint64) -> list[T]:
    """The same things in another order."""
    return [things[place] for place in np.argsort(uniforms(key, len(things)), kind="stable")]


def _dealt(names: Sequence[str], size: int, number: int, config: ClickLogConfig) -> list[Group]:
    """Different groups, dealt from a shuffled pack so that all names come about equally often."""
    groups: dict[Group, None] = {}
    pack: list[str] = []
    rounds = 0
    while len(groups) < number:
        if len(pack) < size:
            rounds += 1
            pack = _shuffled(names, keys(config.seed, CHOICES + size, rounds)[-1])
        groups[tuple(sorted(pack[:size], key=names.index))] = None
        del pack[:size]
    return list(groups)


def _pairs(config: ClickLogConfig, varied: Sequence[str]) -> list[Group]:
    """The pairs to plant, in the order of their strength."""
    if not config.second:
        return []
    two = keys(config.seed, CHOICES, 2)
    mixed: list[Group] = _shuffled(list(product(config.dense_names, varied)), two[0])
    of_fields = _dealt(varied, 2, config.n_pairs - config.dense_pairs, config)
    return _shuffled([*of_fields, *mixed[: config.dense_pairs]], two[1])


def _scaled(
    groups: Sequence[Group], covariances: Mapping[str, Floats], strength: float
) -> tuple[dict[Group, float], Floats]:
    """The standard deviation of each group's term, falling to half, and the term's factor."""
    strengths = np.linspace(1.0, WEAKEST, len(groups))
    strengths *= strength / np.linalg.norm(strengths) if len(groups) else 1.0
    own = [np.prod([covariances[name] for name in group], axis=0).sum() for group in groups]
    scale = strengths / np.sqrt(np.array(own, np.float64))
    return dict(zip(groups, strengths.tolist(), strict=True)), scale


def _places(groups: Mapping[Group, float], slots: Mapping[str, int], size: int) -> Wholes:
    """The slots of each group, (groups, size)."""
    places = [[slots[name] for name in group] for group in groups]
    return np.array(places, np.int64).reshape(-1, size)


def _counts(config: ClickLogConfig) -> NDArray[np.float32]:
    """Quantiles of each dense column's log-normal counts, rounded down, (n_dense, 2**BITS).

    Medians of 1 to 1000 and heavy tails, as Criteo's integers have them. The first quantiles make
    room for what is missing.
    """
    n = 2**BITS
    missing = round(config.missing_dense * n)
    normal = NormalDist()
    z = np.array([normal.inv_cdf((i + 0.5) / (n - missing)) for i in range(n - missing)])
    counts = np.full((config.n_dense, n), np.nan, np.float32)
    shapes = [uniforms(key, 2) for key in keys(config.seed, COUNTS, config.n_dense)]
    for column, (median, spread) in enumerate(shapes):
        counts[column, missing:] = np.floor(1000.0**median * np.exp((1.0 + spread) * z))
        if column == NEGATIVE:
            counts[column, missing : missing + len(z) // 10] = -1
            counts[column, missing : missing + len(z) // 50] = -2
    return counts
