"""Metrics against the definition, written out slowly in float64."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dlrm_mini.errors import UserError
from dlrm_mini.metrics import auc, logloss, mae, normalised_entropy, rmse

numbers = st.floats(-50, 50, width=32)
# Few distinct scores, so that ties are common.
scored = st.lists(st.tuples(st.integers(-3, 3) | numbers, st.integers(0, 1)), min_size=1)


def tensors(pairs):
    scores, labels = zip(*pairs, strict=True)
    return torch.tensor(scores, dtype=torch.float32), torch.tensor(labels, dtype=torch.float32)


def naive_auc(scores: torch.Tensor, labels: torch.Tensor) -> float:
    """Every positive against every negative; a tie is half a win."""
    wins = [
        float(p > n) + 0.5 * float(p == n)
        for p in scores[labels == 1].tolist()
        for n in scores[labels == 0].tolist()
    ]
    return sum(wins) / len(wins) if wins else math.nan


def naive_logloss(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Mean of log(1 + exp(-z)) for clicks and log(1 + exp(z)) for the rest."""
    z = np.where(labels.numpy() == 1, -1.0, 1.0) * logits.numpy().astype(np.float64)
    return float(np.logaddexp(0, z).mean())


@given(st.lists(st.tuples(numbers, numbers), min_size=1))
def test_rmse_and_mae(pairs):
    prediction, label = tensors(pairs)
    error = prediction.numpy().astype(np.float64) - label.numpy().astype(np.float64)
    assert rmse(prediction, label) == pytest.approx(math.sqrt((error**2).mean()), rel=1e-12)
    assert mae(prediction, label) == pytest.approx(np.abs(error).mean(), rel=1e-12)


@given(scored)
def test_auc(pairs):
    scores, labels = tensors(pairs)
    assert auc(scores, labels) == pytest.approx(naive_auc(scores, labels), nan_ok=True)


@given(scored)
def test_logloss_and_normalised_entropy(pairs):
    logits, labels = tensors(pairs)
    assert logloss(logits, labels) == pytest.approx(naive_logloss(logits, labels))
    rate = float(labels.mean(dtype=torch.float64))
    if 0 < rate < 1:
        entropy = -rate * math.log(rate) - (1 - rate) * math.log(1 - rate)
        expected = naive_logloss(logits, labels) / entropy
        assert normalised_entropy(logits, labels) == pytest.approx(expected)


def test_known_values():
    clicks = torch.tensor([1.0, 1.0, 0.0, 0.0])
    assert auc(torch.tensor([0.9, 0.4, 0.4, 0.1]), clicks) == 0.875
    assert auc(torch.zeros(4), clicks) == 0.5
    assert logloss(torch.zeros(4), clicks) == pytest.approx(math.log(2))
    assert rmse(torch.tensor([1.0, 3.0]), torch.tensor([1.0, 5.0])) == pytest.approx(math.sqrt(2))
    assert mae(torch.tensor([1.0, 3.0]), torch.tensor([1.0, 5.0])) == 1


def test_predicting_the_share_of_clicks_has_an_entropy_of_1():
    labels = torch.tensor([1.0] * 3 + [0.0] * 7)
    constant = torch.full((10,), 3 / 7).log()
    assert normalised_entropy(constant, labels) == pytest.approx(1, rel=1e-6)


def test_extreme_logits_stay_exact():
    labels = torch.tensor([0.0, 1.0])
    assert logloss(torch.tensor([1000.0, 1000.0]), labels) == 500
    assert logloss(torch.tensor([-1000.0, 1000.0]), labels) == 0


def test_sums_are_float64():
    """In float32, a million and one numbers near 1e4 lose more than this test allows."""
    error = torch.full((1_000_001,), 1e4 + 1 / 64)
    expected = float(error[0].double())
    assert rmse(error, torch.zeros_like(error)) == pytest.approx(expected, rel=1e-13)
    assert mae(error, torch.zeros_like(error)) == pytest.approx(expected, rel=1e-13)


def test_auc_of_many_rows_is_exact():
    scores = torch.arange(200_000) % 1000
    labels = (torch.arange(200_000) % 2).float()  # odd scores click: each ties with its own kind
    assert auc(scores.float(), labels) == pytest.approx(500 * 501 / 2 / 500**2, rel=1e-12)


def test_gradients_are_left_alone():
    logits = torch.zeros(2, requires_grad=True)
    assert logloss(logits, torch.tensor([0.0, 1.0])) == pytest.approx(math.log(2))
    assert logits.grad is None


def test_one_kind_of_label():
    scores, labels = torch.tensor([0.1, 0.2]), torch.ones(2)
    assert math.isnan(auc(scores, labels))
    assert normalised_entropy(scores, labels) == math.inf


def test_a_prediction_that_is_not_a_number_shows():
    nan, labels = torch.tensor([0.1, math.nan]), torch.tensor([0.0, 1.0])
    assert math.isnan(rmse(nan, labels)) and math.isnan(logloss(nan, labels))
    with pytest.raises(UserError, match="A score is NaN"):
        auc(nan, labels)


@pytest.mark.parametrize("metric", [rmse, mae, logloss, auc, normalised_entropy])
def test_what_does_not_fit_is_refused(metric):
    with pytest.raises(UserError, match=r"shape \(3,\) and the labels \(2,\)"):
        metric(torch.zeros(3), torch.zeros(2))
    with pytest.raises(UserError, match=r"\(2, 1\) and the labels \(2, 1\)"):
        metric(torch.zeros(2, 1), torch.zeros(2, 1))
    with pytest.raises(UserError, match="no predictions to judge"):
        metric(torch.zeros(0), torch.zeros(0))


@pytest.mark.parametrize("metric", [logloss, auc, normalised_entropy])
def test_a_click_is_0_or_1(metric):
    with pytest.raises(UserError, match="A label is 4; expected 0"):
        metric(torch.zeros(2), torch.tensor([1.0, 4.0]))
