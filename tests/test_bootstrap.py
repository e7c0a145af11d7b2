"""Set-up: the three lists of packages agree, and the environment is made once and only when due."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from dlrm_mini import bootstrap, cli
from dlrm_mini.errors import UserError

ROOT = Path(__file__).parents[1]


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pairs}


def test_every_requirement_is_pinned_inside_its_range():
    exact = pins()
    for name, wanted in bootstrap.requirements(ROOT).items():
        version = exact[canonicalize_name(name)]
        assert SpecifierSet(wanted).contains(version), f"{name}: {version} is not in {wanted}"


def test_the_pins_name_no_build_and_nothing_else():
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert line.startswith("#") or re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][0-9a-z.]*", line), line


def test_environment_yml_points_at_the_same_lists():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *conda, pip = environment["dependencies"]
    assert environment["name"] == "dlrm-mini" and environment["channels"] == ["conda-forge"]
    python = next(line for line in conda if line.startswith("python="))
    requires = re.search(r'requires-python = "(.*)"', (ROOT / "pyproject.toml").read_text())
    assert requires and SpecifierSet(requires[1]).contains(python.removeprefix("python="))
    assert "pip" in conda
    assert pip == {"pip": ["-c constraints.txt", f"-e .[{','.join(bootstrap.EXTRAS)}]"]}


def test_the_packages_the_project_is_made_of_are_required():
    required = {Requirement(f"{n}{r}").name for n, r in bootstrap.requirements(ROOT).items()}
    fixed = {"jupyterlab", "torch", "numpy", "matplotlib", "seaborn", "ipywidgets", "nbval"}
    assert fixed <= required


@pytest.fixture
def bare_checkout(tmp_path, monkeypatch):
    """A checkout whose commands are recorded instead of run, seen from a Python outside of it."""
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    ran = []

    def run(command, failure):
        ran.append(command)
        if "venv" in command:
            python = bootstrap.venv_python(tmp_path / ".venv")
            python.parent.mkdir(parents=True)
            python.write_text("")

    monkeypatch.setattr(bootstrap, "checkout", lambda: tmp_path)
    monkeypatch.setattr(bootstrap, "in_environment", lambda: False)
    monkeypatch.setattr(bootstrap, "_run", run)
    monkeypatch.setattr(bootstrap, "has_pip", lambda python: True)
    return tmp_path, ran


def test_an_environment_without_pip_gets_it(bare_checkout, monkeypatch):
    """As one has that was interrupted while it was made; nothing in it is thrown away."""
    root, ran = bare_checkout
    python = bootstrap.venv_python(root / ".venv")
    python.parent.mkdir(parents=True)
    python.write_text("")
    monkeypatch.setattr(bootstrap, "has_pip", lambda python: False)
    bootstrap.interpreter()
    assert [command[2] for command in ran] == ["ensurepip", "pip"]


def test_pip_is_found_where_it_is(tmp_path):
    assert bootstrap.has_pip(Path(sys.executable))
    without = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(without)], check=True)
    assert not bootstrap.has_pip(bootstrap.venv_python(without))


@pytest.mark.parametrize(
    ("found", "right"), [("2.13.0+cu130", True), ("1.13.1", False), (None, False)]
)
def test_a_version_out_of_range_counts_as_missing(monkeypatch, found, right):
    monkeypatch.setattr(bootstrap, "installed", lambda name: found)
    assert bootstrap.fits("torch", ">=2.8,<2.14") is right


def test_the_first_call_sets_up_and_the_second_does_nothing(bare_checkout):
    root, ran = bare_checkout
    python = bootstrap.interpreter()
    assert python == bootstrap.venv_python(root / ".venv")
    assert [command[2] for command in ran] == ["venv", "pip"]
    assert str(root / "constraints.txt") in ran[1] and f"{root}[lab,test,site]" in ran[1]
    ran.clear()
    assert bootstrap.interpreter() == python and ran == []


@pytest.mark.parametrize("changed", ["constraints.txt", "pyproject.toml"])
def test_new_pins_install_again_into_the_same_environment(bare_checkout, changed):
    root, ran = bare_checkout
    bootstrap.interpreter()
    ran.clear()
    with (root / changed).open("a") as file:
        file.write("# six==1.0\n")
    bootstrap.interpreter()
    assert [command[2] for command in ran] == ["pip"]


def test_a_set_up_cut_short_is_done_again(bare_checkout, monkeypatch):
    _, ran = bare_checkout
    real = bootstrap._run

    def cut(command, failure):
        real(command, failure)
        if "pip" in command:
            raise KeyboardInterrupt

    monkeypatch.setattr(bootstrap, "_run", cut)
    with pytest.raises(KeyboardInterrupt):
        bootstrap.interpreter()
    monkeypatch.setattr(bootstrap, "_run", real)
    ran.clear()
    bootstrap.interpreter()
    assert [command[2] for command in ran] == ["pip"]


@pytest.mark.parametrize(
    ("have", "shared"), [("2.13.0+cu130", True), ("2.13.0", True), ("2.9.1", False), (None, False)]
)
def test_a_torch_that_satisfies_the_pin_is_kept(bare_checkout, monkeypatch, have, shared):
    _, ran = bare_checkout
    monkeypatch.setattr(bootstrap, "installed", lambda name: have)
    bootstrap.interpreter()
    assert ("--system-site-packages" in ran[0]) is shared


def test_an_environment_that_has_everything_is_used_as_it_is(bare_checkout, monkeypatch):
    _, ran = bare_checkout
    monkeypatch.setattr(bootstrap, "in_environment", lambda: True)
    monkeypatch.setattr(bootstrap, "missing", lambda root, extras: [])
    assert bootstrap.interpreter() == Path(sys.executable) and ran == []


def test_a_command_asks_only_for_the_extras_it_needs(bare_checkout, monkeypatch):
    _, ran = bare_checkout
    monkeypatch.setattr(bootstrap, "in_environment", lambda: True)
    real = bootstrap.installed
    monkeypatch.setattr(bootstrap, "installed", lambda n: None if n == "nbval" else real(n))
    assert bootstrap.interpreter(["lab"]) == Path(sys.executable) and ran == []
    assert bootstrap.interpreter(["lab", "test"]) != Path(sys.executable)
    assert [command[2] for command in ran] == ["venv", "pip"]


def test_a_failing_installer_is_a_sentence_and_status_1(monkeypatch, capsys):
    command = [sys.executable, "-c", "raise SystemExit(3)"]
    with pytest.raises(UserError, match="status 3"):
        bootstrap._run(command, "the packages were not installed")

    def fails(extras):
        raise UserError("the packages were not installed")

    monkeypatch.setattr(bootstrap, "interpreter", fails)
    assert cli.main(["data"]) == 1
    assert "dlrm-mini: the packages were not installed" in capsys.readouterr().err
