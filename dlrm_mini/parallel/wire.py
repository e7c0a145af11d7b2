"""What really crossed the wire: the kernel's own count of the loopback interface's bytes.

Processes on one machine talk through the loopback interface. Its counter knows nothing of
collectives, so it can hold our own counters to account: it is theirs plus headers (66 bytes or less
a packet of up to 64 KB), acknowledgements, and whatever else talks on this machine meanwhile.
"""

from __future__ import annotations

from pathlib import Path

from dlrm_mini.errors import UserError

COUNTERS = Path("/proc/net/dev")


def loopback_bytes(counters: Path = COUNTERS) -> int:
    """Bytes sent over the loopback interface since the machine started.

    Args:
        counters: the kernel's table of interfaces (Linux, man page proc_pid_net(5)).

    Raises:
        UserError: there is no such table, or no loopback interface in it.
    """
    try:
        lines = counters.read_text().splitlines()
    except OSError:
        raise UserError(
            f"There is no {counters} here, which is where Linux counts bytes by interface; on "
            "other systems the wire cannot be read. Use a communicator's traffic instead."
        ) from None
    for line in lines:
        name, _, numbers = line.partition(":")
        if name.strip() == "lo":
            return int(numbers.split()[8])  # eight columns of received things come first
    raise UserError(f"{counters} has no loopback interface, lo; expected one on every Linux.")
