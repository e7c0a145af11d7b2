"""A figure in words, for somebody who cannot see it, made from the figure itself.

`describe(figure)` says what is drawn, over which axes, and which series are named: what a caption
does not repeat and a screen reader cannot know. Measured values stay out, since the words would
outlive them. `install()` makes IPython store the words beside every picture it shows; nbconvert
and the site's builder put them into the `alt` of the page's image.
"""

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

LONGEST = 450  # characters: a screen reader takes half a minute for them
FEW = 6  # categories or series that are named one by one
MEASURED = re.compile(r"\d[.,]\d|\d\s*(?:%|[mµn]?s\b|[KMGT]i?B\b)")  # a value, not a name


def describe(figure: "Figure") -> str:
    """What the figure shows, in at most `LONGEST` characters; for any figure at least a sentence.

    Args:
        figure: best after it was drawn: then its ticks are where the reader sees them.
    """
    try:
        words = _described(figure)
    except Exception:  # a picture without words is better than no picture
        words = ""
    return _cut(words or "A figure without words.", LONGEST)


def install() -> bool:
    """Let IPython's PNG formatter hand on `describe(figure)` with every figure, as its `alt`.

    Returns:
        False outside IPython, or where figures are not shown as PNG: then nothing was changed.
    """
    from IPython.core.getipython import get_ipython
    from matplotlib.figure import Figure

    shell: Any = get_ipython()
    formatter = shell and shell.display_formatter.formatters["image/png"]
    try:
        draw = formatter.lookup_by_type(Figure)
    except (AttributeError, KeyError):  # no IPython, or no `%matplotlib inline` yet
        return False
    if not isinstance(draw, _WithWords):
        formatter.for_type(Figure, _WithWords(draw))
    return True


class _WithWords:
    """A formatter of figures whose answer is `(data, {"alt": words})` instead of data.

    Args:
        draw: figure -> base64 PNG, or None for an empty figure.
    """

    def __init__(self, draw: Callable[["Figure"], Any]) -> None:
        self.draw = draw

    def __call__(self, figure: "Figure") -> Any:
        data = self.draw(figure)
        return None if data is None else (data, {"alt": describe(figure)})


def _described(figure: "Figure") -> str:
    shown = [axes for axes in figure.axes if axes.get_visible()]
    bars = [axes for axes in shown if hasattr(axes, "_colorbar")]
    panels = _panels([axes for axes in shown if axes not in bars and (_lit(axes) or _drawn(axes))])
    above = _plain(figure.get_suptitle())
    titles = list(dict.fromkeys(filter(None, (_title(panel) for panel in panels))))
    sentences = [above or (titles[0] if len(titles) == 1 else "")]
    said: set[str] = set()
    if len(panels) > 1:
        sentences.append(f"{len(panels)} panels" + _named(titles, sentences[0]))
    sentences += dict.fromkeys(_sentence(panel, figure, said) for panel in panels)
    if colours := list(dict.fromkeys(filter(None, map(_bar_label, bars)))):
        sentences.append(f"Colours: {'; '.join(colours)}")
    legends = [text for legend in figure.legends for text in legend.get_texts()]
    if series := _texts(legends):
        sentences.append(f"Series: {_listed(series)}")
    known = (figure.get_suptitle(), figure.get_supxlabel(), figure.get_supylabel())
    loose = [text for text in figure.texts if text.get_text() not in known]
    if words := [text for text in _texts(loose) if not MEASURED.search(text)]:
        sentences.append(f"Beside it: {'; '.join(words)}")
    return " ".join(one if one[-1] in ".?!:" else f"{one}." for one in sentences if one)


def _named(titles: list[str], known: str) -> str:
    names = [title for title in titles if title != known]
    return f": {_listed(names)}" if names else ""


def _panels(axes: list["Axes"]) -> list[list["Axes"]]:
    """The axes by place: twins over one place are one panel."""
    places: dict[tuple[float, ...], list[Axes]] = {}
    for one in axes:
        place = one.get_position().bounds
        places.setdefault(tuple(round(side, 3) for side in place), []).append(one)
    return list(places.values())


