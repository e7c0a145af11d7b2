"""The benchmarks' plumbing. No peer is installed here and nothing is fetched but the data set."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import __main__ as command
from benchmarks import (
    arms,
    click_rows,
    click_speed,
    clicks,
    mf_fold,
    panels,
    peer_env,
    peer_side,
    ratings,
    report,
)
from benchmarks.arms import Measured, Outcome
from dlrm_mini import metrics
from dlrm_mini.datasets import movielens, splits
from dlrm_mini.datasets.clicks import click_task
from dlrm_mini.datasets.rating_features import rating_features

FIELDS = ["benchmark", "arm", "metric", "value", "spread", "unit", "hardware", "versions", "note"]
RUN = subprocess.run


@pytest.fixture
def tiny(monkeypatch):
    """mf-fold without data and without fitting; returns the log of what was called."""
    calls = []

    def arm(name, rmse):
        def run(fold):
            calls.append((fold, name))
            return Measured({"rmse": rmse + fold / 100, "s": 0.5}, {"python": "3"})

        return run

    monkeypatch.setattr(command, "BENCHMARKS", {"mf-fold": mf_fold.run})
    monkeypatch.setattr(mf_fold.movielens, "load", lambda: "data")
    monkeypatch.setattr(mf_fold.splits, "canonical_fold", lambda k: _Fold(k))
    monkeypatch.setattr(mf_fold, "fit_mf", lambda *_, **__: None)
    monkeypatch.setattr(mf_fold, "ours", lambda ml, fold: arm("ours", 0.91)(fold))
    monkeypatch.setattr(mf_fold, "_peer_arm", lambda folder, model, ml: arm(model, 0.93))
    return calls


class _Fold(int):
    """A fold that is only its number, with the rows that the warm-up asks for."""

    train: tuple[()] = ()


def test_the_arms_alternate_fold_by_fold(tiny, tmp_path):
    mf_fold.run(tmp_path)
    arms = ["ours", "surprise-svd", "surprise-svdpp"]
    assert tiny == [(fold, arm) for fold in range(1, 6) for arm in arms]
    mf_fold.measure(tmp_path)
    assert len(tiny) == 15  # measured once, for both benchmarks that show it


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


def test_there_are_the_benchmarks_that_the_readme_and_the_plans_name():
    assert list(command.BENCHMARKS) == [
        "mf-fold",
        "ratings",
        "clicks",
        "click-speed",
        "synthetic",
        "criteo-prepare",
        "step-profile",
        "step-kaggle",
        "step-rows",
        "parallel-step",
    ]


def test_an_unknown_benchmark_is_named(tmp_path, capsys):
    assert command.main(["mf-flod"], tmp_path) == 1
    assert "mf-flod" in capsys.readouterr().err
    assert not (tmp_path / "bench.json").exists()


def test_a_peer_that_does_not_install_is_a_row_that_says_why(tiny, tmp_path, monkeypatch, capsys):
    said = "pip\nWARNING: slow\nERROR: No matching distribution found for scikit-surprise==1.1.5"

    def no(*_, **__):
        raise peer_env.PeerError(said)

    monkeypatch.undo()  # the real arms of the peers, an installation that fails
    monkeypatch.setattr(command, "BENCHMARKS", {"mf-fold": mf_fold.run})
    monkeypatch.setattr(mf_fold, "FOLDS", (1,))
    monkeypatch.setattr(mf_fold, "fit_mf", lambda *_, **__: None)
    monkeypatch.setattr(mf_fold, "ours", lambda *_: Measured({"rmse": 0.9, "s": 1.0}))
    monkeypatch.setattr(peer_env, "ensure", no)
    assert command.main([], tmp_path) == 0
    why = "not installed: ERROR: No matching distribution found for scikit-surprise==1.1.5"
    printed = capsys.readouterr().out
    assert f"SKIPPED surprise-svd: {why}" in printed
    table = [line for line in printed.splitlines() if line.startswith("mf-fold")]
    assert any("surprise-svdpp" in line and why in line for line in table)
    rows = json.loads((tmp_path / "bench.json").read_text())
    missing = [row for row in rows if row["metric"] == "missing"]
    assert [row["arm"] for row in missing] == ["surprise-svd", "surprise-svdpp"]
    assert all(row["value"] is None and row["note"] == why for row in missing)
    assert {row["arm"] for row in rows if row["value"] is not None} == {"ours"}


def test_an_installation_that_failed_is_not_tried_again_for_the_next_arm(tmp_path, monkeypatch):
    tried = []

    def no(*_, **__):
        tried.append(1)
        raise peer_env.PeerError("nothing")

    monkeypatch.setattr(peer_env, "ensure", no)
    for _ in range(2):
        with pytest.raises(peer_env.PeerError, match="not installed: nothing"):
            peer_env.of("myfm", tmp_path)
    assert len(tried) == 1


def test_a_peer_that_fails_while_it_runs_loses_its_rows_only():
    def fails(fold):
        raise peer_env.PeerError("killed")

    outcome = arms.alternate({"ours": lambda _: Measured({"s": 1.0}), "peer": fails}, [1, 2])
    assert list(outcome.measured) == ["ours"] and len(outcome.measured["ours"]) == 2
    assert outcome.missing == {"peer": "killed"}


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
        return subprocess.CompletedProcess(command, 0, f"{folder}\n", "")

    monkeypatch.setattr(peer_env.subprocess, "run", run)
    python = peer_env.ensure(folder, requirements)
    assert peer_env.ensure(folder, requirements) == python and len(tried) == 2
    requirements.write_text("thing==2\n")
    peer_env.ensure(folder, requirements)
    assert len(tried) == 4 and not (folder / "course.pth").exists()
    peer_env.ensure(folder, requirements, share=True)
    shared = (folder / "course.pth").read_text().strip()
    assert len(tried) == 7 and Path(torch.__file__).is_relative_to(shared)


ECHO = """
import json, os, sys
print("hello, I am a package that greets")
for line in sys.stdin:
    if line == "stop\\n":
        sys.exit("no more")
    print(json.dumps({"said": line.strip(), "threads": os.environ["OMP_NUM_THREADS"]}), flush=True)
