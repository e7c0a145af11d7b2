"""Chapter 06's widgets: which model wins in which world, and what each model found there."""

from collections.abc import Mapping
from typing import Any

import ipywidgets
import numpy as np
from matplotlib.figure import Figure

from dlrm_mini.ladders.crossing_settings import ARMS, PARAMETERS, SHARES, World
from dlrm_mini.pictures import crossing_matrices as matrices
from dlrm_mini.pictures import crossings as pictures
from dlrm_mini.widgets import Explorer, explore

TOPS = ("both", "without an MLP", "with an MLP")
TIE = "within the spread of the seeds"


class Winners:
    """The arms at equal parameters, in worlds with more and more of a third order.

    Args:
        worlds: `worlds` of the record `interactions`.
    """

    def __init__(self, worlds: Mapping[str, Any]) -> None:
        self.worlds = {
            share: {
                arm: budgets[PARAMETERS.name]
                for arm, budgets in worlds[World(share).name]["arms"].items()
            }
            for share in SHARES
        }

    def leaders(self, share: float, top: str = TOPS[0]) -> list[str]:
        """The arm with the highest mean, and those that its lead over is within both spreads."""
        arms = self.worlds[share]
        shares = {arm: arms[arm]["share"] for arm in shown(top)}
        first = max(shares, key=lambda arm: float(shares[arm]["mean"]))
        others = [
            arm
            for arm, of in shares.items()
            if arm != first
            and shares[first]["mean"] - of["mean"] <= shares[first]["spread"] + of["spread"]
        ]
        return [first, *others]

    def draw(self, share: float, top: str) -> Figure:
        """The world with this share of third order."""
        first, *others = self.leaders(share, top)
        words = f"{share:.0%} third order: {first} is ahead"
        if others:
            words += f"; {', '.join(others)} {TIE}"
        return pictures.who_wins(self.worlds, share, shown(top), words)

    def widget(self, share: float, top: str) -> Explorer:
        """Choose the strength of the third order, and which arms to see."""
        options = [(f"{one:.0%}", one) for one in SHARES]
        return explore(
            "the strength of the planted orders, and who wins",
            self.draw,
            share=ipywidgets.SelectionSlider(
                options=options, value=share, description="third order"
            ),
            top=ipywidgets.Dropdown(options=TOPS, value=top, description="arms"),
        )


def shown(top: str) -> list[str]:
    """The arms with or without an MLP, or both; "cat" alone is logistic regression once more."""
    wanted = {TOPS[0]: (True, False), TOPS[1]: (False,), TOPS[2]: (True,)}[top]
    return [arm for arm in ARMS if ("MLP" in arm) in wanted and arm != "cat"]


class Findings:
    """What each arm made of the planted pairs and triples, beside what was planted.

    Args:
        learned: `learned` of the record `interactions`.
        world: the world they learned from.
    """

    def __init__(self, learned: Mapping[str, Any], world: World) -> None:
        self.learned = learned
        self.names, matrix = world.planted()
        self.planted_matrix = matrix.numpy()
        _, pairs = world.log.planted_pairs()
        self.planted: dict[tuple[str, ...], float] = {
            tuple(self.names[place] for place in (column, row)): float(pairs[row, column])
            for row, column in zip(*map(list, np.tril(pairs.numpy(), -1).nonzero()), strict=True)
        }
        self.planted |= world.log.planted_triples()

    def draw(self, arm: str) -> Figure:
        """What was planted beside what this arm found."""
        found = self.learned[arm]
        panels = {"planted": self.planted_matrix, f"found by {arm}": np.array(found["pairs"])}
        return matrices.compare(self.names, panels, self.planted)

    def everybody(self) -> Figure:
        """What was planted beside what each arm found; "cat" alone finds nothing."""
        panels = {"planted": self.planted_matrix}
        panels |= {arm: np.array(self.learned[arm]["pairs"]) for arm in ARMS if arm != "cat"}
        return matrices.everybody(self.names, panels, self.planted)

    def blocks(self) -> Figure:
        """The first layer of the cross network, block by block, beside what was planted."""
        norms = np.array(self.learned["cross"]["block_norms"])
        both = np.sqrt(norms**2 + norms.T**2)  # W's blocks (i, j) and (j, i) make the same products
        panels = {"first layer of cross: size of each block": both}
        return matrices.matrices(
            self.names,
            panels,
            self.planted,
            title="What the first of two cross layers multiplies",
            label="size of the block of W",
        )

    def widget(self, arm: str) -> Explorer:
        """Choose an arm."""
        arms = [name for name in ARMS if name != "cat"]
        return explore(
            "what each model found",
            self.draw,
            arm=ipywidgets.Dropdown(options=arms, value=arm, description="arm"),
        )
