"""Chapter 12's pictures: what they draw is what they were given, and bytes add up."""

from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_rgb

from dlrm_mini import style
from dlrm_mini.course.figures import problems
from dlrm_mini.pictures import split_steps, the_split
from dlrm_mini.pictures.split_steps import STEPS

HOMES = {"user": 0, "item": 1, "hour": 1}
ROWS = [2, 3]


def words(axes) -> list[str]:
    return [text.get_text() for text in axes.texts if text.get_text()]


def bands(axes) -> list[tuple[float, float, float]]:
    """(left, top, bottom) of each share of rows drawn, logits among them."""
    inside = [p for p in axes.patches if p.get_width() == pytest.approx(0.84) and p.get_y() >= 0]
    return [(round(p.get_x() - 0.08, 6), p.get_y(), p.get_y() + p.get_height()) for p in inside]


def panel(number: int, rank: int):
    figure = split_steps.film(HOMES, ROWS, chosen=(number,))
    return figure.axes[rank]


def test_the_tower_is_to_scale():
    figure = the_split.tower({"small": 2e9, "large": 30e9}, 5e6, {"16 GB": 16e9})
    (axes,) = figure.axes
    heights = [bar.get_height() for bar in axes.patches]
    assert heights == pytest.approx([30, 2, 16, 0.005])
    assert axes.patches[1].get_y() == 30  # on top of the larger one
    title = axes.get_title(loc="left") or axes.get_title()  # as the style in use has it
    assert title == "32.0 GB of tables, and what one device holds"
    assert "large: 30.0 GB" in words(axes) and "0 more: 0.0 GB" in words(axes)
    assert any("5.0 MB" in text for text in words(axes))
    assert not problems(figure)


def test_a_matrix_sits_on_the_cheaper_way():
    sizes = [1.0, 10.0, 100.0]
    lines = {"all": [1.0, 10.0, 100.0], "touched": [2.0, 9.0, 20.0], "split": [10.0] * 3}
    figure = the_split.crossing(sizes, lines, {"embeddings": [1, 100], "fully connected": [10]}, 10)
    (axes,) = figure.axes
    tables, layers = axes.lines[3:5]
    assert list(tables.get_ydata()) == pytest.approx([1, 10])
    assert list(layers.get_ydata()) == pytest.approx([10])
    assert tables.get_color() == style.GROUP_COLOURS["embeddings"]
    assert axes.lines[5].get_xdata()[0] == 10
    assert not problems(figure)


@pytest.mark.parametrize("number", range(len(STEPS)))
@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_has_its_rows_or_its_tables(number, rank):
    step, found = STEPS[number], bands(panel(number, rank))
    ends = [0, *accumulate(ROWS)]
    if step.kind == "MLP gradients":
        assert not found
        return
    if step.kind == "logits":
        assert len(found) == 1 and found[0][0] > len(HOMES)
        return
    own = {place for place, home in enumerate(HOMES.values()) if home == rank}
    places = {left for left, *_ in found}
    if step.by == "rows":
        assert places == {0, 1, 2} and len(found) == 3
        assert all(ends[rank] < top < bottom < ends[rank + 1] for _, top, bottom in found)
    else:
        assert places == own and len(found) == len(own) * len(ROWS)


def test_a_colour_is_the_home_of_a_table():
    expected = {place: to_rgb(split_steps.RANKS[home]) for place, home in enumerate(HOMES.values())}
    for number in (0, 2, 3, 6):
        for rank in (0, 1):
            shares = [
                p for p in panel(number, rank).patches if p.get_width() == pytest.approx(0.84)
            ]
            for share in shares:
                if share.get_y() >= 0:  # not one of the black marks above
                    assert share.get_facecolor()[:3] == expected[round(share.get_x() - 0.08)]


