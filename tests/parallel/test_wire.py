"""The loopback interface's own count of bytes."""

import pytest

from dlrm_mini.errors import UserError
from dlrm_mini.parallel.wire import loopback_bytes

TABLE = """Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop
  eth0:    1 2 0 0 0 0 0 0 3 4 0 0 0 0 0 0
    lo: 1000 9 0 0 0 0 0 0 4321 9 0 0 0 0 0 0
"""


def test_bytes_sent_are_read(tmp_path):
    table = tmp_path / "dev"
    table.write_text(TABLE)
    assert loopback_bytes(table) == 4321


def test_without_the_table_or_the_interface_it_says_so(tmp_path):
    table = tmp_path / "dev"
    with pytest.raises(UserError, match=r"There is no .*dev here"):
        loopback_bytes(table)
    table.write_text(TABLE.replace("lo:", "wlan:"))
    with pytest.raises(UserError, match="no loopback interface, lo"):
        loopback_bytes(table)
