"""Seconds of collectives against sums written out message by message."""

import math

import numpy as np
import pytest

from dlrm_mini.errors import UserError
from dlrm_mini.parallel.topology import LINKS, Link, Topology, topology

FAST = Link("fast", 1e-6, 1e9, "made up")
SLOW = Link("slow", 1e-5, 1e8, "made up")
TWO_NODES = Topology(6, 4, FAST, SLOW)  # the second node is half full


def test_who_is_where():
    assert [TWO_NODES.node_of(rank) for rank in range(6)] == [0, 0, 0, 0, 1, 1]
    assert TWO_NODES.nodes == 2
    assert TWO_NODES.link(0, 3) is FAST and TWO_NODES.link(3, 4) is SLOW


def test_rings_wait_for_their_slowest_link():
    n, inside = 6000, Topology(4, 4, FAST, SLOW)
    for operation, steps in (("all_gather", 5), ("reduce_scatter", 5), ("all_reduce", 10)):
        assert TWO_NODES.seconds(operation, n) == pytest.approx(steps * (1e-5 + 1000 / 1e8))
    assert inside.seconds("all_reduce", 4000) == pytest.approx(6 * (1e-6 + 1000 / 1e9))
    # a node each: nothing is inside, however slow that would be
    assert Topology(4, 1, SLOW, FAST).seconds("all_reduce", 4000) == pytest.approx(6 * 2e-6)


@pytest.mark.parametrize("seed", range(5))
def test_an_all_to_all_takes_as_long_as_its_busiest_port(seed):
    nbytes = np.random.default_rng(seed).integers(0, 3, (6, 6)) * 5000.0
    ports = []
    for rank in range(6):
        for together, link in ((True, FAST), (False, SLOW)):
            others = [
                q for q in range(6)
                if q != rank and (TWO_NODES.node_of(q) == TWO_NODES.node_of(rank)) == together
            ]  # fmt: skip
            for sent in ([nbytes[rank, q] for q in others], [nbytes[q, rank] for q in others]):
                ports.append(sum(link.alpha + number / link.beta for number in sent if number))
    assert TWO_NODES.seconds("all_to_all", nbytes) == pytest.approx(max(ports))


def test_what_stays_at_home_takes_no_time():
    assert TWO_NODES.seconds("all_to_all", np.eye(6) * 1e9) == 0
    for operation in ("all_reduce", "all_gather", "reduce_scatter", "broadcast", "barrier"):
        assert (
            topology("10 Gbit/s", 1).seconds(operation, 0 if operation == "barrier" else 1e9) == 0
        )
    assert topology("10 Gbit/s", 1).seconds("all_to_all", [[1e9]]) == 0


def test_a_broadcast_leaves_through_one_port():
    expected = max(3 * (1e-6 + 1000 / 1e9), 2 * (1e-5 + 1000 / 1e8))
    assert TWO_NODES.seconds("broadcast", 1000) == pytest.approx(expected)


@pytest.mark.parametrize("ranks", [2, 3, 8, 9])
def test_a_barrier_takes_a_latency_a_doubling(ranks):
    found = Topology(ranks, 1, FAST, SLOW).seconds("barrier")
    assert found == pytest.approx(math.ceil(math.log2(ranks)) * 1e-5)


def test_links_are_as_their_sources_say():
    assert LINKS["PCIe"].beta == pytest.approx(15.75e9, rel=1e-3)
    assert LINKS["100 Gbit/s"].beta == 12.5e9 and LINKS["10 Gbit/s"].beta == 1.25e9
    assert [link.alpha for link in LINKS.values()] == [3.4e-6, 5.7e-6, 9.6e-6, 10e-6]
    assert all("alpha: " in link.source and "beta: " in link.source for link in LINKS.values())


def test_eight_ranks_of_the_known_example():
    """26 tables of width 128 in float32, 2,048 rows on each of 8 ranks: 23.9 MB each way."""
    nbytes = np.full((8, 8), 26 / 8 * 128 * 4 * 2048)
    sent = (nbytes * (1 - np.eye(8)))[0].sum()
    assert sent == pytest.approx(23.9e6, rel=5e-3)
    for name, milliseconds in (("NVLink", 0.16), ("PCIe", 3.0), ("100 Gbit/s", 3.8)):
        link, found = LINKS[name], 2 * topology(name, 8).seconds("all_to_all", nbytes)
        assert found == pytest.approx(2 * (7 * link.alpha + sent / link.beta))
        assert found - 14 * link.alpha == pytest.approx(milliseconds / 1e3, rel=0.02)


def test_topologies_by_name():
    mixed = topology("NVLink + 100 Gbit/s", 16, memory=1e9)
    assert (mixed.per_node, mixed.nodes, mixed.memory) == (8, 2, 1e9)
    assert (mixed.inside, mixed.across) == (LINKS["NVLink"], LINKS["100 Gbit/s"])
    assert topology("PCIe", 4).nodes == 1 and topology("10 Gbit/s", 4).nodes == 4
    assert topology("10 Gbit/s", 4, per_node=2).nodes == 2
    for wrong in ("Token Ring", "NVLink + PCIe + 10 Gbit/s"):
        with pytest.raises(UserError, match="expected one of NVLink, PCIe"):
            topology(wrong, 4)


def test_wrong_questions():
    with pytest.raises(UserError, match="0 ranks"):
        topology("NVLink", 0)
    with pytest.raises(UserError, match="no operation 'gather'"):
        TWO_NODES.seconds("gather", 1)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"shape \(\); expected \(6, 6\)"):
        TWO_NODES.seconds("all_to_all", 1)
    with pytest.raises(UserError, match=r"shape \(2,\)"):
        TWO_NODES.seconds("all_reduce", [1, 2])