def _sentence(panel: list["Axes"], figure: "Figure", said: set[str]) -> str:
    """What is in one place of the figure, and over which axes, but for the axes `said` before."""
    kinds = list(dict.fromkeys(kind for axes in panel for kind in _kinds(axes)))
    lit = [axes for axes in panel if _lit(axes)]
    inside = [text for axes in panel for text in axes.texts]
    words = [text for text in _texts(inside) if not MEASURED.search(text) and _wordy(text)]
    if not lit:
        what = "A diagram" if not kinds or words else _capital(_listed(kinds))
        return f"{what} with the words {'; '.join(words)}" if words else what
    what = _capital(_listed(kinds)) if kinds else "Nothing yet"
    axes_words = [_axis(axes, letter, figure) for axes in lit for letter in _letters(axes)]
    new = [one for one in dict.fromkeys(filter(None, axes_words)) if one not in said]
    parts = [what, *(new or ["the same axes"])]
    said.update(new)
    legends = [legend for axes in lit if (legend := axes.get_legend()) is not None]
    if series := _texts([text for legend in legends for text in legend.get_texts()]):
        parts.append(f"series {_listed(series)}")
    elif words and len(words) <= 2 * FEW:
        parts.append(f"written in: {_listed(words)}")
    return "; ".join(parts)


def _kinds(axes: "Axes") -> Iterable[str]:
    """What is drawn in the axes, most telling first."""
    from matplotlib.collections import LineCollection, PathCollection, PolyCollection, QuadMesh
    from matplotlib.container import BarContainer, ErrorbarContainer
    from matplotlib.contour import ContourSet
    from matplotlib.patches import Circle, Rectangle, StepPatch, Wedge

    spreads = [one for one in axes.containers if isinstance(one, ErrorbarContainer)]
    of_spreads = {id(part) for one in spreads for part in (*one.lines[1], *one.lines[2])}
    images = [image.get_array() for image in axes.images]
    meshes = [one for one in axes.collections if isinstance(one, QuadMesh)]
    if meshes or any(array is not None and array.ndim == 2 for array in images):
        yield "a map of colours"
    elif images:
        yield "a picture"
    if axes.name == "3d" and axes.collections:
        yield "a surface in space"
    if any(isinstance(one, ContourSet) for one in axes.collections):
        yield "contour lines"
    boxes = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    if any(isinstance(one, BarContainer) for one in axes.containers) or len(boxes) > 1:
        yield "bars" if _lit(axes) else "boxes"
    if any(isinstance(patch, StepPatch) for patch in axes.patches):
        yield "outlines"
    if any(isinstance(patch, Wedge | Circle) for patch in axes.patches):
        yield "rings" if not _lit(axes) else "circles"
    drawn = [line for line in axes.lines if _across(line) and id(line) not in of_spreads]
    if any(line.get_linestyle() != "None" for line in drawn):
        yield "lines"
    pathes = [one for one in axes.collections if isinstance(one, PathCollection)]
    if pathes or any(line.get_linestyle() == "None" for line in drawn):
        yield "points with their spread" if spreads else "points"
    loose = [one for one in axes.collections if id(one) not in of_spreads]
    if not drawn and any(isinstance(one, LineCollection) for one in loose):
        yield "lines"
    if axes.name != "3d" and any(isinstance(one, PolyCollection) for one in loose):
        yield "shaded areas"


def _across(line: Any) -> bool:
    """Whether a line holds data, and is no rule from side to side of the axes."""
    return line.axes is not None and line.get_transform().contains_branch(line.axes.transData) and (
        line.get_transform() == line.axes.transData
    )  # fmt: skip


def _axis(axes: "Axes", letter: str, figure: "Figure") -> str:
    """One axis: its label, the categories or the ends of its scale."""
    axis: Axis = getattr(axes, f"{letter}axis")
    label = _plain(axis.get_label_text()) or _shared_label(axes, letter, figure)
    scale = _scale(axis)
    if not (label or scale):
        return ""
    words = f"{letter} axis: {label}" if label else f"{letter} axis"
    return f"{words} ({scale})" if scale else words


