/* SPDX-License-Identifier: MIT */
#include "pool/ended.h"
#include "os/descriptors.h"
#include "os/futex.h"

#include <limits.h>

void ended_tell(brood_pool *pool, struct task *task, uint64_t before)
{
        if (before & TASK_WAITED)
                futex_wake(futex_low_half(&task->state), INT_MAX);
        if (before & TASK_WATCHED)
                eventfd_raise(pool->bell);
}
