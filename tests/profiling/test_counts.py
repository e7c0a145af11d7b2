"""What the counts say, against models that are built, run and watched."""

import itertools

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from dlrm_mini.interactions import dot_interaction
from dlrm_mini.models.dlrm_config import DLRMConfig
from dlrm_mini.models.dlrm_presets import PRESETS
from dlrm_mini.profiling.counts import count, distinct, total
from dlrm_mini.profiling.parts import PARTS
from dlrm_mini.profiling.work import Work
from dlrm_mini.profiling.workload import Workload

CONFIG = DLRMConfig(8, {"a": 50, "b": 60}, 4, (16, 4), (32, 16, 1), lookups={"a": 3, "b": 5})
WORKLOAD = Workload(CONFIG, 16)
VIEWS = {"t", "detach", "view", "unsqueeze", "squeeze", "transpose", "expand", "slice", "select",
         "_unsafe_view", "empty", "new_zeros", "new_empty_strided"}  # fmt: skip


class Watched(TorchDispatchMode):
    """Operations that do something, and the bytes of what they read and write."""

    def __init__(self):
        super().__init__()
        self.names, self.bytes = [], 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        name = str(func.overloadpacket).removeprefix("aten.")
        if name not in VIEWS:
            self.names.append(name)
            tensors = [*args, *(kwargs or {}).values(), found]
            self.bytes += sum(x.nbytes for x in tensors if isinstance(x, torch.Tensor))
        return found


def watched(call):
    with Watched() as seen, FlopCounterMode(display=False) as flops:
        found = call()
    return found, seen, flops.get_total_flops()


@pytest.mark.parametrize("part", ["bottom", "top"])
def test_the_mlps_flop_operations_and_bytes_are_those_of_the_built_model(part):
    model = WORKLOAD.build().model
    net, works = getattr(model, part), count(WORKLOAD)
    width = {"bottom": CONFIG.n_dense, "top": CONFIG.top_input}[part]
    x = torch.rand(WORKLOAD.batch_size, width, requires_grad=part == "top")
    y, seen, flops = watched(lambda: net(x))
    work = works[f"{part} MLP"]
    assert flops == work.flops
    assert len(seen.names) == work.operations
    assert seen.bytes == work.bytes

    slope = torch.rand_like(y)
    _, seen, flops = watched(lambda: y.backward(slope))
    work = works[f"{part} MLP backward"]
    assert flops == work.flops
    assert len(seen.names) == work.operations
    assert seen.bytes == work.bytes


def test_the_first_bottom_layer_needs_no_input_gradient_and_the_config_counts_one():
    works, convention = count(WORKLOAD), CONFIG.flops(WORKLOAD.batch_size)
    first = 2 * WORKLOAD.batch_size * CONFIG.n_dense * CONFIG.bottom[0]
    assert works["bottom MLP"].flops == convention["bottom MLP"]
    assert works["bottom MLP backward"].flops == 2 * convention["bottom MLP"] - first
    assert works["top MLP backward"].flops == 2 * convention["top MLP"]


def test_the_dot_interaction_in_torch_computes_the_whole_square():
    dense, vectors = torch.rand(16, 4), torch.rand(16, 2, 4)
    dense.requires_grad_()
    vectors.requires_grad_()
    dot_interaction(dense, vectors)  # the places of the pairs are kept from now on
    z, seen, flops = watched(lambda: dot_interaction(dense, vectors))
    works = count(WORKLOAD.but(tables="sparse"))
    assert flops == works["interaction"].flops
    assert len(seen.names) == works["interaction"].operations
    _, _, flops = watched(lambda: z.backward(torch.ones_like(z)))
    assert flops == works["interaction backward"].flops
    assert count(WORKLOAD)["interaction"].flops == CONFIG.flops(16)["interaction"]


def test_rows_are_those_that_a_batch_looks_up():
    (batch,) = WORKLOAD.batches(1)
    row = 4 * CONFIG.dim
    works = count(WORKLOAD)
    assert sum(b for _, _, b in works["embedding forward"].gathered) == pytest.approx(
        row * len(batch.sparse.values)
    )
    assert works["embedding forward"].flops == CONFIG.flops(16)["embeddings"]
    assert works["embedding forward"].streamed == (
        batch.sparse.values.nbytes + batch.sparse.offsets.nbytes - 8 + 16 * 2 * row
    )
    assert works["embedding update"].random == pytest.approx(2 * row * len(batch.sparse.values))


