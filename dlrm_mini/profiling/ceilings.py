"""What a machine can do at best: multiply, copy, fetch rows at random places, begin an operation.

A ceiling is a rate by size, since none is one number: a narrow matrix product reaches a tenth of a
large one's rate, a copy within the caches is several times faster than one that leaves them, and so
is a small table's row. Between the sizes measured a rate is interpolated, linearly in logarithms;
beyond them it stays what it is at the edge.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

from dlrm_mini.errors import UserError
from dlrm_mini.training_step import Precision

Device = Literal["cpu", "cuda"]
Points = tuple[tuple[float, ...], ...]
"""Sizes and, last, the rate at them: all combinations of the sizes on each axis."""

GRIDS = {"copies": 2, "gathers": 3, "changes": 3, "batched": 3}  # field -> numbers in a point


class Rates:
    """A rate for any size, from those at the points of a grid.

    Args:
        points: sizes, all above 0, and the rate, above 0.

    Raises:
        UserError: no point, or not all combinations of the sizes.
    """

    def __init__(self, points: Points) -> None:
        found = {tuple(map(float, sizes)): rate for *sizes, rate in points}
        axes = [sorted(set(values)) for values in zip(*found, strict=True)]
        if not found or len(found) != math.prod(map(len, axes)):
            raise UserError(
                f"A ceiling has {len(found)} points, sizes {axes}; expected a rate for each "
                "combination of the sizes. Measure again."
            )
        self.axes = [[math.log(size) for size in axis] for axis in axes]
        self.logs = {
            place: math.log(found[tuple(sizes)])
            for place, sizes in zip(
                itertools.product(*(range(len(axis)) for axis in axes)),
                itertools.product(*axes),
                strict=True,
            )
        }

    def __call__(self, *sizes: float) -> float:
        """The rate at these sizes."""
        ends = [
            _between(axis, math.log(max(s, 1e-9))) for axis, s in zip(self.axes, sizes, strict=True)
        ]
        total = 0.0
        for corner in itertools.product(*ends):
            weight = math.prod(share for _, share in corner)
            if weight:
                total += weight * self.logs[tuple(place for place, _ in corner)]
        return math.exp(total)

    @property
    def best(self) -> float:
        """The highest rate at any size."""
        return math.exp(max(self.logs.values()))


def _between(axis: list[float], x: float) -> list[tuple[int, float]]:
    """The places beside x on an axis, and how much each counts."""
    if len(axis) == 1 or x <= axis[0]:
        return [(0, 1.0)]
    if x >= axis[-1]:
        return [(len(axis) - 1, 1.0)]
    above = next(place for place, value in enumerate(axis) if value > x)
    share = (x - axis[above - 1]) / (axis[above] - axis[above - 1])
    return [(above - 1, 1 - share), (above, share)]


@dataclass(frozen=True)
class Ceilings:
    """The rates that bound a training step on one machine.

    Attributes:
        name: the hardware.
        source: how the figures were found: measured when and with how many threads, or a datasheet.
        measured: whether they were.
        device: "cpu": operations run one after the other. "cuda": the host is ahead of the device.
        products: precision -> (m, k, n, FLOP/s) of a product (m, k) x (k, n); 2 m k n FLOP.
        batched: (n, k, FLOP/s) of many small products (n, k) x (k, n), float32.
        copies: (span, bytes/s): read and written ones both count. A span is the bytes that pass
            before the same ones come again, which a cache would have to hold.
        gathers: (bytes of a row, span, bytes/s) of rows read at random places.
        changes: the same of rows read, changed and written back: both directions count.
        bags: bags/s of fused tables, of one row each, all within the caches; 0: cost nothing extra.
        sort: int64 keys/s, sorted with their places.
        fresh: bytes/s into memory that the system has only just given; 0: costs nothing extra.
        transfer: bytes/s from host to device; 0: they are one.
        overhead: seconds that beginning one operation takes, with its share of autograd's work; on
            a CPU with the caches as lookups leave them, cold.
    """

    name: str
    source: str
    measured: bool
    device: Device
    products: Mapping[Precision, Points]
    batched: Points
    copies: Points
    gathers: Points
    changes: Points
    bags: float
    sort: float
    fresh: float
    transfer: float
    overhead: float

    @classmethod
    def from_datasheet(
        cls,
        name: str,
        source: str,
        *,
        products: Mapping[Precision, float],
        bandwidth: float,
        gather: float = 0.5,
        overhead: float = 5e-6,
        transfer: float = 0.0,
        device: Device = "cuda",
    ) -> Ceilings:
        """Ceilings by hand: every size at one rate, which flatters narrow layers.

        Args:
            name: the hardware.
            source: of the figures.
            products: precision -> FLOP/s.
            bandwidth: bytes/s of memory, reads and writes together.
            gather: share of it that rows at random places reach.
            overhead: seconds an operation.
            transfer: bytes/s from host to device; 0 for a CPU.
            device: "cuda" or "cpu".
        """
        rows = ((1.0, 1.0, gather * bandwidth),)
        return cls(
            name, source, measured=False, device=device,
            products={kind: ((1.0, 1.0, 1.0, rate),) for kind, rate in products.items()},
            # Too small to be more than a few passes over memory.
            batched=((1.0, 1.0, products["float32"]),),
            copies=((1.0, bandwidth),), gathers=rows, changes=rows, bags=0.0,
            # A key and its place, read and written in each of eight passes (radix, 8 bits each).
            sort=bandwidth / (8 * 2 * 16), fresh=0.0, transfer=transfer, overhead=overhead,
        )  # fmt: skip

    @cached_property
    def rates(self) -> dict[str, Rates]:
        """Field or precision -> its rate by size.

        Raises:
            UserError: a ceiling that is not a grid.
        """
        grids = {name: Rates(getattr(self, name)) for name in GRIDS}
        return grids | {kind: Rates(points) for kind, points in self.products.items()}

    def best(self, precision: Precision = "float32") -> float:
        """FLOP/s of the fastest product.

        Raises:
            UserError: nothing is known about this precision here.
        """
        return self.product(precision).best

    def product(self, precision: Precision) -> Rates:
        """FLOP/s by (m, k, n).

        Raises:
            UserError: nothing is known about this precision here.
        """
        if precision not in self.products:
            raise UserError(
                f"Nothing is known about products in {precision} on {self.name}; expected one of "
                f"{', '.join(self.products)}."
            )
        return self.rates[precision]

    @property
    def copy(self) -> float:
        """Bytes/s of a copy that no cache holds, read and written ones counted."""
        return self.copies[-1][-1]

    def gather(self, row_bytes: float, span: float = 1e30) -> float:
        """Bytes/s of rows read at random places, by default from where no cache holds them."""
        return self.rates["gathers"](row_bytes, span)

    def as_json(self) -> dict[str, Any]:
        """What JSON can hold, for `from_json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Ceilings:
        """The ceilings that `as_json` gave.

        Raises:
            UserError: other fields than ceilings have.
        """
        expected, found = set(cls.__dataclass_fields__), set(record)
        if expected != found:
            raise UserError(
                f"Ceilings have the fields {', '.join(sorted(expected))}; found "
                f"{', '.join(sorted(found))}. Measure again."
            )
        fields = dict(record)
        for name in GRIDS:
            fields[name] = _points(record[name])
        fields["products"] = {kind: _points(points) for kind, points in record["products"].items()}
        return cls(**fields)


def _points(rows: Sequence[Sequence[float]]) -> Points:
    return tuple(tuple(row) for row in rows)


def measure(
    device: str = "cpu", *, seconds: float = 4.0, precisions: Sequence[Precision] | None = None
) -> Ceilings:
    """This machine's ceilings, with as many threads as torch has now.

    See `dlrm_mini.profiling.ceilings_measured`, which it imports: what is timed, and how.

    Args:
        device: "cpu" or "cuda".
        seconds: about how long it takes on two cores.
        precisions: of products; None: float32 and bfloat16, and float16 on a GPU.

    Raises:
        UserError: another device, or CUDA where there is none.
    """
    from dlrm_mini.profiling import ceilings_measured

    return ceilings_measured.measure(device, seconds, precisions)
