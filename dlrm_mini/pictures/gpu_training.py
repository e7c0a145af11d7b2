"""Chapter 11's pictures: milliseconds to look for, two clocks, bits of numbers, loss curves."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Polygon, Rectangle
from numpy.typing import NDArray

from dlrm_mini import style
from dlrm_mini.pictures.sparse_training import modelled
from dlrm_mini.profiling.asynchronous import Span

Floats = NDArray[np.float64]


class Need(NamedTuple):
    """What one kind of work needs at least.

    Attributes:
        name: for the reader.
        ms: at the ceiling.
        words: how that was counted.
        colour: of its bar.
    """

    name: str
    ms: float
    words: str
    colour: str


def unexplained(total: float, needs: Sequence[Need], *, machine: str, source: str) -> Figure:
    """A step of so many milliseconds to scale, what it needs at least in it, and that enlarged.

    Args:
        total: milliseconds of the step, as published.
        needs: drawn from the left; hatched, for they were counted.
        machine: whose ceilings they are.
        source: of the total.
    """
    picture = Figure(figsize=(10.4, 4.3), constrained_layout=False)
    axes = picture.add_axes((0.02, 0.13, 0.96, 0.73))
    need = sum(one.ms for one in needs)
    rest = total - need
    for ms in range(int(total)):  # a cell for each millisecond
        axes.add_patch(Rectangle((ms + 0.06, 2.0), 0.88, 1.0, color=style.INK, linewidth=0,
                                 alpha=0.10 + 0.62 * ms / total))  # fmt: skip
    left, zoom, scale = 0.0, 0.0, 0.76 * total / need
    for one in needs:
        look = {**modelled(one.colour), "linewidth": 0}
        axes.add_patch(Rectangle((left, 1.94), one.ms, 1.12, **look))
        wide = one.ms * scale
        axes.add_patch(Rectangle((zoom, 0.3), wide, 0.72, **look))
        axes.text(zoom, 0.2, f"{one.name}: {one.ms:.1f} ms", va="top", weight="bold")
        axes.text(zoom, -0.06, one.words, va="top", fontsize=9.5)
        left, zoom = left + one.ms, zoom + wide
    axes.add_patch(Polygon([(0, 1.92), (need, 1.92), (zoom, 1.04), (0, 1.04)], color=style.GREY,
                           alpha=0.18, linewidth=0))  # fmt: skip
    box = {"facecolor": "white", "edgecolor": "none", "boxstyle": "round,pad=0.35"}
    axes.text(need + rest / 2, 2.5, f"{rest:.0f} ms", ha="center", va="center", fontsize=26,
              weight="bold", bbox=box)  # fmt: skip
    words = "forward, backward\nand all updates could be\ndone in this time, at best"
    axes.text(zoom + 0.7, 0.66, words, va="center", fontsize=10.5, style="italic")
    axes.text(total, 1.88, f"{total:.0f} ms", ha="right", va="top", fontsize=10)
    axes.set(xlim=(-0.3, total + 0.3), ylim=(-0.45, 3.15))
    axes.set_axis_off()
    picture.suptitle(f"Where did {rest:.0f} of {total:.0f} milliseconds go?", x=0.02, ha="left",
                     fontsize=15, weight="bold")  # fmt: skip
    picture.text(0.02, 0.075, f"grey: {source}", fontsize=9.5)
    picture.text(0.02, 0.02, f"hatched: counted, at the peaks quoted for a {machine}", fontsize=9.5)
    return picture


def two_clocks(
    runs: Mapping[str, tuple[Sequence[Span], Sequence[Span]]], *, machine: str
) -> Figure:
    """For each run when the host launched its operations, and when the device worked on them.

    Args:
        runs: title -> spans of the host and of the device, as `asynchronous.Device.spans` gives.
        machine: what they were measured on.
    """
    picture = Figure(figsize=(10.2, 1.2 + 1.35 * len(runs)), layout="constrained")
    panels = picture.subplots(len(runs), 1, squeeze=False)[:, 0]
    colours = (style.SKY, style.BLUE)
    for axes, (title, (host, device)) in zip(panels, runs.items(), strict=True):
        start = host[0].begin
        whole = device[-1].end - start
        for place, spans in enumerate((host, device)):
            shade = (style.GREY, colours)[place]
            for number, (begin, end) in enumerate(spans):
                colour = shade if place == 0 else shade[number % 2]
                axes.barh(place, max(1e3 * (end - begin), 3e-3 * 1e3 * whole), 0.62,
                          1e3 * (begin - start), color=colour, edgecolor="white",
                          linewidth=0.8 if place == 0 else 0)  # fmt: skip
        axes.set_yticks([0, 1], ["host: launches", "device: works"])
        axes.set(ylim=(1.5, -0.5), title=title, xlim=(0, 1.02e3 * whole))
        axes.grid(axis="y", visible=False)
    picture.supxlabel(f"milliseconds, measured on {machine}", fontsize=10.5)
    picture.supylabel("who", fontsize=10.5)
    return picture


FORMATS = {"float32": (8, 23), "bfloat16": (8, 7), "float16": (5, 10)}  # bits: exponent, fraction
SMALLEST = 2.0**-24  # of float16 above zero
NORMAL, LARGEST = 2.0**-14, 65504.0


def numbers(gradients: Mapping[str, Floats]) -> Figure:
    """Left the bits of three kinds of numbers; right how large gradients are, in float16's ranges.

    Args:
        gradients: legend -> gradients, zeros left out of the picture.
    """
    picture = Figure(figsize=(10.4, 3.9), layout="constrained")
    left, right = picture.subplots(1, 2, width_ratios=(1, 1.25))
    parts = (("sign", style.INK), ("exponent", style.ORANGE), ("fraction", style.BLUE))
    for place, (name, bits) in enumerate(FORMATS.items()):
        at = 0
        for (_, colour), number in zip(parts, (1, *bits), strict=True):
            for _ in range(number):
                left.add_patch(Rectangle((at + 0.1, place - 0.22), 0.8, 0.44, color=colour, lw=0))
                at += 1
        kind = _range(*bits)
        left.text(0, place - 0.3, name, va="bottom", weight="bold")
        left.text(0, place + 0.28, kind, va="top", fontsize=9.5)
    left.set(xlim=(-0.5, 32.5), ylim=(2.75, -0.7), title="One number, in bits")
    left.set_axis_off()
    left.legend(handles=[Patch(color=colour, label=part) for part, colour in parts], ncols=3,
                loc="upper center", bbox_to_anchor=(0.5, 0.02), handlelength=1)  # fmt: skip
    edges = np.arange(-13, 6.01, 0.25)
    for (name, values), colour in zip(
        gradients.items(), (style.BLUE, style.ORANGE, style.GREEN, style.PURPLE), strict=False
    ):
        sizes = np.log10(np.abs(values[values != 0]))
        right.hist(sizes, edges, weights=np.full(len(sizes), 100 / len(sizes)), color=colour,
                   histtype="stepfilled", alpha=0.45, label=name)  # fmt: skip
    zones = ((-13, np.log10(SMALLEST), "becomes\nzero", 0.22), (np.log10(SMALLEST),
             np.log10(NORMAL), "loses\nbits", 0.1), (np.log10(LARGEST), 6, "∞", 0.22))  # fmt: skip
    top = 1.45 * right.get_ylim()[1]
    for begin, end, words, shade in zones:
        right.axvspan(begin, end, color=style.RED, alpha=shade, linewidth=0, zorder=0)
        right.text((begin + end) / 2, 0.98 * top, words, ha="center", va="top", fontsize=9.5)
    right.set(xlim=(-13, 6), ylim=(0, top), title="Gradients, and what float16 makes of them")
    right.set(xlabel="size of a number", ylabel="per cent of the gradients")
    ticks = range(-12, 7, 3)
    right.set_xticks(ticks, [f"$10^{{{tick}}}$" for tick in ticks])
    right.grid(visible=False)
    right.legend(loc="upper left", bbox_to_anchor=(0.3, 0.86), fontsize=9)
    return picture


def _range(exponent: int, fraction: int) -> str:
    """What a format holds, in words."""
    top = 2 ** (exponent - 1) - 1
    small, large = 2.0 ** (1 - top), 2.0**top * (2 - 2.0**-fraction)
    return f"{fraction + 1} bits of precision, {small:.0e} to {large:.0e} in full"


def curves(
    losses: Mapping[str, Floats], others: Sequence[Floats], *, machine: str, window: int = 20
) -> Figure:
    """Loss curves on top of each other, and how far each is from the first.

    Args:
        losses: way to train -> loss of each step, (steps,); the first is the reference.
        others: the reference with its rows in other orders.
        machine: what trained.
        window: steps that are averaged for the right panel.
    """
    picture = Figure(figsize=(10.4, 3.9), layout="constrained")
    left, right = picture.subplots(1, 2)
    names = list(losses)
    reference = losses[names[0]]
    for number, other in enumerate(others):
        label = "float32, other order of rows" if number == 0 else None
        left.plot(smooth(other, window), color=style.GREY, linewidth=1, alpha=0.7, label=label)
        right.plot(deviation(other, reference, window), color=style.GREY, linewidth=1, label=label)
    shades = (style.INK, *style.PALETTE)
    for number, (name, values) in enumerate(losses.items()):
        wide = 4.5 if number == 0 else 1.6
        dashes = "-" if number == 0 else (0, (4, 1 + number))
        left.plot(smooth(values, window), color=shades[number], linewidth=wide, alpha=0.9,
                  linestyle=dashes, label=name)  # fmt: skip
        if number:
            right.plot(deviation(values, reference, window), color=shades[number], label=name)
    left.set(title="Loss curves, on top of each other", xlabel="step", ylabel="training logloss")
    right.set(yscale="log", xlabel="step", ylabel="distance, share of the loss")
    right.set_title(f"Distance to {names[0]}")
    left.legend(fontsize=9)
    right.set_ylim(top=30 * right.get_ylim()[1])
    right.legend(fontsize=9, ncols=2, loc="upper right")
    picture.supxlabel(f"means of {window} steps; trained on {machine}", fontsize=9.5)
    return picture


def smooth(values: Floats, window: int) -> Floats:
    """Means over `window` steps, (steps - window + 1,)."""
    return np.convolve(values, np.full(window, 1 / window), mode="valid")


def deviation(values: Floats, reference: Floats, window: int) -> Floats:
    """Distance of two smoothed curves, as a share of the second; above zero, for a log axis."""
    one, other = smooth(values, window), smooth(reference, window)
    return np.maximum(np.abs(one - other) / other, 1e-8)
