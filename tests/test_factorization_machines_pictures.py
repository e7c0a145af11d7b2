"""Chapter 03's pictures and widgets: columns, triangles, pushes that add up, switches."""

import re
from itertools import combinations

import numpy as np
import pytest
import torch

from dlrm_mini.datasets import movielens, splits
from dlrm_mini.datasets.rating_features import GROUPS, rating_features
from dlrm_mini.datasets.sparse import SparseFeatures
from dlrm_mini.ladders.history import HistoryMachine
from dlrm_mini.models.factorization_machine import FactorizationMachine
from dlrm_mini.pictures import factorization_machines as pictures
from dlrm_mini.widgets import factorization_machines as widgets


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_a_block_has_the_columns_that_are_used_and_the_weights():
    ids, offsets = torch.tensor([4, 2, 2]), torch.tensor([0, 2, 2, 3])
    weights = torch.tensor([0.5, 1.0, 3.0])
    sparse = SparseFeatures.from_columns({"genres": (ids, offsets, weights)})
    block = pictures.block(sparse, "genres", list("abcdef"))
    assert (block.columns, block.width) == (["c", "e"], 6)
    assert block.values.tolist() == [[1.0, 0.5], [0.0, 0.0], [3.0, 0.0]]


def test_every_entry_of_the_design_matrix_is_written():
    values = np.array([[1.0, 0.0], [0.0, 0.25], [1.0, 1.0]])
    block = pictures.Block("genres", 19, ["War", "Drama"], values)
    figure = pictures.design_matrix([block], ["a", "b", "c"])
    assert sorted(texts(figure.axes[0])) == ["0.25", "1", "1", "1", "genres\n2 of 19"]


def test_the_triangle_is_half_of_the_square_less_the_diagonal():
    z = np.random.default_rng(0).normal(size=(5, 3))
    figure = pictures.square_and_triangle(z @ z.T, list("abcde"))
    titles = [axes.get_title(loc="left") or axes.get_title() for axes in figure.axes]
    square, diagonal, triangle = (float(title.split(": ")[1]) for title in titles)
    assert triangle == pytest.approx((square - diagonal) / 2, abs=2e-4)
    by_hand = sum(z[j] @ z[k] for j, k in combinations(range(5), 2))
    assert triangle == pytest.approx(by_hand, abs=1e-4)


def test_timing_draws_ratios_and_both_expectations():
    seconds = {"slow": [1.0, 4.0, 16.0], "middle": [1.0, 2.0, 6.0], "identity": [1.0, 2.0, 4.0]}
    figure = pictures.timing([2, 4, 8], seconds, at=8, counted=3.5, prediction=9.0)
    lines = {line.get_label(): line for line in figure.axes[1].lines}
    assert lines["slow"].get_ydata().tolist() == [1.0, 2.0, 4.0]
    assert lines["middle"].get_ydata().tolist() == [1.0, 1.0, 1.5]
    for label, value in (("by counting operations", 3.5), ("your guess", 9.0)):
        assert (lines[label].get_xdata()[0], lines[label].get_ydata()[0]) == (8, value)


def made_pushes(n=5):
    generator = np.random.default_rng(3)
    pairs = generator.normal(size=(n, n))
    return generator.normal(size=n), pairs + pairs.T


def test_the_pushes_add_up_to_the_prediction():
    linear, pairs = made_pushes()
    prediction = 3.5 + linear.sum() + np.triu(pairs).sum()
    figure = pictures.interaction_matrix(
        list("abcde"), linear, pairs, bias=3.5, groups=[0, 0, 1, 1, 2], title="x", truth=4.0
    )
    matrix, waterfall = figure.axes
    drawn = np.asarray(matrix.images[0].get_array().filled(0.0))
    assert 3.5 + drawn.sum() == pytest.approx(prediction)
    assert np.count_nonzero(drawn) == 5 + 15  # each pair once
    names = [tick.get_text() for tick in waterfall.get_yticklabels()]
    assert names[:3] == [
        "the user's side by itself",
        "the movie's side by itself",
        "the time's side by itself",
    ]
    own = linear[:2].sum() + pairs[0, 0] + pairs[0, 1] + pairs[1, 1]
    assert waterfall.patches[0].get_width() == pytest.approx(own)
    crossing = [(0, 2), (0, 3), (1, 2), (1, 3), (0, 4), (1, 4), (2, 4), (3, 4)]
    largest = max((pairs[pair] for pair in crossing), key=abs)
    assert waterfall.patches[3].get_width() == pytest.approx(largest)
    assert f"predicted {prediction:.2f}" in texts(waterfall)
    assert sum(bar.get_width() for bar in waterfall.patches) == pytest.approx(prediction - 3.5)


def test_only_what_crosses_from_user_to_movie_is_framed():
    linear, pairs = made_pushes()
    figure = pictures.interaction_matrix(
        list("abcde"), linear, pairs, bias=3.5, groups=[0, 0, 1, 1, 2], title="x", truth=None
    )
    (frame,) = figure.axes[0].patches
    assert (frame.get_xy(), frame.get_width(), frame.get_height()) == ((0.5, 1.5), 2, 2)
    assert not any(text.startswith("gave") for text in texts(figure.axes[1]))


def test_posterior_shows_singles_their_mean_and_the_truth():
    draws = {"a": np.array([3.0, 4.0, 5.0]), "b": np.array([1.0, 1.0, 4.0])}
    single, running = np.array([1.0, 1.1, 1.05]), np.array([1.0, 0.95, 0.93])
    figure = pictures.posterior(single, running, 0.94, draws, np.array([5.0, 2.0]))
    left, right = figure.axes
    assert left.lines[0].get_ydata().tolist() == single.tolist()
    assert left.lines[1].get_ydata().tolist() == running.tolist()
    means = [line.get_xdata()[0] for line in right.lines if len(line.get_xdata()) == 2]
    truths = [line.get_xdata()[0] for line in right.lines if len(line.get_xdata()) == 1]
    assert means == [4.0, 2.0] and truths == [5.0, 2.0]


