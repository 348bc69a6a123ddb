/* SPDX-License-Identifier: MIT
 *
 * pool/table.h: what host, keeper and workers of a pool share.
 *
 *     struct region_head | struct pool_shared | struct ring_shared | struct owners | workers | ring's slots | tasks | urgent
 *         rings (pool/urgent.h) | arena
 *
 * The life of a task is its state word: FREE -> QUEUED (host) -> RUNNING by a worker (that worker, by CAS) -> DONE (that worker; or
 * the keeper, once it has reaped it) -> FREE (host).  A task that is to be tried again goes from RUNNING back to QUEUED (the
 * keeper, once it has reaped its worker).  The word holds the task's generation, so that a stale index in the ring is
 * recognised.  For any moment of death the keeper reads from it whether the task had begun and whether it had ended.
 *
 *   shared word             written by                        read by           when it freezes
 *   pool.phase, reason      the keeper                        host              BROKEN, FAILED are final
 *   pool.command            the host; bits are only added     keeper            -
 *   pool.life               the keeper, once; the kernel      host              at the keeper's death
 *   pool.initialised        each worker, counting up          keeper            -
 *   pool.ended              workers and keeper: they push;    host              -
 *                           the host takes all of it
 *   pool.ended_watched      the host, once                    workers           once it is set
 *   pool.deaths, dead       the keeper                        host              -
 *   pool.alarm              the keeper                        workers           -
 *   pool.wanted             the host                          keeper            -
 *   pool.urgent             the host; bits are only added     all               -
 *   pool.warm               the keeper; the birth's pid: the  template, keeper  -
 *                           newborn or the template, by CAS
 *   worker.pid              the keeper                        host, a newborn   -
 *   worker.stage, verdict   its worker; the keeper before     keeper            at the worker's death
 *                           a start
 *   worker.dismissed        the keeper                        its worker        -
 *   worker.starts           the keeper                        whoever holds      -
 *                                                             the pool
 *   counts                  see pool/counts.h
 *   worker.task             its worker                        keeper            at the worker's death
 *   worker.started, cpu     its worker, before a task with    keeper            while the task is RUNNING under the
 *                           terms becomes RUNNING                               worker's number; at its death
 *   task.state              as above                          all               -
 *   task, first line;       the host while FREE               workers, keeper   while QUEUED and RUNNING
 *   its terms
 *   its terms' second part  as the task's second line
 *   task.retried            the host while FREE; the keeper   keeper, host      DONE
 *                           before RUNNING -> QUEUED
 *   task, second line       the worker while RUNNING; the     host              DONE
 *                           keeper after that one's death
 *   task.next_ended         whoever pushes it, after DONE     host              pushed
 *   the arena               the host: arguments; the worker   host              DONE
 *                           that runs the task: its result
 *
 * The host alone allocates, tasks and memory alike, and keeps the books in its own memory: when it dies, all is over anyway.
 */
#ifndef BROOD_POOL_TABLE_H
#define BROOD_POOL_TABLE_H

#include "os/atomic.h"
#include "pool/counts.h"

#include <stddef.h>

enum pool_phase {
        POOL_STARTING = 0,
        POOL_RUNNING,
        POOL_FAILED, /* never got to run: `error` says why */
        POOL_BROKEN, /* `reason` says why */
        POOL_ENDED,  /* closed and done, or terminated */
};

enum pool_command {
        POOL_CLOSE = 1,
        POOL_TERMINATE = 2,
};

enum {
        POOL_REASON_MAX = 192,
        POOL_DEATHS_KEPT = 64,
};

/* The word `ended`: the index, plus one, of the task that was announced last, whose next_ended leads to the one before it;
 * and whether a worker's death was noted in `dead`; and whether somebody in the host sleeps on the word.  See pool/ended.h. */
#define ENDED_INDEX ((UINT32_C(1) << 30) - 1)
#define ENDED_DEATHS (UINT32_C(1) << 30)
#define ENDED_SLEEPERS (UINT32_C(1) << 31)

enum worker_stage {
        WORKER_NONE = 0,
        WORKER_STARTING,
        WORKER_INIT_FAILED, /* `verdict` is what the initializer returned */
        WORKER_READY,
        WORKER_LEAVING, /* the ring is closed and drained */
};

