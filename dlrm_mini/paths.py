"""Where things are: the checkout, the data folder, the files the course ships.

Standard library only: the set-up runs before anything is installed.
"""

import os
import tempfile
from pathlib import Path

from dlrm_mini.errors import UserError

PACKAGE = Path(__file__).resolve().parent


def checkout() -> Path | None:
    """The repository this package runs from, or None when it was installed from a wheel."""
    root = PACKAGE.parent
    is_course = (root / "pyproject.toml").is_file() and (root / "notebooks").is_dir()
    return root if is_course else None


def data_dir() -> Path:
    """Where data sets are: `DLRM_MINI_DATA`, else the checkout's `data/`, else a cache folder."""
    if chosen := os.environ.get("DLRM_MINI_DATA"):
        return Path(chosen).expanduser().resolve()
    root = checkout()
    return root / "data" if root else Path.home() / ".cache" / "dlrm_mini"


def absolute_environment() -> None:
    """Make the folders that environment variables name independent of the working folder.

    A chapter's kernel works in `notebooks/`, where a relative path would mean another place.
    """
    for name in ("DLRM_MINI_DATA", "DLRM_MINI_MEASUREMENTS", "DLRM_MINI_RESULTS"):
        if chosen := os.environ.get(name):
            os.environ[name] = str(Path(chosen).expanduser().absolute())


def try_writing(folder: Path) -> None:
    """Make a folder, and see that a file can be made in it.

    Raises:
        OSError: it cannot.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass


def build_dir() -> Path:
    """Where things that can be made again go: `build/` in the checkout, else in this folder."""
    return (checkout() or Path.cwd()) / "build"


def course_file(name: str) -> Path:
    """A file or folder the course ships, in a checkout or in an installed wheel.

    Args:
        name: the path inside the repository, with forward slashes.

    Raises:
        UserError: when it is in neither place.
    """
    roots = (checkout(), PACKAGE.parent / "dlrm_mini_files")
    places = [root / name for root in roots if root is not None]
    for place in places:
        if place.exists():
            return place
    raise UserError(
        f"{name} is not part of this installation (looked at {', '.join(map(str, places))}). "
        "Clone the repository, or reinstall the package."
    )
