"""A chapter as slides: one file that needs no network, made from the cells tagged for it.

`slide` begins a slide, `slide-more` goes on with it, `notes` is for the speaker alone. A code cell
shows what it printed and drew; tagged `slide-code`, its code as well.
"""

import html
import re
from dataclasses import dataclass, field
from pathlib import Path

from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from dlrm_mini.course import chapters, links, notebook, offline
from dlrm_mini.course.chapters import Chapter
from dlrm_mini.course.outputs import decode
from dlrm_mini.course.pages import embedded
from dlrm_mini.course.progress import say
from dlrm_mini.errors import UserError
from dlrm_mini.paths import build_dir

TEMPLATE = Path(__file__).with_name("slides.html")
TALL = 1.6  # width over height; what is taller stands beside the words, the rest under them
FEW_WORDS = 160  # characters; so few stand above any picture
HEADING = re.compile(r"^##? +(.+?) *$", re.MULTILINE)
NOWHERE = "nowhere:"


@dataclass
class Slide:
    """One slide: its parts as HTML in order, the shapes of its pictures, what the speaker reads."""

    section: str = ""
    parts: list[str] = field(default_factory=list)
    shapes: list[float] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def page(self) -> str:
        """The slide as reveal.js wants it."""
        words = re.sub(r"<figure.*?</figure>|<[^>]+>", "", "".join(self.parts), flags=re.DOTALL)
        tall = len(self.shapes) == 1 and self.shapes[0] < TALL and len(words) > FEW_WORDS
        if self.section and not re.search(r"<h[1-6]", "\n".join(self.parts)):
            self.parts.insert(0, f'<p class="section">{self.section}</p>')
        body = "\n".join(self.parts)
        if tall:
            pictures = [part for part in self.parts if part.startswith("<figure")]
            others = "\n".join(part for part in self.parts if not part.startswith("<figure"))
            body = f'<div class="words">{others}</div>{"".join(pictures)}'
        notes = "".join(f'<aside class="notes">{note}</aside>' for note in self.notes)
        shape = "beside" if tall else "under"
        return f'<section><div class="page {shape}">{body}</div>{notes}</section>'


def write_slides(number: str) -> int:
    """Write `build/slides/NN_name.html`, one file with everything inside.

    Args:
        number: the chapter's, such as "05".

    Returns:
        The exit status, 0.

    Raises:
        UserError: when there is no such chapter, or none of its cells is tagged for slides.
    """
    chapter = chapters.find(number)
    slides = read_slides(chapter)
    path = build_dir() / "slides" / f"{chapter.name}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(as_html(slides, chapter.label), encoding="utf-8", newline="\n")
    say(f"{len(slides)} slides: {path}")
    return 0


def read_slides(chapter: Chapter) -> list[Slide]:
    """The slides of a chapter, in order.

    Raises:
        UserError: when it has none, or one goes on that never began.
    """
    slides: list[Slide] = []
    section = ""
    for position, cell in enumerate(notebook.read(chapter.path).cells):
        tags = notebook.tags(cell)
        if cell.cell_type == "markdown" and (headings := HEADING.findall(cell.source)):
            section = html.escape(re.sub(r"[*_`]", "", headings[-1]))
        if "slide" in tags:
            slides.append(Slide(section))
        elif not tags & {"slide-more", "notes"}:
            continue
        if not slides:
            raise UserError(
                f"{chapter.path.name}, cell {position}: goes on with a slide where none has begun. "
                "Tag it, or a cell before it, `slide`."
            )
        if "notes" in tags:
            slides[-1].notes.append(_prose(cell.source, chapter.path))
        elif cell.cell_type == "markdown":
            slides[-1].parts.append(_prose(cell.source, chapter.path))
        else:
            _add_code(slides[-1], cell, with_source="slide-code" in tags)
    if not slides:
        raise UserError(
            f"{chapter.path.name} has no slides yet: tag the first cell of each one `slide`, and "
            "those that go on with it `slide-more` (CONTRIBUTING.md)."
        )
    return slides


def as_html(slides: list[Slide], title: str) -> str:
    """The whole file: slides, look, reveal.js and MathJax."""
    scripts = offline.reveal()
    parts = {
        "TITLE": html.escape(title),
        "SLIDES": "\n".join(slide.page() for slide in slides),
        "REVEAL_CSS": (scripts / "dist/reveal.css").read_text(encoding="utf-8"),
        "REVEAL": (scripts / "dist/reveal.js").read_text(encoding="utf-8"),
        "NOTES": (scripts / "plugin/notes/notes.js").read_text(encoding="utf-8"),
        "MATHJAX": offline.mathjax().read_text(encoding="utf-8"),
    }
    template = TEMPLATE.read_text(encoding="utf-8")
    # A script that has "</script" in a string would end there.
    closed = {k: re.sub(r"</(script)", r"<\\/\1", v, flags=re.I) for k, v in parts.items()}
    return re.sub(r"%%(\w+)%%", lambda m: closed[m[1]], template)


def _prose(source: str, path: Path) -> str:
    """Markdown as HTML: pictures inside, links into the course as plain words."""

    def change(target: str) -> str:
        file = path.parent / target
        return embedded(file, "image/png") if file.suffix == ".png" else NOWHERE

    source = links.rewrite(source, change)
    source = re.sub(rf"\[([^\]]*)\]\({NOWHERE}\)", r"\1", source)
    renderer = IPythonRenderer(escape=False, exclude_anchor_links=True)
    text = str(MarkdownWithMath(renderer=renderer).render(source))
    return re.sub(r"<p>(<img [^>]*>)</p>", r"<figure>\1</figure>", text)


def _add_code(slide: Slide, cell: NotebookNode, *, with_source: bool) -> None:
    if with_source:
        formatter = HtmlFormatter(noclasses=True, nobackground=True, style="xcode")
        slide.parts.append(str(highlight(cell.source, PythonLexer(), formatter)))
    for output in cell.outputs:
        data = output.get("data", {"text/plain": output.get("text", "")})
        if picture := data.get("image/png"):
            width, height = decode(picture).size
            slide.shapes.append(width / height)
            alt = html.escape(output.get("metadata", {}).get("image/png", {}).get("alt", "Figure"))
            inside = f"data:image/png;base64,{picture.strip()}"
            slide.parts.append(f'<figure><img alt="{alt}" src="{inside}"></figure>')
        elif "text/html" in data:
            table = re.sub(r"<style scoped>.*?</style>", "", data["text/html"], flags=re.DOTALL)
            slide.parts.append(table.replace(' border="1"', ""))
        elif not data["text/plain"].lstrip("'").startswith("[widget:"):
            slide.parts.append(f"<pre>{html.escape(data['text/plain'].rstrip())}</pre>")
