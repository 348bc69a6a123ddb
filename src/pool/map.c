/* SPDX-License-Identifier: MIT
 *
 * pool/map.c: one function over many items: chunks of items are tasks, handed in as there is room for them, and taken back in
 * order.
 */
#include "os/clock.h"
#include "os/options.h"
#include "pool/chunk.h"

#include <brood/map.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct brood_map {
        brood_pool *pool; /* with a reference */
        brood_task_function function;
        struct items items;
        bool plain; /* the items lie side by side, and a chunk is one stretch of them */
        size_t result_size, count, chunksize;
        size_t submitted, ended;     /* items; those that have ended have done it well */
        size_t staged_items;         /* of these, the first ones, whose results had to make room for others */
        unsigned char *staged;       /* NULL: none yet */
        brood_result **outstanding;  /* a circle of results of chunks, oldest at `first` */
        size_t room, first, waiting; /* of that circle */
        size_t well;                 /* so many of the oldest have ended well */
        int error;                   /* what the map ended with; 0: not so */
        char reason[POOL_REASON_MAX + 64];
};

static size_t chunk_at(const struct brood_map *map, size_t item)
{
        size_t left = map->count - item;

        return left < map->chunksize ? left : map->chunksize;
}

static struct chunk records_at(const struct brood_map *map, size_t item)
{
        return (struct chunk){
                .function = map->function,
                .items = &map->items,
                .first = item,
                .count = chunk_at(map, item),
                .room = map->result_size,
        };
}

static brood_result **outstanding_at(struct brood_map *map, size_t place)
{
        return &map->outstanding[(map->first + place) % map->room];
}

static int submit_chunk(struct brood_map *map)
{
        brood_result **ret_result = outstanding_at(map, map->waiting);
        struct chunk records = records_at(map, map->submitted);
        struct order order = {
                .function = map->function,
                .arg = map->items.first + map->submitted * map->items.size,
                .arg_size = map->items.size,
                .room = map->result_size,
                .items = records.count,
        };
        if (map->waiting == map->room)
                return -ENOBUFS;
        int r = map->plain ? pool_submit(map->pool, &order, ret_result) : chunk_submit(map->pool, &records, ret_result);
        if (r < 0)
                return r;
        map->submitted += records.count;
        map->waiting++;
        return 0;
}

/* The error of a chunk that has ended: its own, or that of its first failed record. */
static int chunk_error(const struct brood_map *map, const brood_result *result, size_t item)
{
        if (result->outcome != BROOD_OUTCOME_OK || map->plain)
                return result->outcome == BROOD_OUTCOME_OK ? 0 : (int)result->value;
        struct chunk records = records_at(map, item);
        const void *bytes;
        for (size_t i = 0; i < records.count; i++) {
                ssize_t size = chunk_item_result(result, &records, i, &bytes);
                if (size < 0)
                        return (int)size;
        }
        return 0;
}

/* Wait for the end of the next chunk: 0 (map->error says how it ended), -EAGAIN, -ETIMEDOUT. */
static int await_chunk(struct brood_map *map, int64_t deadline)
{
        brood_result *result = *outstanding_at(map, map->well);

        int r = result_settle(result, deadline_left_ms(deadline));
        if (r < 0)
                return r == -EAGAIN && deadline != DEADLINE_NOW ? -ETIMEDOUT : r;
        map->error = chunk_error(map, result, map->ended);
        if (map->error == 0) {
                map->ended += chunk_at(map, map->ended);
                map->well++;
        }
        return 0;
}

/* Copy the results of a chunk that has ended well to where they belong in `to`. */
static void copy_chunk(const struct brood_map *map, const brood_result *result, size_t item, unsigned char *to)
{
        size_t items = chunk_at(map, item), room = map->result_size;

        if (room == 0)
                return;
        to += item * room;
        if (map->plain) {
                memcpy(to, result_bytes(result), items * room);
                return;
        }
        struct chunk records = records_at(map, item);
        const void *bytes;
        for (size_t i = 0; i < items; i++, to += room) {
                ssize_t size = chunk_item_result(result, &records, i, &bytes);
                size = size < 0 ? 0 : size;
                if (size > 0)
                        memcpy(to, bytes, (size_t)size);
                memset(to + size, 0, room - (size_t)size);
        }
}

