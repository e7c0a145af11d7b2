"""Chapter 11's pictures: what they draw is what they were given, hatched where it is predicted."""

import numpy as np
import pytest
from matplotlib.colors import to_rgba

from dlrm_mini import style
from dlrm_mini.course.figures import problems
from dlrm_mini.pictures import gpu_steps as steps
from dlrm_mini.pictures import gpu_training as pictures
from dlrm_mini.profiling.asynchronous import Span

PARTS = {"embedding forward": 3.0, "top MLP": 1.0, "idle": 1.0}


def words(axes) -> list[str]:
    return [text.get_text() for text in axes.texts if text.get_text()]


def title(axes) -> str:
    return axes.get_title(loc="left") or axes.get_title()


def stars(axes) -> list[float]:
    return [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "*"]


def test_what_is_needed_is_to_scale_and_hatched():
    needs = [
        pictures.Need("products", 2.0, "counted so", style.ORANGE),
        pictures.Need("rows", 1.0, "and so", style.BLUE),
    ]
    figure = pictures.unexplained(60, needs, machine="a card", source="a paper")
    axes = figure.axes[0]
    boxes = [patch for patch in axes.patches if hasattr(patch, "get_width")]
    cells = [box for box in boxes if not box.get_hatch()]
    assert len(cells) == 60 and {box.get_width() for box in cells} == {0.88}
    hatched = [box for box in boxes if box.get_hatch()]
    assert [box.get_x() for box in hatched[::2]] == [0, 2]
    assert [box.get_width() for box in hatched[::2]] == [2, 1]  # as wide as so many cells
    assert hatched[1].get_width() == pytest.approx(2 * hatched[3].get_width())  # enlarged alike
    assert figure.get_suptitle() == "Where did 57 of 60 milliseconds go?"
    assert {"57 ms", "products: 2.0 ms", "counted so"} <= set(words(axes))
    shown = " ".join(text.get_text() for text in figure.texts)
    assert "a card" in shown and "a paper" in shown
    assert not problems(figure)


def test_both_clocks_start_with_the_first_launch():
    host, device = [Span(1.0, 1.001), Span(1.001, 1.002)], [Span(1.001, 1.003), Span(1.003, 1.005)]
    figure = pictures.two_clocks({"one": (host, device), "two": (host, device)}, machine="a GPU")
    for axes, name in zip(figure.axes, ("one", "two"), strict=True):
        assert title(axes) == name
        assert [bar.get_x() for bar in axes.patches] == pytest.approx([0, 1, 1, 3])
        assert [bar.get_width() for bar in axes.patches] == pytest.approx([1, 1, 2, 2])
        assert [round(bar.get_y() + 0.31) for bar in axes.patches] == [0, 0, 1, 1]
    assert "a GPU" in figure.get_supxlabel()
    assert not problems(figure)


def test_a_number_has_as_many_boxes_as_bits_and_zeros_are_left_out():
    gradients = np.array([0.0, 1e-9, 1e-6, 1e-6, 1e-2])
    figure = pictures.numbers({"some": gradients})
    left, right = figure.axes
    assert len(left.patches) == 32 + 16 + 16
    assert any("8 bits of precision" in text for text in words(left))
    (area,) = (p for p in right.patches if p.get_label() == "some")
    heights = np.unique(np.round(area.get_xy()[:, 1], 6))
    assert heights.tolist() == [0, 25, 50]  # per cent of the four that are not zero
    assert words(right) == ["becomes\nzero", "loses\nbits", "∞"]
    assert pictures.SMALLEST == 2.0**-24 and np.float16(pictures.SMALLEST / 2) == 0
    assert np.float16(pictures.SMALLEST) > 0 and np.isfinite(np.float16(pictures.LARGEST))
    assert not problems(figure)


