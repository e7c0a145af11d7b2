"""`criteo`: fetch, generate, prepare and show click logs. Standard library only at the top."""

import argparse
import sys
from pathlib import Path

STOPPED = "The same command goes on from there."


def arguments(parser: argparse.ArgumentParser) -> None:
    """What can be said after `criteo`."""
    what = parser.add_subparsers(dest="what", required=True, metavar="WHAT")
    help_ = "turn raw click logs into the form that training reads"
    prepare = what.add_parser("prepare", help=help_, description=help_)
    source = "the raw lines, plain or gzip: Criteo's train.txt or a file like it"
    prepare.add_argument("source", type=Path, metavar="FILE", help=source)
    prepare.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to make")
    how = prepare.add_mutually_exclusive_group()
    buckets = "categories are hashed into N buckets a column"
    how.add_argument("--buckets", type=int, metavar="N", help=buckets)
    threshold = "categories seen in fewer than N training rows share one id (the default, 10)"
    how.add_argument("--threshold", type=int, metavar="N", help=threshold)
    columns = "another rule for some columns, such as C3=buckets:1000000,C20=threshold:1"
    prepare.add_argument("--columns", default="", metavar="C=RULE,...", help=columns)
    split = "split rows at random, 80:10:10, instead of by seven days"
    prepare.add_argument("--random-split", type=int, metavar="SEED", help=split)
    skip = "leave out up to N lines that cannot be read (0)"
    prepare.add_argument("--skip-bad", type=int, default=0, metavar="N", help=skip)
    help_ = "write rows of chapter 07's generated log, whose best model is known, as Criteo's text"
    generate = what.add_parser("generate", help=help_, description=help_)
    generate.add_argument("--rows", type=int, required=True, metavar="N", help="how many")
    text = "the file to make, gzip when its name ends in .gz"
    generate.add_argument("--out", type=Path, required=True, metavar="FILE", help=text)
    generate.add_argument("--seed", type=int, default=0, metavar="N", help="which log (0)")
    generate.add_argument("--overwrite", action="store_true", help="replace an older file")
    generate.set_defaults(stopped="The same command begins anew.")
    help_ = "fetch a published log, verified: sample has 100,000 lines, full 45,840,617"
    fetch = what.add_parser("fetch", help=help_, description=help_)
    fetch.add_argument("name", choices=("sample", "full"))
    fetch.set_defaults(stopped="The same command begins anew.")
    help_ = "say what a prepared folder holds"
    show = what.add_parser("show", help=help_, description=help_)
    show.add_argument("folder", type=Path, metavar="DIR")
    show.set_defaults(stopped="Nothing was changed.")


def criteo(options: argparse.Namespace) -> int:
    """Do it."""
    if options.what == "fetch":
        from dlrm_mini.datasets.criteo_fetch import LICENCE, fetch

        print(f"{fetch(options.name)}: there and verified. {LICENCE}")
        return 0
    if options.what == "generate":
        _generate(options)
        return 0
    if options.what == "prepare":
        _prepare(options)
    from dlrm_mini.datasets.criteo import Prepared

    print(Prepared.open(options.folder if options.what == "show" else options.out).describe())
    return 0


def _generate(options: argparse.Namespace) -> None:
    from dataclasses import replace

    from dlrm_mini.datasets.criteo_splits import Days
    from dlrm_mini.datasets.synthetic import ClickLog
    from dlrm_mini.datasets.synthetic_text import write
    from dlrm_mini.errors import UserError
    from dlrm_mini.ladders.click_logs import config
    from dlrm_mini.shell.files import check_target

    rows, out = options.rows, options.out
    if rows < 1:
        raise UserError(f"--rows is {rows}; expected at least 1.")
    chosen = replace(config(), seed=options.seed)
    check_target(out, "click log", overwrite=options.overwrite)
    log = ClickLog(chosen)
    write(log, out, 0, rows)
    test = range(Days().bounds(rows)[1], rows)
    best = log.optimum(test.start, test.stop)
    print(f"{out}: {rows:,} rows, {out.stat().st_size / 1e6:,.1f} MB")
    auc = f"{best['auc']:.4f}" if len(test) > 1 else "(not defined on a single row)"
    print(f"auc {auc}  logloss {best['logloss']:.4f}  ne {best['ne']:.4f}  (the true "
          f"probabilities on the last {len(test):,} rows, those that\n`criteo prepare` sets aside "
          "to test on: no model is better, but for the luck of the labels)")  # fmt: skip


def _prepare(options: argparse.Namespace) -> None:
    from dlrm_mini.datasets.criteo_columns import Buckets, Rule, Threshold, rule
    from dlrm_mini.datasets.criteo_format import SPARSE, recognise
    from dlrm_mini.datasets.criteo_prepare import DEFAULT, prepare
    from dlrm_mini.datasets.criteo_splits import Days, Random
    from dlrm_mini.errors import UserError

    common: Rule = DEFAULT
    if options.buckets is not None:
        common = Buckets(options.buckets)
    elif options.threshold is not None:
        common = Threshold(options.threshold)
    rules = dict.fromkeys(SPARSE, common)
    for text in filter(None, options.columns.split(",")):
        column, _, chosen = text.partition("=")
        if column not in rules:
            raise UserError(f"--columns {text} names no column; expected C1=... to C26=...")
        rules[column] = rule(chosen)
    split = Days() if options.random_split is None else Random(options.random_split)
    if options.skip_bad < 0:
        raise UserError(f"--skip-bad is {options.skip_bad}; expected 0 or more lines.")
    print(f"{options.source}: {recognise(options.source).describe()}", file=sys.stderr)
    prepare(options.source, options.out, rules=rules, split=split, skip_bad=options.skip_bad)
