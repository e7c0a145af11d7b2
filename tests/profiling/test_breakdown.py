"""The parts of real steps: that they add up, find what is slow, and leave the training alone."""

import functools
import gzip
import json
import os
import time

import pytest
import torch

from dlrm_mini.datasets.batches import Batch
from dlrm_mini.errors import UserError
from dlrm_mini.models.dlrm import DLRM
from dlrm_mini.models.dlrm_config import DLRMConfig
from dlrm_mini.models.dlrm_presets import PRESETS
from dlrm_mini.models.mlp import fully_connected
from dlrm_mini.optimizers import SGD
from dlrm_mini.prefetching import Prefetched
from dlrm_mini.profiling import breakdown, labels, trace
from dlrm_mini.profiling.breakdown import Breakdown, profile
from dlrm_mini.profiling.parts import BACKWARD, FORWARD, UPDATE
from dlrm_mini.profiling.workload import Workload
from dlrm_mini.training_step import TrainingStep, logistic_loss

CONFIG = DLRMConfig(4, {"user": 30, "item": 50}, 8, bottom=(16, 8), top=(16, 1), lookups=3)
SMALL = Workload(CONFIG, 16)
# Rows enough that what the profiler and the engine need between parts is little beside them.
ROWS = {"kaggle": 1024, "profile": 256, "rm1": 1024, "rm2": 128, "rm3": 256}
PIECES = {"dense part", "dense part backward"}  # of a dense part that is not eager


def once(workload=SMALL, **options):
    step = workload.build(options.pop("device", "cpu"))
    return profile(step, workload.batches(2), **{"repetitions": 1, **options})


def weights(step):
    return {name: value.clone() for name, value in step.model.state_dict().items()}


@pytest.mark.parametrize("tables", ["dense", "sparse", "fused"])
@pytest.mark.parametrize("preset", PRESETS)
def test_parts_of_every_preset_add_up_with_little_left_over(preset, tables):
    workload = Workload(PRESETS[preset](0.002), ROWS[preset], tables)
    step, batches = workload.build(), workload.batches(2)
    left = []
    for _ in range(3):  # another process may take the processor just between two parts
        found = profile(step, batches, repetitions=1)
        assert sum(found.parts.values()) == pytest.approx(found.wall_ms, rel=1e-9)
        assert sum(found.operators.values()) == pytest.approx(found.wall_ms, rel=1e-9)
        assert min(found.parts.values()) >= 0
        left.append(found.parts["remainder"] / found.wall_ms)
        if left[-1] < 0.03:
            break
    assert min(left) < 0.03
    absent = PIECES | ({"embedding backward"} if tables == "fused" else set())
    expected = {*FORWARD, *BACKWARD, *UPDATE, "idle", "remainder"} - absent
    assert set(found.parts) == expected
    assert (found.device, found.launches, found.parts["idle"]) == ("cpu", 0, 0)


# Milliseconds burnt in one place, many times what all the rest of such a step takes.
BURN = 40


