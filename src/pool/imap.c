/* SPDX-License-Identifier: MIT
 *
 * pool/imap.c: one function over items that come one after the other.
 *
 * Chunks of items (chunk.h) are tasks, at most `window` of them in flight.  In order, the oldest is waited for; else they
 * are in completions, and whichever has ended first is taken out.  A chunk that was gathered and for which the pool has no
 * room waits here until one of the others has made some.
 */
#include "os/clock.h"
#include "os/options.h"
#include "pool/chunk.h"
#include "pool/ended.h"

#include <brood/imap.h>

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A chunk in the pool, or place for one. */
struct flight {
        struct link link; /* in `idle`, or in `flying`, the oldest first; of the current one in none */
        brood_result *result;
        struct chunk chunk; /* its items are not there any more */
        size_t first;       /* the number of its first item */
};

/* Items of the input function, one behind the other. */
struct gathered {
        brood_bytes
            *records; /* with room for a chunk; their data is filled in at the end, for the bytes may move until then */
        unsigned char *bytes;
        size_t count, size, room;
};

struct brood_imap {
        brood_pool *pool; /* with a reference */
        brood_imap_options options;
        bool unordered;
        struct items items; /* the array, if there is one */
        struct gathered gathered;
        size_t handed_in; /* items */
        bool exhausted;   /* the input is; what is gathered is still to be handed in */
        int error;        /* to be told after the last item; 0: none */
        struct flight *flights;
        struct link idle, flying;
        struct brood_completions completions; /* if unordered */
        struct flight *current;               /* whose items are given now; NULL: none */
        size_t given;                         /* so many of it */
        int item_error;                       /* of the one that was given last */
        char reason[POOL_REASON_MAX];
};

enum { ERRNO_MOST = 4095 };

/* ---- the input ---- */

static int grow(struct gathered *gathered, size_t room)
{
        if (gathered->room - gathered->size >= room)
                return 0;
        size_t wanted = gathered->size + room > 2 * gathered->room ? gathered->size + room : 2 * gathered->room;
        unsigned char *bytes = realloc(gathered->bytes, wanted);
        if (bytes == NULL)
                return -ENOMEM;
        gathered->bytes = bytes;
        gathered->room = wanted;
        return 0;
}

/* Ask for the next item: false at the end of the input, and at its failure. */
static bool gather_one(struct brood_imap *imap)
{
        struct gathered *gathered = &imap->gathered;
        size_t room = imap->options.item_room;
        ssize_t size = grow(gathered, room);

        if (size == 0)
                size = imap->options.next(imap->options.next_arg, gathered->bytes + gathered->size, room);
        if (size > 0 && (size_t)size > room)
                size = -EMSGSIZE;
        if (size <= 0) {
                imap->exhausted = true;
                imap->error = size < -ERRNO_MOST ? -EIO : (int)size;
                return false;
        }
        gathered->records[gathered->count++].size = (size_t)size;
        gathered->size += (size_t)size;
        return true;
}

/* The next chunk; it has no items if there are none. */
static struct chunk next_chunk(struct brood_imap *imap, struct items *ret_items)
{
        struct gathered *gathered = &imap->gathered;
        size_t left = imap->options.count - imap->handed_in, most = imap->options.chunksize;
        struct chunk chunk = { .function = imap->options.function,
                               .items = ret_items,
                               .room = imap->options.result_size };

        *ret_items = imap->items;
        if (imap->options.next == NULL) {
                chunk.first = imap->handed_in;
                chunk.count = left < most ? left : most;
                return chunk;
        }
        while (gathered->count < most && !imap->exhausted && gather_one(imap))
                ;
        const unsigned char *data = gathered->bytes;
        for (size_t i = 0; i < gathered->count; data += gathered->records[i++].size)
                gathered->records[i].data = data;
        ret_items->records = gathered->records;
        chunk.count = gathered->count;
        return chunk;
}

static bool is_full(int error)
{
        return error == -ENOBUFS || error == -ENOMEM;
}

