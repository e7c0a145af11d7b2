"""Chapter 11's explorer: what was recorded is drawn as it is, and what was not is said."""

import pytest
from matplotlib.colors import to_hex

from dlrm_mini import style
from dlrm_mini import widgets as room
from dlrm_mini.course.figures import problems
from dlrm_mini.models.dlrm_presets import PRESETS
from dlrm_mini.pictures import recorded_steps as pictures
from dlrm_mini.plots import GROUP_COLOURS
from dlrm_mini.profiling import record
from dlrm_mini.profiling.workload import Workload
from dlrm_mini.widgets.recorded_steps import EVERY, NO_GPU, PREDICTED, RecordedSteps
from tests.profiling import made_up

PARTS = {"embedding forward": 2.0, "top MLP": 1.0, "top MLP backward": 2.0, "idle": 3.0}
FASTER = {"embedding forward": 1.0, "top MLP": 3.0}
CPU = "Some CPU, 2 threads"
BLUE, ORANGE, GREY = (
    GROUP_COLOURS[group] for group in ("embeddings", "fully connected", "everything else")
)


def entry(preset, configuration, arm, ms, batch, parts=None, predicted=None, scale=1.0):
    """An entry that was made up, with these numbers."""
    workload = Workload(PRESETS["profile"](), batch)
    whole = parts and sum(parts.values())
    return made_up.entry(preset, configuration, arm, workload) | {
        "sweep": {"knob": "batch", "value": batch} if preset == "sweeps" else None,
        "scale": scale, "ms": ms, "spread_ms": 0.5, "repetitions_ms": [ms], "ratios": [1.0],
        "breakdown": parts and {
            "parts": parts, "operators": {"FC": whole}, "wall_ms": whole, "plain_ms": ms,
            "launches": 0.0,
        },
        "predicted_ms": predicted,
    }  # fmt: skip


def recording(device="cpu", gpu="none", factor=1.0):
    made = made_up.made_up_card()
    made["hardware"] = {"cpu": "Some CPU", "cores": 2, "system": "Linux", "gpu": gpu}
    made["results"] |= {
        "device": device, "threads": 2, "skipped": [],
        "presets": {
            name: {"date": "2026-01-02", "command": f"measure {name}", "seconds": 1.0}
            for name in ("profile", "sweeps")
        },
        "entries": [
            entry("sweeps", "batch 64", "fused", 2.0 * factor, 64, PARTS, FASTER, 0.1),
            entry("sweeps", "batch 128", "fused", 3.0 * factor, 128, PARTS, FASTER, 0.1),
            entry("profile", "profile", "fused", 16.0 * factor, 2048, PARTS, FASTER),
            entry("profile", "profile", "sparse", 40.0 * factor, 2048),
        ],
    }  # fmt: skip
    record.check(made)
    return made


def bars(axes, place: float) -> dict[str, float]:
    """Colour -> width of the pieces whose middle is there."""
    return {
        to_hex(bar.get_facecolor()).upper(): bar.get_width()
        for bar in axes.patches
        if abs(bar.get_y() + bar.get_height() / 2 - place) < 0.01 and bar.get_width()
    }


def title(axes) -> str:
    return axes.get_title(loc="left") or axes.get_title()


def words(axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def notes(figure) -> str:
    return " ".join(text.get_text() for text in figure.texts)


def test_the_profilers_shares_split_the_time_without_it():
    figure = RecordedSteps([recording()]).draw(CPU, "profile", EVERY, "milliseconds")
    (axes,) = figure.axes
    # 16 ms without the profiler; 8 ms, in parts, with it
    assert bars(axes, -0.13) == {BLUE: 4, ORANGE: 6, GREY: 6}
    assert bars(axes, 0.2) == {BLUE: 1, ORANGE: 3}
    assert bars(axes, 0.87) == {style.INK: 40}  # timed as a whole
    assert words(axes) == ["16 ms ± 0.5", "40 ms ± 0.5"]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "fused", "sparse",
    ]  # fmt: skip
    (alone,) = RecordedSteps([recording()]).draw(CPU, "profile", "sparse", "shares").axes
    assert [label.get_text() for label in alone.get_yticklabels()] == ["sparse"]
    assert alone.get_xlim() == pytest.approx((0, 1.2))
    assert all(bool(bar.get_hatch()) == (bar.get_height() < 0.3) for bar in axes.patches)
    assert "not split" in [text.get_text() for text in figure.legends[0].get_texts()]
    assert not problems(figure)


