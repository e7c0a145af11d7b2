"""Chapter 09's pictures: what each way of being smaller does, what it costs, and to whom."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator
from numpy.typing import NDArray

from dlrm_mini import style
from dlrm_mini.pictures.dlrm import count

Floats = NDArray[np.float64]
Record = Mapping[str, Any]
NAMES = {
    "full": "full",
    "hash": "hashed",
    "threshold": "frequent ids",
    "qr": "quotient-remainder",
    "mixed": "mixed widths",
    "narrow": "narrow",
    **{f"qr {how}": f"quotient-remainder, {how}" for how in ("sum", "product", "concat")},
}
LOOKS = {
    "hash": (style.BLUE, "o"),
    "threshold": (style.ORANGE, "s"),
    "qr": (style.GREEN, "^"),
    "mixed": (style.PURPLE, "D"),
    "narrow": (style.RED, "v"),
}
COUNTS = ("none", "1 to 9", "10 to 99", "100\nto 999", "1,000\nto 9,999", "10,000\nor more")


def series(record: Record, world: str) -> dict[str, dict[int, Any]]:
    """Method -> part -> what was measured; the recorded combination is called "qr"."""
    found = record["worlds"][world]
    names = {"qr" if name == record["combine"] else name: name for name in found}
    return {
        short: {int(part): of for part, of in found[name].items()} for short, name in names.items()
    }


def which_tables(rows: Mapping[str, int], large: int, record: Record) -> Figure:
    """Left how large each table is; right what it costs to shrink all alike, or the largest.

    Args:
        rows: table -> its rows.
        large: how many of the largest are marked.
        record: the results of `smaller_tables`.
    """
    picture = Figure(figsize=(10.4, 3.9), layout="constrained")
    left, right = picture.subplots(1, 2, width_ratios=(1.5, 1))
    order = sorted(rows, key=lambda name: -rows[name])
    colours = [style.ORANGE] * large + [style.SKY] * (len(order) - large)
    left.bar(range(len(order)), [rows[name] for name in order], color=colours, width=0.8)
    left.set_yscale("log")
    left.set_xticks(range(len(order)), order, rotation=60, fontsize=8.5)
    left.yaxis.set_major_formatter(FuncFormatter(lambda value, _: count(value)))
    share = sum(rows[name] for name in order[:large]) / sum(rows.values())
    left.text(large - 0.4, max(rows.values()), f"{share:.1%} of all rows", color=style.RED,
              va="top")  # fmt: skip
    left.set(xlabel="table of the Kaggle preset", ylabel="rows", title="Five tables are the model")
    left.grid(axis="x", visible=False)
    base = record["worlds"]["silent"]["full"]["1"]["ne"]["mean"]
    parts = sorted(map(int, record["alike"]))
    arms = {
        "the largest first": [record["worlds"]["silent"]["hash"][str(p)] for p in parts],
        "every table alike": [record["alike"][str(p)] for p in parts],
    }
    for place, ((words, of), colour) in enumerate(
        zip(arms.items(), (style.ORANGE, style.SKY), strict=True)
    ):
        for x, one in enumerate(of):
            at = x + 0.38 * (place - 0.5)
            above = one["ne"]["mean"] - base
            right.bar(at, above, 0.36, color=colour, label=words if not x else None)
            scatter = np.array(one["ne"]["per_seed"]) - base
            right.plot(np.full(len(scatter), at), scatter, ".", color=style.INK, markersize=6)
            right.annotate(f"{above:.3f}", (at, max(scatter)), xytext=(0, 4), ha="center",
                           textcoords="offset points", fontsize=10)  # fmt: skip
    right.set_xticks(range(len(parts)), [f"1/{part}" for part in parts])
    right.set(xlabel="part of the bytes", ylabel="NE above that of full tables",
              title="Hashing the largest, or all")  # fmt: skip
    right.margins(y=0.3)
    right.legend(loc="upper left")
    right.grid(axis="x", visible=False)
    return picture


def price(record: Record, predictions: Mapping[int, float] | None = None) -> Figure:
    """NE against bytes, each method in each world, with the full tables and the optimum.

    Args:
        record: the results of `smaller_tables`.
        predictions: part -> the reader's guess of the hashed tables' NE, in the silent world.
    """
    picture = Figure(figsize=(10.4, 4.9), layout="constrained")
    both = picture.subplots(1, 2, sharey=True)
    titles = {"silent": "Only frequent ids tell something", "telling": "Every id tells something"}
    for axes, (world, title) in zip(both, titles.items(), strict=True):
        _price(axes, record, world)
        axes.set_title(title)
    for part, guess in (predictions or {}).items():
        both[0].plot(record["full_bytes"] / part, guess, "*", color=style.RED, markersize=15,
                     label="your guess", zorder=5)  # fmt: skip
    both[0].set_ylabel("normalised entropy of test rows (NE)")
    handles, labels = both[0].get_legend_handles_labels()
    picture.legend(handles, labels, loc="outside lower center", ncols=4)
    return picture


def _price(axes: Axes, record: Record, world: str) -> None:
    """One world's methods on logarithmic bytes."""
    found = series(record, world)
    for method, (colour, marker) in LOOKS.items():
        of = dict(sorted(found.get(method, {}).items()))
        if not of:
            continue
        x = [one["bytes"] for one in of.values()]
        seeds = np.array([one["ne"]["per_seed"] for one in of.values()])
        axes.plot(x, seeds.mean(1), marker + "-", color=colour, label=NAMES[method])
        axes.fill_between(x, seeds.min(1), seeds.max(1), color=colour, alpha=0.2, linewidth=0)
    for part, name, look in ((found["full"][1]["ne"]["mean"], "full tables", "-"),
                             (record["optimum"][world]["ne"], "best possible", "--")):  # fmt: skip
        axes.axhline(part, color=style.INK, linestyle=look, linewidth=1.2, label=name)
    bytes_axis(axes, record["full_bytes"])
    axes.set_xlabel("bytes of the tables, part of the full ones")


