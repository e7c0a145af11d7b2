"""Chapter 14's computations, pictures and widget: the map is the cost model's, its coast a half."""

import json
import time

import numpy as np
import pytest

from dlrm_mini import widgets as room
from dlrm_mini.course.figures import problems
from dlrm_mini.errors import UserError
from dlrm_mini.ladders import communication as ladder
from dlrm_mini.models.dlrm_config import DLRMConfig
from dlrm_mini.models.dlrm_presets import kaggle, rm2, terabyte
from dlrm_mini.parallel.cost import step_cost
from dlrm_mini.parallel.events import Event
from dlrm_mini.parallel.fit import Sample
from dlrm_mini.parallel.topology import LINKS, Link, topology
from dlrm_mini.pictures import communication_costs as pictures
from dlrm_mini.pictures import crossover_map
from dlrm_mini.profiling.known_hardware import KNOWN
from dlrm_mini.widgets import png
from dlrm_mini.widgets.communication_costs import CostMap

A100 = ladder.GPUS["A100"]
BETAS = np.array([link.beta for link in LINKS.values()])
STARTS = [link.alpha for link in LINKS.values()]
BREAKDOWN = {
    "embeddings": 1e-3, "fully connected": 2e-3, "interaction": 0.5e-3, "everything else": 0.5e-3,
    "input exchange": 1e-3, "all-to-all forward": 1e-3, "all-to-all backward": 2e-3,
    "squares": 0.0, "all-reduce": 1.5e-3, "waiting": 0.5e-3,
}  # fmt: skip


def words(axes) -> list[str]:
    return [text.get_text() for text in axes.texts if text.get_text()]


# The computations.


