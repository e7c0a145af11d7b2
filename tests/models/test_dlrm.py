from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dlrm_mini.datasets.batches import Batch, Loader, SparseFeatures
from dlrm_mini.errors import UserError
from dlrm_mini.models.dlrm import DLRM, random_batch
from dlrm_mini.models.dlrm_config import DLRMConfig
from dlrm_mini.models.factorization_machine import FactorizationMachine
from dlrm_mini.models.fm_in_dlrm import dlrm_from_fm
from dlrm_mini.training import fit, logistic_loss, predict, set_seed

CONFIG = DLRMConfig(
    3, {"user": 9, "item": 7, "genres": 5}, 4, bottom=(8, 4), top=(6, 5, 1), lookups={"genres": 2}
)
KINDS = [
    {"interaction": "dot"},
    {"interaction": "dot", "self_interaction": True},
    {"interaction": "cat"},
]


def a_model(seed=0, **changes):
    torch.manual_seed(seed)
    return DLRM(replace(CONFIG, **changes))


class Reference(nn.Module):
    """The forward pass of facebookresearch/dlrm's DLRM_Net, in its terms, positional and flat."""

    def __init__(self, m_spa, ln_emb, ln_bot, ln_top, op, itself):
        super().__init__()
        self.op, self.itself = op, itself
        self.emb_l = nn.ModuleList(nn.EmbeddingBag(n, m_spa, mode="sum") for n in ln_emb)
        self.bot_l, self.top_l = self.create_mlp(ln_bot), self.create_mlp(ln_top)
        self.top_l[-1] = nn.Sigmoid()

    def create_mlp(self, ln):
        layers = [part for n, m in pairwise(ln) for part in (nn.Linear(n, m), nn.ReLU())]
        return nn.Sequential(*layers)

    def forward(self, dense_x, offsets, indices):
        x = self.bot_l(dense_x)
        ly = [table(i, o) for table, i, o in zip(self.emb_l, indices, offsets, strict=True)]
        if self.op == "cat":
            return self.top_l(torch.cat([x, *ly], dim=1))
        vectors, shift = [x, *ly], 1 if self.itself else 0
        pairs = [(i, j) for i in range(len(vectors)) for j in range(i + shift)]
        flat = [(vectors[i] * vectors[j]).sum(1, keepdim=True) for i, j in pairs]
        return self.top_l(torch.cat([x, *flat], dim=1))


@pytest.mark.parametrize("kind", KINDS)
def test_the_public_implementations_state_can_be_copied_in(kind):
    torch.manual_seed(0)
    config = replace(CONFIG, **kind)
    theirs = Reference(
        config.dim,
        list(config.cardinalities.values()),
        config.bottom_sizes,
        config.top_sizes,
        config.interaction,
        config.self_interaction,
    ).double()
    ours, state = DLRM(config).double(), theirs.state_dict()
    ours.bottom.load_state_dict({k[6:]: v for k, v in state.items() if k.startswith("bot_l.")})
    ours.top.load_state_dict({k[6:]: v for k, v in state.items() if k.startswith("top_l.")})
    for place, name in enumerate(config.cardinalities):
        ours.tables.tables[name].data.copy_(state[f"emb_l.{place}.weight"])
    batch = random_batch(config, 50)
    bags = [batch.sparse[name] for name in config.cardinalities]
    theirs_p = theirs(batch.dense.double(), [o[:-1] for _, o in bags], [i for i, _ in bags])
    torch.testing.assert_close(ours(batch).sigmoid(), theirs_p.squeeze(1), rtol=1e-13, atol=1e-14)


def test_features_are_found_by_name_whatever_their_order_in_the_batch():
    model, batch = a_model(), random_batch(CONFIG, 6)
    names = ("genres", "city", "user", "item")
    columns = {name: batch.sparse[name] for name in CONFIG.cardinalities}
    columns["city"] = torch.zeros(6, dtype=torch.int64)
    shuffled = SparseFeatures.from_columns({name: columns[name] for name in names})
    assert torch.equal(model(Batch(batch.dense, shuffled, batch.labels)), model(batch))


def test_mean_pooling_divides():
    batch = random_batch(CONFIG, 6)
    by_sum, by_mean = a_model(), a_model(pooling="mean")
    halves = by_sum.interact(batch)[1] / torch.tensor([1.0, 1.0, 2.0])[:, None]
    torch.testing.assert_close(by_mean.interact(batch)[1], halves)


def test_the_start_is_the_public_implementations():
    torch.manual_seed(0)
    sizes = {"few": 25, "many": 10_000}
    model = DLRM(DLRMConfig(3, sizes, 64, bottom=(64,), top=(200, 1)))
    for name, rows in sizes.items():
        table, limit = model.tables.tables[name], rows**-0.5
        assert limit * 0.99 < table.abs().max() <= limit
        assert table.std().item() == pytest.approx(limit / 3**0.5, rel=0.05)
    assert [type(layer) for layer in model.bottom] == [nn.Linear, nn.ReLU]  # the last one's too
    assert [type(layer) for layer in model.top] == [nn.Linear, nn.ReLU, nn.Linear]  # logits


