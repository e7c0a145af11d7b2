"""What a run may have left behind."""

import os

import psutil

MODULE = "tests.parallel.failing"


def belonging_to(tag):
    """Processes with this word in their command line: the launcher's, torchrun's and the ranks'."""
    found = []
    for process in psutil.process_iter():
        try:
            if tag in process.cmdline() and process.pid != os.getpid():
                found.append(process)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found
