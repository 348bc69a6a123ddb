/* SPDX-License-Identifier: MIT
 *
 * pool/again.c: what becomes of the task of a worker that has died: it is tried again, or its end is reported.
 *
 * A task that is tried again goes from RUNNING to QUEUED, in the same generation, and waits here until its time has come.  Then
 * its ticket goes into the ring; or, once that is closed, to a worker that is started for it.  The ring may hold another
 * ticket of it, if the worker died before it had released the ring's slot: then the task is begun a little earlier, and the
 * entry here, which is of an attempt that has passed, is thrown away.
 */
#include "os/clock.h"
#include "os/descriptors.h"
#include "os/probe.h"
#include "pool/ended.h"
#include "pool/keeper.h"
#include "pool/urgent.h"

#include <errno.h>
#include <stdlib.h>

enum {
        BACKOFF_MOST_MS = 3600 * 1000,
        RING_FULL_MS = 1,
};

static int64_t backoff_ns(const struct task_terms *terms, uint32_t retried)
{
        int64_t ms = terms->backoff_ms;

        while (retried-- > 0 && ms > 0 && ms < BACKOFF_MOST_MS)
                ms *= 2;
        return (ms < BACKOFF_MOST_MS ? ms : BACKOFF_MOST_MS) * NS_PER_MS;
}

/* Remember a task that is QUEUED: 0 or -ENOMEM. */
static int remember(struct again *again, uint64_t ticket, uint32_t attempt, int64_t when)
{
        if (again->count == again->room) {
                size_t room = again->room > 0 ? again->room * 2 : 64;
                struct retry *entries = realloc(again->entries, room * sizeof *entries);
                if (entries == NULL)
                        return -ENOMEM;
                again->entries = entries;
                again->room = room;
        }
        again->entries[again->count++] = (struct retry){ .ticket = ticket, .when = when, .attempt = attempt };
        return 0;
}

static void forget(struct again *again, size_t i)
{
        again->entries[i] = again->entries[--again->count];
}

void again_drop(struct again *again)
{
        free(again->entries);
        *again = (struct again){ 0 };
}

/* -> DONE.  What the keeper itself has ended, it tells to the end: if it dies meanwhile, the pool is over. */
static void conclude(brood_pool *pool, struct task *task, uint64_t before)
{
        if (ended_tell(pool, task, before))
                eventfd_raise(pool->bell);
}

/* RUNNING -> QUEUED, if there is a try left.  False: the task ends here. */
static bool try_again(struct keeper *keeper, struct task *task, uint64_t ticket, uint64_t state)
{
        const struct task_terms *terms = pool_terms(keeper->pool, task);

        if (state & TASK_CANCELED || terms == NULL || terms->retries < 0 || task->retried >= (uint32_t)terms->retries)
                return false;
        uint32_t attempt = task->retried + 1;
        int64_t when = clock_now() + backoff_ns(terms, task->retried);
        if (remember(&keeper->again, ticket, attempt, when) < 0)
                return false;
        task->retried = attempt;
        PROBE2(task_retry, ticket, attempt);
        counts_add(&keeper->pool->shared->counts.retried, 1);
        uint64_t kept;
        do {
                kept = load_seq_cst(&task->state);
                state = task_state(ticket_generation(ticket), TASK_QUEUED, 0) | (kept & TASK_HOSTS);
        } while (!cas_u64(&task->state, kept, state));
        return true;
}

static int outcome_of(const struct post *post, uint64_t state, const brood_process_report *death)
{
        int exitcode = death->exitcode;

        if (state & TASK_CANCELED)
                return BROOD_OUTCOME_CANCELED;
        if (post->verdict != BROOD_OUTCOME_PENDING)
                return post->verdict;
        if (state & TASK_WARNED && exitcode == -WARNING_SIGNAL)
                return BROOD_OUTCOME_TIME;
        if (death->out_of_memory)
                return BROOD_OUTCOME_OUT_OF_MEMORY;
        return exitcode < 0 ? BROOD_OUTCOME_SIGNALED : BROOD_OUTCOME_EXITED;
}

static int error_of(int outcome)
{
        if (outcome == BROOD_OUTCOME_CANCELED)
                return -ECANCELED;
        if (outcome == BROOD_OUTCOME_BROKEN)
                return -EPIPE;
        return outcome == BROOD_OUTCOME_TIME || outcome == BROOD_OUTCOME_CPU ? -ETIME : -EOWNERDEAD;
}

static void report(struct keeper *keeper, const struct post *post, struct task *task, uint64_t state,
                   const brood_process_report *death)
{
        struct worker_slot *slot = &keeper->pool->workers[post->number];
        int outcome = outcome_of(post, state, death);

        task->worker = (uint32_t)death->pid;
        task->exitcode = death->exitcode;
        task->outcome = outcome;
        task->value = error_of(outcome);
        task->message = 0;
        int64_t peak_memory = death->measured ? death->peak_memory : 0;
        struct task_terms *terms = pool_terms(keeper->pool, task);
        if (terms != NULL) {
                terms->started = (int64_t)load_relaxed(&slot->started);
                terms->ended = clock_now();
                terms->cpu =
                    death->measured ? death->user_ns + death->system_ns - (int64_t)load_relaxed(&slot->cpu) : 0;
                terms->peak_memory = peak_memory;
        } else {
                task->peak_memory = peak_memory; /* its arguments are not needed any more */
        }
        PROBE3(task_end, ticket_make((uint32_t)(task - keeper->pool->tasks), task_generation(state)), outcome,
               post->number);
        counts_add(&slot->counts.ended[outcome], 1);
        conclude(keeper->pool, task,
                 exchange_seq_cst(&task->state, task_state(task_generation(state), TASK_DONE, post->number)));
}

