"""Chapter 04's pictures of an MLP on ratings: what its interaction is worth, what its units see.

A matrix of users times movies splits into a mean, a column of user parts, a row of movie parts and
the rest, as in a two-way analysis of variance. The rest is the interaction.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dlrm_mini import plots, style

Floats = NDArray[np.float64]


class Parts(NamedTuple):
    """A matrix taken apart: `mean + users[:, None] + movies + interaction` is the matrix."""

    mean: float
    users: Floats  # (n,), sums to zero
    movies: Floats  # (m,), sums to zero
    interaction: Floats  # (n, m), each row and each column sums to zero

    def variances(self) -> Floats:
        """The variance that users, movies and interaction bring; they add up to the matrix's."""
        squares = [np.mean(np.square(part)) for part in (self.users, self.movies, self.interaction)]
        return np.array(squares)


def take_apart(matrix: Floats) -> Parts:
    """Users, movies and what is left: the two-way analysis of variance of a matrix (n, m)."""
    mean = float(matrix.mean())
    users, movies = matrix.mean(1) - mean, matrix.mean(0) - mean
    return Parts(mean, users, movies, matrix - mean - users[:, None] - movies)


def worth(errors: Mapping[str, tuple[float, float]], recorded: Mapping[str, float]) -> Figure:
    """What a model's interaction is worth: its error whole, and with the interaction taken out.

    Args:
        errors: model -> (test RMSE whole, test RMSE of its additive shadow), in stars.
        recorded: model -> mean test RMSE over the five folds, written beside the name.
    """
    picture, axes = plots.figure(8.6, 1.3 + 0.55 * len(errors))
    for row, (whole, shadow) in enumerate(errors.values()):
        axes.plot([whole, shadow], [row, row], color=style.GREY, linewidth=3, alpha=0.5)
        axes.plot(shadow, row, "o", color="white", markeredgecolor=style.BLUE, markersize=10,
                  label="interaction taken out" if not row else None)  # fmt: skip
        axes.plot(whole, row, "o", color=style.ORANGE, markersize=10,
                  label="whole model" if not row else None)  # fmt: skip
        axes.annotate(f"{whole:.4f}", (whole, row), xytext=(0, 9), ha="center", fontsize=9,
                      textcoords="offset points")  # fmt: skip
    names = [
        f"{name}\n(five folds: {recorded[name]:.4f})" if name in recorded else name
        for name in errors
    ]
    axes.set_yticks(range(len(errors)), names)
    axes.set_ylim(len(errors) - 0.5, -0.6)
    axes.grid(axis="y", visible=False)
    axes.set(xlabel="test RMSE on fold 1, stars", ylabel="model",
             title="What each model's interaction is worth")  # fmt: skip
    picture.legend(loc="outside lower center", ncols=2)
    return picture


def anatomy(units: Sequence[Floats], models: Mapping[str, Floats]) -> Figure:
    """Of what the variance of hidden units and of whole models is made.

    Args:
        units: variances (users, movies, interaction) of each unit, from left to right.
        models: model -> variances (users, movies, interaction) of its output.
    """
    picture = Figure(figsize=(10.4, 3.9), layout="constrained")
    left, right = picture.subplots(1, 2, sharey=True, width_ratios=(2.6, 1))
    names = ("user alone", "movie alone", "interaction")
    colours = (style.SKY, style.BLUE, style.ORANGE)
    for axes, columns in ((left, list(units)), (right, list(models.values()))):
        shares = np.array([100 * column / column.sum() for column in columns])  # (n, 3)
        below = np.zeros(len(shares))
        for name, colour, part in zip(names, colours, shares.T, strict=True):
            axes.bar(range(len(part)), part, bottom=below, color=colour, label=name, width=0.85)
            below += part
        for place, share in enumerate(shares[:, 2] if axes is right else []):
            axes.text(place, 98 - share, f"{share:.0f} %", ha="center", va="top", color="white",
                      fontweight="bold")  # fmt: skip
        axes.grid(axis="x", visible=False)
    left.set(title="The hidden units that move the output most", xticks=[],
             xlabel=f"{len(units)} units, most interaction first",
             ylabel="share of its variance, %", ylim=(0, 100),
             xlim=(-0.6, len(units) - 0.4))  # fmt: skip
    right.set(title="The whole output", xlabel="model")
    right.set_xticks(range(len(models)), [name.replace(" + ", "\n+ ") for name in models])
    picture.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return picture


