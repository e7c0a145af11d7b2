"""Lines into numbers beside plain Python, and bad lines, each found and none of its neighbours."""

import re

import numpy as np
import pytest
from criteotext import Row, some_rows, text_of
from hypothesis import given, settings
from hypothesis import strategies as st

from dlrm_mini.datasets import criteo_lines
from dlrm_mini.datasets.criteo_format import DENSE, SPARSE, Format
from dlrm_mini.datasets.criteo_lines import Bad, decode, parse
from dlrm_mini.errors import UserError

GOOD = some_rows(200)
INTEGERS = st.one_of(st.just(""), st.integers(-(2**63), 2**63 - 1).map(str))
CATEGORIES = st.one_of(st.just(""), st.integers(0, 2**32 - 1).map("{:08x}".format))
ROWS = st.tuples(st.sampled_from("01"), *[INTEGERS] * 13, *[CATEGORIES] * 26)
JUNK = st.text(
    st.sampled_from("0123456789abcdefgG:@`/ +-.#\"'\\xe\x00é"), min_size=1, max_size=9
)  # fmt: skip


def one(text: bytes, form: Format = Format()):  # noqa: B008
    """All rows in one piece; there must be no bad line."""
    good, bad = parse(text, form)
    assert not bad and len(good) == 1
    return good[0]


def check(lines, rows: list[Row]) -> None:
    assert lines.labels.tolist() == [int(row[0]) for row in rows]
    assert lines.dense.T.tolist() == [[int(x or 0) for x in row[1:14]] for row in rows]
    assert lines.sparse.T.tolist() == [[int(x or "0", 16) for x in row[14:]] for row in rows]
    assert lines.absent.tolist() == [sum(not row[place] for row in rows) for place in range(1, 40)]
    bits = [sum(1 << place for place, x in enumerate(row[14:]) if not x) for row in rows]
    assert lines.missing.tolist() == bits


@given(st.lists(ROWS, min_size=1, max_size=8))
@settings(max_examples=30, deadline=None)
def test_numbers_are_those_that_stand_there(rows):
    check(one(text_of(rows)), rows)


def test_all_missing_and_the_largest_and_smallest_numbers():
    rows = [
        ("0", *[""] * 39),
        ("1", *[str(-(2**63))] * 13, *["ffffffff"] * 26),
        ("1", *[str(2**63 - 1)] * 13, *["00000000"] * 26),
        ("0", *["-0"] * 13, *["0000000f"] * 26),
    ]
    check(one(text_of(rows)), rows)


def plainly_good(fields: list[str]) -> bool:
    """What any reader of the layout would take for a row."""
    return (
        len(fields) == 40
        and fields[0] in ("0", "1")
        and all(re.fullmatch(r"(-?\d{1,18})?", x, re.ASCII) for x in fields[1:14])
        and all(re.fullmatch("([0-9a-fA-F]{8})?", x) for x in fields[14:])
    )


def plainly_bad(fields: list[str]) -> bool:
    """What nobody would, leaving out spellings (+5, 007, blanks) that may go either way."""
    return (
        len(fields) != 40
        or not re.fullmatch(r" *\+?0*[01]", fields[0], re.ASCII)
        or not all(re.fullmatch(r" *([+-]?\d+)?", x, re.ASCII) for x in fields[1:14])
        or not all(re.fullmatch("([0-9a-fA-F]{8})?", x) for x in fields[14:])
    )


@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 39), JUNK), max_size=5))
@settings(max_examples=50, deadline=None)
def test_bad_lines_are_found_and_their_neighbours_kept(edits):
    rows = [list(row) for row in GOOD[:12]]
    for line, field, junk in edits:
        rows[line][field] = junk
    good, bad = parse(text_of(rows), Format())
    found = {one.line for one in bad}
    for place, row in enumerate(rows):
        if plainly_good(row):
            assert place not in found
        if plainly_bad(row):
            assert place in found
    kept = [row for place, row in enumerate(rows) if place not in found]
    assert [label for lines in good for label in lines.labels] == [int(row[0]) for row in kept]
    ids = [ids for lines in good for ids in lines.sparse.T.tolist()]
    assert ids == [[int(x or "0", 16) for x in row[14:]] for row in kept]


@given(
    st.integers(0, 39), JUNK | st.sampled_from(["  1", "1 ", " ", "1e0", ".0", "-0"]), st.booleans()
)
@settings(max_examples=150, deadline=None)
def test_whether_a_line_is_bad_does_not_depend_on_others(field, junk, decimals):
    """Beside a bad line, each is looked at another way."""
    form, row = Format(decimals=decimals), list(GOOD[3])
    row[field] = junk
    line = text_of([tuple(row)])
    alone = parse(line, form)[1]
    assert len(parse(line + b"x\n", form)[1]) == len(alone) + 1
    assert parse(text_of(GOOD[:2]) + line, form)[1] == [Bad(2, one.found) for one in alone]


def test_a_carriage_return_within_a_line_is_not_swallowed():
    for place, text in ((1, "5\r"), (7, "\r"), (14, "12345678\r"), (39, "\r12345678")):
        good, bad = parse(
            text_of(GOOD[:3]) + with_field(place, text) + text_of(GOOD[3:5]), Format()
        )
        assert [one.line for one in bad] == [3] and sum(map(len, good)) == 5
        assert bad[0].found.startswith("a carriage return within the line, after '")


