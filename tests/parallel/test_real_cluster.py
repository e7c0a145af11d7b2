"""Work in processes of their own, and what chapter 15 lets them do: as simulated ranks do it.

Two launches: one of several works, and one in which a rank dies.
"""

import re
from functools import partial

import pytest
import torch

from dlrm_mini.errors import UserError
from dlrm_mini.models.dlrm import DLRM, random_batch
from dlrm_mini.models.dlrm_config import DLRMConfig
from dlrm_mini.parallel import real_steps, sharded_checkpoints, wire
from dlrm_mini.parallel.events import Event
from dlrm_mini.parallel.real_cluster import RealCluster
from dlrm_mini.parallel.real_steps import Death, Job, Stepped
from dlrm_mini.parallel.recorded import WAITING, Recorded, waiting_apart
from dlrm_mini.parallel.sharding import Placement, Plan
from dlrm_mini.parallel.simulated import SimulatedCluster

CONFIG = DLRMConfig(3, {"user": 20, "item": 9}, 8, bottom=(8,), top=(1,))
BATCHES = [random_batch(CONFIG, size, seed) for seed, size in enumerate((12, 12, 7))]
ROWS, SIZE, EPOCHS = random_batch(CONFIG, 96, 7), 16, 2  # six steps an epoch


def plan(size):
    by_rows = Placement("row-wise", tuple(range(size)))
    placements = {"user": by_rows, "item": Placement("table-wise", (size - 1,))}
    return Plan(size, CONFIG.cardinalities, CONFIG.dim, placements)


def job(size, rule="sgd"):
    torch.manual_seed(0)
    return Job(CONFIG, plan(size), DLRM(CONFIG).state_dict(), rule, 0.1)


def works(size):
    train = partial(real_steps.train, job(size), BATCHES)
    return [
        train,
        partial(real_steps.watched, train),
        partial(real_steps.unequal, job(size), BATCHES),
        partial(real_steps.timed, CONFIG, plan(size), (8, 32), 3),
        partial(real_steps.sampled, (1024, 8192), 1),
    ]


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.fixture(scope="module")
def real():
    cluster = RealCluster(2)
    found = cluster.run(partial(real_steps.several, works(2)))
    assert cluster.seconds > 0
    return found


@pytest.fixture(scope="module")
def simulated():
    return SimulatedCluster(2).run(partial(real_steps.several, works(2)[:3]))


def test_processes_train_as_simulated_ranks_do_bit_by_bit(real, simulated):
    for rank in (0, 1):
        ours, theirs = real[rank][0], simulated[rank][0]
        assert ours.losses == theirs.losses and len(ours.losses) == 3
        assert ours.sent == theirs.sent and ours.sent["all_to_all"] > 0
    assert equal(real[0][0].weights, simulated[0][0].weights)
    assert not equal(real[0][0].weights, job(2).start) and real[1][0].weights is None


def test_what_is_watched_is_the_same_training(real, simulated):
    (trained, crossed), *_ = (rank[1] for rank in real)
    assert equal(trained.weights, real[0][0].weights)
    counted = sum(sum(rank[1][0].sent.values()) for rank in real)
    assert crossed > counted or not wire.COUNTERS.exists()


def test_where_the_kernel_does_not_count_it_says_minus_one(monkeypatch):
    def refuse():
        raise UserError("no table")

    monkeypatch.setattr(real_steps, "loopback_bytes", refuse)
    assert SimulatedCluster(1).run(partial(real_steps.watched, lambda comm: 7)) == [(7, -1)]


def test_a_rank_without_a_last_batch_is_named_on_all(real, simulated):
    sentences = {rank[2] for rank in (*real, *simulated)}
    assert len(sentences) == 1
    assert sentences.pop().startswith("The batches of rank 1 have ended, and rank 0 has one more.")


def test_steps_are_timed_on_all_ranks_together(real):
    for size in (8, 32):
        steps = [rank[3][size] for rank in real]
        assert [len(mine) for mine in steps] == [3, 3]
        assert [one.seconds for one in steps[0]] == [one.seconds for one in steps[1]]
        for ranks in zip(*steps, strict=True):
            begun = min(event.start for one in ranks for event in one.events)
            ended = max(event.end for one in ranks for event in one.events)
            assert 0 < ended - begun <= ranks[0].seconds
        typical = real_steps.typical(steps)
        assert sorted(one.seconds for one in steps[0])[1] == typical.seconds
        shares = real_steps.breakdown(typical)
        assert {"communication", "lookups", "dense part", "table update"} <= shares.keys()
        assert sum(shares.values()) < typical.seconds * 1.001


