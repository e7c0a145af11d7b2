"""Real processes say to each other what simulated ranks do, and send as much.

One run of 2 and one of 4 processes; what they do is in `every_collective`.
"""

import os

import pytest
import torch
from torch.distributed import TCPStore

from dlrm_mini.errors import UserError
from dlrm_mini.parallel import launch, process_group
from dlrm_mini.parallel.marks import mark, unmarked
from dlrm_mini.parallel.simulated import SimulatedCluster
from dlrm_mini.parallel.standing import Board, Standing
from dlrm_mini.parallel.traffic import OPERATIONS
from tests.parallel.every_collective import try_all


@pytest.fixture(scope="module", params=[2, 4])
def outcomes(request, tmp_path_factory):
    """What each process has found."""
    folder = tmp_path_factory.mktemp("ranks")
    launch.run("tests.parallel.every_collective", request.param, [str(folder)], timeout=120)
    return [torch.load(folder / f"{rank}.pt") for rank in range(request.param)]


@pytest.fixture(scope="module")
def simulated(outcomes):
    cluster = SimulatedCluster(len(outcomes))
    return cluster.run(try_all), cluster.traffic


def test_every_collective_and_its_mirror_equal_the_simulated_ones(outcomes, simulated):
    assert len(outcomes[0]["results"]) > 120
    for outcome, expected in zip(outcomes, simulated[0], strict=True):
        assert list(outcome["results"]) == list(expected)
        for name, tensor in expected.items():
            found = outcome["results"][name]
            assert found.dtype == tensor.dtype and torch.equal(found, tensor), name


def test_traffic_equals_the_simulated_one_by_operation_and_link(outcomes, simulated):
    for outcome, traffic in zip(outcomes, simulated[1], strict=True):
        assert outcome["traffic"] == traffic.by_operation()
        assert outcome["messages"] == dict(traffic.messages)


def test_traffic_is_what_torch_distributed_was_handed(outcomes):
    for operation in OPERATIONS:
        counted = [outcome["traffic"].get(operation, 0) for outcome in outcomes]
        handed = [outcome["handed"].get(operation, 0) for outcome in outcomes]
        assert sum(counted) == sum(handed) > 0 or operation == "barrier"
        if operation != "all_reduce":  # whose ring gives ranks uneven shares
            assert counted == handed


def test_traffic_is_what_crossed_the_loopback_interface(outcomes):
    """Never less than was counted; more by headers, 0.2 %, and by others who talk meanwhile."""
    for operation, (counted, passed) in (outcomes[0]["wire"] or {}).items():
        assert counted <= passed <= 1.25 * counted, operation
    if outcomes[0]["wire"] is None:
        pytest.skip("only Linux counts bytes by interface")


def test_parts_are_measured_without_what_runs_inside_them(outcomes):
    for outcome in outcomes:
        seconds = outcome["seconds"]
        assert seconds["inner"] > 0 and seconds["all_reduce"] > 0
        assert 0 <= seconds["outer"] < seconds["inner"]


def test_a_process_that_torchrun_has_not_started_is_told_so(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match=r"no rank of a run: RANK, WORLD_SIZE, MASTER_ADDR not set"):
        process_group.connect()
    assert "RANK" not in os.environ


def test_notes_say_the_same_in_a_file_and_in_a_store(tmp_path):
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    Board.blank(tmp_path / "notes", 4)
    boards = Board(store, 4), Board(store, 4, tmp_path / "notes")
    standings = [
        Standing(), Standing(step=0, calls=3, operation="barrier"),
        Standing(calls=10**6, operation="all_to_all", waiting=True),
    ]  # fmt: skip
    for board in boards:
        for rank, standing in enumerate(standings):
            board.write(rank, standing)
        assert board.read() == [*standings, Standing(connected=False)]
    assert Board(store, 4, tmp_path / "notes").read() == boards[0].read()


def test_an_error_without_words_is_told_by_its_kind():
    assert process_group.in_words(KeyboardInterrupt()) == "KeyboardInterrupt."
    assert process_group.in_words(KeyError("C3")) == "KeyError: 'C3'."
    assert process_group.in_words(UserError("No such file.")) == "No such file."


def test_nothing_that_torch_will_drop_is_called(outcomes):
    assert not any(outcome["warned"] for outcome in outcomes)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64])
@pytest.mark.parametrize("shape", [(), (3,), (2, 2)])
def test_marks_show_who_sent_too_little(dtype, shape):
    receive = [2, 0, 3, 1]
    result = torch.zeros((6, *shape), dtype=dtype)
    mark(result, receive)
    assert unmarked(result, receive) == [0, 2, 3]
    result[:2] = 1
    result[5] = torch.nan if dtype.is_floating_point else -1  # a NaN of ours is no mark
    assert unmarked(result, receive) == [2]


def test_what_cannot_be_marked_is_left_alone():
    for result in (torch.zeros(4, dtype=torch.bool), torch.zeros((4, 0)), torch.zeros(0)):
        mark(result, [len(result), 0])
        assert not result.any() and unmarked(result, [len(result), 0]) == []
