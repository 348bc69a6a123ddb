# SPDX-License-Identifier: MIT
"""multiprocessing.shared_memory and multiprocessing.Value beside shared.c: the same figures, and the same books."""

import multiprocessing
from multiprocessing.shared_memory import SharedMemory

from common import check, now_ns, options, report, warmup

SIZE = 1 << 20
FILLER = bytes([1]) * SIZE
context = multiprocessing.get_context("fork")


def one_shared():
    memory = SharedMemory(create=True, size=SIZE)
    memory.buf[:SIZE] = FILLER
    memory.close()
    memory.unlink()


def one_value():
    value = context.Value("d", 1.5)
    check(value.value == 1.5, "the value is another")


def add(value, line, took, count):
    lock = value.get_lock()
    line.wait()
    began = now_ns()
    for _ in range(count):
        with lock:
            value.value += 1
    took.put(now_ns() - began)


def add_by_two(count):
    value, line, took = context.Value("Q", 0), context.Barrier(2), context.SimpleQueue()
    shares = (count // 2, count - count // 2)
    processes = [context.Process(target=add, args=(value, line, took, share), daemon=True) for share in shares]
    for p in processes:
        p.start()
    slower = max(took.get(), took.get())
    for p in processes:
        p.join()
    check(value.value == count, f"the count is {value.value} instead of {count}")
    return slower


def main():
    chosen = options(["new-1MiB", "value-new", "add"])
    count = chosen.count
    if chosen.figure == "add":
        add_by_two(warmup(count))
        report("shared", chosen, count * 1e9 / add_by_two(count), "op/s")
        return
    one = one_shared if chosen.figure == "new-1MiB" else one_value
    for _ in range(warmup(count)):
        one()
    began = now_ns()
    for _ in range(count):
        one()
    report("shared", chosen, (now_ns() - began) / 1e3 / count, "us")


if __name__ == "__main__":
    main()
