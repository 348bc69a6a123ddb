/* SPDX-License-Identifier: MIT
 *
 * pool/pool.c: the host's side: the pool made, fed, closed, ended.
 */
#include "os/child.h"
#include "os/clock.h"
#include "os/cpu.h"
#include "os/descriptors.h"
#include "os/futex.h"
#include "os/options.h"
#include "os/pidfd.h"
#include "os/robust.h"
#include "os/signals.h"
#include "pool/ended.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COMMIT_STEP = 64 << 10 };

/* ---- the region ---- */

struct plan {
        struct ring_geometry ring;
        size_t shared, ring_shared, owners, workers, tasks, ring_slots, arena, end;
        size_t commit; /* what has memory from the start; the rest gets it as it is used */
};

static int plan_region(struct plan *plan, const brood_pool_options *options)
{
        ring_plan_tickets(&plan->ring, options->max_tasks);
        plan->shared = sizeof(struct region_head);
        plan->ring_shared = plan->shared + sizeof(struct pool_shared);
        plan->owners = plan->ring_shared + sizeof(struct ring_shared);
        plan->workers = plan->owners + sizeof(struct owners);
        plan->commit = plan->workers + (size_t)options->processes * sizeof(struct worker_slot);
        plan->tasks = round_up(plan->workers + BROOD_POOL_PROCESSES_LIMIT * sizeof(struct worker_slot), 4096);
        plan->ring_slots = round_up(plan->tasks + options->max_tasks * sizeof(struct task), 4096);
        plan->arena = round_up(plan->ring_slots + plan->ring.block_size, 4096);
        plan->end = plan->arena + round_up(options->memory, 64);
        return 0;
}

static uint64_t pool_layout(const struct plan *plan)
{
        uint64_t signature = LAYOUT_START;

        signature = layout_fold(signature, sizeof(struct pool_shared));
        signature = layout_fold(signature, sizeof(struct ring_shared));
        signature = layout_fold(signature, sizeof(struct owners));
        signature = layout_fold(signature, sizeof(struct worker_slot));
        signature = layout_fold(signature, sizeof(struct task));
        signature = layout_fold(signature, plan->tasks);
        signature = layout_fold(signature, plan->ring_slots);
        return layout_fold(signature, plan->arena);
}

static int check_options(brood_pool_options *options)
{
        if (options->processes == 0) {
                options->processes = cpu_usable();
                if (options->processes > BROOD_POOL_PROCESSES_LIMIT)
                        options->processes = BROOD_POOL_PROCESSES_LIMIT;
        }
        if (options->result_size == 0)
                options->result_size = BROOD_POOL_RESULT_SIZE_DEFAULT;
        if (options->max_tasks == 0)
                options->max_tasks = BROOD_POOL_MAX_TASKS_DEFAULT;
        if (options->memory == 0)
                options->memory = BROOD_POOL_MEMORY_DEFAULT;
        if (options->processes < 0 || options->processes > BROOD_POOL_PROCESSES_LIMIT ||
            options->result_size > BROOD_POOL_RESULT_SIZE_LIMIT || options->max_tasks > BROOD_POOL_MAX_TASKS_LIMIT ||
            options->memory > BROOD_POOL_MEMORY_LIMIT || arena_block_size(options->result_size) > options->memory)
                return -EINVAL;
        return 0;
}

/* ---- making and ending ---- */

/* Wait for the keeper's word that the workers are forked, or for its end. */
static int await_keeper(brood_pool *pool)
{
        enum { LOOK_MS = 20 };
        uint32_t phase;

        while ((phase = load_seq_cst(&pool->shared->phase)) == POOL_STARTING) {
                if (!brood_process_is_alive(pool->keeper))
                        return -EAGAIN;
                futex_wait(&pool->shared->phase, phase, deadline_after_ms(LOOK_MS));
        }
        return phase == POOL_FAILED ? pool->shared->error : 0;
}

