"""Chapter 06's pictures: what a third order looks like, what it costs, and who wins."""

from collections.abc import Mapping, Sequence
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
BANDS = 4  # arms; the bands of more could not be told apart
MARKERS = {"cat": "v", "dot": "o", "cross": "s", "third": "D"}


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
    sizes = np.abs(np.concatenate([values.ravel() for values in panels.values()]))
    limit = float(np.quantile(sizes, 0.97))  # or the strongest few cells pale all others
    row = picture.subplots(1, len(panels), sharey=True)
    for axes, (title, values) in zip(row, panels.items(), strict=True):
        image = axes.imshow(values, cmap=style.DIVERGING, vmin=-limit, vmax=limit)
        axes.set(title=title, xlabel=f"id of {fields[1]}", ylabel=f"id of {fields[0]}")
        axes.grid(visible=False)
    picture.colorbar(image, ax=row, label="mean of the term, logits", extend="both")
    return picture


def costs(
    equal: Mapping[str, Mapping[str, Record]],
    double: Mapping[str, Record],
    budgets: Mapping[str, int],
    guesses: Mapping[str, float],
    best: float,
) -> Figure:
    """Quality against cost: left at equal parameters, right at equal FLOP.

    "cat" without an MLP closes nothing and is left out.

    Args:
        equal: "parameters" and "flops", what is equal -> arm -> its size and `share`.
        double: arm -> the same at twice the parameters, drawn small.
        budgets: "parameters" and "flops" -> how many there are.
        guesses: arm -> the reader's guess of its share, drawn at equal parameters.
        best: the reader's guess of the highest share of all.
    """
    picture = Figure(figsize=(10.4, 4.7), layout="constrained")
    panels = picture.subplots(1, 2, sharey=True)
    other = {"parameters": "flops", "flops": "parameters"}
    words = {"parameters": "parameters", "flops": "FLOP of one example"}
    for axes, (same, arms) in zip(panels, equal.items(), strict=True):
        for arm, found in arms.items():
            if arm == "cat":
                continue
            x, share, look = found[other[same]], found["share"], _look(arm)
            ends = min(share["per_seed"]), max(share["per_seed"])
            axes.vlines(x, *ends, color=_colour(arm), linewidth=4, alpha=0.35)
            if same == "parameters":
                end = double[arm]
                axes.plot([x, end["flops"]], [share["mean"], end["share"]["mean"]],
                          **(look | {"markersize": 4, "linewidth": 0.8}))  # fmt: skip
            axes.plot(x, share["mean"], **look)
        _line(axes, 1, "optimum")
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
    panels[0].axhline(best, color=style.RED, linewidth=1, linestyle=":")
    panels[0].annotate("your best", (1, best), xycoords=("axes fraction", "data"), xytext=(-3, 3),
                       textcoords="offset points", color=style.RED, fontsize=9,
                       ha="right")  # fmt: skip
    panels[0].set_ylabel("share of the gap closed")
    panels[0].set_ylim(min(0.38, *(guess - 0.05 for guess in guesses.values())), 1.06)
    handles = [
        Line2D([], [], **(_look(arm) | {"linestyle": ""}), label=arm)
        for arm in double
        if arm != "cat"
    ]
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
        look = _look(arm) | {"linestyle": "-", "markersize": 6, "label": arm}
        right.plot(places, seeds.mean(1), **look)
        if len(arms) <= BANDS:
            right.fill_between(places, seeds.min(1), seeds.max(1), color=_colour(arm), alpha=0.15)
    left.axvline(1, color=style.INK, linewidth=1.2)
    left.set_yticks(range(len(arms)), arms)
    left.grid(axis="y", visible=False)
    left.set(xlim=(-0.04, 1.14), ylim=(len(arms) - 0.4, -0.6))
    left.set(ylabel="arm", xlabel="share of the gap closed (1: the optimum)")
    _line(right, 1, "optimum")
    _line(right, 0, "logistic regression")
    right.set_ylim(-0.06, 1.1)
    right.axvline(here, color=style.RED, linewidth=1, linestyle=":")
    right.set(xlabel="share of third order in the interactions", ylabel="share of the gap closed")
    right.set_xticks(places, [f"{place:.0%}" for place in places])
    right.legend(loc="lower left", bbox_to_anchor=(0, 0.1), fontsize=8.5, ncols=2)
    picture.suptitle(title, x=0.02, y=0.97, ha="left", fontweight="bold", fontsize=12)
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


def _line(axes: Axes, height: float, words: str) -> None:
    """A bound, with its name."""
    axes.axhline(height, color=style.INK if height else style.GREY, linewidth=1.2)
    axes.annotate(words, (0, height), xycoords=("axes fraction", "data"), xytext=(3, 3),
                  textcoords="offset points", fontsize=9)  # fmt: skip
