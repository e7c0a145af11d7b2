"""What the tests of a chapter's checks are written in: right answers and plausible wrong ones."""

import ast
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlrm_mini.course import exercises, notebook


@dataclass(frozen=True)
class Wrong:
    """A plausible mistake.

    Attributes:
        name: what is wrong with it; the test's id.
        answer: the function or class.
        says: a part of the sentence that the check must answer it with.
    """

    name: str
    answer: Callable[..., Any]
    says: str


def solved(path: Path) -> dict[str, Any]:
    """The names a solution notebook has defined once its set-up and solution cells have run.

    The check cells are left out: the tests call the checks themselves.
    """
    nb = notebook.read(path)
    names: dict[str, Any] = {"__name__": "__main__"}
    for _, cell in notebook.code_cells(nb):
        if not notebook.tags(cell) & {"check", "colab"}:
            source = re.sub(r"^\s*%.*$", "", cell.source, flags=re.MULTILINE)
            exec(compile(ast.parse(source), path.name, "exec"), names)
    return names


def asked(path: Path) -> list[tuple[exercises.Exercise, str, str]]:
    """Each exercise of a master with the names of its check and of the answer."""
    return list(exercises.checks(notebook.read(path), path.name))
