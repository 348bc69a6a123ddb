/* SPDX-License-Identifier: MIT
 *
 * pool/callbacks.c: what the host does when a task has ended, done in its own calls.
 *
 * Results with a callback wait in completions of the pool's own.  One thread at a time takes those that have ended out of
 * them, and runs their callbacks without the mutex.  Others that come meanwhile, and callbacks that call in again, go on
 * without; whoever may have slept over what is left is woken afterwards.
 */
#include "pool/ended.h"

static bool is_dispatcher(const brood_pool *pool)
{
        return pool->dispatching && pthread_equal(pool->dispatcher, pthread_self());
}

bool callbacks_due(const brood_pool *pool)
{
        return pool->callbacks.ended_count > 0 && !pool->dispatching;
}

bool callbacks_expected(const brood_pool *pool)
{
        return (pool->callbacks.count > 0 || pool->dispatching) && !is_dispatcher(pool);
}

/* Run one; the mutex is not held.  Unless it is ours, the callback may free the result. */
static void run_one(brood_result *result)
{
        struct result_extra *extra = result->extra;
        bool ok = result->outcome == BROOD_OUTCOME_OK, owned = extra->owned;
        brood_result_callback *function = ok ? extra->callback : extra->error_callback;

        extra->lent = owned;
        if (function != NULL)
                function(result, extra->callback_arg);
        if (owned) {
                extra->lent = false;
                brood_result_free(result);
        }
}

int callbacks_run(brood_pool *pool)
{
        int count = 0;

        pthread_mutex_lock(&pool->mutex);
        ended_collect(pool);
        if (!callbacks_due(pool)) {
                pthread_mutex_unlock(&pool->mutex);
                return 0;
        }
        pool->dispatching = true;
        pool->dispatcher = pthread_self();
        pool->references++;
        /* No more than there are now: else one that hands in the next task could keep us here for ever. */
        size_t most = pool->callbacks.ended_count;
        for (brood_result *result; most > 0 && (result = completions_take(&pool->callbacks)) != NULL; most--, count++) {
                pthread_mutex_unlock(&pool->mutex);
                run_one(result);
                pthread_mutex_lock(&pool->mutex);
        }
        pool->dispatching = false;
        ended_wake(pool);
        pthread_mutex_unlock(&pool->mutex);
        pool_release(pool);
        return count;
}

int brood_pool_dispatch(brood_pool *pool)
{
        int r = pool_check(pool);

        if (r < 0)
                return r;
        completions_quiet(&pool->callbacks);
        return callbacks_run(pool);
}

int brood_pool_fileno(brood_pool *pool)
{
        int r = pool_check(pool);

        return r < 0 ? r : completions_fileno(&pool->callbacks);
}
