"""Execute notebooks and store them so that a second run changes nothing that means nothing."""

import io
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from nbformat import NotebookNode
from PIL import Image

from dlrm_mini.course import chapters, generated, ledger_record, lint, notebook, outputs
from dlrm_mini.course.compare import VOLATILE, kind, same
from dlrm_mini.course.execute import execute
from dlrm_mini.course.progress import Progress, say
from dlrm_mini.errors import UserError
from dlrm_mini.paths import course_file

THUMBNAIL_WIDTH = 960  # pixels


def rewrite(path: Path, on_cell: Callable[[int, int], None] | None = None) -> bool:
    """Run a notebook and store its outputs; those that still hold are kept byte for byte.

    A chapter's generated cells are brought up to date first, its thumbnail is drawn last, and what
    it recorded and judged goes into the recorded ledger.

    Args:
        path: the .ipynb file.
        on_cell: called as `(cells done, cells in all)` after each code cell.

    Returns:
        Whether the file changed.

    Raises:
        CellFailed: when a cell fails; the file is left as it was.
        UserError: when an output names a path of this machine.
    """
    stored, label = notebook.read(path), path.stem
    is_chapter = chapters.is_chapter(path)
    if is_chapter:
        chapter = chapters.find(path.name[:2], path.parent)
        generated.refresh(stored, chapter, generated.public_address())
        label = chapter.label
    notebook.normalise(stored)
    fresh = notebook.node(stored)
    with tempfile.TemporaryDirectory() as folder:
        # Results of its own: a ledger must not show the verdicts of an earlier run.
        env = {"DLRM_MINI_RESULTS": str(Path(folder, "results.json"))}
        execute(fresh, path.parent, label=label, env=env, on_cell=on_cell)
        results, verdicts = ledger_record.of_run(Path(folder))
    for position, (old, new) in enumerate(zip(stored.cells, fresh.cells, strict=True)):
        if new.cell_type == "code":
            _settle(new, old, f"{path.name}, cell {position}")
    fresh.metadata = stored.metadata
    changed = notebook.save(path, fresh)
    if is_chapter:
        _write_thumbnail(path, fresh)
        if path.resolve().parent == course_file("notebooks"):
            changed |= ledger_record.keep(chapter.number, results, verdicts)
    return changed


def rewrite_course(only: Sequence[str] | None = None, folder: Path | None = None) -> int:
    """Rewrite every chapter, or those of these numbers, and print what each still lacks.

    The links between chapters are brought up to date in all of them, since a new title shows in
    the neighbours too.

    Returns:
        The exit status: 1 when a notebook has a problem that `lint` sees.

    Raises:
        CellFailed, UserError: see `rewrite`.
    """
    status = 0
    for chapter in chapters.select(only, folder):
        progress = Progress(chapter.label)
        try:
            changed = rewrite(chapter.path, progress.update)
        except UserError:
            progress.finish("FAILED")
            raise
        progress.finish("rewritten" if changed else "unchanged")
        for line in lint.problems(chapter.path):
            say(f"   {line}")
            status = 1
    for chapter in chapters.read_order(folder):
        nb = notebook.read(chapter.path)
        generated.refresh(nb, chapter, generated.public_address())
        notebook.save(chapter.path, nb)
    return status


def _settle(fresh: NotebookNode, stored: NotebookNode, where: str) -> None:
    """Choose between a cell's fresh and stored outputs, in place in the fresh cell."""
    cleaned, old = outputs.clean(fresh.outputs), outputs.clean(stored.outputs)
    for output in cleaned:
        if paths := [p for text in outputs.texts(output) for p in outputs.machine_paths(text)]:
            raise UserError(
                f"{where} prints {paths[0]}, a path of this machine. Print it relative to the "
                "checkout, or only the file's name."
            )
    if notebook.tags(fresh) & VOLATILE:
        digest = lint.source_digest(fresh.source)
        if fresh.metadata.get("made_from") == digest and [*map(kind, old)] == [*map(kind, cleaned)]:
            cleaned = [_kept(*pair, other=False) for pair in zip(old, cleaned, strict=True)]
        fresh.metadata["made_from"] = digest
    else:
        fresh.metadata.pop("made_from", None)
        if len(old) == len(cleaned):
            pairs = zip(old, cleaned, strict=True)
            cleaned = [_kept(*pair) if same(*pair) else pair[1] for pair in pairs]
    for output in cleaned:
        if output.output_type == "execute_result":
            output.execution_count = fresh.execution_count
    fresh.outputs = cleaned


def _kept(stored: NotebookNode, fresh: NotebookNode, *, other: bool = True) -> NotebookNode:
    """The stored output, its picture in the fresh words if it has none.

    Args:
        stored: what is kept.
        fresh: what the cell gives now.
        other: whether words that differ in more than numbers are replaced too. A picture that shows
            what another machine measured keeps its own.
    """
    before, now = (outputs.alternative(output) for output in (stored, fresh))
    differ = re.sub(r"\d[\d,.]*", "", before) != re.sub(r"\d[\d,.]*", "", now)
    if now and (not before or (other and differ)):
        stored.metadata = fresh.metadata
    return stored


def _write_thumbnail(path: Path, nb: NotebookNode) -> None:
    """Draw `images/NN_name.png` from the figure of the cell tagged `thumbnail`, if there is one."""
    tagged = [cell for cell in nb.cells if "thumbnail" in notebook.tags(cell)]
    if not tagged:
        return
    figures = [o.data["image/png"] for o in tagged[0].outputs if "image/png" in o.get("data", {})]
    if len(tagged) > 1 or len(figures) != 1:
        raise UserError(
            f"{path.name} has {len(tagged)} cells tagged thumbnail, the first with {len(figures)} "
            "figures: tag one cell that draws one figure."
        )
    picture = outputs.decode(figures[0]).convert("RGB")
    if picture.width > THUMBNAIL_WIDTH:
        height = round(picture.height * THUMBNAIL_WIDTH / picture.width)
        picture = picture.resize((THUMBNAIL_WIDTH, height), Image.Resampling.LANCZOS)
    target = path.parent.parent / "images" / f"{path.stem}.png"
    if target.is_file():  # another version of the PNG library packs the same pixels otherwise
        with Image.open(target) as before:
            if before.size == picture.size and before.convert("RGB").tobytes() == picture.tobytes():
                return
    packed = io.BytesIO()
    picture.save(packed, "PNG", optimize=True)
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(packed.getvalue())
