#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""judge.py SCRIPTS PROGRAM: CPython is the judge of brood's locks, semaphores, conditions, events and barriers.

Plays the scripts of judge.txt (which says what they are made of) with multiprocessing and threading, has PROGRAM (test_judge.c)
play them with brood, and compares both with what stands in the file.

A call that is expected to return has all the time that it needs.  That a call does not return is believed after a moment: who is
slower than that is found by what comes next.
"""

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time

MOMENT = 0.05
LIMIT = 60
HEAD = re.compile(r"\[(?P<name>[^]]+)\] (?P<actors>processes|threads) (?P<object>\w+)(?P<arguments>[^=]*?)(?: = (?P<outcome>.+))?$")
STEP = re.compile(r"(?P<who>[ABC]+) (?P<call>\w+|:)(?P<arguments>[^=]*?)(?: =)? (?P<outcome>\S+(?: \| \S+)?)$")


class Line:
    def __init__(self, number, match, reason):
        self.number = number
        self.who = match.groupdict().get("who")
        self.call = match.groupdict().get("call", "new")
        self.arguments = match["arguments"].split()
        self.python, _, brood = (match["outcome"] or "ok").partition(" | ")
        self.brood = brood or self.python
        if (self.brood != self.python) != bool(reason):
            sys.exit(f"line {number}: a difference has a reason, and nothing else has")


def read(path):
    """The scripts: lists of lines, of which the first is the head."""
    scripts = []
    with open(path, encoding="utf-8") as file:
        for number, text in enumerate(file, 1):
            text, _, reason = text.strip().partition("#")
            text = text.strip()
            if not text:
                continue
            match = HEAD.match(text) if text.startswith("[") else STEP.match(text)
            if not match:
                sys.exit(f"line {number} is neither a head nor a step: {text}")
            line = Line(number, match, reason.strip())
            if text.startswith("["):
                line.head = match
                scripts.append([line])
            else:
                scripts[-1].append(line)
    return scripts


# ---- Python's side ----


class ActionFailed(Exception):
    pass


class Stage:
    """One object, and what its actors share beside it."""

    def __init__(self, head, shared):
        self.kind = head["object"]
        arguments = head["arguments"].split()
        threads = head["actors"] == "threads"
        self.number = shared.Value("i", 0)
        self.actions = shared.Value("i", 0)
        self.failing = "failing" in arguments
        make = getattr(threading if threads else shared, self.kind)
        numbers = [int(a) for a in arguments if a not in ("counting", "failing")]
        if len(arguments) > len(numbers):
            self.object = make(*numbers, action=self.act)
        else:
            self.object = make(*numbers)

    def act(self):
        if self.failing:
            raise ActionFailed
        with self.actions.get_lock():
            self.actions.value += 1

    def do(self, call, arguments):
        thing = self.object
        numbers = [int(a) for a in arguments]
        if call == "acquire":
            if numbers == [0]:
                return thing.acquire(False)
            return thing.acquire(timeout=numbers[0] / 1000) if numbers else thing.acquire()
        if call == "value":
            return thing.get_value()
        if call == "nap":
            with thing:
                return thing.wait(*[n / 1000 for n in numbers])
        if call == "wait" and self.kind == "Barrier":
            return ("number", thing.wait(*[n / 1000 for n in numbers]))
        if call == "wait":
            return thing.wait(*[n / 1000 for n in numbers])
        if call == "wait_for":
            return thing.wait_for(lambda: self.number.value >= numbers[0], *[n / 1000 for n in numbers[1:]])
        if call == "set_number":
            self.number.value = numbers[0]
            return None
        if call == "actions":
            return ("told", self.actions.value)
        if call in ("parties", "n_waiting", "broken"):
            return ("told", getattr(thing, call))
        if call == "is_set":
            return ("told", thing.is_set())
        return getattr(thing, call)(*numbers)

    def outcome(self, call, arguments):
        try:
            result = self.do(call, arguments)
        except threading.BrokenBarrierError:
            return "broken"
        except ActionFailed:
            return "failed"
        except Exception:  # pylint: disable=broad-except
            return "refused"
        if isinstance(result, tuple) and result[0] == "number":
            return f"ok {result[1]}"
        if call == "value":
            return str(result)
        if isinstance(result, tuple):
            return str(result[1]).lower()
        return "no" if result is False else "ok"


def act_out(stage, connection):
    try:
        while True:
            call, arguments = connection.recv()
            connection.send(stage.outcome(call, arguments))
    except EOFError:
        pass


def play(script, tell):
    """Plays one script, in a process of its own; tells the outcome of each line."""
    shared = multiprocessing.get_context("fork")
    head = script[0].head
    try:
        stage = Stage(head, shared)
    except Exception:  # pylint: disable=broad-except
        tell(script[0], "refused")
        return
    tell(script[0], "ok")
    ends, numbers = {}, []
    for actor in "ABC":
        ends[actor], other = shared.Pipe()
        kind = threading.Thread if head["actors"] == "threads" else shared.Process
        kind(target=act_out, args=(stage, other), daemon=True).start()

    def answer(actor):
        text = ends[actor].recv()
        if text.startswith("ok "):
            numbers.append(int(text[3:]))
            return "ok"
        return text

    waiting = set()
    for line in script[1:]:
        if line.call == "numbers":
            tell(line, ",".join(str(n) for n in sorted(numbers)))
            continue
        if len(line.who) > 1:
            # So many as are expected have all the time; then more have a moment.
            wanted, came, end = int(line.python), 0, time.monotonic() + LIMIT
            while came < wanted and time.monotonic() < end:
                for actor in sorted(waiting & set(line.who)):
                    if ends[actor].poll(0.001):
                        came += answer(actor) == "ok"
                        waiting.discard(actor)
            time.sleep(MOMENT)
            for actor in sorted(waiting & set(line.who)):
                if ends[actor].poll():
                    came += 1
                    waiting.discard(actor)
            tell(line, str(came))
            continue
        if line.call != ":":
            ends[line.who].send((line.call, line.arguments))
            waiting.add(line.who)
        if ends[line.who].poll(MOMENT if line.python == "..." else LIMIT):
            tell(line, answer(line.who))
            waiting.discard(line.who)
        else:
            tell(line, "...")


def judge(script):
    """What Python says to a script: line number -> outcome.  In a process group that is killed afterwards."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        os.close(read_end)
        try:
            play(script, lambda line, outcome: os.write(write_end, f"{line.number} {outcome}\n".encode()))
        finally:
            os.killpg(0, signal.SIGKILL)
    os.close(write_end)
    with os.fdopen(read_end) as file:
        text = file.read()
    os.waitpid(pid, 0)
    return outcomes_of(text)


# ---- both ----


def outcomes_of(text):
    return dict((int(n), outcome) for n, outcome in (line.split(" ", 1) for line in text.splitlines()))


def main():
    scripts = read(sys.argv[1])
    program = subprocess.run([sys.argv[2], sys.argv[1]], stdout=subprocess.PIPE, check=False, timeout=600)
    brood = outcomes_of(program.stdout.decode())
    faults = differences = lines = 0
    for script in scripts:
        python = judge(script)
        for line in script:
            lines += 1
            differences += line.python != line.brood
            for name, said, wanted in (("Python", python, line.python), ("brood", brood, line.brood)):
                outcome = said.get(line.number, "nothing")
                if outcome != wanted:
                    faults += 1
                    print(f"line {line.number}, [{script[0].head['name']}]: {name} says {outcome}, and not {wanted}")
    print(f"{len(scripts)} scripts, {lines} lines; {differences} where brood differs on purpose; {faults} faults")
    return 1 if faults or program.returncode != 0 else 0


if __name__ == "__main__":
    sys.exit(main())
