# SPDX-License-Identifier: MIT
"""multiprocessing.Pipe beside connection.c: the same roles with send_bytes() and recv_bytes_into(), and the same books."""

import multiprocessing
import os

from common import check, now_ns, options, report, warmup

context = multiprocessing.get_context("fork")
LARGE = 65536


def pin(n):
    """To the n-th CPU, as bench_pin() does."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) >= 2:
        os.sched_setaffinity(0, usable[n : n + 1])


def receive(source, books, warm, count):
    buffer = bytearray(LARGE)
    total = 0
    for number in range(warm + count):
        check(source.recv_bytes_into(buffer) == LARGE, "a message has another size")
        if number >= warm:
            total += int.from_bytes(buffer[:8], "little")
    books.send((now_ns(), total))


def stream(count):
    source, target = context.Pipe()
    books, told = context.Pipe()
    warm = warmup(count)
    p = context.Process(target=receive, args=(source, told, warm, count), daemon=True)
    p.start()
    message = bytearray(LARGE)
    for number in range(warm + count):
        if number == warm:
            began = now_ns()
        message[:8] = number.to_bytes(8, "little")
        target.send_bytes(message)
    ended, total = books.recv()
    p.join()
    check(total == sum(range(warm, warm + count)), "the receiver's sum is wrong")
    return LARGE * count / (ended - began)


def echo(end, count):
    pin(1)
    buffer = bytearray(64)
    for _ in range(count):
        end.recv_bytes_into(buffer)
        end.send_bytes(buffer)


def round_trip(count):
    here, there = context.Pipe()
    warm = warmup(count)
    p = context.Process(target=echo, args=(there, warm + count), daemon=True)
    p.start()
    pin(0)
    buffer, filler = bytearray(64), bytes(range(56))
    for number in range(warm + count):
        if number == warm:
            began = now_ns()
        message = number.to_bytes(8, "little") + filler
        here.send_bytes(message)
        check(here.recv_bytes_into(buffer) == 64 and buffer == message, "another message came back")
    took = now_ns() - began
    p.join()
    return took / 1e3 / count


def main():
    chosen = options(["64KiB", "round-trip"])
    if chosen.figure == "round-trip":
        report("connection", chosen, round_trip(chosen.count), "us")
    else:
        report("connection", chosen, stream(chosen.count), "GB/s")


if __name__ == "__main__":
    main()