static void pool_destroy(brood_pool *pool)
{
        brood_process_free(pool->keeper);
        completions_close(&pool->callbacks);
        descriptor_close(&pool->doorbell);
        descriptor_close(&pool->bell);
        if (pool->region.head != NULL)
                ring_detach(&pool->ring);
        region_drop(&pool->region);
        /* In a forked child the arena's books may be those of a thread in the middle of a change; they are left alone. */
        if (pool->owner == child_pid())
                arena_drop(&pool->arena);
        module_map_drop(&pool->modules);
        free(pool->host_tasks);
        free(pool->free_tasks);
        pthread_mutex_destroy(&pool->mutex);
        free(pool);
}

static int pool_prepare(brood_pool *pool)
{
        struct plan plan;

        int r = plan_region(&plan, &pool->options);
        if (r < 0)
                return r;
        r = region_new(&pool->region, "brood-pool", REGION_POOL, pool_layout(&plan), plan.end, plan.commit);
        if (r < 0)
                return r;
        pool->shared = region_at(&pool->region, plan.shared);
        pool->workers = region_at(&pool->region, plan.workers);
        pool->workers_offset = plan.workers;
        pool->workers_committed = plan.commit - plan.workers;
        store_relaxed(&pool->processes, (uint32_t)pool->options.processes);
        store_relaxed(&pool->processes_most, (uint32_t)pool->options.processes);
        store_relaxed(&pool->shared->wanted, (uint32_t)pool->options.processes);
        pool->tasks = region_at(&pool->region, plan.tasks);
        pool->tasks_offset = plan.tasks;
        pool->ring_offset = plan.ring_slots;
        ring_attach(&pool->ring, &plan.ring, &pool->region, plan.ring_shared, plan.owners, plan.ring_slots);
        pool->ring.watched = true;
        arena_init(&pool->arena, &pool->region, plan.arena, plan.end);

        pool->host_tasks = calloc(pool->options.max_tasks, sizeof *pool->host_tasks);
        pool->free_tasks = calloc(pool->options.max_tasks, sizeof *pool->free_tasks);
        if (pool->host_tasks == NULL || pool->free_tasks == NULL)
                return -ENOMEM;
        r = module_map_take(&pool->modules);
        if (r < 0)
                return r;
        r = pool->doorbell = eventfd_new();
        if (r < 0)
                return r;
        r = pool->bell = eventfd_new();
        if (r < 0)
                return r;
        eventfd_raise(pool->bell); /* for ever: see pool/result.c */
        r = brood_process_new(&pool->keeper, &(brood_process_options){
                                                 .target = keeper_run,
                                                 .arg = pool,
                                                 .name = "brood-keeper",
                                                 .start_method = BROOD_START_FORK,
                                             });
        if (r < 0)
                return r;
        process_make_helper(pool->keeper);
        r = brood_process_start(pool->keeper);
        return r < 0 ? r : await_keeper(pool);
}

int brood_pool_new_sized(brood_pool **ret_pool, const brood_pool_options *options, size_t options_size)
{
        brood_pool_options known;

        if (ret_pool == NULL)
                return -EINVAL;
        int r = options_read(&known, sizeof known, options, options_size);
        if (r < 0)
                return r;
        r = check_options(&known);
        if (r < 0)
                return r;
        brood_pool *pool = calloc(1, sizeof *pool);
        if (pool == NULL)
                return -ENOMEM;
        pool->options = known;
        pool->region = (struct region)REGION_NONE;
        pool->doorbell = pool->bell = -1;
        pool->owner = child_pid();
        pool->dropped = pool->dropped_end = NO_TASK;
        pool->references = 1;
        link_init(&pool->completions);
        completions_init(&pool->callbacks, pool);
        spin_init(&pool->spin);
        pthread_mutex_init(&pool->mutex, NULL);
        r = pool_prepare(pool);
        if (r < 0) {
                pool_destroy(pool);
                return r;
        }
        *ret_pool = pool;
        return 0;
}

int pool_check(const brood_pool *pool)
{
        if (pool == NULL)
                return -EINVAL;
        return pool->owner == child_pid() ? 0 : -EPERM;
}

