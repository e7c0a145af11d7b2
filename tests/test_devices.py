"""Devices: what is chosen, what is refused, and what is warned of."""

import pytest
import torch

from dlrm_mini import devices
from dlrm_mini.errors import UserError


def has(monkeypatch, *, cuda=False, mps=False):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(("cuda", "expected"), [(True, "cuda"), (False, "cpu")])
def test_auto_is_cuda_where_there_is_one_and_never_mps(monkeypatch, recwarn, cuda, expected):
    has(monkeypatch, cuda=cuda, mps=True)
    assert devices.choose() == torch.device(expected) == devices.choose("auto")
    assert not recwarn.list


def test_what_was_asked_for_is_taken(monkeypatch):
    has(monkeypatch, cuda=True, mps=True)
    assert devices.choose("cpu") == torch.device("cpu")
    assert devices.choose("cuda") == torch.device("cuda")
    with pytest.warns(UserWarning, match="On mps, results may differ from the course's"):
        assert devices.choose("mps") == torch.device("mps")


@pytest.mark.parametrize(("name", "kind"), [("cuda", "GPU"), ("mps", "Apple GPU")])
def test_a_device_that_is_not_there(monkeypatch, name, kind):
    has(monkeypatch)
    with pytest.raises(UserError, match=f"The device is {name}, but torch finds no {kind} here"):
        devices.choose(name)


def test_a_device_that_nobody_knows():
    with pytest.raises(UserError, match="There is no device 'gpu'; expected one of auto, cpu, cu"):
        devices.choose("gpu")


def test_waiting_on_a_cpu_is_over_at_once():
    devices.synchronize(torch.device("cpu"))
    devices.waiter(torch.device("cpu"))()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="Needs a GPU.")
def test_waiting_for_what_came_before_only():
    device = torch.device("cuda")
    before = torch.cuda.Event(), torch.cuda.Event()
    busy = torch.randn(4096, 4096, device=device)
    busy @ busy
    before[0].record()
    wait = devices.waiter(device)
    for _ in range(50):
        busy @ busy
    before[1].record()
    wait()
    assert before[0].query() and not before[1].query()
    devices.synchronize(device)
    assert before[1].query()