/* Hand in chunks until the window is full, or the pool, or there are no items any more.  0, or why the pool took none. */
static int hand_in(struct brood_imap *imap)
{
        struct link *link;

        while ((link = link_first(&imap->idle)) != NULL) {
                struct flight *flight = link_of(link, struct flight, link);
                struct items items;
                struct chunk chunk = next_chunk(imap, &items);
                if (chunk.count == 0)
                        return 0;
                chunk.completions = imap->unordered ? &imap->completions : NULL;
                chunk.callback_arg = flight;
                int r = chunk_submit(imap->pool, &chunk, &flight->result);
                if (r < 0)
                        return r;
                flight->chunk = chunk;
                flight->chunk.items = NULL;
                flight->first = imap->handed_in;
                imap->handed_in += chunk.count;
                imap->gathered.count = imap->gathered.size = 0;
                link_remove(&flight->link);
                link_append(&imap->flying, &flight->link);
        }
        return 0;
}

/* The same, and if the pool will not take any more, that is the end of the input.  0, -ENOBUFS, -ENOMEM. */
static int refill(struct brood_imap *imap)
{
        int r = hand_in(imap);

        if (r == 0)
                return 0;
        if (is_full(r))
                return link_first(&imap->flying) != NULL ? 0 : r;
        imap->exhausted = true;
        imap->error = r;
        imap->options.count = imap->handed_in;
        imap->gathered.count = 0;
        return 0;
}

/* ---- the results ---- */

struct taking {
        struct brood_completions *completions;
        brood_result *result;
};

static bool take_next(void *arg)
{
        struct taking *taking = arg;

        taking->result = completions_take(taking->completions);
        return taking->result != NULL;
}

/* Wait for a chunk in flight to end, and make it the current one: 0, -EAGAIN, -ETIMEDOUT. */
static int await_chunk(struct brood_imap *imap, int64_t deadline)
{
        struct link *oldest = link_first(&imap->flying);
        assert(oldest != NULL);
        struct flight *flight = link_of(oldest, struct flight, link);
        struct taking taking = { .completions = &imap->completions };
        int r;

        if (imap->unordered) {
                r = ended_await(imap->pool, take_next, &taking, deadline);
                if (r == 0)
                        flight = brood_result_callback_arg(taking.result);
        } else {
                r = result_settle(flight->result, deadline_left_ms(deadline));
                if (r == -EAGAIN && deadline != DEADLINE_NOW)
                        r = -ETIMEDOUT;
        }
        if (r < 0)
                return r;
        link_remove(&flight->link);
        imap->current = flight;
        imap->given = 0;
        return 0;
}

/* The current chunk has given all that it has: its place is free. */
static void leave_current(struct brood_imap *imap)
{
        brood_result_free(imap->current->result);
        imap->current->result = NULL;
        link_append(&imap->idle, &imap->current->link);
        imap->current = NULL;
}

/* Of the item that is next in the current chunk: the size of its result, or its error. */
static ssize_t current_item(const struct brood_imap *imap, const void **ret_bytes)
{
        const struct flight *flight = imap->current;

        if (flight->result->outcome != BROOD_OUTCOME_OK)
                return (ssize_t)flight->result->value;
        return chunk_item_result(flight->result, &flight->chunk, imap->given, ret_bytes);
}

/* What there is to say when no chunk is in flight any more: the error once. */
static int tell_end(struct brood_imap *imap)
{
        int error = imap->error;

        imap->error = 0;
        return error != 0 ? error : -ENODATA;
}

static int check(const brood_imap *imap)
{
        return imap == NULL ? -EINVAL : pool_check(imap->pool);
}

ssize_t brood_imap_next(brood_imap *imap, size_t *ret_index, void *buf, size_t room, int timeout_ms)
{
        int64_t deadline = deadline_after_ms(timeout_ms);
        int r = check(imap);

        if (r < 0)
                return r;
        if (buf == NULL && room > 0)
                return -EINVAL;
        if (imap->current != NULL && imap->given == imap->current->chunk.count)
                leave_current(imap);
        if (imap->current == NULL) {
                r = refill(imap);
                if (r == 0 && link_first(&imap->flying) == NULL)
                        r = tell_end(imap);
                if (r == 0)
                        r = await_chunk(imap, deadline);
                if (r != 0)
                        return r;
        }
        const void *bytes = NULL;
        ssize_t size = current_item(imap, &bytes);
        if (size > 0 && (size_t)size > room)
                return -EMSGSIZE;
        if (size > 0)
                memcpy(buf, bytes, (size_t)size);
        if (ret_index != NULL)
                *ret_index = imap->current->first + imap->given;
        imap->item_error = size < 0 ? (int)size : 0;
        imap->given++;
        return size;
}

