/* SPDX-License-Identifier: MIT
 *
 * pool/warm.c: the keeper of a warm pool; see warm.h.
 */
#include "pool/warm.h"
#include "os/child.h"
#include "os/clock.h"
#include "os/descendants.h"
#include "os/descriptors.h"
#include "os/futex.h"
#include "os/signals.h"
#include "pool/groups.h"

#include <errno.h>

enum { LOOK_MS = 20 };

int warm_begin(struct keeper *keeper)
{
        struct warm *warm = &keeper->warm;
        char group[PATH_MAX];

        warm->begun = true;
        /* Before the host is told that all is well: can there be groups at all? */
        int r = keeper->pool->groups != NULL ? groups_make(keeper->pool, 0, group) : 0;
        if (r == 0)
                r = descendants_adopt();
        if (r == 0)
                r = lifeline_open(&warm->line);
        if (r == 0)
                r = keeper->fds[AT_CHILDREN] = signals_sigchld_descriptor();
        return r < 0 ? r : 0;
}

static int start_template(struct keeper *keeper)
{
        struct worker_slot *slot = &keeper->pool->shared->template;
        brood_process *process;

        int r = brood_process_new(&process, &(brood_process_options){
                                                .target = template_run,
                                                .arg = keeper,
                                                .name = "brood-template",
                                                .start_method = BROOD_START_FORK,
                                            });
        if (r < 0)
                return r;
        process_hide(process);
        store_relaxed(&slot->stage, WORKER_STARTING);
        r = brood_process_start(process);
        if (r < 0) {
                brood_process_free(process);
                return r;
        }
        keeper->warm.template = process;
        keeper->fds[AT_TEMPLATE] = brood_process_sentinel(process);
        store_release(&slot->pid, (uint32_t)brood_process_pid(process));
        return 0;
}

/* Nobody is to answer to the last birth any more. */
static void count_on(struct keeper *keeper)
{
        keeper->warm.birth++;
        store_seq_cst(&keeper->pool->shared->warm.birth, birth_make(keeper->warm.birth, 0));
}

/* The group that the newborn will go into is watched while nobody is in it. */
static int prepare_group(struct keeper *keeper, const struct post *post)
{
        char group[PATH_MAX];
        int r = groups_make(keeper->pool, post->number, group);

        if (r == 0)
                oom_watch_begin(&keeper->warm.watch, group);
        return r;
}

static int order_birth(struct keeper *keeper, struct post *post, uint64_t ticket)
{
        struct warm_shared *shared = &keeper->pool->shared->warm;
        int r = keeper->pool->groups != NULL ? prepare_group(keeper, post) : 0;

        if (r < 0)
                return r;
        post_prepare(keeper, post, ticket);
        shared->worker = post->number;
        shared->ticket = ticket;
        count_on(keeper);
        keeper->warm.expected = post;
        store_seq_cst(&shared->asked, keeper->warm.birth);
        futex_wake(&shared->asked, 1);
        return 0;
}

/* A template, or a newborn, cannot be had now. */
static void try_again_later(struct keeper *keeper, int error)
{
        keeper->warm.error = error;
        keeper->retry_at = deadline_after_ms(LOOK_MS);
}

int warm_start_missing(struct keeper *keeper, bool closed, bool drained)
{
        struct warm *warm = &keeper->warm;

        if (keeper->retry_at != DEADLINE_NEVER && clock_now() < keeper->retry_at)
                return warm->error;
        keeper->retry_at = DEADLINE_NEVER;
        if (warm->template == NULL) {
                int r = start_template(keeper);
                if (r < 0)
                        try_again_later(keeper, r);
                return r;
        }
        if (load_acquire(&keeper->pool->shared->template.stage) != WORKER_READY)
                return 0; /* the initializer may take as long as it wants */
        if (warm->expected != NULL)
                return warm->error;
        for (uint32_t i = 0; i < keeper->wanted; i++) {
                if (keeper->posts[i].process != NULL)
                        continue;
                uint64_t ticket = closed ? again_take(keeper) : 0;
                int r = !drained || ticket != 0 ? order_birth(keeper, &keeper->posts[i], ticket) : 0;
                if (r < 0) {
                        again_give_back(keeper, ticket);
                        try_again_later(keeper, r);
                }
                break;
        }
        return warm->error;
}

