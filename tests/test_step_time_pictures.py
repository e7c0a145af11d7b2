"""Chapter 10's pictures of predicted steps, and the widget that draws them."""

from dataclasses import replace

import pytest
from matplotlib.colors import to_hex

from dlrm_mini import widgets as room
from dlrm_mini.course.figures import problems
from dlrm_mini.pictures import step_time as pictures
from dlrm_mini.plots import GROUP_COLOURS
from dlrm_mini.profiling import roofline
from dlrm_mini.profiling.known_hardware import KNOWN, PAPER_CPU, PAPER_GPU
from dlrm_mini.profiling.parts import GROUPS, grouped
from dlrm_mini.widgets.step_time import AS_PUBLISHED, StepTime, chosen

CPU = {"embedding forward": 2.0, "embedding update": 3.0, "top MLP": 4.0, "interaction": 1.0}
GPU = {"input": 0.5, "embedding update": 1.4, "top MLP backward": 0.1}
DEFAULTS = {
    "preset": "profile", "batch": 2048, "pooling": AS_PUBLISHED, "width": AS_PUBLISHED,
    "tables": "fused", "half": False,
}  # fmt: skip


def words(axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def bars(axes, place: int) -> dict[str, float]:
    """Colour -> width of the pieces of a bar."""
    pieces = [bar for bar in axes.patches if abs(bar.get_y() + bar.get_height() / 2 - place) < 0.01]
    assert all(bar.get_hatch() for bar in pieces)  # everything here is modelled
    return {to_hex(bar.get_facecolor()).upper(): bar.get_width() for bar in pieces}


@pytest.mark.parametrize(
    ("share", "word"),
    [(1, "significant"), (0.25, "significant"), (0.24, "noticeable"), (0.1, "noticeable"),
     (0.099, "noticeable"), (0.09, "almost negligible"), (0, "almost negligible")],
)  # fmt: skip
def test_the_verdict_is_that_of_the_number_that_is_written(share, word):
    parts = {"top MLP": share / 4, "bottom MLP backward": 3 * share / 4, "input": 1 - share}
    sentence = pictures.verdict(parts)
    assert sentence == f"fully connected layers: {100 * share:.0f} % of the step, {word}"


def test_bars_are_groups_in_milliseconds_and_in_shares():
    predicted = {"a CPU": CPU, "a GPU": GPU}
    notes = {"a CPU": "1 TFLOP/s", "a GPU": "9 TFLOP/s"}
    figure = pictures.predicted_steps(predicted, title="a step", notes=notes)
    time, shares = figure.axes
    for place, parts in enumerate(predicted.values()):
        groups, whole = grouped(parts), sum(parts.values())
        expected = {GROUP_COLOURS[group]: groups[group] for group in GROUPS}
        assert bars(time, place) == pytest.approx(expected)
        share = {colour: ms / whole for colour, ms in expected.items()}
        assert bars(shares, place) == pytest.approx(share)
    assert words(time) == ["10 ms", "2 ms"]
    assert words(shares) == [pictures.verdict(CPU), pictures.verdict(GPU)]
    assert [label.get_text() for label in time.get_yticklabels()] == [
        "a CPU\n1 TFLOP/s", "a GPU\n9 TFLOP/s",
    ]  # fmt: skip
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [*GROUPS, "predicted"]
    assert not problems(figure)


def test_the_widget_draws_the_prediction_for_both_machines():
    figure = StepTime().draw(PAPER_GPU, **DEFAULTS)
    for place, name in enumerate((PAPER_CPU, PAPER_GPU)):
        parts = roofline.predict(chosen("profile", 2048, 0, 0, "fused"), KNOWN[name])
        shown = bars(figure.axes[0], place)
        assert sum(shown.values()) == pytest.approx(sum(parts.values()))
        assert words(figure.axes[1])[place] == pictures.verdict(parts)
    assert figure.get_suptitle() == "profile: 2,048 rows, 8 tables of width 64, 100 lookups a bag"
    assert "float32:\n5.12 TFLOP/s, 256 GB/s" in figure.axes[0].get_yticklabels()[0].get_text()
    assert not problems(figure)


def test_the_knobs_reach_the_workload():
    workload = chosen("rm1", 64, 7, 128, "sparse")
    assert (workload.batch_size, workload.tables) == (64, "sparse")
    assert workload.config.dim == workload.config.bottom[-1] == 128
    assert set(workload.config.lookups_by_table.values()) == {7}
    untouched = chosen("rm1", 64, AS_PUBLISHED, AS_PUBLISHED, "sparse").config
    assert (untouched.dim, untouched.bottom, untouched.lookups) == (32, (64, 32), 80)


def test_sixteen_bits_only_where_a_machine_has_them_flip_the_verdict():
    widget = StepTime()
    exact, half = (widget.draw(PAPER_GPU, **DEFAULTS | {"half": half}) for half in (False, True))
    assert words(exact.axes[1])[0] == words(half.axes[1])[0]  # the CPU has none
    before, after = (words(figure.axes[1])[1] for figure in (exact, half))
    assert before.endswith("significant") and not after.endswith("significant")
    assert "float16:\n125 TFLOP/s" in half.axes[0].get_yticklabels()[1].get_text()


def test_the_readers_machine_comes_first():
    here = replace(KNOWN[PAPER_CPU], name="my machine", measured=True)
    widget = StepTime(here)
    assert [*widget.machines] == ["my machine", *KNOWN]
    first, second = widget.draw(PAPER_GPU, **DEFAULTS).axes[0].get_yticklabels()
    assert first.get_text().startswith("my machine\nmeasured ceilings, float32")
    assert second.get_text().startswith(f"{PAPER_GPU}\npublished ceilings")
    assert len(words(widget.draw("my machine", **DEFAULTS).axes[0])) == 1  # with nothing beside it


def test_the_widget_follows_its_controls():
    assert room._problem(StepTime().widget(PAPER_GPU, "profile", 2048)) is None
