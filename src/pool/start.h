/* SPDX-License-Identifier: MIT
 *
 * pool/start.h: how the keeper comes to be.
 *
 * By fork it is a copy of the host, handle and all.  By spawn and by the fork server it is a process of its own, which is given the
 * region and the two events as descriptors, and the pool's options as bytes; it makes a handle of its own from them, and goes on
 * as a forked one does.  The workers are forks of the keeper in any case: so they are as small as it is, and a birth and a death
 * of one cost the same whatever the host has in memory.
 */
#ifndef BROOD_POOL_START_H
#define BROOD_POOL_START_H

#include "pool/pool.h"

/* Fill in the start method, and look whether the options go with it: 0 or -EINVAL. */
int start_check(brood_pool_options *options);

/* Whether the keeper is no copy of the host. */
static inline bool start_is_apart(const brood_pool_options *options)
{
        return options->start_method != BROOD_START_FORK;
}

/* Make the keeper, all else being ready, and start it: 0, or a negative errno. */
int start_keeper(brood_pool *pool);

#endif
