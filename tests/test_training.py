"""The fit loop: early stopping, seeds, divergence, and a resume that shows no seam."""

import math
import random

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dlrm_mini import checkpoints
from dlrm_mini.datasets.batches import Batch, Loader, SparseFeatures
from dlrm_mini.errors import UserError
from dlrm_mini.training import (
    TrainingDivergedError,
    evaluate,
    fit,
    predict,
    set_seed,
    squared_error,
)


class Tiny(nn.Module):
    """A bias per id, a linear map of the dense features, and dropout: random state matters."""

    def __init__(self, rows: int = 10) -> None:
        super().__init__()
        self.bias = nn.Embedding(rows, 1)
        self.linear = nn.Linear(2, 1)
        self.dropout = nn.Dropout(0.3)

    def forward(self, batch: Batch) -> Tensor:
        bias = self.bias(batch.sparse.ids("item")).squeeze(1)
        return bias + self.linear(self.dropout(batch.dense)).squeeze(1)


def made_data(rows: int = 64) -> Batch:
    generator = torch.Generator().manual_seed(5)
    items = torch.randint(0, 10, (rows,), generator=generator)
    dense = torch.randn(rows, 2, generator=generator)
    labels = dense[:, 0] - items / 5
    return Batch(dense, SparseFeatures.from_columns({"item": items}), labels)


def rmse(prediction: Tensor, label: Tensor) -> float:
    return float((prediction - label).double().pow(2).mean().sqrt())


def run(epochs: int, checkpoint=None, resume=False, **keywords):
    set_seed(0)
    model = Tiny()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.99**step)
    loader = Loader(made_data(), 16, shuffle=True, seed=3)
    if resume:
        torch.rand(7)  # another random state than the one the checkpoint must restore
    keywords.setdefault("metrics", {"rmse": rmse})
    history = fit(model, loader, objective=squared_error, optimizer=optimizer, schedule=schedule,
                  epochs=epochs, checkpoint=checkpoint, resume=resume,
                  progress=False, **keywords)  # fmt: skip
    return model, history


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))  # noqa: E501  # fmt: skip


def test_one_seed_one_run_and_another_seed_another():
    assert same(run(3)[0], run(3)[0])
    assert not same(run(3)[0], run(4)[0])


def test_it_learns_and_the_table_is_tidy():
    model, history = run(30)
    assert history.values("rmse", "train")[-1] < 0.6 * history.values("rmse", "train")[0]
    assert list(history.table.columns) == ["epoch", "split", "metric", "value"]
    assert set(history.table["metric"]) == {"loss", "rmse"}
    assert evaluate(model, made_data(), {"rmse": rmse})["rmse"] == history.values("rmse", "train")[-1]  # noqa: E501  # fmt: skip


def test_the_table_plots_itself():
    figure = run(3)[1].plot("rmse", title="Learning")
    (axes,) = figure.axes
    assert axes.get_xlabel() == "epoch" and axes.get_ylabel() == "rmse"
    assert axes.get_title(loc="left") == "Learning" or axes.get_title() == "Learning"
    assert list(axes.lines[0].get_xdata()) == [1, 2, 3]


@pytest.mark.parametrize("stop_after", [1, 4])
def test_resume_ends_at_the_same_bits(tmp_path, stop_after):
    whole, history = run(6, tmp_path / "whole.pt")
    run(stop_after, tmp_path / "cut.pt")
    resumed, again = run(6, tmp_path / "cut.pt", resume=True)
    assert same(whole, resumed)
    assert again.rows == history.rows


def test_resume_with_early_stopping_keeps_the_same_epoch(tmp_path):
    early = {"valid": made_data(32), "patience": 2}
    whole, history = run(40, tmp_path / "whole.pt", **early)
    run(2, tmp_path / "cut.pt", **early)
    resumed, again = run(40, tmp_path / "cut.pt", resume=True, **early)
    assert history.best_epoch == again.best_epoch
    assert same(whole, resumed)


