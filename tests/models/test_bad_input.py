"""What every model of batches does with batches that are wrong, empty or shuffled anew."""

import math

import pytest
import torch

from dlrm_mini.datasets.batches import Batch, Loader, SparseFeatures
from dlrm_mini.errors import UserError
from dlrm_mini.models.dlrm import DLRM
from dlrm_mini.models.dlrm_config import DLRMConfig
from dlrm_mini.models.factorization_machine import FactorizationMachine
from dlrm_mini.models.matrix_factorization import MatrixFactorization
from dlrm_mini.models.mlp import EmbeddingMLP
from dlrm_mini.training import fit, set_seed, squared_error

SIZES = {"user": 5, "item": 7, "genres": 4}
N_DENSE = 2

BUILD = {
    "mf": lambda: MatrixFactorization(SIZES["user"], SIZES["item"], 3, 3.5),
    "fm": lambda: FactorizationMachine(SIZES, 3, n_dense=N_DENSE),
    "mlp": lambda: EmbeddingMLP(SIZES, 3, [6], n_dense=N_DENSE, dropout=0.2),
    "mlp with dots": lambda: EmbeddingMLP(SIZES, 3, [6], n_dense=N_DENSE, dot_path=True),
    "dlrm": lambda: DLRM(DLRMConfig(N_DENSE, SIZES, 3, bottom=(3,), top=(6, 1))),
    "dlrm, cat": lambda: DLRM(
        DLRMConfig(N_DENSE, SIZES, 3, bottom=(3,), top=(6, 1), interaction="cat")
    ),
}
ALL = pytest.mark.parametrize("name", BUILD)
WITH_BAGS = pytest.mark.parametrize("name", [name for name in BUILD if name != "mf"])


def model(name):
    set_seed(0)
    return BUILD[name]().eval()


def columns(**changed):
    genres = torch.tensor([0, 3, 1, 2]), torch.tensor([0, 2, 2, 4])
    usual = {"user": torch.tensor([0, 4, 2]), "item": torch.tensor([6, 0, 3]), "genres": genres}
    return usual | changed


def batch(dense=None, labels=None, **changed):
    sparse = SparseFeatures.from_columns(
        {name: column for name, column in columns(**changed).items() if column is not None}
    )
    rows = sparse.batch_size
    dense = torch.linspace(-1, 1, rows * N_DENSE).view(rows, N_DENSE) if dense is None else dense
    return Batch(dense, sparse, torch.arange(rows).float() if labels is None else labels)


def sentence(call) -> str:
    with pytest.raises(UserError) as caught:
        call()
    return str(caught.value)


@ALL
@pytest.mark.parametrize(("wrong", "feature"), [(5, "user"), (-1, "user"), (7, "item")])
def test_an_id_out_of_range_names_feature_id_and_rows(name, wrong, feature):
    ids = columns()[feature].clone()
    ids[1] = wrong
    text = sentence(lambda: model(name)(batch(**{feature: ids})))
    assert f"'{feature}'" in text and f"id {wrong}" in text and f"{SIZES[feature]} rows" in text


@WITH_BAGS
@pytest.mark.parametrize("wrong", [4, -2, 2**40])
def test_an_id_out_of_range_in_a_bag_is_named_as_well(name, wrong):
    genres = torch.tensor([0, 3, wrong, 2]), torch.tensor([0, 2, 2, 4])
    text = sentence(lambda: model(name)(batch(genres=genres)))
    assert "'genres'" in text and f"id {wrong}" in text and "4 rows" in text


@WITH_BAGS
def test_the_check_comes_before_any_lookup_and_can_be_turned_off(name):
    """Without it the kernel that meets the id raises, and knows no feature's name."""
    one, wrong = model(name), batch(user=torch.tensor([0, 5, 2]))
    for module in one.modules():
        if hasattr(module, "check"):
            module.check = False
    with pytest.raises((IndexError, RuntimeError)) as caught:
        one(wrong)
    assert not isinstance(caught.value, UserError)
    torch.testing.assert_close(one(batch()), model(name)(batch()))


@ALL
def test_a_missing_feature_is_named_with_those_that_are_there(name):
    text = sentence(lambda: model(name)(batch(item=None)))
    assert "no feature 'item'" in text and "user, genres" in text


@ALL
def test_an_unknown_feature_is_named_when_asked_for_and_else_ignored(name):
    more = batch(hour=torch.tensor([23, 0, 9]))
    torch.testing.assert_close(model(name)(more), model(name)(batch()))
    assert "no feature 'hours'" in sentence(lambda: more.sparse["hours"])


