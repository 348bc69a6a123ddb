/* SPDX-License-Identifier: MIT
 *
 * pool/keeper.c: the keeper: a small process with one thread that forks the workers, reaps them, reports what they were
 * running when they died, and starts new ones.
 *
 * It takes no lock that a worker can hold, and keeps its own state in its own memory.  All signals are blocked in it.  The host's
 * end kills it through its lifeline, and with it, through theirs and through the death signal, the workers.
 */
#include "pool/keeper.h"
#include "os/child.h"
#include "os/clock.h"
#include "os/descriptors.h"
#include "os/futex.h"
#include "os/poller.h"
#include "os/probe.h"
#include "os/robust.h"
#include "os/signals.h"
#include "os/syscall.h"
#include "pool/ended.h"
#include "pool/groups.h"
#include "pool/urgent.h"
#include "pool/warm.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
        INITIALIZER_DEATHS_MOST = 3, /* and one for each worker */
        RETRY_MS = 20,
        STARVED_MS = 5000,
};

CHILD_CODE static int run_worker(void *arg)
{
        const struct post *post = arg;
        const struct keeper *keeper = post->keeper;

        return worker_run(keeper->pool, &(struct employment){
                                            .number = post->number,
                                            .keeper = keeper->pid,
                                            .sigchld = &keeper->host_sigchld,
                                            .ticket = post->given,
                                        });
}

static void announce(brood_pool *pool, enum pool_phase phase)
{
        store_seq_cst(&pool->shared->phase, phase);
        futex_wake(&pool->shared->phase, INT_MAX);
}

/* The reason is written before the phase that makes it readable. */
#define BREAK(keeper, ...)                                                                                             \
        do {                                                                                                           \
                snprintf((keeper)->pool->shared->reason, POOL_REASON_MAX, __VA_ARGS__);                                \
                (keeper)->broken = true;                                                                               \
        } while (0)

void post_prepare(struct keeper *keeper, struct post *post, uint64_t ticket)
{
        struct worker_slot *slot = &keeper->pool->workers[post->number];

        post->verdict = BROOD_OUTCOME_PENDING;
        post->given = ticket;
        store_relaxed(&slot->task, 0);
        store_relaxed(&slot->dismissed, 0);
        store_relaxed(&slot->stage, WORKER_STARTING);
}

void post_fill(struct keeper *keeper, struct post *post, brood_process *process)
{
        post->process = process;
        keeper->fds[AT_WORKERS + post->number] = brood_process_sentinel(process);
        keeper->alive++;
        struct worker_slot *slot = &keeper->pool->workers[post->number];
        store_relaxed(&slot->starts, load_relaxed(&slot->starts) + 1);
        store_seq_cst(&slot->pid, (uint32_t)brood_process_pid(process));
        PROBE2(worker_start, post->number, brood_process_pid(process));
}

static int start_worker(struct keeper *keeper, struct post *post, uint64_t ticket, const char *group)
{
        brood_process_options options = {
                .target = run_worker,
                .arg = post,
                .name = "brood-worker",
                .start_method = BROOD_START_FORK,
                .setup.cgroup = group,
        };
        brood_process *process;

        int r = brood_process_new(&process, &options);
        if (r < 0)
                return r;
        process_hide(process);
        post_prepare(keeper, post, ticket);
        r = brood_process_start(process);
        if (r < 0) {
                store_relaxed(&keeper->pool->workers[post->number].stage, WORKER_NONE);
                brood_process_free(process);
                return r;
        }
        post_fill(keeper, post, process);
        return 0;
}

/* Apart for its room on the stack, which is a page that each worker would have copied. */
static __attribute__((noinline)) int start_in_group(struct keeper *keeper, struct post *post, uint64_t ticket)
{
        char group[PATH_MAX];
        int r = groups_make(keeper->pool, post->number, group);

        return r < 0 ? r : start_worker(keeper, post, ticket, group);
}

/* Start the workers that are missing; of a closed pool, whose ring is drained, those for which there is a task to be tried
 * again.  A fork that fails now may succeed later. */
static int start_missing(struct keeper *keeper, bool closed, bool drained)
{
        if (keeper->pool->options.warm)
                return warm_start_missing(keeper, closed, drained);
        keeper->retry_at = DEADLINE_NEVER;
        for (uint32_t i = 0; i < keeper->wanted; i++) {
                if (keeper->posts[i].process != NULL)
                        continue;
                uint64_t ticket = closed ? again_take(keeper) : 0;
                if (drained && ticket == 0)
                        break;
                int r = keeper->pool->groups != NULL ? start_in_group(keeper, &keeper->posts[i], ticket)
                                                     : start_worker(keeper, &keeper->posts[i], ticket, NULL);
                if (r < 0) {
                        again_give_back(keeper, ticket);
                        keeper->retry_at = deadline_after_ms(RETRY_MS);
                        return r;
                }
        }
        return 0;
}

