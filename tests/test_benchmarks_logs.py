"""The benchmarks of click logs, on files of a few hundred lines."""

import contextlib
import io
import json
from pathlib import Path
from types import SimpleNamespace

from benchmarks import criteo_prepare, synthetic_speed


def test_preparing_is_reported_by_arm_and_size_of_file_and_loading_beside_torchs_own(
    tmp_path, monkeypatch
):
    """Each preparation runs in this process, not in one of its own."""

    def run(command, **_):
        written = io.StringIO()
        with contextlib.redirect_stdout(written):
            criteo_prepare.one(command[3], Path(command[4]), Path(command[5]))
        return SimpleNamespace(stdout=written.getvalue())

    monkeypatch.setattr(criteo_prepare, "SIZES", {"1M": 300, "10M": 900})
    monkeypatch.setattr(criteo_prepare, "REPETITIONS", 2)
    monkeypatch.setattr(criteo_prepare.subprocess, "run", run)
    found = criteo_prepare.run(tmp_path)
    assert (tmp_path / "bench-criteo-prepare.png").stat().st_size > 10_000
    assert [path.name for path in tmp_path.iterdir()] == ["bench-criteo-prepare.png"]
    rows = {(row.benchmark, row.arm, row.metric): row for row in found}
    for benchmark, lines in (("criteo-prepare", 900), ("criteo-prepare-1M", 300)):
        for arm in ("hash", "threshold"):
            speed, memory = (rows[benchmark, arm, metric] for metric in criteo_prepare.UNITS)
            assert speed.value > 0 and speed.unit == "rows/s"
            assert 0.05 < memory.value < 4 and memory.unit == "GB"
            assert f"{lines} generated lines" in speed.note
    for arm in ("ours", "torch-dataloader"):
        assert rows["criteo-loading", arm, "rows_per_s"].value > 0


def test_one_run_prints_json(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(criteo_prepare, "SIZES", {"1M": 300})
    criteo_prepare.generate(tmp_path)
    criteo_prepare.one("hash", tmp_path / "1M.txt", tmp_path / "out")
    assert set(json.loads(capsys.readouterr().out)) == set(criteo_prepare.UNITS)


def test_drawing_is_reported_on_one_core_and_on_two(tmp_path, monkeypatch):
    monkeypatch.setattr(synthetic_speed, "ROWS", 2_000)
    monkeypatch.setattr(synthetic_speed, "BATCH", 500)
    monkeypatch.setattr(synthetic_speed, "REPETITIONS", 2)
    found = {row.arm: row for row in synthetic_speed.run(tmp_path)}
    assert set(found) == {"one-core", "two-cores", "text-one-core"}
    assert all(row.value > 0 and row.unit == "rows/s" for row in found.values())
    assert not list(tmp_path.iterdir())
