"""Chapter 06's pictures: what a third order looks like, what it costs, and who found which."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LightSource
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator
from numpy.typing import NDArray

from dlrm_mini import style

Floats = NDArray[np.float64]
Record = Mapping[str, Any]

COLOURS = {"cat": style.GREY, "dot": style.BLUE, "cross": style.ORANGE, "third": style.GREEN}
MARKERS = {"cat": "v", "dot": "o", "cross": "s", "third": "D"}
WRITTEN = 0.2  # of a matrix's largest cell: those above have their number written in


def cube(n: int) -> Figure:
    """All ordered triples of n vectors as a cube: those that coincide, and each triple once."""
    i, j, k = np.indices((n, n, n))
    equal = (i == j).astype(int) + (j == k) + (i == k)  # 0, 1 or, where all are equal, 3
    once = (i < j) & (j < k)
    kinds = {"three different": 0, "two equal": 1, "all equal": 3}
    shades = dict(zip(kinds.values(), (style.SKY, style.YELLOW, style.RED), strict=True))
    colours = np.vectorize(shades.get)(equal)
    picture = Figure(figsize=(10, 3.9), constrained_layout=False)
    drawn = {
        f"all {n**3} ordered triples": np.ones_like(once),
        "three different": equal == 0,
        f"each triple once: {int(once.sum())}": once,
    }
    for place, (title, cells) in enumerate(drawn.items()):
        axes: Any = picture.add_axes((0.01 + 0.33 * place, 0.1, 0.3, 0.8), projection="3d")
        light = LightSource(azdeg=-75, altdeg=60)
        axes.voxels(cells, facecolors=colours, edgecolor="white", linewidth=0.6, lightsource=light)
        axes.set(xlabel="i", ylabel="j", zlabel="k", xticks=[], yticks=[], zticks=[])
        axes.set(xlim=(0, n), ylim=(0, n), zlim=(0, n))
        axes.set_title(title, loc="center", y=0.98)
        axes.view_init(elev=24, azim=-38)
        for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
            axis.labelpad = -12
    keys = [
        Rectangle((0, 0), 1, 1, color=shades[kind], label=f"{name}: {int((equal == kind).sum())}")
        for name, kind in kinds.items()
    ]
    picture.legend(handles=keys, loc="lower center", ncols=3)
    return picture


def slices(panels: Mapping[str, Floats], fields: tuple[str, str]) -> Figure:
    """What a planted triple adds to the logit, for ids of two fields: a panel for each third id.

    Args:
        panels: what is known of the third field -> (ids, ids) mean of the term in logits.
        fields: the field down the side and the one along the bottom.
    """
    picture = Figure(figsize=(10.4, 3.6), layout="constrained")
    limit = max(float(np.abs(values).max()) for values in panels.values())
    row = picture.subplots(1, len(panels), sharey=True)
    for axes, (title, values) in zip(row, panels.items(), strict=True):
        image = axes.imshow(values, cmap=style.DIVERGING, vmin=-limit, vmax=limit)
        axes.set(title=title, xlabel=f"id of {fields[1]}", ylabel=f"id of {fields[0]}")
        axes.grid(visible=False)
    picture.colorbar(image, ax=row, label="mean of the term, logits")
    return picture


def costs(
    equal: Mapping[str, Mapping[str, Record]],
    double: Mapping[str, Record],
    budgets: Mapping[str, int],
    guesses: Mapping[str, float],
) -> Figure:
    """Quality against cost: left at equal parameters, right at equal FLOP.

    Args:
        equal: "parameters" and "flops", what is equal -> arm -> its size and `share`.
        double: arm -> the same at twice the parameters, drawn small.
        budgets: "parameters" and "flops" -> how many there are.
        guesses: arm -> the reader's guess of its share, drawn at equal parameters.
    """
    picture = Figure(figsize=(10.4, 4.7), layout="constrained")
    panels = picture.subplots(1, 2, sharey=True)
    other = {"parameters": "flops", "flops": "parameters"}
    words = {"parameters": "parameters", "flops": "FLOP of one example"}
    for axes, (same, arms) in zip(panels, equal.items(), strict=True):
        for arm, found in arms.items():
            x, share, look = found[other[same]], found["share"], _look(arm)
            axes.plot([x] * len(share["per_seed"]), share["per_seed"], "_", color=_colour(arm))
            if same == "parameters":
                end = double[arm]
                axes.plot([x, end["flops"]], [share["mean"], end["share"]["mean"]],
                          **(look | {"markersize": 4, "linewidth": 0.8}))  # fmt: skip
            axes.plot(x, share["mean"], **look)
        _lines(axes)
        axes.set(xscale="log", xlabel=words[other[same]])
        axes.set_title(f"{budgets[same]:,} {words[same].split()[0]} each")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.minorticks_off()
        axes.margins(x=0.12)
    for arm, guess in guesses.items():
        x = equal["parameters"][arm]["flops"]
        panels[0].plot(x, guess, "*", color=style.RED, markersize=14, zorder=5)
        panels[0].text(x * 1.15, guess, f"your {arm}", color=style.RED, va="center", fontsize=9)
    panels[0].set_ylabel("share of the gap closed")
    handles = [Line2D([], [], **(_look(arm) | {"linestyle": ""}), label=arm) for arm in double]
    picture.legend(handles=handles, loc="outside lower center", ncols=4)
    return picture


def who_wins(
    worlds: Mapping[float, Mapping[str, Record]], here: float, arms: Sequence[str], title: str
) -> Figure:
    """Left the arms in one world, right all worlds, by the share of third order.

    Args:
        worlds: share of third order -> arm -> `share` of the gap, with `mean` and `per_seed`.
        here: which world is picked out.
        arms: those to draw.
        title: what the picture shows.
    """
    picture = Figure(figsize=(10.4, 3.9), constrained_layout=False)  # laying out costs 100 ms
    left = picture.add_axes((0.115, 0.14, 0.36, 0.69))
    right = picture.add_axes((0.565, 0.14, 0.425, 0.69))
    places = sorted(worlds)
    for row, arm in enumerate(arms):
        share = worlds[here][arm]["share"]
        left.barh(row, share["mean"], color=_colour(arm), alpha=0.35, height=0.62)
        up = np.linspace(-0.18, 0.18, len(share["per_seed"]))
        left.plot(share["per_seed"], row + up, ".", color=_colour(arm), markersize=8)
        edge = max(0.0, *share["per_seed"])
        left.annotate(f"{round(100 * share['mean'])}%", (edge, row), xytext=(6, 0), va="center",
                      textcoords="offset points", fontsize=10)  # fmt: skip
        seeds = np.array([worlds[place][arm]["share"]["per_seed"] for place in places])
        right.plot(places, seeds.mean(1), **(_look(arm) | {"linestyle": "-", "markersize": 6}))
        right.fill_between(places, seeds.min(1), seeds.max(1), color=_colour(arm), alpha=0.12)
    left.axvline(1, color=style.INK, linewidth=1.2)
    left.set_yticks(range(len(arms)), arms)
    left.grid(axis="y", visible=False)
    left.set(xlim=(-0.04, 1.14), ylim=(len(arms) - 0.4, -0.6))
    left.set(ylabel="arm", xlabel="share of the gap closed (1: the optimum)")
    _lines(right)
    right.axvline(here, color=style.RED, linewidth=1, linestyle=":")
    right.set(xlabel="share of third order in the interactions", ylabel="share of the gap closed")
    right.set_xticks(places, [f"{place:.0%}" for place in places])
    picture.suptitle(title, x=0.02, y=0.97, ha="left", fontweight="bold", fontsize=12)
    return picture


def matrices(
    names: Sequence[str],
    panels: Mapping[str, Floats],
    planted: Mapping[tuple[str, ...], float],
    triples: Mapping[str, float] | None = None,
    *,
    title: str,
    label: str = "std of what a pair does, logits",
) -> Figure:
    """Matrices of pairs side by side, what was planted framed in each; and bars of triples.

    Args:
        names: of the n vectors.
        panels: title -> (n, n); the strictly lower triangle is drawn, all in one scale.
        planted: the planted pairs and triples of names -> strength; pairs of a triple are dotted.
        triples: names of a triple, spaces between -> its strength, drawn as bars.
        title: what the picture shows.
        label: of the colour bar.
    """
    bars = 0.25 if triples else 0.0
    width = (0.9 - bars) / len(panels)
    picture = Figure(figsize=(10.4, 3.9), constrained_layout=False)  # laying out costs 100 ms
    lower = np.tri(len(names), k=-1, dtype=bool)
    limit = max(float(values[lower].max()) for values in panels.values())
    for place, (words, values) in enumerate(panels.items()):
        axes = picture.add_axes((0.06 + place * width, 0.19, width - 0.06, 0.64))
        shown = np.ma.array(values, mask=~lower)
        image = axes.imshow(shown, cmap=style.SEQUENTIAL, vmin=0, vmax=limit, aspect="auto")
        for row, column in np.argwhere(lower & (values > WRITTEN * limit)):
            ink = "black" if values[row, column] > 0.55 * limit else "white"
            axes.text(column, row, f"{values[row, column]:.1f}", fontsize=8, color=ink,
                      ha="center", va="center")  # fmt: skip
        _frames(axes, names, planted)
        axes.set_xticks(range(len(names)), names, rotation=60, fontsize=8.5)
        axes.set_yticks(range(len(names)), names, fontsize=8.5)
        axes.set(xlim=(-0.5, len(names) - 1.5), ylim=(len(names) - 0.5, 0.5))
        axes.set(xlabel="... and this one", ylabel="this feature ...", title=words)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
    scale = picture.add_axes((0.06 + len(panels) * width - 0.05, 0.19, 0.012, 0.64))
    picture.colorbar(image, cax=scale, label=label)
    if triples:
        axes = picture.add_axes((0.99 - bars + 0.11, 0.19, bars - 0.12, 0.64))
        known = {" ".join(group): strength for group, strength in planted.items()}
        for row, (triple, strength) in enumerate(triples.items()):
            axes.barh(row, strength, color=style.BLUE if triple in known else style.GREY)
            if triple in known:
                axes.plot(known[triple], row, "|", color=style.RED, markersize=17, mew=2.5)
        axes.set_yticks(range(len(triples)), list(triples), fontsize=8.5)
        axes.set(ylim=(len(triples) - 0.4, -0.6), xlim=(0, 0.9), xlabel="logits", ylabel="triple")
        axes.set_title("strongest triples")
        axes.grid(axis="y", visible=False)
    picture.suptitle(title, x=0.02, y=0.985, ha="left", fontweight="bold", fontsize=12)
    return picture


def clicks(found: Mapping[str, Mapping[str, Record]], budgets: Mapping[str, str]) -> Figure:
    """AUC and logloss of the arms on real clicks, at each budget.

    Args:
        found: arm -> budget -> `auc` and `logloss`, each with `mean` and `per_seed`.
        budgets: name of a budget -> words for it.
    """
    picture = Figure(figsize=(10.4, 4.2), layout="constrained")
    panels = picture.subplots(1, 2, sharey=True)
    looks = ((style.BLUE, "o", -0.14), (style.ORANGE, "s", 0.14))
    for axes, metric in zip(panels, ("auc", "logloss"), strict=True):
        for (budget, words), (colour, marker, lift) in zip(budgets.items(), looks, strict=True):
            for row, (arm, of_arm) in enumerate(found.items()):
                if budget in of_arm:
                    value, at = of_arm[budget][metric], row + lift
                    label = words if arm == "dot" else None
                    axes.plot(value["mean"], at, marker, color=colour, label=label, markersize=8)
                    axes.plot(value["per_seed"], [at] * len(value["per_seed"]), "|", color=colour)
        axes.grid(axis="y", visible=False)
    panels[0].set_yticks(range(len(found)), list(found))
    panels[0].set(ylabel="arm", xlabel="test AUC, higher is better", title="Order")
    panels[0].set_ylim(len(found) - 0.5, -0.6)
    panels[1].set(xlabel="test logloss in nats, lower is better", title="Probabilities")
    picture.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return picture


def published(
    tables: Mapping[str, Mapping[str, float]], made_of: Mapping[str, tuple[str, bool]]
) -> Figure:
    """Published AUC of models, sorted, a panel for each data set; filled with an MLP.

    Args:
        tables: data set -> model -> AUC.
        made_of: model -> "no pairs", "pairs" or "higher orders", and whether an MLP is with them.
    """
    picture = Figure(figsize=(10.4, 4.2), layout="constrained")
    colours = {"no pairs": style.GREY, "pairs": style.BLUE, "higher orders": style.ORANGE}
    panels = picture.subplots(1, len(tables), squeeze=False)[0]
    for axes, (name, models) in zip(panels, tables.items(), strict=True):
        ordered = sorted(models, key=lambda model: models[model])
        for row, model in enumerate(ordered):
            order, mlp = made_of[model]
            face = colours[order] if mlp else "white"
            axes.plot(models[model], row, "o", color=colours[order], markerfacecolor=face,
                      markersize=9, markeredgewidth=1.8)  # fmt: skip
            axes.annotate(f"{models[model]:.4f}", (models[model], row), xytext=(9, 0),
                          va="center", fontsize=9, textcoords="offset points")  # fmt: skip
        axes.set_yticks(range(len(ordered)), ordered)
        axes.set(title=name, xlabel="published test AUC", ylabel="model")
        axes.margins(x=0.22)
        axes.grid(axis="y", visible=False)
    handles = [Line2D([], [], color=colour, lw=6, label=order) for order, colour in colours.items()]
    picture.legend(handles=handles, loc="outside lower center", ncols=3)
    return picture


def _colour(arm: str) -> str:
    return COLOURS[arm.split()[0]]


def _look(arm: str) -> dict[str, Any]:
    """Colour and marker say how the vectors meet, a filled marker that an MLP is on top."""
    colour, mlp = _colour(arm), "MLP" in arm
    look: dict[str, Any] = {"marker": MARKERS[arm.split()[0]], "markersize": 9, "linewidth": 1.6}
    look |= {"markerfacecolor": colour if mlp else "white", "markeredgewidth": 1.6}
    return look | {"color": colour, "linestyle": "-" if mlp else "--"}


def _lines(axes: Axes) -> None:
    """The optimum and logistic regression."""
    for height, words in ((1, "optimum"), (0, "logistic regression")):
        axes.axhline(height, color=style.INK if height else style.GREY, linewidth=1.2)
        axes.annotate(words, (0, height), xycoords=("axes fraction", "data"), xytext=(3, 3),
                      textcoords="offset points", fontsize=9)  # fmt: skip
    axes.set_ylim(-0.06, 1.1)


def _frames(axes: Axes, names: Sequence[str], planted: Iterable[tuple[str, ...]]) -> None:
    """A frame around each planted pair, a dotted one around the pairs of each triple."""
    for group in planted:
        found = sorted((names.index(name) for name in group), reverse=True)
        look: dict[str, Any] = {"fill": False, "edgecolor": style.RED, "linewidth": 1.8}
        look["linestyle"] = ":" if len(group) == 3 else "-"
        for row, column in combinations(found, 2):
            axes.add_patch(Rectangle((column - 0.46, row - 0.46), 0.92, 0.92, **look))
