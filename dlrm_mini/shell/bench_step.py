"""`bench step`: measure training steps on this machine. Standard library only at the top.

It runs wherever torch and numpy are, with numba for a CPU or Triton for a GPU: a machine that is
lent for an hour needs no environment of its own.
"""

from __future__ import annotations

import argparse
import importlib.util
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from dlrm_mini.errors import UserError

PRESETS = ("profile", "kaggle", "rm1", "rm2", "rm3", "sweeps", "all", "tiny")
DEVICES = ("auto", "cpu", "cuda")
NEEDED = ("torch", "numpy")
STEP = "step"
STOPPED = "What was recorded before is kept; the same command begins anew."


def arguments(parser: argparse.ArgumentParser) -> None:
    """What can be said after `bench`."""
    what = "only these benchmarks; or 'step': training steps of DLRM on this machine"
    parser.add_argument("names", nargs="*", metavar="NAME", help=what)
    step = parser.add_argument_group("of bench step")
    preset = "what to measure (profile): a published model, sweeps, all of these, or tiny, a trial"
    step.add_argument("--preset", choices=PRESETS, help=preset)
    device = "where (auto: a GPU if there is one)"
    step.add_argument("--device", choices=DEVICES, help=device)
    record = "write data/measurements/steps_<device>_<hardware>.json, not only a table"
    step.add_argument("--record", action="store_true", help=record)


def runs_here(options: argparse.Namespace) -> bool:
    """Whether it is `bench step`, and this Python has all that it needs.

    On a CPU that is numba, too: "fused" would else be plain torch, and no kernel.
    """
    if getattr(options, "names", None) != [STEP]:
        return False
    kernels = {"cpu": ("numba",), "cuda": NEEDED}.get(options.device, ("numba", "triton"))
    return all(map(_there, NEEDED)) and any(map(_there, kernels))


def _there(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def bench_step(options: argparse.Namespace) -> int:
    """Measure, print the table, and record if asked to.

    Raises:
        UserError: no such device, a recorded file of other hardware or versions, or no place for
            one.
    """
    from dlrm_mini import devices
    from dlrm_mini.profiling import record
    from dlrm_mini.profiling.suite import Suite, planned, presets_of

    preset = options.preset or "profile"
    device: Any = devices.choose(options.device or "auto").type
    words = ["bench", "step", "--preset", preset, "--device", device]
    suite = Suite(device, shlex.join(["python", "-m", "dlrm_mini", *words, "--record"]))
    path = record.file_of(device, suite.about["hardware"])
    if options.record:  # before minutes are spent
        record.check_place(path)
        if path.exists():
            record.check_same(path, record.read(path), suite.about)
    suite.say(planned(preset, device, suite.budget))
    for one in presets_of(preset):
        made = suite.run(one)
        if options.record:
            record.write(path, made, suite.predict)
            suite.say(f"{one}: written to {path}")
        print(table(made["results"]), flush=True)
    return 0


def check(options: argparse.Namespace) -> None:
    """Raise a UserError where an option of `bench step` stands beside something else."""
    given = {"--preset": options.preset, "--device": options.device, "--record": options.record}
    for name, value in given.items():
        if value and options.names != [STEP]:
            found = " ".join(["bench", *options.names])
            raise UserError(f"{name} belongs to `bench step`; found `{found}`. Leave it out.")
    if STEP in options.names[1:] or options.names[:1] == [STEP] != options.names:
        raise UserError("`bench step` measures alone; name other benchmarks in another command.")


def table(results: Mapping[str, Any]) -> str:
    """The entries of a record as lines of text, and why arms were skipped."""
    head = ("configuration", "arm", "ms", "spread", "x sparse", "samples/s", "embeddings",
            "fully connected", "predicted ms", "launches", "loss within")  # fmt: skip
    lines = [head, *(_line(entry) for entry in results["entries"])]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    text = [
        "  ".join(
            cell.ljust(wide) if column < 2 else cell.rjust(wide)
            for column, (cell, wide) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    text += [
        f"skipped: {one['configuration']}, {one['arm']}: {one['reason']}"
        for one in results["skipped"]
    ]
    return "\n".join(text)


def _line(entry: Mapping[str, Any]) -> Sequence[str]:
    from dlrm_mini.profiling.parts import grouped

    shown, curve = entry["breakdown"], entry["curve"]
    groups = grouped(shown["parts"]) if shown else {}
    shares = [
        f"{100 * groups[name] / shown['wall_ms']:.0f} %" if groups else "-"
        for name in ("embeddings", "fully connected")
    ]
    ratios = sorted(entry["ratios"])
    beside = f"{ratios[len(ratios) // 2]:.2f}" if entry["against"] == "sparse" else "-"
    predicted = entry["predicted_ms"]
    return (
        entry["configuration"],
        entry["arm"],
        f"{entry['ms']:.4g}",
        f"{entry['spread_ms']:.2g}",
        beside,
        f"{entry['samples_per_s']:,.0f}",
        *shares,
        f"{sum(predicted.values()):.4g}" if predicted else "-",
        f"{shown['launches']:.0f}" if shown else "-",
        _within(curve) if curve else "-",
    )


def _within(curve: Mapping[str, float]) -> str:
    mark = "" if curve["deviation"] <= curve["tolerance"] else f", above {curve['tolerance']:.0e}!"
    return f"{curve['deviation']:.0e}{mark}"
