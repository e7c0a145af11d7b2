"""Runs that would not end, and runs that are interrupted: no process is left."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from dlrm_mini.errors import UserError
from dlrm_mini.parallel import launch
from tests.parallel.left_over import MODULE

ROOT = Path(__file__).parents[2]
# A process that is started in the background of a shell ignores Ctrl-C, and so do its children.
START = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from dlrm_mini.parallel import launch; launch.run(sys.argv[1], 2, sys.argv[2:])"
)


def test_a_rank_that_a_signal_has_stopped_is_found_and_killed(tag, monkeypatch):
    monkeypatch.setattr(launch, "PATIENCE", 1)
    start = time.monotonic()
    with pytest.raises(UserError, match=r"Rank 1 (has been stopped by a signal|did not come)"):
        launch.run(MODULE, 2, ["is stopped", "1", "2", tag], timeout=60)
    assert time.monotonic() - start < 30  # torchrun alone would take longer than that


def test_a_run_without_end_is_ended(tag):
    with pytest.raises(UserError, match=r"did not end within 8 s. How far each had come: rank 0"):
        launch.run(MODULE, 1, ["loops", "0", "600", tag], timeout=8)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
@pytest.mark.parametrize("who", ["the launcher gets Ctrl-C", "torchrun is killed"])
def test_an_end_from_outside_ends_all(tag, who):
    os.mkfifo(Path(tag) / "ready")
    launcher = subprocess.Popen(
        [sys.executable, "-c", START, MODULE, "loops", "1", "600", tag],
        cwd=ROOT, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    looping, torchrun = map(int, (Path(tag) / "ready").read_text().split())  # waits for rank 1
    looping = psutil.Process(looping)
    if who == "torchrun is killed":
        os.kill(torchrun, signal.SIGKILL)
    else:
        launcher.send_signal(signal.SIGINT)
    _, said = launcher.communicate(timeout=60)
    looping.wait(30)
    assert launcher.returncode
    assert ("KeyboardInterrupt" if "Ctrl-C" in who else "UserError") in said
