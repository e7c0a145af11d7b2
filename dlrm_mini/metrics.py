"""How good predictions are: rmse, mae for ratings; logloss, AUC, NE, calibration for clicks.

All take two tensors (B,) on any device and sum in float64, so that a million rows lose no digits.
`dlrm_mini.metrics_streaming` has the metrics for clicks once more, batch by batch.
"""

from typing import Literal, get_args

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional

from dlrm_mini.errors import UserError

Bins = Literal["width", "mass"]

LIMIT = 16.0  # log-odds; beyond it lies one click in nine million, or all but one
FINE = 32_768  # cells between -LIMIT and LIMIT, each about 0.001 wide


def _pair(prediction: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Both as float64, once it is sure that they belong together."""
    if prediction.shape != label.shape or prediction.ndim != 1:
        raise UserError(
            f"The predictions have shape {tuple(prediction.shape)} and the labels "
            f"{tuple(label.shape)}; expected one dimension and the same length."
        )
    if not len(label):
        raise UserError("There are no predictions to judge; expected at least one.")
    return prediction.detach().double(), label.detach().double()


def click_pair(prediction: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """`_pair` for labels that are 0 or 1."""
    predictions, labels = _pair(prediction, label)
    wrong = (labels != 0) & (labels != 1)
    if bool(wrong.any()):
        raise UserError(
            f"A label is {float(labels[wrong][0]):g}; expected 0 (no click) or 1 (click)."
        )
    return predictions, labels


def rmse(prediction: Tensor, label: Tensor) -> float:
    """Root of the mean squared error, in the unit of the labels.

    Args:
        prediction: (B,) ratings.
        label: (B,) ratings.

    Raises:
        UserError: for different lengths or none.
    """
    predictions, labels = _pair(prediction, label)
    return float((predictions - labels).square().mean().sqrt())


def mae(prediction: Tensor, label: Tensor) -> float:
    """Mean absolute error, in the unit of the labels.

    Args:
        prediction: (B,) ratings.
        label: (B,) ratings.

    Raises:
        UserError: for different lengths or none.
    """
    predictions, labels = _pair(prediction, label)
    return float((predictions - labels).abs().mean())


def logloss(logits: Tensor, labels: Tensor) -> float:
    """Mean binary cross-entropy in nats, from logits, so that no probability is rounded to 0 or 1.

    Args:
        logits: (B,) log-odds of a click, as models return them.
        labels: (B,) 0 or 1.

    Raises:
        UserError: for different lengths or none, or a label that is neither 0 nor 1.
    """
    return float(functional.binary_cross_entropy_with_logits(*click_pair(logits, labels)))


def auc(scores: Tensor, labels: Tensor) -> float:
    """Area under the ROC curve: how often a random positive is scored above a random negative.

    Exact, by ranks; a tie counts one half. Logits and probabilities give the same value, unless
    rounding made equal what was not. NaN when all labels are the same: there is no pair to compare.

    Args:
        scores: (B,) any increasing function of the probability.
        labels: (B,) 0 or 1.

    Raises:
        UserError: for different lengths or none, a NaN score, or a label other than 0 and 1.
    """
    values, clicks = click_pair(scores, labels)
    if bool(values.isnan().any()):
        raise UserError("A score is NaN; expected numbers, which can be put in order.")
    _, group, counts = torch.unique(values, return_inverse=True, return_counts=True)
    mid_rank = counts.cumsum(0) - (counts - 1) / 2  # of each distinct score, the lowest has rank 1
    positives = clicks.sum()
    negatives = len(clicks) - positives
    above = (mid_rank[group] * clicks).sum() - positives * (positives + 1) / 2
    return float(above / (positives * negatives))


def normalised_entropy(logits: Tensor, labels: Tensor) -> float:
    """Logloss divided by the logloss of always predicting the share of clicks in `labels`.

    1 is as good as knowing nothing but that share; lower is better (He et al. 2014). Infinite when
    all labels are the same, since then that share alone says everything.

    Args:
        logits: (B,) log-odds of a click.
        labels: (B,) 0 or 1.

    Raises:
        UserError: for different lengths or none, or a label that is neither 0 nor 1.
    """
    rate = labels.detach().double().mean()
    entropy = torch.special.entr(rate) + torch.special.entr(1 - rate)
    return float(torch.tensor(logloss(logits, labels), dtype=torch.float64) / entropy.cpu())


def calibration(logits: Tensor, labels: Tensor) -> float:
    """Mean predicted probability divided by the share of clicks; 1 is right on average.

    Above 1 the model promises more clicks than there are (He et al. 2014, section 2).

    Args:
        logits: (B,) log-odds of a click.
        labels: (B,) 0 or 1.

    Raises:
        UserError: for different lengths or none, a label other than 0 and 1, or no click at all.
    """
    values, clicks = click_pair(logits, labels)
    return calibration_ratio(float(values.sigmoid().sum()), float(clicks.sum()))


def calibration_ratio(expected: float, clicks: float) -> float:
    """Clicks that were predicted over those that there were.

    Raises:
        UserError: there was none.
    """
    if not clicks:
        raise UserError(
            "No label is 1, so the predictions cannot be compared with a share of clicks; expected "
            "at least one click. Measure on more rows."
        )
    return expected / clicks


def expected_calibration_error(
    logits: Tensor, labels: Tensor, *, bins: int = 10, by: Bins = "width"
) -> float:
    """By how much predicted probability and share of clicks differ in a bin, averaged over rows.

    sum over bins of (rows in the bin / rows) * |mean prediction - share of clicks|; Naeini et al.
    2015, "Obtaining Well Calibrated Probabilities Using Bayesian Binning".

    Args:
        logits: (B,) log-odds of a click.
        labels: (B,) 0 or 1.
        bins: how many bins.
        by: as in `reliability`.

    Raises:
        UserError: as `reliability`.
    """
    return error_of(reliability(logits, labels, bins=bins, by=by))


def reliability(
    logits: Tensor, labels: Tensor, *, bins: int = 10, by: Bins = "width"
) -> pd.DataFrame:
    """Prediction against what happened, bin by bin: the numbers of a reliability diagram.

    Args:
        logits: (B,) log-odds of a click.
        labels: (B,) 0 or 1.
        bins: how many bins.
        by: "width", bins of equal width in probability, where an edge belongs to the bin below it;
            or "mass", bins with about as many rows each. The latter are cut between cells of 0.001
            in log-odds, never through one, so that equal predictions stay together.

    Returns:
        One row for each bin that is not empty: `low` and `high`, its ends in probability; `rows`;
        `prediction`, their mean probability; `rate`, their share of clicks; `standard_error`, by
        how much the rate strays from the prediction by chance where the prediction is right.

    Raises:
        UserError: for different lengths or none, a logit that is not a number, a label other than
            0 and 1, fewer than one bin or another `by`.
    """
    check_bins(bins, by)
    return reliability_table(bin_sums(*click_pair(logits, labels), bins, by), bins, by)


def check_bins(bins: int, by: str) -> None:
    """Raise a UserError unless there are such bins."""
    if not 1 <= bins <= FINE:
        raise UserError(f"bins is {bins}; change it to a whole number in 1..{FINE:,}.")
    if by not in get_args(Bins):
        raise UserError(f"by is {by!r}; change it to 'width' or 'mass'.")


def cells(logits: Tensor) -> Tensor:
    """The cell of each logit, (B,) int64 in 0..FINE-1; what lies beyond LIMIT is in the last one.

    Raises:
        UserError: a logit is NaN.
    """
    if bool(logits.isnan().any()):
        raise UserError("A logit is NaN; expected numbers, which can be put into bins.")
    scaled = (logits + LIMIT) * (FINE / (2 * LIMIT))
    return scaled.floor().clamp(0, FINE - 1).long()


def bin_sums(logits: Tensor, labels: Tensor, bins: int, by: Bins) -> Tensor:
    """Rows, sum of predicted probabilities and clicks, (K, 3) float64 on the CPU.

    K is `bins` where they are of equal width; where they are of equal mass, whose bounds nobody
    knows before the last row, the FINE cells that they are made of.

    Args:
        logits: (B,) float64.
        labels: (B,) float64.
        bins: how many bins.
        by: "width" or "mass".
    """
    probability, place = logits.sigmoid(), cells(logits)
    if by == "width":
        place = (probability * bins).ceil().long().clamp(1, bins) - 1
    size = bins if by == "width" else FINE
    columns = [torch.bincount(place, each, size) for each in (None, probability, labels)]
    return torch.stack([column.double().cpu() for column in columns], dim=1)


def reliability_table(sums: Tensor, bins: int, by: Bins) -> pd.DataFrame:
    """The table of `reliability`, from the `bin_sums` of all rows."""
    rows, _, _ = sums.unbind(1)
    place = torch.arange(len(sums))
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64)
    if by == "mass":
        # A cell belongs to the bin that the middle one of its rows belongs to.
        middle = rows.cumsum(0) - rows / 2
        place = (middle * (bins / rows.sum())).long().clamp(max=bins - 1)
        edges = torch.linspace(-LIMIT, LIMIT, FINE + 1, dtype=torch.float64).sigmoid()
        edges[0], edges[-1] = 0, 1  # the last cells have no end
    full = rows > 0
    taken, cell = place[full], full.nonzero().squeeze(1)
    total = sums.new_zeros(bins, 3).index_add_(0, taken, sums[full])
    low = edges.new_ones(bins).scatter_reduce_(0, taken, edges[cell], "amin")
    high = edges.new_zeros(bins).scatter_reduce_(0, taken, edges[cell + 1], "amax")
    kept = total[:, 0] > 0
    rows, expected, clicks = total[kept].unbind(1)
    prediction = expected / rows
    table = {
        "low": low[kept],
        "high": high[kept],
        "rows": rows.long(),
        "prediction": prediction,
        "rate": clicks / rows,
        "standard_error": (prediction * (1 - prediction) / rows).sqrt(),
    }
    return pd.DataFrame({name: column.numpy() for name, column in table.items()})


def error_of(table: pd.DataFrame) -> float:
    """The expected calibration error of a table of `reliability`."""
    gaps = (table["prediction"] - table["rate"]).abs()
    return float((gaps * table["rows"]).sum() / table["rows"].sum())
