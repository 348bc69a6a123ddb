/* SPDX-License-Identifier: MIT
 *
 * pool/groups.h: a control group for each worker, so that the kernel's count of kills for want of memory is about that worker and
 * about nobody else.
 *
 * A group is of a worker's number, and not of a process: the next worker of that number goes into it after the dead one has been
 * reaped.  The keeper makes them as it needs them; the host, which outlives the keeper, removes them.
 */
#ifndef BROOD_POOL_GROUPS_H
#define BROOD_POOL_GROUPS_H

#include "pool/pool.h"

#include <limits.h>

/* Name the groups of a new pool: 0; -ENAMETOOLONG, -ENOMEM. */
int groups_name(brood_pool *pool);

/* The group of a worker; and the keeper makes it, if it is not there yet: 0, or a negative errno. */
void groups_path(const brood_pool *pool, uint32_t number, char path[PATH_MAX]);
int groups_make(const brood_pool *pool, uint32_t number, char path[PATH_MAX]);

/* The host, after the keeper's end: remove them all, once the last one has left; those in which somebody stays, stay. */
void groups_remove(brood_pool *pool);

#endif
