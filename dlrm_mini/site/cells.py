"""A notebook's cells as a page has them: pictures as files, widgets as notes, solutions folded."""

import base64
import html
import re
from pathlib import Path

from nbformat import NotebookNode

from dlrm_mini.course import notebook
from dlrm_mini.course.chapters import GENERATED
from dlrm_mini.course.outputs import decode
from dlrm_mini.course.taught import modules
from dlrm_mini.site.pages import Pages

HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*$", re.MULTILINE)
MOVED = re.compile(r"^## What moved into.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
WIDGET = re.compile(r"^\[widget: (?P<name>.+?)\. Run this cell[^\]]*\]$", re.DOTALL)
PANDAS_STYLE = re.compile(r"<style scoped>.*?</style>\s*", re.DOTALL)
SOLUTION = re.compile(
    r"^(?P<indent> *)### BEGIN SOLUTION\n.*?### END SOLUTION *$", re.M | re.DOTALL
)
MARKS = re.compile(r"^ *### (?:BEGIN|END) SOLUTION *\n?", re.MULTILINE)
SUMMARY = re.compile(r"(?<=<summary>).*?(?=</summary>)", re.DOTALL)


class Staged:
    """A notebook on its way to a page.

    Args:
        path: its file; links are relative to it.
        pages: where links lead.
        figures: the folder that its pictures are written to, `_static/figures` of the site.

    Attributes:
        pictures: the files written.
    """

    def __init__(self, path: Path, pages: Pages, figures: Path) -> None:
        self.path, self.pages, self.figures = path, pages, figures
        self.section = ""
        self.pictures: list[Path] = []

    def notebook(self, below_title: str = "", at_the_end: str = "") -> NotebookNode:
        """The notebook as Sphinx shall read it.

        Args:
            below_title: markdown to stand under the first heading.
            at_the_end: markdown of a last cell.
        """
        nb = notebook.read(self.path)
        cells: list[NotebookNode] = []
        for cell in nb.cells:
            if notebook.tags(cell) & GENERATED or not cell.source.strip():
                continue
            if cell.cell_type == "markdown":
                cells.append(_markdown(self._prose(cell.source)))
            else:
                cells += self._code(cell)
        title, _, rest = cells[0].source.partition("\n")
        cells[0].source = f"{title}\n\n{below_title}\n{rest}"
        if at_the_end:
            cells.append(_markdown(at_the_end))
        nb.cells = cells
        nb.metadata = notebook.node(notebook.METADATA)
        for place, cell in enumerate(nb.cells):
            cell["id"] = f"cell-{place}"
        return nb

    def _prose(self, source: str) -> str:
        for heading in HEADING.finditer(source):
            self.section = heading[1]
        source = self.pages.rewrite(source, self.path)
        source = SUMMARY.sub(lambda m: _as_markup(m[0]), source)
        return MOVED.sub(lambda m: _to_reference(m[0]), source)

    def _code(self, cell: NotebookNode) -> list[NotebookNode]:
        new = notebook.node(cell)
        tags = notebook.tags(cell)
        new.metadata = notebook.node({"tags": []})
        new.outputs = [self._output(output) for output in cell.outputs]
        if "check" in tags:
            new.metadata.tags = ["hide-output"]
            new.metadata.mystnb = _prompts("what it says to the solution")
        if "solution" not in tags:
            return [new]
        stub = SOLUTION.sub(r"\g<indent>...  # your code here", cell.source)
        new.source = MARKS.sub("", cell.source).rstrip()
        new.metadata.tags = ["hide-cell"]
        new.metadata.mystnb = _prompts("a solution")
        return [_markdown(f"```python\n{stub}\n```"), new]

    def _output(self, output: NotebookNode) -> NotebookNode:
        data = output.get("data", {})
        if "image/png" in data:
            return _shown(self._figure(output))
        if "text/html" in data:
            table = PANDAS_STYLE.sub("", data["text/html"]).replace(' border="1"', "")
            return _shown(f'<div class="wide" tabindex="0">{table}</div>')
        if "text/markdown" in data:
            own = notebook.node(output)
            own.data["text/markdown"] = self.pages.rewrite(data["text/markdown"], self.path)
            return own
        if note := WIDGET.match(data.get("text/plain", "").strip("'")):
            return _shown(
                '<p class="widget-note"><strong>Interactive in the notebook:</strong> '
                f"{html.escape(note['name'])}. Its picture below is as it begins.</p>"
            )
        return notebook.node(output)

    def _figure(self, output: NotebookNode) -> str:
        data = output.data["image/png"]
        size = decode(data).size
        bare = html.escape(re.sub(r"[*_`$]", "", self.section))
        told = output.get("metadata", {}).get("image/png", {}).get("alt", "")
        path = (
            self.figures
            / f"{self.path.parent.name[:1]}{self.path.stem}_{len(self.pictures):02d}.png"
        )
        write(path, base64.b64decode(data))
        self.pictures.append(path)
        words = html.escape(told) if told else f"A figure of the section {bare}"
        return (
            f'<figure class="drawn"><a href="../_static/figures/{path.name}">'
            f'<img src="../_static/figures/{path.name}" alt="{words}" width="{size[0]}" '
            f'height="{size[1]}" loading="lazy"></a></figure>'
        )


def write(path: Path, content: bytes) -> None:
    """Write a file unless it holds this already: what keeps its date is not built again."""
    if not path.is_file() or path.read_bytes() != content:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _as_markup(text: str) -> str:
    """Code and formulas in a summary, which is markup, where markdown is not read."""
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", text)
    formula = r'<span class="math notranslate nohighlight">\\(\1\\)</span>'
    return re.sub(r"\$([^$]+)\$", formula, text)


def _to_reference(text: str) -> str:
    """Code that names a module, or something in one, becomes a link to its reference."""

    def linked(match: re.Match[str]) -> str:
        name = match[1].removeprefix("dlrm_mini.")
        known = name in modules() or name.rpartition(".")[0] in modules()
        return f"[`{match[1]}`](#dlrm_mini.{name})" if known else match[0]

    return re.sub(r"(?<!\[)`([\w.]+)`", linked, text)


def _prompts(what: str) -> NotebookNode:
    return notebook.node({"code_prompt_show": f"Show {what}", "code_prompt_hide": f"Hide {what}"})


def _markdown(source: str) -> NotebookNode:
    return notebook.node({"cell_type": "markdown", "metadata": {}, "source": source})


def _shown(markup: str) -> NotebookNode:
    return notebook.node(
        {"output_type": "display_data", "metadata": {}, "data": {"text/html": markup}}
    )
