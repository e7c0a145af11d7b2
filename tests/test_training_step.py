"""Every way to make a step faster gives the plain step's loss curve, and moves what it moves."""

import copy
from functools import cache, partial

import pytest
import torch

from dlrm_mini import dense_part, optimizers
from dlrm_mini.datasets.batches import Batch
from dlrm_mini.errors import UserError
from dlrm_mini.models.dlrm_config import DLRMConfig
from dlrm_mini.models.matrix_factorization import MatrixFactorization
from dlrm_mini.prefetching import Prefetched
from dlrm_mini.profiling.workload import Workload
from dlrm_mini.training_step import TrainingStep, logistic_loss

CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
CONFIG = DLRMConfig(
    4, {"user": 30, "item": 20, "place": 5}, 8, bottom=(16, 8), top=(32, 16, 1), lookups=3
)
WORKLOAD = Workload(CONFIG, 64, rule="rowwise_adagrad")
STEPS, BATCHES = 30, 4
# By how much a loss may be off at any of 30 steps, in which it falls from 0.7 to below 0.5. One
# number is rounded by up to 2^-9 = 0.002 in bfloat16, 2^-12 = 0.0002 in float16; steps add to it.
TOLERANCES = {"bfloat16": 1e-2, "float16": 4e-3, "float32": 1e-5}


@pytest.fixture(autouse=True)
def quick_compiler(monkeypatch):
    """Dynamo and autograd as in real life, but no code is generated: that takes half a minute."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    yield
    torch._dynamo.reset()


def data(workload=WORKLOAD, number=BATCHES):
    """Random rows whose labels can be learnt from the dense features and the ids."""
    made = []
    for batch in workload.batches(number):
        even = batch.sparse.values.view(len(CONFIG.cardinalities), -1, 3).remainder(2).sum((0, 2))
        made.append(Batch(batch.dense, batch.sparse, (batch.dense.sum(1) + even > 6).float()))
    return made


def trained(workload=WORKLOAD, batches=None, steps=STEPS):
    """The step, and the losses (steps,) of going over the batches again and again."""
    step, losses = workload.build(DEVICE), []
    batches = data(workload) if batches is None else batches
    while len(losses) < steps:
        losses += [step(batch) for batch in Prefetched(batches, DEVICE)]
    return step, torch.stack(losses[:steps]).cpu()


@cache
def plain_curve(tables):
    return trained(WORKLOAD.but(tables=tables))[1]


@pytest.mark.parametrize("tables", ["dense", "sparse", "fused"])
@pytest.mark.parametrize(
    "options",
    [
        {"precision": "bfloat16"},
        {"precision": "float16"},
        {"dense_part": "compiled"},
        {"dense_part": "graphed"},
        {"dense_part": "graphed", "precision": "bfloat16"},
        {"dense_part": "graphed", "precision": "float16"},
    ],
    ids=lambda options: "-".join(options.values()),
)
def test_the_loss_curve_stays(tables, options):
    if options.get("dense_part") == "graphed" and not CUDA:
        pytest.skip("CUDA graphs need CUDA.")
    plain = WORKLOAD.but(tables=tables)
    expected = plain_curve(tables)
    assert expected[-BATCHES:].mean() < 0.9 * expected[:BATCHES].mean()  # there is a curve
    step, losses = trained(plain.but(**options))
    assert losses.dtype == torch.float32
    tolerance = TOLERANCES[options.get("precision", "float32")]
    torch.testing.assert_close(losses, expected, rtol=0, atol=tolerance)
    if "precision" in options:
        assert not torch.equal(losses, expected)  # it did something
    assert all(p.dtype == torch.float32 for p in step.model.parameters())


@pytest.mark.parametrize("tables", ["dense", "sparse", "fused"])
def test_a_scale_that_overflows_skips_the_step_and_recovers(tables):
    """The largest float16 is 65504: scaled by 2^40, gradients have no place in it."""
    step, batch = WORKLOAD.but(tables=tables, precision="float16").build(DEVICE), data()[0]
    step.scaler = torch.amp.GradScaler(DEVICE.type, init_scale=2.0**40)
    first = copy.deepcopy(step.model.state_dict())
    losses, scales = [step(batch)], [step.scaler.get_scale()]
    assert scales == [2.0**39]
    for name, tensor in step.model.state_dict().items():
        assert torch.equal(tensor, first[name]), name
    assert all((state["sum"] == 0).all() for state in step.optimizer.state.values())
    # Skipped steps change nothing: without them, it is the plain curve.
    while len(losses) < 40:
        losses.append(step(batch))
        scales.append(step.scaler.get_scale())
    went = torch.tensor(scales) == torch.tensor([2.0**40, *scales[:-1]])
    assert 5 < went.sum() < 30 and went[-5:].all()
    if tables == "fused":  # near the limit, the MLPs may overflow where the tables do not
        assert losses[-1] < losses[0] - 0.05
        return
    _, expected = trained(WORKLOAD.but(tables=tables), [batch], steps=int(went.sum()))
    losses = torch.stack(losses).cpu()[went]
    torch.testing.assert_close(losses, expected, rtol=0, atol=TOLERANCES["float16"])


def test_an_overflow_in_the_tables_alone_is_seen():
    """Their gradient is in no parameter's `grad`, where a scaler would look for it."""
    step = WORKLOAD.but(precision="float16").build(DEVICE)
    before = copy.deepcopy(step.model.state_dict())

    def spoil(module, inputs, pooled):
        pooled.register_hook(lambda gradient: gradient.index_fill(0, torch.tensor(0), torch.nan))

    spoiler = step.model.tables.register_forward_hook(spoil)
    step(data()[0])
    assert step.scaler.get_scale() == 2.0**15  # half of the first
    for name, tensor in step.model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    spoiler.remove()
    step(data()[0])
    assert step.scaler.get_scale() == 2.0**15
    moved = [not torch.equal(t, before[n]) for n, t in step.model.state_dict().items()]
    assert all(moved)


