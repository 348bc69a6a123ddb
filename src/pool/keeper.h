/* SPDX-License-Identifier: MIT
 *
 * pool/keeper.h: what the keeper knows, in its own memory; shared by the files that are the keeper.
 */
#ifndef BROOD_POOL_KEEPER_H
#define BROOD_POOL_KEEPER_H

#include "os/lifeline.h"
#include "pool/pool.h"

/* A worker's place. */
struct post {
        struct keeper *keeper; /* for the worker itself, in its copy of this memory */
        uint32_t number;
        brood_process *process; /* NULL: it is vacant */
        int verdict;    /* why the keeper has killed the worker: an outcome, or BROOD_OUTCOME_PENDING: it has not */
        uint64_t given; /* the ticket of the task that the worker was started for; 0: none */
};

/* Tasks that are to be tried again: QUEUED, but with no ticket in the ring. */
struct again {
        struct retry {
                uint64_t ticket;
                int64_t when;     /* DEADLINE_NEVER: a worker has been started for it, and has not begun it yet */
                uint32_t attempt; /* task.retried; if that is another, the task has been begun meanwhile */
        } * entries;
        size_t count, room;
        /* What was due by then has been dealt with.  It is one moment for all that is done until the next sleep: what becomes due
         * between two of them would be due for neither. */
        int64_t looked;
};

/* Of a warm pool (pool/warm.c). */
struct warm {
        bool begun;
        brood_process *template; /* NULL: there is none */
        struct lifeline line;    /* of this process; for the workers */
        uint32_t birth;          /* the number of the last one */
        struct post *expected;   /* whose worker is being born; or NULL */
        struct oom_watch watch;  /* over the group that the expected one goes into, if it does */
        int error;               /* why the last birth has failed; 0: it has not */
};

/* What the keeper waits for: its descriptors, side by side; -1: none. */
enum { AT_DOORBELL, AT_TEMPLATE, AT_CHILDREN, AT_WORKERS };

struct keeper {
        brood_pool *pool;
        pid_t pid;
        struct sigaction host_sigchld;
        uint32_t wanted, count, alive; /* workers; that there have been at most; that there are */
        struct again again;
        struct warm warm;

        uint32_t initialised;        /* as it was at the last death inside an initializer */
        unsigned initializer_deaths; /* in a row, without a worker that came through */
        int64_t dying_since;         /* when the first of these was */
        int64_t retry_at;            /* when to try again to start workers; DEADLINE_NEVER: no need */
        int64_t starved_since;       /* since when there is none and none can be started; 0: not so */
        bool broken;

        /* Last, and side by side: of these only as much is touched as there are workers. */
        int fds[AT_WORKERS + BROOD_POOL_PROCESSES_LIMIT];
        unsigned char ready[AT_WORKERS + BROOD_POOL_PROCESSES_LIMIT]; /* which of them are readable */
        struct post posts[BROOD_POOL_PROCESSES_LIMIT];
};

/* ---- for pool/warm.c ---- */

/* A worker is about to be started, for a task that waits for it or for any (ticket 0); and it is there. */
void post_prepare(struct keeper *keeper, struct post *post, uint64_t ticket);
void post_fill(struct keeper *keeper, struct post *post, brood_process *process);

/* A worker has ended before it was ready, or a template: does the pool break? */
void judge_initializer(struct keeper *keeper, const struct worker_slot *slot, uint32_t pid, int exitcode);

/* The template's whole life (pool/template.c); `keeper` is its copy of the keeper's memory. */
int template_run(void *keeper);

/* ---- what a death costs (pool/again.c) ---- */

/* A worker has died or ended, and this ticket is the last one that it took: if it was running that task, have it tried again, or
 * say what became of it. */
void again_or_report(struct keeper *keeper, const struct post *post, uint64_t ticket,
                     const brood_process_report *death);

/* The pool is over, and this worker was killed for it: what it ran ends with the pool, in the trace too. */
void again_abandon(const struct keeper *keeper, uint32_t number);

/* A worker has ended that was started for this ticket: if it never began the task, the next one is to. */
void again_give_back(struct keeper *keeper, uint64_t ticket);

/* Put what is due into the ring.  A closed one takes no more: then it is left for again_take(). */
void again_deliver(struct keeper *keeper);

/* A ticket that is due, for a worker that is started for it; 0: none. */
uint64_t again_take(struct keeper *keeper);

/* When the next one is due, of those that were not when again_deliver() looked; DEADLINE_NEVER. */
int64_t again_next(const struct keeper *keeper);

void again_drop(struct again *again);

/* ---- limits (pool/watch.c) ---- */

/* Look at what the workers run: warn and kill whoever has passed a limit.  When to look again at the latest, which is
 * `latest` or before; the workers know of it. */
int64_t watch_workers(struct keeper *keeper, int64_t latest);

#endif
