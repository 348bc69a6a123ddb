# SPDX-License-Identifier: MIT
"""The figures: what is measured, of whom, in how many steps, and what brood is meant to reach."""

from pathlib import Path

from programs import Program, Wordcount

HERE = Path(__file__).resolve().parent
SYSTEM_PYTHON = "/usr/bin/python3"

# The programs of those peers of a figure that are not in the stem's own.
PROGRAM_OF = {
    "pool": {"glib": "pool_glib", "openmp": "pool_openmp"},
    "queue": {
        "boost": "queue_boost",
        "ck": "queue_ck",
        "ck-spsc": "queue_ck",
        "futex": "queue_kernel",
        "mq": "queue_kernel",
        "pipe": "queue_kernel",
        "seqpacket": "queue_kernel",
        "zmq": "queue_zmq",
    },
}
# The peers that are written in Python.
PYTHON_PEERS = ("multiprocessing", "billiard", "executor", "joblib")


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
    def program_of(peer, stem, program, script):
        if peer in PYTHON_PEERS:
            return [SYSTEM_PYTHON, str(HERE / "python" / f"mp_{script or stem}.py")]
        program = program or PROGRAM_OF.get(stem, {}).get(peer, stem)
        return [str(builddir / "bench" / f"bench-{program}")]

    def figure(name, what, unit, higher, counts, program=None, script=None, **more):
        stem = name.split(".")[0]
        peers = [Program(peer, program_of(peer, stem, program, script), *count) for peer, count in counts.items()]
        return Figure(name, what, unit, higher, peers, **more)

    words = str(builddir / "examples" / "wordcount")
    py = "multiprocessing"
    half = (500, 50)  # ms
    # Each count is for about a third of a second; the second one is the smoke test's.
    return [
        figure("process.start-join", "start and join of a trivial process, by fork", "us", False,
               {"brood": (1000, 5), "fork": (1000, 5), py: (100, 2)}, bars={py: 0.2}),
        figure("process.start-join-spawn", "start and join of a trivial process, by spawn; posix_spawn: exec of the same program",
               "us", False,
               {"brood": (400, 5), "posix_spawn": (400, 5), py: (10, 1)}, bars={py: 0.2}),
        figure("process.start-join-forkserver", "start and join of a trivial process, by the fork server", "us", False,
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
        figure("sync.rlock", "acquire and release an RLock that nobody else wants", "ns", False,
               {"brood": (20_000_000, 2000), "robust": (10_000_000, 2000), py: (500_000, 200)}, bars={"robust": 1}),
        figure("sync.semaphore", "acquire and release a unit of a Semaphore of four", "ns", False,
               {"brood": (10_000_000, 2000), "sem": (10_000_000, 2000), py: (500_000, 200)}),
        figure("sync.rwlock", "acquire and release an RWLock that nobody else wants, to read", "ns", False,
               {"brood": (10_000_000, 2000), "pthread": (10_000_000, 2000)}),
        figure("sync.lock-contended", "two processes add to one number under one Lock", "pair/s", True,
               {"brood": (2_000_000, 2000), "cas": (5_000_000, 2000), "robust": (2_000_000, 2000), "sem": (2_000_000, 2000),
                py: (100_000, 200)}),
        figure("sync.event", "set one Event, wait for the other, two CPUs; sem: post and wait", "us", False,
               {"brood": (100_000, 200), "sem": (20_000, 200), py: (2000, 20)}, cpus=2),
        figure("sync.condition", "set one flag and notify its Condition, wait for the other, two CPUs", "us", False,
               {"brood": (50_000, 200), "pthread": (20_000, 200), py: (2000, 20)}, cpus=2),
        figure("sync.barrier", "two processes meet at a Barrier, two CPUs", "us", False,
               {"brood": (50_000, 200), "pthread": (20_000, 200), py: (2000, 20)}, cpus=2),
        figure("queue.1x1", "64-byte messages, 1 producer, 1 consumer", "msg/s", True,
               {"brood": (4_000_000, 2000), "ring": (10_000_000, 2000), "robust": (2_000_000, 2000),
                "ck": (10_000_000, 2000), "ck-spsc": (10_000_000, 2000), "boost": (2_000_000, 2000),
                "zmq": (1_000_000, 2000), "mq": (300_000, 500), "seqpacket": (150_000, 500), "pipe": (600_000, 2000),
                py: (40_000, 200)},
               bars={"ring": 0.8, "boost": 3, "pipe": 8, py: 100}),
        figure("queue.batch", "64-byte messages, 1 producer, 1 consumer, in batches of 32; single: one message a call",
               "msg/s", True,
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
        figure("queue.memory-burst", "a queue after 1 GiB of 64-byte messages, beyond memory-idle", "KiB", False,
               {"brood": (1 << 24, 2000)}, program="queue_idle", bar=2048),
        figure("queue.memory-burst-1MiB", "a queue after 1 GiB of 1 MiB messages, beyond memory-idle", "KiB", False,
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
        figure("pool.async", "no-op tasks, apply_async and get, 10,000 outstanding, 2 workers", "task/s", True,
               {"brood": (400_000, 500), "pipes": (400_000, 500), "glib": (1_000_000, 500), "openmp": (5_000_000, 500),
                "fork": (1000, 4), py: (20_000, 100), "executor": (10_000, 100), "joblib": (50_000, 100),
                "billiard": (20_000, 100)},
               bars={"pipes": 2, "glib": 0.7, py: 60}),
        figure("pool.one", "one no-op task there and back, hot, 2 workers", "us", False,
               {"brood": (50_000, 50), "pipes": (10_000, 50), "glib": (20_000, 50), "fork": (500, 4), py: (1000, 10),
                "executor": (1000, 10), "joblib": (300, 4), "billiard": (1000, 10)}, bar=3),
        figure("pool.one-asleep", "one no-op task there and back when all have slept, host and workers on two CPUs; futex: no pool",
               "us", False,
               {"brood": (1000, 20), "futex": (1000, 20), "pipes": (1000, 20)}, bars={"futex": 1.2}, cpus=2),
        figure("pool.map", "map over 10 M items of 8 bytes, automatic chunks, 2 workers (others: less, or ranges)", "item/s", True,
               {"brood": (10_000_000, 5000), "pipes": (10_000_000, 5000), "glib": (10_000_000, 5000),
                "openmp": (10_000_000, 5000), "fork": (10_000_000, 5000), py: (10_000_000, 1000),
                "executor": (1_000_000, 1000), "joblib": (50_000, 100), "billiard": (1_000_000, 1000)},
               bar=50_000_000, bars={py: 5}),
        figure("pool.speedup", "computing map, 2 workers, against 1 process", "times", True,
               {"brood": (4000, 40), "pipes": (4000, 40), "glib": (4000, 40), "openmp": (4000, 40), "fork": (4000, 40),
                py: (4000, 40), "executor": (4000, 40)}, bar=1.95, cpus=2),
        figure("pool.large", "arguments and results of 1 MiB, both counted, 16 tasks outstanding, 2 workers", "GB/s", True,
               {"brood": (1000, 4), py: (100, 2), "executor": (100, 2), "joblib": (100, 2), "billiard": (100, 2)},
               program="pool_large", bar=3, bars={py: 5}),
        # joblib keeps its workers for the next one, and billiard's end takes a second or for ever.
        figure("pool.start", "start, one task, stop, 2 workers", "ms", False,
               {"brood": (100, 2), "pipes": (200, 2), "glib": (500, 2), py: (20, 1), "executor": (20, 1)},
               bars={"pipes": 3, py: 0.2}),
        figure("pool.death-report", "worker SIGKILLed until the host has its task's report, 1 worker", "ms", False,
               {"brood": (200, 3), "executor": (10, 1)}, program="pool_death", script="pool_death", bar=5),
        figure("pool.death-replaced", "worker SIGKILLed until the host has the next task's result, of a new worker, 1 worker",
               "ms", False,
               {"brood": (200, 3), py: (5, 1)}, program="pool_death", script="pool_death", bar=5),
        figure("pool.large-host", "death-replaced in a pool made by a host of 4 GiB through the fork server, over one of 10 MiB",
               "times", False,
               {"brood": (200, 3), "brood_fork": (8, 3)}, program="pool_death", bar=1.2),
        figure("pool.large-host-grown", "death-replaced in a pool made before its host has grown to 4 GiB, over one of 10 MiB",
               "times", False,
               {"brood": (500, 3)}, program="pool_death", bar=1.2),
        figure("pool.idle-wakeups", "wake-ups of all processes of an idle pool of 64 workers in 2 s", "wake-ups", False,
               {"brood": (2000, 100)}, program="pool_idle", bar=0),
        figure("pool.idle-memory", "private memory of an idle worker, the one of 64 with the most", "KiB", False,
               {"brood": (1, 1)}, program="pool_idle", bar=200),
        figure("pool.task-memory", "memory for each of 1 M outstanding tasks beyond its argument of 8 bytes", "bytes", False,
               {"brood": (1_000_000, 2000)}, program="pool_idle", bar=200),
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
