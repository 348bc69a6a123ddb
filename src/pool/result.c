/* SPDX-License-Identifier: MIT
 *
 * pool/result.c: results.
 *
 * A result is settled once, under the pool's mutex: by the task's DONE, or by the pool's end before that.  From then on the
 * handle tells the same, whatever a dying worker still writes.
 *
 * The host has no thread that could raise an event of each result, and the workers were forked before the results were made.
 * So they share one event, the pool's bell, which workers and keeper raise at the end of a task that is WATCHED, and which
 * nobody lowers: each watcher has an epoll of its own with the bell in it, edge-triggered, that remembers which raises it has
 * seen.
 *
 *     watcher                                   worker
 *     set WATCHED (CAS)                         tell the outcome, task -> DONE (exchange)
 *     put the bell into the epoll               it was WATCHED?  raise the bell
 *     look at the task
 *
 * Either the exchange finds the bit, or the watcher finds the task DONE.  Whoever finds the epoll readable takes what it has
 * seen out of it before it looks at the task: then a raise that comes later makes it readable again, and one that came before
 * came after DONE.  When a result is settled, its own epoll is to be readable for ever: the bell, raised since the pool was
 * made, becomes level-triggered in it.  The keeper's pidfd is in there too, for the end of the pool; the kernel marks its
 * life word before that.
 */
#include "os/clock.h"
#include "os/descriptors.h"
#include "os/futex.h"
#include "os/poller.h"
#include "os/robust.h"
#include "os/signals.h"
#include "pool/ended.h"
#include "pool/subtasks.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int check(const brood_result *result)
{
        return result == NULL ? -EINVAL : pool_check(result->pool);
}

/* Take what a worker or the keeper wrote.  A task that has run wild may have written there too. */
static void take_outcome(brood_result *result, const struct task *task)
{
        int outcome = task->outcome;
        int64_t value = task->value;
        bool ok = outcome == BROOD_OUTCOME_OK && value >= 0 && (uint64_t)value <= (uint64_t)result->room * OUT_UNIT;
        bool failed = ((outcome >= BROOD_OUTCOME_ERROR && outcome <= BROOD_OUTCOME_SIGNALED) ||
                       (outcome >= BROOD_OUTCOME_TIME && outcome <= BROOD_OUTCOME_OUT_OF_MEMORY)) &&
                      value < 0;

        result->outcome = (uint8_t)(ok || failed ? outcome : BROOD_OUTCOME_ERROR);
        result->value = ok || failed ? value : -EUCLEAN;
}

/* The result is settled. */
static void stay_readable(const brood_result *result)
{
        if (result->poller >= 0)
                poller_edge_to_level(result->poller, result->pool->bell, NULL);
}

/* Whoever is told that the task has ended well is to find its tasks handed in; if they cannot be, it has not ended well. */
static void take_up_subtasks(brood_result *result)
{
        int r = subtasks_take_up(result);

        if (r < 0) {
                result->outcome = BROOD_OUTCOME_ERROR;
                result->value = r;
        }
}

bool result_settle_locked(brood_result *result)
{
        struct task *task = result_task(result);

        if (result->outcome != BROOD_OUTCOME_PENDING)
                return true;
        if (result->poller >= 0)
                poller_clear(result->poller);
        /* Whether the pool can still end the task is asked first: what it has ended by then is seen after. */
        int usable = pool_usable(result->pool, false);
        if (task_kind(load_seq_cst(&task->state)) == TASK_DONE) {
                take_outcome(result, task);
        } else if (usable < 0) {
                result->outcome = usable == -ECANCELED ? BROOD_OUTCOME_CANCELED : BROOD_OUTCOME_BROKEN;
                result->value = usable;
        }
        if (result->outcome == BROOD_OUTCOME_PENDING)
                return false;
        if (result->outcome == BROOD_OUTCOME_OK && result_is_parent(result))
                take_up_subtasks(result);
        stay_readable(result);
        return true;
}

static bool settled(brood_result *result)
{
        brood_pool *pool = result->pool;

        pthread_mutex_lock(&pool->mutex);
        bool is_settled = result_settle_locked(result);
        pthread_mutex_unlock(&pool->mutex);
        return is_settled;
}

