/* SPDX-License-Identifier: MIT
 *
 * queue/queue.c: the public queue: a region that holds a ring, its leases, and its buffers.
 *
 *     struct region_head, queue_shared, ring_shared, blocks_shared, leases_shared, spill_shared, owners
 *     the entries of leases
 *     without a bound: the tables of the blocks
 *     the slots and cells: one block, or as many as there may be
 *     the buffers of each size class, with their tables
 *
 * Most of it is address space: memory is put behind it as it is used.
 */
#include "queue/queue.h"
#include "os/clock.h"
#include "os/descriptors.h"
#include "os/options.h"
#include "queue/bell.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

struct plan {
        struct ring_geometry ring;
        struct spill_geometry spill;
        size_t shared, ring_shared, blocks_shared, leases_shared, spill_shared, owners;
        size_t commit; /* what has memory from the start... */
        size_t leases, lease_stride, tables, slots, end;
        size_t commit_slots; /* ...and of the slots */
};

static int make_plan(struct plan *plan, const brood_queue_options *options)
{
        ring_plan(&plan->ring, options->maxsize, options->message_size);
        plan->shared = sizeof(struct region_head);
        plan->ring_shared = plan->shared + sizeof(struct queue_shared);
        plan->blocks_shared = plan->ring_shared + sizeof(struct ring_shared);
        plan->leases_shared = plan->blocks_shared + sizeof(struct blocks_shared);
        plan->spill_shared = plan->leases_shared + sizeof(struct leases_shared);
        plan->owners = plan->spill_shared + sizeof(struct spill_shared);
        plan->commit = plan->owners + sizeof(struct owners);
        plan->leases = round_up(plan->commit, 4096);
        plan->lease_stride = sizeof(struct lease_entry) + plan->ring.cell_stride;
        plan->tables = round_up(plan->leases + LEASES_COUNT * plan->lease_stride, 4096);
        plan->slots = plan->tables + (options->maxsize == 0 ? sizeof(struct blocks_tables) : 0);
        plan->end = plan->slots + plan->ring.block_size * (options->maxsize == 0 ? BLOCKS_MOST : 1);
        plan->commit_slots = options->maxsize == 0 ? 0 : plan->ring.block_size;
        plan->end = spill_plan(&plan->spill, plan->end, options->message_size, options->memory, plan->ring.inline_room);
        return plan->end == 0 ? -E2BIG : 0;
}

static uint64_t plan_layout(const struct plan *plan)
{
        const size_t parts[] = {
                sizeof(struct queue_shared),
                sizeof(struct ring_shared),
                sizeof(struct blocks_shared),
                sizeof(struct leases_shared),
                sizeof(struct spill_shared),
                sizeof(struct owners),
                sizeof(struct lease_entry),
                sizeof(struct ring_slot),
                sizeof(struct spill_buffer),
                LEASES_COUNT,
                BLOCKS_MOST,
                BLOCK_SLOTS,
                plan->ring.cell_stride,
                plan->leases,
                plan->slots,
                plan->end,
        };
        uint64_t signature = LAYOUT_START;

        for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
                signature = layout_fold(signature, parts[i]);
        return signature;
}

static int check_options(brood_queue_options *options)
{
        if (options->message_size == 0)
                options->message_size = BROOD_QUEUE_MESSAGE_SIZE_DEFAULT;
        if (options->memory == 0)
                options->memory = options->message_size > BROOD_QUEUE_MEMORY_DEFAULT ? options->message_size
                                                                                     : BROOD_QUEUE_MEMORY_DEFAULT;
        if (options->maxsize > BROOD_QUEUE_MAXSIZE_LIMIT || options->message_size > BROOD_QUEUE_MESSAGE_SIZE_LIMIT ||
            options->memory > BROOD_QUEUE_MEMORY_LIMIT || options->memory < options->message_size ||
            options->max_deliveries < 0 || options->max_deliveries > BROOD_QUEUE_DELIVERIES_LIMIT)
                return -EINVAL;
        return 0;
}

/* A handle's view of the region that it has. */
static void open_views(brood_queue *queue, const struct plan *plan, const brood_queue_options *options, int bell_fd)
{
        struct ring *ring = &queue->ring;

        queue->maxsize = options->maxsize;
        queue->joinable = options->joinable != 0;
        ring_attach(ring, &plan->ring, &queue->region, plan->ring_shared, plan->owners, plan->slots);
        ring->bell_fd = bell_fd;
        ring->leases.shared = region_at(&queue->region, plan->leases_shared);
        ring->leases.offset = plan->leases;
        ring->leases.stride = plan->lease_stride;
        ring->leases.tasks = queue->joinable;
        ring->leases.max_deliveries = (uint32_t)options->max_deliveries;
        ring->spill.geometry = plan->spill;
        ring->spill.shared = region_at(&queue->region, plan->spill_shared);
        if (options->maxsize == 0)
                ring->blocks = (struct blocks){
                        .region = &queue->region,
                        .owners = ring->owners,
                        .shared = region_at(&queue->region, plan->blocks_shared),
                        .tables = region_at(&queue->region, plan->tables),
                        .tables_offset = plan->tables,
                        .offset = plan->slots,
                        .stride = plan->ring.block_size,
                };
}

