"""The timeline of all ranks and the shuffle step by step: they draw what they were given."""

import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from dlrm_mini import style
from dlrm_mini.course.figures import problems
from dlrm_mini.errors import UserError
from dlrm_mini.parallel.events import Event
from dlrm_mini.parallel.simulated import SimulatedCluster
from dlrm_mini.parallel.topology import topology
from dlrm_mini.pictures import shuffle, timeline
from dlrm_mini.pictures.shuffle import draw_shuffle
from dlrm_mini.pictures.timeline import draw_timeline

EVENTS = [
    Event(0, "lookups", 0.0, 2e-3, "compute"),
    Event(1, "lookups", 0.0, 3e-3, "compute"),
    Event(0, "all_to_all", 3e-3, 4e-3, "communication", 10),
    Event(1, "all_to_all", 3e-3, 4e-3, "communication", 10),
    Event(0, "top MLP", 4e-3, 6e-3, "compute"),
]


def words(axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def rectangles(axes) -> list[Rectangle]:
    return [patch for patch in axes.patches if isinstance(patch, Rectangle)]


def boxes(axes, unit: float = 1e3) -> list[tuple[float, float, str]]:
    return [
        (bar.get_x() / unit, (bar.get_x() + bar.get_width()) / unit, to_hex(bar.get_facecolor()))
        for bar in rectangles(axes)
    ]


def test_a_timeline_has_a_bar_for_each_event():
    figure = draw_timeline(EVENTS, title="A step")
    (axes,) = figure.axes
    blue, purple, orange = (
        one.lower() for one in (style.BLUE, style.COMMUNICATION, style.ORANGE)
    )  # fmt: skip
    expected = [(0, 2e-3, blue), (0, 3e-3, blue), (3e-3, 4e-3, purple), (3e-3, 4e-3, purple),
                (4e-3, 6e-3, orange)]  # fmt: skip
    for found, one in zip(boxes(axes), expected, strict=True):
        assert found[:2] == pytest.approx(one[:2]) and found[2] == one[2]
    assert [round(bar.get_y() + bar.get_height() / 2) for bar in rectangles(axes)] == [
        0,
        1,
        0,
        1,
        0,
    ]
    assert "all-to-all" in words(axes) and "lookups" in words(axes)
    assert axes.get_xlabel() == "time, modelled [ms]"
    named = [text.get_text() for text in figure.legends[0].get_texts()]
    assert named == ["embeddings", "fully connected", "communication"]
    assert not problems(figure)


def test_modelled_is_hatched_and_measured_is_solid():
    either = [draw_timeline(EVENTS, title="t", modelled=m).axes[0] for m in (True, False)]
    hatches = [{bar.get_hatch() for bar in rectangles(axes)} for axes in either]
    assert hatches == [{style.MODELLED["hatch"]}, {None}]
    assert "measured" in either[1].get_xlabel()


def test_what_passes_at_once_has_two_lanes():
    both = [*EVENTS, Event(0, "bottom MLP", 2e-3, 3.5e-3, "compute")]
    (axes,) = draw_timeline(both, title="t").axes
    bars = rectangles(axes)
    ranges = [(b.get_x(), b.get_x() + b.get_width(), b.get_y(), b.get_y() + b.get_height())
              for b in bars]  # fmt: skip
    for place, (start, end, low, high) in enumerate(ranges):
        for other_start, other_end, other_low, other_high in ranges[place + 1 :]:
            apart = end <= other_start + 1e-9 or other_end <= start + 1e-9
            assert apart or high <= other_low or other_high <= low
    assert (
        bars[0].get_height() < rectangles(draw_timeline(EVENTS, title="t").axes[0])[0].get_height()
    )


def test_events_that_touch_need_no_lanes():
    assert not timeline._overlap(EVENTS)
    steps = [0.1 * step for step in range(12)]
    touching = [Event(0, "x", start, start + 0.1, kind) for start, kind in
                zip(steps, ["compute", "communication"] * 6, strict=True)]  # fmt: skip
    assert not timeline._overlap(touching)


@pytest.mark.parametrize(("end", "unit"), [(3.0, "s"), (3e-3, "ms"), (3e-6, "µs"), (3e-9, "µs")])
def test_the_unit_fits_the_time(end, unit):
    events = [Event(0, "lookups", 0.0, end, "compute")]
    assert draw_timeline(events, title="t").axes[0].get_xlabel().endswith(f"[{unit}]")


def test_a_cluster_of_128_is_drawn_with_few_bars():
    cluster = SimulatedCluster(topology("NVLink + 100 Gbit/s", 128))

    def step(comm):
        with comm.part("lookups", 1e-3 * (1 + (comm.rank >= 64))):
            pass
        comm.all_reduce(torch.empty(1000, device="meta"))

    cluster.run(step)
    figure = draw_timeline(cluster.events, title="t")
    (axes,) = figure.axes
    assert len(cluster.events) == 256 and len(rectangles(axes)) == 3
    assert sorted(bar.get_height() for bar in rectangles(axes)) == [64, 64, 128]
    assert len(axes.get_yticks()) == 16 and not words(axes)
    assert figure.get_size_inches()[1] < 8 and not problems(figure)


def test_the_groups_of_parts():
    found = [timeline.group_of(name) for name in (
        "embedding forward", "lookups", "table update", "bottom MLP", "dense part backward",
        "dense update", "interaction backward", "input exchange", "loss",
    )]  # fmt: skip
    assert (
        found
        == ["embeddings"] * 3 + ["fully connected"] * 3 + ["interaction"] + ["everything else"] * 2
    )


def test_no_events_no_timeline():
    with pytest.raises(UserError, match="no events"):
        draw_timeline([], title="t")


TABLES, ROWS = [2, 1, 0, 3], [2, 1, 3, 2]  # 6 tables, 8 rows of the batch: 48 blocks


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("step", range(5))
def test_every_block_is_in_one_place(step, backward):
    scene = shuffle._Scene(TABLES, ROWS, backward, step)
    moving = 0
    for row, home in enumerate(scene.homes):
        for table, holder in enumerate(scene.holders):
            before, after = scene.state(row, table, False), scene.state(row, table, True)
            sender, receiver = (home, holder) if backward else (holder, home)
            assert (sender + scene.distance(row, table)) % 4 == receiver
            assert (before, after) in {("full", "awaited"), ("gone", "full"), ("gone", "awaited")}
            moving += (before, after) == ("gone", "awaited")
    (axes,) = draw_shuffle(TABLES, ROWS, step, backward=backward).axes
    blocks = [one for one in axes.collections if one.get_zorder() == 4]
    # Where from, where to, and on their way.
    assert sum(len(one.get_paths()) for one in blocks) == 2 * 48 + moving
    arrows = sum(isinstance(patch, FancyArrowPatch) for patch in axes.patches)
    cards = sum(isinstance(patch, FancyBboxPatch) for patch in axes.patches)
    assert cards == 8 + arrows and bool(arrows) == bool(moving) == (0 < step < 4)


def test_what_arrives_is_what_an_all_to_all_gives():
    """The numbers in the title are the messages of a real run."""
    cluster = SimulatedCluster(4)
    cluster.run(lambda comm: comm.all_to_all(
        torch.zeros(sum(ROWS) * TABLES[comm.rank], 1), [n * TABLES[comm.rank] for n in ROWS],
        [ROWS[comm.rank] * n for n in TABLES],
    ))  # fmt: skip
    links = cluster.links() // 4
    after = draw_shuffle(TABLES, ROWS, 4).get_suptitle()
    assert f"{links.sum()} vectors came over links, {48 - links.sum()} stayed" in after
    for step in (1, 2, 3):
        moving = sum(links[rank, (rank + step) % 4] for rank in range(4))
        assert f"\n{moving} vectors on their way" in draw_shuffle(TABLES, ROWS, step).get_suptitle()


def test_a_film_keeps_its_size_and_begins_and_ends_well():
    figures = [draw_shuffle(TABLES, ROWS, step) for step in range(shuffle.steps(4))]
    assert len({tuple(figure.get_size_inches()) for figure in figures}) == 1
    assert not any(text for figure in figures for text in problems(figure))
    assert figures[0].get_suptitle().startswith("Before")
    assert figures[-1].get_suptitle().startswith("After")
    assert draw_shuffle([1], [2], 1).get_suptitle().startswith("After")
    assert "gradients" in draw_shuffle(TABLES, ROWS, 0, backward=True).get_suptitle()


def test_shuffles_that_cannot_be_drawn():
    for tables, rows in (([1, 2], [1]), ([], []), ([1] * 9, [1] * 9), ([1, -1], [1, 1])):
        with pytest.raises(UserError, match="1 to 8"):
            draw_shuffle(tables, rows, 0)
