/* SPDX-License-Identifier: MIT
 *
 * pool_brood.h: what the programs about brood's own pool share.
 */
#ifndef BENCH_POOL_BROOD_H
#define BENCH_POOL_BROOD_H

#include "bench_brood.h"

#include <brood/pool.h>

static inline brood_pool *brood_start_with(const brood_pool_options *options)
{
        brood_pool *pool;

        brood_check("brood_pool_new", brood_pool_new(&pool, options));
        return pool;
}

static inline brood_result *brood_submit_to(brood_pool *pool, brood_task_function function, const void *arg,
                                            size_t size)
{
        brood_result *result;

        brood_check("brood_pool_apply_async", brood_pool_apply_async(pool, &result, function, arg, size));
        return result;
}

/* Takes a result, which must be of this size, and frees it. */
static inline void brood_take(brood_result *result, void *buf, size_t size)
{
        brood_check_size("brood_result_get", brood_result_get(result, buf, size, BROOD_FOREVER), size);
        brood_result_free(result);
}

/* The body of a task whose argument and result are a number of 8 bytes each. */
static inline ssize_t brood_answer(uint64_t (*function)(uint64_t value), const void *arg, size_t size, void *out,
                                   size_t room)
{
        uint64_t value;

        if (size != sizeof value || room < sizeof value)
                return -EINVAL;
        memcpy(&value, arg, sizeof value);
        value = function(value);
        memcpy(out, &value, sizeof value);
        return sizeof value;
}

static inline void brood_end(brood_pool *pool)
{
        brood_check("brood_pool_close", brood_pool_close(pool));
        brood_check("brood_pool_join", brood_pool_join(pool, BROOD_FOREVER));
        brood_pool_free(pool);
}

#endif