/* Give back what a dead process had claimed of the ring, under whatever numbers it had registered. */
static void recover_ring(struct ring *ring, pid_t pid)
{
        uint32_t owner;

        for (uint32_t at = 0; (owner = owners_find(ring->owners, pid, &at)) != OWNER_NONE;)
                ring_recover(ring, owner);
        /* It may have been woken for a task and died before it took it. */
        ring_wake_all(ring);
}

static void recover_rings(brood_pool *pool, pid_t pid)
{
        struct ring *ring;

        for (int level = 1; level <= BROOD_TASK_PRIORITY_MOST; level++)
                if ((ring = urgent_ring(pool, level)) != NULL)
                        recover_ring(ring, pid);
        /* The last one: it is the one on which the others sleep, and are woken for all. */
        recover_ring(&pool->ring, pid);
}

void judge_initializer(struct keeper *keeper, const struct worker_slot *slot, uint32_t pid, int exitcode)
{
        brood_pool *pool = keeper->pool;
        char name[SIGNAL_NAME_MAX];

        if (load_acquire(&slot->stage) == WORKER_INIT_FAILED) {
                int verdict = slot->verdict;
                BREAK(keeper, "the initializer returned %d%s%s%s in %s %u", verdict, verdict < 0 ? " (" : "",
                      verdict < 0 ? brood_strerror(verdict) : "", verdict < 0 ? ")" : "",
                      pool->options.warm ? "template" : "worker", pid);
                return;
        }
        uint32_t initialised = load_relaxed(&pool->shared->initialised);
        if (initialised != keeper->initialised || keeper->initializer_deaths == 0) {
                keeper->initializer_deaths = 0;
                keeper->dying_since = clock_now();
        }
        keeper->initialised = initialised;
        keeper->initializer_deaths++;
        /* SIGKILL comes from outside, from somebody who kills whatever worker there is: that may pass. */
        if (exitcode == -SIGKILL ? clock_now() - keeper->dying_since < STARVED_MS * NS_PER_MS
                                 : keeper->initializer_deaths < INITIALIZER_DEATHS_MOST + keeper->wanted)
                return;
        const char *where = pool->options.initializer != NULL ? "in the initializer" : "before they were ready";
        if (exitcode < 0)
                BREAK(keeper, "%u workers in a row died %s, worker %u by %s", keeper->initializer_deaths, where, pid,
                      signal_name(-exitcode, name));
        else
                BREAK(keeper, "%u workers in a row ended %s, worker %u with exit code %d", keeper->initializer_deaths,
                      where, pid, exitcode);
}

static void worker_ended(struct keeper *keeper, struct post *post)
{
        brood_pool *pool = keeper->pool;
        struct worker_slot *slot = &pool->workers[post->number];
        brood_process_report death = { .exitcode = 0 };

        if (brood_process_join(post->process, 0) < 0)
                return;
        brood_process_get_report(post->process, &death);
        death.pid = brood_process_pid(post->process);
        brood_process_free(post->process);
        post->process = NULL;
        keeper->fds[AT_WORKERS + post->number] = -1;
        keeper->alive--;
        store_release(&slot->pid, 0);
        PROBE3(worker_death, post->number, death.pid, death.exitcode);

        if (load_acquire(&slot->stage) != WORKER_LEAVING)
                counts_add(&pool->shared->counts.deaths, 1);
        uint64_t ticket = load_acquire(&slot->task);
        if (ticket != 0)
                again_or_report(keeper, post, ticket, &death);
        again_give_back(keeper, post->given);
        if (insight_on(pool))
                insight_death(pool, post->number);
        recover_rings(pool, death.pid);
        uint32_t stage = load_acquire(&slot->stage);
        if (stage == WORKER_STARTING || stage == WORKER_INIT_FAILED)
                judge_initializer(keeper, slot, (uint32_t)death.pid, death.exitcode);
}

static void kill_workers(struct keeper *keeper)
{
        for (uint32_t i = 0; i < keeper->count; i++)
                if (keeper->posts[i].process != NULL)
                        brood_process_kill(keeper->posts[i].process);
        for (uint32_t i = 0; i < keeper->count; i++) {
                if (keeper->posts[i].process == NULL)
                        continue;
                brood_process_free(keeper->posts[i].process);
                keeper->posts[i].process = NULL;
                again_abandon(keeper, i);
                if (insight_on(keeper->pool))
                        insight_death(keeper->pool, i);
        }
}

/* Have as many workers as the host wants.  Those that are too many finish what they run, and end; one that sleeps on the ring is
 * woken for that. */
static void follow_size(struct keeper *keeper)
{
        brood_pool *pool = keeper->pool;
        uint32_t wanted = load_seq_cst(&pool->shared->wanted);

        if (wanted == keeper->wanted || wanted == 0 || wanted > BROOD_POOL_PROCESSES_LIMIT)
                return;
        for (; keeper->count < wanted; keeper->count++) {
                keeper->posts[keeper->count] = (struct post){ .keeper = keeper, .number = keeper->count };
                keeper->fds[AT_WORKERS + keeper->count] = -1;
        }
        bool fewer = wanted < keeper->wanted;
        keeper->wanted = wanted;
        for (uint32_t i = 0; i < keeper->count; i++)
                store_seq_cst(&pool->workers[i].dismissed, i >= wanted);
        if (fewer)
                ring_wake_all(&pool->ring);
}

