"""The chapters of the course, found by their file names `notebooks/NN_name.ipynb`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nbformat import NotebookNode

from dlrm_mini.course import notebook
from dlrm_mini.errors import UserError
from dlrm_mini.paths import course_file

GENERATED = frozenset({"nav-top", "nav-bottom", "colab"})  # tags of the cells the writer maintains


@dataclass(frozen=True)
class Chapter:
    """One notebook of the course.

    Attributes:
        number: its two digits, such as "02".
        path: the .ipynb file.
        title: its first heading, without the number.
        question: the first sentence of its text that asks something; may be empty.
    """

    number: str
    path: Path
    title: str
    question: str

    @property
    def name(self) -> str:
        """The file's name without its ending, such as "02_matrix_factorization"."""
        return self.path.stem

    @property
    def label(self) -> str:
        """Number and title, such as "02 Matrix factorization"."""
        return f"{self.number} {self.title}"


def is_chapter(path: Path) -> bool:
    """Whether a path is a chapter (an exercise or a solution notebook is not)."""
    return path.parent.name == "notebooks" and re.match(r"\d\d_.+\.ipynb$", path.name) is not None


def read_order(folder: Path | None = None) -> list[Chapter]:
    """All chapters in the order they are read.

    Args:
        folder: where the notebooks are; the course's own `notebooks/` when None.

    Raises:
        UserError: when two chapters have the same number.
    """
    folder = folder or course_file("notebooks")
    chapters = [_chapter(path) for path in sorted(folder.glob("*.ipynb")) if is_chapter(path)]
    numbers = [chapter.number for chapter in chapters]
    for number in numbers:
        if numbers.count(number) > 1:
            names = [c.path.name for c in chapters if c.number == number]
            raise UserError(f"Chapter {number} is there twice: {', '.join(names)}. Rename one.")
    return chapters


def find(number: str, folder: Path | None = None) -> Chapter:
    """The chapter of that number; "2" means "02".

    Raises:
        UserError: when there is none.
    """
    chapters = read_order(folder)
    for chapter in chapters:
        if chapter.number == number.zfill(2):
            return chapter
    there = ", ".join(chapter.label for chapter in chapters) or "none yet"
    raise UserError(f"There is no chapter {number}. The chapters are: {there}.")


def select(numbers: Sequence[str] | None, folder: Path | None = None) -> list[Chapter]:
    """The chapters of these numbers, or all of them for None, in the order they are read.

    Raises:
        UserError: when one of the numbers has no chapter.
    """
    if not numbers:
        return read_order(folder)
    return sorted((find(number, folder) for number in numbers), key=lambda c: c.number)


def neighbours(chapter: Chapter) -> tuple[Chapter | None, Chapter | None]:
    """The chapters read before and after this one."""
    chapters = read_order(chapter.path.parent)
    place = [c.number for c in chapters].index(chapter.number)
    before = chapters[place - 1] if place else None
    after = chapters[place + 1] if place + 1 < len(chapters) else None
    return before, after


def _chapter(path: Path) -> Chapter:
    text = _prose(notebook.read(path))
    heading = re.search(r"^#\s+(?:Chapter\s+)?(?:\d\d\b)?[\W_]*(.+?)\s*$", text, re.MULTILINE)
    title = heading[1] if heading else path.stem[3:].replace("_", " ").capitalize()
    body = text[heading.end() :] if heading else text
    asked = re.search(
        r"(?:^|(?<=[.!?:]\s))[^.!?:#]*\?", re.sub(r"^>|[*_`]|\s+", " ", body, flags=re.MULTILINE)
    )
    question = " ".join(asked[0].split()) if asked else ""
    return Chapter(path.stem[:2], path, title, question)


def _prose(nb: NotebookNode) -> str:
    own = (c for c in nb.cells if c.cell_type == "markdown" and not notebook.tags(c) & GENERATED)
    return "\n\n".join(cell.source for cell in own)
