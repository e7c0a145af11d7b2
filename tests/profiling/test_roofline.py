"""Predictions: by hand, from a data sheet, and against steps of this machine."""

import os
import statistics
import time
from dataclasses import replace
from itertools import combinations

import pytest
import torch
from matplotlib.text import Text

from dlrm_mini.models.dlrm_config import DLRMConfig
from dlrm_mini.models.dlrm_presets import PRESETS, profile
from dlrm_mini.profiling import ceilings, roofline
from dlrm_mini.profiling.ceilings import Ceilings
from dlrm_mini.profiling.counts import count, total
from dlrm_mini.profiling.work import Work
from dlrm_mini.profiling.workload import Workload

SHEET = Ceilings.from_datasheet(
    "V100", "its data sheet", products={"float32": 15e12, "float16": 112e12}, bandwidth=9e11,
    overhead=5e-6, transfer=12e9,
)  # fmt: skip
SCALES = {"kaggle": 0.05, "profile": 0.05, "rm1": 0.025, "rm2": 0.025, "rm3": 0.05}
CPU = Ceilings.from_datasheet(
    "a CPU", "its data sheet", products={"float32": 1e12}, bandwidth=1e11, gather=0.5,
    overhead=1e-6, device="cpu",
)  # fmt: skip
WORK = Work(
    2e9, 1e9, far=2e9, operations=100, bags=1000, products=((1000, 1000, 1000),),
    batched=((1e9, 8, 8),), gathered=((64, 1e9, 2e9),), changed=((64, 1e9, 3e9),), transferred=6e9,
)  # fmt: skip


def test_each_term_is_a_count_over_a_ceiling():
    terms = roofline.explain(WORK, CPU)
    assert terms["products"] == pytest.approx(2e-3)
    assert terms["small products"] == pytest.approx(1e-3)
    assert terms["streamed"] == pytest.approx(1e-2 + 2e-2)
    assert terms["bags"] == 0  # a data sheet does not know
    assert terms["random reads"] == pytest.approx(4e-2)
    assert terms["random changes"] == pytest.approx(6e-2)
    assert terms["operations"] == pytest.approx(1e-4)
    assert terms["transfer"] == terms["new memory"] == terms["sorting"] == 0
    assert roofline.seconds(WORK, CPU) == pytest.approx(0.1331)
    assert roofline.explain(WORK, replace(CPU, bags=1e6))["bags"] == pytest.approx(1e-3)


def test_rates_are_those_at_the_size_of_the_work():
    rows = (64.0, 1e3, 8e10), (64.0, 1e7, 2e10)
    here = replace(
        CPU, copies=((1e3, 4e11), (1e7, 1e11)), gathers=rows, changes=rows,
        batched=((8.0, 8.0, 1e12), (64.0, 8.0, 2e12)),
    )  # fmt: skip

    def term(name, **fields):
        return roofline.explain(Work(**fields), here)[name]

    assert term("streamed", streamed=1e7, operations=10_000) == pytest.approx(1e7 / 4e11)
    assert term("streamed", streamed=1e7, operations=1) == pytest.approx(1e7 / 1e11)
    assert term("streamed", far=1e7, operations=10_000) == pytest.approx(1e7 / 1e11)
    assert term("small products", batched=((1e9, 64, 8),)) == pytest.approx(1e9 / 2e12)
    for name, field in (("random reads", "gathered"), ("random changes", "changed")):
        for span, rate in ((1e3, 8e10), (1e7, 2e10)):
            assert term(name, **{field: ((64, span, 1e6),)}) == pytest.approx(1e6 / rate)


def test_a_gpu_works_while_its_host_begins_operations_but_waits_for_its_data():
    busy, idle = Work(streamed=9e11, operations=100), Work(streamed=9e5, operations=100)
    assert roofline.seconds(busy, SHEET) == pytest.approx(1)
    assert roofline.seconds(idle, SHEET) == pytest.approx(5e-4)
    assert roofline.seconds(Work(transferred=12e9), SHEET) == pytest.approx(1)


def test_memory_new_from_the_system_is_paid_for_once():
    work = Work(streamed=3e9, operations=1, fresh=1e9)
    terms = roofline.explain(work, replace(CPU, fresh=1e9))
    assert terms["new memory"] == pytest.approx(1)
    assert terms["streamed"] == pytest.approx(0.02)


