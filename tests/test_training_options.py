"""`fit` in other precisions, its checkpoints, and losses that are looked at a step late."""

import math
from functools import partial

import pytest
import torch

from dlrm_mini import checkpoints, epochs, optimizers
from dlrm_mini.datasets.batches import Batch, Loader
from dlrm_mini.embeddings import FusedEmbeddingTables
from dlrm_mini.errors import UserError
from dlrm_mini.models.dlrm import DLRM, random_batch
from dlrm_mini.models.dlrm_config import DLRMConfig
from dlrm_mini.training import TrainingDivergedError, fit, logistic_loss, set_seed

CONFIG = DLRMConfig(3, {"user": 9, "item": 7}, 4, bottom=(8, 4), top=(16, 1), lookups=2)
ROWS = random_batch(CONFIG, 200)


@pytest.fixture
def late(monkeypatch):
    """Look at losses as on a GPU."""
    monkeypatch.setattr(epochs, "_looks_late", lambda device: True)


def run(n_epochs=2, rows=ROWS, before=lambda model: None, **options):
    set_seed(0)
    model = DLRM(CONFIG, tables=FusedEmbeddingTables(CONFIG.cardinalities, CONFIG.dim))
    optimizer = optimizers.RowWiseAdagrad(model.parameters(), lr=0.05)
    model.tables.fuse(optimizer)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.99**step)
    before(model)
    history = fit(model, Loader(rows, 16, shuffle=True), objective=logistic_loss,
                  optimizer=optimizer, schedule=schedule, epochs=n_epochs, progress=False,
                  **options)  # fmt: skip
    return model, history


def same(a, b):
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_another_precision_learns_nearly_the_same(precision):
    model, history = run(precision=precision)
    plain, expected = run()
    assert not same(model, plain)
    found, wanted = (h.values("loss", "train") for h in (history, expected))
    assert found == pytest.approx(wanted, abs=5e-3)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_resume_ends_at_the_same_bits(tmp_path, precision):
    """In float16 the scale grows between the epochs: a fresh one would give other gradients."""
    scaler = partial(torch.amp.GradScaler, "cpu", init_scale=2.0, growth_interval=5)
    options = (lambda: {"scaler": scaler()}) if precision == "float16" else dict
    whole, history = run(4, precision=precision, **options())
    run(2, precision=precision, checkpoint=tmp_path / "cut.pt", **options())
    resumed, again = run(
        4, precision=precision, checkpoint=tmp_path / "cut.pt", resume=True, **options()
    )
    assert same(whole, resumed)
    assert again.rows == history.rows
    saved = checkpoints.load(tmp_path / "cut.pt")["scaler"]
    assert (saved is None) == (precision == "bfloat16")
    if saved:
        assert saved["scale"] > 2.0**5


@pytest.mark.parametrize(
    ("first", "then", "complaint"),
    [
        ("float32", "bfloat16", "was trained in float32, and is to go on in bfloat16"),
        ("bfloat16", "float32", "was trained in bfloat16, and is to go on in float32"),
        ("float32", "float16", "was trained without float16, and is to go on in it"),
        ("float16", "bfloat16", "was trained in float16, and is to go on without it"),
    ],
)
def test_a_run_does_not_change_its_precision(tmp_path, first, then, complaint):
    run(1, precision=first, checkpoint=tmp_path / "run.pt")
    with pytest.raises(UserError, match=complaint):
        run(2, precision=then, checkpoint=tmp_path / "run.pt", resume=True)


def test_a_checkpoint_from_before_there_were_precisions_goes_on(tmp_path):
    whole, _ = run(2)
    run(1, checkpoint=tmp_path / "run.pt")
    content = checkpoints.load(tmp_path / "run.pt")
    del content["scaler"], content["extra"]["precision"]
    checkpoints.save(tmp_path / "run.pt", content)
    resumed, _ = run(2, checkpoint=tmp_path / "run.pt", resume=True)
    assert same(whole, resumed)


def test_graphs_without_a_gpu_are_refused_before_anything_moves():
    started = []
    with pytest.raises(UserError, match="graphs are CUDA's"):
        run(before=started.append, dense_part="graphed")
    plain, _ = run(0)
    assert same(started[0], plain)


def test_looking_late_changes_no_number(late):
    model, history = run()
    with pytest.MonkeyPatch.context() as undo:
        undo.setattr(epochs, "_looks_late", lambda device: False)
        plain, expected = run()
    assert same(model, plain) and history.rows == expected.rows


def spoiled(step):
    """Rows of which those of one step, of 16 rows and in order, make the loss infinite."""
    dense = ROWS.dense.clone()
    dense[16 * (step - 1)] = math.inf
    return Batch(dense, ROWS.sparse, ROWS.labels)


@pytest.mark.parametrize("step", [1, 5, 13])
def test_a_loss_that_is_not_finite_is_seen_late_too(late, step):
    """And of the right step, the last one of an epoch included."""
    taken, models = [], []

    class InOrder(Loader):
        def __iter__(self):
            for number, batch in enumerate(super().__iter__(), start=1):
                taken.append(number)
                yield batch

    set_seed(0)
    model = DLRM(CONFIG, check=False)
    models.append(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(TrainingDivergedError) as raised:
        fit(model, InOrder(spoiled(step), 16), objective=logistic_loss, optimizer=optimizer,
            epochs=1, progress=False)  # fmt: skip
    assert f"at step {step} of 13 in epoch 1" in str(raised.value)
    assert "the weights have moved by it" in str(raised.value)
    assert max(taken) == min(step + 1, 13)  # no step was waited for, and one more was begun


def test_a_loss_is_waited_for_when_the_next_step_is_under_way(late, monkeypatch):
    """What `waiter` was made for is what came before it was made."""
    log = []

    def waiter(device):
        number = sum(entry.startswith("asked") for entry in log) + 1
        log.append(f"asked {number}")
        return lambda: log.append(f"waited {number}")

    monkeypatch.setattr(epochs.devices, "waiter", waiter)
    run(1, rows=random_batch(CONFIG, 48))
    assert log == ["asked 1", "asked 2", "waited 1", "asked 3", "waited 2", "waited 3"]
