"""An .ipynb file in memory and back, with bytes that depend on its content only."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode
from nbformat.v4.rwbase import rejoin_lines

from dlrm_mini.errors import UserError

METADATA = {
    "kernelspec": {
        "display_name": "Python 3 (ipykernel)",
        "language": "python",
        "name": "python3",
    },
    "language_info": {"name": "python"},
}


def node(value: Mapping[str, Any]) -> NotebookNode:
    """A deep copy of a notebook or a part of it, whose keys can be read as attributes."""
    copied: NotebookNode = nbformat.from_dict(value)  # type: ignore[no-untyped-call]
    return copied


def read(path: Path) -> NotebookNode:
    """Read a notebook as it is (nbformat's own reader would invent random ids for its cells).

    Raises:
        UserError: when the file is missing or not a version 4 notebook.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        version = found.get("nbformat")
    except FileNotFoundError:
        raise UserError(f"There is no notebook {path}.") from None
    except (ValueError, AttributeError) as error:
        raise UserError(
            f"{path} is not a notebook: {error}. Restore it with "
            f"`git checkout notebooks/{path.name}`."
        ) from None
    if version != 4:
        raise UserError(
            f"{path} has notebook format {version!r}, expected 4: open and save it in JupyterLab."
        )
    whole: NotebookNode = rejoin_lines(node(found))  # type: ignore[no-untyped-call]
    return whole


def dumps(notebook: NotebookNode) -> str:
    """The text of a notebook's file."""
    text = nbformat.writes(notebook, version=4)  # type: ignore[no-untyped-call]
    return str(text).rstrip("\n") + "\n"


def save(path: Path, notebook: NotebookNode) -> bool:
    """Write the notebook when that changes the file; says whether it did."""
    text = dumps(notebook)
    if path.is_file() and path.read_bytes() == text.encode("utf-8"):
        return False
    path.write_text(text, encoding="utf-8", newline="\n")
    return True


def tags(cell: NotebookNode) -> frozenset[str]:
    """The tags in a cell's metadata."""
    return frozenset(cell.get("metadata", {}).get("tags", ()))


def code_cells(notebook: NotebookNode) -> Iterator[tuple[int, NotebookNode]]:
    """The cells a kernel runs, with their positions: code, and not empty."""
    for position, cell in enumerate(notebook.cells):
        if cell.cell_type == "code" and cell.source.strip():
            yield position, cell


def normalise(notebook: NotebookNode) -> None:
    """Keep ids that are there and unique, number the others by position; keep only tags.

    What else a tool or a machine leaves in the metadata goes: timing, scroll state, widget state,
    the exact Python version. `nbgrader`'s part stays, because exercises live in it.
    """
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    notebook.metadata = node(METADATA)
    taken = {cell.get("id") for cell in notebook.cells}
    seen: set[str] = set()
    for position, cell in enumerate(notebook.cells):
        kept = {k: v for k, v in cell.metadata.items() if k in ("tags", "nbgrader", "made_from")}
        cell.metadata = node(kept)
        if not cell.get("id") or cell.id in seen:
            names = (
                f"cell-{position:02d}{suffix}" for suffix in ("", *"bcdefghijklmnopqrstuvwxyz")
            )
            cell["id"] = next(name for name in names if name not in taken)
            taken.add(cell["id"])
        seen.add(cell["id"])
