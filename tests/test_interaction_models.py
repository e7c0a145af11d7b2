"""The six kinds: their counts against the built model, their outputs against loops, their price."""

from dataclasses import replace
from itertools import combinations
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dlrm_mini import metrics
from dlrm_mini.crossing import third_order
from dlrm_mini.datasets.batches import Batch, Loader, SparseFeatures
from dlrm_mini.errors import UserError
from dlrm_mini.models.dlrm import DLRM
from dlrm_mini.models.dlrm_config import DLRMConfig
from dlrm_mini.models.factorization_machine import FactorizationMachine
from dlrm_mini.models.interaction_config import InteractionConfig, Kind, matched
from dlrm_mini.models.interaction_models import InteractionModel
from dlrm_mini.models.interaction_strength import pair_strengths
from dlrm_mini.training import logistic_loss, predict, set_seed

KINDS = get_args(Kind)
SIZES = {"user": 7, "item": 5, "day": 3}
BUILT = [(kind, ()) for kind in KINDS] + [(kind, (6, 4)) for kind in KINDS if kind != "linear"]


def config(kind, n_dense=2, hidden=(), **changes):
    sizes = {"dim": 4, "bottom": (5,), "rank": 3} | changes
    return InteractionConfig(kind, n_dense, SIZES, hidden=hidden, **sizes)


def random_rows(n, n_dense=2, seed=0, sizes=SIZES):
    generator = torch.Generator().manual_seed(seed)
    columns = {k: torch.randint(rows, (n,), generator=generator) for k, rows in sizes.items()}
    dense = torch.randn(n, n_dense, generator=generator)
    labels = torch.randint(2, (n,), generator=generator).float()
    return Batch(dense, SparseFeatures.from_columns(columns), labels)


def lively(model, seed=0):
    """In float64, with no weight at zero."""
    torch.manual_seed(seed)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model.double()


def by_loops(model, batch):
    """The logits (B,), one row, vector and number at a time."""
    config, logits = model.config, []
    names = list(config.cardinalities)
    for row in range(len(batch)):
        ids = {name: int(batch.sparse.ids(name)[row]) for name in names}
        dense = batch.dense[row].double()
        logit = model.bias + sum(w * x for w, x in zip(model.linear_dense, dense, strict=True))
        logit = logit + sum(model.linear.tables[name][ids[name], 0] for name in names)
        if config.kind != "linear":
            vectors = [model.bottom(dense)] if config.n_dense else []
            vectors += [model.tables.tables[name][ids[name]] for name in names]
            read = torch.cat(vectors)
            if config.kind.startswith("cross"):
                x0 = read
                for layer in model.cross.layers:
                    read = x0 * layer(read) + read
            elif config.kind in ("dot", "third"):
                parts = vectors[:1] if config.n_dense else []
                parts += [
                    (vectors[i] * vectors[j]).sum()[None]
                    for i in range(len(vectors))
                    for j in range(i)
                ]
                if config.kind == "third":
                    parts += [sum(a * b * c for a, b, c in combinations(vectors, 3))]
                read = torch.cat(parts)
            logit = logit + model.top(read)[0]
        logits.append(logit)
    return torch.stack(logits)


