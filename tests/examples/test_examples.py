#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Runs an example, and asserts what it prints and what it leaves in the process table.

    test_examples.py NAME PROGRAM

Every program runs in a session of its own, below this process as the subreaper: whatever it leaves behind becomes this
process's child or stays in the session, and is found there.  A time limit kills the whole process group.
"""

import ctypes
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time

PR_SET_CHILD_SUBREAPER = 36
DAYS = "Mon|Tue|Wed|Thu|Fri|Sat|Sun"
MONTHS = "Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec"


def check(what, condition, detail=""):
    if not condition:
        print(f"FAILED: {what}\n{detail}")
        sys.exit(1)
    print(f"ok: {what}", flush=True)


def processes():
    """What /proc lists: pid -> (name, state, parent, session)."""
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", encoding="ascii", errors="replace") as file:
                    text = file.read()
            except OSError:
                continue
            name = text[text.index("(") + 1 : text.rindex(")")]
            fields = text[text.rindex(")") + 2 :].split()
            found[int(entry)] = (name, fields[0], int(fields[1]), int(fields[3]))
    return found


def left_over(session):
    me = os.getpid()
    return {pid: p for pid, p in processes().items() if p[3] == session or (p[2] == me and pid != session)}


def run(command, seconds=20, code=0, sigchld=signal.SIG_DFL):
    """Runs a program to its end; returns what it printed, what it complained, and its pid."""
    before = left_over(-1)

    def child():
        signal.signal(signal.SIGCHLD, sigchld)

    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, preexec_fn=child
    ) as program:
        try:
            out, err = program.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            table = left_over(program.pid)
            os.killpg(program.pid, signal.SIGKILL)
            out, err = program.communicate()
            check(f"{command[0]} ends within {seconds} s", False, f"{table}\n{out[-2000:]}\n{err[-2000:]}")
    # A process that was told to end gets 100 ms: what the library promises for the children of a parent that is gone.
    until = time.monotonic() + 0.1
    while (rest := {p: v for p, v in left_over(program.pid).items() if p not in before}) and time.monotonic() < until:
        # Whoever has ended and was handed to this process, as to an init, is this process's to reap.
        for pid, (_, state, parent, _) in rest.items():
            if state == "Z" and parent == os.getpid():
                os.waitpid(pid, os.WNOHANG)
        time.sleep(0.005)
    for pid in rest:
        os.kill(pid, signal.SIGKILL)
    name = os.path.basename(command[0])
    out, err = out.decode("latin-1"), err.decode("latin-1")
    check(f"{name} ends with {code}", program.returncode == code, f"{program.returncode}\n{out[-2000:]}\n{err[-2000:]}")
    check(f"{name} leaves no process", not rest, str(rest))
    return out, err, program.pid


def quiet(command, **more):
    out, err, pid = run(command, **more)
    check("nothing on stderr", err == "", err)
    return out.splitlines(), pid


def test_fork(program):
    lines, _ = quiet([program])
    check(
        "child and parent say what they are, and both reach the end",
        lines == ["The new process", "Fork test over", "The old process", "Fork test over"],
        str(lines),
    )


def test_zombies(program):
    for how in (signal.SIG_DFL, signal.SIG_IGN):
        if how == signal.SIG_IGN:
            # Inherited over exec: then the kernel buries every child at once, also the first.
            out, err, _ = run([program], sigchld=how)
            lines = out.splitlines()
            check("SIGCHLD ignored from outside: no zombie at all in the end", "zombies: 0" in lines[-1], out + err)
            continue
        lines, parent = quiet([program])
        text = "\n".join(lines)
        check("an ended child that nobody waited for is one zombie", lines[1] == "Ended, not waited for: zombies: 1", text)
        children = [int(m) for m in re.findall(r"^Child PID: (\d+) \(", text, re.M)]
        check("three children ran", len(set(children)) == 3 and parent not in children, text)
        for number, child, pattern in (
            ("1", children[0], r"1\. Waited for: PID: (\d+) STATUS: 2 zombies: 0"),
            ("2", children[1], r"2\. Second-level child: PID: (\d+) zombies: 0"),
            ("3", children[2], r"3\. SIGCHLD ignored: PID: (\d+) zombies: 0"),
        ):
            match = re.search(f"^{pattern}$", text, re.M)
            check(f"way {number}: no zombie, and the pid is known", match and int(match[1]) == child, text)

    # The same from outside: while a line's successor sleeps, the process table is looked at.
    with subprocess.Popen([program], stdout=subprocess.PIPE, start_new_session=True) as running:
        limit = threading.Timer(20, os.killpg, (running.pid, signal.SIGKILL))
        limit.start()
        for line in running.stdout:
            if line.startswith((b"1.", b"2.")):
                # The program goes on meanwhile: the first-level child of the next way ends and is waited for, and between the two
                # it is what every ended child is.  A zombie is one that stays.
                end = time.monotonic() + 0.1
                while True:
                    table = {pid: p for pid, p in processes().items() if p[2] == running.pid}
                    gone = "Z" not in [p[1] for p in table.values()]
                    if gone or time.monotonic() > end:
                        break
                check(f"seen from outside after way {line[:1].decode()}: no zombie stays", gone, str(table))
        limit.cancel()
    check("the program ends well", running.returncode == 0)
    while any(p[2] == os.getpid() for p in processes().values()):
        os.wait()


def test_process(program):
    lines, _ = quiet([program])
    check(
        "`a` is 10000 in the child and stays 1 in the parent",
        lines
        == ["A process begins", "a = 1", "The child's function: a = 10000", "The parent's own business", "a: 1"],
        str(lines),
    )


def test_process_class(program):
    lines, _ = quiet([program])
    check("run() does both steps twice", lines[:-1] == ["Step one", "Step two"] * 2, str(lines))
    check("the name comes from the class", re.fullmatch(r"MyProcess-\d+ ended with 0", lines[-1]), str(lines))


def test_pool(program):
    lines, _ = quiet([program])
    task = re.compile(rf"(?:{DAYS}) (?:{MONTHS}) [ 1-3]\d \d\d:\d\d:\d\d \d{{4}} -- (Tedu \d)")
    done = [task.fullmatch(line) for line in lines[:-1]]
    check("each line is the time and a message", len(done) == 10 and all(done), str(lines))
    check("ten tasks, each once", sorted(m[1] for m in done) == [f"Tedu {i}" for i in range(10)], str(lines))
    check("the asynchronous result, after the join", lines[-1] == "8888", str(lines))


def test_queue(program):
    lines, _ = quiet([program])
    sums = [re.fullmatch(r"(\d+)\+(\d+)=(\d+)", line) for line in lines[:-1]]
    check("six pairs arrive", len(sums) == 6 and all(sums), str(lines))
    check("their sums are right", all(int(m[1]) + int(m[2]) == int(m[3]) for m in sums), str(lines))
    check("numbers from 1 to 100", all(1 <= int(m[i]) <= 100 for m in sums for i in (1, 2)), str(lines))
    check("the last get times out", lines[-1].startswith("The get timed out: "), str(lines))


def test_separate_queues(program):
    lines, _ = quiet([program])
    check(
        "queues made apart do not meet, one made before the fork is shared",
        lines
        == [
            'Child: put "for nobody" into the child\'s own queue, which holds 1',
            'Child: put "for the parent" into the shared queue, which holds 1',
            "Parent: nothing in the parent's own queue",
            'Parent: got "for the parent" from the shared queue',
        ],
        str(lines),
    )


def test_work_queue(program):
    lines, _ = quiet([program])
    text = "\n".join(lines)
    jobs, poison = set(range(1, 21)), {6, 13}
    done = [int(m) for m in re.findall(r"^Job (\d+) is done, delivery \d+$", text, re.M)]
    fatal = [(int(j), int(d)) for j, d in re.findall(r"^Job (\d+) kills its worker, delivery (\d+)$", text, re.M)]
    check("every job but the poison is done, each once", sorted(done) == sorted(jobs - poison), text)
    expected = [(job, 1) for job in (5, 10, 15, 20)] + [(job, d) for job in poison for d in (1, 2, 3)]
    check("the hard jobs kill one worker each, the poison three", sorted(fatal) == sorted(expected), text)
    for job in (5, 10, 15, 20):
        check(f"hard job {job} is done at its second delivery", f"Job {job} is done, delivery 2" in lines, text)
    check("the parent saw each death", lines[-4] == f"{len(fatal)} workers were killed", text)
    check("all that was put is gone", lines[-3] == "put: 20, gone: 20, leased: 0", text)
    match = re.fullmatch(r"deliveries: (\d+), redeliveries: (\d+), dead letters: (\d+)", lines[-2])
    check("the deliveries are told", match and int(match[1]) == len(done) + len(fatal), text)
    # Whether a message that comes back as a dead letter is a redelivery too is not for this test to say.
    check("so are those that came back", len(fatal) - len(poison) <= int(match[2]) <= len(fatal), text)
    check("the poison ends as dead letters", int(match[3]) == len(poison), text)
    check("the other counters are told", re.fullmatch(r"waits: \d+, repairs: \d+, high water: \d+", lines[-1]), text)


def loop_lines(lines, code):
    """The lines of an event loop, some of which are missing if the child was killed, but none that nobody wrote."""
    text = "\n".join(lines)
    readings = [line for line in lines if line.startswith("Queue: ")]
    words = re.findall(r"^Connection: (.+)$", text, re.M)
    expected = [f"Queue: {20 + 0.25 * i:.2f} degrees" for i in range(1, 11)]
    check("readings arrive in their order", readings == expected[: len(readings)], text)
    check("so do words", words == (["warmer", "warm"] * 3)[: len(words)], text)
    ends = {"Queue: ": "The queue is closed", "Connection: ": "The connection is at its end"}
    for what, end in ends.items():
        last = max([i for i, line in enumerate(lines) if line.startswith(what)], default=-1)
        check(f"{end}, after all that came from it", lines.count(end) == 1 and lines.index(end) > last, text)
    check("the child's end is told", lines.count(f"The child ended with {code}") == 1, text)
    events = lines.count("Event: half of the readings are there")
    check("nothing else is printed", len(lines) == len(readings) + len(words) + events + 3, text)
    return len(readings), len(words), events


def test_loop(program):
    lines, _ = quiet([program])
    check("all readings, all words, one event", loop_lines(lines, 0) == (10, 6, 1), str(lines))

    # The same with its child killed after the first three readings, while it sleeps for two seconds.
    command = [program, "--seed-times"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True, text=True) as running:
        limit = threading.Timer(20, os.killpg, (running.pid, signal.SIGKILL))
        limit.start()
        lines = [running.stdout.readline().rstrip("\n") for _ in range(5)]
        children = [pid for pid, p in processes().items() if p[2] == running.pid]
        check("it has one child", len(children) == 1, str(children))
        os.kill(children[0], signal.SIGKILL)
        lines += running.stdout.read().splitlines()
        limit.cancel()
    check("it ends, and says that its child did not end well", running.returncode == 1, str(running.returncode))
    check("what was there is not lost", loop_lines(lines, -9) == (3, 2, 0), str(lines))


test_loop_epoll = test_loop_uv = test_loop_glib = test_loop


def test_mandelbrot(program):
    one = 1 << 24

    def divided(number, by):  # towards zero, as in C
        return number // by if number >= 0 else -(-number // by)

    def shade(row, column):
        cx, cy = 3 * one * column // 72 - 22 * one // 10, 24 * one * row // 240 - 12 * one // 10
        x, y, i = 0, 0, 0
        while i < 90 and x * x + y * y < 4 * one * one:
            x, y = divided(x * x - y * y, one) + cx, divided(2 * x * y, one) + cy
            i += 1
        return " .:-=+*#%@"[i // 10]

    picture = ["|" + "".join(shade(row, column) for column in range(72)) + "|" for row in range(24)]
    lines, _ = quiet([program])
    text = "\n".join(lines)
    check("one worker is killed, and the parent knows where", lines[0] == "A worker was killed in row 7", text)
    check("the picture is whole all the same", lines[1:-1] == picture, text)
    check("each row was drawn to its end once", lines[-1] == "24 rows of 24 are drawn", text)


def test_crew(program):
    lines, _ = quiet([program])
    text = "\n".join(lines)
    begun = [f"Worker {i} begins with step 0" for i in range(3)] + ["Worker 1 begins with step 41"]
    check("one is killed in step 41, and another takes its place", lines[:4] == begun, text)
    check("the desk is back, and no step was lost or done twice", lines[-1] == "All desks are free again after 100 steps", text)
    rod = [100.0] + [0.0] * 25
    for _ in range(100):
        rod = [100.0] + [(rod[i - 1] + rod[i + 1]) / 2 for i in range(1, 25)] + [0.0]
    check("the rod is as warm as without any death", " ".join(lines[4:-1]).split() == [f"{t:.3f}" for t in rod[1:25]], text)


def test_remote_queue(program):
    lines, _ = quiet([program])
    text = "\n".join(lines)
    refused = lines[0] == "Stranger: the keys differ"
    check("a stranger is refused, unless there are no keys", refused or "without keys" in lines[0], text)
    check("the workers have done all jobs", lines[-1] == "2 workers did 20 of 20 jobs", text)
    check("nothing else is printed", len(lines) == 2, text)


# ---- wordcount ----

# grep adds the newline that a file may lack at its end, so that the last word of a file and the first of the next stay two.
PIPELINE = r"""
find -H "$@" -type f -print0 | xargs -0 -r grep -ah '' |
tr -cs 'A-Za-z' '\n' | tr 'A-Z' 'a-z' | sort | uniq -c
"""


def shell_counts(paths):
    environment = dict(os.environ, LC_ALL="C")
    result = subprocess.run(
        ["/bin/sh", "-c", PIPELINE, "sh", *paths], stdout=subprocess.PIPE, env=environment, check=True, timeout=200
    )
    counts = {}
    for line in result.stdout.decode("ascii").splitlines():
        count, *word = line.split()
        if word:  # tr writes one empty line where a text begins with something else than a letter
            counts[word[0]] = int(count)
    return counts


def own_counts(output):
    counts = {}
    order = []
    for line in output.splitlines():
        count, word = line.split()
        counts[word] = int(count)
        order.append((-int(count), word))
    check("the words are in order, each once", order == sorted(set(order)) and len(order) == len(counts))
    return counts


def same_counts(what, mine, theirs):
    wrong = [(w, mine.get(w), theirs.get(w)) for w in sorted(set(mine) | set(theirs)) if mine.get(w) != theirs.get(w)]
    check(f"{what}: agrees with the shell, {len(theirs)} words, {sum(theirs.values())} in all", not wrong, str(wrong[:20]))


def tree(path, chance):
    """Files of every awkward kind; returns what find(1) will call regular files."""
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
    words = ["".join(chance.choices(letters, k=chance.randint(1, 20))) for _ in range(5000)]
    files = {
        "empty": b"",
        "no-newline": b"alpha beta GAMMA",
        "one-letter": b"x",
        "word-then-nothing": b"delta",
        "binary": bytes(range(256)) * 50 + b"\0word\0word\xffword\x80",
        "around-the-alphabet": b"@a[b`c{d@Z[z`A{ \xc1\xe1\xda\xfa",
        "long-word": b"q" * 300_000 + b" end",
        "very-long-word": b"start " + b"W" * 5_000_000 + b" end",
        "name with 'quotes' and \n newline": b"newline in my name\n",
        "lengths": b" ".join(b"abcdefghijklmnopqrstuvwxyz"[:n] for n in range(1, 27)),
        "deep/er/and/deeper": b"deep words\n",
    }
    # Words across every border at which large files could be cut, with sizes around those of the tasks.
    for size in (2**21 - 4097, 2**21 - 4096, 2**21 - 1, 2**21, 2**21 + 1, 5_000_011):
        text = bytearray(" ".join(chance.choices(words, k=size // 8)).encode("ascii")[:size].ljust(size, b"z"))
        files[f"sized-{size}"] = bytes(text)
    for i in range(2500):
        files[f"small/{i % 50}/{i}"] = " ".join(chance.choices(words, k=chance.randint(0, 40))).encode("ascii")
    for name, content in files.items():
        target = os.path.join(path, name)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "wb") as file:
            file.write(content)
    os.mkfifo(os.path.join(path, "fifo"))
    os.symlink("binary", os.path.join(path, "link"))
    os.symlink("nowhere", os.path.join(path, "dangling"))
    os.symlink(".", os.path.join(path, "loop"))
    os.makedirs(os.path.join(path, "directory.txt"))
    return len(files)


def test_wordcount(program):
    chance = random.Random(1)
    with tempfile.TemporaryDirectory() as scratch:
        path = os.path.join(scratch, "tree")
        os.mkdir(path)
        n_files = tree(path, chance)
        theirs = shell_counts([path])
        for jobs in ("1", "2", "5"):
            out, err, _ = run([program, "--all", "--jobs", jobs, path], seconds=60)
            same_counts(f"awkward files, {jobs} jobs", own_counts(out), theirs)
            check("FIFO, links and directories are passed over", f"files: {n_files}, unreadable: 0," in err, err)

        link = os.path.join(scratch, "link-to-tree")
        os.symlink("tree", link)
        out, err, _ = run([program, "--all", link], seconds=60)
        same_counts("a given link is followed", own_counts(out), theirs)

        dangling = os.path.join(path, "dangling")
        out, err, _ = run([program, "--all", path, dangling, os.path.join(path, "nothing")], seconds=60)
        same_counts("beside unreadable paths", own_counts(out), theirs)
        check("unreadable ones are reported", f"{dangling}: No such file" in err and "/nothing: No such file" in err, err)
        check("unreadable ones are counted", f"files: {n_files}, unreadable: 2," in err, err)

        if os.geteuid() != 0:
            forbidden = os.path.join(scratch, "forbidden")
            with open(forbidden, "w", encoding="ascii") as file:
                file.write("secret")
            os.chmod(forbidden, 0)
            out, err, _ = run([program, "--all", forbidden])
            check("a forbidden file is reported and counted", "Permission denied" in err and "unreadable: 1," in err, err)
            check("and nothing of it is", out == "", out)

        out, err, _ = run([program, "--all", os.path.join(path, "empty")])
        check("an empty file has no words", out == "", out)

        # Files that change while they are read: no crash, no hang; the totals are whatever was there.
        moving = os.path.join(scratch, "moving")
        os.mkdir(moving)
        stop = threading.Event()

        def disturb():
            mover = random.Random(2)
            while not stop.is_set():
                name = os.path.join(moving, str(mover.randint(0, 30)))
                try:
                    match mover.randint(0, 2):
                        case 0:
                            with open(name, "wb") as file:
                                file.write(b"here today " * mover.randint(0, 300_000))
                        case 1:
                            os.truncate(name, mover.randint(0, 1000))
                        case 2:
                            os.unlink(name)
                except FileNotFoundError:
                    pass

        thread = threading.Thread(target=disturb)
        thread.start()
        try:
            for _ in range(10):
                run([program, "--no-compare", moving], seconds=60)
        finally:
            stop.set()
            thread.join()

        # Chaos, on about 32 MB.
        large = os.path.join(scratch, "large")
        os.mkdir(large)
        words = ["".join(chance.choices("etaoinshrdlu", k=chance.randint(1, 9))) for _ in range(20000)]
        for i in range(4):
            block = " ".join(chance.choices(words, k=350_000)).encode("ascii")
            with open(os.path.join(large, str(i)), "wb") as file:
                for _ in range(4):
                    file.write(block + b"\n")
        theirs = shell_counts([large])
        for chaos in (0, 1, 5, 12):
            out, err, _ = run([program, "--all", "--chaos", str(chaos), "--seed", str(chaos), large], seconds=60)
            same_counts(f"--chaos {chaos}", own_counts(out), theirs)
            if chaos:
                match = re.search(r"^chaos: (\d+) workers killed, (\d+) tasks run again", err, re.M)
                check(f"{chaos} workers were killed", match and int(match[1]) == chaos, err)
                check(f"{match[2]} tasks were run again", chaos < 5 or int(match[2]) > 0, err)
        out, err, _ = run([program, "--chaos", "5", large], seconds=60)
        check("with --chaos the totals are those of one process", "\ntotals: the same\n" in out, out)

    out, err, _ = run([program, "--bad"], code=2)
    check("an unknown option is refused", "usage" in err, err)
    out, err, _ = run([program, "--jobs", "-1"], code=2)

    # The default paths, and the words as they are printed.
    defaults = ["/usr/include", "/usr/share/common-licenses"]
    theirs = shell_counts(defaults)
    out, err, _ = run([program, "--all"], seconds=60)
    same_counts("the default paths", own_counts(out), theirs)
    out, err, _ = run([program], seconds=60)
    top = [(int(line.split()[0]), line.split()[1]) for line in out.splitlines()[:20]]
    check("the top 20", top == sorted(((n, w) for w, n in theirs.items()), key=lambda x: (-x[0], x[1]))[:20], out)
    check("one process and many agree", "\ntotals: the same\n" in out, out)
    check("speed and speed-up are told", re.search(r"MB/s$", out, re.M) and re.search(r"^speed-up: \d", out, re.M), out)
    print(out)


def main(tests):
    """Runs the test of that name; the larger examples have theirs in files of their own."""
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    libc = ctypes.CDLL(None, use_errno=True)
    check("this process is the subreaper", libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)
    tests["test_" + sys.argv[1]](os.path.abspath(sys.argv[2]))


if __name__ == "__main__":
    main(globals())
