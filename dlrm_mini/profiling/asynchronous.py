"""Two clocks: when the host asked for each piece of work, and when the device did it.

A GPU takes orders and works by itself. `PretendedDevice` does the same on any machine, with a
thread in place of the GPU: its work is real work on the processor, and only the way it is asked
for is pretended. `CudaDevice` has the same methods for a real one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from queue import Queue
from typing import NamedTuple, Protocol

import torch

LAUNCH = 1e-3  # seconds; over a hundred times a real one, long enough for a thread to keep pace


class Span(NamedTuple):
    """From when to when, in seconds after the device was opened."""

    begin: float
    end: float


class Device(Protocol):
    """What takes orders: `launch` may return before the work is done, `synchronize` may not."""

    def launch(self, work: Callable[[], object]) -> None:
        """Ask for some work, after all that was asked for before."""

    def synchronize(self) -> None:
        """Wait until all of it is done."""

    def spans(self) -> tuple[list[Span], list[Span]]:
        """When the host launched each piece of work, and when the device did it; waits for both."""


class PretendedDevice:
    """A thread that does what it was given, in order.

    Args:
        launch_seconds: how long the host takes to ask for something.

    Example:
        >>> device = PretendedDevice(launch_seconds=0)
        >>> found = []
        >>> device.launch(lambda: found.append("done"))
        >>> device.synchronize()
        >>> found
        ['done']
    """

    def __init__(self, launch_seconds: float = LAUNCH) -> None:
        self.launch_seconds = launch_seconds
        self._asked: Queue[Callable[[], object]] = Queue()
        self._host: list[Span] = []
        self._device: list[Span] = []
        self._error: Exception | None = None
        self._start = time.perf_counter()
        threading.Thread(target=self._work, daemon=True).start()

    def launch(self, work: Callable[[], object]) -> None:
        """Ask for some work, after all that was asked for before."""
        begin = self._now()
        if self.launch_seconds:
            time.sleep(self.launch_seconds)
        self._asked.put(work)
        self._host.append(Span(begin, self._now()))

    def synchronize(self) -> None:
        """Wait until all of it is done.

        Raises:
            Exception: what some work raised since the last time. As with CUDA, it is heard here,
                far from the line that asked for the work.
        """
        self._asked.join()
        error, self._error = self._error, None
        if error is not None:
            raise error

    def spans(self) -> tuple[list[Span], list[Span]]:
        """When the host launched each piece of work, and when the device did it; waits for both."""
        self.synchronize()
        return list(self._host), list(self._device)

    def _work(self) -> None:
        while True:
            work = self._asked.get()
            begin = self._now()
            try:
                work()
            except Exception as error:
                self._error = self._error or error
            self._device.append(Span(begin, self._now()))
            self._asked.task_done()

    def _now(self) -> float:
        return time.perf_counter() - self._start


class CudaDevice:
    """A GPU's current stream, with an event before and after each piece of work."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._host: list[Span] = []
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self.synchronize()
        self._origin = self._record()
        self._origin.synchronize()
        self._start = time.perf_counter()

    def launch(self, work: Callable[[], object]) -> None:
        """Ask for some work, after all that was asked for before."""
        begin = time.perf_counter() - self._start
        before = self._record()
        work()
        self._events.append((before, self._record()))
        self._host.append(Span(begin, time.perf_counter() - self._start))

    def synchronize(self) -> None:
        """Wait until all of it is done."""
        torch.cuda.synchronize(self.device)

    def spans(self) -> tuple[list[Span], list[Span]]:
        """When the host launched each piece of work, and when the device did it; waits for both."""
        self.synchronize()
        when = [
            Span(*(1e-3 * self._origin.elapsed_time(event) for event in pair))
            for pair in self._events
        ]
        return list(self._host), when

    def _record(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self.device))
        return event


def open_device(device: torch.device, launch_seconds: float = LAUNCH) -> Device:
    """The GPU where there is one, and elsewhere a pretended one.

    Args:
        device: as `devices.choose` gave it.
        launch_seconds: of a pretended one.
    """
    return CudaDevice(device) if device.type == "cuda" else PretendedDevice(launch_seconds)


def idle_share(device: list[Span]) -> float:
    """Share of the time between the device's first work and its last in which it waited."""
    whole = device[-1].end - device[0].begin
    return 1 - sum(span.end - span.begin for span in device) / whole
