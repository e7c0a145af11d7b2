"""Chapter 10's pictures and their film: what they draw is what they were given."""

import json

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb

from dlrm_mini.course.figures import problems
from dlrm_mini.ladders import step_shares
from dlrm_mini.models.dlrm_config import DLRMConfig
from dlrm_mini.pictures import step_clock
from dlrm_mini.pictures import where_time_goes as pictures
from dlrm_mini.pictures.step_clock import Bar, Film
from dlrm_mini.plots import GROUP_COLOURS
from dlrm_mini.profiling import breakdown, trace
from dlrm_mini.profiling.known_hardware import KNOWN, PAPER_CPU
from dlrm_mini.profiling.parts import GROUPS, grouped
from dlrm_mini.profiling.workload import Workload
from tests.profiling import made_up

GROUP = dict(zip(GROUPS, (3.0, 5.0, 1.0, 1.0), strict=True))
FILM = Film(
    strip=[Bar(0, 2, 0, "embedding forward"), Bar(2, 6, 0, "top MLP"), Bar(6, 8, 0, "remainder")],
    operators=[Bar(0, 2, 0, "embedding forward"), Bar(0.5, 1, 1, "embedding forward"),
               Bar(3, 6, 0, "top MLP")],
    phases={"forward": (0, 5), "backward": (5, 7.9), "update": (7.9, 8)},
)  # fmt: skip


def words(axes) -> list[str]:
    return [text.get_text() for text in axes.texts if text.get_text()]


@pytest.fixture(scope="module")
def profiled(tmp_path_factory):
    torch.set_num_threads(1)
    config = DLRMConfig(4, {"a": 50, "b": 20}, 8, bottom=(16, 8), top=(16, 1), lookups=3)
    workload = Workload(config, 64, tables="sparse")
    file = tmp_path_factory.mktemp("trace") / "step.json"
    found = breakdown.profile(workload.build(), workload.batches(2), repetitions=1, trace=file)
    return found, trace.read(file)


def test_the_film_is_the_breakdown(profiled):
    found, spans = profiled
    film = step_shares.film(spans)
    assert film.wall == pytest.approx(found.wall_ms)
    for before, after in zip(film.strip, film.strip[1:], strict=False):
        assert before.end == after.start and before.part != after.part
    parts = film.parts()
    expected = {part: ms for part, ms in found.parts.items() if ms}
    for either in (parts, expected):
        either["between"] = either.pop("loss backward", 0) + either.pop("remainder")
    assert parts == pytest.approx(expected, abs=2e-3)
    (start, middle), (_, end), (_, last) = film.phases.values()
    assert start == 0 < middle < end < last == film.wall


def test_every_operator_lies_within_one_that_is_less_deep(profiled):
    film = step_shares.film(profiled[1])
    assert max(bar.depth for bar in film.operators) >= 2
    for bar in film.operators:
        around = [
            one for one in film.operators
            if one.depth == bar.depth - 1 and one.start <= bar.start < one.end
        ]  # fmt: skip
        assert bar.depth == 0 or around


def test_the_order_of_the_spans_does_not_matter(profiled):
    spans = profiled[1]
    assert step_shares.film(spans[::-1]).parts() == pytest.approx(step_shares.film(spans).parts())


def test_a_clock_goes_round_once():
    figure = step_clock.clock(FILM)
    (axes,) = figure.axes
    strip = axes.patches[:3]
    assert [bar.get_x() for bar in strip] == pytest.approx([0, np.pi / 2, 3 * np.pi / 2])
    assert sum(bar.get_width() for bar in strip) == pytest.approx(2 * np.pi)
    colours = [GROUP_COLOURS[g] for g in ("embeddings", "fully connected", "everything else")]
    for bar, colour in zip(strip, colours, strict=True):
        assert bar.get_facecolor()[:3] == pytest.approx(to_rgb(colour))
    radii = [bar.get_y() for bar in axes.patches]
    assert radii[4] == radii[3] < radii[5]  # the operator within another stands further out
    assert "one training step\n8 ms" in words(axes)
    letters = "".join(word for word in words(axes) if word.isalpha())
    assert letters == "forwardbackward"  # the update is too short for its word
    (legend,) = figure.legends
    assert {text.get_text() for text in legend.get_texts()} == {"?"}  # it is the reader's question
    assert not problems(figure)


def test_shares_are_of_the_step_whatever_they_add_up_to():
    figure = pictures.shares(
        {group: 10 * ms for group, ms in GROUP.items()},
        {"here": GROUP},
        {"by name": {"FC": 6.0, "Optimizer": 2.0}},
        "a machine",
    )
    (axes,) = figure.axes
    wide = [bar.get_width() for bar in axes.patches]
    assert wide == pytest.approx([0.3, 0.5, 0.1, 0.1] * 2 + [0.75, 0.25])
    assert axes.patches[0].get_alpha() < axes.patches[4].get_alpha() == 1  # a guess is pale
    assert words(axes)[:2] == ["30 %", "50 %"] and "FC\n75 %" in words(axes)
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["your guess", "here", "by name"]
    assert "a machine" in axes.get_xlabel()
    assert not problems(figure)


