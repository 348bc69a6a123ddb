/* SPDX-License-Identifier: MIT
 *
 * brood/result.h: the result of a task that was handed to a pool.
 *
 * A result is made by brood_pool_apply_async() and freed by brood_result_free(), in any order with the pool.  It may be
 * read as often as wanted.
 *
 *     ssize_t n = brood_result_get(result, &value, sizeof value, 5000);
 *     if (n < 0 && brood_result_ready(result) == 1)
 *             fprintf(stderr, "task failed: %s\n", brood_result_reason(result));
 *
 * Threads: any number may wait for one result.  Fork: as for the pool, -EPERM in a forked child.
 * Signals: waits restart after EINTR.  Death: a wait ends also when the keeper dies (-EPIPE).
 */
#ifndef BROOD_RESULT_H
#define BROOD_RESULT_H

#include <brood/common.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct brood_result brood_result;

/* What became of a task. */
typedef enum brood_outcome {
        BROOD_OUTCOME_PENDING = 0, /* not ended yet */
        BROOD_OUTCOME_OK,          /* the function returned its result */
        BROOD_OUTCOME_ERROR,       /* the function returned an error */
        BROOD_OUTCOME_EXITED,      /* the worker ended with an exit code while it ran the task */
        BROOD_OUTCOME_SIGNALED,    /* the worker was killed by a signal while it ran the task */
        BROOD_OUTCOME_CANCELED,    /* brood_result_cancel(), or the pool was terminated first */
        BROOD_OUTCOME_BROKEN,      /* the pool broke first */
        BROOD_OUTCOME_TIME,        /* it passed its soft or hard time limit, and its worker was ended for it */
        BROOD_OUTCOME_CPU,         /* it passed its limit of CPU time, and its worker was killed for it */
        BROOD_OUTCOME_MEMORY,      /* it returned -ENOMEM, and had a memory limit */
        BROOD_OUTCOME_OUT_OF_MEMORY, /* the kernel killed the worker because memory ran out, and that is proved: see below */
} brood_outcome;

/* BROOD_OUTCOME_OUT_OF_MEMORY is a death of the worker as _SIGNALED is (-EOWNERDEAD, SIGKILL, retries), whose cause the kernel has
 * counted: it takes a pool with a `cgroup`, in which each worker has a control group of its own.  Without that proof the outcome of
 * such a death is _SIGNALED, as of any other SIGKILL.  What is proved is that in the group of this worker, and while it lived, the
 * kernel has killed for want of memory: if a task has started processes that stay, it may have been one of these. */

/* Wait for the end of the task and copy its result into `buf` of `room` bytes.
 * Returns the result's size in bytes (which may be 0); -EAGAIN, -ETIMEDOUT; -EMSGSIZE (the result is larger than room, and
 *   can be read again; `buf` is untouched); the function's own negative errno; -EOWNERDEAD (the worker died); -ETIME (the task
 *   passed a limit of time or CPU time); -ECANCELED (it was canceled, or the pool terminated or freed first); -EPIPE (the pool
 *   broke); -EUCLEAN (a task has written over the pool's own memory); -EINVAL (NULL result, or NULL buf with room > 0); -EPERM.
 * When a number may be either brood's or the task's own, brood_result_outcome() tells. */
BROOD_API ssize_t brood_result_get(brood_result *result, void *buf, size_t room, int timeout_ms);

/* Wait for the end of the task, whatever it is.  Returns 0; -EAGAIN, -ETIMEDOUT; -EINVAL; -EPERM. */
BROOD_API int brood_result_wait(brood_result *result, int timeout_ms);

/* Whether the task has ended: 1 or 0; -EINVAL; -EPERM. */
BROOD_API int brood_result_ready(brood_result *result);

/* Whether it ended with a result: 1 or 0; -EAGAIN if it has not ended (Python raises ValueError); -EINVAL; -EPERM. */
BROOD_API int brood_result_successful(brood_result *result);

/* What became of it: a brood_outcome; -EINVAL; -EPERM. */
BROOD_API int brood_result_outcome(brood_result *result);

/* The worker that ran it (0: none did), and the exit code it died with (0 to 255, or -N for signal N; 0 unless the outcome
 * is BROOD_OUTCOME_EXITED, _SIGNALED, _TIME, _CPU or _OUT_OF_MEMORY).  -EAGAIN if it has not ended; -EINVAL; -EPERM. */
