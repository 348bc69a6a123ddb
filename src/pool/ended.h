/* SPDX-License-Identifier: MIT
 *
 * pool/ended.h: how the end of a task is told to those who asked, and the list of ended tasks in which one finds it without
 * looking for it.
 *
 * Whose task is LISTED need not look at it: when it has ended, it is pushed to a list in shared memory, all of which the
 * host takes at once.  Workers and keeper only push, the host only takes all, so an exchange and a compare-and-swap of one
 * word are enough.
 *
 *     worker                                        host, under the mutex
 *     task -> DONE (exchange); it was LISTED?       taken = exchange(ended, 0)
 *     next_ended = ended, ended = task (CAS)        walk along next_ended
 *     SLEEPERS was set?  wake
 *
 * A task that is listed and was not yet found in the list is not given out again: its pusher may still be about to write to
 * it. A worker may die between DONE and the push.  Nobody but it knows whether it has pushed, and nothing may be pushed
 * twice.  So the keeper notes the task in a log and sets DEATHS in the same word; the host looks into the log after it has
 * walked the list of the same exchange, in which is what the dead one had pushed.  What is not there is not going to come.
 */
#ifndef BROOD_POOL_ENDED_H
#define BROOD_POOL_ENDED_H

#include "pool/pool.h"

/* ---- the worker, and the keeper ---- */

/* A task is DONE, and its state was `before`: tell those who asked.  True: the pool's bell must be rung, too. */
bool ended_tell(brood_pool *pool, struct task *task, uint64_t before);

/* The keeper: a worker has died whose last task was this, and has been reaped, and is not yet replaced. */
void ended_note_death(brood_pool *pool, struct task *task, uint64_t ticket, uint32_t number);

/* ---- the host; the mutex is held, but in ended_await() ---- */

/* See which tasks have ended, and put their results where they are waited for.  Costs two loads when there are none. */
void ended_collect(brood_pool *pool);

/* Have the end of a result's task announced.  It may have ended already: look at it after this. */
void ended_list(brood_result *result);

/* Something has changed in the host that a thread in ended_await() may wait for. */
void ended_wake(brood_pool *pool);

/* Wait until `done` says so, which is asked under the mutex after each look at the list, and run the callbacks that are due
 * meanwhile: 0, -EAGAIN, -ETIMEDOUT. */
int ended_await(brood_pool *pool, bool (*done)(void *arg), void *arg, int64_t deadline);

/* ---- completions ---- */

void completions_init(struct brood_completions *completions, brood_pool *pool);

/* A new result, whose task tells its end (LISTED), is put into them; the mutex is held, as in the next three. */
void completions_put(struct brood_completions *completions, brood_result *result);

/* It has ended: from the pending ones to the ended ones. */
void completions_deliver(brood_result *result);

/* Wherever it is, it is there no more. */
void completions_forget(brood_result *result);

/* Take out the one that ended first, or NULL. */
brood_result *completions_take(struct brood_completions *completions);

/* Take out all, and free those that belong to the completions; the mutex is not held. */
void completions_drop(struct brood_completions *completions);

/* What is in their poller is old news, because it is looked at now; the mutex is not held. */
void completions_quiet(struct brood_completions *completions);

/* The descriptor of brood_completions_fileno(), made by the first call; and its end. */
int completions_fileno(struct brood_completions *completions);
void completions_close(struct brood_completions *completions);

/* ---- callbacks ---- */

/* Whether some are due that this thread could run now; whether some are not yet run, and this thread may wait for them.  The mutex
 * is held. */
bool callbacks_due(const brood_pool *pool);
bool callbacks_expected(const brood_pool *pool);

/* Run those that are due: how many; the mutex is not held. */
int callbacks_run(brood_pool *pool);

#endif
