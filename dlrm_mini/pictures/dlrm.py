"""Chapter 05's pictures: the order of the pairs, where the parameters sit, and what pairs do."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from dlrm_mini import plots, style
from dlrm_mini.interactions import output_width, pair_indices

Floats = NDArray[np.float64]
Seeds = Mapping[str, Sequence[float]]  # variant -> one value per seed
WRITTEN = 6  # pairs of a matrix whose number is written in
UNUSED = "#EDEDED"
SHADES = style.ORANGES  # of a pair, by its row


def pair_order(names: Sequence[str], dim: int) -> Figure:
    """The order of the pairs and of the output of `interactions.dot_interaction`.

    Args:
        names: of the n vectors, the dense one first.
        dim: D, drawn as D cells in front.
    """
    picture = Figure(figsize=(10, 3.7), layout="constrained")
    left, right = picture.subplots(1, 2, width_ratios=(1, 1.55))
    rows, columns = (index.tolist() for index in pair_indices(len(names)))
    for row, column in np.argwhere(~np.tri(len(names), k=-1, dtype=bool)):
        _cell(left, column, row, "", UNUSED)
    for place, (row, column) in enumerate(zip(rows, columns, strict=True)):
        _cell(left, column, row, str(place), SHADES[row % 5])
    left.set(xlim=(-0.6, len(names) - 0.4), ylim=(len(names) - 0.4, -0.6), aspect="equal",
             xlabel="column: the other vector", ylabel="row: one vector")  # fmt: skip
    numbered = [f"{i} {name}" for i, name in enumerate(names)]
    left.set_xticks(range(len(names)), numbered, rotation=30, ha="right")
    left.set_yticks(range(len(names)), numbered)
    left.set_title("Pairs: row by row, below the diagonal")
    left.tick_params(length=0)
    for place in range(dim):
        _cell(right, place, 0, f"z{place}", style.SKY)
    for place, (row, column) in enumerate(zip(rows, columns, strict=True)):
        _cell(right, (place + dim) % 8, (place + dim) // 8, f"{row}·{column}", SHADES[row % 5])
    width = dim + len(rows)
    lines = -(-width // 8)
    right.set(xlim=(-0.6, 7.6), ylim=(lines - 0.4, -0.6), aspect="equal", xticks=[], yticks=[])
    right.set(xlabel="read like a page: left to right, line by line", ylabel="top MLP's input")
    right.set_title(f"Output: {dim} numbers of the dense vector, then {len(rows)} pairs")
    for axes in (left, right):
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
    return picture


def _cell(axes: Axes, x: float, y: float, text: str, colour: str) -> None:
    axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=colour, edgecolor="white", lw=2))
    axes.text(x, y, text, ha="center", va="center", fontsize=10)


def fm_slots(fields: Sequence[str], dim: int = 2) -> Figure:
    """How an FM's weights are laid out in DLRM's vectors: too narrow (d + 1), and right (d + F).

    Args:
        fields: names of the F one-hot fields.
        dim: d, the width of the FM's vectors.
    """
    picture = Figure(figsize=(10, 3.3), layout="constrained")
    narrow, wide = picture.subplots(1, 2, width_ratios=(dim + 1.6, dim + len(fields) + 0.6))
    names = ["bottom MLP", *fields]
    for axes, slots in ((narrow, 1), (wide, len(fields))):
        drawn = [["0"] * dim + ["1"] * slots]
        for field in range(len(fields)):
            vector = [f"$v_{{{field + 1},{column + 1}}}$" for column in range(dim)]
            own = [f"$w_{field + 1}$" if slot == field % slots else "0" for slot in range(slots)]
            drawn.append(vector + own)
        for (row, column), text in np.ndenumerate(drawn):
            colour = style.SKY if column < dim else style.YELLOW
            _cell(axes, column, row, text, UNUSED if text == "0" else colour)
        axes.set(xlim=(-0.6, dim + slots - 0.4), ylim=(len(names) - 0.4, -0.6), aspect="equal")
        axes.set_xticks(range(dim + slots), [str(c + 1) for c in range(dim + slots)])
        axes.set_yticks(range(len(names)), names)
        axes.set(xlabel="coordinate of the DLRM vector", ylabel="vector")
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
    narrow.set_title("width d + 1: weights share a slot")
    wide.set_title("width d + F: each field has its own")
    return picture


def table_sizes(cardinalities: Mapping[str, int], dim: int, mlps: int, largest: int = 5) -> Figure:
    """Parameters of each table, largest first, on a logarithmic axis, beside all MLPs together.

    Args:
        cardinalities: table -> rows.
        dim: D, numbers in a row.
        mlps: parameters of all fully connected layers.
        largest: how many tables are set off in colour.
    """
    ordered = sorted(cardinalities.items(), key=lambda item: -item[1])
    sizes = [rows * dim for _, rows in ordered]
    picture, axes = plots.figure(10, 4.0)
    colours = [style.ORANGE if place < largest else style.SKY for place in range(len(sizes))]
    axes.bar(range(len(sizes)), sizes, color=colours, width=0.75)
    axes.axhline(mlps, color=style.RED, linestyle="--")
    words = f"all MLPs together: {mlps / 1e6:.3f} M"
    axes.text(len(sizes) - 0.5, mlps * 1.25, words, color=style.RED, ha="right", fontsize=11)
    for place in range(largest):
        axes.text(place, sizes[place] * 0.6, count(sizes[place]), ha="center", va="top",
                  rotation=90, fontsize=11)  # fmt: skip
    share = sum(sizes[:largest]) / sum(sizes)
    axes.set_yscale("log")
    axes.set_ylim(10, max(sizes) * 3)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: count(value)))
    axes.set_xticks(range(len(sizes)), [name for name, _ in ordered], rotation=60, fontsize=9)
    axes.set(xlabel="table, largest first", ylabel="parameters (logarithmic)")
    axes.set_title(f"The {largest} largest of {len(sizes)} tables hold {share:.1%} of all rows")
    axes.grid(axis="x", visible=False)
    return picture


def count(value: float) -> str:
    """A count for people: 1,500 -> '1.5 k', 540,000,000 -> '540 M'."""
    for factor, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= factor:
            return f"{value / factor:.3g}{letter}"
    return f"{value:.3g}"


def dimensionality(n_vectors: int, first_layer: int, marked: Sequence[int] = (16, 128)) -> Figure:
    """Two meanings of dimensionality, by embedding width: the top MLP's input, and parameters.

    Args:
        n_vectors: n = F + 1, vectors that interact.
        first_layer: units of the top MLP's first layer.
        marked: embedding widths whose values are written in.
    """
    picture = Figure(figsize=(10, 4.1), layout="constrained")
    left, right = picture.subplots(1, 2)
    dims = np.arange(4, 257)
    sizes = {name: np.array([_sizes(n_vectors, int(d), first_layer)[name] for d in dims])
             for name in ("dot", "cat", "DCN-v1, 6 layers", "DCN-v2, 1 layer")}  # fmt: skip
    looks = ((style.BLUE, "-", "o"), (style.ORANGE, "-", "s"),
             (style.GREEN, "--", "^"), (style.PURPLE, "-", "D"))  # fmt: skip
    at = [int(np.flatnonzero(dims == d)[0]) for d in marked]
    for (name, values), (colour, line, marker) in zip(sizes.items(), looks, strict=True):
        look: dict[str, Any] = {"color": colour, "linestyle": line, "marker": marker}
        if name in ("dot", "cat"):
            left.plot(dims, values[:, 0], label=name, markevery=at, **look)
        right.plot(dims, values[:, 1], label=name, markevery=at, **look)
    for place in at:
        for kind, offset in (("dot", -15), ("cat", 9)):
            value = int(sizes[kind][place, 0])
            left.annotate(f"{value:,}", (float(dims[place]), value), xytext=(0, offset),
                          textcoords="offset points", ha="center", fontsize=10)  # fmt: skip
    left.axvline(n_vectors / 2, **style.LITERATURE)
    left.text(n_vectors / 2 * 1.06, 95, f"d = n/2 = {n_vectors / 2:g}", fontsize=10)
    left.set(ylabel="numbers the top MLP is given", title="Width: dot is narrower beyond n/2")
    right.set(ylabel="parameters",
              title=f"Parameters: crossing and first layer of {first_layer}")  # fmt: skip
    for axes in (left, right):
        axes.set(xscale="log", yscale="log", xlabel="embedding width d")
        axes.set_xticks([4, 16, 64, 128, 256], ["4", "16", "64", "128", "256"])
        axes.minorticks_off()
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: count(value)))
        axes.legend(loc="upper left")
    left.set(ylim=(80, 9000), yticks=(100, 300, 1000, 3000))
    return picture


def _sizes(n: int, dim: int, first_layer: int) -> dict[str, tuple[int, int]]:
    """Width of the top MLP's input, and parameters up to its first layer's end, by interaction."""
    dot, cat = output_width("dot", n, dim), output_width("cat", n, dim)
    layer = {width: width * first_layer + first_layer for width in (dot, cat)}
    return {
        "dot": (dot, layer[dot]),
        "cat": (cat, layer[cat]),
        "DCN-v1, 6 layers": (cat, layer[cat] + 6 * 2 * cat),
        "DCN-v2, 1 layer": (cat, layer[cat] + cat * cat + cat),
    }


def click_ladder(
    splits: Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]],
) -> Figure:
    """AUC and logloss of each model on each split.

    Args:
        splits: split -> model -> metric -> {"mean", "spread"}, the spread over seeds.
    """
    picture = Figure(figsize=(10, 4.0), layout="constrained")
    panels = picture.subplots(1, 2, sharey=True)
    models = list(next(iter(splits.values())))
    looks = ((style.BLUE, "o", 7), (style.RED, "s", -15))
    for axes, metric in zip(panels, ("auc", "logloss"), strict=True):
        for (split, rungs), (colour, marker, lift) in zip(splits.items(), looks, strict=False):
            for row, model in enumerate(models):
                mean, spread = rungs[model][metric]["mean"], rungs[model][metric]["spread"]
                name = split if row == 0 else None
                axes.errorbar(mean, row, xerr=spread or None, fmt=marker, color=colour,
                              markersize=7, capsize=4, label=name)  # fmt: skip
                axes.annotate(f"{mean:.4f}", (mean, row), xytext=(0, lift), fontsize=9,
                              textcoords="offset points", ha="center", color=colour)  # fmt: skip
        axes.grid(axis="y", visible=False)
        axes.margins(x=0.12)
    panels[0].set_yticks(range(len(models)), models)
    panels[0].set_ylim(len(models) - 0.5, -0.8)
    panels[0].set(xlabel="test AUC, higher is better", ylabel="model", title="Order")
    panels[1].set(xlabel="test logloss in nats, lower is better", title="Probabilities")
    panels[1].legend(loc="lower right", title="split")
    return picture


def ablations(
    splits: Mapping[str, Seeds], *, full: str, prediction: tuple[str, float] | None = None
) -> Figure:
    """What a DLRM loses without each part: one dot per seed, the bar is the mean.

    Args:
        splits: split -> variant -> AUC per seed; among the variants the whole model.
        full: the variant that is the whole model; the others are compared with its mean.
        prediction: (variant, the reader's guess of its difference), drawn as a star.
    """
    picture = Figure(figsize=(10, 3.6), layout="constrained")
    panels = picture.subplots(1, len(splits), sharey=True, sharex=True, squeeze=False)[0]
    for axes, (split, variants) in zip(panels, splits.items(), strict=True):
        whole = float(np.mean(variants[full]))
        axes.axvline(0, color=style.GREY, linewidth=1)
        for row, (name, values) in enumerate(variants.items()):
            change = np.asarray(values) - whole
            colour = style.ORANGE if name == full else style.BLUE
            axes.barh(row, change.mean(), color=colour, alpha=0.35, height=0.55)
            up = np.linspace(-0.14, 0.14, len(change))
            axes.plot(change, row + up, "o", color=colour, markersize=6)
            axes.annotate(f"{change.mean():+.4f}" if name != full else f"AUC {whole:.4f}",
                          (max(float(change.max()), 0), row), xytext=(8, 0), va="center",
                          textcoords="offset points", fontsize=10)  # fmt: skip
        if prediction is not None:
            row = list(variants).index(prediction[0])
            axes.plot(prediction[1], row, "*", color=style.RED, markersize=14)
            axes.annotate("your guess", (prediction[1], row), xytext=(0, 9), color=style.RED,
                          textcoords="offset points", ha="center", fontsize=9)  # fmt: skip
        axes.set(xlabel="change of test AUC", title=split)
        axes.grid(axis="y", visible=False)
        axes.margins(x=0.2)
    names = list(next(iter(splits.values())))
    panels[0].set_yticks(range(len(names)), names)
    panels[0].set(ylabel="model", ylim=(len(names) - 0.4, -0.6))
    return picture


def pair_matrices(
    names: Sequence[str],
    products: Floats,
    effects: Floats,
    *,
    title: str,
    effect_label: str,
    deviation: bool = False,
) -> Figure:
    """Left the dot products of all pairs, right what each does to the logit.

    Args:
        names: of the n vectors.
        products: (n, n); the strictly lower triangle is drawn.
        effects: (n, n), signed or not.
        title: whose matrices these are.
        effect_label: unit of `effects`.
        deviation: whether `products` are given relative to their average.
    """
    picture = Figure(figsize=(10.4, 4.9), constrained_layout=False)  # laying out costs 100 ms
    hidden = ~np.tri(len(names), k=-1, dtype=bool)
    relative = ", above or below average" if deviation else ""
    panels = ((0.118, "dot product", products, f"The dot products{relative}"),
              (0.612, effect_label, effects, "What they do to the logit"))  # fmt: skip
    for left, label, values, words in panels:
        axes = picture.add_axes((left, 0.205, 0.295, 0.645))
        shown = np.ma.array(values, mask=hidden)
        limit = float(np.abs(shown).max()) or 1.0
        image = axes.imshow(shown, cmap=style.DIVERGING, vmin=-limit, vmax=limit, aspect="auto")
        size = np.where(hidden, -1.0, np.abs(values))
        for place in np.argsort(-size, axis=None)[:WRITTEN]:
            row, column = divmod(int(place), len(names))
            ink = "white" if size[row, column] > 0.65 * limit else "black"
            axes.text(column, row, f"{values[row, column]:.2f}", fontsize=7.5, color=ink,
                      ha="center", va="center")  # fmt: skip
        axes.set_xticks(range(len(names)), names, rotation=50, ha="right", fontsize=8.5)
        axes.set_yticks(range(len(names)), names, fontsize=8.5)
        axes.set(xlim=(-0.5, len(names) - 1.5), ylim=(len(names) - 0.5, 0.5))
        axes.set(xlabel="vector", ylabel="with vector")
        axes.set_title(words, fontsize=11)
        axes.grid(visible=False)
        bar = picture.add_axes((left + 0.303, 0.205, 0.011, 0.645))
        picture.colorbar(image, cax=bar, label=label)
        bar.set_ylim(min(0, float(np.sign(shown.min()))) * limit, limit)
    picture.suptitle(title, x=0.02, y=0.985, ha="left", fontweight="bold", fontsize=12)
    return picture