@pytest.mark.parametrize("rule", ["sgd", "rowwise_adagrad"])
def test_fused_tables_get_the_gradient_without_the_scale(rule):
    """One step from the same weights: rows move as in float32, up to the rounding of float16."""
    moved = {}
    for precision in ("float32", "float16"):
        step = WORKLOAD.but(rule=rule, precision=precision).build(DEVICE)
        before = step.model.tables.weight.detach().clone()
        step(data()[0])
        moved[precision] = step.model.tables.weight.detach() - before
    assert moved["float32"].abs().max() > 1e-5
    error = (moved["float16"] - moved["float32"]).norm() / moved["float32"].norm()
    assert error < (0.01 if rule == "sgd" else 0.05)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_an_objective_gets_predictions_in_float32(precision):
    """Whatever it does with them: autocast knows some losses, and not those of one's own."""
    seen = []

    def objective(model, batch):
        seen.append(model(batch))
        return (seen[-1] - batch.labels).abs().mean()

    step = WORKLOAD.but(precision=precision).build(DEVICE)
    step.objective = objective
    assert step(data()[0]).dtype == seen[0].dtype == torch.float32


@pytest.mark.parametrize("options", [{"precision": "float16"}, {"dense_part": "compiled"}])
def test_outside_a_step_the_model_is_what_it_was(options):
    step = WORKLOAD.but(**options).build(DEVICE)
    names, batch = list(step.model.state_dict()), data()[0].to(DEVICE)
    plain = WORKLOAD.build(DEVICE).model
    assert torch.equal(step.model(batch), plain(batch))
    step(batch)
    plain.load_state_dict(step.model.state_dict())
    assert list(step.model.state_dict()) == names
    assert step.model.faster is None and not step.model._forward_hooks
    assert torch.equal(step.model(batch), plain(batch))
    assert torch.equal(copy.deepcopy(step.model)(batch), plain(batch))


def test_after_an_error_the_model_is_what_it_was():
    step = WORKLOAD.but(precision="float16", dense_part="compiled").build(DEVICE)
    wrong = data()[0]
    wrong.dense[0, 0] = torch.nan
    with pytest.raises(UserError, match="Dense column 0"):
        step(wrong)
    assert step.model.faster is None and not step.model._forward_hooks
    assert not torch.is_autocast_enabled(DEVICE.type)


