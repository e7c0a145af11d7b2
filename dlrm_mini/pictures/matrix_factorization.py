"""Chapter 02's pictures: what biases leave over, movies in factor space, the optimizer's game."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from dlrm_mini import plots, style

Floats = NDArray[np.float64]

REACH = 2.0  # the game's user factors run from -REACH to REACH


def shorten(title: str, length: int) -> str:
    """A title cut at a word's end to at most `length` characters."""
    return textwrap.shorten(title, length, placeholder="…")


def agreement(
    anchor: str, correlations: Mapping[str, float], chance: Mapping[str, float]
) -> Figure:
    """How the residuals of other movies go along with one movie's, with the band chance explains.

    Args:
        anchor: title of the movie the others are compared with.
        correlations: title -> correlation of the residuals over common raters.
        chance: title -> how far a correlation may go either way by chance.
    """
    picture, axes = plots.figure(8.4, 1.2 + 0.34 * len(correlations))
    names = list(correlations)
    values = np.array([correlations[name] for name in names])
    noise = np.array([chance[name] for name in names])
    colours = [style.BLUE if value > 0 else style.RED for value in values]
    axes.barh(names, values, color=colours, height=0.6)
    axes.barh(names, 2 * noise, left=-noise, color="none", edgecolor=style.GREY, height=0.8,
              linestyle=":", label="what chance may do")  # fmt: skip
    axes.axvline(0, color=style.INK, linewidth=1)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set(xlabel="correlation of what the biases leave over", ylabel="movie")
    axes.set_title(f"What goes along with liking “{anchor}” more than expected")
    picture.legend(loc="outside lower right")
    return picture


def two_curves(
    optimizers: Mapping[str, Sequence[float]], l2: Mapping[str, tuple[list[float], list[float]]]
) -> Figure:
    """Left, validation RMSE by optimizer; right, training and validation RMSE with and without L2.

    Args:
        optimizers: name -> validation RMSE per epoch.
        l2: name -> (training, validation) RMSE per epoch.
    """
    picture = Figure(figsize=(10, 3.9), layout="constrained")
    left, right = picture.subplots(1, 2)
    for name, curve in optimizers.items():
        left.plot(range(1, len(curve) + 1), curve, label=name, marker="o", markersize=3)
    left.set(title="How the step is chosen matters", xlabel="epoch",
             ylabel="validation RMSE, stars")  # fmt: skip
    left.legend()
    for (name, (train, valid)), colour in zip(l2.items(), (style.BLUE, style.RED), strict=True):
        epochs = range(1, len(train) + 1)
        right.plot(epochs, valid, color=colour, label=f"{name}, validation")
        right.plot(epochs, train, color=colour, linestyle="--", label=f"{name}, training")
    right.set(title="Without L2, the model learns the past by heart", xlabel="epoch",
              ylabel="RMSE, stars")  # fmt: skip
    right.legend(fontsize=9, loc=(0.45, 0.3))
    return picture


def by_support(errors: Mapping[str, Sequence[float]], bins: Sequence[str]) -> Figure:
    """Error by how often the movie occurs in training.

    Args:
        errors: model -> RMSE per bin.
        bins: labels of the bins, from rare to frequent.
    """
    picture, axes = plots.figure(8, 3.4)
    markers = ("o", "s")
    for (name, values), marker in zip(errors.items(), markers, strict=True):
        axes.plot(range(len(bins)), values, marker=marker, label=name)
    axes.set_xticks(range(len(bins)), bins)
    axes.set(title="The vectors help where there is much to learn from", ylabel="RMSE, stars",
             xlabel="training ratings of the movie")  # fmt: skip
    axes.legend()
    return picture


