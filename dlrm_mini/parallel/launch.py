"""Start a run of several processes on this machine, and get an answer or a sentence.

    >>> run("dlrm_mini.parallel.some_worker", processes=2, arguments=["--steps", "10"])

starts `torchrun` (`python -m torch.distributed.run`), which starts the processes, one rank each.
The launcher keeps the board on which the ranks write how far they have come, so that it can still
be read when all of them are dead. Whatever happens, no process is left behind.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from torch.distributed import TCPStore  # type: ignore[attr-defined]

from dlrm_mini.errors import UserError
from dlrm_mini.parallel.standing import (
    ADVICE,
    BOARD,
    NOTES,
    Board,
    StoppedError,
    condition,
    how_far,
)  # fmt: skip
from dlrm_mini.paths import PACKAGE

PATIENCE = 5  # seconds for processes to end by themselves before they are killed


def run(
    module: str,
    processes: int,
    arguments: Sequence[str] = (),
    *,
    timeout: float | None = 600.0,
    threads: int = 1,
    show: bool = False,
) -> str:
    """Run a module in several processes, rank by rank, that use `process_group.connect`.

    Args:
        module: its dotted name, run as with `python -m`.
        processes: P.
        arguments: for its command line.
        timeout: seconds for the whole run; None: as long as it takes. Single collectives have
            their own limit, the argument of `connect`.
        threads: of each process.
        show: print what rank 0 prints, as it comes.

    Returns:
        The last line that rank 0 has printed, "" if there is none.

    Raises:
        UserError: a rank has died, stalled, stopped with an error or left too early, or the time
            is up: which rank, and how far each had come.
    """
    if processes < 1:
        raise UserError(f"A run needs at least one process; got processes={processes}.")
    store = TCPStore(
        "127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=60)
    )
    with tempfile.TemporaryDirectory(prefix="dlrm_mini_run_") as name:
        folder = Path(name)
        notes = folder / "notes"
        Board.blank(notes, processes)
        board = Board(store, processes, notes)
        command = [
            sys.executable, "-m", "torch.distributed.run", "--standalone",
            "--nproc-per-node", str(processes), "--log-dir", name, "--redirects", "3",
            "-m", module, *arguments,
        ]  # fmt: skip
        with (folder / "torchrun.log").open("w") as log:
            torchrun = subprocess.Popen(
                command, env=_environment(store.port, notes, threads), stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        try:
            in_time = _wait(torchrun, board, folder, timeout, show)
        finally:
            _end(torchrun, board)
        if not in_time:
            raise UserError(
                f"{module} with {processes} processes did not end within {timeout:g} s. "
                f"{how_far(board.read())} {ADVICE}"
            )
        if torchrun.returncode:
            raise _failure(module, folder, board)
        return _printed(folder, 0).strip().rpartition("\n")[2]


def _environment(port: int, notes: Path, threads: int) -> dict[str, str]:
    found = dict(os.environ)
    for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        found[name] = str(threads)
    found[BOARD], found[NOTES] = f"127.0.0.1:{port}", str(notes)
    found["PYTHONPATH"] = os.pathsep.join(
        [str(PACKAGE.parent), *filter(None, [found.get("PYTHONPATH")])]
    )
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        found.pop(name, None)  # of a run that we may be inside of
    return found


def _wait(
    torchrun: subprocess.Popen[bytes],
    board: Board,
    folder: Path,
    timeout: float | None,
    show: bool,
) -> bool:
    """Whether torchrun has ended in time."""
    until = None if timeout is None else time.monotonic() + timeout
    shown, failed = 0, None
    while True:
        with suppress(subprocess.TimeoutExpired):
            torchrun.wait(0.1)
        if show:
            text = _printed(folder, 0)
            print(text[shown:], end="", flush=True)
            shown = len(text)
        if torchrun.returncode is not None:
            return True
        if until is not None and time.monotonic() > until:
            return False
        if failed is None and _has_failed(board):
            failed = time.monotonic()
        if failed is not None and time.monotonic() > failed + PATIENCE:
            _kill_ranks(board)  # torchrun itself gives a process that a signal has stopped 30 s


def _has_failed(board: Board) -> bool:
    closed = board.closed()
    return bool(board.verdict()) or any(
        condition(process) == "dead" and rank not in closed
        for rank, process in board.processes().items()
    )


def _end(torchrun: subprocess.Popen[bytes], board: Board) -> None:
    """Leave no process behind."""
    if torchrun.poll() is not None:
        return  # it goes only after its workers have
    _kill_ranks(board)
    torchrun.terminate()  # it passes this on to those that have not connected yet
    try:
        torchrun.wait(2 * PATIENCE)
    except subprocess.TimeoutExpired:
        torchrun.kill()
        torchrun.wait()


def _kill_ranks(board: Board) -> None:
    for process in board.processes().values():
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def _failure(module: str, folder: Path, board: Board) -> UserError:
    """What ended the run, from what the ranks have written and what torchrun saw."""
    codes = _exit_codes((folder / "torchrun.log").read_text(errors="replace"))
    first = next(iter(codes), 0)
    # torchrun ends the others with SIGTERM, and then SIGKILL: their codes say nothing of them.
    ends = (-signal.SIGTERM, -signal.SIGKILL)
    unasked = [rank for rank, code in codes.items() if rank == first or code not in ends]
    silent = [rank for rank in unasked if rank not in board.closed()]
    verdict = board.verdict()
    blamed = silent[0] if silent else first
    if silent or not verdict:
        words = _last_words(_printed(folder, blamed, "stderr"))
        verdict = (
            f"Rank {blamed} {_in_words(codes.get(blamed))}{words}. {how_far(board.read())} {ADVICE}"
        )
    error = UserError(f"{module} with {board.size} processes has failed. {verdict}")
    said = _printed(folder, blamed, "stderr").strip()
    if said and StoppedError.__name__ not in said:  # else it only tells how another was missed
        error.add_note(f"Rank {blamed} wrote, at the last:\n{said[-3000:]}")
    return error


def _exit_codes(log: str) -> dict[int, int]:
    """Rank -> exit code, the one that torchrun saw first in front."""
    pairs = re.findall(r"rank\s*: (\d+) \(local_rank: \d+\)\n\s*exitcode\s*: (-?\d+)", log)
    return {int(rank): int(code) for rank, code in reversed(pairs)}


def _in_words(code: int | None) -> str:
    if code is None:
        return "could not be started"
    if code >= 0:
        return f"has ended with exit code {code}"
    return f"has died, killed by {signal.Signals(-code).name}"


def _last_words(said: str) -> str:
    if "Received data size doesn't match expected size" in said:  # gloo ends the process on that
        return ", since another rank sent it more than it expected in its last collective"
    last = said.strip().rpartition("\n")[2]
    return f"; the last it wrote is {last!r}" if last else ""


def _printed(folder: Path, rank: int, stream: str = "stdout") -> str:
    """What a rank has printed so far."""
    found = list(folder.glob(f"*/attempt_0/{rank}/{stream}.log"))
    return found[0].read_text(errors="replace") if found else ""