def test_a_compiled_part_in_float16():
    _, losses = trained(WORKLOAD.but(dense_part="compiled", precision="float16"))
    expected = plain_curve("fused")
    torch.testing.assert_close(losses, expected, rtol=0, atol=TOLERANCES["float16"])


def test_a_last_smaller_batch_is_a_batch():
    batches = data()
    batches[-1] = batches[-1].select(torch.arange(7))
    _, expected = trained(batches=batches, steps=12)
    for how in ("compiled", "graphed") if CUDA else ("compiled",):
        _, losses = trained(WORKLOAD.but(dense_part=how), batches=batches, steps=12)
        torch.testing.assert_close(losses, expected, rtol=0, atol=TOLERANCES["float32"])


def test_the_compiled_part_is_one_graph():
    """A part that falls back to Python would be slow, and right."""
    model = WORKLOAD.build(DEVICE).model
    batch = data()[0].to(DEVICE)
    explained = torch._dynamo.explain(model.dense_part)(batch.dense, model.tables(batch.sparse))
    assert explained.graph_count == 1 and not explained.break_reasons


def test_no_place_of_a_pair_is_copied_in_a_step():
    """What is made on the host in a step would have to be copied to the GPU in it."""
    model = WORKLOAD.but(tables="dense").build("cpu").model
    with torch.inference_mode():
        model(data()[0])  # what is kept now must be good for backward as well
    with torch.profiler.profile() as profiled:
        model(data()[0]).sum().backward()
    names = {event.name for event in profiled.events()}
    assert "aten::bmm" in names and "aten::tril_indices" not in names


def test_choices_that_do_not_exist():
    model = MatrixFactorization(3, 4, 2, 0.5)
    optimizer = optimizers.SGD(model.parameters(), lr=0.1)
    make = partial(TrainingStep, model, optimizer, logistic_loss)
    with pytest.raises(UserError, match="precision is 'float8'; expected one of 'float32', 'bf"):
        make(precision="float8")
    with pytest.raises(UserError, match="dense_part is 'fast'; expected one of 'eager', 'comp"):
        make(dense_part="fast")
    with pytest.raises(UserError, match="a MatrixFactorization has no dense part"):
        make(dense_part="compiled")


def test_graphs_need_cuda():
    model = WORKLOAD.build("cpu").model
    with pytest.raises(UserError, match="'graphed', but the model is on cpu"):
        dense_part.faster(model, "graphed")


def test_batches_of_another_shape_pass_by_the_graph(monkeypatch):
    """The graph is made up, so that this runs without a GPU."""
    recorded = []

    def record(module, samples):
        recorded.append((module, samples))
        return lambda dense, vectors: torch.full((len(dense),), 7.0)

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", record)
    model = WORKLOAD.build("cpu").model
    graphed = dense_part._Graphed(model)
    vectors = torch.rand(64, 3, 8, requires_grad=True)
    dense = torch.rand(64, 4)
    for rows, replayed in ((64, True), (40, False), (64, True)):
        found = graphed(dense[:rows], vectors[:rows])
        expected = torch.full((rows,), 7.0)
        if not replayed:
            expected = model.dense_part(dense[:rows], vectors[:rows])
        assert torch.equal(found, expected)
    ((module, samples),) = recorded
    held = [*model.bottom.parameters(), *model.top.parameters()]
    assert {id(p) for p in module.parameters()} == {id(p) for p in held}
    assert [sample.requires_grad for sample in samples] == [False, True]
    assert all(sample.is_leaf for sample in samples)
    assert samples[1].data_ptr() != vectors.data_ptr()


@pytest.mark.skipif(not CUDA, reason="Needs a GPU.")
@pytest.mark.parametrize("options", [{}, {"precision": "bfloat16"}, {"dense_part": "graphed"}])
def test_the_host_never_waits_in_a_step(options):
    """With fused tables, where ids are not checked."""
    step = WORKLOAD.but(**options).build(DEVICE)
    step.model.tables.check = False
    for batch in Prefetched(data(), DEVICE):  # kernels are loaded, graphs recorded
        step(batch)
    mode = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for batch in Prefetched(data(), DEVICE):
            step(batch)
    finally:
        torch.cuda.set_sync_debug_mode(mode)
