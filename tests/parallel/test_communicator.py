"""Each collective and its mirror, against the same thing computed in one piece."""

from itertools import accumulate, pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dlrm_mini.errors import UserError
from dlrm_mini.parallel.simulated import SimulatedCluster
from dlrm_mini.parallel.traffic import OPERATIONS, Traffic, ring_sends

SEEDS = st.integers(0, 2**31)


@st.composite
def splits(draw, most: int = 5):
    """(P, P) rows from each rank to each rank."""
    size = draw(st.integers(1, most))
    row = st.lists(st.integers(0, 4), min_size=size, max_size=size)
    return draw(st.lists(row, min_size=size, max_size=size))


def made(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def shuffled(inputs, sends):
    """What an all_to_all is: slices put together."""
    ends = [[0, *accumulate(send)] for send in sends]
    return [
        torch.cat([rows[at[rank] : at[rank + 1]] for rows, at in zip(inputs, ends, strict=True)])
        for rank in range(len(inputs))
    ]


def in_one_piece(operation, inputs, sends):
    size = len(inputs)
    if operation == "all_to_all":
        return shuffled(inputs, sends)
    if operation == "all_gather":
        return [torch.cat(inputs)] * size
    if operation == "broadcast":
        return [inputs[size - 1]] * size
    total = torch.stack(inputs).sum(0)
    return list(total.chunk(size)) if operation == "reduce_scatter" else [total] * size


def together(comm, operation, tensor, sends):
    if operation == "all_to_all":
        return comm.all_to_all(tensor, sends[comm.rank], [send[comm.rank] for send in sends])
    if operation == "broadcast":
        return comm.broadcast(tensor, comm.size - 1)
    return getattr(comm, operation)(tensor)


def rows_of(operation, sends, rank):
    return {"all_to_all": sum(sends[rank]), "reduce_scatter": 2 * len(sends)}.get(operation, 3)


COLLECTIVES = [name for name in OPERATIONS if name != "barrier"]


@pytest.mark.parametrize("operation", COLLECTIVES)
@settings(deadline=None, max_examples=40)
@given(splits(), SEEDS)
def test_a_collective_and_its_mirror_are_what_one_process_computes(operation, sends, seed):
    size = len(sends)
    inputs = [made(seed + r, rows_of(operation, sends, r), 2).requires_grad_() for r in range(size)]
    expected = in_one_piece(operation, inputs, sends)
    weights = [made(seed - 1 - rank, *one.shape) for rank, one in enumerate(expected)]
    loss = sum((one * w).sum() for one, w in zip(expected, weights, strict=True))
    gradients = torch.autograd.grad(loss, inputs, materialize_grads=True)

    def live(comm):
        own = inputs[comm.rank].detach().clone().requires_grad_()
        result = together(comm, operation, own, sends)
        (result * weights[comm.rank]).sum().backward()
        return result.detach(), own.grad

    for rank, (result, gradient) in enumerate(SimulatedCluster(size).run(live)):
        torch.testing.assert_close(result, expected[rank], rtol=0, atol=1e-12)
        torch.testing.assert_close(gradient, gradients[rank], rtol=0, atol=1e-12)


@pytest.mark.parametrize("operation", COLLECTIVES)
def test_a_mirror_is_the_slope_of_the_sum_of_all_losses(operation):
    sends = [[1, 0, 2], [3, 1, 0], [0, 2, 1]]
    inputs = [made(rank, rows_of(operation, sends, rank)) for rank in range(3)]

    def losses(comm, given):
        own = given[comm.rank].clone().requires_grad_()
        result = together(comm, operation, own, sends)
        loss = (torch.sin(result) * (1 + comm.rank)).sum()
        loss.backward()
        return loss.item(), own.grad

    def run(given):
        return SimulatedCluster(3).run(lambda comm: losses(comm, given))

    found = [gradient for _, gradient in run(inputs)]
    step = 1e-6
    for rank, own in enumerate(inputs):
        for place in range(len(own)):
            ahead, back = ([x.clone() for x in inputs] for _ in range(2))
            ahead[rank][place] += step
            back[rank][place] -= step
            rise = sum(a - b for (a, _), (b, _) in zip(run(ahead), run(back), strict=True))
            assert rise / (2 * step) == pytest.approx(found[rank][place].item(), abs=1e-8)


@settings(deadline=None, max_examples=40)
@given(splits(), SEEDS)
def test_an_all_to_all_there_and_back_changes_nothing(sends, seed):
    def live(comm):
        send, receive = sends[comm.rank], [send[comm.rank] for send in sends]
        rows = made(seed + comm.rank, sum(send), 3)
        back = comm.all_to_all(comm.all_to_all(rows, send, receive), receive, send)
        assert torch.equal(back, rows)

    SimulatedCluster(len(sends)).run(live)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 6), st.integers(0, 3), SEEDS)
