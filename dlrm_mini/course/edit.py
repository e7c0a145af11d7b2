"""Edit a chapter as text: cells in jupytext's percent form, one `# %%` a cell, tags behind it."""

import difflib
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import jupytext
from nbformat import NotebookNode

from dlrm_mini.course import chapters, generated, notebook
from dlrm_mini.course.progress import say
from dlrm_mini.course.writer import rewrite_course
from dlrm_mini.errors import UserError
from dlrm_mini.paths import build_dir, checkout

FORM = {"extension": ".py", "format_name": "percent"}
FILTERS = {"cell_metadata_filter": "tags,nbgrader,-all", "notebook_metadata_filter": "-all"}


def edit(number: str) -> int:
    """Open a chapter's text in the editor, wait, write it back, run the chapter and store it.

    Returns:
        The exit status of the rewriting, 0 when nothing was changed.

    Raises:
        UserError: when no editor is set, or it fails.
        CellFailed: when a cell fails; the edited source is in the notebook by then.
    """
    chapter = chapters.find(number)
    command = _editor()
    text = to_text(chapter.path)
    before = text.read_bytes()
    say(f"Editing {text}")
    try:
        status = subprocess.run([*command, str(text)]).returncode
    except OSError as error:
        raise UserError(
            f"The editor {command[0]} cannot be started ({error.strerror}). Set EDITOR to one that "
            f"can; {chapter.path.name} is as it was."
        ) from error
    if status != 0:
        raise UserError(f"The editor {command[0]} failed; {chapter.path.name} is as it was.")
    if text.read_bytes() == before:
        say("Nothing was changed.")
        return 0
    from_text(text, chapter.path)
    return rewrite_course([chapter.number])


def to_text(path: Path) -> Path:
    """Write the text form of a notebook, without its generated cells, into `build/edit/`."""
    nb = notebook.read(path)
    nb.cells = [cell for cell in nb.cells if not notebook.tags(cell) & chapters.GENERATED]
    nb.metadata = notebook.node({"jupytext": FILTERS, **notebook.METADATA})
    target = build_dir() / "edit" / f"{path.stem}.py"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(jupytext.writes(nb, FORM), encoding="utf-8", newline="\n")
    return target


def from_text(text: Path, path: Path) -> None:
    """Write a text form back into a notebook, or make a new one of it.

    A cell that did not change keeps its id and outputs; one that changed in place keeps its id.
    The generated cells are put in; nothing is run.

    Args:
        text: the percent form.
        path: the .ipynb file; made when it is missing.
    """
    new = jupytext.reads(text.read_text(encoding="utf-8"), FORM)
    for cell in new.cells:
        cell.pop("id", None)  # random
    if path.is_file():
        _carry_over(notebook.read(path), new)
    if chapters.is_chapter(path):
        if not path.is_file():  # the chapters are found by file
            notebook.normalise(new)
            notebook.save(path, new)
        chapter = chapters.find(path.name[:2], path.parent)
        generated.refresh(new, chapter, generated.public_address())
    notebook.normalise(new)
    notebook.save(path, new)


def enable_nbdime() -> bool:
    """Set this clone's git to show and merge notebooks with nbdime, as .gitattributes asks for.

    Returns:
        False when this is not a git clone: then there is nothing to set.
    """
    root, git = checkout(), shutil.which("git")
    if root is None or git is None or not (root / ".git").exists():
        return False
    python = shlex.quote(Path(sys.executable).as_posix())  # git runs it with sh, on Windows too
    settings = {
        "diff.jupyternotebook.command": f"{python} -m nbdime.vcs.git.diffdriver diff",
        "merge.jupyternotebook.driver": (
            f"{python} -m nbdime.vcs.git.mergedriver merge %O %A %B %L %P"
        ),
        "merge.jupyternotebook.name": "jupyter notebook merge driver",
    }
    for name, value in settings.items():
        subprocess.run([git, "config", "--local", name, value], cwd=root, check=True)
    return True


def _carry_over(old: NotebookNode, new: NotebookNode) -> None:
    """Give each new cell the id of its old one, and all the rest where it is unchanged."""
    before = [cell for cell in old.cells if not notebook.tags(cell) & chapters.GENERATED]
    a, b = ([(c.cell_type, c.source) for c in cells] for cells in (before, new.cells))
    matcher = difflib.SequenceMatcher(None, a, b, autojunk=False)
    for what, i1, i2, j1, j2 in matcher.get_opcodes():
        if what in ("equal", "replace"):
            for one, other in zip(before[i1:i2], new.cells[j1:j2], strict=False):
                if one.cell_type != other.cell_type:
                    continue
                if "id" in one:
                    other["id"] = one.id
                if one.source == other.source:
                    for part in ("outputs", "execution_count", "attachments"):
                        if part in one:
                            other[part] = one[part]
                    if "made_from" in one.metadata:
                        other.metadata["made_from"] = one.metadata["made_from"]
    new.cells += [cell for cell in old.cells if notebook.tags(cell) & chapters.GENERATED]


def _editor() -> list[str]:
    chosen = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    if chosen:
        return shlex.split(chosen, posix=os.name != "nt")
    if os.name == "nt":
        return ["notepad"]
    raise UserError(
        "No editor is set: EDITOR and VISUAL are empty. Set one, for example `export EDITOR=nano`."
    )
