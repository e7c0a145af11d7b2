"""Real processes train to the weights of a single device, as simulated ranks do.

One run of 2 and one of 4 processes, each through all its cases.
"""

import sys
from pathlib import Path

import pytest
import torch

from dlrm_mini.parallel import launch, process_group
from dlrm_mini.parallel.simulated import SimulatedCluster
from tests.parallel.cases import LONG, SHORT, Case, check, placed, train

MISTAKEN = "with the P-fold mistake"
COUNTED = "traffic of all cases"


def cases(size):
    found = {name: case for name, case in (SHORT | LONG).items() if case.size == size}
    return found | {MISTAKEN: Case(size, placed("table-wise", size), mistake=True)}


@pytest.fixture(scope="module", params=[2, 4])
def trained(request, tmp_path_factory):
    """Case -> losses and weights at the end; and what each rank has sent."""
    folder = tmp_path_factory.mktemp("trained")
    launch.run("tests.parallel.test_parity_gloo", request.param, [str(folder)], timeout=300)
    return request.param, [torch.load(folder / f"{rank}.pt") for rank in range(request.param)]


def test_processes_train_to_the_weights_of_one_device(trained):
    size, ranks = trained
    assert len(cases(size)) > 10
    for name, case in cases(size).items():
        if name != MISTAKEN:
            check(case, *ranks[0][name])


def test_the_mistake_is_seen(trained):
    size, ranks = trained
    with pytest.raises(AssertionError):
        check(cases(size)[MISTAKEN], *ranks[0][MISTAKEN])


def test_all_ranks_have_the_same_losses(trained):
    size, ranks = trained
    for name in cases(size):
        assert all(rank[name][0] == ranks[0][name][0] for rank in ranks)


def test_traffic_equals_the_simulated_one(trained):
    size, ranks = trained
    cluster = SimulatedCluster(size)
    for case in cases(size).values():
        cluster.run(lambda comm, case=case: train(case, comm))
    for rank, traffic in zip(ranks, cluster.traffic, strict=True):
        assert rank[COUNTED] == (traffic.by_operation(), dict(traffic.sent), dict(traffic.calls))


if __name__ == "__main__":
    with process_group.connect() as communicator:
        found = {name: train(case, communicator) for name, case in cases(communicator.size).items()}
        traffic = communicator.traffic
        found[COUNTED] = traffic.by_operation(), dict(traffic.sent), dict(traffic.calls)
        torch.save(found, Path(sys.argv[1]) / f"{communicator.rank}.pt")
    process_group.leave()