class Fire:
    """Matrix products for a while, which know how long they took."""

    def __init__(self):
        self.took = 0.0
        self.square = torch.rand(384, 384)

    def burn(self):
        begin = time.perf_counter()
        with torch.no_grad():
            while (now := time.perf_counter()) - begin < BURN / 1e3:
                self.square @ self.square
        self.took = 1e3 * (now - begin)

    def hook(self, *_):
        self.burn()

    def later(self, tensor):
        """The same tensor, whose backward burns."""
        fire = self

        class Slow(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                return x * 1

            @staticmethod
            def backward(ctx, gradient):
                fire.burn()
                return gradient

        return Slow.apply(tensor)


class SlowSGD(SGD):
    """Burns whenever it moves a certain parameter."""

    def _dense_step(self, dense, grads, lr, eps):
        if any(parameter is self.slow for parameter in dense):
            self.fire.burn()
        super()._dense_step(dense, grads, lr, eps)


def slow_step(part, fire):
    model = DLRM(CONFIG)
    step = TrainingStep(model, SlowSGD(model.parameters(), lr=0.01))
    step.optimizer.fire, step.optimizer.slow = fire, None
    match part:
        case "input":
            model.tables.register_forward_pre_hook(fire.hook)
        case "embedding forward":
            model.tables.register_forward_hook(fire.hook)
        case "bottom MLP":
            model.bottom.register_forward_hook(fire.hook)
        case "interaction":
            model.top.register_forward_pre_hook(fire.hook)
        case "top MLP":
            model.top.register_forward_hook(fire.hook)
        case "loss":
            step.objective = lambda model, batch: (logistic_loss(model, batch), fire.burn())[0]
        case "loss backward":
            step.objective = lambda model, batch: fire.later(logistic_loss(model, batch))
        case "top MLP backward":
            model.top.register_forward_hook(lambda _m, _i, out: fire.later(out))
        case "interaction backward":
            model.top.register_forward_pre_hook(lambda _m, given: (fire.later(given[0]),))
        case "bottom MLP backward":
            model.bottom.register_forward_hook(lambda _m, _i, out: fire.later(out))
        case "embedding backward":
            model.tables.register_forward_hook(lambda _m, _i, out: fire.later(out))
        case "embedding update":
            step.optimizer.slow = next(model.tables.parameters())
        case "dense update":
            step.optimizer.slow = model.top[0].weight
    return step


@pytest.mark.parametrize("part", [p for p in (*FORWARD, *BACKWARD, *UPDATE) if p not in PIECES])
def test_what_is_slow_shows_in_its_own_part(part):
    fire = Fire()
    found = profile(slow_step(part, fire), SMALL.batches(1), repetitions=1)
    assert fire.took >= BURN
    assert found.parts[part] >= BURN
    assert max(ms for other, ms in found.parts.items() if other != part) < 0.75 * BURN
    if part in UPDATE:
        assert found.operators["Optimizer"] >= BURN


@pytest.mark.parametrize("rule", ["sgd", "rowwise_adagrad"])
@pytest.mark.parametrize("tables", ["dense", "sparse", "fused"])
def test_profiled_steps_train_as_plain_ones(tables, rule):
    """Tables and MLPs are updated one after the other, which is the same as at once."""
    workload = SMALL.but(tables=tables, rule=rule)
    batches = workload.batches(3)
    plain, profiled = workload.build(), workload.build()
    profile(profiled, batches, repetitions=2, steps=2)
    for turn in range(2 + 2 + 2 * (2 + 2)):  # warm-up, its profile, and two of each kind
        plain(batches[turn % 3])
    for name, value in weights(plain).items():
        assert torch.equal(value, profiled.model.state_dict()[name]), name


@pytest.mark.parametrize("tables", ["dense", "sparse", "fused"])
def test_a_scaler_sees_the_same_gradients(tables):
    """It looks at all of them at once, and then lets the optimizer take its step in halves."""
    workload = SMALL.but(tables=tables, precision="float16")
    plain, profiled = workload.build(), workload.build()
    batches = workload.batches(2)
    found = profile(profiled, batches, repetitions=1)
    for turn in range(2 + 1 + 2):
        plain(batches[turn % 2])
    for name, value in weights(plain).items():
        assert torch.equal(value, profiled.model.state_dict()[name]), name
    assert found.parts["embedding update"] > 0


@pytest.mark.parametrize("rule", [torch.optim.Adam, torch.optim.AdamW, torch.optim.Adagrad])
def test_rules_of_torch_train_as_plain_ones(rule):
    steps = []
    for _ in range(2):
        torch.manual_seed(0)
        model = DLRM(CONFIG)
        steps.append(TrainingStep(model, rule(model.parameters(), lr=0.1)))
    plain, profiled = steps
    batches = SMALL.batches(2)
    profile(profiled, batches, repetitions=1)
    for turn in range(2 + 1 + 2):
        plain(batches[turn % 2])
    for name, value in weights(plain).items():
        assert torch.equal(value, profiled.model.state_dict()[name]), name


def everything_about(step):
    """What profiling must leave as it was."""
    hooks = [
        (len(module._forward_pre_hooks), len(module._forward_hooks))
        for module in step.model.modules()
    ]
    return hooks, dict(vars(step)), {*vars(step.optimizer)}


@pytest.mark.parametrize("tables", ["sparse", "fused"])
def test_labels_are_gone_afterwards(tables):
    step = SMALL.but(tables=tables).build()
    before = everything_about(step)
    with labels.labelled(step):
        assert everything_about(step) != before
    assert everything_about(step) == before
    profile(step, SMALL.batches(1), repetitions=1)
    assert everything_about(step) == before


def broken(batch):
    """A batch of too few dense columns: the bottom MLP cannot take it."""
    return Batch(batch.dense[:, :-1], batch.sparse, batch.labels)


def test_labels_are_gone_after_an_error_and_a_second_profile_works(tmp_path):
    step = SMALL.build()
    step.model.tables.check = False
    before = everything_about(step)
    batches = [*SMALL.batches(2), broken(SMALL.batches(1)[0])]
    kept = tmp_path / "t.json"
    kept.write_text("of before")
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        profile(step, batches, repetitions=1, trace=kept)
    assert everything_about(step) == before
    assert kept.read_text() == "of before"
    found = profile(step, batches[:2], repetitions=1)
    assert sum(found.parts.values()) == pytest.approx(found.wall_ms)


def test_every_label_is_closed_after_an_error(monkeypatch):
    opened = []

    class Label:
        def __init__(self, name):
            self.name = name

        def __enter__(self):
            opened.append(self.name)

        def __exit__(self, *_):
            opened.remove(self.name)

    monkeypatch.setattr(labels, "record_function", Label)
    step = SMALL.build()
    with pytest.raises(RuntimeError, match="shapes"), labels.labelled(step):
        step.model.tables.check = False
        step(broken(SMALL.batches(1)[0]))
    assert not opened


def test_a_compiled_dense_part_is_one_part(monkeypatch):
    # Without the slow half of the compiler, the generation of code.
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    found = once(SMALL.but(tables="sparse", dense_part="compiled"))
    assert not [part for part in found.parts if "MLP" in part or "interaction" in part]
    both = found.parts["dense part"] + found.parts["dense part backward"]
    assert min(found.parts["dense part"], found.parts["dense part backward"]) > 0
    assert found.operators["Dense part"] == pytest.approx(both)
    assert found.parts["embedding backward"] > 0


def test_taking_a_batch_is_input():
    """A loader may work when it is asked, as `Prefetched` does."""
    fire = Fire()

    class Slow(list):
        def __iter__(self):
            for batch in super().__iter__():
                fire.burn()
                yield batch

    found = profile(SMALL.build(), Slow(SMALL.batches(1)), repetitions=1)
    assert found.parts["input"] >= BURN
    assert found.plain_ms >= BURN


def test_prefetched_batches_can_be_profiled():
    batches = Prefetched(SMALL.batches(2), "cpu")
    assert profile(SMALL.build(), batches, repetitions=1).parts["input"] > 0


def test_the_trace_is_kept_whole(tmp_path):
    for name, opened in (("t.json", open), ("t.json.gz", gzip.open)):
        found = once(trace=tmp_path / name, steps=2)
        with opened(tmp_path / name, "rt", encoding="utf-8") as file:
            events = json.load(file)["traceEvents"]
        blocks = [e for e in events if e.get("name") == trace.BLOCK]
        assert [e["dur"] / 1e3 / 2 for e in blocks] == pytest.approx([found.wall_ms])
        assert sum(e.get("name") == "embedding forward" for e in events) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t.json", "t.json.gz"]


def test_a_trace_without_a_place_leaves_nothing(tmp_path):
    with pytest.raises(UserError, match="missing"):
        once(trace=tmp_path / "missing" / "t.json")
    assert not [*tmp_path.iterdir()]


def test_the_block_of_the_median_wall_is_the_one_reported(monkeypatch):
    walls = iter([30.0, 10.0, 20.0, 40.0])  # an even number: the lower middle, a real block

    def attribute(spans, **_):
        wall = next(walls)
        return trace.Times(wall, {"loss": wall}, {"FC": wall}, 12)

    monkeypatch.setattr(trace, "attribute", attribute)
    found = once(repetitions=4, steps=2)
    assert found.walls == [15.0, 5.0, 10.0, 20.0]
    assert (found.wall_ms, found.parts, found.operators) == (10.0, {"loss": 10.0}, {"FC": 10.0})
    assert found.launches == 6
    assert found.plain_ms > 0


def test_a_breakdown_survives_json():
    found = once()
    record = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert Breakdown.from_json(record) == found
    with pytest.raises(UserError, match="has the fields"):
        Breakdown.from_json({**record, "speed": 1})


def test_stderr_loses_the_profilers_own_lines_and_no_other(capfd):
    with breakdown._quiet():
        os.write(2, b"USDT:2026 profiler_start\nCUPTI: no permission\n")
    once()
    assert capfd.readouterr().err == "CUPTI: no permission\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batches": []}, "0 batches"),
        ({"repetitions": 0}, "0 repetitions"),
        ({"steps": 0}, "0 steps"),
        ({"trace": "t.txt"}, "end in .json or .json.gz"),
    ],
)
def test_what_cannot_be_measured_is_refused(options, message, tmp_path):
    if "trace" in options:
        options = {"trace": tmp_path / options["trace"]}
    given = {"batches": SMALL.batches(1), "repetitions": 1, **options}
    step = SMALL.build()
    before = weights(step)
    with pytest.raises(UserError, match=message):
        profile(step, given.pop("batches"), **given)
    assert all(torch.equal(value, before[name]) for name, value in weights(step).items())


