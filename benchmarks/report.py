"""What a benchmark hands back, and the file and table it ends in."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One number of one arm.

    Attributes:
        benchmark: its name.
        arm: what was measured, such as `ours`.
        metric: what was measured of it, such as `rmse`.
        value: the number.
        spread: standard deviation over the benchmark's repetitions; None when there is one.
        unit: of `value` and `spread`; empty for a pure number.
        hardware: as `dlrm_mini.hardware.describe` gives it.
        versions: of Python and the packages that did the work.
    """

    benchmark: str
    arm: str
    metric: str
    value: float
    spread: float | None
    unit: str
    hardware: dict[str, str | int]
    versions: dict[str, str]


def write(rows: list[Row], path: Path) -> Path:
    """Write the rows as a JSON list, replacing an earlier file as a whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    text = json.dumps([asdict(row) for row in rows], indent=1, allow_nan=False)
    part.write_text(text + "\n", encoding="utf-8")
    part.replace(path)
    return path


def table(rows: list[Row]) -> str:
    """The rows as text, one line each."""
    lines = [f"{'benchmark':<12}{'arm':<16}{'metric':<8}{'value':>9}{'spread':>9}  unit"]
    for row in rows:
        spread = "" if row.spread is None else f"{row.spread:.4f}"
        lines.append(
            f"{row.benchmark:<12}{row.arm:<16}{row.metric:<8}{row.value:>9.4f}{spread:>9}"
            f"  {row.unit}"
        )
    return "\n".join(lines)
