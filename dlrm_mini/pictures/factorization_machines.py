"""Chapter 03's pictures: a row as a vector, a square and its triangles, time, pushes, draws."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from dlrm_mini import style
from dlrm_mini.datasets.sparse import SparseFeatures
from dlrm_mini.pictures.matrix_factorization import shorten

Floats = NDArray[np.float64]

_FAINT = 0.005  # stars: a smaller push is not written in its cell
_PUSHES = 5  # pairs with a bar of their own
_TITLE: dict[str, Any] = {"fontsize": 12, "fontweight": "bold", "x": 0.01, "ha": "left"}
_LOUD: dict[str, Any] = {"fontsize": 11.5, "fontweight": "bold"}
_SIDES = ("the user's", "the movie's", "the time's")


@dataclass(frozen=True)
class Block:
    """A few columns of a design matrix: those of one field that the shown rows use.

    Attributes:
        name: the field.
        width: how many columns the field has in all.
        columns: names of the shown columns.
        values: (rows, len(columns)), the entries of x.
    """

    name: str
    width: int
    columns: Sequence[str]
    values: Floats


def block(sparse: SparseFeatures, field: str, names: Sequence[str]) -> Block:
    """One field of some examples, with the columns that at least one of them uses.

    Args:
        sparse: the examples.
        field: which feature.
        names: of all its ids.
    """
    ids, offsets, weights = sparse.bag(field)
    used, columns = np.unique(ids.numpy(), return_inverse=True)
    values = np.zeros((sparse.batch_size, len(used)))
    rows = np.repeat(np.arange(sparse.batch_size), offsets.diff().numpy())
    values[rows, columns] = 1.0 if weights is None else weights.numpy()
    return Block(field, len(names), [names[j] for j in used.tolist()], values)


def design_matrix(blocks: Sequence[Block], rows: Sequence[str]) -> Figure:
    """Some examples as rows of a wide sparse matrix, field by field.

    Args:
        blocks: the fields from left to right.
        rows: name of each example.
    """
    picture = Figure(figsize=(10.4, 2.6 + 0.3 * len(rows)), layout="constrained")
    axes = picture.subplots()
    left, ticks, names = 0.0, list[float](), list[str]()
    for block, colour in zip(blocks, style.PALETTE, strict=False):
        for (row, column), value in np.ndenumerate(block.values):
            fill, x = colour if value else "white", left + column
            axes.add_patch(Rectangle((x, row - 0.5), 1, 1, facecolor=fill, edgecolor="#DDDDDD"))
            if value:
                axes.text(x + 0.5, row, f"{value:.2g}", ha="center", va="center", fontsize=8,
                          color="white", fontweight="bold")  # fmt: skip
        width = len(block.columns)
        ticks += [left + column + 0.5 for column in range(width)]
        names += [shorten(name, 24) for name in block.columns]
        heading = f"{block.name.replace('_', ' ')}\n{width} of {block.width:,}"
        axes.text(left + width / 2, -0.75, heading, ha="center", va="bottom", fontsize=9,
                  color=style.INK)  # fmt: skip
        left += width + 0.8
    axes.set_xticks(ticks, names, rotation=90, fontsize=8)
    axes.set_yticks(range(len(rows)), rows)
    axes.set(xlim=(-0.1, left - 0.7), ylim=(len(rows) - 0.4, -2.2), ylabel="rating")
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel(f"columns: {len(ticks)} of {sum(block.width for block in blocks):,}")
    axes.set_title("A rating is a long row that is almost empty")
    return picture


def square_and_triangle(products: Floats, names: Sequence[str]) -> Figure:
    """All dot products of a row's vectors; their diagonal; and the half that the model wants.

    Args:
        products: (n, n) symmetric, the dot product of every vector with every vector.
        names: of the n features.
    """
    n = len(names)
    picture = Figure(figsize=(10.4, 4.4), layout="constrained")
    every, diagonal = np.ones((n, n), bool), np.eye(n, dtype=bool)
    shown = {"the square": every, "its diagonal": diagonal, "one triangle": np.tril(every, -1)}
    limit = float(np.abs(products).max())
    panels = picture.subplots(1, 3, sharey=True)
    for axes, (what, mask) in zip(panels, shown.items(), strict=True):
        _cells(axes, np.where(mask, products, np.nan), limit, 0.0)
        axes.set_xticks(range(n), names, rotation=40, ha="right", fontsize=9)
        axes.set_yticks(range(n), names, fontsize=9)
        axes.set_title(f"{what}: {products[mask].sum():+.4f}", fontsize=11)
        axes.set_xlabel("feature k")
    panels[0].set_ylabel("feature j")
    picture.suptitle("The square less its diagonal is two triangles", **_TITLE)
    return picture


def timing(
    n: Sequence[int],
    seconds: Mapping[str, Sequence[float]],
    *,
    at: int,
    counted: float,
    prediction: float,
) -> Figure:
    """Left, time against the number of features; right, ratios to the identity's time.

    Args:
        n: how many features interact.
        seconds: way -> seconds a batch for each n; the naive way first, the identity last.
        at: the n that the prediction is for.
        counted: the ratio at `at` by counting operations.
        prediction: the reader's.
    """
    picture = Figure(figsize=(10, 3.9), layout="constrained")
    left, right = picture.subplots(1, 2)
    marks = ((style.ORANGE, "o"), (style.PURPLE, "s"), (style.BLUE, "^"))
    ways = {name: np.array(values) for name, values in seconds.items()}
    naive, *_, identity = ways
    for (name, values), (colour, marker) in zip(ways.items(), marks, strict=True):
        look: dict[str, Any] = {"color": colour, "marker": marker, "label": name}
        left.loglog(n, 1e3 * values, **look)
        if name != identity:
            right.loglog(n, values / ways[identity], **look)
    for name, power, word, line in ((naive, 2, "n²", "--"), (identity, 1, "n", ":")):
        guide = 1e3 * ways[name][-1] * (np.array(n) / n[-1]) ** power
        left.loglog(n[2:], guide[2:], line, color=style.GREY, label=f"grows as {word}")
    left.set(title="Time for one batch", ylabel="milliseconds")
    right.plot(at, counted, "D", color=style.GREY, markersize=9, label="by counting operations")
    right.plot(at, prediction, "*", color=style.RED, markersize=16, label="your guess")
    right.axhline(1, **style.LITERATURE)
    right.set(title="Times slower than the identity", ylabel="ratio of times")
    for axes in (left, right):
        axes.set_xlabel("n, features that interact")
        axes.set_xticks(n, list(map(str, n)))
        axes.minorticks_off()
        axes.legend(fontsize=9)
    return picture


def interaction_matrix(
    fields: Sequence[str],
    linear: Floats,
    pairs: Floats,
    *,
    bias: float,
    groups: Sequence[int],
    title: str,
    truth: float | None,
) -> Figure:
    """Left, every pair's push on one prediction; right, the way from w_0 to it by the largest.

    Args:
        fields: name of each of the n fields, with its value.
        linear: (n,) what each field adds by itself, in stars.
        pairs: (n, n) what each pair adds; the upper triangle with its diagonal is read.
        bias: where the prediction starts.
        groups: (n,) ascending, which side a field belongs to: 0 the user's, 1 the movie's, 2 time.
        title: who and what.
        truth: the rating given, if there is one.
    """
    n = len(fields)
    picture = Figure(figsize=(11.0, 6.0))
    picture.set_layout_engine("none")  # laying out would slow each redraw of the widget
    left = picture.add_axes((0.175, 0.26, 0.40, 0.63))
    lower = np.where(np.tri(n, dtype=bool), pairs.T, np.nan)  # (n, n): row k, column j <= k
    across = np.subtract.outer(groups, groups) != 0
    users, movies = (sum(group == side for group in groups) for side in (0, 1))
    limit = max(0.25, float(np.abs(pairs[across]).max(initial=0)))  # biases may be larger
    framed = np.zeros((n, n + 1), bool)
    framed[users : users + movies, 1 : users + 1] = True
    _cells(left, np.column_stack([linear, lower]), limit, _FAINT)  # (n, n + 1)
    left.images[0].set_alpha(np.where(framed, 1.0, 0.25))  # what is not framed steps back
    for number in left.texts:
        column, row = map(int, number.get_position())
        number.set(**(_LOUD if framed[row, column] else {"color": style.GREY}))
    left.axvline(0.5, color=style.GREY, linewidth=1)
    look: dict[str, Any] = {"fill": False, "edgecolor": style.INK, "linewidth": 3, "zorder": 5}
    left.add_patch(Rectangle((0.5, users - 0.5), users, movies, **look))
    labels = [shorten(field, 21) for field in fields]
    left.set_yticks(range(n), labels, fontsize=10)
    left.set_xticks(range(n + 1), ["by itself", *labels], rotation=40, ha="right", fontsize=10.5)
    left.set(xlabel="by itself, or with …", ylabel="field", title="Every pair's push, in stars")
    left.yaxis.set_label_coords(-0.375, 0.5)  # left alone, it would be looked for at each redraw
    right = picture.add_axes((0.79, 0.12, 0.2, 0.765))
    _waterfall(right, _steps(labels, linear, pairs, groups), bias, truth)
    picture.suptitle(title, **_TITLE)
    return picture


def _steps(
    names: Sequence[str], linear: Floats, pairs: Floats, groups: Sequence[int]
) -> list[tuple[str, float]]:
    """The pushes on a prediction: each side by itself, then the pairs that cross, largest first."""
    side = np.array(groups)
    rows, columns = np.triu_indices(len(names))
    across = side[rows] != side[columns]
    pushes = pairs[rows, columns]
    steps = []
    for number, name in enumerate(_SIDES):
        own = float(linear[side == number].sum())
        own += float(pushes[~across & (side[rows] == number)].sum())
        steps += [(f"{name} side by itself", own)] if number in groups else []
    rows, columns, pushes = rows[across], columns[across], pushes[across]
    largest = np.argsort(-np.abs(pushes), kind="stable")[:_PUSHES]
    short = [shorten(name, 15) for name in names]
    steps += [(f"{short[rows[i]]} & {short[columns[i]]}", float(pushes[i])) for i in largest]
    return [*steps, ("all other pairs", float(pushes.sum() - pushes[largest].sum()))]


def _waterfall(
    axes: Axes, steps: Sequence[tuple[str, float]], bias: float, truth: float | None
) -> None:
    """From the bias to the prediction, a bar for each push."""
    level, path = bias, [bias]
    look: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 10.5, "zorder": 4}
    look |= {"bbox": {"facecolor": "white", "edgecolor": "none", "pad": 1}}
    axes.text(bias, -0.85, f"starts at {bias:.2f}", **look)
    for row, (_, push) in enumerate(steps):
        axes.barh(row, push, left=level, color=style.RED if push > 0 else style.BLUE, height=0.6)
        level += push
        axes.plot([level, level], [row - 0.3, row + 1.3], color=style.GREY, linewidth=1)
        path.append(level)
    end = len(steps)
    axes.plot(level, end + 0.4, "D", color=style.INK, markersize=8)
    axes.text(level, end + 1.15, f"predicted {level:.2f}", **look)
    if truth is not None:
        axes.axvline(truth, color=style.GREEN, linestyle="--")
        axes.text(truth, -1.5, f"gave {truth:.0f}", color=style.GREEN, **look)
        path.append(truth)
    axes.set(xlim=(min(path) - 0.8, max(path) + 0.8), ylim=(end + 1.8, -1.9))
    axes.set_yticks(range(end), [name for name, _ in steps], fontsize=10)
    axes.set(xlabel="stars", ylabel="push", title="Push by push")
    axes.yaxis.set_label_coords(-0.99, 0.5)
    axes.grid(axis="y", visible=False)


def posterior(
    single: Floats, running: Floats, point: float, draws: Mapping[str, Floats], truth: Floats
) -> Figure:
    """Left, RMSE of single samples and of their running mean; right, the draws of single ratings.

    Args:
        single: (S,) test RMSE of each sample by itself.
        running: (S,) test RMSE of the mean of the first samples.
        point: test RMSE of the model that is fitted once.
        draws: prediction -> (S,) its value in each sample.
        truth: (len(draws),) the ratings given.
    """
    picture = Figure(figsize=(10.4, 3.9), layout="constrained")
    left, right = picture.subplots(1, 2, width_ratios=(1.15, 1))
    count = np.arange(1, len(single) + 1)
    left.plot(count, single, ".", color=style.ORANGE, markersize=7, label="one sample alone")
    left.plot(count, running, color=style.BLUE, linewidth=3, label="mean of all so far")
    left.axhline(point, **style.LITERATURE)
    left.text(count[-1], point, "one fitted model ", ha="right", va="bottom", fontsize=9)
    left.set(title="Each sample is bad, their mean is good", xlabel="samples",
             ylabel="test RMSE, stars")  # fmt: skip
    left.legend()
    for row, (values, given) in enumerate(zip(draws.values(), truth, strict=True)):
        place = row + np.linspace(-0.22, 0.22, len(values))
        right.plot(values, place, ".", color=style.ORANGE, markersize=5, alpha=0.7)
        right.plot([values.mean()] * 2, [row - 0.33, row + 0.33], color=style.BLUE, linewidth=3)
        right.plot(given, row, "D", color=style.GREEN, markersize=8)
    right.set_yticks(range(len(draws)), list(draws), fontsize=9)
    right.invert_yaxis()
    right.grid(axis="y", visible=False)
    right.set(title="How sure is it of one rating?", xlabel="stars", ylabel="movie")
    return picture


def _cells(axes: Axes, values: Floats, limit: float, faint: float) -> None:
    """A matrix as colours, white at zero, with the numbers from `faint` on written in."""
    axes.imshow(values, cmap=style.DIVERGING, vmin=-limit, vmax=limit, aspect="auto")
    for row, column in np.argwhere(np.abs(values) >= faint):
        value = values[row, column]
        text = f"{value:+.2f}".replace("0.", ".", 1) if abs(value) >= _FAINT else "0"
        colour = "white" if abs(value) > 0.6 * limit else style.INK
        axes.text(column, row, text, ha="center", va="center", fontsize=7.5, color=colour)
    axes.grid(visible=False)
