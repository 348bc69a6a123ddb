# SPDX-License-Identifier: MIT
"""Python's pools beside pool.c and pool_large.c: the same figures with two workers, and the same books.

    multiprocessing   multiprocessing.Pool
    billiard          the same of billiard, which is Celery's
    executor          concurrent.futures.ProcessPoolExecutor; its map has the chunks that Pool.map makes for itself
    joblib            joblib.Parallel: it has no handles of results, so that many tasks are one call, which makes chunks of them

All start their workers by fork, but for joblib, which has a way of its own.
"""

import atexit
import ctypes
import importlib
import itertools
import os
import signal

from common import PEER, check, now_ns, options, report, skip, warmup

WORKERS = 2
OUTSTANDING = 10000
OUTSTANDING_LARGE = 16
LARGE = 1 << 20
CHUNKS_PER_WORKER = 4
SPIN_STEPS = 500  # about 50 us


def next_number(value):
    return value + 1


def compute(value):
    for _ in range(SPIN_STEPS):
        value = (value * 6364136223846793005 + 1442695040888963407) & 0xFFFFFFFFFFFFFFFF
    return value


def same_bytes(data):
    return data


def module_of(name):
    try:
        return importlib.import_module(name)
    except ImportError:
        skip(f"there is no module {name}, Debian's python3-{name}")


def die_with_host():
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


class Pool:
    """A pool of multiprocessing's make."""

    def __init__(self, module="multiprocessing", initializer=None):
        self.pool = module_of(module).get_context("fork").Pool(WORKERS, initializer)

    def all_of(self, function, arguments):
        """One task for each argument, all handed in before the first result is asked for."""
        results = [self.pool.apply_async(function, (argument,)) for argument in arguments]
        return [result.get() for result in results]

    def one(self, function, argument):
        return self.pool.apply(function, (argument,))

    def map(self, function, items):
        return self.pool.map(function, items)

    def stop(self):
        self.pool.close()
        self.pool.join()


class Billiard(Pool):
    """Neither its join nor its terminate is sure to end: so it is left as it is, and killed at the end of the program."""

    def __init__(self):
        super().__init__("billiard", die_with_host)

    def stop(self):
        atexit.register(os._exit, 0)  # runs first, and keeps billiard's own from running


class Executor:
    def __init__(self):
        context = module_of("multiprocessing").get_context("fork")
        self.executor = module_of("concurrent.futures").ProcessPoolExecutor(WORKERS, mp_context=context)

    def all_of(self, function, arguments):
        futures = [self.executor.submit(function, argument) for argument in arguments]
        return [future.result() for future in futures]

    def one(self, function, argument):
        return self.executor.submit(function, argument).result()

    def map(self, function, items):
        return list(self.executor.map(function, items, chunksize=len(items) // (WORKERS * CHUNKS_PER_WORKER) + 1))

    def stop(self):
        self.executor.shutdown()


class Joblib:
    def __init__(self):
        joblib = module_of("joblib")
        self.delayed, self.parallel = joblib.delayed, joblib.Parallel(n_jobs=WORKERS)
        self.parallel.__enter__()

    def all_of(self, function, arguments):
        return self.parallel(self.delayed(function)(argument) for argument in arguments)

    map = all_of

    def one(self, function, argument):
        return self.all_of(function, [argument])[0]

    def stop(self):
        self.parallel.__exit__(None, None, None)


PEERS = {
    PEER: Pool,
    "billiard": Billiard,
    "executor": Executor,
    "joblib": Joblib,
}


def batches(pool, count):
    for first in range(0, count, OUTSTANDING):
        n = min(OUTSTANDING, count - first)
        check(pool.all_of(next_number, range(n)) == list(range(1, n + 1)), "a result is wrong")


def one(pool, i):
    check(pool.one(next_number, i) == i + 1, "the result is wrong")


def large_batches(pool, count):
    for first in range(0, count, OUTSTANDING_LARGE):
        n = min(OUTSTANDING_LARGE, count - first)
        arguments = [bytes([first + i & 255]) * LARGE for i in range(n)]
        results = pool.all_of(same_bytes, arguments)
        check(all(len(r) == LARGE and r[0] == a[0] for r, a in zip(results, arguments)), "a result is wrong")


def large(pool, count, warm):
    large_batches(pool, warm)
    began = now_ns()
    large_batches(pool, count)
    return 2 * count * LARGE / (now_ns() - began), "GB/s"


def start(new, count, warm):
    for i in itertools.count():
        if i == warm:
            began = now_ns()
        if i == warm + count:
            return (now_ns() - began) / 1e6 / count, "ms"
        pool = new()
        one(pool, i)
        pool.stop()


def asynchronous(pool, count, warm):
    batches(pool, warm)
    began = now_ns()
    batches(pool, count)
    return count * 1e9 / (now_ns() - began), "task/s"


def there_and_back(pool, count, warm):
    for i in range(warm):
        one(pool, i)
    began = now_ns()
    for i in range(count):
        one(pool, i)
    return (now_ns() - began) / 1e3 / count, "us"


def mapped(pool, count, warm):
    items = range(count)
    pool.map(next_number, items[:warm])
    began = now_ns()
    results = pool.map(next_number, items)
    took = now_ns() - began
    check(results == list(range(1, count + 1)), "a result is wrong")
    return count * 1e9 / took, "item/s"


def speedup(pool, count, warm):
    items = range(count)
    pool.map(compute, items[:warm])
    began = now_ns()
    results = pool.map(compute, items)
    took = now_ns() - began
    began = now_ns()
    expected = [compute(i) for i in items]
    alone = now_ns() - began
    check(results == expected, "a result is wrong")
    return alone / took, "times"


FIGURES = {"async": asynchronous, "one": there_and_back, "map": mapped, "speedup": speedup, "large": large}


def main():
    chosen = options([*FIGURES, "start"], list(PEERS))
    new, count, warm = PEERS[chosen.peer], chosen.count, warmup(chosen.count)
    if chosen.figure == "start":
        value, unit = start(new, count, warm)
    else:
        pool = new()
        value, unit = FIGURES[chosen.figure](pool, count, warm)
        pool.stop()
    report("pool", chosen, value, unit)


if __name__ == "__main__":
    main()
