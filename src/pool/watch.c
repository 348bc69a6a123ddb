/* SPDX-License-Identifier: MIT
 *
 * pool/watch.c: the limits on a task's time and CPU time, which the keeper holds its worker to; and those that were canceled.
 *
 * The keeper sleeps until the first moment at which a limit may be passed, and says in `alarm` when that is.  A worker that begins
 * a task with an earlier one rings.
 *
 *     keeper                                    worker
 *     alarm = the next moment                   task -> RUNNING (CAS)
 *     look at what the workers run              look at `alarm`: it is later than the task's first limit?  ring
 *
 * Either the keeper finds the task RUNNING, or the worker finds the alarm.  So tasks that end long before their limits wake the
 * keeper once in a limit's time, and not once a task.
 *
 * Before it warns or kills, the keeper marks the task's state by CAS: then the worker is still running that very task, and takes no
 * other after it.
 */
#include "os/clock.h"
#include "os/pidfd.h"
#include "os/usage.h"
#include "pool/keeper.h"

/* What a worker runs. */
struct charge {
        struct post *post;
        struct task *task;
        uint64_t state;
        int64_t now;
};

/* Mark the task, if the worker is still running it. */
static bool mark(struct charge *charge, uint64_t bit)
{
        uint64_t state = charge->state;

        while (!cas_u64(&charge->task->state, state, state | bit)) {
                state = load_seq_cst(&charge->task->state);
                if ((state ^ charge->state) & ~TASK_ASKED)
                        return false; /* it has ended, or was canceled meanwhile */
        }
        charge->state = state | bit;
        return true;
}

static void doom(struct charge *charge, int verdict)
{
        if (!mark(charge, TASK_DOOMED))
                return;
        charge->post->verdict = verdict;
        brood_process_kill(charge->post->process);
}

static void warn(struct charge *charge)
{
        if (mark(charge, TASK_WARNED))
                pidfd_signal(brood_process_sentinel(charge->post->process), WARNING_SIGNAL);
}

static int64_t watch_time(struct charge *charge, const struct task_terms *terms, int64_t started)
{
        int64_t soft = started + terms->soft_timeout_ms * NS_PER_MS, hard = started + terms->timeout_ms * NS_PER_MS;
        int64_t next = DEADLINE_NEVER;

        if (terms->timeout_ms > 0) {
                if (charge->now >= hard) {
                        doom(charge, BROOD_OUTCOME_TIME);
                        return DEADLINE_NEVER;
                }
                next = hard;
        }
        if (terms->soft_timeout_ms > 0 && !(charge->state & TASK_WARNED)) {
                if (charge->now >= soft)
                        warn(charge);
                else if (soft < next)
                        next = soft;
        }
        return next;
}

/* A task in one thread cannot have used up what is left of its limit before as much time has passed. */
static int64_t watch_cpu(struct charge *charge, const struct task_terms *terms, int64_t before)
{
        enum { OFTEN_MS = 5 };
        int64_t used = usage_cpu_of(brood_process_pid(charge->post->process)) - before;
        int64_t left = terms->cpu_ms * NS_PER_MS - used;

        if (left <= 0) {
                doom(charge, BROOD_OUTCOME_CPU);
                return DEADLINE_NEVER;
        }
        return charge->now + (left > OFTEN_MS * NS_PER_MS ? left : OFTEN_MS * NS_PER_MS);
}

/* Look at what one worker runs; when to look again. */
static int64_t watch_worker(struct keeper *keeper, struct post *post, int64_t now)
{
        struct worker_slot *slot = &keeper->pool->workers[post->number];
        uint64_t ticket = load_seq_cst(&slot->task);

        if (ticket == 0)
                return DEADLINE_NEVER;
        struct charge charge = { .post = post, .task = ticket_task(keeper->pool, ticket), .now = now };
        charge.state = load_seq_cst(&charge.task->state);
        if (task_generation(charge.state) != ticket_generation(ticket) || task_kind(charge.state) != TASK_RUNNING ||
            task_worker(charge.state) != post->number || charge.state & TASK_DOOMED)
                return DEADLINE_NEVER;
        if (charge.state & TASK_CANCELED) {
                doom(&charge, BROOD_OUTCOME_CANCELED);
                return DEADLINE_NEVER;
        }
        const struct task_terms *terms = pool_terms(keeper->pool, charge.task);
        if (terms == NULL)
                return DEADLINE_NEVER;
        int64_t started = (int64_t)load_relaxed(&slot->started), cpu = (int64_t)load_relaxed(&slot->cpu);
        int64_t next = watch_time(&charge, terms, started);
        if (terms->cpu_ms > 0 && !(charge.state & TASK_DOOMED)) {
                int64_t again = watch_cpu(&charge, terms, cpu);
                next = again < next ? again : next;
        }
        return next;
}

static int64_t watch_all(struct keeper *keeper, int64_t latest)
{
        int64_t now = clock_now();

        for (uint32_t i = 0; i < keeper->count; i++) {
                struct post *post = &keeper->posts[i];
                int64_t next = post->process != NULL ? watch_worker(keeper, post, now) : DEADLINE_NEVER;
                latest = next < latest ? next : latest;
        }
        return latest;
}

int64_t watch_workers(struct keeper *keeper, int64_t latest)
{
        int64_t next = watch_all(keeper, latest);

        for (;;) {
                store_seq_cst(&keeper->pool->shared->alarm, (uint64_t)next);
                int64_t earlier = watch_all(keeper, next);
                if (earlier >= next)
                        return next;
                next = earlier;
        }
}
