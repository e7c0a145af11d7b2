"""Alpha and beta of the reader's own machine, from collectives between its processes.

The model says that a collective takes a number of messages times alpha, and a number of bytes over
beta (`Topology.seconds`). Both numbers are known, so that alpha and 1 / beta are found by linear
least squares. It is the *relative* error that is made small: otherwise the largest messages, which
take a thousand times longer, would decide alone. What is left over is said with the result; it
shows where a machine is not a line.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dlrm_mini.errors import UserError
from dlrm_mini.hardware import describe
from dlrm_mini.parallel.launch import run
from dlrm_mini.parallel.topology import Link, Topology
from dlrm_mini.parallel.traffic import Operation

MEASURED: tuple[Operation, ...] = ("all_to_all", "all_reduce", "all_gather")
SIZES = tuple(1024 * 4**place for place in range(8))  # 1 kB to 16 MB
REPEATS = 15
WORKER = "dlrm_mini.parallel.fit_worker"


@dataclass(frozen=True)
class Sample:
    """One collective, measured.

    Attributes:
        operation: which one.
        processes: P.
        nbytes: of the whole: all that a rank gives to an all_to_all, its own share with it (each
            rank gets a P-th of it); the tensor that is reduced; the tensor that is gathered.
        seconds: until the last rank is done; the median of some repetitions.
    """

    operation: Operation
    processes: int
    nbytes: int
    seconds: float

    @property
    def messages(self) -> int:
        """What alpha is multiplied by."""
        return (1 + (self.operation == "all_reduce")) * (self.processes - 1)

    @property
    def moved(self) -> float:
        """What is divided by beta: bytes that go through a rank's port, one after the other."""
        return self.messages * self.nbytes / self.processes

    def predicted(self, link: Link) -> float:
        """Seconds by the model."""
        return link.seconds(self.moved, self.messages)


@dataclass(frozen=True)
class Residual:
    """How far a fitted line is from what was measured, relative to what was measured.

    Attributes:
        typical: the root of the mean square.
        worst: the largest, either way.
    """

    typical: float
    worst: float


@dataclass(frozen=True)
class Fitted:
    """What `fit` has found.

    Attributes:
        processes: P that were measured.
        hardware: the processor and how many of its cores could be used.
        samples: what was measured.
        link: of all operations together.
        residual: of `link`.
        links: operation -> a link of its own.
        residuals: of `links`.
    """

    processes: int
    hardware: str
    samples: tuple[Sample, ...]
    link: Link
    residual: Residual
    links: Mapping[Operation, Link]
    residuals: Mapping[Operation, Residual]

    def topology(self, ranks: int | None = None, memory: float | None = None) -> Topology:
        """Ranks on one node with the link of all operations; None: as many as were measured."""
        number = self.processes if ranks is None else ranks
        return Topology(number, number, self.link, self.link, memory)

    def __str__(self) -> str:
        lines = [f"{self.processes} processes on {self.hardware}"]
        for name, link, left in (
            *((name, link, self.residuals[name]) for name, link in self.links.items()),
            ("all of them", self.link, self.residual),
        ):
            lines.append(
                f"{name:12} alpha {1e6 * link.alpha:6.0f} us  beta {link.beta / 1e9:6.2f} GB/s  "
                f"off by {left.typical:.0%} (root mean square), {left.worst:.0%} at worst"
            )
        return "\n".join(lines)