def factor_map(points: Floats, labels: Mapping[int, str], *, xlabel: str, ylabel: str) -> Figure:
    """Movies as points in the plane of the two strongest directions, some with their titles.

    Args:
        points: (n, 2).
        labels: row of `points` -> title.
        xlabel: name of the first direction.
        ylabel: name of the second.
    """
    picture = Figure(figsize=(10.5, 7), constrained_layout=False)  # labels need final places
    axes = picture.add_axes((0.09, 0.08, 0.89, 0.86))
    axes.scatter(points[:, 0], points[:, 1], s=16, color=style.SKY, alpha=0.5,
                 linewidths=0)  # fmt: skip
    taken: list[tuple[float, float, float, float]] = []
    low, high = points.min(0), points.max(0)
    margin = (high - low) * np.array([0.10, 0.03])
    axes.set(
        xlim=(low[0] - margin[0], high[0] + margin[0]),
        ylim=(low[1] - margin[1], high[1] + margin[1]),
    )
    renderer = FigureCanvasAgg(picture).get_renderer()  # type: ignore[no-untyped-call]
    for row, title in labels.items():
        _label(axes, renderer, points[row], shorten(title, 34), taken)
    axes.axhline(0, color=style.GREY, linewidth=0.6)
    axes.axvline(0, color=style.GREY, linewidth=0.6)
    axes.set(title="Two directions of taste, learned from stars alone", xlabel=xlabel,
             ylabel=ylabel)  # fmt: skip
    axes.grid(visible=False)
    return picture


def _label(
    axes: Axes,
    renderer: RendererAgg,
    point: Floats,
    title: str,
    taken: list[tuple[float, float, float, float]],
) -> None:
    """Write a title beside its point at the first of eight places where it covers no other."""
    x, y = axes.transData.transform((point[0], point[1]))
    dot = (x - 3, y - 3, x + 3, y + 3)
    if any(_overlap(dot, other) for other in taken):
        return
    text = axes.annotate(title, (point[0], point[1]), xytext=(0, 0), fontsize=9,
                         textcoords="offset points", va="center", color=style.INK)  # fmt: skip
    width, height = text.get_window_extent(renderer).width, 13.0
    places = [(6, 0), (-6 - width, 0), (-width / 2, 11), (-width / 2, -11), (6, 9), (6, -9),
              (-6 - width, 9), (-6 - width, -9)]  # fmt: skip
    for dx, dy in places:
        box = (x + dx - 2, y + dy - height / 2, x + dx + width + 2, y + dy + height / 2)
        inside = axes.bbox.x0 < box[0] and box[2] < axes.bbox.x1
        if inside and not any(_overlap(box, other) for other in taken):
            taken += [box, dot]
            break
    else:
        text.remove()
        return
    scale = 72 / axes.figure.dpi
    text.set_position((dx * scale, dy * scale))
    text.set_path_effects([withStroke(linewidth=2.5, foreground="white")])
    axes.plot([point[0]], [point[1]], "o", color=style.BLUE, markersize=6)


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def neighbours(
    anchor: str, names: Sequence[str], similarity: Floats, genres: Sequence[str]
) -> Figure:
    """The movies whose vectors point most nearly the same way.

    Args:
        anchor: the movie they are compared with.
        names: titles, nearest first.
        similarity: (n,) cosines.
        genres: a line of genres for each, which the model never saw.
    """
    picture, axes = plots.figure(8.4, 3.8)
    axes.barh(list(names), similarity, color=style.BLUE, height=0.62)
    for row, (value, text) in enumerate(zip(similarity, genres, strict=True)):
        inside = max(float(value), 0.0)
        axes.text(inside, row, f" {shorten(text, 36)}", va="center", fontsize=9, color=style.INK)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set(xlim=(0, 2.1), xticks=np.arange(0, 1.1, 0.2), ylabel="movie")
    axes.set_xlabel("cosine similarity of the movie vectors (1: same direction)")
    axes.set_title(f"Nearest to “{anchor}”")
    return picture


