# SPDX-License-Identifier: MIT
"""How run.py has one figure of one peer measured: a program is run, and what it prints is read.

A peer's program prints `name value unit`, see bench.h; wordcount, which is an example, is timed from outside.
"""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

TIME_LIMIT = 60  # seconds for one program; the longest takes ten on a slow machine
SKIP = 77  # the exit code of a peer that is not to be had here (bench.h)
SHM = Path("/dev/shm")
WORDCOUNT_BYTES = 100_000_000
WORDCOUNT_FILE = 4_000_000
# The Debian packages that some peers are made of.
PACKAGE_OF = {
    "boost": "libboost-dev",
    "ck": "libck-dev",
    "ck-spsc": "libck-dev",
    "glib": "libglib2.0-dev",
    "openmp": "libgomp1",
    "zmq": "libzmq3-dev",
}


class Failed(Exception):
    """A program that did not do its work."""


class Skipped(Exception):
    """A peer that is not to be had here."""


def remove_names(pid):
    """The names in /dev/shm of a program that has ended.

    joblib keeps semaphores and folders there, and who removes them is killed with the program.  They have its number in them.
    """
    ours = re.compile(rf"sem\.(joblib|loky)-{pid}-|joblib_memmapping_folder_{pid}_")
    for path in SHM.iterdir() if SHM.is_dir() else ():
        if not ours.match(path.name):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


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
        remove_names(process.pid)
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
