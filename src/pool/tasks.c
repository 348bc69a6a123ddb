/* SPDX-License-Identifier: MIT
 *
 * pool/tasks.c: the host's side of the tasks: they are given out, filled in, put into the ring, and given back.
 *
 * The mutex is held in all but pool_submit().
 */
#include "os/clock.h"
#include "os/probe.h"
#include "pool/ended.h"
#include "pool/subtasks.h"
#include "pool/urgent.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { COMMIT_FIRST = 4 << 10, COMMIT_STEP = 64 << 10 };

int pool_commit_upto(brood_pool *pool, size_t offset, size_t *committed, size_t need)
{
        if (need <= *committed)
                return 0;
        size_t upto = round_up(need, *committed == 0 ? COMMIT_FIRST : COMMIT_STEP);
        if (offset + upto > pool->region.size)
                upto = pool->region.size - offset;
        int r = region_commit(&pool->region, offset + *committed, upto - *committed);
        if (r == 0)
                *committed = upto;
        return r;
}

static void task_recycle(brood_result *result)
{
        brood_pool *pool = result->pool;
        struct task *task = result_task(result);

        store_relaxed(&task->state, task_state(result->generation, TASK_FREE, 0));
        if (result->block != 0)
                arena_free(&pool->arena, (struct arena_block){ .offset = result->block, .class = result->class });
        result->next = pool->free_tasks;
        pool->free_tasks = result_index(result);
}

void pool_drop_task(brood_pool *pool, brood_result *result)
{
        uint64_t state = load_acquire(&result_task(result)->state); /* pairs with the exchange that ends a task */

        result->held = false;
        if (result->listed)
                return; /* until its announcement is seen */
        if (task_generation(state) != result->generation || task_kind(state) == TASK_DONE) {
                task_recycle(result);
                return;
        }
        uint32_t index = result_index(result);
        result->next = NO_TASK;
        if (pool->dropped == NO_TASK)
                pool->dropped = index;
        else
                pool->results[pool->dropped_end].next = index;
        pool->dropped_end = index;
}

/* Recycle dropped tasks that have ended: look at `most` of them, the oldest first; the others go to the end of the line. */
static void sweep_dropped(brood_pool *pool, size_t most)
{
        while (most-- > 0 && pool->dropped != NO_TASK) {
                brood_result *result = &pool->results[pool->dropped];

                pool->dropped = result->next;
                pool_drop_task(pool, result);
        }
}

static void sweep_all(brood_pool *pool)
{
        /* Not while somebody is doing just that, and has found a task that hands in tasks. */
        if (!pool->taking_up)
                ended_collect(pool);
        sweep_dropped(pool, pool->options.max_tasks);
}

/* A task that was never used. */
static brood_result *task_make(brood_pool *pool)
{
        if (pool_commit_upto(pool, pool->tasks_offset, &pool->tasks_committed,
                             (pool->tasks_made + 1) * sizeof(struct task)) < 0)
                return NULL;
        brood_result *result = &pool->results[pool->tasks_made++];
        result->pool = pool;
        return result;
}

/* A task, and a block if it needs one of `size` bytes. */
static int task_alloc(brood_pool *pool, size_t size, brood_result **ret_result)
{
        enum { A_FEW = 4 };
        struct arena_block block = { 0 };

        sweep_dropped(pool, A_FEW);
        if (pool->free_tasks == NO_TASK && pool->tasks_made == pool->options.max_tasks) {
                sweep_all(pool);
                if (pool->free_tasks == NO_TASK)
                        return -ENOBUFS;
        }
        if (size > 0 && arena_alloc(&pool->arena, size, &block) < 0) {
                sweep_all(pool);
                if (arena_alloc(&pool->arena, size, &block) < 0)
                        return -ENOMEM;
        }
        brood_result *result;
        if (pool->free_tasks != NO_TASK) {
                result = &pool->results[pool->free_tasks];
                pool->free_tasks = result->next;
        } else {
                result = task_make(pool);
                if (result == NULL) {
                        if (size > 0)
                                arena_free(&pool->arena, block);
                        return -ENOMEM;
                }
        }
        result->block = block.offset;
        result->class = (uint8_t)block.class;
        *ret_result = result;
        return 0;
}