@pytest.mark.parametrize("ranks", [1, 2, 7, 13, 26, 51, 52, 64, 128])
def test_tables_are_dealt_out_in_turn(ranks):
    config = kaggle(0.001)
    plan = ladder.dealt(config, ranks)
    pieces = {name: plan.shards(name) for name in config.cardinalities}
    assert {len(shards) for shards in pieces.values()} == {max(1, ranks // 26)}
    number = [len(plan.of_rank(rank)) for rank in range(ranks)]
    assert max(number) - min(number) <= 1


def test_nobody_deals_to_nobody():
    with pytest.raises(UserError, match="at least 1"):
        ladder.dealt(kaggle(0.001), 0)


@pytest.mark.parametrize(
    ("config", "weak", "overlap", "number"),
    [
        (terabyte(), True, False, 4),
        (terabyte(), False, True, 2),
        (rm2(), True, True, 1),
        (kaggle(), False, False, 4),
    ],
)
def test_the_landscape_is_the_cost_model(config, weak, overlap, number):
    ranks, batch = (1, 2, 8, 64), 1000
    found = ladder.landscape(
        config, A100, batch, weak=weak, overlap=overlap, number=number, ranks=ranks,
        bandwidths=BETAS, alpha=STARTS,
    )  # fmt: skip
    for row, size in enumerate(ranks):
        for column, link in enumerate(LINKS):
            cost = step_cost(
                config, ladder.dealt(config, size), topology(link, size), A100,
                batch * size if weak else batch, bytes_forward=number, bytes_backward=number,
                overlap=overlap,
            )  # fmt: skip
            assert found.seconds[row, column] == pytest.approx(cost.seconds)
            vectors = cost.share("all-to-all forward", "all-to-all backward")
            at = {name: shares[row, column] for name, shares in found.shares.items()}
            assert at["vectors"] == pytest.approx(vectors, abs=1e-12)
            assert at["all-to-all"] == pytest.approx(cost.all_to_all, abs=1e-12)
            reduced = cost.share("all-reduce")
            talk = cost.all_to_all + reduced
            assert at["all communication"] == pytest.approx(talk, abs=1e-12)


def test_one_alpha_is_that_of_every_link():
    one = ladder.landscape(kaggle(), A100, 64, bandwidths=BETAS, alpha=9e-6)
    each = ladder.landscape(kaggle(), A100, 64, bandwidths=BETAS, alpha=[9e-6] * len(BETAS))
    less = ladder.landscape(kaggle(), A100, 64, bandwidths=BETAS, alpha=1e-6)
    assert np.array_equal(one.seconds, each.seconds) and (less.seconds < one.seconds).all()


def test_the_first_with_most():
    shares = np.array([[0.5, 0.1, 0.2], [0.6, 0.4, 0.49], [0.3, 0.5, 0.2]])
    found = crossover_map.Landscape((2, 4, 8), np.ones(3), {"vectors": shares}, shares)
    assert found.first("vectors", 0.5) == [2, 8, None]


def test_published_steps_are_rows_over_rate():
    assert [round(run.milliseconds, 2) for run in ladder.TORCHREC] == [
        22.14, 11.24, 9.80, 7.20, 12.20,
    ]  # fmt: skip


def test_tf32_is_half_of_bfloat16():
    machine = ladder.tf32("A100 80 GB")
    half = KNOWN["A100 80 GB"].best("bfloat16") / 2
    assert machine.ceilings.best("float32") == pytest.approx(half)
    assert machine.ceilings.copy == KNOWN["A100 80 GB"].copy


# The pictures.


def test_a_sweep_shows_points_lines_and_where_they_bend():
    samples = [
        Sample(name, 2, n, seconds)
        for name, seconds in (("all_to_all", 2e-5), ("all_reduce", 5e-5))
        for n in (10**6, 10**3)
    ]
    links = {"all_to_all": Link("a", 1e-5, 1e9, ""), "all_reduce": Link("b", 2e-5, 1e9, "")}
    figure = pictures.sweep(samples, links, Link("guess", 1e-6, 1e9, ""), "a machine")
    (axes,) = figure.axes
    points, line, bend, *_, guess = axes.lines
    assert list(points.get_xdata()) == [1e3, 1e6] and list(points.get_ydata()) == [20, 20]
    assert list(line.get_ydata()) == pytest.approx([10.5, 510])
    # Half of 20,000 bytes moves: as long as alpha.
    assert [*bend.get_xdata(), *bend.get_ydata()] == pytest.approx([20_000, 20])
    assert axes.lines[5].get_ydata() == pytest.approx([80])  # two messages each way of a ring
    assert list(guess.get_ydata()) == pytest.approx([1.5, 501])
    assert "a machine" in axes.get_xlabel() and not problems(figure)


def test_steps_are_shares_and_hatched():
    links = {"fast": {1: BREAKDOWN, 2: BREAKDOWN}, "slow": {1: BREAKDOWN, 2: BREAKDOWN}}
    figure = pictures.steps({"one": links, "two": links}, "steps")
    assert len(figure.axes) == 4
    for axes in figure.axes:
        heights = np.array([bar.get_height() for bar in axes.patches]).reshape(2, -1)
        assert heights.sum(1) == pytest.approx([100, 100])
        assert heights[0] == pytest.approx([10, 20, 5, 5, 30, 10, 15, 5])
        assert all(bar.get_hatch() for bar in axes.patches)
        assert words(axes) == ["10", "10"]
    assert not problems(figure)


def test_layers_hold_the_whole_breakdown():
    names = [name for _, parts in pictures.LAYERS.values() for name in parts]
    found = step_cost(kaggle(0.01), ladder.dealt(kaggle(0.01), 2), topology("PCIe", 2), A100, 64)
    assert sorted(names) == sorted(found.breakdown())


def test_the_fastest_number_of_ranks_is_full():
    seconds = {name: np.array([8e-3, 5e-3, 6e-3]) for name in LINKS}
    figure = pictures.same_batch({"a": ((1, 2, 4), seconds)}, 4096)
    (axes,) = figure.axes
    line, best = axes.lines[:2]
    assert list(line.get_ydata()) == pytest.approx([8, 5, 6])
    assert (best.get_xdata()[0], best.get_ydata()[0]) == (2, pytest.approx(5))
    assert list(axes.lines[-1].get_ydata()) == pytest.approx([8, 4, 2])
    assert "modelled" in axes.get_ylabel() and not problems(figure)


def test_what_others_measured_is_solid_and_the_model_hatched():
    runs = ladder.TORCHREC[:2]
    figure = pictures.published_runs(runs, {"fast": [BREAKDOWN, BREAKDOWN]}, "runs")
    (axes,) = figure.axes
    solid = [bar for bar in axes.patches if not bar.get_hatch()]
    assert [bar.get_width() for bar in solid] == [run.milliseconds for run in runs]
    hatched = [bar.get_width() for bar in axes.patches if bar.get_hatch()]
    assert sum(hatched) == pytest.approx(2 * 10)
    assert [text for text in words(axes) if "modelled" in text] == [" 10.0 modelled, fast"] * 2
    assert not problems(figure)


def test_orders_are_of_one_rank_above_each_other():
    first = [Event(0, "bottom MLP", 0, 1, "compute"), Event(1, "bottom MLP", 0, 3, "compute")]
    then = [Event(0, "all_to_all", 1, 2, "communication")]
    figure = pictures.orders({"in turn": [*first, *then], "overlapped": first})
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["in turn", "overlapped"]
    bars = [(bar.get_x(), bar.get_width(), round(bar.get_y() + 0.4)) for bar in axes.patches]
    assert sorted(bars) == [(0, 1, 0), (0, 1, 1), (1, 1, 0)]
    assert not problems(figure)


def test_what_is_saved_is_hatched_and_what_is_lost_is_dots():
    saved = {"fast": {4: 2e-3, 2: 1.5e-3, 1: 1e-3}, "slow": {4: 20e-3, 2: 12e-3, 1: 8e-3}}
    figure = pictures.fewer_bytes(saved, {8: [0.001, -0.001], 1: [-0.01, -0.02]}, "bits")
    left, right = figure.axes
    assert [bar.get_height() for bar in left.patches] == pytest.approx([100, 75, 50, 100, 60, 40])
    assert all(bar.get_hatch() for bar in left.patches)
    dots = [line for line in right.lines if line.get_marker() == "o"]
    assert [list(line.get_ydata()) for line in dots] == [[1, -1], [-10, -20]]
    assert not problems(figure)


def plain(share) -> crossover_map.Landscape:
    """A landscape with one share for each link, the same for all ranks."""
    rates = np.geomspace(1e9, 100e9, len(share))
    shares = np.tile(share, (3, 1))
    return crossover_map.Landscape((2, 4, 8), rates, {"vectors": shares}, shares)


def test_the_coast_is_where_half_of_the_step_waits():
    figure = crossover_map.sea_and_land(plain(np.linspace(0.9, 0.4, 5)), "vectors", title="a map")
    axes = figure.axes[0]
    (coast,) = (
        lines
        for lines in axes.collections
        if list(getattr(lines, "levels", [])) == [crossover_map.COAST]
    )
    points = np.concatenate([path.vertices for path in coast.get_paths()])
    assert points[:, 0] == pytest.approx(9 + 2 * 0.8)  # four fifths of the way from 1 to 100 GB/s
    assert (points[:, 1].min(), points[:, 1].max()) == (1, 3)  # log2 of 2 and 8 ranks
    assert any(patch.get_hatch() for patch in axes.patches)
    assert words(axes)[-len(LINKS) :] == list(LINKS)
    assert figure.axes[1].get_ylabel().endswith("vectors") and not problems(figure)


@pytest.mark.parametrize("level", [0.2, 0.8])
def test_a_map_may_be_all_sea_or_all_land(level):
    share = level + np.linspace(-0.01, 0.01, 5)
    axes = crossover_map.sea_and_land(plain(share), "vectors", title="a map").axes[0]
    levels = [list(getattr(lines, "levels", [])) for lines in axes.collections]
    assert [crossover_map.COAST] not in levels


def test_sea_is_blue_and_land_is_not():
    colours = crossover_map._sea_and_land()
    deep, shallow, beach, inland = (colours(share) for share in (0.0, 0.499, 0.501, 1.0))
    assert deep[2] > deep[0] and shallow[2] > shallow[0]
    assert beach[0] > beach[2] and inland[0] > inland[1]


def test_the_picture_to_wonder_at_explains_nothing():
    figure = crossover_map.sea_and_land(
        plain(np.linspace(1, 0, 5)), "vectors", title="where?", named=False
    )
    (axes,) = figure.axes
    assert not words(axes) and not len(axes.get_xticks()) and not problems(figure)


# The widget.


@pytest.fixture
def chart():
    return CostMap()


def test_every_control_is_alive(chart, monkeypatch):
    monkeypatch.setattr(room, "_shown", [])
    chart.widget("kaggle", 1024)._repr_mimebundle_()
    (found,) = json.loads(room.probe())
    assert found["name"] == "the map of what communication costs" and found["problem"] is None


def test_the_widget_asks_for_what_its_controls_say(chart, monkeypatch):
    seen = {}
    monkeypatch.setattr(
        crossover_map, "sea_and_land",
        lambda found, reading, title: seen.update(found=found, reading=reading, title=title),
    )  # fmt: skip
    chart.draw("rm2", 64, "strong", 32, 20, "V100", "vectors", 2, True)
    config = rm2()
    narrow = DLRMConfig(
        config.n_dense, config.cardinalities, 32, bottom=(*config.bottom[:-1], 32), top=config.top,
        interaction=config.interaction, lookups=config.lookups,
    )  # fmt: skip
    expected = ladder.landscape(
        narrow, ladder.GPUS["V100"], 512, weak=False, overlap=True, number=2, alpha=20e-6
    )
    assert seen["found"].seconds == pytest.approx(expected.seconds)
    assert seen["reading"] == "vectors"
    assert seen["title"] == "rm2, 512 rows in all, width 32, V100, alpha 20 µs"


def test_the_map_is_redrawn_quickly(chart):
    chart.draw("terabyte", 2048)
    start = time.process_time()
    png(chart.draw("terabyte", 4096))
    assert time.process_time() - start < 2  # ten times what it takes
