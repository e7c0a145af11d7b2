"""The simulated cluster: turns, clocks, and what happens to a rank that breaks the rules."""

import doctest
import os
import signal
import threading

import pytest
import torch

from dlrm_mini.errors import UserError
from dlrm_mini.parallel import simulated
from dlrm_mini.parallel.baton import named, ordinal
from dlrm_mini.parallel.simulated import SimulatedCluster
from dlrm_mini.parallel.topology import Link, Topology, topology

SLOW = Link("slow", 1.0, 10.0, "made up")  # one second, and ten bytes a second


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = threading.enumerate()
    yield
    assert threading.enumerate() == before


def refused(move, size: int = 4) -> str:
    cluster = SimulatedCluster(size)
    with pytest.raises(UserError) as caught:
        cluster.run(move)
    assert cluster.run(lambda comm: comm.rank) == list(range(size))  # it is usable again
    return str(caught.value)


def some(*ranks):
    """A collective that only these ranks enter, the third."""

    def move(comm):
        comm.barrier()
        comm.all_reduce(torch.ones(2))
        if comm.rank in ranks:
            comm.all_to_all(torch.ones(4), [1] * 4, [1] * 4)

    return move


def test_a_rank_that_has_ended_is_named():
    assert refused(some(0, 2, 3)).startswith(
        "Rank 1 has ended, while ranks 0, 2 and 3 wait in their 3rd collective, all_to_all."
    )
    assert refused(some(2)).startswith(
        "Ranks 0, 1 and 3 have ended, while rank 2 waits in its 3rd collective, all_to_all."
    )


def test_ranks_in_different_collectives_are_named():
    def move(comm):
        return comm.all_reduce(torch.ones(4)) if comm.rank == 0 else comm.barrier()

    assert refused(move).startswith(
        "As their 1st collective, rank 0 entered all_reduce, and ranks 1-3 entered barrier."
    )

    def late(comm):
        if comm.rank == 3:
            return
        comm.all_gather(torch.ones(4)) if comm.rank == 1 else comm.barrier()

    assert refused(late).startswith(
        "Rank 3 has ended, while ranks 0 and 2 wait in their 1st collective, barrier, and rank 1 "
        "waits in its 1st collective, all_gather."
    )


def test_splits_that_do_not_fit_are_named():
    def move(comm):
        send = [1, 1, 4, 1] if comm.rank == 0 else [1, 1, 1, 1]
        receive = [3, 1, 1, 1] if comm.rank == 2 else [1, 1, 1, 1]
        comm.all_to_all(torch.ones(sum(send), 2), send, receive)

    assert refused(move) == "In all_to_all, rank 0 sends 4 rows to rank 2, which expects 3."

    def all_wrong(comm):
        comm.all_to_all(torch.ones(4), [1] * 4, [2] * 4)

    assert "(16 such pairs)" in refused(all_wrong)


