/* SPDX-License-Identifier: MIT
 *
 * pool/pool.h: the host's side of a pool, shared by the files of this room.
 */
#ifndef BROOD_POOL_POOL_H
#define BROOD_POOL_POOL_H

#include <brood/completions.h>
#include <brood/pool.h>

#include "os/atfork.h"
#include "os/module.h"
#include "pool/arena.h"
#include "pool/code.h"
#include "pool/insight.h"
#include "pool/list.h"
#include "pool/table.h"
#include "process/process.h"
#include "queue/ring.h"

#include <pthread.h>
#include <signal.h>
#include <stdalign.h>

enum { NO_TASK = UINT32_MAX };

/* Results that are waited for together; guarded by the pool's mutex. */
struct brood_completions {
        brood_pool *pool;
        struct link pending;       /* in the order in which they came in */
        struct link ended;         /* in the order in which they ended; not yet taken */
        size_t count, ended_count; /* of both, of `ended` */
        int poller;                /* what brood_completions_fileno() gives away; or -1 */
        int event;                 /* is in it, raised while `ended` is not empty; or -1 */
        bool end_watched;          /* the keeper's pidfd is in it */
};

/* The tasks of one priority above 0, see pool/urgent.h. */
struct urgent {
        struct ring ring;
        size_t offset;    /* in the region */
        size_t committed; /* bytes that have memory behind them, */
        size_t puts;      /* and how far into the ring's first lap; both are guarded by the mutex */
};

struct brood_pool {
        struct region region;
        struct pool_shared *shared;
        struct worker_slot *workers;
        struct task *tasks;
        struct ring ring;
        struct insight insight;
        struct urgent urgent[BROOD_TASK_PRIORITY_MOST];
        size_t ring_offset, tasks_offset; /* of the ring's slots and of the tasks, for commit_upto */
        size_t workers_offset;

        brood_pool_options options; /* with the defaults filled in */
        atomic_u32 processes;       /* how many workers there are to be... */
        atomic_u32 processes_most;  /* ...and have been at most */
        atomic_u32 closed; /* to the host's tasks: the workers learn of it when there are no parents any more */
        uint64_t owner;    /* the mark of its process (os/atfork.h) */
        int doorbell;      /* an event that the host raises for the keeper */
        int bell;          /* an event that workers and keeper raise for the host, see pool/result.c */
        brood_process *keeper;
        char *groups;              /* what the names of the workers' control groups begin with; NULL: they have none */
        struct module_map modules; /* of the host, that the workers have, too */
        struct code_map code;      /* where they are in this process, if that is a worker or the keeper */
        struct spin spin;          /* before sleeping on a result */

        pthread_mutex_t mutex; /* guards what follows */
        size_t references;     /* the pool's handle, if it is not yet freed, each result and each map */
        struct arena arena;
        struct brood_result *results; /* one for each task; of those that were never made, the memory is not touched */
        uint32_t free_tasks;          /* the first of a list */
        size_t tasks_made;
        size_t ring_committed, tasks_committed; /* bytes that have memory behind them */
        size_t workers_committed;
        size_t puts;                        /* how far into the ring's first lap */
        uint32_t dropped, dropped_end;      /* tasks without a result that may still be running, oldest first */
        struct link completions;            /* all results that wait in some brood_completions */
        struct brood_completions callbacks; /* those that have a callback, which was not yet run */
        bool dispatching;                   /* callbacks are being run, by this thread: */
        pthread_t dispatcher;
        size_t parents;           /* pending results whose tasks may hand in tasks */
        bool taking_up;           /* what one has handed in */
        uint32_t deaths_seen;     /* of those that the keeper has noted */
        uintptr_t known_function; /* the last one that was found in `modules` */
        char reason[POOL_REASON_MAX];
};

typedef void brood_result_callback(brood_result *result, void *arg);

/* What few results have. */
struct result_extra {
        brood_result *result;                  /* whose it is */
        struct brood_completions *completions; /* that it waits in, or has ended in; or NULL */
        struct link link;                      /* in one of its lists */
        struct link waiting;                   /* in pool->completions, while it is pending there */
        bool pending, owned;                   /* it is; it belongs to the completions, until it is taken */
        bool lent;                             /* its callback is running, and it is freed after that */
        brood_result_callback *callback, *error_callback;
        void *callback_arg;
        char *reason;          /* made by the first brood_result_reason(); or NULL */
        struct parent *parent; /* of tasks that it may hand in (pool/subtasks.h); or NULL */
};

