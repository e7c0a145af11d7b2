"""Accumulators against the one-shot functions, scikit-learn and definitions written out slowly."""

import math
import pickle
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dlrm_mini import metrics
from dlrm_mini.errors import UserError
from dlrm_mini.metrics_streaming import (
    AUC,
    ECE,
    BinnedAUC,
    Calibration,
    LogLoss,
    NormalisedEntropy,
)

ALL = [LogLoss, NormalisedEntropy, AUC, BinnedAUC, Calibration, ECE, lambda: ECE(7, "mass")]
ONE_SHOT = [
    (LogLoss, metrics.logloss),
    (NormalisedEntropy, metrics.normalised_entropy),
    (AUC, metrics.auc),
    (Calibration, metrics.calibration),
    (ECE, metrics.expected_calibration_error),
    (
        lambda: ECE(4, "mass"),
        lambda z, y: metrics.expected_calibration_error(z, y, bins=4, by="mass"),
    ),
]
# Few distinct logits, so that ties are common, and some that are extreme.
rows = st.lists(
    st.tuples(st.integers(-3, 3) | st.floats(-30, 30, width=32), st.integers(0, 1)),
    min_size=2,
    max_size=60,
)


def tensors(pairs):
    logits, labels = zip(*pairs, strict=True)
    return torch.tensor(logits, dtype=torch.float32), torch.tensor(labels, dtype=torch.float32)


def generated(n, seed=0, spread=2.0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, generator=generator) * spread - 1
    return logits, torch.bernoulli((0.7 * logits).sigmoid(), generator=generator)


@settings(max_examples=60, deadline=None)
@given(pairs=rows, cuts=st.lists(st.integers(0, 60), max_size=5), workers=st.integers(1, 3))
def test_any_chunking_on_any_number_of_workers_is_the_one_shot_function(pairs, cuts, workers):
    logits, labels = tensors(pairs)
    assume(0 < labels.sum() < len(labels))
    ends = sorted({min(cut, len(labels)) for cut in cuts} | {0, len(labels)})
    ends = [0, *ends]  # the first chunk is empty
    for make, one_shot in ONE_SHOT:
        ranks = [make() for _ in range(workers)]
        for number, (first, last) in enumerate(pairwise(ends)):
            ranks[number % workers].update(logits[first:last], labels[first:last])
        for other in ranks[1:]:
            ranks[0].merge(pickle.loads(pickle.dumps(other)))  # as it comes from another process
        assert ranks[0].value() == pytest.approx(one_shot(logits, labels), rel=1e-12, abs=1e-15)


