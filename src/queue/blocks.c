/* SPDX-License-Identifier: MIT */
#include "queue/blocks.h"

#include <errno.h>

/* What a block's word says beside its lap. */
enum block_kind {
        HOLLOW = 0,   /* there may be no memory behind it */
        RESIDENT = 1, /* there is */
        TRIMMING = 2, /* the owner is giving its memory back */
};

enum {
        TABLE_PAGE = 4096 / sizeof(atomic_u64), /* entries of a table that share a page */
        RECENT = 64,                            /* how far to look back for a block that was used lately */
};

static uint64_t entry_make(uint64_t lap, uint32_t block)
{
        return (lap & LAP_MASK) << (64 - LAP_BITS) | block;
}

static uint64_t entry_lap(uint64_t entry)
{
        return entry >> (64 - LAP_BITS);
}

static uint32_t entry_block(uint64_t entry)
{
        return (uint32_t)(entry & ((UINT64_C(1) << (64 - LAP_BITS)) - 1));
}

static atomic_u64 *directory_at(const struct blocks *blocks, uint64_t lap)
{
        return &blocks->tables->directory[lap % BLOCKS_MOST];
}

static int commit_table(const struct blocks *blocks, size_t table, uint64_t index)
{
        if (index % TABLE_PAGE != 0)
                return 0;
        return region_commit(blocks->region, blocks->tables_offset + table + (size_t)index * sizeof(atomic_u64), 4096);
}

int blocks_format(struct blocks *blocks)
{
        /* The first lap is not at the start of a page of the directory, where mapping a lap would commit the page. */
        int r = region_commit(blocks->region, blocks->tables_offset + offsetof(struct blocks_tables, directory), 4096);

        if (r < 0)
                return r;
        store_relaxed(&blocks->shared->first, 1);
        return blocks_map(blocks, 1);
}

int blocks_find(const struct blocks *blocks, uint64_t lap)
{
        uint64_t entry = load_acquire(directory_at(blocks, lap)); /* A8: pairs with R8 in blocks_map */
        int64_t ahead = laps_ahead(entry_lap(entry), lap);

        if (ahead == 0)
                return lap == 0                           ? BLOCK_PAST
                       : entry_block(entry) < BLOCKS_MOST ? (int)entry_block(entry)
                                                          : BLOCK_DAMAGED;
        if (ahead > 0)
                return BLOCK_PAST;
        return laps_ahead(lap, load_acquire(&blocks->shared->first)) < 0 ? BLOCK_PAST : BLOCK_FUTURE;
}

/* Whether a block whose word was read as `word` is free; `first` may be old, which errs on the safe side. */
static bool is_free(const struct blocks *blocks, uint64_t word, uint64_t first)
{
        if (laps_ahead(state_lap(word), first) >= 0)
                return false;
        return state_kind(word) != (enum kind)TRIMMING || !owners_alive(blocks->owners, state_owner(word));
}

/* Take a block for a lap, if it is free. */
static bool take(struct blocks *blocks, uint32_t block, uint64_t lap, uint64_t first)
{
        atomic_u64 *word = &blocks->tables->words[block];
        uint64_t seen = load_acquire(word);
        enum block_kind kind = (enum block_kind)state_kind(seen);

        if (!is_free(blocks, seen, first))
                return false;
        return cas_u64(word, seen, state_make(lap, (enum kind)(kind == RESIDENT ? RESIDENT : HOLLOW), OWNER_NONE));
}

/* A free block for a lap: one that was used lately, whose memory is in the caches; else one that never was; else any. */
static int take_any(struct blocks *blocks, uint64_t lap, uint64_t first, uint32_t *ret_block)
{
        for (uint64_t back = 1; back <= RECENT && back < first; back++) {
                uint64_t entry = load_acquire(directory_at(blocks, first - back));
                uint32_t block = entry_block(entry);

                if (entry_lap(entry) == first - back && block < BLOCKS_MOST && take(blocks, block, lap, first)) {
                        *ret_block = block;
                        return 0;
                }
        }
        for (uint32_t block = load_relaxed(&blocks->shared->high); block < BLOCKS_MOST; block++) {
                int r = commit_table(blocks, offsetof(struct blocks_tables, words), block);
                if (r < 0)
                        return r;
                if (take(blocks, block, lap, first)) {
                        store_relaxed(&blocks->shared->high, block + 1);
                        *ret_block = block;
                        return 0;
                }
        }
        for (uint32_t block = 0; block < BLOCKS_MOST; block++)
                if (take(blocks, block, lap, first)) {
                        *ret_block = block;
                        return 0;
                }
        return -EAGAIN;
}

