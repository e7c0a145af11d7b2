"""What can be said after `train`, `evaluate` and `predict`. Standard library only."""

import argparse
from pathlib import Path

MODELS = ("mf", "fm", "mlp", "dlrm")
DATA = ("movielens", "criteo")
TASKS = ("clicks", "ratings")
SPLITS = ("random", "temporal", "u1", "u2", "u3", "u4", "u5")
DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("float32", "bfloat16", "float16")
ENGINES = ("sharded", "torchrec")


def for_train(parser: argparse.ArgumentParser) -> None:
    """What to train, on what, how, and where to. What is not said, the ladders' settings decide."""
    parser.add_argument("--model", choices=MODELS, help="what to train")
    parser.add_argument("--data", choices=DATA, help="on what (movielens); criteo: a click log")
    _folder(parser, "the prepared click log to train on, with --data criteo")
    parser.add_argument("--task", choices=TASKS, help="clicks: rated 4 or 5, or not; or the stars")
    split = "random: a fifth to test on; temporal: each user's last fifth; u1 to u5: as published"
    parser.add_argument("--split", choices=SPLITS, help=split)
    parser.add_argument("--seed", type=int, metavar="N", help="of weights and of the order (0)")
    chosen = "(as the ladder chose)"
    parser.add_argument("--epochs", type=int, metavar="N", help=f"passes over the rows {chosen}")
    parser.add_argument("--batch-size", type=int, metavar="N", help=f"examples a step {chosen}")
    parser.add_argument("--lr", type=float, metavar="X", help=f"learning rate {chosen}")
    mlps = f"learning rate of the MLPs, where --lr is that of the tables {chosen}"
    parser.add_argument("--mlp-lr", type=float, metavar="X", help=mlps)
    parser.add_argument("--dim", type=int, metavar="N", help=f"embedding width {chosen}")
    parser.add_argument("--l2", type=float, metavar="X", help=f"weight of the penalty {chosen}")
    products = "of the products in training (float32)"
    parser.add_argument("--precision", choices=PRECISIONS, help=products)
    parser.add_argument(
        "--validate",
        action="store_true",
        default=None,
        help="set a tenth of the training rows aside and measure the epochs on them",
    )
    engine = "split DLRM's tables over processes: sharded, the course's own, or torchrec"
    parser.add_argument("--engine", choices=ENGINES, help=engine)
    processes = "how many, on this machine, with --engine; under torchrun it knows"
    parser.add_argument("--processes", type=int, metavar="N", help=processes)
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to (in runs/)")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint")
    parser.add_argument("--overwrite", action="store_true", help="replace an older checkpoint")
    _device(parser)


def for_evaluate(parser: argparse.ArgumentParser) -> None:
    """Which model to measure, and on which rows."""
    _checkpoint(parser)
    other = "test rows of another split, without those the model has learnt from"
    parser.add_argument("--split", choices=SPLITS, help=other)
    _folder(parser, "the prepared click log whose test rows to score, if it was trained on one")
    _device(parser)


def for_predict(parser: argparse.ArgumentParser) -> None:
    """Which model to ask, and what."""
    _checkpoint(parser)
    parser.add_argument("--user", type=int, metavar="ID", help="a user's id in the data files")
    parser.add_argument("--movie", type=int, metavar="ID", help="a movie's id in the data files")
    parser.add_argument("--top", type=int, metavar="N", help="the user's N best unseen movies")
    parser.add_argument("--out", type=Path, metavar="FILE", help="all test rows, as CSV")
    parser.add_argument("--overwrite", action="store_true", help="replace an older file")
    _device(parser)


def _checkpoint(parser: argparse.ArgumentParser) -> None:
    help_ = "what `train` wrote"
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="FILE", help=help_)


def _folder(parser: argparse.ArgumentParser, help_: str) -> None:
    parser.add_argument("--from", type=Path, dest="folder", metavar="DIR", help=help_)


def _device(parser: argparse.ArgumentParser) -> None:
    found = "auto (default): cuda if torch finds a GPU, else cpu; mps: other results than elsewhere"
    parser.add_argument("--device", choices=DEVICES, default="auto", help=found)
