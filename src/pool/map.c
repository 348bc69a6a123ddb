/* SPDX-License-Identifier: MIT
 *
 * pool/map.c: one function over many items: chunks of items are tasks, handed in as there is room for them, and taken back in
 * order.
 */
#include "os/clock.h"
#include "pool/pool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct map {
        brood_pool *pool;
        brood_task_function function;
        const unsigned char *items;
        unsigned char *results;
        size_t item_size, result_size, count, chunksize;
        size_t submitted, taken;     /* items */
        unsigned char *staged;       /* results of chunks that had to make room for others; NULL: none yet */
        brood_result **outstanding;  /* a circle of results of chunks, oldest at `first` */
        size_t room, first, waiting; /* of that circle */
};

static size_t chunk_at(const struct map *map, size_t item)
{
        size_t left = map->count - item;

        return left < map->chunksize ? left : map->chunksize;
}

static int submit_chunk(struct map *map)
{
        struct order order = {
                .function = map->function,
                .arg = map->items + map->submitted * map->item_size,
                .arg_size = map->item_size,
                .room = map->result_size,
                .items = chunk_at(map, map->submitted),
        };
        if (map->waiting == map->room)
                return -ENOBUFS;
        int r = pool_submit(map->pool, &order, &map->outstanding[(map->first + map->waiting) % map->room]);
        if (r < 0)
                return r;
        map->submitted += order.items;
        map->waiting++;
        return 0;
}

/* Wait for the end of a chunk: 0 if it ended well, or why not. */
static int await_chunk(brood_result *result, int64_t deadline)
{
        int r = result_settle(result, deadline_left_ms(deadline));

        if (r < 0)
                return r == -EAGAIN && deadline != DEADLINE_NOW ? -ETIMEDOUT : r;
        return result->outcome == BROOD_OUTCOME_OK ? 0 : (int)result->value;
}

/* Copy the results of the oldest chunk, which has ended well, to where they belong in `to`, and free it. */
static void take_chunk(struct map *map, unsigned char *to)
{
        brood_result *result = map->outstanding[map->first];
        size_t items = chunk_at(map, map->taken);

        if (map->result_size > 0)
                memcpy(to + map->taken * map->result_size, result_bytes(result), items * map->result_size);
        brood_result_free(result);
        map->taken += items;
        map->first = (map->first + 1) % map->room;
        map->waiting--;
}

/* The pool is short of tasks or of memory: take the oldest chunk out of it. */
static int stage_chunk(struct map *map, int64_t deadline)
{
        int r = await_chunk(map->outstanding[map->first], deadline);

        if (r < 0)
                return r;
        if (map->staged == NULL) {
                map->staged = malloc(map->count * map->result_size + 1);
                if (map->staged == NULL)
                        return -ENOMEM;
        }
        take_chunk(map, map->staged);
        return 0;
}

static int run_map(struct map *map, int64_t deadline)
{
        while (map->submitted < map->count) {
                int r = submit_chunk(map);
                if ((r == -ENOBUFS || r == -ENOMEM) && map->waiting > 0)
                        r = stage_chunk(map, deadline);
                if (r < 0)
                        return r;
        }
        for (size_t i = 0; i < map->waiting; i++) {
                int r = await_chunk(map->outstanding[(map->first + i) % map->room], deadline);
                if (r < 0)
                        return r;
        }
        /* Nothing can fail any more. */
        if (map->staged != NULL)
                memcpy(map->results, map->staged, map->taken * map->result_size);
        while (map->waiting > 0)
                take_chunk(map, map->results);
        return 0;
}

int brood_pool_map(brood_pool *pool, brood_task_function function, const void *items, size_t item_size, size_t count,
                   void *results, size_t result_size, size_t chunksize, int timeout_ms)
{
        enum { CHUNKS_EACH = 4, OUTSTANDING_MOST = 4096 };
        int64_t deadline = deadline_after_ms(timeout_ms);
        size_t bytes;
        int r = pool_check(pool);

        if (r < 0)
                return r;
        if (function == NULL)
                return -EINVAL;
        if (count > 0 && (items == NULL || item_size == 0 || (results == NULL && result_size > 0)))
                return -EINVAL;
        if (__builtin_mul_overflow(item_size, count, &bytes) || __builtin_mul_overflow(result_size, count, &bytes))
                return -EINVAL;
        r = pool_usable(pool, true);
        if (r < 0 || count == 0)
                return r;
        if (chunksize == 0)
                chunksize = (count - 1) / ((size_t)load_relaxed(&pool->processes) * CHUNKS_EACH) + 1;

        size_t chunks = (count - 1) / chunksize + 1;
        struct map map = {
                .pool = pool,
                .function = function,
                .items = items,
                .results = results,
                .item_size = item_size,
                .result_size = result_size,
                .count = count,
                .chunksize = chunksize,
                .room = chunks < OUTSTANDING_MOST ? chunks : OUTSTANDING_MOST,
        };
        map.outstanding = calloc(map.room, sizeof(brood_result *));
        if (map.outstanding == NULL)
                return -ENOMEM;
        r = run_map(&map, deadline);
        for (; map.waiting > 0; map.waiting--, map.first = (map.first + 1) % map.room)
                brood_result_free(map.outstanding[map.first]);
        free(map.outstanding);
        free(map.staged);
        return r;
}