static int wait_for_end(brood_result *result, int64_t deadline)
{
        brood_pool *pool = result->pool;
        atomic_u64 *state = &result_task(result)->state;
        atomic_u32 *life = &pool->shared->life;

        for (uint32_t i = 0, most = load_relaxed(&pool->spin.length); i < most; i++) {
                spin_pause(&pool->spin, i);
                if (task_kind(load_acquire(state)) == TASK_DONE) {
                        spin_adapt(&pool->spin, true);
                        return settled(result) ? 0 : -EAGAIN;
                }
        }
        spin_adapt(&pool->spin, false);

        for (;;) {
                uint64_t now = load_seq_cst(state);
                uint32_t alive = load_seq_cst(life);

                if (settled(result)) {
                        /* At the keeper's death the kernel wakes only one of those who sleep. */
                        if (!robust_alive(alive))
                                futex_wake(life, INT_MAX);
                        return 0;
                }
                int64_t start = clock_now();
                if (start >= deadline)
                        return -ETIMEDOUT;
                if (!(now & TASK_WAITED) && !cas_u64(state, now, now | TASK_WAITED))
                        continue;
                futex_wait_either(futex_low_half(state), (uint32_t)(now | TASK_WAITED), life, alive, deadline);
                if (clock_now() - start < SPIN_SHORT_SLEEP_NS)
                        spin_adapt(&pool->spin, true);
        }
}

/* It has ended, and its callback, if it has one, is no more to be run. */
static bool is_told(void *arg)
{
        brood_result *result = arg;

        return result_settle_locked(result) && result_completions(result) != &result->pool->callbacks;
}

/* The same while callbacks are to be run: all ends must be found in one place, so that of this task, too. */
static int wait_and_run_callbacks(brood_result *result, int64_t deadline)
{
        brood_pool *pool = result->pool;

        pthread_mutex_lock(&pool->mutex);
        ended_list(result);
        pthread_mutex_unlock(&pool->mutex);
        return ended_await(pool, is_told, result, deadline);
}

int result_settle(brood_result *result, int timeout_ms)
{
        brood_pool *pool = result->pool;

        pthread_mutex_lock(&pool->mutex);
        bool expected = callbacks_expected(pool);
        bool is_settled = expected ? is_told(result) : result_settle_locked(result);
        pthread_mutex_unlock(&pool->mutex);
        if (is_settled)
                return 0;
        if (expected)
                return wait_and_run_callbacks(result, deadline_after_ms(timeout_ms));
        return timeout_ms == 0 ? -EAGAIN : wait_for_end(result, deadline_after_ms(timeout_ms));
}

const void *result_bytes(const brood_result *result)
{
        const void *arg =
            result->block != 0 ? region_at(&result->pool->region, result->block) : result_task(result)->place;

        return (const char *)arg + (size_t)result->out * OUT_UNIT;
}

ssize_t brood_result_get(brood_result *result, void *buf, size_t room, int timeout_ms)
{
        int r = check(result);

        if (r < 0)
                return r;
        if (buf == NULL && room > 0)
                return -EINVAL;
        r = result_settle(result, timeout_ms);
        if (r < 0)
                return r;
        if (result->outcome != BROOD_OUTCOME_OK)
                return (ssize_t)result->value;
        if ((size_t)result->value > room)
                return -EMSGSIZE;
        if (result->value > 0)
                memcpy(buf, result_bytes(result), (size_t)result->value);
        return (ssize_t)result->value;
}

int brood_result_wait(brood_result *result, int timeout_ms)
{
        int r = check(result);

        return r < 0 ? r : result_settle(result, timeout_ms);
}

int brood_result_outcome(brood_result *result)
{
        int r = check(result);

        if (r < 0)
                return r;
        return settled(result) ? result->outcome : BROOD_OUTCOME_PENDING;
}

int brood_result_ready(brood_result *result)
{
        int outcome = brood_result_outcome(result);

        return outcome < 0 ? outcome : outcome != BROOD_OUTCOME_PENDING;
}

int brood_result_successful(brood_result *result)
{
        int outcome = brood_result_outcome(result);

        if (outcome == BROOD_OUTCOME_PENDING)
                return -EAGAIN;
        return outcome < 0 ? outcome : outcome == BROOD_OUTCOME_OK;
}

int brood_result_worker(brood_result *result, pid_t *ret_pid, int *ret_exitcode)
{
        int outcome = brood_result_outcome(result);

        if (outcome <= 0)
                return outcome < 0 ? outcome : -EAGAIN;
        if (ret_pid != NULL)
                *ret_pid = result_worker(result);
        if (ret_exitcode != NULL)
                *ret_exitcode = result_exitcode(result);
        return 0;
}