def test_shares_stand_over_intensities_and_the_formula_is_half_at_the_ridge():
    shares = {("a", "sparse"): 0.1, ("a", "fused"): 0.3, ("b", "fused"): 0.8}
    figure = pictures.intensities(
        {"a": 2.0, "b": 50.0}, shares, 10.0, ("a", "b"), significant=0.25, machine="a machine"
    )
    (axes,) = figure.axes
    curve = axes.lines[0]
    assert curve.get_linestyle() == "--"  # modelled
    assert np.interp(10, *curve.get_data()) == pytest.approx(0.5, abs=0.01)
    low, high = axes.get_xlim()
    assert low < 2 < 50 < high
    dots = {
        line.get_label(): [tuple(map(float, at)) for at in zip(*line.get_data(), strict=True)]
        for line in axes.lines
        if line.get_marker() not in ("None", "")
    }
    assert dots == {"sparse gradients": [(2, 0.1)], "fused tables": [(2, 0.3), (50, 0.8)]}
    assert {"a", "b", "25 times"} <= set(words(axes)) and "a machine" in axes.get_xlabel()
    assert not problems(figure)
    nothing = pictures.intensities(
        {"a": 2.0, "b": 9.0}, {}, 10.0, ("a", "b"), significant=0.25, machine=""
    )
    assert "not yet measured" in words(nothing.axes[0]) and not problems(nothing)


def test_sweeps_have_a_panel_for_each_knob_and_arm():
    points = [("1", GROUP), ("10", {**GROUP, "embeddings": 103.0})]
    found = {arm: {"pooling": points, "width": points[:1]} for arm in ("sparse", "fused")}
    figure = pictures.sweeps(found, "a machine")
    assert [axes.get_title(loc="left") or axes.get_title() for axes in figure.axes] == [
        "pooling; sparse", "width; sparse", "pooling; fused", "width; fused",
    ]  # fmt: skip
    axes = figure.axes[0]
    heights = [bar.get_height() for bar in axes.patches]
    assert heights == pytest.approx([0.3, 0.5, 0.1, 0.1, 103 / 110, 5 / 110, 1 / 110, 1 / 110])
    assert words(axes) == ["10", "110"]
    assert not problems(figure)


def test_updates_add_up_to_the_step():
    arms = {
        "dense": {"embedding forward": 10.0, "embedding backward": 60.0, "top MLP": 30.0},
        "sparse": {"embedding forward": 10.0, "embedding update": 25.0, "loss": 5.0},
    }
    figure = pictures.updates(arms, 2.0, "a machine")
    (axes,) = figure.axes
    assert [bar.get_width() for bar in axes.patches] == [10, 60, 0, 30, 10, 0, 25, 5]
    assert [bar.get_x() for bar in axes.patches] == [0, 10, 70, 70, 0, 10, 10, 35]
    assert {"100 ms", "40 ms"} <= set(words(axes))
    assert list(axes.lines[0].get_xdata()) == [10, 30]  # after the lookups, twice as long as they
    assert not problems(figure)


@pytest.mark.parametrize(
    "figure",
    [pictures.sweeps({"fused": {"batch": []}}, ""), pictures.updates({}, 1.0, "")],
    ids=["sweeps", "updates"],
)
def test_what_was_not_measured_is_not_drawn(figure):
    (axes,) = figure.axes
    assert words(axes) == ["not yet measured"] and not axes.patches
    assert not problems(figure)


def test_without_a_record_there_is_nothing_and_it_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("DLRM_MINI_MEASUREMENTS", str(tmp_path))
    recorded = step_shares.Recorded()
    assert recorded.steps == {} and "no CPU was recorded yet: python -m" in recorded.about
    assert recorded.sweeps(("fused",), ("batch",)) == {"fused": {"batch": []}}


def test_the_record_is_read_by_configuration_arm_and_knob(monkeypatch, tmp_path):
    monkeypatch.setenv("DLRM_MINI_MEASUREMENTS", str(tmp_path))
    record = made_up.made_up_card()
    ceilings = KNOWN[PAPER_CPU].as_json()
    record["results"] |= {"device": "cpu", "threads": 2, "ceilings": ceilings}
    for entry in record["results"]["entries"]:
        entry["ms"] *= 0.8  # faster without the profiler
        entry["repetitions_ms"] = [0.8 * ms for ms in entry["repetitions_ms"]]
    (tmp_path / "steps_cpu_test.json").write_text(json.dumps(record), encoding="utf-8")
    recorded = step_shares.Recorded()
    entries = {(e["configuration"], e["arm"]): e for e in record["results"]["entries"]}
    measured = {key for key, entry in entries.items() if entry["breakdown"]}
    assert set(recorded.steps) == measured >= {("rm2", "fused"), ("batch 512", "sparse")}
    entry = entries["rm2", "fused"]
    shown, parts = entry["breakdown"], recorded.steps["rm2", "fused"]
    assert sum(parts.values()) == pytest.approx(entry["ms"])  # what the profiler costs is not in it
    factor = entry["ms"] / sum(shown["parts"].values())
    assert parts == pytest.approx({name: factor * ms for name, ms in shown["parts"].items()})
    operators = recorded.operators["rm2", "fused"]
    assert operators.keys() == shown["operators"].keys()
    assert sum(operators.values()) == pytest.approx(entry["ms"])
    assert recorded.predicted["rm2", "fused"] == sum(entry["predicted_ms"].values())
    assert recorded.ceilings.as_json() == ceilings
    points = dict(recorded.sweeps(("fused",), ("batch",))["fused"]["batch"])
    assert list(points) == ["128", "512", "2048", "8192"]
    assert points["512"] == grouped(recorded.steps["batch 512", "fused"])
    assert recorded.machine == "made up, 2 threads" and recorded.machine in recorded.about


def test_of_equal_records_the_older_is_read(monkeypatch, tmp_path):
    monkeypatch.setenv("DLRM_MINI_MEASUREMENTS", str(tmp_path))
    for name, date in (("a", "2031-01-02"), ("b", "2031-01-01"), ("c", "2031-01-03")):
        record = made_up.made_up_card()
        record["results"] |= {"device": "cpu"}
        record["hardware"]["cpu"], record["date"] = name, date
        (tmp_path / f"steps_cpu_{name}.json").write_text(json.dumps(record), encoding="utf-8")
    assert step_shares.Recorded().machine.startswith("b,")
