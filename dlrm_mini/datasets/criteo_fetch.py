"""Criteo's click logs by name, for whoever has the network: the licence forbids to ship them.

An archive is compared with its checksum before it is opened, the file in it with its own once it is
unpacked, and only then renamed into the data folder. An archive that is there already is used.
"""

from __future__ import annotations

import hashlib
import http.client
import shutil
import tarfile
import tempfile
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from dlrm_mini.errors import UserError
from dlrm_mini.paths import data_dir
from dlrm_mini.progress import bar

TIMEOUT = 30  # seconds without an answer
CHUNK = 1 << 20
LICENCE = "Criteo's licence: for non-commercial use, not to be redistributed."


@dataclass(frozen=True)
class Log:
    """A published click log.

    Attributes:
        archive: the name of its archive.
        bytes: of the archive; None where only the checksum is known.
        checksum: of the archive, as `git:...` (a blob's id) or `md5:...`, whichever is published.
        member: the name of the text in it, and here.
        member_checksum: of the text.
        urls: where to get the archive, in the order in which they are tried.
    """

    archive: str
    bytes: int | None
    checksum: str
    member: str
    member_checksum: str
    urls: tuple[str, ...]


LOGS = {
    "sample": Log(
        "dac_sample.tar.gz",
        None,
        "git:071beac319f1a836b0eb2d961e4fc5f5a1e5603e",
        "dac_sample.txt",
        "git:5bac733e47e82b2d927f0c658ba882d8d0fb8cd7",
        ("https://github.com/recommenders-team/datasets/raw/main/Criteo/dac_sample.tar.gz",),
    ),
    "full": Log(
        "criteo-research-kaggle-display-advertising-challenge-dataset.tar.gz",
        4_576_820_670,
        "md5:df9b1b3766d9ff91d5ca3eb3d23bed27",
        "train.txt",
        "md5:4dcfe6c4b7783585d4ae3c714994f26a",
        (
            "http://go.criteo.net/criteo-research-kaggle-display-advertising-challenge-dataset.tar.gz",
            "https://ndownloader.figshare.com/files/10082655",
        ),
    ),
}


def fetch(name: str) -> Path:
    """Have a published log's verified text in the data folder, and say where.

    Args:
        name: "sample", 100,000 lines, or "full", the 45,840,617 of the Kaggle challenge.

    Raises:
        UserError: there is no such log, no source works, or a file there is another one. Nothing
            half-written is left behind.
    """
    if name not in LOGS:
        raise UserError(f"there is no log '{name}'; there are {', '.join(LOGS)}.")
    log, folder = LOGS[name], data_dir() / "criteo"
    text, own = folder / log.member, folder / log.archive
    if text.is_file():
        _compare(text, log.member_checksum)
        return text
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as scratch:
            archive = own
            if own.is_file():
                _compare(own, log.checksum)
            else:
                archive = _download(log, Path(scratch), own)
            _unpack(archive, log, Path(scratch) / "text").replace(text)
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written: {error.strerror or error}. Nothing half-written was left "
            "there. The environment variable DLRM_MINI_DATA chooses another data folder."
        ) from error
    return text


def _download(log: Log, scratch: Path, own: Path) -> Path:
    """Get the archive from the first source that has it."""
    archive, said = scratch / log.archive, []
    for url in log.urls:
        try:
            response = urllib.request.urlopen(url, timeout=TIMEOUT)
        except (OSError, http.client.HTTPException) as error:
            said.append(f"{url}: {getattr(error, 'reason', error)}")
            continue
        with (
            response,
            archive.open("wb") as file,
            bar(total=log.bytes, desc=log.archive, unit="B", unit_scale=True) as shown,
        ):
            broken = _copy(response, file, shown.update)
        found = checksum(archive, log.checksum)
        if not broken and found == log.checksum:
            return archive
        size = archive.stat().st_size
        said.append(f"{url}: {broken or f'sent {found}, expected {log.checksum}'} ({size:,} bytes)")
    raise UserError(
        "\n  ".join([f"{log.archive} could not be fetched. Tried:", *said])
        + f"\nTo do it by hand, put the archive at {own}, or {log.member} beside it."
    )


def _copy(response: IO[bytes], file: IO[bytes], update: Callable[[int], object]) -> str:
    """Copy what the network sends; its error in words, while one of the disk is raised."""
    while True:
        try:
            chunk = response.read(CHUNK)
        except (OSError, http.client.HTTPException) as error:
            return f"broke off: {error}"
        if not chunk:
            return ""
        file.write(chunk)
        update(len(chunk))


def _unpack(archive: Path, log: Log, text: Path) -> Path:
    """Take the text out of an archive, verified."""
    try:
        with tarfile.open(archive) as opened:
            for entry in opened:  # in the archive's order: it is read once
                if Path(entry.name).name == log.member and entry.isfile():
                    content = opened.extractfile(entry)
                    assert content is not None
                    with text.open("wb") as file:
                        shutil.copyfileobj(content, file, CHUNK)
                    _compare(text, log.member_checksum)
                    return text
    except (tarfile.TarError, EOFError) as error:
        raise UserError(f"{archive} cannot be unpacked: {error}.") from error
    raise UserError(f"{archive} holds no {log.member}.")


def _compare(path: Path, expected: str) -> None:
    """Raise a UserError unless a file has this checksum."""
    found = checksum(path, expected)
    if found != expected:
        raise UserError(
            f"{path} is not the original file: it has {path.stat().st_size:,} bytes and {found}, "
            f"expected {expected}. It was left as it is; move it away to have it fetched."
        )


def checksum(path: Path, like: str) -> str:
    """The checksum of a file, of the same kind as another: `git:...` or `md5:...`."""
    kind = like.partition(":")[0]
    digest = hashlib.new("sha1" if kind == "git" else kind, usedforsecurity=False)
    if kind == "git":
        digest.update(b"blob %d\0" % path.stat().st_size)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return f"{kind}:{digest.hexdigest()}"
