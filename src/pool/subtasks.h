/* SPDX-License-Identifier: MIT
 *
 * pool/subtasks.h: tasks that tasks hand in (brood_task_submit()).
 *
 * They go with the end of the task that hands them in: its worker writes them behind its terms, in the memory of its own block, and
 * the host, when it finds that the task has ended well, hands them in as it would its own.  So a task that is tried again, or
 * fails, hands in nothing by the way, and nothing twice; and the host alone keeps the books.
 *
 * Such a task, the parent, is in completions (its own, or the pool's for callbacks), so that its end is found in whatever call of
 * the host's.  What it hands in has its terms, and goes where its result goes, before that comes out.
 *
 * A pool is sealed (its rings are closed) when the host has closed it, and there are no parents any more.
 */
#ifndef BROOD_POOL_SUBTASKS_H
#define BROOD_POOL_SUBTASKS_H

#include "pool/pool.h"

/* What the host keeps of a parent: what its tasks are to have, too; and what became of those. */
struct parent {
        struct task_terms terms;
        size_t room;
        size_t terms_at; /* where the terms lie in its block; the tasks are behind them */
        int error;       /* not 0: why not all could be taken up */
};

/* The parent's part for an order with room for tasks: 0 or -ENOMEM. */
int parent_new(const struct order *order, size_t terms_at, struct parent **ret_parent);

/* A parent has begun to be pending in some completions, and is so no more; the mutex is held. */
void parent_joins(const brood_result *result);
void parent_leaves(const brood_result *result);

/* A parent is found to have ended well: take up what it has handed in.  0; an error of brood_pool_apply_async(); -EUCLEAN.
 * The mutex is held. */
int subtasks_take_up(brood_result *result);

#endif
