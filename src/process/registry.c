/* SPDX-License-Identifier: MIT */
#include "process/registry.h"
#include "os/atfork.h"
#include "os/child.h"
#include "os/clock.h"
#include "os/descriptors.h"
#include "os/memfd.h"
#include "os/pidfd.h"
#include "os/poller.h"
#include "os/syscall.h"
#include "process/guardian.h"
#include "process/news.h"
#include "process/told.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

static struct registry registry = {
        .line = LIFELINE_NONE,
        .branch = -1,
        .giving = -1,
        .poller = -1,
        .none_left = -1,
        .server_channel = -1,
        .self = -1,
        .parent_sentinel = -1,
        .tie = -1,
};

/* The child of a start keeps the branch that it was given, and knows its parent by what that one knew itself by. */
CHILD_CODE static void keep_what_was_given(void)
{
        if (registry.branch == registry.giving)
                registry.branch = -1;
        registry.giving = -1;
        if (registry.parent_sentinel >= 0 && descriptor_is_marked(registry.parent_sentinel))
                descriptor_close(&registry.parent_sentinel);
        registry.parent_sentinel = registry.self;
        registry.self = -1;
}

/* The line, what hangs on it, and our own pidfd: all of them are closed, or have been. */
CHILD_CODE static void forget_line(void)
{
        registry.line = (struct lifeline)LIFELINE_NONE;
        registry.branch = registry.self = -1;
        registry.branch_user = NULL;
}

/* Let go of what this process has of a registry: its own after a failed start, its parent's in a forked child.  What a fork
 * shares with the parent, such as the poller's set, is left as it is; only our descriptors of it are closed.  Somebody may have
 * closed all descriptors, and have others under these numbers now. */
CHILD_CODE static void registry_drop(void)
{
        int *const descriptors[] = {
                &registry.line.read_end, &registry.line.write_end, &registry.branch, &registry.poller,
                &registry.none_left,     &registry.server_channel, &registry.self,
        };

        if (registry.starting)
                keep_what_was_given();
        else if (registry.gate != NULL)
                memory_unmap(registry.gate, sizeof *registry.gate);
        if (lifeline_is_open(&registry.line))
                descriptors_leave(descriptors, sizeof descriptors / sizeof *descriptors);
        forget_line();
        registry.poller = registry.none_left = registry.server_channel = -1;
        if (registry.tie >= 0 && lifeline_is_branch(registry.tie))
                descriptor_close(&registry.tie);
        registry.tie = -1;
        if (registry.server != NULL)
                brood_process_free(registry.server);
        /* To hold the other end of a sibling's stdin would keep the sibling from ever reading its end. */
        for (brood_process *sibling = registry.capturing ? registry.running : NULL; sibling != NULL;
             sibling = sibling->running_next)
                for (int i = 0; i < 3; i++)
                        descriptor_close(&sibling->captured[i]);
        if (registry.news != NULL)
                news_forget(&registry.news);
        brood_process *current = registry.current;
        memset(&registry.owner, 0, sizeof registry - offsetof(struct registry, owner));
        registry.current = current;
}

static int make_line(void)
{
        int r = registry.self = pidfd_of_marked(child_pid());

        if (r >= 0)
                r = lifeline_open(&registry.line);
        if (r >= 0)
                r = registry.branch = lifeline_branch(&registry.line);
        if (r >= 0)
                return 0;
        descriptor_close(&registry.self);
        lifeline_leave(&registry.line);
        return r;
}

static int registry_make(void)
{
        void *gate;

        int r = make_line();
        if (r == 0)
                r = memory_map(-1, sizeof(struct gate), &gate);
        if (r < 0) {
                registry_drop();
                return r;
        }
        registry.gate = gate;
        registry.ended_end = &registry.ended;
        registry.owner = child_pid();
        return 0;
}