def test_early_stopping_puts_the_best_weights_back():
    valid = made_data(32)
    valid = Batch(valid.dense, valid.sparse, -valid.labels)  # training makes this worse and worse
    model, history = run(50, valid=valid, patience=3)
    scores = history.values("rmse")
    assert len(scores) == history.best_epoch + 3 < 50
    assert min(scores) == scores[history.best_epoch - 1]
    assert rmse(predict(model, valid), valid.labels) == pytest.approx(min(scores), abs=1e-9)


def test_a_higher_auc_is_better():
    """Early stopping must keep the best epoch of a metric that rises, too."""
    scores = iter([0.6, 0.8, 0.7, 0.65])
    history = run(4, valid=made_data(32), patience=2, metrics={"auc": lambda p, y: 0.5})[1]
    assert history.best_epoch == 1  # no epoch beats the first

    def rising(prediction: Tensor, label: Tensor) -> float:
        return next(scores) if len(label) == 32 else 0.0

    history = run(4, valid=made_data(32), patience=2, metrics={"auc": rising})[1]
    assert history.values("auc") == [0.6, 0.8, 0.7, 0.65]
    assert history.best_epoch == 2


def test_resume_restores_pythons_and_numpys_generators(tmp_path):
    set_seed(0)
    model = Tiny()
    loader = Loader(made_data(), 16)
    saved = checkpoints.Run(model, torch.optim.SGD(model.parameters(), lr=0.1), loader)
    random.random(), np.random.rand(3), np.random.standard_normal()
    saved.save(tmp_path / "run.pt", {})
    first = random.random(), np.random.rand(), np.random.standard_normal(), torch.rand(1)
    set_seed(5)
    saved.load(tmp_path / "run.pt")
    again = random.random(), np.random.rand(), np.random.standard_normal(), torch.rand(1)
    assert first == again


def test_resume_restores_the_loaders_seed(tmp_path):
    model = Tiny()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    checkpoints.Run(model, optimizer, Loader(made_data(), 16, shuffle=True, seed=3)).save(
        tmp_path / "run.pt", {}
    )
    other = Loader(made_data(), 16, shuffle=True, seed=4)
    checkpoints.Run(model, optimizer, other).load(tmp_path / "run.pt")
    assert other.seed == 3


def test_a_checkpoint_of_another_optimizer_or_of_weights_only_is_refused(tmp_path):
    model, loader = Tiny(), Loader(made_data(), 16)
    adam = checkpoints.Run(model, torch.optim.Adam(model.parameters()), loader)
    sgd = checkpoints.Run(model, torch.optim.SGD(model.parameters(), lr=0.1), loader)
    adam.save(tmp_path / "adam.pt", {})
    with pytest.raises(UserError, match="trained with Adam, and is to go on with SGD"):
        sgd.load(tmp_path / "adam.pt")
    checkpoints.save(tmp_path / "weights.pt", {"model": model.state_dict()})
    with pytest.raises(UserError, match="lacks extra, loader, optimizer"):
        sgd.load(tmp_path / "weights.pt")


def test_early_stopping_needs_something_to_watch():
    with pytest.raises(UserError, match="valid"):
        run(2, patience=1)


