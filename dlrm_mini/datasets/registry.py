"""What the data sets are made of, and whether the files on this disk are those files.

The registry, `data/registry.json`, holds for each data set the sha256 of its files and the archives
they come from. No file is parsed before its bytes have been compared with the registry.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dlrm_mini.errors import UserError
from dlrm_mini.paths import course_file, data_dir

NOTE = "source.json"  # beside the files: where they came from


@dataclass(frozen=True)
class Member:
    """A file inside an archive, and what makes it the registered file: often nothing."""

    path: str
    drop_header: bool = False
    delimiter: str | None = None  # what the archive's tabs have to become

    def restore(self, content: bytes) -> bytes:
        """The registered file, from the bytes in the archive."""
        if self.drop_header:
            content = content.partition(b"\n")[2]
        return content.replace(b"\t", self.delimiter.encode()) if self.delimiter else content


@dataclass(frozen=True)
class Source:
    """An archive that holds a data set, and where to get it: a url or a wheel's requirement."""

    name: str
    archive: str
    bytes: int
    sha256: str
    members: dict[str, Member]
    url: str | None = None
    requirement: str | None = None
    md5: str | None = None  # as its publisher gives it; sha256 is what is compared

    @property
    def label(self) -> str:
        """The source in words."""
        return self.url or f"the wheel {self.requirement} from the package index"


@dataclass(frozen=True)
class Dataset:
    """One entry of the registry.

    Args:
        name: of its folder in the data folder.
        title: its name in words.
        citation: what to cite.
        licence: what its publisher allows.
        files: the sha256 of every file that may be there.
        complete: sets of files that are enough to load it; the first that is there is used.
        sources: the archives, in the order in which they are tried.
    """

    name: str
    title: str
    citation: str
    licence: str
    files: dict[str, str]
    complete: tuple[tuple[str, ...], ...]
    sources: tuple[Source, ...]

    @property
    def folder(self) -> Path:
        """Where its files are, or will be."""
        return data_dir() / self.name


@dataclass(frozen=True)
class FileStatus:
    """One file of a data set on this disk; `found` is its sha256, None when it is missing."""

    name: str
    state: Literal["verified", "missing", "altered"]
    found: str | None


@dataclass(frozen=True)
class DatasetStatus:
    """What this disk holds of a data set.

    Args:
        dataset: its entry in the registry.
        source: where the files came from, None when there are none.
        files: one entry for each registered file.
    """

    dataset: Dataset
    source: str | None
    files: tuple[FileStatus, ...]

    def names(self, state: str) -> set[str]:
        """The files in this state."""
        return {file.name for file in self.files if file.state == state}

    @property
    def usable(self) -> tuple[str, ...] | None:
        """The verified files that are enough to load it, None while they are not there."""
        verified = self.names("verified")
        return next((names for names in self.dataset.complete if verified.issuperset(names)), None)


def registry() -> dict[str, Dataset]:
    """Every data set of `data/registry.json`, by name."""
    entries = json.loads(course_file("data/registry.json").read_text("utf-8"))
    return {name: _dataset(name, entry) for name, entry in entries.items()}


def _dataset(name: str, entry: dict[str, Any]) -> Dataset:
    """A data set from its JSON."""
    sources = tuple(
        Source(**source | {"members": {k: Member(**m) for k, m in source["members"].items()}})
        for source in entry["sources"]
    )
    complete = tuple(tuple(names) for names in entry["complete"])
    return Dataset(**entry | {"name": name, "complete": complete, "sources": sources})


def dataset(name: str) -> Dataset:
    """The entry of one data set.

    Raises:
        UserError: when the registry has none of that name.
    """
    known = registry()
    if name not in known:
        raise UserError(f"There is no data set '{name}'; there are: {', '.join(known)}.")
    return known[name]


def sha256(path: Path) -> str:
    """The sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check(entry: Dataset) -> DatasetStatus:
    """Compare every registered file of a data set that is on this disk with its sha256."""
    files = []
    for name, expected in entry.files.items():
        path = entry.folder / name
        found = sha256(path) if path.is_file() else None
        state: Literal["verified", "missing", "altered"] = (
            "missing" if found is None else "verified" if found == expected else "altered"
        )
        files.append(FileStatus(name, state, found))
    if all(file.found is None for file in files):
        return DatasetStatus(entry, None, tuple(files))
    return DatasetStatus(entry, _noted_source(entry.folder / NOTE), tuple(files))


def _noted_source(note: Path) -> str:
    """The source in the note beside the files; files without a note are the user's."""
    try:
        return str(json.loads(note.read_text("utf-8"))["source"])
    except (OSError, ValueError, KeyError, TypeError):
        return "your own files"


def status() -> list[DatasetStatus]:
    """What this disk holds of each data set; fetches nothing."""
    return [check(entry) for entry in registry().values()]


def describe_status() -> str:
    """`status()` as text: for each data set the folder, the source, and the state of each file."""
    lines = []
    for found in status():
        entry = found.dataset
        altered = found.names("altered")
        verdict = "ALTERED" if altered else "ready" if found.usable else "not there"
        lines += [f"{entry.name} ({entry.title}): {verdict}", f"  folder  {entry.folder}"]
        if found.source:
            lines.append(f"  source  {found.source}")
        for file in found.files:
            said: str = file.state
            if file.state == "altered":
                said += f", sha256 {file.found}, expected {entry.files[file.name]}"
            elif file.state == "missing" and found.usable:
                said = "not needed"  # another form of a file that is there
            lines.append(f"  {file.name:<14} {said}")
        lines += [f"  cite    {entry.citation}", f"  licence {entry.licence}"]
    return "\n".join(lines)
