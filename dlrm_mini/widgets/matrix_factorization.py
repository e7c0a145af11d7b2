"""Chapter 02's widgets: the neighbours of a movie, and the optimizer's game."""

import ipywidgets
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from dlrm_mini.datasets.movielens import GENRES, MovieLens
from dlrm_mini.models.matrix_factorization import MatrixFactorization
from dlrm_mini.pictures import matrix_factorization as pictures
from dlrm_mini.widgets import Explorer, explore

SHOWN = 8  # neighbours drawn
LEAST_RATINGS = 50  # a vector learned from fewer is mostly its starting point


class Neighbours:
    """Draws the movies nearest to one, among those with at least `LEAST_RATINGS` ratings.

    Args:
        ml: the data set.
        model: a trained model.
        counts: (n_items,) training ratings of each movie.
    """

    def __init__(self, ml: MovieLens, model: MatrixFactorization, counts: Tensor) -> None:
        self.kept = (counts >= LEAST_RATINGS).nonzero().squeeze(1).numpy()
        vectors = model.item_vectors.weight.detach()[self.kept]
        self.unit = torch.nn.functional.normalize(vectors, dim=1).double().numpy()  # (n, D)
        titles = ml.movies["title"].tolist()
        self.titles = [titles[item] for item in self.kept]
        self.genres = [_genre_line(ml.genres[item]) for item in self.kept]

    def draw(self, title: str) -> Figure:
        """The nearest movies to the one of this title, by cosine."""
        here = self.titles.index(title)
        cosine = self.unit @ self.unit[here]  # (n,)
        order = [i for i in np.argsort(-cosine) if i != here][:SHOWN]
        names = [self.titles[i] for i in order]
        lines = [self.genres[i] for i in order]
        return pictures.neighbours(title, names, cosine[order], lines)

    def widget(self, title: str) -> Explorer:
        """Pick a movie, see its neighbours."""
        options = sorted(set(self.titles))
        movie = ipywidgets.Dropdown(options=options, value=title, description="movie")
        return explore("the nearest neighbours of a movie", self.draw, title=movie)


def make_game(
    ml: MovieLens, model: MatrixFactorization, rows: Tensor, user: int, *, l2: float, seed: int = 0
) -> pictures.Game:
    """One person's search for a vector, as SGD would do it one rating at a time.

    Args:
        ml: the data set.
        model: a trained model with two factors; its movie vectors and biases are held still.
        rows: (N,) int64, the training rows.
        user: id of the person.
        l2: weight of the penalty, per rating.
        seed: of the order of the ratings.
    """
    mine = rows[ml.user[rows] == user]
    items = ml.item[mine]
    with torch.no_grad():
        looked_up = model.look_up(ml.user[mine], items)
        expected = model.global_mean + looked_up.user_bias + looked_up.item_bias
    residual = (ml.rating[mine] - expected).double().numpy()  # (n,)
    vectors = looked_up.item_vector.double().numpy()  # (n, 2)
    path, p = [np.zeros(2)], np.zeros(2)
    for step in np.random.default_rng(seed).integers(len(mine), size=120):
        error = residual[step] - p @ vectors[step]
        p = p + 0.15 * (error * vectors[step] - l2 * p)
        path.append(p)
    titles = ml.movies["title"].tolist()
    names = [titles[item] for item in items]
    person = ml.users.iloc[user]
    name = f"{str(person['occupation']).capitalize()}, {person['age']}"
    return pictures.Game(name, vectors, residual, names, l2, np.array(path))


def play(games: list[pictures.Game]) -> Explorer:
    """Find each person's vector by hand, then let SGD look for it."""
    by_name = {game.name: game for game in games}

    def draw(person: str, x: float, y: float, steps: int, show: bool) -> Figure:
        return pictures.play(by_name[person], x, y, steps, show)

    wide = {"min": -pictures.REACH, "max": pictures.REACH, "step": 0.1}
    return explore(
        "be the optimizer",
        draw,
        person=ipywidgets.Dropdown(options=list(by_name), description="user"),
        x=ipywidgets.FloatSlider(1.0, description="factor 1", **wide),
        y=ipywidgets.FloatSlider(-1.0, description="factor 2", **wide),
        steps=ipywidgets.IntSlider(0, 0, 120, description="SGD steps"),
        show=ipywidgets.Checkbox(False, description="show the loss"),
    )


def _genre_line(flags: np.ndarray) -> str:
    return ", ".join(name for name, flag in zip(GENRES, flags, strict=True) if flag)