int registry_lock(struct registry **ret_registry)
{
        static bool hooked; /* stays true in children: the hook is inherited */
        int r = process_lock();

        if (r < 0)
                return r;
        if (!hooked) {
                atfork_add(registry_drop);
                hooked = true;
        }
        /* A child of a raw clone or of _Fork(3) has run no hook, and finds its parent's registry. */
        if (registry.owner != 0 && registry.owner != child_pid())
                registry_drop();
        if (registry.owner == 0) {
                r = registry_make();
                if (r < 0) {
                        process_unlock();
                        return r;
                }
        }
        registry.depth++;
        *ret_registry = &registry;
        return 0;
}

void registry_unlock(void)
{
        struct news *news = NULL;

        if (--registry.depth == 0) {
                news = registry.news;
                registry.news = NULL;
        }
        process_unlock();
        news_tell(news);
}

CHILD_CODE struct registry *registry_in_child(void)
{
        return &registry;
}

/* Whoever never waits for any child, such as the keeper of a pool, needs no poller. */
static int poller_make(struct registry *r)
{
        int poller = poller_new(), none_left = eventfd_new();
        int error = poller < 0 ? poller : none_left < 0 ? none_left : poller_add(poller, none_left, NULL);

        if (error < 0) {
                descriptor_close(&poller);
                descriptor_close(&none_left);
                return error;
        }
        r->poller = poller;
        r->none_left = none_left;
        return 0;
}

static int poll_for(struct registry *r, brood_process *process)
{
        bool by_channel = process->channel >= 0 && !process->orphaned;
        int error = r->poller < 0 ? poller_make(r) : 0;

        if (error == 0)
                error = poller_add(r->poller, by_channel ? process->channel : process->pidfd, process);
        process->polled = error == 0;
        if (process->polled && process->running_at != NULL)
                r->unpolled--;
        return error;
}

static void poll_no_more(struct registry *r, brood_process *process)
{
        bool by_channel = process->channel >= 0 && !process->orphaned;

        if (!process->polled)
                return;
        poller_remove(r->poller, by_channel ? process->channel : process->pidfd);
        process->polled = false;
        if (process->running_at != NULL)
                r->unpolled++;
}

int registry_add(struct registry *r, brood_process *process)
{
        bool waitable = !process->options.detached && !process->hidden;

        /* The server is watched, though not waited for: when it has ended, it is reaped with the others. */
        if (process->is_server || (waitable && r->sleepers > 0)) {
                int error = poll_for(r, process);
                if (error < 0)
                        return error;
        }
        if (!waitable)
                return 0;
        process->waitable = true;
        process->running_next = r->running;
        process->running_at = &r->running;
        if (r->running != NULL)
                r->running->running_at = &process->running_next;
        r->running = process;
        r->unpolled += !process->polled;
        r->waitable++;
        if (r->none_told) {
                eventfd_lower(r->none_left);
                r->none_told = false;
        }
        return 0;
}

int registry_poll_all(struct registry *r)
{
        /* The youngest, which come first, are mostly those that are not there yet. */
        for (brood_process *process = r->running; r->unpolled > 0 && process != NULL; process = process->running_next) {
                int error = process->polled ? 0 : poll_for(r, process);
                if (error < 0)
                        return error;
        }
        return 0;
}

void registry_report(struct registry *r, brood_process *process)
{
        if (!process->waitable)
                return;
        process->waitable = false;
        if (process->ended_at != NULL) {
                *process->ended_at = process->ended_next;
                if (process->ended_next != NULL)
                        process->ended_next->ended_at = process->ended_at;
                else
                        r->ended_end = process->ended_at;
                process->ended_at = NULL;
        }
        if (--r->waitable == 0 && r->sleepers > 0) {
                eventfd_raise(r->none_left);
                r->none_told = true;
        }
}

int registry_take_branch(struct registry *r, const brood_process *process)
{
        /* When the fork server does not answer, what has become of a child is not known, nor whether it still uses its branch. */
        /* After a process has closed all of its descriptors. */
        if (!lifeline_is_open(&r->line)) {
                forget_line();
                int error = make_line();
                if (error < 0)
                        return error;
        }
        bool certain = !process->options.detached && process->options.start_method != BROOD_START_FORKSERVER &&
                       process->options.setup.tree == BROOD_TREE_BROOD; /* a guardian keeps it, too */

        if (!certain || r->branch_user != NULL) {
                int branch = lifeline_branch(&r->line);
                if (!certain || branch < 0)
                        return branch;
                /* The one before lives on, and has its branch; who starts many beside it is not to open one for each.  Under the
                 * same number, so that what a child closes still lies side by side. */
                int error = descriptor_become(r->branch, &branch);
                if (error < 0)
                        return error;
        }
        r->branch_user = process;
        return r->branch;
}

