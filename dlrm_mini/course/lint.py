"""What can be seen wrong in a committed notebook without running it."""

import ast
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from nbformat import NotebookNode

from dlrm_mini.course import chapters, generated, links, notebook, outputs
from dlrm_mini.course.compare import VOLATILE

# Ways around the comparison: the tags `timing` and `machine` are the only ones a chapter may take.
QUESTIONS = "questions"  # tags the cell of folded questions that ends a chapter
FORBIDDEN = {"nbval-skip", "nbval-ignore-output", "skip-execution", "raises-exception"}


@dataclass(frozen=True)
class Budget:
    """How large a notebook may be.

    Attributes:
        cells: fewest and most cells.
        words: most words of markdown, the generated cells and the questions not counted.
        questions: fewest and most questions at a chapter's end.
        question_words: most words of the questions with their answers.
        lines: most lines of a code cell.
        class_lines: most lines of a code cell that is one class.
        columns: longest line of code; a projector shows no more.
        size: most bytes of the file.
        seconds: the longest a run may take.
    """

    cells: tuple[int, int] = (35, 65)
    words: int = 2500
    questions: tuple[int, int] = (8, 12)
    question_words: int = 1100
    lines: int = 25
    class_lines: int = 45
    columns: int = 88
    size: int = 500_000
    seconds: float = 60.0


def budget(path: Path) -> Budget:
    """The budget of a notebook: 00 may be shorter, and so may one that is no chapter.

    Chapter 15 takes less than a minute by the clock on two idle cores; on busy ones the processor
    decides, and its processes keep both cores at work.
    """
    if not chapters.is_chapter(path):
        return Budget(cells=(1, 65))
    special = {"00": Budget(cells=(12, 65)), "15": Budget(seconds=90.0)}
    return special.get(path.name[:2], Budget())


def problems(path: Path, limits: Budget | None = None) -> list[str]:
    """Everything wrong with a notebook as it is stored; an empty list when nothing is.

    Args:
        path: the .ipynb file.
        limits: the budget; the notebook's own when None.
    """
    nb, limits = notebook.read(path), limits or budget(path)
    found = [
        *_size(path, nb, limits),
        *_execution(nb),
        *_traces(nb),
        *_links(path, nb),
        *_unseen(nb),
    ]
    if chapters.is_chapter(path):
        chapter = chapters.find(path.name[:2], path.parent)
        found += generated.problems(nb, chapter, generated.public_address())
    return found


def source_digest(source: str) -> str:
    """The fingerprint that ties a volatile cell's stored outputs to the source that gave them."""
    return hashlib.sha256(source.encode()).hexdigest()[:12]


def _size(path: Path, nb: NotebookNode, limits: Budget) -> list[str]:
    found = []
    fewest, most = limits.cells
    if not fewest <= len(nb.cells) <= most:
        found.append(f"{len(nb.cells)} cells, expected {fewest} to {most}")
    prose = [c for c in nb.cells if c.cell_type == "markdown"]
    own = [c for c in prose if not notebook.tags(c) & {*chapters.GENERATED, QUESTIONS}]
    words = _words(own)
    if words > limits.words:
        found.append(f"{words} words of markdown, at most {limits.words}")
    if chapters.is_chapter(path):
        found += _questions([c for c in prose if QUESTIONS in notebook.tags(c)], limits)
    size = path.stat().st_size
    if size >= limits.size:
        found.append(f"the file has {size:,} bytes, expected under {limits.size:,}")
    for position, cell in notebook.code_cells(nb):
        lines = len(cell.source.strip().splitlines())
        allowed = limits.class_lines if _is_class(cell.source) else limits.lines
        if lines > allowed:
            found.append(f"cell {position} has {lines} lines of code, at most {allowed}")
        longest = max(map(len, cell.source.splitlines()), default=0)
        if longest > limits.columns:
            found.append(f"cell {position} is {longest} columns wide, at most {limits.columns}")
    return found


def _questions(cells: list[NotebookNode], limits: Budget) -> list[str]:
    if len(cells) != 1:
        return [f"{len(cells)} cells are tagged {QUESTIONS}, expected 1"]
    found, (fewest, most) = [], limits.questions
    number = len(re.findall(r"<details>\s*<summary>", cells[0].source))
    if not fewest <= number <= most:
        found.append(f"{number} questions at its end, expected {fewest} to {most}")
    if (words := _words(cells)) > limits.question_words:
        found.append(f"{words} words of questions and answers, at most {limits.question_words}")
    return found


def _words(cells: list[NotebookNode]) -> int:
    return sum(bool(re.search(r"\w", word)) for c in cells for word in c.source.split())


def _execution(nb: NotebookNode) -> list[str]:
    found = []
    cells = list(notebook.code_cells(nb))
    counts = [cell.execution_count for _, cell in cells]
    if counts != list(range(1, len(cells) + 1)):
        found.append(
            f"not run from top to bottom in a fresh kernel: the cells' counts are {counts}"
        )
    for position, cell in cells:
        tags = notebook.tags(cell)
        if any(output.output_type == "error" for output in cell.outputs):
            found.append(f"cell {position} ends in an error")
        if tags & FORBIDDEN or re.search(r"^\s*#+\s*(?:NBVAL|PYTEST_VALIDATE)_", cell.source, re.M):
            found.append(f"cell {position} escapes its check: use the tag `timing` or `machine`")
        made_from = cell.metadata.get("made_from")
        if tags & VOLATILE and made_from != source_digest(cell.source):
            found.append(f"cell {position} was edited after its outputs were made")
    return found


def _traces(nb: NotebookNode) -> list[str]:
    """Traces of one machine or one run."""
    found = []
    if nb.metadata.get("widgets"):
        found.append("widget state is stored, which holds random ids")
    for position, cell in enumerate(nb.cells):
        texts = [cell.source]
        for output in cell.get("outputs", []):
            texts += outputs.texts(output)
            if outputs.WIDGET in output.get("data", {}):
                found.append(f"cell {position} stores a widget by its random id")
        for text in texts:
            found += [f"cell {position} shows the path {p}" for p in outputs.machine_paths(text)]
            if address := outputs.ADDRESS.search(text):
                found.append(f"cell {position} shows the memory address {address[0][3:]}")
    return [f"{text}: run `make notebooks`" if "stores" in text else text for text in found]


def _links(path: Path, nb: NotebookNode) -> list[str]:
    found = []
    for position, cell in enumerate(nb.cells):
        if cell.cell_type != "markdown":
            continue
        for target in links.relative(cell.source):
            if why := links.problem(target, path, nb):
                found.append(f"cell {position} links to {target}, which {why}")
    return found


def _unseen(nb: NotebookNode) -> list[str]:
    """Pictures that say nothing to somebody who cannot see them."""
    found = []
    for position, cell in enumerate(nb.cells):
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}) and not outputs.alternative(output):
                found.append(f"cell {position} has a picture without a description: "
                             "draw it after style.use(), then run `make notebooks`")  # fmt: skip
        if cell.cell_type == "markdown" and (picture := links.unseen(cell.source)):
            found.append(f"cell {position} has no alternative text for {picture}")
    return found


def _is_class(source: str) -> bool:
    try:
        body = ast.parse(source).body
    except SyntaxError:  # an IPython magic
        return False
    return len(body) == 1 and isinstance(body[0], ast.ClassDef)
