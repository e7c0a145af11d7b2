"""How good predictions are: rmse, mae for ratings; logloss, AUC, normalised entropy for clicks.

All take two tensors (B,) on any device and sum in float64, so that a million rows lose no digits.
"""

import torch
from torch import Tensor
from torch.nn import functional

from dlrm_mini.errors import UserError


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


def _click_pair(prediction: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
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
    return float(functional.binary_cross_entropy_with_logits(*_click_pair(logits, labels)))


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
    values, clicks = _click_pair(scores, labels)
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