/* Whether the workers have this function.  The last answer is remembered: most pools run one function. */
static bool workers_have(brood_pool *pool, brood_task_function function)
{
        uintptr_t code = (uintptr_t)function;

        if (code == pool->known_function)
                return true;
        if (!module_map_holds(&pool->modules, code))
                return false;
        pool->known_function = code;
        return true;
}

/* Memory for one ticket more in the ring that it goes into: none of its slots is in use before its first lap.  What is tried
 * again is put there by the keeper, of which the host keeps no count. */
static int commit_place(brood_pool *pool, const struct order *order)
{
        bool retried = order->terms != NULL && order->terms->retries > 0;
        size_t slots = pool->ring.geometry.slots;

        if (order->priority > 0)
                return urgent_commit(pool, order->priority, retried);
        pool->puts++;
        return pool_commit_upto(pool, pool->ring_offset, &pool->ring_committed,
                                (pool->puts < slots && !retried ? pool->puts : slots) * sizeof(struct ring_slot));
}

/* Where the parts of a task are, from its argument on. */
struct parts {
        size_t out, out_bytes, terms;
        size_t block; /* 0: it needs none */
};

static int lay_out(const brood_pool *pool, struct parts *parts, const struct order *order)
{
        const size_t most = (size_t)UINT32_MAX * OUT_UNIT;
        size_t items = order->items > 0 ? order->items : 1, arg_bytes, out_bytes;

        if (__builtin_mul_overflow(order->arg_size, items, &arg_bytes) || arg_bytes > most ||
            __builtin_mul_overflow(order->room, items, &out_bytes) || out_bytes > most)
                return -ENOMEM;
        parts->out = round_up(arg_bytes, OUT_UNIT);
        parts->out_bytes = round_up(out_bytes, OUT_UNIT);
        parts->terms = parts->out + parts->out_bytes;
        parts->block = parts->terms;
        if (order->terms != NULL)
                parts->block += sizeof *order->terms + order->terms->subtasks_room;
        else if (parts->block <= TASK_PLACE && !insight_on(pool))
                parts->block = 0;
        return 0;
}

/* The handle, and what became of the task, before anything has. */
static void reset(brood_result *result, const struct order *order, const struct parts *parts)
{
        struct task *task = result_task(result);

        result->value = 0;
        result->extra = NULL;
        result->out = (uint32_t)(parts->out / OUT_UNIT);
        result->room = (uint32_t)(parts->out_bytes / OUT_UNIT);
        result->poller = -1;
        result->outcome = BROOD_OUTCOME_PENDING;
        result->held = true;
        result->listed = order->completions != NULL;
        result->canceled = false;

        task->value = 0;
        task->outcome = BROOD_OUTCOME_PENDING;
        task->exitcode = 0;
        task->worker = 0;
        task->retried = 0;
        task->message = 0;
        if (insight_on(result->pool))
                task->queued = clock_now();
}

/* What the task is to do. */
static void fill_in(brood_result *result, const struct order *order, const struct parts *parts)
{
        const struct region *region = &result->pool->region;
        struct task *task = result_task(result);
        size_t offset = result->block != 0 ? result->block : (size_t)((char *)task->place - (char *)region->head);

        task->function = (uintptr_t)order->function;
        task->arg = offset;
        task->out = offset + parts->out;
        task->arg_size = order->arg_size;
        task->room = order->room;
        task->items = order->items;
        store_relaxed(&task->terms, order->terms != NULL ? offset + parts->terms : 0);
        if (order->terms != NULL)
                memcpy(region_at(region, offset + parts->terms), order->terms, sizeof *order->terms);
        if (order->pack != NULL)
                order->pack(region_at(region, offset), order->arg);
        else if (order->arg_size > 0)
                memcpy(region_at(region, offset), order->arg, order->arg_size * (order->items > 0 ? order->items : 1));
}