@WITH_BAGS
def test_empty_bags_are_legal_and_give_zeros(name):
    """Whatever the table holds, it has no say (the vectors themselves: test_embeddings)."""
    nothing = torch.empty(0, dtype=torch.int64), torch.zeros(4, dtype=torch.int64)
    one, empty = model(name), batch(genres=nothing)
    before, full = one(empty), one(batch())
    with torch.no_grad():
        for key, parameter in one.named_parameters():
            if "genres" in key:
                parameter.add_(1.0)
    assert torch.isfinite(before).all()
    torch.testing.assert_close(one(empty), before)
    assert not torch.allclose(one(batch()), full)  # the table does have a say in a full bag


@ALL
def test_a_user_without_an_id_is_legal_only_where_bags_are(name):
    nobody = torch.tensor([0, 2]), torch.tensor([0, 1, 1, 2])
    if name == "mf":
        assert "Row 1 of feature 'user' has 0 ids" in sentence(
            lambda: model(name)(batch(user=nobody))
        )
    else:
        assert torch.isfinite(model(name)(batch(user=nobody))).all()


@ALL
def test_no_rows_give_no_predictions(name):
    nothing = torch.empty(0, dtype=torch.int64)
    empty = batch(user=nothing, item=nothing, genres=(nothing, torch.zeros(1, dtype=torch.int64)))
    assert model(name)(empty).shape == (0,)


@WITH_BAGS
@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_a_dense_feature_that_is_no_number_is_named(name, wrong):
    dense = torch.zeros(3, N_DENSE)
    dense[2, 1] = wrong
    text = sentence(lambda: model(name)(batch(dense=dense)))
    assert "ense column 1" in text and f"{wrong}" in text and "row 2" in text


@WITH_BAGS
@pytest.mark.parametrize("n_columns", [0, 1, 3])
def test_dense_columns_too_many_or_too_few(name, n_columns):
    text = sentence(lambda: model(name)(batch(dense=torch.zeros(3, n_columns))))
    assert f"{n_columns} dense column" in text and "built for 2" in text


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: batch(user=torch.tensor([0, 1, 2], dtype=torch.int32)), "'user' is a .*int32"),
        (lambda: batch(user=torch.tensor([0.0, 1.0, 2.0])), "'user' is a .*float32"),
        (lambda: batch(user=torch.zeros(3, 1, dtype=torch.int64)), "'user' is a 2-dim"),
        (lambda: batch(dense=torch.zeros(3, 2, dtype=torch.float64)), "dense is a .*float64"),
        (lambda: batch(dense=torch.zeros(3)), "dense is a 1-dim"),
        (lambda: batch(labels=torch.tensor([0, 1, 1])), "labels is a .*int64"),
        (lambda: batch(labels=torch.zeros(3, 1)), "labels is a 2-dim"),
        (lambda: batch(labels=torch.zeros(2)), "dense has 3 rows, sparse 3, labels 2"),
        (lambda: batch(dense=torch.zeros(4, 2)), "dense has 4 rows, sparse 3, labels 3"),
        (lambda: batch(user=torch.tensor([0, 1])), "'user': 2, 'item': 3"),
        (
            lambda: batch(genres=(torch.tensor([0, 1]), torch.tensor([0, 2, 1, 2]))),
            "offsets of feature 'genres'.*never to fall",
        ),
        (
            lambda: batch(genres=(torch.tensor([0, 1]), torch.tensor([0, 1, 1, 1]))),
            "run from 0 to 1 for 2 ids",
        ),
        (
            lambda: batch(
                genres=(torch.tensor([0]), torch.tensor([0, 1, 1, 1]), torch.tensor([1.0, 2.0]))
            ),
            "2 weights for 1 ids",
        ),
    ],
)
def test_no_model_ever_sees_a_batch_whose_parts_do_not_fit(make, expected):
    with pytest.raises(UserError, match=expected):
        make()


def losses(name, seed):
    """The training loss of three shuffled epochs, by epoch."""
    generator = torch.Generator().manual_seed(1)
    rows = 50
    ids = {
        feature: torch.randint(size, (rows,), generator=generator)
        for feature, size in SIZES.items()
    }
    dense = torch.randn(rows, N_DENSE, generator=generator)
    data = batch(dense, torch.randn(rows, generator=generator), **ids)
    set_seed(seed)
    one = BUILD[name]()
    optimizer = torch.optim.Adagrad(one.parameters(), lr=0.05)
    history = fit(
        one,
        Loader(data, 8, shuffle=True, seed=seed),
        objective=squared_error,
        optimizer=optimizer,
        epochs=3,
        progress=False,
    )
    return history.values("loss", "train")


@ALL
def test_one_seed_gives_the_same_losses_and_another_gives_others(name):
    first = losses(name, 0)
    assert first == losses(name, 0)  # equal, not close
    assert first != losses(name, 1)
