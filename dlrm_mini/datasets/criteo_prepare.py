"""From raw click logs to the prepared form, in constant memory, resumable at any moment.

1. The text is read block by block. Labels, the logarithms of the integers and hashed categories are
   final at once; a category with a vocabulary is written as the number its digits stand for.
2. For each column with a vocabulary, its training rows are counted, and its numbers become ids.
3. With a random split, the rows of each split are listed.

The prepared folder holds a file a column, n rows each, without a header: `label.bin` uint8,
`dense.bin` (n, 13) float32, `C1.bin` to `C26.bin` in the smallest unsigned type that holds the ids;
`C1.words` uint32, the vocabulary, ascending; `train.rows`, `valid.rows`, `test.rows` int64 with a
random split; and `meta.json`, which says all that was counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from dlrm_mini.datasets import criteo_store as store
from dlrm_mini.datasets.criteo_columns import Buckets, Rule, Threshold, id_type
from dlrm_mini.datasets.criteo_format import BLOCK, DENSE, SPARSE, recognise
from dlrm_mini.datasets.criteo_splits import Days, Split
from dlrm_mini.datasets.criteo_steps import Work, fresh
from dlrm_mini.datasets.criteo_vocabulary import FIRST
from dlrm_mini.errors import UserError

DEFAULT = Threshold(10)


def prepare(
    source: Path,
    out: Path,
    *,
    rules: Mapping[str, Rule] | Rule = DEFAULT,
    split: Split | None = None,
    skip_bad: int = 0,
    progress: bool = True,
    block: int = BLOCK,
) -> store.Json:
    """Turn a file of raw click logs into the prepared form, or go on where a killed process was.

    Args:
        source: the raw lines, as `criteo_format` describes them.
        out: the folder to make.
        rules: how categories become ids: one rule for all 26 columns, or one for each by name.
        split: seven days (the default), or random.
        skip_bad: so many lines that cannot be read are left out and counted.
        progress: show bars.
        block: bytes of text at a time.

    Returns:
        What was counted, as in `meta.json`.

    Raises:
        UserError: the file is in no known format or has more bad lines than allowed; `out` is
            there already and is something else; the disk is full. Nothing half-made is ever at
            `out`.
    """
    source, out = source.absolute(), out.resolve()
    by_column = dict.fromkeys(SPARSE, rules) if isinstance(rules, Buckets | Threshold) else rules
    if set(by_column) != set(SPARSE):
        raise UserError(f"there are rules for {', '.join(by_column)}; expected C1 to C26.")
    form = recognise(source)
    about = source.stat()
    job = {
        "version": store.VERSION,
        "source": {"name": source.name, "bytes": about.st_size, "modified": about.st_mtime_ns},
        "columns": {name: str(by_column[name]) for name in SPARSE},
        "split": str(split or Days()),
    }
    if found := _already(out, job):
        return found
    with store.working_folder(out) as part:
        if found := _already(out, job):  # another process has just ended
            return found
        part.mkdir(exist_ok=True)
        meta = store.read_json(part / store.META)  # there when killed just before the renaming
        state = store.read_json(part / store.STATE)
        _same_job(part, meta or state, job)
        if meta is None:
            work = Work(source, part, form, by_column, split or Days(), state or fresh(job))
            work.run(skip_bad, block, progress)
            meta = _meta(work.state, by_column)
        store.finish(part, out, meta)
    return meta


def _already(out: Path, job: store.Json) -> store.Json | None:
    """The counts of a folder that was prepared in the same way; None where there is nothing.

    Raises:
        UserError: something else is there.
    """
    if not (out.is_file() or (out.is_dir() and any(out.iterdir()))):
        return None
    found = store.read_json(out / store.META) if out.is_dir() else None
    if found is None:
        raise UserError(f"{out} is there already and holds something else; name another folder.")
    if found["job"] != job:
        raise UserError(
            f"{out} is there already, prepared {_difference(found['job'], job)}. Name another "
            "folder, or delete this one."
        )
    return found


def _same_job(part: Path, state: store.Json | None, job: store.Json) -> None:
    """Raise a UserError when what is there was begun in another way."""
    if state and state["job"] != job:
        raise UserError(
            f"{part} was begun {_difference(state['job'], job)}. Go on with the same file and "
            "settings, or delete it to begin anew."
        )


def _difference(found: store.Json, asked: store.Json) -> str:
    """Where two jobs differ first."""
    if found["split"] != asked["split"]:
        return f"with split {found['split']}, and now it is {asked['split']}"
    words: dict[str, tuple[str, Callable[[Any], str]]] = {
        "name": ("name", str),
        "bytes": ("size", "{:,} bytes".format),
        "modified": ("last change", lambda ns: str(datetime.fromtimestamp(ns / 1e9))),
    }
    for name, (said, shown) in words.items():
        then, now = found["source"][name], asked["source"][name]
        if then != now:
            return f"from another file: its {said} was {shown(then)}, and now it is {shown(now)}"
    for name, value in found["columns"].items():
        if value != asked["columns"][name]:
            return f"with {value} for {name}, and now it is {asked['columns'][name]}"
    return "in another way"


def _meta(state: store.Json, rules: Mapping[str, Rule]) -> store.Json:
    """What `meta.json` says: what was asked, how many rows, and what was counted of each column."""
    missing = dict(zip(DENSE + SPARSE, state["missing"], strict=True))
    negative = dict(zip(DENSE, state["negative"], strict=True))
    sparse = {}
    for name in SPARSE:
        rule, counted = rules[name], state["vocabularies"].get(name, {})
        ids = FIRST + counted["words"] if counted else rule.number + 1
        dtype = id_type(ids - 1).name
        sparse[name] = {"ids": ids, "dtype": dtype, "missing": missing[name], **counted}
    dense = {name: {"missing": missing[name], "negative": negative[name]} for name in DENSE}
    kept = {name: state[name] for name in ("job", "rows", "positives", "skipped", "splits")}
    return {**kept, "dense": dense, "sparse": sparse}
