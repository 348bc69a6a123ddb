/* SPDX-License-Identifier: MIT
 *
 * pool/pool.c: the host's side: the pool made, looked at, resized, closed, ended.
 */
#include "os/clock.h"
#include "os/cpu.h"
#include "os/descriptors.h"
#include "os/futex.h"
#include "os/memfd.h"
#include "os/options.h"
#include "os/pidfd.h"
#include "os/robust.h"
#include "os/signals.h"
#include "pool/ended.h"
#include "pool/groups.h"
#include "pool/start.h"
#include "pool/urgent.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the region ---- */

struct plan {
        struct ring_geometry ring;
        size_t shared, ring_shared, owners, workers, ring_slots, tasks, urgent, arena, modules, end;
        size_t commit; /* what has memory from the start; the rest gets it as it is used */
};

/* `modules` is how many of them the table for a keeper has that is no copy of the host; 0: it is one. */
static int plan_region(struct plan *plan, const brood_pool_options *options, size_t modules)
{
        ring_plan_tickets(&plan->ring, options->max_tasks);
        plan->shared = sizeof(struct region_head);
        plan->ring_shared = plan->shared + sizeof(struct pool_shared);
        plan->owners = plan->ring_shared + sizeof(struct ring_shared);
        plan->workers = plan->owners + sizeof(struct owners);
        plan->commit = plan->workers + (size_t)options->processes * sizeof(struct worker_slot);
        /* The smaller one first: then the beginnings of both lie in one page table of each process. */
        plan->ring_slots = round_up(plan->workers + BROOD_POOL_PROCESSES_LIMIT * sizeof(struct worker_slot), 4096);
        plan->tasks = round_up(plan->ring_slots + plan->ring.block_size, 4096);
        plan->urgent = round_up(plan->tasks + options->max_tasks * sizeof(struct task), 4096);
        plan->arena = plan->urgent + urgent_size(&plan->ring);
        plan->modules = plan->arena + round_up(options->memory, 64);
        plan->end = plan->modules + modules * sizeof(struct code_module);
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
        signature = layout_fold(signature, plan->ring_slots);
        signature = layout_fold(signature, plan->tasks);
        signature = layout_fold(signature, plan->arena);
        return layout_fold(signature, plan->modules);
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
        return start_check(options);
}

/* This process's view of the region's parts. */
static void use_region(brood_pool *pool, const struct plan *plan)
{
        pool->shared = region_at(&pool->region, plan->shared);
        pool->workers = region_at(&pool->region, plan->workers);
        pool->workers_offset = plan->workers;
        pool->tasks = region_at(&pool->region, plan->tasks);
        pool->tasks_offset = plan->tasks;
        pool->ring_offset = plan->ring_slots;
        ring_attach(&pool->ring, &plan->ring, &pool->region, plan->ring_shared, plan->owners, plan->ring_slots);
        pool->ring.watched = true;
        urgent_attach(pool, &plan->ring, plan->urgent);
}

int pool_attach(brood_pool *pool, int fd, size_t modules, struct code_module **ret_table)
{
        struct plan plan;

        int r = plan_region(&plan, &pool->options, modules);
        if (r == 0)
                r = region_attach(&pool->region, fd, REGION_POOL);
        if (r < 0)
                return r;
        if (pool->region.size < plan.end || region_check(&pool->region, REGION_POOL, pool_layout(&plan)) < 0) {
                region_drop(&pool->region);
                return -EUCLEAN;
        }
        use_region(pool, &plan);
        *ret_table = region_at(&pool->region, plan.modules);
        return 0;
}

/* ---- making and ending ---- */

/* Wait for the keeper's word that the workers are forked, or for its end. */
static int await_keeper(brood_pool *pool)
{
        enum { LOOK_MS = 20 };
        bool alive = true;
        uint32_t phase;

        /* Looked at once more after its end: it may have had its last word meanwhile. */
        while ((phase = load_seq_cst(&pool->shared->phase)) == POOL_STARTING) {
                if (!alive)
                        return -EAGAIN;
                alive = brood_process_is_alive(pool->keeper);
                if (alive)
                        futex_wait(&pool->shared->phase, phase, deadline_after_ms(LOOK_MS));
        }
        return phase == POOL_FAILED ? pool->shared->error : 0;
}

static void pool_destroy(brood_pool *pool)
{
        brood_process_free(pool->keeper);
        if (pool_is_ours(pool))
                groups_remove(pool);
        free(pool->groups);
        completions_close(&pool->callbacks);
        insight_close(pool);
        descriptor_close(&pool->doorbell);
        descriptor_close(&pool->bell);
        if (pool->region.head != NULL) {
                ring_detach(&pool->ring);
                urgent_detach(pool);
        }
        region_drop(&pool->region);
        /* In a forked child the arena's books may be those of a thread in the middle of a change; they are left alone. */
        if (pool_is_ours(pool))
                arena_drop(&pool->arena);
        module_map_drop(&pool->modules);
        if (pool->results != NULL)
                memory_unmap(pool->results, pool->options.max_tasks * sizeof *pool->results);
        pthread_mutex_destroy(&pool->mutex);
        free(pool);
}

