"""Chapter 11: the paper's training step on GPUs, predicted from data sheets or as recorded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dlrm_mini.claims import Verdict
from dlrm_mini.models.dlrm_presets import PRESETS
from dlrm_mini.pictures.gpu_steps import Ladder, Run, Sweep
from dlrm_mini.pictures.step_time import NEGLIGIBLE
from dlrm_mini.profiling import counts, roofline
from dlrm_mini.profiling.ceilings import Ceilings
from dlrm_mini.profiling.known_hardware import KNOWN, PAPER_GPU
from dlrm_mini.profiling.parts import grouped
from dlrm_mini.profiling.plans import ARMS, LADDER
from dlrm_mini.profiling.workload import Workload

CARD = "H100 80 GB"  # of `KNOWN`, where no GPU was recorded
RUNGS = tuple(arm for arm in LADDER["cuda"] if arm not in ("float16", "prefetch"))
SIZES = [2**power for power in range(5, 16)]
PAPER = (("two Xeon Gold 6138, Caffe2", 256.0), ("V100, Caffe2", 62.0))  # s, Naumov et al. 2019
Record = Mapping[str, Any]


def workload(arm: str = "fused", batch_size: int = 2048, model: str = "profile") -> Workload:
    """A published model, trained in one of the suite's ways."""
    return Workload(PRESETS[model](), batch_size).but(**ARMS[arm].changes)


def predicted(
    card: str, arm: str = "fused", batch_size: int = 2048, model: str = "profile"
) -> dict[str, float]:
    """Part of a step -> ms, at the ceilings of a card's data sheet (a key of `KNOWN`)."""
    return roofline.predict(workload(arm, batch_size, model), KNOWN[card])


def fully_connected(parts: Mapping[str, float]) -> float:
    """Their share of a step; where the dense part is one, the interaction is among them."""
    groups = grouped(parts)
    return groups["fully connected"] / sum(groups.values())


def idle_share(of: Workload, ceilings: Ceilings) -> float:
    """Share of a predicted step in which a GPU waits for launches.

    A part whose work takes less time than asking for it leaves the device waiting for the rest.
    """
    gaps = whole = 0.0
    for part in counts.count(of, "cuda").values():
        terms = roofline.explain(part, ceilings, of.precision)
        asked, sent = terms.pop("operations"), terms.pop("transfer")
        worked = sum(terms.values())
        gaps += max(asked - worked, 0)
        whole += max(asked, worked) + sent
    return gaps / whole


def machine(one: Record) -> str:
    """The hardware of a record in a few words."""
    hardware, results = one["hardware"], one["results"]
    if results["device"] == "cuda":
        return str(hardware["gpu"])
    threads = results["threads"]
    return f"{hardware['cpu']}, {threads} thread{'s' if threads > 1 else ''}"


def rows(entries: Iterable[Record]) -> str:
    """How large the tables of recorded steps were, against the published ones."""
    scales = sorted({float(entry["scale"]) for entry in entries})
    if scales == [1]:
        return "full size"
    return f"{', '.join(f'{scale:g}' for scale in scales)} of the rows"


def measured(one: Record) -> dict[str, Record]:
    """Arm -> what a machine recorded of it on the paper's profile configuration."""
    return {
        entry["arm"]: entry
        for entry in one["results"]["entries"]
        if entry["preset"] == entry["configuration"] == "profile"
    }


def ladder(gpus: Sequence[Record]) -> Ladder:
    """The rungs at full size: on the first card recorded, else predicted for `CARD`."""
    shown = [one for one in gpus if any(arm in RUNGS for arm in measured(one))]
    if not shown:
        predictions = {arm: sum(predicted(CARD, arm).values()) for arm in RUNGS}
        return Ladder(f"full size,\n{CARD}, predicted", {}, predictions)
    found = {arm: entry for arm, entry in measured(shown[0]).items() if arm in RUNGS}
    return Ladder(
        f"{rows(found.values())},\n{machine(shown[0])}",
        {arm: entry["ms"] for arm, entry in found.items()},
        {
            arm: sum(entry["predicted_ms"].values())
            for arm, entry in found.items()
            if entry["predicted_ms"]
        },
    )