void registry_leave_branch(const struct registry *r, int *branch)
{
        if (*branch != r->branch)
                descriptor_close(branch);
}

void registry_put_branch(struct registry *r, const brood_process *process, int *branch, bool born)
{
        registry_leave_branch(r, branch);
        if (r->branch_user == process && !born)
                r->branch_user = NULL;
        *branch = -1;
}

void registry_await_told(const brood_process *process)
{
        enum { MOST_MS = 1000 };

        if (process->channel >= 0 && pidfd_ended(process->pidfd))
                pidfd_wait(process->channel, deadline_after_ms(MOST_MS)); /* or the server's end */
}

/* How it has ended, from whoever reaps it: the fork server tells what it knows, and the others we reap ourselves. */
static int take_ending(struct registry *r, brood_process *process, struct ending *ret_ending)
{
        if (process->channel >= 0 && !process->orphaned) {
                int error = hear_ending(process->channel, ret_ending);
                if (error != -EPIPE)
                        return error;
                /* Whoever adopts the server's children reaps this one, and we see its end ourselves. */
                bool polled = process->polled;
                poll_no_more(r, process);
                process->orphaned = true;
                guardian_lost(process);
                if (polled)
                        (void)poll_for(r, process);
        }
        int error = pidfd_reap(process->pidfd, ret_ending);
        if (error == -EAGAIN && process->orphaned && !process->options.detached && pidfd_ended(process->pidfd)) {
                /* Whoever adopted it may take its time, or may never do it, and brood_wait() is not to wait for that. */
                enum { LOOKS = 25 }; /* about 50 ms */
                pidfd_wait_reaped(process->pidfd);
                error = pidfd_reap(process->pidfd, ret_ending);
                if (error == -EAGAIN && ++process->looks > LOOKS)
                        error = -ENODATA;
        }
        return error;
}

int registry_reap(struct registry *r, brood_process *process)
{
        if (load_acquire(&process->state) == PROCESS_ENDED)
                return 0;
        struct ending ending = { .exitcode = BROOD_EXITCODE_UNKNOWN };
        int error = take_ending(r, process, &ending);
        if (error == -EAGAIN)
                return error;
        guardian_end(process);
        process->ending = ending;
        process->ended_ns = clock_wall();
        process->out_of_memory =
            oom_watch_end(&process->oom) && ending.exitcode == -SIGKILL && !load_relaxed(&process->killed);
        poll_no_more(r, process);
        if (process->running_at != NULL) {
                *process->running_at = process->running_next;
                if (process->running_next != NULL)
                        process->running_next->running_at = process->running_at;
                process->running_at = NULL;
                r->unpolled--;
        }
        if (r->branch_user == process)
                r->branch_user = NULL;
        news_ended(r, process);
        store_release(&process->state, PROCESS_ENDED);
        if (process->waitable) {
                process->ended_next = NULL;
                process->ended_at = r->ended_end;
                *r->ended_end = process;
                r->ended_end = &process->ended_next;
        }
        return 0;
}

void registry_sweep(struct registry *r)
{
        void *ready[64];
        int n;

        if (r->running == NULL && r->server == NULL)
                return;
        (void)registry_poll_all(r); /* those for which there is no room yet are looked for the next time */
        if (r->poller < 0)
                return;
        do {
                n = poller_wait(r->poller, ready, 64, DEADLINE_NOW);
                int reaped = 0;
                for (int i = 0; i < n; i++)
                        if (ready[i] != NULL)
                                reaped += registry_reap(r, ready[i]) == 0;
                if (reaped == 0)
                        break;
        } while (n == 64);
}
