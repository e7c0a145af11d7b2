"""The built site in headless Chromium: every page, in light and dark, wide and narrow."""

import functools
import http.server
import re
import subprocess
import sys
import threading
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from dlrm_mini.course import taught
from dlrm_mini.course.chapters import read_order
from dlrm_mini.paths import build_dir, checkout

SHOTS = build_dir() / "screenshots" / "site"
BUILD = "import sys; from pathlib import Path; from dlrm_mini.site.build import build_site; \
sys.exit(build_site(Path(sys.argv[1]), address=sys.argv[2]))"
WITHOUT_PROSE = """() => {
  const copy = document.querySelector("main").cloneNode(true);
  copy.querySelectorAll("pre, code, mjx-container, script, style").forEach(e => e.remove());
  return copy.textContent.match(/\\$[^\\s$][^$\\n]*\\$|\\\\[(\\[]/g) || [];
}"""
PICTURES = """async () => {
  const broken = [];
  for (const img of document.images) {
    img.loading = "eager";
    await img.decode().catch(() => {});
    if (!img.naturalWidth) broken.push(img.src);
  }
  return broken;
}"""
FORMULAS = """async () => {
  await (window.MathJax?.startup?.promise);
  document.querySelectorAll("details").forEach(d => { d.open = true; });
  return [...document.querySelectorAll(".math")].filter(e => {
    const drawn = e.querySelector("mjx-container svg");
    return !drawn || drawn.getBoundingClientRect().width < 2 || e.querySelector("[data-mjx-error]");
  }).map(e => e.textContent);
}"""
CONTRAST = """(where) => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const light = (colour) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).map(v => {
      v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const text = document.querySelector(where);
  let behind = text, colour = "";
  do { colour = getComputedStyle(behind).backgroundColor; behind = behind.parentElement; }
  while (behind && /rgba\\(.*, 0\\)|transparent/.test(colour));
  const [a, b] = [light(getComputedStyle(text).color), light(colour)].sort((x, y) => y - x);
  return {ratio: (a + 0.05) / (b + 0.05), background: colour};
}"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


class Page(HTMLParser):
    """The ids, links and pictures of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.pictures: list[dict[str, str | None]] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        of = dict(attrs)
        self.ids |= {of[k] for k in ("id", "name") if of.get(k)}
        if tag in ("a", "link", "script"):
            self.links += [of[k] for k in ("href", "src") if of.get(k)]
        if tag == "img":
            self.pictures.append(of)
            self.links.append(of.get("src") or "")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The site without a public address, and two of its pages as they are with one."""
    target = tmp_path_factory.mktemp("built") / "site"
    hosted = {}
    for address in ("https://github.com/somebody/dlrm-mini", ""):
        done = subprocess.run(
            [sys.executable, "-c", BUILD, str(target), address],
            cwd=checkout(), capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            pytest.fail(f"the site was not built:\n{done.stdout}{done.stderr}", pytrace=False)
        if address:
            for name in ("index", "chapters/05_dlrm"):
                hosted[name] = (target / f"{name}.html").read_text(encoding="utf-8")
    return target, hosted


@pytest.fixture(scope="module")
def site(built):
    return built[0]


@pytest.fixture(scope="module")
def pages(site):
    return {
        path: Page(path)
        for path in sorted(site.rglob("*.html"))
        if not path.relative_to(site).parts[0].startswith("_")
    }


@pytest.fixture(scope="module")
def served(site):
    handler = functools.partial(Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def tab(browser):
    """A tab that writes down what goes wrong in it: complaints, and requests to elsewhere."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.wrong = []
    bad = ("error", "warning")
    page.on("console", lambda m: page.wrong.append(m.text) if m.type in bad else None)
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.on("requestfailed", lambda request: page.wrong.append(f"failed: {request.url}"))
    ours = ("http://127.0.0.1:", "file:", "data:", "blob:")
    page.on("request", lambda r: None if r.url.startswith(ours) else page.wrong.append(r.url))
    yield page
    context.close()


def test_every_chapter_has_its_page_and_its_notebook_to_fetch(site):
    for chapter in read_order():
        page = (site / "chapters" / f"{chapter.name}.html").read_text(encoding="utf-8")
        assert f'href="../download/{chapter.path.name}"' in page
        assert (site / "download" / chapter.path.name).read_bytes() == chapter.path.read_bytes()
        if taught.of_chapter(chapter.number):
            assert f'href="../reference/{chapter.number}.html"' in page


def test_no_link_and_no_anchor_is_broken(site, pages):
    broken = []
    for path, page in pages.items():
        for link in page.links:
            place, _, anchor = unquote(link).partition("#")
            if re.match(r"[a-z]+:|//", place):
                continue
            target = (path.parent / place.split("?")[0]).resolve() if place else path
            other = pages.get(target)
            if not target.exists() or (anchor and other and anchor not in other.ids):
                broken.append(f"{path.relative_to(site)}: {link}")
    assert not broken


