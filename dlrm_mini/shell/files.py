"""Files that a command is about to write: nothing is lost, nothing is found out too late."""

import os
from pathlib import Path

import pandas as pd

from dlrm_mini.errors import UserError
from dlrm_mini.paths import try_writing


def check_target(path: Path, what: str, *, overwrite: bool, otherwise: str = "") -> None:
    """Raise a UserError unless `path` can be written and nothing is lost by it.

    Args:
        path: the file; its folder is made.
        what: the file in a word or two, for the message.
        overwrite: whether a file that is there may be replaced.
        otherwise: what the reader may do beside, as the first half of a sentence.
    """
    if path.is_dir():
        raise UserError(f"{path} is a folder; expected the name of a file for the {what}.")
    if path.exists() and not overwrite:
        raise UserError(
            f"{path} is there already and would be lost. {otherwise}Name another --out, or say "
            "--overwrite."
        )
    try:
        try_writing(path.parent)
    except OSError as error:
        raise UserError(
            f"nothing can be written into {path.parent} ({error.strerror or error}). "
            f"Name a file elsewhere for the {what}."
        ) from error


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write a table beside `path`, then rename it: all of it or nothing.

    Raises:
        UserError: it cannot be written; what `path` held stays.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        table.to_csv(part, index=False, lineterminator="\n")
        part.replace(path)
    except OSError as error:
        raise UserError(f"{path} could not be written: {error}") from error
    finally:
        part.unlink(missing_ok=True)
