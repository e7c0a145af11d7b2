"""The benchmarks of a training step, on models of a few rows."""

import io
import json
import sys
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from benchmarks import (
    ours_step,
    peer_env,
    step_ceiling,
    step_kaggle,
    step_profile,
    step_rows,
    step_side,
    steps,
    torch_step,
)
from benchmarks.arms import Measured, Outcome
from benchmarks.step_side import Plan
from dlrm_mini.errors import UserError
from dlrm_mini.models import dlrm_presets

# One table is bags of three ids, one has a single row, one is looked up once a row.
TINY = Plan(4, (50, 1, 20), (3, 2, 1), 8, (4, 16, 8), (8 + 6, 16, 1), "sgd", batch_size=32)
ARMS = ["ours", "ours-bf16", "torch-sparse", "ceiling", "ceiling-bf16", "ceiling-shapes"]
MS = dict(zip(ARMS, (20.0, 10.0, 50.0, 16.0, 5.0, 18.0), strict=True))


def trajectory(script, arm, rule, change=lambda side: side):
    small = TINY.small(rule)
    side = change(step_side.fill(script.build(small)))
    return step_side.trajectory(side, small, arm)


@pytest.mark.parametrize("rule", ["sgd", "rowwise_adagrad"])
def test_our_steps_are_those_of_plain_torch(rule):
    right = trajectory(torch_step, "reference", rule)
    assert all(moved > 0 for moved in right["moved"])
    assert not steps.difference(trajectory(ours_step, "ours", rule), right, bf16=False)
    sparse = steps.difference(trajectory(torch_step, "torch-sparse", rule), right, bf16=False)
    assert bool(sparse) == (rule != "sgd")  # what is timed is SGD under either rule


def test_bfloat16_is_another_step_that_leads_to_about_the_same_place():
    right = trajectory(torch_step, "reference", "sgd")
    found = trajectory(ours_step, "ours-bf16", "sgd")
    assert steps.difference(found, right, bf16=False) and not steps.difference(found, right, True)


def test_a_rate_of_the_tables_that_is_a_third_too_large_is_seen():
    """It changes the loss of the first steps by less than a fiftieth: the tables are measured."""
    right = trajectory(torch_step, "reference", "sgd")

    def faster(side):
        def step(rows):
            before = [table.detach().clone() for table in side.tables]
            loss = side.steps["torch-sparse"](rows)
            with torch.no_grad():
                for table, old in zip(side.tables, before, strict=True):
                    table.add_(table - old, alpha=1 / 3)
            return loss

        return side._replace(steps={"wrong": step})

    found = trajectory(torch_step, "wrong", "sgd", faster)
    assert found["losses"] == pytest.approx(right["losses"], rel=0.02)
    assert steps.difference(found, right, bf16=False)
    assert "moved" in steps.difference(found | {"losses": right["losses"]}, right, bf16=False)


def test_a_side_with_another_order_of_the_vectors_gets_the_same_weights_in_its_order():
    plan, order = TINY.small("sgd"), torch.arange(14).flip(0)
    ours, other = (step_side.fill(side) for side in (
        torch_step.build(plan), torch_step.build(plan)._replace(columns=order)
    ))  # fmt: skip
    first = len(plan.bottom) - 1
    assert torch.equal(other.mlps[first].weight, ours.mlps[first].weight[:, order])
    for place, (a, b) in enumerate(zip(ours.mlps, other.mlps, strict=True)):
        assert place == first or torch.equal(a.weight, b.weight)


def asked(monkeypatch, capsys, main, *lines):
    """The answers of a script that runs in this process."""
    monkeypatch.setenv("OMP_NUM_THREADS", str(torch.get_num_threads()))
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
    main()
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_side_answers_a_plan_then_checks_then_times(monkeypatch, capsys):
    plan = TINY.text()
    assert Plan.read(plan) == TINY
    about, check, time = asked(
        monkeypatch, capsys, lambda: step_side.serve(torch_step.build, "torch"),
        plan, "check:reference rowwise_adagrad", "torch-sparse 0.01",
    )  # fmt: skip
    assert about["threads"] == torch.get_num_threads() and about["versions"]["torch"]
    assert len(check["losses"]) == step_side.CHECK_STEPS and len(check["moved"]) == 3
    assert 0 < time["ms"] < 1000