/* Put the ticket of a task that is QUEUED into the ring of its priority.  That has a place for every task there can be, so that
 * this does not wait for a worker; but for the moment in which a dead one's stale ticket takes up a place, and that may be the
 * pool's last. */
static int put_ticket(brood_pool *pool, int priority, uint64_t ticket)
{
        enum { LOOK_MS = 100 };
        int r;

        do
                r = urgent_put(pool, priority, ticket, LOOK_MS);
        while (r == -ETIMEDOUT && pool_usable(pool, false) == 0);
        return r == -ETIMEDOUT ? pool_usable(pool, false) : r;
}

/* Take a task, fill it in and put it into the ring. */
static int enqueue(brood_pool *pool, const struct order *order, const struct parts *parts, brood_result **ret_result)
{
        brood_result *result;

        if (!workers_have(pool, order->calls != NULL ? order->calls : order->function))
                return -ENOEXEC;
        int r = task_alloc(pool, parts->block, &result);
        if (r < 0)
                return r;
        struct task *task = result_task(result);
        /* Not from the shared word, into which a task that has run wild may have written. */
        result->generation++;
        result->generation += result->generation == 0; /* so that no ticket is 0 */
        r = commit_place(pool, order);
        if (r < 0) {
                task_recycle(result);
                return -ENOMEM;
        }
        reset(result, order, parts);
        fill_in(result, order, parts);
        store_release(&task->state,
                      task_state(result->generation, TASK_QUEUED, 0) | (result->listed ? TASK_LISTED : 0));
        uint64_t ticket = ticket_make(result_index(result), result->generation);
        r = put_ticket(pool, order->priority, ticket);
        if (r < 0) {
                result->listed = false;
                task_recycle(result);
                return r;
        }
        counts_add(&pool->shared->counts.submitted, 1);
        PROBE3(task_submit, ticket, order->function, order->arg_size);
        *ret_result = result;
        return 0;
}

/* Enough of the extra part for what the order asks for: NULL if it needs none. */
static int order_extra(const struct order *order, const struct parts *parts, bool owned,
                       struct result_extra **ret_extra)
{
        *ret_extra = NULL;
        if (order->completions == NULL && order->callback_arg == NULL)
                return 0;
        struct result_extra *extra = calloc(1, sizeof *extra);
        if (extra == NULL)
                return -ENOMEM;
        extra->callback = order->callback;
        extra->error_callback = order->error_callback;
        extra->callback_arg = order->callback_arg;
        extra->owned = owned;
        if (order->terms != NULL && order->terms->subtasks_room > 0 &&
            parent_new(order, parts->terms, &extra->parent) < 0) {
                free(extra);
                return -ENOMEM;
        }
        *ret_extra = extra;
        return 0;
}

int pool_submit_locked(brood_pool *pool, const struct order *order, brood_result **ret_result)
{
        struct result_extra *extra = NULL;
        brood_result *result;
        struct parts parts;

        int r = lay_out(pool, &parts, order);
        if (r == 0)
                r = order_extra(order, &parts, ret_result == NULL, &extra);
        if (r == 0)
                r = enqueue(pool, order, &parts, &result);
        if (r < 0 || (ret_result == NULL && order->completions == NULL)) {
                if (r == 0)
                        pool_drop_task(pool, result);
                result_extra_free(extra);
                return r;
        }
        pool->references++;
        result->extra = extra;
        if (extra != NULL)
                extra->result = result;
        if (order->completions != NULL)
                completions_put(order->completions, result);
        if (ret_result != NULL)
                *ret_result = result;
        return 0;
}

int pool_submit(brood_pool *pool, const struct order *order, brood_result **ret_result)
{
        pthread_mutex_lock(&pool->mutex);
        int r = pool_usable(pool, true);
        if (r == 0)
                r = pool_submit_locked(pool, order, ret_result);
        pthread_mutex_unlock(&pool->mutex);
        return r;
}
