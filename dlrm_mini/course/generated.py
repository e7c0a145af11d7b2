"""The cells nobody writes: the way to a chapter's neighbours, its buttons, Colab's first cell."""

import re
import tomllib

from nbformat import NotebookNode

from dlrm_mini.course import notebook
from dlrm_mini.course.chapters import GENERATED, Chapter, neighbours
from dlrm_mini.errors import UserError
from dlrm_mini.paths import checkout

HOSTED = re.compile(r"https://github\.com/([\w.-]+)/([\w.-]+?)(?:\.git)?/?$")

COLAB_WITH_ADDRESS = """\
import sys

if "google.colab" in sys.modules:  # elsewhere this cell does nothing
    %pip install -q "dlrm-mini @ git+{address}"
"""
COLAB_WITHOUT_ADDRESS = """\
import sys

if "google.colab" in sys.modules:  # elsewhere this cell does nothing
    raise SystemExit(
        "This copy of the course has no public address to install from: "
        "Repository under project.urls in pyproject.toml sets it."
    )
"""


def public_address() -> str:
    """The repository's address: `Repository` under `project.urls` in pyproject.toml, or empty."""
    root = checkout()
    if root is None:
        return ""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return str(project.get("urls", {}).get("Repository", ""))


def badges(chapter: Chapter, address: str, folder: str = "notebooks") -> str:
    """The buttons that open a chapter in Colab and Binder, as markdown; empty without an address.

    Args:
        chapter: the chapter.
        address: the repository's.
        folder: where in the repository the notebook of that name lies.

    Raises:
        UserError: when the address is no GitHub repository's, the only kind both open by path.
    """
    if not address:
        return ""
    where = HOSTED.match(address)
    if not where:
        raise UserError(
            f"Repository under project.urls in pyproject.toml is {address!r}; Colab and Binder "
            "need https://github.com/OWNER/NAME. Correct it, or leave it out to show no buttons."
        )
    repository, path = f"{where[1]}/{where[2]}", f"{folder}/{chapter.path.name}"
    colab = f"https://colab.research.google.com/github/{repository}/blob/main/{path}"
    binder = f"https://mybinder.org/v2/gh/{repository}/main?urlpath=lab/tree/{path}"
    return (
        "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
        f"({colab}) "
        f"[![Open in Binder](https://mybinder.org/badge_logo.svg)]({binder})"
    )


def colab_cell(address: str) -> str:
    """The first code cell: on Colab it installs the package, elsewhere it does nothing."""
    text = COLAB_WITH_ADDRESS.format(address=address) if address else COLAB_WITHOUT_ADDRESS
    return text.strip()


def navigation(chapter: Chapter) -> str:
    """Links to the chapters before and after, as markdown."""
    before, after = neighbours(chapter)
    ways = [("Previous", before), ("Next", after)]
    there = [f"{word}: [{c.label}]({c.path.name})" for word, c in ways if c]
    return " · ".join(there) or "The only chapter so far."


def way_to_exercises(chapter: Chapter) -> str:
    """The link to a chapter's exercises, as markdown; empty when it has none."""
    folder, name = chapter.path.parent, chapter.path.name
    if not all((folder / kind / name).is_file() for kind in ("exercises", "solutions")):
        return ""
    return (
        f"Exercises: [{chapter.number}](exercises/{name}), each with hints and a check that "
        f"answers at once; [solutions](solutions/{name})"
    )


def for_exercises(nb: NotebookNode, chapter: Chapter, address: str) -> list[NotebookNode]:
    """The generated cells of an exercise notebook: its link to the chapter, and Colab's cell.

    Args:
        nb: the notebook; a cell whose text is already right is taken from it with its outputs.
        chapter: the chapter it belongs to.
        address: the repository's.
    """
    way = f"Exercises to [{chapter.label}](../{chapter.path.name})"
    buttons = badges(chapter, address, "notebooks/exercises")
    wanted = {"colab": colab_cell(address), "nav-top": "\n\n".join(filter(None, [way, buttons]))}
    old = {tag: cell for cell in nb.cells for tag in notebook.tags(cell) & GENERATED}
    return [_cell(tag, text, old.get(tag)) for tag, text in wanted.items()]


def refresh(nb: NotebookNode, chapter: Chapter, address: str) -> None:
    """Put the generated cells of a chapter in place, and bring those that are there up to date.

    The colab cell comes before the first code cell of the author's. A cell whose text is already
    right keeps its outputs.
    """
    wanted = _sources(chapter, address)
    old = {tag: cell for cell in nb.cells for tag in notebook.tags(cell) & GENERATED}
    cells = [cell for cell in nb.cells if not notebook.tags(cell) & GENERATED]
    first = next((i for i, c in enumerate(cells) if c.cell_type == "code"), len(cells))
    cells.insert(first, _cell("colab", wanted["colab"], old.get("colab")))
    cells.insert(0, _cell("nav-top", wanted["nav-top"], old.get("nav-top")))
    cells.append(_cell("nav-bottom", wanted["nav-bottom"], old.get("nav-bottom")))
    nb.cells = cells


def problems(nb: NotebookNode, chapter: Chapter, address: str) -> list[str]:
    """Which generated cells are missing, twice there, misplaced or out of date."""
    found = []
    for tag, text in _sources(chapter, address).items():
        places = [i for i, cell in enumerate(nb.cells) if tag in notebook.tags(cell)]
        if len(places) != 1:
            found.append(f"{len(places)} cells are tagged {tag}, expected 1")
        elif nb.cells[places[0]].source != text:
            found.append(f"cell {places[0]} ({tag}) is out of date")
        elif tag != "colab" and places[0] != {"nav-top": 0, "nav-bottom": len(nb.cells) - 1}[tag]:
            found.append(f"cell {places[0]} ({tag}) is not at its end of the notebook")
        elif tag == "colab" and any(c.cell_type == "code" for c in nb.cells[: places[0]]):
            found.append(f"cell {places[0]} (colab) is not the first code cell")
    return [f"{text}: run `make notebooks`" for text in found]


def _sources(chapter: Chapter, address: str) -> dict[str, str]:
    top = "\n\n".join(filter(None, [navigation(chapter), badges(chapter, address)]))
    bottom = [way_to_exercises(chapter), navigation(chapter)]
    return {
        "nav-top": top,
        "colab": colab_cell(address),
        "nav-bottom": "---\n\n" + "\n\n".join(filter(None, bottom)),
    }


def _cell(tag: str, source: str, old: NotebookNode | None) -> NotebookNode:
    if old is not None and old.source == source:
        return old
    cell = {"id": tag, "metadata": {"tags": [tag]}, "source": source}
    if tag == "colab":
        # Elsewhere than on Colab the cell gives nothing, so a new text needs no new run.
        count = None if old is None else old.get("execution_count")
        return notebook.node({**cell, "cell_type": "code", "execution_count": count, "outputs": []})
    return notebook.node({**cell, "cell_type": "markdown"})
