# SPDX-License-Identifier: MIT
"""multiprocessing.Process beside process.c: start and join of a trivial target, by each of its start methods, in us."""

import multiprocessing
import sys

from common import check, now_ns, options, report, warmup

METHODS = {"start-join": "fork", "start-join-spawn": "spawn", "start-join-forkserver": "forkserver"}


def target():
    sys.exit(7)


def one(context):
    p = context.Process(target=target)
    p.start()
    p.join()
    check(p.exitcode == 7, f"the exit code is {p.exitcode} instead of 7")
    p.close()


def main():
    chosen = options(list(METHODS))
    context = multiprocessing.get_context(METHODS[chosen.figure])
    for _ in range(warmup(chosen.count)):
        one(context)
    began = now_ns()
    for _ in range(chosen.count):
        one(context)
    report("process", chosen, (now_ns() - began) / 1e3 / chosen.count, "us")


if __name__ == "__main__":
    main()
