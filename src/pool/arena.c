/* SPDX-License-Identifier: MIT */
#include "pool/arena.h"

#include <errno.h>
#include <stdlib.h>

enum {
        SMALLEST = 64,
        COMMIT_STEP = 256 << 10,
};

/* The class of a size: 64, 128, 192, 256, 320, 384, 448, 512, 640, ...; four to each power of two from 256 on. */
static unsigned size_class(size_t size, size_t *ret_rounded)
{
        if (size <= 4 * SMALLEST) {
                size_t rounded = round_up(size, SMALLEST);
                *ret_rounded = rounded;
                return (unsigned)(rounded / SMALLEST) - 1;
        }
        unsigned power = 63 - (unsigned)__builtin_clzll(size - 1); /* 2^power < size <= 2^(power + 1) */
        size_t step = (size_t)1 << (power - 2);
        size_t rounded = round_up(size, step);
        *ret_rounded = rounded;
        return 4 + (power - 8) * 4 + (unsigned)((rounded - ((size_t)1 << power)) / step) - 1;
}

size_t arena_block_size(size_t size)
{
        size_t rounded;

        size_class(size, &rounded);
        return rounded;
}

void arena_init(struct arena *arena, const struct region *region, size_t start, size_t end)
{
        *arena = (struct arena){ .region = region, .used = start, .committed = start, .end = end };
}

void arena_drop(struct arena *arena)
{
        for (unsigned i = 0; i < ARENA_CLASSES; i++)
                free(arena->bins[i].blocks);
        *arena = (struct arena){ 0 };
}

/* A new block from the front of the unused part. */
static int make_block(struct arena *arena, unsigned class, size_t size, struct arena_block *ret_block)
{
        struct arena_bin *bin = &arena->bins[class];

        if (size > arena->end - arena->used)
                return -ENOMEM;
        if ((bin->made & (bin->made - 1)) == 0) { /* 0 or a power of two: the room is used up */
                size_t *blocks = realloc(bin->blocks, (bin->made == 0 ? 1 : bin->made * 2) * sizeof *blocks);
                if (blocks == NULL)
                        return -ENOMEM;
                bin->blocks = blocks;
        }
        if (arena->used + size > arena->committed) {
                size_t upto = round_up(arena->used + size, COMMIT_STEP);
                upto = upto < arena->end ? upto : arena->end;
                int r = region_commit(arena->region, arena->committed, upto - arena->committed);
                if (r < 0)
                        return -ENOMEM;
                arena->committed = upto;
        }
        bin->made++;
        *ret_block = (struct arena_block){ .offset = arena->used, .class = class };
        arena->used += size;
        return 0;
}

int arena_alloc(struct arena *arena, size_t size, struct arena_block *ret_block)
{
        size_t rounded;
        unsigned class = size_class(size, &rounded);
        struct arena_bin *bin = &arena->bins[class];

        if (bin->count == 0) {
                int r = make_block(arena, class, rounded, ret_block);
                if (r == 0)
                        return 0;
                /* A larger block that is free will do. */
                while (++class < ARENA_CLASSES && arena->bins[class].count == 0)
                        ;
                if (class == ARENA_CLASSES)
                        return r;
                bin = &arena->bins[class];
        }
        *ret_block = (struct arena_block){ .offset = bin->blocks[--bin->count], .class = class };
        return 0;
}

void arena_free(struct arena *arena, struct arena_block block)
{
        struct arena_bin *bin = &arena->bins[block.class];

        bin->blocks[bin->count++] = block.offset;
}
