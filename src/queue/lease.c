/* SPDX-License-Identifier: MIT
 *
 * queue/lease.c: the public functions of leases and tasks, over queue/leases.h.
 */
#include "os/clock.h"
#include "queue/queue.h"

#include <errno.h>
#include <string.h>

static void copy_out(void *buf, const void *bytes, size_t size)
{
        if (buf != NULL && size > 0)
                memcpy(buf, bytes, size);
}

/* A message came back, and was taken in its entry. */
static int keep_returned(brood_queue *queue, uint32_t owner, const struct lease_claim *claim, void *buf)
{
        copy_out(buf, claim->bytes, claim->size);
        leases_keep(&queue->ring.leases, owner, claim);
        queue_hold(queue);
        return 0;
}

static int lease_inside(brood_queue *queue, uint32_t owner, struct lease_claim *ret_claim, size_t room, void *buf,
                        int timeout_ms)
{
        struct ring *ring = &queue->ring;
        struct ring_claim claim;
        uint32_t entry;

        /* First a place to put it, so that no message is taken that cannot be kept. */
        int r = leases_reserve(&ring->leases, owner, &entry);
        if (r == -ENOBUFS) {
                /* What the dead hold is not held; and a message that came back has its entry, and needs no other. */
                leases_recover(&ring->leases, OWNER_NONE);
                r = leases_take(&ring->leases, owner, room, ret_claim);
                if (r == 0)
                        return keep_returned(queue, owner, ret_claim, buf);
                if (r != -EAGAIN)
                        return r;
                r = leases_reserve(&ring->leases, owner, &entry);
        }
        if (r < 0)
                return r;
        r = ring_claim(ring, &claim, room, deadline_after_ms(timeout_ms));
        if (r < 0 || claim.slot == NULL) {
                leases_unreserve(&ring->leases, owner, entry);
                if (r < 0)
                        return r;
                *ret_claim = claim.lease;
                return keep_returned(queue, owner, ret_claim, buf);
        }
        /* Copied out before it is a lease: another thread may report the oldest task as done, and that may be this one. */
        copy_out(buf, claim.bytes, claim.size);
        leases_hold(&ring->leases, owner, entry, claim.at, claim.body, ret_claim);
        queue_hold(queue);
        return 0;
}

int queue_lease(brood_queue *queue, struct lease_claim *ret_claim, size_t room, void *buf, int timeout_ms)
{
        uint32_t owner;
        int r = ring_register(&queue->ring, &owner);

        if (r < 0)
                return r;
        ring_enter(&queue->ring);
        r = lease_inside(queue, owner, ret_claim, room, buf, timeout_ms);
        ring_leave(&queue->ring);
        return r;
}

int brood_queue_lease(brood_queue *queue, brood_lease *ret_lease, int timeout_ms)
{
        struct lease_claim claim;

        if (queue == NULL || ret_lease == NULL || queue->joinable)
                return -EINVAL;
        int r = queue_lease(queue, &claim, SIZE_MAX, NULL, timeout_ms);
        if (r < 0)
                return r;
        *ret_lease = (brood_lease){
                .data = claim.bytes,
                .size = claim.size,
                .deliveries = claim.deliveries,
                .hidden = { claim.entry, lease_ticket(&claim) },
        };
        return 0;
}

typedef int (*lease_end)(struct leases *leases, uint32_t owner, uint32_t entry, uint64_t ticket);

static int end_lease(brood_queue *queue, const brood_lease *lease, lease_end end)
{
        if (queue == NULL || lease == NULL || lease->hidden[0] > UINT32_MAX)
                return -EINVAL;
        struct ring *ring = &queue->ring;
        int r = end(&ring->leases, ring_owner_now(ring), (uint32_t)lease->hidden[0], lease->hidden[1]);
        if (r == 0)
                queue_let_go(queue);
        return r;
}

int brood_queue_acknowledge(brood_queue *queue, const brood_lease *lease)
{
        return end_lease(queue, lease, leases_acknowledge);
}

int brood_queue_give_back(brood_queue *queue, const brood_lease *lease)
{
        return end_lease(queue, lease, leases_give_back);
}

int brood_queue_task_done(brood_queue *queue)
{
        if (queue == NULL || !queue->joinable)
                return -EINVAL;
        struct ring *ring = &queue->ring;
        uint32_t owner = ring_owner_now(ring), entry, generation;

        /* Another thread may report the same one first: then there is another, or there are too many reports. */
        while (owner != OWNER_NONE && leases_oldest(&ring->leases, owner, &entry, &generation) == 0)
                if (leases_acknowledge(&ring->leases, owner, entry, generation) == 0) {
                        queue_let_go(queue);
                        return 0;
                }
        return -EINVAL;
}

int brood_queue_join(brood_queue *queue, int timeout_ms)
{
        return queue == NULL ? -EINVAL : ring_join(&queue->ring, deadline_after_ms(timeout_ms));
}