static int make_region(brood_queue *queue, const struct plan *plan, const brood_queue_options *options, int bell_fd)
{
        int64_t bell_id = eventfd_id(bell_fd);

        if (bell_id < 0)
                return (int)bell_id;
        int r = region_new(&queue->region, "brood-queue", REGION_QUEUE, plan_layout(plan), plan->end, plan->commit);
        if (r < 0)
                return r;
        r = region_commit(&queue->region, plan->slots, plan->commit_slots);
        if (r < 0)
                return r;
        *(struct queue_shared *)region_at(&queue->region, plan->shared) = (struct queue_shared){
                .maxsize = options->maxsize,
                .message_size = options->message_size,
                .memory = options->memory,
                .bell_id = (uint64_t)bell_id,
                .max_deliveries = (uint32_t)options->max_deliveries,
                .joinable = options->joinable != 0,
        };
        open_views(queue, plan, options, bell_fd);
        /* A descriptor that is not armed is readable: the first look of a poller puts that right. */
        eventfd_raise(bell_fd);
        if (options->maxsize != 0)
                return 0;
        struct ring_shared *shared = queue->ring.shared;
        const uint64_t begin = position_word((struct position){ .lap = 1, .index = 0 });
        store_relaxed(&shared->tail, begin);
        store_relaxed(&shared->head, begin);
        store_relaxed(&shared->settled, begin);
        return blocks_format(&queue->ring.blocks);
}

int brood_queue_new_sized(brood_queue **ret_queue, const brood_queue_options *options, size_t options_size)
{
        brood_queue_options known;
        struct plan plan;

        if (ret_queue == NULL)
                return -EINVAL;
        int r = options_read(&known, sizeof known, options, options_size);
        if (r < 0)
                return r;
        r = check_options(&known);
        if (r < 0)
                return r;
        r = make_plan(&plan, &known);
        if (r < 0)
                return r;

        brood_queue *queue = calloc(1, sizeof *queue);
        if (queue == NULL)
                return -ENOMEM;
        queue->region = (struct region)REGION_NONE;
        int bell_fd = eventfd_new_counting();
        r = bell_fd < 0 ? bell_fd : make_region(queue, &plan, &known, bell_fd);
        if (r < 0) {
                descriptor_close(&bell_fd);
                region_drop(&queue->region);
                free(queue);
                return r;
        }
        *ret_queue = queue;
        return 0;
}

/* The region is one of a queue: is it one that this brood would have made? */
static int check_region(const struct region *region, struct plan *plan, brood_queue_options *ret_options,
                        int64_t bell_id)
{
        if (region->size < sizeof(struct region_head) + sizeof(struct queue_shared))
                return -EUCLEAN;
        /* One copy, so that what is checked is what is used. */
        struct queue_shared shared;
        memcpy(&shared, region_at(region, sizeof(struct region_head)), sizeof shared);
        if (shared.max_deliveries > BROOD_QUEUE_DELIVERIES_LIMIT || shared.message_size == 0 || shared.memory == 0)
                return -EUCLEAN;
        *ret_options = (brood_queue_options){
                .maxsize = shared.maxsize,
                .message_size = shared.message_size,
                .memory = shared.memory,
                .max_deliveries = (int)shared.max_deliveries,
                .joinable = shared.joinable != 0,
        };
        if (check_options(ret_options) < 0 || make_plan(plan, ret_options) < 0)
                return -EUCLEAN;
        if (region->head->layout != plan_layout(plan))
                return -EPROTONOSUPPORT;
        if (region->size != round_up(plan->end, 4096))
                return -EUCLEAN;
        return shared.bell_id == (uint64_t)bell_id ? 0 : -EINVAL;
}

int brood_queue_attach(brood_queue **ret_queue, const int descriptors[BROOD_QUEUE_DESCRIPTORS])
{
        brood_queue_options options;
        struct plan plan;

        if (ret_queue == NULL || descriptors == NULL)
                return -EINVAL;
        int64_t bell_id = eventfd_id(descriptors[1]);
        if (bell_id < 0)
                return (int)bell_id;
        brood_queue *queue = calloc(1, sizeof *queue);
        if (queue == NULL)
                return -ENOMEM;
        queue->region = (struct region)REGION_NONE;
        int r = region_attach(&queue->region, descriptors[0], REGION_QUEUE);
        if (r >= 0)
                r = check_region(&queue->region, &plan, &options, bell_id);
        int bell_fd = r < 0 ? -1 : descriptor_duplicate(descriptors[1]);
        if (r >= 0 && bell_fd < 0)
                r = bell_fd;
        if (r < 0) {
                region_drop(&queue->region);
                free(queue);
                return r;
        }
        open_views(queue, &plan, &options, bell_fd);
        *ret_queue = queue;
        return 0;
}

void brood_queue_free(brood_queue *queue)
{
        if (queue == NULL)
                return;
        ring_detach(&queue->ring);
        descriptor_close(&queue->ring.bell_fd);
        region_drop(&queue->region);
        free(queue);
}

