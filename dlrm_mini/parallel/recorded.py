"""A communicator that writes down what its rank did when, by the clock on the wall.

`SimulatedCluster` has a modelled clock and events on it; this has measured ones, of the same kind,
so that one picture draws both. Ranks of one machine share its clock.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from torch import Tensor

from dlrm_mini.parallel.communicator import Communicator
from dlrm_mini.parallel.events import Event
from dlrm_mini.parallel.traffic import Operation

WAITING = "waiting"


class Recorded(Communicator):
    """Talks through another communicator, and keeps a diary.

    Args:
        through: which one; in `ProcessGroup`, only what passes here is recorded.

    Attributes:
        events: a collective's begins when this rank enters it, so that waiting is in it: see
            `waiting_apart`. Seconds are `time.monotonic`'s.
    """

    def __init__(self, through: Communicator) -> None:
        self.through, self.rank, self.size = through, through.rank, through.size
        self.traffic = through.traffic  # counted here, by what both have from `Communicator`
        self.events: list[Event] = []
        self._since: list[float] = []  # begins of parts that are not over

    @contextmanager
    def part(self, name: str, seconds: float = 0.0) -> Iterator[None]:
        """Record what runs inside; a collective in it interrupts it."""
        self._since.append(time.monotonic())
        with self.through.part(name, seconds):
            yield
        self.events.append(Event(self.rank, name, self._since.pop(), time.monotonic(), "compute"))

    def reached(self, step: int) -> None:
        """Hand it on: it is the other that tells of a failure."""
        self.through.reached(step)

    def hold(self, name: str, nbytes: int, rows: int | None = None) -> None:
        """Hand it on to the other's memory meter."""
        self.through.hold(name, nbytes, rows)

    def release(self, name: str) -> None:
        """Hand it on."""
        self.through.release(name)

    def _all_to_all(self, rows: Tensor, send: list[int], receive: list[int]) -> Tensor:
        with self._collective("all_to_all"):
            return self.through._all_to_all(rows, send, receive)

    def _all_reduce(self, tensor: Tensor) -> Tensor:
        with self._collective("all_reduce"):
            return self.through._all_reduce(tensor)

    def _all_gather(self, tensor: Tensor) -> Tensor:
        with self._collective("all_gather"):
            return self.through._all_gather(tensor)

    def _reduce_scatter(self, tensor: Tensor) -> Tensor:
        with self._collective("reduce_scatter"):
            return self.through._reduce_scatter(tensor)

    def _broadcast(self, tensor: Tensor, root: int) -> Tensor:
        with self._collective("broadcast"):
            return self.through._broadcast(tensor, root)

    def _barrier(self) -> None:
        with self._collective("barrier"):
            self.through._barrier()

    @contextmanager
    def _collective(self, operation: Operation) -> Iterator[None]:
        begun = time.monotonic()
        try:
            yield
        finally:  # one that fails has been waited in, too
            sent, now = self.traffic.latest, time.monotonic()
            self.events.append(Event(self.rank, operation, begun, now, "communication", sent))


def waiting_apart(events: Sequence[Event]) -> list[Event]:
    """All ranks' events, from zero; a collective is cut in two where the last rank enters it.

    What comes before is an event of its own, `WAITING`.

    Args:
        events: of all ranks, which have entered the same collectives.
    """
    by_rank: dict[int, list[Event]] = defaultdict(list)
    found = []
    for event in events:
        if event.kind == "communication":
            by_rank[event.rank].append(event)
        else:
            found.append(event)
    for together in zip(*by_rank.values(), strict=True):
        last = max(event.start for event in together)
        for event in together:
            begun = min(max(event.start, last), event.end)
            found.append(replace(event, start=begun))
            if begun > event.start:
                found.append(Event(event.rank, WAITING, event.start, begun, "compute"))
    zero = min(event.start for event in events)
    moved = [replace(e, start=e.start - zero, end=e.end - zero) for e in found]
    return sorted(moved, key=lambda event: (event.start, event.rank))