void pool_hold(brood_pool *pool)
{
        pthread_mutex_lock(&pool->mutex);
        pool->references++;
        pthread_mutex_unlock(&pool->mutex);
}

void pool_release(brood_pool *pool)
{
        /* In a forked child the mutex may be held by a thread that is not there; but nobody else uses the handle there. */
        bool shared = pool->owner == child_pid();

        if (shared)
                pthread_mutex_lock(&pool->mutex);
        bool last = --pool->references == 0;
        if (shared)
                pthread_mutex_unlock(&pool->mutex);
        if (last)
                pool_destroy(pool);
}

void brood_pool_free(brood_pool *pool)
{
        if (pool == NULL)
                return;
        if (pool_check(pool) == 0) {
                brood_pool_terminate(pool);
                brood_process_join(pool->keeper, BROOD_FOREVER);
                completions_drop(&pool->callbacks);
        }
        pool_release(pool);
}

/* ---- the state of the pool ---- */

static bool keeper_lives(brood_pool *pool)
{
        return robust_alive(load_seq_cst(&pool->shared->life));
}

int pool_usable(brood_pool *pool, bool or_closed)
{
        uint32_t command = load_seq_cst(&pool->shared->command);

        if (command & POOL_TERMINATE)
                return -ECANCELED;
        if (or_closed && (command & POOL_CLOSE))
                return -EPIPE;
        return keeper_lives(pool) && load_seq_cst(&pool->shared->phase) == POOL_RUNNING ? 0 : -EPIPE;
}

static void give_command(brood_pool *pool, enum pool_command command)
{
        atomic_fetch_or(&pool->shared->command, command);
        eventfd_raise(pool->doorbell);
}

int brood_pool_close(brood_pool *pool)
{
        int r = pool_check(pool);

        if (r < 0)
                return r;
        /* Under the mutex, so that a task that was handed in before is in the ring before it closes. */
        pthread_mutex_lock(&pool->mutex);
        give_command(pool, POOL_CLOSE);
        ring_close(&pool->ring);
        pthread_mutex_unlock(&pool->mutex);
        return 0;
}

/* Whether the pool ended otherwise than by close or terminate.  The keeper's life is looked at first: what it said of its
 * end, it said before. */
static bool pool_broke(brood_pool *pool)
{
        bool lives = keeper_lives(pool);
        uint32_t phase = load_seq_cst(&pool->shared->phase);

        if (phase == POOL_BROKEN || phase == POOL_ENDED)
                return phase == POOL_BROKEN;
        return !lives && !(load_seq_cst(&pool->shared->command) & POOL_TERMINATE);
}

int brood_pool_terminate(brood_pool *pool)
{
        int r = pool_check(pool);

        if (r < 0)
                return r;
        /* A pool that broke stays broken: the command would make it look as if it had been ended on purpose. */
        if (!pool_broke(pool))
                give_command(pool, POOL_TERMINATE);
        return 0;
}

static bool is_over(void *pool)
{
        return callbacks_over(pool);
}

int brood_pool_join(brood_pool *pool, int timeout_ms)
{
        int64_t deadline = deadline_after_ms(timeout_ms);
        int r = pool_check(pool);

        if (r < 0)
                return r;
        if (pool_usable(pool, true) == 0)
                return -EINVAL;
        pthread_mutex_lock(&pool->mutex);
        bool expected = callbacks_expected(pool);
        pthread_mutex_unlock(&pool->mutex);
        r = expected ? ended_await(pool, is_over, pool, deadline) : 0;
        if (r < 0)
                return r;
        r = brood_process_join(pool->keeper, deadline_left_ms(deadline));
        if (r == -EAGAIN && deadline != DEADLINE_NOW)
                r = -ETIMEDOUT;
        if (r < 0)
                return r;
        return pool_broke(pool) ? -EPIPE : 0;
}

