/* SPDX-License-Identifier: MIT
 *
 * queue/place.c: messages that are written and read where they lie.
 */
#include "os/clock.h"
#include "queue/queue.h"

#include <errno.h>

int brood_queue_reserve(brood_queue *queue, brood_reservation *ret_reservation, size_t size, int timeout_ms)
{
        struct ring_place place;
        uint32_t owner;

        if (queue == NULL || ret_reservation == NULL)
                return -EINVAL;
        if (size > queue->ring.geometry.message_size)
                return -EMSGSIZE;
        int r = ring_register(&queue->ring, &owner);
        if (r < 0)
                return r;
        ring_enter(&queue->ring);
        r = ring_reserve(&queue->ring, &place, size, deadline_after_ms(timeout_ms));
        if (r == 0)
                queue_hold(queue);
        ring_leave(&queue->ring);
        if (r < 0)
                return r;
        *ret_reservation = (brood_reservation){
                .data = place.bytes,
                .size = size,
                .hidden = { position_word(place.at), body_word(place.body) },
        };
        return 0;
}

/* The place that a reservation says it is. */
static int find_place(brood_queue *queue, const brood_reservation *reservation, struct ring_place *ret_place)
{
        if (queue == NULL || reservation == NULL)
                return -EINVAL;
        ret_place->at = hidden_position(reservation->hidden);
        ret_place->body = body_of(reservation->hidden[1]);
        if (!ring_body_valid(&queue->ring, ret_place->body))
                return -EINVAL;
        int r = ring_find_claim(&queue->ring, ret_place->at, WRITING, &ret_place->slot);
        if (r == 0 && ret_place->body.class != 0 &&
            !spill_is_held_by(&queue->ring.spill, ret_place->body, spill_holder_position(ret_place->at)))
                return -EINVAL; /* not what brood_queue_reserve() wrote there */
        return r;
}

int brood_queue_commit(brood_queue *queue, const brood_reservation *reservation, size_t size)
{
        struct ring_place place;
        int r = find_place(queue, reservation, &place);

        if (r < 0)
                return r;
        if (size > place.body.size)
                return -EINVAL;
        ring_commit(&queue->ring, &place, size);
        queue_let_go(queue);
        return 0;
}

int brood_queue_cancel(brood_queue *queue, const brood_reservation *reservation)
{
        struct ring_place place;
        int r = find_place(queue, reservation, &place);

        if (r < 0)
                return r;
        ring_cancel(&queue->ring, &place);
        queue_let_go(queue);
        return 0;
}

int brood_queue_peek(brood_queue *queue, brood_view *ret_view, int timeout_ms)
{
        struct ring_claim claim;
        uint32_t owner;

        if (queue == NULL || ret_view == NULL || queue->joinable)
                return -EINVAL;
        int r = ring_register(&queue->ring, &owner);
        if (r < 0)
                return r;
        ring_enter(&queue->ring);
        r = ring_claim(&queue->ring, &claim, SIZE_MAX, deadline_after_ms(timeout_ms));
        if (r == 0)
                queue_hold(queue);
        ring_leave(&queue->ring);
        if (r < 0)
                return r;
        *ret_view = (brood_view){ .data = claim.bytes, .size = claim.size };
        if (claim.slot == NULL) {
                ret_view->hidden[0] = claim.lease.entry;
                ret_view->hidden[1] = lease_ticket(&claim.lease);
                ret_view->hidden[2] = HIDDEN_LEASED;
        } else {
                ret_view->hidden[0] = position_word(claim.at);
                ret_view->hidden[1] = claim.body;
        }
        return 0;
}

/* End a view: the message is gone, or goes back. */
static int end_view(brood_queue *queue, const brood_view *view, bool back)
{
        if (queue == NULL || view == NULL)
                return -EINVAL;
        struct ring *ring = &queue->ring;
        int r;
        if (view->hidden[2] == HIDDEN_LEASED) {
                uint32_t entry = (uint32_t)view->hidden[0];
                r = (back ? leases_give_back : leases_acknowledge)(&ring->leases, ring_owner_now(ring), entry,
                                                                   view->hidden[1]);
        } else {
                struct ring_claim claim = { .at = hidden_position(view->hidden), .body = view->hidden[1] };
                r = ring_find_claim(ring, claim.at, READING, &claim.slot);
                if (r == 0)
                        (back ? ring_unclaim : ring_release)(ring, &claim);
        }
        if (r == 0)
                queue_let_go(queue);
        return r;
}

int brood_queue_release(brood_queue *queue, const brood_view *view)
{
        return end_view(queue, view, false);
}

int brood_queue_unpeek(brood_queue *queue, const brood_view *view)
{
        return end_view(queue, view, true);
}
