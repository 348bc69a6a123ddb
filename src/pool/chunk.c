/* SPDX-License-Identifier: MIT
 *
 * pool/chunk.c: see chunk.h.
 */
#include "pool/chunk.h"

#include <errno.h>
#include <string.h>

struct chunk_head {
        uint64_t function, room, count, reserved;
};
static_assert(sizeof(struct chunk_head) == 32, "layout");

struct chunk_item {
        uint64_t offset; /* from the head */
        uint64_t size;
};
static_assert(sizeof(struct chunk_item) == 16, "layout");

enum { ALIGN = 16 };

brood_bytes items_at(const struct items *items, size_t index)
{
        if (items->records != NULL)
                return items->records[index];
        return (brood_bytes){ .data = items->first + index * items->stride, .size = items->size };
}

int items_check(struct items *items, size_t count)
{
        size_t end;

        if (items->stride == 0)
                items->stride = items->size;
        if (count == 0)
                return 0;
        if (items->records != NULL) {
                for (size_t i = 0; i < count; i++)
                        if (items->records[i].data == NULL && items->records[i].size > 0)
                                return -EINVAL;
                return items->first == NULL && items->size == 0 ? 0 : -EINVAL;
        }
        if (items->first == NULL || items->size == 0 || items->stride < items->size)
                return -EINVAL;
        return __builtin_mul_overflow(items->stride, count, &end) ? -EINVAL : 0;
}

static size_t values_size(size_t count)
{
        return round_up(count * sizeof(int64_t), ALIGN);
}

/* ---- in the worker ---- */

static ssize_t run_chunk(const void *arg, size_t size, void *out, size_t room)
{
        const struct chunk_head *head = arg;
        const struct chunk_item *items = (const void *)(head + 1);
        brood_task_function function = worker_function(head->function);
        int64_t *values = out;
        unsigned char *slot = (unsigned char *)out + values_size(head->count);

        (void)size;
        if (function == NULL)
                return -ENOEXEC;
        for (uint64_t i = 0; i < head->count; i++, slot += round_up(head->room, ALIGN)) {
                ssize_t value = function((const char *)arg + items[i].offset, items[i].size, slot, head->room);
                values[i] = value > 0 && (size_t)value > head->room ? -EMSGSIZE : value;
        }
        return (ssize_t)room;
}

/* ---- in the host ---- */

/* How many bytes the argument takes, or 0 if no memory is so large. */
static size_t packed_size(const struct chunk *chunk)
{
        size_t size = sizeof(struct chunk_head);

        if (__builtin_mul_overflow(chunk->count, sizeof(struct chunk_item), &size) ||
            __builtin_add_overflow(size, sizeof(struct chunk_head), &size))
                return 0;
        for (size_t i = 0; i < chunk->count; i++) {
                size_t bytes = items_at(chunk->items, chunk->first + i).size;
                if (bytes > SIZE_MAX / 4 || size > SIZE_MAX / 4)
                        return 0;
                size += round_up(bytes, ALIGN);
        }
        return size;
}

static void pack(void *to, const void *arg)
{
        const struct chunk *chunk = arg;
        struct chunk_head *head = to;
        struct chunk_item *items = (void *)(head + 1);
        size_t offset = sizeof *head + chunk->count * sizeof *items;

        *head = (struct chunk_head){
                .function = (uintptr_t)chunk->function,
                .room = chunk->room,
                .count = chunk->count,
        };
        for (size_t i = 0; i < chunk->count; i++) {
                brood_bytes item = items_at(chunk->items, chunk->first + i);
                items[i] = (struct chunk_item){ .offset = offset, .size = item.size };
                if (item.size > 0)
                        memcpy((char *)to + offset, item.data, item.size);
                offset += round_up(item.size, ALIGN);
        }
}

int chunk_submit(brood_pool *pool, const struct chunk *chunk, brood_result **ret_result)
{
        size_t size = packed_size(chunk), room;

        if (size == 0 || chunk->room > SIZE_MAX / 4 ||
            __builtin_mul_overflow(chunk->count, round_up(chunk->room, ALIGN) + sizeof(int64_t), &room) ||
            room > SIZE_MAX / 4)
                return -ENOMEM;
        struct order order = {
                .function = run_chunk,
                .calls = chunk->function,
                .arg = chunk,
                .pack = pack,
                .completions = chunk->completions,
                .callback_arg = chunk->callback_arg,
                .arg_size = size,
                .room = values_size(chunk->count) + chunk->count * round_up(chunk->room, ALIGN),
        };
        return pool_submit(pool, &order, ret_result);
}

ssize_t chunk_item_result(const brood_result *result, const struct chunk *chunk, size_t index, const void **ret_bytes)
{
        const unsigned char *out = result_bytes(result);
        int64_t value;

        memcpy(&value, out + index * sizeof value, sizeof value);
        /* A task that has run wild may have written there. */
        if (value > 0 && (uint64_t)value > chunk->room)
                return -EUCLEAN;
        *ret_bytes = out + values_size(chunk->count) + index * round_up(chunk->room, ALIGN);
        return (ssize_t)value;
}
