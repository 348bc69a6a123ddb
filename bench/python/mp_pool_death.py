# SPDX-License-Identifier: MIT
"""Python's pools beside pool_death.c: a pool of one worker, which is killed by SIGKILL while it runs a task.

    death-report     executor          until the future raises BrokenProcessPool, which is the end of that executor
    death-replaced   multiprocessing   until a new worker has run the next task; nobody ever learns of the first one's end

Each round has a pool of its own.  Making it and ending it is not counted.
"""

import multiprocessing
import os
import signal
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from common import PEER, check, now_ns, options, report

context = multiprocessing.get_context("fork")


# Made before the workers are, so that they have it.
reader, writer = os.pipe()


def hang():
    os.write(writer, os.getpid().to_bytes(8, "little"))
    time.sleep(3600)


def kill_worker():
    """Once it runs its task; its pid, and when that was."""
    pid = int.from_bytes(os.read(reader, 8), "little")
    killed = now_ns()
    os.kill(pid, signal.SIGKILL)
    return pid, killed


def reported_ns():
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        future = executor.submit(hang)
        _, killed = kill_worker()
        error = future.exception()
        took = now_ns() - killed
    check(isinstance(error, BrokenProcessPool), f"the killed worker's task gave {error!r}")
    return took


def replaced_ns():
    pool = context.Pool(1)
    pool.apply_async(hang)
    pid, killed = kill_worker()
    other = pool.apply(os.getpid)
    took = now_ns() - killed
    check(other != pid, "the dead worker ran a task")
    pool.terminate()  # a join would wait for the lost task for ever
    pool.join()
    return took


def main():
    chosen = options(["death-report", "death-replaced"], ["executor", PEER])
    one = {"death-report.executor": reported_ns, f"death-replaced.{PEER}": replaced_ns}[f"{chosen.figure}.{chosen.peer}"]
    report("pool", chosen, statistics.median(one() for _ in range(chosen.count)) / 1e6, "ms")


if __name__ == "__main__":
    main()
