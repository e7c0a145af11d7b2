"""What was sent: bytes and messages by operation and link.

Counted is what an algorithm has to move, once for each link, without headers:

- all_to_all: a message to every other rank that gets rows;
- all_reduce: a ring, so 2 (P - 1) messages of n / P to the next rank;
- all_gather and reduce_scatter: a ring, (P - 1) messages of a P-th of the whole;
- broadcast: a message from the root to each other rank;
- barrier: nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

Operation = Literal[
    "all_to_all", "all_reduce", "all_gather", "reduce_scatter", "broadcast", "barrier"
]
OPERATIONS: tuple[Operation, ...] = get_args(Operation)
Sends = dict[int, tuple[int, int]]  # receiver -> bytes, messages


@dataclass
class Traffic:
    """What one rank has sent.

    Attributes:
        sent: (operation, receiver) -> bytes.
        messages: (operation, receiver) -> messages.
        calls: operation -> how often this rank has entered it.
        latest: bytes of the collective entered last.
    """

    sent: Counter[tuple[Operation, int]] = field(default_factory=Counter)
    messages: Counter[tuple[Operation, int]] = field(default_factory=Counter)
    calls: Counter[Operation] = field(default_factory=Counter)
    latest: int = 0

    def by_operation(self) -> dict[Operation, int]:
        """Operation -> bytes to all other ranks together, those with none left out."""
        found: Counter[Operation] = Counter()
        for (operation, _), number in self.sent.items():
            found[operation] += number
        return {name: found[name] for name in OPERATIONS if found[name]}

    def total(self) -> int:
        """Bytes in all."""
        return sum(self.sent.values())

    def add(self, operation: Operation, sends: Mapping[int, tuple[int, int]]) -> None:
        """Count one entry into an operation, and what it sends: receiver -> (bytes, messages)."""
        self.calls[operation] += 1
        self.latest = sum(number for number, _ in sends.values())
        for receiver, (number, messages) in sends.items():
            self.sent[operation, receiver] += number
            self.messages[operation, receiver] += messages


def all_to_all_sends(rank: int, rows: Sequence[int], row_bytes: int) -> Sends:
    """What a rank sends in an all-to-all of `rows[q]` rows to each rank q."""
    return {
        receiver: (number * row_bytes, 1)
        for receiver, number in enumerate(rows)
        if number and receiver != rank
    }


def ring_sends(operation: Operation, rank: int, size: int, numbers: int, itemsize: int) -> Sends:
    """What a rank sends to the next one round a ring.

    In a reduce-scatter round a ring, rank r sends every piece but (r + 1) mod P; in an all-gather,
    every piece but (r + 2) mod P in the all_reduce's order, where r ends with piece r + 1. Pieces
    of an all_reduce are as even as whole numbers can be, so that all ranks together send exactly
    2 (P - 1) n.

    Args:
        operation: "all_reduce", "all_gather" or "reduce_scatter".
        rank: r.
        size: P.
        numbers: elements of the whole: the tensor that is reduced, gathered or scattered.
        itemsize: bytes of one.
    """
    if size == 1:
        return {}
    following = (rank + 1) % size
    if operation != "all_reduce":
        return {following: ((size - 1) * (numbers // size) * itemsize, size - 1)}
    ends = [piece * numbers // size for piece in range(size + 1)]
    kept = [ends[piece + 1] - ends[piece] for piece in (following, (rank + 2) % size)]
    return {following: ((2 * numbers - sum(kept)) * itemsize, 2 * (size - 1))}


def broadcast_sends(rank: int, size: int, root: int, number: int) -> Sends:
    """What a rank sends in a broadcast of that many bytes."""
    return {q: (number, 1) for q in range(size) if q != root} if rank == root else {}
