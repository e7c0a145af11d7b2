"""Trained embedding tables in 8 or 4 bits a number, for inference.

Each row is quantised by itself: its numbers become whole steps above its smallest one,
x ~ bias + code * scale with a code in 0..2^bits - 1. A row is kept as bytes, laid out as in FBGEMM
(and in `torch.ops.quantized`): the codes, then scale and bias.

- 8 bits: D bytes of codes, scale and bias in float32: D + 8 bytes.
- 4 bits: two codes a byte, the first in the low half, scale and bias in float16:
  ceil(D / 2) + 4 bytes. With an odd D the last half byte is zero.
"""

from collections.abc import Mapping
from typing import Any, Literal, Protocol, Self, Unpack

import torch
from torch import Tensor, nn

from dlrm_mini.errors import UserError
from dlrm_mini.lookup_tables import LookupTables, Options
from dlrm_mini.memory import check_fits

Bits = Literal[8, 4]
HEADER: dict[int, torch.dtype] = {8: torch.float32, 4: torch.float16}  # of scale and bias
CHUNK = 1 << 16  # rows that are quantised at once, so that no table exists twice in float64


class FullTables(Protocol):
    """What can be quantised: `EmbeddingTables` and all that keeps a row (D,) for each id."""

    cardinalities: dict[str, int]
    dim: int
    pooling: Any
    tables: Any  # feature -> (N_t, D)