def test_bytes_sent_by_hand():
    ids, vectors, gradients = (split_steps.sent(n, HOMES, ROWS, 4, 100) for n in (1, 3, 6))
    assert ids == [[0, 16 * 2 * 2], [16 * 3 * 1, 0]]  # rank 0: two rows for two tables
    assert gradients == [[0, 16 * 2 * 2], [16 * 3 * 1, 0]]  # four numbers of four bytes
    assert vectors == np.transpose(gradients).tolist()
    assert split_steps.sent(7, HOMES, ROWS, 4, 100) == [[0, 100], [100, 0]]
    for number in (0, 2, 4, 5):
        assert not np.any(split_steps.sent(number, HOMES, ROWS, 4, 100))


@given(st.lists(st.integers(0, 9), min_size=1, max_size=8), st.integers(1, 8))
def test_gradients_go_the_way_the_vectors_came(rows, tables):
    homes = {str(place): place * len(rows) // tables for place in range(tables)}
    there, back = (np.array(split_steps.sent(n, homes, rows, 8, 64)) for n in (3, 6))
    assert (there == back.T).all() and not there.diagonal().any()
    ring = np.array(split_steps.sent(7, homes, rows, 8, 64))
    assert ring.sum() == pytest.approx(2 * (len(rows) - 1) * 64)


def test_a_step_shows_its_parcels_and_all_totals():
    figure = split_steps.step_and_bytes(3, HOMES, ROWS, 4, 100)
    matrix, bars = figure.axes[2:]
    assert words(matrix) == ["48 B", "64 B"]
    assert [bar.get_width() for bar in bars.patches] == [0, 112, 0, 112, 0, 0, 112, 200]
    assert bars.patches[3].get_facecolor() != bars.patches[6].get_facecolor()
    assert not problems(figure)


def test_the_film_has_a_row_for_each_step_and_a_column_for_each_rank():
    figure = split_steps.film(HOMES, ROWS, chosen=(0, 1, 3))
    assert len(figure.axes) == 6 and not problems(figure)
    key = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "ids" in key and "vectors" in key
    said = [text for axes in figure.axes for text in words(axes)]
    assert said == [STEPS[0].words, STEPS[1].words, STEPS[3].words, "rank 0", "rank 1"]


def test_losses_moves_and_gaps_are_those_given():
    figure = the_split.losses({"one": [3.0, 2.0], "four": [3.0, 1.0]})
    assert [list(line.get_ydata()) for line in figure.axes[0].lines] == [[3, 2], [3, 1]]
    assert not problems(figure)

    figure = the_split.moved({"tables.tables.user": {2: 2.0, 4: 4.0}, "top.0.bias": {2: 1, 4: 1}})
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["top.0.bias", "user"]
    assert [list(line.get_xdata()) for line in axes.lines] == [[1, 2], [1, 4]]
    assert not problems(figure)

    figure = the_split.parity({"sgd": {1: 0.0, 2: 1e-15}, "the mistake": {1: 0.0, 2: 0.5}})
    (axes,) = figure.axes
    right, wrong = (line for line in axes.lines if len(line.get_xdata()) == 2)
    assert list(right.get_ydata()) == pytest.approx([np.nan, 1e-15], nan_ok=True)
    assert wrong.get_ydata()[1] == 0.5 and words(axes) == ["exactly 0"] * 2
    assert wrong.get_color() == style.INK != right.get_color()
    assert not problems(figure)


def test_a_run_that_diverged_is_said_and_not_drawn():
    figure = the_split.harm({0.1: [0.7, 0.8], 0.4: [0.9, 0.7], 1.6: [float("nan"), 0.7]})
    (axes,) = figure.axes
    mean = next(line for line in axes.lines if line.get_label() == "mean over seeds")
    assert list(mean.get_ydata()) == pytest.approx([0.75, 0.8])
    assert words(axes) == ["diverges"]
    assert not problems(figure)
    healthy = the_split.harm({0.1: [0.7], 0.4: [0.8]})
    assert words(healthy.axes[0]) == []
