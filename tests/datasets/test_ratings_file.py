"""A ratings file of the reader's own: read, or refused with file, line and what was expected."""

import pytest

from dlrm_mini.datasets.ratings_file import read_ratings
from dlrm_mini.errors import UserError

GOOD = "196\t242\t3\t881250949\n186\t302\t3.5\t891717742\n"


@pytest.fixture
def ratings(tmp_path):
    path = tmp_path / "mine.tsv"

    def write(text: str, encoding: str = "utf-8"):
        path.write_bytes(text.encode(encoding))
        return path

    return write


@pytest.mark.parametrize(
    "text", [GOOD, GOOD.replace("\n", "\r\n"), GOOD.removesuffix("\n"), "\ufeff" + GOOD]
)
def test_good_files(ratings, text):
    found = read_ratings(ratings(text))
    assert found.user.tolist() == [196, 186] and found.item.tolist() == [242, 302]
    assert found.rating.tolist() == [3, 3.5]
    assert found.timestamp.tolist() == [881250949, 891717742]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("7\t8\t3", "3 column(s), '7\\t8\\t3'; expected four columns separated by tabs"),
        ("7\t8\t3\t1\t1", "5 column(s)"),
        ("7,8,3,1", "1 column(s), '7,8,3,1'"),
        ("", "1 column(s), ''"),
        ("u7\t8\t3\t1", "the user id is 'u7', expected an integer, 0 or more"),
        ("7\t8.0\t3\t1", "the item id is '8.0', expected an integer"),
        ("7\t-8\t3\t1", "the item id is '-8', expected an integer"),
        ("7\t1_0\t3\t1", "the item id is '1_0'"),
        ("7\t٣\t3\t1", "the item id is '٣'"),
        ("7\t\t3\t1", "the item id is ''"),
        ("7\t8\t3\tnoon", "the timestamp is 'noon', expected an integer"),
        ("7\t99999999999999999999\t3\t1", "the item id is '99999999999999999999'"),
        ("7\t8\t6\t1", "the rating is '6', expected a number from 1 to 5"),
        ("7\t8\t5.5\t1", "the rating is '5.5', expected a number from 1 to 5"),
        ("7\t8\t0.5\t1", "the rating is '0.5', expected a number from 1 to 5"),
        ("7\t8\t-1\t1", "the rating is '-1', expected a number from 1 to 5"),
        ("7\t8\tnan\t1", "the rating is 'nan', expected a number"),
        ("7\t8\tgood\t1", "the rating is 'good', expected a number"),
    ],
)
def test_bad_lines(ratings, line, said):
    path = ratings(GOOD + line + "\n" + GOOD + "another\n")
    with pytest.raises(UserError) as caught:
        read_ratings(path)
    assert f"{path}, line 3: {said}" in str(caught.value)


def test_a_header_is_line_1(ratings):
    with pytest.raises(UserError, match=r"line 1: the user id is 'user_id'.*no header"):
        read_ratings(ratings("user_id\titem_id\trating\ttimestamp\n" + GOOD))


def test_no_ratings_at_all(ratings, tmp_path):
    with pytest.raises(UserError, match="is empty; expected four columns"):
        read_ratings(ratings(""))
    with pytest.raises(UserError, match="cannot be read: No such file"):
        read_ratings(tmp_path / "none.tsv")
    with pytest.raises(UserError, match="cannot be read"):
        read_ratings(tmp_path)
    with pytest.raises(UserError, match="line 1"):
        read_ratings(ratings("PK\x03\x04\x00é", "latin-1"))
