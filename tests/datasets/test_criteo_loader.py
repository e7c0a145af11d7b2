"""Batches out of the prepared form: every row once, the same for the same seed, dealt to ranks."""

import numpy as np
import pytest
import torch
from criteotext import some_rows, write

from dlrm_mini.datasets.batches import Batch
from dlrm_mini.datasets.criteo import Prepared
from dlrm_mini.datasets.criteo_columns import Buckets
from dlrm_mini.datasets.criteo_format import SPARSE
from dlrm_mini.datasets.criteo_loader import PreparedLoader
from dlrm_mini.datasets.criteo_prepare import prepare
from dlrm_mini.datasets.criteo_splits import Days, Random
from dlrm_mini.errors import UserError

N = 1000


@pytest.fixture(scope="module", params=[Days(), Random(2)], ids=str)
def prepared(request, tmp_path_factory) -> Prepared:
    """A log whose first integer is the row's number, so that rows can be told apart."""
    folder = tmp_path_factory.mktemp("log")
    rows = [(row[0], str(number), *row[2:]) for number, row in enumerate(some_rows(N, seed=2))]
    source = write(folder / "log.txt", rows)
    prepare(source, folder / "out", rules=Buckets(70_000), split=request.param, progress=False)
    return Prepared.open(folder / "out")


def numbers(batches) -> list[int]:
    """The rows in the order in which they come."""
    return [round(x) for batch in batches for x in torch.expm1(batch.dense[:, 0]).tolist()]


def rows_of(prepared, split) -> list[int]:
    return prepared.rows(split, 0, prepared.splits[split]).tolist()


def check_contents(prepared, batch: Batch) -> None:
    rows = numbers([batch])
    assert (batch.labels.numpy() == prepared.labels[rows]).all()
    assert (batch.dense.numpy() == prepared.dense[rows]).all()
    assert batch.sparse.names == SPARSE and all(batch.sparse.one_hot)
    for name in SPARSE:
        assert batch.sparse.ids(name).tolist() == prepared.columns[name][rows].tolist()


@pytest.mark.parametrize("split", ["train", "valid", "test"])
@pytest.mark.parametrize(("batch_size", "block"), [(7, 50), (64, 64), (100, 17), (5000, 300)])
def test_every_row_of_a_split_comes_once_an_epoch(prepared, split, batch_size, block):
    loader = PreparedLoader(prepared, split, batch_size, block=block)
    batches = list(loader)
    sizes = [len(batch) for batch in batches]
    assert len(sizes) == len(loader) and set(sizes[:-1]) <= {batch_size}
    assert 0 < sizes[-1] <= batch_size
    order = numbers(batches)
    assert sorted(order) == rows_of(prepared, split) != order
    for batch in (batches[0], batches[-1]):
        check_contents(prepared, batch)


def test_a_batch_is_never_larger_than_the_split(prepared):
    (whole,) = PreparedLoader(prepared, "test", 10**30, shuffle=False)
    assert numbers([whole]) == rows_of(prepared, "test")


def test_in_order_when_it_is_not_shuffled(prepared):
    batches = list(PreparedLoader(prepared, "test", 16, shuffle=False, block=50))
    assert numbers(batches) == rows_of(prepared, "test")
    whole = prepared.batch("test")
    assert torch.equal(whole.dense, torch.cat([batch.dense for batch in batches]))
    check_contents(prepared, whole)
    assert numbers([prepared.batch("test", 3, 9)]) == rows_of(prepared, "test")[3:9]


def test_the_order_is_the_seeds_and_the_epochs(prepared):
    def epochs(seed):
        loader = PreparedLoader(prepared, "train", 32, seed=seed, block=100)
        return [numbers(loader), numbers(loader)]

    first, second = epochs(0)
    assert [first, second] == epochs(0) and first != second and first not in epochs(1)
    again = PreparedLoader(prepared, "train", 999, block=100)
    assert numbers(again) == first  # whatever the batch size
    resumed = PreparedLoader(prepared, "train", 32, seed=9, block=100)
    resumed.load_state_dict(again.state_dict())
    assert resumed.epoch == 1 and numbers(resumed) == second


