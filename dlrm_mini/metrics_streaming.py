"""The metrics of clicks, batch by batch: what a log needs that does not fit into memory.

Each accumulator takes batches, can be merged with those of other workers, and says at any time what
the one-shot function of `dlrm_mini.metrics` would say of all rows so far:

    auc = BinnedAUC()
    for batch in loader:
        auc.update(model(batch), batch.labels)
    auc.merge(that_of_another_rank)
    print(auc.value())

All but `AUC` keep a few sums, `sums`, a float64 tensor on the CPU whose size does not depend on the
rows; merging adds them up, so one all-reduce of `sums` merges all ranks.
"""

from typing import Self

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional

from dlrm_mini import metrics
from dlrm_mini.errors import UserError


class _Sums:
    """An accumulator that adds up numbers."""

    def __init__(self, *shape: int) -> None:
        self.sums = torch.zeros(*shape, dtype=torch.float64)

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Take in a batch; an empty one changes nothing.

        Args:
            logits: (B,) log-odds of a click, on any device.
            labels: (B,) 0 or 1.

        Raises:
            UserError: for different lengths, a logit that is not finite, or a label that is neither
                0 nor 1. The batch then leaves nothing behind.
        """
        if len(logits) or len(labels):
            self.sums += self._of(*_checked(logits, labels))

    def merge(self, other: Self) -> None:
        """Take in all that another accumulator has seen.

        Raises:
            UserError: it is of another kind, or has other bins.
        """
        _check_alike(self, other)
        self.sums += other.sums

    def _of(self, logits: Tensor, labels: Tensor) -> Tensor:
        """What a batch adds, in the shape of `sums`."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class LogLoss(_Sums):
    """`metrics.logloss`: the mean binary cross-entropy in nats."""

    def __init__(self) -> None:
        super().__init__(2)

    def _of(self, logits: Tensor, labels: Tensor) -> Tensor:
        return torch.stack([_loss(logits, labels), _number(labels)])

    def value(self) -> float:
        """The logloss of all rows so far.

        Raises:
            UserError: there was none.
        """
        loss, rows = self.sums.tolist()
        return float(loss / _some(rows))


class NormalisedEntropy(_Sums):
    """`metrics.normalised_entropy`: the logloss over that of the share of clicks."""

    def __init__(self) -> None:
        super().__init__(3)

    def _of(self, logits: Tensor, labels: Tensor) -> Tensor:
        return torch.stack([_loss(logits, labels), _number(labels), labels.sum()])

    def value(self) -> float:
        """The normalised entropy of all rows so far.

        Raises:
            UserError: there was none, or all labels were the same.
        """
        loss, rows, clicks = self.sums.unbind()
        _both_kinds(float(rows), float(clicks))
        rate = clicks / rows
        entropy = torch.special.entr(rate) + torch.special.entr(1 - rate)
        return float(loss / rows / entropy)


class Calibration(_Sums):
    """`metrics.calibration`: clicks predicted over clicks that happened."""

    def __init__(self) -> None:
        super().__init__(3)

    def _of(self, logits: Tensor, labels: Tensor) -> Tensor:
        return torch.stack([logits.sigmoid().sum(), labels.sum(), _number(labels)])

    def value(self) -> float:
        """The ratio for all rows so far.

        Raises:
            UserError: there was no row, or no click.
        """
        expected, clicks, rows = self.sums.tolist()
        _some(rows)
        return metrics.calibration_ratio(expected, clicks)


class ECE(_Sums):
    """`metrics.expected_calibration_error`, and the table of `metrics.reliability` behind it.

    Args:
        bins: how many bins.
        by: "width" or "mass"; the latter keeps sums of 32,768 cells (0.8 MB).

    Raises:
        UserError: fewer than one bin, or another `by`.
    """

    def __init__(self, bins: int = 10, by: metrics.Bins = "width") -> None:
        metrics.check_bins(bins, by)
        super().__init__(bins if by == "width" else metrics.FINE, 3)
        self.bins: int = bins
        self.by: metrics.Bins = by

    def _of(self, logits: Tensor, labels: Tensor) -> Tensor:
        return metrics.bin_sums(logits, labels, self.bins, self.by)

    def table(self) -> pd.DataFrame:
        """Prediction against what happened, as `metrics.reliability`.

        Raises:
            UserError: there was no row.
        """
        _some(float(self.sums[:, 0].sum()))
        return metrics.reliability_table(self.sums, self.bins, self.by)

    def value(self) -> float:
        """The expected calibration error of all rows so far.

        Raises:
            UserError: there was none.
        """
        return metrics.error_of(self.table())

    def __repr__(self) -> str:
        return f"ECE(bins={self.bins}, by={self.by!r})"


