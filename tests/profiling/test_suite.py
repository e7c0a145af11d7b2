"""What `bench step` measures: plans for both devices, arms that take turns and compute the same."""

import json
import statistics
from dataclasses import replace

import pytest
import torch

from dlrm_mini.embeddings import FusedEmbeddingTables
from dlrm_mini.errors import UserError
from dlrm_mini.models.dlrm_config import DLRMConfig
from dlrm_mini.profiling import plans, record, suite, turns
from dlrm_mini.profiling.ceilings import Ceilings
from dlrm_mini.profiling.plans import ARMS, LADDER, Configuration, plan
from dlrm_mini.profiling.suite import Budget, Suite
from dlrm_mini.profiling.workload import Workload

QUICK = Budget(repetitions=3, seconds=0.005, profiled=1, ceilings=0.1, beside=1.0)
CPU = torch.device("cpu")
SMALL = Workload(DLRMConfig(4, {"a": 500, "b": 50}, 8, bottom=(16, 8), top=(16, 1), lookups=3), 32)


def made_up_ceilings(*_, **__):
    rates = {"float32": 1e11, "bfloat16": 2e11}
    return Ceilings.from_datasheet("made up", "nowhere", products=rates, bandwidth=1e10,
                                   device="cpu")  # fmt: skip


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(suite.ceilings, "measure", made_up_ceilings)
    return Suite("cpu", "made up", QUICK, quiet=True)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("preset", plans.PRESETS)
def test_every_preset_has_a_plan_that_can_be_recorded(preset, device):
    found = plan(preset, device)
    assert len({one.name for one in found}) == len(found)
    for one in found:
        assert set(one.arms) <= set(ARMS)
        for arm in one.arms:
            made = one.workload.but(**ARMS[arm].changes)
            assert record.workload({"workload": record.as_json(made)}) == made


def test_the_plans_are_those_of_the_paper_and_of_the_issue():
    (profile,) = plan("profile", "cuda")
    config = profile.workload.config
    assert list(config.cardinalities.values()) == [1_000_000] * 8 and config.dim == 64
    assert config.lookups == 100 and profile.workload.batch_size == 2048
    assert profile.arms == tuple(ARMS) and LADDER["cpu"] == profile.arms[:4]
    (kaggle,) = plan("kaggle", "cpu")
    assert sum(kaggle.workload.config.cardinalities.values()) == 33_762_577
    (rm1,) = plan("rm1", "cpu")
    assert rm1.scale == 0.25 and "0.25 of the published rows, batch 512" in rm1.about
    assert rm1.workload.batch_size == 512 and plan("rm1", "cuda")[0].workload.batch_size == 2048
    assert set(rm1.workload.config.cardinalities.values()) == {1_000_000}
    with pytest.raises(UserError, match="no preset 'rm4'; expected one of profile, kaggle"):
        plan("rm4", "cpu")


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_sweep_turns_one_knob_and_passes_the_base(device):
    found = plan("sweeps", device)
    base = {json.dumps(record.as_json(one.workload), sort_keys=True): [] for one in found}
    for one in found:
        text = json.dumps(record.as_json(one.workload), sort_keys=True)
        base[text].append(one.sweep["knob"])
    shared = max(base.values(), key=len)
    assert sorted(shared) == sorted(plans.KNOBS[device])
    by_name = {one.name: one.workload for one in found}
    assert by_name["batch 2048"].batch_size == 2048
    assert by_name["pooling 10"].config.lookups == 10
    assert by_name["width 16"].config.dim == by_name["width 16"].config.bottom[-1] == 16
    assert by_name["MLP size 2.0"].config.top == (2048, 2048, 2048, 1)
    assert by_name["MLP size 2.0"].config.bottom == (1024, 64)
    assert by_name["precision bfloat16"].precision == "bfloat16"


def test_a_run_is_a_record_with_every_arm(quick):
    made = quick.run("tiny")
    record.check(json.loads(json.dumps(made)))
    results = made["results"]
    assert [entry["arm"] for entry in results["entries"]] == list(LADDER["cpu"])
    assert results["skipped"] == []
    others = results["entries"][1]["repetitions_ms"]
    for entry in results["entries"]:
        times = entry["repetitions_ms"]
        assert len(times) == QUICK.repetitions and entry["ms"] == statistics.median(times)
        assert entry["against"] == "sparse"
        ratios = [mine / other for mine, other in zip(times, others, strict=True)]
        assert entry["ratios"] == pytest.approx(ratios, rel=1e-5)
        assert entry["samples_per_s"] == pytest.approx(64e3 / entry["ms"], rel=1e-5)
        assert entry["curve"]["deviation"] <= entry["curve"]["tolerance"]
        assert sum(entry["predicted_ms"].values()) > 0 and entry["peak_bytes"] is None
        assert entry["breakdown"]["wall_ms"] > 0
        assert record.workload(entry).but(**ARMS["fused"].changes).batch_size == 64
    assert [entry["kernel"] for entry in results["entries"]] == [None, None, "cpu", "cpu"]
    assert results["entries"][0]["curve"]["deviation"] == 0
    assert results["presets"]["tiny"]["command"] == "made up"


