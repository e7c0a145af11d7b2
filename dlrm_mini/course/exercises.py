"""Exercise notebooks: the master holds the solutions, the student's version is made from it.

A master, `notebooks/solutions/NN_name.ipynb`, tags its cells `solution` (a function whose body
stands between `### BEGIN SOLUTION` and `### END SOLUTION`) and `check` (the next cell). What
nbgrader wants to know of each cell is filled in from that, and nbgrader's own preprocessors make
the student's version, `notebooks/exercises/NN_name.ipynb`: stubs, locked checks, points.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbformat import NotebookNode

from dlrm_mini.course import chapters, generated, notebook
from dlrm_mini.course.progress import say
from dlrm_mini.course.writer import rewrite
from dlrm_mini.errors import UserError
from dlrm_mini.paths import course_file

POINTS = {"warm-up": 1, "medium": 2, "hard": 3}
HEADING = re.compile(r"^## Exercise (?P<number>\d) · (?P<title>.+)$", re.MULTILINE)
EFFORT = re.compile(
    r"^\*(?P<difficulty>warm-up|medium|hard) · (?P<minutes>\d+) minutes\*$", re.MULTILINE
)
DEFINED = re.compile(r"^(?:def|class) (\w+)", re.MULTILINE)


@dataclass(frozen=True)
class Exercise:
    """One exercise of a master.

    Attributes:
        number: its place, from 1.
        title: its heading.
        difficulty: a key of `POINTS`.
        minutes: how long it takes.
        text: the markdown of its heading's cell and those up to the solution.
        solution: the position of the cell with the solution.
        check: the position of the cell after it.
    """

    number: int
    title: str
    difficulty: str
    minutes: int
    text: str
    solution: int
    check: int


def masters(only: Sequence[str] | None = None, folder: Path | None = None) -> list[Path]:
    """The solution notebooks of the chapters of these numbers, or all, in order.

    Raises:
        UserError: when one of the numbers has none.
    """
    folder = folder or course_file("notebooks") / "solutions"
    there = {path.name[:2]: path for path in sorted(folder.glob("[0-9][0-9]_*.ipynb"))}
    wanted = [number.zfill(2) for number in only or there]
    for number in wanted:
        if number not in there:
            raise UserError(
                f"Chapter {number} has no solutions in {folder.name}/; those of "
                f"{', '.join(there) or 'no chapter'} are there."
            )
    return [there[number] for number in sorted(wanted)]


def student_path(master: Path) -> Path:
    """Where the student's version of a master lies."""
    return master.parent.parent / "exercises" / master.name


def read(nb: NotebookNode, name: str) -> list[Exercise]:
    """The exercises of a master, in order.

    Raises:
        UserError: when a part is missing or out of place; says which.
    """
    found: list[Exercise] = []
    text, heading = "", None
    for position, cell in enumerate(nb.cells):
        if cell.cell_type == "markdown" and (new := HEADING.search(cell.source)):
            heading, text = new, ""
        if cell.cell_type == "markdown":
            text += cell.source + "\n\n"
        if "solution" not in notebook.tags(cell):
            continue
        effort = EFFORT.search(text)
        after = nb.cells[position + 1] if position + 1 < len(nb.cells) else None
        if heading is None or effort is None:
            raise UserError(
                f"{name}, cell {position}: before a solution come `## Exercise 1 · Title` and "
                "`*warm-up · 5 minutes*` (or medium, hard), each on a line of its own."
            )
        if after is None or "check" not in notebook.tags(after):
            raise UserError(f"{name}, cell {position}: the cell after a solution is its check.")
        number = int(heading["number"])
        if number != len(found) + 1:
            raise UserError(f"{name}: exercise {number} comes where {len(found) + 1} should.")
        effort_and = (effort["difficulty"], int(effort["minutes"]))
        found.append(Exercise(number, heading["title"], *effort_and, text, position, position + 1))
    return found