static int pool_prepare(brood_pool *pool)
{
        bool apart = start_is_apart(&pool->options);
        struct code_module *table = NULL;
        struct plan plan;

        int r = module_map_take(&pool->modules);
        if (r < 0)
                return r;
        r = plan_region(&plan, &pool->options, apart ? pool->modules.count : 0);
        if (r < 0)
                return r;
        r = region_new(&pool->region, "brood-pool", REGION_POOL, pool_layout(&plan), plan.end, plan.commit);
        if (r < 0)
                return r;
        use_region(pool, &plan);
        pool->workers_committed = plan.commit - plan.workers;
        store_relaxed(&pool->processes, (uint32_t)pool->options.processes);
        store_relaxed(&pool->processes_most, (uint32_t)pool->options.processes);
        store_relaxed(&pool->shared->wanted, (uint32_t)pool->options.processes);
        store_relaxed(&pool->shared->counts.most, (uint32_t)pool->options.processes);
        arena_init(&pool->arena, &pool->region, plan.arena, plan.modules);
        if (apart) {
                r = region_commit(&pool->region, plan.modules, plan.end - plan.modules);
                if (r < 0)
                        return r;
                table = region_at(&pool->region, plan.modules);
                code_table_write(table, &pool->modules);
        }

        r = insight_open(pool);
        if (r < 0)
                return r;
        r = pool->options.cgroup != NULL ? groups_name(pool) : 0;
        pool->options.cgroup = NULL; /* it is the caller's */
        if (r < 0)
                return r;
        r = pool->doorbell = eventfd_new_marked();
        if (r < 0)
                return r;
        r = pool->bell = eventfd_new_marked();
        if (r < 0)
                return r;
        eventfd_raise(pool->bell); /* for ever: see pool/result.c */
        r = start_keeper(pool);
        /* The host's alone; so it is made after the fork, and while the keeper is at work. */
        if (r == 0)
                r = memory_reserve(pool->options.max_tasks * sizeof *pool->results, (void **)&pool->results);
        if (r == 0)
                r = await_keeper(pool);
        if (r == 0 && apart)
                code_table_follow(table, &pool->modules);
        return r;
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
        r = process_mark_init();
        if (r < 0)
                return r;
        brood_pool *pool = calloc(1, sizeof *pool);
        if (pool == NULL)
                return -ENOMEM;
        pool->options = known;
        pool->region = pool->insight.region = (struct region)REGION_NONE;
        pool->doorbell = pool->bell = -1;
        pool->owner = process_mark();
        pool->free_tasks = pool->dropped = pool->dropped_end = NO_TASK;
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
        return pool_is_ours(pool) ? 0 : -EPERM;
}

void pool_hold(brood_pool *pool)
{
        pthread_mutex_lock(&pool->mutex);
        pool->references++;
        pthread_mutex_unlock(&pool->mutex);
}

void pool_release_locked(brood_pool *pool)
{
        bool last = --pool->references == 0;

        pthread_mutex_unlock(&pool->mutex);
        if (last)
                pool_destroy(pool);
}

void pool_release(brood_pool *pool)
{
        /* In a forked child the mutex may be held by a thread that is not there; but nobody else uses the handle there. */
        if (pool_is_ours(pool)) {
                pthread_mutex_lock(&pool->mutex);
                pool_release_locked(pool);
        } else if (--pool->references == 0) {
                pool_destroy(pool);
        }
}

void brood_pool_free(brood_pool *pool)
{
        if (pool == NULL)
                return;
        if (pool_check(pool) == 0) {
                brood_pool_terminate(pool);
                brood_process_join(pool->keeper, BROOD_FOREVER);
                groups_remove(pool);
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
        if (or_closed && load_relaxed(&pool->closed))
                return -EPIPE;
        return keeper_lives(pool) && load_seq_cst(&pool->shared->phase) == POOL_RUNNING ? 0 : -EPIPE;
}

static void give_command(brood_pool *pool, enum pool_command command)
{
        atomic_fetch_or(&pool->shared->command, command);
        eventfd_raise(pool->doorbell);
}

void pool_seal(brood_pool *pool)
{
        give_command(pool, POOL_CLOSE);
        urgent_close(pool);
        ring_close(&pool->ring);
}

int brood_pool_close(brood_pool *pool)
{
        int r = pool_check(pool);

        if (r < 0)
                return r;
        /* Under the mutex, so that a task that was handed in before is in the ring before it closes. */
        pthread_mutex_lock(&pool->mutex);
        store_relaxed(&pool->closed, 1);
        if (pool->parents == 0)
                pool_seal(pool);
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

/* Whether there is nothing more for the host to do before the workers end. */
static bool is_over(void *arg)
{
        const brood_pool *pool = arg;

        return pool->parents == 0 && !callbacks_expected(pool);
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
        bool over = is_over(pool);
        pthread_mutex_unlock(&pool->mutex);
        r = over ? 0 : ended_await(pool, is_over, pool, deadline);
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

/* ---- its size ---- */

/* Memory for the slots of more workers, and the word to the keeper. */
static int resize(brood_pool *pool, uint32_t processes)
{
        int r = pool_usable(pool, true);

        if (r < 0)
                return r;
        if (pool_commit_upto(pool, pool->workers_offset, &pool->workers_committed,
                             processes * sizeof(struct worker_slot)) < 0 ||
            insight_grow(pool, processes) < 0)
                return -ENOMEM;
        store_relaxed(&pool->processes, processes);
        if (processes > load_relaxed(&pool->processes_most)) {
                store_release(&pool->processes_most, processes);
                store_release(&pool->shared->counts.most, processes);
        }
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
