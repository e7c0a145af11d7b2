"""Lines of Criteo's text into numbers: whole blocks by polars, bad lines found one by one.

Why polars. Measured on 135,737 generated lines (32 MB) in memory, parsed into one small integer, 13
integers and 26 strings, rows for each second of processor time on a two-core Xeon: polars 2.1.0
1,330,000, pyarrow 26.0.1 840,000, DuckDB 2.0.0 460,000. Polars also hands out a string of eight
bytes as one 64-bit integer without a copy through Python, from which a kernel here makes the number
that the hexadecimal digits stand for.

Polars takes an integer with spaces before it, and spaces alone for a missing one; so do we. It also
forgives a line that is too short, and a carriage return within one. Both are counted for that
reason. Where anything is wrong in a block, its lines are looked at one by one, and those that are
plainly bad are taken out; should polars still complain, the others are halved again and again until
the bad ones stand alone. What is good is read by the very same code, so a bad line never changes
what becomes of its neighbours.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numba
import numpy as np
import polars as pl
from numpy.typing import NDArray

from dlrm_mini.datasets.criteo_format import DENSE, FIELDS, SPARSE, Format
from dlrm_mini.errors import UserError

_BYTES = np.uint64(0x0101010101010101)
_LOW = np.uint64(0x0F0F0F0F0F0F0F0F)
_PAIRS = np.uint64(0x00FF00FF00FF00FF)
_QUADS = np.uint64(0x0000FFFF0000FFFF)
_WHOLE = np.uint64(0xFFFFFFFF)
_ABOVE = np.uint64(0x1010101010101010)
_DIGIT = np.uint64(0x3030303030303030)


@dataclass(frozen=True)
class Lines:
    """What stands in n lines.

    Attributes:
        labels: (n,) uint8, 0 or 1.
        dense: (13, n) int64; 0 where missing.
        absent: (39,) int64, how many are missing in each of I1 to I13 and C1 to C26.
        sparse: (26, n) uint32, what the eight hexadecimal digits stand for; 0 where missing.
        missing: (n,) uint32; bit c says that category c is missing.
    """

    labels: NDArray[np.uint8]
    dense: NDArray[np.int64]
    absent: NDArray[np.int64]
    sparse: NDArray[np.uint32]
    missing: NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Bad:
    """A line that cannot be read: its place in the block, from 0, and what was found."""

    line: int
    found: str


class _BadBlockError(Exception):
    """Something in these lines is wrong; the message says what was found, not where."""


def parse(text: bytes, form: Format, most: int = sys.maxsize) -> tuple[list[Lines], list[Bad]]:
    """The rows of whole lines, in order, and the lines that are none.

    Args:
        text: lines, each ended by a line feed.
        form: how they are written.
        most: bad lines to go on after; with one more, the lines behind it are not looked at.

    Returns:
        The rows, in one piece or several; and the bad lines, `most + 1` of them at most.
    """
    try:
        return [_parse(text, form)], []
    except _BadBlockError:
        lines, plain = text.split(b"\n")[:-1], _plainly_good(form)
    good: list[Lines] = []
    bad: list[Bad] = []
    kept: list[int] = []  # the places of the lines that polars is to look at
    for place, line in enumerate(lines):
        if plain(line) or not (found := _explain(line, form)):
            kept.append(place)
            continue
        bad.append(Bad(place, found))
        if len(bad) > most:
            break
    todo, hidden = [kept] if kept else [], 0
    while todo and hidden <= most:
        part = todo.pop()
        try:
            good.append(_parse(b"".join(lines[place] + b"\n" for place in part), form))
        except _BadBlockError as error:
            if len(part) > 1:
                half = len(part) // 2
                todo += [part[half:], part[:half]]
            else:
                bad.append(Bad(part[0], str(error)))
                hidden += 1
    return good, sorted(bad, key=lambda line: line.line)[: most + 1]


def _parse(text: bytes, form: Format) -> Lines:
    """All lines, or a _BadBlockError."""
    if b"\r" in text:
        raise _BadBlockError("a carriage return within the line")
    number = pl.Float64 if form.decimals else pl.Int64
    types: dict[str, type[pl.DataType]] = {"id": pl.String} if form.leading_id else {}
    types |= {"label": pl.Float64 if form.decimals else pl.UInt8}
    types |= dict.fromkeys(DENSE, number) | dict.fromkeys(SPARSE, pl.String)
    try:
        frame = pl.read_csv(
            text, has_header=False, separator=form.separator, schema=types, quote_char=None
        )
    except pl.exceptions.PolarsError as error:
        raise _BadBlockError(str(error).partition("\n")[0]) from error
    n = len(frame)
    if _occurrences(text, form.separator) != n * (frame.width - 1):
        raise _BadBlockError("another number of fields")
    absent = np.array(frame.select(DENSE + SPARSE).null_count().row(0), np.int64)
    digits = pl.col(SPARSE).cast(pl.Binary).bin.reinterpret(dtype=pl.UInt64, endianness="little")
    label = pl.col("label").fill_null(2)  # a missing label is as wrong as any other
    frame = frame.select(label, pl.col(DENSE).fill_null(0), digits.fill_null(0))
    labels = _whole(frame["label"].to_numpy())
    if not ((labels == 0) | (labels == 1)).all():
        raise _BadBlockError("a label other than 0 and 1")
    dense = np.empty((len(DENSE), n), np.int64)
    for place, name in enumerate(DENSE):
        dense[place] = _whole(frame[name].to_numpy())
    sparse = np.empty((len(SPARSE), n), np.uint32)
    missing = np.zeros(n, np.uint32)
    for place, name in enumerate(SPARSE):
        found = _decode(frame[name].to_numpy(), np.uint32(1 << place), sparse[place], missing)
        if found != absent[len(DENSE) + place]:  # other lengths than 8 have become 0 as well
            raise _BadBlockError("a category that is not of 8 hexadecimal digits")
    return Lines(labels.astype(np.uint8), dense, absent, sparse, missing)


def _occurrences(text: bytes, byte: str) -> int:
    """How often a byte occurs, counted in pieces that stay in the processor's cache."""
    raw, step = np.frombuffer(text, np.uint8), 1 << 16
    pieces = (raw[start : start + step] for start in range(0, len(raw), step))
    return sum(int(np.count_nonzero(piece == ord(byte))) for piece in pieces)