def test_shares_add_up_to_one():
    figure = RecordedSteps([recording()]).draw(CPU, "profile", EVERY, "shares")
    (axes,) = figure.axes
    assert bars(axes, -0.13) == {BLUE: 0.25, ORANGE: 0.375, GREY: 0.375}
    assert bars(axes, 0.2) == {BLUE: 0.25, ORANGE: 0.75}
    assert not bars(axes, 0.87) and words(axes)[1] == "40 ms, not split into parts"
    assert not problems(figure)


def test_samples_a_second_measured_and_predicted():
    figure = RecordedSteps([recording()]).draw(CPU, "sweep: batch", "fused", "samples/s")
    (axes,) = figure.axes
    assert bars(axes, -0.13)[style.SKY] == pytest.approx(32_000)
    assert bars(axes, 0.2)[style.SKY] == pytest.approx(16_000)
    assert words(axes) == ["32,000", "42,667"]
    assert title(axes) == f"sweep: batch, {CPU}, 0.1 of the rows"
    assert f"{PREDICTED}\nmeasured on" in notes(figure)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["batch 64", "batch 128"]
    (axes,) = RecordedSteps([recording()]).draw(CPU, "sweep: batch", EVERY, "shares").axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "batch 64: fused", "batch 128: fused",
    ]  # fmt: skip
    assert not problems(figure)


def test_without_a_gpu_it_says_so_and_shows_the_cpu():
    explorer = RecordedSteps([recording()])
    assert explorer.start["hardware"] == "Some CPU, 2 threads"
    foot = notes(explorer.draw(**explorer.start))
    assert "measured on Some CPU, 2 threads, 2026-01-02: measure profile" in foot and NO_GPU in foot


def test_a_gpu_is_shown_first_and_the_sentence_is_gone():
    explorer = RecordedSteps([recording(), recording("cuda", "Some GPU", 0.1)])
    assert explorer.start["hardware"] == "Some GPU"
    figure = explorer.draw(**explorer.start)
    assert NO_GPU not in notes(figure) and title(figure.axes[0]) == "profile, Some GPU, full size"
    assert sum(bars(figure.axes[0], -0.13).values()) == pytest.approx(1.6)


def test_what_was_never_measured_is_said_to_be():
    explorer = RecordedSteps([])
    figure = explorer.draw(**explorer.start)
    assert words(figure.axes[0]) == ["not yet measured"] and not figure.axes[0].patches
    assert NO_GPU in notes(figure)
    assert not problems(figure)
    known = RecordedSteps([recording()])
    absent = known.draw(CPU, "sweep: batch", "sparse", "shares")
    assert words(absent.axes[0]) == ["not yet measured"]


def test_it_reads_what_is_recorded(tmp_path, monkeypatch):
    monkeypatch.setenv("DLRM_MINI_MEASUREMENTS", str(tmp_path))
    assert not RecordedSteps().records
    record.write(tmp_path / "steps_cpu_some.json", recording())
    assert list(RecordedSteps().records) == ["Some CPU, 2 threads"]


@pytest.mark.parametrize("records", [[], ["cpu"], ["cpu", "cuda"]], ids=len)
def test_the_widget_follows_its_controls(records):
    made = [recording(device, "Some GPU", 0.1 + (device == "cpu")) for device in records]
    widget = RecordedSteps(made).widget()
    assert room._problem(widget) is None
    assert set(widget.controls) == {
        *(["run", "way", "show"] if records else []), *(["hardware"] if records[1:] else []),
    }  # fmt: skip


def test_the_first_picture_is_one_of_the_pictures():
    assert RecordedSteps([]).start["show"] in pictures.SHOWN == tuple(pictures.AXIS)
