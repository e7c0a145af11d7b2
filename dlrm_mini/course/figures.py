"""Does every figure say what it shows? Run inside a notebook's kernel, before its first cell."""

import functools
import json
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_found: list[str] = []


def watch() -> None:
    """Check each figure that matplotlib draws as pixels in this process from now on."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    draw: Callable[..., None] = FigureCanvasAgg.draw

    @functools.wraps(draw)
    def checked(canvas: FigureCanvasAgg) -> None:
        draw(canvas)  # raises where matplotlib wants a renderer only, of a figure in the making
        _found.extend(text for text in problems(canvas.figure) if text not in _found)

    FigureCanvasAgg.draw = checked  # type: ignore[method-assign]


def report() -> str:
    """The problems found so far, as a JSON list of sentences."""
    return json.dumps(_found)


def problems(figure: "Figure") -> list[str]:
    """What a figure lacks: a title, a label on an axis of data, a label on a colour bar.

    An axis shared with a labelled one, or under a `supxlabel`, needs none; axes switched off
    need nothing.
    """
    shown = [axes for axes in figure.axes if axes.get_visible()]
    bars = [axes for axes in shown if hasattr(axes, "_colorbar")]
    # An Axes3D keeps the flat axis off, and its own switch elsewhere.
    lit = [axes for axes in shown if getattr(axes, "_axis3don", axes.axison)]
    data = [axes for axes in lit if axes not in bars]
    name = repr(_title(figure, shown) or "without a title")
    found = []
    untitled = [axes for axes in data if not _has_title(axes, shown)]
    if not _suptitle(figure) and (untitled or not (data or _title(figure, shown))):
        found.append(f"figure {name}: no title on the figure, nor on each of its axes")
    for place, axes in enumerate(data, start=1):
        if axes.name == "polar":
            continue
        for letter in "xyz" if axes.name == "3d" else "xy":
            if not _has_label(axes, letter, figure):
                found.append(f"figure {name}: axes {place} of {len(data)} has no {letter} label")
    for axes in bars:
        if not axes.get_xlabel() and not axes.get_ylabel():
            found.append(f"figure {name}: a colour bar has no label")
    return found


def _suptitle(figure: "Figure") -> str:
    return figure.get_suptitle().strip()


def _title(figure: "Figure", shown: "list[Axes]") -> str:
    return _suptitle(figure) or next(filter(None, map(_own_title, shown)), "")


def _own_title(axes: "Axes") -> str:
    titles = (axes.get_title(where) for where in ("center", "left", "right"))
    return next((title.strip() for title in titles if title.strip()), "")


def _has_title(axes: "Axes", shown: "list[Axes]") -> bool:
    """A title of its own, of the subfigure around it, or of its twin over the same place."""
    around = axes.get_figure(root=False)
    if around is not None and around.get_suptitle().strip():
        return True
    place = axes.get_position().bounds
    return any(_own_title(other) for other in shown if other.get_position().bounds == place)


def _has_label(axes: "Axes", letter: str, figure: "Figure") -> bool:
    if letter != "z" and getattr(figure, f"get_sup{letter}label")().strip():
        return True
    sharing = (
        getattr(axes, f"get_shared_{letter}_axes")().get_siblings(axes) if letter != "z" else [axes]
    )
    return any(getattr(other, f"get_{letter}label")().strip() for other in sharing)
