/* SPDX-License-Identifier: MIT
 *
 * pool/chunk.h: several items as one task, each with a size of its own, and each with a result or an error of its own.
 *
 * A chunk is an ordinary task.  Its function is one of the library's, which calls the user's for one item after the other:
 *
 *     argument:  struct chunk_head | struct chunk_item, for each | the items' bytes, each aligned to 16
 *     result:    int64_t, for each: what the function returned    | room for the bytes of each, aligned to 16
 *
 * An item that fails is no failure of the chunk; the death of its worker is one of all its items.
 */
#ifndef BROOD_POOL_CHUNK_H
#define BROOD_POOL_CHUNK_H

#include "pool/pool.h"

/* Where items come from: records of any sizes, or, if `records` is NULL, `size` bytes at every `stride`-th. */
struct items {
        const brood_bytes *records;
        const unsigned char *first;
        size_t size, stride;
};

brood_bytes items_at(const struct items *items, size_t index);

/* Whether `count` items are there as they say: 0 or -EINVAL (NULL, a size of 0, sizes that overflow).  Fills in the stride. */
int items_check(struct items *items, size_t count);

struct chunk {
        brood_task_function function;
        const struct items *items;
        size_t first, count;
        size_t room;                           /* for the result of each */
        struct brood_completions *completions; /* as in struct order */
        void *callback_arg;
};

/* Hand it in: the errors of pool_submit(); -ENOMEM, too, for one that is too large. */
int chunk_submit(brood_pool *pool, const struct chunk *chunk, struct brood_result **ret_result);

/* The function of a task; of a chunk, that of its items. */
uint64_t chunk_function(const brood_pool *pool, const struct task *task);

/* Of the item `index` of a chunk that has ended well: the size of its result, and where that is; or its own error. */
ssize_t chunk_item_result(const brood_result *result, const struct chunk *chunk, size_t index, const void **ret_bytes);

#endif