def test_adagrad_changes_each_distinct_row_once_with_its_state():
    work = count(WORKLOAD.but(rule="rowwise_adagrad"))["embedding update"]
    rows = [
        sum(len(batch.sparse[name][0].unique()) for name in CONFIG.cardinalities)
        for batch in WORKLOAD.batches(300)
    ]
    expected = 2 * (4 * CONFIG.dim + 4) * sum(rows) / len(rows)
    assert sum(b for _, _, b in work.changed) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize(("rows", "lookups"), [(1, 3), (2, 1), (3, 4), (4, 5)])
def test_distinct_rows_are_the_mean_over_all_batches(rows, lookups):
    batches = list(itertools.product(range(rows), repeat=lookups))
    mean = sum(len(set(batch)) for batch in batches) / len(batches)
    assert distinct(rows, lookups) == pytest.approx(mean)


def test_a_gpu_gets_the_whole_batch_and_sorts_its_lookups():
    (batch,) = WORKLOAD.batches(1)
    works = count(WORKLOAD.but(rule="rowwise_adagrad"), "cuda")
    tensors = batch.dense, batch.labels, batch.sparse.values, batch.sparse.offsets
    assert works["input"].transferred == sum(tensor.nbytes for tensor in tensors)
    assert count(WORKLOAD)["input"].transferred == 0
    update = works["embedding update"]
    assert update.sorted == len(batch.sparse.values)
    row = 4 * CONFIG.dim + 4  # with its state
    touched = distinct(50, 16 * 3) + distinct(60, 16 * 5)
    assert sum(each for _, _, each in update.changed) == pytest.approx(2 * row * touched)


def test_a_dense_gradient_is_sorted_by_row_only_for_bags():
    dense = WORKLOAD.but(tables="dense")
    assert count(dense)["embedding backward"].sorted == 16 * 8
    assert count(dense.but(lookups=1))["embedding backward"].sorted == 0


def test_dense_tables_are_passed_over_as_a_whole():
    works = count(WORKLOAD.but(tables="dense"))
    table = 4 * CONFIG.dim * sum(CONFIG.cardinalities.values())
    assert works["embedding update"].far == 3 * table
    assert works["embedding backward"].fresh == table
    adagrad = count(WORKLOAD.but(tables="dense", rule="rowwise_adagrad"))
    assert adagrad["embedding update"].far == 11 * table


def test_sparse_gradients_have_a_vector_a_lookup():
    works = count(WORKLOAD.but(tables="sparse"))
    model = WORKLOAD.but(tables="sparse").build().model
    (batch,) = WORKLOAD.batches(1)
    model.tables(batch.sparse).sum().backward()
    gradients = [p.grad for p in model.tables.parameters()]
    made = sum(g._values().nbytes + 2 * g._indices().nbytes for g in gradients)
    assert works["embedding backward"].streamed == made


@pytest.mark.parametrize("tables", ["dense", "sparse", "fused"])
@pytest.mark.parametrize("rule", ["sgd", "rowwise_adagrad"])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_every_preset_has_its_parts_in_order(tables, rule, device):
    for preset in PRESETS.values():
        found = count(Workload(preset(0.001), 64, tables=tables, rule=rule), device)
        assert list(found) == [part for part in PARTS if part in found]
        assert ("embedding backward" in found) == (tables != "fused")
        assert all(work.bytes >= 0 and work.operations >= 0 for work in found.values())
        assert (found["input"].transferred > 0) == (device == "cuda")


@pytest.mark.parametrize("how", ["compiled", "graphed"])
def test_a_dense_part_in_one_piece_does_the_same_in_fewer_operations(how):
    eager = count(WORKLOAD, "cuda")
    merged = count(WORKLOAD.but(dense_part=how), "cuda")
    assert "top MLP" not in merged
    assert total(merged.values()).flops == total(eager.values()).flops
    assert total(merged.values()).operations < total(eager.values()).operations


def test_half_the_bytes_are_in_half_precision_products():
    whole, half = (count(WORKLOAD.but(precision=p)) for p in ("float32", "bfloat16"))
    assert half["top MLP"].number == 2
    assert half["top MLP"].flops == whole["top MLP"].flops


def test_a_mean_costs_more_than_a_sum():
    mean = WORKLOAD.but(pooling="mean")
    for tables in ("fused", "sparse"):
        pooled = [count(w.but(tables=tables))["embedding forward"] for w in (mean, WORKLOAD)]
        assert pooled[0].flops > pooled[1].flops


def test_work_adds_up():
    a, b = Work(1, 2, operations=3, products=((1, 2, 3),)), Work(10, 20, 5, 30, sorted=5)
    assert a + b == Work(11, 22, 5, 33, products=((1, 2, 3),), sorted=5)
    assert Work().intensity == 0
    assert a.bytes == 2 + 4 * (2 + 6 + 3)
