"""Colours that are used together are told apart by readers with every form of colour blindness."""

import ast
import itertools
import re
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import CSS4_COLORS, LinearSegmentedColormap, to_rgb

from dlrm_mini import style
from dlrm_mini.claims import VERDICTS
from dlrm_mini.course import chapters, notebook
from dlrm_mini.pictures import course_map, where_time_goes

ROOT = Path(__file__).parents[1]
# Machado, Oliveira and Fernandes (2009), "A physiologically-based model for simulation of color
# vision deficiency", severity 1.0; on linear RGB.
SIMULATED = {
    "normal vision": np.eye(3),
    "protanopia": np.array([
        [0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ]),
    "deuteranopia": np.array([
        [0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ]),
    "tritanopia": np.array([
        [1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ]),
}  # fmt: skip
TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)  # fmt: skip  sRGB, D65
# Distance in CIELAB (CIE 1976). Side by side, 2.3 is just seen (Mahy and others, 1994); a legend is
# read across a whole picture, from memory, on a projector: six times as much, rounded up.
APART = 15.0
DIVERGING_APART = 40.0  # the two ends of a scale that has its middle between them
TOGETHER = {
    "series": style.PALETTE,
    "groups and communication": (*style.GROUP_COLOURS.values(), style.COMMUNICATION),
    "parts of the course": course_map.COLOURS,
    "verdicts": tuple(dict.fromkeys(style.VERDICT_COLOURS.values())),
    "words and lines": (style.INK, style.GREY, style.RED, style.BLUE),
    "operators": (*where_time_goes.OPERATOR_COLOURS.values(), style.GREY),
}
SCALES = {name: getattr(style, name) for name in ("SEQUENTIAL", "STARS", "GLOW", "BYTES")}
# Greys are outside: they mean "not this one". A name of a table, such as "C3", is no colour.
HEX = re.compile(r"#(?!([0-9A-Fa-f]{2})\1\1\b)[0-9A-Fa-f]{6}\b|#[0-9A-Fa-f]{3}\b")
NEUTRAL = {"white", "black", "none"}
PLACES = ("pictures", "widgets", "plots.py", "models/dlrm_drawing.py", "profiling")


def lab(colour, sight):
    """CIELAB of an RGB colour as this eye sees it, (3,)."""
    seen = np.asarray(to_rgb(colour))
    linear = np.where(seen <= 0.04045, seen / 12.92, ((seen + 0.055) / 1.055) ** 2.4)
    white = TO_XYZ.sum(1)
    xyz = TO_XYZ @ np.clip(SIMULATED[sight] @ linear, 0, 1) / white
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def distance(one, other, sight):
    return float(np.linalg.norm(lab(one, sight) - lab(other, sight)))


def test_the_simulation_has_known_fixed_points():
    for sight in SIMULATED:
        assert lab("white", sight) == pytest.approx([100, 0, 0], abs=0.1)
        assert lab("black", sight) == pytest.approx([0, 0, 0], abs=0.1)
    assert lab("#FF0000", "normal vision") == pytest.approx([53.24, 80.09, 67.20], abs=0.1)
    # The pair that everybody knows: a red and a green of one lightness.
    assert distance("#C05A00", "#6F8000", "normal vision") > 40
    assert distance("#C05A00", "#6F8000", "deuteranopia") < APART


@pytest.mark.parametrize("sight", SIMULATED)
@pytest.mark.parametrize("name", TOGETHER)
def test_colours_used_together_are_told_apart(name, sight):
    near = {
        pair: round(apart, 1)
        for pair in itertools.combinations(TOGETHER[name], 2)
        if (apart := distance(*pair, sight)) < APART
    }
    assert not near


@pytest.mark.parametrize("sight", SIMULATED)
def test_every_colour_is_seen_on_white(sight):
    # Yellow is too pale for a line; it is the seventh series, and no picture has as many lines.
    for colour in (*style.PALETTE[:6], style.GREY, style.INK, *style.GROUP_COLOURS.values()):
        assert distance(colour, "white", sight) > 2 * APART


@pytest.mark.parametrize("sight", SIMULATED)
@pytest.mark.parametrize("name", SCALES)
def test_a_scale_of_amounts_only_becomes_lighter_or_darker(name, sight):
    shades = mpl.colormaps[SCALES[name]](np.linspace(0, 1, 33))[:, :3]
    steps = np.diff([lab(shade, sight)[0] for shade in shades])
    steps *= np.sign(steps.sum())
    assert steps.min() > -0.5 and steps.sum() > 45


@pytest.mark.parametrize("sight", SIMULATED)
def test_the_ends_of_signed_and_of_divided_scales_differ(sight):
    shades = mpl.colormaps[style.DIVERGING]
    for share in (0.1, 0.25):
        assert distance(shades(share)[:3], shades(1 - share)[:3], sight) > DIVERGING_APART
    middle = lab(shades(0.5)[:3], sight)[0]
    assert middle > 90 and max(lab(shades(end)[:3], sight)[0] for end in (0.0, 1.0)) < 50
    # On either side of the coast the map is palest: sand and shallow water must still differ.
    assert distance(style.SEA[-1], style.LAND[0], sight) > APART
    paper = LinearSegmentedColormap.from_list("paper", style.PAPER_TO_INK)
    lightness = [lab(paper(share)[:3], sight)[0] for share in np.linspace(0, 1, 17)]
    assert max(np.diff(lightness)) < 0


def test_a_verdict_never_hangs_on_its_colour():
    """Two verdicts share a colour, so what draws them must give each a shape of its own."""
    from matplotlib.figure import Figure

    from dlrm_mini.pictures import verdicts

    assert set(style.VERDICT_COLOURS) == set(VERDICTS)
    shapes = set()
    for verdict in VERDICTS:
        axes = Figure().subplots()
        verdicts.mark(axes, (0, 0), 1.0, verdict)
        patches = [(type(one), one.get_fill(), one.get_hatch()) for one in axes.patches]
        shapes.add((*patches, len(axes.lines)))
    assert len(shapes) == len(VERDICTS)


def foreign(source):
    """Colours in code that do not come from `style`: literals, matplotlib's names, its maps."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found += [match[0] for match in HEX.finditer(node.value)]
            if re.fullmatch(r"tab:\w+|xkcd:.+", node.value):
                found.append(node.value)
        if not isinstance(node, ast.keyword | ast.Dict):
            continue
        keyed = (
            [(node.arg, node.value)] if isinstance(node, ast.keyword)
            else [(getattr(key, "value", None), value)
                  for key, value in zip(node.keys, node.values, strict=True)]
        )  # fmt: skip
        for key, value in keyed:
            if not isinstance(key, str) or "fontstyle" in key:
                continue
            words = [part.value for part in ast.walk(value)
                     if isinstance(part, ast.Constant) and isinstance(part.value, str)]  # fmt: skip
            if key == "cmap":
                found += [word for word in words if word in mpl.colormaps]
            elif re.search("colou?rs?$|^(mec|mfc|ec|fc|foreground)$", key):
                found += [word for word in words if _named(word)]
    return [word for word in found if word not in NEUTRAL]


def _named(word):
    return word in CSS4_COLORS or re.fullmatch(r"C\d|[rgbcmyk]", word) is not None


@pytest.mark.parametrize("source", [
    "a = '#12AB34'", "plot(color='red')", "look = {'facecolor': 'C3'}", "b = 'tab:red'",
    "imshow(x, cmap='viridis')", "plot(mec='k')", "f(colors=['g', style.RED])",
])  # fmt: skip
def test_each_way_to_name_a_colour_is_found(source):
    assert foreign(source)


@pytest.mark.parametrize("source", [
    "a = '#CCCCCC'", "plot(color='white')", "table = 'C3'", "s = {'a': 'red'}",
    "imshow(x, cmap=style.SEQUENTIAL)", "plot(color=style.RED)",
])  # fmt: skip
def test_what_is_no_colour_of_its_own_is_not(source):
    assert not foreign(source)


@pytest.mark.parametrize("place", PLACES)
def test_no_picture_has_a_colour_of_its_own(place):
    path = ROOT / "dlrm_mini" / place
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
    found = {file.name: foreign(file.read_text(encoding="utf-8")) for file in files}
    assert {name: colours for name, colours in found.items() if colours} == {}


def test_no_chapter_has_a_colour_of_its_own():
    found = {}
    for chapter in chapters.read_order():
        for position, cell in notebook.code_cells(notebook.read(chapter.path)):
            lines = cell.source.splitlines()
            plain = "\n".join("pass" if line.startswith(("%", "!")) else line for line in lines)
            if colours := foreign(plain):
                found[chapter.number, position] = colours
    assert found == {}
