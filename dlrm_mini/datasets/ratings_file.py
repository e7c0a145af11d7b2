"""Reading ratings from a file in the form of MovieLens' `u.data`, a reader's own included."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dlrm_mini.errors import UserError

COLUMNS = ("user id", "item id", "rating", "timestamp")
_INTEGER = r"\d{1,18}"  # what an int64 surely holds
_RATING = r"[1-4](?:\.\d+)?|5(?:\.0+)?"  # 1 to 5
_FORMS = (_INTEGER, _INTEGER, _RATING, _INTEGER)
_LINE = re.compile("\t".join(f"({form})" for form in _FORMS), re.ASCII)
_EXPECTED = f"expected four columns separated by tabs and no header: {', '.join(COLUMNS)}"


@dataclass(frozen=True, eq=False)
class Ratings:
    """N ratings, in the order of their file.

    Args:
        user: (N,) int64, ids as the file has them.
        item: (N,) int64, ids as the file has them.
        rating: (N,) float32, 1 to 5.
        timestamp: (N,) int64, seconds since 1970-01-01 UTC.
    """

    user: Tensor
    item: Tensor
    rating: Tensor
    timestamp: Tensor


def read_ratings(path: Path | str) -> Ratings:
    """Read a tab-separated file without header: user id, item id, rating, timestamp.

    Args:
        path: a text file, one rating a line.

    Raises:
        UserError: naming file and line, when a column is missing, an id or a timestamp is no
            integer, or a rating is not within 1 to 5; also when there is no file or no line.
    """
    path = Path(path)
    try:
        text = path.read_text("utf-8-sig", errors="replace")
    except OSError as error:
        raise UserError(
            f"{path} cannot be read: {error.strerror or error}. Give the path of a file of ratings."
        ) from error
    if not text:
        raise UserError(f"{path} is empty; {_EXPECTED}.")
    rows = []
    for number, line in enumerate(text.removesuffix("\n").split("\n"), 1):
        match = _LINE.fullmatch(line)
        if match is None:
            raise UserError(f"{path}, line {number}: {_fault(line)}.")
        rows.append(match.groups())
    user, item, rating, timestamp = zip(*rows, strict=True)
    return Ratings(
        user=torch.tensor([int(cell) for cell in user]),
        item=torch.tensor([int(cell) for cell in item]),
        rating=torch.tensor([float(cell) for cell in rating]),
        timestamp=torch.tensor([int(cell) for cell in timestamp]),
    )


def _fault(line: str) -> str:
    """What is wrong with a line that does not have the form."""
    cells = line.split("\t")
    if len(cells) != len(COLUMNS):
        return f"{len(cells)} column(s), {line[:80]!r}; {_EXPECTED}"
    pairs = zip(COLUMNS, _FORMS, cells, strict=True)
    name, cell = next((n, c) for n, form, c in pairs if not re.fullmatch(form, c, re.ASCII))
    wanted = "a number from 1 to 5" if name == "rating" else "an integer, 0 or more"
    return f"the {name} is {cell[:40]!r}, expected {wanted}; {_EXPECTED}"