def test_scikit_learn_agrees():
    sklearn = pytest.importorskip("sklearn.metrics")
    calibration_curve = pytest.importorskip("sklearn.calibration").calibration_curve
    logits, labels = generated(50_000)
    logits = torch.where(torch.arange(50_000) % 3 > 0, logits, (logits * 4).round() / 4)  # ties
    probability = logits.double().sigmoid()
    accumulators = [AUC(), LogLoss(), ECE()]
    for accumulator in accumulators:
        for first in range(0, 50_000, 4096):
            accumulator.update(logits[first : first + 4096], labels[first : first + 4096])
    exact, loss, error = accumulators
    assert exact.value() == pytest.approx(sklearn.roc_auc_score(labels, logits), abs=1e-9)
    assert loss.value() == pytest.approx(sklearn.log_loss(labels, probability), abs=1e-9)
    rate, prediction = calibration_curve(labels, probability, n_bins=10)
    np.testing.assert_allclose(error.table()["rate"], rate, atol=1e-12)
    np.testing.assert_allclose(error.table()["prediction"], prediction, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(pairs=rows)
def test_binned_auc_is_within_its_bound(pairs):
    logits, labels = tensors(pairs)
    assume(0 < labels.sum() < len(labels))
    binned = BinnedAUC()
    binned.update(logits, labels)
    gap = abs(binned.value() - metrics.auc(logits, labels))
    assert gap <= binned.error_bound() + 1e-12


def test_binned_auc_counts_a_cell_as_a_tie_and_is_close():
    tied = BinnedAUC()
    tied.update(torch.tensor([0.50001, 0.50002, 20.0, 99.0]), torch.tensor([0.0, 1.0, 1.0, 0.0]))
    assert tied.value() == (0.5 + 0 + 1 + 0.5) / 4  # the last two lie beyond the limit
    assert tied.error_bound() == (0.5 + 0.5) / 4
    logits, labels = generated(200_000)
    binned = BinnedAUC()
    binned.update(logits, labels)
    assert binned.error_bound() < 1e-4
    assert binned.value() == pytest.approx(metrics.auc(logits, labels), abs=1e-5)


def naive_table(logits, labels, edges):
    """Rows, mean prediction and share of clicks between each two edges in probability."""
    found = []
    probability = 1 / (1 + np.exp(-logits.numpy().astype(np.float64)))
    for low, high in pairwise(edges):
        inside = (probability > low) & (probability <= high)
        if inside.any():
            clicks = labels.numpy()[inside].mean(dtype=np.float64)
            found.append((low, high, inside.sum(), probability[inside].mean(), clicks))
    return np.array(found)


@pytest.mark.parametrize("bins", [1, 3, 10, 64])
def test_bins_of_equal_width(bins):
    logits, labels = generated(5000, seed=bins)
    table = metrics.reliability(logits, labels, bins=bins)
    expected = naive_table(logits, labels, np.linspace(0, 1, bins + 1))
    np.testing.assert_allclose(table.iloc[:, :5].to_numpy(), expected, rtol=1e-12)
    _, _, n, prediction, rate = expected.T
    error = metrics.expected_calibration_error(logits, labels, bins=bins)
    assert error == pytest.approx((n * abs(prediction - rate)).sum() / 5000, rel=1e-12)
    np.testing.assert_allclose(
        table["standard_error"], np.sqrt(prediction * (1 - prediction) / n), rtol=1e-12
    )


def test_bins_of_equal_mass():
    logits, labels = generated(40_000)
    table = metrics.reliability(logits, labels, bins=8, by="mass")
    assert len(table) == 8 and table["rows"].sum() == 40_000
    assert abs(table["rows"] - 5000).max() < 50  # a cell in the middle holds about 8 rows
    quantiles = np.quantile(logits.double().sigmoid().numpy(), np.linspace(0, 1, 9))
    np.testing.assert_allclose(table["high"][:-1], quantiles[1:-1], atol=3e-4)
    assert table["low"][0] > 0 and (table["low"][1:].to_numpy() >= table["high"][:-1]).all()
    probability, clicks = logits.double().sigmoid().numpy(), labels.numpy()
    for _, row in table.iterrows():  # the rows are those between its ends
        inside = (probability >= row["low"]) & (probability < row["high"])
        assert inside.sum() == row["rows"]
        assert clicks[inside].mean() == pytest.approx(row["rate"])
        assert probability[inside].mean() == pytest.approx(row["prediction"])


def test_equal_predictions_share_a_bin_of_equal_mass():
    logits = torch.tensor([-2.0] * 70 + [1.0] * 20 + [3.0] * 10)
    labels = torch.arange(100) % 2
    table = metrics.reliability(logits, labels, bins=10, by="mass")
    assert table["rows"].tolist() == [70, 20, 10]
    np.testing.assert_allclose(table["prediction"], torch.tensor([-2.0, 1, 3]).double().sigmoid())
    halves = metrics.reliability(logits, labels, bins=2, by="mass")
    assert halves["rows"].tolist() == [70, 30]  # where the middle one of the 70 belongs


def test_known_calibration():
    """One half is promised; a quarter happens."""
    logits, labels = torch.zeros(8), torch.tensor([1.0, 1, 0, 0, 0, 0, 0, 0])
    assert metrics.calibration(logits, labels) == 2
    assert metrics.expected_calibration_error(logits, labels) == 0.25
    assert metrics.expected_calibration_error(logits, labels, by="mass") == 0.25


def test_the_state_does_not_grow_except_for_the_exact_auc():
    for make in ALL:
        one, logits_labels = make(), generated(1000)
        one.update(*logits_labels)
        size = len(pickle.dumps(one))
        for _ in range(3):
            one.update(*logits_labels)
        grows = len(pickle.dumps(one)) > size
        assert grows == isinstance(one, AUC), one


def test_sums_add_up_over_ranks_as_one_all_reduce():
    logits, labels = generated(1000)
    for make in (LogLoss, NormalisedEntropy, BinnedAUC, Calibration, ECE):
        whole, half, other = make(), make(), make()
        whole.update(logits, labels)
        half.update(logits[:300], labels[:300])
        other.update(logits[300:], labels[300:])
        half.sums = half.sums + other.sums
        assert half.value() == pytest.approx(whole.value(), rel=1e-13)


def test_what_was_given_may_change_afterwards():
    logits, labels = generated(100)
    before, exact = metrics.auc(logits, labels), AUC()
    exact.update(logits, labels)
    logits.zero_()
    labels.zero_()
    assert exact.value() == before


@pytest.mark.parametrize("make", ALL)
def test_nothing_taken_in_yet(make):
    accumulator = make()
    accumulator.update(torch.zeros(0), torch.zeros(0))
    with pytest.raises(UserError, match="No row was taken in yet"):
        accumulator.value()


@pytest.mark.parametrize("make", [NormalisedEntropy, AUC, BinnedAUC])
@pytest.mark.parametrize("kind", [0, 1])
def test_one_kind_of_label(make, kind):
    accumulator = make()
    accumulator.update(torch.zeros(3), torch.full((3,), float(kind)))
    with pytest.raises(UserError, match=f"All 3 labels are {kind}; expected clicks and rows"):
        accumulator.value()


def test_no_click_has_no_calibration():
    calibration = Calibration()
    calibration.update(torch.zeros(3), torch.zeros(3))
    for value in (calibration.value, lambda: metrics.calibration(torch.zeros(3), torch.zeros(3))):
        with pytest.raises(UserError, match="No label is 1"):
            value()


@pytest.mark.parametrize("make", ALL)
def test_a_bad_batch_leaves_nothing_behind(make):
    accumulator, (logits, labels) = make(), generated(100)
    accumulator.update(logits, labels)
    before = accumulator.value()
    for bad_logits, bad_labels, sentence in (
        (torch.tensor([0.0, math.nan]), torch.ones(2), "logit of row 1 of the batch is nan"),
        (torch.tensor([math.inf, 0.0]), torch.ones(2), "logit of row 0 of the batch is inf"),
        (torch.zeros(2), torch.tensor([1.0, 3.0]), "A label is 3"),
        (torch.zeros(2), torch.zeros(3), r"shape \(2,\) and the labels \(3,\)"),
        (torch.zeros(0), torch.zeros(3), r"shape \(0,\) and the labels \(3,\)"),
    ):
        with pytest.raises(UserError, match=sentence):
            accumulator.update(bad_logits, bad_labels)
    assert accumulator.value() == before


def test_only_the_same_kind_is_merged():
    for one, other in ((LogLoss(), Calibration()), (ECE(10), ECE(20)), (AUC(), BinnedAUC())):
        with pytest.raises(UserError, match="cannot be merged into"):
            one.merge(other)


@pytest.mark.parametrize("bins, by, sentence", [(0, "width", "bins is 0"), (5, "x", "by is 'x'")])
def test_other_bins(bins, by, sentence):
    with pytest.raises(UserError, match=sentence):
        ECE(bins, by)
    with pytest.raises(UserError, match=sentence):
        metrics.reliability(torch.zeros(2), torch.zeros(2), bins=bins, by=by)
    with pytest.raises(UserError, match="A logit is NaN"):
        metrics.reliability(torch.tensor([math.nan]), torch.ones(1))
