"""Chapter 09's pictures and widget: what they draw is what they were given."""

import numpy as np
import pytest
import torch

from dlrm_mini import measurements
from dlrm_mini import widgets as room
from dlrm_mini.course.figures import problems
from dlrm_mini.datasets.synthetic_config import criteo_cardinalities
from dlrm_mini.pictures import kept_pictures
from dlrm_mini.pictures import smaller_tables as pictures
from dlrm_mini.quantization import dequantize, quantize
from dlrm_mini.smaller_tables import hash_ids
from dlrm_mini.widgets import smaller_tables as widgets


@pytest.fixture(scope="module")
def record():
    return measurements.read("smaller_tables")["results"]


@pytest.fixture(scope="module")
def shrinker():
    counts = (3000 / torch.arange(1, 501)).long()
    table = torch.randn(5, 16, generator=torch.Generator().manual_seed(0))
    return widgets.Shrinker(counts, table, "C3")


def title(axes) -> str:
    return axes.get_title(loc="left") or axes.get_title()


def line(axes, label):
    return next(one for one in axes.lines if one.get_label() == label)


def test_the_landscape_is_shades_of_the_size_asked_for():
    scene = kept_pictures.landscape(64, 48)
    assert scene.shape == (64, 48) and scene.min() >= 0 and scene.max() <= 1
    assert scene.std() > 0.1 and len(np.unique(scene.round(3))) > 50
    assert (scene == kept_pictures.landscape(64, 48)).all()


def test_every_way_gets_a_panel_with_its_table_and_bytes():
    scene = kept_pictures.landscape(32, 24)
    ways = {f"way {n}": (np.full((32, 24), n / 10), 100 + n) for n in range(5)}
    figure = kept_pictures.kept(scene, ways)
    assert [title(axes) for axes in figure.axes] == ["the table", *ways]
    assert (figure.axes[0].images[0].get_array() == scene).all()
    assert figure.axes[0].get_xlabel() == f"{32 * 24 * 4:,} bytes"
    for axes, (table, n_bytes) in zip(figure.axes[1:], ways.values(), strict=True):
        assert (axes.images[0].get_array() == table).all()
        assert axes.get_xlabel() == f"{n_bytes:,} bytes"


def test_the_price_is_the_records_in_both_worlds(record):
    figure = pictures.price(record, {16: 0.9})
    for axes, world in zip(figure.axes, ("silent", "telling"), strict=True):
        for method, of in pictures.series(record, world).items():
            if method == "full":
                drawn = line(axes, "full tables")
                assert set(drawn.get_ydata()) == {of[1]["ne"]["mean"]}
                continue
            drawn = line(axes, pictures.NAMES[method])
            points = sorted(of.items())
            assert drawn.get_xdata().tolist() == [one["bytes"] for _, one in points]
            means = [one["ne"]["mean"] for _, one in points]
            assert drawn.get_ydata() == pytest.approx(means)
        optimum = record["optimum"][world]["ne"]
        assert set(line(axes, "best possible").get_ydata()) == {optimum}
        low, high = axes.get_xlim()
        assert low > high  # the full tables at the left
    guess = line(figure.axes[0], "your guess")
    assert guess.get_xydata().tolist() == [[record["full_bytes"] / 16, 0.9]]
    assert not problems(figure)


def test_the_tables_are_sorted_and_the_bars_are_the_records(record):
    sizes = criteo_cardinalities()
    left, right = pictures.which_tables(sizes, 5, record).axes
    heights = [bar.get_height() for bar in left.patches]
    assert heights == sorted(sizes.values(), reverse=True)
    assert [text.get_text() for text in left.texts] == ["98.3% of all rows"]
    base = record["worlds"]["silent"]["full"]["1"]["ne"]["mean"]
    parts = sorted(map(int, record["alike"]))
    alike = [record["alike"][str(part)]["ne"]["mean"] - base for part in parts]
    largest = [record["worlds"]["silent"]["hash"][str(p)]["ne"]["mean"] - base for p in parts]
    drawn = sorted((bar.get_x(), bar.get_height()) for bar in right.patches)
    expected = [value for pair in zip(largest, alike, strict=True) for value in pair]
    assert [height for _, height in drawn] == pytest.approx(expected)


def test_who_pays_draws_extra_loss_and_the_chosen_tenants(record):
    figure = pictures.who_pays(record, 16)
    left, right = figure.axes
    found = pictures.series(record, "silent")
    base = np.array(found["full"][1]["by_count"])
    for method in ("hash", "threshold", "qr"):
        extra = 1000 * (np.array(found[method][16]["by_count"]) - base)
        assert line(left, pictures.NAMES[method]).get_ydata() == pytest.approx(extra)
    widths = [bar.get_width() for bar in right.patches]
    full = found["full"][1]["ne"]["mean"]
    arms = record["collided"]["arms"]
    assert widths == pytest.approx([one["ne"]["mean"] - full for one in arms.values()])
    assert [label.get_text() for label in right.get_yticklabels()] == list(arms)
    assert not problems(figure)


def test_fewer_bits_draws_every_recorded_point(record):
    figure = pictures.fewer_bits(record)
    (axes,) = figure.axes
    for method in ("full", "hash", "threshold"):
        of = dict(sorted(pictures.series(record, "silent")[method].items()))
        for bits in ("32", "8", "4"):
            points = [one if bits == "32" else one["quantised"][bits] for one in of.values()]
            drawn = line(axes, f"{pictures.NAMES[method]}, {bits} bits")
            assert drawn.get_xdata().tolist() == [one["bytes"] for one in points]
            assert drawn.get_ydata().tolist() == [one["ne"]["mean"] for one in points]
    assert not problems(figure)


def test_company_is_counted_row_by_row(shrinker):
    counts, rows = shrinker.counts, 60
    places = hash_ids(torch.arange(len(counts)), rows, 0)
    found = shrinker.company(rows)
    for (label, least), beyond in zip(widgets.GROUPS.items(), (10, 100, 1000, 10**9), strict=True):
        kinds = [0, 0, 0]
        for i, n in enumerate(counts.tolist()):
            if least <= n < beyond:
                row = int(counts[places == places[i]].sum())
                kinds[0 if n == row else 1 if 2 * n > row else 2] += n
        assert found[label] == pytest.approx([kind / max(sum(kinds), 1) for kind in kinds])
    alone = shrinker.company(len(counts))
    assert all(of == [1, 0, 0] for of in alone.values())


def test_the_explorer_draws_the_row_as_it_comes_back(shrinker):
    for bits in (32, 8, 4):
        left, right = shrinker.draw(8, bits, 2).axes
        row = shrinker.table[1:2]
        expected = row if bits == 32 else dequantize(quantize(row, bits), 16, bits)
        assert line(right, "trained").get_ydata() == pytest.approx(row[0].double().numpy())
        back = line(right, "as it comes back").get_ydata()
        assert back == pytest.approx(expected[0].double().numpy())
        levels = [one.get_ydata()[0] for one in right.lines if one.get_color() == "#DDDDDD"]
        assert len(levels) == (16 if bits == 4 else 0)
        for value in back if levels else []:
            assert np.abs(np.array(levels) - value).min() < 1e-6
        rows = 500 * 64 // 8 // {32: 64, 8: 24, 4: 12}[bits]
        assert f"{rows:,} rows of" in title(left)


def test_the_explorer_follows_its_controls(shrinker):
    assert room._problem(shrinker.widget(16, 32, 1)) is None
