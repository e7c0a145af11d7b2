"""Which file of the repository becomes which page of the site, and links between them."""

import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote

from docutils.nodes import make_id

from dlrm_mini.course import links, notebook
from dlrm_mini.course.taught import modules, taught_in

# Files that are pages, where they are there: document name -> file.
TEXTS = {
    "glossary": "GLOSSARY.md",
    "teaching": "TEACHING.md",
    "contributing": "CONTRIBUTING.md",
    "several_nodes": "SEVERAL_NODES.md",
    "data": "data/README.md",
}
NO_PAGE = "nopage:"
UNLINKED = re.compile(rf"\[((?:[^\[\]]|\[[^\]]*\])*)\]\({NO_PAGE}\)")
PACKAGE = "dlrm_mini"


class Pages:
    """The pages of one site.

    Args:
        root: the repository.
        chapters: the notebooks that become pages.
        address: the repository's public address, or empty.

    Attributes:
        documents: file -> document name, such as "chapters/05_dlrm".
    """

    def __init__(self, root: Path, chapters: Iterable[Path], address: str = "") -> None:
        self.root, self.address = root.resolve(), address.removesuffix("/").removesuffix(".git")
        self.documents = {self.root / "README.md": "index"}
        for name, file in TEXTS.items():
            if (self.root / file).is_file():
                self.documents[self.root / file] = name
        for path in chapters:
            self.documents[path.resolve()] = f"chapters/{path.stem}"
            solution = path.resolve().parent / "solutions" / path.name
            if solution.is_file():
                self.documents[solution] = f"exercises/{path.stem}"
                self.documents[path.resolve().parent / "exercises" / path.name] = (
                    f"exercises/{path.stem}"
                )

    def rewrite(self, markdown: str, source: Path) -> str:
        """A text of `source` whose relative links lead to pages of the site.

        What is no page leads to the repository's address; without one its words stay, unlinked.
        """
        document = self.documents[source.resolve()]
        for match in reversed(list(links.find(markdown))):
            group = match.lastgroup or "inline"
            start, end = match.span(group)
            target = markdown[start:end]
            if not links.OUTSIDE.match(target):
                new = self._target(target, source, document, html=group == "html")
                markdown = markdown[:start] + new + markdown[end:]
        return UNLINKED.sub(r"\1", markdown)

    def _target(self, target: str, source: Path, document: str, *, html: bool) -> str:
        place, _, anchor = unquote(target).partition("#")
        path = (source.parent / place).resolve() if place else source.resolve()
        up = "../" * document.count("/")
        if path in self.documents:
            page = self.documents[path]
            named = anchor and re.search(
                rf"\b(?:id|name)=[\"']{re.escape(anchor)}[\"']", _raw(path)
            )
            if html or named:
                scheme = "" if html else "page:"
                mark = f"#{anchor if named else make_id(anchor)}" if anchor else ""
                return f"{scheme}{up}{page}.html{mark}" if place else f"{scheme}{mark}"
            file = f"{up}{page}{'.ipynb' if '/' in page else '.md'}" if place else ""
            return file + (f"#{slug(anchor)}" if anchor else "")
        return self._file(path, up, html=html)

    def _file(self, path: Path, up: str, *, html: bool) -> str:
        """Where a link to a file leads that is no page."""
        if not path.is_relative_to(self.root):
            return NO_PAGE
        inside = path.relative_to(self.root)
        if inside.parts[:1] == ("images",):
            return f"{up}_static/{inside.as_posix()}"
        module = ".".join(inside.with_suffix("").parts).removesuffix(".__init__")
        if module == PACKAGE:
            return f"{up}reference/index.{'html' if html else 'md'}"
        if module.removeprefix(f"{PACKAGE}.") in modules():
            page = reference_page(module.removeprefix(f"{PACKAGE}."))
            return f"{up}{page}.html#module-{module}" if html else f"#{module}"
        if self.address and path.exists():
            kind = "tree" if path.is_dir() else "blob"
            return f"{self.address}/{kind}/main/{inside.as_posix()}"
        return NO_PAGE


def slug(anchor: str) -> str:
    """A heading's anchor as GitHub spells it, from GitHub's or JupyterLab's spelling."""
    return re.sub(r"[^\w\- ]", "", anchor.lower()).replace(" ", "-")


def reference_page(module: str) -> str:
    """The document that holds a module's reference; `module` without `dlrm_mini.`."""
    return f"reference/{taught_in(module) or 'workshop'}"


def _raw(path: Path) -> str:
    """The markdown of a page's file; of one that is not there, nothing."""
    if not path.is_file():
        return ""
    if path.suffix != ".ipynb":
        return path.read_text(encoding="utf-8")
    cells = notebook.read(path).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