"""


def test_a_worker_answers_on_the_threads_it_is_given_and_its_end_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    script = tmp_path / "echo.py"
    script.write_text(ECHO)
    worker = peer_env.Worker([sys.executable, script])
    assert worker.ask("1") == {"said": "1", "threads": "1"}
    assert worker.ask("2")["said"] == "2"
    with pytest.raises(peer_env.PeerError, match="status 1 and said: no more"):
        worker.ask("stop")
    worker.close()
    with contextlib.closing(peer_env.Worker([sys.executable, script], threads=2)) as two:
        assert two.ask("1") == {"said": "1", "threads": "2"}


def test_a_report_is_replaced_as_a_whole(tmp_path):
    row = report.Row("b", "a", "rmse", 0.9, None, "", {}, {})
    path = report.write([row, row], tmp_path / "new" / "bench.json")
    report.write([row], path)
    assert len(json.loads(path.read_text())) == 1
    assert [file.name for file in path.parent.iterdir()] == ["bench.json"]
    with pytest.raises(ValueError, match="Out of range"):
        report.write([report.Row("b", "a", "rmse", float("nan"), None, "", {}, {})], path)
    assert len(json.loads(path.read_text())) == 1


def test_the_peers_pins_are_exact_and_bring_no_torch():
    first = {"surprise": "scikit-surprise", "myfm": "myfm", "deepctr": "deepctr-torch",
             "fuxictr": "fuxictr", "fbgemm": "fbgemm-gpu-cpu"}  # fmt: skip
    for peer, package in first.items():
        lines = (peer_env.HERE / f"requirements-{peer}.txt").read_text().splitlines()
        pins = [line for line in lines if not line.startswith("#")]
        assert pins[0].startswith(f"{package}==")
        assert all("==" in pin and not pin.startswith("torch") for pin in pins)


@pytest.fixture(scope="module")
def ml():
    return movielens.load()


@pytest.fixture(scope="module")
def task(ml):
    return click_task(ml, splits.random_split(len(ml.rating)))


def test_the_peers_read_the_rows_that_we_train_on(task, tmp_path):
    click_rows.write(task, tmp_path / "rows.npz")
    read = peer_side.read(tmp_path / "rows.npz")
    for part, batch in ((read.train, task.train), (read.test, task.test)):
        assert np.array_equal(part.labels, batch.labels) and np.array_equal(part.dense, batch.dense)
        for place, name in enumerate(read.names):
            assert np.array_equal(part.ids[:, place], batch.sparse.ids(name))
        genres, offsets = batch.sparse["genres"]
        assert np.array_equal((part.bag > 0).sum(1), offsets.diff())
        assert np.array_equal(part.bag[part.bag > 0] - 1, genres)
    sizes = dict(zip(read.names, read.sizes, strict=True))
    assert sizes | {read.bag_name: read.bag_size} == task.cardinalities
    assert {field: type(value) for field, value in vars(read.test).items()} == dict.fromkeys(
        ("ids", "bag", "dense", "labels"), np.ndarray
    )


def test_the_epochs_chosen_are_those_with_the_lowest_logloss():
    labels = np.array([1.0, 0.0])
    right = iter([0.6, 0.7, 0.65, 0.8, 0.75, 0.7, 0.99])
    trained = []
    chosen = peer_side.choose_epochs(
        lambda: trained.append(1), lambda: np.array([(p := next(right)), 1 - p]), labels
    )
    assert chosen == 4 and len(trained) == 6  # two in a row without a fall end it


def test_probabilities_are_judged_as_ours_are(task):
    logits = torch.randn(2, len(task.test.labels), dtype=torch.float64)
    said = json.dumps({"s": [1.0, 2.0], "epochs": 3, "parameters": 7, "versions": {}})
    runs = clicks.judge(logits.sigmoid().numpy(), task.test.labels, said)
    assert [run.values["s"] for run in runs] == [1.0, 2.0]
    for one, run in zip(logits, runs, strict=True):
        assert run.values["auc"] == pytest.approx(metrics.auc(one, task.test.labels))
        assert run.values["logloss"] == pytest.approx(metrics.logloss(one, task.test.labels))


def test_a_click_peer_that_fails_leaves_the_others(ml, monkeypatch, tmp_path):
    def call(python, script, arm, rows, seeds):
        if arm == "deepctr-dcn":
            raise peer_env.PeerError("killed")
        with np.load(rows / "rows.npz") as file:
            np.save(rows / f"{arm}.npy", [np.full(len(file["test_labels"]), 0.5)] * int(seeds))
        s = [1.0] * int(seeds)
        return json.dumps({"s": s, "epochs": 1, "parameters": 1, "versions": {}})

    monkeypatch.setattr(clicks, "OURS", ())
    monkeypatch.setattr(peer_env, "of", lambda peer, folder: Path(peer))
    monkeypatch.setattr(peer_env, "call", call)
    outcome = clicks.measure(ml, "random", tmp_path)
    assert list(outcome.measured) == ["deepctr-deepfm", "fuxictr-dlrm"]
    assert outcome.missing == {"deepctr-dcn": "killed"}
    assert outcome.measured["fuxictr-dlrm"][2].values["auc"] == 0.5


def test_myfms_design_matrix_has_a_column_for_each_id(ml):
    task = rating_features(ml, splits.canonical_fold(1), ("movie",))
    few = torch.arange(50)
    design = ratings._design(task.test.select(few), task, "test")
    firsts = np.cumsum([0, *task.cardinalities.values()])[:-1]
    starts = dict(zip(task.cardinalities, firsts, strict=True))
    for row in range(len(few)):
        columns = design["test_columns"][slice(*design["test_offsets"][row : row + 2])]
        batch = task.test.select(few[row : row + 1]).sparse
        expected = [int(i) + starts[n] for n in task.cardinalities for i in batch.bag(n).ids]
        assert sorted(columns) == sorted(expected)
    assert np.array_equal(design["test_rating"], task.test.labels[few])


def test_the_factor_of_speed_is_taken_within_a_repetition(monkeypatch):
    monkeypatch.setattr(click_speed, "REPETITIONS", 3)
    asked = []

    def asks(arm, rates):
        rates = iter([1e9, *rates])  # the first repetition warms up and does not count

        def ask(setup):
            asked.append(arm)
            return {"rate": next(rates), "parameters": 5, "versions": {}}

        return ask

    monkeypatch.setattr(click_speed, "SETUPS", {"small": click_speed.Setup(8, "4/4", "4")})
    both = {
        "ours-dlrm": asks("o", [10.0, 40.0, 30.0]),
        "deepctr-deepfm": asks("d", [5.0, 10.0, 15.0]),
    }
    rows = click_speed.to_rows(click_speed.take_turns(both, {}))
    assert asked == ["o", "d"] * 4
    found = {(row.arm, row.metric): row.value for row in rows}
    assert found == {
        ("ours-dlrm", "samples_per_s"): 30.0,
        ("deepctr-deepfm", "samples_per_s"): 10.0,
        ("deepctr-deepfm", "ours_is_faster"): 2.0,  # of 2, 4 and 2
    }


def test_a_peer_that_dies_while_it_is_timed_leaves_our_rates(monkeypatch):
    monkeypatch.setattr(click_speed, "REPETITIONS", 2)
    answers = iter([1.0])

    def peer(setup):
        try:
            return {"rate": next(answers), "parameters": 5, "versions": {}}
        except StopIteration:
            raise peer_env.PeerError("killed") from None

    def ours(setup):
        return {"rate": 2.0, "parameters": 5, "versions": {}}

    missing = {}
    rates = click_speed.take_turns({"ours-dlrm": ours, "deepctr-deepfm": peer}, missing)
    assert missing == {"deepctr-deepfm": "killed"}
    assert {(name, *by_arm) for name, by_arm in rates.items()} == {
        (name, "ours-dlrm") for name in click_speed.SETUPS
    }
    rows = click_speed.to_rows(rates)
    assert [row.arm for row in rows] == ["ours-dlrm"] * len(click_speed.SETUPS)
    click_speed.draw(rows).canvas.draw()


def test_the_pictures_show_every_arm():
    runs = [Measured({"rmse": 0.9 + seed / 100, "s": 2.0**seed}) for seed in range(3)]
    outcome = Outcome({"ours": runs, "peer": runs}, {})
    figure = panels.draw(mf_fold.rmse_and_seconds(outcome), "Ratings")
    figure.canvas.draw()
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["ours", "peer"]
    written = {text.get_text() for axes in figure.axes for text in axes.texts}
    assert written == {"0.9100", "2.3"}
    assert all(axes.get_xlabel() for axes in figure.axes)
