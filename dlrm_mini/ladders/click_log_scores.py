"""How chapter 07 scores: against the true chances of a generated log, not against drawn labels."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from dlrm_mini.datasets.batches import Batch
from dlrm_mini.datasets.criteo_columns import OUT_OF_VOCABULARY

LOW, WIDTH, BINS = -8.0, 0.1, 160  # of `histogram`
MANY = 3  # unknown ids in a row, and more


def expected(logits: Tensor, chance: Tensor) -> dict[str, float]:
    """Scores of predictions, expected over the labels that the true chances could have drawn.

    The luck of the test rows' labels is gone: no model scores better than the chances themselves.

    Args:
        logits: (T,) log-odds of a click.
        chance: (T,) float64, the true probability.

    Returns:
        auc, logloss in nats, ne, and calibration: clicks promised over clicks expected.
    """
    logits, rate = logits.double(), chance.mean()
    loss = functional.binary_cross_entropy_with_logits(logits, chance)
    return {
        "auc": expected_auc(logits, chance),
        "logloss": float(loss),
        "ne": float(loss / (torch.special.entr(rate) + torch.special.entr(1 - rate))),
        "calibration": float(logits.sigmoid().mean() / rate),
    }


def expected_auc(scores: Tensor, chance: Tensor) -> float:
    """The AUC expected over the labels.

    Of all ordered pairs of rows, weighted with the chance p_i (1 - p_j) that the first clicks and
    the second does not, the share in which the first is scored higher; a tie counts one half.

    Args:
        scores: (T,) higher where a click is likelier.
        chance: (T,) float64, p.
    """
    _, place = torch.unique(scores, return_inverse=True)  # in rising order
    clicks, others = (torch.bincount(place, weight) for weight in (chance, 1 - chance))
    alone = chance * (1 - chance)  # a row makes no pair with itself
    ties = clicks * others - torch.bincount(place, alone)
    below = others.cumsum(0) - others
    pairs = clicks.sum() * others.sum() - alone.sum()
    return float(((clicks * below).sum() + ties.sum() / 2) / pairs)


def recovered(found: float, start: float, best: float) -> float:
    """The share of the way from `start` to `best` that `found` has covered."""
    return (found - start) / (best - start)


def histogram(logits: Tensor, chance: Tensor) -> dict[str, Any]:
    """How many clicks and other rows to expect in each bin of the logits, as thousandths of all.

    Args:
        logits: (T,) of a model; those beyond the bins count in the first or the last.
        chance: (T,) float64, the true probability of a click.
    """
    place = ((logits - LOW) / WIDTH).long().clamp(0, BINS - 1)
    counted = {
        name: [
            round(float(one), 4) for one in torch.bincount(place, weight, BINS) * 1000 / len(logits)
        ]
        for name, weight in (("clicks", chance), ("others", 1 - chance))
    }
    return {"low": LOW, "width": WIDTH, **counted}


def unknown(test: Batch, logits: Tensor, chance: Tensor) -> list[dict[str, float]]:
    """Where the loss is: of the rows with 0, 1, 2 and more ids that are out of vocabulary.

    Args:
        test: T rows with the ids of `click_log_ids.frequent`.
        logits: (T,) of a model.
        chance: (T,) float64, the true probability of a click.

    Returns:
        For each number of such ids: the share of rows, and their mean logloss above the best.
    """
    names = test.sparse.names
    number = torch.stack([test.sparse.ids(name) == OUT_OF_VOCABULARY for name in names]).sum(0)
    number = number.clamp(max=MANY)
    loss = functional.binary_cross_entropy_with_logits
    best = loss(chance.logit(), chance, reduction="none")
    excess = loss(logits.double(), chance, reduction="none") - best
    return [
        {"ids": many, "rows": float(rows.double().mean()), "excess": float(excess[rows].mean())}
        for many, rows in ((many, number == many) for many in range(MANY + 1))
    ]
