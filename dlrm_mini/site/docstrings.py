"""Docstrings written for people, made fit for Sphinx: code, tables, bars, and names of Python."""

import ast
import builtins
import re
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

FENCE = re.compile(r"^```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCK_TO_COME = re.compile(r"(?<=[^:]):\n\n(?=    (?!>>>))")
TABLE = re.compile(r"(?:^\|.*\|$\n?)+", re.MULTILINE)
CODE = re.compile(r"(`+.*?`+)")


def setup(app: Sphinx) -> None:
    """Listen to Sphinx while it reads docstrings; before napoleon does."""
    app.connect("autodoc-process-docstring", _tidy, priority=100)
    app.connect("autodoc-process-signature", _shorten)
    app.connect("doctree-read", _leave_builtins)


def as_rst(text: str) -> str:
    """A docstring in which markdown's fences and tables, indented code and bars are what they mean.

    Args:
        text: the docstring, unindented.
    """
    text = FENCE.sub(lambda m: "::\n\n" + re.sub(r"^(?=.)", "    ", m[1], flags=re.M), text)
    text = TABLE.sub(lambda m: _table(m[0]), text)
    text = BLOCK_TO_COME.sub("::\n\n", text)
    kept = []
    in_code = False
    for line in text.split("\n"):
        if line and not line.startswith("    "):
            in_code = line.endswith("::")
        spans = CODE.split(line)
        # A bar begins a substitution in reStructuredText, and no docstring of ours has one.
        spans[::2] = [part if in_code else part.replace("|", r"\|") for part in spans[::2]]
        kept.append("".join(spans))
    return "\n".join(kept)


def _table(rows: str) -> str:
    cells = [[c.strip() for c in row.strip("|").split("|")] for row in rows.strip().split("\n")]
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in cells[:1] + cells[2:]:
        lines += [f"   {'  ' if i else '* '}- {cell}" for i, cell in enumerate(row)]
    return "\n".join(lines) + "\n"


def _tidy(app: Sphinx, what: str, name: str, of: Any, options: Any, lines: list[str]) -> None:
    lines[:] = as_rst("\n".join(lines)).split("\n")


def _shorten(
    app: Sphinx,
    what: str,
    name: str,
    of: Any,
    options: Any,
    arguments: str | None,
    gives: str | None,
) -> tuple[str | None, str | None] | None:
    """Short names of types where Sphinx cannot read a signature, such as one with `<factory>`."""
    try:
        ast.parse(f"def f{arguments or '()'}: ...")
    except SyntaxError:
        return re.sub(r"~(?:\w+\.)*(?=\w)", "", arguments or ""), gives
    return None


def _leave_builtins(app: Sphinx, doctree: Any) -> None:
    """`bytes` in a signature is Python's, not an attribute of ours that is called the same."""
    for node in list(doctree.findall(addnodes.pending_xref)):
        if node.get("refdomain") == "py" and node.get("reftarget") in dir(builtins):
            node.replace_self(nodes.Text(node["reftarget"]))