def test_arms_take_turns(quick, monkeypatch):
    turned = []
    monkeypatch.setattr(
        turns.Ready, "turn", lambda self: (turned.append(id(self)), self.times.append(1.0))
    )
    quick.run("tiny")
    arms = turned[:4]
    assert len(set(arms)) == 4 and turned == arms * QUICK.repetitions


def test_an_arm_that_does_not_run_is_skipped_with_its_reason(quick, monkeypatch):
    build = turns.Builder.build

    def broken(self, name):
        if name == "sparse":
            raise RuntimeError("no such instruction\nand a long trace")
        return build(self, name)

    monkeypatch.setattr(turns.Builder, "build", broken)
    results = quick.run("tiny")["results"]
    assert [entry["arm"] for entry in results["entries"]] == ["naive", "fused", "bfloat16"]
    assert {entry["against"] for entry in results["entries"]} == {"naive"}
    (skipped,) = results["skipped"]
    assert skipped["arm"] == "sparse" and skipped["workload"]["tables"] == "sparse"
    assert skipped["reason"] == "RuntimeError: no such instruction"


def test_an_arm_that_fails_in_its_turn_does_not_lose_the_others(quick, monkeypatch):
    turn = turns.Ready.turn

    def once(self):
        if self.times and self.workload.precision == "bfloat16":
            raise RuntimeError("out of memory")
        turn(self)

    monkeypatch.setattr(turns.Ready, "turn", once)
    results = quick.run("tiny")["results"]
    assert [entry["arm"] for entry in results["entries"]] == ["naive", "sparse", "fused"]
    assert results["skipped"][0]["reason"] == "RuntimeError: out of memory"


def test_times_are_kept_where_nothing_can_be_profiled(quick, monkeypatch, capsys):
    def forbidden(*_, **__):
        raise UserError("no permission")

    monkeypatch.setattr(suite.breakdown, "profile", forbidden)
    quick.quiet = False
    results = quick.run("tiny")["results"]
    assert [entry["breakdown"] for entry in results["entries"]] == [None] * len(LADDER["cpu"])
    assert "tiny, fused: no breakdown: no permission" in capsys.readouterr().err


def test_a_loss_that_is_not_finite_costs_its_arm_and_not_the_preset(quick, monkeypatch):
    curve = suite.curve

    def found(arm, *rest):
        broken = arm is ARMS["bfloat16"]
        return [float("nan")] * turns.CURVE_STEPS if broken else curve(arm, *rest)

    monkeypatch.setattr(suite, "curve", found)
    results = quick.run("tiny")["results"]
    assert [entry["arm"] for entry in results["entries"]] == ["naive", "sparse", "fused"]
    assert results["skipped"][0]["reason"].startswith("A loss is not finite")


def test_without_a_reference_there_are_no_curves(quick, monkeypatch, capsys):
    def broken(*_):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(suite, "curve", broken)
    quick.quiet = False
    results = quick.run("tiny")["results"]
    assert [entry["curve"] for entry in results["entries"]] == [None] * len(LADDER["cpu"])
    assert "no losses to compare with: RuntimeError: out of memory" in capsys.readouterr().err


def test_on_a_gpu_the_profiler_starts_before_anything_else(quick, monkeypatch):
    seen = []
    monkeypatch.setattr(suite.Workload, "build", lambda *_: None)
    monkeypatch.setattr(Suite, "_breakdown", lambda self, step, data, what: seen.append(what))
    monkeypatch.setattr(Suite, "measure", lambda *_: seen.append("an arm") or ())
    quick.device = torch.device("cuda")
    quick.run("tiny")
    quick.run("tiny")
    assert seen == ["the profiler", "an arm", "an arm"]


def test_a_compiler_begins_anew_with_each_configuration(quick, monkeypatch):
    seen = []
    monkeypatch.setattr(torch.compiler, "reset", lambda: seen.append("reset"))
    monkeypatch.setattr(turns.Builder, "build", lambda self, name: seen.append(name) or 1 / 0)
    for arms in (("fused",), ("compiled",)):
        list(quick.measure(Configuration("x", SMALL, 1.0, "", arms)))
    assert seen == ["fused", "reset", "compiled"]


def test_ids_are_not_looked_at_where_the_host_would_wait_for_it():
    assert SMALL.build().model.tables.check and not SMALL.build("meta").model.tables.check


