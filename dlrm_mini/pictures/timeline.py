"""Who computes, who talks and who waits: the timeline of all ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from dlrm_mini import style
from dlrm_mini.errors import UserError
from dlrm_mini.parallel.events import Event
from dlrm_mini.pictures.sparse_training import modelled as hatched
from dlrm_mini.profiling.parts import GROUPS

COMMUNICATION = "communication"
COLOURS = style.GROUP_COLOURS | {COMMUNICATION: style.COMMUNICATION}
UNITS = (("s", 1.0), ("ms", 1e3), ("µs", 1e6))
INCHES = 9.0  # of paper under the time axis
LABELLED = 16  # ranks; with more, rows are too low for words
MANY_INCHES = 5.0  # of paper for the rows of more ranks than that
NAMES = {  # what a collective is called inside a bar
    "all_to_all": "all-to-all", "all_reduce": "all-reduce", "all_gather": "all-gather",
    "reduce_scatter": "reduce-scatter",
}  # fmt: skip


class _Bar(NamedTuple):
    """From `start` to `end` in seconds, `high` below `top` in rows; "" is a bar without a name."""

    start: float
    end: float
    top: float
    high: float
    group: str
    name: str


def group_of(name: str) -> str:
    """The group that a part belongs to: `profiling.parts` knows its own; others by their words."""
    for group, parts in GROUPS.items():
        if name in parts:
            return group
    words = {
        "embeddings": ("lookup", "table", "embedding", "vector"),
        "fully connected": ("mlp", "dense"),
        "interaction": ("interaction",),
    }
    lower = name.lower()
    found = (group for group, some in words.items() if any(word in lower for word in some))
    return next(found, "everything else")


def draw_timeline(events: Sequence[Event], *, title: str, modelled: bool = True) -> Figure:
    """One row a rank: computing in the colour of its group, communication in its own.

    Waiting is blank. Where a rank computes while it communicates, its row has two lanes.

    Args:
        events: of a cluster or of a cost model; seconds.
        title: what the picture shows.
        modelled: whether the times are modelled, and so drawn hatched; solid is measured.

    Raises:
        UserError: there are no events.
    """
    if not events:
        raise UserError("There are no events to draw; run the cluster first, on parts with times.")
    rows = {rank: row for row, rank in enumerate(sorted({event.rank for event in events}))}
    end = max(event.end for event in events)
    unit, scale = next((unit for unit in UNITS if end * unit[1] >= 1), UNITS[-1])
    many, lanes = len(rows) > LABELLED, _overlap(events)
    high = MANY_INCHES if many else 0.62 * len(rows)
    figure = Figure(figsize=(10.0, 1.75 + high), layout="constrained")
    axes = figure.subplots()
    for bar in _bars(events, rows, lanes, many):
        _draw(axes, bar, scale, end * scale / INCHES, modelled)
    every = -(-len(rows) // LABELLED)
    axes.set_yticks(list(rows.values())[::every], [str(rank) for rank in rows][::every])
    axes.set(xlim=(0, end * scale * 1.01), ylim=(len(rows) - 0.4, -0.6))
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    kind = "modelled" if modelled else "measured"
    axes.set(title=title, xlabel=f"time, {kind} [{unit}]", ylabel="rank")
    present = {_group(event) for event in events}
    handles = [Patch(label=one, **_look(one, modelled)) for one in COLOURS if one in present]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def _overlap(events: Sequence[Event]) -> bool:
    """Whether some rank computes while it communicates."""
    until: dict[tuple[int, str], float] = {}
    for event in sorted(events, key=lambda event: event.start):
        other = "communication" if event.kind == "compute" else "compute"
        if event.start < until.get((event.rank, other), 0.0) * (1 - 1e-9):
            return True
        own = (event.rank, event.kind)
        until[own] = max(until.get(own, 0.0), event.end)
    return False


def _bars(events: Sequence[Event], rows: Mapping[int, int], lanes: bool, many: bool) -> list[_Bar]:
    """A bar an event; of many ranks, neighbours that do the same at once share one, unnamed."""
    if not many:
        bars = []
        for event in events:
            top, high = rows[event.rank] - 0.4, 0.8
            if lanes:
                top, high = top + 0.42 * (event.kind == "communication"), 0.38
            bars.append(_Bar(event.start, event.end, top, high, _group(event), event.name))
        return bars
    alike: dict[tuple[float, float, str], list[int]] = {}
    for event in events:
        key = (event.start, event.end, _group(event))
        alike.setdefault(key, []).append(rows[event.rank])
    shared = []
    for (start, end, group), which in alike.items():
        for _, run in groupby(enumerate(sorted(which)), lambda pair: pair[1] - pair[0]):
            block = [row for _, row in run]
            top, high = block[0] - 0.5, float(len(block))
            if lanes and group == COMMUNICATION:  # in front of what is computed meanwhile
                shared += [_Bar(start, end, row + 0.05, 0.45, group, "") for row in block]
            else:
                shared.append(_Bar(start, end, top, high, group, ""))
    return shared


def _group(event: Event) -> str:
    return COMMUNICATION if event.kind == "communication" else group_of(event.name)


def _look(group: str, modelled: bool) -> dict[str, Any]:
    if modelled:
        return hatched(COLOURS[group])
    return {"facecolor": COLOURS[group], "edgecolor": "white"}


def _draw(axes: Axes, bar: _Bar, scale: float, inch: float, modelled: bool) -> None:
    """A bar, and its name where that fits; `inch` is what one of paper is on the axis."""
    left, wide = bar.start * scale, (bar.end - bar.start) * scale
    look = _look(bar.group, modelled) | {"linewidth": 0.8 if bar.name else 0.0}
    axes.add_patch(Rectangle((left, bar.top), wide, bar.high, **look))
    words = _fitting(NAMES.get(bar.name, bar.name), wide / inch, bar.high > 0.5)
    if not words:
        return
    dark = not modelled and np.dot(to_rgb(COLOURS[bar.group]), (0.3, 0.59, 0.11)) < 0.5
    box = {"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.88}
    axes.text(
        left + wide / 2, bar.top + bar.high / 2, words, fontsize=8.5, ha="center", va="center",
        linespacing=1.0, color="white" if dark else style.INK, bbox=box if modelled else None,
    )  # fmt: skip


def _fitting(words: str, inches: float, two_lines: bool) -> str:
    """The words, in two lines where they may be and must, or "" where they are too wide."""
    first, _, rest = words.rpartition(" ")
    for lines in ([words], [first, rest] if two_lines and first else [words]):
        if max(map(len, lines)) * 0.08 <= inches:
            return "\n".join(lines)
    return ""
