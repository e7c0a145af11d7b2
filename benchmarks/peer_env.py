"""An environment of its own for a peer, so that its pins never touch the course's."""

import contextlib
import functools
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dlrm_mini.paths import checkout

HERE = Path(__file__).parent
# These compute with torch: with the course's, which saves a gigabyte and compares like with like.
WITH_TORCH = ("deepctr", "fuxictr", "fbgemm")


class PeerError(Exception):
    """The peer cannot be measured here; the message says why."""


def of(peer: str, folder: Path) -> Path:
    """The Python of a peer's environment in `folder`, from the peer's requirements file.

    Args:
        peer: "surprise", "myfm", "deepctr", "fuxictr" or "fbgemm".
        folder: where the environments are.

    Raises:
        PeerError: "not installed", with the last line that pip said.
    """
    found = _once(peer, folder)
    if isinstance(found, PeerError):
        raise found
    return found


@functools.cache
def _once(peer: str, folder: Path) -> Path | PeerError:
    """The Python, or why there is none: what failed is not tried again for the next arm."""
    requirements = HERE / f"requirements-{peer}.txt"
    try:
        return ensure(folder / f"bench-env-{peer}", requirements, share=peer in WITH_TORCH)
    except PeerError as error:
        return PeerError(f"not installed: {str(error).splitlines()[-1]}")


def ensure(folder: Path, requirements: Path, *, share: bool = False) -> Path:
    """The Python of the environment in `folder`, made when it is missing or its pins have changed.

    Args:
        folder: where the environment is or will be.
        requirements: a pip requirements file with exact pins.
        share: whether what is installed beside the course, torch above all, can be imported where
            the environment does not have its own.

    Raises:
        PeerError: it could not be made; nothing half-made is used by a later call.
    """
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    stamp = folder / "made-from.txt"  # written last: without it the environment is not whole
    shared = sysconfig.get_path("purelib") if share else "nothing"
    wanted = f"python {sys.version_info[0]}.{sys.version_info[1]}, sharing {shared}\n"
    wanted += requirements.read_text()
    if python.exists() and stamp.exists() and stamp.read_text() == wanted:
        return python
    print(f"making the environment {folder.name} from {requirements.name} ...", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    _call([sys.executable, "-m", "venv", str(folder)])
    if share:
        ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
        own = Path(_call([str(python), "-c", ask]).strip())
        (own / "course.pth").write_text(shared + "\n")  # after the environment's own packages
    install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _call([str(python), *install, "-r", str(requirements)])
    stamp.write_text(wanted)
    return python


def call(python: Path, script: str, *arguments: str | Path) -> str:
    """The last line that a script of this folder prints, run by a peer's Python on one thread.

    Raises:
        PeerError: it failed.
    """
    return _last(_call([str(python), str(HERE / script), *map(str, arguments)]))


def call_ours(module: str, *arguments: str | Path) -> str:
    """The last line that a module of ours prints, run by this Python on one thread."""
    return _last(_call([sys.executable, "-m", module, *map(str, arguments)]))


def _last(said: str) -> str:
    return said.strip().splitlines()[-1]


class Worker:
    """A script that stays, so that two sides can take turns without importing anew each time.

    It reads a question from each line of standard input and answers with a line of JSON.

    Args:
        command: what to run.
        threads: with how many threads.
    """

    def __init__(self, command: Sequence[str | Path], threads: int = 1) -> None:
        self.command = [str(word) for word in command]
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  (close() closes it)
        self._process = subprocess.Popen(
            self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
            text=True, env=_environ(threads), cwd=checkout(),
        )  # fmt: skip

    def ask(self, question: str) -> dict[str, Any]:
        """Its answer.

        Raises:
            PeerError: it ended instead.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(question + "\n")
            self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith("{"):  # some packages greet when they are imported
                return dict(json.loads(line))
        self._errors.seek(0)
        raise _failure(self.command, self._process.wait(), self._errors.read())

    def close(self) -> None:
        """Let it end: there is nothing more to read. For `contextlib.closing`."""
        with contextlib.suppress(BrokenPipeError):
            self._process.communicate()
        self._errors.close()


def _environ(threads: int = 1) -> dict[str, str]:
    """The variables for a child: its threads, and nothing that lets in the course's packages."""
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    pools = ("OMP", "OPENBLAS", "MKL", "NUMBA")
    return kept | {f"{pool}_NUM_THREADS": str(threads) for pool in pools}


def _call(command: list[str]) -> str:
    """The command's standard output."""
    done = subprocess.run(command, capture_output=True, text=True, env=_environ(), cwd=checkout())
    if done.returncode:
        raise _failure(command, done.returncode, done.stderr.strip() or done.stdout)
    return done.stdout


def _failure(command: list[str], status: int, said: str) -> PeerError:
    lines = said.strip().splitlines() or ["nothing"]
    what = " ".join(command[1:4])
    return PeerError(f"{what} ... ended with status {status} and said: " + "\n".join(lines[-5:]))
