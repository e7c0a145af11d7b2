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
        value: the number; None when there is none, `metric` is then "missing".
        spread: standard deviation over the benchmark's repetitions; None when there is one.
        unit: of `value` and `spread`; empty for a pure number.
        hardware: as `dlrm_mini.hardware.describe` gives it.
        versions: of Python and the packages that did the work.
        note: how the arm was set up; of one that is missing, why.
    """

    benchmark: str
    arm: str
    metric: str
    value: float | None
    spread: float | None
    unit: str
    hardware: dict[str, str | int]
    versions: dict[str, str]
    note: str = ""


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
    wide = max(len(row.benchmark) for row in rows) + 2, max(len(row.arm) for row in rows) + 2
    lines = [f"{'benchmark':<{wide[0]}}{'arm':<{wide[1]}}{'metric':<16}{'value':>9}{'spread':>9}"]
    for row in rows:
        head = f"{row.benchmark:<{wide[0]}}{row.arm:<{wide[1]}}"
        if row.value is None:
            lines.append(head + row.note)
        else:
            spread = "" if row.spread is None else _short(row.spread)
            tail = f"{row.metric:<16}{_short(row.value):>9}{spread:>9}  {row.unit}"
            lines.append(head + tail.rstrip())
    return "\n".join(lines)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4f}"
