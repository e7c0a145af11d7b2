"""Where every rank stands: a few words of each, in a store that all can read.

A collective that fails says nothing of who is to blame: the others only see a connection close, or
wait. So each rank writes down what it is in, before and after each, and whoever is left over reads
the notes of all and makes one sentence. A `set` of the store waits for no answer, but wakes the
process that keeps it, which on few cores takes longer than a small message. So ranks that the
launcher has started, all on its machine, write into a file that they share as memory.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

from dlrm_mini.errors import UserError
from dlrm_mini.parallel.baton import ordinal
from dlrm_mini.parallel.traffic import OPERATIONS

BOARD = "DLRM_MINI_BOARD"  # host:port of the launcher's own store, which outlives the ranks
NOTES = "DLRM_MINI_NOTES"  # the launcher's file for notes, where it has started the ranks
ADVICE = "All ranks have been stopped; start again from the last checkpoint."


class StoppedError(UserError):
    """The run has ended because of another rank; the message says which."""


@dataclass(frozen=True)
class Standing:
    """How far one rank has come.

    Attributes:
        step: the training step it is in; None: it has not said.
        calls: collectives it has entered.
        operation: the last of them; "" before the first.
        waiting: it has not come out of that one.
        connected: it has written anything at all.
    """

    step: int | None = None
    calls: int = 0
    operation: str = ""
    waiting: bool = False
    connected: bool = True

    def note(self) -> str:
        """As it is kept in the store."""
        step = "" if self.step is None else self.step
        return f"{step}|{self.calls}|{self.operation}|{int(self.waiting)}"

    @classmethod
    def read(cls, note: str) -> Standing:
        """From `note`."""
        step, calls, operation, waiting = note.split("|")
        return cls(int(step) if step else None, int(calls), operation, waiting == "1")

    def numbers(self) -> tuple[int, ...]:
        """As it is kept in a file, where zeros are for nothing written."""
        step = 0 if self.step is None else self.step + 1
        place = ("", *OPERATIONS).index(self.operation)
        return int(self.connected), step, self.calls, place, int(self.waiting)

    @classmethod
    def of(cls, numbers: Sequence[int]) -> Standing:
        """From `numbers`."""
        connected, step, calls, place, waiting = numbers
        operation, flags = ("", *OPERATIONS)[place], (bool(waiting), bool(connected))
        return cls(step - 1 if step else None, calls, operation, *flags)

    def __str__(self) -> str:
        if not self.connected:
            return "not connected yet"
        step = "" if self.step is None else f"step {self.step}, "
        if not self.calls:
            return f"{step}before its first collective"
        where = "in" if self.waiting else "after"
        return f"{step}{where} its {ordinal(self.calls)} collective, {self.operation}"


def how_far(standings: list[Standing]) -> str:
    """A sentence with every rank in it."""
    return (
        "How far each had come: "
        + "; ".join(f"rank {rank} {standing}" for rank, standing in enumerate(standings))
        + "."
    )


class Board:
    """The notes of all ranks of one run.

    Args:
        store: reached by every rank.
        size: P.
        notes: a file on the one machine of all ranks, made by `blank`; None: they use the store.
    """

    def __init__(self, store: Store, size: int, notes: Path | None = None) -> None:
        # torchrun may start all ranks again after a failure; old notes are not theirs.
        again = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        self._store = PrefixStore(f"dlrm_mini/{again}", store)
        self.size = size
        self._notes: NDArray[np.int64] | None = None
        if notes is not None:
            self._notes = np.asarray(np.memmap(notes, np.int64, "r+", shape=(size, 5)))

    @staticmethod
    def blank(notes: Path, size: int) -> None:
        """Make a file for the notes of P ranks."""
        np.zeros((size, 5), np.int64).tofile(notes)

    @classmethod
    def of_this_run(cls, size: int) -> Board:
        """In the launcher's store, else in the one that torchrun's ranks have met at."""
        address = os.environ.get(BOARD) or (
            f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        )
        host, port = address.rsplit(":", 1)
        store = TCPStore(host, int(port), timeout=timedelta(seconds=30))
        return cls(store, size, Path(os.environ[NOTES]) if NOTES in os.environ else None)

    def enrol(self, rank: int) -> None:
        """Write down which process a rank is."""
        self._store.set(f"process/{rank}", f"{socket.gethostname()}|{os.getpid()}")
        self.write(rank, Standing())

    def write(self, rank: int, standing: Standing) -> None:
        """Note how far a rank has come."""
        if self._notes is not None:
            self._notes[rank] = standing.numbers()
        else:
            self._store.set(f"standing/{rank}", standing.note())

    def knock(self, rank: int) -> None:
        """Raise a RuntimeError where the process that keeps the store has gone."""
        self._store.set(f"here/{rank}", "")

    def read(self) -> list[Standing]:
        """How far each rank has come."""
        if self._notes is not None:
            return [Standing.of(numbers) for numbers in self._notes.tolist()]
        notes = [self._get(f"standing/{rank}") for rank in range(self.size)]
        return [Standing.read(note) if note else Standing(connected=False) for note in notes]

    def close(self, rank: int, *, in_order: bool) -> None:
        """Note that a rank has come to its end: in good order, or with an error that it knows."""
        self._store.set(f"closed/{rank}", "left" if in_order else "failed")

    def closed(self) -> list[int]:
        """The ranks that have come to their end."""
        return [rank for rank in range(self.size) if self._get(f"closed/{rank}")]

    def left(self) -> list[int]:
        """Those that have in good order."""
        return [rank for rank in self.closed() if self._get(f"closed/{rank}") == "left"]

    def processes(self) -> dict[int, int]:
        """Rank -> process id, of ranks on this machine."""
        found = {rank: self._get(f"process/{rank}") for rank in range(self.size)}
        pairs = {rank: text.rsplit("|", 1) for rank, text in found.items() if text}
        here = socket.gethostname()
        return {rank: int(pid) for rank, (host, pid) in pairs.items() if host == here}

    def verdict(self, sentence: str = "") -> str:
        """What ended the run. The first rank to say so is right: the others fail because of it.

        Args:
            sentence: kept, unless there is one.

        Returns:
            The kept one; "" if there is none.
        """
        if sentence:
            return self._store.compare_set("verdict", "", sentence).decode()
        return self._get("verdict")

    def _get(self, key: str) -> str:
        """What is kept under a key, "" for nothing: a plain `get` would wait for it."""
        return self._store.get(key).decode() if self._store.check([key]) else ""


def condition(process: int) -> str:
    """What the operating system says of a process: "dead", "stopped" or "" for neither or unknown.

    A dead process stays in the table until its parent has asked for it.
    """
    if not Path("/proc/self/stat").exists():
        return ""
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return "dead"
    state = stat.rsplit(")", 1)[1].split()[0]
    return {"Z": "dead", "X": "dead", "T": "stopped"}.get(state, "")
