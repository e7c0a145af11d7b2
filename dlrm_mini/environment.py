"""The environment check: one line per thing the course needs, OK or FAIL.

People paste its output into bug reports, so a failing line says what was found, what was expected
and what to do.
"""

import platform
import sys
from dataclasses import dataclass
from importlib import metadata

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from dlrm_mini.bootstrap import installed, requirements
from dlrm_mini.paths import checkout

CORE = ("torch", "numpy", "pandas", "matplotlib", "seaborn", "ipywidgets")


@dataclass(frozen=True)
class Line:
    """One checked thing: is it right, what it is, what was found and what was expected."""

    ok: bool
    what: str
    found: str
    expected: str
    advice: str = ""


def check() -> list[Line]:
    """Check Python, the packages and torch's arithmetic."""
    lines = [_python()]
    ranges = _ranges()
    for name in CORE:
        have, wanted = installed(name), ranges.get(name, "")
        ok = have is not None and SpecifierSet(wanted).contains(have, prereleases=True)
        advice = f'pip install "{name}{wanted}"'
        lines.append(Line(ok, name, have or "nothing", wanted or "any version", advice))
    lines.append(_arithmetic())
    return lines


def report(lines: list[Line], *, versions: bool = False) -> str:
    """The lines as text; with `versions`, what was found on the passing lines too."""
    text = []
    for line in lines:
        if line.ok:
            text.append(f"OK    {line.what:<12} {line.found if versions else line.expected}")
        else:
            found = f"found {line.found}, expected {line.expected}: {line.advice}"
            text.append(f"FAIL  {line.what:<12} {found}")
    if versions:
        text.append(f"      {platform.platform()}, {platform.machine()}")
    return "\n".join(text)


def _ranges() -> dict[str, str]:
    """Name -> wanted versions: the checkout's, or those the installed package was built with."""
    if root := checkout():
        return requirements(root)
    built_with = map(Requirement, metadata.requires("dlrm-mini") or [])
    return {line.name: str(line.specifier) for line in built_with}


def _python() -> Line:
    found = ".".join(map(str, sys.version_info[:3]))
    advice = "install a newer Python, delete .venv and start again"
    return Line(sys.version_info >= (3, 11), "python", found, ">=3.11", advice)


def _arithmetic() -> Line:
    """A matrix product with a known answer: a broken build shows here and not in chapter 05."""
    answer: object
    try:
        import torch

        a = torch.arange(6.0).reshape(2, 3)
        answer = (a @ a.T).tolist()
    except Exception as error:
        answer = f"{type(error).__name__}: {error}"
    right = [[5.0, 14.0], [14.0, 50.0]]
    expected = "a right product"
    return Line(answer == right, "torch runs", str(answer), expected, "reinstall torch")
