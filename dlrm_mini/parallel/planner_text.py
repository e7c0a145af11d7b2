"""What a planner says about a table: numbers with units, ranks, and why a table is where it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dlrm_mini.parallel.sharding import Form, Placement

NOTHING = 1e-4  # of a step: a difference that no prediction can tell


def reason(
    here: Placement,
    others: Mapping[Form, float | None],
    now: float,
    whole: int,
    limit: float | None,
) -> str:
    """Why a table is where it is.

    Args:
        here: its placement.
        others: form -> seconds of a step with the table in that form; None: it does not fit.
        now: seconds of a step.
        whole: bytes of the table in one piece.
        limit: bytes that a rank may hold; None: any number.
    """
    number = len(here.ranks)
    place = f"{here.form} over {number} ranks"
    if number < 2:
        place = f"whole on rank {here.ranks[0]}" if here.ranks else "a copy on every rank"
    found = []
    alone = limit is None or whole <= limit
    if not alone:
        assert limit is not None
        found.append(f"{size(whole)} does not fit on one rank of {size(limit)}")
    without = [form for form, s in others.items() if s is None and form != here.form]
    if not alone:
        without = [form for form in without if form in ("row-wise", "column-wise")]
    fitting = {form: s for form, s in others.items() if s is not None and form != here.form}
    if fitting:
        form = min(fitting, key=lambda form: fitting[form])
        more = fitting[form] - now
        found.append(
            f"{form} would add {seconds(more)} to a step of {seconds(now)}"
            if more > NOTHING * now
            else f"{form} would be as fast"
        )
    if without:
        found.append(f"{' and '.join(without)} would not fit")
    return f"{place}: {'; '.join(found)}" if found else place


def held_text(memory: Sequence[float]) -> str:
    """What ranks hold, from the bytes of each."""
    least, most, number = size(min(memory)), size(max(memory)), len(memory)
    if number == 1:
        return f"1 rank holds {most}"
    return f"{number} ranks hold {most if least == most else f'{least} to {most}'} each"


def ranks_text(ranks: Sequence[int], number: int) -> str:
    """Such as "all", "3", "0-7" or "0,2,5"; long lists are cut short."""
    if not ranks or len(ranks) == number > 1:
        return "all"
    ordered = sorted(ranks)
    if len(ordered) > 2 and ordered[-1] - ordered[0] == len(ordered) - 1:
        return f"{ordered[0]}-{ordered[-1]}"
    shown = ",".join(map(str, ordered[:6]))
    return shown + (f",... ({len(ordered)})" if len(ordered) > 6 else "")


def columns(lines: Sequence[Sequence[str]], right: Sequence[int]) -> str:
    """Lines of cells as plain text, the last cell as long as it is.

    Args:
        lines: of equally many cells.
        right: the columns that end, rather than begin, at one place.
    """
    widths = [max(len(line[place]) for line in lines) for place in range(len(lines[0]) - 1)]
    found = []
    for line in lines:
        cells = [
            text.rjust(width) if place in right else text.ljust(width)
            for place, (text, width) in enumerate(zip(line[:-1], widths, strict=True))
        ]
        found.append("  ".join([*cells, line[-1]]))
    return "\n".join(found)


def size(number: float) -> str:
    """Bytes with a unit; kB, MB and GB are powers of 1000."""
    for power, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if abs(number) >= power:
            return f"{number / power:.3g} {unit}"
    return f"{number:.0f} bytes"


def seconds(number: float) -> str:
    """Seconds with a unit."""
    for power, unit in ((1.0, "s"), (1e-3, "ms")):
        if abs(number) >= power:
            return f"{number / power:.3g} {unit}"
    return f"{number / 1e-6:.3g} µs"
