"""A synthetic click log as a file in Criteo's raw text format, of any size.

One line a row: label, 13 integers, 26 categories, tab-separated, no header. Missing values are
empty. A category is 8 hexadecimal digits: the id, mixed with a number of its field by a bijection
of 32 bits, so that the ids of a field have different names that say nothing of their frequency.
"""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dlrm_mini.datasets.synthetic import ClickLog, Rows, check_range
from dlrm_mini.datasets.synthetic_ids import TOKENS, Ids, keys
from dlrm_mini.datasets.synthetic_kernels import kernel
from dlrm_mini.errors import UserError
from dlrm_mini.progress import bar

INTEGERS, CATEGORIES = 13, 26  # in one of Criteo's lines
CHUNK = 2**14  # rows at a time, about 4 MB of text
BYTES = 250  # of a line, about
MOST_BYTES = 2 + INTEGERS * 12 + CATEGORIES * 9  # of a line: an integer has at most 11, and a tab

_TAB, _NEWLINE, _MINUS, _ZERO = np.frombuffer(b"\t\n-0", np.uint8)
_HEX = np.frombuffer(b"0123456789abcdef", np.uint8)


def write(log: ClickLog, path: Path | str, start: int, stop: int, *, progress: bool = True) -> Path:
    """Write rows start..stop-1 as text; the file appears under its name when it is complete.

    Args:
        log: one with 13 dense columns and 26 fields with one id a row.
        path: the file, compressed when it ends in `.gz`; one that is there is replaced.
        start: first row.
        stop: the row after the last.
        progress: show a bar.

    Returns:
        The file.

    Raises:
        UserError: a log that does not fit the format, rows that do not exist, a disk without room
            for them, or a file that cannot be written; nothing is left of it then.
    """
    check_range(start, stop)
    shape = (log.config.n_dense, len(log.names), len(log.config.bags))
    if shape != (INTEGERS, CATEGORIES, 0):
        raise UserError(
            f"The log has {shape[0]} dense columns and {shape[1]} fields, {shape[2]} of them bags; "
            f"Criteo's format has {INTEGERS} and {CATEGORIES}, none a bag. Change the "
            "configuration to that."
        )
    path = Path(path)
    part = path.with_name(f"{path.name}.part")
    size, zipped = (stop - start) * BYTES, path.suffix == ".gz"
    try:
        free = shutil.disk_usage(path.parent).free
        if size > free and not zipped:
            raise UserError(
                f"{path} cannot be written: {stop - start:,} rows are about {size / 1e6:,.0f} MB, "
                f"and its disk has room for {free / 1e6:,.0f} MB. Ask for fewer rows or name a "
                "file on another disk; one whose name ends in .gz is smaller."
            )
        with (
            gzip.open(part, "wb", 1) if zipped else part.open("wb") as file,
            bar(total=stop - start, desc=path.name, unit=" rows", unit_scale=True,
                disable=not progress) as shown,
        ):  # fmt: skip
            for begin in range(start, stop, CHUNK):
                rows = log.rows(begin, min(begin + CHUNK, stop))
                file.write(lines(log, rows).data)
                shown.update(len(rows.labels))
        part.replace(path)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written: {error}. Choose a folder that exists, on a disk with room "
            f"for about {size / 1e6:,.0f} MB."
        ) from error
    finally:
        part.unlink(missing_ok=True)
    return path


def tokens(log: ClickLog, name: str, ids: Tensor) -> list[str]:
    """How `write` writes these ids (k,) int64 of a field: 8 hexadecimal digits, "" if missing."""
    missing = Ids.of(log.config, name).missing
    key = _field_keys(log)[log.names.index(name)]
    words = _token.py_func(ids.numpy().astype(np.uint32) ^ key)  # numpy does for a few
    pairs = zip(ids.tolist(), words.tolist(), strict=True)
    return ["" if i == missing else f"{word:08x}" for i, word in pairs]


def lines(log: ClickLog, rows: Rows) -> NDArray[np.uint8]:
    """Rows as text, in bytes."""
    missing = np.array([Ids.of(log.config, name).missing for name in log.names])
    buffer = np.empty(len(rows.labels) * MOST_BYTES, np.uint8)
    ids = rows.sparse.values.view(CATEGORIES, -1)
    arrays = (rows.labels.numpy(), rows.dense.numpy(), ids.numpy())
    return buffer[: _write_lines(*arrays, missing, _field_keys(log), buffer)]


def _field_keys(log: ClickLog) -> NDArray[np.uint32]:
    """What the ids of each field are mixed with, (F,)."""
    return keys(log.config.seed, TOKENS, CATEGORIES).astype(np.uint32)


@kernel
def _token(word: Any) -> Any:
    """A bijection of 32 bits: the finaliser of MurmurHash3 (Appleby 2011)."""
    word = np.uint32((word ^ (word >> np.uint32(16))) * np.uint32(0x85EBCA6B))
    word = np.uint32((word ^ (word >> np.uint32(13))) * np.uint32(0xC2B2AE35))
    return np.uint32(word ^ (word >> np.uint32(16)))


@kernel
def _write_lines(labels: Any, dense: Any, ids: Any, missing: Any, field_keys: Any, out: Any) -> int:
    """Write the text of all rows into `out` (bytes) and say how long it is."""
    place = 0
    digits = np.empty(20, np.uint8)
    for r in range(len(labels)):
        out[place] = _ZERO + np.uint8(labels[r])
        place += 1
        for j in range(dense.shape[1]):
            out[place] = _TAB
            place += 1
            if np.isnan(dense[r, j]):
                continue
            number = np.int64(dense[r, j])
            if number < 0:
                out[place] = _MINUS
                place += 1
                number = -number
            count = 0
            while count == 0 or number > 0:
                digits[count] = _ZERO + np.uint8(number % 10)
                number //= 10
                count += 1
            for k in range(count):
                out[place + k] = digits[count - 1 - k]
            place += count
        for f in range(len(ids)):
            out[place] = _TAB
            place += 1
            if ids[f, r] != missing[f]:
                word = _token(np.uint32(ids[f, r]) ^ field_keys[f])
                for k in range(8):
                    out[place + k] = _HEX[(word >> np.uint32(28 - 4 * k)) & np.uint32(15)]
                place += 8
        out[place] = _NEWLINE
        place += 1
    return place
