"""`make torchrec`: one list, installed where there are wheels, with a sentence where it fails."""

import argparse
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from dlrm_mini import cli
from dlrm_mini.errors import UserError
from dlrm_mini.shell import torchrec

ROOT = Path(__file__).parents[1]
LINES = [
    line
    for line in (ROOT / torchrec.LIST).read_text().splitlines()
    if line and not line.startswith("#")
]
SYSTEMS = [
    ("Linux", "x86_64", (3, 11), True),
    ("Linux", "aarch64", (3, 13), True),
    ("Linux", "x86_64", (3, 15), False),
    ("Linux", "armv7l", (3, 11), False),
    ("Darwin", "arm64", (3, 11), False),
    ("Windows", "AMD64", (3, 13), False),
]


@pytest.fixture
def here(monkeypatch):
    """A system with packages, and a pip and a Python that only note what they are asked."""
    ran, answers = [], {}

    def run(command, **_):
        ran.append(command)
        kind = "pip" if "pip" in command else "import"
        status, said = answers.get(kind, (0, ""))
        return subprocess.CompletedProcess(command, status, "", said)

    monkeypatch.setattr(torchrec, "unavailable", lambda: None)
    monkeypatch.setattr(torchrec.subprocess, "run", run)
    return ran, answers


@pytest.mark.parametrize(("system", "machine", "python", "there"), SYSTEMS)
def test_pip_installs_all_or_nothing_as_the_sentence_says(
    monkeypatch, system, machine, python, there
):
    monkeypatch.setattr(torchrec.platform, "system", lambda: system)
    monkeypatch.setattr(torchrec.platform, "machine", lambda: machine)
    monkeypatch.setattr(torchrec.sys, "version_info", (*python, 0))
    why = torchrec.unavailable()
    assert (why is None) is there and (there or machine in why)
    words = {"sys_platform": {"Windows": "win32"}.get(system, system.lower())}
    words |= {"platform_machine": machine, "python_version": "{}.{}".format(*python)}
    for line in LINES:
        assert Requirement(line).marker.evaluate(words) is there, line


def test_the_list_is_pinned_to_what_the_course_has():
    """It is installed without dependencies: what both lists name must be one version."""
    course = dict(re.findall(r"^(\S+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.M))
    course = {canonicalize_name(name): version for name, version in course.items()}
    pins = torchrec.pins(ROOT)
    assert len(pins) == len(LINES) and {"torchrec", "fbgemm-gpu-cpu"} < pins.keys()
    shared = {name for name in pins if canonicalize_name(name) in course}
    assert shared >= {"tqdm", "mypy-extensions"}
    assert all(course[canonicalize_name(name)] == pins[name] for name in shared)
    assert course["torch"] == torchrec.TORCH
    assert "fbgemm-gpu" not in pins  # half a gigabyte


def test_what_is_missing_is_installed_once_without_dependencies_and_tried(
    here, monkeypatch, capsys
):
    ran, _ = here
    have = dict.fromkeys(torchrec.pins(ROOT), None)
    monkeypatch.setattr(torchrec, "installed", lambda name: have.get(name))
    assert torchrec.torchrec(argparse.Namespace()) == 0
    pip, trial = ran
    assert pip[:4] == [sys.executable, "-m", "pip", "install"]
    assert "--no-deps" in pip and pip[-1] == str(ROOT / torchrec.LIST)
    assert trial[1] == "-c" and capsys.readouterr().out.startswith("OK ")
    ran.clear()
    have |= torchrec.pins(ROOT)
    assert torchrec.torchrec(argparse.Namespace()) == 0 and ran == [trial]
    have["fbgemm-gpu-cpu"] = "1.9.0"
    assert "fbgemm-gpu-cpu is not there as" in torchrec.missing()


def test_what_goes_wrong_is_a_sentence_with_what_to_do(here, monkeypatch):
    _, answers = here
    monkeypatch.setattr(torchrec, "installed", lambda name: None)
    answers["pip"] = 3, ""
    with pytest.raises(UserError, match=r"pip ended with status 3.*--no-deps -r"):
        torchrec.torchrec(argparse.Namespace())
    answers |= {"pip": (0, ""), "import": (1, "Traceback\nOSError: undefined symbol: _ZN3c10")}
    with pytest.raises(UserError, match=r"undefined symbol.*built for torch 2\.13\.0"):
        torchrec.torchrec(argparse.Namespace())
    monkeypatch.setattr(torchrec, "unavailable", lambda: "Not on this system.")
    with pytest.raises(UserError, match=r"Not on this system\. The rest of the course"):
        torchrec.torchrec(argparse.Namespace())


def test_the_tests_install_it_where_they_can_and_run_without_it(here, monkeypatch, capsys):
    ran, answers = here
    monkeypatch.setattr(torchrec, "installed", lambda name: None)
    torchrec.for_tests()
    assert len(ran) == 1 and "pip" in ran[0]
    answers["pip"] = 1, ""
    torchrec.for_tests()
    assert "tests of TorchRec will be skipped: pip ended" in capsys.readouterr().err
    ran.clear()
    monkeypatch.setattr(torchrec, "unavailable", lambda: "Not on this system.")
    torchrec.for_tests()
    assert not ran


def test_the_command_is_one(monkeypatch):
    monkeypatch.setattr(torchrec, "unavailable", lambda: "Not on this system.")
    assert cli.main(["torchrec"]) == 1
