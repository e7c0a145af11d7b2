"""The commands as a newcomer types them: help, wrong words, what they print, what they return."""

import importlib
import inspect
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dlrm_mini import cli
from dlrm_mini.course import run as run_module
from dlrm_mini.datasets import movielens
from dlrm_mini.errors import UserError
from dlrm_mini.paths import absolute_environment

ROOT = Path(__file__).parents[1]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dlrm_mini", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(), re.M))


def test_make_and_python_know_the_same_commands():
    """But for those that are nothing without their options."""
    listed = run("--help").stdout
    commands = (targets() - {"help"}) | {"train", "evaluate", "predict", "criteo"}
    commands.add("classroom")
    assert commands == set(re.findall(r"^    ([a-z]+)\b", listed, re.M))


@pytest.mark.parametrize("name", cli.MEASUREMENTS)
def test_every_measurement_is_a_function_that_can_be_told_to_be_quiet(name):
    module, function = cli.MEASUREMENTS[name].split(":")
    parameters = inspect.signature(getattr(importlib.import_module(module), function)).parameters
    assert "progress" in parameters


def test_measure_calls_the_function_of_that_name(monkeypatch, capsys):
    from dlrm_mini.ladders import ratings

    monkeypatch.setattr(ratings, "ladder", lambda progress: f"measured, {progress}")
    assert cli.main(["measure", "ratings-ladder"]) == 0
    assert capsys.readouterr().out == "measured, True\n"
    with pytest.raises(SystemExit) as caught:
        cli.main(["measure", "rating-ladder"])
    assert caught.value.code == 2
    assert "clicks-ladder" in capsys.readouterr().err


def test_train_from_the_shell_begins_and_says_what_it_lacks(tmp_path):
    """A process of its own: the words go through the parser, the refusal comes as a sentence."""
    done = run("train", "--data", "movielens", "--out", str(tmp_path / "run.pt"))
    assert done.returncode == 1 and "--model" in done.stderr and "Traceback" not in done.stderr
    for word, wrong in (("--model", "svd"), ("--split", "u6"), ("--epochs", "many")):
        done = run("train", word, wrong)
        assert done.returncode == 2 and wrong in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_stopped_training_is_not_told_to_begin_anew(monkeypatch, capsys):
    def stopped(options):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_train", stopped)
    assert cli.main(["train", "--model", "mf"]) == 130
    assert "--resume goes on from the last whole epoch" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="make is for Unix")
def test_make_help_lists_every_target():
    # Under `make test` an inner make would speak of the folders it enters.
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    env.pop("MFLAGS", None)
    done = subprocess.run(["make", "help"], cwd=ROOT, env=env, capture_output=True, text=True)
    text = done.stdout
    assert {line.split()[0] for line in text.splitlines()} == targets()


def test_a_wrong_word_is_refused_with_the_list():
    done = run("traln")
    assert done.returncode == 2
    assert "invalid choice: 'traln'" in done.stderr and "lab" in done.stderr


def test_an_unknown_chapter_is_a_sentence_without_a_traceback():
    done = run("notebooks", "77")
    assert done.returncode == 1
    assert "77" in done.stderr and "02" in done.stderr and "Traceback" not in done.stderr


def test_data_says_what_is_there_and_whether_it_is_verified():
    movielens.load()
    done = run("data")
    assert done.returncode == 0
    assert "u.data" in done.stdout and "verified" in done.stdout


def test_data_names_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("DLRM_MINI_DATA", str(tmp_path))
    done = run("data")
    assert done.returncode == 0 and str(tmp_path) in done.stdout


def test_a_relative_data_folder_means_the_same_place_everywhere(monkeypatch):
    monkeypatch.setenv("DLRM_MINI_DATA", "some/place")
    absolute_environment()
    assert os.environ["DLRM_MINI_DATA"] == str(Path.cwd() / "some" / "place")


def test_run_and_test_have_the_data_before_they_start(monkeypatch):
    order = []
    monkeypatch.setattr(cli, "_have_data", lambda: order.append("data"))
    monkeypatch.setattr(run_module, "run_course", lambda only: order.append("run") or 0)
    monkeypatch.setattr(cli.torchrec, "for_tests", lambda: order.append("torchrec"))
    monkeypatch.setattr(cli.subprocess, "call", lambda *a, **k: order.append("test") or 0)
    assert cli.main(["run"]) == cli.main(["test"]) == 0
    assert order == ["data", "run", "data", "torchrec", "test"]


def test_check_prints_a_line_per_thing():
    done = run("check")
    assert done.returncode == 0, done.stdout
    assert re.search(r"^OK    torch +2\.", done.stdout, re.M)


@pytest.mark.parametrize(
    ("raised", "status"), [(UserError("no such thing"), 1), (KeyboardInterrupt(), 130)]
)
def test_errors_become_sentences_and_statuses(monkeypatch, capsys, raised, status):
    def fails(options):
        raise raised

    monkeypatch.setattr(cli, "_data", fails)
    assert cli.main(["data"]) == status
    assert capsys.readouterr().err.strip().startswith("dlrm-mini: ")


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent as on Unix")
def test_a_command_that_was_handed_over_stops_in_its_own_time(tmp_path):
    """It takes a while to put things in order, and is let, however often Ctrl-C is pressed."""
    child = (
        "import signal, sys, time, pathlib\n"
        "signal.signal(signal.SIGINT, lambda *_: None)\n"
        "print('ready', flush=True); time.sleep(0.6)\n"
        "pathlib.Path('in_order').touch(); sys.exit(7)"
    )
    parent = (
        "import sys; from dlrm_mini import cli\n"
        f"sys.exit(cli._hand_over([sys.executable, '-c', {child!r}]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", parent],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for _ in range(2):
        os.killpg(process.pid, signal.SIGINT)
    assert process.wait() == 7
    assert (tmp_path / "in_order").exists()
