"""A progress bar that suits its reader: a notebook, a terminal, a log file, or nobody."""

import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

from tqdm.auto import tqdm
from tqdm.std import tqdm as text_tqdm

LINE = "{desc}: {n_fmt}/{total_fmt}{unit} after {elapsed}, {remaining} left{postfix}"


class _Lines(text_tqdm):  # type: ignore[misc]
    """A bar for a log: each state is a line of its own, and nothing is overwritten."""

    @staticmethod
    def status_printer(file: Any) -> Callable[[str], None]:
        """What tqdm prints a state with."""
        last = ""

        def show(text: str) -> None:
            nonlocal last
            if text.strip() and text != last:
                file.write(("\n" if last else "") + text.strip())  # closing ends the last line
                file.flush()
                last = text

        return show


def shown() -> bool:
    """False when `DLRM_MINI_PROGRESS=off`, as it is where a notebook's outputs are compared.

    Nor does any but the first of the processes that torchrun has started show one.
    """
    if os.environ.get("RANK", "0") != "0":
        return False
    return os.environ.get("DLRM_MINI_PROGRESS", "on").lower() not in ("off", "0", "no")


def in_notebook() -> bool:
    """Whether this process is a notebook's kernel."""
    ipython: Any = sys.modules.get("IPython")  # a kernel has imported it long ago
    shell = ipython.get_ipython() if ipython else None
    return type(shell).__name__ == "ZMQInteractiveShell"


def bar(
    items: Iterable[Any] | None = None,
    *,
    total: int | None = None,
    desc: str = "",
    unit: str = "it",
    disable: bool = False,
    **keywords: Any,
) -> Any:
    """A tqdm bar over `items` (or one to `update` by hand), the same call everywhere.

    In a notebook it is a widget, in a terminal it redraws itself, and in a log (standard error is
    no terminal) it writes a line at most every ten seconds, and one at the end.
    """
    silent = disable or not shown()
    keywords |= {"total": total, "desc": desc, "unit": unit, "disable": silent}
    if in_notebook() or sys.stderr.isatty():
        return tqdm(items, leave=False, **keywords)
    return _Lines(items, mininterval=10, bar_format=LINE, **keywords)
