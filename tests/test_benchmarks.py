"""The benchmarks' plumbing. No peer is installed here and nothing is fetched but the data set."""

import json
import subprocess
import sys

import pytest

from benchmarks import __main__ as command
from benchmarks import mf_fold, peer_env, report
from benchmarks.mf_fold import Measured

FIELDS = ["benchmark", "arm", "metric", "value", "spread", "unit", "hardware", "versions"]


@pytest.fixture
def tiny(monkeypatch):
    """The benchmark without data and without fitting; returns the log of what was called."""
    calls = []

    def arm(name, rmse):
        def run(fold):
            calls.append((fold, name))
            return Measured(rmse + fold / 100, 0.5, {"python": "3"})

        return run

    monkeypatch.setattr(mf_fold.movielens, "load", lambda: "data")
    monkeypatch.setattr(mf_fold.splits, "canonical_fold", lambda k: _Fold(k))
    monkeypatch.setattr(mf_fold, "fit_mf", lambda *_, **__: None)
    monkeypatch.setattr(mf_fold, "ours", lambda ml, fold: arm("ours", 0.91)(fold))
    monkeypatch.setattr(mf_fold.peer_env, "ensure", lambda *_: "python")
    monkeypatch.setattr(mf_fold, "_peer_arm", lambda python, model, ml: arm(model, 0.93))
    return calls


class _Fold(int):
    """A fold that is only its number, with the rows that the warm-up asks for."""

    train: tuple[()] = ()


def test_the_arms_alternate_fold_by_fold(tiny, tmp_path):
    mf_fold.run(tmp_path)
    arms = ["ours", "surprise-svd", "surprise-svdpp"]
    assert tiny == [(fold, arm) for fold in range(1, 6) for arm in arms]


def test_the_command_writes_the_file_and_the_picture(tiny, tmp_path, capsys):
    assert command.main([], tmp_path) == 0
    rows = json.loads((tmp_path / "bench.json").read_text())
    assert [list(row) for row in rows] == [FIELDS] * 6
    assert {(row["arm"], row["metric"]) for row in rows} == {
        (arm, metric)
        for arm in ("ours", "surprise-svd", "surprise-svdpp")
        for metric in ("rmse", "s")
    }
    first = rows[0]
    assert first["benchmark"] == "mf-fold" and first["unit"] == "stars"
    assert first["value"] == pytest.approx(0.94) and first["spread"] == pytest.approx(0.0158114)
    assert set(first["hardware"]) == {"cpu", "cores", "system", "gpu"}
    assert (tmp_path / "bench-mf-fold.png").read_bytes().startswith(b"\x89PNG")
    assert "surprise-svdpp" in capsys.readouterr().out


def test_an_unknown_benchmark_is_named(tmp_path, capsys):
    assert command.main(["mf-flod"], tmp_path) == 1
    assert "mf-flod" in capsys.readouterr().err
    assert not (tmp_path / "bench.json").exists()


def test_a_peer_that_does_not_install_is_reported_and_skipped(tiny, tmp_path, monkeypatch, capsys):
    def no(*_):
        raise peer_env.PeerError("pip ended with status 1 and said: no such thing")

    monkeypatch.setattr(mf_fold.peer_env, "ensure", no)
    assert command.main([], tmp_path) == 0
    assert "SKIPPED surprise-svd, surprise-svdpp: pip ended with" in capsys.readouterr().out
    rows = json.loads((tmp_path / "bench.json").read_text())
    assert {row["arm"] for row in rows} == {"ours"}


def test_a_peer_that_fails_while_it_runs_loses_its_rows_only():
    def fails(fold):
        raise peer_env.PeerError("killed")

    def works(fold):
        return Measured(0.9, 1.0, {})

    measured = mf_fold.alternate({"ours": works, "peer": fails}, [1, 2])
    assert list(measured) == ["ours"] and len(measured["ours"]) == 2


def test_a_broken_installation_says_why_and_is_not_used_later(tmp_path, monkeypatch):
    """Real commands, but for making the environment: its Python is replaced by one that fails."""
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("nothing==1\n")
    tried = []

    def run(command, **keywords):
        tried.append(command)
        if "venv" in command:
            return subprocess.CompletedProcess(command, 0, "", "")
        failing = "import sys; sys.exit('no matching distribution')"
        return RUN([sys.executable, "-c", failing], **keywords)

    monkeypatch.setattr(peer_env.subprocess, "run", run)
    for _ in range(2):
        with pytest.raises(peer_env.PeerError, match="no matching distribution"):
            peer_env.ensure(tmp_path / "env", requirements)
    assert len(tried) == 4  # the second call began again


RUN = subprocess.run


def test_an_environment_is_made_once_and_again_when_its_pins_change(tmp_path, monkeypatch):
    requirements, folder = tmp_path / "requirements.txt", tmp_path / "env"
    requirements.write_text("thing==1\n")
    tried = []

    def run(command, **keywords):
        tried.append(command)
        if "venv" in command:
            for python in ("bin/python", "Scripts/python.exe"):
                (folder / python).parent.mkdir(parents=True, exist_ok=True)
                (folder / python).touch()
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(peer_env.subprocess, "run", run)
    python = peer_env.ensure(folder, requirements)
    assert peer_env.ensure(folder, requirements) == python and len(tried) == 2
    requirements.write_text("thing==2\n")
    peer_env.ensure(folder, requirements)
    assert len(tried) == 4


def test_a_report_is_replaced_as_a_whole(tmp_path):
    row = report.Row("b", "a", "rmse", 0.9, None, "", {}, {})
    path = report.write([row, row], tmp_path / "new" / "bench.json")
    report.write([row], path)
    assert len(json.loads(path.read_text())) == 1
    assert [file.name for file in path.parent.iterdir()] == ["bench.json"]
    with pytest.raises(ValueError, match="Out of range"):
        report.write([report.Row("b", "a", "rmse", float("nan"), None, "", {}, {})], path)
    assert len(json.loads(path.read_text())) == 1


def test_the_peers_pins_are_exact():
    lines = (mf_fold.HERE / "requirements-surprise.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert pins[0] == "scikit-surprise==1.1.5"
    assert all("==" in pin for pin in pins) and not any("torch" in pin for pin in pins)
