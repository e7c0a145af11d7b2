"""Whether embedding tables fit in memory, asked before a byte of them is allocated."""

import os
from collections.abc import Mapping
from pathlib import Path

from dlrm_mini.errors import UserError

SHOWN = 5  # tables that the message describes one by one


def check_fits(
    rows: Mapping[str, int],
    dims: int | Mapping[str, int],
    *,
    bytes_per_number: int = 4,
    available: int | None = None,
) -> None:
    """Raise a UserError when tables of these sizes need more memory than there is.

    Only the tables are counted. Gradients and an optimizer's state come on top, so that tables
    which pass may still be too large to train.

    Args:
        rows: table -> its rows.
        dims: numbers in a row, of every table or table -> numbers.
        bytes_per_number: 4 for float32.
        available: bytes that may be used. None: as many as `available_memory` finds, and no check
            where it finds nothing.

    Raises:
        UserError: the tables do not fit. It says what each of the largest needs, what there is, and
            which to shrink to how many rows.
    """
    available = available_memory() if available is None else available
    row_bytes = {
        name: bytes_per_number * (dims if isinstance(dims, int) else dims[name]) for name in rows
    }
    needs = {name: n * row_bytes[name] for name, n in rows.items()}
    total = sum(needs.values())
    if available is None or total <= available:
        return
    largest = sorted(needs, key=lambda name: -needs[name])
    lines = [
        f"  '{name}': {rows[name]:,} rows of {row_bytes[name]:,} bytes, {_size(needs[name])}"
        for name in largest[:SHOWN]
    ]
    if rest := largest[SHOWN:]:
        lines.append(f"  {len(rest)} more: {_size(sum(needs[name] for name in rest))}")
    smaller = rows_that_fit(rows, row_bytes, available)
    advice = ", ".join(f"'{name}' to {n:,} rows" for name, n in smaller.items())
    raise UserError(
        f"The embedding tables need {_size(total)}, but {_size(available)} of memory is free; "
        "nothing was allocated.\n" + "\n".join(lines) + "\n"
        + (
            f"Shrink {advice}, or choose a smaller embedding dimension."
            if smaller
            else "Not even one row of each fits: choose a smaller embedding dimension."
        )
    )  # fmt: skip


def rows_that_fit(
    rows: Mapping[str, int], row_bytes: Mapping[str, int], available: int
) -> dict[str, int]:
    """Which tables to cut, and to how many rows, so that all of them fit.

    The largest tables are cut to one common number of bytes, as high as possible, and the smaller
    ones stay whole.

    Args:
        rows: table -> its rows.
        row_bytes: table -> bytes of a row.
        available: bytes for all tables together.

    Returns:
        Table -> rows, of the tables to cut, the largest first; empty when nothing has to be cut,
        and when not even one row of each table fits.
    """
    needs = {name: n * row_bytes[name] for name, n in rows.items()}
    left, cap = available, None
    for place, name in enumerate(sorted(needs, key=lambda name: needs[name])):
        share = max(left, 0) // (len(needs) - place)
        if needs[name] > share:  # this table and all larger ones get an equal share
            cap = share
            break
        left -= needs[name]
    if cap is None:
        return {}
    cut = sorted((name for name in needs if needs[name] > cap), key=lambda name: -needs[name])
    smaller = {name: cap // row_bytes[name] for name in cut}
    return smaller if all(smaller.values()) else {}


def available_memory(root: Path = Path("/")) -> int | None:
    """Bytes that can be allocated without swapping, or None where the system does not say.

    On Linux what the kernel calls MemAvailable, or what the limit of a container (a control group)
    leaves if that is less; elsewhere all of the machine's memory, at least an upper bound.

    Args:
        root: where the kernel's files are.
    """
    kilobytes = _fields(root / "proc/meminfo").get("MemAvailable:")
    found = [] if kilobytes is None else [kilobytes * 1024]
    for line in _lines(root / "proc/self/cgroup"):
        kinds, _, own = line.partition(":")[2].partition(":")
        if kinds and "memory" not in kinds.split(","):
            continue
        top = root / "sys/fs/cgroup" / ("memory" if kinds else "")
        folder = top / own.lstrip("/")
        for group in (folder, *folder.parents):  # a limit holds for all groups below
            found += _left(group, version=1 if kinds else 2)
            if group == top:
                break
    return min(found) if found else _whole_memory()


def _left(group: Path, version: int) -> list[int]:
    """Limit minus use, without the files that the kernel drops when memory is wanted.

    Empty where there is no limit, and outside a container, where the folder is not there.
    """
    names = {1: ("limit_in_bytes", "usage_in_bytes"), 2: ("max", "current")}[version]
    try:
        most, used = (int(" ".join(_lines(group / f"memory.{name}"))) for name in names)
    except ValueError:  # "max" or nothing
        return []
    fields = _fields(group / "memory.stat")
    return [max(0, most - used + fields.get("inactive_file", 0) + fields.get("active_file", 0))]


def _lines(path: Path) -> list[str]:
    """The lines of one of the kernel's files; empty when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def _fields(path: Path) -> dict[str, int]:
    """The lines `name number ...` of one of the kernel's files."""
    parts = [line.split() for line in _lines(path)]
    return {part[0]: int(part[1]) for part in parts if len(part) > 1 and part[1].isdigit()}


def _whole_memory() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # Windows has no sysconf
        return None


def _size(n_bytes: int) -> str:
    """Bytes exactly, and in GB of 10^9 bytes where that is easier to read."""
    exact = f"{n_bytes:,} bytes"
    return exact if n_bytes < 10**7 else f"{exact} ({n_bytes / 1e9:,.2f} GB)"
