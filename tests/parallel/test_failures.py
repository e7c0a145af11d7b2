"""A rank that dies, stalls, leaves or strays: every survivor says who it was, and stops in time.

Here the ranks are forked, without torchrun, which would end survivors before they speak; so does a
run over several nodes. All runs go on at once, since they mostly wait.
"""

import multiprocessing
import queue
import re
import sys
import time
from datetime import timedelta

import psutil
import pytest
from torch.distributed import TCPStore

from tests.parallel import failing

SIZE = 3
TIMEOUT, LONG = 6.0, 60.0  # where the time has to run out, and where it must not
IN_TIME = 30  # a machine with other things to do forks and wakes slowly
PLACE = "rank 1 step 2, after its 5th collective, all_reduce"
OTHER = "rank 0 step 2, in its 6th collective, all_to_all"
STALLS = ("is stopped", "pauses", "loops", "enters another")
# Mode of rank 1 -> what survivors say.
SAYINGS = {
    "is killed": "Rank 1 has died",
    "exits": "Rank 1 has died",
    "is stopped": "Rank 1 has been stopped by a signal (SIGSTOP)",
    "pauses": f"Rank 1 did not come to rank X's 6th collective, all_to_all, within {TIMEOUT:g} s",
    "loops": f"Rank 1 did not come to rank X's 6th collective, all_to_all, within {TIMEOUT:g} s",
    "leaves": "Rank 1 has left in good order",
    "raises": "Rank 1 has stopped with this error: KeyError: 'C3'",
    "raises UserError": "Rank 1 has stopped with this error: Feature C3: id 7 is out of range.",
    "enters another": "As their 6th collective the ranks have entered different ones",
    "expects more": "rank 1 expects 2 rows of () from rank 2, and got less",
}  # fmt: skip


class Run:
    """One run of ranks; the store is with us, as it is with torchrun's agent."""

    def __init__(self, mode, culprit=1, store=True):
        context = multiprocessing.get_context("forkserver")
        self.answers = context.Queue()
        kept = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False,
                        timeout=timedelta(seconds=60))  # fmt: skip
        port, self.store = kept.port, kept if store else None
        del kept
        environment = {
            "WORLD_SIZE": str(SIZE), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
            "TORCHELASTIC_USE_AGENT_STORE": str(store),
        }  # fmt: skip
        self.ranks = [
            context.Process(
                target=failing.as_forked,
                daemon=True,
                args=(
                    mode,
                    culprit,
                    environment | {"RANK": str(rank)},
                    TIMEOUT if mode in STALLS else LONG,
                    self.answers,
                ),
            )
            for rank in range(SIZE)
        ]
        self.start = time.monotonic()
        for rank in self.ranks:
            rank.start()
        self.culprit = culprit

    def said(self):
        """Survivor -> what it said; all have ended by themselves then."""
        found = {}
        while not set(range(SIZE)) - {self.culprit} <= set(found):
            try:
                rank, sentence = self.answers.get(timeout=self.start + IN_TIME - time.monotonic())
            except queue.Empty:
                raise AssertionError(f"in {IN_TIME} s only {found}") from None
            found[rank] = sentence
        for place, rank in enumerate(self.ranks):
            if place != self.culprit:
                rank.join(10)
                assert rank.exitcode == 0
        return found

    def end(self):
        for rank in self.ranks:
            rank.kill()
            rank.join()


@pytest.fixture(scope="module")
def runs():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.parallel.failing"])
    found = {}
    try:
        for mode in SAYINGS:
            found[mode] = Run(mode)
        found["rank 0 dies and takes the store along"] = Run("is killed", culprit=0, store=False)
        found["is fine"] = Run("is fine", culprit=None)
        yield found
    finally:
        for run in found.values():
            run.end()


@pytest.mark.parametrize("mode", SAYINGS)
def test_every_survivor_names_the_rank_and_how_far_each_had_come(runs, mode):
    if mode == "is stopped" and sys.platform != "linux":
        pytest.skip("only Linux tells who is stopped")
    said = runs[mode].said()
    sentence = said[0]
    assert said[2] == sentence  # the first to find out is right
    pattern = re.escape(SAYINGS[mode]).replace("X", "[02]")
    assert re.search(pattern, sentence), sentence
    assert "How far each had come: rank 0 step " in sentence
    if mode not in ("enters another", "expects more"):
        assert PLACE in sentence
    if mode in ("pauses", "loops", "is stopped"):
        assert OTHER in sentence


def test_the_death_of_the_rank_that_keeps_the_store_is_told_as_well(runs):
    said = runs["rank 0 dies and takes the store along"].said()
    for rank in (1, 2):
        assert f"Rank {rank} of 3 (step 2, in its 6th collective, all_to_all)" in said[rank]
        assert "the launcher, torchrun or rank 0 has died" in said[rank]


def test_without_a_failure_all_come_to_their_end(runs):
    assert set(runs["is fine"].said().values()) == {"came to its end"}


def test_survivors_leave_no_process_behind(runs):
    for mode in ("is killed", "leaves", "is fine"):
        for rank in runs[mode].ranks:
            rank.join(10)
            assert not psutil.pid_exists(rank.pid)
