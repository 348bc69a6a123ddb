/* SPDX-License-Identifier: MIT */
#include "pool/groups.h"
#include "os/cgroup.h"
#include "os/child.h"
#include "os/clock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What the names of a pool's groups begin with.  No other pool that lives has the same. */
int groups_name(brood_pool *pool)
{
        static atomic_u32 pools;
        enum { NUMBERS = 32 };
        size_t size = strnlen(pool->options.cgroup, PATH_MAX) + NUMBERS;

        if (size > PATH_MAX - NUMBERS)
                return -ENAMETOOLONG;
        pool->groups = malloc(size);
        if (pool->groups == NULL)
                return -ENOMEM;
        snprintf(pool->groups, size, "%s/brood-%d-%u", pool->options.cgroup, (int)child_pid(),
                 fetch_add_relaxed(&pools, 1));
        return 0;
}

void groups_path(const brood_pool *pool, uint32_t number, char path[PATH_MAX])
{
        snprintf(path, PATH_MAX, "%s-%u", pool->groups, number);
}

int groups_make(const brood_pool *pool, uint32_t number, char path[PATH_MAX])
{
        groups_path(pool, number, path);
        return cgroup_make_plain(path);
}

void groups_remove(brood_pool *pool)
{
        enum { MOST_MS = 1000 };
        int64_t deadline = deadline_after_ms(MOST_MS);
        char path[PATH_MAX];

        if (pool->groups == NULL)
                return;
        for (uint32_t i = 0; i < load_relaxed(&pool->processes_most); i++) {
                groups_path(pool, i, path);
                cgroup_remove(path, deadline);
        }
        free(pool->groups);
        pool->groups = NULL;
}