def bytes_axis(axes: Axes, full: int, most: int = 64) -> None:
    """A logarithmic axis of bytes in halves, named by size and part, the full tables at the left.

    Args:
        axes: whose x axis.
        full: bytes of the full tables.
        most: the smallest part is 1/most.
    """
    parts = [2**n for n in range(int(np.log2(most)) + 1)]
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator([full / part for part in parts]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: "full" if value > 0.9 * full else f"1/{full / value:.0f}")
    )
    axes.set_xlim(full * 1.25, full / most / 1.25)


def who_pays(record: Record, part: int) -> Figure:
    """Left the extra loss by how often an id occurs; right when it is chosen who shares.

    Args:
        record: the results of `smaller_tables`.
        part: of the bytes, for the left side.
    """
    picture = Figure(figsize=(10.4, 4.1), layout="constrained")
    left, right = picture.subplots(1, 2, width_ratios=(1.25, 1))
    found = series(record, "silent")
    base = np.array(found["full"][1]["by_count"])
    place = np.arange(len(base))
    for method, (colour, marker) in LOOKS.items():
        if part in found.get(method, {}):
            extra = 1000 * (np.array(found[method][part]["by_count"]) - base)
            left.plot(place, extra, marker + "-", color=colour, label=NAMES[method])
    left.axhline(0, color=style.INK, linewidth=1.2)
    shares = record["counts"]["silent"]["lookups"]
    left.set_xticks(place, [f"{words}\n{share:.0%}" for words, share in
                            zip(COUNTS, shares, strict=True)], fontsize=9)  # fmt: skip
    left.set(xlabel="training rows of the id; below, its share of the lookups",
             ylabel="extra logloss, thousandths of a nat",
             title=f"Who pays, at 1/{part} of the bytes")  # fmt: skip
    left.margins(y=0.2)
    left.legend(loc="upper center", ncols=3, fontsize=9)
    arms = record["collided"]["arms"]
    full = found["full"][1]["ne"]["mean"]
    for row, (how, one) in enumerate(arms.items()):
        above = np.array(one["ne"]["per_seed"]) - full
        colour = style.BLUE if how == "at random" else style.SKY
        right.barh(row, above.mean(), 0.6, color=colour)
        right.plot(above, np.full(len(above), row), ".", color=style.INK, markersize=6)
        right.annotate(f"{above.mean():+.3f}", (max(0, above.max()), row), xytext=(6, 0),
                       va="center", textcoords="offset points", fontsize=10)  # fmt: skip
    right.axvline(0, color=style.INK, linewidth=1.2)
    right.set_yticks(range(len(arms)), list(arms))
    right.set(xlabel="NE above that of full tables", ylabel="who shares a row",
              title="The same rows, other tenants")  # fmt: skip
    right.invert_yaxis()
    right.xaxis.set_major_locator(MaxNLocator(4))
    right.margins(x=0.2)
    right.grid(axis="y", visible=False)
    return picture


