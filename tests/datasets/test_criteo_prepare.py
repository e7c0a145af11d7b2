"""Preparing: every column beside plain Python, killed anywhere, bad lines, a full disk."""

import errno
import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
from criteotext import (
    contents,
    dense_of,
    hashed_ids,
    some_rows,
    text_of,
    threshold_ids,
    write,
)
from filelock import FileLock

from dlrm_mini.datasets import criteo_prepare, criteo_steps, criteo_store, synthetic_text
from dlrm_mini.datasets.criteo import Prepared
from dlrm_mini.datasets.criteo_columns import Buckets, Threshold
from dlrm_mini.datasets.criteo_format import DENSE, SPARSE
from dlrm_mini.datasets.criteo_prepare import prepare
from dlrm_mini.datasets.criteo_splits import SPLITS, Days, Random
from dlrm_mini.datasets.synthetic import ClickLog
from dlrm_mini.datasets.synthetic_config import ClickLogConfig, criteo_cardinalities
from dlrm_mini.errors import UserError

N = 700
ROWS = some_rows(N, seed=1)
MIXED = {
    name: (Buckets(300 if place % 4 else 100_000) if place % 2 else Threshold(1 + place % 5))
    for place, name in enumerate(SPARSE)
}
CHILD = """
import os, signal, sys
from pathlib import Path
from dlrm_mini.datasets import criteo_steps, criteo_store
from dlrm_mini.datasets.criteo_columns import Buckets, Threshold, rule
from dlrm_mini.datasets.criteo_prepare import prepare
from dlrm_mini.datasets.criteo_splits import Random
left, out = int(sys.argv[1]), Path(sys.argv[2])
def mortal(function, halfway=None):
    def called(*arguments, **keywords):
        global left
        left -= 1
        if left < 0:
            if halfway:
                halfway(*arguments)
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **keywords)
    return called
def half(file, values):
    file.write(values.tobytes()[: values.nbytes // 2])
    file.flush()
criteo_store.append = mortal(criteo_store.append, half)
criteo_store.sync = mortal(criteo_store.sync)
Path.replace = mortal(Path.replace)
Path.unlink = mortal(Path.unlink)
criteo_steps.SAVE, criteo_steps.ROWS = 2, 100
rules = {name: rule(text) for name, text in zip(
    [f"C{n}" for n in range(1, 27)], sys.argv[3].split(","))}
prepare(out.parent / "log.txt", out, rules=rules, split=Random(3), progress=False, block=8192)
"""


@pytest.fixture
def small(monkeypatch):
    """Many small steps, so that little text meets all that happens between them."""
    monkeypatch.setattr(criteo_steps, "SAVE", 2)
    monkeypatch.setattr(criteo_steps, "ROWS", 100)
    monkeypatch.setattr(criteo_store.os, "fsync", lambda number: None)  # only power cuts need it


def quiet(source, out, **keywords):
    return prepare(source, out, **({"progress": False, "block": 8192} | keywords))


@pytest.mark.parametrize("split", [Days(), Random(3)], ids=str)
def test_everything_beside_plain_python(tmp_path, small, split):
    source = write(tmp_path / "log.txt", ROWS)
    meta = quiet(source, tmp_path / "out", rules=MIXED, split=split)
    prepared = Prepared.open(tmp_path / "out")
    names = {"meta.json", "label.bin", "dense.bin", *(f"{name}.bin" for name in SPARSE)}
    names |= {f"{name}.words" for name in SPARSE[::2]}
    names |= {f"{name}.rows" for name in SPLITS} if isinstance(split, Random) else set()
    assert set(contents(tmp_path / "out")) == names
    assert prepared.meta == meta and len(prepared) == N
    assert prepared.labels.tolist() == [int(row[0]) for row in ROWS]
    assert prepared.dense.dtype == np.float32
    assert np.allclose(prepared.dense, dense_of(ROWS), rtol=3e-7, atol=0)
    where = split.of_rows(0, N, N)
    training, unseen = np.flatnonzero(where == 0).tolist(), 0
    for column, name in enumerate(SPARSE):
        rule, counts = MIXED[name], meta["sparse"][name]
        if isinstance(rule, Threshold):
            expected = threshold_ids(ROWS, column, rule.number, training)
            unknown = [int((where[np.array(expected) == 1] == s).sum()) for s in range(3)]
            assert counts["out_of_vocabulary"] == dict(zip(SPLITS, unknown, strict=True))
            unseen += unknown[2]
            assert rule.number == 1 or unknown[0]
        else:
            expected = hashed_ids(ROWS, column, rule.number)
            assert counts["ids"] == rule.number + 1
        assert prepared.columns[name].tolist() == expected
        assert max(expected) < counts["ids"]
        assert counts["missing"] == sum(not row[14 + column] for row in ROWS)
        assert prepared.ids(name, [row[14 + column] for row in ROWS]).tolist() == expected
    assert unseen, "no test value of this test was unseen in training"
    for place, name in enumerate(DENSE, 1):
        numbers = [row[place] for row in ROWS]
        missing, negative = numbers.count(""), sum(x.startswith("-") for x in numbers)
        assert meta["dense"][name] == {"missing": missing, "negative": negative} and negative
    assert meta["positives"] == sum(row[0] == "1" for row in ROWS)
    for place, name in enumerate(SPLITS):
        rows = np.flatnonzero(where == place)
        assert prepared.splits[name] == len(rows)
        assert prepared.rows(name, 0, len(rows)).tolist() == rows.tolist()


