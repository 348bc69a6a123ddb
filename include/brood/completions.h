/* SPDX-License-Identifier: MIT
 *
 * brood/completions.h: which of many results is there next.
 *
 *     brood_completions *completions;
 *     brood_completions_new(&completions, pool);
 *     for (i = 0; i < n; i++)
 *             brood_pool_submit(pool, NULL, &(brood_task_options){ .function = fetch, .arg = url[i], .size = strlen(url[i]) + 1,
 *                                                                  .callback_arg = url[i], .completions = completions });
 *     while ((r = brood_completions_next(completions, &result, BROOD_FOREVER)) == 0) {
 *             printf("%s: %zd\n", (char *)brood_result_callback_arg(result), brood_result_get(result, page, sizeof page, 0));
 *             brood_result_free(result);
 *     }
 *     // r == -ENODATA: that were all
 *     brood_completions_free(completions);
 *
 * It is what concurrent.futures.as_completed() is, and may be added to while it is used.  Results are put into completions
 * when their tasks are handed in, or later; each comes out once, in the order in which the tasks ended.  Waiting for the
 * next costs the same for three results as for a million: the worker announces the end of such a task, and nobody looks at
 * the others. (brood_wait_many() looks at each in each call, but waits for other things as well.)
 *
 * Threads: any number may add and take; each result goes to one of them.  Fork: as for the pool, -EPERM in a forked child.
 * Signals: waits restart after EINTR.  Death: a worker that dies between the end of a task and its announcement is announced
 * by the keeper; at the keeper's end, or when the pool is terminated, all that are in completions come out.
 */
#ifndef BROOD_COMPLETIONS_H
#define BROOD_COMPLETIONS_H

#include <brood/common.h>
#include <brood/pool.h>
#include <brood/result.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Make completions, with nothing in them.  They may be freed before or after the pool.
 * Returns 0; -EINVAL (NULL); -ENOMEM; -EPERM (a forked child). */
BROOD_API int brood_completions_new(brood_completions **ret_completions, brood_pool *pool);

/* Put a result in, whether its task has ended or not.  It stays the caller's: it may be asked and freed at any time; one
 * that is freed does not come out, and its task counts as held (max_tasks) until a moment after its end.
 * Returns 0; -EINVAL (NULL; a result of another pool); -EBUSY (it is in some already); -ENOMEM; -EPERM. */
BROOD_API int brood_completions_add(brood_completions *completions, brood_result *result);

/* Wait for the end of the next task and take its result out; the caller frees it.
 * Returns 0; -ENODATA (there is none in them any more); -EAGAIN, -ETIMEDOUT; -EINVAL (NULL); -EPERM. */
BROOD_API int brood_completions_next(brood_completions *completions, brood_result **ret_result, int timeout_ms);

/* How many results are in them, ended or not; -EINVAL; -EPERM. */
BROOD_API ssize_t brood_completions_count(brood_completions *completions);

/* A descriptor for poll(2), epoll(7) or an event loop: readable when brood_completions_next() has a result to give.  It may
 * be readable for nothing, because another task of the pool has ended: so take with a time limit of 0; where the answer is
 * -EAGAIN or -ENODATA, that is what makes it quiet again.  It belongs to the handle: neither read nor close it, and take it
 * out of the loop before the completions are freed.
 * Returns the descriptor; -EINVAL (NULL); -EPERM; -EMFILE, -ENFILE, -ENOMEM, -ENOSPC (the kernel's limits of epoll). */
BROOD_API int brood_completions_fileno(brood_completions *completions);

/* Give them up.  Results that were put in by brood_completions_add(), or that somebody has a handle of, stay the caller's;
 * the others are freed as by brood_result_free().  No other thread may be in a call on them. */
BROOD_API void brood_completions_free(brood_completions *completions);

#ifdef __cplusplus
}
#endif

#endif
