"""Chapter 07's pictures of promises: reliability, and a model where clicks are rarer."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dlrm_mini import style

Floats = NDArray[np.float64]
WITHIN = 10  # places within a bin of logits


def reliability(models: Mapping[str, tuple[pd.DataFrame, Mapping[str, float]]]) -> Figure:
    """Promised against what happened, a panel for each model.

    Args:
        models: name -> the table of `metrics.reliability`, and the scores to write down.
    """
    picture = Figure(figsize=(10.4, 4.6), layout="constrained")
    panels = picture.subplots(1, len(models), sharey=True, squeeze=False)[0]
    for axes, (name, (table, written)) in zip(panels, models.items(), strict=True):
        axes.plot([0, 1], [0, 1], **style.LITERATURE)
        axes.vlines(table["prediction"], table["prediction"], table["rate"], color=style.RED,
                    linewidth=3)  # fmt: skip
        size = 20 + 260 * table["rows"] / table["rows"].sum()
        axes.scatter(table["prediction"], table["rate"], s=size, color=style.BLUE, zorder=3)
        axes.set(xlim=(0, 1), ylim=(0, 1), title=name)
        axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
        scores = [f"{score} {value:.3f}" for score, value in written.items()]
        lines = [" · ".join(scores[at : at + 2]) for at in range(0, len(scores), 2)]
        axes.set_xlabel("\n".join(["promised", *lines]), linespacing=1.5)
    panels[0].set_ylabel("share of clicks")
    picture.suptitle("Same order, other promises: whom would you pay?", x=0.01, ha="left",
                     fontweight="bold", fontsize=14)  # fmt: skip
    return picture


def shifted(shift: "Shift", threshold: float, rate: float, *, told: bool) -> Figure:
    """A model at work where clicks are rarer or more frequent than where it was trained.

    Args:
        shift: its logits.
        threshold: rows with a higher predicted probability are acted on.
        rate: share of clicks where the model works.
        told: whether the shift of the prior has been added to its logits.
    """
    logits, clicks, others = shift.at(rate, told=told)
    picture = Figure(figsize=(10.4, 4.0), constrained_layout=False)  # laying out costs 100 ms
    left = picture.add_axes((0.07, 0.15, 0.43, 0.73))
    right = picture.add_axes((0.6, 0.15, 0.38, 0.73))
    p = 1 / (1 + np.exp(-logits))
    edges = np.linspace(0, 1, 41)
    for weight, name, colour in (
        (others, "other rows", style.BLUE),
        (clicks, "clicks", style.ORANGE),
    ):
        height = np.histogram(p, edges, weights=weight / weight.sum())[0]
        left.stairs(height, edges, fill=True, alpha=0.35, color=colour)
        left.stairs(height, edges, linewidth=1.6, color=colour, label=name)
    left.axvline(threshold, color=style.INK, linewidth=1.6, linestyle="--")
    left.set(xlim=(0, 1), xlabel="predicted probability", ylabel="share of its kind")
    at = shift.scores(threshold, rate, told=told)
    written = ", ".join(f"{name} {value:.2f}" for name, value in at.items())
    left.set_title(written, fontsize=11)
    left.legend(title=f"{(1 - rate) / rate:.1f} other rows a click")
    rates = np.linspace(0.01, 0.6, 60)
    curves = [shift.scores(threshold, float(one), told=told) for one in rates]
    for name, colour in zip(at, (style.BLUE, style.GREEN, style.RED), strict=True):
        right.plot(rates, [one[name] for one in curves], color=colour, label=name)
        mark = "^" if at[name] > 2.4 else "o"  # beyond the top
        right.plot(rate, min(at[name], 2.4), mark, color=colour, markersize=8)
    right.axvline(shift.rate, **style.LITERATURE)
    right.text(shift.rate + 0.008, 2.38, "trained here", fontsize=9, color=style.GREY)
    right.axhline(1, color=style.GREY, linewidth=0.8)
    right.set(ylim=(0, 2.5), xlim=(0, 0.6), xlabel="share of clicks where the model works")
    right.set_title("The logits are corrected" if told else "Nobody told the model")
    right.set_ylabel("precision, recall, calibration")
    right.legend(loc="center right", fontsize=9)
    return picture


class Shift:
    """Logits of clicks and of other rows, reweighted to another share of clicks.

    What clicks look like stays the same, and what other rows look like; only their shares change.

    Args:
        histogram: `low` and `width` of the logits' bins, and the expected `clicks` and `others` in
            each.
    """

    def __init__(self, histogram: Mapping[str, Any]) -> None:
        clicks, others = (np.array(histogram[name], float) for name in ("clicks", "others"))
        self.rate = float(clicks.sum() / (clicks.sum() + others.sum()))
        # Spread over its bin, or bins of probability would be hit by two of logits, or by none.
        steps = np.arange(len(clicks) * WITHIN) + 0.5
        self.logits = histogram["low"] + histogram["width"] / WITHIN * steps
        self.clicks, self.others = (
            np.repeat(of / of.sum(), WITHIN) / WITHIN for of in (clicks, others)
        )

    def at(self, rate: float, *, told: bool) -> tuple[Floats, Floats, Floats]:
        """The logits, and the shares of rows that are clicks and others with each of them."""
        move = np.log(rate / (1 - rate)) - np.log(self.rate / (1 - self.rate)) if told else 0.0
        return self.logits + move, self.clicks * rate, self.others * (1 - rate)

    def scores(self, threshold: float, rate: float, *, told: bool) -> dict[str, float]:
        """Precision and recall beyond the threshold, and calibration."""
        logits, clicks, others = self.at(rate, told=told)
        p = 1 / (1 + np.exp(-logits))
        beyond = p > threshold
        found, acted = clicks[beyond].sum(), (clicks + others)[beyond].sum()
        return {
            "precision": float(found / acted) if acted else 0.0,
            "recall": float(found / clicks.sum()),
            "calibration": float((p * (clicks + others)).sum() / rate),
        }
