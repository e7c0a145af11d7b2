"""A rank that trains for a few steps, in which one of the ranks does what it must not.

As a process: `torchrun ... -m tests.parallel.failing MODE CULPRIT TIMEOUT [FOLDER]`.
"""

import os
import signal
import sys
from pathlib import Path

import torch

from dlrm_mini.errors import UserError
from dlrm_mini.parallel import process_group

STEPS = 4
BAD = 2  # the step


def train(comm, mode, culprit):
    """Each step is an all_reduce and an all_to_all."""
    ones = [1] * comm.size
    for step in range(STEPS):
        comm.reached(step)
        comm.all_reduce(torch.ones(3))
        send, receive = list(ones), list(ones)
        if step == BAD and comm.rank == culprit:
            if mode == "leaves":
                return
            if mode == "enters another":
                comm.all_reduce(torch.ones(3))
            elif mode == "expects more":
                receive[-1] = 2
            elif mode == "sends more":
                send[-1] = 2
            else:
                BADLY[mode]()
        comm.all_to_all(torch.ones(sum(send)), send, receive)


def endless():
    """For ever; whoever waits for that can read it from the pipe FOLDER/ready."""
    if len(sys.argv) > 4 and (pipe := Path(sys.argv[4]) / "ready").exists():
        pipe.write_text(f"{os.getpid()} {os.getppid()}")
    while True:
        pass


def user_error():
    raise UserError("Feature C3: id 7 is out of range.")


BADLY = {
    "is killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "exits": lambda: os._exit(17),
    "is stopped": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "pauses": signal.pause,
    "loops": endless,
    "raises": lambda: {}["C3"],
    "raises UserError": user_error,
    "is fine": lambda: None,
}


def as_forked(mode, culprit, environment, timeout, answers):
    """What a process that was forked does: its rank and what it has to say go into the queue."""
    os.environ.update(environment)
    rank, said = int(environment["RANK"]), "came to its end"
    torch.set_num_threads(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # torch tells at length how its store was lost
    try:
        with process_group.connect(timeout) as comm:
            train(comm, mode, culprit)
    except UserError as error:
        said = str(error)
    except KeyError:
        said = "KeyError"
    answers.put((rank, said))


def main(mode, culprit, timeout):
    print("before", flush=True)
    with process_group.connect(float(timeout)) as comm:
        train(comm, mode, int(culprit))
        print(f"threads {torch.get_num_threads()}, ranks {comm.size}")
    process_group.leave()


if __name__ == "__main__":
    main(*sys.argv[1:4])
