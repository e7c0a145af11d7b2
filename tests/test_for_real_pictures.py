"""Chapter 15's pictures and widget: solid is measured, and they draw what they were given."""

import json

import pytest
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle

from dlrm_mini import style
from dlrm_mini import widgets as room
from dlrm_mini.course.figures import problems
from dlrm_mini.errors import UserError
from dlrm_mini.parallel.events import Event
from dlrm_mini.parallel.recorded import WAITING
from dlrm_mini.pictures import for_real as pictures
from dlrm_mini.widgets.for_real import RealSteps

STEP = [
    Event(0, "lookups", 0.0, 0.002, "compute"),
    Event(0, WAITING, 0.002, 0.003, "compute"),
    Event(1, "lookups", 0.0, 0.003, "compute"),
    Event(0, "all_to_all", 0.003, 0.004, "communication", 10),
    Event(1, "all_to_all", 0.003, 0.005, "communication", 10),
    Event(1, "dense part", 0.005, 0.009, "compute"),
]
MODEL = [Event(rank, "top MLP", 0.0, 0.004, "compute") for rank in (0, 1)]


def words(axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def boxes(axes) -> list[tuple[float, float, int, tuple[float, ...], bool]]:
    """(begin, end, rank, colour, hatched) of each event."""
    return [
        (round(box.get_x(), 6), round(box.get_x() + box.get_width(), 6),
         round(box.get_y() + box.get_height() / 2), box.get_facecolor()[:3], bool(box.get_hatch()))
        for box in axes.patches if isinstance(box, Rectangle)
    ]  # fmt: skip


def test_a_measured_step_is_solid_and_names_its_hardware():
    figure = pictures.measured_step(STEP, title="A step", hardware="this machine")
    (axes,) = figure.axes
    purple, blue = to_rgb(style.COMMUNICATION), to_rgb(style.GROUP_COLOURS["embeddings"])
    grey = to_rgb(pictures.SHADES[WAITING])
    orange = to_rgb(style.GROUP_COLOURS["fully connected"])
    assert boxes(axes) == [
        (0, 2, 0, blue, False), (2, 3, 0, grey, False), (0, 3, 1, blue, False),
        (3, 4, 0, purple, False), (3, 5, 1, purple, False), (5, 9, 1, orange, False),
    ]  # fmt: skip
    assert "this machine" in axes.get_xlabel() and not problems(figure)
    with pytest.raises(UserError, match="no events"):
        pictures.measured_step([], title="A step", hardware="this machine")


def test_measured_above_predicted_on_one_axis():
    figure = pictures.two_timelines(STEP, MODEL, title="Both", hardware="this machine")
    above, below = figure.axes
    assert not any(box[4] for box in boxes(above)) and all(box[4] for box in boxes(below))
    assert above.get_xlim() == below.get_xlim() == (0, pytest.approx(9.09))
    titles = [axes.get_title(loc="left") or axes.get_title() for axes in (above, below)]
    assert titles == ["measured: 9.0 ms", "predicted: 4.0 ms"]
    assert not problems(figure)


@pytest.mark.parametrize("crossed", [4_000_000, None])
def test_bytes_of_two_worlds_and_of_the_wire(crossed):
    sent = {"all_to_all": 2_000_000, "all_reduce": 1_000_000}
    figure = pictures.bytes_sent(sent, sent, crossed, title="Bytes")
    (axes,) = figure.axes
    bars = [(bar.get_x(), bar.get_width(), bool(bar.get_hatch())) for bar in axes.patches]
    assert bars[:4] == [(0, 2, True), (2, 1, True), (0, 2, False), (2, 1, False)]
    assert bars[4] == (0, 4 if crossed else 0, False)
    assert words(axes)[2].strip() == ("4,000,000 bytes" if crossed else "can be read on Linux only")
    assert words(axes)[0] == words(axes)[1] == "  3,000,000 bytes"
    assert not problems(figure)


def test_who_wins_is_one_process_time_over_the_others():
    measured = {1: {128: 0.01, 512: 0.04}, 2: {128: 0.02, 512: 0.02}}
    predicted = {1: {128: 0.01, 512: 0.03}, 2: {128: 0.02, 512: 0.01}}
    figure = pictures.by_batch(measured, predicted, hardware="this machine", guess=512)
    left, right = figure.axes
    assert [list(line.get_ydata()) for line in left.lines[:4]] == [
        [10, 40], [10, 30], [20, 20], [20, 10],
    ]  # fmt: skip
    assert [list(line.get_ydata()) for line in right.lines[:2]] == [[0.5, 2], [0.5, 3]]
    assert [line.get_linestyle() for line in left.lines[:4]] == ["-", ":", "-", ":"]
    assert words(right) == ["your guess"] and right.lines[3].get_xdata()[0] == 512
    assert "this machine" in figure.get_suptitle() and not problems(figure)
    never = pictures.by_batch(measured, predicted, hardware="this machine", guess=None)
    assert not words(never.axes[1])


def test_parts_of_a_step_add_up():
    rows = {
        "measured": ({"embeddings": 0.001, "communication": 0.002, pictures.BETWEEN: 0.001}, True),
        "predicted": ({"embeddings": 0.002, "interaction": 0.0}, False),
    }
    figure = pictures.breakdowns(rows, title="Parts")
    (axes,) = figure.axes
    bars = [(bar.get_x(), bar.get_width(), bool(bar.get_hatch())) for bar in axes.patches]
    assert bars == [(0, 1, False), (1, 2, False), (3, 1, False), (0, 2, True)]
    assert [text.strip() for text in words(axes)] == ["4.0 ms", "2.0 ms"]
    assert not problems(figure)


def test_a_silence_lasts_from_the_death_until_it_is_known():
    events = [
        Event(0, "lookups", 9.0, 9.2, "compute"),  # too long ago
        Event(0, "dense part", 9.99, 10.01, "compute"),
        Event(1, "dense part", 9.99, 9.995, "compute"),
        Event(0, "all_gather", 10.01, 10.05, "communication"),
    ]
    figure = pictures.silence(events, 10.0, 1, 10.05, hardware="this machine")
    (axes,) = figure.axes
    assert len(axes.patches) == 3
    last = axes.patches[2]
    assert last.get_x() == pytest.approx(10) and last.get_width() == pytest.approx(40)
    assert last.get_facecolor()[:3] == to_rgb(pictures.SHADES[WAITING])
    assert words(axes) == ["killed", " 50 ms later: the others know"]
    assert axes.lines[0].get_ydata() == [1] and not problems(figure)


@pytest.fixture
def steps(monkeypatch):
    monkeypatch.setattr(room, "_shown", [])
    runs = [(size, batch) for size in (1, 2) for batch in (128, 512)]
    measured = {
        run: [Event(rank, "lookups", 0.0, 1e-5 * run[1], "compute") for rank in range(run[0])]
        for run in runs
    }
    return RealSteps(measured, dict.fromkeys(runs, MODEL), "this machine")


def test_every_control_of_the_widget_is_alive(steps):
    widget = steps.widget(processes=2, batch=512)
    widget._repr_mimebundle_()
    (found,) = json.loads(room.probe())
    assert found["name"] == "a step, measured and predicted" and found["problem"] is None


def test_the_widget_draws_the_run_that_was_chosen(steps):
    figure = steps.draw(processes=1, batch=128)
    assert figure.get_suptitle() == "1 process, batch 128"
    assert boxes(figure.axes[0])[0][:3] == (0, 1.28, 0)
    assert steps.draw(2, 512).get_suptitle() == "2 processes, batch 512"