def test_an_all_reduce_is_a_reduce_scatter_and_then_an_all_gather(size, rows, seed):
    def live(comm):
        tensor = made(seed + comm.rank, rows * size, 2)
        shared = comm.all_gather(comm.reduce_scatter(tensor))
        assert torch.equal(shared, comm.all_reduce(tensor))
        two, one = comm.traffic.messages, comm.traffic.sent
        following = (comm.rank + 1) % size
        either = ("reduce_scatter", "all_gather")
        assert sum(two[name, following] for name in either) == two["all_reduce", following]
        assert sum(one[name, following] for name in either) == one["all_reduce", following]

    SimulatedCluster(size).run(live)


def test_whole_numbers_and_half_ones_go_through():
    def live(comm):
        ids = torch.arange(4) + 10 * comm.rank
        shuffled = comm.all_to_all(ids, [1, 3], [1, 1] if comm.rank == 0 else [3, 3])
        halves = comm.all_reduce(torch.ones(2, dtype=torch.bfloat16))
        assert not shuffled.requires_grad and shuffled.dtype == torch.int64
        assert halves.dtype == torch.bfloat16
        return shuffled.tolist(), halves.tolist(), comm.all_gather(ids[:1]).tolist()

    first, second = SimulatedCluster(2).run(live)
    assert first == ([0, 10], [2, 2], [0, 10])
    assert second == ([1, 2, 3, 11, 12, 13], [2, 2], [0, 10])


def test_nobody_shares_memory_with_anybody():
    given = [torch.zeros(2) for _ in range(3)]

    def live(comm):
        tensor = given[comm.rank]
        with torch.no_grad():
            found = [
                comm.all_reduce(tensor), comm.all_gather(tensor), comm.broadcast(tensor),
                comm.all_to_all(tensor, [2 * (q == comm.rank) for q in range(3)],
                                [2 * (q == comm.rank) for q in range(3)]),
            ]  # fmt: skip
        for result in found:
            assert not result.any()
            result += comm.rank + 1
        comm.barrier()
        assert all((result == comm.rank + 1).all() for result in found)

    SimulatedCluster(3).run(live)
    assert not any(tensor.any() for tensor in given)


def test_a_gradient_that_is_not_contiguous_goes_through():
    def live(comm):
        own = torch.ones(4, 2, requires_grad=True)
        comm.all_to_all(own.T.contiguous().T, [2, 2], [2, 2]).sum().backward()
        return own.grad

    assert all((gradient == 1).all() for gradient in SimulatedCluster(2).run(live))


def test_a_rank_whose_tensor_needs_no_gradient_still_answers_the_others():
    def live(comm):
        own = torch.ones(3, requires_grad=comm.rank != 1)
        loss = (comm.all_gather(own) * (comm.rank + 1)).sum()
        loss.backward()
        return own.grad

    first, second, third = SimulatedCluster(3).run(live)
    assert second is None
    assert first.tolist() == third.tolist() == [6, 6, 6]


def test_without_gradients_there_is_no_mirror():
    cluster = SimulatedCluster(2)
    with torch.no_grad():
        results = cluster.run(lambda comm: comm.all_reduce(torch.ones(2, requires_grad=True)))
    assert not any(result.requires_grad for result in results)
    assert [traffic.calls["all_reduce"] for traffic in cluster.traffic] == [1, 1]


def test_mirrors_have_mirrors():
    def live(comm):
        own = made(comm.rank, 2).requires_grad_()
        weight = made(5 + comm.rank, 2).requires_grad_()
        loss = (comm.all_to_all(own, [1, 1], [1, 1]) * weight).sum()
        (slope,) = torch.autograd.grad(loss, own, create_graph=True)
        (slope * (comm.rank + 1)).sum().backward()  # through the first mirror
        return weight.grad - torch.tensor([1.0, 2.0], dtype=torch.float64)  # whose slope it is

    for difference in SimulatedCluster(2).run(live):
        torch.testing.assert_close(difference, torch.zeros_like(difference))