@dataclass(frozen=True)
class Game:
    """One person's vector to be found, in a model with two factors and the movies held still.

    Attributes:
        name: who.
        vectors: (n, 2), the movies this person rated.
        residual: (n,), the stars above what the biases expect.
        titles: title of each movie.
        l2: weight of the penalty, per rating.
        path: (steps + 1, 2), where SGD goes, from the origin.
    """

    name: str
    vectors: Floats
    residual: Floats
    titles: Sequence[str]
    l2: float
    path: Floats

    def loss(self, p: Floats) -> Floats:
        """Mean squared error plus penalty at vectors `p` (..., 2)."""
        error = self.residual - p @ self.vectors.T  # (..., n)
        return np.asarray((error**2).mean(-1) + self.l2 * (p**2).sum(-1))

    def best(self) -> Floats:
        """The minimum in closed form: ridge regression of the residuals on the vectors, (2,)."""
        n = len(self.residual)
        gram = self.vectors.T @ self.vectors / n + self.l2 * np.eye(2)
        return np.asarray(np.linalg.solve(gram, self.vectors.T @ self.residual / n))


def play(game: Game, x: float, y: float, steps: int, show: bool) -> Figure:
    """Left, the movies and your arrow; right, the loss at your arrow and the way SGD goes.

    Args:
        game: the person and the movies.
        x: your vector's first coordinate.
        y: your vector's second coordinate.
        steps: how many steps of SGD are drawn.
        show: whether the landscape of the loss is shown.
    """
    picture = Figure(figsize=(10, 4.2), constrained_layout=False)  # laying out costs 100 ms
    left = picture.add_axes((0.07, 0.13, 0.34, 0.76))
    bar = picture.add_axes((0.42, 0.13, 0.012, 0.76))
    right = picture.add_axes((0.60, 0.13, 0.39, 0.76))
    yours = np.array([x, y])
    reach = 1.15 * float(np.abs(game.vectors).max())
    points = left.scatter(game.vectors[:, 0], game.vectors[:, 1], c=game.residual, s=30,
                          cmap=style.DIVERGING, vmin=-2, vmax=2, edgecolor=style.GREY,
                          linewidth=0.4)  # fmt: skip
    picture.colorbar(points, cax=bar, label="stars above expectation")
    strength = game.residual * np.linalg.norm(game.vectors, axis=1)
    for row in (int(strength.argmin()), int(strength.argmax())):
        place = (float(game.vectors[row, 0]), float(game.vectors[row, 1]))
        left.annotate(shorten(game.titles[row], 22), place, fontsize=8, ha="center",
                      xytext=(0, 7), textcoords="offset points",
                      bbox={"color": "white", "alpha": 0.7, "pad": 0.5})  # fmt: skip
    left.annotate("", (x / 2, y / 2), (0, 0), arrowprops={"arrowstyle": "-|>", "linewidth": 3})
    left.set(xlim=(-reach, reach), ylim=(-reach, reach), xlabel="movie factor 1",
             ylabel="movie factor 2", title=f"{game.name}: aim at the red")  # fmt: skip
    _landscape(right, game, yours, steps, show)
    return picture


def _landscape(axes: Axes, game: Game, yours: Floats, steps: int, show: bool) -> None:
    side = np.linspace(-REACH, REACH, 41)
    if show:
        grid = np.stack(np.meshgrid(side, side), axis=-1)  # (41, 41, 2)
        axes.contourf(side, side, game.loss(grid), levels=14, cmap=style.SEQUENTIAL)
        axes.plot(*game.best(), "*", color="white", markeredgecolor=style.INK, markersize=15)
    way = game.path[: steps + 1]
    axes.plot(way[:, 0], way[:, 1], ".-", color=style.ORANGE, linewidth=1.2, label="SGD")
    axes.plot(*yours, "o", color=style.RED, markersize=9, label="you")
    losses = [f"you {float(game.loss(yours)):.3f}", f"SGD {float(game.loss(way[-1])):.3f}"]
    losses += [f"best {float(game.loss(game.best())):.3f}"] if show else []
    axes.set(xlim=(-REACH, REACH), ylim=(-REACH, REACH), xlabel="user factor 1",
             ylabel="user factor 2", title="loss: " + ", ".join(losses))  # fmt: skip
    axes.legend(loc="lower right", frameon=True)
