"""`torchrec`: install TorchRec beside the course's packages, and say whether it works.

It is no extra of pyproject.toml, because it must be installed without what it declares: its
dependency fbgemm-gpu is a build for CUDA of half a gigabyte, where fbgemm-gpu-cpu has all that CPUs
need. Standard library only.
"""

import argparse
import platform
import re
import subprocess
import sys
from pathlib import Path

from dlrm_mini.bootstrap import installed
from dlrm_mini.errors import UserError
from dlrm_mini.paths import checkout

LIST = "requirements-torchrec.txt"
TORCH = "2.13.0"  # what the list is built for
TRIAL = "import torchrec; from torchrec.distributed import DistributedModelParallel"


def torchrec(_: argparse.Namespace) -> int:
    """Install what is missing, try it, print OK.

    Raises:
        UserError: there are no packages for this system, or they cannot be installed or imported.
    """
    root = checkout()
    if root is None:
        raise UserError(
            f"`torchrec` reads {LIST} of a checkout, and this dlrm-mini was installed without one. "
            "Clone the repository and run the command there."
        )
    if why := unavailable():
        raise UserError(f"{why} The rest of the course does not need it.")
    if missing():
        install(root)
    done = subprocess.run([sys.executable, "-c", TRIAL], capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise UserError(
            f"TorchRec is installed, but cannot be imported: {said}. Its packages are built for "
            f"torch {TORCH}; this is torch {installed('torch')}. In the environment that `python "
            "-m dlrm_mini setup` makes, they fit."
        )
    found = f"torchrec {installed('torchrec')}, torch {installed('torch')}"
    print(f"OK    {found}: `python -m dlrm_mini train --engine torchrec` can be used")
    return 0


def for_tests() -> None:
    """Install it for the tests, where there are packages; without it, theirs of TorchRec skip."""
    root = checkout()
    if root is None or unavailable() or not missing():
        return
    try:
        install(root)
    except UserError as error:
        print(f"The tests of TorchRec will be skipped: {error}", file=sys.stderr, flush=True)


def unavailable() -> str | None:
    """Why there are no packages for this system; None: there are."""
    system, machine = platform.system(), platform.machine()
    if system == "Linux" and machine in ("x86_64", "aarch64") and sys.version_info < (3, 15):
        return None
    python = ".".join(map(str, sys.version_info[:2]))
    return (
        "TorchRec's kernels for CPUs (fbgemm-gpu-cpu) are built for Linux on x86_64 and aarch64 "
        f"and Python 3.11 to 3.14; this is {system} on {machine} with Python {python}."
    )


def missing() -> str | None:
    """Why TorchRec cannot be used, as far as one sees without importing it; None: it can."""
    root = checkout()
    if why := unavailable():
        return why
    differing = [
        name for name, pin in (pins(root) if root else {}).items() if installed(name) != pin
    ]
    if differing or installed("torchrec") is None:
        what = differing[0] if differing else "torchrec"
        return f"{what} is not there as {LIST} has it: run `python -m dlrm_mini torchrec`."
    return None


def pins(root: Path) -> dict[str, str]:
    """Name -> version of the packages in the list."""
    text = (root / LIST).read_text(encoding="utf-8")
    return dict(re.findall(r"^([A-Za-z0-9_-]+)==([0-9.]+)", text, re.M))


def install(root: Path) -> None:
    """Install the list into this environment.

    Raises:
        UserError: pip could not.
    """
    print("Installing TorchRec (about 10 MB) ...", file=sys.stderr, flush=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*pip, "--no-deps", "-r", str(root / LIST)])
    if done.returncode:
        raise UserError(
            f"pip ended with status {done.returncode}; its own words are above. Check the network "
            f"and try again, or install it yourself: `pip install --no-deps -r {LIST}`."
        )
