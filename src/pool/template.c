/* SPDX-License-Identifier: MIT
 *
 * pool/template.c: the template of a warm pool, and what is born from it; see warm.h.
 */
#include "os/child.h"
#include "os/clock.h"
#include "os/descriptors.h"
#include "os/futex.h"
#include "os/lifeline.h"
#include "pool/groups.h"
#include "pool/keeper.h"

#include <errno.h>

enum { LOOK_MS = 10 };

/* A worker that is to be born. */
struct newborn {
        struct keeper *keeper; /* in our copy of its memory */
        uint32_t birth;
        int64_t line; /* what the keeper's line is behind, before the initializer has run */
};

/* The initializer may have closed it; then the keeper looks by itself. */
static void ring(const struct newborn *newborn)
{
        int doorbell = newborn->keeper->pool->doorbell;

        if (descriptor_is_marked(doorbell))
                eventfd_raise(doorbell);
}

/* What became of the birth; false: it is not awaited any more. */
static bool answer(const struct newborn *newborn, uint32_t pid)
{
        atomic_u64 *birth = &newborn->keeper->pool->shared->warm.birth;

        if (!cas_u64(birth, birth_make(newborn->birth, 0), birth_make(newborn->birth, pid)))
                return false;
        futex_wake(futex_low_half(birth), 1); /* the template */
        ring(newborn);
        return true;
}

/* Wait until the keeper has a pidfd of this process; false: it wants none. */
static bool await_adoption(const struct newborn *newborn, struct worker_slot *slot)
{
        const struct pool_shared *shared = newborn->keeper->pool->shared;
        uint32_t pid = (uint32_t)child_pid(), seen;

        for (;;) {
                /* Read before the pid: the keeper stores that before it goes on to the next birth. */
                bool current = birth_number(load_seq_cst(&shared->warm.birth)) == newborn->birth;
                seen = load_seq_cst(&slot->pid);
                if (seen == pid)
                        return true;
                if (!current)
                        return false;
                futex_wait(&slot->pid, seen, deadline_after_ms(LOOK_MS));
        }
}

/* Beside the death signal, which goes when a task changes its user: the keeper's lifeline, unless the initializer has closed it. */
static void tie(const struct newborn *newborn)
{
        struct lifeline *line = &newborn->keeper->warm.line;

        if (descriptor_id(line->read_end) != newborn->line)
                return;
        int branch = lifeline_branch(line);
        if (branch >= 0 && lifeline_arm(branch) < 0)
                descriptor_close(&branch);
        descriptor_close(&line->read_end);
}

static int run_newborn(void *arg)
{
        const struct newborn *newborn = arg;
        struct keeper *keeper = newborn->keeper;
        const struct warm_shared *warm = &keeper->pool->shared->warm;
        struct employment employment = {
                .number = warm->worker,
                .keeper = keeper->pid,
                .ticket = warm->ticket,
        };

        child_set_name("brood-worker");
        if (child_die_with_parent(keeper->pid) < 0)
                child_exit(0); /* the keeper has gone */
        tie(newborn);
        if (employment.number >= BROOD_POOL_PROCESSES_LIMIT || !answer(newborn, (uint32_t)child_pid()) ||
            !await_adoption(newborn, &keeper->pool->workers[employment.number]))
                child_exit(0);
        return worker_work(keeper->pool, &employment);
}

/* Bear a worker, and see to it that the keeper learns what became of it. */
static void bear(struct newborn *newborn)
{
        const brood_pool *pool = newborn->keeper->pool;
        struct warm_shared *warm = &pool->shared->warm;
        brood_process *process = NULL;
        char group[PATH_MAX];

        if (pool->groups != NULL)
                groups_path(pool, warm->worker, group);
        int r = brood_process_new(&process, &(brood_process_options){
                                                .target = run_newborn,
                                                .arg = newborn,
                                                .name = "brood-worker",
                                                .detached = true,
                                                .start_method = BROOD_START_FORK,
                                                .setup.cgroup = pool->groups != NULL ? group : NULL,
                                            });
        if (r == 0) {
                process_hide(process);
                r = brood_process_start(process);
        }
        while (r == 0 && load_seq_cst(&warm->birth) == birth_make(newborn->birth, 0)) {
                if (brood_process_is_alive(process) != 1)
                        break;
                futex_wait(futex_low_half(&warm->birth), 0, deadline_after_ms(LOOK_MS));
        }
        answer(newborn, BIRTH_FAILED); /* unless it has announced itself */
        brood_process_free(process);
}

int template_run(void *arg)
{
        struct keeper *keeper = arg;
        struct pool_shared *shared = keeper->pool->shared;
        struct newborn newborn = {
                .keeper = keeper,
                .line = descriptor_id(keeper->warm.line.read_end),
        };

        child_set_name("brood-template");
        descriptor_close(&keeper->warm.line.write_end);
        if (worker_enter(keeper->pool, keeper->pid, &keeper->host_sigchld) < 0)
                return 1;
        newborn.birth = load_seq_cst(&shared->warm.asked);
        bool ready = worker_initialize(keeper->pool, &shared->template);
        store_release(&shared->template.stage, ready ? WORKER_READY : WORKER_INIT_FAILED);
        if (!ready)
                return 1;
        ring(&newborn);
        for (;;) {
                uint32_t asked = load_seq_cst(&shared->warm.asked);
                if (asked != newborn.birth) {
                        newborn.birth = asked;
                        bear(&newborn);
                } else {
                        futex_wait(&shared->warm.asked, asked, DEADLINE_NEVER);
                }
        }
}
