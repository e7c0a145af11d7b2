"""P ranks in P threads, of which exactly one runs at a time: the one that holds the baton.

The baton goes from rank to rank in order. A rank hands it over when it enters a collective or ends,
so a run is the same every time, whatever the operating system does. And when nobody can take the
baton, then the ranks wait for each other in vain, and that is known at once.
"""

from __future__ import annotations

import contextlib
import contextvars
import ctypes
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Generic, TypeVar

from dlrm_mini.errors import UserError

R = TypeVar("R")
LISTEN = 0.1  # seconds between two looks for an interrupt


class Ended(BaseException):
    """Ends a rank's thread, since the run has failed elsewhere."""


@dataclass(frozen=True)
class Call:
    """A collective that a rank has entered.

    Attributes:
        operation: which one.
        arguments: what it was given.
        backward: whether it is the mirror of another; the two never meet.
    """

    operation: str
    arguments: tuple[Any, ...]
    backward: bool = False

    @property
    def name(self) -> str:
        """The operation, and whether it is one of backward, which no line of the model says."""
        return f"{self.operation} in backward" if self.backward else self.operation


Meeting = Callable[[list[Call]], Sequence[Any]]


class Baton(Generic[R]):
    """One run of a function on all ranks.

    Args:
        size: P.
        meet: gets every rank's call once all are in the same collective, and answers each.
    """

    def __init__(self, size: int, meet: Meeting) -> None:
        self.size, self.meet = size, meet
        self._turns = [threading.Semaphore(0) for _ in range(size)]
        self._threads: list[threading.Thread] = []
        self._calls: list[Call | None] = [None] * size
        self._answers: Sequence[Any] = []
        self._ended = [False] * size
        self._results: dict[int, R] = {}
        self._failure: BaseException | None = None
        self._over = threading.Event()  # all ranks have ended, or one has failed
        self._met = 0  # collectives that all have been through
        self._holder = 0

    def run(self, function: Callable[[int], R]) -> list[R]:
        """Call `function(rank)` in a thread for each rank; their results.

        Raises:
            UserError: the ranks wait for each other in vain, or one of them raised it.
            BaseException: what a rank raised, with a note that names the rank. All threads have
                ended by then.
        """
        try:
            for rank in range(self.size):
                around = contextvars.copy_context()  # so that what it prints goes where ours goes
                thread = threading.Thread(
                    target=around.run, args=(self._live, rank, function), name=f"rank {rank}",
                    daemon=True,
                )  # fmt: skip
                thread.start()
                self._threads.append(thread)
            self._turns[0].release()
            while not self._over.wait(LISTEN):
                pass  # in which an interrupt is heard, whichever thread the system gave it to
            self._join()
        except BaseException as error:  # such as an interrupt in a notebook
            self._fail(error)
            self._interrupt()
            self._join()
            raise
        if self._failure is not None:
            raise self._failure
        return [self._results[rank] for rank in range(self.size)]

    def enter(self, rank: int, call: Call) -> Any:
        """Wait until every rank has entered the same collective; this rank's answer."""
        self.check(rank)
        self._calls[rank] = call
        self._hand_over()
        self._wait(rank)
        return self._answers[rank]

    def check(self, rank: int) -> None:
        """Raise where the run has failed, or a rank speaks from elsewhere than its own thread."""
        if self._failure is not None:
            raise Ended
        if threading.current_thread() is not self._threads[rank]:
            raise UserError(f"Rank {rank} speaks in a thread that is not its own.")

    def _live(self, rank: int, function: Callable[[int], R]) -> None:
        with contextlib.suppress(Ended):
            try:
                self._wait(rank)
                self._results[rank] = function(rank)
                self._ended[rank] = True
                self._hand_over()
            except Ended:
                raise
            except BaseException as error:
                self._fail(_named(error, rank))

    def _wait(self, rank: int) -> None:
        self._turns[rank].acquire()
        if self._failure is not None:
            raise Ended
        self._holder = rank

    def _hand_over(self) -> None:
        able = (rank for rank in range(self.size) if not self._ended[rank])
        following = next((rank for rank in able if self._calls[rank] is None), None)
        if following is not None:
            self._turns[following].release()
        elif all(self._ended):
            self._over.set()
        else:
            self._all_wait()

    def _all_wait(self) -> None:
        calls = [call for call in self._calls if call is not None]
        if any(self._ended) or len({call.name for call in calls}) > 1:
            self._fail(UserError(self._in_vain()))
            return
        try:
            self._answers = self.meet(calls)
        except Exception as error:
            self._fail(error)
            return
        self._met += 1
        self._calls = [None] * self.size
        self._turns[0].release()

    def _in_vain(self) -> str:
        """Who waits in what, and who will not come."""
        waiting: dict[str, list[int]] = {}
        for rank, call in enumerate(self._calls):
            if call is not None:
                waiting.setdefault(call.name, []).append(rank)
        gone = [rank for rank in range(self.size) if self._ended[rank]]
        which = f"{ordinal(self._met + 1)} collective, "
        if gone:
            waits = [
                f"{named(ranks)} wait in their {which}{name}" if len(ranks) > 1
                else f"{named(ranks)} waits in its {which}{name}"
                for name, ranks in waiting.items()
            ]  # fmt: skip
            has = "have" if len(gone) > 1 else "has"
            sentence = f"{named(gone).capitalize()} {has} ended, while {', and '.join(waits)}"
        else:
            entered = [f"{named(ranks)} entered {name}" for name, ranks in waiting.items()]
            sentence = f"As their {which}{', and '.join(entered)}"
        return f"{sentence}. Every rank has to enter the same collectives, in the same order."

    def _fail(self, error: BaseException) -> None:
        if self._failure is None:
            self._failure = error
        for turn in self._turns:
            turn.release()
        self._over.set()

    def _interrupt(self) -> None:
        """End the rank that is computing; those that wait end by themselves."""
        if self._holder < len(self._threads) and self._threads[self._holder].is_alive():
            ident = self._threads[self._holder].ident
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(ident or 0), ctypes.py_object(Ended)
            )

    def _join(self) -> None:
        for thread in self._threads:
            thread.join()


def named(ranks: Sequence[int]) -> str:
    """Ranks in words: "rank 1", "ranks 0 and 2", "ranks 0, 2 and 4-7"."""
    runs: list[str] = []
    for _, run in groupby(enumerate(sorted(ranks)), lambda pair: pair[1] - pair[0]):
        members = [rank for _, rank in run]
        runs += [f"{members[0]}-{members[-1]}"] if len(members) > 2 else map(str, members)
    if len(ranks) == 1:
        return f"rank {runs[0]}"
    return "ranks " + (" and ".join((", ".join(runs[:-1]), runs[-1])) if len(runs) > 1 else runs[0])


def ordinal(number: int) -> str:
    """1st, 2nd, 3rd, 4th, ..."""
    last = 0 if 10 < number % 100 < 14 else number % 10
    return f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(last, 'th') }"


def _named(error: BaseException, rank: int) -> BaseException:
    """The error with its rank: a sentence for the reader says it, others carry it as a note."""
    if not isinstance(error, UserError):
        error.add_note(f"This was raised by rank {rank}.")
    elif not str(error).startswith(f"Rank {rank} "):
        error.args = (f"Rank {rank}: {error}",)  # and not another error: its kind says something
    return error
