"""The links in a notebook's text: finding them, rewriting them, saying where they should lead."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote

from nbformat import NotebookNode

from dlrm_mini.course import notebook
from dlrm_mini.errors import UserError

# Code and mathematics, where brackets are no links: blanked out before links are looked for.
NO_PROSE = re.compile(
    r"^(?P<fence>```+|~~~+).*?^(?P=fence)|(?P<tick>`+).+?(?P=tick)|\$\$.+?\$\$|\$[^$\n]+\$",
    re.DOTALL | re.MULTILINE,
)
LINK = re.compile(
    r"\]\(\s*<?(?P<inline>[^\s<>()]+(?:\([^\s()]*\)[^\s<>()]*)?)>?(?:\s+[\"'][^)]*)?\)"
    r"|^\s{0,3}\[[^\]]+\]:\s*<?(?P<reference>[^\s>]+)"
    r"|<(?:a|img)\b[^>]*?\b(?:href|src)\s*=\s*[\"'](?P<html>[^\"']+)[\"']",
    re.MULTILINE | re.IGNORECASE,
)
PICTURE = re.compile(
    r"!\[(?P<words>[^\]]*)\]\((?P<target>[^)\s]*)|<img\b(?P<markup>[^>]*)>", re.IGNORECASE
)
ALT = re.compile(r"\balt\s*=\s*([\"'])\s*\S.*?\1", re.IGNORECASE | re.DOTALL)
OUTSIDE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:|//")


def find(markdown: str) -> Iterator[re.Match[str]]:
    """The links and images of a markdown text; the target is the match's last group."""
    yield from LINK.finditer(NO_PROSE.sub(lambda m: re.sub(r"[^\n]", " ", m[0]), markdown))


def relative(markdown: str) -> list[str]:
    """The targets that are relative: files beside the notebook, and anchors."""
    targets = [str(match[match.lastgroup or 0]) for match in find(markdown)]
    return [target for target in targets if not OUTSIDE.match(target)]


def rewrite(markdown: str, change: Callable[[str], str]) -> str:
    """The text with each relative target replaced by what `change` makes of it."""
    for match in reversed(list(find(markdown))):
        group = match.lastgroup or 0
        start, end = match.span(group)
        target = markdown[start:end]
        if not OUTSIDE.match(target):
            markdown = markdown[:start] + change(target) + markdown[end:]
    return markdown


def problem(target: str, source: Path, own: NotebookNode) -> str | None:
    """Why a relative target of the notebook `source` leads nowhere; None when it leads somewhere.

    Args:
        target: what stands in the link.
        source: the notebook's file.
        own: the notebook, for anchors into itself.
    """
    place, _, anchor = unquote(target).partition("#")
    if place.startswith("/"):
        return "is an absolute path"
    path = source.parent / place if place else source
    if not path.exists():
        return "does not exist"
    if not anchor or path.suffix not in (".ipynb", ".md"):
        return None
    try:
        markdown = (
            _prose(own if not place else notebook.read(path))
            if path.suffix == ".ipynb"
            else path.read_text(encoding="utf-8")
        )
    except UserError as error:
        return str(error)
    return None if anchor.lower() in _anchors(markdown) else "has no such heading"


def unseen(markdown: str) -> str:
    """The first picture of a markdown text that has no alternative text, or ""."""
    for match in PICTURE.finditer(NO_PROSE.sub("", markdown)):
        if not (ALT.search(match["markup"] or "") or (match["words"] or "").strip()):
            return match["target"] or match[0]
    return ""


def _prose(nb: NotebookNode) -> str:
    return "\n\n".join(cell.source for cell in nb.cells if cell.cell_type == "markdown")


def _anchors(markdown: str) -> set[str]:
    """Every spelling under which a heading is reached: JupyterLab's and GitHub's, in lower case."""
    anchors = {m.lower() for m in re.findall(r"\b(?:id|name)=[\"']([^\"']+)", markdown)}
    text = NO_PROSE.sub(lambda m: m[0] if "\n" not in m[0] else "", markdown)
    for heading in re.findall(r"^#{1,6}\s+(.+?)\s*#*\s*$", text, re.MULTILINE):
        bare = re.sub(r"[*_`]|\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        anchors |= {
            bare.replace(" ", "-"),
            re.sub(r"[^\w\- ]", "", bare).replace(" ", "-"),
        }
    return anchors
