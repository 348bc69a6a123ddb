/* SPDX-License-Identifier: MIT */
#include "pool/limits.h"
#include "os/clock.h"
#include "os/descriptors.h"
#include "os/signals.h"
#include "os/usage.h"

/* The first moment at which a task may have passed a limit of time. */
static int64_t first_limit(const struct task_terms *terms, int64_t started)
{
        const int32_t times_ms[] = { terms->soft_timeout_ms, terms->timeout_ms, terms->cpu_ms };
        int64_t first = DEADLINE_NEVER;

        for (size_t i = 0; i < sizeof times_ms / sizeof *times_ms; i++) {
                int64_t limit = started + times_ms[i] * NS_PER_MS;
                if (times_ms[i] > 0 && limit < first)
                        first = limit;
        }
        return first;
}

void limits_set(struct limits *limits, brood_pool *pool, struct worker_slot *slot, const struct task_terms *terms)
{
        *limits = (struct limits){ .memory = terms->memory_limit > 0 };
        if (limits->memory)
                limits->memory = usage_limit_memory(terms->memory_limit, &limits->memory_before) == 0;
        if (terms->soft_timeout_ms > 0)
                signals_unblock(WARNING_SIGNAL);
        if (first_limit(terms, (int64_t)load_relaxed(&slot->started)) < (int64_t)load_seq_cst(&pool->shared->alarm))
                eventfd_raise(pool->doorbell);
}

void limits_lift(const struct limits *limits)
{
        if (limits->memory)
                usage_unlimit_memory(limits->memory_before);
}
