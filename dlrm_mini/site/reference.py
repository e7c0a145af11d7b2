"""The reference: for each chapter the modules it taught, with all their public names."""

import ast
from pathlib import Path

from dlrm_mini.course import taught
from dlrm_mini.course.chapters import Chapter
from dlrm_mini.paths import PACKAGE

MODULE = """\
## {name}

```{{eval-rst}}
.. automodule:: dlrm_mini.{name}
   :members:
   :member-order: bysource
```
"""


def reference_pages(course: list[Chapter]) -> dict[str, str]:
    """The pages as document name -> markdown: an index, one a chapter, and the workshop's."""
    titles = {chapter.number: chapter for chapter in course}
    pages, listed = {}, []
    overview = (
        "# Reference\n\nEvery module of `dlrm_mini`, under the chapter that explains its idea.\n\n"
    )
    for number in (*taught.TAUGHT, None):
        names = taught.of_chapter(number)
        if not names:
            continue
        chapter = titles.get(number or "")
        heading = "The workshop" if number is None else f"Chapter {number}"
        heading += f" · {chapter.title}" if chapter else ""
        document = number or "workshop"
        listed.append(f"{heading} <{document}>")
        pages[f"reference/{document}"] = _page(heading, chapter, names)
        overview += f"## [{heading}]({document}.md)\n\n"
        overview += "".join(f"- [`{name}`](#dlrm_mini.{name}): {purpose(name)}\n" for name in names)
        overview += "\n"
    entries = "\n".join(listed)
    pages["reference/index"] = f"{overview}```{{toctree}}\n:hidden:\n\n{entries}\n```\n"
    return pages


def purpose(module: str) -> str:
    """The first line of a module's docstring, with no full stop; `module` without `dlrm_mini.`."""
    path = PACKAGE.joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else Path(f"{path}.py")
    words = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return words.split("\n")[0].rstrip(".")


def _page(heading: str, chapter: Chapter | None, names: list[str]) -> str:
    text = f"# {heading}\n\n"
    if chapter:
        text += (
            f"What [chapter {chapter.number}](../chapters/{chapter.name}.ipynb) taught, and what "
            "draws and measures for it. Its first modules hold the ideas.\n\n"
        )
    else:
        text += "What keeps the course running: commands, pages, checks. No chapter teaches it.\n\n"
    return text + "\n".join(MODULE.format(name=name) for name in names)
