/* SPDX-License-Identifier: MIT
 *
 * brood/trace.h: which task of a pool ran when, and where.
 *
 *     brood_pool_new(&pool, &(brood_pool_options){ .trace_tasks = 100000 });
 *     ...
 *     int fd = open("trace.json", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
 *     r = brood_pool_write_trace(pool, fd);
 *
 * The file is for ui.perfetto.dev, chrome://tracing, and whatever else reads Chrome's trace format.  Each worker's number has a
 * row, with a box for each try of a task, from when it was begun until its function returned, or until the keeper saw its
 * worker's death, or the pool's end.  A task that is running is a box until now.  Of each, the file tells: the task, the
 * worker's pid, which try it was, its outcome and error, and when it was handed in.  A box's name is the function: the module
 * that holds it and the distance from its beginning, as addr2line(1) takes it.
 *
 * A pool that is not traced pays nothing for it.  In one that is, the clock is read as for options.timed, and 64 bytes are
 * written for each task, in memory that the pool has from the start: 64 bytes times trace_tasks for each worker.
 *
 * Threads: any.  Fork: works in a forked child that has inherited the handle, and has not freed it.  Death: the trace survives
 * its workers, and the keeper: what they ran is in it.  Killed here, the file is cut off.
 */
#ifndef BROOD_TRACE_H
#define BROOD_TRACE_H

#include <brood/common.h>
#include <brood/pool.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Write the trace of a pool to a descriptor, as one JSON object; at any time, and as often as wanted: each time all of it.
 * Of each worker's tries the last trace_tasks are kept; how many were lost, the object says in otherData.lost.  Tasks that were
 * canceled before they were begun are not in it.  Times are of CLOCK_MONOTONIC, in microseconds with three decimals.
 * Waits where write(2) does.  A pipe that nobody reads raises SIGPIPE.
 * Returns 0; -EINVAL (NULL); -ENODATA (the pool is not traced); the errors of write(2): -EBADF, -EIO, -ENOSPC, -EFBIG, -EDQUOT,
 *   -EPIPE, -EAGAIN (a descriptor that does not block).  On failure a part of it may have been written.
 * Signals: restarts after EINTR; not async-signal-safe. */
BROOD_API int brood_pool_write_trace(const brood_pool *pool, int fd);

#ifdef __cplusplus
}
#endif

#endif