def test_a_generated_log_comes_back_as_it_was(tmp_path):
    log = ClickLog(ClickLogConfig(criteo_cardinalities(1e-4)))
    source = synthetic_text.write(log, tmp_path / "log.txt", 500, 3500)
    quiet(source, tmp_path / "out", rules=Threshold(1), block=1 << 18)
    prepared = Prepared.open(tmp_path / "out")
    batch, _ = log.batch(500, 3500)
    assert np.allclose(prepared.dense, batch.dense.numpy(), rtol=3e-7, atol=0)
    assert prepared.labels.tolist() == batch.labels.tolist()
    training = prepared.splits["train"]
    for name in log.names:
        ids, own = prepared.columns[name][:training], batch.sparse.ids(name)[:training].numpy()
        pairs = set(zip(ids.tolist(), own.tolist(), strict=True))
        assert len(pairs) == len(np.unique(ids)) == len(np.unique(own))  # other names, same rows


def test_unseen_values_are_out_of_vocabulary_or_in_a_bucket(tmp_path):
    quiet(write(tmp_path / "log.txt", ROWS), tmp_path / "out", rules=MIXED)
    prepared = Prepared.open(tmp_path / "out")
    assert prepared.ids("C1", ["ffffffff", "00000001", "", None]).tolist() == [1, 1, 0, 0]
    assert 1 <= prepared.ids("C2", ["ffffffff"])[0] <= 300
    for wrong, said in (("C27", "no column 'C27'"), ("C1", "'red' is no category")):
        with pytest.raises(UserError, match=said):
            prepared.ids(wrong, ["red"])


def test_the_bytes_do_not_depend_on_the_blocks(tmp_path, small):
    source = write(tmp_path / "log.txt", ROWS)
    for block in (5_000, 12_000, 1 << 24):
        quiet(source, tmp_path / str(block), rules=MIXED, block=block)
    assert contents(tmp_path / "5000") == contents(tmp_path / "12000")
    assert contents(tmp_path / "5000") == contents(tmp_path / str(1 << 24))


def test_killed_anywhere_it_goes_on_to_the_same_bytes(tmp_path, small, monkeypatch):
    """Kill -9 at many moments, halfway through a write among them, one process after another."""
    source = write(tmp_path / "log.txt", ROWS)
    count = {"calls": 0}

    def counted(function):
        def called(*arguments, **keywords):
            count["calls"] += 1
            return function(*arguments, **keywords)

        return called

    with monkeypatch.context() as patch:
        for owner, name in (
            (criteo_store, "append"),
            (criteo_store, "sync"),
            (criteo_store.Path, "replace"),
            (criteo_store.Path, "unlink"),
        ):
            patch.setattr(owner, name, counted(getattr(owner, name)))
        quiet(source, tmp_path / "whole", rules=MIXED, split=Random(3))
    total, rules = count["calls"], ",".join(map(str, MIXED.values()))
    # Each child begins where the one before was killed; the last ones die while they finish.
    children, out = 0, tmp_path / "out"
    for moment in (10, 200, 95, 300, 61, total):
        command = [sys.executable, "-c", CHILD, str(moment), str(out), rules]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert not out.exists() and (tmp_path / "out.part").is_dir()
        children += 1
    assert children >= 3
    if not out.exists():
        quiet(source, out, rules=MIXED, split=Random(3))
    assert contents(out) == contents(tmp_path / "whole")
    assert not (tmp_path / "out.part").exists()


