"""Where a synthetic log's numbers come from: hashes of places, and the law the ids follow."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from dlrm_mini.datasets.synthetic_config import ClickLogConfig
from dlrm_mini.datasets.synthetic_plan import Floats, Wholes, Words

# What a stream of numbers is for: no two of them may share one.
IDS, LENGTHS, DENSE, LABEL, EFFECTS, COUNTS, STRENGTHS, TOKENS, CHOICES = range(9)
_STEP = np.uint64(0x9E3779B97F4A7C15)


def _mix(words: Words) -> Words:
    """SplitMix64's finaliser, as in `synthetic_kernels.mix`."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def keys(seed: int, purpose: int, number: int) -> Words:
    """The 64-bit keys of `number` streams, (number,)."""
    base = _mix(np.array([seed], np.uint64) + _STEP)
    base = _mix(base + np.array([purpose + 1], np.uint64) * _STEP)
    return _mix(base + np.arange(1, number + 1, dtype=np.uint64) * _STEP)


def uniforms(key: np.uint64, *shape: int) -> Floats:
    """Numbers u, 0 <= u < 1, each a hash of the key and its place."""
    places = np.arange(math.prod(shape), dtype=np.uint64)
    return ((_mix(key + places * _STEP) >> np.uint64(12)) / 2.0**52).reshape(shape)


@dataclass(frozen=True)
class Ids:
    """How the ids of one field are distributed: the bounded power law of `synthetic_kernels`.

    A number x with density proportional to x**-zipf on 1 <= x < regular + 1; the id is its whole
    part less 1. Where a value is missing, the id is `missing` instead.

    Args:
        regular: how many ids are not "missing".
        missing: the id of "missing", or -1.
        share: of missing values.
        power: 1 - zipf.
    """

    regular: int
    missing: int
    share: float
    power: float

    @classmethod
    def of(cls, config: ClickLogConfig, name: str) -> Ids:
        """Those of a field. One with a single id has no room for "missing", a bag is empty."""
        size = config.cardinalities[name]
        reserved = config.missing_sparse > 0 and size > 1 and name not in config.bags
        share, missing = (config.missing_sparse, size - 1) if reserved else (0.0, -1)
        power = 1 - config.zipf  # so near to 0, powers lose more digits than the limit does
        return cls(size - reserved, missing, share, power if abs(power) > 1e-6 else 0.0)

    def inverse(self) -> tuple[float, float, float]:
        """The three numbers of `synthetic_kernels.zipf_id`."""
        if not self.power:
            return 0.0, 0.0, math.log2(self.regular + 1)
        return math.expm1(self.power * math.log1p(self.regular)), 1 / self.power, 0.0

    def probability(self, ids: Wholes) -> Floats:
        """Of each of these ids, which must exist, in one draw."""
        a, _, c = self.inverse()
        x = ids.astype(np.float64) + 1  # the id's part of the power law is x .. x + 1
        width = np.log1p(1 / x)
        if self.power:
            law = x**self.power * np.expm1(self.power * width) / a
        else:
            law = width / (c * math.log(2))
        return np.where(ids == self.missing, self.share, law * (1 - self.share))
