"""Two clocks: a pretended device behaves as a GPU does, and says when it worked."""

import threading
from itertools import pairwise

import pytest
import torch

from dlrm_mini.profiling import asynchronous
from dlrm_mini.profiling.asynchronous import PretendedDevice, Span, idle_share, open_device


def test_a_launch_does_not_wait_and_synchronize_does():
    device, gate, done = PretendedDevice(launch_seconds=0), threading.Event(), []
    device.launch(lambda: (gate.wait(10), done.append("first")))
    device.launch(lambda: done.append("second"))
    assert done == []  # here, though the work is stuck
    gate.set()
    device.synchronize()
    assert done == ["first", "second"]


def test_spans_are_in_order_and_work_begins_after_it_was_asked_for():
    device = PretendedDevice(launch_seconds=1e-4)
    x = torch.randn(50, 50)
    for _ in range(5):
        device.launch(lambda: x @ x)
    host, worked = device.spans()
    assert len(host) == len(worked) == 5
    for spans in (host, worked):
        assert all(span.begin <= span.end for span in spans)
        assert all(one.end <= other.begin for one, other in pairwise(spans))
    assert all(asked.end - asked.begin >= 1e-4 for asked in host)
    assert all(asked.begin <= work.begin for asked, work in zip(host, worked, strict=True))


def test_an_error_is_heard_where_somebody_waits_and_once():
    device, done = PretendedDevice(launch_seconds=0), []
    device.launch(lambda: 1 / 0)
    device.launch(lambda: done.append("goes on"))
    with pytest.raises(ZeroDivisionError):
        device.synchronize()
    device.synchronize()
    assert done == ["goes on"]


def test_idle_is_what_lies_between():
    assert idle_share([Span(1, 2), Span(2, 4)]) == 0
    assert idle_share([Span(1, 2), Span(4, 5)]) == 0.5


def test_only_a_cpu_has_a_pretended_device(monkeypatch):
    assert isinstance(open_device(torch.device("cpu")), PretendedDevice)
    monkeypatch.setattr(asynchronous, "CudaDevice", lambda device: ("real", device))
    assert open_device(torch.device("cuda")) == ("real", torch.device("cuda"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_real_device_has_the_same_clocks():
    gpu = torch.device("cuda")
    device = open_device(gpu)
    x = torch.randn(2048, 2048, device=gpu)
    for _ in range(5):
        device.launch(lambda: x @ x)
    host, worked = device.spans()
    assert len(host) == len(worked) == 5
    assert all(one.begin <= other.begin for one, other in pairwise(worked))
    assert 0 <= idle_share(worked) < 1
