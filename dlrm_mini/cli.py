"""The commands. `python -m dlrm_mini --help` lists them; `make` has the same names.

Only `train`, `evaluate`, `predict`, `criteo` and `classroom` are not in `make`: they are nothing
without their options.
Standard library only at the top: a command finds or makes its environment first, then imports.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from dlrm_mini import bootstrap
from dlrm_mini.errors import UserError
from dlrm_mini.paths import absolute_environment, checkout, course_file
from dlrm_mini.shell import arguments, bench_step, criteo, torchrec

Action = Callable[[argparse.Namespace], int]

# Name -> the function that measures and records it; imported when it is asked for.
MEASUREMENTS = {
    "ratings-search": "dlrm_mini.ladders.ratings:search",
    "ratings-upper-search": "dlrm_mini.ladders.upper_search:search",
    "ratings-ladder": "dlrm_mini.ladders.ratings:ladder",
    "fm-features": "dlrm_mini.ladders.fm_features:measure",
    "dot-product": "dlrm_mini.ladders.dot_product:measure",
    "clicks-search": "dlrm_mini.ladders.clicks:search",
    "clicks-ladder": "dlrm_mini.ladders.clicks:ladder",
    "clicks-ablations": "dlrm_mini.ladders.click_ablations:ablations",
    "interactions": "dlrm_mini.ladders.crossings:measure",
    "click-log": "dlrm_mini.ladders.click_logs:measure",
    "sparse-training": "dlrm_mini.ladders.sparse_training:measure",
    "smaller-tables": "dlrm_mini.ladders.smaller_tables:measure",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0 done, 1 failed, 2 wrong usage."""
    absolute_environment()
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(words)
    options.words = words
    try:
        here = bench_step.runs_here(options)
        python = Path(sys.executable) if here else bootstrap.interpreter(options.needs)
        if options.command == "setup":
            print(f"Ready. Every command finds the environment by itself; its Python is {python}")
            return 0
        if python != Path(sys.executable):
            return _hand_over([str(python), "-m", "dlrm_mini", *words])
        return int(options.action(options) or 0)
    except UserError as error:
        print(f"dlrm-mini: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\ndlrm-mini: stopped. {options.stopped}", file=sys.stderr)
        return 130


def _hand_over(command: Sequence[str]) -> int:
    """Run a command and wait until it has ended, its status for ours.

    Ctrl-C reaches it as well, and how it stops is its own affair: `subprocess.call` would kill it
    after a quarter of a second, in the middle of a checkpoint perhaps.
    """
    process = subprocess.Popen(command)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dlrm_mini",
        description="dlrm-mini: recommendation models from matrix factorization to DLRM.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(
        name: str, help_: str, action: Action | None, *needs: str
    ) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help_, description=help_)
        sub.set_defaults(action=action, needs=needs, stopped="The same command begins anew.")
        return sub

    run = command("run", "execute every chapter, write build/html, print the results", _run, "lab")
    run.add_argument("chapters", nargs="*", metavar="NN", help="only these chapters, such as 02")
    command("lab", "open JupyterLab on chapter 00", _lab, "lab")
    test = command("test", "run all tests", _test, "lab", "test")
    test.add_argument("rest", nargs=argparse.REMAINDER, help="handed on to pytest")
    command("setup", "make the environment and stop", None, "lab", "test", "site")
    command("torchrec", "install TorchRec, the engine of chapter 15, and try it", torchrec.torchrec)
    command("check", "say line by line whether this environment is right", _check)
    data = command("data", "say which data is there, from where, verified or not", _data)
    data.add_argument("--fetch", action="store_true", help="fetch what is missing first")
    rewrite = "re-execute chapters and rewrite them in place"
    notebooks = command("notebooks", rewrite, _notebooks, "lab")
    notebooks.add_argument("chapters", nargs="*", metavar="NN", help="only these chapters")
    edit = command("edit", "edit a chapter as text in $EDITOR, then write it back", _edit, "lab")
    edit.add_argument("chapter", metavar="NN")
    exercises = command(
        "exercises", "run the solutions, make the students' versions", _exercises, "lab", "test"
    )
    exercises.add_argument("chapters", nargs="*", metavar="NN", help="only these chapters")
    slides = command("slides", "make a talk of a chapter, in build/slides", _slides, "lab", "site")
    slides.add_argument("chapter", metavar="NN")
    command("site", "build the course as a static site, in build/site", _site, "lab", "site")
    classroom = command("classroom", "make a folder that nbgrader grades in", _classroom, "lab")
    classroom.add_argument("folder", type=Path, help="a new folder")
    classroom.add_argument("chapters", nargs="*", metavar="NN", help="only these chapters")
    measure = command("measure", "compute what a chapter cannot hold, and record it", _measure)
    measure.add_argument("what", choices=MEASUREMENTS)
    train = command("train", "train a model and save it", _train)
    arguments.for_train(train)
    train.set_defaults(stopped="The same command with --resume goes on from the last whole epoch.")
    arguments.for_evaluate(command("evaluate", "say how good a saved model is", _evaluate))
    arguments.for_predict(command("predict", "ask a saved model", _predict))
    logs = command("criteo", "fetch, generate, prepare and show click logs", criteo.criteo)
    criteo.arguments(logs)
    logs.set_defaults(stopped=criteo.STOPPED)
    bench = command("bench", "measure this project beside its peers, or its training steps", _bench)
    bench_step.arguments(bench)
    bench.set_defaults(stopped=bench_step.STOPPED)
    return parser


