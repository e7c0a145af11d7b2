"""The files of a sharded checkpoint: where they lie, how they appear, how damage is found.

```
FOLDER/checkpoint-00000012/     a whole one; the highest number counts
    manifest.json               format, plan, tables, and of every other file: bytes, checksum
    replicated.pt               MLPs, their optimizer state, learning rates, `extra`
    rank-00000.pt               rank 0's rectangles of tables and of optimizer state
    rank-00000.json             which they are, and a checksum for every MiB of each
    rank-00001.pt ...
```

A checkpoint is written as `checkpoint-00000013.part`, its manifest last, and renamed once every
rank has written; the one before is removed after that. So a run that is killed at any moment
leaves a whole one. Checksums lead from the manifest (which has its own) to every number, and those
of a rectangle are looked at piece by piece: a rank reads no more than it needs.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import shutil
import zlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dlrm_mini.errors import UserError

FORMAT = "dlrm-mini sharded checkpoint, version 1"
MANIFEST, REPLICATED = "manifest.json", "replicated.pt"
CHECKED = 1 << 20  # bytes that share a checksum
_NAME = re.compile(r"checkpoint-(\d{8})")


class DamagedError(UserError):
    """A checkpoint that cannot be used: cut short, changed, or of another program."""

    def __init__(self, path: Path, found: str) -> None:
        super().__init__(
            f"{path} cannot be used: {found}. Nothing was changed. Name another checkpoint, or "
            "train again."
        )


def whole(folder: Path) -> dict[int, Path]:
    """Number -> the finished checkpoints in a folder, the newest last."""
    if not folder.is_dir():
        return {}
    found = {int(m[1]): p for p in folder.iterdir() if (m := _NAME.fullmatch(p.name))}
    return dict(sorted(found.items()))


def newest(folder: Path) -> int:
    """The number of the newest checkpoint; 0: there is none."""
    return max(whole(folder), default=0)


def at(folder: Path, number: int) -> Path:
    """Where the checkpoint of a number lies."""
    return folder / f"checkpoint-{number:08d}"


def unfinished(folder: Path, number: int) -> Path:
    """Where it is written."""
    return folder / f"checkpoint-{number:08d}.part"


def of_rank(path: Path, rank: int) -> tuple[Path, Path]:
    """A rank's file of tensors, and what is said of them."""
    return path / f"rank-{rank:05d}.pt", path / f"rank-{rank:05d}.json"


# Everything that changes a disk: a test stops a run before, in and after each.


def begin(part: Path) -> None:
    """Make the folder to write in, and clear away what killed runs left beside it."""
    part.parent.mkdir(parents=True, exist_ok=True)
    for old in part.parent.glob("checkpoint-*.part"):
        shutil.rmtree(old)
    part.mkdir()


def write(path: Path, content: dict[str, Any]) -> None:
    """Write a file to the disk itself: tensors as `torch.save` does, or, by its name, JSON."""
    with path.open("wb") as file:
        if path.suffix == ".json":
            file.write(json.dumps(content, indent=1).encode())
        else:
            torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())


def check_readable(path: Path) -> None:
    """Raise a UserError where a file that was written holds what `read_small` would refuse."""
    try:
        torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            "what is to be kept beside the model holds something else than numbers, strings, "
            "lists, dicts and tensors, and could not be read again. Make it one of them, such as "
            "float(number) of a number of numpy's. No checkpoint was written."
        ) from error


def publish(folder: Path, number: int) -> None:
    """Let the checkpoint appear."""
    unfinished(folder, number).rename(at(folder, number))


def forget(path: Path) -> None:
    """Remove an older checkpoint, or one that could not be finished."""
    shutil.rmtree(path, ignore_errors=True)


# Finding damage.


def checksums(tensor: Tensor) -> list[int]:
    """CRC-32 of every `rows_checked` rows of a tensor (N, ...)."""
    step = rows_checked(tensor)
    return [_crc(tensor[first : first + step]) for first in range(0, len(tensor), step)]


def rows_checked(tensor: Tensor) -> int:
    """Rows that share a checksum: a MiB of them, and at least one."""
    return max(1, CHECKED // max(1, tensor[:1].numel() * tensor.element_size()))


def check_rows(tensor: Tensor, known: list[int], first: int, last: int, path: Path) -> None:
    """Raise a DamagedError unless the blocks that hold the rows first..last are as written."""
    step = rows_checked(tensor)
    for number in range(first // step, -(-last // step)):
        block = tensor[number * step : (number + 1) * step]
        if number >= len(known) or _crc(block) != known[number]:
            raise DamagedError(path, "numbers in it have changed since they were written")


def _crc(block: Tensor) -> int:
    flat = block.detach().cpu().contiguous().reshape(-1)
    return zlib.crc32(flat.view(torch.uint8).numpy().data)


def sealed(manifest: dict[str, Any]) -> dict[str, Any]:
    """A manifest with a checksum of its own."""
    return {**manifest, "checksum": _seal(manifest)}


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a checkpoint.

    Raises:
        DamagedError: it is not there, or not as it was written.
    """
    content = _json(path, _bytes(path / MANIFEST))
    if content.get("format") != FORMAT:
        raise DamagedError(path, f"its format is {content.get('format')!r}, expected {FORMAT!r}")
    if content.pop("checksum", None) != _seal(content):
        raise DamagedError(path, f"{MANIFEST} has changed since it was written")
    return content


def _seal(manifest: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(manifest, sort_keys=True).encode())


def described(path: Path) -> dict[str, int]:
    """Bytes and checksum of a small file, for the manifest."""
    content = path.read_bytes()
    return {"bytes": len(content), "crc": zlib.crc32(content)}


def read_small(path: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """A file that is read as a whole, after a look at its checksum.

    Raises:
        DamagedError: it is not there, or not as it was written.
    """
    content = _bytes(path)
    if manifest["files"].get(path.name) != {"bytes": len(content), "crc": zlib.crc32(content)}:
        raise DamagedError(path.parent, f"{path.name} is not the file that was written with it")
    if path.suffix == ".json":
        return _json(path.parent, content)
    found: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return found


def open_tensors(path: Path, manifest: dict[str, Any]) -> dict[str, Tensor]:
    """The tensors of a rank's file, of which only what is used is read.

    Raises:
        DamagedError: it is not there, or not as it was written.
    """
    try:
        size = path.stat().st_size
        if size != (expected := manifest["files"][path.name]["bytes"]):
            raise DamagedError(path.parent, f"{path.name} has {size} bytes, expected {expected}")
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (OSError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError) as e:
        if isinstance(e, DamagedError):
            raise
        raise DamagedError(path.parent, f"{path.name} cannot be read") from e
    if not isinstance(found, dict) or not all(isinstance(t, Tensor) for t in found.values()):
        raise DamagedError(path.parent, f"{path.name} holds no tensors")
    return found


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DamagedError(path.parent, f"{path.name} cannot be read") from error


def _json(path: Path, content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except ValueError as error:
        raise DamagedError(path, "a file of it is no JSON") from error
    if not isinstance(found, dict):
        raise DamagedError(path, "a file of it describes nothing")
    return found
