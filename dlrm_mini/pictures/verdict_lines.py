"""Chapter 16: single cases on a scale, and the line that makes a verdict of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from dlrm_mini import style
from dlrm_mini.claims import Verdict
from dlrm_mini.experiments import Kind


@dataclass(frozen=True)
class Case:
    """One step of one model.

    Attributes:
        name: which, for the reader.
        share: of the step, 0 to 1.
    """

    name: str
    share: float


@dataclass(frozen=True)
class Line:
    """A claim with an undefined word in it.

    Attributes:
        claim: key in `claims.CLAIMS`.
        words: what is compared with the line.
        cases: all of them, at least one.
        kind: how the shares came about.
        most: whether a case is for the claim at the line or above it, or else below it.
    """

    claim: str
    words: str
    cases: tuple[Case, ...]
    kind: Kind
    most: bool = True

    def holds(self, at: float) -> list[bool]:
        """For each case, whether it is for the claim when the line is drawn at this share."""
        return [(case.share >= at) == self.most for case in self.cases]

    def verdict(self, at: float) -> Verdict:
        """What all cases together say: always, sometimes or never."""
        found = self.holds(at)
        return "holds" if all(found) else "holds when" if any(found) else "does not hold"


def where_is_the_line(lines: Sequence[Line], most: float, negligible: float) -> Figure:
    """Each case of each question as a dot; those on the claim's side of the line are filled.

    Args:
        lines: the questions.
        most: share of a step from which on something is most of it.
        negligible: share below which something is negligible.
    """
    picture = Figure(figsize=(10.4, 4.6), layout="constrained")
    axes = picture.subplots()
    for place, line in enumerate(lines):
        at = most if line.most else negligible
        shares = np.array([case.share for case in line.cases])
        order = shares.argsort(kind="stable")
        lift = np.zeros(len(shares))
        lift[order] = 0.26 * (
            np.arange(len(shares)) * 0.618 % 1 - 0.5
        )  # spread, the same each time
        inside, y = np.array(line.holds(at)), -place + lift
        dashed = line.kind == "modelled"
        for chosen, face in ((inside, style.BLUE), (~inside, "white")):
            axes.scatter(
                100 * shares[chosen], y[chosen], 42, facecolor=face, edgecolor=style.BLUE,
                linewidth=1.1, hatch="////" if dashed and face == style.BLUE else None, zorder=3,
            )  # fmt: skip
        axes.plot([100 * at] * 2, [-place - 0.36, -place + 0.36], color=style.RED, linewidth=2.4)
        words = "below" if not line.most else "at least"
        axes.text(
            101.5, -place,
            f"{words} {at:.0%}: {inside.sum()} of {len(inside)}\n{line.verdict(at)}",
            va="center", fontsize=11,
        )  # fmt: skip
    labels = [f"{line.words}\n({line.kind})" for line in lines]
    axes.set_yticks([-place for place in range(len(lines))], labels)
    axes.set(
        xlim=(0, 128), ylim=(-len(lines) + 0.45, 0.55), xlabel="share of a step, %",
        ylabel="what is said to be most, or negligible",
        xticks=range(0, 101, 10),
        title="Every dot is one case. The red line is a definition",
    )  # fmt: skip
    axes.grid(axis="y", visible=False)
    return picture
