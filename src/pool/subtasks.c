/* SPDX-License-Identifier: MIT */
#include "pool/subtasks.h"
#include "os/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int parent_new(const struct order *order, size_t terms_at, struct parent **ret_parent)
{
        struct parent *parent = malloc(sizeof *parent);

        if (parent == NULL)
                return -ENOMEM;
        *parent = (struct parent){ .terms = *order->terms, .room = order->room, .terms_at = terms_at };
        *ret_parent = parent;
        return 0;
}

void parent_joins(const brood_result *result)
{
        result->pool->parents += result->extra->parent != NULL;
}

void parent_leaves(const brood_result *result)
{
        brood_pool *pool = result->pool;

        if (result->extra->parent != NULL && --pool->parents == 0 && load_relaxed(&pool->closed))
                pool_seal(pool);
}

static int take_up(const brood_result *result, brood_task_function function, const void *arg, size_t size)
{
        const struct result_extra *extra = result->extra;
        struct task_terms terms = extra->parent->terms;

        terms.queued = clock_now();
        struct order order = {
                .function = function,
                .arg = arg,
                .arg_size = size,
                .room = extra->parent->room,
                .priority = terms.priority,
                .completions = extra->completions,
                .callback = extra->callback,
                .error_callback = extra->error_callback,
                .callback_arg = extra->callback_arg,
                .terms = &terms,
        };
        return pool_submit_locked(result->pool, &order, NULL);
}

/* Another task that has run wild may have written there: each number is read once, and checked. */
static int take_up_all(const brood_result *result)
{
        const struct parent *parent = result->extra->parent;
        const struct task_terms *terms = region_at(&result->pool->region, result->block + parent->terms_at);
        const unsigned char *area = (const unsigned char *)(terms + 1);
        struct subtask next;
        uint32_t used;

        memcpy(&used, &terms->subtasks_used, sizeof used);
        if (used > parent->terms.subtasks_room)
                return -EUCLEAN;
        int r = used > 0 ? pool_usable(result->pool, false) : 0;
        for (size_t at = 0; r == 0 && at < used; at += round_up(sizeof next + next.size, SUBTASK_UNIT)) {
                if (used - at < sizeof next)
                        return -EUCLEAN;
                memcpy(&next, area + at, sizeof next);
                if (next.size > used - at - sizeof next)
                        return -EUCLEAN;
                r = take_up(result, (brood_task_function)(uintptr_t)next.function, area + at + sizeof next, next.size);
        }
        return r;
}

int subtasks_take_up(brood_result *result)
{
        brood_pool *pool = result->pool;

        pool->taking_up = true;
        int r = take_up_all(result);
        pool->taking_up = false;
        result->extra->parent->error = r;
        return r;
}
