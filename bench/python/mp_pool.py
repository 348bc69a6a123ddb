# SPDX-License-Identifier: MIT
"""multiprocessing.Pool beside pool.c: the same figures with two workers, and the same books."""

import multiprocessing

from common import check, now_ns, options, report, warmup

WORKERS = 2
OUTSTANDING = 10000
SPIN_STEPS = 500  # about 50 us
context = multiprocessing.get_context("fork")


def next_number(value):
    return value + 1


def compute(value):
    for _ in range(SPIN_STEPS):
        value = (value * 6364136223846793005 + 1442695040888963407) & 0xFFFFFFFFFFFFFFFF
    return value


def batch(pool, count):
    for first in range(0, count, OUTSTANDING):
        n = min(OUTSTANDING, count - first)
        results = [pool.apply_async(next_number, (i,)) for i in range(n)]
        for i, result in enumerate(results):
            check(result.get() == i + 1, f"result {i} is wrong")


def start_one_stop(i):
    pool = context.Pool(WORKERS)
    check(pool.apply(next_number, (i,)) == i + 1, "the result is wrong")
    pool.close()
    pool.join()


def main():
    chosen = options(["async", "one", "map", "start", "speedup"])
    count, warm = chosen.count, warmup(chosen.count)

    if chosen.figure == "start":
        for i in range(warm):
            start_one_stop(i)
        began = now_ns()
        for i in range(count):
            start_one_stop(i)
        report("pool", chosen, (now_ns() - began) / 1e6 / count, "ms")
        return

    pool = context.Pool(WORKERS)
    if chosen.figure == "async":
        batch(pool, warm)
        began = now_ns()
        batch(pool, count)
        report("pool", chosen, count * 1e9 / (now_ns() - began), "task/s")
    elif chosen.figure == "one":
        for i in range(warm + count):
            if i == warm:
                began = now_ns()
            check(pool.apply(next_number, (i,)) == i + 1, "the result is wrong")
        report("pool", chosen, (now_ns() - began) / 1e3 / count, "us")
    elif chosen.figure == "map":
        items = range(count)
        pool.map(next_number, items[:warm])
        began = now_ns()
        results = pool.map(next_number, items)
        took = now_ns() - began
        check(results == list(range(1, count + 1)), "a result is wrong")
        report("pool", chosen, count * 1e9 / took, "item/s")
    else:
        items = range(count)
        pool.map(compute, items[:warm])
        began = now_ns()
        results = pool.map(compute, items)
        took = now_ns() - began
        began = now_ns()
        expected = [compute(i) for i in items]
        alone = now_ns() - began
        check(results == expected, "a result is wrong")
        report("pool", chosen, alone / took, "times")
    pool.close()
    pool.join()


if __name__ == "__main__":
    main()
