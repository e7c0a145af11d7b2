"""Prefetched batches: the same numbers in the same order, and nothing taken before its turn."""

import pytest
import torch

from dlrm_mini.datasets.batches import Batch, Loader, SparseFeatures
from dlrm_mini.prefetching import Prefetched

CUDA = torch.cuda.is_available()
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not CUDA, reason="Needs a GPU."))]


def made(rows=10):
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(3, (rows,), generator=generator)
    ids = torch.randint(9, (int(lengths.sum()),), generator=generator)
    genres = ids, torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    sparse = SparseFeatures.from_columns({"item": torch.arange(rows), "genres": genres})
    return Batch(torch.randn(rows, 2, generator=generator), sparse, torch.arange(rows).float())


def tensors(batch):
    return batch.dense, batch.sparse.values, batch.sparse.offsets, batch.labels


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("as_list", [False, True])
def test_the_same_batches_on_the_device(device, as_list):
    loader = Loader(made(), 4, shuffle=True)
    given = list(Loader(made(), 4, shuffle=True))
    prefetched = Prefetched(given if as_list else loader, device)
    assert len(prefetched) == 3
    found = list(prefetched)
    assert [len(batch) for batch in found] == [4, 4, 2]
    for mine, theirs in zip(found, given, strict=True):
        for a, b in zip(tensors(mine), tensors(theirs), strict=True):
            assert a.device.type == device and torch.equal(a.cpu(), b)


def test_on_a_cpu_it_is_the_very_batch():
    given = [made(), made()]
    assert all(a is b for a, b in zip(Prefetched(given, "cpu"), given, strict=True))


@pytest.mark.parametrize("device", DEVICES)
def test_an_epoch_ends_when_its_last_batch_has_been_used(device):
    prefetched = Prefetched(loader := Loader(made(), 4, shuffle=True, seed=3), device)
    for _ in prefetched:
        assert prefetched.epoch == 0 and prefetched.state_dict() == {"epoch": 0, "seed": 3}
    assert prefetched.epoch == loader.epoch == 1
    for _ in prefetched:
        break  # a run that is stopped here begins this epoch anew
    assert prefetched.epoch == 1
    prefetched.load_state_dict({"epoch": 7, "seed": 4})
    assert (loader.epoch, loader.seed) == (7, 4)


@pytest.mark.parametrize("device", DEVICES)
def test_a_loader_fails_where_it_fails(device):
    def failing():
        yield made()
        yield made()
        raise OSError("the disk is gone")

    class Failing(list):
        def __iter__(self):
            return failing()

    used = []
    with pytest.raises(OSError, match="the disk is gone"):
        for batch in Prefetched(Failing(), device):
            used.append(batch)
    assert len(used) == 2


@pytest.mark.skipif(not CUDA, reason="Needs a GPU.")
def test_a_copy_does_not_wait_for_the_step_before():
    """The second batch is there while the GPU is still busy with what the first was for."""
    busy, end = torch.randn(4096, 4096, device="cuda"), torch.cuda.Event()
    batches = iter(Prefetched([made(), made()], "cuda"))
    next(batches)
    next(batches)  # memory is pinned, kernels are loaded
    torch.cuda.synchronize()
    batches = iter(Prefetched([made(), made()], "cuda"))
    next(batches)
    for _ in range(100):
        busy @ busy
    end.record()
    batch = next(batches)
    assert not end.query()  # the host did not wait
    assert torch.equal(batch.labels.cpu(), made().labels)


def test_moving_keeps_what_the_host_knows():
    """On a GPU, to look at offsets is to wait."""
    sparse = made().sparse
    assert sparse.starts == (0, 10, len(sparse.values))
    assert sparse.one_hot == (True, False)
    moved = sparse.moved(lambda tensor: tensor.to("meta"))
    assert moved.values.device.type == "meta"
    assert (moved.starts, moved.one_hot) == (sparse.starts, sparse.one_hot)
    again = moved.moved(lambda tensor: tensor)
    assert (again.starts, again.one_hot) == (sparse.starts, sparse.one_hot)
    assert again.bag("genres").ids.shape == sparse.bag("genres").ids.shape


def test_features_of_no_rows_begin_nowhere():
    empty = torch.empty(0, dtype=torch.int64)
    sparse = SparseFeatures.from_columns({"item": empty, "user": empty})
    assert sparse.starts == (0, 0, 0)
