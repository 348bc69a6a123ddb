/* SPDX-License-Identifier: MIT
 *
 * pool/ended.h: how the end of a task is told to those who asked.
 */
#ifndef BROOD_POOL_ENDED_H
#define BROOD_POOL_ENDED_H

#include "pool/pool.h"

/* In a worker or the keeper: a task is DONE, and its state was `before`: tell those who asked. */
void ended_tell(brood_pool *pool, struct task *task, uint64_t before);

#endif
