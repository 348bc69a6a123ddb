# SPDX-License-Identifier: MIT
"""multiprocessing.Queue beside queue.c: the same roles, messages of 64 bytes, and the same books.

The messages are bytes objects, the cheapest thing to pickle; each begins with its number.  MAXSIZE is 0, the module's
default: its unbounded queue is not slower than a bounded one, and its producers never wait.
"""

import multiprocessing
import os
import time

from common import check, now_ns, options, report, warmup

context = multiprocessing.get_context("fork")
MAXSIZE = 0
FILLER = bytes(range(56))


def produce(queue, first, count):
    put = queue.put
    for number in range(first, first + count):
        put(number.to_bytes(8, "little") + FILLER)


def consume(queue, count):
    get = queue.get
    total = 0
    for _ in range(count):
        message = get()
        check(len(message) == 64, "a message has another size")
        total += int.from_bytes(message[:8], "little")
    return total


def role(queue, books, line, index, pairs, warm, share):
    producer = index < pairs
    mine = 0
    if producer:
        produce(queue, index << 32, warm)
    else:
        consume(queue, warm)
    line.wait()
    began, cpu_began = now_ns(), time.process_time_ns()
    if producer:
        produce(queue, index << 32, share)
        # The thread that does the sending may be far behind.
        queue.close()
        queue.join_thread()
    else:
        mine = consume(queue, share)
    books.put((began, now_ns(), time.process_time_ns() - cpu_began, mine))


def stream(pairs, count):
    """Messages a second, and CPU time of all processes for each of them in ns."""
    queue, books, line = context.Queue(MAXSIZE), context.SimpleQueue(), context.Barrier(2 * pairs)
    share = -(-count // pairs)
    processes = [
        context.Process(target=role, args=(queue, books, line, i, pairs, warmup(share), share), daemon=True)
        for i in range(2 * pairs)
    ]
    for p in processes:
        p.start()
    rows = [books.get() for _ in processes]
    for p in processes:
        p.join()
        check(p.exitcode == 0, "a child failed")
    expected = sum((i << 32) * share + share * (share - 1) // 2 for i in range(pairs))
    total = sum(row[3] for row in rows)
    check(total == expected, f"the consumers' sum is {total} instead of {expected}")
    took = max(row[1] for row in rows) - min(row[0] for row in rows)
    return share * pairs * 1e9 / took, sum(row[2] for row in rows) / (share * pairs)


def pin(n):
    """To the n-th CPU, as bench_pin() does; before the threads of the queues start."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) >= 2:
        os.sched_setaffinity(0, usable[n : n + 1])


def echo(there, back, count):
    pin(1)
    for _ in range(count):
        back.put(there.get())


def round_trip(count):
    there, back = context.Queue(MAXSIZE), context.Queue(MAXSIZE)
    warm = warmup(count)
    p = context.Process(target=echo, args=(there, back, warm + count), daemon=True)
    p.start()
    pin(0)
    for number in range(warm + count):
        if number == warm:
            began = now_ns()
        message = number.to_bytes(8, "little") + FILLER
        there.put(message)
        check(back.get() == message, "another message came back")
    took = now_ns() - began
    p.join()
    return took / 1e3 / count


def main():
    chosen = options(["1x1", "4x4", "cpu", "round-trip"])
    if chosen.figure == "round-trip":
        report("queue", chosen, round_trip(chosen.count), "us")
    elif chosen.figure == "cpu":
        report("queue", chosen, stream(1, chosen.count)[1], "ns")
    else:
        report("queue", chosen, stream(1 if chosen.figure == "1x1" else 4, chosen.count)[0], "msg/s")


if __name__ == "__main__":
    main()
