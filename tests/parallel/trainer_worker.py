"""One rank of a run that `test_trainer` starts: argument 1 is the folder, 2 the step to die in."""

import os
import signal
import sys
from pathlib import Path

from dlrm_mini.parallel.process_group import connect, leave
from dlrm_mini.parallel.sharded_step import ShardedStep
from tests.parallel.test_trainer import EPOCHS, trainer_of


def main() -> None:
    folder, last = Path(sys.argv[1]), int(sys.argv[2])
    with connect(timeout=30) as communicator:
        trainer = trainer_of(communicator, folder, every=4)
        trainer.resume()
        done = []

        def step(self: ShardedStep, batch: object, keep=ShardedStep.step) -> float | None:
            done.append(1)
            if communicator.rank == 1 and len(done) == last:
                os.kill(os.getpid(), signal.SIGKILL)
            return keep(self, batch)

        ShardedStep.step = step  # type: ignore[method-assign, assignment]
        trainer.train(EPOCHS)
        if not communicator.rank:
            print(len(done))
    leave()


if __name__ == "__main__":
    main()
