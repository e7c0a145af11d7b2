"""Chapter 07's pictures and widgets: what they draw is what they were given."""

import numpy as np
import pytest
import torch

from dlrm_mini import measurements, metrics
from dlrm_mini import widgets as room
from dlrm_mini.course.figures import problems
from dlrm_mini.ladders.click_log_scores import expected, histogram
from dlrm_mini.pictures import click_logs as pictures
from dlrm_mini.pictures import click_promises
from dlrm_mini.widgets import click_logs as widgets


@pytest.fixture(scope="module")
def record():
    return measurements.read("click_log")["results"]


@pytest.fixture(scope="module")
def rows():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(50_000, generator=generator, dtype=torch.float64) * 1.5 - 1
    return logits, logits.sigmoid()


def words(axes) -> list[str]:
    return [text.get_text() for text in axes.texts if text.get_text()]


def title(axes) -> str:
    return axes.get_title(loc="left") or axes.get_title()


def line(axes, label):
    return next(one for one in axes.lines if one.get_label() == label)


def test_the_row_is_drawn_field_by_field():
    names = ["label", *(f"I{n}" for n in range(1, 14)), *(f"C{n}" for n in range(1, 27))]
    raw = ["" if n % 7 == 3 else f"raw{n}" for n in range(40)]
    seen = [f"seen{n}" for n in range(40)]
    figure = pictures.raw_and_seen(names, raw, seen)
    axes = figure.axes[0]
    places = {text.get_text(): text.get_position() for text in axes.texts}
    for number, name in enumerate(names):
        x, y = places[name]
        assert places[f"seen{number}"][0] == x and places[f"seen{number}"][1] > y
        if raw[number]:
            assert places[f"raw{number}"][0] == x
    assert words(axes).count("missing") == raw.count("")
    corners = {places[name] for name in names}
    assert len(corners) == 40  # no two in one place
    assert not problems(figure)


def test_the_tail_draws_counts_by_rank_and_stacked_shares():
    fields = {"a": np.array([100, 20, 5, 1]), "b": np.array([9, 1])}
    every = np.array([[0.5, 0.2, 0.3], [0.1, 0.2, 0.7]])
    figure = pictures.long_tail(fields, every, 10)
    left, right = figure.axes
    for name, counts in fields.items():
        drawn = line(left, f"{name}: {len(counts):,} ids")
        assert drawn.get_ydata().tolist() == counts.tolist()
        assert drawn.get_xdata().tolist() == list(range(1, len(counts) + 1))
    assert [bar.get_height() for bar in right.patches] == pytest.approx(every.T.ravel())
    tops = [bar.get_y() + bar.get_height() for bar in right.patches[-2:]]
    assert tops == pytest.approx([1, 1])
    assert words(right) == ["50%", "10%", "20%", "20%", "30%", "70%"]
    assert not problems(figure)


def test_the_collisions_are_the_records(record):
    explorer = widgets.Collisions(record, 0.4)
    for one in record["buckets"]:
        counted = explorer.draw(one["buckets"], "different values")
        left, right = counted.axes
        fields = sorted(one["fields"].values(), key=lambda field: field["values"])
        assert [b.get_height() for b in left.patches] == [field["counted"] for field in fields]
        assert list(line(left, "birthday formula").get_ydata()) == [
            field["expected"] for field in fields
        ]
        assert set(line(left, "your guess").get_ydata()) == {0.4}
        lookups = explorer.draw(one["buckets"], "lookups").axes[0]
        assert [b.get_height() for b in lookups.patches] == [field["lookups"] for field in fields]
        ring = right.lines[-2]  # then the optimum
        assert ring.get_xydata().tolist() == [[one["used_rows"], one["ne"]]]
        assert not problems(counted)
    curve = line(right, "hashed").get_xydata()
    assert curve.tolist() == [[one["used_rows"], one["ne"]] for one in record["buckets"]]
    assert set(right.lines[-1].get_ydata()) == {record["optimum"]["ne"]}


def test_reliability_draws_promises_against_shares(rows):
    logits, chance = rows
    labels = (torch.rand(len(chance), generator=torch.Generator().manual_seed(1)) < chance).float()
    tables = {
        name: metrics.reliability(z, labels) for name, z in (("as is", logits), ("up", logits + 1))
    }
    figure = click_promises.reliability({name: (of, {"AUC": 0.5}) for name, of in tables.items()})
    for axes, (name, table) in zip(figure.axes, tables.items(), strict=True):
        assert title(axes) == name and not words(axes)  # nothing written over the dots
        assert axes.get_xlabel().splitlines() == ["promised", "AUC 0.500"]
        dots = axes.collections[-1].get_offsets()
        np.testing.assert_allclose(dots, table[["prediction", "rate"]].to_numpy())
    calibrated, optimist = (axes.collections[-1].get_offsets() for axes in figure.axes)
    assert np.abs(calibrated[:, 0] - calibrated[:, 1]).max() < 0.05
    assert (optimist[:, 0] > optimist[:, 1]).all()
    assert not problems(figure)


def test_a_shift_keeps_kinds_and_changes_their_shares(rows):
    logits, chance = rows
    shift = click_promises.Shift(histogram(logits, chance))
    assert shift.rate == pytest.approx(float(chance.mean()), abs=1e-4)
    home = shift.scores(0.4, shift.rate, told=True)
    truth = expected(logits, chance)
    assert home["calibration"] == pytest.approx(truth["calibration"], abs=0.01)
    acted = chance[logits.sigmoid() > 0.4]
    assert home["precision"] == pytest.approx(float(acted.mean()), abs=0.01)
    assert home["recall"] == pytest.approx(float(acted.sum() / chance.sum()), abs=0.02)
    for rate in (0.02, 0.1, 0.5):
        assert shift.scores(0.4, rate, told=True)["calibration"] == pytest.approx(1, abs=0.01)
        untold = shift.scores(0.4, rate, told=False)
        assert (untold["calibration"] > 1) is (rate < shift.rate)
        assert untold["recall"] == pytest.approx(home["recall"])  # clicks look as they did
        odds = home["precision"] / (1 - home["precision"])
        odds *= rate / (1 - rate) / (shift.rate / (1 - shift.rate))
        assert untold["precision"] == pytest.approx(odds / (1 + odds))


def test_the_shift_is_drawn_with_its_scores(rows):
    widget = widgets.PriorShift(histogram(*rows))
    for told in (False, True):
        figure = widget.draw(0.3, 0.05, told)
        left, right = figure.axes
        for patch in left.patches:  # each kind by itself
            assert patch.get_data().values.sum() == pytest.approx(1)
        assert [text.get_text() for text in left.get_legend().get_texts()] == [
            "other rows",
            "clicks",
        ]
        dashed = next(one for one in left.lines if one.get_linestyle() == "--")
        assert set(dashed.get_xdata()) == {0.3}
        scores = widget.shift.scores(0.3, 0.05, told=told)
        assert title(left) == ", ".join(f"{n} {v:.2f}" for n, v in scores.items())
        for name, value in scores.items():
            drawn = line(right, name)
            nearest = np.abs(drawn.get_xdata() - 0.05).argmin()
            assert drawn.get_ydata()[nearest] == pytest.approx(value, rel=0.15)
        assert not problems(figure)


def test_the_learning_curve_is_the_records(record):
    figure = pictures.learning_curve(record, prediction=0.7)
    left, right = figure.axes
    rows = [part["rows"] for part in record["curve"]]
    for label, model in (("logistic regression", "lr"), ("DLRM", "dlrm")):
        of = [part[model] for part in record["curve"]]
        auc = [np.mean([one["auc"] for one in seeds]) for seeds in of]
        assert line(left, label).get_xydata().ravel() == pytest.approx(
            [value for point in zip(rows, auc, strict=True) for value in point]
        )
        best = record["optimum"]["logloss"]
        excess = [np.mean([one["logloss"] - best for one in seeds]) for seeds in of]
        assert line(right, label).get_ydata() == pytest.approx(excess)
        low, high = right.get_ylim()
        assert low < min(excess) and max(excess) < high
    ends = {one["auc"] for part in record["curve"] for one in part["dlrm"]}
    band = left.collections[-1].get_paths()[0].vertices[:, 1]
    assert {min(ends), max(ends)} <= set(band.tolist())
    best, first, guess = left.lines[-3:]
    assert set(best.get_ydata()) == {record["optimum"]["auc"]}
    assert set(first.get_ydata()) == {record["additive"]["auc"]}
    assert guess.get_xydata().tolist() == [[record["log"]["train_rows"], 0.7]]
    assert not problems(figure)


def test_the_loss_by_unknown_ids_is_the_records(record):
    figure = pictures.unknown(record)
    axes = figure.axes[0]
    for label, model in (("logistic regression", "lr"), ("DLRM", "dlrm")):
        wanted = [group["excess"] for group in record["unknown"][model]]
        assert line(axes, label).get_ydata().tolist() == wanted
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels[-1].startswith("3 or more\n") and labels[0].startswith("0\n")
    assert labels[0].endswith(f"{record['unknown']['dlrm'][0]['rows']:.1%}")
    assert not problems(figure)


def test_the_widgets_follow_their_controls(record):
    for widget in (
        widgets.Collisions(record, 0.4).widget(1000),
        widgets.PriorShift(record["histograms"]["dlrm"]).widget(0.3, 0.05),
    ):
        assert room._problem(widget) is None