def _whole(values: NDArray[Any]) -> NDArray[np.int64]:
    """Integers, from whichever way they were written."""
    if values.dtype.kind == "f":
        if not (np.abs(values) < 2.0**53).all() or (values != np.floor(values)).any():
            raise _BadBlockError("a number that is not whole")
        values = values.astype(np.int64)
    return values


@numba.njit(nogil=True, cache=True)
def _decode(
    text: NDArray[np.uint64],
    bit: np.uint32,
    values: NDArray[np.uint32],
    missing: NDArray[np.uint32],
) -> int:
    """Eight digits, the first in the lowest byte, into the number they stand for.

    All eight at once: a letter has bit 6 set, and is 9 more than its low four bits say. What comes
    out is written as digits again and must be what was there.

    Returns:
        How many are missing, having no text at all; -1 when something else is no number.
    """
    count = 0
    wrong = np.uint64(0)
    for row in range(len(text)):
        x = text[row]
        absent = x == 0
        letters = (x >> np.uint64(6)) & _BYTES
        nibbles = (x & _LOW) + letters * np.uint64(9)
        above_nine = ((nibbles + np.uint64(6) * _BYTES) >> np.uint64(4)) & _BYTES
        again = nibbles + _DIGIT + above_nine * np.uint64(39)
        differs = (again ^ (x | (letters << np.uint64(5)))) | (nibbles & _ABOVE)
        wrong |= np.uint64(0) if absent else differs
        pairs = ((nibbles << np.uint64(4)) | (nibbles >> np.uint64(8))) & _PAIRS
        quads = ((pairs << np.uint64(8)) | (pairs >> np.uint64(16))) & _QUADS
        values[row] = ((quads << np.uint64(16)) | (quads >> np.uint64(32))) & _WHOLE
        missing[row] |= bit if absent else np.uint32(0)
        count += absent
    return count if wrong == 0 else -1


