"""Chapter 04's pictures: a product made of folds, what it costs to learn one, what units see."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.colors import LightSource, Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import nn

from dlrm_mini import plots, style

Floats = NDArray[np.float64]
Surface = Callable[[Floats], Floats]  # points (n, 2) -> heights (n,)

REACH = 2.2  # the saddle is drawn for x and y from -REACH to REACH
HEIGHT = 4.0  # heights and colours run from -HEIGHT to HEIGHT
TENTH = 0.1  # the share of variance that the reader's prediction is about


def parabola(squares: Mapping[int, tuple[Floats, Floats, float]]) -> Figure:
    """z^2 as chains of straight pieces, with the share of its variance that each misses.

    Args:
        squares: folds on either side of zero -> (knots (m,), bends (m,), share missed).
    """
    picture = Figure(figsize=(10, 3.5), layout="constrained")
    z = np.linspace(-3, 3, 601)
    for axes, (folds, (knots, bends, share)) in zip(
        picture.subplots(1, len(squares), sharey=True), squares.items(), strict=True
    ):
        hinges = np.maximum(np.abs(z)[:, None] - knots, 0) @ bends
        density = np.exp(-(z**2) / 2)
        level = float((density * (z**2 - hinges)).sum() / density.sum())
        axes.plot(z, z**2, color=style.GREY, linewidth=5, alpha=0.5, label="z²")
        axes.plot(z, hinges + level, color=style.BLUE, label=f"{2 * folds} units")
        corners = np.concatenate([-knots, knots])
        heights = np.maximum(np.abs(corners)[:, None] - knots, 0) @ bends + level
        axes.plot(corners, heights, "o", color=style.RED, markersize=7, label="folds")
        axes.set(title=f"{2 * folds} folds: {share:.2%} missed", xlabel="z, standard normal")
        axes.legend(loc="upper center")
    picture.axes[0].set_ylabel("height")
    return picture


@dataclass(frozen=True)
class Sheet:
    """A network of one hidden layer over the plane: what it draws, and where it folds.

    Attributes:
        first: (k, 3), for each hidden unit its weights of x and y and its bias.
        second: (k,), what each unit adds to the output.
        level: the output's bias.
    """

    first: Floats
    second: Floats
    level: float

    def __call__(self, points: Floats) -> Floats:
        """The heights (n,) at points (n, 2)."""
        hidden = np.maximum(points @ self.first[:, :2].T + self.first[:, 2], 0)  # (n, k)
        return np.asarray(hidden @ self.second + self.level)

    @classmethod
    def of(cls, network: nn.Sequential) -> "Sheet":
        """The network (2, k, 1), as `fully_connected` makes one, as a sheet."""
        first, second = network[0], network[-1]
        assert isinstance(first, nn.Linear) and isinstance(second, nn.Linear)
        weights = torch.cat([first.weight, first.bias[:, None]], dim=1).detach()  # (k, 3)
        level = float(second.bias.detach())
        return cls(weights.double().numpy(), second.weight[0].detach().double().numpy(), level)

    def folds(self) -> list[Floats]:
        """Where units switch on: (2, 2) end points inside the drawn square, a row a point."""
        found = []
        for w_x, w_y, bias in self.first:
            ends = [(at, -(bias + w_x * at) / w_y) for at in (-REACH, REACH) if w_y]
            ends += [(-(bias + w_y * at) / w_x, at) for at in (-REACH, REACH) if w_x]
            inside = sorted({e for e in ends if max(map(abs, e)) <= REACH * (1 + 1e-9)})
            if len(inside) >= 2:
                found.append(np.array([inside[0], inside[-1]]))
        return found


def saddles(sheets: Mapping[str, Sheet], *, side: int = 89) -> Figure:
    """The product x y and networks that imitate it, seen from above, coloured by height.

    Args:
        sheets: title -> network.
        side: points drawn along each axis.
    """
    line = np.linspace(-REACH, REACH, side)
    x, y = np.meshgrid(line, line)
    points = np.stack([x.ravel(), y.ravel()], axis=1)
    n = len(sheets) + 1
    picture = Figure(figsize=(3.5 * n, 3.7), constrained_layout=False)
    light = LightSource(azdeg=300, altdeg=50)
    look: dict[str, Any] = {"cmap": mpl.colormaps[style.DIVERGING], "blend_mode": "soft"}
    look |= {"norm": Normalize(-HEIGHT, HEIGHT), "vert_exag": 0.25}
    look |= {"dx": line[1] - line[0], "dy": line[1] - line[0]}
    drawn: list[tuple[str, Sheet | None]] = [("the product x · y", None), *sheets.items()]
    for place, (title, sheet) in enumerate(drawn):
        axes: Any = picture.add_axes((place / n, 0.0, 0.93 / n, 0.96), projection="3d")
        z = x * y if sheet is None else sheet(points).reshape(side, side)
        axes.plot_surface(x, y, z, facecolors=light.shade(z, **look), rstride=1, cstride=1,
                          linewidth=0, antialiased=False, shade=False)  # fmt: skip
        for ends in sheet.folds() if sheet else []:
            assert sheet is not None
            way = np.linspace(ends[0], ends[1], 60)
            axes.plot(*way.T, sheet(way) + 0.03, color=style.INK, linewidth=0.7, alpha=0.6,
                      zorder=10)  # fmt: skip
        axes.set(xlabel="x", ylabel="y", zlabel="output", zlim=(-HEIGHT, HEIGHT),
                 xticks=(-2, 0, 2), yticks=(-2, 0, 2), zticks=(-4, 0, 4))  # fmt: skip
        axes.set_title(title, loc="center", y=0.97)
        axes.view_init(elev=42, azim=-62)
        axes.tick_params(pad=-2)
        for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
            axis.labelpad = -6
            axis.set_pane_color((1, 1, 1, 0))
    return picture


def imitation(
    sheet: Sheet, points: Floats, widths: Sequence[int], missed: Floats, here: int, hand: Floats
) -> Figure:
    """Left, what a trained network draws; middle, where it is wrong; right, error by width.

    Args:
        sheet: the network.
        points: (n, 2), what it learned from.
        widths: hidden units of the networks that can be chosen.
        missed: share of the product's variance that each of them misses.
        here: which of them this is.
        hand: share missed by a network of each width with weights written down, not learned.
    """
    picture = Figure(figsize=(10.4, 3.7), constrained_layout=False)  # laying out costs 100 ms
    line = np.linspace(-REACH, REACH, 45)
    grid = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    output = sheet(grid).reshape(45, 45)
    wrong = output - (grid[:, 0] * grid[:, 1]).reshape(45, 45)
    drawn = [
        (output, HEIGHT, f"{widths[here]} hidden units draw this", "height"),
        (wrong, HEIGHT / 4, "output minus x · y", "error"),
    ]
    for place, (values, limit, title, unit) in enumerate(drawn):
        axes = picture.add_axes((0.05 + 0.35 * place, 0.15, 0.235, 0.74))
        levels = np.linspace(-limit, limit, 17)
        filled = axes.contourf(line, line, values, levels=levels, cmap=style.DIVERGING,
                               extend="both")  # fmt: skip
        bar = picture.add_axes((0.292 + 0.35 * place, 0.15, 0.01, 0.74))
        picture.colorbar(filled, cax=bar, label=unit, ticks=levels[::4])
        axes.set(title=title, xlabel="x", xlim=(-REACH, REACH), ylim=(-REACH, REACH),
                 xticks=range(-2, 3), yticks=range(-2, 3))  # fmt: skip
        axes.set_ylabel("y", labelpad=-4)
        axes.grid(visible=False)
    left = picture.axes[0]
    for ends in sheet.folds():
        left.plot(*ends.T, color=style.INK, linewidth=0.8)
    left.plot(*points[:512].T, ".", color=style.GREEN, markersize=3, alpha=0.7)
    right = picture.add_axes((0.8, 0.15, 0.19, 0.74))
    right.plot(widths, hand, color=style.GREY, linestyle="--", label="by hand")
    right.plot(widths, missed, "o-", color=style.BLUE, label="learned")
    right.plot(widths[here], missed[here], "o", color=style.RED, markersize=11)
    right.axhline(1, color=style.GREY, linewidth=0.8, linestyle=":")
    right.set(xscale="log", yscale="log", xlabel="hidden units", ylim=(1e-4, 5),
              ylabel="share of variance missed", title=f"misses {missed[here]:.2%}")  # fmt: skip
    right.set_xticks(widths, [str(width) for width in widths])
    right.minorticks_off()
    right.legend(loc="lower left")
    return picture


def costs(
    by_examples: Mapping[int, tuple[Sequence[int], Floats]],
    by_width: Mapping[int, tuple[Sequence[int], Floats]],
    hand: Mapping[int, Floats],
    guesses: tuple[float, float],
) -> Figure:
    """The share of variance missed, left by examples and right by hidden units.

    Args:
        by_examples: d -> (examples (n,), share missed (n, seeds)).
        by_width: d -> (hidden units (n,), share missed (n, seeds)).
        hand: d -> share missed by networks of the same widths, written down by hand.
        guesses: the reader's number of examples and of hidden units.
    """
    picture = Figure(figsize=(10.4, 4.6), layout="constrained")
    left, right = picture.subplots(1, 2, sharey=True)
    dims = sorted({*by_examples, *by_width})
    ramp = mpl.colormaps[style.SEQUENTIAL](np.linspace(0.0, 0.85, len(dims)))
    for axes, curves in ((left, by_examples), (right, by_width)):
        for dim, (places, shares) in curves.items():
            colour = ramp[dims.index(dim)]
            axes.plot(places, shares.mean(1), "o-", color=colour, label=f"d = {dim}")
            axes.fill_between(places, shares.min(1), shares.max(1), color=colour, alpha=0.25)
        axes.axhline(TENTH, color=style.GREY, linewidth=1, linestyle=":")
        axes.set(xscale="log", yscale="log")
        axes.set_xticks(places, [f"{place:,}" for place in places])
        axes.minorticks_off()
    for dim, shares in hand.items():
        colour = ramp[dims.index(dim)]
        right.plot(by_width[dim][0], shares, "--", color=colour, linewidth=1.4)
    by_hand = right.plot([], [], "--", color=style.GREY, label="weights written by hand")
    left.set(title="256 hidden units, more and more examples", xlabel="training examples",
             ylabel="share of variance missed")  # fmt: skip
    right.set(title="65,536 examples, more and more units", xlabel="hidden units", ylim=(5e-4, 2))
    for axes, guess in zip((left, right), guesses, strict=True):
        axes.plot([guess], [TENTH], "*", color=style.RED, markersize=16, zorder=5)
        axes.annotate("your guess, d = 16", (guess, TENTH), xytext=(0, 11), ha="center",
                      textcoords="offset points", color=style.RED, fontsize=9,
                      bbox={"color": "white", "alpha": 0.6, "pad": 0.5})  # fmt: skip
    handles = [*left.get_legend_handles_labels()[0], *by_hand]
    picture.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return picture


def under_noise(curves: Mapping[str, tuple[Sequence[int], Floats]], mark: int) -> Figure:
    """The share of variance missed by models that are told more or less, by examples.

    Args:
        curves: model and noise, in words -> (examples (n,), share missed (n, seeds)).
        mark: a number of examples to point at: how many ratings a fold trains on.
    """
    picture, axes = plots.figure(9.6, 4.2)
    markers = ("o", "s", "^", "D", "v")
    for (name, (places, shares)), marker in zip(curves.items(), markers, strict=False):
        axes.plot(places, shares.mean(1), marker=marker, label=name)
        axes.fill_between(places, shares.min(1), shares.max(1), alpha=0.2)
    axes.axvline(mark, **style.LITERATURE)
    axes.annotate(f"ratings of a fold: {mark:,}", (mark, 1.05), xytext=(4, 0), fontsize=9,
                  textcoords="offset points", va="bottom")  # fmt: skip
    axes.axhline(TENTH, color=style.GREY, linewidth=1, linestyle=":")
    axes.set(xscale="log", yscale="log", xlabel="training examples", ylim=(8e-4, 1.6),
             ylabel="share of variance missed", title="Noise makes it dear (d = 16)")  # fmt: skip
    axes.set_xticks(places, [f"{place:,}" for place in places])
    axes.minorticks_off()
    picture.legend(loc="outside right upper")
    return picture
