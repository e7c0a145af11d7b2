"""The benchmark of a step on several processes: groups that take turns, and what is made of it."""

from types import SimpleNamespace
from typing import ClassVar

import pytest

from benchmarks import parallel_side, parallel_step, peer_env
from benchmarks.parallel_side import plan_of
from dlrm_mini.errors import UserError
from dlrm_mini.models import dlrm_presets
from dlrm_mini.parallel.cost import step_cost
from dlrm_mini.parallel.machine import MACHINES
from dlrm_mini.parallel.topology import Link, Topology

ARMS = [f"{engine}-{size}" for engine in ("ours", "torchrec") for size in (1, 2, 4)]
MS = dict(zip(ARMS, (40.0, 25.0, 16.0, 60.0, 50.0, 48.0), strict=True))


class FakeWorker:
    """Answers as a group of processes does, with times that say who was asked."""

    asked: ClassVar[list[tuple[str, str]]]
    wrong: ClassVar[dict[str, float]]

    def __init__(self, command, threads=1):
        assert threads == 1
        words = [str(word) for word in command]
        self.arm = f"{words[-2]}-{words[words.index('--nproc-per-node') + 1]}"

    def ask(self, question):
        self.asked.append((self.arm, question))
        if question == "about":
            return {"threads": 1, "versions": {"python": "3"}}
        if question.startswith("check"):
            return {"worst": self.wrong.get(self.arm, 1e-5)}
        turns = [q for arm, q in self.asked if arm == self.arm and q.startswith("steps")]
        return {"ms": MS[self.arm] + (len(turns) == 4)}

    def close(self):
        pass


@pytest.fixture
def fake(monkeypatch):
    FakeWorker.asked, FakeWorker.wrong = [], {}
    monkeypatch.setattr(parallel_step, "REPETITIONS", 3)
    monkeypatch.setattr(peer_env, "Worker", FakeWorker)
    monkeypatch.setattr(parallel_step.torchrec, "missing", lambda: None)
    monkeypatch.setattr(parallel_step, "predicted_ms", lambda config: {1: 32.0, 2: 20.0, 4: 10.0})
    return FakeWorker


def test_groups_take_turns_and_are_reported_beside_each_other_and_the_prediction(fake, tmp_path):
    rows = {(row.arm, row.metric): row for row in parallel_step.run(tmp_path)}
    turns = [arm for arm, question in fake.asked if question.startswith("steps")]
    assert turns == ARMS * 4  # by turns; the first repetition is not counted
    counts = [question for arm, question in fake.asked if arm == "ours-1"][3:]
    assert counts == ["steps 3", "steps 25", "steps 25", "steps 25"]  # a second each
    assert {arm: rows[arm, "ms"].value for arm in ARMS} == MS
    assert rows["ours-2", "ms"].unit == "ms" and rows["ours-2", "ms"].spread > 0
    assert rows["torchrec-4", "times_ours"].value == 3
    assert ("ours-4", "times_ours") not in rows and ("torchrec-4", "predicted_ms") not in rows
    assert rows["ours-2", "predicted_ms"].value == 20
    assert rows["ours-2", "times_predicted"].value == 1.25
    assert "cost model" in rows["ours-2", "predicted_ms"].note
    assert "2 process(es)" in rows["ours-2", "ms"].note
    picture = tmp_path / "bench-parallel-step.png"
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_an_engine_that_trains_to_other_weights_is_not_timed(fake, tmp_path):
    fake.wrong = {"torchrec-2": 0.01, "torchrec-4": float("nan")}
    rows = {(row.arm, row.metric): row for row in parallel_step.run(tmp_path)}
    assert "0.01 of the way" in rows["torchrec-2", "missing"].note
    assert "nan of the way" in rows["torchrec-4", "missing"].note
    assert ("torchrec-1", "ms") in rows and ("torchrec-2", "ms") not in rows
    fake.wrong = {"ours-2": 0.01}
    with pytest.raises(UserError, match=r"ours-2 does not run: .* 0\.01 of the way"):
        parallel_step.run(tmp_path)


def test_without_torchrec_ours_is_measured_and_torchrec_is_said_to_be_missing(
    fake, monkeypatch, tmp_path
):
    monkeypatch.setattr(parallel_step.torchrec, "missing", lambda: "torchrec is not there")
    rows = {(row.arm, row.metric): row for row in parallel_step.run(tmp_path)}
    assert rows["torchrec-2", "missing"].note == "torchrec is not there"
    assert rows["ours-4", "ms"].value == 16


@pytest.mark.parametrize("size", [1, 2, 4])
def test_the_plan_cuts_the_large_tables_and_spreads_the_others(size):
    config = dlrm_presets.kaggle(0.1)
    plan = plan_of(config, size)
    held = [0] * size
    for rank in range(size):
        held[rank] = sum(shard.shape[0] for shard in plan.of_rank(rank))
    assert sum(held) == sum(config.cardinalities.values())
    assert max(held) < 1.05 * min(held)
    cut = [name for name, placement in plan.placements.items() if placement.form == "row-wise"]
    assert len(cut) == (parallel_side.LARGE if size > 1 else 0)


def test_a_group_of_two_processes_answers():
    """Real ones, on a model of a few rows."""
    command = [*parallel_step.command_of("ours", 2)[:-1], "0.0001"]
    worker = peer_env.Worker(command)
    try:
        assert worker.ask("about")["threads"] == 1
        assert worker.ask("check sgd")["worst"] < parallel_step.ALLOWED / 10
        assert 0 < worker.ask("steps 2")["ms"] < 10_000
    finally:
        worker.close()


def test_the_prediction_is_the_cost_models(monkeypatch):
    def fitted(size):
        link = Link("gloo", 1e-4 * size, 1e9, "assumption")
        return SimpleNamespace(topology=lambda ranks: Topology(ranks, ranks, link, link))

    machine = MACHINES["V100 16 GB"]
    monkeypatch.setattr(parallel_step.fit, "fit", fitted)
    monkeypatch.setattr(parallel_step.ceilings, "measure", lambda *_, **__: machine.ceilings)
    config = dlrm_presets.kaggle(0.1)
    found = parallel_step.predicted_ms(config)
    link = Link("gloo", 4e-4, 1e9, "assumption")
    expected = step_cost(
        config, plan_of(config, 4), Topology(4, 4, link, link), machine, 2048,
        rule="rowwise_adagrad",
    )  # fmt: skip
    assert list(found) == [1, 2, 4]
    assert found[4] == pytest.approx(1e3 * expected.seconds)
    assert found[1] < found[2] < found[4]
