"""A click log whose best possible model is known: rows without end, drawn by a teacher.

Ids follow a bounded power law, dense features are heavy-tailed counts, values are missing, and the
label is a coin that the teacher weighs: a logit of first-, second- and third-order terms of chosen
strength, with noise nobody can see. The true probability of each row is known, and so is what the
best of all models would reach; "AUC .80" has a ceiling to be held against.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dlrm_mini.datasets import synthetic_kernels as kernels
from dlrm_mini.datasets.batches import Batch, SparseFeatures
from dlrm_mini.datasets.synthetic_config import ClickLogConfig, criteo_cardinalities
from dlrm_mini.datasets.synthetic_ids import Ids
from dlrm_mini.datasets.synthetic_teacher import build, transformed
from dlrm_mini.errors import UserError

__all__ = ["ClickLog", "ClickLogConfig", "Rows", "criteo_cardinalities"]

MOST_ROWS = 2**62  # beyond are the rows that the bias is solved on
SAMPLE = 2**18  # so many of them: the base rate is met to about 0.0005
CHUNK = 2**16  # rows at a time where only their probabilities are kept


@dataclass(frozen=True, eq=False)
class Rows:
    """n rows of a click log, and what only the teacher knows of them.

    Args:
        dense: (n, n_dense) float32, counts as Criteo has them: some -1 and -2, NaN where missing.
        sparse: the F fields.
        labels: (n,) float32, 0 or 1.
        probability: (n,) float64, of a click, given all that can be seen.
        terms: (3, n) float64, what the first, second and third order add to the logit; the logit
            without noise is their sum plus `ClickLog.bias`.
    """

    dense: Tensor
    sparse: SparseFeatures
    labels: Tensor
    probability: Tensor
    terms: Tensor


class ClickLog:
    """A click log with a known optimum. Row r is the same however it is asked for.

    Args:
        config: what the log is made of; None for the defaults, Criteo's shape.
        threads: how many cores to use; None: as many as torch.

    Attributes:
        names: the F sparse fields.
        dense_names: I1, I2, ...
        pairs: the planted pairs of names, strongest first; of a dense pair, the column is first.
        triples: the planted triples of fields, strongest first.
        bias: the constant of the logit, solved for the base rate.

    Raises:
        UserError: fewer than one thread.

    Example:
        >>> log = ClickLog(ClickLogConfig(criteo_cardinalities(0.001)))
        >>> batch, probability = log.batch(0, 2048)
        >>> batch.dense.shape, batch.sparse.ids("C1").shape, probability.shape
        (torch.Size([2048, 13]), torch.Size([2048]), torch.Size([2048]))
    """

    def __init__(self, config: ClickLogConfig | None = None, threads: int | None = None) -> None:
        if threads is not None and threads < 1:
            raise UserError(
                f"threads is {threads}; expected 1 or more, or None for torch's number."
            )
        self.config = config or ClickLogConfig()
        self.threads = threads
        self.names = tuple(self.config.cardinalities)
        self.dense_names = self.config.dense_names
        self._teacher = build(self.config)
        self.pairs = tuple(self._teacher.pairs)
        self.triples = tuple(self._teacher.triples)
        self._raw = self._teacher.counts
        self._seen = transformed(self._raw)
        self._plan = self._teacher.plan
        self.bias = self._solve_bias()
        self._plan = self._plan._replace(bias=self.bias)

    def rows(self, start: int, stop: int) -> Rows:
        """Rows start..stop-1, dense features as raw counts.

        Raises:
            UserError: unless 0 <= start <= stop <= 2**62.
        """
        check_range(start, stop)
        return self._draw(start, stop, self._raw)

    def batch(self, start: int, stop: int) -> tuple[Batch, Tensor]:
        """Rows start..stop-1 as a model sees them, and the true probability, (n,) float64.

        Dense features are log(1 + max(x, 0)), 0 where missing.

        Raises:
            UserError: unless 0 <= start <= stop <= 2**62.
        """
        check_range(start, stop)
        rows = self._draw(start, stop, self._seen)
        return Batch(rows.dense, rows.sparse, rows.labels), rows.probability

    def optimum(self, start: int, stop: int) -> dict[str, float]:
        """What the best possible model reaches on rows start..stop-1: `logloss`, `ne` and `auc`.

        That model answers with the true probabilities p. The values are expected over the labels,
        given these rows: the logloss is the mean entropy of p, NE divides it by the entropy of the
        mean, and the AUC weighs each pair of rows with the chance that one clicks and the other
        does not. What the drawn labels give scatters around them.

        Raises:
            UserError: unless 0 <= start < stop <= 2**62.
        """
        if stop <= start:
            raise UserError(f"Rows {start}..{stop} are none; expected at least one.")
        chunks = range(start, stop, CHUNK)
        p = torch.cat([self.batch(a, min(a + CHUNK, stop))[1] for a in chunks])
        logloss = float(_entropy(p).mean())
        return {"logloss": logloss, "ne": logloss / float(_entropy(p.mean())), "auc": _auc(p)}

    def planted_first(self) -> dict[str, float]:
        """Dense column or field -> standard deviation, in logits, of its first-order term."""
        return dict(self._teacher.first)

    def planted_pairs(self) -> tuple[tuple[str, ...], Tensor]:
        """The standard deviation, in logits, of each pair's term: names and a symmetric matrix.

        Names are "dense" and the F fields, as `DLRM.vector_names` has them; what is planted between
        a dense column and a field stands in the row and column "dense". (F + 1, F + 1) float64.
        """
        names = ("dense", *self.names)
        matrix = torch.zeros(len(names), len(names), dtype=torch.float64)
        for pair, strength in self._teacher.pairs.items():
            a, b = (names.index("dense" if n in self.dense_names else n) for n in pair)
            matrix[a, b] = matrix[b, a] = (matrix[a, b] ** 2 + strength**2).sqrt()
        return names, matrix

    def planted_triples(self) -> dict[tuple[str, ...], float]:
        """Triple of fields -> standard deviation, in logits, of its term."""
        return dict(self._teacher.triples)

    def id_probability(self, name: str, ids: Tensor) -> Tensor:
        """The exact probability of each of these ids (k,) int64 in one draw, (k,) float64.

        Raises:
            UserError: no such field, or an id that it does not have.
        """
        if name not in self.names:
            raise UserError(f"There is no field {name!r}; there are {', '.join(self.names)}.")
        size = self.config.cardinalities[name]
        wrong = ids[(ids < 0) | (ids >= size)]
        if len(wrong):
            raise UserError(f"{name} has no id {int(wrong[0])}; expected ids in 0..{size - 1}.")
        return torch.from_numpy(Ids.of(self.config, name).probability(ids.numpy()))

    def _draw(self, start: int, stop: int, shown: NDArray[np.float32]) -> Rows:
        """The rows, with `shown` (n_dense, 2**BITS) for the dense features."""
        n, n_fields = stop - start, len(self.names)
        offsets = self._offsets(start, n)
        firsts = offsets[: n_fields * n : n] if n else np.zeros(n_fields, np.int64)
        values = np.empty(offsets[-1], np.int64)
        dense = np.empty((n, self.config.n_dense), np.float32)
        labels, probability = np.empty(n, np.float32), np.empty(n)
        terms = np.empty((3, n))
        outputs = (shown, values, firsts.copy(), offsets, dense, labels, probability, terms)

        def part(low: int, high: int) -> None:
            kernels.draw(self._plan, np.uint64(start), low, high, *outputs)

        self._share(n, part)
        tensors = (torch.from_numpy(array) for array in (dense, labels, probability, terms))
        sparse = SparseFeatures(self.names, torch.from_numpy(values), torch.from_numpy(offsets))
        return Rows(next(tensors), sparse, *tensors)

    def _offsets(self, start: int, n: int) -> NDArray[np.int64]:
        """Where each bag begins, (F * n + 1,): feature after feature, as `SparseFeatures` wants."""
        if not self.config.bags:
            return np.arange(len(self.names) * n + 1)
        lengths = np.ones((len(self.names), n), np.int64)
        for field, most in enumerate(self._plan.most):
            if most:
                kernels.bag_lengths(self._plan, field, np.uint64(start), lengths[field])
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])

    def _share(self, n: int, part: Callable[[int, int], None]) -> None:
        """Call `part(low, high)` for all of 0..n-1, in threads where there is enough to do."""
        blocks = -(-n // kernels.BLOCK)
        threads = min(self.threads or torch.get_num_threads(), max(1, blocks // 4))
        if threads == 1:
            return part(0, n)
        cuts = [min(n, kernels.BLOCK * (blocks * k // threads)) for k in range(threads + 1)]
        with ThreadPoolExecutor(threads - 1) as pool:
            others = [pool.submit(part, a, b) for a, b in pairwise(cuts[1:])]
            part(*cuts[:2])
        for other in others:
            other.result()
        return None

    def _solve_bias(self) -> float:
        """The bias with which rows that no log holds have the base rate, by bisection."""
        chunks = range(MOST_ROWS, MOST_ROWS + SAMPLE, CHUNK)
        sums = [self._draw(a, a + CHUNK, self._seen).terms.sum(0).numpy() for a in chunks]
        logits = np.concatenate(sums)
        low, high = -40.0, 40.0
        chances = np.empty_like(logits)
        for _ in range(50):
            middle = (low + high) / 2
            kernels.click_probability(logits + middle, self._plan.curve, chances)
            low, high = (low, middle) if chances.mean() > self.config.base_rate else (middle, high)
        return middle


def check_range(start: int, stop: int) -> None:
    """Raise a UserError unless there are such rows."""
    if not 0 <= start <= stop <= MOST_ROWS:
        raise UserError(
            f"Rows {start}..{stop} were asked for; expected 0 <= start <= stop <= 2**62."
        )


def _entropy(p: Tensor) -> Tensor:
    """Of a coin that shows a click with probability p, in nats."""
    entropy: Tensor = torch.special.entr(p) + torch.special.entr(1 - p)
    return entropy


def _auc(p: Tensor) -> float:
    """The AUC of scoring rows with their own click probabilities, expected over the labels.

    Of all ordered pairs of rows, weighted with the chance p_i (1 - p_j) that the first clicks and
    the second does not, the share in which p_i is higher; equal ones count one half.
    """
    values, counts = torch.unique(p, return_counts=True)  # in rising order
    clicks, others = counts * values, counts * (1 - values)
    below = others.cumsum(0) - others
    # Of n equal rows, n (n - 1) pairs are of two rows.
    ties = (counts - 1) * counts * values * (1 - values)
    pairs = clicks.sum() * others.sum() - (counts * values * (1 - values)).sum()
    return float(((clicks * below).sum() + ties.sum() / 2) / pairs)
