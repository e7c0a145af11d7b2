"""Chapter 12's widgets: they follow their controls, and draw what the pure function draws."""

import json

import numpy as np
import pytest

from dlrm_mini import widgets as room
from dlrm_mini.pictures import split_steps
from dlrm_mini.widgets.the_split import BATCHES, Parcels, Shuffle


@pytest.fixture(autouse=True)
def shown(monkeypatch):
    monkeypatch.setattr(room, "_shown", [])


@pytest.fixture
def shuffle():
    return Shuffle([f"table{place}" for place in range(10)], 16, 10_000)


def totals(figure) -> list[float]:
    return [bar.get_width() for bar in figure.axes[-1].patches]


def test_every_control_is_alive(shuffle):
    widget = shuffle.widget(3, 4, 16)
    widget._repr_mimebundle_()
    (found,) = json.loads(room.probe())
    assert (found["name"], found["problem"]) == ("the shuffle, step by step", None)


def test_tables_and_rows_are_shared_out_in_order(shuffle, monkeypatch):
    seen = []
    monkeypatch.setattr(split_steps, "step_and_bytes", lambda *given: seen.append(given))
    shuffle.draw(2, 4, 8)
    step, homes, rows, dim, mlps = seen[0]
    assert (step, rows, dim, mlps) == (2, [2, 2, 2, 2], 16, 10_000)
    assert list(homes.values()) == [0, 0, 0, 1, 1, 2, 2, 2, 3, 3]


def test_vectors_grow_with_the_batch_and_the_mlps_do_not(shuffle):
    small, large = (np.array(totals(shuffle.draw(0, 4, batch))) for batch in (16, 64))
    assert large[[1, 3, 6]] == pytest.approx(4 * small[[1, 3, 6]]) and small[3] > 0
    assert large[7] == small[7] == pytest.approx(2 * 3 * 10_000)


def test_every_choice_draws(shuffle):
    for ranks in (2, 4, 8):
        figure = shuffle.draw(6, ranks, BATCHES[0])
        assert len(figure.axes) == ranks + 2


def test_parcels_go_round_by_round():
    parcels = Parcels([3, 2], [1, 2])
    widget = parcels.widget(1)
    assert (widget.controls["step"].min, widget.controls["step"].max) == (0, 2)
    widget._repr_mimebundle_()
    (found,) = json.loads(room.probe())
    assert found["problem"] is None
    titles = [parcels.draw(step).get_suptitle() for step in range(3)]
    assert len(set(titles)) == 3 and parcels.draw(1, backward=True).get_suptitle() not in titles
