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
        int r = pool_submit(map->pool, &order, &map->outstanding[(map->first + map->waiting) % map->room]);

        if (r < 0)
                return r;
        map->submitted += order.items;
        map->waiting++;
        return 0;
}

/* Wait for the oldest chunk and copy its results. */
static int take_chunk(struct map *map, int64_t deadline)
{
        brood_result *result = map->outstanding[map->first];
        int r = result_settle(result, deadline_left_ms(deadline));

        if (r < 0)
                return r;
        if (result->outcome != BROOD_OUTCOME_OK)
                return (int)result->value;
        size_t items = chunk_at(map, map->taken);
        if (map->result_size > 0)
                memcpy(map->results + map->taken * map->result_size, result_bytes(result), items * map->result_size);
        brood_result_free(result);
        map->taken += items;
        map->first = (map->first + 1) % map->room;
        map->waiting--;
        return 0;
}

static int run_map(struct map *map, int64_t deadline)
{
        while (map->taken < map->count) {
                int r = 0;
                while (r == 0 && map->submitted < map->count && map->waiting < map->room)
                        r = submit_chunk(map);
                /* Short of tasks or of memory: some come back with each chunk that ends. */
                bool short_of_room = r == -ENOBUFS || r == -ENOMEM;
                if (r < 0 && !(short_of_room && map->waiting > 0))
                        return r;
                r = take_chunk(map, deadline);
                if (r < 0)
                        return r;
        }
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
                chunksize = (count - 1) / ((size_t)pool->options.processes * CHUNKS_EACH) + 1;

        /* A later chunk may fail, and then the caller's results must be as they were. */
        unsigned char *staged = malloc(bytes > 0 ? bytes : 1);
        if (staged == NULL)
                return -ENOMEM;

        size_t chunks = (count - 1) / chunksize + 1;
        struct map map = {
                .pool = pool,
                .function = function,
                .items = items,
                .results = staged,
                .item_size = item_size,
                .result_size = result_size,
                .count = count,
                .chunksize = chunksize,
                .room = chunks < OUTSTANDING_MOST ? chunks : OUTSTANDING_MOST,
        };
        map.outstanding = calloc(map.room, sizeof(brood_result *));
        if (map.outstanding == NULL) {
                free(staged);
                return -ENOMEM;
        }
        r = run_map(&map, deadline);
        if (r == 0 && result_size > 0)
                memcpy(results, staged, count * result_size);
        free(staged);
        for (; map.waiting > 0; map.waiting--, map.first = (map.first + 1) % map.room)
                brood_result_free(map.outstanding[map.first]);
        free(map.outstanding);
        return r;
}