def test_other_models_and_optimizers_are_refused():
    mlp = fully_connected([4, 1], last="none")
    with pytest.raises(UserError, match="Sequential has no tables and no bottom and no top"):
        profile(TrainingStep(mlp, SGD(mlp.parameters(), lr=0.1)), SMALL.batches(1))
    model = DLRM(CONFIG)
    with pytest.raises(UserError, match="LBFGS may move a parameter by the gradients of others"):
        profile(TrainingStep(model, torch.optim.LBFGS(model.parameters())), SMALL.batches(1))


def test_another_profiler_is_not_ended():
    step, batches = SMALL.build(), SMALL.batches(1)
    with torch.autograd.profiler.profile() as other:
        with pytest.raises(UserError, match="Another profiler is at work"):
            profile(step, batches, repetitions=1)
        torch.ones(1).sigmoid_()
    assert any(event.name == "aten::sigmoid_" for event in other.function_events)
    assert profile(step, batches, repetitions=1).wall_ms > 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("tables", ["dense", "sparse", "fused"])
def test_parts_on_a_gpu_add_up(tables):
    found = once(Workload(PRESETS["profile"](0.01), 512, tables), device="cuda")
    assert sum(found.parts.values()) == pytest.approx(found.wall_ms, rel=1e-9)
    assert found.parts["remainder"] < 0.03 * found.wall_ms
    assert found.parts["top MLP"] > 0
    assert found.parts["top MLP backward"] > found.parts["top MLP"]
    assert ("embedding backward" in found.parts) == (tables != "fused")
    assert found.launches > 20
