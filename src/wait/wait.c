/* SPDX-License-Identifier: MIT
 *
 * wait/wait.c: waiting for many.
 *
 * A descriptor says that it is worth looking, and the object says whether it is ready.  It may also be ready without its
 * descriptor saying so: a lease of a dead process comes back when somebody asks for it, and a process that was killed between
 * a change and its announcement has announced nothing.  So all objects are looked at after each sleep, and no sleep is longer
 * than a slice.
 *
 * And a descriptor may be readable for as long as one likes while its object is not ready: that of a closed queue whose last
 * messages are leased to others.  Where sleeps end at once again and again for such, they are left out of a short one.
 */
#include "os/clock.h"
#include "os/descriptors.h"
#include "os/poller.h"
#include "pool/pool.h"
#include "queue/queue.h"

#include <brood/connection.h>
#include <brood/event.h>
#include <brood/process.h>
#include <brood/wait.h>

#include <errno.h>
#include <limits.h>
#include <stdlib.h>

enum {
        FEW = 16, /* entries that need no memory */
        SLICE_MS = 250,
        VAIN_MOST = 4, /* sleeps in a row that ended at once for nothing... */
        VAIN_NS = 1000000,
        NAP_MOST_MS = 16, /* ...after which there are naps without those that end them */
};

struct waiting {
        brood_waitable *what;
        size_t count;
        /* Of each entry, and behind them of the poller that all results share. */
        int *fds; /* -1: none */
        unsigned char *polled, *ready;
        bool has_results;
        unsigned vain;
};

/* ---- one entry ---- */

/* The descriptor to poll for it, or -1 for a result; or what is wrong with the entry. */
static int descriptor_of(const brood_waitable *one, int *ret_fd)
{
        int fd;

        *ret_fd = -1;
        switch (one->kind) {
        case BROOD_WAITABLE_FD:
                if (one->fd < 0)
                        return -EBADF;
                *ret_fd = one->fd;
                return 0;
        case BROOD_WAITABLE_PROCESS:
                fd = brood_process_sentinel(one->process);
                break;
        case BROOD_WAITABLE_QUEUE:
                fd = brood_queue_fileno(one->queue);
                break;
        case BROOD_WAITABLE_EVENT:
                fd = brood_event_fileno(one->event);
                break;
        case BROOD_WAITABLE_CONNECTION:
                fd = brood_connection_fileno(one->connection);
                break;
        case BROOD_WAITABLE_RESULT:
                fd = brood_result_ready(one->result);
                return fd < 0 ? fd : 0;
        default:
                return -EINVAL;
        }
        if (fd < 0)
                return fd;
        *ret_fd = fd;
        return 0;
}

/* Whether it is ready: 1, 0, or a negative errno. */
static int is_ready(const brood_waitable *one, bool polled)
{
        switch (one->kind) {
        case BROOD_WAITABLE_QUEUE:
                return queue_has_something(one->queue);
        case BROOD_WAITABLE_EVENT:
                return brood_event_is_set(one->event);
        case BROOD_WAITABLE_RESULT:
                return brood_result_ready(one->result);
        case BROOD_WAITABLE_CONNECTION:
                return brood_connection_poll(one->connection, 0);
        default:
                return polled;
        }
}

/* ---- all of them ---- */

/* How many are ready. */
static int look(struct waiting *w)
{
        int count = 0;

        for (size_t i = 0; i < w->count; i++) {
                int r = is_ready(&w->what[i], w->polled[i]);
                if (r < 0)
                        return r;
                w->ready[i] = r > 0;
                count += r > 0;
        }
        return count;
}

/* Have the ends of all results make one descriptor readable; which it is at once. */
static int watch_results(struct waiting *w)
{
        int *poller = &w->fds[w->count];
        int r = *poller = poller_new();

        for (size_t i = 0; i < w->count && r >= 0; i++)
                if (w->what[i].kind == BROOD_WAITABLE_RESULT)
                        r = result_watch(w->what[i].result, *poller);
        return r < 0 ? r : 0;
}

/* Leave those out that were readable and are not ready, or take them in again; how many. */
static int leave_out(struct waiting *w, bool out)
{
        int count = 0;

        for (size_t i = 0; i < w->count; i++)
                if (out ? w->polled[i] != 0 : w->fds[i] < -1) {
                        w->fds[i] = -2 - w->fds[i];
                        count++;
                }
        return count;
}

/* Sleep until a descriptor is readable, but no longer than a slice: 0 or more. */
static int doze(struct waiting *w, int64_t deadline)
{
        bool nap = w->vain > VAIN_MOST && leave_out(w, true) > 0;
        int ms = !nap ? SLICE_MS : w->vain < VAIN_MOST + 4 ? 1 << (w->vain - VAIN_MOST) : NAP_MOST_MS;
        int64_t began = clock_now();
        int r = poll_readable(w->fds, w->count + 1, w->polled, deadline_slice(deadline, ms * NS_PER_MS));
        if (nap)
                leave_out(w, false);
        if (r >= 0 && w->polled[w->count])
                poller_clear(w->fds[w->count]);
        if (nap || (r > 0 && clock_now() - began < VAIN_NS))
                w->vain++;
        else
                w->vain = 0;
        return r;
}

static int wait_for_one(struct waiting *w, int64_t deadline)
{
        for (size_t i = 0; i < w->count; i++) {
                int r = descriptor_of(&w->what[i], &w->fds[i]);
                if (r < 0)
                        return r;
                w->has_results |= w->what[i].kind == BROOD_WAITABLE_RESULT;
        }
        int r = poll_readable(w->fds, w->count, w->polled, DEADLINE_NOW);
        while (r >= 0) {
                r = look(w);
                if (r != 0)
                        return r;
                if (deadline == DEADLINE_NOW)
                        return -EAGAIN;
                if (clock_now() >= deadline)
                        return -ETIMEDOUT;
                if (w->has_results && w->fds[w->count] < 0)
                        r = watch_results(w);
                if (r == 0)
                        r = doze(w, deadline);
        }
        return r;
}

int brood_wait_many(brood_waitable *what, size_t count, int timeout_ms)
{
        int few_fds[FEW + 1];
        unsigned char few_bytes[2 * (FEW + 1)];
        struct waiting w = { .what = what, .count = count, .fds = few_fds, .polled = few_bytes };
        int64_t deadline = deadline_after_ms(timeout_ms);

        if (what == NULL && count > 0)
                return -EINVAL;
        if (count == 0)
                return 0;
        if (count > FEW) {
                if (count > INT_MAX)
                        return -EINVAL;
                w.fds = malloc((count + 1) * (sizeof *w.fds + 2));
                if (w.fds == NULL)
                        return -ENOMEM;
                w.polled = (unsigned char *)(w.fds + count + 1);
        }
        w.ready = w.polled + count + 1;
        w.fds[count] = -1;
        w.polled[count] = 0;
        int r = wait_for_one(&w, deadline);
        for (size_t i = 0; i < count && r > 0; i++)
                what[i].ready = w.ready[i];
        descriptor_close(&w.fds[count]);
        if (w.fds != few_fds)
                free(w.fds);
        return r;
}