static bool has_vacancy(const struct keeper *keeper)
{
        for (uint32_t i = 0; i < keeper->wanted; i++)
                if (keeper->posts[i].process == NULL && !warm_awaits(keeper, &keeper->posts[i]))
                        return true;
        return warm_lacks_template(keeper);
}

/* Workers are missing: start them, unless the pool is closed and nothing is left to do.  False: all is done. */
static bool fill_up(struct keeper *keeper)
{
        brood_pool *pool = keeper->pool;
        bool closed = load_seq_cst(&pool->shared->command) & POOL_CLOSE;
        bool drained = closed && ring_count(&pool->ring, 1) == 0 && urgent_is_empty(pool);

        if (drained && keeper->again.count == 0) {
                keeper->retry_at = DEADLINE_NEVER;
                return keeper->alive > 0;
        }
        int r = start_missing(keeper, closed, drained);
        if (r == 0 || keeper->alive > 0) {
                keeper->starved_since = 0;
        } else if (keeper->starved_since == 0) {
                keeper->starved_since = clock_now();
        } else if (clock_now() - keeper->starved_since > STARVED_MS * NS_PER_MS) {
                BREAK(keeper, "no worker can be started: %d (%s)", r, brood_strerror(r));
        }
        return true;
}

/* When there is something to do though nobody calls. */
static int64_t next_moment(struct keeper *keeper)
{
        int64_t next = again_next(keeper), warm = warm_next(keeper);

        next = warm < next ? warm : next;
        return watch_workers(keeper, next < keeper->retry_at ? next : keeper->retry_at);
}

static int keep(struct keeper *keeper)
{
        brood_pool *pool = keeper->pool;

        for (;;) {
                if (load_seq_cst(&pool->shared->command) & POOL_TERMINATE)
                        return 0;
                follow_size(keeper);
                if (keeper->again.count > 0)
                        again_deliver(keeper);
                if (!has_vacancy(keeper))
                        keeper->retry_at = DEADLINE_NEVER;
                else if (!keeper->broken && !fill_up(keeper))
                        return 0;
                if (keeper->broken)
                        return -EPIPE;
                int n = poll_readable(keeper->fds, AT_WORKERS + keeper->count, keeper->ready, next_moment(keeper));
                if (n < 0)
                        return n;
                if (keeper->ready[AT_DOORBELL])
                        eventfd_lower(pool->doorbell);
                for (uint32_t i = 0; i < keeper->count; i++)
                        if (keeper->ready[AT_WORKERS + i])
                                worker_ended(keeper, &keeper->posts[i]);
                if (pool->options.warm)
                        warm_look(keeper);
        }
}

static int prepare(struct keeper *keeper)
{
        keeper->fds[AT_DOORBELL] = keeper->pool->doorbell;
        keeper->fds[AT_TEMPLATE] = keeper->fds[AT_CHILDREN] = -1;
        follow_size(keeper);
        int r = keeper->pool->options.warm ? warm_begin(keeper) : 0;
        return r < 0 ? r : robust_hold(&keeper->pool->shared->life);
}

static void finish(struct keeper *keeper)
{
        if (keeper->warm.begun)
                warm_end(keeper);
        kill_workers(keeper);
        again_drop(&keeper->again); /* and the keeper's own memory goes with its process */
}

int keeper_fail(brood_pool *pool, int error)
{
        pool->shared->error = error;
        announce(pool, POOL_FAILED);
        return 1;
}

static struct keeper *keeper_new(brood_pool *pool)
{
        struct keeper *keeper = malloc(sizeof *keeper);

        if (keeper == NULL)
                return NULL;
        memset(keeper, 0, offsetof(struct keeper, fds));
        keeper->pool = pool;
        keeper->pid = child_pid();
        keeper->retry_at = DEADLINE_NEVER;
        keeper->warm.line = (struct lifeline)LIFELINE_NONE;
        keeper->warm.watch.group = -1;
        return keeper;
}

int keeper_run(void *arg)
{
        brood_pool *pool = arg;
        struct keeper *keeper = keeper_new(pool);

        if (keeper == NULL)
                return keeper_fail(pool, -ENOMEM);
        child_set_name("brood-keeper");
        signals_default_sigchld(&keeper->host_sigchld);
        int r = prepare(keeper);
        if (r == 0)
                r = start_missing(keeper, false, false);
        if (r < 0) {
                finish(keeper);
                return keeper_fail(pool, r);
        }
        announce(pool, POOL_RUNNING);
        r = keep(keeper);
        if (r < 0 && !keeper->broken)
                BREAK(keeper, "the keeper failed: %d (%s)", r, brood_strerror(r));
        finish(keeper);
        announce(pool, r < 0 ? POOL_BROKEN : POOL_ENDED);
        return r < 0;
}
