/* SPDX-License-Identifier: MIT
 *
 * pool/submit.c: tasks with options.
 */
#include "os/options.h"
#include "pool/pool.h"

#include <errno.h>

int brood_pool_submit_sized(brood_pool *pool, brood_result **ret_result, const brood_task_options *options,
                            size_t options_size)
{
        brood_task_options known;
        int r = pool_check(pool);

        if (r < 0)
                return r;
        if (options == NULL)
                return -EINVAL;
        r = options_read(&known, sizeof known, options, options_size);
        if (r < 0)
                return r;
        if (known.function == NULL || (known.arg == NULL && known.size > 0) ||
            known.room > BROOD_POOL_RESULT_SIZE_LIMIT || (known.completions != NULL && known.completions->pool != pool))
                return -EINVAL;
        bool calls_back = known.callback != NULL || known.error_callback != NULL;
        if (calls_back && known.completions != NULL)
                return -EINVAL;
        struct order order = {
                .function = known.function,
                .arg = known.arg,
                .arg_size = known.size,
                .room = known.room != 0 ? known.room : pool->options.result_size,
                .completions = calls_back ? &pool->callbacks : known.completions,
                .callback = known.callback,
                .error_callback = known.error_callback,
                .callback_arg = known.callback_arg,
        };
        return pool_submit(pool, &order, ret_result);
}
