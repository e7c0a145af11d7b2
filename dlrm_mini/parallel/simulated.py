"""P ranks inside one process, on real tensors: every byte counted, every illegal move named.

The clock is modelled, the numbers are computed. `Topology.seconds` says how long a collective
takes, and the ranks say what they compute in between (`Communicator.part`). Tensors on the device
"meta" have shapes and no numbers: enough to count what 128 ranks would send.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from dlrm_mini.errors import UserError
from dlrm_mini.parallel.baton import Baton, Call
from dlrm_mini.parallel.communicator import Communicator
from dlrm_mini.parallel.events import Event
from dlrm_mini.parallel.memory_meter import MemoryMeter
from dlrm_mini.parallel.topology import Topology, topology
from dlrm_mini.parallel.traffic import Operation, Traffic

R = TypeVar("R")


class SimulatedCluster:
    """P ranks that take turns.

    Traffic, clocks, memory and events add up over runs until `reset`.

    Args:
        where: what lies between the ranks; a number P stands for one node with NVLink.
        compute: (rank, part) -> seconds that a part takes where it does not say so itself. None:
            no time, so that only communication is on the clock.

    Attributes:
        topology: what lies between the ranks.
        communicators: the P ends of the line; usable inside `run` only.
        memory: a meter for each rank.
        clocks: seconds on each rank's clock.
        events: what the ranks did, collective after collective.

    Example:
        >>> cluster = SimulatedCluster(3)
        >>> cluster.run(lambda comm: comm.all_reduce(torch.full((3,), comm.rank)).tolist())
        [[3, 3, 3], [3, 3, 3], [3, 3, 3]]
        >>> cluster.traffic[0].total()  # 2 (P - 1) messages of a third of 24 bytes
        32
    """

    def __init__(
        self, where: Topology | int, compute: Callable[[int, str], float] | None = None
    ) -> None:
        self.topology = topology("NVLink", where) if isinstance(where, int) else where
        self.compute = compute
        size = self.topology.ranks
        self.memory = [MemoryMeter(rank, self.topology.memory) for rank in range(size)]
        self.communicators = [SimulatedRank(self, rank) for rank in range(size)]
        self.baton: Baton[Any] | None = None
        self.reset()

    @property
    def size(self) -> int:
        """P."""
        return self.topology.ranks

    @property
    def traffic(self) -> list[Traffic]:
        """What each rank has sent."""
        return [communicator.traffic for communicator in self.communicators]

    @property
    def seconds(self) -> float:
        """When the last rank is done."""
        return max(self.clocks)

    def reset(self) -> None:
        """Start clocks, traffic and events anew; what is held in memory stays."""
        self.clocks = [0.0] * self.size
        self.events: list[Event] = []
        for communicator in self.communicators:
            communicator.traffic = Traffic()

    def links(self) -> NDArray[np.int64]:
        """(P, P) bytes sent so far, from each rank (row) to each rank (column)."""
        found = np.zeros((self.size, self.size), dtype=np.int64)
        for rank, traffic in enumerate(self.traffic):
            for (_, receiver), number in traffic.sent.items():
                found[rank, receiver] += number
        return found

    def run(self, function: Callable[[Communicator], R]) -> list[R]:
        """Call `function(communicator)` for every rank, in turns; what each returned.

        Gradients are on or off in the ranks as they are for the caller.

        Raises:
            UserError: an illegal move, such as a collective that not every rank enters.
            BaseException: what a rank raised, with a note that names it. Either ends all ranks.
        """
        if self.baton is not None:
            raise UserError("The cluster is running already; use a second one inside.")
        baton: Baton[R] = Baton(self.size, self._meet)
        gradients = torch.is_grad_enabled()  # torch keeps it for each thread

        def live(rank: int) -> R:
            with torch.set_grad_enabled(gradients):
                return function(self.communicators[rank])

        self.baton = baton
        try:
            return baton.run(live)
        finally:
            self.baton = None

    def advance(self, rank: int, name: str, seconds: float) -> None:
        """Let time pass on a rank's own clock.

        Raises:
            UserError: time would go backwards.
        """
        if not seconds >= 0:
            raise UserError(
                f"Rank {rank} spends {seconds} seconds on '{name}'; expected 0 or more."
            )
        start = self.clocks[rank]
        self.clocks[rank] += seconds
        if seconds:
            self.events.append(Event(rank, name, start, self.clocks[rank], "compute"))

    def _meet(self, calls: list[Call]) -> Sequence[Any]:
        """Carry out the collective that all ranks are in."""
        operation, arguments = calls[0].operation, [call.arguments for call in calls]
        if operation == "barrier":
            self._pass("barrier", 0)
            return [None] * self.size
        tensors: list[Tensor] = [given[0] for given in arguments]
        _check_alike(operation, tensors)
        if operation == "all_to_all":
            _, send, receive = zip(*arguments, strict=True)
            return self._shuffle(tensors, send, receive)
        one = tensors[0]
        number = one.numel() * one.element_size()
        if operation == "broadcast":
            roots = [given[1] for given in arguments]
            _check_roots(roots)
            self._pass("broadcast", number)
            return [tensors[roots[0]].clone() for _ in tensors]
        if operation == "all_gather":
            self._pass("all_gather", number * self.size)
            whole = torch.cat(tensors)
            return [*(whole.clone() for _ in tensors[1:]), whole]
        total = one.clone()
        for tensor in tensors[1:]:
            total += tensor
        if operation == "reduce_scatter":
            self._pass("reduce_scatter", number)
            return [piece.clone() for piece in total.chunk(self.size)]
        self._pass("all_reduce", number)
        return [*(total.clone() for _ in tensors[1:]), total]

    def _shuffle(
        self, rows: list[Tensor], send: Sequence[list[int]], receive: Sequence[list[int]]
    ) -> list[Tensor]:
        sent, expected = np.array(send), np.array(receive).T
        wrong = np.argwhere(sent != expected)
        if len(wrong):
            sender, receiver = wrong[0]
            more = f" ({len(wrong)} such pairs)" if len(wrong) > 1 else ""
            raise UserError(
                f"In all_to_all, rank {sender} sends {sent[sender, receiver]} rows to rank "
                f"{receiver}, which expects {expected[sender, receiver]}{more}."
            )
        row_bytes = rows[0].element_size() * math.prod(rows[0].shape[1:])
        self._pass("all_to_all", sent * row_bytes)
        if rows[0].is_meta:
            return [tensor.new_empty((sum(taken), *tensor.shape[1:]))
                    for tensor, taken in zip(rows, receive, strict=True)]  # fmt: skip
        pieces = [torch.split(*own) for own in zip(rows, send, strict=True)]
        return [torch.cat(mine) for mine in zip(*pieces, strict=True)]

    def _pass(self, operation: Operation, nbytes: ArrayLike) -> None:
        """The collective starts for all when the last rank has arrived."""
        start = max(self.clocks)
        end = start + self.topology.seconds(operation, nbytes)
        self.clocks = [end] * self.size
        self.events += [
            Event(rank, operation, start, end, "communication", traffic.latest)
            for rank, traffic in enumerate(self.traffic)
        ]


class SimulatedRank(Communicator):
    """One rank's end of the line in a simulated cluster; made by it."""

    def __init__(self, cluster: SimulatedCluster, rank: int) -> None:
        self.cluster, self.rank, self.size = cluster, rank, cluster.size
        self.traffic = Traffic()

    @contextlib.contextmanager
    def part(self, name: str, seconds: float = 0.0) -> Iterator[None]:
        """Let `seconds`, or else what the cluster knows, pass on this rank's clock at the start."""
        if not seconds and self.cluster.compute is not None:
            seconds = self.cluster.compute(self.rank, name)
        self.cluster.advance(self.rank, name, seconds)
        yield

    def hold(self, name: str, nbytes: int, rows: int | None = None) -> None:
        """Hold something in this rank's memory meter."""
        self.cluster.memory[self.rank].hold(name, nbytes, rows)

    def release(self, name: str) -> None:
        """Give it back."""
        self.cluster.memory[self.rank].release(name)

    def _all_to_all(self, rows: Tensor, send: list[int], receive: list[int]) -> Tensor:
        return self._enter("all_to_all", rows, send, receive)

    def _all_reduce(self, tensor: Tensor) -> Tensor:
        return self._enter("all_reduce", tensor)

    def _all_gather(self, tensor: Tensor) -> Tensor:
        return self._enter("all_gather", tensor)

    def _reduce_scatter(self, tensor: Tensor) -> Tensor:
        return self._enter("reduce_scatter", tensor)

    def _broadcast(self, tensor: Tensor, root: int) -> Tensor:
        return self._enter("broadcast", tensor, root)

    def _barrier(self) -> None:
        self._call(Call("barrier", (), self.in_backward))

    def _enter(self, operation: Operation, tensor: Tensor, *more: Any) -> Tensor:
        if tensor.device.type not in ("cpu", "meta"):
            # Backward on a GPU runs in one thread for all, in which no rank could wait for another.
            raise UserError(
                f"Rank {self.rank} gives {operation} a tensor on {tensor.device}; simulated ranks "
                f"take turns on the CPU."
            )
        answer: Tensor = self._call(Call(operation, (tensor, *more), self.in_backward))
        return answer

    def _call(self, call: Call) -> Any:
        if self.cluster.baton is None:
            raise UserError(
                f"Rank {self.rank} enters {call.operation} outside of `SimulatedCluster.run`, "
                f"where nobody answers. Backward belongs inside too."
            )
        return self.cluster.baton.enter(self.rank, call)


def _check_alike(operation: str, tensors: list[Tensor]) -> None:
    """Same type everywhere, and the same shape but for an all_to_all's numbers of rows."""
    first = 1 if operation == "all_to_all" else 0
    kinds = [(tensor.dtype, tensor.shape[first:], tensor.device) for tensor in tensors]
    other = next((rank for rank, kind in enumerate(kinds) if kind != kinds[0]), None)
    if other is not None:
        raise UserError(
            f"In {operation}, rank 0 gives {_described(tensors[0])}, and rank {other} "
            f"{_described(tensors[other])}; expected the same type and shape from all ranks"
            + (", but for the number of rows." if first else ".")
        )


def _described(tensor: Tensor) -> str:
    kind = str(tensor.dtype).removeprefix("torch.")
    where = " without numbers" if tensor.is_meta else ""
    return f"{tuple(tensor.shape)} of {kind}{where}"


def _check_roots(roots: list[int]) -> None:
    other = next((rank for rank, root in enumerate(roots) if root != roots[0]), None)
    if other is not None:
        raise UserError(
            f"In broadcast, rank 0 takes rank {roots[0]} for the root, and rank {other} takes rank "
            f"{roots[other]}; expected the same root from all ranks."
        )