def test_the_interaction_matrix():
    model, batch = a_model().double(), random_batch(CONFIG, 6)
    assert model.vector_names == ("dense", "user", "item", "genres")
    dense, vectors = (part.detach().numpy() for part in model.interact(batch))
    together = np.concatenate([dense[:, None], vectors], axis=1)
    expected = np.einsum("bnd,bmd->bnm", together, together)
    matrix = model.interaction_matrix(batch).detach().numpy()
    np.testing.assert_allclose(matrix, expected, rtol=1e-12)
    assert matrix.shape == (6, 4, 4)


def one_row(dense=(0.0, 0.0, 0.0), user=0, item=0, genres=(0,), names=("user", "item", "genres")):
    bags = {"user": torch.tensor([user]), "item": torch.tensor([item])}
    bags["genres"] = torch.tensor(genres, dtype=torch.int64), torch.tensor([0, len(genres)])
    sparse = SparseFeatures.from_columns({name: bags[name] for name in names})
    return Batch(torch.tensor([dense]), sparse, torch.zeros(1))


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"dense": (0.0, 1.0)}, "has 2 dense columns, but the model was built for 3"),
        ({"dense": (0.0, float("nan"), 0.0)}, "Dense column 1 holds nan in row 0"),
        ({"dense": (0.0, 0.0, float("inf"))}, "Dense column 2 holds inf in row 0"),
        ({"user": 9}, "'user' has the id 9, but its embedding table has 9 rows"),
        ({"genres": (1, -1)}, "'genres' has the id -1"),
        ({"names": ("user", "genres")}, "no feature 'item'; there are user, genres"),
    ],
)
def test_bad_input_is_a_sentence(wrong, sentence):
    with pytest.raises(UserError, match=sentence):
        a_model()(one_row(**wrong))


def test_parts_that_disagree_in_length_or_type_make_no_batch():
    good = random_batch(CONFIG, 3)
    with pytest.raises(UserError, match="dense has 2 rows, sparse 3, labels 3"):
        Batch(good.dense[:2], good.sparse, good.labels)
    with pytest.raises(UserError, match=r"dense is .*float64.*; expected .*float32"):
        Batch(good.dense.double(), good.sparse, good.labels)


def test_one_switch_for_both_checks():
    batch = one_row((float("nan"), 0.0, 0.0))
    assert DLRM(CONFIG, check=False)(batch).isnan().all()
    model = a_model()
    model.tables.check = False
    assert model(batch).isnan().all()


def test_an_empty_bag_counts_nothing():
    model = a_model()
    assert torch.equal(model.interact(one_row(genres=()))[1][0, 2], torch.zeros(4))
    assert model(one_row(genres=())).isfinite().all()
    assert model(random_batch(CONFIG, 3).select(torch.empty(0, dtype=torch.int64))).shape == (0,)


def test_gradients_reach_every_part_and_only_the_rows_touched():
    model = a_model(bottom=(32, 4), top=(32, 1))
    model(one_row((1.0, 2.0, 3.0), user=4, item=2, genres=(0, 3))).sum().backward()
    for network in (model.bottom, model.top):
        assert all(parameter.grad.abs().sum() > 0 for parameter in network.parameters())
    touched = {name: table.grad.abs().sum(1) > 0 for name, table in model.tables.tables.items()}
    assert {name: rows.nonzero().flatten().tolist() for name, rows in touched.items()} == {
        "user": [4], "item": [2], "genres": [0, 3],
    }  # fmt: skip


def test_sparse_gradients_are_the_same_gradients():
    batch, grads = random_batch(CONFIG, 20), []
    for sparse in (False, True):
        torch.manual_seed(0)
        model = DLRM(CONFIG, sparse_gradient=sparse)
        model(batch).sum().backward()
        grads.append([table.grad for table in model.tables.tables.values()])
    assert all(grad.is_sparse for grad in grads[1])
    for dense, sparse in zip(*grads, strict=True):
        torch.testing.assert_close(sparse.to_dense(), dense)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_the_same_seed_gives_the_same_losses(dropout):
    config = replace(CONFIG, dropout=dropout)

    def losses(seed):
        set_seed(seed)
        model = DLRM(config)
        train = Loader(random_batch(config, 96), 32, shuffle=True, seed=seed)
        optimizer = torch.optim.Adagrad(model.parameters(), lr=0.05)
        loss = nn.functional.binary_cross_entropy_with_logits
        metrics = {"logloss": lambda logits, labels: loss(logits, labels).item()}
        history = fit(model, train, objective=logistic_loss, optimizer=optimizer, epochs=3,
                      metrics=metrics, progress=False)  # fmt: skip
        return history.rows, predict(model, train.data)

    one, again, other = losses(1), losses(1), losses(2)
    assert one[0] == again[0] and torch.equal(one[1], again[1])
    assert one[0] != other[0]
    assert one[0][-1]["value"] < one[0][0]["value"]


def test_describing_a_model_leaves_it_and_the_random_numbers_as_they_were():
    model = a_model(dropout=0.5).double()
    batch = random_batch(CONFIG, 4)
    model.eval()
    before = model(batch)
    state = torch.get_rng_state()
    assert model.describe(5) == model.config.describe(5)
    assert torch.equal(torch.get_rng_state(), state)
    assert not model.training and torch.equal(model(batch), before)
    model.train()
    model.describe(5)
    assert model.training and not model.top._forward_pre_hooks


def test_a_random_batch_has_the_lookups_of_its_configuration():
    batch = random_batch(CONFIG, 7, seed=3)
    assert batch.sparse.lengths().tolist() == [[1] * 7, [1] * 7, [2] * 7]
    assert torch.equal(batch.dense, random_batch(CONFIG, 7, seed=3).dense)
    assert not torch.equal(batch.dense, random_batch(CONFIG, 7, seed=4).dense)


def test_dropout_is_in_the_top_mlp_and_only_in_training():
    model, batch = a_model(dropout=0.5, top=(64, 1)), random_batch(CONFIG, 5)
    assert not torch.equal(model(batch), model(batch))
    model.eval()
    assert torch.equal(model(batch), model(batch))


# A factorization machine inside a DLRM.


@st.composite
def machines(draw):
    """A random FM of one-hot fields in float64, with ids to look up, (B, F)."""
    sizes = draw(st.lists(st.integers(1, 9), min_size=1, max_size=6))
    torch.manual_seed(draw(st.integers(0, 2**20)))
    fm = FactorizationMachine({f"f{k}": n for k, n in enumerate(sizes)}, draw(st.integers(1, 8)))
    fm = fm.double()
    for parameter in fm.parameters():
        nn.init.normal_(parameter)
    return fm, torch.stack([torch.randint(n, (12,)) for n in sizes], dim=1)


def batches(ids, weights=None):
    """The same rows for the FM, without dense columns, and for the DLRM, with one of noise."""
    offsets = torch.arange(len(ids) + 1)
    columns = {}
    for field, column in enumerate(ids.T.contiguous()):
        parts = (column, offsets) if weights is None else (column, offsets, weights[:, field])
        columns[f"f{field}"] = parts
    sparse = SparseFeatures.from_columns(columns)
    labels = torch.zeros(len(ids))
    return [Batch(dense, sparse, labels) for dense in (torch.empty(len(ids), 0),
                                                       torch.randn(len(ids), 1))]  # fmt: skip


@settings(max_examples=60)
@given(machine=machines(), weighted=st.booleans())
def test_an_fm_is_recovered_exactly_at_width_d_plus_f(machine, weighted):
    fm, ids = machine
    dlrm = dlrm_from_fm(fm)
    assert dlrm.config.dim == fm.vectors.dim + ids.shape[1]
    of_fm, of_dlrm = batches(ids, torch.randn(*ids.shape) if weighted else None)
    torch.testing.assert_close(dlrm(of_dlrm), fm(of_fm), rtol=1e-12, atol=1e-12)


@settings(max_examples=60)
@given(machine=machines())
def test_at_width_d_plus_1_each_pair_adds_the_product_of_its_linear_weights(machine):
    fm, ids = machine
    dlrm = dlrm_from_fm(fm, shared_slot=True)
    assert dlrm.config.dim == fm.vectors.dim + 1
    of_fm, of_dlrm = batches(ids)
    tables = fm.linear.tables
    w = torch.stack([tables[f"f{k}"][column, 0] for k, column in enumerate(ids.T)], dim=1)
    unwanted = torch.zeros(len(ids), dtype=torch.float64)
    for i in range(w.shape[1]):
        for j in range(i + 1, w.shape[1]):
            unwanted += w[:, i] * w[:, j]
    torch.testing.assert_close(dlrm(of_dlrm) - fm(of_fm), unwanted, rtol=1e-11, atol=1e-11)


def test_an_fm_with_dense_columns_has_no_place_in_a_dlrm():
    with pytest.raises(UserError, match="has 2 dense columns"):
        dlrm_from_fm(FactorizationMachine({"user": 3}, 2, n_dense=2))


def test_the_recovered_machine_can_go_on_learning_as_a_dlrm():
    fm = FactorizationMachine({"f0": 5, "f1": 6}, 3, bias=0.5)
    dlrm = dlrm_from_fm(fm)
    assert dlrm.top[0].bias.item() == 0.5
    _, batch = batches(torch.tensor([[0, 1], [4, 5]]))
    dlrm(batch).sum().backward()
    assert dlrm.tables.tables["f0"].grad.abs().sum() > 0
