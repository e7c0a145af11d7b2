"""Fetching by name, with a publisher on this disk; and the command in front of it all."""

import argparse
import hashlib
import io
import subprocess
import sys
import tarfile

import pytest
from criteotext import some_rows, text_of, write

from dlrm_mini import cli
from dlrm_mini.datasets import criteo_fetch
from dlrm_mini.datasets.criteo_fetch import Log, checksum, fetch
from dlrm_mini.errors import UserError
from dlrm_mini.shell import criteo as shell

REAL = criteo_fetch.LOGS
TEXT = text_of(some_rows(40))


def md5(content: bytes) -> str:
    return f"md5:{hashlib.md5(content).hexdigest()}"


@pytest.fixture
def publisher(tmp_path, monkeypatch):
    """A log of forty lines behind a file:// url, in place of the real ones."""
    archive = tmp_path / "publisher" / "log.tar.gz"
    archive.parent.mkdir()
    with tarfile.open(archive, "w:gz") as packed:
        for name, content in (("dac/readme.txt", b"read me"), ("dac/train.txt", TEXT)):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            packed.addfile(entry, io.BytesIO(content))
    urls = ((tmp_path / "nowhere").as_uri(), archive.as_uri())
    size, of_archive = archive.stat().st_size, md5(archive.read_bytes())
    log = Log("log.tar.gz", size, of_archive, "train.txt", md5(TEXT), urls)
    monkeypatch.setattr(criteo_fetch, "LOGS", {"toy": log})
    monkeypatch.setenv("DLRM_MINI_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("DLRM_MINI_PROGRESS", "off")
    return archive


def refused(name: str = "toy") -> str:
    with pytest.raises(UserError) as caught:
        fetch(name)
    return str(caught.value)


def left(tmp_path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "data" / "criteo").iterdir())


def test_fetched_once_and_verified_each_time(publisher, tmp_path):
    path = fetch("toy")
    assert path == tmp_path / "data" / "criteo" / "train.txt" and path.read_bytes() == TEXT
    publisher.unlink()
    assert fetch("toy") == path and left(tmp_path) == ["train.txt"]
    path.write_bytes(TEXT[1:])
    said = refused()
    assert "is not the original file" in said and md5(TEXT) in said and md5(TEXT[1:]) in said
    assert path.read_bytes() == TEXT[1:]


def test_an_altered_archive_is_never_opened(publisher, tmp_path):
    before = md5(publisher.read_bytes())
    publisher.write_bytes(publisher.read_bytes()[:-1])
    said = refused()
    assert f"sent {md5(publisher.read_bytes())}, expected {before}" in said
    assert "nowhere: " in said and "To do it by hand, put the archive at" in said
    assert left(tmp_path) == []


def test_an_archive_of_the_users_is_used_or_refused_but_never_touched(publisher, tmp_path):
    own = tmp_path / "data" / "criteo" / "log.tar.gz"
    own.parent.mkdir(parents=True)
    publisher.rename(own)
    assert fetch("toy").read_bytes() == TEXT and left(tmp_path) == ["log.tar.gz", "train.txt"]
    (own.parent / "train.txt").unlink()
    own.write_bytes(b"something else")
    assert "log.tar.gz is not the original file: it has 14 bytes" in refused()
    assert own.read_bytes() == b"something else" and left(tmp_path) == ["log.tar.gz"]


def test_a_full_disk_leaves_nothing(publisher, tmp_path, monkeypatch):
    def full(response, file, update):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(criteo_fetch, "_copy", full)
    assert "No space left on device. Nothing half-written" in refused()
    assert left(tmp_path) == []


def test_the_real_logs_are_named_with_their_checksums():
    assert set(REAL) == {"sample", "full"}
    for log in REAL.values():
        for text in (log.checksum, log.member_checksum):
            kind, digits = text.split(":")
            assert len(digits) == {"git": 40, "md5": 32}[kind] and int(digits, 16)
    assert REAL["full"].bytes == 4_576_820_670
    assert "no log 'medium'; there are sample, full" in refused("medium")


def test_a_blob_id_is_gits(tmp_path):
    (tmp_path / "empty").touch()
    assert checksum(tmp_path / "empty", "git:") == "git:e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"


# The command


def command(*words: str) -> int:
    parser = argparse.ArgumentParser()
    shell.arguments(parser)
    return shell.criteo(parser.parse_args(words))


def test_prepare_and_show(tmp_path, capsys):
    source, out = write(tmp_path / "log.txt", some_rows(70)), tmp_path / "out"
    chosen = ("--buckets", "50", "--columns", "C3=threshold:2,C5=buckets:9", "--random-split", "4")
    assert command("prepare", str(source), "--out", str(out), *chosen) == 0
    said = capsys.readouterr()
    assert f"{source}: tabs, no header" in said.err
    assert "70 rows" in said.out and "(random, seed 4)" in said.out
    lines = {line.split()[0]: line for line in said.out.splitlines()}
    assert "threshold:2" in lines["C3"] and lines["C3"].endswith("%")
    assert "10  buckets:9" in lines["C5"] and "51  buckets:50" in lines["C26"]
    assert command("show", str(out)) == 0 and capsys.readouterr().out == said.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--columns", "C27=buckets:3"), "--columns C27=buckets:3 names no column"),
        (("--columns", "C1=buckets"), "'buckets' is no rule"),
        (("--threshold", "0"), "a threshold of 0"),
        (("--skip-bad", "-1"), "--skip-bad is -1"),
    ],
)
def test_wrong_words_are_refused(tmp_path, words, said):
    source = write(tmp_path / "log.txt", some_rows(5))
    with pytest.raises(UserError, match=said):
        command("prepare", str(source), "--out", str(tmp_path / "out"), *words)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.txt"]


def test_a_threshold_of_10_and_seven_days_unless_said_otherwise(tmp_path, capsys):
    source, out = write(tmp_path / "log.txt", some_rows(70)), tmp_path / "out"
    assert command("prepare", str(source), "--out", str(out)) == 0
    assert capsys.readouterr().out.count("threshold:10") == 26
    assert command("prepare", str(source), "--out", str(tmp_path / "five"), "--threshold", "5") == 0
    assert capsys.readouterr().out.count("threshold:5") == 26


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("fetch sample", "The same command begins anew."),
        ("generate --rows 1 --out x", "The same command begins anew."),
        ("prepare x --out y", "The same command goes on from there."),
        ("show x", "Nothing was changed."),
    ],
)
def test_what_ctrl_c_says_is_true(words, said, monkeypatch, capsys):
    def stopped(options):
        raise KeyboardInterrupt

    monkeypatch.setattr(shell, "criteo", stopped)
    assert cli.main(["criteo", *words.split()]) == 130
    assert capsys.readouterr().err.strip() == f"dlrm-mini: stopped. {said}"


def test_the_commands_words_cost_no_import():
    code = "import sys, dlrm_mini.shell.criteo; print({'polars', 'numba', 'numpy', 'torch'} & set(sys.modules))"  # noqa: E501
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr
