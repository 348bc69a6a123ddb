/* SPDX-License-Identifier: MIT
 *
 * pool/tasks.c: the host's side of the tasks: they are given out, filled in, put into the ring, and given back.
 *
 * The mutex is held in all but pool_submit().
 */
#include "os/clock.h"
#include "os/probe.h"
#include "pool/ended.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { COMMIT_STEP = 64 << 10 };

int pool_commit_upto(brood_pool *pool, size_t offset, size_t *committed, size_t need)
{
        if (need <= *committed)
                return 0;
        size_t upto = round_up(need, COMMIT_STEP);
        if (offset + upto > pool->region.size)
                upto = pool->region.size - offset;
        int r = region_commit(&pool->region, offset + *committed, upto - *committed);
        if (r == 0)
                *committed = upto;
        return r;
}

static void task_recycle(brood_pool *pool, uint32_t index)
{
        uint64_t state = load_relaxed(&pool->tasks[index].state);

        store_relaxed(&pool->tasks[index].state, task_state(task_generation(state), TASK_FREE, 0));
        arena_free(&pool->arena, pool->host_tasks[index].block);
        pool->free_tasks[pool->free_count++] = index;
}

void pool_drop_task(brood_pool *pool, uint32_t index, uint32_t generation)
{
        uint64_t state = load_acquire(&pool->tasks[index].state); /* pairs with the exchange that ends a task */

        if (pool->host_tasks[index].listed) {
                pool->host_tasks[index].result = NULL;
                return; /* until its announcement is seen */
        }
        if (task_generation(state) != generation || task_kind(state) == TASK_DONE) {
                task_recycle(pool, index);
                return;
        }
        pool->host_tasks[index].next = NO_TASK;
        if (pool->dropped == NO_TASK)
                pool->dropped = index;
        else
                pool->host_tasks[pool->dropped_end].next = index;
        pool->dropped_end = index;
}

/* Recycle dropped tasks that have ended: look at `most` of them, the oldest first; the others go to the end of the line. */
static void sweep_dropped(brood_pool *pool, size_t most)
{
        while (most-- > 0 && pool->dropped != NO_TASK) {
                uint32_t index = pool->dropped;
                uint64_t state = load_acquire(&pool->tasks[index].state);

                pool->dropped = pool->host_tasks[index].next;
                pool_drop_task(pool, index, task_generation(state));
        }
}

static void sweep_all(brood_pool *pool)
{
        ended_collect(pool);
        sweep_dropped(pool, pool->options.max_tasks);
}