def test_no_page_loads_anything_from_elsewhere(site):
    loads = re.compile(
        r"<(?:script|img|iframe)[^>]*\ssrc=\"(?:https?:)?//|<link[^>]*href=\"https?:"
    )
    assert not [p.name for p in site.rglob("*.html") if loads.search(p.read_text("utf-8"))]


def test_every_picture_is_described_in_words(site, pages):
    assert sum(len(page.pictures) for page in pages.values()) > 100
    nameless = [
        f"{path.relative_to(site)}: {picture.get('src')}"
        for path, page in pages.items()
        for picture in page.pictures
        if not (picture.get("alt") or "").strip()
    ]
    assert not nameless


def test_colab_and_binder_are_there_with_an_address_only(built):
    site, hosted = built
    colab = "https://colab.research.google.com/github/somebody/dlrm-mini/blob/main/notebooks/"
    assert f'href="{colab}05_dlrm.ipynb">Open in Colab</a>' in hosted["chapters/05_dlrm"]
    assert "https://mybinder.org/v2/gh/somebody/dlrm-mini/main" in hosted["chapters/05_dlrm"]
    assert "https://github.com/somebody/dlrm-mini</span></code>" in hosted["index"]
    own = (site / "chapters/05_dlrm.html").read_text(encoding="utf-8")
    assert "Open in Colab" not in own and "somebody/" not in own
    assert "lab</span></code>" in (site / "index.html").read_text(encoding="utf-8")


def test_every_page_in_the_browser(site, pages, served, tab):
    troubles = []
    for path in pages:
        name = path.relative_to(site).as_posix()
        tab.set_viewport_size({"width": 1280, "height": 900})
        tab.goto(f"{served}/{name}")
        found = {
            "formulas": tab.evaluate(FORMULAS),
            "raw mathematics": tab.evaluate(WITHOUT_PROSE),
            "missing pictures": tab.evaluate(PICTURES),
        }
        tab.set_viewport_size({"width": 390, "height": 844})
        wide = tab.evaluate("document.documentElement.scrollWidth")
        found["scrolls sideways on a phone"] = wide if wide > 390 else 0
        found["complaints"] = list(tab.wrong)
        tab.wrong.clear()
        troubles += [f"{name}: {what}: {of}" for what, of in found.items() if of]
    assert not troubles
    assert tab.evaluate("typeof MathJax") in ("object", "undefined")


@pytest.mark.parametrize("name", ["index", "chapters/05_dlrm", "reference/05"])
def test_light_and_dark_can_both_be_read(served, tab, name):
    seen = {}
    for scheme in ("light", "dark"):
        tab.emulate_media(color_scheme=scheme)
        tab.goto(f"{served}/{name}.html")
        for where in ("article p", "nav.bd-links a", "article code"):
            found = tab.evaluate(CONTRAST, where)
            assert found["ratio"] >= 4.5, (scheme, where, found)
        seen[scheme] = tab.evaluate(CONTRAST, "article p")["background"]
        SHOTS.mkdir(parents=True, exist_ok=True)
        tab.screenshot(path=SHOTS / f"{name.replace('/', '_')}_{scheme}.png")
    assert seen["light"] != seen["dark"]
    assert not tab.wrong


@pytest.mark.parametrize("from_disk", [False, True], ids=["served", "from disk"])
def test_search_finds_calibration(site, served, tab, from_disk):
    base = site.as_uri() if from_disk else served
    tab.goto(f"{base}/search.html?q=calibration")
    tab.wait_for_selector("#search-results li a")
    found = tab.locator("#search-results li a").evaluate_all("all => all.map(a => a.href)")
    assert any("07_click_logs" in link for link in found)
    if not from_disk:  # from a disk a browser reads no page to quote from
        assert not tab.wrong


def test_the_site_can_be_read_from_a_disk(site, tab):
    for name in ("index", "chapters/07_click_logs", "exercises/index"):
        tab.goto((site / f"{name}.html").as_uri())
        assert not tab.evaluate(FORMULAS)
        assert not tab.evaluate(PICTURES)
    assert not tab.wrong


def test_solutions_are_folded_and_hints_unfold(site, served, tab):
    tab.goto(f"{served}/exercises/05_dlrm.html")
    hidden = tab.locator("details.hide pre").first
    assert not hidden.is_visible()
    tab.locator("details.hide summary").first.click()
    assert hidden.is_visible()
    hint = tab.locator("article details:not(.hide)").first
    hint.locator("summary").click()
    assert hint.locator("p").first.is_visible()
    assert "BEGIN SOLUTION" not in tab.content()