class QuantizedTables(LookupTables):
    """Embedding tables of 8 or 4 bits a number; `from_tables` makes them from trained ones.

    Only the rows that a batch looks up are de-quantised, in float32. There is no gradient.

    Args:
        cardinalities: feature -> N_t, its ids.
        dim: D, the width of a vector.
        bits: 8 or 4.
        **options: as in `LookupTables`.

    Raises:
        UserError: as `EmbeddingTables`; another number of bits.

    Example:
        >>> QuantizedTables({"item": 1000}, dim=16, bits=4).n_bytes  # 16 / 2 + 4 bytes a row
        12000
    """

    def __init__(
        self,
        cardinalities: Mapping[str, int],
        dim: int,
        bits: Bits = 8,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(cardinalities, dim, **options)
        if bits not in HEADER:
            raise UserError(f"bits is {bits}; expected 8 or 4.")
        self.bits = bits
        width = _code_bytes(dim, bits) + 2 * HEADER[bits].itemsize
        check_fits(cardinalities, width, bytes_per_number=1)
        self.tables = nn.ParameterDict()  # of bytes, (N_t, row bytes) uint8; all zeros mean zero
        for name, n_rows in cardinalities.items():
            empty = torch.zeros(n_rows, width, dtype=torch.uint8)
            self.tables[name] = nn.Parameter(empty, requires_grad=False)

    @classmethod
    def from_tables(cls, tables: FullTables, bits: Bits = 8) -> Self:
        """Quantise trained tables, which stay as they are.

        Args:
            tables: `EmbeddingTables`, or another module with a row for each id.
            bits: 8 or 4.

        Raises:
            UserError: an entry that is not finite or a row that scale and bias cannot hold, by
                feature and row; a table that does not have a row (D,) for each id.
        """
        made = cls(tables.cardinalities, tables.dim, bits, pooling=tables.pooling)
        for name, n_rows in tables.cardinalities.items():
            table: Tensor = tables.tables[name].detach()
            if table.shape != (n_rows, tables.dim):
                raise UserError(
                    f"The table of feature '{name}' is {tuple(table.shape)}; expected "
                    f"{(n_rows, tables.dim)}: only tables with a row for each id can be quantised."
                )
            kept = made.tables[name].data
            for first in range(0, n_rows, CHUNK):
                rows = quantize(table[first : first + CHUNK], bits, name, first)
                kept[first : first + CHUNK] = rows.to(kept.device)
            made.tables[name].data = kept.to(table.device)
        return made

    def vectors(self, name: str, ids: Tensor) -> Tensor:
        """The de-quantised vectors (V, D) float32 of ids (V,)."""
        return dequantize(self.tables[name][ids], self.dim, self.bits)

    def error_bounds(self, name: str) -> Tensor:
        """How far each row's de-quantised numbers can be from the trained ones, (N_t,) float64.

        Half a step, where a step is the row's scale as it is stored, and what float32 rounds off
        in code * scale + bias.
        """
        scale, bias = (part.double() for part in _header(self.tables[name], self.bits))
        largest = torch.maximum(bias.abs(), (bias + (2**self.bits - 1) * scale).abs())
        return scale / 2 + 2.0**-22 * largest + 2.0**-148  # the last: float32's smallest numbers


def quantize(table: Tensor, bits: Bits, feature: str = "", first_row: int = 0) -> Tensor:
    """Rows of numbers as rows of bytes.

    The bias is the smallest number rounded down, and the scale is rounded up, to what float32 (8
    bits) or float16 (4 bits) can hold. So every number of the row lies between the lowest and the
    highest code, and the nearest code is at most half a (stored) scale away. Against
    (max - min) / (2^bits - 1), the scale grows by float16's relative 2^-10 and by the rounding of
    the bias, 2^-10 |min| / 15, which matters for rows far from zero.

    Args:
        table: (N, D), of any float dtype.
        bits: 8 or 4.
        feature: its name, for messages.
        first_row: the number of the first row, for messages.

    Returns:
        (N, row bytes) uint8 on the CPU.

    Raises:
        UserError: an entry that is not finite, or a row that scale and bias cannot hold.
    """
    numbers, dtype, levels = table.detach().cpu().double(), HEADER[bits], 2**bits - 1
    if (row := _first(~numbers.isfinite().all(1))) is not None:
        raise UserError(
            f"Row {first_row + row} of the table of feature '{feature}' has an entry that is "
            "not finite; expected finite numbers. The training that made it went wrong: quantise "
            "an earlier checkpoint."
        )
    low, high = numbers.aminmax(dim=1)
    bias = _rounded(low, dtype, down=True)
    scale = _rounded((high - bias.double()) / levels, dtype, down=False)
    # What is added to the bias later must be finite, and is not if the bias itself is infinite.
    if (row := _first(~(scale.float() * levels).isfinite())) is not None:
        raise UserError(
            f"Row {first_row + row} of the table of feature '{feature}' runs from "
            f"{low[row]:.4g} to {high[row]:.4g}, more than {bits} bits can hold: scale "
            f"and bias are {dtype}, which ends at {torch.finfo(dtype).max:.4g}. "
            + ("Use 8 bits, or train" if bits == 4 else "Train")
            + " with weight decay or a lower learning rate."
        )
    steps = torch.where(scale > 0, scale.double(), 1.0)[:, None]
    codes = ((numbers - bias.double()[:, None]) / steps).round().clamp(0, levels).to(torch.uint8)
    if bits == 4:
        codes = nn.functional.pad(codes, (0, codes.shape[1] % 2))
        codes = codes[:, 0::2] | (codes[:, 1::2] << 4)
    header = torch.stack([scale, bias], dim=1)  # (N, 2)
    return torch.cat([codes, header.view(torch.uint8)], dim=1)


def dequantize(rows: Tensor, dim: int, bits: Bits) -> Tensor:
    """Rows of bytes as rows of numbers: code * scale + bias in float32.

    Args:
        rows: (V, row bytes) uint8, as `quantize` returns them.
        dim: D.
        bits: 8 or 4.

    Returns:
        (V, D) float32.
    """
    codes = rows[:, : _code_bytes(dim, bits)]
    if bits == 4:
        codes = torch.stack([codes & 15, codes >> 4], dim=2).flatten(1)[:, :dim]
    scale, bias = (part.float()[:, None] for part in _header(rows, bits))
    return codes.float() * scale + bias


def _header(rows: Tensor, bits: Bits) -> tuple[Tensor, Tensor]:
    """Scale and bias, (V,) each, of rows of bytes."""
    size = 2 * HEADER[bits].itemsize
    header = rows[:, -size:].clone(memory_format=torch.contiguous_format)  # aligned for the view
    scale, bias = header.view(HEADER[bits]).unbind(1)
    return scale, bias


def _code_bytes(dim: int, bits: Bits) -> int:
    """Bytes of a row's codes."""
    return -(-dim * bits // 8)


def _rounded(numbers: Tensor, dtype: torch.dtype, down: bool) -> Tensor:
    """Numbers (N,) float64 in a narrower dtype, never rounded to the other side.

    A number beyond the dtype's range becomes infinite.
    """
    near = numbers.to(dtype)
    wrong = near.double() > numbers if down else near.double() < numbers
    towards = torch.full_like(near, -torch.inf if down else torch.inf)
    return torch.where(wrong & near.isfinite(), torch.nextafter(near, towards), near)


def _first(found: Tensor) -> int | None:
    """The place of the first True, (N,) bool."""
    return int(found.int().argmax()) if bool(found.any()) else None
