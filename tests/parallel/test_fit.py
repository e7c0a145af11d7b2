"""Fitting alpha and beta: samples of a known link give it back; real processes give samples."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlrm_mini.errors import UserError
from dlrm_mini.parallel.fit import (
    MEASURED,
    SIZES,
    Sample,
    fit_link,
    fit_samples,
    measure_collectives,
    residual,
)
from dlrm_mini.parallel.topology import Link, Topology


def samples_of(link: Link, processes: int, noise: float = 0.0) -> list[Sample]:
    generator = np.random.default_rng(0)
    found = []
    for operation in MEASURED:
        for nbytes in SIZES:
            exact = Sample(operation, processes, nbytes, 1.0)
            factor = 1 + noise * generator.uniform(-1, 1)
            found.append(replace(exact, seconds=factor * exact.predicted(link)))
    return found


@settings(max_examples=50, deadline=None)
@given(st.floats(1e-7, 1e-2), st.floats(1e6, 1e12), st.integers(2, 16))
def test_a_known_link_comes_back(alpha, beta, processes):
    link = Link("known", alpha, beta, "made up")
    fitted = fit_samples(samples_of(link, processes))
    for found in (fitted.link, *fitted.links.values()):
        # Where one of the two never matters it cannot be found, and does not have to be.
        if processes * alpha > 1e-6 * SIZES[-1] / beta:
            assert found.alpha == pytest.approx(alpha, rel=1e-3)
        if SIZES[-1] / processes / beta > 1e-6 * alpha:
            assert found.beta == pytest.approx(beta, rel=1e-3)
    assert fitted.residual.worst < 1e-6


@pytest.mark.parametrize("processes", [2, 4, 7])
def test_a_sample_is_what_the_topology_predicts(processes):
    link = Link("any", 3e-5, 2e9, "made up")
    where = Topology(processes, processes, link, link)
    for sample in samples_of(link, processes):
        given = sample.nbytes
        if sample.operation == "all_to_all":
            given = np.full((processes, processes), sample.nbytes / processes)
        assert sample.seconds == pytest.approx(where.seconds(sample.operation, given))


def test_noise_is_found_again_in_the_residual():
    link = Link("known", 5e-5, 1e9, "made up")
    fitted = fit_samples(samples_of(link, 2, noise=0.2))
    assert fitted.link.alpha == pytest.approx(5e-5, rel=0.2)
    assert fitted.link.beta == pytest.approx(1e9, rel=0.2)
    assert 0.05 < fitted.residual.typical < fitted.residual.worst < 0.3
    assert fitted.residual == residual(fitted.samples, fitted.link)


def test_small_errors_of_large_messages_do_not_decide_alpha():
    """What least squares of absolute errors would get wrong."""
    link = Link("known", 1e-4, 1e9, "made up")
    samples = samples_of(link, 2)
    samples = [replace(s, seconds=s.seconds * (1.03 if s.nbytes == SIZES[-1] else 1))
               for s in samples]  # fmt: skip
    counts = np.array([(s.messages, s.moved) for s in samples])
    absolute = np.linalg.lstsq(counts, np.array([s.seconds for s in samples]), rcond=None)[0][0]
    assert fit_link(samples).alpha == pytest.approx(1e-4, rel=0.02)
    assert abs(absolute - 1e-4) > 3 * abs(fit_link(samples).alpha - 1e-4)


def test_alpha_is_never_negative():
    samples = [Sample("all_to_all", 2, n, 1e-9 * n**1.5) for n in SIZES]
    assert fit_link(samples).alpha == 0
    assert fit_link(samples).beta > 0


def test_what_no_line_goes_through_is_said():
    with pytest.raises(UserError, match="at least two sizes"):
        fit_link([Sample("all_reduce", 2, 1024, 1e-4)] * 3)
    with pytest.raises(UserError, match="no longer than small ones"):
        fit_link([Sample("all_reduce", 2, n, 1 / n) for n in SIZES])
    with pytest.raises(UserError, match="at least 2 processes"):
        measure_collectives(1)
    with pytest.raises(UserError, match="expected some of"):
        measure_collectives(2, operations=("broadcast",))


def test_two_processes_are_measured():
    samples = measure_collectives(2, (1000, 100_000), repeats=3, timeout=120)
    assert [(s.operation, s.nbytes) for s in samples] == [
        (name, nbytes) for nbytes in (1000, 100_000) for name in MEASURED
    ]
    assert all(0 < s.seconds < 60 and s.processes == 2 for s in samples)


def test_a_fitted_link_makes_a_topology():
    fitted = fit_samples(samples_of(Link("known", 5e-5, 1e9, "made up"), 2))
    where = fitted.topology(4, memory=1e9)
    assert (where.ranks, where.per_node, where.memory) == (4, 4, 1e9)
    assert where.seconds("all_reduce", 4e6) == pytest.approx(6 * (5e-5 + 1e6 / 1e9))
    assert fitted.topology().ranks == 2
    assert "2 processes" in str(fitted) and "2 processes" in fitted.link.source
