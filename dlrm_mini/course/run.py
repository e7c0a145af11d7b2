"""Run the course: every chapter in a fresh kernel, its pages, and a table of what it measured."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dlrm_mini.course import chapters, notebook, pages
from dlrm_mini.course.execute import CellFailed, execute
from dlrm_mini.course.progress import Progress, say
from dlrm_mini.errors import UserError
from dlrm_mini.paths import build_dir

COLUMNS = ("value", "unit", "spread", "seeds", "split", "chapter")


def run_course(only: Sequence[str] | None = None, folder: Path | None = None) -> int:
    """Execute the chapters in order and write `build/html/` and `build/results.json`.

    A full run starts the results afresh and writes the index; a run of some chapters adds to them.

    Args:
        only: the numbers of the chapters to run; all when None.
        folder: where the notebooks are; the course's own when None.

    Returns:
        The exit status: 1 when a cell failed, which ends the run.

    Raises:
        UserError: when there is no such chapter, or no chapter at all.
    """
    course = chapters.read_order(folder)
    if not course:
        raise UserError("There are no chapters to run: notebooks/ has no NN_name.ipynb.")
    chosen = chapters.select(only, folder)
    site, results = build_dir() / "html", build_dir() / "results.json"
    results.parent.mkdir(parents=True, exist_ok=True)
    if not only:
        for old in results.parent.glob("results*.json"):  # the verdicts lie beside the results
            old.unlink()
    done: list[tuple[chapters.Chapter, float]] = []
    for chapter in chosen:
        nb = notebook.read(chapter.path)
        progress = Progress(chapter.label)
        env = {"DLRM_MINI_RESULTS": str(results)}
        try:
            execute(nb, chapter.path.parent, label=chapter.label, env=env, on_cell=progress.update)
        except CellFailed as failure:
            progress.finish("FAILED")
            say(f"\n{failure}")
            return 1
        pages.write_page(nb, chapter, course, site)
        progress.finish("ok")
        done.append((chapter, progress.seconds))
    page = site / f"{chosen[0].name}.html" if only else pages.write_index(done, site)
    say(f"\nThe executed pages: {page}")
    say(results_table(results))
    return 0


def results_table(path: Path) -> str:
    """The recorded results as a table in plain text."""
    if not path.is_file():
        return "The chapters recorded no results."
    found: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    rows = [["result", *COLUMNS]]
    rows += [[name, *(_text(entry.get(c)) for c in COLUMNS)] for name, entry in found.items()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return f"Recorded in {path}:\n\n" + "\n".join(lines)


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)
