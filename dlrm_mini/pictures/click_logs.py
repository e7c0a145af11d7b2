"""Chapter 07's pictures: a row, the tail, collisions, the learning curve and what is missing."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from dlrm_mini import style
from dlrm_mini.pictures.dlrm import count

Floats = NDArray[np.float64]
Record = Mapping[str, Any]
ACROSS = 14  # cells of a row of `raw_and_seen`
SEEN_LABELS = ("once", "2 to 9 times", "10 times or more")


def raw_and_seen(names: Sequence[str], raw: Sequence[str], seen: Sequence[str]) -> Figure:
    """One line of a click log, field by field: as it stands in the file, and as a model sees it.

    Args:
        names: the 40 fields, the label first, then the dense and the sparse ones.
        raw: their text; empty where missing.
        seen: what they become.
    """
    picture = Figure(figsize=(10.4, 4.3), layout="constrained")
    axes = picture.subplots()
    for place, (name, text, value) in enumerate(zip(names, raw, seen, strict=True)):
        # Fourteen cells are the label and the dense columns; then two lines of thirteen.
        line, column = divmod(place, ACROSS) if place < ACROSS else divmod(place - ACROSS, 13)
        line += place >= ACROSS
        colour = style.YELLOW if place == 0 else style.SKY if place < ACROSS else style.ORANGE
        x, y = column, 2.6 * line
        axes.add_patch(Rectangle((x + 0.03, y), 0.94, 1, facecolor="#F4F4F4", edgecolor="#CCCCCC"))
        axes.add_patch(Rectangle((x + 0.03, y + 1), 0.94, 1, facecolor=colour, alpha=0.45))
        middle: dict[str, Any] = {"ha": "center", "va": "center"}
        axes.text(x + 0.5, y - 0.22, name, color=style.GREY, fontsize=9, **middle)
        axes.text(x + 0.5, y + 0.5, text or "missing", fontsize=7.8, family="monospace",
                  color=style.INK if text else style.RED, **middle)  # fmt: skip
        axes.text(x + 0.5, y + 1.5, value, fontsize=10, **middle)
    axes.set(xlim=(-0.05, ACROSS + 0.05), ylim=(7.4, -0.6), xticks=[])
    ticks = [line * 2.6 + half for line in range(3) for half in (0.5, 1.5)]
    axes.set_yticks(ticks, ["in the file", "to a model"] * 3)
    axes.tick_params(length=0)
    axes.set(xlabel="the 40 fields: label, 13 integers, 26 categories", ylabel="the same line")
    axes.set_title("One row: the text, and what becomes of it")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    return picture


def long_tail(fields: Mapping[str, NDArray[np.int64]], every: Floats, least: int) -> Figure:
    """Left the counts of some fields by rank; right what share of ids and lookups is how rare.

    Args:
        fields: name -> rows that hold each of its ids, most first, none of them zero.
        every: (2, 3) shares, of ids and of lookups, seen as often as `SEEN_LABELS` says.
        least: the threshold that is drawn.
    """
    picture = Figure(figsize=(10, 3.9), layout="constrained")
    left, right = picture.subplots(1, 2, width_ratios=(1.25, 1))
    for (name, counts), colour in zip(fields.items(), style.PALETTE, strict=False):
        rank = np.arange(1, len(counts) + 1)
        left.loglog(rank, counts, color=colour, label=f"{name}: {len(counts):,} ids")
    left.axhline(least, color=style.RED, linestyle="--")
    left.text(1.2, least * 1.15, f"{least} rows", color=style.RED, fontsize=10, va="bottom")
    left.set(xlabel="rank of the id", ylabel="rows that hold it", title="A few head, a long tail")
    left.legend(loc="upper right")
    bottom = np.zeros(2)
    colours = (style.RED, style.ORANGE, style.BLUE)
    for label, shares, colour in zip(SEEN_LABELS, every.T, colours, strict=True):
        right.bar((0, 1), shares, 0.6, bottom=bottom, color=colour, label=label)
        for x, (share, low) in enumerate(zip(shares, bottom, strict=True)):
            if share > 0.04:
                right.text(x, low + share / 2, f"{share:.0%}", ha="center", va="center",
                           color="black" if colour == style.ORANGE else "white")  # fmt: skip
        bottom += shares
    right.set_xticks((0, 1), ["ids", "lookups"])
    right.set(
        xlim=(-0.4, 3.2), ylabel="share", xlabel="in all 26 fields", title="Many ids, few rows"
    )
    right.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
    right.legend(title="id seen", loc="center right", reverse=True)
    right.grid(axis="x", visible=False)
    return picture


def collisions(
    record: Record, buckets: int, of: str = "counted", prediction: float | None = None
) -> Figure:
    """Collisions of every field in so many buckets, and what as many cost.

    Args:
        record: the results of `click_log`.
        buckets: one of those recorded.
        of: "counted", the share of a field's values that share a bucket, beside the birthday
            formula's; or "lookups", the share of rows that look up a shared bucket.
        prediction: the reader's guess, where values equal buckets; drawn with "counted".
    """
    picture = Figure(figsize=(10.4, 4.0), constrained_layout=False)  # laying out costs 100 ms
    left, right = (
        picture.add_axes((0.07, 0.15, 0.5, 0.73)),
        picture.add_axes((0.67, 0.15, 0.32, 0.73)),
    )
    at = next(one for one in record["buckets"] if one["buckets"] == buckets)
    fields = dict(sorted(at["fields"].items(), key=lambda field: field[1]["values"]))
    values = np.array([field[of] for field in fields.values()])
    left.bar(range(len(fields)), values, color=style.SKY, width=0.75,
             label="counted" if of == "counted" else "rows with a shared bucket")  # fmt: skip
    if of == "counted":
        expected = [field["expected"] for field in fields.values()]
        left.plot(range(len(fields)), expected, "_", color=style.RED, markersize=11,
                  markeredgewidth=2.5, label="birthday formula")  # fmt: skip
        if prediction is not None:
            left.axhline(prediction, color=style.PURPLE, linestyle=":", label="your guess")
    left.set_xticks(range(len(fields)), list(fields), rotation=60, fontsize=8.5)
    what = "values that share a bucket" if of == "counted" else "lookups of a shared bucket"
    left.set(ylim=(0, 1.18), xlabel="field, by its number of values", ylabel=what)
    left.set_title(f"{buckets:,} buckets a field")
    left.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
    left.set_yticks(np.linspace(0, 1, 6))
    left.legend(loc="upper left", ncols=3, fontsize=9)
    left.grid(axis="x", visible=False)
    price(right, record, buckets)
    return picture


def price(axes: Axes, record: Record, buckets: int | None = None) -> None:
    """Draw NE against the table rows in use: hashed, by threshold, and every id with its own.

    Args:
        axes: where.
        record: the results of `click_log`.
        buckets: marked with a ring.
    """
    hashed = record["buckets"]
    rows, ne = [one["used_rows"] for one in hashed], [one["ne"] for one in hashed]
    axes.semilogx(rows, ne, "o-", color=style.BLUE, label="hashed")
    looks = (("threshold", "s", style.ORANGE), ("every", "D", style.PURPLE))
    for name, marker, colour in looks:
        one = record["ids"][name]
        least = record["settings"]["dlrm"]["threshold"]
        words = f"threshold {least}" if name == "threshold" else "every id its own"
        axes.plot(one["used_rows"], one["ne"], marker, color=colour, markersize=8, label=words)
    if buckets is not None:
        here = [one["buckets"] for one in hashed].index(buckets)
        axes.plot(rows[here], ne[here], "o", color=style.RED, markersize=15, fillstyle="none",
                  markeredgewidth=2.2)  # fmt: skip
    axes.axhline(record["optimum"]["ne"], **style.LITERATURE)
    axes.text(rows[0], record["optimum"]["ne"], "the best possible", va="bottom", fontsize=9)
    axes.set(
        xlabel="table rows in use, all fields", ylabel="test NE, lower is better", title="The price"
    )
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count(value)))
    axes.legend(fontsize=9)


def learning_curve(record: Record, *, prediction: float | None = None) -> Figure:
    """AUC by training rows with its ceilings, and how far the logloss is from the best possible.

    Means of the seeds, in bands from the lowest to the highest.

    Args:
        record: the results of `click_log`.
        prediction: the reader's guess of the AUC after a million rows, drawn as a star.
    """
    picture = Figure(figsize=(10.4, 4.1), layout="constrained")
    left, right = picture.subplots(1, 2)
    curve, best = record["curve"], record["optimum"]
    rows = [part["rows"] for part in curve]
    looks = (("lr", "logistic regression", style.BLUE, "s"), ("dlrm", "DLRM", style.ORANGE, "o"))
    for model, name, colour, marker in looks:
        auc = [[one["auc"] for one in part[model]] for part in curve]
        excess = [[one["logloss"] - best["logloss"] for one in part[model]] for part in curve]
        for axes, values in ((left, auc), (right, excess)):
            means = [float(np.mean(seeds)) for seeds in values]
            axes.plot(rows, means, marker + "-", color=colour, label=name)
            axes.fill_between(rows, *([end(seeds) for seeds in values] for end in (min, max)),
                              color=colour, alpha=0.25)  # fmt: skip
    ceilings = ((best["auc"], "best possible"), (record["additive"]["auc"], "best without pairs"))
    for height, name in ceilings:
        left.axhline(height, **style.LITERATURE)
        left.text(rows[-1], height + 0.002, f"{name} {height:.3f}", fontsize=9.5, ha="right")
    if prediction is not None:
        left.plot(record["log"]["train_rows"], prediction, "*", color=style.RED, markersize=15)
        left.annotate("your guess", (record["log"]["train_rows"], prediction), xytext=(-8, -16),
                      textcoords="offset points", color=style.RED, ha="right")  # fmt: skip
    left.set(xlabel="training rows", ylabel="test AUC", title="Towards the ceiling", xscale="log")
    right.set(xscale="log", yscale="log")
    right.legend(loc="lower left")
    right.set(
        xlabel="training rows", ylabel="logloss above the best, nats", title="What is missing"
    )
    for axes in (left, right):
        axes.set_xticks(rows, [count(one) for one in rows], rotation=30)
        axes.minorticks_off()
    right.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    right.set_yticks([0.005, 0.01, 0.02, 0.05, 0.1, 0.2])
    return picture


def unknown(record: Record) -> Figure:
    """Logloss above the best by the number of out-of-vocabulary ids in a row, of both models.

    Args:
        record: the results of `click_log`.
    """
    picture = Figure(figsize=(7.6, 3.6), layout="constrained")
    axes = picture.subplots()
    looks = (("lr", "logistic regression", style.BLUE, "s"), ("dlrm", "DLRM", style.ORANGE, "o"))
    for model, name, colour, marker in looks:
        excess = [group["excess"] for group in record["unknown"][model]]
        axes.semilogy(excess, marker + "-", color=colour, label=name)
        for place, value in enumerate(excess):
            axes.annotate(f"{value:.4f}", (place, value), xytext=(0, 8), ha="center",
                          textcoords="offset points", fontsize=9.5)  # fmt: skip
    groups = record["unknown"]["dlrm"]
    last = groups[-1]["ids"]
    names = [
        f"{one['ids']}{' or more' * (one['ids'] == last)}\n{one['rows']:.1%}" for one in groups
    ]
    axes.set_xticks(range(len(groups)), names)
    axes.set(xlabel="ids out of vocabulary in a row; below, how many rows are such",
             ylabel="logloss above the best, nats", title="Where the loss is")  # fmt: skip
    axes.set_yticks([0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2])
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.minorticks_off()
    axes.margins(x=0.1, y=0.2)
    axes.legend(loc="center right")
    return picture