class BinnedAUC(_Sums):
    """The area under the ROC curve from a histogram: 0.5 MB for any number of rows.

    Logits are counted in the 32,768 cells of `metrics.cells`, clicks and the others apart. Two rows
    of a cell count as a tie, which `error_bound` holds accountable.
    """

    def __init__(self) -> None:
        super().__init__(2, metrics.FINE)  # no click, click

    def _of(self, logits: Tensor, labels: Tensor) -> Tensor:
        place = labels.long() * metrics.FINE + metrics.cells(logits)
        return torch.bincount(place, minlength=2 * metrics.FINE).double().view(2, -1)

    def value(self) -> float:
        """The AUC of all rows so far, each cell's rows tied.

        Raises:
            UserError: there was none, or all labels were the same.
        """
        negatives, positives = self.sums
        below = negatives.cumsum(0) - negatives / 2
        return float((positives * below).sum() / self._pairs())

    def error_bound(self) -> float:
        """How far at most `value` is from the exact AUC: half of all pairs that share a cell.

        Raises:
            UserError: as `value`.
        """
        negatives, positives = self.sums
        return float((positives * negatives).sum() / 2 / self._pairs())

    def _pairs(self) -> float:
        """Pairs of a click and another row."""
        negatives, positives = self.sums.sum(1).tolist()
        _both_kinds(negatives + positives, positives)
        return float(negatives * positives)


class AUC:
    """`metrics.auc`, exact: it keeps every score and label, five bytes a row for float32."""

    def __init__(self) -> None:
        self.scores: list[Tensor] = []  # (B,) each
        self.clicks: list[Tensor] = []  # (B,) bool each

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Take in a batch; an empty one changes nothing.

        Raises:
            UserError: as the other accumulators' `update`.
        """
        if len(logits) or len(labels):
            _checked(logits, labels)
            self.scores.append(logits.detach().cpu().clone())  # the caller may reuse its buffer
            self.clicks.append(labels.detach().cpu() == 1)

    def merge(self, other: Self) -> None:
        """Take in all that another accumulator has seen.

        Raises:
            UserError: it is of another kind.
        """
        _check_alike(self, other)
        self.scores += other.scores
        self.clicks += other.clicks

    def value(self) -> float:
        """The AUC of all rows so far.

        Raises:
            UserError: there was none, or all labels were the same.
        """
        labels = torch.cat([torch.zeros(0, dtype=torch.bool), *self.clicks])
        _both_kinds(len(labels), int(labels.sum()))
        return metrics.auc(torch.cat(self.scores), labels)

    def __repr__(self) -> str:
        return "AUC()"


def _checked(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Both as float64 on the CPU, once it is sure that they may be added up."""
    values, clicks = metrics.click_pair(logits.detach().cpu(), labels.detach().cpu())
    wrong = ~values.isfinite()
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        raise UserError(
            f"The logit of row {row} of the batch is {float(values[row])}; expected finite "
            "numbers. The batch was left out; look for a training that diverged."
        )
    return values, clicks


def _loss(logits: Tensor, labels: Tensor) -> Tensor:
    """The summed binary cross-entropy, ()."""
    return functional.binary_cross_entropy_with_logits(logits, labels, reduction="sum")


def _number(labels: Tensor) -> Tensor:
    """How many rows, () float64."""
    return labels.new_tensor(len(labels))


def _some(rows: float) -> float:
    """The number of rows, if there is any."""
    if not rows:
        raise UserError("No row was taken in yet, so there is nothing to measure; call update().")
    return rows


def _both_kinds(rows: float, clicks: float) -> None:
    """Raise a UserError unless there are labels of both kinds."""
    if _some(rows) == clicks or not clicks:
        raise UserError(
            f"All {rows:,.0f} labels are {int(clicks > 0)}; expected clicks and rows without a "
            "click, since this metric compares the two. Measure on more rows."
        )


def _check_alike(one: object, other: object) -> None:
    """Raise a UserError unless the two can be merged."""
    if repr(one) != repr(other):
        raise UserError(f"{other!r} cannot be merged into {one!r}; expected two of the same kind.")
