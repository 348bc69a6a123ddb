/* SPDX-License-Identifier: MIT
 *
 * pool/ended.c: see ended.h.
 */
#include "pool/ended.h"
#include "os/clock.h"
#include "os/descriptors.h"
#include "os/futex.h"
#include "os/robust.h"

#include <errno.h>
#include <limits.h>

/* ---- the worker, and the keeper ---- */

/* Whether the bell must be rung. */
static bool push(brood_pool *pool, struct task *task)
{
        atomic_u32 *ended = &pool->shared->ended;
        uint32_t index = (uint32_t)(task - pool->tasks), before;

        do {
                before = load_seq_cst(ended);
                store_relaxed(&task->next_ended, before & ENDED_INDEX); /* published by the CAS */
        } while (!cas_u32(ended, before, (before & ENDED_DEATHS) | (index + 1)));
        if (before & ENDED_SLEEPERS)
                futex_wake(ended, INT_MAX);
        /* Where there was one already, whoever pushed that has rung, or has died, and the keeper rings. */
        return (before & ENDED_INDEX) == 0 && load_seq_cst(&pool->shared->ended_watched) != 0;
}

bool ended_tell(brood_pool *pool, struct task *task, uint64_t before)
{
        bool rings = before & TASK_WATCHED;

        if (before & TASK_WAITED)
                futex_wake(futex_low_half(&task->state), INT_MAX);
        if (before & TASK_LISTED)
                rings |= push(pool, task);
        return rings;
}

void ended_note_death(brood_pool *pool, struct task *task, uint64_t ticket, uint32_t number)
{
        struct pool_shared *shared = pool->shared;
        uint64_t state = load_seq_cst(&task->state);

        /* Whether it was asked to tell, and whether it did, nobody knows; to wake and to ring once too often does no harm. */
        futex_wake(futex_low_half(&task->state), INT_MAX);
        /* Only what this very worker has ended is noted: another one that took the same ticket after it will push it. */
        if (task_generation(state) == ticket_generation(ticket) && task_kind(state) == TASK_DONE &&
            task_worker(state) == number) {
                uint32_t deaths = load_relaxed(&shared->deaths);
                store_release(&shared->dead[deaths % POOL_DEATHS_KEPT], ticket);
                store_release(&shared->deaths, deaths + 1);
                atomic_fetch_or(&shared->ended, ENDED_DEATHS);
        }
        futex_wake(&shared->ended, INT_MAX);
        eventfd_raise(pool->bell);
}

/* ---- the host ---- */

/* A task has ended, and nobody will push it any more. */
static void take(brood_pool *pool, uint32_t index)
{
        brood_result *result = &pool->results[index];

        result->listed = false;
        if (!result->held)
                pool_drop_task(pool, result);
        else if (result_is_pending(result) && result_settle_locked(result))
                completions_deliver(result);
}

static bool is_listed_and_done(const brood_pool *pool, uint32_t index)
{
        return index < pool->tasks_made && pool->results[index].listed &&
               task_kind(load_acquire(&pool->tasks[index].state)) == TASK_DONE;
}

/* Look at all results that are waited for.  Their tasks stay listed, because nobody knows whether they are going to be
 * pushed. */
static void take_what_has_ended(brood_pool *pool)
{
        struct link *next, *all = &pool->completions;

        for (struct link *link = all->next; link != all; link = next) {
                brood_result *result = link_of(link, struct result_extra, waiting)->result;
                next = link->next;
                if (result_settle_locked(result))
                        completions_deliver(result);
        }
}

/* The list has the latest first; they are delivered in the order in which they came. */
static void take_list(brood_pool *pool, uint32_t id)
{
        uint32_t oldest = NO_TASK;

        while (id != 0) {
                uint32_t index = id - 1;
                if (!is_listed_and_done(pool, index))
                        break; /* a task that has run wild has written there */
                id = load_relaxed(&pool->tasks[index].next_ended);
                pool->results[index].next = oldest;
                oldest = index;
                /* Not twice, and not for ever. */
                pool->results[index].listed = false;
        }
        while (oldest != NO_TASK) {
                uint32_t index = oldest;
                oldest = pool->results[index].next;
                take(pool, index);
        }
        if (id != 0)
                take_what_has_ended(pool);
}

/* What the keeper has noted, and was not in the list.  It writes on while we read; what it may have written over is not
 * believed. */