/* Whether the task of a ticket is RUNNING under this number; and whether a worker of this number, which has the ticket, has
 * not brought it to DONE. */
static bool is_running(uint64_t state, uint64_t ticket, uint32_t number)
{
        return task_generation(state) == ticket_generation(ticket) && task_kind(state) == TASK_RUNNING &&
               task_worker(state) == number;
}

static bool is_undone(uint64_t state, uint64_t ticket, uint32_t number)
{
        enum task_kind kind = task_kind(state);

        return is_running(state, ticket, number) ||
               (task_generation(state) == ticket_generation(ticket) &&
                (kind == TASK_QUEUED || (kind == TASK_DONE && task_worker(state) != number)));
}

/* In the counters and in the trace, this try has ended as the worker said, or else so. */
static void settle(brood_pool *pool, uint32_t number, uint64_t ticket, pid_t worker, int outcome)
{
        struct task *task = ticket_task(pool, ticket);
        uint64_t state = load_seq_cst(&task->state);

        counts_settle(&pool->workers[number].counts, !is_undone(state, ticket, number));
        if (insight_on(pool) && is_running(state, ticket, number))
                insight_record_death(pool, number, task,
                                     &(struct try_end){
                                         .ticket = ticket,
                                         .worker = (uint32_t)worker,
                                         .outcome = outcome,
                                         .error = error_of(outcome),
                                     });
}

void again_or_report(struct keeper *keeper, const struct post *post, uint64_t ticket, const brood_process_report *death)
{
        struct task *task = ticket_task(keeper->pool, ticket);
        uint64_t state = load_seq_cst(&task->state);

        settle(keeper->pool, post->number, ticket, death->pid, outcome_of(post, state, death));
        /* Otherwise it had not begun it, or had ended it. */
        if (is_running(state, ticket, post->number) && !try_again(keeper, task, ticket, state))
                report(keeper, post, task, state, death);
        /* In any case: it may have ended the task and died before it told those who asked. */
        ended_note_death(keeper->pool, task, ticket, post->number);
}

void again_abandon(const struct keeper *keeper, uint32_t number)
{
        const struct worker_slot *slot = &keeper->pool->workers[number];
        uint64_t ticket = load_acquire(&slot->task);

        if (ticket != 0)
                settle(keeper->pool, number, ticket, (pid_t)load_relaxed(&slot->pid),
                       keeper->broken ? BROOD_OUTCOME_BROKEN : BROOD_OUTCOME_CANCELED);
}

/* Whether an entry is of the attempt that its task waits for.  One that was canceled meanwhile ends here. */
static bool is_current(const struct keeper *keeper, const struct retry *entry)
{
        struct task *task = ticket_task(keeper->pool, entry->ticket);
        uint64_t state = load_seq_cst(&task->state);

        if (task_generation(state) != ticket_generation(entry->ticket) || task_kind(state) != TASK_QUEUED ||
            task->retried != entry->attempt)
                return false;
        if (!(state & TASK_CANCELED))
                return true;
        if (!cas_u64(&task->state, state, task_state(task_generation(state), TASK_DONE, 0)))
                return true; /* look again next time */
        counts_add(&keeper->pool->shared->counts.canceled, 1);
        conclude(keeper->pool, task, state);
        return false;
}

void again_give_back(struct keeper *keeper, uint64_t ticket)
{
        struct again *again = &keeper->again;

        for (size_t i = 0; i < again->count; i++)
                if (again->entries[i].ticket == ticket && again->entries[i].when == DEADLINE_NEVER)
                        again->entries[i].when = again->looked;
}

/* A task that has run wild may have written over it. */
static int level_of(brood_pool *pool, uint64_t ticket)
{
        const struct task_terms *terms = pool_terms(pool, ticket_task(pool, ticket));
        int level = terms != NULL ? terms->priority : 0;

        return level > 0 && level <= BROOD_TASK_PRIORITY_MOST && urgent_ring(pool, level) != NULL ? level : 0;
}

void again_deliver(struct keeper *keeper)
{
        struct again *again = &keeper->again;
        int64_t now = clock_now();

        again->looked = now;
        for (size_t i = 0; i < again->count;) {
                struct retry *entry = &again->entries[i];
                if (!is_current(keeper, entry)) {
                        forget(again, i);
                        continue;
                }
                if (entry->when <= now) {
                        int r = urgent_put(keeper->pool, level_of(keeper->pool, entry->ticket), entry->ticket, 0);
                        if (r == 0) {
                                forget(again, i);
                                continue;
                        }
                        if (r != -EPIPE)
                                entry->when = now + RING_FULL_MS * NS_PER_MS;
                }
                i++;
        }
}

uint64_t again_take(struct keeper *keeper)
{
        struct again *again = &keeper->again;

        for (size_t i = 0; i < again->count; i++)
                if (again->entries[i].when <= again->looked) {
                        again->entries[i].when = DEADLINE_NEVER;
                        return again->entries[i].ticket;
                }
        return 0;
}

int64_t again_next(const struct keeper *keeper)
{
        const struct again *again = &keeper->again;
        int64_t next = DEADLINE_NEVER;

        /* Not more than now: what has become due since must not be passed over. */
        for (size_t i = 0; i < again->count; i++)
                if (again->entries[i].when > again->looked && again->entries[i].when < next)
                        next = again->entries[i].when;
        return next;
}
