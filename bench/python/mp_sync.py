# SPDX-License-Identifier: MIT
"""multiprocessing's locks and their kin beside sync.c: the same figures, and the same books."""

import ctypes
import multiprocessing
import os

from common import check, now_ns, options, report, warmup

context = multiprocessing.get_context("fork")


def shared_number():
    return context.RawValue(ctypes.c_uint64)


def add_up(lock, number, count):
    acquire, release = lock.acquire, lock.release
    for _ in range(count):
        acquire()
        number.value += 1
        release()


def alone(lock, count):
    number, warm = shared_number(), warmup(count)
    add_up(lock, number, warm)
    began = now_ns()
    add_up(lock, number, count)
    took = now_ns() - began
    check(number.value == warm + count, f"the sum is {number.value} instead of {warm + count}")
    return took / count


def contender(lock, number, line, books, warm, share):
    add_up(lock, number, warm)
    line.wait()
    began = now_ns()
    add_up(lock, number, share)
    books.put((began, now_ns()))


def contended(lock, count):
    number, line, books = shared_number(), context.Barrier(2), context.SimpleQueue()
    share = -(-count // 2)
    warm = warmup(share)
    processes = [
        context.Process(target=contender, args=(lock, number, line, books, warm, share), daemon=True) for _ in range(2)
    ]
    for p in processes:
        p.start()
    rows = [books.get() for _ in processes]
    for p in processes:
        p.join()
        check(p.exitcode == 0, "a child failed")
    check(number.value == 2 * (warm + share), f"the sum is {number.value} instead of {2 * (warm + share)}")
    return 2 * share * 1e9 / (max(row[1] for row in rows) - min(row[0] for row in rows))


class Event:
    def __init__(self):
        self.event = context.Event()

    def tell(self):
        self.event.set()

    def wait(self):
        self.event.wait()
        self.event.clear()


class Flag:
    def __init__(self):
        self.condition, self.raised = context.Condition(), context.RawValue(ctypes.c_bool)

    def tell(self):
        with self.condition:
            self.raised.value = True
            self.condition.notify()

    def wait(self):
        with self.condition:
            while not self.raised.value:
                self.condition.wait()
            self.raised.value = False


def pin(n):
    """To the n-th CPU, as bench_pin() does."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) >= 2:
        os.sched_setaffinity(0, usable[n : n + 1])


def answer(there, back, number, count):
    pin(1)
    for _ in range(count):
        there.wait()
        number.value += 1
        back.tell()


def round_trip(there, back, count):
    number, warm = shared_number(), warmup(count)
    p = context.Process(target=answer, args=(there, back, number, warm + count), daemon=True)
    p.start()
    pin(0)
    for i in range(warm + count):
        if i == warm:
            began = now_ns()
        number.value += 1
        there.tell()
        back.wait()
        check(number.value == 2 * i + 2, f"the answer to question {i} is {number.value}")
    took = now_ns() - began
    p.join()
    return took / 1e3 / count


def meet(barrier, arrivals, me, count):
    pin(me)
    warm = warmup(count)
    for i in range(warm + count):
        if i == warm:
            began = now_ns()
        arrivals[me].value += 1
        barrier.wait()
        check(arrivals[1 - me].value > i, f"released in round {i} before the other had arrived")
    return now_ns() - began


def meetings(barrier, count):
    arrivals = [shared_number(), shared_number()]
    p = context.Process(target=meet, args=(barrier, arrivals, 1, count), daemon=True)
    p.start()
    took = meet(barrier, arrivals, 0, count)
    p.join()
    check(p.exitcode == 0, "the child failed")
    return took / 1e3 / count


def main():
    chosen = options(["lock", "rlock", "semaphore", "lock-contended", "event", "condition", "barrier"])
    figure, count = chosen.figure, chosen.count
    if figure == "lock-contended":
        report("sync", chosen, contended(context.Lock(), count), "pair/s")
    elif figure == "event":
        report("sync", chosen, round_trip(Event(), Event(), count), "us")
    elif figure == "condition":
        report("sync", chosen, round_trip(Flag(), Flag(), count), "us")
    elif figure == "barrier":
        report("sync", chosen, meetings(context.Barrier(2), count), "us")
    else:
        lock = context.Semaphore(4) if figure == "semaphore" else context.RLock() if figure == "rlock" else context.Lock()
        report("sync", chosen, alone(lock, count), "ns")


if __name__ == "__main__":
    main()