def sweeps(gpus: Sequence[Record], cpus: Sequence[Record]) -> dict[str, Sweep]:
    """What was trained where -> steps by batch size: predicted, and as recorded.

    Args:
        gpus: recorded there; the first of them is shown.
        cpus: recorded there; the first of them is shown, where nobody waits for launches.
    """
    found = {
        f"{card}, {arm}": Sweep(
            SIZES,
            [sum(predicted(card, arm, size).values()) for size in SIZES],
            [idle_share(workload(arm, size), KNOWN[card]) for size in SIZES],
            measured=False,
        )
        for card, arm in ((PAPER_GPU, "fused"), (CARD, "fused"), (CARD, "graphed"))
    }
    for one in (*gpus[:1], *cpus[:1]):
        for arm in ("fused", "graphed"):
            if mine := _swept(one, arm):
                found[f"{machine(one)}, {arm}, {rows(mine)}"] = Sweep(
                    [e["sweep"]["value"] for e in mine], [e["ms"] for e in mine],
                    _idle(mine) if one["results"]["device"] == "cuda" else None, measured=True,
                )  # fmt: skip
    return found


def _swept(one: Record, arm: str) -> list[Record]:
    """The recorded steps of one way with several batches, from small to large."""
    swept = (e for e in one["results"]["entries"] if e["sweep"] and e["arm"] == arm)
    mine = (entry for entry in swept if entry["sweep"]["knob"] == "batch")
    return sorted(mine, key=lambda entry: int(entry["sweep"]["value"]))


def _idle(entries: Sequence[Record]) -> list[float] | None:
    """The share of each in which the device waited, if all were profiled."""
    shown = [entry["breakdown"] for entry in entries]
    if not all(shown):
        return None
    return [one["parts"].get("idle", 0.0) / one["wall_ms"] for one in shown]


def thousand(live: Run, cpus: Sequence[Record], gpus: Sequence[Record]) -> list[Run]:
    """A thousand batches of the paper's configuration, wherever it was trained or is predicted.

    A step of so many milliseconds is a thousand of them of so many seconds.

    Args:
        live: the reader's own machine.
        cpus: recorded there.
        gpus: recorded there; the last row is of the first of them, else of `CARD`.
    """
    runs = [Run(name, seconds, None, "published") for name, seconds in PAPER]
    runs.append(live)
    runs += [_run(one, "fused") for one in cpus if "fused" in measured(one)]
    arms = {PAPER_GPU: ("sparse", "fused", "float16"), CARD: ("fused", "graphed")}
    for card in arms:
        for arm in arms[card]:
            parts = predicted(card, arm)
            runs.append(Run(f"{card}, {arm}", sum(parts.values()), parts, "predicted"))
    for one in reversed(gpus):
        shown = [arm for arm in ("sparse", "fused", "graphed") if arm in measured(one)]
        runs += [_run(one, arm) for arm in shown]
    return runs


def _run(one: Record, arm: str) -> Run:
    entry = measured(one)[arm]
    parts = entry["breakdown"] and entry["breakdown"]["parts"]
    size = rows([entry])
    name = f"{machine(one)}, {arm}" + ("" if size == "full size" else f", {size}")
    return Run(name, entry["ms"], parts, "extrapolated")


def judge(gpus: Sequence[Record]) -> tuple[Verdict, str]:
    """What was measured, or else predicted, does to the claim about the fully connected layers."""
    if not gpus:
        cases = ((PAPER_GPU, "fused"), (CARD, "fused"), (PAPER_GPU, "float16"), (CARD, "graphed"))
        words = ", ".join(
            f"{fully_connected(predicted(card, arm)):.0%} of a step ({card}, {arm})"
            for card, arm in cases
        )
        return "not yet measured", f"no GPU has been recorded; ceilings predict {words}"
    shares = {
        f"{machine(one)} ({one['date']})": {
            arm: round(fully_connected(entry["breakdown"]["parts"]), 2)
            for arm, entry in measured(one).items()
            if arm in RUNGS and entry["breakdown"]
        }
        for one in gpus
    }
    every = [share for arms in shares.values() for share in arms.values()]
    if not every:
        return "not yet measured", "a GPU has been recorded, but not the paper's configuration"
    low = [share < NEGLIGIBLE for share in every]
    found: Verdict = "holds" if all(low) else "holds when" if any(low) else "does not hold"
    words = "; ".join(
        f"on {name} " + ", ".join(f"{arm} {share:.0%}" for arm, share in arms.items())
        for name, arms in shares.items()
        if arms
    )
    return found, f"below {NEGLIGIBLE:.0%} of a step is negligible; they take, {words}"