struct worker_slot {
        _Alignas(64) atomic_u32 pid; /* 0: none */
        atomic_u32 stage;
        atomic_u64 task; /* what it is about to run, runs, or ran last: a ticket, see below; 0: nothing yet */
        int32_t verdict;
        atomic_u32 dismissed; /* not 0: it is to take no further task, and end */
        atomic_u64 started;   /* of a task with terms: when, and how much CPU time the worker had used by then; in ns */
        atomic_u64 cpu;
        atomic_u32 starts; /* workers that were started here */
        uint32_t reserved[3];

        struct worker_counts counts;
};
static_assert(sizeof(struct worker_slot) == 192 && offsetof(struct worker_slot, counts) == 64, "whole cache lines");

/* In a warm pool: what the keeper orders of the template, see pool/warm.h.  A birth's word: | its number 32 | the newborn's pid, or
 * BIRTH_FAILED; 0: not yet 32 |. */
struct warm_shared {
        _Alignas(64) atomic_u64 birth;
        atomic_u32 asked; /* the number of the last birth that was ordered */
        uint32_t worker;  /* the newborn's number, and the ticket of the task that it is to begin with; or 0 */
        uint64_t ticket;
        uint32_t reserved[10];
};
static_assert(sizeof(struct warm_shared) == 64, "one cache line");

#define BIRTH_FAILED UINT32_MAX

static inline uint64_t birth_make(uint32_t number, uint32_t pid)
{
        return (uint64_t)number << 32 | pid;
}

static inline uint32_t birth_number(uint64_t birth)
{
        return (uint32_t)(birth >> 32);
}

static inline uint32_t birth_pid(uint64_t birth)
{
        return (uint32_t)birth;
}

struct pool_shared {
        _Alignas(64) atomic_u32 phase;
        atomic_u32 command;
        atomic_u32 life;
        atomic_u32 initialised;
        int32_t error;
        atomic_u32 wanted; /* how many workers there are to be */
        atomic_u64 alarm;  /* when the keeper will look at the workers' tasks at the latest; DEADLINE_NEVER */
        atomic_u32 urgent; /* a bit for each level above 0 of which a task was ever handed in */
        uint32_t reserved[7];
        char reason[POOL_REASON_MAX];

        atomic_u32 ended; /* also a futex */
        atomic_u32 ended_watched;
        atomic_u32 deaths; /* how many have been noted */
        uint32_t reserved2[13];
        atomic_u64 dead[POOL_DEATHS_KEPT]; /* the tickets of the latest, in a circle */

        struct worker_slot template; /* of a warm pool: its pid, stage and verdict */
        struct warm_shared warm;

        struct pool_counts counts;
};
static_assert(sizeof(struct pool_shared) == 1216 && offsetof(struct pool_shared, reason) == 64 &&
                  offsetof(struct pool_shared, ended) == 256 && offsetof(struct pool_shared, dead) == 320,
              "layout");

/* A task is named by its index and its generation: the message in the ring. */
static inline uint64_t ticket_make(uint32_t index, uint32_t generation)
{
        return (uint64_t)generation << 32 | index;
}

static inline uint32_t ticket_index(uint64_t ticket)
{
        return (uint32_t)ticket;
}

static inline uint32_t ticket_generation(uint64_t ticket)
{
        return (uint32_t)(ticket >> 32);
}

/* A state word: | generation 32 | worker 16 | 0 | bits 6 | kind 3 |.  The low half is also a futex: the host's threads sleep on it
 * once they have set WAITED.  WATCHED: the end of the task must ring the pool's bell, too.  LISTED: it must be announced in the
 * pool's list of ended tasks.  CANCELED: the host has no use for it
 * any more: who would begin it makes it DONE instead, and if it is RUNNING, the keeper kills its worker.  The host sets these
 * four while the task is QUEUED or RUNNING, and they stay when it is tried again.
 *
 * WARNED and DOOMED are set by the keeper while the task is RUNNING: before it sends the signal of the soft limit, and before it
 * kills the worker.  The worker that finds one of the last three when it makes the task DONE takes no other: the signal is on its
 * way, and must not meet a task that has nothing to do with it. */
