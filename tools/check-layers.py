#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""check-layers.py [ROOT]: fails when a file knows a room that it may not know.

The house has rooms, and a room uses only the rooms above it (doc/architecture.md).  This script holds every file to that:

- a file of src/ROOM includes its own room and the rooms that ROOM may know, always as "room/file.h";
- the public headers include nothing but <brood/...> and the system's headers;
- a public header is the door of a room: <brood/queue.h> may be included where queue/ may be known; <brood/common.h> everywhere;
- examples and benches include no room: they are users;
- system calls are made in src/os only.  A function that os declares may be called by everybody, whatever its name.

`check-layers.py --self-test` breaks each of these rules in a small house of its own, and fails if one of the breaches passes.
"""

import pathlib
import re
import sys
import tempfile

KNOWS = {
    "os": set(),
    "shm": {"os"},
    "sync": {"os", "shm"},
    "queue": {"os", "shm", "sync"},
    "process": {"os", "shm"},
    "pipe": {"os"},
    "pool": {"os", "shm", "sync", "queue", "process", "pipe"},
    "wait": {"os", "sync", "queue", "process", "pipe", "pool"},
}

# Whose door a public header is.  A header that is not here may be included by no room.
DOOR_OF = {
    "common": None,
    "log": None,
    "lock": "sync",
    "semaphore": "sync",
    "condition": "sync",
    "event": "sync",
    "barrier": "sync",
    "rwlock": "sync",
    "queue": "queue",
    "process": "process",
    "exit": "process",
    "connection": "pipe",
    "listener": "pipe",
    "pool": "pool",
    "result": "pool",
    "map": "pool",
    "imap": "pool",
    "completions": "pool",
    "progress": "pool",
    "stats": "pool",
    "trace": "pool",
    "shared": "shm",
    "value": "sync",
    "atomic": "sync",
    "wait": "wait",
}

# The headers through which a system call is made, or that serve nothing else.
KERNEL_HEADERS = re.compile(
    r"linux/.*|asm/.*|syscall\.h|sys/(syscall|mman|prctl|epoll|eventfd|pidfd|signalfd|timerfd|wait|ioctl|resource|socket)\.h"
    r"|poll\.h|fcntl\.h|sched\.h|unistd\.h|spawn\.h"
)

# Calls that reach the kernel.  Not a list of every system call: of those that a C program of this kind is tempted by.
KERNEL_CALLS = set(
    """syscall
    fork vfork _Fork clone clone3 unshare execv execve execvp execvpe execl execlp fexecve posix_spawn
    wait waitpid waitid wait3 wait4 kill tkill tgkill sigqueue raise _exit _Exit exit_group abort
    futex futex_waitv pidfd_open pidfd_send_signal pidfd_getfd memfd_create
    mmap munmap mremap mprotect madvise msync mlock ftruncate fallocate shm_open shm_unlink shmget
    prctl sigaction signal sigprocmask pthread_sigmask sigwait sigwaitinfo sigtimedwait signalfd pthread_atfork
    poll ppoll select pselect epoll_create epoll_create1 epoll_ctl epoll_wait eventfd timerfd_create
    open openat creat close read write pread pwrite readv writev dup dup2 dup3 pipe pipe2 socketpair socket fcntl ioctl
    getpid getppid gettid sched_yield sched_getaffinity sched_getcpu clock_gettime nanosleep clock_nanosleep usleep sleep
    getrlimit setrlimit getrusage setpgid setsid pause alarm""".split()
)

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"\n]+)[>"]', re.M)
# A call, but not of a member (p->wait()), and not the tail of a longer name.
CALL = re.compile(r"(?<![\w.])(?<!->)([a-zA-Z_]\w*)\s*\(")
DECLARATION = re.compile(r"^[a-z][\w \t*]*?\b([a-zA-Z_]\w*)\s*\(", re.M)
NOISE = re.compile(
    r"""//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'""",
    re.S,
)


def line_of(text, offset):
    return text.count("\n", 0, offset) + 1


def blank(match):
    """A space for each character of a comment or a string, so that lines and columns stay where they are."""
    return re.sub(r"[^\n]", " ", match.group(0))


def strip_comments(text):
    return NOISE.sub(lambda m: m.group(0) if m.group(0)[0] in "\"'" else blank(m), text)


def strip_all(text):
    return NOISE.sub(blank, text)


