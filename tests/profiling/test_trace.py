"""Dividing a trace: written by hand here, so that every part can be added up on paper."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlrm_mini.errors import UserError
from dlrm_mini.profiling import trace
from dlrm_mini.profiling.operators import operator

MAIN, ENGINE, STRANGE = 7, 8, 99  # threads
NODE = trace.NODE


def span(name, ts, dur, cat="cpu_op", tid=MAIN, sequence=None, **args):
    args = {key.replace("_", " "): value for key, value in args.items()}
    args |= {} if sequence is None else {"Sequence number": sequence}
    return {"ph": "X", "name": name, "cat": cat, "ts": ts, "dur": dur, "tid": tid, "args": args}


def label(name, ts, dur, **more):
    return span(name, ts, dur, "user_annotation", **more)


def block(ts, dur):
    return label(trace.BLOCK, ts, dur)


def launch(ts, correlation, cat="cuda_runtime", **more):
    return span("cudaLaunchKernel", ts, 1, cat, correlation=correlation, **more)


def kernel(ts, dur, correlation, stream=7, cat="kernel"):
    return span("some_kernel", ts, dur, cat, stream, correlation=correlation)


def divided(spans, *, cuda=False, fused=False):
    """The parts in microseconds, without those that are zero, after a look at both sums."""
    times = trace.attribute(spans, cuda=cuda, fused=fused)
    assert sum(times.parts.values()) == pytest.approx(times.wall)
    assert sum(times.operators.values()) == pytest.approx(times.wall)
    assert {"idle", "remainder"} <= set(times.parts)
    return {part: pytest.approx(1e3 * ms) for part, ms in times.parts.items() if abs(ms) > 1e-12}


FORWARD = [
    label("loss", 0, 50),
    label("embedding forward", 5, 10),
    span("aten::embedding", 6, 8, sequence=1),
    label("bottom MLP", 15, 20),
    span("aten::linear", 16, 10, sequence=2),
    span("aten::t", 17, 1, sequence=2),
    span("aten::addmm", 18, 8, sequence=3),
    span("aten::relu_", 28, 4, sequence=4),
    span("aten::mean", 40, 8, sequence=5),
]


def test_forward_belongs_to_the_innermost_label():
    spans = [block(-10, 100), *FORWARD]
    assert divided(spans) == {
        "embedding forward": 10,
        "bottom MLP": 20,
        "loss": 50 - 30,
        "remainder": 50,
    }
    assert trace.attribute(spans, cuda=False, fused=False).operators == pytest.approx(
        # Others: 2 in the tables, 6 in the MLP, 20 in the loss.
        {"EmbeddingBag": 8e-3, "FC": 10e-3, "ReLU": 4e-3, "Other": 28e-3}
        | {"idle": 0, "remainder": 50e-3}
    )


BACKWARD = [
    label("backward", 60, 60),
    span("aten::ones_like", 61, 2),
    span(f"{NODE}MeanBackward0", 65, 5, sequence=5),
    span("MeanBackward0", 66, 3, sequence=5),
    span(f"{NODE}ReluBackward0", 71, 4, sequence=4),
    span(f"{NODE}AddmmBackward0", 75, 10, sequence=3),
    span("aten::mm", 76, 8),
    span(f"{NODE}torch::autograd::AccumulateGrad", 86, 2),
    span(f"{NODE}TBackward0", 89, 1, sequence=2),
    span(f"{NODE}EmbeddingBackward0", 90, 20, sequence=1),
    span(f"{NODE}torch::autograd::AccumulateGrad", 112, 3),
]


def test_nodes_of_backward_go_by_their_numbers_and_gaps_are_the_remainder():
    spans = [block(0, 130), *FORWARD, *BACKWARD]
    assert divided(spans) == {
        "embedding forward": 10,
        "bottom MLP": 20,
        "loss": 20,
        "loss backward": 5 + 5,  # the first 5: what comes before the first node
        "bottom MLP backward": 4 + 10 + 2 + 1,
        "embedding backward": 20 + 3,
        # 50-60 and 120-130, and between nodes 70-71, 85-86, 88-89, 110-112, 115-120
        "remainder": 10 + 10 + 1 + 1 + 1 + 2 + 5,
    }
    found = trace.attribute(spans, cuda=False, fused=False).operators
    assert found["FC"] == pytest.approx(1e-3 * (10 + 10 + 2 + 1))
    assert found["EmbeddingBag"] == pytest.approx(1e-3 * (8 + 20 + 3))


def test_the_order_of_the_spans_does_not_matter():
    spans = [block(0, 130), *FORWARD, *BACKWARD]
    assert divided(spans[::-1]) == divided(spans)


def test_of_two_spans_that_begin_at_once_the_longer_is_around_the_other():
    spans = [label("top MLP", 0, 10), label("loss", 0, 30), block(0, 40)]
    assert divided(spans) == {"top MLP": 10, "loss": 20, "remainder": 10}


def test_backward_of_fused_tables_is_their_update():
    parts = divided([block(0, 130), *FORWARD, *BACKWARD], fused=True)
    assert parts["embedding update"] == 23
    assert "embedding backward" not in parts


def test_the_last_operator_with_a_number_is_the_one_whose_node_it_is():
    # aten::detach makes no node and leaves the number to the next operator, in another part.
    spans = [
        block(0, 40),
        label("input", 0, 10),
        span("aten::detach", 1, 2, sequence=1),
        label("top MLP", 10, 10),
        span("aten::linear", 11, 5, sequence=1),
        label("backward", 20, 20),
        span(f"{NODE}AddmmBackward0", 20, 20, sequence=1),
    ]
    assert divided(spans) == {"input": 10, "top MLP": 10, "top MLP backward": 20}


def test_a_node_behind_a_hook_is_found_by_its_own_number():
    # What torch 2.13 records where a hook works on the gradient first: the engine's span has none.
    spans = [
        block(0, 70),
        label("embedding forward", 0, 10),
        span("_Fused", 0, 10, sequence=1),
        span(f"{NODE}_FusedBackward", 20, 20),
        span("aten::isfinite", 21, 5),
        span("_FusedBackward", 30, 9, sequence=1),
        span(f"{NODE}torch::autograd::AccumulateGrad", 40, 1),
        span(f"{NODE}_FusedBackward", 50, 5),  # cut short: the node behind it is another's
        span(f"{NODE}_FusedBackward", 60, 10),
        span("_FusedBackward", 61, 2, sequence=9),
    ]
    assert divided(spans, fused=True) == {
        "embedding forward": 10,
        "embedding update": 21 + 5,
        "remainder": 10 + 9 + 5 + 10,
    }


def test_a_node_of_nobody_is_the_remainder():
    node = span(f"{NODE}MulBackward0", 5, 10, sequence=77)
    assert divided([block(0, 20), node]) == {"remainder": 20}


def test_updates_and_dense_parts_are_one_operator_each():
    spans = [
        block(0, 60),
        label("dense part", 0, 10),
        span("CompiledFunction", 0, 10, sequence=3),
        label("backward", 10, 20),
        span(f"{NODE}CompiledFunctionBackward", 10, 20, sequence=3),
        label("dense update", 30, 30),
        label("Optimizer.step#SGD.step", 31, 29),
        label("embedding update", 40, 10),
        span("aten::mm", 41, 5),
    ]
    assert divided(spans) == {
        "dense part": 10,
        "dense part backward": 20,
        "embedding update": 10,
        "dense update": 20,
    }
    assert trace.attribute(spans, cuda=False, fused=False).operators == pytest.approx(
        {"Optimizer": 30e-3, "Dense part": 30e-3, "idle": 0, "remainder": 0}
    )


def test_another_thread_is_not_on_the_clock_of_a_cpu():
    worker = [label("input", 0, 50, tid=ENGINE)]
    assert divided([block(0, 50), label("loss", 0, 20), *worker]) == {"loss": 20, "remainder": 30}


# With CUDA: the host is long done, on two threads, when the device works.
HOST = [
    block(0, 1000),
    label("input", 1, 9),
    launch(2, 11),
    label("loss", 10, 90),
    label("top MLP", 20, 20),
    span("aten::linear", 20, 10, sequence=1),
    span("aten::addmm", 21, 8, sequence=1),
    launch(25, 12, cat="cuda_driver"),
    label("dense part", 50, 10),
    span("cudaGraphLaunch", 52, 2, "cuda_runtime", correlation=13),
    label("backward", 100, 100),
    span("aten::ones_like", 101, 5),
    launch(102, 14),
    span(f"{NODE}AddmmBackward0", 110, 20, tid=ENGINE, sequence=1),
    launch(115, 15, tid=ENGINE),
]
DEVICE = [
    kernel(200, 100, 11, stream=20, cat="gpu_memcpy"),  # 200-300
    kernel(250, 100, 12),  # 250-350: takes 250-300 from the copy
    kernel(400, 10, 13), kernel(410, 30, 13), kernel(430, 20, 13, stream=21),  # 400-450, a graph
    kernel(500, 5, 14),
    kernel(600, 100, 15), kernel(650, 100, 15, stream=21),  # 600-750
    kernel(700, 10, 11, cat="gpu_memset"),  # wholly under a kernel
    kernel(990, 30, 77),  # of nobody, and longer than the block
]  # fmt: skip


def test_kernels_go_by_their_launches():
    times = trace.attribute([*HOST, *DEVICE], cuda=True, fused=False)
    expected = {
        "input": 50,
        "top MLP": 100,
        "dense part": 50,
        "loss backward": 5,
        "top MLP backward": 150,
        "remainder": 10,
        "idle": 1000 - 50 - 100 - 50 - 5 - 150 - 10,
    }
    assert divided([*HOST, *DEVICE], cuda=True) == expected
    assert times.launches == 8
    assert times.operators == pytest.approx(
        {"FC": 0.25, "Dense part": 0.05, "Other": 0.055, "idle": 0.635, "remainder": 0.01}
    )


def test_of_two_kernels_at_once_the_first_has_the_time():
    host = [
        block(0, 100),
        label("input", 0, 10),
        launch(1, 1),
        label("loss", 10, 10),
        launch(11, 2),
    ]
    work = [kernel(30, 20, 1), kernel(40, 30, 2, stream=8)]
    assert divided([*host, *work], cuda=True) == {"input": 20, "loss": 20, "idle": 60}


def test_a_launch_on_a_thread_of_another_number_goes_by_its_operator():
    host = [
        block(0, 100),
        label("loss", 0, 20),
        span("aten::mean", 5, 5, External_id=31),
        launch(6, 1, tid=STRANGE, External_id=31),
    ]
    assert divided([*host, kernel(50, 10, 1)], cuda=True) == {"loss": 10, "idle": 90}


@st.composite
def streams(draw):
    spans = st.tuples(
        st.integers(0, 90), st.integers(0, 30), st.integers(1, 5),
        st.sampled_from(["kernel", "gpu_memcpy", "gpu_memset"]),
    )  # fmt: skip
    return [kernel(*spot[:3], cat=spot[3]) for spot in draw(st.lists(spans, min_size=1))]


@given(streams())
def test_the_device_is_idle_when_no_stream_works(work):
    host = [block(0, 100), label("loss", 0, 9), *(launch(i, i) for i in range(1, 4))]
    instants = {at for s in work for at in range(s["ts"], min(s["ts"] + s["dur"], 100))}
    if not instants:
        return
    parts = divided([*host, *work], cuda=True)
    assert parts.get("idle", 0) == 100 - len(instants)
    kernels = {
        at
        for s in work
        if s["cat"] == "kernel"
        for at in range(s["ts"], min(s["ts"] + s["dur"], 100))
    }
    only = trace.attribute(
        [*host, *(s for s in work if s["cat"] == "kernel"), kernel(0, 1, 1)], cuda=True, fused=False
    )
    assert 1e3 * (100e-3 - only.parts["idle"]) == pytest.approx(len(kernels | {0}))


@st.composite
def nested(draw, begin=0, end=64, depth=4):
    """Spans inside one another or side by side, as one thread makes them."""
    names = ["input", "loss", "top MLP", "backward", "dense update", "else"]
    if depth == 0 or end - begin < 2:
        return []
    cut = draw(st.integers(begin + 1, end - 1))
    spans = [
        label(draw(st.sampled_from(names)), begin, cut - begin),
        span(draw(st.sampled_from(["aten::mm", f"{NODE}MmBackward0"])), cut, end - cut),
    ]
    return [
        *spans,
        *draw(nested(begin, cut, depth - 1)),
        *draw(nested(cut, end, depth - 1)),
    ]


@given(nested(), st.integers(0, 30), st.integers(1, 60))
def test_every_microsecond_has_one_owner(spans, begin, length):
    divided([block(begin, length), *spans])


def test_traces_without_a_block_or_without_device_time_are_refused():
    with pytest.raises(UserError, match="0 blocks"):
        divided(FORWARD)
    with pytest.raises(UserError, match="CUPTI"):
        divided(HOST, cuda=True)


@pytest.mark.parametrize("text", ["{", "[]", '{"events": []}'])
def test_other_files_are_no_traces(tmp_path, text):
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(UserError, match=r"t\.json is no Chrome trace"):
        trace.read(tmp_path / "t.json")


def test_only_spans_are_read(tmp_path):
    events = [{"ph": "M", "name": "process_name"}, {"ph": "i", "cat": "cpu_instant_event"}]
    (tmp_path / "t.json").write_text(json.dumps({"traceEvents": [*events, block(0, 1)]}))
    assert trace.read(tmp_path / "t.json") == [block(0, 1)]


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("aten::linear", "FC"), ("AddmmBackward0", "FC"), ("TBackward0", "FC"),
        ("aten::embedding_bag", "EmbeddingBag"), ("EmbeddingBagBackward0", "EmbeddingBag"),
        ("_Fused", "EmbeddingBag"), ("BmmBackward0", "BatchMatMul"),
        ("_PairsBackward", "BatchMatMul"),
        ("aten::cat", "Concat"), ("StackBackward0", "Concat"), ("aten::relu_", "ReLU"),
        ("BinaryCrossEntropyWithLogitsBackward0", "Loss"), ("ToCopyBackward0", "Copy"),
        ("aten::index_select", "Other"),
    ],
)  # fmt: skip
def test_operators_have_the_names_of_the_paper(name, group):
    assert operator(name) == group
