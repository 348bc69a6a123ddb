/* SPDX-License-Identifier: MIT
 *
 * pool/urgent.h: tasks that go before others.
 *
 * Each level above 0 has a ring of its own, which comes into being when its first task is handed in.  A worker that is free
 * looks at these rings, the highest first, and only then at the pool's own, on which it sleeps, and from which it is called away
 * when there is something in one of them:
 *
 *     host                                      worker
 *     ticket into the level's ring              says that it sleeps on the pool's ring
 *     somebody sleeps on the pool's ring?       looks at the levels' rings: there is something?
 *     call one                                  sleep
 *
 * Either the host finds the sleeper, or the sleeper finds the ticket.  A worker that was called and has found something else first
 * calls the next one (queue/wait.c); one that dies in between is seen by the keeper, which wakes all.
 */
#ifndef BROOD_POOL_URGENT_H
#define BROOD_POOL_URGENT_H

#include "pool/pool.h"

/* The bytes of all levels in the region, for rings like the pool's own; and the host's view of them, before the fork. */
size_t urgent_size(const struct ring_geometry *geometry);
void urgent_attach(brood_pool *pool, const struct ring_geometry *geometry, size_t offset);
void urgent_detach(brood_pool *pool);

/* The ring of a level, 1 to BROOD_TASK_PRIORITY_MOST; NULL as long as no task of that level was handed in. */
static inline struct ring *urgent_ring(brood_pool *pool, int level)
{
        return load_acquire(&pool->shared->urgent) & UINT32_C(1) << level ? &pool->urgent[level - 1].ring : NULL;
}

/* ---- the host, under the mutex ---- */

/* Memory for one more ticket of a level; for as many as there can be, if the keeper is to put some there, too.  0 or -ENOMEM. */
int urgent_commit(brood_pool *pool, int level, bool retried);

/* No more tickets. */
void urgent_close(brood_pool *pool);

/* ---- the host and the keeper ---- */

/* Put a ticket into the ring of its level, or into the pool's own (level 0): as ring_put(). */
int urgent_put(brood_pool *pool, int level, uint64_t ticket, int timeout_ms);

/* ---- the keeper ---- */

/* Whether no ticket is in any of the levels' rings. */
bool urgent_is_empty(brood_pool *pool);

/* ---- a worker ---- */

/* Claim the most urgent ticket, without waiting.  False: there is none. */
bool urgent_claim(brood_pool *pool, struct ring_claim *claim, struct ring **ret_ring);

/* Whether there is one. */
bool urgent_waits(brood_pool *pool);

#endif