class House:
    def __init__(self, root):
        self.root = pathlib.Path(root)
        self.breaches = []
        self.files = 0
        self.os_names = set()

    def breach(self, path, line, what):
        self.breaches.append(f"{path.relative_to(self.root)}:{line}: {what}")

    def sources(self, directory):
        base = self.root / directory
        for path in sorted(base.rglob("*")):
            if path.suffix in (".c", ".h", ".S", ".cc", ".cpp") and path.is_file():
                yield path, path.read_text(encoding="utf-8")

    def includes(self, text):
        clean = strip_comments(text)
        for match in INCLUDE.finditer(clean):
            yield line_of(clean, match.start()), match.group(1), match.group(2)

    def check_door(self, path, line, name, room):
        """An inclusion of <brood/NAME> by a file of a room."""
        stem = name[len("brood/") :].removesuffix(".h")
        if stem not in DOOR_OF:
            self.breach(path, line, f"a room includes <{name}>: name the header of one concept")
            return
        door = DOOR_OF[stem]
        if door is not None and door != room and door not in KNOWS[room]:
            self.breach(path, line, f"{room}/ may not know {door}/, whose door is <{name}>")

    def check_room_file(self, path, text, room):
        for line, kind, name in self.includes(text):
            first = name.split("/")[0]
            if kind == "<":
                if first == "brood":
                    self.check_door(path, line, name, room)
                elif first in KNOWS and (self.root / "src" / name).exists():
                    self.breach(path, line, f'<{name}> is a file of a room: write "{name}"')
                elif room != "os" and KERNEL_HEADERS.fullmatch(name):
                    self.breach(path, line, f"<{name}> belongs to os/, which alone makes system calls")
            elif first == "brood":
                self.breach(path, line, f"a public header is included as <{name}>")
            elif ".." in name.split("/") or "/" not in name or first not in KNOWS:
                self.breach(path, line, f'"{name}" is not of the form "room/file.h"')
            elif first != room and first not in KNOWS[room]:
                self.breach(path, line, f'{room}/ may not know {first}/ ("{name}")')
        if room != "os":
            clean = strip_all(text)
            for match in CALL.finditer(clean):
                name = match.group(1)
                if name in KERNEL_CALLS and name not in self.os_names:
                    self.breach(path, line_of(clean, match.start()), f"{name}() is a system call, which only os/ makes")

    def check(self):
        for path, text in self.sources("src/os"):
            if path.suffix == ".h":
                self.os_names |= set(DECLARATION.findall(strip_all(text)))

        for path, text in self.sources("src"):
            self.files += 1
            parts = path.relative_to(self.root / "src").parts
            if len(parts) != 2 or parts[0] not in KNOWS:
                self.breach(path, 1, "is in no room that check-layers.py knows")
                continue
            self.check_room_file(path, text, parts[0])

        for path, text in self.sources("include"):
            self.files += 1
            for line, kind, name in self.includes(text):
                if kind == '"':
                    self.breach(path, line, f'a public header includes "{name}": only <...> is there after an installation')
                elif name.split("/")[0] in KNOWS:
                    self.breach(path, line, f"a public header knows a room: <{name}>")
                elif name.startswith("brood/") and not (self.root / "include" / name).exists():
                    self.breach(path, line, f"<{name}> does not exist")

        for directory in ("examples", "bench"):
            for path, text in self.sources(directory):
                self.files += 1
                for line, _, name in self.includes(text):
                    if ".." in name.split("/") or (name.split("/")[0] in KNOWS and (self.root / "src" / name).exists()):
                        self.breach(path, line, f"{directory}/ is a user of brood and knows no room ({name})")
        return self.breaches


# The house of the self-test, which is in order...
GOOD = {
    "include/brood/brood.h": "#include <brood/common.h>\n#include <brood/queue.h>\n",
    "include/brood/common.h": "#include <stddef.h>\n",
    "include/brood/queue.h": "#include <brood/common.h>\n",
    "include/brood/pool.h": "#include <brood/common.h>\n",
    "src/os/clock.h": "int clock_now(void);\n",
    "src/os/clock.c": '#include "os/clock.h"\n#include <sys/syscall.h>\nint clock_now(void) { return syscall(1); }\n',
    "src/os/child.h": "/* Ours. */\nint pidfd_open(int pid);\n",
    "src/shm/region.c": '#include "os/clock.h"\nint f(void) { return clock_now(); }\n',
    "src/queue/ring.h": '#include "shm/region.h"\n',
    "src/queue/ring.c": '#include <brood/queue.h>\n#include "queue/ring.h"\n#include "os/clock.h"\n'
    '/* fork() here, mmap() there */\nconst char *s = "kill(1)";\nint g(struct p *p) { return p->wait(1) + brood_fork(2); }\n',
    "src/process/wait.c": '#include "os/child.h"\nint h(void) { return pidfd_open(1); }\n',
    "src/pool/pool.c": '#include <brood/pool.h>\n#include "queue/ring.h"\n#include "process/wait.h"\n#include <string.h>\n',
    "examples/fork.c": "#include <brood/brood.h>\n#include <unistd.h>\nint main(void) { return getpid(); }\n",
}