/* All slots of a block that was taken for a lap become empty in that lap.  Somebody who took the block for an earlier lap,
 * and was stopped, may be doing the same: therefore laps are only raised. */
static void prepare_slots(struct blocks *blocks, uint32_t block, uint64_t lap)
{
        struct ring_slot *slots = blocks_slots(blocks, block);

        for (uint32_t i = 0; i < BLOCK_SLOTS; i++) {
                uint64_t seen = load_relaxed(&slots[i].state);
                while (laps_ahead(state_lap(seen), lap) < 0 &&
                       !cas_u64(&slots[i].state, seen, state_make(lap, EMPTY, OWNER_NONE)))
                        seen = load_relaxed(&slots[i].state);
        }
}

int blocks_map(struct blocks *blocks, uint64_t lap)
{
        atomic_u64 *at = directory_at(blocks, lap);
        uint64_t before = load_acquire(at), first = load_acquire(&blocks->shared->first);
        uint32_t block;

        if (laps_ahead(entry_lap(before), lap) >= 0)
                return 0;
        /* The entry is that of a lap before, which must be over. */
        if (laps_ahead(lap, first) >= BLOCKS_MOST)
                return -EAGAIN;
        int r = commit_table(blocks, offsetof(struct blocks_tables, directory), lap % BLOCKS_MOST);
        if (r < 0)
                return r;
        r = take_any(blocks, lap, first, &block);
        if (r < 0)
                return r;
        atomic_u64 *word = &blocks->tables->words[block];
        uint64_t hollow = state_make(lap, (enum kind)HOLLOW, OWNER_NONE);
        if (load_relaxed(word) == hollow) {
                r = region_commit(blocks->region, blocks->offset + (size_t)block * blocks->stride, blocks->stride);
                if (r < 0) {
                        /* Free again: this lap may be tried for as often as there are blocks. */
                        cas_u64(word, hollow, state_make(first - 1, (enum kind)HOLLOW, OWNER_NONE));
                        return r;
                }
                cas_u64(word, hollow, state_make(lap, (enum kind)RESIDENT, OWNER_NONE));
        }
        prepare_slots(blocks, block, lap);
        /* R8: pairs with A8 in blocks_find; the slots are ready.  If another was faster, this block is free when the lap is
         * over. */
        cas_u64(at, before, entry_make(lap, block));
        return 0;
}

void blocks_retire(struct blocks *blocks)
{
        for (;;) {
                uint64_t first = load_acquire(&blocks->shared->first);
                int block = blocks_find(blocks, first);

                /* Never the last lap: somebody must be able to say where the end is. */
                if (block < 0 || entry_lap(load_acquire(directory_at(blocks, first + 1))) != ((first + 1) & LAP_MASK))
                        return;
                struct ring_slot *slots = blocks_slots(blocks, (uint32_t)block);
                for (uint32_t i = 0; i < BLOCK_SLOTS; i++)
                        if (laps_ahead(state_lap(load_acquire(&slots[i].state)), first) <= 0)
                                return;
                if (cas_u64(&blocks->shared->first, first, (first + 1) & LAP_MASK))
                        fetch_add_relaxed(&blocks->retired, 1);
        }
}

void blocks_trim(struct blocks *blocks, uint32_t owner, uint32_t keep)
{
        uint32_t high = load_relaxed(&blocks->shared->high);

        for (uint32_t block = 0; block < high && block < BLOCKS_MOST; block++) {
                atomic_u64 *word = &blocks->tables->words[block];
                uint64_t seen = load_acquire(word), first = load_acquire(&blocks->shared->first);

                if (state_kind(seen) == (enum kind)HOLLOW || !is_free(blocks, seen, first))
                        continue;
                if (state_kind(seen) == (enum kind)RESIDENT && keep > 0) {
                        keep--;
                        continue;
                }
                uint64_t mine = state_make(state_lap(seen), (enum kind)TRIMMING, owner);
                if (cas_u64(word, seen, mine)) {
                        region_release(blocks->region, blocks->offset + (size_t)block * blocks->stride, blocks->stride);
                        cas_u64(word, mine, state_make(state_lap(seen), (enum kind)HOLLOW, OWNER_NONE));
                }
        }
        store_relaxed(&blocks->retired, 0);
}
