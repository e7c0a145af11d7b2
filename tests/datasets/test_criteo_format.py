"""The public variants of Criteo's files: read as if they were the original, or refused in words."""

import gzip
import os
import tarfile

import pytest
from criteotext import HEADER, some_rows, text_of, write
from hypothesis import given, settings
from hypothesis import strategies as st

from dlrm_mini.datasets.criteo_columns import Buckets
from dlrm_mini.datasets.criteo_format import Format, blocks, recognise
from dlrm_mini.datasets.criteo_prepare import prepare
from dlrm_mini.errors import UserError

ROWS = some_rows(60)
IDS = [(str(10_000_000 + number), *row) for number, row in enumerate(ROWS)]
FLOATS = [(row[0], *(x and f"{x}.0" for x in row[1:14]), *row[14:]) for row in ROWS]
NAMES = [HEADER]
CAPITALS = [(*row[:14], *(field.upper() for field in row[14:])) for row in ROWS]
BOTH = [(row[0], *floats) for row, floats in zip(IDS, FLOATS, strict=True)]
WITH_ID = "commas, a header, a leading id"
WINDOWS = "Windows line ends"

VARIANTS = {
    "as published": (text_of(ROWS), "tabs, no header"),
    "header": (text_of(NAMES + ROWS), "tabs, a header"),
    "commas": (text_of(ROWS, ","), "commas, no header"),
    "id": (text_of(IDS), "tabs, no header, a leading id"),
    "kaggle's csv": (text_of([("Id", "Label", *HEADER[1:]), *IDS], ","), WITH_ID),
    "index": (text_of([("", *HEADER), *IDS], ","), WITH_ID),
    "decimals": (text_of(FLOATS), "tabs, no header, integers like 1.0"),
    "windows": (text_of(ROWS, end="\r\n"), f"tabs, no header, {WINDOWS}"),
    "capitals": (text_of(CAPITALS), "tabs, no header"),
    "no end": (text_of(ROWS)[:-1], "tabs, no header"),
    "mixed line ends": (text_of(ROWS[:30]) + text_of(ROWS[30:], end="\r\n"), "tabs, no header"),
    "blank lines at the end": (text_of(ROWS) + b"\n\r\n\n", "tabs, no header"),
    "no end after commas": (text_of(ROWS, ",", "\r\n")[:-2], f"commas, no header, {WINDOWS}"),
    "all at once": (
        text_of([("id", *HEADER), *BOTH], ",", "\r\n"),
        f"{WITH_ID}, integers like 1.0, {WINDOWS}",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    prepare(write(folder / "a.txt", ROWS), folder / "out", rules=Buckets(500), progress=False)
    return columns(folder / "out")


def columns(out):
    return {path.name: path.read_bytes() for path in out.glob("*.bin")}


@pytest.mark.parametrize("zipped", [False, True], ids=["", "gzip"])
@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_gives_the_same_columns(tmp_path, expected, name, zipped):
    text, said = VARIANTS[name]
    path = tmp_path / "log"
    path.write_bytes(gzip.compress(text) if zipped else text)
    assert recognise(path).describe() == said + ", gzip" * zipped
    meta = prepare(path, tmp_path / "out", rules=Buckets(500), progress=False, block=4096)
    assert meta["rows"] == len(ROWS) and columns(tmp_path / "out") == expected


def refused(path, content: bytes | None = None) -> str:
    if content is not None:
        path.write_bytes(content)
    out = path.parent / "out"
    with pytest.raises(UserError) as caught:
        prepare(path, out, progress=False)
    assert not out.exists()
    return str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"PK\x03\x04 and so on", "a zip archive; unpack it first"),
        (b"PAR1....", "a Parquet file"),
        (b"BZh91AY", "compressed with bzip2"),
        (b"\xff\xfe0\x00\t\x00", "text in UTF-16"),
        (b"\xef\xbb\xbf" + text_of(ROWS), "a byte order mark; take off its first three bytes"),
        (text_of([row[1:] for row in ROWS]), "39 field(s) between tabs and 1 between commas (the"),
        (text_of(ROWS, ";"), "1 field(s) between tabs and 1 between commas. Expected"),
        (text_of([("0", *row) for row in IDS]), "42 field(s) between tabs"),
        (text_of([("2", *row[1:]) for row in ROWS]), "field 1 of its lines should be the label"),
        (text_of([(*row, "x") for row in ROWS]), "field 2 of its lines should be the label"),
        (text_of([(*HEADER[1:], "label"), *ROWS]), "a header with other names: 'I1, I2,"),
        (text_of([("user", *HEADER), *IDS]), "a header with other names: 'user, label, I1"),
        (b"x" * 100_000, "has no line feed in its first 100,000 bytes"),
        (text_of(ROWS, end="\r"), "has no line feed"),
        (gzip.compress(text_of(ROWS))[:200], "is a broken gzip file"),
        (gzip.compress(b""), "is empty"),
        (text_of(NAMES), "has no line of data"),
    ],
)  # fmt: skip
def test_what_is_not_criteos_is_refused(tmp_path, content, said):
    assert said in refused(tmp_path / "log.txt", content)