# ... and what breaks it: a file, and a text that must be refused in it.
BAD = [
    ("a lower room", "src/shm/region.c", '#include "queue/ring.h"\n'),
    ("a lower room, spaced", "src/shm/region.c", '  #  include   "queue/ring.h"\n'),
    ("the room beside", "src/queue/ring.c", '#include "process/wait.h"\n'),
    ("the room beside, backwards", "src/process/wait.c", '#include "queue/ring.h"\n'),
    ("os knows nobody", "src/os/clock.c", '#include "shm/region.h"\n'),
    ("a room round the door", "src/process/wait.c", "#include <brood/queue.h>\n"),
    ("everything at once", "src/pool/pool.c", "#include <brood/brood.h>\n"),
    ("a path without its room", "src/queue/ring.c", '#include "ring.h"\n'),
    ("a path upwards", "src/queue/ring.c", '#include "../os/clock.h"\n'),
    ("a room in angle brackets", "src/shm/region.c", "#include <queue/ring.h>\n"),
    ("a public header in quotes", "src/queue/ring.c", '#include "brood/queue.h"\n'),
    ("a public header that knows a room", "include/brood/queue.h", '#include "queue/ring.h"\n'),
    ("the same in angle brackets", "include/brood/queue.h", "#include <queue/ring.h>\n"),
    ("a public header that is not there", "include/brood/queue.h", "#include <brood/nothing.h>\n"),
    ("a room that nobody knows", "src/cellar/rat.c", "int rat;\n"),
    ("a file beside the rooms", "src/rat.c", "int rat;\n"),
    ("an example that knows a room", "examples/fork.c", '#include "queue/ring.h"\n'),
    ("an example that goes upwards", "examples/fork.c", '#include "../src/queue/ring.h"\n'),
    ("a kernel header", "src/queue/ring.c", "#include <linux/futex.h>\n"),
    ("syscall.h", "src/pool/pool.c", "#include <sys/syscall.h>\n"),
    ("syscall()", "src/pool/pool.c", "int x(void) { return syscall(202); }\n"),
    ("fork()", "src/process/wait.c", "int x(void) { return fork (); }\n"),
    ("fork() after a string", "src/process/wait.c", "int x(void) { f(\"\\\"/*\"); return fork(); }\n"),
    ("mmap()", "src/shm/region.c", "void *x(void) { return mmap(0, 1, 2, 3, 4, 5); }\n"),
    ("waitid()", "src/process/wait.c", "int x(void) { return waitid(1, 2, 0, 4); }\n"),
    ("memfd_create()", "src/shm/region.c", "int x(void) { return memfd_create(0, 0); }\n"),
    ("futex()", "src/queue/ring.c", "int x(void) { return futex(0); }\n"),
    ("pidfd_send_signal(), which os does not declare", "src/pool/pool.c", "int x(void) { return pidfd_send_signal(1); }\n"),
]


def build(root, files):
    for name, text in files.items():
        path = pathlib.Path(root) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def self_test():
    failures = 0
    with tempfile.TemporaryDirectory() as root:
        build(root, {**GOOD, "src/shm/region.h": "int r;\n", "src/process/wait.h": "int w;\n"})
        for breach in House(root).check():
            print(f"self-test: refused, but in order: {breach}")
            failures += 1
        for title, name, text in BAD:
            path = pathlib.Path(root) / name
            before = path.read_text(encoding="utf-8") if path.exists() else None
            build(root, {name: (before or "") + text})
            if not any(b.startswith(name + ":") for b in House(root).check()):
                print(f"self-test: passed, but a breach: {title}")
                failures += 1
            if before is None:
                path.unlink()
            else:
                path.write_text(before, encoding="utf-8")
    print(f"self-test: {len(BAD)} breaches tried, {failures} failures")
    return 1 if failures else 0


def main(arguments):
    if arguments == ["--self-test"]:
        return self_test()
    root = arguments[0] if arguments else pathlib.Path(__file__).resolve().parent.parent
    house = House(root)
    breaches = house.check()
    for breach in breaches:
        print(breach)
    if house.files == 0:
        print(f"{root}: there is nothing to check here")
        return 2
    print(f"check-layers: {house.files} files, {len(breaches)} breaches")
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