def test_curves_are_smoothed_and_their_distance_is_a_share():
    reference = np.linspace(1, 0.5, 50)
    losses = {"float32": reference, "other": 1.01 * reference}
    figure = pictures.curves(losses, [1.1 * reference], machine="a machine", window=5)
    left, right = figure.axes
    by_label = {line.get_label(): line for line in left.lines}
    assert by_label["float32"].get_ydata() == pytest.approx(reference[2:-2])
    (far,) = (line for line in right.lines if line.get_label() == "other")
    assert far.get_ydata() == pytest.approx(np.full(46, 0.01))
    assert right.lines[0].get_ydata() == pytest.approx(np.full(46, 0.1))
    assert right.get_yscale() == "log" and "a machine" in figure.get_supxlabel()
    assert pictures.deviation(reference, reference, 5).max() > 0  # it can be drawn
    assert not problems(figure)


def test_a_ladder_is_solid_where_measured_and_hatched_where_predicted():
    here = steps.Ladder("here", {"naive": 8.0, "fused": 2.0}, {})
    sheet = steps.Ladder("sheet", {}, {"naive": 4.0, "fused": 2.0, "graphed": 1.0})
    both = steps.Ladder("both", {"fused": 3.0, "graphed": 2.0}, {"fused": 2.5})
    figure = steps.ladders([here, sheet, both], guess=10)
    left, middle, right = figure.axes
    assert [bar.get_width() for bar in left.patches] == [8, 2]
    assert not any(bar.get_hatch() for bar in left.patches)
    assert words(left) == ["8 ms", "2 ms, 4.0 times", "not tried here"]
    assert stars(left) == [0.8] and stars(middle) == [0.4] and stars(right) == pytest.approx([0.3])
    assert all(bar.get_hatch() for bar in middle.patches)
    assert words(middle)[2] == "1 ms, 4.0 times"
    hatched = [bar.get_width() for bar in right.patches if bar.get_hatch()]
    assert hatched == [2.5]
    assert words(right) == ["not tried here", "3 ms", "2 ms, 1.5 times"]
    assert [title(axes) for axes in figure.axes] == ["here", "sheet", "both"]
    assert not problems(figure)


def test_a_sweep_is_dashed_where_predicted():
    sweeps = {
        "sheet": steps.Sweep([10, 100], [1.0, 2.0], [0.9, 0.1], measured=False),
        "card": steps.Sweep([10, 100], [2.0, 4.0], None, measured=True),
    }
    figure = steps.batch_sweep(sweeps)
    left, right = figure.axes
    sheet, card = left.lines
    assert list(sheet.get_ydata()) == [100, 20] and list(card.get_ydata()) == [200, 40]
    assert sheet.is_dashed() and not card.is_dashed()
    assert list(right.lines[0].get_ydata()) == [90, 10]
    assert "card" not in [line.get_label() for line in right.lines]
    assert not problems(figure)


def test_a_thousand_batches_say_how_they_are_known():
    runs = [
        steps.Run("paper", 62.0, None, "published"),
        steps.Run("live", 500.0, PARTS, "extrapolated"),
        steps.Run("sheet", 2.0, PARTS, "predicted"),
    ]
    figure = steps.thousand_batches(runs, guess=10, of="a card", title="profile")
    left, right = figure.axes
    assert [bar.get_width() for bar in left.patches] == [62, 500, 2]
    assert [bool(bar.get_hatch()) for bar in left.patches] == [False, False, True]
    assert words(left) == ["62 s, published", "500 s, 1,000 times a step", "2 s, predicted"]
    assert [bar.get_facecolor() for bar in left.patches[:2]] == [
        to_rgba(style.INK), to_rgba(style.SKY),
    ]  # fmt: skip
    (guess,), (line,) = left.lines, right.lines
    assert set(guess.get_xdata()) == {10} and set(line.get_xdata()) == {steps.NEGLIGIBLE}
    said = {text.get_text() for text in figure.legends[0].get_texts()}
    assert {"your guess, a card", "negligible: below 10 %"} <= said
    assert left.get_xscale() == "log"
    assert words(right) == ["not known", "20 %", "20 %"]
    first = [bar for bar in right.patches if bar.get_x() == 0]
    assert [bar.get_width() for bar in first] == pytest.approx([0.2, 0.2])  # fully connected first
    assert figure.get_suptitle() == "profile"
    assert not problems(figure)
