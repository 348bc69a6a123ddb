#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Measures brood beside its peers, and prints one table.

    bench/run.py --builddir build-bench [--rounds N] [--only PATTERN] [--json FILE] [--smoke]

Every figure is measured in rounds, and in each round brood and its peers run one after the other (A B C, A B C, ...), so
that whatever else the machine does falls on all of them alike.  A cell is the median [least-most] over the rounds; a
ratio is the median [least-most] of the rounds' own brood/peer, so it compares numbers that were taken seconds apart.

--only PATTERN takes the figures whose name contains the pattern or matches it as a glob ("pool.*").
--smoke runs each program once with tiny counts: it proves that all of them work and that their books balance, and
  says nothing about time.

A bar is what brood is meant to reach: a value of its own, or a ratio to one peer, "at least" where more is better and "at
most" where less is.  The median is held against it, and the last column says whether it is met.

Exits with 1 if a program failed or printed no figure; how fast anything was never makes it fail, and no missed bar does.
"""

import argparse
import datetime
import fnmatch
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
SYSTEM_PYTHON = "/usr/bin/python3"
TIME_LIMIT = 60  # seconds for one program; the longest takes ten on a slow machine
SKIP = 77  # the exit code of a peer that is not to be had here (bench.h)
WORDCOUNT_BYTES = 100_000_000
WORDCOUNT_FILE = 4_000_000


class Failed(Exception):
    """A program that did not do its work."""


class Skipped(Exception):
    """A peer that is not to be had here."""


# ---- running one program ----


def run_program(command):
    """The standard output of a command.  When the time is up, or this script ends, all that it started ends too."""
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as e:
        raise Failed(str(e)) from None
    try:
        out, err = process.communicate(timeout=TIME_LIMIT)
    except subprocess.TimeoutExpired:
        raise Failed(f"no end after {TIME_LIMIT} s") from None
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.returncode == SKIP:
        raise Skipped(err.strip() or "it said nothing")
    if process.returncode != 0:
        said = "; ".join(err.split("\n")).strip("; ")[-400:]
        raise Failed(f"exit code {process.returncode}: {said or 'it said nothing'}")
    return out


def missing_of(paths):
    """What a machine without Python, or a build without examples, does not have; None if all is there."""
    absent = [path for path in paths if not os.path.exists(path)]
    return f"there is no {absent[0]}" if absent else None


class Program:
    """One peer of one figure, measured by a program that prints `name value unit`."""

    def __init__(self, peer, command, count, smoke_count):
        self.peer, self.command, self.count, self.smoke_count = peer, command, count, smoke_count

    def missing(self):
        if not os.path.exists(self.command[0]) and self.peer in PACKAGE_OF:
            return f"not built, {PACKAGE_OF[self.peer]} was not there"
        return missing_of(self.command)

    def measure(self, figure, smoke):
        count = self.smoke_count if smoke else self.count
        short = figure.name.split(".", 1)[1]
        out = run_program(self.command + ["--figure", short, "--peer", self.peer, "--count", str(count)])
        match = re.fullmatch(r"(\S+) (\S+) (\S+)\n", out)
        if not match or match[1] != f"{figure.name}.{self.peer}" or match[3] != figure.unit:
            raise Failed(f"unexpected output {out!r}")
        # Nothing used is a figure; nothing done is not.
        return 0.0 if match[2] == "0" and not figure.higher else positive(match[2])


class Wordcount:
    """examples/wordcount over the input; either timed from outside as a whole, or its own comparison with one process."""

    def __init__(self, peer, path, corpus, jobs, compare):
        self.peer, self.path, self.corpus, self.jobs, self.compare = peer, path, corpus, jobs, compare

    def missing(self):
        return missing_of([self.path])

    def measure(self, figure, smoke):
        directory = self.corpus.directory()
        command = [self.path, "--jobs", str(self.jobs), "--repeat", "1"]
        command += ["--compare" if self.compare else "--no-compare", directory]
        began = time.monotonic()
        out = run_program(command)
        took = time.monotonic() - began
        self.corpus.check(out)
        if not self.compare:
            return self.corpus.bytes / 1e6 / took
        match = re.search(r"^speed-up: (\S+)$", out, re.M)
        if not match:
            raise Failed("it printed no speed-up")
        return positive(match[1])


def positive(text):
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise Failed(f"{text!r} is no figure")
    return value


class Corpus:
    """The input of wordcount: the headers of this machine, over and over until it is large enough, in files of a few MB.

    It is made when it is first needed, is in the page cache from then on, and is removed at the end.
    """

    def __init__(self, size):
        self.size, self.bytes, self.books, self.path = size, 0, None, None

    def directory(self):
        if self.path is None:
            self.path = tempfile.mkdtemp(prefix="brood-bench-")
            self.fill()
        return self.path

    def fill(self):
        out, written, n = None, 0, 0
        try:
            while self.bytes < self.size:
                before = self.bytes
                for directory, _, names in os.walk("/usr/include"):
                    for name in names:
                        try:
                            text = Path(directory, name).read_bytes()
                        except OSError:
                            continue
                        # Without the newline, two files' words would become one.
                        text += b"\n"
                        if out is None or written >= WORDCOUNT_FILE:
                            if out is not None:
                                out.close()
                            out, written, n = open(Path(self.path, f"{n:04}.txt"), "wb"), 0, n + 1
                        out.write(text)
                        written += len(text)
                        self.bytes += len(text)
                        if self.bytes >= self.size:
                            return
                if self.bytes == before:
                    raise Skipped("there is nothing below /usr/include to count")
        finally:
            if out is not None:
                out.close()

    def check(self, out):
        """All runs must have read all bytes and found the same words."""
        match = re.search(r"^bytes: (\d+), words: \d+, different: \d+$", out, re.M)
        if not match or int(match[1]) != self.bytes:
            raise Failed(f"it did not count the {self.bytes} bytes of the input")
        books = (match[0], re.findall(r"^ *\d+ [a-z]+$", out, re.M))
        if self.books is None:
            self.books = books
        if books != self.books:
            raise Failed("its words are not those of the other runs")

    def remove(self):
        if self.path is not None:
            shutil.rmtree(self.path, ignore_errors=True)


# ---- the figures ----

# The programs of those peers of a figure that are not in the stem's own, and the Debian packages that some are made of.
PROGRAM_OF = {
    "boost": "queue_boost",
    "ck": "queue_ck",
    "ck-spsc": "queue_ck",
    "futex": "queue_kernel",
    "mq": "queue_kernel",
    "pipe": "queue_kernel",
    "seqpacket": "queue_kernel",
    "zmq": "queue_zmq",
}
PACKAGE_OF = {"boost": "libboost-dev", "ck": "libck-dev", "ck-spsc": "libck-dev", "zmq": "libzmq3-dev"}


class Figure:
    """A figure and those who are measured for it, brood first.

    `bar` is brood's own, `bars` has those of the ratio to a peer.
    """

    def __init__(self, name, what, unit, higher, peers, bar=None, bars=None, cpus=1):
        self.name, self.what, self.unit, self.higher, self.peers = name, what, unit, higher, peers
        self.bar, self.bars, self.cpus = bar, bars or {}, cpus
        self.values = {p.peer: [] for p in peers}  # one number a round, or None where it failed
        self.state = {p.peer: None for p in peers}  # why it is skipped, or how it failed


def all_figures(builddir, corpus):
    def c(stem, peer, count, smoke_count):
        return Program(peer, [str(builddir / "bench" / f"bench-{stem}")], count, smoke_count)

    def python(stem, count, smoke_count):
        return Program("multiprocessing", [SYSTEM_PYTHON, str(HERE / "python" / f"mp_{stem}.py")], count, smoke_count)

    def figure(name, what, unit, higher, counts, program=None, **more):
        stem = name.split(".")[0]
        peers = [
            python(stem, *count) if peer == "multiprocessing" else c(program or PROGRAM_OF.get(peer, stem), peer, *count)
            for peer, count in counts.items()
        ]
        return Figure(name, what, unit, higher, peers, **more)

    words = str(builddir / "examples" / "wordcount")
    py = "multiprocessing"
    half = (500, 50)  # ms
    # Each count is for about a third of a second; the second one is the smoke test's.
    return [
        figure("process.start-join", "start and join of a trivial process, by fork", "us", False,
               {"brood": (1000, 5), "fork": (1000, 5), py: (100, 2)}, bars={py: 0.2}),
        figure("process.start-join-spawn", "the same by spawn; posix_spawn: an exec of the same program", "us", False,
               {"brood": (400, 5), "posix_spawn": (400, 5), py: (10, 1)}, bars={py: 0.2}),
        figure("process.start-join-forkserver", "the same by the fork server", "us", False,
               {"brood": (1000, 5), py: (20, 1)}, bars={py: 0.2}),
        figure("process.exec", "start and join of /bin/true", "us", False,
               {"brood": (400, 5), "posix_spawn": (400, 5)}),
        figure("process.fork-in-turn", "start and join over a bare fork and waitid, each in turn", "times", False,
               {"brood": (1500, 5)}, bar=1.15),
        figure("process.exec-in-turn", "start and join of /bin/true over posix_spawn and waitid, each in turn", "times", False,
               {"brood": (500, 5)}, bar=1.0),
        figure("process.large-host", "a start by the fork server from a host of 4 GiB, over one of 10 MiB", "times", False,
               {"brood": (1000, 3), "fork": (30, 3)}, bar=1.2),
        figure("process.start-join-many", "start and join beside 2,000 children that are alive, over beside 10", "times", False,
               {"brood": (500, 5), "brood_forkserver": (500, 5), "fork": (500, 5), "fork_pidfd": (500, 5)}, bar=2),
        figure("sync.lock", "acquire and release a Lock that nobody else wants", "ns", False,
               {"brood": (20_000_000, 2000), "cas": (50_000_000, 2000), "robust": (10_000_000, 2000),
                "sem": (10_000_000, 2000), py: (500_000, 200)},
               bars={"cas": 2, "robust": 1}),
        figure("sync.rlock", "the same of an RLock", "ns", False,
               {"brood": (20_000_000, 2000), "robust": (10_000_000, 2000), py: (500_000, 200)}, bars={"robust": 1}),
        figure("sync.semaphore", "acquire and release a unit of four", "ns", False,
               {"brood": (10_000_000, 2000), "sem": (10_000_000, 2000), py: (500_000, 200)}),
        figure("sync.rwlock", "acquire to read and release", "ns", False,
               {"brood": (10_000_000, 2000), "pthread": (10_000_000, 2000)}),
        figure("sync.lock-contended", "two processes add to one number under one Lock", "pair/s", True,
               {"brood": (2_000_000, 2000), "cas": (5_000_000, 2000), "robust": (2_000_000, 2000), "sem": (2_000_000, 2000),
                py: (100_000, 200)}),
        figure("sync.event", "set one Event, wait for the other, two CPUs; sem: post and wait", "us", False,
               {"brood": (100_000, 200), "sem": (20_000, 200), py: (2000, 20)}, cpus=2),
        figure("sync.condition", "the same with flags under Conditions", "us", False,
               {"brood": (50_000, 200), "pthread": (20_000, 200), py: (2000, 20)}, cpus=2),
        figure("sync.barrier", "two processes meet at a Barrier, two CPUs", "us", False,
               {"brood": (50_000, 200), "pthread": (20_000, 200), py: (2000, 20)}, cpus=2),
        figure("queue.1x1", "64-byte messages, 1 producer, 1 consumer", "msg/s", True,
               {"brood": (4_000_000, 2000), "ring": (10_000_000, 2000), "robust": (2_000_000, 2000),
                "ck": (10_000_000, 2000), "ck-spsc": (10_000_000, 2000), "boost": (2_000_000, 2000),
                "zmq": (1_000_000, 2000), "mq": (300_000, 500), "seqpacket": (150_000, 500), "pipe": (600_000, 2000),
                py: (40_000, 200)},
               bars={"ring": 0.8, "boost": 3, "pipe": 8, py: 100}),
        figure("queue.batch", "the same, in batches of 32; single: one message a call", "msg/s", True,
               {"brood": (4_000_000, 2000), "single": (4_000_000, 2000)}, bars={"single": 1.5}),
        figure("queue.4x4", "64-byte messages, 4 producers, 4 consumers", "msg/s", True,
               {"brood": (4_000_000, 2000), "ring": (10_000_000, 2000), "robust": (2_000_000, 2000),
                "boost": (2_000_000, 2000), "mq": (300_000, 500), "seqpacket": (150_000, 500), "pipe": (600_000, 2000),
                py: (40_000, 200)},
               # Concurrency Kit's ring is not here: with more processes than CPUs it may not end within a minute.
               bars={"boost": 3}),
        figure("queue.4x4-share", "4x4 for half a second: most done by one of a side over least", "times", False,
               {"brood": half, "ring": half, "robust": half, "ck": half, "boost": half, "mq": half, "seqpacket": half,
                "pipe": half},
               bar=2),
        figure("queue.cpu", "CPU time for each message of 1x1, both sides together", "ns", False,
               {"brood": (4_000_000, 2000), "ring": (10_000_000, 2000), "robust": (2_000_000, 2000),
                "boost": (2_000_000, 2000), "zmq": (1_000_000, 2000), "mq": (300_000, 500), "seqpacket": (150_000, 500),
                "pipe": (600_000, 2000), py: (40_000, 200)},
               bar=120),
        figure("queue.round-trip", "64 bytes there and back over two queues, two CPUs, hot", "us", False,
               {"brood": (200_000, 200), "ring": (200_000, 200), "robust": (200_000, 200), "ck-spsc": (200_000, 200),
                "boost": (5000, 100), "zmq": (5000, 100), "mq": (5000, 100), "seqpacket": (5000, 100),
                "pipe": (5000, 100), py: (1000, 20)},
               bars={"ring": 2}, cpus=2),
        figure("queue.round-trip-asleep", "64 bytes one way, to a sleeper on another CPU", "us", False,
               {"brood": (1000, 20), "futex": (1000, 20), "boost": (1000, 20), "zmq": (1000, 20), "mq": (1000, 20),
                "seqpacket": (1000, 20), "pipe": (1000, 20)},
               bars={"futex": 1.15}, cpus=2),
        figure("queue.64KiB-copy", "64 KiB messages, put and got by copy, 1x1", "GB/s", True,
               {"brood": (50_000, 50), "boost": (50_000, 50), "zmq": (10_000, 50), "mq": (20_000, 50),
                "seqpacket": (20_000, 50), "pipe": (10_000, 50)},
               bars={"boost": 1.2, "zmq": 1.2, "mq": 1.2, "seqpacket": 1.2, "pipe": 1.2}),
        figure("queue.1MiB-in-place", "1 MiB messages, copied into and out of their places, 1x1", "GB/s", True,
               {"brood": (2000, 40), "ring": (2000, 40)}, program="queue_in_place", bars={"ring": 0.8}),
        figure("queue.idle", "CPU of a get that is blocked for 5 s", "%", False,
               {"brood": (5000, 500)}, program="queue_idle", bar=0.1),
        figure("queue.memory-idle", "a default queue that one message has gone through", "KiB", False,
               {"brood": (1, 1)}, program="queue_idle", bar=256),
        figure("queue.memory-burst", "the same after 1 GiB of 64-byte messages, beyond that", "KiB", False,
               {"brood": (1 << 24, 2000)}, program="queue_idle", bar=2048),
        figure("queue.memory-burst-1MiB", "the same after 1 GiB of 1 MiB messages, beyond that", "KiB", False,
               {"brood": (1024, 4)}, program="queue_idle", bar=2048),
        figure("shared.new-1MiB", "1 MiB of shared memory made, filled and freed", "us", False,
               {"brood": (1000, 5), py: (500, 5)}),
        figure("shared.value-new", "a shared value made and freed", "us", False,
               {"brood": (10_000, 20), py: (3000, 20)}),
        figure("shared.add", "increments of a shared counter, 2 processes (the peer: under its lock)", "op/s", True,
               {"brood": (20_000_000, 2000), py: (50_000, 200)}, cpus=2),
        figure("shared.grow-64KiB", "growing by 64 KiB (the peer: by hand, for itself)", "us", False,
               {"brood": (10_000, 20), "mremap": (10_000, 20)}),
        figure("connection.64KiB", "64 KiB messages over a connection, one way", "GB/s", True,
               {"brood": (20_000, 50), "socketpair": (20_000, 50), py: (10_000, 50)}, bars={"socketpair": 0.98}),
        figure("connection.round-trip", "64 bytes there and back over a connection, two CPUs", "us", False,
               {"brood": (20_000, 100), "socketpair": (20_000, 100), py: (5000, 50)}, cpus=2),
        figure("pool.async", "no-op tasks, 10,000 outstanding, 2 workers", "task/s", True,
               {"brood": (200_000, 500), "pipes": (200_000, 500), py: (10_000, 100)}),
        figure("pool.one", "one no-op task there and back, 2 workers", "us", False,
               {"brood": (5000, 50), "pipes": (5000, 50), py: (1000, 10)}),
        figure("pool.map", "map over 1 M items of 8 bytes, 2 workers", "item/s", True,
               {"brood": (1_000_000, 5000), "pipes": (1_000_000, 5000), py: (1_000_000, 1000)}),
        figure("pool.start", "start, one task, stop, 2 workers", "ms", False,
               {"brood": (50, 2), "pipes": (100, 2), py: (10, 1)}),
        figure("pool.speedup", "computing map, 2 workers, against 1 process", "times", True,
               {"brood": (4000, 40), "pipes": (4000, 40), py: (4000, 40)}, cpus=2),
        figure("pool.timed", "no-op tasks with their times measured, over those without, in turn", "times", False,
               {"brood": (200_000, 500)}, program="insight", cpus=2),
        figure("pool.traced", "no-op tasks with a trace, over those without, in turn", "times", False,
               {"brood": (200_000, 500)}, program="insight", cpus=2),
        figure("pool.traced-20us", "tasks of 20 us with a trace, over those without, in turn", "times", False,
               {"brood": (20_000, 200)}, program="insight", bar=1.05, cpus=2),
        Figure("wordcount.rate", "words of 100 MB, --jobs 2 (the peer: --jobs 1)", "MB/s", True,
               [Wordcount("brood", words, corpus, 2, False), Wordcount("jobs-1", words, corpus, 1, False)], cpus=2),
        Figure("wordcount.speedup", "words of 100 MB, 2 workers, against 1 process", "times", True,
               [Wordcount("brood", words, corpus, 2, True)], bar=1.8, cpus=2),
    ]


# ---- the machine ----


def machine(builddir):
    def read(path):
        try:
            return Path(path).read_text()
        except OSError:
            return ""

    model = re.search(r"^model name\s*: (.*)$", read("/proc/cpuinfo"), re.M)
    facts = {
        "cpu": model[1] if model else os.uname().machine,
        "cpus": os.cpu_count(),
        "cpus_usable": len(os.sched_getaffinity(0)),
        "kernel": os.uname().release,
        "load_before": os.getloadavg()[0],
        "python": "none",
        "build": "unknown",
        "began": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }
    if os.path.exists(SYSTEM_PYTHON):
        facts["python"] = run_program([SYSTEM_PYTHON, "--version"]).split()[-1]
    try:
        options = json.loads(read(builddir / "meson-info" / "intro-buildoptions.json"))
        chosen = {o["name"]: o["value"] for o in options}
        facts["build"] = f"{chosen['buildtype']}, -O{chosen['optimization']}, sanitizers: {chosen['b_sanitize']}"
        facts["slow_build"] = chosen["optimization"] not in ("2", "3") or chosen["b_sanitize"] != "none"
    except (ValueError, KeyError, TypeError):
        pass
    return facts


def print_machine(facts):
    print(f"cpu     {facts['cpu']}, {facts['cpus']} cores, {facts['cpus_usable']} usable")
    print(f"system  Linux {facts['kernel']}, Python {facts['python']}, load {facts['load_before']:.2f}")
    print(f"build   {facts['build']}")
    if facts.get("slow_build"):
        print("        not an optimised build: its figures are not to be quoted")
    if facts["load_before"] > 0.5:
        print("        other programs are running: look at the ratios and at how far the figures spread")


# ---- measuring and telling ----


def measure(figures, rounds, smoke, usable):
    progress = sys.stderr.isatty()
    for figure in figures:
        for p in figure.peers:
            if not smoke and usable < figure.cpus:
                figure.state[p.peer] = f"skipped: {figure.cpus} CPUs are needed"
            elif reason := p.missing():
                figure.state[p.peer] = f"skipped: {reason}"
        for n in range(rounds):
            for p in figure.peers:
                if figure.state[p.peer]:
                    continue
                if progress:
                    print(f"\r\033[K{figure.name} {p.peer} {n + 1}/{rounds}", end="", file=sys.stderr, flush=True)
                try:
                    figure.values[p.peer].append(p.measure(figure, smoke))
                except Skipped as e:
                    figure.state[p.peer] = f"skipped: {e}"
                except Failed as e:
                    figure.state[p.peer] = f"FAILED: {e}"
    if progress:
        print("\r\033[K", end="", file=sys.stderr, flush=True)


def ratios(figure, peer):
    """brood/peer of each round that has both."""
    if peer == "brood":
        return []
    return [b / p for b, p in zip(figure.values["brood"], figure.values[peer]) if p]


def short(value):
    for scale, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= scale:
            return f"{value / scale:.3g}{letter}"
    return f"{value:.3g}"


def spread(values):
    return f"{short(statistics.median(values))} [{short(min(values))}-{short(max(values))}]"


def bar_of(figure, peer):
    """The bar in this row, its text, and whether it is met: None where it was not measured; None alone if there is none."""
    bar = figure.bar if peer == "brood" else figure.bars.get(peer)
    if bar is None:
        return None
    measured = figure.values[peer] if peer == "brood" else ratios(figure, peer)
    met = None
    if measured and not figure.state[peer]:
        median = statistics.median(measured)
        met = median >= bar if figure.higher else median <= bar
    return bar, f"bar {bar}" + ("" if peer == "brood" else "x"), met


def rows(figure, smoke):
    first = True
    for p in figure.peers:
        values, pairs, remarks = figure.values[p.peer], ratios(figure, p.peer), []
        bar = None if smoke else bar_of(figure, p.peer)
        if figure.state[p.peer]:
            remarks.append(figure.state[p.peer])
        if bar and bar[2] is not None:
            remarks.append(f"{bar[1]}: {'met' if bar[2] else 'MISSED'}")
        # Said only of what every round agrees on.
        elif pairs and (min(pairs) > 1 or max(pairs) < 1):
            remarks.append("brood is ahead" if (min(pairs) > 1) == figure.higher else "brood is behind")
        remark = ", ".join(remarks)
        yield (
            figure.name if first else "",
            f"{figure.unit} {'up' if figure.higher else 'down'}" if first else "",
            p.peer,
            spread(values) if values else "-",
            spread(pairs) if pairs else "-",
            remark,
        )
        first = False


def print_table(figures, smoke):
    head = ("figure", "unit, better", "who", "median [least-most]", "brood/peer", "")
    table = [head] + [row for figure in figures for row in rows(figure, smoke)]
    # A failure's text may be long; it ends its line and widens no column.
    widths = [max(len(row[i]) for row in table) for i in range(len(head) - 1)]
    for i, row in enumerate(table):
        if i == 1 or (i > 1 and row[0]):
            print("-" * (sum(widths) + 2 * len(widths)))
        print(("  ".join(cell.ljust(w) for cell, w in zip(row, widths)) + "  " + row[-1]).rstrip())
    print()
    for figure in figures:
        print(f"{figure.name.ljust(widths[0])}  {figure.what}")


def print_bars(figures):
    bars = [(f"{f.name}.{p.peer}", bar[2]) for f in figures for p in f.peers if (bar := bar_of(f, p.peer))]
    missed = [name for name, met in bars if met is False]
    open_ones = [name for name, met in bars if met is None]
    if not bars:
        return
    print(f"\n{sum(met is True for _, met in bars)} of {len(bars)} bars met")
    if missed:
        print(f"missed: {', '.join(missed)}")
    if open_ones:
        print(f"not measured: {', '.join(open_ones)}")


def write_json(path, facts, figures):
    told = {
        "machine": facts,
        "figures": [
            {
                "name": f.name, "what": f.what, "unit": f.unit, "higher_is_better": f.higher,
                "peers": {
                    p.peer: {
                        "values": f.values[p.peer],
                        "median": statistics.median(f.values[p.peer]) if f.values[p.peer] else None,
                        "brood_over_peer": statistics.median(ratios(f, p.peer)) if ratios(f, p.peer) else None,
                        "bar": bar[0] if (bar := bar_of(f, p.peer)) else None,
                        "bar_met": bar[2] if bar else None,
                        "state": f.state[p.peer],
                    }
                    for p in f.peers
                },
            }
            for f in figures
        ],
    }
    Path(path).write_text(json.dumps(told, indent=2) + "\n")


def chosen(figures, pattern):
    if not pattern:
        return figures
    return [f for f in figures if pattern in f.name or fnmatch.fnmatchcase(f.name, pattern)]


def end_by_signal(number, _frame):
    sys.exit(128 + number)  # runs the finally clauses, which end the programs and remove the input


def main():
    parser = argparse.ArgumentParser(description="Measures brood beside its peers.")
    parser.add_argument("--builddir", required=True, type=Path)
    parser.add_argument("--rounds", type=int, default=5, help="at least 5 for figures worth quoting")
    parser.add_argument("--only", metavar="PATTERN", help="only the figures whose name contains or matches it")
    parser.add_argument("--json", metavar="FILE", help="write all values there too")
    parser.add_argument("--smoke", action="store_true", help="tiny counts, one round: do all programs work?")
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error("--rounds: want at least 1")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end_by_signal)

    builddir = args.builddir.resolve()
    corpus = Corpus(200_000 if args.smoke else WORDCOUNT_BYTES)
    figures = chosen(all_figures(builddir, corpus), args.only)
    if not figures:
        parser.error(f"--only: no figure is called {args.only!r}")
    rounds = 1 if args.smoke else args.rounds

    facts = machine(builddir)
    facts["rounds"] = rounds
    print_machine(facts)
    began = time.monotonic()
    try:
        measure(figures, rounds, args.smoke, facts["cpus_usable"])
    finally:
        corpus.remove()
    facts["load_after"] = os.getloadavg()[0]
    facts["seconds"] = round(time.monotonic() - began, 1)
    print(f"took    {facts['seconds']} s, {rounds} round{'s' if rounds > 1 else ''}, "
          f"load {facts['load_after']:.2f} at the end\n")
    print_table(figures, args.smoke)
    if not args.smoke:
        print_bars(figures)
    if args.json:
        write_json(args.json, facts, figures)

    states = [(f"{f.name}.{peer}", state) for f in figures for peer, state in f.state.items() if state]
    skipped = [name for name, state in states if state.startswith("skipped")]
    failed = [name for name, state in states if state.startswith("FAILED")]
    if skipped:
        print(f"\n{len(skipped)} skipped (the reasons are in the table): {', '.join(skipped)}")
    if failed:
        print(f"\n{len(failed)} FAILED: {', '.join(failed)}")
    # Without its own programs there is nothing to compare: that is a failure too.
    return 1 if failed or not any(f.values["brood"] for f in figures) else 0


if __name__ == "__main__":
    sys.exit(main())
