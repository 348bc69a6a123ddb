/* SPDX-License-Identifier: MIT
 *
 * pool/submit.c: the calls that hand in one task, as it is or on terms of its own.
 */
#include "os/clock.h"
#include "os/options.h"
#include "pool/pool.h"

#include <errno.h>

static bool calls_back(const brood_task_options *options)
{
        return options->callback != NULL || options->error_callback != NULL;
}

/* Whether the host has something to do at its end, without completions in which it would look for that. */
static bool expects(const brood_task_options *options)
{
        return calls_back(options) || (options->subtasks_size > 0 && options->completions == NULL);
}

static int check_options(const brood_pool *pool, const brood_task_options *options)
{
        if (options->function == NULL || (options->arg == NULL && options->size > 0))
                return -EINVAL;
        if (options->room > BROOD_POOL_RESULT_SIZE_LIMIT || options->memory_limit > UINT64_C(1) << 62)
                return -EINVAL;
        if (options->retries < 0 || options->backoff_ms < 0 || options->soft_timeout_ms < 0 ||
            options->timeout_ms < 0 || options->cpu_ms < 0)
                return -EINVAL;
        if (options->priority < 0 || options->priority > BROOD_TASK_PRIORITY_MOST)
                return -EINVAL;
        if (options->subtasks_size > BROOD_POOL_RESULT_SIZE_LIMIT)
                return -EINVAL;
        if (options->completions != NULL && (options->completions->pool != pool || calls_back(options)))
                return -EINVAL;
        return 0;
}

/* Whether there are any. */
static bool read_terms(struct task_terms *terms, const brood_task_options *options)
{
        *terms = (struct task_terms){
                .memory_limit = options->memory_limit,
                .retries = options->retries,
                .backoff_ms = options->backoff_ms,
                .soft_timeout_ms = options->soft_timeout_ms,
                .timeout_ms = options->timeout_ms,
                .cpu_ms = options->cpu_ms,
                .priority = options->priority,
                .subtasks_room = (uint32_t)round_up(options->subtasks_size, SUBTASK_UNIT),
        };
        if (!options->measured && terms->memory_limit == 0 && terms->retries == 0 && terms->soft_timeout_ms == 0 &&
            terms->timeout_ms == 0 && terms->cpu_ms == 0 && terms->subtasks_room == 0)
                return false;
        terms->queued = clock_now();
        return true;
}

int brood_pool_submit_sized(brood_pool *pool, brood_result **ret_result, const brood_task_options *options,
                            size_t options_size)
{
        brood_task_options known;
        struct task_terms terms;
        int r = pool_check(pool);

        if (r < 0)
                return r;
        if (options == NULL)
                return -EINVAL;
        r = options_read(&known, sizeof known, options, options_size);
        if (r < 0)
                return r;
        r = check_options(pool, &known);
        if (r < 0)
                return r;
        struct order order = {
                .function = known.function,
                .arg = known.arg,
                .arg_size = known.size,
                .room = known.room > 0 ? known.room : pool->options.result_size,
                .priority = known.priority,
                .completions = expects(&known) ? &pool->callbacks : known.completions,
                .callback = known.callback,
                .error_callback = known.error_callback,
                .callback_arg = known.callback_arg,
                .terms = read_terms(&terms, &known) ? &terms : NULL,
        };
        return pool_submit(pool, &order, ret_result);
}

int brood_pool_apply_async(brood_pool *pool, brood_result **ret_result, brood_task_function function, const void *arg,
                           size_t size)
{
        int r = pool_check(pool);

        if (r < 0)
                return r;
        if (function == NULL || (arg == NULL && size > 0))
                return -EINVAL;
        struct order order = {
                .function = function,
                .arg = arg,
                .arg_size = size,
                .room = pool->options.result_size,
        };
        return pool_submit(pool, &order, ret_result);
}

ssize_t brood_pool_apply(brood_pool *pool, brood_task_function function, const void *arg, size_t size, void *buf,
                         size_t room, int timeout_ms)
{
        brood_result *result;

        if (buf == NULL && room > 0)
                return -EINVAL;
        int r = brood_pool_apply_async(pool, &result, function, arg, size);
        if (r < 0)
                return r;
        ssize_t n = brood_result_get(result, buf, room, timeout_ms);
        brood_result_free(result);
        return n;
}
