"""What the README says is there is there."""

import json
import re
from pathlib import Path

import pytest

from dlrm_mini import cli
from dlrm_mini.course import chapters, notebook

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", "CONTRIBUTING.md", "GLOSSARY.md", "SEVERAL_NODES.md", "data/README.md"]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_chapter_is_in_the_list_with_its_title_and_picture():
    for chapter in chapters.read_order():
        assert f"[{chapter.number} · {chapter.title}](notebooks/{chapter.path.name})" in README
        assert f"images/{chapter.path.stem}.png" in README


def test_the_results_to_expect_are_those_the_chapters_are_held_to():
    held = json.loads((ROOT / "tests" / "notebooks" / "results.json").read_text())
    promised = re.findall(r"`([a-z0-9_.]+)` (\d\.\d+)", README)
    assert len(promised) >= 2
    for name, value in promised:
        assert value == f"{held[name]['value']:.4f}", name


@pytest.mark.parametrize("page", PAGES)
def test_every_link_and_picture_leads_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    found = re.findall(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)|<img src=\"([^\"]+)\"", text)
    targets = [a or b for a, b in found if not (a or b).startswith("http")]
    missing = [target for target in targets if not (ROOT / page).parent.joinpath(target).exists()]
    assert not missing
    assert targets or page != "README.md"


def test_every_command_the_pages_name_exists():
    makefile = (ROOT / "Makefile").read_text()
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        for target in re.findall(r"`?make ([a-z]+)", text):
            if f"`make {target}" in text or f"\nmake {target}" in text:
                assert re.search(rf"^{target}:", makefile, re.M), f"{page}: make {target}"


@pytest.mark.parametrize("page", PAGES)
def test_every_command_to_type_is_one(page):
    """Its words go through the parser, which ends the process over one that it does not know."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = re.findall(r"^python -m dlrm_mini (.+?)(?:  +#.*)?$", text, re.M)
    for words in found:
        assert cli._parser().parse_args(words.split()).command == words.split()[0]
    assert len(found) > 5 or page != "README.md"


ENTRY = re.compile(
    r'^- <a id="(?P<anchor>[^"]+)"></a>\*\*(?P<term>.+?)\*\*(?P<text>.+?)(?=^- |\Z)', re.M | re.S
)
GLOSSARY = [*ENTRY.finditer((ROOT / "GLOSSARY.md").read_text(encoding="utf-8"))]
LINK = re.compile(r"\]\(\.\./GLOSSARY\.md#([^)\s]+)\)")


def glossary_links(chapter):
    """The anchors that a chapter links to, cell by cell; headings and summaries hold none."""
    cells = [c for c in notebook.read(chapter.path).cells if c.cell_type == "markdown"]
    for cell in cells:
        for line in cell.source.splitlines():
            plain = not line.startswith("#") and "<summary>" not in line
            assert plain or not LINK.search(line), f"{chapter.label}: {line}"
    return [anchor for cell in cells for anchor in LINK.findall(cell.source)]


def test_the_glossary_is_in_order_and_each_term_has_its_anchor():
    terms = [entry["term"] for entry in GLOSSARY]
    assert terms == sorted(terms, key=str.lower) and len(terms) > 25
    assert len(terms) == (ROOT / "GLOSSARY.md").read_text().count("\n- ")
    for entry in GLOSSARY:
        anchor = re.sub(r"[^a-z0-9]+", "-", entry["term"].lower()).strip("-")
        assert entry["anchor"] == anchor


@pytest.mark.parametrize("chapter", chapters.read_order(), ids=lambda c: c.number)
def test_a_term_is_linked_once_and_never_to_nowhere(chapter):
    there = {entry["anchor"] for entry in GLOSSARY}
    found = glossary_links(chapter)
    assert set(found) <= there
    assert len(found) == len(set(found)), [one for one in found if found.count(one) > 1]


@pytest.mark.parametrize("entry", GLOSSARY, ids=lambda entry: entry["anchor"])
def test_every_term_is_linked_from_the_chapter_that_explains_it(entry):
    last = re.search(r"\(\[(\d\d)\]\(notebooks/(\d\d)_\w+\.ipynb\)\)\.\s*$", entry["text"])
    assert last and last[1] == last[2], entry["term"]
    assert entry["anchor"] in glossary_links(chapters.find(last[1]))