def test_a_prefetched_copy_counts_where_it_outlasts_the_step(quick, monkeypatch):
    quick.ceilings = made_up_ceilings()
    for copy, left in ((3.0, 0.0), (7.0, 2.0)):
        predicted = {"input": copy, "top MLP": 1.0, "embedding update": 4.0}
        monkeypatch.setattr(suite.roofline, "predict", lambda *_, made=predicted: dict(made))
        assert quick.predict(SMALL, False) == predicted
        assert quick.predict(SMALL, True) == predicted | {"input": left}


def test_what_the_ceilings_do_not_know_is_not_predicted(quick):
    quick.ceilings = made_up_ceilings()
    assert quick.predict(SMALL.but(precision="float16"), False) is None


@pytest.mark.parametrize(("room", "fitting"), [(1.5, ["sparse", "fused", "bfloat16"]), (0.9, [])])
def test_tables_that_do_not_fit_are_not_built(quick, monkeypatch, room, fitting):
    """Dense gradients need the tables twice."""
    config = DLRMConfig(4, {"a": 50_000}, 64, bottom=(64,), top=(4, 1))
    size = 4 * 64 * 50_000
    monkeypatch.setattr(turns, "available_memory", lambda: int(room * size / 0.9))
    large = Configuration("large", Workload(config, 8), 1.0, "made up", LADDER["cpu"])
    monkeypatch.setattr(suite, "plan", lambda *_: [large])
    results = quick.run("profile")["results"]
    assert [entry["arm"] for entry in results["entries"]] == fitting
    naive = results["skipped"][0]
    assert naive["arm"] == "naive" and "tables need 25,600,000 bytes" in naive["reason"]


def test_arms_with_the_same_tables_share_them():
    builder = turns.Builder(Configuration("x", SMALL, 1.0, "", LADDER["cpu"]), CPU, 0)
    naive, sparse, fused, bf16 = (builder.build(name).step.model for name in LADDER["cpu"])
    for mine, other in zip(naive.tables.parameters(), sparse.tables.parameters(), strict=True):
        assert mine.data_ptr() == other.data_ptr()
    assert naive.tables.sparse_gradient != sparse.tables.sparse_gradient
    assert fused is bf16
    step = builder.build("sparse").step
    before = naive.tables.tables["a"].clone()
    step(builder.batches[0])
    assert not torch.equal(before, naive.tables.tables["a"])


def test_a_curve_shows_tables_that_do_not_move(monkeypatch):
    reference = turns.curve(ARMS["naive"], SMALL, CPU, 0)
    assert reference[-1] < reference[0] and len(reference) == turns.CURVE_STEPS
    for name in ("sparse", "fused", "bfloat16"):
        found = turns.curve(ARMS[name], SMALL, CPU, 0)
        shown = turns.compare(found, reference, ARMS[name].changes.get("precision", "float32"))
        assert shown["deviation"] <= shown["tolerance"], name

    def fuse(tables, optimizer):
        tables.optimizer = replace_update(optimizer)

    def replace_update(optimizer):
        optimizer.update_fused = lambda *_: None
        return optimizer

    monkeypatch.setattr(FusedEmbeddingTables, "fuse", fuse)
    frozen = turns.compare(turns.curve(ARMS["fused"], SMALL, CPU, 0), reference, "float32")
    assert frozen["deviation"] > frozen["tolerance"]


def test_a_turn_has_the_steps_that_fill_it(monkeypatch):
    builder = turns.Builder(Configuration("x", SMALL, 1.0, "", ("naive",)), CPU, 0)
    ready = builder.build("naive")
    ran = []
    monkeypatch.setattr(ready, "run", lambda steps: ran.append(steps) or 0.02 * steps)
    ready.warm_up(0.1)
    assert ready.steps == 5
    ready.turn()
    assert ran[-1] == 5 and ready.times == [pytest.approx(20.0)]
    ready.warm_up(0.001)  # one step may be longer than a turn
    assert ready.steps == 1


def test_dense_gradients_are_dropped_when_a_turn_ends():
    ready = turns.Builder(Configuration("x", SMALL, 1.0, "", ("naive",)), CPU, 0).build("naive")
    ready.run(1)
    assert all(p.grad is None for p in ready.step.model.parameters())


def test_the_plan_is_said_before_it_runs():
    text = suite.planned("all", "cuda", replace(suite.BUDGETS["cuda"], repetitions=1))
    arms = sum(len(one.arms) for name in plans.ORDER for one in plan(name, "cuda"))
    assert f"all on cuda: {arms} entries; of each 1 turns of 0.15 s" in text


def test_numbers_are_kept_to_six_digits():
    assert suite.rounded({"a": [1.23456789, 3, "x", True, None]}) == {
        "a": [1.23457, 3, "x", True, None]
    }
