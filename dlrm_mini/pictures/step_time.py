"""Chapter 10's pictures of predicted steps: milliseconds and shares by group, all modelled."""

import textwrap
from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from dlrm_mini import style
from dlrm_mini.pictures.sparse_training import modelled
from dlrm_mini.plots import GROUP_COLOURS
from dlrm_mini.profiling.parts import grouped

# The paper says "a significant portion" and "almost negligible" and gives no number for either;
# these two shares of a step are the course's lines for them.
SIGNIFICANT, NEGLIGIBLE = 0.25, 0.10


def verdict(parts: Mapping[str, float]) -> str:
    """What a step's parts (ms) say to the claim about the fully connected layers."""
    groups = grouped(parts)
    share = round(groups["fully connected"] / sum(groups.values()), 2)  # as it is written
    word = (
        "significant" if share >= SIGNIFICANT
        else "almost negligible" if share < NEGLIGIBLE
        else "noticeable"
    )  # fmt: skip
    return f"fully connected layers: {100 * share:.0f} % of the step, {word}"


def stack(
    axes: Axes, place: float, groups: Mapping[str, float], height: float, *, hatched: bool
) -> float:
    """One horizontal bar made of groups, hatched where it is modelled; returns where it ends."""
    left = 0.0
    for group, width in groups.items():
        colour = GROUP_COLOURS[group]
        look = modelled(colour) if hatched else {"facecolor": colour, "edgecolor": "white"}
        axes.barh(place, width, height, left, linewidth=0.8, **look)
        left += width
    return left


def milliseconds(ms: float) -> str:
    """Three digits and the unit.

    Example:
        >>> milliseconds(2564.1), milliseconds(0.0213)
        ('2,564 ms', '0.0213 ms')
    """
    return f"{ms:,.0f} ms" if ms >= 100 else f"{ms:.3g} ms"


def predicted_steps(
    predicted: Mapping[str, Mapping[str, float]], *, title: str, notes: Mapping[str, str]
) -> Figure:
    """Left the milliseconds of a predicted step on each machine, right the shares of its groups.

    Args:
        predicted: machine -> part of a step -> ms.
        title: the workload.
        notes: machine -> what its ceilings are, a short line under its name.
    """
    picture = Figure(figsize=(10.4, 1.75 + 0.95 * len(predicted)), constrained_layout=False)
    high = picture.get_figheight()
    bottom, top = 0.98 / high, 1 - 0.75 / high
    left = picture.add_axes((0.24, bottom, 0.31, top - bottom))
    right = picture.add_axes((0.585, bottom, 0.385, top - bottom), sharey=left)
    longest = max(sum(parts.values()) for parts in predicted.values())
    for place, parts in enumerate(predicted.values()):
        groups = grouped(parts)
        total = stack(left, place, groups, 0.42, hatched=True)
        left.text(total + 0.015 * longest, place, milliseconds(total), va="center")
        shares = {group: ms / total for group, ms in groups.items()}
        stack(right, place, shares, 0.42, hatched=True)
        right.text(0, place - 0.27, verdict(parts), va="bottom", fontsize=9.5)
    names = [f"{textwrap.fill(name, 28)}\n{notes[name]}" for name in predicted]
    left.set_yticks(range(len(names)), names, fontsize=9.5)
    left.set_ylabel("machine")
    left.yaxis.set_label_coords(-0.68, 0.5)
    right.tick_params(left=False, labelleft=False)
    for axes in (left, right):
        axes.set_ylim(len(predicted) - 0.6, -0.62)
        axes.grid(axis="y", visible=False)
    left.xaxis.set_major_formatter(lambda value, _: f"{value:,.6g}")
    left.set(xlim=(0, 1.25 * longest), xlabel="milliseconds of a step", title="Time")
    right.set(xlim=(0, 1), xlabel="share of the step", title="Shares")
    right.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
    legend(picture, GROUP_COLOURS)
    picture.suptitle(title, x=0.015, ha="left", fontsize=12, weight="bold")
    return picture


def legend(picture: Figure, colours: Mapping[str, str], y: float = 0.0) -> None:
    """Names and colours in one line along the bottom, outside all bars, and what is hatched."""
    handles = [Patch(facecolor=colour, label=name) for name, colour in colours.items()]
    handles.append(Patch(**modelled(style.INK), label="predicted"))
    picture.legend(handles=handles, loc="lower center", ncols=len(handles), bbox_to_anchor=(0.5, y))
