"""The executed course as pages to read in a browser: one a chapter, and an index."""

import base64
import html
import mimetypes
import os
from pathlib import Path

from jinja2 import DictLoader
from nbconvert import HTMLExporter
from nbformat import NotebookNode

from dlrm_mini.course import links, notebook, outputs
from dlrm_mini.course.chapters import Chapter

STYLE = """\
body { font: 17px/1.5 system-ui, sans-serif; color: #222; background: #fff;
       max-width: 46rem; margin: 3rem auto; padding: 0 1rem; }
h1 { font-size: 1.7rem; margin-bottom: .3rem; }
ol { list-style: none; padding: 0; }
li { display: flex; gap: 1.2rem; padding: 1.1rem 0; border-top: 1px solid #ddd; }
li img, li .blank { width: 9rem; height: 6rem; object-fit: contain; flex: none; }
li h2 { font-size: 1.15rem; margin: 0; }
li p { margin: .2rem 0; }
a { color: #0072b2; }
.small { color: #666; font-size: .85rem; }
"""
# nbconvert's page, whose pictures say what they show; its own leaves that out.
WITH_WORDS = """\
{% extends "lab/index.html.j2" %}
{% block data_png %}
<div class="jp-RenderedImage jp-OutputArea-output {{ extra_class }}">
<img src="data:image/png;base64,{{ output.data['image/png'] | escape_html }}"
 alt="{{ (output | get_metadata('alt', 'image/png') or 'A picture') | escape_html }}">
</div>
{% endblock data_png %}
"""


def write_page(nb: NotebookNode, chapter: Chapter, course: list[Chapter], folder: Path) -> Path:
    """Write an executed chapter as HTML that stands on its own, its pictures inside.

    Args:
        nb: the executed notebook; left as it is.
        chapter: which one it is.
        course: all chapters; links to them lead to their pages.
        folder: where the pages go.
    """
    copy = notebook.node(nb)
    pages = {other.path.resolve(): f"{other.name}.html" for other in course}

    def to_page(target: str) -> str:
        place, mark, anchor = target.partition("#")
        path = (chapter.path.parent / place).resolve()
        if not place or not path.exists():
            return target
        if (mime := mimetypes.guess_type(path.name)[0] or "").startswith("image/"):
            return embedded(path, mime)
        new = pages.get(path) or Path(os.path.relpath(path, folder)).as_posix()
        return new + mark + anchor

    for cell in copy.cells:
        if cell.cell_type == "markdown":
            cell.source = links.rewrite(cell.source, to_page)
        elif cell.cell_type == "code":
            cell.outputs = outputs.clean(cell.outputs)
    exporter = HTMLExporter(  # type: ignore[no-untyped-call]
        extra_loaders=[DictLoader({"words.html.j2": WITH_WORDS})], template_file="words.html.j2"
    )
    place = {"path": str(chapter.path.parent), "name": chapter.label}
    body, _ = exporter.from_notebook_node(copy, {"metadata": place})
    return _write(folder / f"{chapter.name}.html", body)


def write_index(run: list[tuple[Chapter, float]], folder: Path) -> Path:
    """Write `index.html`: each chapter's title, question, picture and the time it took.

    Args:
        run: the chapters with their seconds, in order.
        folder: where the pages are.
    """
    items = "\n".join(_item(chapter, seconds) for chapter, seconds in run)
    total = duration(sum(seconds for _, seconds in run))
    number = "one chapter" if len(run) == 1 else f"{len(run)} chapters"
    return _write(
        folder / "index.html",
        f"""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>dlrm-mini</title>
<style>
{STYLE}</style>
</head>
<body>
<h1>dlrm-mini</h1>
<p>Deep learning recommendation models, one idea at a time. These pages were just executed on this
machine: {number} in {total}.</p>
<ol>
{items}
</ol>
</body>
</html>
""",
    )


def duration(seconds: float) -> str:
    """Seconds as a reader says them: "42 s", "3.5 minutes"."""
    return f"{seconds:.0f} s" if seconds < 60 else f"{seconds / 60:.1f} minutes"


def _item(chapter: Chapter, seconds: float) -> str:
    picture = chapter.path.parent.parent / "images" / f"{chapter.name}.png"
    if picture.is_file():
        image = f'<img alt="" src="{embedded(picture, "image/png")}">'
    else:
        image = '<span class="blank"></span>'
    question = f"<p>{html.escape(chapter.question)}</p>" if chapter.question else ""
    return (
        f'<li>{image}<div><h2><a href="{chapter.name}.html">{html.escape(chapter.label)}</a></h2>'
        f'{question}<p class="small">{duration(seconds)}</p></div></li>'
    )


def embedded(picture: Path, mime: str) -> str:
    """A picture as an address that holds it."""
    return f"data:{mime};base64,{base64.b64encode(picture.read_bytes()).decode('ascii')}"


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")
    return path
