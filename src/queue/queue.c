/* SPDX-License-Identifier: MIT
 *
 * queue/queue.c: the public queue: a region that holds a ring.
 *
 *     offset 0       struct region_head
 *            64      struct ring_shared
 *            256     struct owners
 *            8448    the slots
 *            ...     the spill areas, one a slot, for messages that do not fit into a slot; memory only as it is used
 */
#include <brood/queue.h>

#include "os/options.h"
#include "queue/ring.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

struct brood_queue {
        struct region region;
        struct ring ring;
};

enum {
        SHARED_OFFSET = sizeof(struct region_head),
        OWNERS_OFFSET = SHARED_OFFSET + sizeof(struct ring_shared),
        SLOTS_OFFSET = OWNERS_OFFSET + sizeof(struct owners),
};
static_assert(SHARED_OFFSET % 64 == 0 && SLOTS_OFFSET % 64 == 0, "cache lines");

static uint64_t queue_layout(const struct ring_geometry *geometry)
{
        uint64_t signature = LAYOUT_START;

        signature = layout_fold(signature, sizeof(struct ring_shared));
        signature = layout_fold(signature, sizeof(struct owners));
        signature = layout_fold(signature, sizeof(struct ring_slot));
        signature = layout_fold(signature, SLOTS_OFFSET);
        signature = layout_fold(signature, geometry->slots);
        signature = layout_fold(signature, geometry->stride);
        return layout_fold(signature, geometry->message_size);
}

int brood_queue_new_sized(brood_queue **ret_queue, const brood_queue_options *options, size_t options_size)
{
        brood_queue_options known;
        struct ring_geometry geometry;
        size_t spill_offset, size;

        if (ret_queue == NULL)
                return -EINVAL;
        int r = options_read(&known, sizeof known, options, options_size);
        if (r < 0)
                return r;
        if (known.maxsize == 0)
                known.maxsize = BROOD_QUEUE_MAXSIZE_DEFAULT;
        if (known.message_size == 0)
                known.message_size = BROOD_QUEUE_MESSAGE_SIZE_DEFAULT;
        if (known.maxsize > BROOD_QUEUE_MAXSIZE_LIMIT || known.message_size > BROOD_QUEUE_MESSAGE_SIZE_LIMIT)
                return -EINVAL;
        r = ring_plan(&geometry, known.maxsize, known.message_size);
        if (r < 0)
                return r;
        spill_offset = SLOTS_OFFSET + geometry.slots_bytes;
        size = spill_offset + geometry.spill_bytes;

        brood_queue *queue = calloc(1, sizeof *queue);
        if (queue == NULL)
                return -ENOMEM;
        r = region_new(&queue->region, "brood-queue", REGION_QUEUE, queue_layout(&geometry), size, spill_offset);
        if (r < 0) {
                free(queue);
                return r;
        }
        ring_attach(&queue->ring, &geometry, &queue->region, SHARED_OFFSET, OWNERS_OFFSET, SLOTS_OFFSET, spill_offset);
        *ret_queue = queue;
        return 0;
}

void brood_queue_free(brood_queue *queue)
{
        if (queue == NULL)
                return;
        ring_detach(&queue->ring);
        region_drop(&queue->region);
        free(queue);
}

int brood_queue_put(brood_queue *queue, const void *data, size_t size, int timeout_ms)
{
        if (queue == NULL || (data == NULL && size > 0))
                return -EINVAL;
        if (size > queue->ring.geometry.message_size)
                return -EMSGSIZE;
        return ring_put(&queue->ring, data, size, timeout_ms);
}

int brood_queue_put_nowait(brood_queue *queue, const void *data, size_t size)
{
        return brood_queue_put(queue, data, size, 0);
}

ssize_t brood_queue_get(brood_queue *queue, void *buf, size_t room, int timeout_ms)
{
        struct ring_claim claim;

        if (queue == NULL || (buf == NULL && room > 0))
                return -EINVAL;
        int r = ring_claim(&queue->ring, &claim, room, timeout_ms);
        if (r < 0)
                return r;
        if (claim.size > 0)
                memcpy(buf, claim.bytes, claim.size);
        ring_release(&queue->ring, &claim);
        return (ssize_t)claim.size;
}

ssize_t brood_queue_get_nowait(brood_queue *queue, void *buf, size_t room)
{
        return brood_queue_get(queue, buf, room, 0);
}

int brood_queue_close(brood_queue *queue)
{
        if (queue == NULL)
                return -EINVAL;
        ring_close(&queue->ring);
        return 0;
}

ssize_t brood_queue_qsize(brood_queue *queue)
{
        return queue == NULL ? -EINVAL : ring_count(&queue->ring, SIZE_MAX);
}

int brood_queue_empty(brood_queue *queue)
{
        if (queue == NULL)
                return -EINVAL;
        ssize_t count = ring_count(&queue->ring, 1);
        return count < 0 ? (int)count : count == 0;
}

int brood_queue_full(brood_queue *queue)
{
        return queue == NULL ? -EINVAL : ring_is_full(&queue->ring);
}

size_t brood_queue_maxsize(const brood_queue *queue)
{
        return queue == NULL ? 0 : queue->ring.geometry.slots;
}

size_t brood_queue_message_size(const brood_queue *queue)
{
        return queue == NULL ? 0 : queue->ring.geometry.message_size;
}
