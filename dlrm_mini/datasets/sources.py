"""Getting a data set: from the user's folder, from its publisher, or out of a wheel.

Whatever the source, the same bytes end up in the data folder, or none. An archive is written to a
temporary folder, compared with its sha256, and read member by member by name; what comes out is
compared too, and only then renamed into place. A lock lets one process at a time fetch.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from dlrm_mini.datasets.registry import (
    NOTE,
    Dataset,
    DatasetStatus,
    Source,
    check,
    dataset,
    describe_status,
    sha256,
    status,
)
from dlrm_mini.errors import UserError
from dlrm_mini.paths import data_dir
from dlrm_mini.progress import bar

__all__ = ["describe_status", "ensure", "status"]

TIMEOUT = 15  # seconds without an answer, after which a source is given up
CHUNK = 1 << 16
MAX_MEMBER = 1 << 28  # bytes; a member that claims to be bigger is none of ours


class _SourceError(Exception):
    """This source did not work; the next one may."""


def ensure(name: str) -> DatasetStatus:
    """Have the verified files of a data set on this disk, fetching them when they are missing.

    Args:
        name: a data set of the registry, such as "ml-100k".

    Returns:
        What is there; its `usable` names the files to read.

    Raises:
        UserError: when a file there is altered, when no source works, or when the data folder
            cannot be written to. Nothing half-written is left behind.
    """
    entry = dataset(name)
    folder = data_dir()
    with _disk_errors(folder):
        found = _trusted(entry)
        if found.usable:
            return found
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()  # a lock might wait for ever where this fails
        with FileLock(folder / f".{name}.lock"):
            found = _trusted(entry)  # another process may have fetched it while this one waited
            if not found.usable:
                _fetch_in_scratch(found)
        return _trusted(entry)


def _trusted(entry: Dataset) -> DatasetStatus:
    """What is there, once it is sure that no file of it was altered."""
    found = check(entry)
    for file in found.files:
        if file.state == "altered":
            raise UserError(
                f"{entry.folder / file.name} is not the original file: its sha256 is {file.found}, "
                f"expected {entry.files[file.name]}. It was left as it is. Put the original in its "
                "place, or move it away to have it fetched again."
            )
    return found


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    """Turn what the disk says into a sentence."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"The data folder {error.filename or folder} cannot be used: "
            f"{error.strerror or error}. Nothing "
            "half-written was left there. Make room or give permission, or set the environment "
            "variable DLRM_MINI_DATA to another folder."
        ) from error


def _fetch_in_scratch(found: DatasetStatus) -> None:
    """Fetch with a temporary folder that is gone afterwards, whatever happens."""
    prefix = f".{found.dataset.name}.tmp-"
    for stale in data_dir().glob(f"{prefix}*"):  # of a killed process, since the lock is ours
        shutil.rmtree(stale, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=data_dir()) as scratch:
        _fetch(found, Path(scratch))


def _fetch(found: DatasetStatus, scratch: Path) -> None:
    """Try the user's archives, then each source; put the files in place or raise a UserError."""
    entry = found.dataset
    for source in entry.sources:
        own = data_dir() / source.archive
        if own.is_file():
            try:
                return _install(entry, source, own, scratch, f"your own {own.name}")
            except _SourceError as error:
                raise UserError(
                    f"{own}: {error}. It was left as it is. Put the original archive in its place, "
                    "or move it away to have it fetched again."
                ) from error
    archive_name, names = entry.sources[0].archive, entry.complete[0]
    missing = ", ".join(sorted(found.names("missing").intersection(names)))
    said = [f"1. {entry.folder}: lacks {missing}, and there is no {archive_name} beside it"]
    for number, source in enumerate(entry.sources, 2):
        try:
            archive = scratch / source.archive
            (_download if source.url else _download_wheel)(source, archive)
            return _install(entry, source, archive, scratch, source.label)
        except _SourceError as error:
            said.append(f"{number}. {source.label}: {error}")
    raise UserError(
        "\n  ".join([f"{entry.title} could not be fetched. Tried, in this order:", *said])
        + f"\nTo do it by hand, put {archive_name} into {data_dir()}, or its files "
        f"{', '.join(names)} into {entry.folder}. The environment variable DLRM_MINI_DATA chooses "
        "another data folder."
    )


