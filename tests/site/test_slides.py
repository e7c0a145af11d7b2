"""Slides of a chapter: made from tags, inside one file, none larger than its slide."""

import re

import pytest

from dlrm_mini.course import chapters, notebook, slides
from dlrm_mini.course.chapters import Chapter
from dlrm_mini.errors import UserError
from dlrm_mini.paths import build_dir

TAGGED = [
    chapter
    for chapter in chapters.read_order()
    if any("slide" in notebook.tags(cell) for cell in notebook.read(chapter.path).cells)
]
TOO_LARGE = """() => {
  const page = document.querySelector("section.present .page");
  const over = [page, ...page.querySelectorAll(".words, figure, pre, table")].filter(e =>
    e.scrollHeight > e.clientHeight + 1 || e.scrollWidth > e.clientWidth + 1);
  const flat = [...page.querySelectorAll("figure")].filter(f => f.clientHeight < 250);
  return [...over, ...flat].map(e => `${e.tagName} ${e.scrollWidth} x ${e.scrollHeight}`);
}"""
TOO_SMALL = """() => [...document.querySelectorAll("section.present .page *")].filter(e =>
    [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()) &&
    !e.closest("mjx-container, sub, sup") && parseFloat(getComputedStyle(e).fontSize) < 23.9
  ).map(e => `${e.tagName} ${getComputedStyle(e).fontSize}: ${e.textContent.slice(0, 40)}`)"""


def made(folder, *cells) -> Chapter:
    """A chapter of cells, each (type, source, tags)."""
    parts = [
        {"cell_type": kind, "source": source, "metadata": {"tags": tags}, "id": f"c{i}"}
        | ({"outputs": [], "execution_count": None} if kind == "code" else {})
        for i, (kind, source, tags) in enumerate(cells)
    ]
    nb = {"cells": parts, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    path = folder / "notebooks" / "07_made.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    notebook.save(path, notebook.node(nb))
    return Chapter("07", path, "Made", "")


def test_tags_decide_what_is_shown(tmp_path):
    chapter = made(
        tmp_path,
        ("markdown", "# Made", ["slide"]),
        ("markdown", "not shown", []),
        ("markdown", "see [here](../x.md) and $a_b$", ["slide-more"]),
        ("code", "hidden = 1", ["slide-more"]),
        ("markdown", "say this", ["notes"]),
        ("code", "shown = 2", ["slide", "slide-code"]),
    )
    first, second = slides.read_slides(chapter)
    page = first.page()
    assert "<h1" in page and "see here and $a_b$" in page and "say this" in page
    assert page.index("aside") < page.index("say this")
    assert "not shown" not in page and "hidden" not in page
    assert "shown" in second.page() and '<p class="section">Made</p>' in second.page()


def test_a_chapter_without_slides_says_so(tmp_path):
    with pytest.raises(UserError, match="no slides yet: tag the first cell"):
        slides.read_slides(made(tmp_path, ("markdown", "# Made", [])))


def test_a_slide_that_never_began_is_named(tmp_path):
    with pytest.raises(UserError, match="cell 1: goes on with a slide"):
        slides.read_slides(
            made(tmp_path, ("markdown", "# Made", []), ("markdown", "b", ["slide-more"]))
        )


def test_everything_is_inside_one_file():
    text = slides.as_html([slides.Slide("", ["<p>x</p>"])], "T")
    template = slides.TEMPLATE.read_text(encoding="utf-8")
    assert not [name for name in re.findall(r"%%\w+%%", template) if name in text]
    # An end inside a script's string would end the script.
    assert text.count("</script") == template.count("</script")


@pytest.mark.parametrize("chapter", TAGGED, ids=lambda c: c.number)
def test_no_slide_is_larger_than_its_slide(chapter, browser, tmp_path):
    path = tmp_path / "slides.html"
    path.write_text(slides.as_html(slides.read_slides(chapter), chapter.label), encoding="utf-8")
    page = browser.new_page(viewport={"width": 1280, "height": 720})
    wrong: list[str] = []
    page.on("console", lambda m: wrong.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda r: r.url.startswith(("file:", "data:")) or wrong.append(r.url))
    page.goto(path.as_uri())
    page.wait_for_selector("body[data-ready]")
    shots = build_dir() / "screenshots" / "slides"
    shots.mkdir(parents=True, exist_ok=True)
    for number in range(page.evaluate("Reveal.getTotalSlides()")):
        page.evaluate(f"Reveal.slide({number})")
        wrong += [f"slide {number + 1}: {e}" for e in page.evaluate(TOO_LARGE)]
        wrong += [f"slide {number + 1}: {e}" for e in page.evaluate(TOO_SMALL)]
        if number < 3:
            page.screenshot(path=shots / f"{chapter.number}_{number + 1}.png")
    page.close()
    assert not wrong
