"""The three steps of preparing click logs; `criteo_prepare` says what they make."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from dlrm_mini.datasets import criteo_store as store
from dlrm_mini.datasets import criteo_vocabulary as vocabulary
from dlrm_mini.datasets.criteo_columns import (
    OUT_OF_VOCABULARY,
    Buckets,
    Rule,
    Threshold,
    hash_ids,
    id_type,
)
from dlrm_mini.datasets.criteo_format import DENSE, SPARSE, Format, blocks
from dlrm_mini.datasets.criteo_lines import Bad, Lines, parse
from dlrm_mini.datasets.criteo_splits import SPLITS, Days, Split
from dlrm_mini.errors import UserError
from dlrm_mini.progress import bar

SAVE = 32  # blocks after which what was read is made safe
ROWS = 1 << 18  # of one column at a time, in steps 2 and 3


def fresh(job: store.Json) -> store.Json:
    """The state before the first line."""
    counts = {"rows": 0, "positives": 0, "lines": 0, "end": 0, "read": False, "skipped": []}
    by_column = {"missing": [0] * (len(DENSE) + len(SPARSE)), "negative": [0] * len(DENSE)}
    return {"job": job, **counts, **by_column, "vocabularies": {}}


class Work:
    """The three steps. Each may be called again after a kill and does what is left to do."""

    def __init__(
        self,
        source: Path,
        part: Path,
        form: Format,
        rules: Mapping[str, Rule],
        split: Split,
        state: store.Json,
    ) -> None:
        self.source, self.part, self.form = source, part, form
        self.rules, self.split, self.state = rules, split, state
        self.counted = [name for name in SPARSE if isinstance(rules[name], Threshold)]

    def run(self, skip_bad: int, block: int, progress: bool) -> None:
        """Do what is left to do."""
        self.save()  # before the first file, so that those there are always of this job
        if not self.state["read"]:
            self.read(skip_bad, block, progress)
        self.make_ids(progress)
        self.list_rows()

    def save(self) -> None:
        """Note how far the files are right."""
        store.write_json(self.part / store.STATE, self.state)

    # Step 1

    def read(self, skip_bad: int, block: int, progress: bool) -> None:
        """Read the text from where the state stands to its end.

        A thread reads ahead, polars parses on all cores, another thread writes what was parsed.
        """
        state, writing = self.state, cast(Future[None] | None, None)
        total, seen = state["job"]["source"]["bytes"], state["end"]
        with (
            store.Files(self.part, self.widths(), state["rows"]) as files,
            bar(total=total, initial=seen, desc="reading", unit="B", unit_scale=True,
                disable=not progress) as shown,
            ThreadPoolExecutor(1) as writer,
        ):  # fmt: skip
            for number, piece in enumerate(blocks(self.source, self.form, state["end"], block)):
                allowed = max(skip_bad - len(state["skipped"]), 0)
                good, bad = parse(piece.text, self.form, allowed)
                if writing:
                    writing.result()  # from here on, state and files agree
                if len(bad) > allowed or number % SAVE == SAVE - 1:
                    files.sync()
                    self.save()
                self.skip(bad, skip_bad)
                writing = writer.submit(self.write, files, good, len(bad), piece.end)
                shown.update(piece.place - seen)
                seen = piece.place
            if writing:
                writing.result()
            if state["rows"]:
                state["read"] = True
                files.sync()
                self.save()
        if not state["rows"]:
            self.discard()
            raise UserError(f"{self.source} has no line of data.")

    def discard(self) -> None:
        """Remove what was written, and the folder unless something else is in it."""
        for name in (*self.widths(), store.STATE):
            (self.part / name).unlink(missing_ok=True)
        with suppress(OSError):
            self.part.rmdir()

    def widths(self) -> dict[str, int]:
        """The files of step 1, and the bytes a row has in each."""
        widths = {"label.bin": 1, "dense.bin": 4 * len(DENSE)}
        for name in SPARSE:
            rule = self.rules[name]
            if isinstance(rule, Buckets):
                widths[f"{name}.bin"] = id_type(rule.number).itemsize
            else:
                widths[f"{name}.raw"] = 4
        return widths | ({"missing.raw": 4} if self.counted else {})

    def skip(self, bad: list[Bad], allowed: int) -> None:
        """Note bad lines, or raise a UserError when there are more than allowed."""
        before = self.state["lines"] + (self.form.header > 0) + 1
        for line in bad:
            if len(self.state["skipped"]) >= allowed:
                raise UserError(
                    f"{self.source}, line {before + line.line:,}: {line.found}. "
                    f"--skip-bad allows {allowed} bad line(s), and this is one more. Nothing is at "
                    f"the final name; {self.part.name} keeps what was read, and the same command "
                    "with a larger --skip-bad goes on from there."
                )
            self.state["skipped"].append(before + line.line)

    def write(self, files: store.Files, good: list[Lines], bad: int, end: int) -> None:
        """Append what stands in the lines of a block to the files, and count it."""
        state = self.state
        for lines in good:
            files.append("label.bin", lines.labels)
            files.append("dense.bin", transform(lines.dense))
            for place, name in enumerate(SPARSE):
                values, rule = lines.sparse[place], self.rules[name]
                if isinstance(rule, Buckets):
                    ids = np.empty(len(lines), id_type(rule.number))
                    hash_ids(values, lines.missing, place, rule.number, ids)
                    files.append(f"{name}.bin", ids)
                else:
                    files.append(f"{name}.raw", values)
            if self.counted:
                files.append("missing.raw", lines.missing)
            state["rows"] += len(lines)
            state["positives"] += int(lines.labels.sum())
            for counts, more in (("missing", lines.absent), ("negative", (lines.dense < 0).sum(1))):
                state[counts] = np.add(state[counts], more).tolist()
        state["lines"] += sum(map(len, good)) + bad
        state["end"] = end

    # Step 2

    def make_ids(self, progress: bool) -> None:
        """Count the columns that have a vocabulary and write their ids, two columns at a time."""
        found = self.state["vocabularies"]
        left = [name for name in self.counted if name not in found]
        shown = bar(total=len(left), desc="vocabularies", unit="column", disable=not progress)
        with shown, ThreadPoolExecutor(2) as workers:
            for name, counts in zip(left, workers.map(self.column_ids, left), strict=True):
                found[name] = counts
                self.save()
                shown.update()
        for name in [*self.counted, "missing"]:
            (self.part / f"{name}.raw").unlink(missing_ok=True)

    def column_ids(self, name: str) -> store.Json:
        """Write `NAME.words` and `NAME.bin`, and say what was found."""

        def training() -> Iterator[tuple[NDArray[np.uint32], NDArray[np.bool_]]]:
            for values, missing, splits in self.column(name):
                yield values, ~missing & (splits == 0)

        words = vocabulary.build(training, self.rules[name].number)
        encode = vocabulary.encoder(words)
        dtype = id_type(len(words) + OUT_OF_VOCABULARY)
        unknown = np.zeros(len(SPLITS), np.int64)
        with (self.part / f"{name}.words").open("wb") as file:
            store.append(file, words)
            store.sync([file])
        with (self.part / f"{name}.bin").open("wb") as file:
            for values, missing, splits in self.column(name):
                ids = encode(values, missing)
                unknown += np.bincount(splits[ids == OUT_OF_VOCABULARY], minlength=len(SPLITS))
                store.append(file, ids.astype(dtype))
            store.sync([file])
        return {
            "words": len(words),
            "out_of_vocabulary": dict(zip(SPLITS, unknown.tolist(), strict=True)),
        }

    def column(self, name: str) -> Iterator[tuple[NDArray[Any], NDArray[Any], NDArray[np.uint8]]]:
        """The numbers of a column, which are missing, and the split of each row, in pieces."""
        start, bit, number = 0, np.uint32(SPARSE.index(name)), np.dtype(np.uint32)
        values = store.pieces(self.part / f"{name}.raw", number, ROWS)
        masks = store.pieces(self.part / "missing.raw", number, ROWS)
        for piece, mask in zip(values, masks, strict=True):
            splits = self.split.of_rows(start, start + len(piece), self.state["rows"])
            yield piece, (mask >> bit & np.uint32(1)).astype(np.bool_), splits
            start += len(piece)

    # Step 3

    def list_rows(self) -> None:
        """List the rows of each split when they are not one behind the other, and count them."""
        rows = self.state["rows"]
        if isinstance(self.split, Days):
            valid, test = self.split.bounds(rows)
            sizes = [valid, test - valid, rows - test]
        else:
            files = store.Files(self.part, {f"{name}.rows": 8 for name in SPLITS}, 0)
            sizes = [0] * len(SPLITS)
            with files:
                for start in range(0, rows, ROWS):
                    splits = self.split.of_rows(start, min(start + ROWS, rows), rows)
                    for place, name in enumerate(SPLITS):
                        mine = np.flatnonzero(splits == place) + start
                        files.append(f"{name}.rows", mine)
                        sizes[place] += len(mine)
                files.sync()
        self.state["splits"] = dict(zip(SPLITS, sizes, strict=True))


def transform(dense: NDArray[np.int64]) -> NDArray[np.float32]:
    """log(1 + max(x, 0)) of integers (13, n), as in the public DLRM, row by row (n, 13).

    A missing one, 0 before, is 0 after.
    """
    return np.log1p(np.maximum(dense, 0).astype(np.float32)).T
