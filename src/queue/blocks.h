/* SPDX-License-Identifier: MIT
 *
 * queue/blocks.h: where the slots of a lap are.
 *
 * A ring with a bound is one block of slots, which every lap goes round.  A ring without a bound is a sequence of laps of
 * BLOCK_SLOTS slots, each in a block of its own: the directory says in which.  A new lap gets a block when a putter reaches
 * it, and the block is free for another lap when all messages of its lap are done with.
 *
 * Nobody has to free a block.  Its word says which lap it was taken for, and it is free exactly when that lap is before
 * `first`, the oldest lap that is not wholly done with.  So one compare-and-swap on `first` frees a block, and a block that
 * was taken by somebody who died before the directory knew of it, or who came second, is free again as soon as its lap is
 * over.
 *
 *   shared word        written by                                        read by     under
 *   first              getters, forward by CAS: all of the lap is done   all         -
 *   directory entry    whoever maps a lap, by CAS, once a lap            all         frozen while the lap lasts
 *   block word         whoever takes the free block, by CAS; a trimmer   takers      | lap 37 | kind 3 | owner 24 |
 *   high               takers; a hint: no block above it was ever used   takers      -
 *
 * Laps of a ring without a bound begin with 1, so that zeroed memory is before all of them.
 */
#ifndef BROOD_QUEUE_BLOCKS_H
#define BROOD_QUEUE_BLOCKS_H

#include "queue/slot.h"
#include "shm/region.h"

enum {
        BLOCK_SLOTS = 512,
        BLOCKS_MOST = 1 << 16,
};

struct blocks_shared {
        _Alignas(64) atomic_u64 first;
        atomic_u32 high;
        uint32_t reserved[13];
};
static_assert(sizeof(struct blocks_shared) == 64, "a cache line");

/* The two tables, one word a block each. */
struct blocks_tables {
        atomic_u64 words[BLOCKS_MOST];
        atomic_u64 directory[BLOCKS_MOST];
};

/* This process's view. */
struct blocks {
        const struct region *region;
        struct owners *owners;
        struct blocks_shared *shared;
        struct blocks_tables *tables;
        size_t tables_offset;
        size_t offset, stride; /* of the blocks in the region */
        atomic_u32 retired;    /* laps that this process has seen the end of since it trimmed */
};

enum { BLOCK_PAST = -1, BLOCK_FUTURE = -2, BLOCK_DAMAGED = -3 };

/* The memory of the tables is zeros: give it its first lap.  0 or -ENOMEM.  Once, before anybody else can see it. */
int blocks_format(struct blocks *blocks);

/* The block of a lap, or BLOCK_PAST, BLOCK_FUTURE, BLOCK_DAMAGED.  The lap may be over when this returns: the laps in the
 * slots tell. */
int blocks_find(const struct blocks *blocks, uint64_t lap);

/* Give a lap its block, if nobody has: 0; -EAGAIN (all blocks are in use); -ENOMEM. */
int blocks_map(struct blocks *blocks, uint64_t lap);

/* The oldest laps are over if all their slots are done with and there is a lap behind them. */
void blocks_retire(struct blocks *blocks);

/* Give the memory of free blocks back to the kernel, but for that of `keep` of them. */
void blocks_trim(struct blocks *blocks, uint32_t owner, uint32_t keep);

static inline struct ring_slot *blocks_slots(const struct blocks *blocks, uint32_t block)
{
        return region_at(blocks->region, blocks->offset + (size_t)block * blocks->stride);
}

#endif
