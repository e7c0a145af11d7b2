"""Recorded measurements: complete, named hardware, and clear words when one is damaged."""

import pytest

from dlrm_mini import measurements
from dlrm_mini.errors import UserError
from dlrm_mini.paths import course_file

RECORDED = sorted(course_file("data/measurements").glob("*.json"))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(measurements, "checkout", lambda: tmp_path)
    monkeypatch.setattr(measurements, "course_file", lambda name: tmp_path / name)
    return tmp_path / "data" / "measurements"


def test_what_is_written_is_read(folder):
    measurements.write("made_up", {"ms": [1.5, 2.0]}, "python -m dlrm_mini measure made-up")
    record = measurements.read("made_up")
    assert record["results"] == {"ms": [1.5, 2.0]}
    assert record["hardware"]["cpu"] and record["versions"]["torch"]
    assert record["command"] in measurements.caption(record)
    assert record["hardware"]["cpu"] in measurements.caption(record)
    assert [p.name for p in folder.iterdir()] == ["made_up.json"]


def test_a_value_json_cannot_hold_leaves_the_old_record(folder):
    measurements.write("made_up", {"ms": 1}, "x")
    with pytest.raises(ValueError):
        measurements.write("made_up", {"ms": float("nan")}, "x")
    assert measurements.read("made_up")["results"] == {"ms": 1}


def test_a_damaged_record_is_named(folder):
    folder.mkdir(parents=True)
    (folder / "cut.json").write_text('{"name": ')
    with pytest.raises(UserError, match=r"cut\.json is not JSON"):
        measurements.read("cut")
    (folder / "poor.json").write_text('{"name": "poor"}')
    with pytest.raises(UserError, match="lacks command, date, hardware"):
        measurements.read("poor")


@pytest.mark.parametrize("path", RECORDED, ids=lambda p: p.stem)
def test_every_committed_record_is_complete(path):
    record = measurements.read(path.stem)
    assert record["name"] == path.stem
    assert record["hardware"]["cpu"] or record["hardware"]["gpu"]
    assert "python -m dlrm_mini" in record["command"]