def _shared_label(axes: "Axes", letter: str, figure: "Figure") -> str:
    """The label that an axis has from its siblings or from the whole figure."""
    if letter == "z":
        return ""
    siblings = getattr(axes, f"get_shared_{letter}_axes")().get_siblings(axes)
    labels = [_plain(getattr(other, f"get_{letter}label")()) for other in siblings]
    return next(filter(None, labels), _plain(getattr(figure, f"get_sup{letter}label")()))


def _scale(axis: "Axis") -> str:
    """The ends of an axis in its own round numbers, or its categories; "" without ticks."""
    low, high = sorted(cast(tuple[float, float], tuple(axis.get_view_interval())))
    slack = 1e-6 * (high - low)
    ticks = [t for t in axis.get_major_ticks() if low - slack <= t.get_loc() <= high + slack]
    # The first line is the name; below it there may be measured values.
    names = [_plain(tick.label1.get_text().partition("\n")[0]) for tick in ticks]
    if not any(names):
        return ""
    if any(_wordy(name) and not _is_number(name) for name in names):
        named = list(dict.fromkeys(filter(None, names)))
        few = len(named) <= FEW
        return _listed(named) if few else f"{len(named)} names from {named[0]} to {named[-1]}"
    ends = [
        name if name and "^" not in name else _number(tick.get_loc())
        for name, tick in ((names[0], ticks[0]), (names[-1], ticks[-1]))
    ]
    of_logs = ", logarithmic" if axis.get_scale() in ("log", "symlog", "logit") else ""
    return f"{ends[0]} to {ends[1]}{of_logs}" if len(ticks) > 1 else ends[0]


def _letters(axes: "Axes") -> str:
    return {"3d": "xyz", "polar": ""}.get(axes.name, "xy")


def _lit(axes: "Axes") -> bool:
    """Whether the axes are drawn (an Axes3D keeps its own switch)."""
    return bool(getattr(axes, "_axis3don", axes.axison))


def _drawn(axes: "Axes") -> bool:
    return bool(axes.lines or axes.patches or axes.collections or axes.images or axes.texts)


def _title(panel: list["Axes"]) -> str:
    found = (_plain(axes.get_title(place)) for axes in panel for place in ("left", "center"))
    return next(filter(None, found), "")


def _bar_label(bar: "Axes") -> str:
    return _plain(bar.get_ylabel() or bar.get_xlabel())


def _texts(artists: Iterable[Any]) -> list[str]:
    """What visible text artists say, each once."""
    said = (_plain(text.get_text()) for text in artists if text.get_visible())
    return list(dict.fromkeys(filter(None, said)))


def _plain(text: str) -> str:
    """Text without line breaks and without the marks of mathematics."""
    text = re.sub(r"\\(?:mathdefault|mathrm|mathbf|text)\b|[${}]|\\[,;! ]", "", text)
    return " ".join(text.replace("\\", "").split()).rstrip(" .")


def _listed(names: list[str]) -> str:
    shown = names if len(names) <= FEW else [*names[: FEW - 1], f"{len(names) - FEW + 1} more"]
    *first, last = shown
    return f"{', '.join(first)} and {last}" if first else last


def _wordy(text: str) -> bool:
    return re.search(r"[^\W\d_]{2}", text) is not None


def _is_number(text: str) -> bool:
    """Whether a tick's label is a number with at most a unit, such as "1,000", "50 %", "10 ms"."""
    number = r"[-+\N{MINUS SIGN}]?[\d.,^\N{MULTIPLICATION SIGN}]+\s?(?:%|[µmknMGT]?[sB]?)"
    return re.fullmatch(number, text) is not None


def _number(value: float) -> str:
    return f"{value:,.6g}" if 1e-4 <= abs(value) < 1e7 or value == 0 else f"{value:.3g}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _cut(text: str, longest: int) -> str:
    """The text, ended at a word where it is too long."""
    return text if len(text) <= longest else text[: longest - 1].rpartition(" ")[0] + "…"