static void birth_failed(struct keeper *keeper, struct post *post)
{
        descriptor_close(&keeper->warm.watch.group);
        again_give_back(keeper, post->given);
        store_relaxed(&keeper->pool->workers[post->number].stage, WORKER_NONE);
}

/* The newborn of the last birth has announced itself, or there will be none. */
static void take_birth(struct keeper *keeper)
{
        struct warm *warm = &keeper->warm;
        struct post *post = warm->expected;
        uint32_t pid = birth_pid(load_seq_cst(&keeper->pool->shared->warm.birth));
        brood_process *process;

        if (post == NULL || pid == 0)
                return;
        warm->expected = NULL;
        warm->error = pid == BIRTH_FAILED ? -EAGAIN : process_adopt(&process, "brood-worker", (pid_t)pid, &warm->watch);
        if (warm->error < 0) {
                count_on(keeper);
                birth_failed(keeper, post);
                try_again_later(keeper, warm->error);
                return;
        }
        post_fill(keeper, post, process);
        futex_wake(&keeper->pool->workers[post->number].pid, 1);
}

static void template_ended(struct keeper *keeper)
{
        struct warm *warm = &keeper->warm;
        struct worker_slot *slot = &keeper->pool->shared->template;
        struct post *post;
        int exitcode = 0;

        if (brood_process_join(warm->template, 0) < 0)
                return;
        brood_process_exitcode(warm->template, &exitcode);
        brood_process_free(warm->template);
        warm->template = NULL;
        keeper->fds[AT_TEMPLATE] = -1;
        /* What it has borne, lives; what it has not borne, will not be wanted. */
        take_birth(keeper);
        post = warm->expected;
        warm->expected = NULL;
        if (post != NULL) {
                count_on(keeper);
                birth_failed(keeper, post);
        }
        judge_initializer(keeper, slot, load_relaxed(&slot->pid), exitcode);
}

/* What has been borne by now is a worker, which goes with the others; what has not, finds that it is not wanted. */
void warm_end(struct keeper *keeper)
{
        brood_process_free(keeper->warm.template);
        keeper->warm.template = NULL;
        take_birth(keeper);
        count_on(keeper);
        lifeline_leave(&keeper->warm.line);
        descriptor_close(&keeper->warm.watch.group);
        descriptor_close(&keeper->fds[AT_CHILDREN]);
}

static bool is_known(const struct keeper *keeper, pid_t pid)
{
        if (keeper->warm.template != NULL && brood_process_pid(keeper->warm.template) == pid)
                return true;
        for (uint32_t i = 0; i < keeper->count; i++)
                if (keeper->posts[i].process != NULL && brood_process_pid(keeper->posts[i].process) == pid)
                        return true;
        return false;
}

/* Orphans of the tasks', and newborns that were not wanted.  One of ours that has ended is seen by its pidfd, and then we are here
 * again. */
static void reap_strangers(const struct keeper *keeper)
{
        pid_t pid;

        while (keeper->warm.expected == NULL && (pid = descendants_ended()) > 0 && !is_known(keeper, pid))
                child_reap(pid);
}

void warm_look(struct keeper *keeper)
{
        if (keeper->ready[AT_CHILDREN])
                signals_sigchld_clear(keeper->fds[AT_CHILDREN]);
        take_birth(keeper);
        if (keeper->ready[AT_TEMPLATE])
                template_ended(keeper);
        reap_strangers(keeper);
}

bool warm_awaits(const struct keeper *keeper, const struct post *post)
{
        return keeper->warm.expected == post;
}

bool warm_lacks_template(const struct keeper *keeper)
{
        return keeper->pool->options.warm && keeper->warm.template == NULL;
}

int64_t warm_next(const struct keeper *keeper)
{
        bool starting =
            keeper->warm.template != NULL && load_acquire(&keeper->pool->shared->template.stage) != WORKER_READY;

        return keeper->warm.expected != NULL || starting ? deadline_after_ms(LOOK_MS) : DEADLINE_NEVER;
}
