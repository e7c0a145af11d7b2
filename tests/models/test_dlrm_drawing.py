from itertools import combinations, pairwise

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from matplotlib.text import Text

from dlrm_mini import style
from dlrm_mini.course import figures
from dlrm_mini.errors import UserError
from dlrm_mini.models.dlrm import DLRM
from dlrm_mini.models.dlrm_config import DLRMConfig
from dlrm_mini.models.dlrm_drawing import STAGES, draw
from dlrm_mini.models.dlrm_presets import PRESETS, kaggle

THREE = DLRMConfig(6, {"user": 943, "item": 1682, "genres": 19}, 16, (32, 16), (64, 32, 1))
CONFIGS = {
    "three tables": THREE,
    "one of everything": DLRMConfig(1, {"a": 1}, 1, (1,), (1,), self_interaction=True),
    "many layers": DLRMConfig(
        2560, {f"a_long_name_{k}": 40_000_000 for k in range(5)}, 128,
        (2048, 1024, 512, 256, 128), (1024, 1024, 1024, 512, 256, 1), lookups=100,
    ),
} | {name: preset() for name, preset in PRESETS.items()}  # fmt: skip


def drawn(picture):
    """Word -> its box in pixels."""
    canvas = FigureCanvasAgg(picture)
    canvas.draw()
    (axes,) = picture.axes
    texts = [part for part in axes.get_children() if isinstance(part, Text) and part.get_text()]
    return [(text.get_text(), text.get_window_extent(canvas.get_renderer())) for text in texts]


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_nothing_is_cut_off_and_no_words_overlap(config):
    picture = draw(config)
    words = drawn(picture)
    width, height = picture.canvas.get_width_height()
    for word, box in words:
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height, word
    for (one, a), (other, b) in combinations(words, 2):
        assert not a.overlaps(b), (one, other)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_widths_and_parameters_are_written_in(config):
    words = "\n".join(word for word, _ in drawn(draw(config)))
    counts = config.parameters()
    for number in (*config.bottom_sizes, *config.top_sizes):
        assert str(number) in words.split("\n")
    for number in (sum(counts.values()), counts["bottom MLP"], counts["top MLP"]):
        assert f"{number:,} parameters" in words
    assert f"n = {config.n_vectors} vectors" in words
    first, last = next(iter(config.cardinalities)), list(config.cardinalities)[-1]
    for name in {first, last}:
        assert name[:8] in words and f"{config.cardinalities[name]:,}" in words


def test_many_tables_are_shortened_and_the_rest_counted():
    words = [word for word, _ in drawn(draw(kaggle()))]
    assert [name for name in kaggle().cardinalities if name in words] == ["C1", "C2", "C3", "C26"]
    assert "22 more" in words
    assert not any("more" in word for word, _ in drawn(draw(THREE)))


def test_the_picture_grows_by_a_part_each_stage():
    seen = [{word for word, _ in drawn(draw(THREE, stage))} for stage in range(1, 8)]
    words = [stage - {f"Step {k} of 7: {STAGES[k - 1]}"} for k, stage in enumerate(seen, start=1)]
    title = next(iter(word for word in seen[-1] if "46,641" in word))
    words[-1] = words[-1] - {title}
    for before, after in pairwise(words):
        assert before < after
    news = ["6 dense", "943 \u00d7 16", "bottom MLP", "n = 4 vectors", "dot interaction", "top MLP",
            "logit"]  # fmt: skip
    for stage, word in enumerate(news):
        assert word in words[stage] and (stage == 0 or word not in words[stage - 1])


def test_later_parts_are_outlines_of_the_same_shape():
    faint, full = draw(THREE, 1).axes[0], draw(THREE).axes[0]
    assert faint.get_xlim() == full.get_xlim() and faint.get_ylim() == full.get_ylim()
    outlines = {str(patch) for patch in faint.patches}
    assert {str(patch) for patch in full.patches} == outlines


@pytest.mark.parametrize("stage", [0, 8, -1])
def test_another_stage_is_refused(stage):
    with pytest.raises(UserError, match=f"stage is {stage}; change it to a whole number in 1..7"):
        draw(THREE, stage)


def test_it_is_a_figure_with_a_title_of_900_pixels():
    picture = DLRM(THREE).draw()
    assert figures.problems(picture) == []
    assert picture.get_figwidth() * 90 == 900
    assert figures.problems(draw(THREE, 3)) == []


def test_the_kinds_of_interaction_are_told_apart():
    """By words, and by how many cells of the matrix have the colour of a pair."""

    def seen(**changes):
        picture = draw(DLRMConfig(6, THREE.cardinalities, 16, (16,), (1,), **changes))
        pair = to_rgba(style.ORANGE, 0.85)
        cells = sum(patch.get_facecolor() == pair for patch in picture.axes[0].patches)
        return {word for word, _ in drawn(picture)}, cells

    words, cells = seen()
    assert "each pair once:\n4 · 3 / 2 = 6 products" in words and cells == 6
    words, cells = seen(self_interaction=True)
    assert "each pair once:\n4 · 5 / 2 = 10 products" in words and cells == 10
    words, cells = seen(interaction="cat")
    assert "concatenation" in words and "dot interaction" not in words and cells == 0
