"""Ceilings: rates by size, records, and a measurement too short to mean anything."""

import itertools
import json
from dataclasses import replace

import pytest
import torch

from dlrm_mini import kernels
from dlrm_mini.errors import UserError
from dlrm_mini.profiling import ceilings_measured
from dlrm_mini.profiling.ceilings import Ceilings, Rates, measure

SHEET = Ceilings.from_datasheet(
    "a card", "its data sheet", products={"float32": 15e12, "float16": 112e12}, bandwidth=9e11,
    transfer=12e9,
)  # fmt: skip


def test_a_rate_between_two_sizes_is_linear_in_logarithms():
    rates = Rates(((1, 10.0), (4, 40.0), (16, 10.0)))
    assert rates(4) == pytest.approx(40)
    assert rates(2) == pytest.approx(20)
    assert rates(8) == pytest.approx(20)
    assert rates(0.1) == rates(1)
    assert rates(1e9) == rates(16)
    assert rates.best == pytest.approx(40)


def test_each_axis_counts():
    rates = Rates(((1, 1, 1.0), (1, 4, 4.0), (4, 1, 16.0), (4, 4, 64.0)))
    assert rates(2, 1) == pytest.approx(4)
    assert rates(1, 2) == pytest.approx(2)
    assert rates(2, 2) == pytest.approx(8)


def test_points_that_are_no_grid_are_refused():
    with pytest.raises(UserError, match="each combination"):
        Rates(((1, 1, 1.0), (4, 4, 64.0)))


def test_a_data_sheet_has_one_rate_for_all_sizes():
    assert SHEET.best() == pytest.approx(15e12)
    assert SHEET.product("float16")(1, 1, 1) == pytest.approx(112e12)
    assert SHEET.copy == 9e11
    assert SHEET.gather(256) == pytest.approx(4.5e11)
    assert not SHEET.measured
    with pytest.raises(UserError, match="bfloat16"):
        SHEET.best("bfloat16")


def test_ceilings_survive_json():
    assert Ceilings.from_json(json.loads(json.dumps(SHEET.as_json()))) == SHEET
    with pytest.raises(UserError, match="overhead"):
        Ceilings.from_json({"name": "a card"})


def test_another_device_is_refused():
    with pytest.raises(UserError, match="'tpu'"):
        measure("tpu")


@pytest.fixture(scope="module")
def small():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ceilings_measured, "WIDTHS", {"cpu": (1, 32)})
        patch.setattr(ceilings_measured, "SPANS", {"cpu": (1 << 18, 1 << 20)})
        patch.setattr(ceilings_measured, "LOOKUPS", {"cpu": 1 << 10})
        patch.setattr(ceilings_measured, "FRESH", 1 << 16)
        yield measure("cpu", seconds=0.01)


def test_what_is_measured_has_every_rate_and_a_name(small):
    assert small.measured
    assert small.device == "cpu"
    assert small.transfer == 0
    assert set(small.products) == {"float32", "bfloat16"}
    assert len(small.products["float32"]) == 2**3
    assert min(small.sort, small.fresh, small.overhead) > 0
    assert all(rates.best > 0 for rates in small.rates.values())
    assert Ceilings.from_json(json.loads(json.dumps(small.as_json()))) == small


def test_amounts_are_what_a_call_does(monkeypatch):
    monkeypatch.setattr(ceilings_measured, "SPANS", {"cpu": (1 << 20,)})
    monkeypatch.setattr(ceilings_measured, "WIDTHS", {"cpu": (1, 32)})
    jobs = {job.ceiling: job for job in ceilings_measured._jobs("cpu", ("float32",))}
    assert jobs["float32", 32, 1, 32].amount == 2 * 32 * 32
    assert jobs["float32", 32, 1, 32].call().shape == (32, 32)
    assert (
        jobs["gathers", 128, 1 << 20].call().numel() * 32 * 4
        == jobs["gathers", 128, 1 << 20].amount
    )
    assert jobs["changes", 128, 1 << 20].amount == 2 * jobs["gathers", 128, 1 << 20].amount
    assert jobs["copies", 1 << 20].amount == 1 << 20


def test_the_fastest_of_several_ways_and_turns_counts(monkeypatch):
    times = iter([3.0] * 3 + [2.0] * 3 + [1.0] * 3 + [5.0] * 3)
    monkeypatch.setattr(ceilings_measured, "TURNS", 2)
    monkeypatch.setattr(ceilings_measured, "_once", lambda call: next(times))
    job = ceilings_measured.Job(("copies", 1), lambda: None, 10.0)
    assert ceilings_measured._rates([job, job], "cpu", 0.0) == {("copies", 1): 10.0}


def test_rows_are_read_by_torch_and_by_the_kernel_that_changes_them():
    row, span = ceilings_measured.ROWS["cpu"][0], ceilings_measured.SPANS["cpu"][0]
    memory = torch.rand(span // 4)
    first, second, change = itertools.islice(ceilings_measured._rows("cpu", memory), 3)
    assert first.ceiling == second.ceiling == ("gathers", row, span)
    assert change.ceiling == ("changes", row, span)
    fused = kernels.choose("auto", memory)
    assert [job.call.args[0] for job in (first, second, change)] == [
        ceilings_measured._bags, fused.forward, fused
    ]  # fmt: skip


def test_ceilings_can_be_changed_by_hand():
    assert replace(SHEET, overhead=1e-6).overhead == 1e-6
