"""Fused tables: the same vectors and the same training as plain ones, with no gradient made."""

import copy

import pytest
import torch

from dlrm_mini.checkpoints import Run
from dlrm_mini.datasets.batches import Loader
from dlrm_mini.datasets.sparse import SparseFeatures
from dlrm_mini.embeddings import EmbeddingTables, FusedEmbeddingTables
from dlrm_mini.errors import UserError
from dlrm_mini.models.dlrm import DLRM, random_batch
from dlrm_mini.models.dlrm_config import DLRMConfig
from dlrm_mini.optimizers import SGD, Adagrad, RowWiseAdagrad
from dlrm_mini.training import fit, logistic_loss

ROWS = {"user": 30, "one": 1, "genres": 7}
CONFIG = DLRMConfig(4, ROWS, 8, bottom=(8,), top=(16, 1), lookups=3)


def batch(rows=6, seed=0):
    """One-hot users, and bags with duplicates and empty ones."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.arange(rows) % 4
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    genres = torch.randint(7, (int(offsets[-1]),), generator=generator)
    users = torch.randint(30, (rows,), generator=generator)
    columns = {"user": users, "one": torch.zeros(rows, dtype=torch.int64)}
    return SparseFeatures.from_columns({**columns, "genres": (genres, offsets)})


def plain_and_fused(**options):
    found = []
    for kind in (EmbeddingTables, FusedEmbeddingTables):
        torch.manual_seed(0)
        found.append(kind(ROWS, 8, **options))
    return found


@pytest.mark.parametrize("pooling", ["sum", "mean"])
@pytest.mark.parametrize("init_std", [None, 0.1])
def test_vectors_are_those_of_plain_tables(pooling, init_std):
    plain, fused = plain_and_fused(pooling=pooling, init_std=init_std)
    torch.testing.assert_close(fused(batch()), plain(batch()))


@pytest.mark.parametrize("kernel", ["reference", "cpu"])
def test_every_kernel_gives_them(kernel):
    plain, _ = plain_and_fused()
    torch.manual_seed(0)
    torch.testing.assert_close(
        FusedEmbeddingTables(ROWS, 8, kernel=kernel)(batch()), plain(batch())
    )


def test_float64_goes_to_the_reference():
    fused = FusedEmbeddingTables(ROWS, 8).double()
    assert fused.kernels().__name__.endswith("reference")
    assert fused(batch()).dtype == torch.float64


def test_weights_of_ids_and_mean_pooling():
    ids, offsets = batch()["genres"]
    weights = torch.rand(len(ids))
    sparse = SparseFeatures.from_columns({"genres": (ids, offsets, weights)})
    for pooling in ("sum", "mean"):
        torch.manual_seed(0)
        plain = EmbeddingTables({"genres": 7}, 8, pooling=pooling)
        fused = FusedEmbeddingTables({"genres": 7}, 8, pooling=pooling)
        fused.load_state_dict(plain.state_dict())
        torch.testing.assert_close(fused(sparse), plain(sparse))


def test_features_in_another_order_and_more_of_them():
    plain, fused = plain_and_fused()
    sparse = batch()
    columns = {name: sparse[name] for name in ("genres", "user", "one")}
    other = SparseFeatures.from_columns({"more": columns["user"], **columns})
    torch.testing.assert_close(fused(other), plain(sparse))
    with pytest.raises(UserError, match="no feature 'user'"):
        fused(SparseFeatures.from_columns({"genres": columns["genres"]}))


@pytest.mark.parametrize("optimizer", [SGD, Adagrad, RowWiseAdagrad])
def test_training_is_that_of_sparse_gradients(optimizer):
    models = []
    for fused in (False, True):
        torch.manual_seed(0)
        tables = FusedEmbeddingTables(ROWS, 8) if fused else None
        model = DLRM(CONFIG, sparse_gradient=True, tables=tables)
        models.append(model)
    models[1].load_state_dict(models[0].state_dict())
    for model in models:
        step = optimizer(model.parameters(), lr=0.1)
        if isinstance(model.tables, FusedEmbeddingTables):
            model.tables.fuse(step)
        for seed in range(8):
            data = random_batch(CONFIG, 20, seed)
            step.zero_grad()
            logistic_loss(model, data).backward()
            step.step()
    plain, fused = (model.state_dict() for model in models)
    for name, weight in plain.items():
        torch.testing.assert_close(fused[name], weight, rtol=1e-5, atol=2e-6)
    assert models[1].tables.weight.grad is None


def test_weights_go_both_ways_and_wrong_ones_are_refused():
    plain, fused = plain_and_fused()
    assert list(plain.state_dict()) == list(fused.state_dict())
    other = FusedEmbeddingTables(ROWS, 8)
    other.load_state_dict(plain.state_dict())
    assert all(torch.equal(other.tables[n], plain.tables[n]) for n in ROWS)
    EmbeddingTables(ROWS, 8).load_state_dict(fused.state_dict())
    with pytest.raises(RuntimeError, match="Missing"):
        other.load_state_dict({"tables.user": torch.zeros(30, 8)})
    with pytest.raises(RuntimeError, match="Unexpected"):
        other.load_state_dict({**plain.state_dict(), "tables.more": torch.zeros(1, 8)})
    before = other.weight.clone()
    with pytest.raises(RuntimeError, match=r"size mismatch for tables\.one"):
        other.load_state_dict({**plain.state_dict(), "tables.one": torch.zeros(2, 8)})
    assert torch.equal(other.weight, before)


def test_a_run_goes_on_as_if_never_stopped(tmp_path):
    def train(epochs, resume):
        torch.manual_seed(0)
        model = DLRM(CONFIG, tables=FusedEmbeddingTables(ROWS, 8))
        step = RowWiseAdagrad(model.parameters(), lr=0.1)
        model.tables.fuse(step)
        loader = Loader(random_batch(CONFIG, 60), 16, shuffle=True)
        fit(model, loader, objective=logistic_loss, optimizer=step, epochs=epochs,
            checkpoint=tmp_path / "run.pt", resume=resume, progress=False)  # fmt: skip
        return model, step, loader

    whole, _, _ = train(4, resume=False)
    train(2, resume=False)
    resumed, step, loader = train(4, resume=True)
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)
    assert step.state[resumed.tables.weight]["sum"].shape == (38,)
    Run(resumed, step, loader)


def test_a_copy_is_updated_by_its_own_optimizer():
    model = DLRM(CONFIG, tables=FusedEmbeddingTables(ROWS, 8))
    model.tables.fuse(SGD(model.parameters(), lr=0.1))
    twin = copy.deepcopy(model)
    before = model.tables.weight.clone()
    logistic_loss(twin, random_batch(CONFIG, 20)).backward()
    assert torch.equal(model.tables.weight, before)
    assert not torch.equal(twin.tables.weight, before)


def test_backward_needs_an_optimizer_and_one_that_can():
    tables = FusedEmbeddingTables(ROWS, 8)
    with pytest.raises(UserError, match="no optimizer"):
        tables(batch()).sum().backward()
    with pytest.raises(UserError, match="Adam cannot update tables inside backward"):
        tables.fuse(torch.optim.Adam(tables.parameters()))
    with pytest.raises(UserError, match="does not hold these tables"):
        tables.fuse(SGD(torch.nn.Linear(2, 2).parameters(), lr=0.1))


@pytest.mark.parametrize("check", [True, False])
def test_an_id_without_a_row(check):
    tables = FusedEmbeddingTables({"user": 30}, 8, check=check)
    with pytest.raises(UserError, match="expected ids in 0"):
        tables(SparseFeatures.from_columns({"user": torch.tensor([30])}))


def test_tables_that_do_not_fit_are_refused_before_they_are_made():
    for kind in (EmbeddingTables, FusedEmbeddingTables):
        with pytest.raises(
            UserError, match=r"(?s)'user': 10,000.* rows of 256 bytes.*Shrink 'user' to"
        ):
            kind({"user": 10**13, "item": 3}, 64)


def test_tables_of_another_config_are_refused():
    with pytest.raises(UserError, match="from one config"):
        DLRM(CONFIG, tables=FusedEmbeddingTables(ROWS, 16))
    with pytest.raises(UserError, match="pooling 'mean'"):
        DLRM(CONFIG, tables=FusedEmbeddingTables(ROWS, 8, pooling="mean"))


def test_a_run_with_plain_tables_does_not_go_on_with_fused_ones(tmp_path):
    loader = Loader(random_batch(CONFIG, 60), 16)
    for tables in (None, FusedEmbeddingTables(ROWS, 8)):
        model = DLRM(CONFIG, tables=tables)
        run = Run(model, SGD(model.parameters(), lr=0.1), loader)
        if tables is None:
            run.save(tmp_path / "run.pt", {})
    before = model.tables.weight.clone()
    with pytest.raises(UserError, match="goes on with fused tables"):
        run.load(tmp_path / "run.pt")
    assert torch.equal(model.tables.weight, before)


def test_fit_wants_its_own_optimizer_fused():
    loader = Loader(random_batch(CONFIG, 60), 16)
    model = DLRM(CONFIG, tables=FusedEmbeddingTables(ROWS, 8))
    step, other = SGD(model.parameters(), lr=0.1), SGD(model.parameters(), lr=0.1)
    before = model.tables.weight.clone()

    def run():
        fit(model, loader, objective=logistic_loss, optimizer=step, epochs=1, progress=False)

    with pytest.raises(UserError, match="updated by nobody"):
        run()
    model.tables.fuse(other)
    with pytest.raises(UserError, match="updated by another optimizer"):
        run()
    assert torch.equal(model.tables.weight, before)
    model.tables.fuse(step)
    run()


def test_ids_that_changed_since_and_a_second_backward_are_refused():
    tables = FusedEmbeddingTables({"user": 5, "item": 5}, 2)
    tables.fuse(SGD(tables.parameters(), lr=1.0))
    ids = torch.tensor([0, 1])
    sparse = SparseFeatures.from_columns({"user": ids, "item": ids})
    loss = tables(sparse).sum()
    sparse.values[0] = 7  # a row of the other table
    before = tables.weight.clone()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    sparse.values[0] = 0
    assert torch.equal(tables.weight, before)
    loss = tables(sparse).sum()
    loss.backward()
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()


@pytest.mark.parametrize("name", ["numba", "gpu"])
def test_a_kernel_that_is_none_for_this_table(name):
    with pytest.raises(UserError, match="expected"):
        FusedEmbeddingTables(ROWS, 8, kernel=name)(batch())
    with pytest.raises(UserError, match="expected 'reference'"):
        FusedEmbeddingTables(ROWS, 8, kernel="cpu").double()(batch())


def test_torchs_default_type_changes_nothing():
    tables = FusedEmbeddingTables(ROWS, 8)
    torch.set_default_dtype(torch.float64)
    try:
        assert tables(batch()).dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


def test_tables_are_made_where_torch_makes_tensors():
    """Gigabytes drawn on a CPU and copied to a GPU would take a minute."""
    with torch.device("meta"):
        tables = FusedEmbeddingTables({"a": 5, "b": 7}, 4)
    assert tables.weight.is_meta
    assert tables.weight.shape == (12, 4)
