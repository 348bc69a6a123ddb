/* SPDX-License-Identifier: MIT
 *
 * brood/imap.h: one function over items that come one after the other, and results that do, too.
 *
 *     static ssize_t read_line(void *arg, void *buf, size_t room)         // the size of the next item; 0: that were all
 *     {
 *             return fgets(buf, room, arg) == NULL ? 0 : strlen(buf) + 1;
 *     }
 *
 *     brood_imap *imap;
 *     size_t i;
 *     brood_pool_imap(pool, &imap, &(brood_imap_options){ .function = parse, .next = read_line, .next_arg = file });
 *     while (i = SIZE_MAX, n = brood_imap_next(imap, &i, &record, sizeof record, BROOD_FOREVER), n >= 0 || i != SIZE_MAX)
 *             if (n < 0)
 *                     fprintf(stderr, "line %zu: %s\n", i, brood_imap_reason(imap));
 *             else
 *                     use(&record, n);
 *     brood_imap_free(imap);                              // n was -ENODATA if all went well
 *
 * Only `window` chunks are in the pool at any time, ended or not: so the input may be endless, and is asked only for as much
 * as the results are taken.  It is asked in brood_pool_imap() and brood_imap_next(), by the calling thread.
 *
 * An item that fails is that item's affair, and the iteration goes on.  A chunk's items share the death of its worker: all
 * of them fail with -EOWNERDEAD.  Where that matters, leave the chunks at one item.
 *
 * Threads: an iteration is used by one thread at a time.  Fork: as for the pool, -EPERM in a forked child.  Signals: waits
 * restart after EINTR.  Death: of a worker, see above; when the pool ends first, the items that are in it fail with
 * -ECANCELED or -EPIPE.
 */
#ifndef BROOD_IMAP_H
#define BROOD_IMAP_H

#include <brood/common.h>
#include <brood/pool.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct brood_imap brood_imap;

#define BROOD_IMAP_ITEM_ROOM_DEFAULT 4096

typedef struct brood_imap_options {
        brood_task_function function;

        /* Items from a function: it writes the next one, of at most `room` bytes, and returns its size; 0: there is none any
         * more; a negative errno: the input has failed. */
        ssize_t (*next)(void *arg, void *buf, size_t room);
        void *next_arg;
        size_t item_room; /* that room; 0: BROOD_IMAP_ITEM_ROOM_DEFAULT */

        /* Or from an array, as for brood_pool_map_async(); it stays as it is until the last item was handed in. */
        const void *items;
        size_t item_size, stride;
        const brood_bytes *records;
        size_t count;

        size_t result_size; /* room for each result; 0: result_size of the pool's options */
        size_t chunksize;   /* items a task; 0: 1 */
        size_t
            window; /* chunks that are in the pool at a time; 0: four a worker; at most max_tasks of the pool's options */
} brood_imap_options;

/* Begin: the first `window` chunks are handed in.
 * Returns 0; -EINVAL (a NULL; both an input function and an array, or neither; an array that is not as for
 *   brood_pool_map_async(); a result_size beyond BROOD_POOL_RESULT_SIZE_LIMIT); -E2BIG (options from a newer brood); -ENOMEM;
 *   -ENOEXEC, -EPIPE, -ECANCELED, -EPERM as brood_pool_apply_async(). */
BROOD_API int brood_pool_imap_sized(brood_pool *pool, brood_imap **ret_imap, const brood_imap_options *options,
                                    size_t options_size, bool unordered);

/* Results in the order of the items. */
static inline int brood_pool_imap(brood_pool *pool, brood_imap **ret_imap, const brood_imap_options *options)
{
        return brood_pool_imap_sized(pool, ret_imap, options, sizeof(brood_imap_options), false);
}

/* Results as they come. */
static inline int brood_pool_imap_unordered(brood_pool *pool, brood_imap **ret_imap, const brood_imap_options *options)
{
        return brood_pool_imap_sized(pool, ret_imap, options, sizeof(brood_imap_options), true);
}

/* Wait for the next item to have ended, and copy its result into `buf` of `room` bytes.  *ret_index (which may be NULL) is
 * the item's number, from 0; it is written when an item is given, with its result or its error, and only then.
 * Returns the size of the result, or the item's error: the function's own (-EMSGSIZE if it wrote more than result_size),
 *   -EOWNERDEAD, -ECANCELED, -EPIPE, -EUCLEAN (a task has written over the pool's own memory). And without an item: -ENODATA
 *   (that were all); -EAGAIN, -ETIMEDOUT; -EMSGSIZE (the result is larger than room, and stays the next); once, after all
 *   items before it, what the input function failed with (-EMSGSIZE if it said more than its room), or -EPIPE, -ECANCELED,
 *   -ENOMEM if an item of it could not be handed in any more; -ENOBUFS, -ENOMEM (the pool is full of other tasks, and none
 *   of this iteration is in it; later it may go on); -EINVAL (NULL, or NULL buf with room > 0); -EPERM. */
BROOD_API ssize_t brood_imap_next(brood_imap *imap, size_t *ret_index, void *buf, size_t room, int timeout_ms);

/* What became of the item that was given last, as a sentence; "" for NULL.  The text lives until the next call on `imap`. */
BROOD_API const char *brood_imap_reason(brood_imap *imap);

/* Give it up, at the end or before: what is in the pool goes on, and its results are dropped; the input is asked no more.
 * May come before or after brood_pool_free(). */
BROOD_API void brood_imap_free(brood_imap *imap);

#ifdef __cplusplus
}
#endif

#endif
