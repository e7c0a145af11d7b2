"""A rank's memory: what is held, and what a thing that does not fit is told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlrm_mini.errors import UserError
from dlrm_mini.parallel.memory_meter import MemoryMeter


def refused(meter: MemoryMeter, *what) -> str:
    before, peak = dict(meter.held), meter.peak
    with pytest.raises(UserError) as caught:
        meter.hold(*what)
    assert (meter.held, meter.peak) == (before, peak)
    return str(caught.value)


def test_holding_and_giving_back():
    meter = MemoryMeter(0, 100)
    meter.hold("a", 70)
    meter.hold("b", 30)
    assert (meter.used, meter.free, meter.peak) == (100, 0, 100)
    meter.hold("a", 65)
    meter.hold("a", 70)  # more than is free, but not more than it makes free
    meter.release("a")
    meter.hold("b", 10)  # in the place of what it was
    assert (meter.used, meter.free, meter.peak) == (10, 90, 100)
    with pytest.raises(UserError, match="Rank 0 holds no a to give back; it holds b"):
        meter.release("a")
    assert MemoryMeter(1).free == float("inf")


def test_a_table_that_does_not_fit_is_told_what_would():
    meter = MemoryMeter(2, 100_000)
    meter.hold("MLPs", 36_000)
    assert refused(meter, "table 'C3'", 256_000, 1000) == (
        "Rank 2 cannot hold table 'C3': it takes 256,000 bytes (1,000 rows of 256), and 64,000 of "
        "the rank's 100,000 bytes are free, beside 1 other thing. What would fit: 250 of its rows, "
        "or all of them cut row-wise over 4 ranks with as much room."
    )
    assert refused(meter, "buffer", 70_000) == (
        "Rank 2 cannot hold buffer: it takes 70,000 bytes, and 64,000 of the rank's 100,000 "
        "bytes are free, beside 1 other thing. 6,000 bytes more are needed."
    )
    assert "Not one of its rows would fit" in refused(MemoryMeter(0, 10), "C1", 160, 10)
    assert "below 0" in refused(meter, "C1", -1)


@given(st.integers(1, 500), st.integers(1, 64), st.integers(0, 5000))
def test_what_is_said_to_fit_does_and_one_row_more_does_not(rows, width, limit):
    meter = MemoryMeter(0, limit)
    try:
        meter.hold("t", rows * width, rows)
        return
    except UserError as error:
        words = str(error)
    if "Not one" in words:
        assert width > limit
        return
    fits = int(words.split("would fit: ")[1].split(" ")[0].replace(",", ""))
    ranks = int(words.split("row-wise over ")[1].split(" ")[0])
    assert fits * width <= limit < (fits + 1) * width
    assert -(-rows // ranks) <= fits < -(-rows // (ranks - 1))
