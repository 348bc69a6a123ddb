/* SPDX-License-Identifier: MIT
 *
 * pool/arena.h: the memory of arguments and results: blocks of a part of a region, given out by the host alone.
 *
 * The books (what is free) are in the host's own memory, so nothing that a worker does can damage them.  A block is rounded up to
 * one of four sizes a power of two; freed blocks are kept by size and given out again, the last one first, while it is in the
 * cache.  New blocks come from the front of what was never used, which gets its memory step by step.
 */
#ifndef BROOD_POOL_ARENA_H
#define BROOD_POOL_ARENA_H

#include "shm/region.h"

#include <stddef.h>

enum { ARENA_CLASSES = 160 };

struct arena {
        const struct region *region;
        size_t used, committed, end; /* offsets in the region */
        struct arena_bin {
                size_t *blocks; /* the free ones */
                size_t count;
                size_t made; /* how many blocks of this size there are: `blocks` has room for all */
        } bins[ARENA_CLASSES];
};

struct arena_block {
        size_t offset; /* in the region, a multiple of 64; 0: none */
        unsigned class;
};

/* Use the region from `start` to `end`. */
void arena_init(struct arena *arena, const struct region *region, size_t start, size_t end);
void arena_drop(struct arena *arena);

/* A block of at least `size` (> 0) bytes: 0 or -ENOMEM.  Freeing cannot fail. */
int arena_alloc(struct arena *arena, size_t size, struct arena_block *ret_block);
void arena_free(struct arena *arena, struct arena_block block);

/* How many bytes a block of `size` takes. */
size_t arena_block_size(size_t size);

#endif
