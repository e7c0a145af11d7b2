"""All sources of the site, written into one folder: notebooks, texts, pictures, made pages."""

import re
import shutil
from importlib.resources import files
from pathlib import Path

from dlrm_mini.course import chapters, generated, notebook, offline
from dlrm_mini.course.chapters import Chapter
from dlrm_mini.course.taught import of_chapter
from dlrm_mini.pictures.course_map import course_map
from dlrm_mini.site import index, reference
from dlrm_mini.site.cells import Staged, write
from dlrm_mini.site.pages import Pages


def stage(root: Path, source: Path, address: str) -> list[Chapter]:
    """Write the sources of the site, and take away what an earlier site left there.

    Args:
        root: the repository.
        source: the folder for the sources.
        address: the repository's public address, or empty.

    Returns:
        The chapters.
    """
    course = chapters.read_order(root / "notebooks")
    pages = Pages(root, [chapter.path for chapter in course], address)
    static = source / "_static"
    kept = set()
    for path, document in pages.documents.items():
        if document.startswith("chapters/"):
            chapter = next(c for c in course if c.path.resolve() == path)
            staged = Staged(path, pages, static / "figures")
            nb = staged.notebook(_ways(chapter, pages), _further(chapter, pages))
        elif document.startswith("exercises/") and path.parent.name == "solutions":
            staged = Staged(path, pages, static / "figures")
            nb = staged.notebook(_exercise_ways(path))
        else:
            continue
        file = source / f"{document}.ipynb"
        write(file, notebook.dumps(nb).encode())
        kept |= {file, *staged.pictures}
    for name, text in _texts(root, course, pages).items():
        write(source / f"{name}.md", text.encode())
        kept.add(source / f"{name}.md")
    kept |= _static(root, static)
    for old in [file for file in source.rglob("*") if file.is_file() and file not in kept]:
        old.unlink()
    return course


def downloads(root: Path, folder: Path) -> None:
    """Copy the notebooks that readers fetch: chapters, and the exercises without solutions."""
    for name in ("", "exercises"):
        for path in sorted((root / "notebooks" / name).glob("[0-9][0-9]_*.ipynb")):
            copy = folder / name / path.name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)


def _texts(root: Path, course: list[Chapter], pages: Pages) -> dict[str, str]:
    texts = reference.reference_pages(course)
    for path, document in pages.documents.items():
        if "/" not in document and document != "index":
            texts[document] = pages.rewrite(path.read_text(encoding="utf-8"), path)
    texts["exercises/index"] = index.exercises_page(course, pages)
    texts["index"] = index.index_page(root, course, pages.address)
    texts["index"] += index.tables_of_contents(course, pages)
    return texts


def _static(root: Path, static: Path) -> set[Path]:
    """Pictures, the look, mathematics; returns the files."""
    contents = {f"images/{p.name}": p.read_bytes() for p in sorted((root / "images").glob("*.png"))}
    own = files("dlrm_mini.site") / "static"
    contents |= {file.name: file.read_bytes() for file in own.iterdir()}
    contents["mathjax.js"] = offline.mathjax().read_bytes()
    for name, content in contents.items():
        write(static / name, content)
    map_ = static / "course_map.svg"
    course_map().savefig(map_, bbox_inches="tight", metadata={"Date": None})
    return {static / name for name in contents} | {map_}


def _ways(chapter: Chapter, pages: Pages) -> str:
    """The row of links under a chapter's title: how to run it."""
    links = [f'<a href="../download/{chapter.path.name}" download>Download the notebook</a>']
    for words, url in re.findall(
        r"\[!\[(.+?)\]\(.+?\)\]\((.+?)\)", generated.badges(chapter, pages.address)
    ):
        links.append(f'<a href="{url}">{words}</a>')
    if f"exercises/{chapter.name}" in pages.documents.values():
        links.append(f'<a href="../exercises/{chapter.name}.html">Exercises</a>')
    return f'<p class="ways">{" ".join(links)}</p>'


def _exercise_ways(path: Path) -> str:
    return (
        f'<p class="ways"><a href="../download/exercises/{path.name}" download>Download the '
        f'notebook</a> <a href="../chapters/{path.stem}.html">Chapter {path.name[:2]}</a></p>'
    )


def _further(chapter: Chapter, pages: Pages) -> str:
    """The last lines of a chapter's page: where its code and its exercises are."""
    text = ""
    if of_chapter(chapter.number):
        text = f"- [Reference to chapter {chapter.number}](../reference/{chapter.number}.md): "
        text += "the modules it taught, with every public name.\n"
    if f"exercises/{chapter.name}" in pages.documents.values():
        text += f"- [Exercises to chapter {chapter.number}](../exercises/{chapter.name}.ipynb), "
        text += "with hints and folded solutions.\n"
    return f"## Further\n\n{text}" if text else ""
