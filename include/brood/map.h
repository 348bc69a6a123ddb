/* SPDX-License-Identifier: MIT
 *
 * brood/map.h: one function over many items, while the host goes on.
 *
 *     brood_map *map;
 *     brood_pool_map_async(pool, &map, &(brood_map_options){
 *             .function = thumbnail, .items = images, .item_size = sizeof *images, .count = n, .result_size = sizeof *thumbs });
 *     ...
 *     r = brood_map_get(map, thumbs, BROOD_FOREVER);      // all results in order, or the error of the first failed item
 *     brood_map_free(map);
 *
 * The items are handed to the pool in chunks, and copied then.  What is more than the pool has room for (options.max_tasks
 * and options.memory of brood_pool_new()) follows when there is room again, in later calls on the map, for the host has no
 * thread that could do it; so the items stay as they are until the map has ended, and a pool that is closed before fails it
 * with -EPIPE.  brood_pool_map() does all of it in one call.
 *
 * Threads: a map is used by one thread at a time.  Fork: as for the pool, -EPERM in a forked child.  Signals: waits restart
 * after EINTR.
 * Death: a worker that dies costs its chunk, and so the map: -EOWNERDEAD, unless an earlier item has failed.  A keeper's
 * death ends a wait: -EPIPE.
 */
#ifndef BROOD_MAP_H
#define BROOD_MAP_H

#include <brood/common.h>
#include <brood/pool.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct brood_map brood_map;

typedef struct brood_map_options {
        brood_task_function function;
        const void *items; /* `count` items of `item_size` bytes */
        size_t item_size;
        size_t stride;              /* from one item to the next, in bytes; 0: item_size */
        const brood_bytes *records; /* instead of these three: items of any sizes */
        size_t count;
        size_t result_size; /* bytes of each result; may be 0 */
        size_t chunksize;   /* items a task; 0: about four chunks a worker, of at most 1 MiB */
} brood_map_options;

/* Apply `function` to each item, as brood_pool_map() does, without waiting.  An item lies at a multiple of 16 bytes in the
 * worker if it is a record or the stride is not its size.
 * Returns 0; -EINVAL (a NULL; with count > 0: neither items nor records or both, an item_size of 0, a stride below it, a
 *   record of NULL with a size, sizes whose product overflows); -E2BIG (options from a newer brood); the errors of
 *   brood_pool_apply_async(): -ENOEXEC, -EPIPE, -ECANCELED, -EPERM; -ENOMEM and -ENOBUFS only if not one chunk has room. */
BROOD_API int brood_pool_map_async_sized(brood_pool *pool, brood_map **ret_map, const brood_map_options *options,
                                         size_t options_size);

static inline int brood_pool_map_async(brood_pool *pool, brood_map **ret_map, const brood_map_options *options)
{
        return brood_pool_map_async_sized(pool, ret_map, options, sizeof(brood_map_options));
}

/* Wait for the end of the map and copy the results: result_size bytes for each item, in order, padded with zeros.  May be
 * repeated.
 * Returns 0; -EAGAIN, -ETIMEDOUT; the error of the first failed item (-EMSGSIZE if it wrote more than result_size);
 *   -EOWNERDEAD; -ECANCELED, -EPIPE (the pool was terminated or broke first); -ENOMEM; -EUCLEAN (a task has written over the
 *   pool's own memory); -EINVAL (NULL); -EPERM.  On failure `results` is untouched.  When a number may be either the call's
 *   or an item's: after the latter brood_map_ready() is 1. */
BROOD_API int brood_map_get(brood_map *map, void *results, int timeout_ms);

/* Wait for the end of the map, whatever it is: all items have their results, or one has failed and those before it have
 * theirs.
 * Returns 0; -EAGAIN, -ETIMEDOUT; -EINVAL; -EPERM. */
BROOD_API int brood_map_wait(brood_map *map, int timeout_ms);

/* Whether it has ended: 1 or 0; -EINVAL; -EPERM. */
BROOD_API int brood_map_ready(brood_map *map);

/* Whether it ended with all results: 1 or 0; -EAGAIN if it has not ended; -EINVAL; -EPERM. */
BROOD_API int brood_map_successful(brood_map *map);

/* What became of it, as a sentence ("item 17 and up to 3 after it: worker 4711 was killed by SIGSEGV (Segmentation fault)");
 * "" for NULL.  The text lives as long as the map; a later call may replace it. */
BROOD_API const char *brood_map_reason(brood_map *map);

/* Give it up.  Chunks that have not ended go on, and their results are dropped.  May come before or after brood_pool_free(). */
BROOD_API void brood_map_free(brood_map *map);

#ifdef __cplusplus
}
#endif

#endif
