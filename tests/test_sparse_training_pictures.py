"""Chapter 08's pictures and widget: what they draw is what they were given."""

import numpy as np
import pytest

from dlrm_mini import style
from dlrm_mini import widgets as room
from dlrm_mini.course.figures import problems
from dlrm_mini.ladders.sparse_counts import moved, touched
from dlrm_mini.pictures import sparse_costs as costs
from dlrm_mini.pictures import sparse_training as pictures
from dlrm_mini.widgets.sparse_training import Touched

MOVED = {"dense Adam": 5e8, "dense SGD": 2e8, "sparse SGD": 1e6, "fused SGD": 6e5}


def words(axes) -> list[str]:
    return [text.get_text() for text in axes.texts if text.get_text()]


def title(axes) -> str:
    return axes.get_title(loc="left") or axes.get_title()


def widths(axes) -> list[float]:
    return [bar.get_width() for bar in axes.patches]


def test_bytes_are_said_as_a_person_would():
    assert [pictures.size(n) for n in (12, 950e3, 1.5e6, 2.161e9)] == [
        "12 B",
        "950 kB",
        "1.5 MB",
        "2.16 GB",
    ]


def test_a_star_for_every_row_touched_larger_the_more_lookups():
    counts = np.zeros(10_000, np.int64)
    counts[[7, 1234, 9999]] = 1, 64, 5
    figure = pictures.sky(counts, MOVED)
    left, right = figure.axes
    stars = left.collections[0]
    assert stars.get_offsets().tolist() == [[7, 0], [99, 99], [34, 12]]  # the brightest on top
    assert np.all(np.diff(stars.get_sizes()) > 0)
    assert title(left) == "10,000 rows; one batch touches 3"
    assert widths(right) == list(MOVED.values())
    assert words(right) == ["500 MB", "200 MB", "1 MB", "600 kB"]
    assert all(bar.get_hatch() for bar in right.patches)  # counted, not measured
    assert not problems(figure)


def test_the_gradient_is_drawn_by_lookup_by_row_and_whole():
    ids = [5, 2, 5]
    gradients = np.array([[1.0, 2.0], [3.0, 4.0], [10.0, 20.0]])
    figure = pictures.three_gradients(ids, gradients, 8)
    by_lookup, coalesced, dense = (
        np.asarray(axes.images[0].get_array()) for axes in figure.axes[:3]
    )
    assert by_lookup.tolist() == gradients.tolist()
    assert coalesced.tolist() == [[3, 4], [11, 22]]
    assert dense[2].tolist() == [3, 4] and dense[5].tolist() == [11, 22]
    assert not dense[[0, 1, 3, 4, 6, 7]].any()
    assert words(figure.axes[0]) == ["5", "2", "5"]
    assert title(figure.axes[2]) == "dense: 8 rows, 6 of zeros"
    assert not problems(figure)


def test_paths_say_whether_they_are_equal():
    dense = {"SGD": [1.0, 0.5, 0.5], "Adam": [1.0, 0.5, 0.2]}
    sparse = {"SGD": [1.0, 0.5, 0.5], "Adam": [1.0, 0.5, 0.5]}
    figure = pictures.paths(dense, sparse, [1])
    for axes, name, verdict in zip(figure.axes, dense, ("equal", "not equal"), strict=True):
        assert title(axes) == name and words(axes) == [verdict]
        assert list(axes.lines[0].get_ydata()) == dense[name]
        assert list(axes.lines[1].get_ydata()) == sparse[name]
    assert not problems(figure)


def test_states_stand_behind_the_weights():
    figure = pictures.kept({"weights": 2e9, "SGD": 0, "row-wise Adagrad": 1e8, "Adam": 4e9})
    axes = figure.axes[0]
    assert widths(axes) == pytest.approx([2, 0, 2, 0.1, 2, 4])
    assert [bar.get_x() for bar in axes.patches[1::2]] == [2, 2, 2]
    assert words(axes) == ["nothing", "+ 100 MB", "+ 4 GB", "weights, 2 GB"]
    assert not problems(figure)


def test_every_seed_is_a_dot():
    two = {"Adagrad": [0.8, 0.82], "row-wise Adagrad": [0.81, 0.83]}
    figure = pictures.accuracy({"real": two, "planted": two}, {"planted": 0.7})
    for axes, name in zip(figure.axes, ("real", "planted"), strict=True):
        assert title(axes) == name
        assert [list(line.get_xdata()) for line in axes.lines[:4:2]] == list(two.values())
        assert [line.get_xdata()[0] for line in axes.lines[1:4:2]] == pytest.approx([0.81, 0.82])
    assert len(figure.axes[0].lines) == 4 and set(figure.axes[1].lines[-1].get_xdata()) == {0.7}
    assert not problems(figure)


def test_times_are_drawn_in_milliseconds_beside_the_model():
    rows = [10_000, 1_000_000]
    seconds = {way: [0.001 * k, 0.002 * k] for k, way in enumerate(pictures.WAYS, start=1)}
    laws = {"flat": [0.001, 0.002], "zipf": [0.001, 0.001]}
    figure = costs.against_rows(rows, seconds, [0.1, 0.2], laws, machine="a machine", guess=30)
    left, right = figure.axes
    for line, values in zip(left.lines, seconds.values(), strict=False):
        assert list(line.get_ydata()) == pytest.approx([1e3 * value for value in values])
    model, guess = left.lines[-2:]
    assert list(model.get_ydata()) == [100, 200] and model.get_linestyle() != "-"
    assert list(guess.get_ydata()) == pytest.approx([30 * 1e3 * seconds["fused SGD"][-1]])
    assert [list(line.get_ydata()) for line in right.lines] == [[1, 2], [1, 1]]
    assert right.get_ylim()[0] == 0
    assert "a machine" in figure.get_supxlabel()
    assert not problems(figure)


def test_floors_are_hatched_and_times_solid():
    seconds = {"torch": 0.06, "slow": 0.09, "fast": 0.03}
    figure = costs.race(seconds, {"floor": 0.02}, "a machine", 4)
    axes = figure.axes[0]
    assert widths(axes) == pytest.approx([20, 60, 90, 30])
    assert [bool(bar.get_hatch()) for bar in axes.patches] == [True, False, False, False]
    assert words(axes)[:4] == ["20.0", "60.0", "90.0", "30.0 = 2.0 times as fast"]
    assert axes.lines[0].get_xdata()[0] == pytest.approx(60 / 4)
    assert "a machine" in figure.get_supxlabel()
    assert not problems(figure)


def test_the_widget_draws_the_formula():
    widget = Touched(100_000, 16)
    figure = widget.draw(1024, 10, 0.6)
    left, right = figure.axes
    distinct = touched(100_000, 10_240, 0.6)
    thick = next(line for line in left.lines if line.get_label() == "this exponent")
    for lookups, rows in thick.get_xydata()[::5]:
        assert rows == touched(100_000, lookups, 0.6)
    dot = next(line for line in left.lines if line.get_marker() == "o")
    assert dot.get_xydata().tolist() == [[10_240, distinct]]
    assert dot.get_color() == style.RED
    assert widths(right) == list(moved(100_000, 16, 1024, 10, distinct).values())
    assert title(left).startswith(f"10,240 lookups, {distinct:,.0f} rows")
    assert not problems(figure)


def test_the_widget_follows_its_controls():
    assert room._problem(Touched(1_000_000, 64).widget(2048, 100, 1.05)) is None
