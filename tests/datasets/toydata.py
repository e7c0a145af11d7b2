"""A toy data set with both kinds of archive, so that fetching is tested without a network."""

import hashlib
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

FILES = {
    "u.data": b"1\t2\t3\t881250949\n2\t1\t5\t881250950\n",
    "u.user": b"1|24|M|technician|85711\n",
}
WHEEL = "toydata-1.0-py3-none-any.whl"


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def write_zip(path: Path, members: dict[str, bytes]) -> bytes:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path.read_bytes()


@dataclass
class Toy:
    """The data set "toy": a registry of its own, a publisher's folder and an index of wheels."""

    data: Path  # DLRM_MINI_DATA
    archive: Path  # the publisher's zip, behind a file:// url
    wheel: Path  # in the folder pip takes for its index
    registry: Path

    @property
    def folder(self) -> Path:
        return self.data / "toy"

    def edit(self, change) -> None:
        """Change the registry's entry."""
        entries = json.loads(self.registry.read_text())
        change(entries["toy"])
        self.registry.write_text(json.dumps(entries))

    def no_publisher(self) -> None:
        self.archive.unlink()

    def no_index(self) -> None:
        self.wheel.unlink()

    def holds_the_files(self) -> bool:
        return all((self.folder / name).read_bytes() == content for name, content in FILES.items())

    def left_behind(self) -> list[str]:
        """All files in the data folder but the lock, which stays."""
        names = [str(p.relative_to(self.data)) for p in self.data.rglob("*")]
        return [name for name in names if name != ".toy.lock"]