enum task_kind {
        TASK_FREE = 0,
        TASK_QUEUED = 1,
        TASK_RUNNING = 2,
        TASK_DONE = 3,
};

#define TASK_KIND_MASK UINT64_C(7)
#define TASK_WAITED UINT64_C(8)
#define TASK_WATCHED UINT64_C(16)
#define TASK_LISTED UINT64_C(32)
#define TASK_CANCELED UINT64_C(64)
#define TASK_WARNED UINT64_C(128)
#define TASK_DOOMED UINT64_C(256)
#define TASK_ASKED (TASK_WAITED | TASK_WATCHED | TASK_LISTED) /* what its end is to be told by */
#define TASK_HOSTS (TASK_ASKED | TASK_CANCELED)               /* what the host sets */
#define TASK_LAST (TASK_CANCELED | TASK_WARNED | TASK_DOOMED) /* of its worker */

static inline uint64_t task_state(uint32_t generation, enum task_kind kind, uint32_t worker)
{
        return (uint64_t)generation << 32 | (uint64_t)worker << 16 | kind;
}

static inline enum task_kind task_kind(uint64_t state)
{
        return (enum task_kind)(state & TASK_KIND_MASK);
}

static inline uint32_t task_generation(uint64_t state)
{
        return (uint32_t)(state >> 32);
}

static inline uint32_t task_worker(uint64_t state)
{
        return (uint32_t)(state >> 16) & 0xffff;
}

enum { TASK_PLACE = 32, SUBTASK_UNIT = 16 };

/* What a task is: one call of a function on `arg_size` bytes; or, if `items` is not 0, one call for each of so many items of
 * `arg_size` bytes, each with `room` bytes for its result. */
struct task {
        _Alignas(64) atomic_u64 state;
        uint64_t function;
        uint64_t arg; /* offsets in the region: in the arena, or in `place` */
        uint64_t out;
        uint64_t arg_size;
        uint64_t room;
        uint64_t items;
        atomic_u64 terms; /* the offset of its struct task_terms; 0: it has none */

        int64_t value;         /* the size of the result, or a negative errno */
        int32_t outcome;       /* an enum brood_outcome */
        int32_t exitcode;      /* of a worker that died */
        uint32_t worker;       /* the pid that ran it */
        uint32_t retried;      /* how often it has been tried again */
        uint32_t message;      /* bytes of a message about its own error, which lie in the room for the result */
        atomic_u32 next_ended; /* in the list of ended tasks: an index plus one; 0: the last */
        union {
                _Alignas(16) unsigned char place[TASK_PLACE]; /* of small arguments and a small result */
                struct {
                        int64_t peak_memory; /* of a worker that died, in bytes; a task with terms has it there */
                        int64_t
                            queued; /* where times are measured: when it was handed in; its place is not used then */
                };
        };
};
static_assert(sizeof(struct task) == 128 && offsetof(struct task, value) == 64 && offsetof(struct task, place) == 96,
              "two cache lines: before and after");

/* On what terms a task runs, whatever is 0 is not limited, and what it took.  It lies in the arena, behind the room for the
 * result. */
struct task_terms {
        int64_t queued; /* when it was handed in, in ns */
        uint64_t memory_limit;
        int32_t retries;
        int32_t backoff_ms;
        int32_t soft_timeout_ms;
        int32_t timeout_ms;
        int32_t cpu_ms;
        int32_t priority;
        uint32_t subtasks_room; /* bytes behind these terms, for struct subtask */
        uint32_t subtasks_used; /* of them; by the worker, as what follows */

        int64_t started; /* when it was tried last, and when that ended; in ns */
        int64_t ended;
        int64_t cpu;         /* the CPU time of that, in ns */
        int64_t peak_memory; /* of the worker, in bytes */
};
static_assert(sizeof(struct task_terms) == 80, "layout");

/* A task that a task has handed in: the host takes it up once that has ended well.  They lie one behind the other. */
struct subtask {
        _Alignas(SUBTASK_UNIT) uint64_t function; /* of the host's */
        uint32_t size;
        uint32_t reserved;
        unsigned char arg[];
};
static_assert(sizeof(struct subtask) == SUBTASK_UNIT && sizeof(struct task_terms) % SUBTASK_UNIT == 0, "layout");

#endif
