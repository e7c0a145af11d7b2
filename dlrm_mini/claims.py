"""The ledger: what the chapters measured, and what became of each claim.

`record` writes a result by name, `verdict` says what it does to a claim; both land in one JSON file
(`build/results.json`, or where `DLRM_MINI_RESULTS` points), so that the last chapter can read the
ledger out and the tests can hold every number to a tolerance.
"""

import json
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock

from dlrm_mini.errors import UserError
from dlrm_mini.paths import build_dir

Verdict = Literal["holds", "holds when", "does not hold", "not yet measured"]
VERDICTS: tuple[Verdict, ...] = ("holds", "holds when", "does not hold", "not yet measured")
NAME = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)+")


@dataclass(frozen=True)
class Claim:
    """A sentence on trial.

    Attributes:
        sentence: what is claimed, in the course's words.
        source: who says so.
        chapter: the chapter whose experiment judges it.
    """

    sentence: str
    source: str
    chapter: str


_PAPER, _NOTE = "Naumov et al. 2019", "the note this course grew from"
_KOREN = "Koren, Bell and Volinsky 2009"
CLAIMS: dict[str, Claim] = {
    "long-tail": Claim("A few items get most of the ratings", "folklore, after Zipf", "01"),
    "biases-first": Claim(
        "Much of the variation in ratings is due to the user or to the item alone, "
        "independent of any interaction of the two",
        _KOREN,
        "01",
    ),
    "embedding": Claim(
        "A categorical feature is an embedding, which generalises latent factors", _PAPER, "02"
    ),
    "factors": Claim("Two vectors and a dot product predict better than biases", _KOREN, "02"),
    "fm": Claim("A factorization machine lets any feature interact with any other", _PAPER, "03"),
    "mlp": Claim("An MLP can learn the interaction by itself", "He et al. 2017 (NCF)", "04"),
    "dlrm": Claim(
        "Dense features through a bottom MLP, all pairs by dot product, a top MLP on what comes "
        "out: better than its parts",
        _PAPER,
        "05",
    ),
    "dimensionality": Claim("Pairwise dot products reduce dimensionality", _PAPER, "05"),
    "parameters": Claim("Embeddings are most of the parameters, several GB a table", _PAPER, "05"),
    "orders": Claim("Orders beyond the second may not be worth their cost", _PAPER, "06"),
    "sparse-equal": Claim(
        "Updating only the rows touched gives what the dense step gives", "folklore", "08"
    ),
    "row-wise": Claim(
        "Adagrad needs one number a row", "row-wise Adagrad, as in FBGEMM and MLPerf's DLRM", "08"
    ),
    "quotient-remainder": Claim(
        "Two small tables that together keep all ids apart lose less than hashing of the same size",
        "after Shi et al. 2020",
        "09",
    ),
    "four-bits": Claim(
        "A trained table does as well in four bits a number", "practice, as in FBGEMM", "09"
    ),
    "time-cpu": Claim(
        "Most time is lookups and fully connected layers, the latter large on a CPU", _PAPER, "10"
    ),
    "time-gpu": Claim("On a GPU the fully connected layers are almost negligible", _PAPER, "11"),
    "replication": Claim(
        "Data parallelism alone is prohibitive: the tables must be split over devices", _PAPER, "12"
    ),
    "all-to-all": Claim("Most of the time is spent on the all-to-all communication", _NOTE, "14"),
}


def results_file() -> Path:
    """The file results go to: `DLRM_MINI_RESULTS`, else `build/results.json`."""
    chosen = os.environ.get("DLRM_MINI_RESULTS")
    return Path(chosen) if chosen else build_dir() / "results.json"


def verdicts_file() -> Path:
    """The file verdicts go to, beside the results."""
    return results_file().with_suffix(".verdicts.json")


def record(
    name: str,
    value: float,
    *,
    chapter: str,
    unit: str = "",
    spread: float | None = None,
    seeds: int = 1,
    split: str = "",
) -> None:
    """Write one result under its name, replacing an earlier one.

    Args:
        name: dotted lower-case words from general to special, such as `ratings.mf.rmse`.
        value: the number, finite.
        chapter: two digits.
        unit: of `value` and `spread`; empty for a pure number.
        spread: standard deviation over `seeds` runs, None when there was one run.
        seeds: how many seeds `value` is the mean of.
        split: the rows it was measured on.

    Raises:
        UserError: the name is not of that form, the value not finite, or a spread of a single seed.
    """
    if not NAME.fullmatch(name):
        raise UserError(f"a result's name is like 'ratings.mf.rmse', not {name!r}.")
    if not math.isfinite(value):
        raise UserError(
            f"the result {name} is {value}: expected a finite number. Nothing recorded."
        )
    if spread is not None and seeds < 2:
        raise UserError(f"{name} has a spread but seeds={seeds}: one seed has no spread.")
    entry = {
        "value": float(value),
        "unit": unit,
        "spread": None if spread is None else float(spread),
        "seeds": seeds,
        "split": split,
        "chapter": chapter,
    }
    _update(results_file(), name, entry)


def verdict(claim: str, found: Verdict, because: str) -> str:
    """Write what the experiment did to a claim; returns the line for the reader.

    Args:
        claim: a key of `CLAIMS`.
        found: one of `VERDICTS`.
        because: one sentence with the measured numbers in it, made by the cell that calls this.

    Raises:
        UserError: no such claim, or no such verdict.
    """
    if claim not in CLAIMS:
        raise UserError(f"there is no claim {claim!r} in the ledger; it holds {', '.join(CLAIMS)}.")
    if found not in VERDICTS:
        raise UserError(f"a verdict is one of {', '.join(VERDICTS)}, not {found!r}.")
    entry = {"verdict": found, "because": because, "chapter": CLAIMS[claim].chapter}
    _update(verdicts_file(), claim, entry)
    return f"{CLAIMS[claim].sentence} ({CLAIMS[claim].source}).\n→ {found.upper()}: {because}"


def results() -> dict[str, dict[str, Any]]:
    """Everything recorded so far, by name."""
    return _read(results_file())


def verdicts() -> dict[str, dict[str, Any]]:
    """The verdicts so far, by claim."""
    return _read(verdicts_file())


def ledger() -> list[dict[str, str]]:
    """One row per claim in the order of the course: claim, source, chapter, verdict, because."""
    found = verdicts()
    return [
        {
            "claim": claim.sentence,
            "source": claim.source,
            "chapter": claim.chapter,
            "verdict": found.get(key, {}).get("verdict", "not yet measured"),
            "because": found.get(key, {}).get("because", ""),
        }
        for key, claim in CLAIMS.items()
    ]


def _read(path: Path) -> dict[str, dict[str, Any]]:
    if not path.exists():
        return {}
    try:
        content: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path} is not JSON ({error}). Delete it, run the chapters again."
        ) from error
    return content


def _update(path: Path, key: str, entry: dict[str, Any]) -> None:
    """Add one entry; safe when several kernels write to one file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        content = _read(path) | {key: entry}
        part = path.with_name(path.name + ".part")
        ordered = dict(sorted(content.items()))
        part.write_text(json.dumps(ordered, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        part.replace(path)
