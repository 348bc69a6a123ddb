/* SPDX-License-Identifier: MIT
 *
 * pool/worker.c: a worker: takes a task from the ring, runs it, tells the outcome.
 *
 *     claim an index from the ring           the ring's slot is READING, ours
 *     worker.task = ticket                   what the keeper looks at if we die
 *     task QUEUED -> RUNNING, ours (CAS)     the task has begun
 *     release the ring's slot
 *     run
 *     value, outcome
 *     task -> DONE (exchange)                the task has ended; tell whoever asked (pool/ended.h)
 *
 * Killed before the CAS: the slot is still READING, and its recovery puts the index back; the task has not begun.  Between the CAS
 * and the release: the index comes back too, but the next worker finds the task not QUEUED, and throws the index away.  Between
 * the CAS and the exchange: the keeper finds RUNNING with our number and reports our death.  After it: the task has ended; the
 * keeper tells those who asked, in case that we had not.
 */
#include "os/child.h"
#include "os/clock.h"
#include "os/signals.h"
#include "pool/ended.h"

#include <errno.h>
#include <string.h>

/* Run one call and check what it returned. */
static int64_t call(const struct task *task, const unsigned char *arg, unsigned char *out)
{
        brood_task_function function = (brood_task_function)(uintptr_t)task->function;
        ssize_t value = function(arg, task->arg_size, out, task->room);

        return value > 0 && (size_t)value > task->room ? -EMSGSIZE : value;
}

static void run(brood_pool *pool, struct task *task)
{
        const unsigned char *arg = region_at(&pool->region, task->arg);
        unsigned char *out = region_at(&pool->region, task->out);

        if (task->items == 0) {
                task->value = call(task, arg, out);
        } else {
                for (uint64_t i = 0; i < task->items; i++, arg += task->arg_size, out += task->room) {
                        int64_t value = call(task, arg, out);
                        if (value < 0) {
                                task->value = value;
                                break;
                        }
                        memset(out + value, 0, task->room - (size_t)value);
                        task->value = (int64_t)((i + 1) * task->room);
                }
        }
        task->outcome = task->value < 0 ? BROOD_OUTCOME_ERROR : BROOD_OUTCOME_OK;
}

/* QUEUED -> RUNNING; false if the ticket is stale. */
static bool begin(struct task *task, uint64_t ticket, uint32_t number)
{
        uint64_t state = load_seq_cst(&task->state);

        while (task_generation(state) == ticket_generation(ticket) && task_kind(state) == TASK_QUEUED) {
                uint64_t running = task_state(ticket_generation(ticket), TASK_RUNNING, number) | (state & TASK_ASKED);
                if (cas_u64(&task->state, state, running))
                        return true;
                state = load_seq_cst(&task->state);
        }
        return false;
}

static void serve(brood_pool *pool, struct worker_slot *slot, uint32_t number)
{
        struct ring_claim claim;

        while (ring_claim(&pool->ring, &claim, sizeof(uint64_t), DEADLINE_NEVER) == 0) {
                uint64_t ticket;
                memcpy(&ticket, claim.bytes, sizeof ticket);
                struct task *task = &pool->tasks[ticket_index(ticket) % pool->options.max_tasks];

                store_release(&slot->task, ticket);
                bool begun = begin(task, ticket, number);
                ring_release(&pool->ring, &claim);
                if (!begun)
                        continue;
                task->worker = (uint32_t)child_pid();
                run(pool, task);
                child_flush();
                uint64_t before =
                    exchange_seq_cst(&task->state, task_state(ticket_generation(ticket), TASK_DONE, number));
                if (before & TASK_ASKED)
                        ended_tell(pool, task, before);
        }
        store_release(&slot->stage, WORKER_LEAVING);
}

int worker_run(brood_pool *pool, uint32_t number, const struct sigaction *sigchld, pid_t keeper)
{
        struct worker_slot *slot = &pool->workers[number];

        /* Beside the lifeline: the keeper has one thread, so that its death signal can be trusted. */
        if (child_die_with_parent(keeper) < 0)
                return 1;
        child_set_name("brood-worker");
        signals_restore_sigchld(sigchld);
        signals_restore(process_parent_mask(pool->keeper));

        if (pool->options.initializer != NULL) {
                int verdict = pool->options.initializer(pool->options.initarg);
                if (verdict != 0) {
                        slot->verdict = verdict;
                        store_release(&slot->stage, WORKER_INIT_FAILED);
                        return 1;
                }
        }
        fetch_add_relaxed(&pool->shared->initialised, 1);
        store_release(&slot->stage, WORKER_READY);
        serve(pool, slot, number);
        return 0;
}