def decode(digits: Sequence[str | None]) -> tuple[NDArray[np.uint32], NDArray[np.bool_]]:
    """Categories as they stand in a file into numbers (n,), and which of them are missing (n,).

    Raises:
        UserError: one is neither eight hexadecimal digits, nor empty, nor None.
    """
    wrong = [text for text in digits if text and not re.fullmatch("[0-9a-fA-F]{8}", text)]
    if wrong:
        raise UserError(
            f"{_short(wrong[0])} is no category of Criteo's; expected 8 hexadecimal digits, or "
            "nothing where it is missing."
        )
    values = np.array([int(text or "0", 16) for text in digits], np.uint32)
    return values, np.array([not text for text in digits], np.bool_)


def _plainly_good(form: Format) -> Callable[[bytes], object]:
    """Whether there is no doubt about a line: of the good ones nearly all, and fast."""
    point, digits = (r"(?:\.0*)?", 15) if form.decimals else ("", 18)
    label, number = f"[01]{point}", f"(?:-?[0-9]{{1,{digits}}}{point})?"
    fields = [label, *[number] * len(DENSE), *["(?:[0-9a-fA-F]{8})?"] * len(SPARSE)]
    fields = [f"[^{form.separator}]*"] * form.leading_id + fields
    return re.compile(form.separator.join(fields).encode()).fullmatch


def _explain(line: bytes, form: Format) -> str:
    """What is wrong with a line, or nothing when this function cannot tell.

    Nothing that polars accepts is wrong here: which lines are bad never depends on others.
    """
    text = line.decode("utf-8", "replace")
    if not text.strip():
        return "the line is empty"
    fields, expected = text.split(form.separator), len(FIELDS) + form.leading_id
    if len(fields) != expected:
        return f"{len(fields)} field(s), expected {expected}; the line is {_short(text)}"
    start, returned, _ = text.partition("\r")
    if returned:
        return f"a carriage return within the line, after {_short(start[-60:])}"
    whole = partial(_is_whole, decimals=form.decimals)
    checks: list[tuple[str, Callable[[str], object], str]] = [
        ("label", partial(_is_label, decimals=form.decimals), "0 or 1"),
        *((name, whole, "a whole number or nothing") for name in DENSE),
        *((name, re.compile("([0-9a-fA-F]{8})?").fullmatch, "8 hexadecimal digits or nothing")
          for name in SPARSE),
    ]  # fmt: skip
    for (name, fits, what), field in zip(checks, fields[form.leading_id :], strict=True):
        if not fits(field):
            return f"{name} holds {_short(field)}, expected {what}"
    return ""


def _is_label(text: str, decimals: bool) -> bool:
    """Whether a field is 0 or 1, written as the format says."""
    if decimals:
        return bool(text.strip()) and _is_whole(text, decimals) and float(text) in (0, 1)
    return bool(re.fullmatch(r" *\+?0*[01]", text))


def _is_whole(text: str, decimals: bool) -> bool:
    """Whether a field is empty or an integer that fits, written as the format says."""
    text = text.lstrip(" ")
    if text != text.strip():
        return False
    if not text or decimals:
        try:
            return abs(value := float(text or 0)) < 2.0**53 and value.is_integer()
        except ValueError:
            return False
    return bool(re.fullmatch(r"[+-]?[0-9]+", text)) and -(2**63) <= int(text) < 2**63


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:60]}...")
