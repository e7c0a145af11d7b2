"""Chapter 12's pictures: a tower of tables, what moves less, and the traces of a mistake."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from matplotlib.figure import Figure

from dlrm_mini import style

SHADES = style.BLUES  # of tables in the tower
REPLICATED, SPLIT = style.RED, style.PURPLE


def tower(tables: Mapping[str, int], mlps: int, cards: Mapping[str, float]) -> Figure:
    """All tables on top of each other, beside the memory of some cards and the MLPs, to scale.

    Args:
        tables: name -> bytes.
        mlps: bytes of both MLPs together.
        cards: words -> bytes of a device's memory.
    """
    picture = Figure(figsize=(9.2, 5.6), layout="constrained")
    axes = picture.subplots()
    low = 0.0
    by_size = sorted(tables.items(), key=lambda table: -table[1])
    total = sum(tables.values())
    named = [one for one in by_size if one[1] > 0.04 * total]
    for place, (name, n_bytes) in enumerate(by_size):
        shade = SHADES[min(place, len(SHADES) - 1)]
        axes.bar(0, n_bytes / 1e9, 0.8, low, color=shade, edgecolor="white", linewidth=0.6)
        if (name, n_bytes) in named:
            colour = "white" if place < 2 else style.INK
            label = f"{name}: {n_bytes / 1e9:.1f} GB"
            axes.text(0, low + n_bytes / 2e9, label, ha="center", va="center", color=colour)
        low += n_bytes / 1e9
    rest = total - sum(n_bytes for _, n_bytes in named)
    axes.text(0, low + 1, f"{len(by_size) - len(named)} more: {rest / 1e9:.1f} GB", ha="center")
    for place, (words, memory) in enumerate(cards.items(), start=1):
        holds = memory / 1e9
        axes.bar(place, holds, 0.8, facecolor="white", edgecolor=style.INK, linewidth=1.8)
        axes.text(place, holds + 1, words, ha="center")
    last = len(cards) + 1
    axes.bar(last, mlps / 1e9, 0.8, color=style.GROUP_COLOURS["fully connected"])
    axes.annotate(
        f"{mlps / 1e6:.1f} MB:\nthe bar is there", (last, mlps / 1e9), (last, 17),
        ha="center", arrowprops={"arrowstyle": "->", "color": style.INK},
    )  # fmt: skip
    names = [f"the {len(tables)} tables", *("one card" for _ in cards), "both MLPs"]
    axes.set_xticks(range(last + 1), names)
    axes.set(ylabel="GB, to scale", xlabel="what is held", ylim=(0, low * 1.08))
    axes.set_title(f"{total / 1e9:.1f} GB of tables, and what one device holds")
    axes.grid(axis="x", visible=False)
    return picture


def crossing(
    sizes: Sequence[float],
    lines: Mapping[str, Sequence[float]],
    matrices: Mapping[str, Sequence[int]],
    local: int,
) -> Figure:
    """Bytes sent for one column of a matrix, whole or split, by the number of its rows.

    Args:
        sizes: numbers of rows, rising.
        lines: way -> bytes at each of them: replicated, all or touched rows, then split.
        matrices: "embeddings" and "fully connected" -> the rows of each matrix of a model.
        local: b, the rows of the batch that a rank has.
    """
    picture = Figure(figsize=(9.2, 4.4), layout="constrained")
    axes = picture.subplots()
    looks = ((REPLICATED, "-"), (REPLICATED, "--"), (SPLIT, "-"))
    for (way, values), (colour, dashes) in zip(lines.items(), looks, strict=True):
        axes.plot(sizes, values, dashes, color=colour, label=way)
    whole, *_, split = (np.asarray(values) for values in lines.values())
    best = np.minimum(whole, split)
    for group, rows in matrices.items():
        heights = np.exp(np.interp(np.log(rows), np.log(sizes), np.log(best)))
        colour = style.GROUP_COLOURS[group]
        words = f"{group}: {len(rows)} matrices"
        axes.plot(rows, heights, "o", color=colour, markersize=8, mec="white", label=words)
    axes.axvline(local, **style.LITERATURE)
    axes.text(local * 1.15, best.min(), f"N = b = {local:,}", va="bottom", color=style.INK)
    axes.set(xscale="log", yscale="log", xlabel="rows of the matrix, N (of a layer: its inputs)")
    axes.set(ylabel="bytes a step, for one column", title="Copy it or split it: what moves less?")
    axes.legend(loc="upper left", fontsize=9)
    return picture


def losses(runs: Mapping[str, Sequence[float]]) -> Figure:
    """The losses of some runs, step by step, over each other.

    Args:
        runs: name -> loss of each step.
    """
    picture = Figure(figsize=(8.6, 3.4), layout="constrained")
    axes = picture.subplots()
    looks = ((style.BLUE, 4.5, "-"), (style.ORANGE, 1.8, "-"))
    for (name, values), (colour, width, dashes) in zip(runs.items(), looks, strict=True):
        axes.plot(range(1, len(values) + 1), values, dashes, color=colour, lw=width, label=name)
    axes.set(xlabel="step", ylabel="loss of the batch", title="Two runs. One of them is wrong")
    axes.legend()
    return picture


def moved(ratios: Mapping[str, Mapping[int, float]]) -> Figure:
    """How far each parameter moved, as a multiple of how far it should; a column for each P.

    Args:
        ratios: parameter -> P -> ratio, tables under names that begin with "tables".
    """
    picture = Figure(figsize=(8.6, 4.4), layout="constrained")
    axes = picture.subplots()
    sizes = list(next(iter(ratios.values())))
    names = sorted(ratios, key=lambda name: name.startswith("tables"))
    for size, marker in zip(sizes, "osD^", strict=False):
        axes.plot([ratios[name][size] for name in names], range(len(names)), marker,
                  color=style.INK, alpha=0.3 + 0.7 * size / max(sizes), label=f"{size} ranks",
                  markersize=7)  # fmt: skip
    mlps = sum(not name.startswith("tables") for name in names)
    axes.axhspan(-0.5, mlps - 0.5, color=style.GROUP_COLOURS["fully connected"], alpha=0.12)
    axes.axhspan(mlps - 0.5, len(names) - 0.5, color=style.GROUP_COLOURS["embeddings"], alpha=0.1)
    axes.set_yticks(range(len(names)), [name.removeprefix("tables.tables.") for name in names])
    axes.tick_params(axis="y", labelsize=8.5)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set(xlabel="moved in one step, as a multiple of one device's", ylabel="parameter")
    axes.set(title="Ask the weights", xlim=(0, max(sizes) + 0.7))
    axes.legend(loc="upper right")
    return picture


def parity(gaps: Mapping[str, Mapping[int, float]]) -> Figure:
    """How far weights end from one device's, by ranks, on a logarithmic axis.

    Args:
        gaps: run -> P -> gap; a gap of zero is marked at the bottom, beside the line.
    """
    picture = Figure(figsize=(8.6, 4.0), layout="constrained")
    axes = picture.subplots()
    sizes = list(next(iter(gaps.values())))
    for place, (name, by_size) in enumerate(gaps.items()):
        values = [gap or np.nan for gap in by_size.values()]
        wrong = "mistake" in name
        colour, marker = (style.INK, "s") if wrong else (style.PALETTE[place], "o")
        axes.plot(range(len(sizes)), values, f"{marker}-", label=name, color=colour)
        for at in np.flatnonzero(np.isnan(values)):
            axes.plot(at, 1e-17, marker, color=colour)
            axes.text(at + 0.06, 1e-17, "exactly 0", va="center", color=colour, fontsize=10)
    axes.set_xticks(range(len(sizes)), list(map(str, sizes)))
    axes.set(yscale="log", ylim=(5e-18, 30), xlabel="ranks, P", ylabel="gap to one device")
    axes.set_title("After training: how far from one device's weights?")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return picture


def harm(scores: Mapping[float, Sequence[float]]) -> Figure:
    """AUC by the rate of the tables, rates a factor of P apart; runs that diverged say so.

    Args:
        scores: rate -> AUC of each seed, or NaN.
    """
    picture = Figure(figsize=(8.6, 3.8), layout="constrained")
    axes = picture.subplots()
    means, places = [], []
    for place, values in enumerate(scores.values()):
        if np.isnan(values).any():
            axes.axvspan(place - 0.5, place + 0.5, color=style.RED, alpha=0.12, lw=0)
            axes.text(place, 0.5, "diverges", rotation=90, ha="center", va="center",
                      color=style.RED, transform=axes.get_xaxis_transform())  # fmt: skip
        else:
            axes.plot([place] * len(values), values, "o", color=style.BLUE, alpha=0.6)
            means.append(float(np.mean(values)))
            places.append(place)
    axes.plot(places, means, color=style.BLUE, label="mean over seeds")
    for (left, low), (right, high) in pairwise(zip(places, means, strict=True)):
        axes.annotate("", (right - 0.06, high), (left + 0.06, low), arrowprops={
            "arrowstyle": "->", "color": style.RED, "connectionstyle": "arc3,rad=-0.35",
        })  # fmt: skip
    if places and places[-1] + 1 < len(scores):
        axes.annotate("", (places[-1] + 0.55, means[-1]), (places[-1] + 0.06, means[-1]),
                      arrowprops={"arrowstyle": "->", "color": style.RED})  # fmt: skip
    axes.plot([], [], color=style.RED, label="the mistake, on four ranks")
    axes.set_xticks(range(len(scores)), [f"{rate:.3g}" for rate in scores])
    axes.set(xlabel="learning rate of the tables, as set", ylabel="test AUC")
    axes.set(title="What four times the rate does", xlim=(-0.5, len(scores) - 0.5))
    axes.legend(loc="upper left")
    return picture
