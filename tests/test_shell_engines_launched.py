"""`train --engine` with real processes, a few times: each start takes seconds."""

import importlib.util
import re

import pytest


@pytest.fixture(autouse=True)
def here(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RANK", raising=False)


REAL = "train --model dlrm --processes 2 --epochs 1 --batch-size 4000 --out run.pt --engine "


def test_it_starts_itself_under_torchrun(say):
    status, said, complaint = say(REAL + "sharded")
    assert status == 0, complaint
    assert said.count("dlrm on movielens clicks") == 1  # one rank speaks
    assert say("evaluate --checkpoint run.pt")[1].splitlines()[-1] == said.splitlines()[-1]


@pytest.mark.skipif(not importlib.util.find_spec("torchrec"), reason="TorchRec is not installed")
def test_torchrec_trains_what_evaluate_reads(say):
    status, said, complaint = say(REAL + "torchrec")
    assert status == 0, complaint
    assert "TorchRec's planner chose these places" in said and "penalty included" not in said
    assert say("evaluate --checkpoint run.pt")[1].splitlines()[-1] == said.splitlines()[-1]
    losses = [float(line.split()[1]) for line in said.splitlines() if re.match(r" +1 +0\.", line)]
    assert 0.5 < losses[0] < 0.69
    status, _, complaint = say("train --resume --out run.pt")
    assert status == 1 and "it holds a model, but no run to go on with" in complaint