def switches():
    every = [combo for r in range(5) for combo in combinations(GROUPS, r)]
    models = {"+".join(c): {"all": 1 - 0.01 * len(c), "cold": 1.2 + 0.01 * len(c)} for c in every}
    kinds = {"all": ("all rows", 20_000), "cold": ("cold movies", 285)}
    return widgets.Switches(models, kinds, {"all": 0.99, "cold": 1.2})


def test_the_switches_show_the_combination_that_is_on():
    figure = switches().draw(user=True, movie=False, time=True, history=False)
    assert [texts(axes) for axes in figure.axes] == [["0.980"], ["1.220"]]
    titles = [axes.get_title(loc="left") or axes.get_title() for axes in figure.axes]
    assert [title.splitlines()[-1] for title in titles] == [
        "-0.010 against MF",
        "+0.020 against MF",
    ]
    assert [axes.get_xlabel() for axes in figure.axes] == [
        "20,000 test ratings",
        "285 test ratings",
    ]
    assert figure.get_suptitle() == "FM of user and movie, with the user's side, time"


def test_every_combination_of_switches_can_be_drawn():
    widget = switches().widget(user=False, movie=True, time=False, history=False)
    assert [control.value for control in widget.controls.values()] == [False, True, False, False]
    seen = set()
    for combination in range(16):
        for place, group in enumerate(GROUPS):
            widget.controls[group].value = bool(combination >> place & 1)
        assert not widget.message.value
        seen.add(bytes(widget.image.value))
    assert len(seen) == 16


@pytest.fixture(scope="module")
def explained():
    ml, split = movielens.load(), splits.canonical_fold(1)
    task = rating_features(ml, split, ["user", "movie", "time"])
    torch.manual_seed(0)
    model = FactorizationMachine(task.cardinalities, 4, bias=3.5, init_std=0.3)
    return ml, model, widgets.Explanations(ml, model, split, task)


def test_a_rated_pair_is_its_own_row(explained):
    ml, _, explanations = explained
    for row in (4711, 81_234):  # a test and a training row
        batch = explanations.batch(int(ml.user[row]), int(ml.item[row]))
        assert batch.labels.item() == ml.rating[row]
        assert batch.sparse.ids("weekday").item() == weekday(ml, row)


def weekday(ml, row):
    return int((ml.timestamp[row] // 86_400 + 3) % 7)


def test_an_unrated_pair_is_put_together_from_both_sides(explained):
    ml, _, explanations = explained
    user = 12
    movie = next(i for i in range(ml.n_items) if not ((ml.user == user) & (ml.item == i)).any())
    batch = explanations.batch(user, movie)
    assert batch.labels.isnan().all()
    assert (batch.sparse.ids("user").item(), batch.sparse.ids("item").item()) == (user, movie)
    assert batch.sparse.bag("genres").ids.tolist() == np.flatnonzero(ml.genres[movie]).tolist()
    assert batch.sparse.ids("gender").item() == ("F", "M").index(ml.users["gender"].iloc[user])
    last = int((ml.timestamp * (ml.user == user)).argmax())
    first = int((ml.user == user).int().argmax())
    assert weekday(ml, first) != weekday(ml, last)
    assert batch.sparse.ids("weekday").item() == weekday(ml, last)


def test_the_picture_ends_at_the_models_prediction(explained):
    ml, model, explanations = explained
    for user, movie in ((404, 49), (3, 1500)):
        figure = explanations.draw(user, movie)
        expected = model(explanations.batch(user, movie)).item()
        (said,) = re.findall(r"predicted (-?[\d.]+)", " ".join(texts(figure.axes[1])))
        assert float(said) == pytest.approx(expected, abs=0.006)
        assert ml.movies["title"].iloc[movie] in figure.get_suptitle()


def test_fields_are_sorted_by_side_and_named(explained):
    _, _, explanations = explained
    figure = explanations.draw(404, 49)
    labels = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert labels[:5] == ["user 404", "age 18-24", "F", "job: healthcare", "zip 1"]
    assert labels[5:8] == ["Star Wars", "1970s", "Action, Adventure,…"]
    assert explanations.groups == [0] * 5 + [1] * 3 + [2] * 4


def test_every_id_has_a_name(explained):
    ml, model, explanations = explained
    lengths = {name: len(names) for name, names in widgets.id_names(ml).items()}
    assert lengths == {name: lengths[name] for name in lengths} | explanations.task.cardinalities
    assert set(lengths) == set(model.field_names)


def test_the_history_is_counted_and_stands_beside_its_user():
    ml, split = movielens.load(), splits.canonical_fold(1)
    task = rating_features(ml, split, ["history"])
    model = HistoryMachine(task.cardinalities, task.histories, 4, init_std=0.3)
    explanations = widgets.Explanations(ml, model, split, task)
    matrix = explanations.draw(404, 49).axes[0]
    labels = [tick.get_text() for tick in matrix.get_yticklabels()]
    rated = int((ml.user[split.train] == 404).sum())
    assert labels == ["user 404", f"{rated} rated movies", "Star Wars"]
    pairs = model.contributions(explanations.batch(404, 49)).pairs[0]  # user, item, history
    drawn = matrix.images[0].get_array()
    expected = [pairs[0, 2], pairs[0, 1], pairs[1, 2]]
    assert [drawn[1, 1], drawn[2, 1], drawn[2, 2]] == pytest.approx([p.item() for p in expected])
