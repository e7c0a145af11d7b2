"""An environment of its own for a peer, so that its pins never touch the course's."""

import os
import shutil
import subprocess
import sys
from pathlib import Path


class PeerError(Exception):
    """The peer cannot be measured here; the message says why."""


def ensure(folder: Path, requirements: Path) -> Path:
    """The Python of the environment in `folder`, made when it is missing or its pins have changed.

    Args:
        folder: where the environment is or will be.
        requirements: a pip requirements file with exact pins.

    Raises:
        PeerError: it could not be made; nothing half-made is used by a later call.
    """
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    stamp = folder / "made-from.txt"  # written last: without it the environment is not whole
    wanted = f"python {sys.version_info[0]}.{sys.version_info[1]}\n{requirements.read_text()}"
    if python.exists() and stamp.exists() and stamp.read_text() == wanted:
        return python
    print(f"making the environment {folder.name} from {requirements.name} ...", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    _call([sys.executable, "-m", "venv", str(folder)])
    install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _call([str(python), *install, "-r", str(requirements)])
    stamp.write_text(wanted)
    return python


def call(python: Path, script: Path, *arguments: str) -> str:
    """What `script` prints, run by the peer's Python.

    Raises:
        PeerError: it failed.
    """
    return _call([str(python), str(script), *arguments])


def _call(command: list[str]) -> str:
    """The command's standard output."""
    # Variables that would let the course's packages into the peer's environment.
    environ = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(command, capture_output=True, text=True, env=environ)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()
        raise PeerError(
            f"{' '.join(command[1:4])} ... ended with status {done.returncode} and said: "
            + "\n".join(said[-5:])
        )
    return done.stdout
