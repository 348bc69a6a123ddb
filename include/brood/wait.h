/* SPDX-License-Identifier: MIT
 *
 * brood/wait.h: waiting for any of many things at once.
 *
 *     brood_waitable what[] = {
 *             brood_waitable_process(child),
 *             brood_waitable_queue(jobs),
 *             brood_waitable_fd(STDIN_FILENO),
 *     };
 *     int n = brood_wait_many(what, 3, 5000);            // how many are ready; -ETIMEDOUT after 5 s
 *     if (n > 0 && what[1].ready)
 *             size = brood_queue_get_nowait(jobs, buf, sizeof buf);
 *
 * It is what multiprocessing.connection.wait(objects, timeout) is, for everything here that can be waited for.
 *
 * Ready is what has something to say: the call in the third column, which waits no longer, returns something else than -EAGAIN.
 * That may be an end or an error: a closed queue, a broken pool, a stream whose other end is gone are ready, for good.  (And a
 * connection is ready when a part of a message has come: receiving it takes the part, and may say -EAGAIN.)
 *
 *     kind                         ready when                                      then call
 *     BROOD_WAITABLE_PROCESS       it has ended                                    brood_process_join(p, 0)
 *     BROOD_WAITABLE_QUEUE         there is a message, or it is closed and empty   brood_queue_get_nowait(), lease, peek
 *     BROOD_WAITABLE_EVENT         it is set                                       brood_event_wait(e, 0)
 *     BROOD_WAITABLE_RESULT        the task has ended, or the pool has             brood_result_get(r, ..., 0)
 *     BROOD_WAITABLE_CONNECTION    there is a message, or the end                  brood_connection_recv(c, ..., 0)
 *     BROOD_WAITABLE_FD            poll(2) says POLLIN, POLLHUP or POLLERR         read(2)
 *
 * It is level-triggered: what is ready and is left as it is, is ready in the next call, too.  Others may be faster: what
 * was ready may be gone by the time of the call, which therefore must not wait.  An event that is set and cleared again at
 * once may be missed.  To wait in an event loop of your own, take the descriptor of each: brood_process_sentinel(),
 * brood_queue_fileno(), brood_event_fileno(), brood_result_fileno(), brood_connection_fileno().
 */
#ifndef BROOD_WAIT_H
#define BROOD_WAIT_H

#include <brood/common.h>
#include <brood/connection.h>
#include <brood/event.h>
#include <brood/process.h>
#include <brood/queue.h>
#include <brood/result.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum brood_waitable_kind {
        BROOD_WAITABLE_FD = 1,
        BROOD_WAITABLE_PROCESS,
        BROOD_WAITABLE_QUEUE,
        BROOD_WAITABLE_EVENT,
        BROOD_WAITABLE_RESULT,
        BROOD_WAITABLE_CONNECTION,
} brood_waitable_kind;

/* One thing to wait for.  The kind says which member it is. */
typedef struct brood_waitable {
        brood_waitable_kind kind;
        bool ready; /* written by brood_wait_many() */
        union {
                int fd;
                brood_process *process;
                brood_queue *queue;
                brood_event *event;
                brood_result *result;
                brood_connection *connection;
        };
} brood_waitable;

/* Each makes an entry that is not ready.  Never fails: a NULL is found by the wait. */
static inline brood_waitable brood_waitable_fd(int fd)
{
        brood_waitable one = { BROOD_WAITABLE_FD, false, { 0 } };
        one.fd = fd;
        return one;
}

static inline brood_waitable brood_waitable_process(brood_process *process)
{
        brood_waitable one = { BROOD_WAITABLE_PROCESS, false, { 0 } };
        one.process = process;
        return one;
}

static inline brood_waitable brood_waitable_queue(brood_queue *queue)
{
        brood_waitable one = { BROOD_WAITABLE_QUEUE, false, { 0 } };
        one.queue = queue;
        return one;
}

static inline brood_waitable brood_waitable_event(brood_event *event)
{
        brood_waitable one = { BROOD_WAITABLE_EVENT, false, { 0 } };
        one.event = event;
        return one;
}

static inline brood_waitable brood_waitable_result(brood_result *result)
{
        brood_waitable one = { BROOD_WAITABLE_RESULT, false, { 0 } };
        one.result = result;
        return one;
}

static inline brood_waitable brood_waitable_connection(brood_connection *connection)
{
        brood_waitable one = { BROOD_WAITABLE_CONNECTION, false, { 0 } };
        one.connection = connection;
        return one;
}

/* Wait until at least one of `count` entries is ready, and say of each in `ready` whether it is.  The same thing may be there
 * more than once.
 * Returns how many are ready, 1 to count; 0 at once for count 0; -EAGAIN, -ETIMEDOUT (none is); -EINVAL (NULL with a count;
 *   an entry of no kind, or with NULL; a process that was never started, or that is the caller; more descriptors than
 *   RLIMIT_NOFILE); -EBADF (an fd that is not open; a connection that is closed, or for sending only); -EPERM (a result, in a
 *   forked child; a connection, as for brood_connection_recv()); -ENOMEM; -EMFILE, -ENFILE (results need a descriptor for as
 *   long as the call sleeps).  On any failure no `ready` is written.
 * A queue or an event that was once waited for here costs what one does whose descriptor was asked for: a system call for each
 *   put into an empty queue, and for each set and clear.
 * Threads: any, also several for the same things; none may be freed or closed while a thread waits for it.  Processes: of an
 *   inherited process handle the end is seen, too.  Fork: usable in the child.  Signals: restarts after EINTR.
 * Death: what a killed process held of a queue comes back here as it does in brood_queue_get(), within about 300 ms; so are
 *   noticed an event that it had set and not announced, and the end of a pool.  Killed here, nothing is left behind. */
BROOD_API int brood_wait_many(brood_waitable *what, size_t count, int timeout_ms);

#ifdef __cplusplus
}
#endif

#endif
