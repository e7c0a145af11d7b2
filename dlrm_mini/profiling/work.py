"""The record of what a part of a training step has to do, and nothing of how it is found."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

NUMBER, ID = 4, 8  # bytes of a float32 and of an id
Product = tuple[int, int, int]
Small = tuple[float, int, int]
Rows = tuple[float, float, float]
"""Bytes of a row, span (bytes fetched since the same row was fetched last), and bytes in all."""


@dataclass(frozen=True)
class Work:
    """What a part does.

    Attributes:
        flops: all of them, of `products` and `batched` too.
        streamed: bytes read and written in order, without the operands of `products`.
        far: such bytes that other parts of the step have pushed out of the caches since.
        operations: calls of tensor operations; on a GPU each is at least one kernel.
        products: (m, k, n) of each product of (m, k) and (k, n).
        number: bytes of a number in the products.
        batched: (FLOP, n, k) of many small products (n, k) x (k, n), or of a triangle of each.
        bags: of fused tables, each begun and written once.
        gathered: rows read at random places.
        changed: rows read and written at random places; both directions count.
        sorted: keys sorted.
        fresh: bytes of the streamed ones that lie in memory new from the system.
        transferred: bytes that a GPU gets from the host.
    """

    flops: float = 0.0
    streamed: float = 0.0
    far: float = 0.0
    operations: int = 0
    products: tuple[Product, ...] = ()
    number: int = NUMBER
    batched: tuple[Small, ...] = ()
    bags: int = 0
    gathered: tuple[Rows, ...] = ()
    changed: tuple[Rows, ...] = ()
    sorted: float = 0.0
    fresh: float = 0.0
    transferred: float = 0.0

    @property
    def random(self) -> float:
        """Bytes at random places."""
        return sum(rows[2] for rows in (*self.gathered, *self.changed))

    @property
    def bytes(self) -> float:
        """All bytes: in order, at random places, and of the operands and results of products."""
        operands = sum(m * k + k * n + m * n for m, k, n in self.products)
        return self.streamed + self.far + self.random + self.number * operands

    @property
    def intensity(self) -> float:
        """FLOP a byte."""
        return self.flops / self.bytes if self.bytes else 0.0

    def __add__(self, other: Work) -> Work:
        """Both, one after the other."""
        sums = {
            name: mine + getattr(other, name)
            for name, mine in vars(self).items()
            if name != "number"
        }
        number = (self if self.products else other).number
        return Work(**sums, number=number)


def total(works: Iterable[Work]) -> Work:
    """All of them together."""
    return sum(works, Work())
