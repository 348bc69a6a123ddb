/* SPDX-License-Identifier: MIT
 *
 * queue/queue.h: the handle of a queue, for the files that make up its public functions: queue.c (making, putting, getting,
 * asking), place.c (in place), lease.c (leases and tasks).
 */
#ifndef BROOD_QUEUE_QUEUE_H
#define BROOD_QUEUE_QUEUE_H

#include <brood/queue.h>

#include "queue/ring.h"

/* What a queue was made with.  Written once, before anybody else can see it; whoever attaches checks it, and keeps what
 * follows from it in his own memory. */
struct queue_shared {
        uint64_t maxsize;
        uint64_t message_size;
        uint64_t memory;
        uint64_t bell_id; /* by which the kernel knows the eventfd */
        uint32_t max_deliveries;
        uint32_t joinable;
        uint64_t reserved[3];
};
static_assert(sizeof(struct queue_shared) == 64, "a cache line");

struct brood_queue {
        struct region region;
        struct ring ring;
        size_t maxsize;
        bool joinable;
};

/* The `hidden` members of the public structs. */
enum {
        HIDDEN_LEASED = 1, /* the view is a lease that was given as one */
};

static inline struct position hidden_position(const uint64_t *hidden)
{
        return position_of(hidden[0]);
}

/* This process holds something of the queue, or has given it up. */
static inline void queue_hold(brood_queue *queue)
{
        fetch_add_relaxed(&queue->ring.holding, 1);
}

static inline void queue_let_go(brood_queue *queue)
{
        fetch_add_relaxed(&queue->ring.holding, UINT32_MAX);
}

/* Whether a get that may not wait would return anything but -EAGAIN: a message, the end, or another error.  Repairs what it
 * meets of the dead, as a get that waits. */
bool queue_has_something(brood_queue *queue);

/* Take the oldest message of at most `room` bytes as a lease, and copy it to `buf` if that is not NULL: 0, or as
 * brood_queue_lease(). */
int queue_lease(brood_queue *queue, struct lease_claim *ret_claim, size_t room, void *buf, int timeout_ms);

#endif
