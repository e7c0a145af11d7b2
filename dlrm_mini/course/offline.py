"""Scripts that pages load, out of the packages that carry them: no page asks a network for one."""

from importlib.util import find_spec
from pathlib import Path

from dlrm_mini.errors import UserError

MATHJAX = ("sphinx-mathjax-offline", "static/mathjax/tex-svg.js")  # a folder that is no Python name
REVEAL = ("sphinx_revealjs", "_static/revealjs")


def mathjax() -> Path:
    """The one file of MathJax 3 that typesets all mathematics without asking for another."""
    return _inside(*MATHJAX)


def reveal() -> Path:
    """The folder of reveal.js 5, with `dist` and `plugin`."""
    return _inside(*REVEAL)


def _inside(package: str, path: str) -> Path:
    """A file or folder of an installed package, which is not imported.

    Raises:
        UserError: it is not there.
    """
    found = find_spec(package)
    place = Path(found.origin).parent / path if found and found.origin else None
    if place is None or not place.exists():
        raise UserError(
            f"{package.replace('_', '-')} is not installed, which carries {Path(path).name}: "
            "`make setup` installs what the pages need."
        )
    return place
