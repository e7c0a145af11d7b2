"""Chapter 01's pictures and widgets draw what they say they draw."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_rgba

from dlrm_mini import style, widgets
from dlrm_mini.course import figures
from dlrm_mini.datasets.movielens import GENRES, MovieLens
from dlrm_mini.datasets.splits import Split
from dlrm_mini.models.baselines import fit_biases
from dlrm_mini.pictures import the_data as pictures
from dlrm_mini.widgets import the_data

N_USERS, N_ITEMS = 120, 150


@pytest.fixture(scope="module")
def ml() -> MovieLens:
    """Made-up ratings: user u rates the first movies, fewer the higher u, one a minute."""
    counts = np.linspace(100, 20, N_USERS).astype(int)
    user = np.repeat(np.arange(N_USERS), counts)
    item = np.concatenate([np.arange(n) for n in counts])
    rating = 1 + (user + item) % 5
    return MovieLens(
        user=torch.from_numpy(user),
        item=torch.from_numpy(item),
        rating=torch.from_numpy(rating).float(),
        timestamp=torch.arange(len(user)) * 60,
        users=pd.DataFrame({"age": 30, "gender": "F", "occupation": "o"}, range(N_USERS)),
        movies=pd.DataFrame({"title": [f"Movie {i}" for i in range(N_ITEMS)], "year": 1990}),
        genres=np.eye(len(GENRES), dtype=np.uint8)[np.arange(N_ITEMS) % len(GENRES)],
        source="made up",
    )


def biases(ml):
    return fit_biases(ml.examples(), N_USERS, N_ITEMS, shrink_user=1, shrink_item=1)


def complete(figure) -> bool:
    return figures.problems(figure) == []


def test_ranks_put_the_largest_first_and_ties_in_order():
    assert pictures.ranks(np.array([2, 5, 2, 9])).tolist() == [2, 1, 3, 0]


def test_filled_judges_a_cut_block_by_the_cells_it_has():
    rows, columns = np.array([0, 0, 2]), np.array([0, 1, 2])
    percent = pictures.filled(rows, columns, (3, 3), (2, 2))
    assert percent.tolist() == [[50, 0], [0, 100]]


def test_the_sorted_half_of_the_matrix_is_darkest_in_its_corner(ml):
    figure = pictures.rating_matrix(ml, mark=10)
    image = np.asarray(figure.axes[1].images[0].get_array())
    assert image[0, 0] == 100 and image[-1, -1] == 0
    assert complete(figure)


def test_the_reader_guess_and_the_measured_share_are_where_they_belong():
    items = np.array([60, 20, 10, 10])
    figure = pictures.share_curve(items, items, top=1, guess=0.4)
    points = [line.get_xydata()[0].tolist() for line in figure.axes[0].lines[-2:]]
    assert points == [[25, 60], [25, 40]]  # one movie of four: 60 % measured, 40 % guessed
    assert complete(figure)


def test_the_fitted_line_is_drawn_where_it_was_fitted():
    items = np.sort(np.random.default_rng(0).integers(1, 500, 1682))[::-1]
    figure = pictures.rank_frequency(items, items, (-0.5, 6.0), (10, 100))
    solid = next(li for li in figure.axes[0].lines if li.get_label().startswith("line fitted"))
    rank, count = solid.get_xydata()[[0, -1]].T
    assert rank.tolist() == [10, 100]
    np.testing.assert_allclose(count, np.exp(6.0) * rank**-0.5)
    assert complete(figure)


def test_bags_show_every_id_and_every_offset():
    figure = pictures.bags({"a": [3, 0], "b": [], "c": [1]}, GENRES)
    shown = [text.get_text() for text in figure.axes[0].texts]
    assert [text for text in shown if text.isdigit()] == ["3", "0", "0", "2", "1", "2", "3"]
    assert complete(figure)


def test_split_histories_paint_the_test_rows_red(ml):
    last = torch.zeros(len(ml.user), dtype=torch.bool)
    last[ml.user == N_USERS - 4] = True  # the last of the users drawn, in the order of arrival
    rows = torch.arange(len(ml.user))
    split = Split(rows[~last], rows[last])
    figure = pictures.split_histories(ml, {"one": split, "two": split})
    image = figure.axes[0].images[0]
    values = np.asarray(image.get_array())
    assert values[-1].all() and not values[:-1].any()
    assert image.cmap(image.norm(1)) == to_rgba(style.RED)
    assert complete(figure)


def test_error_by_support_draws_one_line_a_part():
    errors = {"train own": [1.0, 2.0], "test own": [2.0, 3.0], "train other": [3.0, 4.0]}
    figure = pictures.error_by_support(errors, ["0", "1+"])
    lines = figure.axes[0].lines
    assert [line.get_ydata().tolist() for line in lines] == list(errors.values())
    assert lines[0].get_color() == lines[1].get_color() != lines[2].get_color()
    assert complete(figure)


@pytest.mark.parametrize("order", the_data.ORDERS.values())
@pytest.mark.parametrize("zoom", the_data.ZOOMS)
def test_each_window_of_the_matrix_is_complete(ml, order, zoom):
    browser = the_data.MatrixBrowser(ml)
    for user, movie in ((0, 0), (N_USERS, N_ITEMS)):
        assert complete(browser.draw(order, zoom, user, movie))


def test_a_window_shows_the_ratings_in_it(ml):
    browser = the_data.MatrixBrowser(ml)
    window = np.asarray(browser.draw("id", 64, user=6, movie=7).axes[0].images[0].get_array())
    assert window.tolist() == [[1 + (u + i) % 5 for i in (7, 8, 9)] for u in (6, 7)]


def test_a_window_stays_inside_the_matrix(ml):
    browser = the_data.MatrixBrowser(ml)
    image = browser.draw("id", 64, user=N_USERS, movie=N_ITEMS).axes[0].images[0]
    assert image.get_extent() == [N_ITEMS - 3, N_ITEMS, N_USERS, N_USERS - 2]
    assert np.asarray(image.get_array()).shape == (2, 3)


def test_each_order_is_a_permutation(ml):
    browser = the_data.MatrixBrowser(ml)
    for order in the_data.ORDERS.values():
        assert sorted(browser.movies[order]) == list(range(N_ITEMS))
        assert np.count_nonzero(browser.matrices[order]) == len(ml.rating)


def test_a_meeting_states_biases_and_the_truth(ml):
    model = biases(ml)
    meeting = the_data.Meeting(ml, model)
    figure = meeting.draw(movie=0, user=3)
    words = figure.texts[0].get_text()
    expected = model.mean + model.user_bias[3] + model.item_bias[0]
    assert f"= {expected:.2f}" in words and "gave it 4" in words
    assert complete(figure)
    assert "has not rated it" in meeting.draw(movie=99, user=3).texts[0].get_text()


def test_a_histogram_counts_each_star():
    found = the_data._histograms(np.array([0, 0, 1]), np.array([1, 5, 5]), 2)
    assert found.tolist() == [[1, 0, 0, 0, 1], [0, 0, 0, 0, 1]]


def test_the_widgets_are_alive(ml, monkeypatch):
    monkeypatch.setattr(widgets, "_shown", [])
    monkeypatch.setattr(the_data, "STAR_WARS", 0)
    monkeypatch.setattr(the_data, "HARSH", 0)
    meeting, browser = the_data.Meeting(ml, biases(ml)), the_data.MatrixBrowser(ml)
    for widget in (the_data.browse_the_matrix(browser), the_data.meet(meeting)):
        widget._repr_mimebundle_()
    assert {found["problem"] for found in json.loads(widgets.probe())} == {None}