/* The pool is short of tasks or of memory: take the oldest chunk out of it.  0, -EAGAIN, -ETIMEDOUT. */
static int stage_chunk(struct brood_map *map, int64_t deadline)
{
        int r = map->well > 0 ? 0 : await_chunk(map, deadline);

        if (r < 0 || map->error != 0)
                return r;
        if (map->staged == NULL)
                map->staged = malloc(map->count * map->result_size + 1);
        if (map->staged == NULL) {
                map->error = -ENOMEM;
                return 0;
        }
        copy_chunk(map, *outstanding_at(map, 0), map->staged_items, map->staged);
        brood_result_free(*outstanding_at(map, 0));
        map->staged_items += chunk_at(map, map->staged_items);
        map->first = (map->first + 1) % map->room;
        map->waiting--;
        map->well--;
        return 0;
}

/* Hand in what there is room for; if `deadline` is not now, all of it.  0 (also with an error), -EAGAIN, -ETIMEDOUT. */
static int submit_items(struct brood_map *map, int64_t deadline)
{
        while (map->submitted < map->count && map->error == 0) {
                int r = submit_chunk(map);
                if ((r == -ENOBUFS || r == -ENOMEM) && map->waiting > 0) {
                        r = stage_chunk(map, deadline);
                        if (r < 0)
                                return r;
                } else {
                        map->error = r;
                }
        }
        return 0;
}

/* Go on with it until it has ended: 0, -EAGAIN, -ETIMEDOUT. */
static int map_settle(struct brood_map *map, int64_t deadline)
{
        int r = submit_items(map, deadline);

        while (r == 0 && map->error == 0 && map->ended < map->count)
                r = await_chunk(map, deadline);
        return r;
}

static void copy_results(struct brood_map *map, unsigned char *results)
{
        if (map->staged != NULL)
                memcpy(results, map->staged, map->staged_items * map->result_size);
        size_t item = map->staged_items;
        for (size_t i = 0; i < map->waiting; i++) {
                copy_chunk(map, *outstanding_at(map, i), item, results);
                item += chunk_at(map, item);
        }
}

/* About four chunks a worker, so that all end at about the same time; but none so large that the workers wait long for the first
 * ones, or that it is out of the caches when it is their turn. */
static size_t automatic_chunksize(const brood_pool *pool, const brood_map_options *options, const struct items *items)
{
        enum { CHUNKS_EACH = 4, CHUNK_BYTES_MOST = 1 << 20 };
        size_t fair = (options->count - 1) / ((size_t)load_relaxed(&pool->processes) * CHUNKS_EACH) + 1;
        size_t bytes = (items->records == NULL ? items->size : 0) + options->result_size;
        size_t most = bytes > 0 ? CHUNK_BYTES_MOST / bytes : fair;

        if (most == 0)
                return 1;
        return fair < most ? fair : most;
}

/* A map whose items are checked; none is handed in yet. */
static int map_new(brood_pool *pool, struct brood_map **ret_map, const brood_map_options *options)
{
        enum { OUTSTANDING_MOST = 4096 };
        struct items items = {
                .records = options->records,
                .first = options->items,
                .size = options->item_size,
                .stride = options->stride,
        };
        size_t bytes;

        if (options->function == NULL || __builtin_mul_overflow(options->result_size, options->count, &bytes))
                return -EINVAL;
        int r = items_check(&items, options->count);
        if (r < 0)
                return r;
        r = pool_usable(pool, true);
        if (r < 0)
                return r;
        size_t count = options->count, chunksize = options->chunksize;
        if (chunksize == 0 && count > 0)
                chunksize = automatic_chunksize(pool, options, &items);
        size_t chunks = count > 0 ? (count - 1) / chunksize + 1 : 1;
        struct brood_map *map = calloc(1, sizeof *map);
        if (map == NULL)
                return -ENOMEM;
        map->room = chunks < OUTSTANDING_MOST ? chunks : OUTSTANDING_MOST;
        map->outstanding = calloc(map->room, sizeof(brood_result *));
        if (map->outstanding == NULL) {
                free(map);
                return -ENOMEM;
        }
        map->pool = pool;
        map->function = options->function;
        map->items = items;
        map->plain = items.records == NULL && items.stride == items.size;
        map->result_size = options->result_size;
        map->count = count;
        map->chunksize = chunksize;
        pool_hold(pool);
        *ret_map = map;
        return 0;
}

