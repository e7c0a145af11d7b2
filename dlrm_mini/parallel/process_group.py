"""The communicator between real processes: one rank each, over `torch.distributed`.

`torchrun` starts the processes and tells each which rank it is; `connect` makes the communicator.
On CPUs the backend is gloo. With a GPU for each process it is NCCL, which is written after
PyTorch's documentation and untried: this project has had no machine with two GPUs.

A collective waits for the slowest rank, and a rank that has died, stalled or left would be waited
for in vain. So every wait has an end, `timeout`, and whoever is left over raises a sentence that
names the rank and says how far each had come (`parallel.standing`).
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from types import TracebackType
from typing import NoReturn

import torch
import torch.distributed as dist
from torch import Tensor

from dlrm_mini.devices import synchronize
from dlrm_mini.errors import UserError
from dlrm_mini.parallel import marks
from dlrm_mini.parallel.baton import named, ordinal
from dlrm_mini.parallel.blame import absent, late
from dlrm_mini.parallel.communicator import Communicator
from dlrm_mini.parallel.standing import ADVICE, Board, Standing, StoppedError, how_far
from dlrm_mini.parallel.traffic import Operation, Traffic

FAREWELL = 5.0  # seconds a rank that has ended stays for the others, who may be in their last step
SEARCH = 2.0  # seconds to find out who has broken a connection
# torch 2.13 has given two functions new names, and warns of the old ones.
NEW = hasattr(dist, "all_gather_single")
GATHER = "all_gather_single" if NEW else "all_gather_into_tensor"
SCATTER = "reduce_scatter_single" if NEW else "reduce_scatter_tensor"


class ProcessGroup(Communicator):
    """One process's end of the line; made by `connect`, and used in a `with` block.

    Attributes:
        device: where this rank's tensors are: cpu, or the GPU of its place on its machine.
        timeout: seconds any collective may take; computing between two of them counts for those
            who wait.
        seconds: part or operation -> seconds it has taken here, without what ran inside it.
    """

    def __init__(self, timeout: float, device: torch.device) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.traffic = Traffic()
        self.device, self.timeout = device, timeout
        self.seconds: dict[str, float] = defaultdict(float)
        self._inside = 0.0  # seconds of measured things inside the one being measured
        self._standing = Standing()
        self._board = Board.of_this_run(self.size)
        self._board.enrol(self.rank)

    def __enter__(self) -> ProcessGroup:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if error is None or (isinstance(error, SystemExit) and not error.code):
            self._leave()
            return
        with suppress(RuntimeError):  # the keeper of the board may be what has gone
            if not isinstance(error, StoppedError):
                self._stop(f"Rank {self.rank} has stopped with this error: {in_words(error)}")
            self._board.close(self.rank, in_order=False)

    def reached(self, step: int) -> None:
        """Say which training step this rank is in, for the sentence if the run fails."""
        self._tell(replace(self._standing, step=step))
        try:
            self._board.knock(self.rank)  # once a step: nobody trains on where the launcher is dead
        except RuntimeError as error:
            raise self._alone() from error

    @contextmanager
    def part(self, name: str, seconds: float = 0.0) -> Iterator[None]:
        """Measure what runs inside; collectives and parts in it count for themselves.

        Args:
            name: of the part, the key in `seconds`.
            seconds: what it would take on a simulated clock; not used.
        """
        with self._measured(name):
            yield

    def _all_to_all(self, rows: Tensor, send: list[int], receive: list[int]) -> Tensor:
        result = rows.new_empty((sum(receive), *rows.shape[1:]))
        marks.mark(result, receive)
        self._enter("all_to_all", lambda: dist.all_to_all_single(result, rows, receive, send))
        if short := marks.unmarked(result, receive):
            raise self._stop(
                f"In its {ordinal(self._standing.calls)} collective, all_to_all, rank "
                f"{self.rank} expects {' and '.join(str(receive[other]) for other in short)} rows "
                f"of {tuple(rows.shape[1:])} from {named(short)}, and got less. Every rank has to "
                "expect what the other sends."
            )
        return result

    def _all_reduce(self, tensor: Tensor) -> Tensor:
        result = tensor.clone()
        self._enter("all_reduce", lambda: dist.all_reduce(result))
        return result

    def _all_gather(self, tensor: Tensor) -> Tensor:
        result = tensor.new_empty((self.size * len(tensor), *tensor.shape[1:]))
        self._enter("all_gather", lambda: getattr(dist, GATHER)(result, tensor))
        return result

    def _reduce_scatter(self, tensor: Tensor) -> Tensor:
        result = tensor.new_empty((len(tensor) // self.size, *tensor.shape[1:]))
        if self.device.type == "cuda":
            self._enter("reduce_scatter", lambda: getattr(dist, SCATTER)(result, tensor))
            return result

        def exchange_and_add() -> None:
            pieces = torch.empty_like(tensor)
            dist.all_to_all_single(pieces, tensor)
            torch.sum(pieces.view(self.size, *result.shape), dim=0, out=result)

        # gloo's own is an all_reduce of which most is thrown away: twice the bytes on the wire.
        self._enter("reduce_scatter", exchange_and_add)
        return result

    def _broadcast(self, tensor: Tensor, root: int) -> Tensor:
        result = tensor.clone()
        self._enter("broadcast", lambda: dist.broadcast(result, root))
        return result

    def _barrier(self) -> None:
        self._enter("barrier", dist.barrier)

    @contextmanager
    def _measured(self, name: str) -> Iterator[None]:
        before, self._inside = self._inside, 0.0
        start = time.perf_counter()
        try:
            yield
            synchronize(self.device)
        finally:
            took = time.perf_counter() - start
            self.seconds[name] += took - self._inside
            self._inside = before + took

    def _enter(self, operation: Operation, collective: Callable[[], object]) -> None:
        """Note that this rank is in it, and make a sentence of what goes wrong inside.

        Small messages wait for this code on both sides, so it is kept short.
        """
        step, calls = self._standing.step, self._standing.calls + 1
        self._tell(Standing(step, calls, operation, waiting=True))
        start = time.perf_counter()
        try:
            collective()
            synchronize(self.device)
        except RuntimeError as error:
            waited = time.perf_counter() - start
            raise self._failed(error, overdue=waited > 0.9 * self.timeout) from error
        finally:
            took = time.perf_counter() - start
            self.seconds[operation] += took
            self._inside += took
        self._tell(Standing(step, calls, operation))

    def _tell(self, now: Standing) -> None:
        self._standing = now
        try:
            self._board.write(self.rank, now)
        except RuntimeError as error:
            raise self._alone() from error

    def _alone(self) -> StoppedError:
        return StoppedError(
            f"Rank {self.rank} of {self.size} ({self._standing}) has lost the process that keeps "
            "count of all ranks: the launcher, torchrun or rank 0 has died, or the network to it. "
            + ADVICE
        )

    def _failed(self, error: RuntimeError, overdue: bool) -> StoppedError:
        """Who is to blame for a collective that failed: dead, stopped, gone, or not come."""
        until = time.monotonic() + SEARCH
        try:
            while True:
                if verdict := self._board.verdict():
                    return StoppedError(verdict)
                blame = absent(self._board, self.rank)
                if blame or overdue or time.monotonic() > until:
                    break
                time.sleep(0.02)  # a rank may be on its way out, its notes still to come
            cause, waited = str(error).splitlines()[0], self.timeout if overdue else None
            return self._stop(blame or late(self._board, self.rank, cause, waited))
        except RuntimeError:
            return self._alone()

    def _stop(self, sentence: str) -> StoppedError:
        far = how_far(self._board.read())
        return StoppedError(self._board.verdict(f"{sentence} {far} {ADVICE}"))

    def _leave(self) -> None:
        """Go, but not while others may still read what this rank has sent them."""
        with suppress(RuntimeError):
            self._board.close(self.rank, in_order=True)
            until = time.monotonic() + min(FAREWELL, self.timeout)
            while len(self._board.closed()) < self.size and time.monotonic() < until:
                time.sleep(0.005)
        dist.destroy_process_group()


def connect(timeout: float = 60.0) -> ProcessGroup:
    """This process's communicator, of the run that torchrun has started.

    Args:
        timeout: seconds any collective may take. It has to be longer than whatever one rank does
            alone between two collectives, such as writing a checkpoint.

    Raises:
        UserError: torchrun has not started this process, or the ranks do not find each other.
    """
    missing = [name for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR") if name not in os.environ]
    if missing:
        raise UserError(
            f"This process is no rank of a run: {', '.join(missing)} not set. Start it with "
            "torchrun, as in python -m torch.distributed.run --standalone --nproc-per-node 2 ..., "
            "or with dlrm_mini.parallel.launch.run."
        )
    _end_with_parent()
    place, neighbours = (int(os.environ.get(f"LOCAL_{name}", 0)) for name in ("RANK", "WORLD_SIZE"))
    device = torch.device("cpu")
    if torch.cuda.is_available() and torch.cuda.device_count() >= max(neighbours, 1):
        device = torch.device("cuda", place)
        torch.cuda.set_device(device)
        os.environ.setdefault("TORCH_NCCL_BLOCKING_WAIT", "1")  # a time-out raises where we wait
    try:
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo", timeout=timedelta(seconds=timeout)
        )
        return ProcessGroup(timeout, device)
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"Rank {os.environ['RANK']} of {os.environ['WORLD_SIZE']} could not reach the others "
            f"at {os.environ['MASTER_ADDR']} within {timeout:g} s: {str(error).splitlines()[0]}"
        ) from error


def in_words(error: BaseException) -> str:
    """What a rank that fails leaves for the others: a sentence, or the error's kind before it."""
    if isinstance(error, UserError):
        return str(error)
    return ": ".join(filter(None, [type(error).__name__, str(error)])) + "."


def leave() -> NoReturn:
    """End this process, with status 0, when all is done and the process group closed.

    At the ordinary end of Python, a process that has used gloo now and then aborts in torch 2.13
    ("terminate called without an active exception", seen in 1 of 24 launches on a busy machine, in
    more with TorchRec), so that torchrun reports a failure of a run that is complete.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _end_with_parent() -> None:
    """Have Linux kill this process when torchrun dies, or a stalled rank would live on for ever."""
    if sys.platform == "linux":
        set_death_signal = 1  # PR_SET_PDEATHSIG, man page prctl(2)
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)
