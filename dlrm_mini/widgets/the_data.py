"""Chapter 01: look around in the rating matrix; let a user and a movie meet."""

from typing import Any

import ipywidgets
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dlrm_mini import style
from dlrm_mini.datasets.movielens import GENRES, MovieLens
from dlrm_mini.models.baselines import Biases
from dlrm_mini.pictures.the_data import PAPER, filled, ranks
from dlrm_mini.widgets import Explorer, explore

STARS = np.arange(1, 6)
# From dislike to delight, with white for what nobody has rated.
STAR_COLOURS = ListedColormap(["white", style.RED, style.ORANGE, "#C8C8C8", style.SKY, style.BLUE])
ORDERS = {"most active first": "activity", "as in the file": "id", "first seen first": "arrival"}
ZOOMS = (1, 2, 4, 8, 16, 32, 64)
_SINGLE_CELLS = 4  # from this zoom on, a cell of the matrix is large enough to have a colour
_TITLES = 64  # from this zoom on, there is room for the movies' titles
_FEWEST = 5  # ratings of a genre before its mean is shown
_WELL_KNOWN = 300  # movies in the drop-down list
STAR_WARS, HARSH = 49, 404  # the most-rated movie; the user with the most ratings, and low ones


class MatrixBrowser:
    """The rating matrix as a picture to move around in and zoom into.

    Args:
        ml: the ratings.
    """

    def __init__(self, ml: MovieLens) -> None:
        user, item, time = ml.user.numpy(), ml.item.numpy(), ml.timestamp.numpy()
        self.shape = (ml.n_users, ml.n_items)
        self.titles = ml.movies["title"].to_numpy()
        self.matrices: dict[str, NDArray[np.uint8]] = {}
        self.movies: dict[str, NDArray[np.int64]] = {}  # order -> the movie of each column
        for order in ORDERS.values():
            rows, columns = (
                _places(order, ids, time, n)
                for ids, n in zip((user, item), self.shape, strict=True)
            )
            matrix = np.zeros(self.shape, np.uint8)
            matrix[rows[user], columns[item]] = ml.rating.numpy()
            self.matrices[order], self.movies[order] = matrix, columns.argsort()

    def draw(
        self, order: str = "activity", zoom: int = ZOOMS[-1], user: int = 0, movie: int = 0
    ) -> Figure:
        """A window of the matrix.

        Args:
            order: of rows and columns: "activity", "id" or "arrival".
            zoom: how much smaller than the matrix the window is, in each direction.
            user: first row of the window; it is moved up when the window would leave the matrix.
            movie: first column of the window, likewise.
        """
        height, width = (-(-side // zoom) for side in self.shape)
        top, left = min(user, self.shape[0] - height), min(movie, self.shape[1] - width)
        window = self.matrices[order][top : top + height, left : left + width]
        picture = _figure(7.4, 4.4)
        with_titles = zoom >= _TITLES
        bottom = 0.37 if with_titles else 0.12
        axes = picture.add_axes((0.085, bottom, 0.765, 0.90 - bottom))
        look: dict[str, Any] = {
            "extent": (left, left + width, top + height, top),
            "aspect": "auto",
            "interpolation": "nearest",
        }
        if zoom < _SINGLE_CELLS:
            rows, columns = window.nonzero()
            percent = filled(rows, columns, (height, width), (4 // zoom, 4 // zoom))
            image = axes.imshow(percent, PAPER, vmin=0, vmax=100, **look)
            label, ticks = "cells filled (%)", [0, 25, 50, 75, 100]
        else:
            norm = BoundaryNorm(np.arange(-0.5, 6), 6)
            image = axes.imshow(window, STAR_COLOURS, norm=norm, **look)
            label, ticks = "stars", list(range(6))
        bar = picture.add_axes((0.872, bottom, 0.022, 0.90 - bottom))
        scale = picture.colorbar(image, cax=bar, label=label, ticks=ticks)
        if zoom >= _SINGLE_CELLS:
            scale.set_ticklabels(["none", *map(str, STARS)])
        if with_titles:
            shown = self.titles[self.movies[order][left : left + width]]
            names = [_short(title, 22) for title in shown]
            axes.set_xticks(np.arange(left, left + width) + 0.5, names, rotation=90, fontsize=8)
        axes.grid(visible=False)
        words = next(name for name, value in ORDERS.items() if value == order)
        share = 100 * np.count_nonzero(window) / window.size
        axes.set_title(f"{height} users x {width} movies, {words}: {share:.1f} % filled")
        axes.set(ylabel="user" if order == "id" else "user, by rank")
        axes.set(xlabel="" if with_titles else "movie" if order == "id" else "movie, by rank")
        if with_titles:
            picture.supxlabel("movie", fontsize=11, y=0.005)
        return picture


def browse_the_matrix(browser: MatrixBrowser) -> Explorer:
    """Choose an order, zoom in, move the window over the matrix."""
    return explore(
        "browse the rating matrix",
        browser.draw,
        order=ipywidgets.Dropdown(options=list(ORDERS.items()), description="order"),
        zoom=ipywidgets.SelectionSlider(options=ZOOMS, value=ZOOMS[-1], description="zoom"),
        user=ipywidgets.IntSlider(0, 0, browser.shape[0] - 15, description="first user"),
        movie=ipywidgets.IntSlider(0, 0, browser.shape[1] - 27, description="first movie"),
    )


def _figure(width: float, height: float) -> Figure:
    """A figure whose axes are placed by hand: a layout engine would slow each redraw."""
    picture = Figure(figsize=(width, height))
    picture.set_layout_engine("none")
    return picture


def _places(
    order: str, ids: NDArray[np.int64], time: NDArray[np.int64], n: int
) -> NDArray[np.int64]:
    """The row or column each of `n` ids gets in an order."""
    if order == "activity":
        return ranks(np.bincount(ids, minlength=n))
    if order == "arrival":
        first = np.full(n, time.max())
        np.minimum.at(first, ids, time)
        return ranks(-first)
    return np.arange(n)


class Meeting:
    """One user, one movie, and what their histories say of a rating that may not exist.

    Args:
        ml: the ratings.
        biases: fitted to ratings of `ml`.
    """

    def __init__(self, ml: MovieLens, biases: Biases) -> None:
        self.ml, self.biases = ml, biases
        user, item, rating = ml.user.numpy(), ml.item.numpy(), ml.rating.numpy().astype(np.int64)
        self.of_user = _histograms(user, rating, ml.n_users)
        self.of_item = _histograms(item, rating, ml.n_items)
        self.given = {(u, i): r for u, i, r in zip(user, item, rating, strict=True)}
        flags = ml.genres[item].astype(np.int64)  # (N, 19)
        shape = (ml.n_users, len(GENRES))
        self.genre_counts, self.genre_sums = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        np.add.at(self.genre_counts, user, flags)
        np.add.at(self.genre_sums, user, flags * rating[:, None])

    def options(self) -> list[tuple[str, int]]:
        """The best-known movies by title, each with its id."""
        known = (-self.of_item.sum(1)).argsort(kind="stable")[:_WELL_KNOWN]
        return sorted((self._title(int(i)), int(i)) for i in known)

    def _title(self, movie: int) -> str:
        title, year = self.ml.movies.iloc[movie]
        return f"{title} ({year})"

    def draw(self, movie: int = STAR_WARS, user: int = HARSH) -> Figure:
        """How the movie is rated, how the user rates, what the user likes, what biases make of it.

        Args:
            movie: an id, 0 to 1681.
            user: an id, 0 to 942.
        """
        picture = _figure(7.8, 3.8)
        places = ((0.07, 0.225), (0.355, 0.225), (0.8, 0.185))
        film, rater, taste = (picture.add_axes((x, 0.285, w, 0.56)) for x, w in places)
        person, title = self.ml.users.iloc[user], self._title(movie)
        genres = ", ".join(np.array(GENRES)[self.ml.genres[movie] == 1])
        everybody = self.of_item.sum(0)
        _stars(
            film,
            self.of_item[movie],
            everybody,
            style.BLUE,
            f"{_short(title, 23)}\n{_short(genres, 23)}",
        )
        words = f"User {user}: {person.age}, {person.gender}\n{person.occupation}"
        _stars(rater, self.of_user[user], everybody, style.ORANGE, words)
        film.set_ylabel("share of the ratings (%)")
        rater.sharey(film)
        self._tastes(taste, user)
        mean = self.biases.mean.item()
        b_user = self.biases.user_bias[user].item()
        b_item = self.biases.item_bias[movie].item()
        sum_ = f"{mean:.2f} {b_user:+.2f} {b_item:+.2f} = {mean + b_user + b_item:.2f}"
        stars = self.given.get((user, movie))
        truth = "has not rated it" if stars is None else f"gave it {stars}"
        picture.text(0.5, 0.03, f"mean, user's bias, movie's bias:  {sum_}.  The user {truth}.",
                     ha="center", fontsize=11, fontweight="bold")  # fmt: skip
        return picture

    def _tastes(self, axes: Axes, user: int) -> None:
        """The user's mean by genre less the user's mean, most liked first."""
        counts, sums = self.genre_counts[user], self.genre_sums[user]
        enough = np.flatnonzero(counts >= _FEWEST)
        mean = (self.of_user[user] * STARS).sum() / self.of_user[user].sum()
        above = sums[enough] / counts[enough] - mean
        order = (-above).argsort(kind="stable")
        order = order if len(order) <= 8 else np.concatenate([order[:4], order[-4:]])
        names = [f"{GENRES[enough[i]]} ({counts[enough[i]]})" for i in order]
        colours = np.where(above[order] > 0, style.ORANGE, style.GREY)
        axes.barh(names, above[order], color=colours, height=0.7)
        axes.axvline(0, color=style.INK, linewidth=0.8)
        limit = max(0.5, 1.1 * float(np.abs(above).max(initial=0)))
        axes.set(xlim=(-limit, limit), xlabel="stars above\nthe user's mean", ylabel="genre")
        axes.set_title("Likes, dislikes\n(movies rated)", fontsize=10)
        axes.tick_params(axis="y", labelsize=8.5)
        axes.invert_yaxis()


def meet(meeting: Meeting) -> Explorer:
    """Pick a movie and a user."""
    return explore(
        "a user and a movie meet",
        meeting.draw,
        movie=ipywidgets.Dropdown(options=meeting.options(), value=STAR_WARS, description="movie"),
        user=ipywidgets.IntSlider(HARSH, 0, meeting.ml.n_users - 1, description="user"),
    )


def _short(text: str, length: int) -> str:
    """The text, cut to at most `length` characters."""
    return text if len(text) <= length else text[: length - 1].rstrip(" ,:") + "…"


def _histograms(ids: NDArray[np.int64], rating: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """How often each id has each number of stars, (n, 5)."""
    return np.bincount(5 * ids + rating - 1, minlength=5 * n).reshape(n, 5)


def _stars(
    axes: Axes, counts: NDArray[np.int64], everybody: NDArray[np.int64], colour: str, title: str
) -> None:
    """One histogram of stars as bars, that of all ratings as an outline."""
    total = counts.sum()
    axes.bar(STARS, 100 * counts / total, color=colour, width=0.8)
    edges = np.arange(0.5, 6)
    axes.stairs(100 * everybody / everybody.sum(), edges, color=style.INK, linewidth=1.2)
    mean = (counts * STARS).sum() / total
    axes.set(xticks=STARS, ylim=(0, 80), xlabel=f"stars\n{total} ratings, mean {mean:.2f}")
    axes.set_title(title, fontsize=10)
