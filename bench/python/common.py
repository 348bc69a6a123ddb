# SPDX-License-Identifier: MIT
"""What the Python peers share: the options and the line of output of the C programs (bench.h)."""

import argparse
import sys
import time

now_ns = time.monotonic_ns
PEER = "multiprocessing"
SKIP = 77  # see bench.h


def options(figures, peers=(PEER,)):
    parser = argparse.ArgumentParser()
    parser.add_argument("--figure", required=True, choices=figures)
    parser.add_argument("--peer", required=True, choices=peers)
    parser.add_argument("--count", required=True, type=int)
    chosen = parser.parse_args()
    if chosen.count < 1:
        parser.error("--count: want at least 1")
    return chosen


def warmup(count):
    return max(1, count // 10)


def check(right, message):
    if not right:
        sys.exit(f"bench: {message}")


def skip(message):
    print(message, file=sys.stderr)
    sys.exit(SKIP)


def report(stem, chosen, value, unit):
    print(f"{stem}.{chosen.figure}.{chosen.peer} {value:.6g} {unit}", flush=True)