def complete(nb: NotebookNode, path: Path) -> None:
    """Fill in what follows from the rest, in place: links, the colab cell, nbgrader's metadata."""
    _refresh(nb, path)
    notebook.normalise(nb)
    exercises = read(nb, path.name)
    roles = {e.solution: (e, "solution") for e in exercises}
    roles |= {e.check: (e, "check") for e in exercises}
    for position, cell in enumerate(nb.cells):
        exercise, role = roles.get(position, (None, "read"))
        about: dict[str, Any] = {
            "schema_version": 3,
            "grade": role == "check",
            "solution": role == "solution",
            "locked": role != "solution",
            "task": False,
            "grade_id": f"ch{path.name[:2]}-cell-{position:02d}",
        }
        if exercise is not None:
            about["grade_id"] = f"ch{path.name[:2]}-{exercise.number}-{role}"
        if exercise is not None and role == "check":
            about["points"] = POINTS[exercise.difficulty]
        cell.metadata["nbgrader"] = notebook.node(about)


def student(master: NotebookNode, path: Path) -> NotebookNode:
    """The student's version of a completed master, made by nbgrader's own preprocessors.

    Args:
        master: the completed notebook; left as it is.
        path: its file, for messages.
    """
    from nbconvert.preprocessors import ClearOutputPreprocessor
    from nbgrader.preprocessors import CheckCellMetadata, ComputeChecksums, LockCells

    copy = notebook.node(master)
    for exercise in read(master, path.name):
        _stub(copy.cells[exercise.solution], exercise)
    steps = (
        LockCells(),
        ClearOutputPreprocessor(),  # type: ignore[no-untyped-call]
        CheckCellMetadata(),
        ComputeChecksums(),
    )
    for step in steps:
        copy, _ = step.preprocess(copy, {"language": "python"})
    for cell in copy.cells:
        if cell.cell_type == "code":
            cell.metadata = notebook.node(
                {k: v for k, v in cell.metadata.items() if k != "made_from"}
            )
    return copy


def write(only: Sequence[str] | None = None, folder: Path | None = None) -> int:
    """Execute and store the masters of these chapters, or all, and make the students' versions.

    Returns:
        The exit status, 0.

    Raises:
        CellFailed, UserError: see `writer.rewrite` and `read`.
    """
    for path in masters(only, folder):
        nb = notebook.read(path)
        complete(nb, path)
        notebook.save(path, nb)
        changed = rewrite(path)
        changed |= notebook.save(student_path(path), student(notebook.read(path), path))
        say(f"{path.stem:32} {'rewritten' if changed else 'unchanged'}")
    return 0


def _stub(cell: NotebookNode, exercise: Exercise) -> None:
    from nbgrader.preprocessors import ClearSolutions

    names = DEFINED.findall(cell.source)
    wanted = f"Exercise {exercise.number}: write {' and '.join(names)}"
    clear = ClearSolutions()
    clear.code_stub = {"python": f'# YOUR CODE HERE\nraise NotImplementedError("{wanted}")'}
    clear.preprocess_cell(cell, {"language": "python"}, exercise.solution)


def _refresh(nb: NotebookNode, path: Path) -> None:
    """Put the link to the chapter and the colab cell in place."""
    chapter = chapters.find(path.name[:2], path.parent.parent)
    own = [cell for cell in nb.cells if not notebook.tags(cell) & chapters.GENERATED]
    for cell in generated.for_exercises(nb, chapter, generated.public_address()):
        own.insert(0 if cell.cell_type == "markdown" else _first_code(own), cell)
    nb.cells = own


def _first_code(cells: list[NotebookNode]) -> int:
    return next((i for i, cell in enumerate(cells) if cell.cell_type == "code"), len(cells))


def checks(nb: NotebookNode, name: str) -> Iterator[tuple[Exercise, str, str]]:
    """Of each exercise the names of its check and of the answer, as `chNN.check_x(my_x)` says.

    Raises:
        UserError: when a check cell does not end in such a call.
    """
    for exercise in read(nb, name):
        source = nb.cells[exercise.check].source
        called = re.findall(r"^ch\d\d\.(check_\w+)\((\w+)\)$", source, re.MULTILINE)
        if len(called) != 1:
            raise UserError(
                f"{name}, exercise {exercise.number}: a check cell has one line "
                "chNN.check_something(my_answer)."
            )
        yield exercise, *called[0]
