"""The commands as a newcomer types them: help, wrong words, what they print, what they return."""

import os
import re
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
    listed = run("--help").stdout
    assert targets() - {"help"} == set(re.findall(r"^    ([a-z]+)\b", listed, re.M))


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
    monkeypatch.setattr(cli.subprocess, "call", lambda *a, **k: order.append("test") or 0)
    assert cli.main(["run"]) == cli.main(["test"]) == 0
    assert order == ["data", "run", "data", "test"]


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
