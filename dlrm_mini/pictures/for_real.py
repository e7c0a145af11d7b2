"""Chapter 15's pictures: what processes did, beside what was simulated and predicted.

Solid is measured, and names its hardware; hatched is modelled or simulated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from dlrm_mini import style
from dlrm_mini.errors import UserError
from dlrm_mini.parallel.events import Event
from dlrm_mini.parallel.recorded import WAITING
from dlrm_mini.pictures.sparse_training import modelled as hatched
from dlrm_mini.pictures.timeline import COLOURS, COMMUNICATION, NAMES, group_of

Steps = Mapping[int, Mapping[int, float]]  # P -> B -> seconds
SIZES = {1: style.INK, 2: style.BLUE, 4: style.ORANGE, 8: style.GREEN}  # P -> colour
KINDS = {
    "all_to_all": style.PURPLE, "all_reduce": style.BLUE, "all_gather": style.ORANGE,
    "reduce_scatter": style.GREEN, "broadcast": style.SKY,
}  # fmt: skip
BETWEEN = "between the parts"
SHADES = {**COLOURS, WAITING: "#D8D8D8", BETWEEN: style.PALE_SAND}


def measured_step(events: Sequence[Event], *, title: str, hardware: str) -> Figure:
    """One measured step of all ranks.

    Args:
        events: from zero, waiting apart.
        title: what the picture shows.
        hardware: whose time it is.

    Raises:
        UserError: there are no events.
    """
    ranks = len({event.rank for event in events})
    picture = Figure(figsize=(9.6, 1.6 + 0.6 * ranks), layout="constrained")
    axes = picture.subplots()
    _timeline(axes, events, _end(events), measured=True)
    axes.set(title=title, xlabel=f"ms, measured on {hardware}")
    _legend(picture)
    return picture


def two_timelines(
    measured: Sequence[Event], predicted: Sequence[Event], *, title: str, hardware: str
) -> Figure:
    """A step as it was measured and as it was predicted, on one axis of time.

    Args:
        measured: from zero, waiting apart.
        predicted: of the cost model.
        title: what was run.
        hardware: whose time it is.

    Raises:
        UserError: one of them has no events.
    """
    end = max(_end(measured), _end(predicted))
    ranks = len({event.rank for event in measured})
    picture = Figure(figsize=(9.6, 2.3 + 0.8 * ranks), layout="constrained")
    above, below = picture.subplots(2, 1, sharex=True)
    _timeline(above, measured, end, measured=True)
    _timeline(below, predicted, end, measured=False)
    above.set_title(f"measured: {1e3 * _end(measured):.1f} ms", fontsize=10.5)
    below.set_title(f"predicted: {1e3 * _end(predicted):.1f} ms", fontsize=10.5)
    below.set_xlabel(f"ms; solid: measured on {hardware}")
    picture.suptitle(title, weight="bold")
    _legend(picture)
    return picture


def _end(events: Sequence[Event]) -> float:
    if not events:
        raise UserError("There are no events to draw; expected those of at least one rank.")
    return max(event.end for event in events)


def _timeline(axes: Axes, events: Sequence[Event], end: float, *, measured: bool) -> None:
    for event in events:
        left, wide = 1e3 * event.start, 1e3 * (event.end - event.start)
        group, colour = _group(event), SHADES[_group(event)]
        look = {"facecolor": colour, "edgecolor": colour} if measured else hatched(colour)
        axes.add_patch(Rectangle((left, event.rank - 0.38), wide, 0.76, lw=0.4, **look))
        words = NAMES.get(event.name, event.name)
        if measured and wide > 1e3 * end * 0.0105 * max(map(len, words.split())):
            white = group in ("embeddings", "interaction")
            axes.text(left + wide / 2, event.rank, words.replace(" ", "\n"), ha="center",
                      va="center", fontsize=8, linespacing=0.95, clip_on=True,
                      color="white" if white else style.INK)  # fmt: skip
    ranks = sorted({event.rank for event in events})
    axes.set_yticks(ranks, [str(rank) for rank in ranks])
    axes.set(xlim=(0, 1.01e3 * end), ylim=(max(ranks) + 0.55, -0.55), ylabel="rank")
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)


def _group(event: Event) -> str:
    if event.name == WAITING:
        return WAITING
    return COMMUNICATION if event.kind == "communication" else group_of(event.name)


def _legend(picture: Figure) -> None:
    names = {"fully connected": "MLPs and interaction"}
    groups = ("embeddings", "fully connected", "everything else", COMMUNICATION, WAITING)
    handles = [Patch(label=names.get(group, group), facecolor=SHADES[group]) for group in groups]
    picture.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=9)


def bytes_sent(
    simulated: Mapping[str, int], real: Mapping[str, int], crossed: int | None, *, title: str
) -> Figure:
    """What was counted in two worlds, and what the kernel saw on the wire.

    Args:
        simulated: operation -> bytes of all ranks.
        real: the same, counted by processes.
        crossed: bytes that left the loopback interface; None: not known here.
        title: what was run.
    """
    picture = Figure(figsize=(9.2, 3.0), layout="constrained")
    axes = picture.subplots()
    for row, counted in enumerate((simulated, real)):
        left = 0.0
        for operation, number in counted.items():
            colour = KINDS[operation]
            look = {"color": colour} if row else hatched(colour)
            axes.barh(row, number / 1e6, 0.62, left, **look)
            left += number / 1e6
        axes.text(left, row, f"  {sum(counted.values()):,} bytes", va="center", fontsize=9.5)
    most = max(sum(simulated.values()), sum(real.values()), crossed or 0) / 1e6
    words = f"  {crossed:,} bytes" if crossed else "can be read on Linux only"
    axes.barh(2, (crossed or 0) / 1e6, 0.62, color=style.GREY)
    axes.text((crossed or 0) / 1e6, 2, words, va="center", fontsize=9.5)
    labels = ["counted, simulated ranks", "counted, processes", "on the wire: the kernel's count"]
    axes.set_yticks(range(3), labels)
    axes.invert_yaxis()
    axes.set(xlim=(0, 1.28 * most), xlabel="MB sent, all ranks together", ylabel="who counts")
    axes.set_title(title)
    axes.grid(axis="y", visible=False)
    handles = [Patch(facecolor=KINDS[name], label=NAMES.get(name, name)) for name in simulated]
    picture.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=9)
    return picture


def by_batch(measured: Steps, predicted: Steps, *, hardware: str, guess: float | None) -> Figure:
    """Milliseconds a step by batch and processes, and how many times as fast as one process.

    Args:
        measured: P -> B -> seconds; 1 among the P.
        predicted: the same, by the cost model.
        hardware: whose time is measured.
        guess: the reader's batch from which on two processes win; None: never.
    """
    picture = Figure(figsize=(9.8, 4.2), layout="constrained")
    left, right = picture.subplots(1, 2)
    for size in measured:
        for steps, look in ((measured, "o-"), (predicted, ":")):
            batches = list(steps[size])
            ms = np.array([1e3 * steps[size][batch] for batch in batches])
            one = np.array([1e3 * steps[1][batch] for batch in batches])
            words = f"{size} process{'es' * (size > 1)}" if look == "o-" else None
            style_of: dict[str, Any] = {"color": SIZES[size], "lw": 2 if words else 1.4}
            left.plot(batches, ms, look, label=words, **style_of)
            if size > 1:
                right.plot(batches, one / ms, look, **style_of)
    batches = list(measured[1])
    right.axhline(1, color=SIZES[1], lw=1)
    if guess is not None and guess > 0:
        at = float(np.clip(guess, batches[0], batches[-1]))
        right.plot(at, 1, "*", color=style.RED, markersize=15, clip_on=False, zorder=5)
        right.annotate("your guess", (at, 1), (0, 9), textcoords="offset points", ha="center",
                       color=style.RED, fontsize=9)  # fmt: skip
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.set_xticks(batches, [f"{batch:,}" for batch in batches])
        axes.minorticks_off()
        axes.set_xlabel("batch, all processes together")
    left.set(yscale="log", ylabel="ms a step", title="How long")
    right.set(ylabel="times one process's speed", title="Who wins", ylim=(0, None))
    low, high = left.get_ylim()
    ticks = [step * 10**power for power in range(-1, 5) for step in (1, 2, 5)]
    shown = [tick for tick in ticks if low <= tick <= high]
    left.set_yticks(shown, [f"{tick:g}" for tick in shown])
    left.minorticks_off()
    left.set_ylim(low, high)
    left.plot([], [], "k:", label="predicted", lw=1.4)
    left.legend(fontsize=9)
    picture.suptitle(f"Solid: measured on {hardware}", fontsize=10.5, x=0.01, ha="left")
    return picture


def breakdowns(rows: Mapping[str, tuple[Mapping[str, float], bool]], *, title: str) -> Figure:
    """Where steps go: a bar each.

    Args:
        rows: words -> (group, `COMMUNICATION`, `WAITING` or `BETWEEN` -> seconds; measured?).
        title: what the picture shows.
    """
    picture = Figure(figsize=(9.6, 1.5 + 0.42 * len(rows)), layout="constrained")
    axes = picture.subplots()
    for row, (parts, measured) in enumerate(rows.values()):
        left = 0.0
        for group in (name for name in SHADES if parts.get(name, 0) > 0):
            colour, wide = SHADES[group], 1e3 * parts[group]
            look = {"color": colour} if measured else hatched(colour)
            axes.barh(row, wide, 0.74, left, **look)
            left += wide
        axes.text(left, row, f"  {left:.1f} ms", va="center", fontsize=9.5,
                  weight="bold" if measured else None)  # fmt: skip
    axes.set_yticks(range(len(rows)), list(rows))
    axes.invert_yaxis()
    axes.set(title=title, xlabel="ms of a step, mean over ranks; hatched: predicted")
    axes.set(ylabel="run", xlim=(0, 1.13 * axes.get_xlim()[1]))
    axes.grid(axis="y", visible=False)
    shown = [name for name in SHADES if any(parts.get(name, 0) > 0 for parts, _ in rows.values())]
    handles = [Patch(facecolor=SHADES[name], label=name) for name in shown]
    picture.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=9)
    return picture


def silence(
    events: Sequence[Event], died: float, rank: int, known: float, *, hardware: str
) -> Figure:
    """The last steps of all ranks before and after one of them dies.

    Args:
        events: as recorded, waiting included; seconds of one clock.
        died: when.
        rank: who.
        known: when the last survivor knew.
        hardware: whose time it is.
    """
    span = known - died
    first = died - max(span, 0.02)
    picture = Figure(figsize=(9.6, 2.9), layout="constrained")
    axes = picture.subplots()
    ranks = sorted({event.rank for event in events})
    for event in events:
        if event.end < first:
            continue
        begin = max(event.start, first)
        group = WAITING if event.end > died else _group(event)  # for somebody who will not come
        axes.barh(event.rank, 1e3 * (event.end - begin), 0.62, 1e3 * (begin - died),
                  color=SHADES[group], lw=0)  # fmt: skip
    axes.plot(0, rank, "X", color=style.RED, markersize=13, zorder=4)
    axes.annotate("killed", (0, rank), (10, 0), textcoords="offset points", va="center",
                  color=style.RED, weight="bold")  # fmt: skip
    axes.axvline(1e3 * span, color=style.RED, lw=1.4, ls="--")
    axes.text(1e3 * span, rank + 0.42, f" {1e3 * span:.0f} ms later: the others know", fontsize=9,
              color=style.RED, ha="right", va="center")  # fmt: skip
    axes.set_yticks(ranks, [f"rank {one}" for one in ranks])
    axes.set(xlim=(1e3 * (first - died), 1.06e3 * span), ylim=(max(ranks) + 0.6, -0.6))
    axes.set(title="How a silence is heard", ylabel="process",
             xlabel=f"ms since the death, measured on {hardware}")  # fmt: skip
    axes.grid(axis="y", visible=False)
    _legend(picture)
    return picture