def test_traffic_is_what_the_formulas_say():
    size, cluster = 4, SimulatedCluster(4)

    def live(comm):
        comm.all_to_all(torch.zeros(10, 3), [1, 2, 3, 4], [comm.rank + 1] * 4)
        comm.all_reduce(torch.zeros(8, dtype=torch.float64))
        comm.all_gather(torch.zeros(5, dtype=torch.int64))
        comm.reduce_scatter(torch.zeros(12, 2))
        comm.broadcast(torch.zeros(7), root=2)
        comm.barrier()

    cluster.run(live)
    for rank, traffic in enumerate(cluster.traffic):
        following = (rank + 1) % size
        for q in range(size):
            expected = 0 if q == rank else (q + 1) * 3 * 4
            assert traffic.sent["all_to_all", q] == expected
            assert traffic.messages["all_to_all", q] == (q != rank)
        assert traffic.sent["all_reduce", following] == 2 * 3 * 8 * 8 // size
        assert traffic.messages["all_reduce", following] == 2 * 3
        assert traffic.sent["all_gather", following] == 3 * 5 * 8
        assert traffic.messages["all_gather", following] == 3
        assert traffic.sent["reduce_scatter", following] == 3 * 12 * 2 * 4 // size
        assert traffic.messages["reduce_scatter", following] == 3
        for q in range(size):
            assert traffic.sent["broadcast", q] == 7 * 4 * (rank == 2) * (q != 2)
        assert traffic.calls == dict.fromkeys(OPERATIONS, 1)
        assert sum(traffic.by_operation().values()) == traffic.total()
    assert "broadcast" not in cluster.traffic[0].by_operation()
    assert cluster.links().sum() == sum(traffic.total() for traffic in cluster.traffic)


def test_nothing_is_sent_for_no_rows_or_to_nobody_else():
    cluster = SimulatedCluster(2)
    cluster.run(lambda comm: comm.all_to_all(torch.zeros(0, 2), [0, 0], [0, 0]))
    assert not cluster.traffic[0].messages and cluster.traffic[0].calls["all_to_all"] == 1
    alone = SimulatedCluster(1)
    alone.run(lambda comm: comm.all_reduce(comm.all_gather(comm.reduce_scatter(torch.ones(3)))))
    assert alone.traffic[0].total() == 0 and alone.seconds == 0


@given(st.integers(2, 9), st.integers(0, 100))
def test_a_ring_sends_the_same_in_all_however_the_pieces_fall(size, numbers):
    sent = [ring_sends("all_reduce", rank, size, numbers, 4) for rank in range(size)]
    pieces = [high - low for low, high in pairwise(i * numbers // size for i in range(size + 1))]
    assert sum(number for one in sent for number, _ in one.values()) == 8 * (size - 1) * numbers
    for rank, one in enumerate(sent):  # played through: what goes where, step by step
        held, bytes_sent = rank, 0
        for _ in range(2 * (size - 1)):
            bytes_sent += 4 * pieces[held % size]
            held -= 1
        # after P - 1 steps the rank's own sum, piece r + 1, goes round: the same countdown
        assert one == {(rank + 1) % size: (bytes_sent, 2 * (size - 1))}


def test_what_a_rank_gives_is_checked_before_anything_moves():
    def refused(call, *words):
        cluster = SimulatedCluster(2)
        with pytest.raises(UserError) as caught:
            cluster.run(call)
        assert all(word in str(caught.value) for word in ("Rank 0 ", *words)), caught.value
        assert cluster.traffic[0] == Traffic()

    rows = torch.zeros(3, 2)
    refused(lambda comm: comm.all_to_all(rows, [1, 1], [1, 1]), "3 rows", "send=[1, 1]")
    refused(lambda comm: comm.all_to_all(rows, [1, 1, 1], [1, 1]), "send=[1, 1, 1]", "2 numbers")
    refused(lambda comm: comm.all_to_all(rows, [4, -1], [1, 1]), "none below 0")
    refused(lambda comm: comm.all_to_all(rows, [1, 2], [1]), "receive=[1]")
    refused(lambda comm: comm.all_to_all(torch.tensor(1.0), [1, 0], [1, 0]), "single number")
    refused(lambda comm: comm.all_gather(torch.tensor(1.0)), "all_gather", "reshape(1)")
    refused(lambda comm: comm.reduce_scatter(rows), "3 rows", "2 rows for each")
    refused(lambda comm: comm.broadcast(rows, root=2), "rank 2", "0..1")
