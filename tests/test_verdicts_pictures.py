"""Chapter 16's pictures, its cases and its widget."""

import dataclasses

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from dlrm_mini import ledger, style
from dlrm_mini.claims import VERDICTS
from dlrm_mini.ladders import communication, verdict_cases
from dlrm_mini.pictures import verdict_lines, verdicts
from dlrm_mini.pictures.verdict_lines import Case, Line
from dlrm_mini.widgets.verdicts import Definitions


@pytest.fixture(autouse=True)
def look():
    style.use()


@pytest.fixture(scope="module")
def rows():
    return ledger.rows()


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_the_page_has_every_claim_with_its_number_and_chapter(rows):
    figure = verdicts.one_page(rows)
    shown = " ".join(texts(figure))
    for row in rows:
        assert row.numbers[0].text() in shown
        assert f"chapter {row.claim.chapter}" in shown
        assert row.claim.sentence.split()[0] in shown
        assert row.verdict != "holds when" or row.condition[:40] in shown


def test_the_page_before_the_trial_gives_nothing_away(rows):
    shown = " ".join(texts(verdicts.one_page(rows, judged=False)))
    for row in rows:
        assert row.claim.sentence.split()[0] in shown and row.claim.source in shown
        assert row.numbers[0].number.words not in shown and f"when {row.condition}" not in shown
    for verdict in VERDICTS:
        assert f"  {verdict}" not in shown


@pytest.mark.parametrize("judged", [True, False])
def test_nothing_on_the_page_is_cut_off_or_runs_into_its_neighbour(rows, judged):
    figure = verdicts.one_page(rows, judged)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    boxes = [t.get_window_extent(renderer) for t in figure.axes[0].texts if t.get_text()]
    assert all(box.x1 <= figure.bbox.x1 and box.y0 >= 0 for box in boxes)
    for place, box in enumerate(boxes):
        for other in boxes[place + 1 :]:
            width = min(box.x1, other.x1) - max(box.x0, other.x0)
            height = min(box.y1, other.y1) - max(box.y0, other.y0)
            assert width <= 1 or height <= 0.3 * min(box.height, other.height)


def test_each_verdict_has_a_shape_of_its_own():
    def shape(verdict):
        from matplotlib.figure import Figure

        axes = Figure().subplots()
        verdicts.mark(axes, (0, 0), 1, verdict)
        kinds = [(type(p).__name__, p.get_hatch(), p.get_fill()) for p in axes.patches]
        filled = axes.patches[0].get_facecolor() not in ((1, 1, 1, 1), (0, 0, 0, 0))
        return (*kinds, len(axes.lines), filled)

    assert len({shape(verdict) for verdict in VERDICTS}) == len(VERDICTS)


def test_the_bars_count_every_number_once_and_modelled_ones_are_hatched(rows):
    figure = verdicts.what_it_rests_on(rows)
    bars = [bar for bar in figure.axes[0].patches if bar.get_height() > 0]
    assert sum(bar.get_height() for bar in bars) == sum(len(row.numbers) for row in rows)
    hatched = sum(bar.get_height() for bar in bars if bar.get_hatch())
    kinds = [found.number.kind for row in rows for found in row.numbers]
    assert hatched == kinds.count("modelled") > 0


def test_effects_are_sorted_and_only_the_sure_ones_filled():
    figure = verdicts.effects({"sure": (0.4, 0.1), "not": (-0.01, 0.1), "just": (0.2, 0.1)})
    (axes,) = figure.axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["not", "just", "sure"]
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    assert [float(dot.get_xdata()[0]) for dot in dots] == pytest.approx([0.1, 2.0, 4.0])
    assert [dot.get_markerfacecolor() == "white" for dot in dots] == [True, False, False]


def test_a_retrial_shows_every_seed_and_the_mean_of_all():
    figure = verdicts.retrial({"fm": [0.1, 0.3], "dlrm": [0.2]}, {"dlrm": [0.4]})
    lines = [line.get_xdata() for line in figure.axes[0].lines if len(line.get_xdata())]
    assert [list(map(float, line)) for line in lines] == [
        [0.1, 0.3], pytest.approx([0.2, 0.2]), [0.2], [0.4], pytest.approx([0.3, 0.3])
    ]  # fmt: skip


def test_a_line_makes_a_verdict_of_all_cases():
    line = Line("time-cpu", "words", (Case("a", 0.2), Case("b", 0.6)), "measured")
    assert [line.verdict(at) for at in (0.1, 0.2, 0.5, 0.6, 0.7)] == [
        "holds", "holds", "holds when", "holds when", "does not hold"
    ]  # fmt: skip
    below = dataclasses.replace(line, most=False)
    assert [below.verdict(at) for at in (0.1, 0.2, 0.5, 0.7)] == [
        "does not hold", "does not hold", "holds when", "holds"
    ]  # fmt: skip


def test_the_cases_are_those_of_the_chapters(rows):
    found = {line.words: line for line in verdict_cases.lines()}
    shuffles = next(line for line in found.values() if line.claim == "all-to-all")
    recorded = ledger.results()["cost.most.all_to_all"]["value"]
    assert np.mean(shuffles.holds(0.5)) == pytest.approx(recorded, abs=1e-4)
    assert len(shuffles.cases) == 2 * 4 * len(communication.MODELS)
    because = next(row.because for row in rows if row.key == "time-cpu")
    for words in ("lookups and layers", "tables and layers"):
        line = next(one for name, one in found.items() if name.startswith(words))
        held = line.holds(0.5)
        assert f"{words} are most in {sum(held)} of {len(held)} steps" in because


def test_the_picture_fills_the_cases_that_are_for_the_claim():
    line = Line("time-gpu", "layers", (Case("a", 0.05), Case("b", 0.2)), "modelled", most=False)
    figure = verdict_lines.where_is_the_line([line], 0.5, 0.1)
    inside, outside = figure.axes[0].collections
    assert inside.get_offsets()[:, 0].tolist() == [5.0]
    assert outside.get_offsets()[:, 0].tolist() == [20.0]
    assert inside.get_hatch() and not outside.get_hatch()
    assert "below 10%: 1 of 2\nholds when" in texts(figure)


def test_the_widget_moves_both_lines():
    definitions = Definitions(verdict_cases.lines())
    widget = definitions.widget(50, 10)
    before = widget.image.value
    widget.controls["most"].value = 90
    after = widget.image.value
    assert after != before
    widget.controls["negligible"].value = 40
    assert widget.image.value != after and not widget.message.value