/* What the host keeps of a task beside the shared record, which at the same time is the handle of its result.  Where the two might
 * differ, this is what the host believes.  Guarded by the pool's mutex; but what the task ended with stays once `outcome` is not
 * PENDING, and may be read without. */
struct brood_result {
        brood_pool *pool;
        size_t block; /* arguments, then room for the result: an offset in the region; 0: they lie in the task itself */
        int64_t value;
        struct result_extra *extra; /* or NULL */
        uint32_t generation;
        uint32_t next;      /* in the list of free ones, of dropped ones, or of those just taken from `ended` */
        uint32_t out, room; /* the room: its distance from the arguments, and its size; in units of OUT_UNIT */
        int poller;         /* what brood_result_fileno() gives away; or -1 */
        uint8_t outcome;    /* an enum brood_outcome */
        uint8_t class;      /* of the block */
        bool held;          /* somebody has the handle */
        bool listed : 1,    /* its end will be announced, and was not yet seen: so it is not given out again */
            canceled : 1;   /* by brood_result_cancel() */
};
static_assert(sizeof(struct brood_result) == 56, "of these there may be a million");

enum { OUT_UNIT = 16 };

/* What a new task is to do; see struct task. */
struct order {
        brood_task_function function;
        brood_task_function calls; /* what `function` calls, if that is one of the library's own; or NULL */
        const void *arg;
        void (*pack)(void *to, const void *arg); /* how the argument is written; NULL: it is copied */
        size_t arg_size, room, items;
        int priority;
        struct brood_completions *completions; /* that the result is to wait in; or NULL */
        brood_result_callback *callback, *error_callback;
        void *callback_arg;
        const struct task_terms *terms; /* NULL: none */
};

/* Hand an order in: 0 and a result with one reference on the pool; or the errors of brood_pool_apply_async(). */
int pool_submit(brood_pool *pool, const struct order *order, brood_result **ret_result);

/* The same for a pool that may be closed; the mutex is held. */
int pool_submit_locked(brood_pool *pool, const struct order *order, brood_result **ret_result);

/* Whether this is the process that made the pool. */
static inline bool pool_is_ours(const brood_pool *pool)
{
        return pool->owner == process_mark();
}

/* Whether this process may use the pool: 0, -EINVAL, -EPERM. */
int pool_check(const brood_pool *pool);

/* Whether the pool can still run tasks: 0, -EPIPE, -ECANCELED.  `or_closed`: a closed one cannot. */
int pool_usable(brood_pool *pool, bool or_closed);

/* A closed pool gets no more tasks, not even from its own: its workers end when they have run what there is; the mutex is held. */
void pool_seal(brood_pool *pool);

/* Settle a result if its task has ended, or the pool has: whether it is now; the mutex is held. */
bool result_settle_locked(brood_result *result);

/* Wait until the task of a result has ended, or the pool has: 0 (the outcome is settled), -EAGAIN, -ETIMEDOUT. */
int result_settle(brood_result *result, int timeout_ms);

/* Have the end of the task, and that of the pool, make a poller readable.  The first time, it is so at once: after that, look
 * whether the task has ended already.  Results of one pool may share a poller.  0, -EINVAL, -EPERM, -ENOMEM, -ENOSPC. */
int result_watch(brood_result *result, int poller);

/* What the task of a settled result said of its error; "" if nothing. */
void result_message(const brood_result *result, char message[BROOD_TASK_MESSAGE_MAX]);

/* The bytes that the task wrote; valid after it has ended well, until the result is freed. */
const void *result_bytes(const brood_result *result);

/* Nobody has the handle any more: give the task back, or remember it as dropped if it has not ended; the mutex is held. */
void pool_drop_task(brood_pool *pool, brood_result *result);

/* Put memory behind the first `need` bytes at `offset`, step by step; the mutex is held. */
int pool_commit_upto(brood_pool *pool, size_t offset, size_t *committed, size_t need);

/* One reference more. */
void pool_hold(brood_pool *pool);

/* One reference less; with the last one the pool's memory goes.  The mutex is not held. */
void pool_release(brood_pool *pool);

/* The same; the mutex is held, and is given up. */
void pool_release_locked(brood_pool *pool);

