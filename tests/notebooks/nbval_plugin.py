"""Notebooks under nbval, without its holes.

nbval starts the kernel and runs the cells, each once. This plugin replaces its comparison of
outputs by `dlrm_mini.course.compare`, and after a notebook's last cell adds one item for each
question that no single cell answers: `time`, `figures`, `widgets`, `results`, `ledger`, `lint`.
"""

import json
import os
import tempfile
import time
from pathlib import Path
from queue import Empty

import psutil
import pytest
from nbval.kernel import CURRENT_ENV_KERNEL_NAME, RunningKernel
from nbval.plugin import IPyNbCell, IPyNbFile

from dlrm_mini import measurements
from dlrm_mini.course import chapters, ledger_record, lint, notebook
from dlrm_mini.course.compare import compare_outputs
from dlrm_mini.course.execute import QUIET, plain
from dlrm_mini.course.outputs import WIDGET

WATCH = "__import__('dlrm_mini.course.figures', fromlist=['']).watch()"
REPORT = "print(__import__('dlrm_mini.course.figures', fromlist=['']).report())"
# A chapter that never imported the widgets has none to probe.
PROBE = """
print(__import__('sys').modules['dlrm_mini.widgets'].probe()
      if 'dlrm_mini.widgets' in __import__('sys').modules else '[]')
"""
PROBE_SECONDS = 120
REDRAW_SECONDS = 0.2  # a picture that comes later no longer follows the hand
COURSE = Path(__file__).parents[2] / "notebooks"


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path, parent):
    """Collect what nbval collects as our kind of notebook, but no exercises still to be done."""
    found = yield
    if file_path.parent.name == "exercises":
        return [node for node in found if not isinstance(node, IPyNbFile)]
    return [
        Notebook.from_parent(parent, path=file_path) if type(node) is IPyNbFile else node
        for node in found
    ]


class Kernel(RunningKernel):
    """nbval's kernel, which also notices its death, keeps history, and counts processor time."""

    def execute_cell_input(self, cell_input, allow_stdin=None):
        # With history, so that a trailing semicolon silences a cell (nbval issue 194).
        return self.kc.execute(
            cell_input, store_history=True, allow_stdin=allow_stdin, stop_on_error=False
        )

    def await_reply(self, msg_id, timeout=None):
        deadline = time.monotonic() + (timeout or 0)
        while True:
            try:
                return super().await_reply(msg_id, timeout=1)
            except Empty:
                if not self.is_alive():
                    raise RuntimeError("the kernel died while it ran this cell") from None
                if timeout is not None and time.monotonic() > deadline:
                    raise

    def ask(self, code):
        """Run code that is no cell and return what it prints."""
        printed = []

        def collect(message):
            if message["msg_type"] == "stream" and message["content"]["name"] == "stdout":
                printed.append(message["content"]["text"])

        reply = self.kc.execute_interactive(
            code,
            store_history=False,
            allow_stdin=False,
            output_hook=collect,
            timeout=PROBE_SECONDS,
        )["content"]
        if reply["status"] != "ok":
            raise RuntimeError(plain("\n".join(reply.get("traceback", [str(reply)]))))
        return "".join(printed)

    def cpu_seconds(self):
        """Processor time of the kernel and of every process it started, so far."""
        main = psutil.Process(self.km.provisioner.pid)
        total = sum(main.cpu_times()[:4])  # user, system, and the same of ended children
        for child in main.children(recursive=True):
            try:
                total += sum(child.cpu_times()[:2])
            except psutil.Error:  # it just ended
                continue
        return total


class Notebook(IPyNbFile):
    """One notebook: its cells, then the checks of the whole."""

    def collect(self):
        for cell in super().collect():
            yield Cell.from_parent(
                self,
                name=cell.name,
                cell_num=cell.cell_num,
                cell=cell.cell,
                options=cell.options,
            )
        self.cells = sum(cell.cell_type == "code" for cell in self.nb.cells)
        self.ran = 0
        for name in CHECKS:
            yield Check.from_parent(self, name=name)

    def setup(self):
        self.folder = tempfile.TemporaryDirectory()
        self.results = Path(self.folder.name) / "results.json"
        workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
        threads = max(1, (os.cpu_count() or 1) // workers)
        with pytest.MonkeyPatch.context() as patch:  # a kernel inherits this process's environment
            patch.setenv("DLRM_MINI_RESULTS", str(self.results))
            for name, value in QUIET.items():
                patch.setenv(name, value)
            # Workers times threads beyond the cores would only wait for each other.
            patch.setenv("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", str(threads)))
            self.kernel = Kernel(
                CURRENT_ENV_KERNEL_NAME,
                cwd=str(self.path.parent),
                startup_timeout=self.config.option.nbval_kernel_startup_timeout,
            )
        self.setup_sanitize_files()
        self.kernel.ask(WATCH)
        self.views = 0
        self.wall, self.cpu, self.cpu_before = 0.0, 0.0, self.kernel.cpu_seconds()

    def teardown(self):
        super().teardown()
        if hasattr(self, "folder"):
            self.folder.cleanup()


