"""One line of progress a notebook: in place in a terminal, once in a log."""

import sys
import time


def say(text: str = "") -> None:
    """Print, with a question mark for a character that this output cannot encode."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "replace").decode(encoding), flush=True)


class Progress:
    """The line of one notebook: its label, cells done of all, seconds.

    Args:
        label: what the line is about.
    """

    def __init__(self, label: str) -> None:
        self.label = label
        self.cells = "0/?"
        self.started = time.monotonic()
        self._live = sys.stdout.isatty()

    @property
    def seconds(self) -> float:
        """The time since the line began."""
        return time.monotonic() - self.started

    def update(self, done: int, total: int) -> None:
        """Say that so many cells are done."""
        self.cells = f"{done}/{total}"
        if self._live:
            sys.stdout.write("\r" + self._line())
            sys.stdout.flush()

    def finish(self, word: str) -> None:
        """End the line with a word."""
        say(("\r" if self._live else "") + f"{self._line()}  {word}")

    def _line(self) -> str:
        return f"{self.label[:40]:<40} {self.cells:>7} cells {self.seconds:6.1f} s"
