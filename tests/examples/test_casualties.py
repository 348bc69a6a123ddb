#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Runs the example casualties over pictures that are made here, whole and broken, and balances its books.

    test_casualties.py casualties PROGRAM
"""

import os
import random
import re
import resource
import struct
import subprocess
import tempfile
import time
import zlib

from test_examples import check, left_over, main, run

KINDS = ("crash", "exit", "hang", "spin", "hog", "slow", "flaky")  # in the order of --sabotage
ENDS = {
    "crash": "signal 11 (Segmentation fault)",
    "exit": "exit code 3",
    "hang": "time limit",
    "spin": "CPU time limit",
    "hog": "memory limit",
}
# An address sanitizer's malloc(3) talks to stderr at a limit of memory, and may end the process instead of returning NULL.
ASAN_TALK = re.compile(r"^(==.*|ERROR: Failed to mmap|.*AddressSanitizer.*|HINT: .*| .*|)\n", re.M)
ASAN_END = "exit code 1"
CASUALTY = re.compile(r"  (.{30}) +(\d+) +(\d+) +([\d.]+) +([\d.]+) +([\d.]+)  (.*)")


# ---- pictures ----


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def header(width, height, depth, colours):
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0))


def picture(chance):
    """A PNG file of some kind, and its number of pixels."""
    width, height = chance.randint(1, 90), chance.randint(1, 90)
    depth, colours, samples = chance.choice(((8, 0, 1), (8, 2, 3), (16, 2, 3), (8, 3, 1), (8, 4, 2), (8, 6, 4), (16, 6, 4)))
    row = width * samples * depth // 8
    # Some hardly to be packed, some well: the latter have more for a flipped bit to spoil.
    tile = chance.randbytes(chance.choice((3, row)))
    pixels = b"".join(bytes([chance.randint(0, 4)]) + (tile * row)[:row] for _ in range(height))
    palette = chunk(b"PLTE", chance.randbytes(3 * 256)) if colours == 3 else b""
    content = chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    return header(width, height, depth, colours) + palette + content, width * height


def flipped(data, chance):
    """A bit is another one; every other time the checksum is made to fit, so that the fault gets to whoever unpacks the pixels."""
    broken = bytearray(data)
    if chance.random() < 0.5:
        broken[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        return bytes(broken)
    start = data.index(b"IDAT") + 4
    size = struct.unpack(">I", data[start - 8 : start - 4])[0]
    broken[start + chance.randrange(size)] ^= 1 << chance.randrange(8)
    broken[start + size : start + size + 4] = struct.pack(">I", zlib.crc32(broken[start - 4 : start + size]))
    return bytes(broken)


def bomb():
    """A few bytes that say that they are 1.6 GB of pixels."""
    return header(20000, 20000, 8, 6) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def write(directory, name, data):
    path = os.path.join(directory, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)
    return path


# ---- the report ----


class Report:
    def __init__(self, out):
        self.out = out
        self.files, self.decoded, self.failed, self.casualties = self.numbers(
            r"files: (\d+), decoded: (\d+), failed: (\d+), casualties: (\d+)"
        )
        (self.later,) = self.numbers(r"decoded at a later try: (\d+)")
        self.bytes, self.pixels = self.numbers(r"bytes: (\d+), pixels: (\d+)")
        self.failures = dict(re.findall(r"^  (/.*?\.[A-Za-z]+): (.*)$", out, re.M))
        self.table = {
            m[7]: (m[1].rstrip(), *[float(m[i]) for i in range(2, 7)]) for m in map(CASUALTY.fullmatch, out.splitlines()) if m
        }
        check("each file ends in exactly one way", self.files == self.decoded + self.failed + self.casualties, out)
        check("those that failed are told", len(self.failures) == self.failed, out)
        check("the casualties are told", len(self.table) == self.casualties, out)
        check("the rates are told", re.search(r"^\d+ workers: [\d.]+ s, \d+ files/s, [\d.]+ MB/s, ", out, re.M), out)

    def numbers(self, pattern):
        match = re.search(f"^{pattern}$", self.out, re.M)
        check(f"it tells /{pattern}/", match, self.out)
        return map(int, match.groups())


def is_sanitized(program):
    with open(program, "rb") as file:
        return b"__asan_init" in file.read()


def report_of(command, code, **more):
    out, err, _ = run(command, code=code, seconds=100, **more)
    asan = is_sanitized(command[0])
    err = ASAN_TALK.sub("", err) if asan else err
    check("nothing on stderr", err == "", err)
    return Report(out.replace(f"{ASAN_END:30}", f"{'memory limit':30}") if asan else out)


# ---- the tests ----


def test_whole_and_broken(program, scratch, chance):
    pictures = [picture(chance) for _ in range(150)]
    whole = {write(scratch, f"mixed/{i % 7}/whole-{i}.png", data): (len(data), n) for i, (data, n) in enumerate(pictures)}
    cut = {write(scratch, f"mixed/cut/{i}.PNG", d[: chance.randrange(len(d) - 12)]) for i, (d, _) in enumerate(pictures)}
    flips = {write(scratch, f"mixed/flip/{i}.png", flipped(d, chance)) for i, (d, _) in enumerate(pictures * 4)}
    others = {write(scratch, "mixed/not.png", b"This is no picture."), write(scratch, "mixed/empty.png", b"")}
    bombs = {write(scratch, f"mixed/bomb-{i}.png", bomb()) for i in range(2)}
    write(scratch, "mixed/text.txt", b"not asked for")
    os.mkfifo(os.path.join(scratch, "mixed/fifo.png"))
    os.symlink("not.png", os.path.join(scratch, "mixed/link.png"))
    os.mkdir(os.path.join(scratch, "mixed/directory.png"))
    everything = len(whole) + len(cut) + len(flips) + len(others) + len(bombs)

    # So few descriptors that one left open by each broken file would be too many; the lifelines have numbers above 100.
    limit = (180, 180)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit[0], resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    report = report_of([program, "--memory", "64", "--jobs", "2", os.path.join(scratch, "mixed")], 1)
    check("every PNG file is taken, and nothing else", report.files == everything, report.out)
    broken = cut | flips | others
    check("none of the whole ones fails", set(report.failures) <= broken, report.out)
    check("all that is cut off, and what is no picture, fails", cut | others <= set(report.failures), report.out)
    check("so do most of those with a flipped bit", len(set(report.failures) & flips) > len(flips) // 2, report.out)
    check("the bombs are casualties, and nobody else", set(report.table) == bombs, report.out)
    check("of the limit of memory", {row[0] for row in report.table.values()} == {"memory limit"}, report.out)
    check("nothing ran out of descriptors", "open files" not in report.out, report.out)

    report = report_of([program, *whole], 0)
    check("whole ones alone: exit code 0", (report.files, report.decoded) == (len(whole), len(whole)), report.out)
    sums = (sum(size for size, _ in whole.values()), sum(n for _, n in whole.values()))
    check("bytes and pixels add up", (report.bytes, report.pixels) == sums, report.out)
    report = report_of([program, "--all", os.path.join(scratch, "mixed")], 1)
    check("--all takes any name", report.files == everything + 1, report.out)


def accidents(paths, every):
    """What --sabotage does to which file."""
    return {path: KINDS[i // every % len(KINDS)] for i, path in enumerate(sorted(paths)) if i % every == every - 1}


def check_accidents(report, paths, planted):
    counts = [sum(kind == k for k in planted.values()) for kind in KINDS]
    line = "sabotage: " + ", ".join(f"{kind} {count}" for kind, count in zip(KINDS, counts))
    check("what was planted is told", line in report.out.splitlines(), report.out)
    expected = {path: ENDS[kind] for path, kind in planted.items() if kind in ENDS}
    found = {path: row[0] for path, row in report.table.items()}
    check(f"{len(expected)} casualties, each of its own kind", found == expected, f"{expected}\n{report.out}")
    slow = {path for path, kind in planted.items() if kind == "slow"}
    check("the slow ones hear that their time is up", set(report.failures) == slow, report.out)
    check("and say so", all("the time was up after row" in text for text in report.failures.values()), report.out)
    check("all the others are decoded", report.decoded == len(paths) - len(expected) - len(slow), report.out)


def test_sabotage(program, scratch, chance):
    paths = [write(scratch, f"sound/{i}.png", picture(chance)[0]) for i in range(120)]
    command = [program, "--soft", "2500", "--hard", "5000", "--cpu", "150", "--memory", "64", "--jobs", "4"]
    command += ["--sabotage", "9", os.path.join(scratch, "sound")]
    planted = accidents(paths, 9)

    report = report_of(command, 1)
    check_accidents(report, paths, planted)
    flaky = sum(kind == "flaky" for kind in planted.values())
    check("the flaky ones are decoded at their second try", report.later == flaky, report.out)
    for path, (what, tries, worker, seconds, cpu, mib) in report.table.items():
        usual = (1, 2) if is_sanitized(program) else (1,)
        check(f"{what}: tries and worker", tries in (usual if what == "memory limit" else (2,)) and worker > 0, report.out)
        if what == "time limit":
            check("it had its time", seconds >= 5 > cpu, report.out)
        elif what == "CPU time limit":
            check("it had its CPU time", seconds >= cpu >= 0.15, report.out)
        elif what == "memory limit" and not is_sanitized(program):
            check("it had its memory", mib >= 60, report.out)

    report = report_of(command[:1] + ["--chaos", "12", "--seed", "3"] + command[1:], 1)
    check_accidents(report, paths, planted)
    match = re.search(r"^chaos: (\d+) workers killed, seed 3$", report.out, re.M)
    check("workers killed from outside change nothing in the books", match and 6 <= int(match[1]) <= 12, report.out)


def test_host_is_killed(program, scratch, chance):
    for i in range(8):
        write(scratch, f"hang/{i}.png", picture(chance)[0])
    # The first ones crash and exit; then the workers hang, for as long as they are let.
    command = [program, "--soft", "60000", "--hard", "60000", "--sabotage", "1", "--jobs", "2", os.path.join(scratch, "hang")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True) as host:
        until = time.monotonic() + 20
        while len(there := left_over(host.pid)) != 4 and time.monotonic() < until:
            time.sleep(0.01)
        host.kill()
    check("host, keeper and two workers were there", len(there) == 4, str(there))
    until = time.monotonic() + 5
    while (rest := left_over(host.pid)) and time.monotonic() < until:
        for pid, (_, state, parent, _) in rest.items():
            if state == "Z" and parent == os.getpid():
                os.waitpid(pid, os.WNOHANG)
        time.sleep(0.005)
    check("the host's end by SIGKILL is everybody's", not rest, str(rest))


def test_options(program, scratch):
    out, err, _ = run([program, "--help"])
    check("--help tells the options", out.startswith("usage: casualties") and "--sabotage" in out and err == "", out + err)
    for bad in (["--bad"], ["--jobs", "0"], ["--jobs", "x"], ["--hard", "-1"], ["--memory", ""], ["--sabotage"]):
        _, err, _ = run([program, *bad], code=2)
        check(f"{bad} is refused", err != "", err)
    empty = os.path.join(scratch, "empty")
    os.mkdir(empty)
    report = report_of([program, empty], 0)
    check("nothing to do is done well", report.files == 0, report.out)
    out, err, _ = run([program, empty, os.path.join(scratch, "nowhere")], code=1)
    check("a path that does not exist is told", "nowhere: No such file" in err and "\nunreadable: 1\n" in out, out + err)


def test_casualties(program):
    chance = random.Random(4)
    with tempfile.TemporaryDirectory() as scratch:
        test_options(program, scratch)
        test_whole_and_broken(program, scratch, chance)
        test_sabotage(program, scratch, chance)
        test_host_is_killed(program, scratch, chance)


if __name__ == "__main__":
    os.environ.setdefault("ASAN_OPTIONS", "")
    os.environ["ASAN_OPTIONS"] += ":allocator_may_return_null=1"  # as any other malloc(3) does; the memory limit stands on it
    main(globals())
