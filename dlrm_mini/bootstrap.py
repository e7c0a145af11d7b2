"""Set-up from nothing: the environment every command runs in. Standard library only.

`python -m dlrm_mini run` on a fresh clone finds no torch; this module then makes `.venv` with the
tested versions, once, and hands the command over to it. In a virtual or conda environment that
already has what the command needs it runs right there.
"""

import hashlib
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from dlrm_mini.errors import UserError
from dlrm_mini.paths import checkout

EXTRAS = ("lab", "test", "site")
STAMP = "dlrm-mini-ready"  # written into .venv last: a set-up cut short leaves none


def interpreter(extras: Sequence[str] = EXTRAS) -> Path:
    """The Python that has the course's packages installed, set up first if need be.

    Args:
        extras: which extras of pyproject.toml are needed beside the dependencies.

    Raises:
        UserError: the environment cannot be made; says why and what to do.
    """
    root = checkout()
    if root is None or (in_environment() and not missing(root, extras)):
        return Path(sys.executable)
    venv = root / ".venv"
    python = venv_python(venv)
    stamp = venv / STAMP
    if not (python.is_file() and stamp.is_file() and stamp.read_text() == fingerprint(root)):
        set_up(root, venv)
    return python


def set_up(root: Path, venv: Path) -> None:
    """Make `.venv` and install the course with its extras at the tested versions."""
    python, stamp = venv_python(venv), venv / STAMP
    stamp.unlink(missing_ok=True)
    if not python.is_file():
        _say(f"Making an environment in {venv.name} ...")
        shared = ["--system-site-packages"] if reusable_torch(root) else []
        _run([sys.executable, "-m", "venv", *shared, str(venv)], "the environment was not made")
    elif not has_pip(python):  # its making was cut short, or another tool made it
        _run([str(python), "-m", "ensurepip"], f"pip was not put into {venv.name}")
    _say("Installing the tested versions (about 1.4 GB, once; a minute or two) ...")
    target = f"{root}[{','.join(EXTRAS)}]"
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run(
        [*install, "-c", str(root / "constraints.txt"), "-e", target],
        "the packages were not installed",
    )
    stamp.write_text(fingerprint(root))
    _say("The environment is ready.")


def has_pip(python: Path) -> bool:
    """Whether the interpreter at this path can install something."""
    command = [str(python), "-m", "pip", "--version"]
    return subprocess.run(command, capture_output=True).returncode == 0


def in_environment() -> bool:
    """Whether this Python belongs to a virtual or conda environment."""
    return sys.prefix != sys.base_prefix or bool(os.environ.get("CONDA_PREFIX"))


def requirements(root: Path, extras: Sequence[str] = EXTRAS) -> dict[str, str]:
    """Name -> version range of the dependencies and these extras, from pyproject.toml."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = list(project["dependencies"])
    for extra in extras:
        lines += project["optional-dependencies"][extra]
    matches = (re.fullmatch(r"([A-Za-z0-9_.-]+)\s*(.*)", line) for line in lines)
    return {match[1]: match[2] for match in matches if match}


def missing(root: Path, extras: Sequence[str] = EXTRAS) -> list[str]:
    """The required distributions that this Python lacks or has at a version out of range."""
    return [name for name, wanted in requirements(root, extras).items() if not fits(name, wanted)]


def fits(name: str, wanted: str) -> bool:
    """Whether a distribution is installed at a version in the range `wanted`."""
    found = installed(name)
    if found is None:
        return False
    try:
        from packaging.specifiers import SpecifierSet
    except ImportError:  # then much else is missing too
        return True
    return SpecifierSet(wanted).contains(found, prereleases=True)


def installed(name: str) -> str | None:
    """The installed version of a distribution, or None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def reusable_torch(root: Path) -> bool:
    """Whether this Python has a torch, of any build, at exactly the tested version.

    The environment then looks through to it instead of downloading another build.
    """
    pins = (root / "constraints.txt").read_text(encoding="utf-8").splitlines()
    have = installed("torch")
    return have is not None and f"torch=={have.split('+')[0]}" in pins


def fingerprint(root: Path) -> str:
    """Changes when the requirements or the pins change, so that a pull updates the environment."""
    content = b"".join((root / f).read_bytes() for f in ("pyproject.toml", "constraints.txt"))
    return hashlib.sha256(content).hexdigest()


def venv_python(venv: Path) -> Path:
    """The interpreter inside a virtual environment, on any system."""
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _run(command: list[str], failure: str) -> None:
    done = subprocess.run(command)
    if done.returncode:
        raise UserError(
            f"{failure}: `{' '.join(command)}` ended with status {done.returncode}; its own words "
            "are above. Check the network (and on Debian or Ubuntu that python3-venv is there), "
            "delete the folder .venv and try again, or install into an environment of your own: "
            '`pip install -c constraints.txt -e ".[lab,test,site]"`.'
        )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