class Cell(IPyNbCell):
    """One code cell, run once and compared our way."""

    def runtest(self):
        started = time.perf_counter()
        try:
            super().runtest()
        finally:
            whole = self.parent
            whole.ran += 1
            whole.wall += time.perf_counter() - started
            if whole.kernel.is_alive():
                whole.cpu = whole.kernel.cpu_seconds() - whole.cpu_before

    def compare_outputs(self, test, ref, skip_compare=None):
        position = next(i for i, cell in enumerate(self.parent.nb.cells) if cell is self.cell)
        self.parent.views += sum(WIDGET in output.get("data", {}) for output in test)
        found = compare_outputs(ref, test, notebook.tags(self.cell), position)
        advice = "If the cell is right, run `make notebooks` and look at what changed."
        self.comparison_traceback = [*map(str, found), advice]
        return not found


class Check(pytest.Item):
    """One check of a whole notebook, named like the function that does it."""

    def runtest(self):
        if self.name != "lint" and self.parent.ran < self.parent.cells:
            pytest.skip("not all cells of the notebook were run")
        if self.name in ("figures", "widgets") and not self.parent.kernel.is_alive():
            pytest.skip("the kernel is gone, as the cell that it died in says")
        if found := CHECKS[self.name](self.parent):
            raise AssertionError("\n".join(found))

    def repr_failure(self, excinfo):
        if isinstance(excinfo.value, AssertionError | RuntimeError):
            return f"{self.parent.path.name}, {self.name}:\n{excinfo.value}"
        return super().repr_failure(excinfo)

    def reportinfo(self):
        return self.path, None, f"{self.parent.path.name}::{self.name}"


def check_time(book):
    """The clock or the processor: a busy machine must not fail a quick chapter."""
    limit, taken = lint.budget(book.path).seconds, min(book.wall, book.cpu)
    if taken <= limit:
        return []
    return [f"it took {book.wall:.1f} s, {book.cpu:.1f} s of them computing; at most {limit:.0f} s"]


def check_figures(book):
    return json.loads(book.kernel.ask(REPORT))


def check_widgets(book):
    probed = json.loads(book.kernel.ask(PROBE).strip().splitlines()[-1])
    found = [f"widget {one['name']}: {one['problem']}" for one in probed if one["problem"]]
    found += [
        f"widget {one['name']}: half of its redraws take more than {one['seconds']:.2f} s, "
        f"at most {REDRAW_SECONDS} s"
        for one in probed
        if (one.get("seconds") or 0) > REDRAW_SECONDS
    ]
    if book.views != len(probed):
        found.append(
            f"{book.views} widgets are shown, {len(probed)} of them made by "
            "dlrm_mini.widgets.explore: only those can be seen to be alive"
        )
    return found


def check_results(book):
    """Hold what the chapter recorded to `tests/notebooks/results.json`, in both directions."""
    file = book.config.rootpath / "tests" / "notebooks" / "results.json"
    held = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    number = book.path.name[:2] if chapters.is_chapter(book.path) else None
    wanted = {name: entry for name, entry in held.items() if entry["chapter"] == number}
    found = json.loads(book.results.read_text("utf-8")) if book.results.is_file() else {}
    return [*_compare_results(wanted, found, number)]


def check_ledger(book):
    """Hold the chapter's verdicts to those that chapter 16 reads out."""
    if not chapters.is_chapter(book.path) or not book.path.is_relative_to(COURSE):
        return []
    of = measurements.read("ledger")["results"]["chapters"].get(book.path.name[:2])
    if of is None:
        return [f"the recorded ledger knows nothing of {book.path.name}: run `make notebooks`"]
    _, verdicts = ledger_record.of_run(book.results.parent)
    found = [*ledger_record.verdict_differences(of, verdicts)]
    return [f"{one}. Run `make notebooks` and read chapter 16 again." for one in found]


def _compare_results(wanted, found, number):
    for name in sorted(wanted.keys() | found.keys()):
        if name not in found:
            yield f"{name} is in tests/notebooks/results.json, but was not recorded"
        elif name not in wanted:
            line = {"value": found[name]["value"], "tolerance": 0.0, "chapter": number}
            yield (
                f"{name} was recorded, but is not in tests/notebooks/results.json. "
                f'Add, with a tolerance: "{name}": {json.dumps(line)}'
            )
        else:
            value, held, slack = (
                found[name]["value"],
                wanted[name]["value"],
                wanted[name]["tolerance"],
            )
            if not abs(value - held) <= slack:  # a nan is not within any tolerance
                yield f"{name} is {value:.6g}, expected {held:.6g} within {slack:g}"


CHECKS = {
    "time": check_time,
    "figures": check_figures,
    "widgets": check_widgets,
    "results": check_results,
    "ledger": check_ledger,
    "lint": lambda book: lint.problems(book.path),
}