static void take_dead(brood_pool *pool)
{
        struct pool_shared *shared = pool->shared;
        uint64_t tickets[POOL_DEATHS_KEPT];
        uint32_t seen = pool->deaths_seen, deaths = load_acquire(&shared->deaths), count = deaths - seen;
        bool trusted = count < POOL_DEATHS_KEPT;

        for (uint32_t i = 0; trusted && i < count; i++)
                tickets[i] = load_acquire(&shared->dead[(seen + i) % POOL_DEATHS_KEPT]);
        fence_full();
        pool->deaths_seen = deaths;
        if (!trusted || load_relaxed(&shared->deaths) - seen >= POOL_DEATHS_KEPT) {
                take_what_has_ended(pool);
                return;
        }
        for (uint32_t i = 0; i < count; i++) {
                uint32_t index = ticket_index(tickets[i]);
                if (is_listed_and_done(pool, index) &&
                    task_generation(load_relaxed(&pool->tasks[index].state)) == ticket_generation(tickets[i]))
                        take(pool, index);
        }
}

void ended_collect(brood_pool *pool)
{
        atomic_u32 *ended = &pool->shared->ended;

        if (load_seq_cst(ended) & ~ENDED_SLEEPERS) {
                uint32_t taken = exchange_seq_cst(ended, 0);
                if (taken & ENDED_SLEEPERS)
                        futex_wake(ended, INT_MAX);
                take_list(pool, taken & ENDED_INDEX);
                if (taken & ENDED_DEATHS)
                        take_dead(pool);
        }
        if (link_first(&pool->completions) != NULL && pool_usable(pool, false) < 0)
                take_what_has_ended(pool);
}

void ended_list(brood_result *result)
{
        atomic_u64 *state = &result_task(result)->state;
        uint64_t now;

        if (result->listed || result->outcome != BROOD_OUTCOME_PENDING)
                return;
        do
                now = load_seq_cst(state);
        while (task_kind(now) != TASK_DONE && !cas_u64(state, now, now | TASK_LISTED));
        result->listed = task_kind(now) != TASK_DONE;
}

void ended_wake(brood_pool *pool)
{
        atomic_u32 *ended = &pool->shared->ended;

        if (load_seq_cst(ended) & ENDED_SLEEPERS) {
                atomic_fetch_and(ended, ~ENDED_SLEEPERS);
                futex_wake(ended, INT_MAX);
        }
}

/* Say that somebody is about to sleep; false if there is something to look at. */
static bool prepare_to_sleep(brood_pool *pool)
{
        atomic_u32 *ended = &pool->shared->ended;
        uint32_t now = load_seq_cst(ended);

        return now == ENDED_SLEEPERS || (now == 0 && cas_u32(ended, 0, ENDED_SLEEPERS));
}

/* Look for as long as it has been paying; whether something came. */
static bool spin(brood_pool *pool)
{
        uint32_t most = load_relaxed(&pool->spin.length);
        bool came = false;

        for (uint32_t i = 0; i < most && !came; i++) {
                spin_pause(&pool->spin, i);
                came = load_acquire(&pool->shared->ended) & ENDED_INDEX;
        }
        spin_adapt(&pool->spin, came);
        return came;
}

int ended_await(brood_pool *pool, bool (*done)(void *arg), void *arg, int64_t deadline)
{
        atomic_u32 *life = &pool->shared->life;

        for (bool looked = false;; looked = true) {
                uint32_t alive = load_seq_cst(life);

                pthread_mutex_lock(&pool->mutex);
                ended_collect(pool);
                bool is_done = done(arg), due = callbacks_due(pool);
                bool prepared = !is_done && !due && looked && prepare_to_sleep(pool);
                pthread_mutex_unlock(&pool->mutex);
                if (due)
                        callbacks_run(pool);
                if (is_done) {
                        /* At the keeper's death the kernel wakes only one of those who sleep. */
                        if (!robust_alive(alive))
                                futex_wake(life, INT_MAX);
                        return 0;
                }
                if (due)
                        continue;
                if (deadline == DEADLINE_NOW)
                        return -EAGAIN;
                int64_t start = clock_now();
                if (start >= deadline)
                        return -ETIMEDOUT;
                if (!looked)
                        spin(pool);
                else if (prepared) {
                        futex_wait_either(&pool->shared->ended, ENDED_SLEEPERS, life, alive, deadline);
                        if (clock_now() - start < SPIN_SHORT_SLEEP_NS)
                                spin_adapt(&pool->spin, true);
                }
        }
}
