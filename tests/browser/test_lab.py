"""Every widget in a real JupyterLab, its controls moved as a reader moves them.

Each chapter is opened in headless Chromium and run up to its last widget. Of every kind of control
in a widget one is moved, by keyboard or mouse; the picture has to follow. Screenshots are kept in
`build/screenshots/lab/`.
"""

import shutil

import pytest

from dlrm_mini.course import chapters, notebook
from dlrm_mini.paths import build_dir
from tests.browser import lab as server

COURSE = chapters.read_order()
EXPLORER = ".jp-OutputArea-output .widget-vbox:has(> img)"
# Kind of control -> how to find those of a widget.
KINDS = {
    "slider": ".widget-slider",
    "drop-down list": ".widget-dropdown select",
    "check box": "input[type=checkbox]",
    "toggle buttons": ".widget-toggle-buttons",
}
PICTURE = """async image => {
    const bytes = await (await fetch(image.src)).arrayBuffer();
    const digest = await crypto.subtle.digest('SHA-256', bytes);
    return [image.src, bytes.byteLength, [...new Uint8Array(digest)].join()];
}"""
# Not about the course: what JupyterLab says itself without a language server, outside a checkout.
NOISE = ("/lsp/", "/nbdime/", "favicon", "ResizeObserver")


def widgets(nb):
    """The positions of the cells that show a widget, as they are stored."""
    return [
        position
        for position, cell in notebook.code_cells(nb)
        for output in cell.outputs
        if str(output.get("data", {}).get("text/plain", "")).startswith("[widget:")
    ]


@pytest.fixture(scope="module")
def lab(browser, tmp_path_factory):
    """One JupyterLab for all chapters, on copies that end with their last widget."""
    home = tmp_path_factory.mktemp("lab")
    course = home / "course"
    folder = course / "notebooks"
    folder.mkdir(parents=True)
    shutil.copytree(COURSE[0].path.parents[1] / "images", course / "images")
    for chapter in COURSE:
        nb = notebook.read(chapter.path)
        if places := widgets(nb):
            nb.cells = nb.cells[: places[-1] + 1]
            for _, cell in notebook.code_cells(nb):
                cell.outputs, cell.execution_count = [], None
            notebook.save(folder / chapter.path.name, nb)
    process, running = server.start(course, home)
    yield running
    server.stop(process)


@pytest.fixture
def page(browser):
    """A page that remembers what went wrong in it."""
    context = browser.new_context(viewport={"width": 1280, "height": 1000})
    opened = context.new_page()
    opened.set_default_timeout(server.LIMIT)
    opened.problems = []
    # A bare "Response" is a refused request again, which the console names by its address.
    opened.on(
        "pageerror", lambda error: str(error) != "Response" and opened.problems.append(str(error))
    )
    opened.on("console", lambda said: said.type == "error" and opened.problems.append(_said(said)))
    yield opened
    context.close()


@pytest.mark.parametrize("chapter", COURSE, ids=lambda chapter: chapter.number)
def test_the_pictures_follow_the_controls(chapter, lab, page):
    shown = len(widgets(notebook.read(chapter.path)))
    assert shown, "a chapter has a widget"
    lab.open(page, f"notebooks/{chapter.path.name}")
    page.evaluate(server.RUN)
    assert page.evaluate(server.FAILED) == []
    page.wait_for_function(server.IDLE)
    explorers = page.locator(EXPLORER)
    for place in range(shown):
        explorer = explorers.nth(place)
        explorer.scroll_into_view_if_needed()
        moved = [move_one(page, explorer, kind) for kind in KINDS]
        assert any(moved), "a widget has a control"
        assert cut_off(explorer) == []
        assert len(explorer.locator("[aria-live=polite]").inner_text()) > 20
        folder = build_dir() / "screenshots" / "lab"
        folder.mkdir(parents=True, exist_ok=True)
        explorer.screenshot(path=folder / f"{chapter.number}_{place + 1}.png")
    assert explorers.count() == shown
    assert [text for text in page.problems if not any(word in text for word in NOISE)] == []
    page.evaluate(server.SHUT_DOWN)


def move_one(page, explorer, kind):
    """Move the first control of a kind, and wait for another picture; False where there is none."""
    found = explorer.locator(KINDS[kind])
    if not found.count():
        return False
    image = explorer.locator("> img").element_handle()
    page.wait_for_function("image => image.naturalWidth > 0", arg=image)
    address, size, before = image.evaluate(PICTURE)
    assert size > 1000, "a picture"
    MOVES[kind](found.first)
    page.wait_for_function("([image, old]) => image.src !== old", arg=[image, address])
    page.wait_for_function("image => image.complete && image.naturalWidth > 0", arg=image)
    _, size, after = image.evaluate(PICTURE)
    assert size > 1000 and after != before, f"the picture did not follow the {kind}"
    return True


def slide(slider):
    """To the other end, by keyboard."""
    handle = slider.locator(".noUi-handle")
    ends = [handle.get_attribute(f"aria-value{name}") for name in ("now", "max")]
    handle.focus()
    handle.press("Home" if ends[0] == ends[1] else "End")


def choose(select):
    """The last choice, or the first where the last one is chosen."""
    here, last = select.evaluate("select => [select.selectedIndex, select.options.length - 1]")
    select.select_option(index=0 if here == last else last)


def press(buttons):
    """A button that is not pressed."""
    buttons.locator("button:not(.mod-active)").last.click()


MOVES = {
    "slider": slide,
    "drop-down list": choose,
    "check box": lambda box: box.press("Space"),
    "toggle buttons": press,
}


def _said(message):
    return f"{message.text} {message.location.get('url', '')}"


def cut_off(explorer):
    """The descriptions that have no room."""
    return explorer.locator(".widget-label").evaluate_all(
        "all => all.filter(one => one.scrollWidth > one.clientWidth).map(one => one.textContent)"
    )