def test_killed_just_before_it_gets_its_name(tmp_path, small, monkeypatch):
    source, out = write(tmp_path / "log.txt", ROWS), tmp_path / "out"

    def die(part, out, meta):
        store_finish(part, tmp_path / "elsewhere", meta)
        (tmp_path / "elsewhere").rename(part)
        raise KeyboardInterrupt

    store_finish = criteo_store.finish
    monkeypatch.setattr(criteo_store, "finish", die)
    with pytest.raises(KeyboardInterrupt):
        quiet(source, out, rules=MIXED)
    monkeypatch.setattr(criteo_store, "finish", store_finish)
    monkeypatch.setattr(criteo_prepare, "Work", None)  # nothing is left to do
    meta = quiet(source, out, rules=MIXED)
    assert Prepared.open(out).meta == meta and not (tmp_path / "out.part").exists()


# Bad lines


def spoilt(path, *places: int):
    lines = text_of(ROWS).splitlines(keepends=True)
    for place in places:
        lines[place] = lines[place].replace(b"\t", b"\tx", 1)
    path.write_bytes(b"".join(lines))
    return path


def refused(*arguments, **keywords) -> str:
    with pytest.raises(UserError) as caught:
        quiet(*arguments, **keywords)
    return str(caught.value)


def test_a_bad_line_is_named_and_nothing_is_at_the_final_name(tmp_path, small):
    source = spoilt(tmp_path / "log.txt", 500)
    said = refused(source, tmp_path / "out", rules=MIXED)
    assert said.startswith(f"{source}, line 501: I1 holds 'x")
    assert "expected a whole number or nothing. --skip-bad allows 0 bad line(s)" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.txt", "out.part"]
    state = criteo_store.read_json(tmp_path / "out.part" / criteo_store.STATE)
    assert 450 < state["rows"] < 500  # all but the block of the bad line


def test_so_many_bad_lines_are_left_out_as_are_allowed(tmp_path, small):
    bad = (0, 13, 14, 500, N - 1)
    source = spoilt(tmp_path / "log.txt", *bad)
    assert f"line {N}: I1" in refused(source, tmp_path / "out", rules=MIXED, skip_bad=4)
    meta = quiet(source, tmp_path / "out", rules=MIXED, skip_bad=5)  # goes on from there
    assert meta["skipped"] == [place + 1 for place in bad] and meta["rows"] == N - 5
    good = [row for place, row in enumerate(ROWS) if place not in bad]
    quiet(write(tmp_path / "good.txt", good), tmp_path / "good", rules=MIXED)
    for path in (tmp_path / "good").iterdir():
        if path.name != criteo_store.META:
            assert path.read_bytes() == (tmp_path / "out" / path.name).read_bytes(), path.name


def test_lines_left_out_before_count_when_it_goes_on(tmp_path, small):
    source = spoilt(tmp_path / "log.txt", 0, 1, 2, 400, 600)
    assert "line 601: I1" in refused(source, tmp_path / "out", rules=MIXED, skip_bad=4)
    assert "line 601: I1" in refused(source, tmp_path / "out", rules=MIXED, skip_bad=2)


@pytest.mark.parametrize("bad", [0, 3])
def test_without_a_row_nothing_is_left(tmp_path, bad):
    header = text_of([("label", *DENSE, *SPARSE)])
    (tmp_path / "log.txt").write_bytes(header + b"x\n" * bad)
    for _ in range(2):
        said = refused(tmp_path / "log.txt", tmp_path / "out", skip_bad=3)
        assert "has no line of data" in said
        assert [path.name for path in tmp_path.iterdir()] == ["log.txt"]


def test_the_header_counts_as_a_line(tmp_path):
    source = spoilt(tmp_path / "log.txt", 7)
    header = "\t".join(("label", *DENSE, *SPARSE)) + "\n"
    source.write_bytes(header.encode() + source.read_bytes())
    assert f"{source}, line 9: I1" in refused(source, tmp_path / "out")


