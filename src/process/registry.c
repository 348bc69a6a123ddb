/* SPDX-License-Identifier: MIT */
#include "process/registry.h"
#include "os/atfork.h"
#include "os/child.h"
#include "os/clock.h"
#include "os/descriptors.h"
#include "os/memfd.h"
#include "os/pidfd.h"
#include "os/poller.h"
#include "process/server.h"

#include <errno.h>

#define REGISTRY_EMPTY                                                                                                 \
        {                                                                                                              \
                .line = LIFELINE_NONE, .poller = -1, .none_left = -1, .self = -1, .parent_sentinel = -1,               \
                .server_channel = -1                                                                                   \
        }

static struct registry registry = REGISTRY_EMPTY;

/* Let go of what this process has of a registry: its own after a failed start, its parent's in a forked child.  What a fork
 * shares with the parent, such as the poller's set, is left as it is; only our descriptors of it are closed. */
static void registry_drop(void)
{
        lifeline_leave(&registry.line);
        descriptor_close(&registry.poller);
        descriptor_close(&registry.none_left);
        if (registry.gate != NULL && !registry.starting)
                memory_unmap(registry.gate, sizeof *registry.gate);
        brood_process *current = registry.current;
        int parent_sentinel = registry.parent_sentinel;
        if (registry.starting) {
                /* This is the child of a start, and knows its parent by what that one knew itself by. */
                descriptor_close(&parent_sentinel);
                parent_sentinel = registry.self;
        } else {
                descriptor_close(&registry.self);
        }
        /* The parent's server is the parent's. */
        descriptor_close(&registry.server_channel);
        brood_process_free(registry.server);
        /* To hold the other end of a sibling's stdin would keep the sibling from ever reading its end. */
        for (brood_process *sibling = registry.running; sibling != NULL; sibling = sibling->running_next)
                for (int i = 0; i < 3; i++)
                        descriptor_close(&sibling->captured[i]);
        registry = (struct registry)REGISTRY_EMPTY;
        registry.current = current;
        registry.parent_sentinel = parent_sentinel;
}

static int registry_make(void)
{
        int r = lifeline_open(&registry.line);
        if (r < 0)
                return r;
        r = registry.self = pidfd_of(child_pid());
        if (r < 0)
                goto fail;
        void *gate;
        r = memory_map(-1, sizeof(struct gate), &gate);
        if (r < 0)
                goto fail;
        registry.gate = gate;
        r = registry.poller = poller_new();
        if (r < 0)
                goto fail;
        r = registry.none_left = eventfd_new();
        if (r < 0)
                goto fail;
        r = poller_add(registry.poller, registry.none_left, NULL);
        if (r < 0)
                goto fail;
        eventfd_raise(registry.none_left);
        registry.ended_end = &registry.ended;
        registry.owner = child_pid();
        return 0;
fail:
        registry_drop();
        return r;
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
        *ret_registry = &registry;
        return 0;
}

void registry_unlock(void)
{
        process_unlock();
}

struct registry *registry_in_child(void)
{
        return &registry;
}

int registry_add(struct registry *r, brood_process *process)
{
        /* The server is watched, though not waited for: when it has ended, it is reaped with the others. */
        bool waitable = !process->options.detached && !process->hidden;
        if (!waitable && !process->is_server)
                return 0;
        int error = poller_add(r->poller, process->channel < 0 ? process->pidfd : process->channel, process);
        if (error < 0)
                return error;
        process->polled = true;
        if (!waitable)
                return 0;
        process->waitable = true;
        process->running_next = r->running;
        process->running_at = &r->running;
        if (r->running != NULL)
                r->running->running_at = &process->running_next;
        r->running = process;
        if (r->waitable++ == 0)
                eventfd_lower(r->none_left);
        return 0;
}

void registry_report(struct registry *r, brood_process *process)
{
        if (!process->waitable)
                return;
        process->waitable = false;
        for (brood_process **at = &r->ended; *at != NULL; at = &(*at)->next) {
                if (*at != process)
                        continue;
                *at = process->next;
                if (r->ended_end == &process->next)
                        r->ended_end = at;
                break;
        }
        if (--r->waitable == 0)
                eventfd_raise(r->none_left);
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
                int error = server_told(process->channel, ret_ending);
                if (error != -EPIPE)
                        return error;
                /* Whoever adopts the server's children reaps this one, and we see its end ourselves. */
                process->orphaned = true;
                if (process->polled) {
                        poller_remove(r->poller, process->channel);
                        process->polled = poller_add(r->poller, process->pidfd, process) == 0;
                }
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
        process->ending = ending;
        process->ended_ns = clock_wall();
        if (process->running_at != NULL) {
                *process->running_at = process->running_next;
                if (process->running_next != NULL)
                        process->running_next->running_at = process->running_at;
                process->running_at = NULL;
        }
        store_release(&process->state, PROCESS_ENDED);
        if (process->polled) {
                poller_remove(r->poller, process->channel < 0 || process->orphaned ? process->pidfd : process->channel);
                process->polled = false;
        }
        if (process->waitable) {
                process->next = NULL;
                *r->ended_end = process;
                r->ended_end = &process->next;
        }
        return 0;
}

void registry_sweep(struct registry *r)
{
        void *ready[64];
        int n;

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