/* Set CANCELED in the task's state: what it was before, or 0: the task has ended. */
static uint64_t mark_canceled(struct task *task, bool running)
{
        for (;;) {
                uint64_t state = load_seq_cst(&task->state);

                if (task_kind(state) == TASK_DONE)
                        return 0;
                if ((task_kind(state) == TASK_RUNNING && !running) ||
                    cas_u64(&task->state, state, state | TASK_CANCELED))
                        return state;
        }
}

/* The mutex is held. */
static int cancel(brood_result *result, bool running)
{
        brood_pool *pool = result->pool;
        struct task *task = result_task(result);

        if (result_settle_locked(result))
                return -EALREADY;
        uint64_t before = mark_canceled(task, running);
        if (before == 0) {
                result_settle_locked(result);
                return -EALREADY;
        }
        if (task_kind(before) == TASK_RUNNING && !running)
                return -EBUSY;
        result->outcome = BROOD_OUTCOME_CANCELED;
        result->value = -ECANCELED;
        result->canceled = true;
        stay_readable(result);
        if (result_is_pending(result))
                completions_deliver(result);
        /* The worker is to be killed; or the keeper may have the task, to try it again later. */
        if (task_kind(before) == TASK_RUNNING || load_relaxed(&task->terms) != 0)
                eventfd_raise(pool->doorbell);
        futex_wake(futex_low_half(&task->state), INT_MAX);
        ended_wake(pool);
        if (before & TASK_WATCHED)
                eventfd_raise(pool->bell);
        return 0;
}

int brood_result_cancel(brood_result *result, bool running)
{
        int r = check(result);

        if (r < 0)
                return r;
        pthread_mutex_lock(&result->pool->mutex);
        r = cancel(result, running);
        pthread_mutex_unlock(&result->pool->mutex);
        return r;
}

void result_extra_free(struct result_extra *extra)
{
        if (extra == NULL)
                return;
        free(extra->reason);
        free(extra->parent);
        free(extra);
}

int result_extend(brood_result *result)
{
        if (result->extra == NULL)
                result->extra = calloc(1, sizeof *result->extra);
        if (result->extra == NULL)
                return -ENOMEM;
        result->extra->result = result;
        return 0;
}

int result_watch(brood_result *result, int poller)
{
        int r = check(result);

        if (r < 0)
                return r;
        atomic_u64 *state = &result_task(result)->state;
        uint64_t now;
        do
                now = load_seq_cst(state);
        while (task_kind(now) != TASK_DONE && !(now & TASK_WATCHED) && !cas_u64(state, now, now | TASK_WATCHED));
        r = poller_add_edge(poller, result->pool->bell, NULL);
        if (r == 0)
                r = poller_add(poller, brood_process_sentinel(result->pool->keeper), NULL);
        return r == -EEXIST ? 0 : r;
}

int brood_result_fileno(brood_result *result)
{
        int r = check(result);

        if (r < 0)
                return r;
        brood_pool *pool = result->pool;
        pthread_mutex_lock(&pool->mutex);
        r = result->poller;
        if (r < 0) {
                int poller = poller_new();
                r = poller < 0 ? poller : result_watch(result, poller);
                if (r < 0) {
                        descriptor_close(&poller);
                } else {
                        r = result->poller = poller;
                        if (result->outcome == BROOD_OUTCOME_PENDING)
                                result_settle_locked(result);
                        else
                                stay_readable(result);
                }
        }
        pthread_mutex_unlock(&pool->mutex);
        return r;
}

void *brood_result_callback_arg(const brood_result *result)
{
        return result == NULL || result->extra == NULL ? NULL : result->extra->callback_arg;
}

void brood_result_free(brood_result *result)
{
        if (result == NULL || (result->extra != NULL && result->extra->lent))
                return;
        brood_pool *pool = result->pool;
        struct result_extra *extra = result->extra;
        descriptor_close(&result->poller);
        if (pool_is_ours(pool)) {
                pthread_mutex_lock(&pool->mutex);
                completions_forget(result);
                result->extra = NULL;
                pool_drop_task(pool, result);
                pool_release_locked(pool);
        } else {
                pool_release(pool);
        }
        result_extra_free(extra);
}