BROOD_API int brood_result_worker(brood_result *result, pid_t *ret_pid, int *ret_exitcode);

/* What the options of brood_pool_submit() said as callback_arg, for the caller's own use; NULL for NULL.  Threads: any. */
BROOD_API void *brood_result_callback_arg(const brood_result *result);

#define BROOD_TASK_MESSAGE_MAX 112 /* bytes of a task's message, with the 0 at its end */

/* All that is known of how a task ended; what is not known is 0. */
typedef struct brood_result_report {
        brood_outcome outcome;
        int error;     /* the negative errno that brood_result_get() returns; 0 if it has a result */
        pid_t worker;  /* that ran it last */
        int exitcode;  /* of that worker, as brood_result_worker() tells it */
        int attempts;  /* how often it was begun */
        bool measured; /* the times are known: the task was handed in with a limit, with retries, or to be measured */
        int64_t queued_ns;  /* when it was handed in, on CLOCK_MONOTONIC, in nanoseconds */
        int64_t started_ns; /* when it was begun last */
        int64_t ended_ns;   /* when it ended, or when its worker's death was noticed */
        int64_t
            cpu_ns; /* CPU time of that attempt, user and system; of a worker that died, if brood could measure it */
        int64_t
            peak_memory; /* bytes that the worker had in memory at most, by then; measured, or of a worker that died */
        char message[BROOD_TASK_MESSAGE_MAX]; /* what the task said by brood_task_fail() */
} brood_result_report;

/* The report of a task that has ended.  Of one that was canceled, or whose pool ended first, only outcome and error are known.
 * Returns 0; -EAGAIN (it has not ended); -EINVAL (NULL); -E2BIG (ret_report is of a newer brood); -EPERM.  Threads: any. */
BROOD_API int brood_result_report_sized(brood_result *result, brood_result_report *ret_report, size_t size);

static inline int brood_result_get_report(brood_result *result, brood_result_report *ret_report)
{
        return brood_result_report_sized(result, ret_report, sizeof *ret_report);
}

/* What became of it, as a sentence ("worker 4711 was killed by SIGSEGV (Segmentation fault)"); "" for NULL.  The text
 * lives as long as the result; a later call may replace it.  Threads: one at a time. */
BROOD_API const char *brood_result_reason(brood_result *result);

/* A descriptor for poll(2), epoll(7) or an event loop: readable once the task has ended, or the pool has, and from then on.
 * It may be readable for nothing, because another task of the pool has ended: so ask brood_result_ready(), or for the result
 * with a time limit of 0; where the answer is no, that is what makes it quiet again.  It belongs to the handle: neither read
 * nor close it, and take it out of the loop before the result is freed.
 * Each result has one of its own, made by the first call, and the end of a task that has been asked for its descriptor wakes
 * all that are polled: for very many results at once, brood_wait_many() is cheaper.
 * Returns the descriptor; -EINVAL (NULL); -EPERM; -EMFILE, -ENFILE, -ENOMEM, -ENOSPC (the kernel's limits of epoll).
 * Threads: any.  Death: a worker that is killed before it has told of its task's end is a task that has ended; a keeper's end
 * makes it readable, too. */
BROOD_API int brood_result_fileno(brood_result *result);

/* Cancel a task: it fails with -ECANCELED, from now on and whatever it still does.  One that waits for a worker, or to be tried
 * again, is never begun; one that is running is canceled only if `running` is true: then its worker is killed and replaced.
 * Returns 0; -EALREADY (it has ended, or was canceled before); -EBUSY (it is running, and `running` is false); -EINVAL (NULL);
 *   -EPERM.
 * The place and the memory of a task that was canceled while it waited for a worker are given back when a worker comes upon it.
 * Threads: any; those that wait for the result are woken.  Death: a host that is killed in here takes the pool along; the
 * worker of a canceled task ends, whatever becomes of it, after that task. */
BROOD_API int brood_result_cancel(brood_result *result, bool running);

/* Give up a result.  A task that has not ended goes on, and its result is dropped. */
BROOD_API void brood_result_free(brood_result *result);

#ifdef __cplusplus
}
#endif

#endif
