# SPDX-License-Identifier: MIT
"""multiprocessing.Process beside process.c: start and join of a trivial target, by fork, in us."""

import multiprocessing
import sys

from common import check, now_ns, options, report, warmup

Process = multiprocessing.get_context("fork").Process


def target():
    sys.exit(7)


def one():
    p = Process(target=target)
    p.start()
    p.join()
    check(p.exitcode == 7, f"the exit code is {p.exitcode} instead of 7")
    p.close()


def main():
    chosen = options(["start-join"])
    for _ in range(warmup(chosen.count)):
        one()
    began = now_ns()
    for _ in range(chosen.count):
        one()
    report("process", chosen, (now_ns() - began) / 1e3 / chosen.count, "us")


if __name__ == "__main__":
    main()