# The disk, other processes, other settings


@pytest.mark.parametrize("moment", [5, 60, 150, "the last"])
def test_a_full_disk_leaves_nothing_half_made_and_loses_nothing(
    tmp_path, small, monkeypatch, moment
):
    source, out = write(tmp_path / "log.txt", ROWS), tmp_path / "out"
    quiet(source, tmp_path / "whole", rules=MIXED)
    append, calls = criteo_store.append, []

    def full(file, values):
        calls.append(file.name)
        last = str(file.name).endswith("meta.json.new")
        if len(calls) == moment or (moment == "the last" and last):
            file.write(values.tobytes()[:10])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), file.name)
        append(file, values)

    monkeypatch.setattr(criteo_store, "append", full)
    said = refused(source, out, rules=MIXED)
    assert "No space left on device" in said and "the same command goes on from there" in said
    assert not out.exists()
    monkeypatch.setattr(criteo_store, "append", append)
    quiet(source, out, rules=MIXED)
    assert contents(out) == contents(tmp_path / "whole")


def test_what_was_begun_in_another_way_is_not_gone_on_with(tmp_path, small, monkeypatch):
    source, out = spoilt(tmp_path / "log.txt", 600), tmp_path / "out"
    refused(source, out, rules=Buckets(10), block=1 << 20)  # at once: not one block was read
    said = refused(source, out, rules=Buckets(11))
    assert "was begun with buckets:10 for C1, and now it is buckets:11" in said
    said = refused(source, out, rules=Buckets(10), split=Random(1))
    assert "was begun with split seven days, and now it is random, seed 1" in said
    other = write(tmp_path / "other.txt", ROWS)
    assert "its name was log.txt, and now it is other.txt" in refused(other, out, rules=Buckets(10))
    before = source.stat()
    source.write_bytes(text_of(ROWS))
    said = refused(source, out, rules=Buckets(10))
    assert "was begun from another file: its " in said and "or delete it to begin anew" in said
    size = f"its size was {before.st_size:,} bytes, and now it is {before.st_size - 1:,} bytes"
    assert size in said
    source.write_bytes(text_of(ROWS) + b"\n")
    os.utime(source, (0, 86400 * 366))
    assert before.st_size == source.stat().st_size
    assert re.search(r"its last change was 20\d\d-.*, and now it is 197\d-0", refused(
        source, out, rules=Buckets(10)))  # fmt: skip


def test_a_folder_that_is_there_is_never_written_to(tmp_path, monkeypatch):
    source, out = write(tmp_path / "log.txt", ROWS[:50]), tmp_path / "out"
    out.mkdir()
    first = quiet(source, out, rules=Buckets(10))  # an empty one is as good as none
    before = contents(out)
    with monkeypatch.context() as patch:
        patch.setattr(criteo_prepare, "Work", None)  # nothing is done a second time
        assert quiet(source, out, rules=Buckets(10)) == first
    assert "with buckets:10 for C1, and now it is threshold:10" in refused(source, out)
    assert contents(out) == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    assert "holds something else" in refused(source, tmp_path / "mine")
    assert "holds something else" in refused(source, source)
    assert not list(tmp_path.glob("*.part"))


def test_two_processes_do_not_prepare_the_same_folder(tmp_path):
    source, out = write(tmp_path / "log.txt", ROWS[:50]), tmp_path / "out"
    with criteo_store.working_folder(out):
        assert "another process is preparing" in refused(source, out)
    assert quiet(source, out)["rows"] == 50