/* ---- put and get ---- */

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

/* In a joinable queue, what was got stays a lease until its task is done. */
static ssize_t get_task(brood_queue *queue, void *buf, size_t room, int timeout_ms)
{
        struct lease_claim claim;
        int r = queue_lease(queue, &claim, room, buf, timeout_ms);

        return r < 0 ? r : (ssize_t)claim.size;
}

ssize_t brood_queue_get(brood_queue *queue, void *buf, size_t room, int timeout_ms)
{
        if (queue == NULL || (buf == NULL && room > 0))
                return -EINVAL;
        if (queue->joinable)
                return get_task(queue, buf, room, timeout_ms);
        return ring_get(&queue->ring, buf, room, timeout_ms);
}

ssize_t brood_queue_get_nowait(brood_queue *queue, void *buf, size_t room)
{
        return brood_queue_get(queue, buf, room, 0);
}

static int check_messages(const brood_queue *queue, const struct iovec *messages, size_t count)
{
        if (queue == NULL || (messages == NULL && count > 0) || count > SSIZE_MAX)
                return -EINVAL;
        for (size_t i = 0; i < count; i++)
                if (messages[i].iov_base == NULL && messages[i].iov_len > 0)
                        return -EINVAL;
        return 0;
}

ssize_t brood_queue_put_many(brood_queue *queue, const struct iovec *messages, size_t count, int timeout_ms)
{
        int r = check_messages(queue, messages, count);

        return r < 0 ? r : ring_put_many(&queue->ring, messages, count, timeout_ms);
}

ssize_t brood_queue_get_many(brood_queue *queue, struct iovec *messages, size_t count, int timeout_ms)
{
        int r = check_messages(queue, messages, count);

        if (r < 0)
                return r;
        if (!queue->joinable)
                return ring_get_many(&queue->ring, messages, count, timeout_ms);
        uint32_t owner;
        ssize_t n = ring_register(&queue->ring, &owner);
        if (n < 0)
                return n;
        size_t i = 0;
        ring_enter(&queue->ring);
        for (; i < count; i++) {
                n = get_task(queue, messages[i].iov_base, messages[i].iov_len, i > 0 ? 0 : timeout_ms);
                if (n < 0)
                        break;
                messages[i].iov_len = (size_t)n;
        }
        ring_leave(&queue->ring);
        return i > 0 ? (ssize_t)i : n;
}

/* ---- closing, asking ---- */

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

bool queue_has_something(brood_queue *queue)
{
        return ring_can_claim(&queue->ring);
}

int brood_queue_full(brood_queue *queue)
{
        return queue == NULL ? -EINVAL : ring_is_full(&queue->ring);
}

size_t brood_queue_maxsize(const brood_queue *queue)
{
        return queue == NULL ? 0 : queue->maxsize;
}

size_t brood_queue_message_size(const brood_queue *queue)
{
        return queue == NULL ? 0 : queue->ring.geometry.message_size;
}

int brood_queue_stats_sized(brood_queue *queue, brood_queue_statistics *ret_statistics, size_t size)
{
        if (queue == NULL || ret_statistics == NULL)
                return -EINVAL;
        if (size > sizeof(brood_queue_statistics))
                return -E2BIG;
        struct ring *ring = &queue->ring;
        struct ring_shared *shared = ring->shared;
        struct leases_count leases = leases_count(&ring->leases, OWNER_NONE);
        struct ring_census census;
        int r = ring_take_census(ring, &census);
        if (r < 0)
                return r;
        /* A reservation is not put yet, and a message that is looked at is not gone. */
        uint64_t claimed = ring_claimed(ring), other = load_relaxed(&shared->skipped) + census.writing;
        uint64_t puts = claimed > other ? claimed - other : 0;
        uint64_t held = census.full + census.reading + leases.ready + leases.own + leases.others;
        brood_queue_statistics statistics = {
                .puts = puts,
                .gets = puts > held ? puts - held : 0,
                .leased = leases.own + leases.others,
                .deliveries = load_relaxed(&ring->leases.shared->deliveries),
                .redeliveries = load_relaxed(&ring->leases.shared->redeliveries),
                .dead_letters = leases_letters(&ring->leases),
                .waits = load_relaxed(&shared->waits),
                .repairs = load_relaxed(&shared->repairs),
                .high_water = load_relaxed(&shared->high_water),
        };
        memcpy(ret_statistics, &statistics, size);
        return 0;
}

/* ---- descriptors ---- */

int brood_queue_fileno(brood_queue *queue)
{
        if (queue == NULL)
                return -EINVAL;
        set_bits_u32(&queue->ring.shared->control, CONTROL_POLLED);
        return queue->ring.bell_fd;
}

int brood_queue_descriptors(brood_queue *queue, int ret_descriptors[BROOD_QUEUE_DESCRIPTORS])
{
        if (queue == NULL || ret_descriptors == NULL)
                return -EINVAL;
        ret_descriptors[0] = queue->region.fd;
        ret_descriptors[1] = queue->ring.bell_fd;
        return 0;
}
