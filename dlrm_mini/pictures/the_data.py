"""The pictures of chapter 01: ratings as points, their long tail, bags, splits, a leak."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, ListedColormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from dlrm_mini import plots, style
from dlrm_mini.datasets.movielens import MovieLens
from dlrm_mini.datasets.splits import Split

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

# From no ink to all ink: how full a part of a matrix is, in per cent.
PAPER = LinearSegmentedColormap.from_list("paper", style.PAPER_TO_INK, 24)
_BLOCK = (4, 6)  # cells of the matrix, users x movies, in a drawn point: about a pixel
_FAR = 1000  # rank at which the fitted line is held against the data
_USERS_DRAWN, _PLACES = 4, 100  # of the split picture: every 4th user, 100 places in a history


def ranks(counts: Ints) -> Ints:
    """The place of each id when the largest count comes first, ties in the order of the ids."""
    order = np.argsort(-counts, kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return place


def filled(rows: Ints, columns: Ints, shape: tuple[int, int], block: tuple[int, int]) -> Floats:
    """How many per cent of the cells in each block of a matrix hold something.

    Args:
        rows: (N,) of the cells that do, each cell once.
        columns: (N,) of the same cells.
        shape: of the matrix; blocks at its end may be cut short and are judged by what they have.
        block: rows and columns of a block.
    """
    sides = [
        np.diff(np.append(np.arange(0, n, step), n)) for n, step in zip(shape, block, strict=True)
    ]
    counts = np.zeros([len(side) for side in sides])
    np.add.at(counts, (rows // block[0], columns // block[1]), 1)
    result: Floats = 100 * counts / np.outer(*sides)
    return result


def rating_matrix(ml: MovieLens, mark: int) -> Figure:
    """All ratings twice: in the order of the ids, and with the most active rows and columns first.

    Args:
        ml: the ratings.
        mark: how many of the most-rated movies a line sets apart.
    """
    user, item, shape = ml.user.numpy(), ml.item.numpy(), (ml.n_users, ml.n_items)
    by_activity = ranks(np.bincount(user))[user], ranks(np.bincount(item))[item]
    picture = Figure(figsize=(7.6, 3.7), layout="constrained")
    left, right = picture.subplots(1, 2, sharey=True)
    for axes, (rows, columns) in ((left, (user, item)), (right, by_activity)):
        image = axes.imshow(
            filled(rows, columns, shape, _BLOCK),
            cmap=PAPER,
            norm=PowerNorm(0.5, 0, 100),
            extent=(0, shape[1], shape[0], 0),
            aspect="auto",
            interpolation="nearest",
        )
        axes.grid(visible=False)
    right.axvline(mark, color=style.RED, linewidth=1.2)
    right.annotate(
        f"the {mark} most-rated\nmovies",
        (mark, 0.86 * shape[0]),
        xytext=(12, 0),
        textcoords="offset points",
        color=style.RED,
        fontsize=10,
        va="center",
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 2},
        arrowprops={"arrowstyle": "-", "color": style.RED},
    )
    left.set(title="In the order of the file's ids", xlabel="movie, by id", ylabel="user")
    right.set(title="The same, most active first", xlabel="movie, most-rated first")
    picture.colorbar(image, ax=[left, right], label="cells filled (%)", ticks=[0, 5, 25, 50, 100])
    return picture


def rank_frequency(
    items: Ints, users: Ints, line: tuple[float, float], fitted: tuple[int, int]
) -> Figure:
    """Counts by rank on logarithmic axes, with a straight line where it was fitted and beyond.

    Args:
        items: ratings of each movie, largest first.
        users: ratings of each user, largest first.
        line: slope and intercept of ln(count) against ln(rank), for the movies.
        fitted: first and last rank the line was fitted to.
    """
    picture, axes = plots.figure(7.2, 3.8)
    slope, intercept = line
    everywhere, inside = np.arange(1, len(items) + 1), np.arange(fitted[0], fitted[1] + 1)
    for rank, look in ((everywhere, "--"), (inside, "-")):
        count = np.exp(intercept + slope * np.log(rank))
        label = f"line fitted to ranks {fitted[0]} to {fitted[1]}: slope {slope:.2f}"
        axes.plot(
            rank,
            count,
            look,
            color=style.RED,
            linewidth=1.2 if look == "--" else 3.5,
            label=label if look == "-" else "the same line, continued",
        )
    axes.plot(everywhere, items[0] / everywhere, ":", color=style.GREY, label="Zipf: slope -1")
    axes.plot(everywhere, items, color=style.BLUE, label="movies")
    axes.plot(np.arange(1, len(users) + 1), users, color=style.ORANGE, label="users")
    axes.axhline(users.min(), color=style.ORANGE, linewidth=0.8, linestyle="--")
    axes.text(70, users.min() * 1.06, f"no user below {users.min()}", fontsize=9)
    promised = float(np.exp(intercept + slope * np.log(_FAR)))
    ends = {"arrowstyle": "<->", "color": style.INK, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", (_FAR, items[_FAR - 1]), xytext=(_FAR, promised), arrowprops=ends)
    words = (
        f"at rank {_FAR:,} the line\npromises {promised:.0f} ratings,\nthere are {items[_FAR - 1]}"
    )
    axes.text(_FAR, 1.3 * promised, words, ha="center", fontsize=9)
    axes.set(xscale="log", yscale="log", ylim=(0.8, 1.6 * max(items[0], users[0])))
    axes.set(xlabel="rank, most active first", ylabel="ratings")
    axes.set_title("A long tail, but not a straight line")
    axes.legend(loc="lower left")
    return picture


def share_curve(items: Ints, users: Ints, top: int, guess: float) -> Figure:
    """Which share of the ratings the most active share of the movies and of the users holds.

    Args:
        items: ratings of each movie, largest first.
        users: ratings of each user, largest first.
        top: number of movies the reader was asked about.
        guess: the reader's share of the ratings that go to them, 0 to 1.
    """
    picture, axes = plots.figure(7.2, 3.6)
    curves = (("movies", items, style.BLUE), ("users", users, style.ORANGE))
    for name, counts, colour in curves:
        share = np.append(0, counts.cumsum()) / counts.sum()
        axes.plot(np.linspace(0, 100, len(share)), 100 * share, color=colour, label=name)
    axes.plot([0, 100], [0, 100], ":", color=style.GREY, label="if all were equally active")
    x, y = 100 * top / len(items), 100 * items[:top].sum() / items.sum()
    axes.plot([x], [y], "o", color=style.BLUE, markersize=9)
    axes.plot([x], [100 * guess], "*", color=style.RED, markersize=14)
    notes = (
        (f"measured: {y:.1f} %", y, (34, 13), style.BLUE),
        (f"your guess: {100 * guess:.0f} %", 100 * guess, (1.5, 84), style.RED),
    )
    for text, height, place, colour in notes:
        axes.annotate(text, (x, height), xytext=place, color=colour, va="center",
                      arrowprops={"arrowstyle": "-", "color": colour, "shrinkB": 6})  # fmt: skip
    axes.set(xlabel="share of the movies or users, most active first (%)", xlim=(0, 100))
    axes.set(ylabel="share of the ratings (%)", ylim=(0, 102))
    axes.set_title("How few hold how much")
    axes.legend(loc="lower right")
    return picture


def bags(rows: Mapping[str, Sequence[int]], names: Sequence[str]) -> Figure:
    """A jagged feature as it is stored: all ids end to end, and where each row's bag begins.

    Args:
        rows: name of a row -> its ids.
        names: what each id stands for.
    """
    picture = Figure(figsize=(7.4, 2.4), layout="constrained")
    axes = picture.subplots()
    offset = 0
    for (row, ids), colour in zip(rows.items(), style.PALETTE, strict=False):
        axes.text(offset + len(ids) / 2, 2.2, row, ha="center", fontsize=10, color=colour)
        for place, number in enumerate(ids, start=offset):
            axes.add_patch(
                Rectangle((place, 0.75), 1, 0.75, facecolor=colour, edgecolor="white", linewidth=2)
            )
            ink = style.INK if colour == style.ORANGE else "white"
            axes.text(place + 0.5, 1.12, str(number), ha="center", va="center", color=ink)
            axes.text(place + 0.5, 1.6, names[number], ha="center", fontsize=8, color=style.INK)
        _offset_arrow(axes, offset, colour)
        offset += len(ids)
    _offset_arrow(axes, offset, style.INK)
    axes.text(-0.2, 1.12, "values", ha="right", va="center", fontweight="bold")
    axes.text(-0.2, -0.1, "offsets", ha="right", va="center", fontweight="bold")
    axes.set(xlim=(-1.3, offset + 0.4), ylim=(-0.45, 2.6))
    axes.set_title("A bag begins at its offset and ends where the next one begins")
    axes.set_axis_off()
    return picture


def _offset_arrow(axes: Axes, offset: int, colour: str) -> None:
    axes.annotate(
        str(offset),
        (offset, 0.75),
        xytext=(offset, -0.1),
        ha="center",
        va="center",
        color=colour,
        fontweight="bold",
        arrowprops={"arrowstyle": "-|>", "color": colour},
    )


def split_histories(ml: MovieLens, splits: Mapping[str, Split]) -> Figure:
    """Which ratings each split hides: a row is a user's history from first to last rating.

    Args:
        ml: the ratings.
        splits: name -> split, two or more.
    """
    user, timestamp = ml.user.numpy(), ml.timestamp.numpy()
    order = np.lexsort((timestamp, user))  # by user, then time, then place in the file
    counts = np.bincount(user, minlength=ml.n_users)
    starts = counts.cumsum() - counts
    drawn = np.argsort(timestamp[order[starts]], kind="stable")[::_USERS_DRAWN]  # by arrival
    places = (np.arange(_PLACES) + 0.5) / _PLACES
    rows = order[starts[drawn, None] + (places * counts[drawn, None]).astype(np.int64)]
    picture = Figure(figsize=(7.6, 3.6), layout="constrained")
    many = picture.subplots(1, len(splits), sharey=True)
    colours = ListedColormap([style.SKY, style.RED])
    for axes, (name, split) in zip(many, splits.items(), strict=True):
        in_test = np.zeros(len(user), np.int64)
        in_test[split.test.numpy()] = 1
        extent = (0, 100, ml.n_users, 0)
        axes.imshow(in_test[rows], colours, vmin=0, vmax=1, aspect="auto", extent=extent,
                    interpolation="nearest")  # fmt: skip
        axes.set_title(name, fontsize=10.5)
        axes.grid(visible=False)
    many[0].set_ylabel("user, in order of arrival")
    picture.supxlabel("place in the user's history, first to last rating (%)", fontsize=11)
    handles = [Rectangle((0, 0), 1, 1, color=colours(part)) for part in (0, 1)]
    picture.legend(handles, ["training", "test"], loc="outside upper right", ncols=2)
    picture.suptitle("What each split hides", fontweight="bold", fontsize=12, x=0.01, ha="left")
    return picture


def error_by_support(errors: Mapping[str, Sequence[float]], bins: Sequence[str]) -> Figure:
    """The error of predictions by how many other ratings of the movie there were to learn from.

    Args:
        errors: "train" or "test", a space, and a name -> RMSE in each bin. Lines of one name share
            a colour; test is drawn dashed.
        bins: name of each bin.
    """
    picture, axes = plots.figure(7.2, 3.5)
    names = list(dict.fromkeys(key.partition(" ")[2] for key in errors))
    for key, values in errors.items():
        part, _, name = key.partition(" ")
        look = {"train": "o-", "test": "s--"}[part]
        colour = (style.RED, style.BLUE)[names.index(name)]
        axes.plot(bins, values, look, color=colour, label=f"{name}, {part} rows")
    axes.set(xlabel="other training ratings of the same movie", ylabel="RMSE (stars)")
    axes.set_title("The rarer the movie, the louder its mean repeats the answer")
    axes.legend()
    return picture