@dataclass(frozen=True)
class Unit:
    """One hidden unit of the first layer: it adds two pushes and is silent below zero.

    Attributes:
        users: (n,), the push of each user, ascending.
        movies: (m,), the push of each movie with the bias, ascending.
        weight: what the unit's activation is multiplied by on the way out.
        loudest: titles of the movies with the strongest push.
        quietest: titles of the movies with the weakest push.
        genres: genre -> (mean push of its movies in standard deviations from the mean of all
            movies, two standard errors).
    """

    users: Floats
    movies: Floats
    weight: float
    loudest: Sequence[str]
    quietest: Sequence[str]
    genres: Mapping[str, tuple[float, float]]

    def activation(self) -> Floats:
        """(m, n), a row a movie: relu(push of the movie + push of the user)."""
        return np.asarray(np.maximum(self.movies[:, None] + self.users, 0))


def unit(one: Unit, name: str, *, interaction: bool) -> Figure:
    """Left, the unit over all users and movies, sorted by push; right, the movies it listens for.

    Args:
        one: the unit.
        name: what to call it.
        interaction: draw only what is neither the user's nor the movie's alone.
    """
    picture = Figure(figsize=(10.4, 4.3), constrained_layout=False)  # laying out costs 100 ms
    left = picture.add_axes((0.065, 0.13, 0.30, 0.74))
    bar = picture.add_axes((0.372, 0.13, 0.012, 0.74))
    words = picture.add_axes((0.47, 0.13, 0.22, 0.74))
    right = picture.add_axes((0.80, 0.13, 0.19, 0.74))
    activation = one.activation()
    parts = take_apart(activation)
    shown = parts.interaction if interaction else activation
    limit = float(np.abs(shown).max()) or 1.0
    image = left.imshow(shown, origin="lower", extent=(0, 100, 0, 100), aspect="auto",
                        cmap=style.DIVERGING if interaction else style.SEQUENTIAL,
                        vmin=-limit if interaction else 0, vmax=limit)  # fmt: skip
    # The fold: the movies whose push just makes up for the user's.
    first = np.searchsorted(one.movies, -one.users) / len(one.movies) * 100
    left.plot(np.linspace(0, 100, len(first)), first, color=style.RED, linewidth=2)
    left.set(title=f"{name}: " + ("its interaction" if interaction else "its activation"),
             xlabel="users, by their push, %", ylabel="movies, by their push, %",
             xlim=(0, 100), ylim=(0, 100))  # fmt: skip
    left.grid(visible=False)
    picture.colorbar(image, cax=bar, format="%.2f", label="height")
    variances = parts.variances()
    share = variances[2] / max(float(variances.sum()), 1e-12)
    _titles(words, one, float((activation > 0).mean()), float(share))
    names, values = list(one.genres), np.array(list(one.genres.values()))
    colours = [style.BLUE if value > 0 else style.RED for value, _ in values]
    right.barh(names, values[:, 0], xerr=values[:, 1], color=colours, height=0.65,
               ecolor=style.GREY)  # fmt: skip
    right.axvline(0, color=style.INK, linewidth=1)
    right.invert_yaxis()
    right.grid(axis="y", visible=False)
    right.tick_params(axis="y", labelsize=9)
    right.set(title="its genres", xlabel="mean push, st. dev.", ylabel="genre")
    return picture


def _titles(axes: Axes, one: Unit, fires: float, share: float) -> None:
    """Which movies push the unit up and down, in words."""
    axes.set_axis_off()
    direction = "raises" if one.weight > 0 else "lowers"
    lines = [
        (f"fires for {fires:.0%} of all pairs;", style.INK),
        (f"{direction} the rating when it does", style.INK),
        (f"{share:.0%} of it is interaction", style.ORANGE),
        ("", style.INK),
        ("strongest push", style.BLUE),
        *((title, style.INK) for title in one.loudest),
        ("weakest push", style.RED),
        *((title, style.INK) for title in one.quietest),
    ]
    for row, (text, colour) in enumerate(lines):
        heading = colour != style.INK
        axes.text(0, 0.98 - row * 0.98 / len(lines), text, fontsize=9.5, color=colour, va="top",
                  fontweight="bold" if heading else "normal")  # fmt: skip
