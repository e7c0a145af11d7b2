"""Tables that do not fit: what the reader is told, and where the limit comes from."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlrm_mini import memory
from dlrm_mini.errors import UserError
from dlrm_mini.memory import available_memory, check_fits, rows_that_fit

TABLES = st.dictionaries(
    st.text("abcdefgh", min_size=1, max_size=3),
    st.tuples(st.integers(1, 10**7), st.integers(1, 512)),
    min_size=1,
    max_size=6,
)


def test_tables_that_fit_exactly_are_fine_and_one_byte_less_is_refused():
    rows = {"item": 1000, "user": 10}
    check_fits(rows, 8, available=1010 * 8 * 4)
    check_fits(rows, {"item": 8, "user": 2}, available=1000 * 8 * 4 + 10 * 2 * 4)
    check_fits(rows, 8, bytes_per_number=1, available=1010 * 8)
    for arguments, exact in (
        ((rows, 8), 1010 * 8 * 4),
        ((rows, {"item": 8, "user": 2}), 1000 * 8 * 4 + 10 * 2 * 4),
    ):
        with pytest.raises(UserError, match="nothing was allocated"):
            check_fits(*arguments, available=exact - 1)


def test_the_message_says_what_each_needs_and_which_to_shrink():
    rows = {"item": 50_000_000, "user": 10_000_000} | {f"t{n}": n for n in range(1, 6)}
    with pytest.raises(UserError) as error:
        check_fits(rows, 64, available=8 * 10**9)
    message = str(error.value)
    for words in (
        "need 15,360,003,840 bytes (15.36 GB)",
        "8,000,000,000 bytes (8.00 GB) of memory is free",
        "'item': 50,000,000 rows of 256 bytes, 12,800,000,000 bytes (12.80 GB)",
        "'user': 10,000,000 rows of 256 bytes, 2,560,000,000 bytes (2.56 GB)",
        "2 more: 768 bytes",
        "Shrink 'item' to 21,249,985 rows",
    ):
        assert words in message
    assert message.index("'item'") < message.index("'user'") < message.index("'t5'")
    assert "'user' to" not in message  # the largest is enough


def test_two_equal_tables_are_shrunk_alike():
    assert rows_that_fit({"a": 100, "b": 100, "c": 1}, {"a": 4, "b": 8, "c": 4}, 404) == {
        "b": 25,
        "a": 50,
    }


@settings(max_examples=200)
@given(tables=TABLES, percent=st.integers(0, 120))
def test_the_advice_fits_and_wastes_little(tables, percent):
    rows = {name: n for name, (n, _) in tables.items()}
    row_bytes = {name: size for name, (_, size) in tables.items()}
    total = sum(rows[name] * row_bytes[name] for name in rows)
    available = total * percent // 100
    smaller = rows_that_fit(rows, row_bytes, available)
    if total <= available:
        assert smaller == {}
        check_fits(rows, row_bytes, bytes_per_number=1, available=available)
        return
    if not smaller:
        with pytest.raises(UserError, match="Not even one row of each"):
            check_fits(rows, row_bytes, bytes_per_number=1, available=available)
        return
    after = {**rows, **smaller}
    need = sum(after[name] * row_bytes[name] for name in rows)
    assert all(0 < after[name] <= rows[name] for name in rows)
    assert need <= available < need + sum(row_bytes[name] + 1 for name in smaller)
    check_fits(after, row_bytes, bytes_per_number=1, available=available)


def test_without_a_known_limit_nothing_is_checked(monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: None)
    check_fits({"item": 10**15}, 10**3)
    monkeypatch.setattr(memory, "available_memory", lambda: 3)
    with pytest.raises(UserError, match="3 bytes of memory is free"):
        check_fits({"item": 1}, 1)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_the_lowest_limit_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_whole_memory", lambda: 10**12)
    assert available_memory(tmp_path) == 10**12  # no kernel files: macOS
    write(tmp_path / "proc/meminfo", "MemTotal: 9000 kB\nMemAvailable:    5000 kB\nHugePages: 0\n")
    assert available_memory(tmp_path) == 5000 * 1024
    # Version 2: a limit on the group above this process's own, half of its use in files.
    write(tmp_path / "proc/self/cgroup", "0::/user/job\n")
    write(tmp_path / "sys/fs/cgroup/user/job/memory.max", "max\n")
    write(tmp_path / "sys/fs/cgroup/user/job/memory.current", "500\n")
    assert available_memory(tmp_path) == 5000 * 1024
    write(tmp_path / "sys/fs/cgroup/user/memory.max", "1000\n")
    write(tmp_path / "sys/fs/cgroup/user/memory.current", "600\n")
    assert available_memory(tmp_path) == 400
    write(
        tmp_path / "sys/fs/cgroup/user/memory.stat",
        "anon 300\ninactive_file 100\nactive_file 200\n",
    )
    assert available_memory(tmp_path) == 700
    # Version 1, inside a container: the path is the host's, the limit is at the top.
    write(tmp_path / "proc/self/cgroup", "9:name=systemd:/x\n4:cpu,memory:/docker/abc\n0::/\n")
    folder = tmp_path / "sys/fs/cgroup/memory"
    write(folder / "memory.limit_in_bytes", "300\n")
    write(folder / "memory.usage_in_bytes", "400\n")
    assert available_memory(tmp_path) == 0


def test_this_machine_has_some_memory():
    found = available_memory()
    assert found is None or 10**6 < found < 10**15