const char *brood_imap_reason(brood_imap *imap)
{
        if (check(imap) < 0)
                return "";
        if (imap->current == NULL || imap->given == 0)
                return "no item was given";
        if (imap->item_error == 0)
                return "the item succeeded";
        if (imap->current->result->outcome != BROOD_OUTCOME_OK)
                return brood_result_reason(imap->current->result);
        snprintf(imap->reason, sizeof imap->reason, "the function returned %d (%s) in worker %d", imap->item_error,
                 brood_strerror(imap->item_error), (int)result_worker(imap->current->result));
        return imap->reason;
}

/* ---- making and freeing ---- */

static int check_options(const brood_pool *pool, brood_imap_options *options, struct items *ret_items)
{
        struct items items = {
                .records = options->records,
                .first = options->items,
                .size = options->item_size,
                .stride = options->stride,
        };
        bool array = options->items != NULL || options->records != NULL || options->count > 0;

        if (options->function == NULL || array == (options->next != NULL))
                return -EINVAL;
        if (options->result_size > BROOD_POOL_RESULT_SIZE_LIMIT)
                return -EINVAL;
        if (options->item_room == 0)
                options->item_room = BROOD_IMAP_ITEM_ROOM_DEFAULT;
        if (options->result_size == 0)
                options->result_size = pool->options.result_size;
        if (options->chunksize == 0)
                options->chunksize = 1;
        if (options->window == 0)
                options->window = 4 * (size_t)load_relaxed(&pool->processes);
        if (options->window > pool->options.max_tasks)
                options->window = pool->options.max_tasks;
        int r = items_check(&items, options->count);
        *ret_items = items;
        return r;
}

static int make(brood_pool *pool, brood_imap **ret_imap, const brood_imap_options *options, const struct items *items)
{
        if (options->chunksize > SIZE_MAX / sizeof(brood_bytes) && options->next != NULL)
                return -ENOMEM;
        brood_imap *imap = calloc(1, sizeof *imap);
        if (imap == NULL)
                return -ENOMEM;
        imap->pool = pool;
        pool_hold(pool);
        imap->options = *options;
        imap->items = *items;
        link_init(&imap->idle);
        link_init(&imap->flying);
        completions_init(&imap->completions, pool);
        imap->flights = calloc(options->window, sizeof *imap->flights);
        if (options->next != NULL)
                imap->gathered.records = calloc(options->chunksize, sizeof *imap->gathered.records);
        if (imap->flights == NULL || (options->next != NULL && imap->gathered.records == NULL)) {
                brood_imap_free(imap);
                return -ENOMEM;
        }
        for (size_t i = 0; i < options->window; i++)
                link_append(&imap->idle, &imap->flights[i].link);
        *ret_imap = imap;
        return 0;
}

int brood_pool_imap_sized(brood_pool *pool, brood_imap **ret_imap, const brood_imap_options *options,
                          size_t options_size, bool unordered)
{
        brood_imap_options known;
        struct items items;
        brood_imap *imap = NULL;
        int r = pool_check(pool);

        if (r < 0)
                return r;
        if (ret_imap == NULL || options == NULL)
                return -EINVAL;
        r = options_read(&known, sizeof known, options, options_size);
        if (r == 0)
                r = check_options(pool, &known, &items);
        if (r == 0)
                r = pool_usable(pool, true);
        if (r == 0)
                r = make(pool, &imap, &known, &items);
        if (r != 0)
                return r;
        imap->unordered = unordered;
        r = hand_in(imap);
        if (r < 0 && !is_full(r)) {
                brood_imap_free(imap);
                return r;
        }
        *ret_imap = imap;
        return 0;
}

void brood_imap_free(brood_imap *imap)
{
        struct link *link;

        if (imap == NULL)
                return;
        if (imap->current != NULL)
                leave_current(imap);
        while ((link = link_first(&imap->flying)) != NULL) {
                link_remove(link);
                brood_result_free(link_of(link, struct flight, link)->result);
        }
        pool_release(imap->pool);
        free(imap->gathered.records);
        free(imap->gathered.bytes);
        free(imap->flights);
        free(imap);
}