@pytest.mark.parametrize("n_dense", [0, 2])
@pytest.mark.parametrize("kind, hidden", BUILT)
def test_forward_is_what_the_table_says(kind, hidden, n_dense):
    model = lively(InteractionModel(config(kind, n_dense, hidden)))
    batch = random_rows(6, n_dense)
    torch.testing.assert_close(model(batch), by_loops(model, batch), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("n_dense", [0, 2])
@pytest.mark.parametrize("kind, hidden", BUILT)
def test_every_parameter_is_counted_and_used(kind, hidden, n_dense):
    model = lively(InteractionModel(config(kind, n_dense, hidden)))
    parts = {
        "linear": [model.bias, model.linear_dense, *model.linear.parameters()],
        "embeddings": getattr(model, "tables", None),
        "bottom MLP": getattr(model, "bottom", None),
        "interaction": getattr(model, "cross", None),
        "top MLP": getattr(model, "top", None),
    }
    counts = {
        name: sum(p.numel() for p in (part.parameters() if isinstance(part, nn.Module) else part))
        for name, part in parts.items()
        if part is not None
    }
    assert model.config.parameters() == dict.fromkeys(parts, 0) | counts
    total = sum(p.numel() for p in model.parameters())
    assert model.config.cost("parameters") == total == sum(counts.values())
    logistic_loss(model, double_labels(random_rows(50, n_dense))).backward()
    missing = [name for name, p in model.named_parameters() if p.numel() and not p.grad.any()]
    assert not missing


def double_labels(batch):
    object.__setattr__(batch, "labels", batch.labels.double())
    return batch


@pytest.mark.parametrize("kind", ["dot", "cat"])
def test_flops_are_those_of_dlrm(kind):
    """The same parts, counted by another module."""
    mine = config(kind, 2, (6, 4))
    other = DLRMConfig(2, SIZES, 4, bottom=(5, 4), top=(6, 4, 1), interaction=kind)
    theirs = other.flops(1)
    assert {part: mine.flops()[part] for part in theirs} == theirs
    assert mine.flops()["linear"] == 3 + 2 * 2
    counts = other.parameters()
    assert {part: mine.parameters()[part] for part in counts} == counts


def test_flops_of_the_higher_orders():
    third, dot = config("third").flops(), config("dot").flops()
    n, dim = 4, 4
    assert third["interaction"] - dot["interaction"] == dim * (5 * n + 4)
    assert config("cross").flops()["interaction"] == 2 * (2 * 16 * 16 + 2 * 16)
    assert config("cross_low_rank").flops()["interaction"] == 2 * (4 * 16 * 3 + 2 * 16)
    assert config("cat").flops()["interaction"] == 0
    assert config("linear").cost("flops") == 7


@pytest.mark.parametrize("kind", ["dot", "cat"])
def test_without_the_linear_weights_it_is_a_dlrm(kind):
    mine = InteractionModel(config(kind, 2, (6,)))
    dlrm = DLRM(DLRMConfig(2, SIZES, 4, bottom=(5, 4), top=(6, 1), interaction=kind))
    dlrm.load_state_dict({k: v for k, v in mine.state_dict().items() if k in dlrm.state_dict()})
    batch = random_rows(20)
    torch.testing.assert_close(mine(batch), dlrm(batch))


def test_a_read_out_of_ones_is_a_factorization_machine():
    mine = lively(InteractionModel(config("dot", 0)))
    fm = FactorizationMachine(SIZES, 4).double()
    with torch.no_grad():
        mine.top[0].weight.fill_(1)
        fm.bias.copy_(mine.bias + mine.top[0].bias[0])
        for name in SIZES:
            fm.linear.tables[name].copy_(mine.linear.tables[name])
            fm.vectors.tables[name].copy_(mine.tables.tables[name])
    batch = random_rows(20, 0)
    torch.testing.assert_close(mine(batch), fm(batch))


def test_where_it_starts():
    model = InteractionModel(config("third", 0), bias=-1.5, init_std=1e-6)
    batch = random_rows(5, 0)
    torch.testing.assert_close(model(batch), torch.full((5,), -1.5))
    assert not any(table.any() for table in model.linear.parameters())


def test_sparse_gradients_are_the_same_gradients():
    grads = []
    for sparse in (False, True):
        set_seed(0)
        model = InteractionModel(config("dot"), sparse_gradient=sparse)
        logistic_loss(model, random_rows(9)).backward()
        own = [p.grad for p in (*model.tables.parameters(), *model.linear.parameters())]
        assert all(grad.is_sparse == sparse for grad in own)
        grads.append([grad.to_dense() for grad in own])
    torch.testing.assert_close(*grads)


def test_bags_and_missing_ids():
    """A bag is the sum of its vectors; a row without an id adds nothing."""
    model = lively(InteractionModel(InteractionConfig("third", 0, {"a": 5, "b": 4, "c": 3}, 2)))
    bag = torch.tensor([0, 3, 1]), torch.tensor([0, 2, 2, 3])
    columns = {"a": bag, "b": torch.tensor([1, 2, 3]), "c": torch.tensor([0, 1, 2])}
    batch = Batch(torch.zeros(3, 0), SparseFeatures.from_columns(columns), torch.zeros(3))
    a, b, c = (model.tables.tables[name] for name in "abc")
    x = torch.stack([a[0] + a[3], b[1], c[0]])[None]
    torch.testing.assert_close(model.vectors(batch)[:1], x)
    torch.testing.assert_close(model.interact(x)[:, 3:], third_order(x))
    assert not model.vectors(batch)[1, 0].any()


@pytest.mark.parametrize(
    "kind, changes, sentence",
    [
        ("sum", {}, "kind is 'sum'; change it to one of 'linear', 'cat'"),
        ("linear", {"hidden": (4,)}, "no vectors that a top MLP could read"),
        ("dot", {"dim": 0}, "dim is 0"),
        ("dot", {"hidden": (4, 0)}, r"hidden\[1\] is 0"),
        ("dot", {"bottom": (0,)}, r"bottom\[0\] is 0"),
        ("cross", {"layers": 0}, "layers is 0"),
        ("cross_low_rank", {"rank": 17}, "rank is 17, but 4 vectors of dim 4 are 16 numbers"),
        ("dot", {"n_dense": -1}, "n_dense is -1"),
    ],
)
def test_sizes_that_cannot_be(kind, changes, sentence):
    with pytest.raises(UserError, match=sentence):
        config(kind, **changes)


def test_tables_that_cannot_be():
    with pytest.raises(UserError, match="cardinalities is empty"):
        InteractionConfig("dot", 2, {}, 4)
    with pytest.raises(UserError, match=r"cardinalities\['a'\] is 0"):
        InteractionConfig("dot", 2, {"a": 0}, 4)
    with pytest.raises(UserError, match="one vector, which meets no other"):
        InteractionConfig("dot", 0, {"a": 3}, 4)


@pytest.mark.parametrize("kind", KINDS)
def test_batches_that_do_not_fit(kind):
    model = InteractionModel(config(kind))
    with pytest.raises(UserError, match="3 dense columns, but the model was built for 2"):
        model(random_rows(4, 3))
    with pytest.raises(UserError, match=r"'day' has the id \d, but its embedding table has 3 rows"):
        model(random_rows(40, 2, sizes=SIZES | {"day": 9}))


BIG = {f"C{i}": rows for i, rows in enumerate((1000, 50, 3000, 7, 400, 12, 900, 33))}


@settings(max_examples=80, deadline=None)
@given(
    kind=st.sampled_from(KINDS[1:]),
    of=st.sampled_from(["parameters", "flops"]),
    budget=st.integers(100_000, 10_000_000),
    hidden=st.sampled_from([(8,), (16, 8)]),
    n_dense=st.sampled_from([0, 13]),
)
def test_models_with_hidden_layers_meet_any_budget(kind, of, budget, hidden, n_dense):
    start = InteractionConfig(kind, n_dense, BIG, 4, bottom=(32,), hidden=hidden)
    found = matched(start, budget, of)
    assert abs(found.cost(of) - budget) <= 0.01 * budget
    same = {"dim": start.dim, "hidden": start.hidden, "rank": start.rank}
    assert replace(found, **same) == start  # nothing else was changed
    above = {"dim": found.dim + 1, "hidden": hidden, "rank": start.rank}
    assert replace(found, **above).cost(of) > budget  # the vectors are as wide as can be


@pytest.mark.parametrize("kind", ["dot", "cat", "cross", "third"])
def test_one_knob_goes_as_close_as_it_gets(kind):
    start = InteractionConfig(kind, 13, BIG, 4, bottom=(32,))
    for budget in range(30_000, 90_000, 7_000):
        found = matched(start, budget, "parameters", tolerance=0.5)
        gaps = [abs(replace(start, dim=d).cost("parameters") - budget) for d in range(1, 40)]
        assert abs(found.cost("parameters") - budget) == min(gaps)
        assert matched(start, found.cost("parameters"), "parameters") == found


def test_the_rank_fills_up_but_no_further_than_the_width():
    start = InteractionConfig("cross_low_rank", 13, BIG, 8, bottom=(32,), rank=4)
    goal = replace(start, rank=37).cost("flops")
    assert matched(start, goal, "flops", knobs=("rank",)).rank == 37
    wide = matched(start, 10**9, "flops", knobs=("rank",), tolerance=1)
    assert wide.rank == wide.n_vectors * wide.dim


def test_the_vectors_stay_wide_enough_for_the_rank():
    start = InteractionConfig("cross_low_rank", 0, {"a": 100, "b": 100}, 20, rank=15)
    found = matched(start, 10, "parameters", knobs=("dim",), tolerance=1e9)
    assert found.dim == 8  # two vectors of 7 are 14 numbers


def test_a_budget_that_cannot_be_met():
    start = InteractionConfig("dot", 13, BIG, 4, bottom=(32,))
    with pytest.raises(UserError, match=r"turning dim, the closest has 49,\d{3} \(dim 8, rank 8"):
        matched(start, 52_000, "parameters")
    with pytest.raises(UserError, match="turning dim, the closest has"):
        matched(start, 10, "parameters")
    with pytest.raises(UserError, match="turning none of its widths"):
        matched(replace(start, kind="linear"), 52_000, "parameters")
    with pytest.raises(UserError, match=r"knobs are .*change them to some of dim, rank, hidden"):
        matched(start, 52_000, "parameters", knobs=("depth",))
    with pytest.raises(UserError, match="'bytes'; change it to 'parameters' or 'flops'"):
        matched(start, 52_000, "bytes")


def planted(n, seed):
    """Clicks by a pair (a, b) and a triple (c, d, e) alone: without a first order."""
    sizes = dict.fromkeys("abcde", 2)
    batch = random_rows(n, 0, seed, sizes)
    a, b, c, d, e = (2.0 * batch.sparse.ids(name) - 1 for name in "abcde")
    logits = 1.5 * a * b + 1.5 * c * d * e
    labels = torch.bernoulli(logits.sigmoid(), generator=torch.Generator().manual_seed(seed))
    return Batch(batch.dense, batch.sparse, labels), logits


def fitted(kind, hidden, train):
    set_seed(0)
    sizes = dict.fromkeys("abcde", 2)
    model = InteractionModel(InteractionConfig(kind, 0, sizes, 8, hidden=hidden))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    for _ in range(3):
        for batch in Loader(train, 256, shuffle=True):
            optimizer.zero_grad()
            logistic_loss(model, batch).backward()
            optimizer.step()
    return model


def test_what_each_kind_can_learn():
    """A linear read-out finds the orders that its interaction has, an MLP finds them all."""
    train, _ = planted(8_000, 0)
    test, logits = planted(8_000, 1)
    most = metrics.auc(logits, test.labels) - 0.5

    def share(kind, hidden=()):
        prediction = predict(fitted(kind, hidden, train), test)
        return (metrics.auc(prediction, test.labels) - 0.5) / most

    assert share("linear") < 0.1 and share("cat") < 0.1
    assert 0.4 < share("dot") < 0.8  # the pair, and no triple
    assert min(share("third"), share("cross"), share("cat", (32,))) > 0.95


def test_strength_of_pairs():
    """a b counts 1.5 in every row; of c, d and e each two meet in the triple."""

    def teacher(batch):
        a, b, c, d, e = (2.0 * batch.sparse.ids(name).double() - 1 for name in "abcde")
        return 7 * a - 3 * c + 1.5 * a * b + 0.5 * c * d * e + 2 * d * batch.dense[:, 0]

    batch = random_rows(40_000, 1, 3, dict.fromkeys("abcde", 2))
    names, strengths = pair_strengths(teacher, batch)
    assert names == ("dense", *"abcde")
    expected = torch.zeros(6, 6, dtype=torch.float64)
    for f, g, strength in ((1, 2, 1.5), (3, 4, 0.5), (3, 5, 0.5), (4, 5, 0.5), (0, 4, 2.0)):
        expected[f, g] = expected[g, f] = strength
    torch.testing.assert_close(strengths, expected, rtol=0.03, atol=1e-12)


def test_strength_of_a_model_leaves_it_as_it_was():
    model = InteractionModel(config("dot", 2, (6,))).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    names, strengths = pair_strengths(model, random_rows(30))
    assert names == ("dense", "user", "item", "day") and strengths.shape == (4, 4)
    assert model.training
    torch.testing.assert_close(model.state_dict(), before)
    linear = pair_strengths(lively(InteractionModel(config("linear"))), random_rows(30))[1]
    assert linear.max() < 1e-12
    with pytest.raises(UserError, match="1 rows; expected at least two"):
        pair_strengths(model, random_rows(1))