def test_an_archive_a_folder_and_nothing_are_refused(tmp_path):
    with tarfile.open(tmp_path / "dac.tar.gz", "w:gz") as archive:
        archive.add(write(tmp_path / "train.txt", ROWS), "train.txt")
    assert "is a tar archive. Unpack it first (tar -xzf dac.tar.gz)" in refused(
        tmp_path / "dac.tar.gz"
    )
    assert "is a folder" in refused(tmp_path)
    assert "cannot be read: No such file" in refused(tmp_path / "absent.txt")


def test_a_gzip_that_breaks_off_late_names_the_place(tmp_path):
    path, text = tmp_path / "log.gz", text_of(some_rows(2000))
    whole = gzip.compress(text, mtime=0)
    assert "is a broken gzip file in its first block: " in refused(path, whole[:-2000])
    with pytest.raises(
        UserError, match=r"gzip file after at least ([\d,]+) bytes of text: "
    ) as said:
        list(blocks(path, Format(gzip=True), size=4096))
    place = int(str(said.value).split("least ")[1].split()[0].replace(",", ""))
    assert 0.8 * len(text) < place < len(text)


def test_a_pipe_is_refused_since_it_is_read_twice(tmp_path):
    os.mkfifo(tmp_path / "pipe")  # nobody writes into it: to open it would wait for ever
    assert "is a pipe or a device" in refused(tmp_path / "pipe")
    assert "Write what comes out of it to a file" in refused(tmp_path / "pipe")


def plain_end(text: bytes) -> bytes:
    """A text with plain line ends, and one at its end."""
    lines = text.replace(b"\r\n", b"\n").rstrip(b"\n")
    return lines + b"\n" if lines else b""


@given(st.lists(st.integers(0, 30), max_size=40), st.integers(1, 50), st.booleans(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_blocks_are_whole_lines_and_can_be_taken_up_anywhere(
    tmp_path_factory, lengths, size, windows, ended
):
    end = b"\r\n" if windows else b"\n"
    text = b"".join(b"x" * length + end for length in lengths)
    path = tmp_path_factory.mktemp("blocks") / "log"
    path.write_bytes(text if ended else text[: -len(end)])
    form = Format(windows=windows)
    found = list(blocks(path, form, size=size))
    assert all(block.text.endswith(b"\n") and b"\r" not in block.text for block in found)
    # Neither an end that the last line lacks nor blank lines behind it make a difference.
    assert b"".join(block.text for block in found) == plain_end(text)
    for place, block in enumerate(found[:-1]):
        rest = b"".join(b.text for b in blocks(path, form, start=block.end, size=size))
        assert rest == b"".join(b.text for b in found[place + 1 :])


def test_a_file_without_line_feeds_is_not_swallowed(tmp_path):
    path = tmp_path / "log.txt"
    path.write_bytes(text_of(ROWS * 40) + b"0" * 200_000)
    with pytest.raises(UserError, match=r"no line of data in .* bytes after byte"):
        list(blocks(path, Format(), size=4096))
