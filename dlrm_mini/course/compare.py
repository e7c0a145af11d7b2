"""Is a stored output still what the cell gives?

Numbers are held to a tolerance, pictures to what they show.
"""

import html
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from nbformat import NotebookNode
from numpy.typing import NDArray

from dlrm_mini.course import notebook
from dlrm_mini.course.outputs import WIDGET, clean, decode

# Cells with one of these tags show what no two machines share (seconds, versions): only the kinds
# of their outputs are compared.
VOLATILE = frozenset({"timing", "machine"})

RELATIVE = 1e-3  # another processor's sum of floats; a result that changed is further off
ABSOLUTE = 1e-6
# An exponent has two digits and ends there: 9e6135b0 is eight hexadecimal digits, not infinity.
NUMBER = re.compile(r"[-+]?(?:\d+\.\d*|\.\d+|\d+)(?:[eE][-+]?\d{1,2}(?![0-9A-Za-z]))?")

PICTURE_MEAN = 1.0  # of 255, over the whole picture
PICTURE_BLOCK = 6.0  # of 255, over its worst 8 x 8 pixels: one moved line, one changed digit
SIZE_SLACK = 2  # pixels: a tight bounding box follows the fonts
Pixels = NDArray[np.float32]  # (height, width, 3), or (height, width)


@dataclass(frozen=True)
class Difference:
    """One output that is no longer what is stored.

    Attributes:
        cell: the cell's position in the notebook.
        what: the kind of output and how it differs.
        stored: what the file holds, shortened.
        fresh: what the cell gives now, shortened.
    """

    cell: int
    what: str
    stored: str
    fresh: str

    def __str__(self) -> str:
        return f"cell {self.cell}: {self.what}\n  stored: {self.stored}\n  now:    {self.fresh}"


def compare_notebooks(stored: NotebookNode, fresh: NotebookNode) -> list[Difference]:
    """Every difference between two runs of the same cells."""
    return [
        difference
        for position, (old, new) in enumerate(zip(stored.cells, fresh.cells, strict=True))
        if old.cell_type == "code"
        for difference in compare_outputs(old.outputs, new.outputs, notebook.tags(old), position)
    ]


def compare_outputs(
    stored: list[NotebookNode],
    fresh: list[NotebookNode],
    tags: frozenset[str] = frozenset(),
    cell: int = 0,
) -> list[Difference]:
    """The differences between a cell's stored outputs and fresh ones, both cleaned first.

    Args:
        stored: the outputs in the file.
        fresh: the outputs of a run.
        tags: the cell's tags; one of `VOLATILE` leaves only the kinds to compare.
        cell: the cell's position, for the messages.
    """
    widgets = ["data" in output and WIDGET in output.data for output in _merged(fresh)]
    stored, fresh = clean(stored), clean(fresh)
    kinds = [[kind(output) for output in outputs] for outputs in (stored, fresh)]
    if kinds[0] != kinds[1]:
        shown = [", ".join(k) or "nothing" for k in kinds]
        return [Difference(cell, "gives other kinds of output", *shown)]
    if tags & VOLATILE:
        return []
    return [
        Difference(cell, what, *_where(old, new))
        for one, other, is_widget in zip(stored, fresh, widgets, strict=True)
        for what, old, new in _differences(one, other, is_widget)
    ]


def same(stored: NotebookNode, fresh: NotebookNode) -> bool:
    """Whether two cleaned outputs show the same, to the tolerances."""
    return kind(stored) == kind(fresh) and not any(_differences(stored, fresh, False))


def kind(output: NotebookNode) -> str:
    """What sort of output it is, such as "stdout" or "image/png + text/plain"."""
    if output.output_type == "stream":
        return str(output.name)
    if output.output_type == "error":
        return f"error {output.ename}"
    return " + ".join(sorted(output.data))


def same_text(stored: str, fresh: str) -> bool:
    """Whether two texts say the same: words and integers equal, floats close, spacing free."""
    words = [re.sub(r"\s+", "", NUMBER.sub("#", text)) for text in (stored, fresh)]
    if words[0] != words[1]:
        return False
    return all(map(_same_number, NUMBER.findall(stored), NUMBER.findall(fresh)))


def same_picture(stored: str, fresh: str) -> bool:
    """Whether two base64 PNGs show the same picture."""
    old, new = (np.asarray(decode(data).convert("RGB"), np.float32) for data in (stored, fresh))
    if old.shape == new.shape:
        return _same_pixels(old, new)
    height, width = (min(a, b) for a, b in zip(old.shape[:2], new.shape[:2], strict=True))
    slack = max(abs(a - b) for a, b in zip(old.shape[:2], new.shape[:2], strict=True))
    if slack > SIZE_SLACK:
        return False
    return any(
        _same_pixels(a, b) for a in _crops(old, height, width) for b in _crops(new, height, width)
    )


def _differences(
    stored: NotebookNode, fresh: NotebookNode, is_widget: bool
) -> Iterator[tuple[str, str, str]]:
    if stored.output_type == "stream":
        if not same_text(stored.text, fresh.text):
            yield f"{stored.name} differs", stored.text, fresh.text
    elif stored.output_type == "error":
        if not same_text(stored.evalue, fresh.evalue):
            yield f"{stored.ename} differs", stored.evalue, fresh.evalue
    else:
        for mime, old in stored.data.items():
            new = fresh.data[mime]
            if mime == "image/png":
                if not same_picture(old, new):
                    yield "the picture differs", "an older picture", "another picture"
            elif mime == "text/html":
                if not same_text(_visible(old), _visible(new)):
                    yield "the table differs", _visible(old), _visible(new)
            elif mime.startswith("text/"):
                if (
                    is_widget
                ):  # a widget's text spells out its state, which is the widget's business
                    old, new = old.split("(")[0], new.split("(")[0]
                if not same_text(old, new):
                    yield f"{mime} differs", old, new
            elif old != new:
                yield f"{mime} differs", str(old), str(new)


def _same_number(stored: str, fresh: str) -> bool:
    a, b = float(stored), float(fresh)
    if stored.lstrip("+-").isdigit() and fresh.lstrip("+-").isdigit():
        return a == b
    allowed = max(ABSOLUTE, RELATIVE * max(abs(a), abs(b)))
    # Rounding may flip the last printed digit of a float that did not really change.
    units = [_last_place(text) for text in (stored, fresh)]
    if max(units) <= max(1e-3, 1e-2 * max(abs(a), abs(b))):
        allowed = max(allowed, 1.01 * max(units))
    return abs(a - b) <= allowed


def _last_place(number: str) -> float:
    mantissa, _, exponent = number.lower().partition("e")
    decimals = len(mantissa.partition(".")[2])
    return float(10.0 ** (int(exponent or 0) - decimals))


def _same_pixels(old: Pixels, new: Pixels) -> bool:
    if np.array_equal(old, new):
        return True
    gap = np.maximum(_gap(old, new), _gap(new, old))  # (height, width)
    gap = np.pad(gap, [(0, -side % 8) for side in gap.shape])
    blocks = gap.reshape(gap.shape[0] // 8, 8, gap.shape[1] // 8, 8).mean(axis=(1, 3))
    return bool(gap.mean() <= PICTURE_MEAN and blocks.max() <= PICTURE_BLOCK)


def _gap(old: Pixels, new: Pixels) -> Pixels:
    """How far each pixel is from the nearest in colour of the nine around its place in the other.

    Markers and edges snap to whole pixels, so the last bit of a float can move them by one.
    """
    height, width = old.shape[:2]
    around = np.pad(new, ((1, 1), (1, 1), (0, 0)), mode="edge")
    least: Pixels = np.full((height, width), np.inf, np.float32)
    for top, left in itertools.product(range(3), range(3)):
        shifted = around[top : top + height, left : left + width]
        least = np.minimum(least, np.abs(old - shifted).mean(axis=2))
    return least


def _crops(picture: Pixels, height: int, width: int) -> Iterator[Pixels]:
    for top in range(picture.shape[0] - height + 1):
        for left in range(picture.shape[1] - width + 1):
            yield picture[top : top + height, left : left + width]


def _visible(markup: str) -> str:
    without = re.sub(r"<(style|script)\b.*?</\1>", " ", markup, flags=re.DOTALL | re.IGNORECASE)
    return html.unescape(re.sub(r"<[^>]+>", " ", without))


def _merged(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """The outputs that `clean` leaves, uncleaned: of each stream the first part only."""
    seen: set[str] = set()
    kept = []
    for output in outputs:
        if output.output_type == "stream":
            if output.name in seen:
                continue
            seen.add(output.name)
        kept.append(output)
    return kept


def _where(stored: str, fresh: str) -> tuple[str, str]:
    """The first lines that differ, shortened."""
    lines = [text.splitlines() for text in (stored, fresh)]
    for old, new in zip(*lines, strict=False):
        if not same_text(old, new):
            return _short(old), _short(new)
    return _short(stored), _short(fresh)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 200 else line[:197] + "..."
