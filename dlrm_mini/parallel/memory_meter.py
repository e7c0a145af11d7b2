"""What a rank holds, and whether one thing more fits."""

from __future__ import annotations

from dlrm_mini.errors import UserError


class MemoryMeter:
    """The memory of one rank, counted and limited.

    Args:
        rank: whose it is.
        limit: bytes; None: no limit.

    Attributes:
        held: name -> bytes.
        peak: the most bytes that were held at once.
    """

    def __init__(self, rank: int, limit: float | None = None) -> None:
        self.rank, self.limit = rank, limit
        self.held: dict[str, int] = {}
        self.peak = 0

    @property
    def used(self) -> int:
        """Bytes held now."""
        return sum(self.held.values())

    @property
    def free(self) -> float:
        """Bytes left; infinite without a limit."""
        return float("inf") if self.limit is None else self.limit - self.used

    def hold(self, name: str, nbytes: int, rows: int | None = None) -> None:
        """Hold something; under a name that is held already, in its place.

        Args:
            name: such as "table 'C3'".
            nbytes: what it takes.
            rows: of a table, so that the error can say how many would fit.

        Raises:
            UserError: it does not fit; nothing has changed then.
        """
        if nbytes < 0 or (rows is not None and rows < 0):
            raise UserError(
                f"Rank {self.rank} holds {name} of {nbytes:,} bytes in {rows} rows; expected no "
                f"number below 0."
            )
        free = self.free + self.held.get(name, 0)
        if nbytes > free:
            raise UserError(self._too_large(name, nbytes, rows, int(free)))
        self.held[name] = nbytes
        self.peak = max(self.peak, self.used)

    def release(self, name: str) -> None:
        """Give back what is held under a name.

        Raises:
            UserError: nothing is.
        """
        if name not in self.held:
            there = ", ".join(self.held) or "nothing"
            raise UserError(f"Rank {self.rank} holds no {name} to give back; it holds {there}.")
        del self.held[name]

    def _too_large(self, name: str, nbytes: int, rows: int | None, free: int) -> str:
        assert self.limit is not None
        size = f"{nbytes:,} bytes"
        if rows:
            size += f" ({rows:,} rows of {nbytes / rows:,.0f})"
        others = [held for held in self.held if held != name]
        beside = f", beside {len(others)} other thing{'s'[: len(others) > 1]}" if others else ""
        sentence = (
            f"Rank {self.rank} cannot hold {name}: it takes {size}, and {free:,} of the rank's "
            f"{self.limit:,.0f} bytes are free{beside}."
        )
        if not rows:
            return f"{sentence} {nbytes - free:,} bytes more are needed."
        fitting = free * rows // nbytes
        if not fitting:
            return f"{sentence} Not one of its rows would fit: release something, or cut columns."
        return (
            f"{sentence} What would fit: {fitting:,} of its rows, or all of them cut row-wise over "
            f"{-(-rows // fitting)} ranks with as much room."
        )