def test_the_lock_is_held_until_the_folder_has_its_name(tmp_path, monkeypatch):
    source, out = write(tmp_path / "log.txt", ROWS[:50]), tmp_path / "out"
    replace, said = criteo_store.Path.replace, []

    def replacing(path, target):
        if target == out:
            said.append(refused(source, out))
        return replace(path, target)

    monkeypatch.setattr(criteo_store.Path, "replace", replacing)
    quiet(source, out)
    assert len(said) == 1 and "another process is preparing" in said[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.txt", "out"]


def test_a_folder_that_came_to_be_while_waiting_for_the_lock_is_kept(tmp_path, monkeypatch):
    source, out = write(tmp_path / "log.txt", ROWS[:50]), tmp_path / "out"

    def late(path, timeout):
        monkeypatch.undo()
        quiet(source, out)  # another process, from its beginning to its end
        monkeypatch.setattr(criteo_prepare, "Work", None)  # nothing is done a second time
        return FileLock(path, timeout=timeout)

    monkeypatch.setattr(criteo_store, "FileLock", late)
    assert quiet(source, out) == Prepared.open(out).meta
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.txt", "out"]


def test_a_link_to_an_empty_folder_is_followed(tmp_path):
    source = write(tmp_path / "log.txt", ROWS[:50])
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk")
    quiet(source, tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and len(Prepared.open(tmp_path / "disk")) == 50
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "link", "log.txt"]


def test_a_folder_that_cannot_be_made_promises_nothing(tmp_path):
    source = write(tmp_path / "log.txt", ROWS[:50])
    said = refused(source, source / "in" / "out")
    assert "out.part could not be written: Not a directory. There is no out." in said
    assert "stays" not in said


NO_META = [b"", b'{"a": 1', b'{"a": 1}', b"[]", b"7", b"\xff\xfe\x00", b'{"job": 3}']


@pytest.mark.parametrize("content", NO_META)
def test_notes_that_are_damaged_or_foreign_are_named(tmp_path, small, content):
    source, out = write(tmp_path / "log.txt", ROWS), tmp_path / "out"
    quiet(source, out)
    (out / "meta.json").write_bytes(content)
    with pytest.raises(
        UserError, match=r"out.meta.json is not what `criteo prepare` writes: its v"
    ):
        Prepared.open(out)
    assert "Name another folder; or, if " in refused(source, out)
    assert (out / "meta.json").read_bytes() == content
    for name in ("state.json", "meta.json"):
        part = tmp_path / name / "out.part"
        part.mkdir(parents=True)
        (part / name).write_bytes(content)
        assert f"{part / name} is not what" in refused(source, tmp_path / name / "out")


def test_a_folder_of_another_version_is_refused(tmp_path):
    quiet(write(tmp_path / "log.txt", ROWS[:50]), tmp_path / "out")
    path = tmp_path / "out" / "meta.json"
    path.write_text(path.read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(UserError, match="its version is 2, expected 1"):
        Prepared.open(tmp_path / "out")


def test_rules_for_some_columns_only_are_refused(tmp_path):
    source = write(tmp_path / "log.txt", ROWS[:50])
    assert "rules for C1; expected C1 to C26" in refused(
        source, tmp_path / "out", rules={"C1": Buckets(3)}
    )


def test_a_prepared_folder_that_lost_bytes_is_refused(tmp_path):
    quiet(write(tmp_path / "log.txt", ROWS), tmp_path / "out")
    with (tmp_path / "out" / "C7.bin").open("r+b") as file:
        file.truncate(100)
    with pytest.raises(UserError, match=r"C7.bin has 100 bytes, expected [\d,]+ for 700 rows"):
        Prepared.open(tmp_path / "out")
    with pytest.raises(UserError, match="is no prepared click log"):
        Prepared.open(tmp_path)


def test_lists_of_words_and_rows_are_looked_at_too(tmp_path, small):
    out = tmp_path / "out"
    quiet(write(tmp_path / "log.txt", ROWS), out, rules=Threshold(2), split=Random(1))
    prepared = Prepared.open(out)
    for name in ("valid.rows", "C3.words"):
        content = (out / name).read_bytes()
        (out / name).write_bytes(content[:-4])
        with pytest.raises(
            UserError, match=f"{name} has [\\d,]+ bytes, expected {len(content):,} "
        ):
            Prepared.open(out)
        (out / name).write_bytes(content)
    (out / "test.rows").unlink()
    with pytest.raises(UserError, match=r"test\.rows has 0 bytes, expected"):
        Prepared.open(out)
    with pytest.raises(FileNotFoundError):  # and are not those of another split
        prepared.rows("test", 0, 5)


def test_one_row_is_a_log_too(tmp_path):
    meta = quiet(write(tmp_path / "log.txt", ROWS[:1]), tmp_path / "out")
    assert meta["splits"] == {"train": 0, "valid": 0, "test": 1}
    assert json.loads((tmp_path / "out" / "meta.json").read_text()) == meta
    assert set(Prepared.open(tmp_path / "out").batch("test").sparse.values.tolist()) <= {0, 1}