def test_batches_take_turns_and_one_step_is_not_timed(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr(step_side.time, "perf_counter", lambda: next(clock))
    calls = []
    # The clock is read once at the start and twice a step, a second each time, and at the end.
    assert step_side.timed(lambda: calls.append(1), 3.0) == pytest.approx(1e3 * 4 / 3)
    assert len(calls) == 4


def test_the_ceiling_counts_what_the_issue_of_speed_is():
    config = dlrm_presets.profile()
    plan = steps.plan_of(config, "sgd")
    forward = config.flops(2048)
    assert step_ceiling.flops(plan) == 3 * (forward["bottom MLP"] + forward["top MLP"])
    assert step_ceiling.flops(plan) == pytest.approx(30.7e9, rel=2e-3)
    assert step_ceiling.row_bytes(plan, 1_638_400, 0) == config.bytes(2048)["embeddings"]
    assert step_ceiling.row_bytes(plan, 0, 10) == 2 * 10 * 64 * 4
    kaggle = steps.plan_of(dlrm_presets.kaggle(), "rowwise_adagrad")
    assert step_ceiling.flops(kaggle) == pytest.approx(5.8e9, rel=0.01)
    assert step_ceiling.row_bytes(kaggle, 5, 3) == 5 * 64 + 2 * 3 * (64 + 4)


def test_the_rows_of_the_ceiling_are_those_of_the_batch():
    looked_up, distinct = step_ceiling.stacked(TINY, 3)
    ids = step_side.batch(TINY, 3).ids
    assert looked_up.tolist()[:96] == ids[:96].tolist()
    assert looked_up.tolist()[96:160] == [50] * 64  # the table of one row comes after fifty
    assert (looked_up[160:] - 51).tolist() == ids[160:].tolist()
    assert sorted(distinct.tolist()) == sorted(set(looked_up.tolist()))


def test_the_ceilings_are_answered(monkeypatch, capsys):
    monkeypatch.setattr(step_ceiling, "COPIED", 1 << 20)
    monkeypatch.setattr(step_ceiling, "SHAPES", ((64, 64, 64),))
    about, full, half, shapes = asked(
        monkeypatch, capsys, step_ceiling.main, TINY.text(), *(f"{arm} 0.01" for arm in ARMS[3:])
    )
    assert about["versions"]["numba"]
    for answer in (full, half, shapes):
        assert answer["ms"] == pytest.approx(answer["products_ms"] + answer["rows_ms"])
    flop = 6 * 32 * (4 * 16 + 16 * 8 + 14 * 16 + 16)
    assert full["products_ms"] == pytest.approx(1e-6 * flop / full["gflop_per_s"])
    assert half["gflop_per_s"] > 0


def test_the_bare_rows_are_read_and_changed_each_once():
    table = torch.arange(20, dtype=torch.float32).view(10, 2).repeat_interleave(8, 1).numpy()
    rows = torch.tensor([7, 2, 9, 0, 4]).numpy()
    sums = torch.zeros(2, 16).numpy()
    before = table.copy()
    step_ceiling._read(table, rows, sums)
    assert sums.sum(0).tolist() == table[rows].sum(0).tolist()
    step_ceiling._change(table, rows, 2)
    changed = (table != before).any(1)
    assert sorted(rows.tolist()) == changed.nonzero()[0].tolist()


class FakeWorker:
    """Answers as the scripts do, with times that say who was asked."""

    asked: ClassVar[list[str]]

    def __init__(self, command, threads=1):
        assert threads == steps.threads()

    def ask(self, question):
        if question.startswith("{"):
            return {"threads": 2, "versions": {"python": "3"}}
        arm, _ = question.split()
        if arm.startswith("check:"):
            return {"losses": [0.7], "moved": [1.0]}
        FakeWorker.asked.append(arm)
        rate = {"gflop_per_s": 100.0} if arm == "ceiling" else {}
        last = FakeWorker.asked.count(arm) == steps.REPETITIONS + 1
        return {"ms": MS[arm] + last, **rate}

    def close(self):
        pass


@pytest.fixture
def fake(monkeypatch):
    def no(*_):
        raise peer_env.PeerError("not installed: no such distribution")

    FakeWorker.asked = []
    monkeypatch.setattr(steps, "REPETITIONS", 3)
    monkeypatch.setattr(peer_env, "Worker", FakeWorker)
    monkeypatch.setattr(peer_env, "of", no)
    return FakeWorker


@pytest.mark.parametrize("benchmark", [step_profile, step_kaggle])
def test_a_step_is_reported_beside_plain_torch_and_the_ceilings(benchmark, fake, tmp_path):
    rows = {(row.arm, row.metric): row for row in benchmark.run(tmp_path)}
    assert fake.asked == ARMS * 4  # by turns; the first repetition is not counted
    assert {row.benchmark for row in rows.values()} == {benchmark.NAME}
    assert rows["ours", "ms"].value == 20 and rows["ours", "ms"].unit == "ms"
    assert rows["ours", "ms"].spread == pytest.approx((1 / 3) ** 0.5)
    assert rows["torch-sparse", "times_ours"].value == 2.5
    assert rows["torch-sparse", "times_ours_bf16"].value == 5
    assert rows["ours", "times_ceiling"].value == 20 / 16
    assert rows["ours", "times_ceiling_shapes"].value == pytest.approx(20 / 18)
    assert rows["ours-bf16", "times_ceiling"].value == 2
    assert rows["ceiling", "gflop_per_s"].unit == "GFLOP/s"
    assert "2 threads" in rows["ours", "ms"].note
    assert ("row-wise" in rows["ours", "ms"].note) == (benchmark is step_kaggle)
    for peer in ("fbgemm", "fuxictr"):
        assert rows[peer, "missing"].note == "not installed: no such distribution"
    assert "no DLRM" in rows["deepctr", "missing"].note
    picture = tmp_path / f"bench-{benchmark.NAME}.png"
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_step_that_is_wrong_is_not_timed(fake, monkeypatch, tmp_path):
    right = fake.ask

    def ask(self, question):
        said = right(self, question)
        return said | {"moved": [3.0]} if question == "check:ours sgd" else said

    monkeypatch.setattr(fake, "ask", ask)
    with pytest.raises(UserError, match=r"ours with sgd .* moved\[0\] is 3, expected 1"):
        step_profile.run(tmp_path)
    assert not fake.asked and not list(tmp_path.iterdir())


def test_a_peer_that_is_wrong_or_dies_is_left_out(fake, monkeypatch, tmp_path):
    right = fake.ask

    def ask(self, question):
        if question == "check:fuxictr sgd":
            raise peer_env.PeerError("killed")
        said = right(self, question)
        return said | {"losses": [9.0]} if question == "check:fbgemm sgd" else said

    monkeypatch.setattr(fake, "ask", ask)
    monkeypatch.setattr(peer_env, "of", lambda peer, folder: Path(peer))
    rows = {row.arm: row for row in step_profile.run(tmp_path) if row.metric == "missing"}
    assert rows["fuxictr"].note == "does not train as plain torch does: killed"
    assert rows["fbgemm"].note.endswith("losses[0] is 9, expected 0.7")
    assert fake.asked == ARMS * 4


def test_without_plain_torch_there_is_nothing_to_hold_a_step_to(fake, monkeypatch, tmp_path):
    def dies(self, question):
        raise peer_env.PeerError("out of memory")

    monkeypatch.setattr(fake, "ask", dies)
    with pytest.raises(UserError, match="ours does not run: out of memory"):
        step_profile.run(tmp_path)


def test_a_bar_that_is_far_longer_than_the_others_is_cut():
    ms = {"ours": 10.0, "torch-sparse": 30.0, "fuxictr": 900.0, "ceiling": 8.0}
    runs = {arm: [Measured({"ms": value})] * 2 for arm, value in ms.items()}
    figure = steps.draw(steps.to_rows("b", TINY, Outcome(runs, {})), "title")
    figure.canvas.draw()
    (axes,) = figure.axes
    assert axes.get_xlim()[1] < 100
    texts = [text.get_text() for text in axes.texts]
    assert texts[0] == "10.0 ms, 1.25 x ceiling" and texts[1] == "30.0 ms, 3.00 x ours"
    assert texts[2].startswith("900 ms, 90.00 x ours, cut here")
    assert [line.get_text() for line in figure.legends[0].texts] == ["ceiling: 8.0 ms"]


def test_a_step_is_reported_against_the_rows_of_its_tables(monkeypatch, tmp_path):
    built = {}

    class Inside:
        """The script in this process."""

        def __init__(self, command, threads):
            self.arm = command[-1]

        def ask(self, question):
            rows, seconds = question.split()
            key = self.arm, int(rows)
            built[key] = built.get(key) or step_rows.build(*key)
            return {"ms": step_side.timed(built[key], float(seconds))}

        def close(self):
            pass

    monkeypatch.setattr(peer_env, "Worker", Inside)
    monkeypatch.setattr(steps, "REPETITIONS", 2)
    monkeypatch.setattr(steps, "SECONDS", 0.01)
    monkeypatch.setattr(step_rows, "LOOKUPS", 2)
    monkeypatch.setattr(step_rows, "SIZES", {"10k": 100, "100k": 200, "1M": 400})
    monkeypatch.setattr(step_rows, "DENSE_ROWS", 200)
    rows = {(row.benchmark, row.arm, row.metric): row for row in step_rows.run(tmp_path)}
    assert set(built) == {
        (arm, n) for arm in ("ours", "torch-sparse", "torch-dense") for n in (100, 200, 400)
    } - {("torch-dense", 400)}
    assert rows["step-rows-10k", "ours", "times_10k"].value == 1
    large = rows["step-rows-1M", "torch-sparse", "ms"]
    assert large.value > 0 and "8,192 uniform lookups" in large.note
    assert (tmp_path / "bench-step-rows.png").stat().st_size > 10_000


@pytest.mark.parametrize("arm", ["torch-sparse", "torch-dense"])
def test_the_tables_of_the_rows_are_trained_alike(arm, monkeypatch):
    """The step of a table is a sum over its lookups, so all arms move it by the same vector."""
    monkeypatch.setattr(step_rows, "LOOKUPS", 2)
    moved = {}
    for name in ("ours", arm):
        found = []
        plan_of = step_rows._ours if name == "ours" else step_rows._torch

        def kept(plan, plan_of=plan_of, found=found, **options):
            pooled, optimizer = plan_of(plan, **options)
            found.append([p for group in optimizer.param_groups for p in group["params"]])
            return pooled, optimizer

        monkeypatch.setattr(step_rows, "_ours" if name == "ours" else "_torch", kept)
        step = step_rows.build(name, 300)
        before = torch.cat([p.detach().clone() for p in found[0]])
        step()
        moved[name] = torch.cat([p.detach() for p in found[0]]) - before
    assert moved["ours"].abs().max() > 0.01
    assert torch.allclose(moved["ours"], moved[arm], atol=1e-6)