def test_tensors_that_do_not_fit_are_named():
    def shape(comm):
        comm.all_reduce(torch.ones(3, 4 + (comm.rank == 2)))

    words = refused(shape)
    assert "rank 0 gives (3, 4) of float32, and rank 2 (3, 5) of float32" in words

    def kind(comm):
        dtype = torch.float64 if comm.rank == 1 else torch.float32
        comm.all_to_all(torch.ones(4, dtype=dtype), [1] * 4, [1] * 4)

    words = refused(kind)
    assert "and rank 1 (4,) of float64" in words and "but for the number of rows" in words
    assert "rank 3 takes rank 1" in refused(lambda c: c.broadcast(torch.ones(1), c.rank // 3))


def test_a_mirror_that_not_all_enter_is_named():
    def move(comm):
        loss = comm.all_reduce(torch.ones(2, requires_grad=True)).sum()
        if comm.rank != 3:
            loss.backward()

    expected = "ranks 0-2 wait in their 2nd collective, all_reduce in backward."
    assert refused(move).startswith(f"Rank 3 has ended, while {expected}")

    def without(comm):
        with torch.set_grad_enabled(comm.rank != 0):
            loss = comm.all_reduce(torch.ones(2, requires_grad=True)).sum()
        if loss.requires_grad:
            loss.backward()

    expected = "ranks 1-3 wait in their 2nd collective, all_reduce in backward."
    assert refused(without).startswith(f"Rank 0 has ended, while {expected}")


def test_forward_and_backward_never_meet():
    def move(comm):
        loss = comm.all_reduce(torch.ones(2, requires_grad=True)).sum()
        if comm.rank == 1:
            comm.all_reduce(torch.ones(2))
        loss.backward()

    expected = "ranks 0, 2 and 3 entered all_reduce in backward, and rank 1 entered all_reduce."
    assert refused(move).startswith(f"As their 2nd collective, {expected}")


def test_an_error_of_one_rank_ends_all_and_names_it():
    ended = []

    def move(comm):
        try:
            comm.barrier()
            if comm.rank == 2:
                raise ZeroDivisionError("by nothing")
            comm.barrier()
        finally:
            ended.append(comm.rank)

    with pytest.raises(ZeroDivisionError, match="by nothing") as caught:
        SimulatedCluster(4).run(move)
    assert caught.value.__notes__ == ["This was raised by rank 2."]
    assert sorted(ended) == [0, 1, 2, 3]


def test_an_error_in_backward_or_before_the_first_turn_does_the_same():
    def backward(comm):
        shared = comm.all_reduce(torch.ones(2, requires_grad=True))
        shared.register_hook(lambda gradient: 1 / 0 if comm.rank == 2 else gradient)
        shared.sum().backward()

    with pytest.raises(ZeroDivisionError):
        SimulatedCluster(4).run(backward)
    with pytest.raises(KeyError):
        SimulatedCluster(4).run(lambda comm: {}["nothing"])


def test_an_error_for_the_reader_says_the_rank_once():
    def move(comm):
        if comm.rank == 1:
            raise UserError("The file is gone.")
        comm.barrier()

    assert refused(move) == "Rank 1: The file is gone."
    assert refused(lambda c: c.broadcast(torch.ones(1), 9)).startswith("Rank 0 calls broadcast")


def test_an_error_for_the_reader_stays_of_its_kind():
    class GoneError(UserError):
        pass

    def move(comm):
        if comm.rank == 1:
            raise GoneError("The file is gone.")
        comm.barrier()

    with pytest.raises(GoneError, match=r"^Rank 1: The file is gone\.$"):
        SimulatedCluster(2).run(move)


def test_an_interrupt_ends_all_threads():
    """As from a notebook's stop button, while a rank computes and the others wait."""
    finished = []

    def move(comm):
        if comm.rank == 2:
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(100_000_000):  # seconds, unless it is stopped
                pass
            finished.append(comm.rank)
        comm.barrier()

    cluster = SimulatedCluster(4)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job may ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            cluster.run(move)
    finally:
        signal.signal(signal.SIGINT, before)
    assert not finished
    assert cluster.run(lambda comm: comm.rank) == [0, 1, 2, 3]


def test_a_rank_that_swallows_everything_cannot_go_on_alone():
    reached = []

    def move(comm):
        if comm.rank == 3:
            raise ValueError("wrong")
        for _ in range(2):
            try:
                comm.barrier()
            except BaseException:
                reached.append(comm.rank)

    with pytest.raises(ValueError, match="wrong"):
        SimulatedCluster(4).run(move)
    assert sorted(reached) == [0, 0, 1, 1, 2, 2]


def test_outside_of_a_run_nobody_answers():
    cluster = SimulatedCluster(2)
    losses = cluster.run(lambda comm: comm.all_reduce(torch.ones(2, requires_grad=True)).sum())
    with pytest.raises(UserError, match=r"Rank 1 enters all_reduce outside of .*Backward"):
        losses[1].backward()
    with pytest.raises(UserError, match="running already"):
        cluster.run(lambda comm: cluster.run(lambda inner: None))
    with pytest.raises(UserError, match="not its own"):
        cluster.run(lambda comm: cluster.communicators[1 - comm.rank].barrier())
    other = SimulatedCluster(3)
    nested = cluster.run(lambda comm: other.run(lambda inner: inner.rank + 10 * comm.rank))
    assert nested == [[0, 1, 2], [10, 11, 12]]


def test_ranks_take_turns_in_order():
    order = []

    def move(comm):
        for place in range(3):
            order.append((place, comm.rank))
            comm.barrier()
        order.append((3, comm.rank))

    SimulatedCluster(3).run(move)
    assert order == sorted(order)


def test_what_torch_keeps_for_a_thread_is_the_callers():
    def found(comm):
        shared = comm.all_reduce(torch.ones(1))
        return shared.requires_grad, shared.dtype, torch.is_grad_enabled()

    torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad():
            assert SimulatedCluster(2).run(found) == [(False, torch.float64, False)] * 2
        assert SimulatedCluster(2).run(found) == [(True, torch.float64, True)] * 2
    finally:
        torch.set_default_dtype(torch.float32)


def train(comm):
    torch.manual_seed(3) if comm.rank == 0 else None
    weight = torch.randn(6, 2, requires_grad=True)  # one generator: the order of turns decides
    for _ in range(3):
        with comm.part("bottom MLP", 0.25 * (1 + comm.rank)):
            hidden = torch.tanh(weight)
        mixed = comm.all_to_all(hidden, *[[6 // comm.size] * comm.size] * 2)
        mixed.square().sum().backward()
        with torch.no_grad():
            weight -= 0.1 * comm.all_reduce(weight.grad)
    return weight.detach()


def test_a_run_is_the_same_every_time():
    first, second = SimulatedCluster(3), SimulatedCluster(3)
    for one, other in zip(first.run(train), second.run(train), strict=True):
        assert torch.equal(one, other)
    assert first.events == second.events and first.clocks == second.clocks
    assert first.traffic == second.traffic


def test_the_clock():
    cluster = SimulatedCluster(Topology(2, 1, SLOW, SLOW))

    def move(comm):
        split = [[2, 1], [1, 1]][comm.rank]
        with comm.part("lookups", 2.0 + comm.rank):
            pass
        with comm.part("not timed"):
            comm.all_to_all(torch.zeros(sum(split)), split, split)
        with comm.part("top MLP", 0.5 * comm.rank):
            pass

    cluster.run(move)
    assert [(e.rank, e.name, e.start, e.end, e.kind, e.sent) for e in cluster.events] == [
        (0, "lookups", 0, 2, "compute", 0),
        (1, "lookups", 0, 3, "compute", 0),
        (0, "all_to_all", 3, 3 + 1 + 4 / 10, "communication", 4),
        (1, "all_to_all", 3, 3 + 1 + 4 / 10, "communication", 4),
        (1, "top MLP", 4.4, 4.9, "compute", 0),
    ]
    assert cluster.clocks == [4.4, 4.9] and cluster.seconds == 4.9
    cluster.reset()
    assert cluster.seconds == 0 and not cluster.events and not cluster.traffic[1].total()
    with pytest.raises(UserError, match="spends -1 seconds on 'x'"):
        cluster.run(lambda comm: comm.part("x", -1).__enter__())


def test_a_cluster_knows_what_parts_take_that_do_not_say():
    cluster = SimulatedCluster(2, compute=lambda rank, part: {"lookups": 1.0 + rank}.get(part, 0))

    def move(comm):
        for name, seconds in (("lookups", 0), ("lookups", 4.0), ("other", 0)):
            with comm.part(name, seconds):
                pass

    cluster.run(move)
    assert cluster.clocks == [5, 6] and len(cluster.events) == 4


def test_events_sent_and_links_agree():
    cluster = SimulatedCluster(topology("NVLink + 10 Gbit/s", 4, per_node=2))

    def move(comm):
        comm.all_reduce(torch.ones(5, requires_grad=True)).sum().backward()
        comm.all_to_all(torch.zeros(4, 3), [1] * 4, [1] * 4)
        comm.broadcast(torch.zeros(3), root=1)

    cluster.run(move)
    for rank in range(4):
        sent = sum(event.sent for event in cluster.events if event.rank == rank)
        assert sent == cluster.traffic[rank].total() == cluster.links()[rank].sum()
    assert not cluster.links().diagonal().any()
    assert cluster.traffic[0].calls == {"all_reduce": 2, "all_to_all": 1, "broadcast": 1}


def test_memory_is_metered_for_each_rank():
    cluster = SimulatedCluster(Topology(2, 2, SLOW, SLOW, memory=100))

    def move(comm):
        comm.hold("a", 60 + comm.rank, rows=10)
        comm.hold("b", 40)

    with pytest.raises(UserError, match="Rank 1 cannot hold b: it takes 40 bytes, and 39 of"):
        cluster.run(move)
    assert cluster.memory[0].held == {"a": 60, "b": 40}
    assert cluster.memory[1].held == {"a": 61}
    cluster.run(lambda comm: comm.release("a"))
    assert [meter.used for meter in cluster.memory] == [40, 0]


def test_eight_ranks_compute_and_128_account():
    results = SimulatedCluster(8).run(
        lambda comm: comm.all_reduce(torch.ones(64, 64)) @ torch.eye(64)
    )
    assert all((result == 8).all() for result in results)
    cluster = SimulatedCluster(topology("NVLink + 100 Gbit/s", 128))
    rows, width = 16, 32

    def account(comm):
        vectors = torch.empty(128 * rows, width, device="meta", requires_grad=True)
        received = comm.all_to_all(vectors, [rows] * 128, [rows] * 128)
        assert received.shape == vectors.shape
        received.sum().backward()
        assert vectors.grad.shape == vectors.shape

    cluster.run(account)
    links = cluster.links()
    assert (links.diagonal() == 0).all()
    assert links.sum() == 2 * 128 * 127 * rows * width * 4
    across = 120 * rows * width * 4
    assert cluster.seconds == pytest.approx(2 * (120 * 9.6e-6 + across / 12.5e9))


def test_the_example_in_the_documentation():
    found = doctest.testmod(simulated, extraglobs={"torch": torch})
    assert found.attempted == 3 and not found.failed


def test_numbers_in_words():
    assert [named(ranks) for ranks in ([3], [0, 2], [0, 1], [1, 2, 3], [0, 2, 4, 5, 6])] == [
        "rank 3", "ranks 0 and 2", "ranks 0 and 1", "ranks 1-3", "ranks 0, 2 and 4-6"
    ]  # fmt: skip
    found = [ordinal(n) for n in (1, 2, 3, 4, 11, 12, 13, 21, 102, 111)]
    assert found == ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "102nd", "111th"]
