"""`train --engine`: several ranks as a reader starts them, most of them simulated."""

import contextlib
import importlib.util
import re
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dlrm_mini import checkpoints, cli
from dlrm_mini.datasets import movielens
from dlrm_mini.models.dlrm_config import DLRMConfig
from dlrm_mini.parallel import launch
from dlrm_mini.parallel.sharded_step import ShardedStep
from dlrm_mini.parallel.simulated import SimulatedCluster
from dlrm_mini.parallel.standing import BOARD
from dlrm_mini.shell import engine_sharded, engines, train
from tests.interruption import interrupted

N = 3000
SHARDED = "train --engine sharded --model dlrm --epochs 2 --processes "


@pytest.fixture(autouse=True)
def here(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    threads = torch.get_num_threads()
    yield tmp_path
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def first():
    """The first ratings of the real data, with all users and movies."""
    ml = movielens.load()
    columns = {name: getattr(ml, name)[:N] for name in ("user", "item", "rating", "timestamp")}
    return replace(ml, **columns)


@pytest.fixture
def few(first, monkeypatch):
    monkeypatch.setattr(movielens, "load", lambda: first)


@pytest.fixture
def simulated(monkeypatch):
    """Ranks are threads of this process, instead of processes that torchrun starts."""
    own = threading.local()

    @contextlib.contextmanager
    def connect(timeout):
        own.communicator.device = torch.device("cpu")
        yield own.communicator

    def run(module, processes, words, *, timeout, show):
        def rank(communicator):
            own.communicator = communicator
            options = cli._parser().parse_args(words)
            train.train(options)

        with monkeypatch.context() as patch:
            patch.setenv("RANK", "0")
            patch.setenv("WORLD_SIZE", str(processes))
            patch.setattr(engines, "connect", connect)
            patch.setattr(engines, "leave", lambda: None)  # or pytest would end
            SimulatedCluster(processes).run(rank)

    monkeypatch.setattr(launch, "run", run)


def content(path: str) -> dict:
    return checkpoints.load(Path(path))


def apart(one: str, other: str) -> float:
    """The largest difference of two checkpoints' weights."""
    a, b = content(one)["model"], content(other)["model"]
    assert list(a) == list(b)
    return max(float((a[name] - b[name]).abs().max()) for name in a)


@contextlib.contextmanager
def stopping(monkeypatch, call: int):
    """Ctrl-C in the `call`-th step, of all ranks' steps together."""
    calls = []

    def step(self, batch, keep=ShardedStep.step):
        calls.append(1)
        if len(calls) == call:
            raise KeyboardInterrupt
        return keep(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(ShardedStep, "step", step)
        yield


def test_several_ranks_end_where_one_device_ends(say, few, simulated):
    """In weights, optimizer state, what was printed, and in the file that later commands read."""
    status, said, _ = say(SHARDED + "3 --seed 1 --out split.pt")
    assert status == 0
    assert say("train --model dlrm --epochs 2 --seed 1 --out one.pt")[0] == 0
    assert apart("split.pt", "one.pt") < 1e-5
    say("train --model dlrm --epochs 2 --seed 2 --out other.pt")
    assert apart("split.pt", "other.pt") > 0.1
    one, split = content("one.pt"), content("split.pt")
    assert one.keys() == split.keys() and one["schedule"] == split["schedule"]
    assert one["optimizer"]["param_groups"] == split["optimizer"]["param_groups"]
    for key, state in one["optimizer"]["state"].items():
        torch.testing.assert_close(split["optimizer"]["state"][key], state, rtol=1e-3, atol=1e-6)
    for ours, theirs in zip(split["extra"]["table"], one["extra"]["table"], strict=True):
        same = {**theirs, "seconds": ours["seconds"]}
        assert ours == pytest.approx(same, rel=1e-4) and list(ours) == list(theirs)
    lines = said.splitlines()
    assert lines[0] == "dlrm on movielens clicks, split random, seed 1"
    assert sum("-wise" in line for line in lines[3:13]) == 10
    (why,) = [line for line in lines if "asks for a split" in line]
    assert "a copy of each on every rank would be faster" in why
    assert say("evaluate --checkpoint split.pt")[1].splitlines()[-1] == lines[-1]
    assert say("predict --checkpoint split.pt --user 1 --movie 2")[0] == 0
    assert say("train --resume --out split.pt")[1].splitlines()[-1] == lines[-1]
    assert re.search(r"2 epochs in \S+ s; the model is in split.pt, its", said)
    assert len(list(Path("split.shards").iterdir())) == 1


def test_the_model_is_dlrm_and_a_single_rank_splits_nothing(say, few, simulated):
    status, said, complaint = say("train --engine sharded --processes 1 --epochs 1")
    assert status == 0, complaint
    assert "dlrm on movielens" in said and "asks for a split" not in said
    assert Path("runs/dlrm-clicks.pt").exists()
    assert "Go on from it with --resume" in say("train --engine sharded --processes 2")[2]


def test_of_large_tables_the_small_ones_are_copied():
    """The planner's own plan, where it splits anything."""
    tables = {"large": 10_000_000, "small": 3}
    config = DLRMConfig(4, tables, 16, bottom=(16,), top=(1,))
    cluster = SimulatedCluster(2)

    def rank(communicator):
        communicator.device = torch.device("cpu")
        return engine_sharded._planned(config, 4096, communicator)

    planned, said = cluster.run(rank)[0]
    forms = {name: p.form for name, p in planned.plan.placements.items()}
    assert forms["small"] == "data-parallel" != forms["large"]
    assert "asks for a split" not in said and "not for this machine" in said


def test_a_stopped_run_goes_on_with_another_number_of_ranks(say, few, simulated, monkeypatch):
    say(SHARDED + "2 --out whole.pt")
    with stopping(monkeypatch, call=12):
        status, _, complaint = say(SHARDED + "2 --out cut.pt")
    assert status == 130 and "--resume" in complaint and not Path("cut.pt").exists()
    status, said, _ = say("train --engine sharded --processes 3 --resume --out cut.pt")
    assert status == 0 and "2 epochs in" in said
    assert apart("whole.pt", "cut.pt") < 1e-5
    assert [row["epoch"] for row in content("cut.pt")["extra"]["table"]] == [1, 2]


def test_a_run_of_one_device_goes_on_on_several(say, few, simulated, monkeypatch):
    say("train --model dlrm --epochs 2 --out whole.pt")
    with interrupted(monkeypatch, call=2):
        assert say("train --model dlrm --epochs 2 --out cut.pt")[0] == 130
    assert say("train --engine sharded --processes 2 --resume --out cut.pt")[0] == 0
    assert apart("whole.pt", "cut.pt") < 1e-5


def test_it_goes_on_from_what_has_come_further(say, few, simulated, monkeypatch):
    """One device may have gone on with a run, or begun another, since shards were written."""
    with stopping(monkeypatch, call=12):
        assert say(SHARDED + "2 --out cut.pt")[0] == 130
    say("train --model dlrm --epochs 2 --out cut.pt")
    with stopping(monkeypatch, call=1):  # no step is left
        status, _, complaint = say("train --engine sharded --processes 2 --resume --out cut.pt")
    assert status == 0, complaint
    say("train --model dlrm --epochs 2 --seed 1 --out cut.pt --overwrite")
    before = content("cut.pt")
    status, _, complaint = say("train --engine sharded --processes 2 --resume --out cut.pt")
    assert status == 1 and "cut.pt and cut.shards are of different runs" in complaint
    assert content("cut.pt")["extra"] == before["extra"]


def test_the_prior_of_click_logs_and_their_metrics(say, simulated, monkeypatch):
    say("criteo generate --rows 700 --out log.txt")
    say("criteo prepare log.txt --out log")
    command = "train --data criteo --from log --batch-size 300 --epochs 1 --out "
    assert say(command + "one.pt")[0] == 0
    status, said, complaint = say(command + "split.pt --engine sharded --processes 2")
    assert status == 0, complaint
    assert apart("one.pt", "split.pt") < 1e-5
    assert "penalty" not in said  # the prior is none
    last = say("evaluate --checkpoint split.pt --from log")[1].splitlines()[-1]
    assert last == said.splitlines()[-1]
    assert say("train --resume --data criteo --from log --out split.pt")[0] == 0
    # Where the launcher shows what rank 0 prints, the time left is in it.
    monkeypatch.setenv(BOARD, "somewhere")
    monkeypatch.setenv("DLRM_MINI_PROGRESS", "on")
    _, said, _ = say(command + "shown.pt --engine sharded --processes 2")
    assert "epoch 1: " in said and " left" in said


def test_resume_without_a_checkpoint_begins_and_says_so(say, few, simulated):
    status, said, _ = say(SHARDED + "2 --out new.pt --resume")
    assert status == 0 and "no checkpoint at new.pt" in said and Path("new.pt").exists()


def test_nothing_is_lost_unless_told_so(say, few, simulated):
    say(SHARDED + "2 --out run.pt")
    for gone in ("", "run.pt"):
        if gone:
            Path(gone).unlink()
        status, _, complaint = say(SHARDED + "2 --out run.pt")
        assert status == 1 and "--overwrite" in complaint and "--resume" in complaint
    assert say(SHARDED + "2 --seed 1 --out run.pt --overwrite")[0] == 0
    assert content("run.pt")["extra"]["recipe"]["seed"] == 1
    status, _, complaint = say(SHARDED + "2 --seed 2 --out run.pt --resume")
    assert status == 1 and "has --seed 1, not 2" in complaint


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("train --model dlrm --processes 2", "one device needs one process. Say --engine sharded"),
        ("train --model dlrm --engine sharded", "expected --processes N"),
        (SHARDED + "0", "--processes is 0; expected at least 1"),
        (SHARDED + "2 --model fm", "splits the tables of dlrm, and --model is fm"),
        (SHARDED + "2 --task ratings", "trains on clicks, and --task is ratings"),
        (SHARDED + "2 --precision bfloat16", "trains in float32, and --precision is bfloat16"),
        (SHARDED + "2 --device cpu", "--device is cpu, but with --engine each process"),
        (SHARDED + "2 --lr 0", "--lr is 0; expected a number above 0"),
        (SHARDED + "2 --out folder", "folder is a folder; expected the name of a file"),
        ("train --engine sharded --processes 2 --resume --out fm.pt", "is of fm. Leave --engine"),
        ("train --engine torchrec --model dlrm --processes 2 --resume", "hold weights and no"),
        ("train --engine torchrec --model dlrm --processes 2 --l2 0.1", "without a penalty"),
    ],
)
def test_what_cannot_be_is_a_sentence_before_anything_starts(
    say, here, few, monkeypatch, command, expected
):
    monkeypatch.setattr(launch, "run", lambda *arguments, **options: pytest.fail("it has started"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    (here / "folder").mkdir()
    say("train --model fm --epochs 1 --out fm.pt")
    before = sorted(here.rglob("*"))
    status, _, complaint = say(command)
    assert status == 1 and complaint.startswith("dlrm-mini: ") and expected in complaint
    assert sorted(here.rglob("*")) == before


def test_without_torchrec_it_says_how_to_get_it(say, few, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    status, _, complaint = say("train --engine torchrec --model dlrm --processes 2")
    assert status == 1 and "`python -m dlrm_mini torchrec` installs it" in complaint


def test_under_torchrun_the_number_of_processes_is_torchruns(say, few, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "4")
    status, _, complaint = say(SHARDED + "2")
    assert status == 1 and "--processes is 2, but torchrun has started 4" in complaint