const char *brood_pool_reason(brood_pool *pool)
{
        char name[SIGNAL_NAME_MAX];
        int exitcode = 0;

        if (pool_check(pool) < 0 || !pool_broke(pool))
                return NULL;
        /* The kernel marks the life word a moment before the process can be waited for. */
        brood_process_join(pool->keeper, BROOD_FOREVER);
        pthread_mutex_lock(&pool->mutex);
        if (pool->reason[0] == '\0') {
                if (load_seq_cst(&pool->shared->phase) == POOL_BROKEN) {
                        memcpy(pool->reason, pool->shared->reason, POOL_REASON_MAX - 1);
                } else if (brood_process_exitcode(pool->keeper, &exitcode) < 0) {
                        snprintf(pool->reason, POOL_REASON_MAX, "the keeper has ended");
                } else if (exitcode < 0) {
                        snprintf(pool->reason, POOL_REASON_MAX, "the keeper was killed by %s",
                                 signal_name(-exitcode, name));
                } else {
                        snprintf(pool->reason, POOL_REASON_MAX, "the keeper ended with exit code %d", exitcode);
                }
        }
        pthread_mutex_unlock(&pool->mutex);
        return pool->reason;
}

int brood_pool_workers(brood_pool *pool, pid_t *pids, size_t room)
{
        int r = pool_check(pool);
        int count = 0;

        if (r < 0)
                return r;
        if (pids == NULL && room > 0)
                return -EINVAL;
        for (uint32_t i = 0; i < load_acquire(&pool->processes_most) && keeper_lives(pool); i++) {
                pid_t pid = (pid_t)load_acquire(&pool->workers[i].pid);
                if (pid != 0 && (size_t)count < room)
                        pids[count] = pid;
                count += pid != 0;
        }
        return count;
}

int brood_pool_processes(const brood_pool *pool)
{
        return pool == NULL ? -EINVAL : (int)load_relaxed(&pool->processes);
}

/* ---- tasks; the mutex is held ---- */

/* Put memory behind the first `need` bytes at `offset`, step by step. */
static int commit_upto(brood_pool *pool, size_t offset, size_t *committed, size_t need)
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

/* Memory for the slots of more workers, and the word to the keeper. */
static int resize(brood_pool *pool, uint32_t processes)
{
        int r = pool_usable(pool, true);

        if (r < 0)
                return r;
        if (commit_upto(pool, pool->workers_offset, &pool->workers_committed, processes * sizeof(struct worker_slot)) <
            0)
                return -ENOMEM;
        store_relaxed(&pool->processes, processes);
        if (processes > load_relaxed(&pool->processes_most))
                store_release(&pool->processes_most, processes);
        store_seq_cst(&pool->shared->wanted, processes);
        eventfd_raise(pool->doorbell);
        return 0;
}

int brood_pool_resize(brood_pool *pool, int processes)
{
        int r = pool_check(pool);

        if (r < 0)
                return r;
        if (processes <= 0 || processes > BROOD_POOL_PROCESSES_LIMIT)
                return -EINVAL;
        pthread_mutex_lock(&pool->mutex);
        r = resize(pool, (uint32_t)processes);
        pthread_mutex_unlock(&pool->mutex);
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
                int r = commit_upto(pool, pool->tasks_offset, &pool->tasks_committed,
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
        r = commit_upto(pool, pool->ring_offset, &pool->ring_committed,
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

int brood_pool_apply_async(brood_pool *pool, brood_result **ret_result, brood_task_function function, const void *arg,
                           size_t size)
{
        int r = pool_check(pool);

        if (r < 0)
                return r;
        if (function == NULL || (arg == NULL && size > 0))
                return -EINVAL;
        struct order order = {
                .function = function,
                .arg = arg,
                .arg_size = size,
                .room = pool->options.result_size,
        };
        return pool_submit(pool, &order, ret_result);
}

ssize_t brood_pool_apply(brood_pool *pool, brood_task_function function, const void *arg, size_t size, void *buf,
                         size_t room, int timeout_ms)
{
        brood_result *result;

        if (buf == NULL && room > 0)
                return -EINVAL;
        int r = brood_pool_apply_async(pool, &result, function, arg, size);
        if (r < 0)
                return r;
        ssize_t n = brood_result_get(result, buf, room, timeout_ms);
        brood_result_free(result);
        return n;
}
