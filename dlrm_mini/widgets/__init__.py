"""Widgets: a pure function that draws, and controls that call it.

`explore(draw, ...)` shows the controls above the picture `draw` returns for their values. The
picture is an image, not a captured output: it redraws in one message, and `probe` can tell in any
kernel, without a browser, that each control of each widget is alive.
"""

import html
import io
import json
from collections.abc import Callable
from typing import Any

import ipywidgets
from matplotlib.figure import Figure

Draw = Callable[..., Figure]

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
        layout = {"flex_flow": "row wrap", "align_items": "center"}
        box = ipywidgets.Box(list(controls.values()), layout=layout)
        self.view = ipywidgets.VBox([box, self.message, self.image])
        for control in controls.values():
            control.observe(self.redraw, names="value")
        self.redraw()

    def redraw(self, _change: Any = None) -> None:
        """Draw for the current values; an error is shown in the picture's place, not swallowed."""
        try:
            figure = self.draw(**{name: c.value for name, c in self.controls.items()})
            self.image.value, self.message.value = png(figure), ""
        except Exception as error:
            text = html.escape(f"{type(error).__name__}: {error}")
            self.image.value, self.message.value = b"", f"<b>This drawing failed.</b> {text}"

    def _repr_mimebundle_(self, **_keywords: Any) -> dict[str, Any]:
        _shown.append(self)
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
    """The figure as PNG bytes, at the course's resolution."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def probe() -> str:
    """Move every control of every widget shown in this kernel and see that its picture follows.

    Returns:
        A JSON list of {"name": ..., "problem": null or a sentence}, one per widget.
    """
    return json.dumps([{"name": w.name, "problem": _problem(w)} for w in _shown])


def _problem(widget: Explorer) -> str | None:
    for name, control in widget.controls.items():
        start, before = control.value, widget.image.value
        if widget.message.value:
            return f"its picture failed: {widget.message.value}"
        alive = False
        for value in _other_values(control):
            control.value = value
            if widget.message.value:
                return f"{name}={value!r}: {widget.message.value}"
            alive = alive or widget.image.value != before
        control.value = start
        if not alive:
            return f"moving {name!r} does not change the picture"
    return None


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
    return [value for value in options if value != control.value]