def _have_data() -> None:
    """Fetch MovieLens before the first chapter needs it, where its progress can be seen."""
    from dlrm_mini.datasets import sources

    there = sources.status()[0].usable
    found = sources.ensure("ml-100k")
    if not there:
        print(f"MovieLens 100K: fetched and verified, from {found.source}", file=sys.stderr)


def _run(options: argparse.Namespace) -> int:
    from dlrm_mini.course.run import run_course

    _have_data()
    return run_course(options.chapters or None)


def _lab(_: argparse.Namespace) -> int:
    _have_data()
    first = course_file("notebooks/00_start_here.ipynb")
    root_user = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    command = [sys.executable, "-m", "jupyterlab", *root_user, str(first)]
    return subprocess.call(command, cwd=first.parent.parent)


def _test(options: argparse.Namespace) -> int:
    _have_data()
    torchrec.for_tests()
    return subprocess.call([sys.executable, "-m", "pytest", *options.rest], cwd=checkout())


def _check(_: argparse.Namespace) -> int:
    from dlrm_mini import environment

    lines = environment.check()
    print(environment.report(lines, versions=True))
    return 0 if all(line.ok for line in lines) else 1


def _data(options: argparse.Namespace) -> int:
    from dlrm_mini.datasets import sources

    if options.fetch:
        _have_data()
    print(sources.describe_status())
    return 0


def _notebooks(options: argparse.Namespace) -> int:
    from dlrm_mini.course.writer import rewrite_course

    return rewrite_course(options.chapters or None)


def _edit(options: argparse.Namespace) -> int:
    from dlrm_mini.course.edit import edit, enable_nbdime

    enable_nbdime()
    return edit(options.chapter)


def _exercises(options: argparse.Namespace) -> int:
    from dlrm_mini.course.exercises import write

    _have_data()
    return write(options.chapters or None)


def _slides(options: argparse.Namespace) -> int:
    from dlrm_mini.course.slides import write_slides

    return write_slides(options.chapter)


def _site(_: argparse.Namespace) -> int:
    from dlrm_mini.site.build import build_site

    return build_site()


def _classroom(options: argparse.Namespace) -> int:
    from dlrm_mini.course.classroom import write_classroom

    return write_classroom(options.folder, options.chapters or None)


def _measure(options: argparse.Namespace) -> int:
    module, function = MEASUREMENTS[options.what].split(":")
    print(getattr(import_module(module), function)(progress=True))
    return 0


def _train(options: argparse.Namespace) -> int:
    from dlrm_mini.shell.train import train

    return train(options)


def _evaluate(options: argparse.Namespace) -> int:
    from dlrm_mini.shell.evaluate import evaluate

    return evaluate(options)


def _predict(options: argparse.Namespace) -> int:
    from dlrm_mini.shell.predict import predict

    return predict(options)


def _bench(options: argparse.Namespace) -> int:
    bench_step.check(options)
    if options.names == [bench_step.STEP]:
        return bench_step.bench_step(options)
    return subprocess.call([sys.executable, "-m", "benchmarks", *options.names], cwd=checkout())
