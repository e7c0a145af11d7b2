"""Headless Chromium for the tests that look at pages: finding it, starting it.

`tests/conftest.py` takes the fixture `browser` from here, once for all: two playwright drivers in
one process would clash.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

VARIABLE = "DLRM_MINI_CHROMIUM"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
MAC = Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")
INSTALL = (
    "no Chromium here: install it (Debian, Ubuntu: `apt install chromium`; elsewhere Chrome will "
    f"do), or set {VARIABLE} to the path of one"
)
FLAGS = [
    "--no-sandbox",  # root in a container has none
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--force-color-profile=srgb",
]


def find_chromium() -> str | None:
    """The path of a Chromium or Chrome, or None. A path that is given and wrong is an error."""
    if chosen := os.environ.get(VARIABLE):
        if not Path(chosen).is_file():
            raise FileNotFoundError(f"{VARIABLE} is {chosen!r}, which is no file")
        return chosen
    found = next(filter(None, map(shutil.which, NAMES)), None)
    return found or (str(MAC) if MAC.is_file() else None)


@pytest.fixture(scope="session")
def browser() -> Iterator[object]:
    """One headless browser for all tests of a process; skips where there is none."""
    path = find_chromium()
    if path is None:
        pytest.skip(INSTALL)
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=path, headless=True, args=FLAGS)
        yield running
        running.close()