def test_the_papers_profile_on_a_v100_is_predicted_from_its_data_sheet():
    found = roofline.predict(Workload(profile(), 2048), SHEET)
    assert list(found) == list(count(Workload(profile(), 2048), "cuda"))
    fully_connected = sum(ms for part, ms in found.items() if "MLP" in part)
    assert 1.8 < fully_connected < 2.6  # 30 GFLOP at 15 TFLOP/s, and what is elementwise
    assert found["embedding forward"] == pytest.approx(419e6 / 4.5e11 * 1e3, rel=0.1)
    half = roofline.predict(Workload(profile(), 2048, precision="float16"), SHEET)
    assert half["top MLP"] < found["top MLP"] / 2


def test_a_picture_has_a_marker_for_each_part_and_a_roof_for_each_ceiling():
    works = count(Workload(profile(0.01), 256))
    figure = roofline.draw(SHEET, works, title="By part", measured={"top MLP": 1.0})
    (axes,) = figure.axes
    markers = [line for line in axes.lines if line.get_marker() == "o"]
    assert len(markers) == sum(work.flops > 0 for work in works.values())
    solid = [line for line in markers if line.get_markerfacecolor() != "white"]
    work = works["top MLP"]
    assert [(x[0], y[0]) for x, y in (line.get_data() for line in solid)] == [
        (pytest.approx(work.intensity), pytest.approx(work.flops / 1e-3))
    ]
    assert len(axes.lines) - len(markers) == 2 + 2  # copy and random rows; two precisions
    assert {text.get_text() for text in axes.texts} >= {"top MLP", "embedding update"}


def test_names_in_a_crowd_hide_neither_one_another_nor_a_dot():
    works = count(Workload(profile(0.01), 256))
    figure = roofline.draw(SHEET, works)
    figure.draw_without_rendering()
    (axes,) = figure.axes
    names = [text for text in axes.texts if text.get_text() in works]
    boxes = [Text.get_window_extent(name) for name in names]  # without the line to the dot
    assert len(names) == sum(work.flops > 0 for work in works.values())
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
    dots = [axes.transData.transform(name.xy) for name in names]
    assert not any(box.contains(*dot) for box in boxes for dot in dots)


def test_whole_models_can_be_drawn_on_one_roofline():
    works = {
        name: total(count(Workload(PRESETS[name](0.01), 2048)).values())
        for name in ("rm1", "rm2", "rm3")
    }
    (axes,) = roofline.draw(SHEET, works).axes
    low, high = axes.get_xlim()
    assert all(low < work.intensity < high for work in works.values())


def test_a_prediction_never_leaves_the_roof_in_a_picture():
    work = total(count(Workload(profile(0.01), 256), "cuda").values())
    assert work.flops / roofline.seconds(work, SHEET) <= SHEET.best()


def _step_ms(workload: Workload) -> float:
    """Of a plain step: the lower quartile of some."""
    step, batches = workload.build(), workload.batches(4)
    times = []
    for turn in range(14):
        before = time.perf_counter()
        step(batches[turn % 4])
        times.append(time.perf_counter() - before)
    return 1e3 * statistics.quantiles(times[4:], n=4)[0]


def test_every_preset_takes_what_is_predicted_within_a_factor_of_one_and_a_half():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        wrong = dict.fromkeys(PRESETS, "not measured")
        for _ in range(3):  # fresh ceilings, where another program was in the way
            here = ceilings.measure(seconds=2.0, precisions=("float32",))
            for name in list(wrong):
                workload = Workload(PRESETS[name](SCALES[name]), 256)
                taken = _step_ms(workload)
                expected = sum(roofline.predict(workload, here).values())
                wrong[name] = f"{taken:.1f} ms measured, {expected:.1f} predicted"
                if 1 / 1.5 < expected / taken < 1.5:
                    del wrong[name]
            if not wrong:
                break
    finally:
        torch.set_num_threads(threads)
    if wrong and os.getloadavg()[0] > 0.75 * (os.cpu_count() or 1):
        pytest.skip(f"other programs run, so that times mean little: {wrong}")
    assert not wrong


def test_a_config_that_nobody_published_is_predicted_too():
    config = DLRMConfig(4, {"a": 10, "b": 1}, 2, (2,), (3, 1), interaction="cat", pooling="mean")
    for tables in ("dense", "sparse", "fused"):
        found = roofline.predict(Workload(config, 1, tables=tables), CPU)
        assert all(ms >= 0 for ms in found.values())
