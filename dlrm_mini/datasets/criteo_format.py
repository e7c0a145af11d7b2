r"""What a file of click logs in Criteo's layout is, and its bytes in blocks of whole lines.

Criteo's own line is `label \t I1..I13 \t C1..C26` without a header: a 0 or 1, thirteen integers,
twenty-six categories of eight hexadecimal digits, and nothing between two tabs where a value is
missing. Copies in the wild have a header, commas, an id in front, Windows line ends, gzip around
them, or integers written `1.0`. Each is recognised from the file's first lines where it is
unambiguous; whatever else is there is refused with what was found.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from dlrm_mini.errors import UserError

DENSE = tuple(f"I{number}" for number in range(1, 14))
SPARSE = tuple(f"C{number}" for number in range(1, 27))
FIELDS = ("label", *DENSE, *SPARSE)
BLOCK = 16 << 20  # bytes of text at a time: some 70,000 lines
SAMPLE = 100  # lines that are looked at
LONGEST = 1 << 16  # bytes; no line of this layout comes near

MAGIC = {
    b"PK": "a zip archive; unpack it first",
    b"PAR1": "a Parquet file; write it as text with tabs first",
    b"BZh": "compressed with bzip2; unpack it first (plain text and gzip are read)",
    b"\xfd7zXZ": "compressed with xz; unpack it first (plain text and gzip are read)",
    b"\x28\xb5\x2f\xfd": "compressed with zstd; unpack it first (plain text and gzip are read)",
    b"\xff\xfe": "text in UTF-16; write it as UTF-8 first",
    b"\xfe\xff": "text in UTF-16; write it as UTF-8 first",
    b"\xef\xbb\xbf": "text that begins with a byte order mark; take off its first three bytes",
}
EXPECTED = (
    "Expected Criteo's layout: a label of 0 or 1, 13 integers and 26 categories of 8 hexadecimal "
    "digits in this order, 40 fields between tabs or commas, or 41 with an id in front"
)


@dataclass(frozen=True)
class Format:
    """How the lines of a file are written.

    Attributes:
        separator: a tab or a comma.
        header: bytes before the first line of data, 0 without a header.
        leading_id: whether an id comes before the label; it is not kept.
        decimals: whether integers are written like `1.0`.
        windows: whether lines end in a carriage return and a line feed.
        gzip: whether the file is compressed.
    """

    separator: str = "\t"
    header: int = 0
    leading_id: bool = False
    decimals: bool = False
    windows: bool = False
    gzip: bool = False

    def describe(self) -> str:
        """The format in words, for the reader to see what was recognised."""
        said = ["tabs" if self.separator == "\t" else "commas"]
        said.append("a header" if self.header else "no header")
        said += ["a leading id"] * self.leading_id + ["integers like 1.0"] * self.decimals
        said += ["Windows line ends"] * self.windows + ["gzip"] * self.gzip
        return ", ".join(said)


def recognise(path: Path) -> Format:
    """How this file is written.

    Raises:
        UserError: the file cannot be read, is empty, or is nothing this module knows.
    """
    if path.is_dir():
        raise UserError(f"{path} is a folder; expected a file of click logs, such as train.txt.")
    try:
        if path.exists() and not path.is_file():
            raise UserError(
                f"{path} is a pipe or a device, and would have to be read twice. "
                "Write what comes out of it to a file, and name that."
            )
        with path.open("rb") as file:
            zipped = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            start = _unpacked(file, zipped).read(SAMPLE * 1000)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path} is a broken gzip file: {error}.") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from error
    if not start:
        raise UserError(f"{path} is empty. {EXPECTED}.")
    for magic, what in MAGIC.items():
        if start.startswith(magic):
            raise UserError(f"{path} is {what}.")
    if start[257:262] == b"ustar":
        raise UserError(
            f"{path} is a tar archive. Unpack it first (tar -xzf {path.name}) and name the file "
            "train.txt out of it."
        )
    return _of_lines(path, start, zipped)


def _of_lines(path: Path, start: bytes, zipped: bool) -> Format:
    """The format of a file that begins with these bytes."""
    first, end, _ = start.partition(b"\n")
    if len(first) > LONGEST or (not end and b"\r" in first):
        raise UserError(f"{path} has no line feed in its first {len(first):,} bytes. {EXPECTED}.")
    windows = first.endswith(b"\r")
    lines = start.decode("utf-8", "replace").replace("\r\n", "\n").split("\n")
    whole = lines[:-1] or lines  # the last one may be cut short
    shapes = Counter(
        (separator, line.count(separator) + 1) for line in whole[:SAMPLE] for separator in "\t,"
    )
    known = [shape for shape, _ in shapes.most_common() if shape[1] in (40, 41)]
    if not known:
        tabs, commas = (whole[0].count(separator) + 1 for separator in "\t,")
        hint = " (the label is missing, as in Criteo's test.txt?)" if 39 in (tabs, commas) else ""
        raise UserError(
            f"{path} was not recognised: its first line has {tabs} field(s) between tabs and "
            f"{commas} between commas{hint}. {EXPECTED}. Found: {_short(whole[0])}"
        )
    separator, width = known[0]
    rows = [fields for line in whole if len(fields := line.split(separator)) == width][:SAMPLE]
    header = _is_header(path, whole[0].split(separator), width)
    if header:
        rows = rows[1:]
    leading_id = width == 41
    wrong = [row[leading_id] for row in rows if not re.fullmatch(r"[01](\.0*)?", row[leading_id])]
    if 2 * len(wrong) > len(rows):
        raise UserError(
            f"{path} was not recognised: field {leading_id + 1} of its lines should be the label, "
            f"but holds {_short(wrong[0])}. {EXPECTED}."
        )
    decimals = any("." in field for row in rows for field in row[leading_id : leading_id + 14])
    return Format(separator, (len(first) + 1) * header, leading_id, decimals, windows, zipped)


def _is_header(path: Path, fields: list[str], width: int) -> bool:
    """Whether the first line names the columns; in another order than ours they are refused."""
    names = [field.strip().strip('"').lower() for field in fields]
    if not any(name in names for name in ("label", "i1", "c1")):
        return False
    own = [name.lower() for name in FIELDS]
    if names[-40:] == own and (width == 40 or names[0] in ("id", "")):
        return True
    raise UserError(
        f"{path} has a header with other names: {_short(', '.join(fields))}. Expected label, "
        "I1 to I13 and C1 to C26 in this order, with or without Id in front."
    )


def _short(text: str) -> str:
    """The beginning of a text, as it can be shown in a sentence."""
    return repr(text if len(text) <= 80 else f"{text[:80]}...")


def _unpacked(file: BinaryIO, zipped: bool) -> BinaryIO:
    """The text of an open file, unpacked while it is read."""
    return cast(BinaryIO, gzip.GzipFile(fileobj=file)) if zipped else file


@dataclass(frozen=True)
class Block:
    """Whole lines of a file.

    Attributes:
        text: the lines, each ended by a line feed alone.
        end: where the next block begins, in bytes of the unpacked text.
        place: how far the file itself has been read, in bytes, for the progress bar.
    """

    text: bytes
    end: int
    place: int


def blocks(path: Path, form: Format, start: int = 0, size: int = BLOCK) -> Iterator[Block]:
    """The lines of a file, some `size` bytes at a time, the next block read ahead by a thread.

    Args:
        path: the file.
        form: how it is written.
        start: where to begin, as an earlier block's `end`; 0 for the first line of data.
        size: bytes of text in a block; the last line is never cut.

    Raises:
        UserError: the file cannot be read to its end.
    """
    reading = _read(path, form, start or form.header, size)
    with ThreadPoolExecutor(1) as ahead:
        future = ahead.submit(next, reading, None)
        while (block := future.result()) is not None:
            future = ahead.submit(next, reading, None)
            yield block


def _read(path: Path, form: Format, start: int, size: int) -> Iterator[Block]:
    try:
        with path.open("rb") as file, _unpacked(file, form.gzip) as stream:
            stream.seek(start)
            rest = b""
            while part := stream.read(size):
                rest += part
                if end := _whole_lines(rest):
                    start += end
                    yield Block(_plain(rest[:end]), start, file.tell())
                    rest = rest[end:]
                elif len(rest) > LONGEST:
                    raise UserError(
                        f"{path} has no line of data in {len(rest):,} bytes after byte {start:,}. "
                        f"{EXPECTED}."
                    )
            if rest := rest.rstrip(b"\r\n"):
                yield Block(_plain(rest + b"\n"), start + len(rest), file.tell())
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        where = f"after at least {start:,} bytes of text" if start else "in its first block"
        raise UserError(
            f"{path} is a broken gzip file {where}: {error}. Fetch it again."
        ) from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from error


def _whole_lines(text: bytes) -> int:
    """How many bytes are whole lines; blank ones at the end may be the end of the file."""
    end = text.rfind(b"\n") + 1
    while text.endswith((b"\n\n", b"\n\r\n"), 0, end):
        end = text.rfind(b"\n", 0, end - 1) + 1
    return end if end > 2 or text[:end].strip() else 0


def _plain(text: bytes) -> bytes:
    return text.replace(b"\r\n", b"\n") if b"\r" in text else text