def test_another_epoch_has_other_blocks_and_other_orders_within_them(prepared):
    place = {row: number for number, row in enumerate(rows_of(prepared, "train"))}
    loader, blocks, within = PreparedLoader(prepared, "train", 64, block=50), [], []
    for _ in range(2):
        order = [place[row] for row in numbers(loader)]
        blocks.append(list(dict.fromkeys(number // 50 for number in order)))
        within.append([number for number in order if number // 50 == 3])
    assert sorted(blocks[0]) == sorted(blocks[1]) and blocks[0] != blocks[1]
    assert sorted(within[0]) == sorted(within[1]) and within[0] != within[1]


def test_an_epoch_that_was_broken_off_begins_anew(prepared):
    loader = PreparedLoader(prepared, "train", 32, block=100)
    first = numbers([next(iter(loader))])
    assert loader.epoch == 0 and numbers(loader)[:32] == first and loader.epoch == 1


def test_rows_are_mixed_within_blocks_and_blocks_among_themselves(prepared):
    rows = rows_of(prepared, "train")
    block_of = {row: place // 100 for place, row in enumerate(rows)}
    order = numbers(PreparedLoader(prepared, "train", 64, block=100))
    blocks = [block_of[row] for row in order]
    runs = [block for place, block in enumerate(blocks) if place == 0 or blocks[place - 1] != block]
    assert len(runs) == len(set(runs)) and runs != sorted(runs)
    climbs = np.mean(np.diff(order) > 0)
    assert 0.4 < climbs < 0.6


@pytest.mark.parametrize("world", [2, 3, 7])
@pytest.mark.parametrize("shuffle", [True, False])
def test_ranks_share_no_row_and_have_equal_batches(prepared, world, shuffle):
    loaders = [
        PreparedLoader(prepared, "train", 50, rank=rank, world=world, block=64, shuffle=shuffle)
        for rank in range(world)
    ]
    for _ in range(2):
        dealt = [list(loader) for loader in loaders]
        sizes = [[len(batch) for batch in batches] for batches in dealt]
        assert sizes == [sizes[0]] * world and len(sizes[0]) == len(loaders[0])
        rows = [row for batches in dealt for row in numbers(batches)]
        assert len(set(rows)) == len(rows) and set(rows) <= set(rows_of(prepared, "train"))
        assert prepared.splits["train"] - len(rows) < world
    alone = PreparedLoader(prepared, "train", 50, block=64, shuffle=shuffle)
    alone.epoch = 1
    assert numbers(alone)[: len(rows)] == rows  # the ranks' parts, end to end, are one order


def test_senseless_arguments_are_refused(prepared):
    for keywords, said in (
        ({"batch_size": 0}, "batch_size is 0"),
        ({"seed": -1}, "seed -1"),
        ({"rank": 2, "world": 2}, "rank is 2 of 2"),
        ({"split": "day_7"}, "no split 'day_7'; there are train, valid, test"),
        ({"split": "test", "world": 500, "rank": 3}, "too few for 500"),
    ):
        with pytest.raises(UserError, match=said):
            PreparedLoader(prepared, **({"split": "train", "batch_size": 8} | keywords))
    with pytest.raises(UserError, match="rows 0 to 2,000 of the train split were asked for"):
        prepared.batch("train", 0, 2000)
    with pytest.raises(UserError, match="no split 'day_7'"):
        prepared.batch("day_7")


def test_a_model_can_be_fitted_from_it(prepared):
    from dlrm_mini import training

    class Logistic(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.table = torch.nn.EmbeddingBag(70_001, 1, mode="sum")
            self.dense = torch.nn.Linear(13, 1)

        def forward(self, batch: Batch) -> torch.Tensor:
            each = self.table(batch.sparse.values, batch.sparse.offsets[:-1])
            return (each.view(26, -1).sum(0) + self.dense(batch.dense)[:, 0]).float()

    model = Logistic()
    history = training.fit(
        model, PreparedLoader(prepared, "train", 64), objective=training.logistic_loss,
        optimizer=torch.optim.SGD(model.parameters(), lr=1e-3), epochs=2, progress=False,
    )  # fmt: skip
    losses = history.values("loss", "train")
    assert losses[1] < losses[0]
