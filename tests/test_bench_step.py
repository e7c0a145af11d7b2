"""`bench step` from the shell: what it needs, prints and refuses."""

import argparse
import os
import subprocess
import sys

import pytest

from dlrm_mini import cli
from dlrm_mini.profiling import plans, record, suite
from dlrm_mini.shell import bench_step
from tests.profiling.made_up import made_up_card, save
from tests.test_light_imports import HEAVY, ROOT

BARE = f"""
import sys
for name in {HEAVY!r}:
    sys.modules[name] = None  # importing it fails from here on

from dlrm_mini import bootstrap, cli
from dlrm_mini.profiling import suite

from dlrm_mini.shell import bench_step

def no_environment(needs):
    raise AssertionError("an environment would have been made")

bootstrap.interpreter = no_environment
bench_step.runs_here = lambda options: True  # on a CPU it would want numba
suite.BUDGETS = {{"cpu": suite.Budget(3, 0.005, 1, 0.1, 1.0)}}
sys.exit(cli.main(sys.argv[1:]))
"""


def test_it_needs_torch_and_numpy_only_and_makes_no_environment(tmp_path):
    words = ["bench", "step", "--preset", "tiny", "--device", "cpu", "--record"]
    done = subprocess.run(
        [sys.executable, "-c", BARE, *words],
        cwd=ROOT,
        env=os.environ | {"DLRM_MINI_MEASUREMENTS": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (file,) = tmp_path.iterdir()
    found = record.read(file)
    assert found["name"] == file.stem and file.name.startswith("steps_cpu_")
    assert found["command"] == "python -m dlrm_mini " + " ".join(words)
    entries = found["results"]["entries"]
    assert [entry["arm"] for entry in entries] == ["naive", "sparse", "fused", "bfloat16"]
    assert entries[2]["kernel"] == "reference"  # numba is not there
    assert "tiny on cpu: 4 entries" in done.stderr and "fused: " in done.stderr
    assert len(done.stdout.strip().split("\n")) == 5


@pytest.fixture
def here(monkeypatch, tmp_path):
    """Nothing is measured: a preset takes the made-up card's numbers, as if from a CPU."""
    monkeypatch.setenv("DLRM_MINI_MEASUREMENTS", str(tmp_path))
    ran = []

    def run(self, preset):
        made = made_up_card()
        results = made["results"]
        for kind in ("entries", "skipped"):
            results[kind] = [one for one in results[kind] if one["preset"] == preset]
        results["presets"] = {preset: results["presets"][preset]}
        ran.append(preset)
        return made | self.about | {"results": results | self.about["results"]}

    monkeypatch.setattr(suite.Suite, "run", run)
    monkeypatch.setattr(suite.Suite, "predict", lambda self, *_: None)
    return ran


def test_without_record_there_is_a_table_only(here, tmp_path, capsys):
    assert cli.main(["bench", "step", "--preset", "kaggle", "--device", "cpu"]) == 0
    lines = capsys.readouterr().out.strip().split("\n")
    assert here == ["kaggle"] and not list(tmp_path.iterdir())
    assert lines[0].split()[:3] == ["configuration", "arm", "ms"]
    fused = next(line for line in lines if line.startswith("kaggle         fused"))
    # ms, spread, times sparse, samples/s, shares, prediction, launches, deviation
    assert fused.split()[2:] == [
        "10.5", "0.11", "0.38", "195,048", "36", "%", "32", "%", "7.35", "120", "1e-04"
    ]  # fmt: skip
    assert lines[-1] == "skipped: kaggle, naive: made up: it does not fit"


def test_all_records_every_preset_as_it_comes(here, tmp_path, monkeypatch, capsys):
    assert cli.main(["bench", "step", "--preset", "all", "--device", "cpu", "--record"]) == 0
    assert here == list(plans.ORDER)
    (found,) = record.recorded("cpu")
    assert list(found["results"]["presets"]) == here

    def stopped(self, preset):
        raise KeyboardInterrupt

    monkeypatch.setattr(suite.Suite, "run", stopped)
    assert cli.main(["bench", "step", "--device", "cpu", "--record"]) == 130
    assert "What was recorded before is kept" in capsys.readouterr().err
    assert record.recorded("cpu") == [found]


def test_another_machine_is_refused_before_anything_is_measured(here, tmp_path, capsys):
    made = made_up_card()
    made["results"]["device"] = "cpu"
    machine = suite.about("cpu")["hardware"]
    made["name"] = record.file_of("cpu", machine).stem
    file = save(tmp_path, made)
    before = file.read_bytes()
    assert cli.main(["bench", "step", "--device", "cpu", "--record"]) == 1
    assert "move or delete the file" in capsys.readouterr().err
    assert here == [] and file.read_bytes() == before


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_measured(
    here, tmp_path, monkeypatch, capsys
):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("DLRM_MINI_MEASUREMENTS", str(tmp_path / "file"))
    assert cli.main(["bench", "step", "--device", "cpu", "--record"]) == 1
    assert "cannot be written" in capsys.readouterr().err and here == []


def test_the_benchmarks_beside_peers_are_called_as_before(monkeypatch):
    called = []
    monkeypatch.setattr(cli.subprocess, "call", lambda words, cwd: called.append(words) or 7)
    assert cli.main(["bench"]) == cli.main(["bench", "ratings", "mf-fold"]) == 7
    assert [words[1:] for words in called] == [
        ["-m", "benchmarks"], ["-m", "benchmarks", "ratings", "mf-fold"]
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--record"], "--record belongs to `bench step`; found `bench`"),
        (["ratings", "--preset", "rm1"], "--preset belongs to `bench step`; found `bench ratings`"),
        (["step", "ratings"], "`bench step` measures alone"),
        (["ratings", "step"], "`bench step` measures alone"),
    ],
)
def test_words_that_do_not_go_together_are_refused(words, said, capsys):
    assert cli.main(["bench", *words]) == 1
    assert said in capsys.readouterr().err


def test_the_parser_knows_the_presets_without_torch():
    assert set(bench_step.PRESETS) == {*plans.PRESETS, "all"}


@pytest.mark.parametrize(
    ("device", "there", "runs"),
    [
        ("cuda", {"torch", "numpy"}, True),
        ("cuda", {"torch"}, False),
        ("cuda", {"numpy"}, False),
        ("cpu", {"torch", "numpy", "numba"}, True),
        ("cpu", {"torch", "numpy", "triton"}, False),
        (None, {"torch", "numpy", "triton"}, True),
        ("auto", {"torch", "numpy"}, False),
    ],
)
def test_where_something_is_missing_the_environment_is_asked_for(device, there, runs, monkeypatch):
    monkeypatch.setattr(
        bench_step.importlib.util, "find_spec", lambda name: name if name in there else None
    )
    options = argparse.Namespace(names=["step"], device=device)
    assert bench_step.runs_here(options) is runs
    assert not bench_step.runs_here(argparse.Namespace(names=[], device=device))


def test_a_curve_beyond_its_tolerance_is_marked():
    made = made_up_card()["results"]
    made["entries"] = made["entries"][:1]
    made["entries"][0]["curve"] |= {"deviation": 0.5, "tolerance": 0.01}
    assert bench_step.table(made).split("\n")[1].endswith("5e-01, above 1e-02!")