def test_a_loss_that_is_not_finite_names_the_step_and_what_to_try():
    model = Tiny()
    data = made_data()
    data.dense[40, 0] = math.inf
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(TrainingDivergedError, match=r"step 3 of 4 in epoch 1.*below 0.1"):
        fit(model, Loader(data, 16), objective=squared_error, optimizer=optimizer, epochs=1,
            progress=False)  # fmt: skip
    assert all(torch.isfinite(tensor).all() for tensor in model.state_dict().values())
    assert any(not torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_predict_leaves_the_model_in_its_mode_and_keeps_the_order():
    model = Tiny()
    data = made_data()
    whole, parts = predict(model, data), predict(model, data, batch_size=7)
    assert model.training
    torch.testing.assert_close(whole, parts)


def test_a_checkpoint_of_another_shape_is_refused_and_changes_nothing(tmp_path):
    run(1, tmp_path / "ten.pt")
    other = Tiny(rows=12)
    before = other.bias.weight.clone()
    content = checkpoints.load(tmp_path / "ten.pt")
    with pytest.raises(UserError, match=r"bias.weight.*\(10, 1\).*\(12, 1\)"):
        checkpoints.load_weights(other, content["model"], "ten.pt")
    richer = Tiny()
    richer.register_parameter("extra", nn.Parameter(torch.zeros(1)))
    with pytest.raises(UserError, match=r"'extra'.*nothing of that name"):
        checkpoints.load_weights(richer, content["model"], "ten.pt")
    assert torch.equal(other.bias.weight, before)


class Evil:
    def __reduce__(self):
        return (print, ("this code must never run",))


def test_a_checkpoint_cannot_run_code(tmp_path, capsys):
    torch.save({"model": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(UserError, match="not a checkpoint"):
        checkpoints.load(tmp_path / "evil.pt")
    assert "never" not in capsys.readouterr().out


def test_a_cut_or_missing_or_foreign_checkpoint_is_a_sentence(tmp_path):
    run(1, tmp_path / "whole.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "whole.pt").read_bytes()[:900])
    with pytest.raises(UserError, match="not a checkpoint"):
        checkpoints.load(tmp_path / "cut.pt")
    with pytest.raises(UserError, match="no checkpoint at"):
        checkpoints.load(tmp_path / "none.pt")
    (tmp_path / "empty.pt").write_bytes(b"")
    with pytest.raises(UserError, match="not a checkpoint"):
        checkpoints.load(tmp_path / "empty.pt")
    torch.save({"model": 3}, tmp_path / "three.pt")
    with pytest.raises(UserError, match="holds no model"):
        checkpoints.load(tmp_path / "three.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(UserError, match="holds no model"):
        checkpoints.load(tmp_path / "list.pt")


def test_a_full_disk_keeps_the_previous_checkpoint(tmp_path, monkeypatch):
    target = tmp_path / "run.pt"
    checkpoints.save(target, {"model": {}})
    whole = target.read_bytes()

    def full(content, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(UserError, match="No space left"):
        checkpoints.save(target, {"model": {"w": torch.zeros(3)}})
    assert target.read_bytes() == whole
    assert [p.name for p in tmp_path.iterdir()] == ["run.pt"]


class Streamed:
    """Batches whose rows are not in memory, as training asks for them."""

    def __init__(self) -> None:
        self.epoch = 0

    def __len__(self) -> int:
        return 4

    def __iter__(self):
        yield from Loader(made_data(), 16)
        self.epoch += 1

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.epoch}

    def load_state_dict(self, state) -> None:
        self.epoch = state["epoch"]


def test_rows_need_not_be_in_memory_but_to_measure_on_them(tmp_path):
    def start(train, **keywords):
        set_seed(0)
        model = Tiny()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        how = {"objective": squared_error, "optimizer": optimizer, "progress": False}
        return model, fit(model, train, **how, **keywords)

    expected, _ = start(Loader(made_data(), 16), epochs=3)
    model, history = start(Streamed(), epochs=3)
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), expected.parameters(), strict=True)
    )
    assert len(history.values("loss", "train")) == 3
    start(Streamed(), epochs=2, checkpoint=tmp_path / "run.pt")
    again, _ = start(Streamed(), epochs=3, checkpoint=tmp_path / "run.pt", resume=True)
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True)
    )
    with pytest.raises(UserError, match=r"metrics \(rmse\) are measured .* Streamed has no `data`"):
        start(Streamed(), epochs=1, metrics={"rmse": rmse})