static int task_alloc(brood_pool *pool, size_t size, uint32_t *ret_index)
{
        enum { A_FEW = 4 };
        uint32_t index;

        sweep_dropped(pool, A_FEW);
        if (pool->free_count == 0 && pool->tasks_made == pool->options.max_tasks)
                sweep_all(pool);
        if (pool->free_count > 0) {
                index = pool->free_tasks[--pool->free_count];
        } else if (pool->tasks_made < pool->options.max_tasks) {
                int r = pool_commit_upto(pool, pool->tasks_offset, &pool->tasks_committed,
                                         (pool->tasks_made + 1) * sizeof(struct task));
                if (r < 0)
                        return -ENOMEM;
                index = (uint32_t)pool->tasks_made++;
        } else {
                return -ENOBUFS;
        }
        int r = arena_alloc(&pool->arena, size, &pool->host_tasks[index].block);
        if (r < 0) {
                sweep_all(pool);
                r = arena_alloc(&pool->arena, size, &pool->host_tasks[index].block);
        }
        if (r < 0) {
                pool->free_tasks[pool->free_count++] = index;
                return r;
        }
        *ret_index = index;
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

/* How many of the ring's slots may be in use with one task more: none is before its first lap.  What is tried again is put into
 * the ring by the keeper, of which the host keeps no count. */
static size_t ring_slots_used(const brood_pool *pool, const struct order *order)
{
        size_t slots = pool->ring.geometry.slots;

        return pool->puts < slots && (order->terms == NULL || order->terms->retries == 0) ? pool->puts : slots;
}

/* What became of it, before anything has; and the terms, which lie behind the room for the result. */
static void task_reset(brood_pool *pool, struct task *task, size_t end, const struct task_terms *terms)
{
        task->outcome = BROOD_OUTCOME_PENDING;
        task->worker = 0;
        task->exitcode = 0;
        task->retried = 0;
        task->message = 0;
        task->started = task->ended = task->cpu = task->peak_memory = 0;
        if (insight_on(pool) && terms == NULL)
                task->ended = clock_now();
        store_relaxed(&task->terms, terms != NULL ? end : 0);
        if (terms != NULL)
                memcpy(region_at(&pool->region, end), terms, sizeof *terms);
}

/* Fill in a task and put it into the ring: 0 and its index. */
static int enqueue(brood_pool *pool, const struct order *order, uint32_t *ret_index, uint32_t *ret_generation)
{
        size_t items = order->items > 0 ? order->items : 1;
        size_t arg_bytes, out_bytes, size;

        if (__builtin_mul_overflow(order->arg_size, items, &arg_bytes) ||
            __builtin_mul_overflow(order->room, items, &out_bytes) || arg_bytes > SIZE_MAX / 4 ||
            out_bytes > SIZE_MAX / 4)
                return -ENOMEM;
        size = round_up(arg_bytes, 16) + round_up(out_bytes, 16) + 16; /* never 0, and `out` lies inside */
        if (order->terms != NULL)
                size += sizeof *order->terms;
        if (!workers_have(pool, order->calls != NULL ? order->calls : order->function))
                return -ENOEXEC;

        uint32_t index;
        int r = task_alloc(pool, size, &index);
        if (r < 0)
                return r;
        pool->puts++;
        r = pool_commit_upto(pool, pool->ring_offset, &pool->ring_committed,
                             ring_slots_used(pool, order) * sizeof(struct ring_slot));
        if (r < 0) {
                task_recycle(pool, index);
                return -ENOMEM;
        }
        struct task *task = &pool->tasks[index];
        size_t offset = pool->host_tasks[index].block.offset;
        uint32_t generation = task_generation(load_relaxed(&task->state)) + 1;
        generation += generation == 0; /* so that no ticket is 0 */
        struct host_task *host_task = &pool->host_tasks[index];
        host_task->out = offset + round_up(arg_bytes, 16);
        host_task->room = out_bytes;
        host_task->listed = order->completions != NULL;
        host_task->result = NULL;
        task->function = (uintptr_t)order->function;
        task->arg = offset;
        task->out = host_task->out;
        task->arg_size = order->arg_size;
        task->room = order->room;
        task->items = order->items;
        task_reset(pool, task, host_task->out + round_up(out_bytes, 16), order->terms);
        if (order->pack != NULL)
                order->pack(region_at(&pool->region, offset), order->arg);
        else if (arg_bytes > 0)
                memcpy(region_at(&pool->region, offset), order->arg, arg_bytes);
        store_release(&task->state, task_state(generation, TASK_QUEUED, 0) | (host_task->listed ? TASK_LISTED : 0));

        /* The ring has a place for every task there can be, so that this does not wait for a worker; but for the moment in
         * which a dead one's stale ticket takes up a place, and that may be the pool's last. */
        enum { LOOK_MS = 100 };
        uint64_t ticket = ticket_make(index, generation);
        do
                r = ring_put(&pool->ring, &ticket, sizeof ticket, LOOK_MS);
        while (r == -ETIMEDOUT && pool_usable(pool, false) == 0);
        if (r == -ETIMEDOUT)
                r = pool_usable(pool, false);
        if (r < 0) {
                host_task->listed = false;
                task_recycle(pool, index);
                return r;
        }
        counts_add(&pool->shared->counts.submitted, 1);
        PROBE3(task_submit, ticket, order->function, order->arg_size);
        *ret_index = index;
        *ret_generation = generation;
        return 0;
}

int pool_submit(brood_pool *pool, const struct order *order, brood_result **ret_result)
{
        uint32_t index = 0, generation = 0;
        brood_result *result = NULL;

        if (ret_result != NULL || order->completions != NULL) {
                result = calloc(1, sizeof *result);
                if (result == NULL)
                        return -ENOMEM;
                result->pool = pool;
                result->poller = -1;
                result->callback = order->callback;
                result->error_callback = order->error_callback;
                result->callback_arg = order->callback_arg;
                result->owned = ret_result == NULL;
        }
        pthread_mutex_lock(&pool->mutex);
        int r = pool_usable(pool, true);
        if (r == 0)
                r = enqueue(pool, order, &index, &generation);
        if (r == 0 && result != NULL) {
                pool->references++;
                result->index = index;
                result->generation = generation;
                if (order->completions != NULL)
                        completions_join(order->completions, result);
        } else if (r == 0) {
                pool_drop_task(pool, index, generation);
        }
        pthread_mutex_unlock(&pool->mutex);
        if (r < 0)
                free(result);
        else if (ret_result != NULL)
                *ret_result = result;
        return r;
}
