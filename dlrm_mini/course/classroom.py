"""A folder that nbgrader works in: its configuration, and the exercises of some chapters."""

from collections.abc import Callable, Sequence
from pathlib import Path

from dlrm_mini.course import chapters, exercises, links, notebook
from dlrm_mini.course.generated import public_address
from dlrm_mini.course.progress import say
from dlrm_mini.errors import UserError

CONFIG = """\
# Configuration of nbgrader for dlrm-mini. The gradebook it makes holds names and grades: keep it
# out of every repository.
c = get_config()  # noqa: F821  nbgrader provides it
c.CourseDirectory.course_id = "dlrm-mini"
c.ClearSolutions.code_stub = {
    "python": '# YOUR CODE HERE\\nraise NotImplementedError("write this first")'
}
c.ExecutePreprocessor.timeout = 120  # seconds a cell; a check takes less than one
"""


def write_classroom(folder: Path, only: Sequence[str] | None = None) -> int:
    """Write `nbgrader_config.py` and `source/NN_name/NN_name.ipynb` of these chapters, or all.

    Args:
        folder: where; new, or made by this command before, then the sources are renewed.
        only: the numbers of the chapters.

    Returns:
        The exit status, 0.

    Raises:
        UserError: the folder holds something else, or a chapter has no exercises.
    """
    config = folder / "nbgrader_config.py"
    if folder.exists() and not config.is_file() and any(folder.iterdir()):
        raise UserError(
            f"{folder} holds other things and no nbgrader_config.py. Name a new folder."
        )
    masters = exercises.masters(only)
    for master in masters:
        nb = notebook.read(master)
        nb.cells = [c for c in nb.cells if not notebook.tags(c) & chapters.GENERATED]
        for cell in nb.cells:
            if cell.cell_type == "markdown":
                cell.source = links.rewrite(cell.source, _from_everywhere(master))
        target = folder / "source" / master.stem / master.name
        target.parent.mkdir(parents=True, exist_ok=True)
        notebook.save(target, nb)
    if not config.is_file():
        config.write_text(CONFIG, encoding="utf-8")
    first = masters[0].stem
    say(
        f"{folder} holds {len(masters)} assignments. In it:\n"
        f"  nbgrader generate_assignment {first}   # release/ goes to the class\n"
        f"  nbgrader autograde {first}             # reads submitted/STUDENT/{first}/\n"
        f"  nbgrader generate_feedback {first}     # a page for each student\n"
        "  nbgrader export                        # grades.csv"
    )
    return 0


def _from_everywhere(master: Path) -> Callable[[str], str]:
    """How a relative link is written in a sheet that leaves its repository."""
    root, address = master.parents[2], public_address().rstrip("/")

    def change(target: str) -> str:
        place, mark, anchor = target.partition("#")
        path = (master.parent / place).resolve()
        if not place or not path.is_relative_to(root):
            return target
        beside = address + "/blob/main/" if address else ""
        return beside + path.relative_to(root).as_posix() + mark + anchor

    return change
