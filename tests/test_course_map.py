"""The map of the course: every chapter has its station, its drawing, its question, and room."""

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from dlrm_mini import style
from dlrm_mini.course import chapters
from dlrm_mini.pictures.course_glyphs import GLYPHS
from dlrm_mini.pictures.course_map import LAST, PARTS, course_map

STATIONS = [*(station for part in PARTS.values() for station in part), LAST]


@pytest.fixture(scope="module")
def drawn():
    style.use()
    figure = course_map()
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return figure.axes[0], canvas.get_renderer()


def test_the_stations_are_the_chapters_in_order():
    assert [number for number, _, _ in STATIONS] == [c.number for c in chapters.read_order()]
    assert all(question.endswith("?") for _, _, question in STATIONS)
    assert GLYPHS.keys() == {number for number, _, _ in STATIONS}


def test_every_title_and_question_can_be_read(drawn):
    axes, _ = drawn
    shown = [" ".join(text.get_text().split()) for text in axes.texts]
    for number, title, question in STATIONS:
        assert f"{number} {title}" in shown and question in shown


def test_no_text_runs_into_a_station_or_another_text(drawn):
    axes, renderer = drawn
    words = [(t.get_text(), t.get_window_extent(renderer)) for t in axes.texts]
    rings = [p for p in axes.patches if isinstance(p, Circle) and p.get_radius() > 0.4]
    assert len(rings) == len(STATIONS)
    taken = [("a station", ring.get_window_extent(renderer)) for ring in rings]
    for place, (text, box) in enumerate(words):
        for other, its in [*taken, *words[place + 1 :]]:
            width = min(box.x1, its.x1) - max(box.x0, its.x0)
            height = min(box.y1, its.y1) - max(box.y0, its.y0)
            assert width <= 1 or height <= 2, (text, other)


@pytest.mark.parametrize("number", GLYPHS)
def test_a_drawing_stays_in_its_circle(number):
    axes = Figure().subplots()
    axes.set(aspect="equal", xlim=(2, 4), ylim=(-3, -1))
    GLYPHS[number](axes, 3.0, -2.0, style.BLUE)
    axes.set(xlim=(2, 4), ylim=(-3, -1))
    boxes = [artist.get_window_extent() for artist in [*axes.patches, *axes.lines]]
    assert boxes or axes.collections
    for x, y in axes.transData.inverted().transform([c for box in boxes for c in box.corners()]):
        assert max(abs(x - 3.0), abs(y + 2.0)) <= 0.36