def _download(source: Source, archive: Path) -> None:
    """Fetch `source.url`, with a progress bar."""
    with (
        archive.open("wb") as file,
        bar(total=source.bytes, desc=source.archive, unit="B", unit_scale=True) as progress,
    ):
        for chunk in _chunks(source):
            file.write(chunk)
            progress.update(len(chunk))
            if file.tell() > source.bytes:
                raise _SourceError(f"it sends more than the expected {source.bytes:,} bytes")


def _chunks(source: Source) -> Iterator[bytes]:
    """The bytes behind `source.url`; an error of the network is told apart from one of the disk."""
    assert source.url
    try:
        with urllib.request.urlopen(source.url, timeout=TIMEOUT) as response:
            while chunk := response.read(CHUNK):
                yield chunk
    except (OSError, http.client.HTTPException) as error:
        reason = error.reason if type(error) is urllib.error.URLError else error
        raise _SourceError(str(reason) or type(reason).__name__) from error


def _download_wheel(source: Source, archive: Path) -> None:
    """Let pip fetch the wheel from whatever package index it is set to; nothing is installed."""
    assert source.requirement
    options = f"--no-deps --only-binary :all: --no-input --timeout {TIMEOUT} --retries 1".split()
    pip = [sys.executable, "-m", "pip", "--no-color"]  # its words end in our sentence
    command = [*pip, "download", *options, source.requirement]
    with bar(total=source.bytes, desc=source.archive, unit="B", unit_scale=True) as progress:
        try:
            done = subprocess.run(
                [*command, "--dest", str(archive.parent)], capture_output=True, text=True
            )
        except OSError as error:
            raise _SourceError(f"pip cannot be started: {error}") from error
        if done.returncode or not archive.is_file():
            lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line]
            errors = [line for line in lines if line.startswith("ERROR")] or lines[-1:]
            raise _SourceError("; ".join(errors) or f"pip brought no {archive.name}")
        progress.update(archive.stat().st_size)


def _install(entry: Dataset, source: Source, archive: Path, scratch: Path, label: str) -> None:
    """Verify an archive and put its files where they belong, leaving those that are there."""
    found = sha256(archive)
    if found != source.sha256:
        raise _SourceError(
            f"the archive is not the original: it has {archive.stat().st_size:,} bytes and sha256 "
            f"{found}, expected {source.bytes:,} bytes and {source.sha256}"
        )
    contents = dict(_members(entry, source, archive))  # all of them verified before one is written
    ready = scratch / "files"
    ready.mkdir()
    for name, content in contents.items():
        (ready / name).write_bytes(content)
    note = {"source": label, "files": {name: entry.files[name] for name in source.members}}
    (ready / NOTE).write_text(json.dumps(note, indent=2) + "\n", "utf-8")
    entry.folder.mkdir(exist_ok=True)
    for path in sorted(ready.iterdir()):
        if path.name == NOTE or not (entry.folder / path.name).is_file():
            path.replace(entry.folder / path.name)


def _members(entry: Dataset, source: Source, archive: Path) -> Iterator[tuple[str, bytes]]:
    """The registered files in an archive, read by name, each compared with its sha256."""
    try:
        with zipfile.ZipFile(archive) as opened:
            for name, member in source.members.items():
                size = opened.getinfo(member.path).file_size
                if size > MAX_MEMBER:
                    raise _SourceError(f"{member.path} in it has {size:,} bytes, too many to be it")
                content = member.restore(opened.read(member.path))
                found = hashlib.sha256(content).hexdigest()
                if found != entry.files[name]:
                    raise _SourceError(
                        f"{member.path} in it gives {name} with sha256 {found}, expected "
                        f"{entry.files[name]}"
                    )
                yield name, content
    except (zipfile.BadZipFile, KeyError) as error:
        raise _SourceError(f"the archive cannot be read: {error}") from error
