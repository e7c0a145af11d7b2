"""The pages that lead to others: the course at a glance, and the exercises."""

import html
import re
from pathlib import Path

from dlrm_mini.course import exercises, notebook
from dlrm_mini.course.chapters import Chapter
from dlrm_mini.pictures.course_map import COLOURS, LAST, PARTS
from dlrm_mini.site.pages import Pages
from dlrm_mini.style import INK

ROW = re.compile(
    r"^\| <img src=\"(?P<image>[^\"]+)\"[^|]*?alt=\"(?P<alt>[^\"]*)\"> "
    r"\| \[[^\]]*\]\(notebooks/(?P<name>\w+)\.ipynb\) \| (?P<words>.+?) \|$",
    re.MULTILINE,
)
LOCALLY = """\
To run a chapter and move its widgets: get the repository, then `make lab` in its folder sets
everything up and opens JupyterLab (Python 3.11 or newer, no GPU)."""
HOSTED = """\
To run a chapter and move its widgets, take the Colab or Binder button on its page, or run it on
your own machine: `git clone {address}`, then `make lab` in its folder (Python 3.11 or newer, no
GPU)."""


def parts(course: list[Chapter]) -> list[tuple[str, str, list[Chapter]]]:
    """The chapters that are there by part: its title, its colour on the map, its chapters."""
    numbers = [[number for number, *_ in of] for of in PARTS.values()]
    named = list(zip(PARTS, COLOURS, numbers, strict=True))
    named.append((f"VI  {LAST[1]}", INK, [LAST[0]]))
    found = [
        (re.sub(r"\s+", " · ", title, count=1), colour, [c for c in course if c.number in own])
        for title, colour, own in named
    ]
    return [part for part in found if part[2]]


def index_page(root: Path, course: list[Chapter], address: str) -> str:
    """The first page: what this is, the map, every chapter as a card; and the order of all pages.

    Args:
        root: the repository; its README tells what each chapter finds out.
        course: the chapters.
        address: the repository's public address, or empty.
    """
    readme = (root / "README.md").read_text(encoding="utf-8")
    opening = readme.split("\n\n")[1]
    rows = {row["name"]: row for row in ROW.finditer(readme)}
    run = HOSTED.format(address=address) if address else LOCALLY
    first = course[0].name
    body = f"""\
# dlrm-mini

<div class="opening">

{opening}

<p class="ways"><a class="first" href="chapters/{first}.html">Begin with chapter 00</a>
<a href="glossary.html">Glossary</a> <a href="exercises/index.html">Exercises</a></p>
</div>

<figure class="map"><img src="_static/course_map.svg" alt="The map of the course: each chapter
with its question, part by part; all lead to the verdicts at the end."></figure>

{run}
"""
    for title, colour, chapters in parts(course):
        cards = "\n".join(_card(chapter, rows.get(chapter.name)) for chapter in chapters)
        body += f'\n## {title}\n\n<div class="cards" style="--part: {colour}">\n{cards}\n</div>\n'
    return body


def tables_of_contents(course: list[Chapter], pages: Pages) -> str:
    """The order of all pages, part by part, as hidden toctrees of the first page.

    Args:
        course: the chapters.
        pages: all pages.
    """
    texts = set(pages.documents.values())
    listed = {
        title: [f"{c.number} {c.title} <chapters/{c.name}>" for c in chapters]
        for title, _, chapters in parts(course)
    }
    listed["Practise"] = ["exercises/index"]
    listed["Look up"] = ["glossary", "reference/index"]
    others = ("teaching", "several_nodes", "data", "contributing")
    listed["Around the course"] = [name for name in others if name in texts]
    return "".join(
        f"\n```{{toctree}}\n:hidden:\n:caption: {title}\n\n" + "\n".join(entries) + "\n```\n"
        for title, entries in listed.items()
    )


def exercises_page(course: list[Chapter], pages: Pages) -> str:
    """All exercises: their titles, difficulty and minutes, chapter by chapter."""
    text = """\
# Exercises

Work in the notebook: under each exercise stands a cell that checks your answer at once. Hints
unfold. Here the solutions are folded as well; each is one way, and the check accepts any other.

"""
    listed = []
    for chapter in course:
        path = chapter.path.resolve().parent / "solutions" / chapter.path.name
        if path not in pages.documents:
            continue
        listed.append(f"{chapter.number} {chapter.title} <{chapter.name}>")
        text += f"## [{chapter.number} {chapter.title}]({chapter.name}.ipynb)\n\n"
        for one in exercises.read(notebook.read(path), path.name):
            text += f"{one.number}. {one.title} *({one.difficulty}, {one.minutes} minutes)*\n"
        text += "\n"
    return text + "```{toctree}\n:hidden:\n\n" + "\n".join(listed) + "\n```\n"


def _card(chapter: Chapter, row: re.Match[str] | None) -> str:
    words = html.escape(row["words"] if row else chapter.question, quote=False)
    image = ""
    if row:
        image = f'<img src="_static/{row["image"]}" alt="{row["alt"]}" loading="lazy">'
    return (
        f'<a class="card" href="chapters/{chapter.name}.html"><span class="thumb">{image}</span>'
        f"<strong>{chapter.number} · {html.escape(chapter.title)}</strong><span>{words}</span></a>"
    )