def test_no_more_bad_lines_are_looked_for_than_asked():
    """Two kinds: what is bad at a glance, and what only polars refuses."""
    form = Format(decimals=True)
    rows = [("x" if n % 5 == 1 else "1", "1_0" if n % 5 == 3 else "7", *row[2:])
            for n, row in enumerate(GOOD)]  # fmt: skip
    rows = [(*row[:2], *[""] * 12, *row[14:]) for row in rows]
    every = [n for n in range(len(GOOD)) if n % 5 in (1, 3)]
    good, bad = parse(text_of(rows), form)
    assert [one.line for one in bad] == every and sum(map(len, good)) == len(GOOD) - len(every)
    for most in (0, 1, 2, 7, len(every) - 1, len(every)):
        assert parse(text_of(rows), form, most)[1] == bad[: most + 1]


def test_many_bad_lines_do_not_ask_polars_once_each(monkeypatch):
    asked, parse_ = [], criteo_lines._parse
    monkeypatch.setattr(
        criteo_lines, "_parse", lambda text, form: asked.append(len(text)) or parse_(text, form)
    )
    spoilt = [b"x\n", with_field(0, "2"), with_field(5, "5x"), with_field(30, "red"), b"\n"]
    text = b"".join(spoilt[n % 5] if n % 10 < 5 else text_of([row]) for n, row in enumerate(GOOD))
    good, bad = parse(text, Format())
    assert len(bad) == 100 and len(good) == 1 and len(asked) == 2
    asked.clear()
    assert len(parse(text, Format(), 3)[1]) == 4 and asked == [len(text)]


def with_field(place: int, text: str) -> bytes:
    row = list(GOOD[0])
    row[place] = text
    return text_of([row])


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (text_of([GOOD[0][:39]]), "39 field(s), expected 40; the line is '"),
        (text_of([(*GOOD[0], "")]), "41 field(s), expected 40; the line is '"),
        (b"\n", "the line is empty"),
        (b"  \n", "the line is empty"),
        (with_field(0, ""), "label holds '', expected 0 or 1"),
        (with_field(0, "2"), "label holds '2', expected 0 or 1"),
        (with_field(3, "1.0"), "I3 holds '1.0', expected a whole number or nothing"),
        (with_field(13, "9" * 19), "I13 holds '9999999999999999999', expected a whole number"),
        (with_field(14, "0123456"), "C1 holds '0123456', expected 8 hexadecimal digits or nothing"),
        (with_field(39, "0123456g"), "C26 holds '0123456g', expected 8 hexadecimal digits"),
        (with_field(20, "0123 567"), "C7 holds '0123 567'"),
        (with_field(20, '"1234567'), "C7 holds '\"1234567'"),
        (with_field(20, "z" * 100), f"C7 holds '{'z' * 60}...'"),
        (text_of([GOOD[0]]).replace(b"\t", b"\xff\t", 20), "label holds '"),
    ],
)
def test_a_bad_line_says_what_was_found(line, found):
    before, after = text_of(GOOD[:7]), text_of(GOOD[7:20])
    good, bad = parse(before + line + after, Format())
    assert len(bad) == 1 and bad[0].line == 7 and bad[0].found.startswith(found)
    assert sum(map(len, good)) == 20


@pytest.mark.parametrize("text", ["1.5", "nan", "inf", "1e300", "x"])
def test_decimals_must_be_whole(text):
    form = Format(decimals=True)
    row = ("1.0", "3.0", "-2.0", text, "", *["7"] * 9, *[""] * 26)
    good, bad = parse(text_of([row]), form)
    assert not good and bad == [
        Bad(0, f"I3 holds '{text}', expected a whole number or nothing")
    ]  # fmt: skip
    fine = one(text_of([(*row[:3], "", *row[4:])]), form)
    assert fine.dense[:5, 0].tolist() == [3, -2, 0, 0, 7] and fine.labels.tolist() == [1]


def test_a_short_and_a_long_line_do_not_make_up_for_each_other():
    text = text_of([GOOD[0][:39], (*GOOD[1], ""), GOOD[2]])
    good, bad = parse(text, Format())
    assert [one.line for one in bad] == [0, 1]
    check(good[0], [GOOD[2]])


def test_many_bad_lines_at_once():
    rows = [row[:-1] if place % 3 == 0 else row for place, row in enumerate(GOOD)]
    good, bad = parse(text_of(rows), Format())
    assert [one.line for one in bad] == list(range(0, len(GOOD), 3))
    assert sum(map(len, good)) + len(bad) == len(GOOD)


def test_every_byte_that_is_no_digit_is_refused():
    for byte in range(256):
        if chr(byte) in "0123456789abcdefABCDEF\n\t":
            continue
        text = text_of([GOOD[0]]).replace(b"\n", b"")
        line = text.rpartition(b"\t")[0] + b"\t123" + bytes([byte]) + b"4567\n"
        assert len(parse(line, Format())[1]) == 1, byte


def test_categories_by_hand():
    values, missing = decode(["68fd1e64", "", None, "FFFFFFFF"])
    assert values.tolist() == [0x68FD1E64, 0, 0, 0xFFFFFFFF]
    assert missing.tolist() == [False, True, True, False] and values.dtype == np.uint32
    with pytest.raises(UserError, match="'68fd1e6' is no category"):
        decode(["68fd1e6"])
    assert (len(DENSE), len(SPARSE)) == (13, 26)