def fewer_bits(record: Record) -> Figure:
    """NE against bytes in 32, 8 and 4 bits: full tables, and those that are already smaller.

    Args:
        record: the results of `smaller_tables`.
    """
    picture = Figure(figsize=(9.6, 4.4), layout="constrained")
    axes = picture.subplots()
    found = series(record, "silent")
    looks = {"full": (style.INK, "P"), **LOOKS}
    for method in ("full", "hash", "threshold"):
        colour, marker = looks[method]
        of = dict(sorted(found[method].items()))
        for bits, style_, face in (("32", "-", colour), ("8", "--", "white"), ("4", ":", "white")):
            chosen = [one if bits == "32" else one["quantised"][bits] for one in of.values()]
            x, y = [one["bytes"] for one in chosen], [one["ne"]["mean"] for one in chosen]
            axes.plot(x, y, marker + style_, color=colour, markerfacecolor=face, markersize=7,
                      label=f"{NAMES[method]}, {bits} bits")  # fmt: skip
    axes.axhline(record["optimum"]["silent"]["ne"], color=style.GREY, linestyle="--",
                 linewidth=1.2)  # fmt: skip
    axes.annotate("best possible", (record["full_bytes"], record["optimum"]["silent"]["ne"]),
                  xytext=(0, 4), textcoords="offset points", color=style.GREY)  # fmt: skip
    bytes_axis(axes, record["full_bytes"], 512)
    axes.set(xlabel="bytes of the tables, part of the full ones, scales and keys included",
             ylabel="normalised entropy (NE)",
             title="Trained in 32 bits, used in 8 or 4")  # fmt: skip
    axes.legend(ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.2))
    return picture


def explored(
    purity: Mapping[str, Sequence[float]], words: str, row: Floats, kept: Floats, levels: Floats
) -> Figure:
    """Left how much of a row's evidence is an id's own; right a row's numbers in few bits.

    Args:
        purity: label of a group of ids -> share of its lookups whose row is theirs alone, mostly
            theirs (above a half of the row's lookups), and mostly another's.
        words: rows and bytes, for the title.
        row: (D,) trained numbers.
        kept: (D,) as they come back.
        levels: what a number of this row can come back as; empty in 32 bits.
    """
    picture = Figure(figsize=(10.4, 3.9), constrained_layout=False)
    left, right = (
        picture.add_axes((0.07, 0.17, 0.45, 0.72)),
        picture.add_axes((0.6, 0.17, 0.39, 0.72)),
    )
    shares = np.array(list(purity.values())).T
    bottom = np.zeros(len(purity))
    looks = (
        ("its own", style.BLUE), ("shared, mostly its own", style.SKY),
        ("mostly another's", style.RED),
    )  # fmt: skip
    for (label, colour), share in zip(looks, shares, strict=True):
        left.bar(range(len(purity)), share, 0.75, bottom=bottom, color=colour, label=label)
        bottom += share
    left.set_xticks(range(len(purity)), list(purity), fontsize=9)
    left.set(
        xlabel="training rows of the id", ylabel="its lookups find a row that is", ylim=(0, 1.2)
    )
    left.set_title(words)
    left.set_yticks([0, 0.5, 1])
    left.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
    left.legend(loc="upper center", ncols=3, fontsize=9)
    left.grid(axis="x", visible=False)
    place = np.arange(1, len(row) + 1)
    for level in levels if len(levels) <= 16 else []:
        right.axhline(level, color="#DDDDDD", linewidth=0.9, zorder=0)
    right.vlines(place, row, kept, color=style.RED, linewidth=2.5)
    right.plot(place, row, "o", color=style.BLUE, label="trained")
    right.plot(place, kept, "_", color=style.RED, markersize=12, markeredgewidth=2.5,
               label="as it comes back")  # fmt: skip
    right.set(xlabel="number of the row", ylabel="value", xticks=place[::3])
    off = float(np.abs(row - kept).max())
    right.set_title(f"Largest error {off:.2g}" if off else "32 bits: nothing is lost")
    span = row.max() - row.min()
    right.set_ylim(row.min() - 0.1 * span, row.max() + 0.28 * span)
    right.legend(loc="upper right", ncols=2, fontsize=9)
    right.grid(visible=False)
    return picture
