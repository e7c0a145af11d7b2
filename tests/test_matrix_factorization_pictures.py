"""Chapter 02's pictures and widgets: titles, the game's optimum, neighbours, labels apart."""

import numpy as np
import pytest
import torch

from dlrm_mini.datasets import movielens, splits
from dlrm_mini.ladders import rating_models
from dlrm_mini.pictures import matrix_factorization as pictures
from dlrm_mini.widgets import matrix_factorization as widgets


def made_game() -> pictures.Game:
    generator = np.random.default_rng(1)
    vectors = generator.normal(size=(30, 2))
    residual = vectors @ np.array([0.8, -0.5]) + 0.1 * generator.normal(size=30)
    return pictures.Game("Somebody", vectors, residual, ["a"] * 30, 0.05, np.zeros((1, 2)))


def test_the_games_optimum_is_the_lowest_point():
    game = made_game()
    best = game.best()
    around = best + 0.05 * np.array([[1, 0], [-1, 0], [0, 1], [0, -1], [1, 1]])
    assert (game.loss(around) > game.loss(best)).all()
    error = game.residual - game.vectors @ best
    by_hand = np.mean(error**2) + 0.05 * np.sum(best**2)
    assert float(game.loss(best)) == pytest.approx(by_hand, rel=1e-12)


def test_the_title_says_the_losses_and_hides_the_best_until_asked():
    game = made_game()
    hidden = pictures.play(game, 0.0, 0.0, 0, show=False).axes[2].get_title(loc="left")
    shown = pictures.play(game, 0.0, 0.0, 0, show=True).axes[2].get_title(loc="left")
    hidden = hidden or pictures.play(game, 0.0, 0.0, 0, show=False).axes[2].get_title()
    shown = shown or pictures.play(game, 0.0, 0.0, 0, show=True).axes[2].get_title()
    assert f"you {float(game.loss(np.zeros(2))):.3f}" in hidden and "best" not in hidden
    assert f"best {float(game.loss(game.best())):.3f}" in shown


def test_labels_on_the_map_do_not_cover_each_other():
    points = np.random.default_rng(0).normal(size=(60, 2)) * 0.1
    labels = {row: f"A rather long title {row}" for row in range(60)}
    figure = pictures.factor_map(points, labels, xlabel="x", ylabel="y")
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert 5 < len(boxes) < 60  # titles without room are left out
    overlaps = [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if a.overlaps(b)]
    assert len(overlaps) <= len(boxes) // 10  # widths are estimated


@pytest.fixture(scope="module")
def trained():
    ml = movielens.load()
    rows = splits.canonical_fold(1).train
    setting = rating_models.Setting(2, 0.05, 0.05, 0.07, 1024, 0.03, 2)
    return ml, rows, rating_models.fit_mf(ml, rows, seed=0, setting=setting)[0]


def test_sgd_in_the_game_ends_near_the_optimum(trained):
    ml, rows, model = trained
    game = widgets.make_game(ml, model, rows, user=404, l2=0.05)
    assert len(game.residual) == int((ml.user[rows] == 404).sum())
    start, end = game.loss(game.path[0]), game.loss(game.path[-1])
    assert game.loss(game.best()) <= min(start, end)
    again = widgets.make_game(ml, model, rows, user=404, l2=0.05)
    assert np.array_equal(game.path, again.path)


def test_neighbours_are_the_nearest_by_cosine(trained):
    ml, rows, model = trained
    counts = torch.bincount(ml.item[rows], minlength=ml.n_items)
    finder = widgets.Neighbours(ml, model, counts)
    figure = finder.draw("Star Wars")
    names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    item = ml.movies["title"].tolist().index("Star Wars")
    vectors = model.item_vectors.weight.detach().double()
    cosine = torch.nn.functional.cosine_similarity(vectors, vectors[item], dim=1)
    cosine[(counts < widgets.LEAST_RATINGS)] = -2
    cosine[item] = -2
    nearest = [ml.movies["title"].iloc[int(i)] for i in cosine.topk(len(names)).indices]
    assert names == nearest
