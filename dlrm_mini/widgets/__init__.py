"""Widgets: a pure function that draws, and controls that call it.

`explore(draw, ...)` shows the controls above the picture `draw` returns for their values. The
picture is an image, not a captured output: it redraws in one message, and `probe` can tell in any
kernel, without a browser, that each control of each widget is alive and how long a redraw takes.
"""

import gc
import html
import io
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import ipywidgets
import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from dlrm_mini.alternative_text import describe

Draw = Callable[..., Figure]

MANY = 200  # positions of a slider from which on it is made long
FIELD = {"long": 330, "short": 210}  # pixels beside the description
LETTER, GAP = 7, 12  # pixels: of a description's letter on average, and after it

_shown: list["Explorer"] = []


class Explorer:
    """Controls and the picture they drive; a notebook shows it as the last value of a cell.

    Args:
        name: what the reader is told this is.
        draw: pure function of the controls' values that returns a matplotlib figure.
        controls: argument of `draw` -> ipywidgets control.
    """

    def __init__(self, name: str, draw: Draw, controls: dict[str, Any]) -> None:
        self.name, self.draw, self.controls = name, draw, controls
        # Its own size: stretched to the window, the picture would be blurred.
        size = {"max_width": "100%", "width": "auto", "align_self": "flex-start"}
        self.image = ipywidgets.Image(format="png", layout=size)
        self.message = ipywidgets.HTML()
        # For screen readers, which tell what it says whenever that changes; too small to be seen.
        # (An Image has no alternative text, and a tooltip breaks it: its view has no element yet.)
        nowhere = {"width": "1px", "height": "1px", "margin": "0", "overflow": "hidden"}
        self.words = ipywidgets.HTML(layout=nowhere)
        _align(controls)
        layout = {"flex_flow": "row wrap", "align_items": "center", "grid_gap": "2px 12px"}
        box = ipywidgets.Box(list(controls.values()), layout=layout)
        self.view = ipywidgets.VBox([box, self.message, self.image, self.words])
        for control in controls.values():
            control.observe(self.redraw, names="value")
        self.redraw()

    def redraw(self, _change: Any = None) -> None:
        """Draw for the current values; an error is shown in the picture's place, not swallowed."""
        try:
            figure = self.draw(**{name: c.value for name, c in self.controls.items()})
            self.image.value, self.message.value = png(figure), ""
            self.words.value = f'<div aria-live="polite">{html.escape(describe(figure))}</div>'
        except Exception as error:
            text = html.escape(f"{type(error).__name__}: {error}")
            self.image.value, self.message.value = b"", f"<b>This drawing failed.</b> {text}"

    def _repr_mimebundle_(self, **_keywords: Any) -> dict[str, Any]:
        _shown.append(self)
        # Each redraw leaves a figure's cycles behind. Python would look through all objects of the
        # kernel for them, half a second now and then; frozen, the older objects are left alone.
        gc.freeze()
        view = {"version_major": 2, "version_minor": 0, "model_id": self.view.model_id}
        return {
            "application/vnd.jupyter.widget-view+json": view,
            "text/plain": f"[widget: {self.name}. Run this cell to move its controls; "
            "a picture of it is drawn below]",
        }


def explore(name: str, draw: Draw, **controls: Any) -> Explorer:
    """A widget that redraws `draw(**values)` whenever a control moves."""
    return Explorer(name, draw, controls)


def png(figure: Figure) -> bytes:
    """The figure as PNG bytes, at the course's resolution.

    The pixels of `figure.savefig`, which draws twice where there is a layout, and packs more than
    a redraw has time for.
    """
    if (dpi := mpl.rcParams["savefig.dpi"]) != "figure":
        figure.dpi = dpi
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(canvas.buffer_rgba())).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def probe() -> str:
    """Move every control of every widget shown in this kernel and see that its picture follows.

    Returns:
        A JSON list of {"name": ..., "problem": null or a sentence, "seconds": median of its
        redraws, each the lesser of clock and processor time, null without any}, one per widget.
    """
    return json.dumps([_probed(widget) for widget in _shown])


def _probed(widget: Explorer) -> dict[str, Any]:
    seconds: list[float] = []
    problem = _problem(widget, seconds)
    middle = statistics.median(seconds) if seconds else None
    return {"name": widget.name, "problem": problem, "seconds": middle}


def _problem(widget: Explorer, seconds: list[float] | None = None) -> str | None:
    """What is wrong with a widget; the time of each redraw is added to `seconds`."""
    seconds = [] if seconds is None else seconds
    if widget.message.value:
        return f"its picture failed: {widget.message.value}"
    for name, control in widget.controls.items():
        start, before = control.value, widget.image.value
        alive = False
        for value in _other_values(control):
            clock, processor = time.perf_counter(), time.process_time()
            control.value = value
            clock, processor = time.perf_counter() - clock, time.process_time() - processor
            seconds.append(min(clock, processor))
            if widget.message.value:
                return f"{name}={value!r}: {widget.message.value}"
            alive = alive or widget.image.value != before
        control.value = start
        if widget.image.value != before:
            return f"after moving {name!r} and back the picture is another one"
        if not alive:
            return f"moving {name!r} does not change the picture"
    return None


def _align(controls: dict[str, Any]) -> None:
    """One look for all: descriptions of one width, the longest in full, then fields of one width.

    Check boxes and buttons are as wide as their words; a check box has no other description.
    """
    others = [one for one in controls.values() if not isinstance(one, ipywidgets.Checkbox)]
    wide = GAP + LETTER * max((len(one.description) for one in others), default=0)
    for control in controls.values():
        if isinstance(control, ipywidgets.Checkbox):
            control.indent, control.layout.width = False, "auto"
            continue
        control.style.description_width = f"{wide}px"
        if isinstance(control, ipywidgets.ToggleButtons):
            control.layout.width, control.layout.display = "auto", "flex"  # words beside them
            control.layout.align_items = "center"
            continue
        field = FIELD["long" if len(_positions(control)) > MANY else "short"]
        control.layout.width = f"{wide + field}px"


def _positions(control: Any) -> range:
    """As many as an integer slider has positions; other controls count as short."""
    if isinstance(control, ipywidgets.IntSlider):
        return range(control.min, control.max + 1, control.step)
    return range(0)


def _other_values(control: Any) -> list[Any]:
    """Some values the control can take beside the one it has."""
    options: list[Any]
    if hasattr(control, "_options_full"):
        options = [value for _, value in control._options_full]
        options = options[:3] + options[-1:]
    elif hasattr(control, "options"):
        options = [*control.options[:3], control.options[-1]]
    elif hasattr(control, "min"):
        options = [control.min, control.max]
    elif isinstance(control.value, bool):
        options = [not control.value]
    else:
        options = []
    known = [control.value]
    for value in options:
        if value not in known:
            known.append(value)
    return known[1:]