static inline uint32_t result_index(const brood_result *result)
{
        return (uint32_t)(result - result->pool->results);
}

static inline struct task *result_task(const brood_result *result)
{
        return &result->pool->tasks[result_index(result)];
}

/* The completions that it waits in, or has ended in; or NULL. */
static inline struct brood_completions *result_completions(const brood_result *result)
{
        return result->extra != NULL ? result->extra->completions : NULL;
}

/* The task of a result that was settled by the task's end; NULL: by a cancellation, or by the pool's end.  It is frozen until the
 * result is freed; what it says of its worker is only as true as the task was good. */
static inline const struct task *result_ended_task(const brood_result *result)
{
        bool by_task = result->outcome != BROOD_OUTCOME_CANCELED && result->outcome != BROOD_OUTCOME_BROKEN;

        return by_task ? result_task(result) : NULL;
}

static inline pid_t result_worker(const brood_result *result)
{
        const struct task *task = result_ended_task(result);

        return task != NULL ? (pid_t)task->worker : 0;
}

static inline int result_exitcode(const brood_result *result)
{
        const struct task *task = result_ended_task(result);

        return task != NULL ? task->exitcode : 0;
}

/* It waits in some, and has not been found to have ended. */
static inline bool result_is_pending(const brood_result *result)
{
        return result->extra != NULL && result->extra->pending;
}

/* The same, and its task may hand in tasks. */
static inline bool result_is_parent(const brood_result *result)
{
        return result_is_pending(result) && result->extra->parent != NULL;
}

/* Have its extra part: 0 or -ENOMEM. */
int result_extend(brood_result *result);
void result_extra_free(struct result_extra *extra);

static inline struct task *ticket_task(const brood_pool *pool, uint64_t ticket)
{
        return &pool->tasks[ticket_index(ticket) % pool->options.max_tasks];
}

/* On what terms a task runs, NULL if on none.  A task that has run wild may have written over the offset. */
static inline struct task_terms *pool_terms(const brood_pool *pool, const struct task *task)
{
        uint64_t offset = load_relaxed(&task->terms);

        if (offset == 0 || offset % alignof(struct task_terms) != 0 || offset >= pool->region.size ||
            pool->region.size - offset < sizeof(struct task_terms))
                return NULL;
        return (struct task_terms *)region_at(&pool->region, offset);
}

/* Whether times are measured. */
static inline bool insight_on(const brood_pool *pool)
{
        return pool->insight.region.head != NULL;
}

/* How many workers the pool has had at most; the task that a worker runs, and has not yet counted, or NULL.  For whoever holds the
 * pool (pool/stats.c). */
uint32_t pool_places(const brood_pool *pool);
const struct task *pool_running(const brood_pool *pool, uint32_t number);

/* What a task is sent when it passes its soft limit. */
#define WARNING_SIGNAL SIGUSR1

/* What a worker is told by the keeper. */
struct employment {
        uint32_t number;
        pid_t keeper;
        const struct sigaction *sigchld; /* the host's */
        uint64_t ticket;                 /* of the task that it is to begin with; 0: none */
};

/* The keeper's and a worker's whole life.  `pool` is the forked copy of the host's handle, or the keeper's own (pool/start.h). */
int keeper_run(void *pool);
int worker_run(brood_pool *pool, const struct employment *employment);

/* The same in parts, which are a template's and its newborns': whose child this is, and what signals do to it; the initializer
 * (false: it has failed, and the slot says how); all that comes after.  0, or as an exit code. */
int worker_enter(const brood_pool *pool, pid_t keeper, const struct sigaction *sigchld);
bool worker_initialize(const brood_pool *pool, struct worker_slot *slot);
int worker_work(brood_pool *pool, const struct employment *employment);

/* In a worker: call a user's function (a pointer of the host's, as a number) and check what it returned.  It may have forked, and
 * returned in the child as well: that is no worker, and ends here. */
int64_t worker_call(uint64_t function, const void *arg, size_t size, void *out, size_t room);

/* The keeper cannot do its work: tell the host; the exit code. */
int keeper_fail(brood_pool *pool, int error);

/* In a keeper that is no copy of the host: a view of the host's region, for a handle whose options are set, and the table of its
 * modules.  0; the errors of region_attach(). */
int pool_attach(brood_pool *pool, int fd, size_t modules, struct code_module **ret_table);

#endif