def test_links_are_measured_on_the_way(real):
    samples = real[0][4]
    assert samples == real[1][4] and len(samples) == 6
    assert all(one.seconds > 0 and one.processes == 2 for one in samples)
    assert {one.nbytes for one in samples} == {1024, 8192}


def test_work_that_cannot_be_handed_over_is_refused():
    with pytest.raises(UserError, match="cannot be handed to another process"):
        RealCluster(2).run(lambda comm: comm.rank)


def trained_on(folder, death=None):
    return partial(real_steps.trained_on, job(2, "rowwise_adagrad"), ROWS, SIZE, EPOCHS, folder,
                   death)  # fmt: skip


def test_a_killed_run_is_named_and_goes_on_to_the_same_weights(tmp_path):
    calm, _ = SimulatedCluster(2).run(trained_on(tmp_path / "calm"))
    folder = tmp_path / "killed"
    with pytest.raises(UserError, match="Rank 1 has died, killed by SIGKILL") as caught:
        RealCluster(2).run(trained_on(folder, Death(1, 12)))  # an epoch is six steps and an end
    assert re.search(r"rank 0 step 12, in its \d+th collective, all_gather", str(caught.value))
    (left, heard), (own, died) = (
        torch.load(folder / f"diary-{rank}.pt", weights_only=False) for rank in (0, 1)
    )
    assert heard > died and max(event.end for event in own) < died
    assert left[-1].name == "all_gather" and left[-1].end > died  # it waited for who had gone
    assert real_steps.steps_of(left) == real_steps.steps_of(own) == 10

    resumed, _ = SimulatedCluster(2).run(trained_on(folder))
    assert equal(resumed, calm) and equal(sharded_checkpoints.gather(folder / "kept"), calm)
    again, _ = torch.load(folder / "diary-0.pt", weights_only=False)
    assert real_steps.steps_of(again) == 3  # the last checkpoint was after nine


def test_a_diary_has_parts_and_collectives_in_order():
    def live(comm):
        diary = Recorded(comm)
        with diary.part("lookups"):
            pass
        diary.all_to_all(torch.ones(4), [2, 2], [2, 2])
        diary.all_reduce(torch.ones(4))
        diary.all_gather(torch.ones(4))
        diary.reduce_scatter(torch.ones(4))
        diary.broadcast(torch.ones(4))
        diary.barrier()
        assert diary.traffic.by_operation() == comm.traffic.by_operation()
        return diary.events

    cluster = SimulatedCluster(2)
    for rank, events in enumerate(cluster.run(live)):
        assert [(event.name, event.kind, event.sent) for event in events] == [
            ("lookups", "compute", 0),
            ("all_to_all", "communication", 8),
            ("all_reduce", "communication", 16),
            ("all_gather", "communication", 16),
            ("reduce_scatter", "communication", 8),
            ("broadcast", "communication", 16 * (1 - rank)),
            ("barrier", "communication", 0),
        ]
        assert all(event.rank == rank and event.end >= event.start for event in events)
    assert all(traffic.calls["all_to_all"] == 1 for traffic in cluster.traffic)


def test_waiting_is_what_comes_before_the_last():
    events = [
        Event(0, "lookups", 5.0, 6.0, "compute"),
        Event(0, "all_reduce", 6.0, 9.0, "communication", 4),
        Event(1, "all_reduce", 8.0, 9.5, "communication", 4),
    ]
    assert waiting_apart(events) == [
        Event(0, "lookups", 0.0, 1.0, "compute"),
        Event(0, WAITING, 1.0, 3.0, "compute"),
        Event(0, "all_reduce", 3.0, 4.0, "communication", 4),
        Event(1, "all_reduce", 3.0, 4.5, "communication", 4),
    ]
    shares = real_steps.breakdown(Stepped(4.5, waiting_apart(events)))
    assert shares == {"lookups": 0.5, WAITING: 1.0, "communication": 1.25}
