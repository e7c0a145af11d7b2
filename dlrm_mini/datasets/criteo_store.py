"""The folder a click log is prepared in: files that grow, and a note of how far they are right.

Everything is written to `DIR.part`, which is renamed to `DIR` once it is whole. `state.json` says
how far each step has come and is replaced as a whole, after the data it speaks of has been handed
to the disk; whatever stands in a file beyond that was being written when the process was
killed, and is cut off before work goes on. So the bytes end up the same however often it stops.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from dlrm_mini.errors import UserError

VERSION = 1  # of what the two files below say, and of all that lies beside them
META, STATE = "meta.json", "state.json"
SAID = {
    META: {"job", "rows", "positives", "skipped", "splits", "dense", "sparse"},
    STATE: {"job", "rows", "positives", "skipped", "lines", "end", "read", "vocabularies"},
}
Json = dict[str, Any]


def write_json(path: Path, content: Json) -> None:
    """Write a small file: all of it or nothing, whenever the process is killed."""
    new = path.with_name(f"{path.name}.new")
    with new.open("wb") as file:
        append(file, np.frombuffer((json.dumps(content, indent=1) + "\n").encode(), np.uint8))
        sync([file])
    new.replace(path)


def read_json(path: Path) -> Json | None:
    """What `write_json` wrote, `meta.json` or `state.json`; None where there is nothing.

    Raises:
        UserError: something else is there.
    """
    if not path.is_file():
        return None
    try:
        content: Json = json.loads(path.read_bytes())
        found = content["job"]["version"] if SAID[path.name] <= content.keys() else "missing"
    except (OSError, ValueError, AttributeError, LookupError, TypeError):
        found = "missing"
    if found != VERSION:
        raise UserError(
            f"{path} is not what `criteo prepare` writes: its version is {found}, expected "
            f"{VERSION}. Name another folder; or, if {path.parent} was prepared, by another "
            "version or before the file was damaged, delete it and prepare it again."
        )
    return content


def append(file: IO[bytes], values: NDArray[Any]) -> None:
    """Write an array at the end of a file; every byte that is prepared passes here."""
    file.write(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)


def sync(files: list[IO[bytes]]) -> None:
    """Have what was written on the disk, not only on its way there."""
    for file in files:
        file.flush()
        os.fsync(file.fileno())


def pieces(path: Path, dtype: np.dtype[Any], rows: int) -> Iterator[NDArray[Any]]:
    """A file's values from the beginning, at most `rows` at a time."""
    with path.open("rb") as file:
        while content := file.read(rows * dtype.itemsize):
            yield np.frombuffer(content, dtype)


class Files:
    """Open files that grow row by row together.

    Args:
        folder: where they are.
        widths: bytes that a row has in each file.
        rows: how many rows are right; what is beyond them is cut off.
    """

    def __init__(self, folder: Path, widths: Mapping[str, int], rows: int) -> None:
        self._opened = ExitStack()
        self._files: dict[str, IO[bytes]] = {}
        with self._opened:  # closed again when one of them cannot be opened
            for name, width in widths.items():
                path = folder / name
                path.touch()
                file = self._opened.enter_context(path.open("r+b"))
                file.truncate(rows * width)
                file.seek(0, os.SEEK_END)
                self._files[name] = file
            self._opened = self._opened.pop_all()

    def append(self, name: str, values: NDArray[Any]) -> None:
        """Write the next rows of one file."""
        append(self._files[name], values)

    def sync(self) -> None:
        """Have all files on the disk."""
        sync(list(self._files.values()))

    def __enter__(self) -> Files:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()


@contextmanager
def working_folder(out: Path) -> Iterator[Path]:
    """The path `DIR.part` for this process alone; what the disk says becomes a sentence.

    The lock lies beside it, as `DIR.lock`, and is held until `DIR` has its name.

    Raises:
        UserError: another process is preparing this folder, the disk is full, or the like.
    """
    part, lock = (out.with_name(f"{out.name}.{end}") for end in ("part", "lock"))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock, timeout=0):
            try:
                yield part
            finally:
                with suppress(OSError):  # where a file that is open cannot be deleted
                    lock.unlink()
    except Timeout as error:
        raise UserError(f"another process is preparing {out}; wait until it has ended.") from error
    except OSError as error:
        kept = f"; what is done so far stays in {part.name}" if part.is_dir() else ""
        then = "goes on from there; or delete it" if kept else "begins again"
        raise UserError(
            f"{part} could not be written: {error.strerror or error}. There is no {out.name}{kept}."
            f" Make room or give permission, and the same command {then}."
        ) from error


def finish(part: Path, out: Path, meta: Json) -> None:
    """Give the prepared folder its final name, with `meta` in it."""
    write_json(part / META, meta)
    (part / STATE).unlink(missing_ok=True)
    if out.is_dir():
        out.rmdir()  # only ever an empty one
    part.replace(out)