def measure_collectives(
    processes: int = 2,
    sizes: Sequence[int] = SIZES,
    operations: Sequence[Operation] = MEASURED,
    *,
    repeats: int = REPEATS,
    timeout: float = 300.0,
) -> list[Sample]:
    """Run collectives between processes of this machine, one thread each, over gloo.

    All sizes and operations take turns, `repeats` times, so that a disturbance hits all of them.

    Args:
        processes: P, at least 2.
        sizes: bytes; rounded up to whole float32 numbers for each rank.
        operations: some of `MEASURED`.
        repeats: of which the medians are taken; one more goes before, to warm up.
        timeout: seconds for all of it.

    Raises:
        UserError: numbers or operations that cannot be measured, or a process has failed.
    """
    if processes < 2 or repeats < 1 or not sizes or min(sizes) < 1:
        raise UserError(
            f"{processes} processes, {repeats} repeats and sizes {tuple(sizes)}; expected at least "
            "2 processes, 1 repeat, and sizes of at least 1 byte."
        )
    if not operations or not set(operations) <= set(MEASURED):
        raise UserError(f"operations is {tuple(operations)}; expected some of {MEASURED}.")
    wanted = json.dumps({"sizes": list(sizes), "operations": list(operations), "repeats": repeats})
    found = json.loads(run(WORKER, processes, [wanted], timeout=timeout))
    return [Sample(name, processes, nbytes, seconds) for name, nbytes, seconds in found]


def fit_link(samples: Sequence[Sample], name: str = "fitted", source: str = "measured") -> Link:
    """The alpha and beta with the least mean square of relative errors, both at least 0.

    Raises:
        UserError: all samples are of one size, which no line goes through, or bytes cost nothing.
    """
    taken = np.array([sample.seconds for sample in samples])
    counts = np.array([(sample.messages, sample.moved) for sample in samples], dtype=float)
    if len({sample.nbytes for sample in samples}) < 2:
        raise UserError("Alpha and beta need samples of at least two sizes; measure more of them.")
    # Relative: every equation is divided by its seconds, so that all right-hand sides are 1.
    scaled, ones = counts / taken[:, None], np.ones(len(taken))
    unit = scaled.max(0)  # bytes are millions, messages a few
    (alpha, slowness), *_ = np.linalg.lstsq(scaled / unit, ones, rcond=None)
    if alpha < 0:  # then the best with alpha at its limit
        alpha, slowness = 0.0, _one(scaled[:, 1] / unit[1])
    if slowness <= 0:
        raise UserError(
            "Larger messages took no longer than small ones, so that nothing can be said about "
            "bandwidth. Measure larger ones."
        )
    return Link(name, float(alpha / unit[0]), float(unit[1] / slowness), source)


def _one(column: np.ndarray) -> float:
    """The x with the least mean square of column * x - 1."""
    return float(column.sum() / (column**2).sum())


def residual(samples: Sequence[Sample], link: Link) -> Residual:
    """How far a link's predictions are from samples."""
    errors = np.array([sample.predicted(link) / sample.seconds - 1 for sample in samples])
    return Residual(float(np.sqrt((errors**2).mean())), float(np.abs(errors).max()))


def fit(processes: int = 2, *, repeats: int = REPEATS, timeout: float = 300.0) -> Fitted:
    """Measure collectives on this machine and fit links to them; takes some seconds.

    Args:
        processes: P.
        repeats: as in `measure_collectives`.
        timeout: seconds for all of it.

    Raises:
        UserError: as `measure_collectives` and `fit_link`.
    """
    return fit_samples(measure_collectives(processes, repeats=repeats, timeout=timeout))


def fit_samples(samples: Sequence[Sample]) -> Fitted:
    """Links for samples that have been measured on this machine.

    Raises:
        UserError: as `fit_link`.
    """
    here = describe()
    hardware = f"{here['cpu']}, {here['cores']} cores"
    processes = samples[0].processes
    source = f"fitted to medians of gloo between {processes} processes on {hardware}"
    link = fit_link(samples, "gloo here", source)
    links: dict[Operation, Link] = {}
    residuals: dict[Operation, Residual] = {}
    for name in dict.fromkeys(sample.operation for sample in samples):
        mine = [sample for sample in samples if sample.operation == name]
        links[name] = fit_link(mine, f"gloo here, {name}", source)
        residuals[name] = residual(mine, links[name])
    return Fitted(
        processes, hardware, tuple(samples), link, residual(samples, link), links, residuals
    )