int brood_pool_map_async_sized(brood_pool *pool, brood_map **ret_map, const brood_map_options *options,
                               size_t options_size)
{
        brood_map_options known;
        brood_map *map;
        int r = pool_check(pool);

        if (r < 0)
                return r;
        if (ret_map == NULL || options == NULL)
                return -EINVAL;
        r = options_read(&known, sizeof known, options, options_size);
        if (r == 0)
                r = map_new(pool, &map, &known);
        if (r != 0)
                return r;
        submit_items(map, DEADLINE_NOW);
        if (map->error != 0 && map->submitted == 0) {
                r = map->error;
                brood_map_free(map);
                return r;
        }
        *ret_map = map;
        return 0;
}

int brood_pool_map(brood_pool *pool, brood_task_function function, const void *items, size_t item_size, size_t count,
                   void *results, size_t result_size, size_t chunksize, int timeout_ms)
{
        int64_t deadline = deadline_after_ms(timeout_ms);
        brood_map_options options = {
                .function = function,
                .items = items,
                .item_size = item_size,
                .count = count,
                .result_size = result_size,
                .chunksize = chunksize,
        };
        brood_map *map;
        int r = pool_check(pool);

        if (r < 0)
                return r;
        if (results == NULL && count > 0 && result_size > 0)
                return -EINVAL;
        r = map_new(pool, &map, &options);
        if (r != 0)
                return r;
        r = map_settle(map, deadline);
        if (r == 0)
                r = map->error;
        if (r == 0)
                copy_results(map, results);
        brood_map_free(map);
        return r;
}

static int check(const brood_map *map)
{
        return map == NULL ? -EINVAL : pool_check(map->pool);
}

int brood_map_get(brood_map *map, void *results, int timeout_ms)
{
        int r = check(map);

        if (r < 0)
                return r;
        if (results == NULL && map->count > 0 && map->result_size > 0)
                return -EINVAL;
        r = map_settle(map, deadline_after_ms(timeout_ms));
        if (r == 0)
                r = map->error;
        if (r == 0)
                copy_results(map, results);
        return r;
}

int brood_map_wait(brood_map *map, int timeout_ms)
{
        int r = check(map);

        return r < 0 ? r : map_settle(map, deadline_after_ms(timeout_ms));
}

int brood_map_ready(brood_map *map)
{
        int r = brood_map_wait(map, 0);

        return r == -EAGAIN ? 0 : r < 0 ? r : 1;
}

int brood_map_successful(brood_map *map)
{
        int r = brood_map_wait(map, 0);

        return r < 0 ? r : map->error == 0;
}

const char *brood_map_reason(brood_map *map)
{
        int ready = brood_map_ready(map);

        if (ready < 0)
                return "";
        if (ready == 0)
                return "the map has not ended";
        if (map->error == 0)
                return "the map succeeded";
        brood_result *result = map->well < map->waiting ? *outstanding_at(map, map->well) : NULL;
        const char *why = result != NULL && brood_result_successful(result) == 0 ? brood_result_reason(result)
                                                                                 : brood_strerror(map->error);
        snprintf(map->reason, sizeof map->reason, "item %zu and up to %zu after it: %s", map->ended,
                 map->ended < map->count ? chunk_at(map, map->ended) - 1 : 0, why);
        return map->reason;
}

void brood_map_free(brood_map *map)
{
        if (map == NULL)
                return;
        for (size_t i = 0; i < map->waiting; i++)
                brood_result_free(*outstanding_at(map, i));
        pool_release(map->pool);
        free(map->outstanding);
        free(map->staged);
        free(map);
}
