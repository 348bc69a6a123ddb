/* SPDX-License-Identifier: MIT
 *
 * queue_in_place.c: large messages that are written and read where they lie.
 *
 *     brood   reserve, memcpy into it, commit; peek, memcpy out of it, release
 *     ring    the same copies into and out of the slots of a ring in shared memory, for one producer and one consumer that
 *             spin: what memcpy allows
 */
#include "queue.h"
#include "queue_brood.h"

/* brood */

EACH_PEER void place_put(void *queue, const void *message, size_t size)
{
        brood_reservation place;

        brood_check("brood_queue_reserve", brood_queue_reserve(queue, &place, size, BROOD_FOREVER));
        memcpy(place.data, message, size);
        brood_check("brood_queue_commit", brood_queue_commit(queue, &place, size));
}

EACH_PEER void place_get(void *queue, void *message, size_t size)
{
        brood_view view;

        brood_check("brood_queue_peek", brood_queue_peek(queue, &view, BROOD_FOREVER));
        if (view.size != size)
                bench_die("brood_queue_peek: a message of another size");
        memcpy(message, view.data, size);
        brood_check("brood_queue_release", brood_queue_release(queue, &view));
}

/* ring: holds the messages from `first` up to, and without, `last`; both count up without end. */

struct slot_ring {
        alignas(BENCH_CACHE_PAIR) _Atomic uint64_t last;  /* the producer's */
        alignas(BENCH_CACHE_PAIR) _Atomic uint64_t first; /* the consumer's */
        alignas(MESSAGE_PAGE) unsigned char slot[DEPTH_LARGE][MESSAGE_LARGEST];
};

static void *ring_make(size_t depth, size_t size)
{
        assert(depth == DEPTH_LARGE && size == MESSAGE_LARGEST);
        (void)depth;
        (void)size;
        return bench_shared(sizeof(struct slot_ring));
}

static void ring_end(void *ring)
{
        (void)ring; /* ends with the program */
}

EACH_PEER void ring_put(void *queue, const void *message, size_t size)
{
        struct slot_ring *ring = queue;
        uint64_t last = atomic_load_explicit(&ring->last, memory_order_relaxed);
        unsigned tries = 0;

        /* Pairs with the release store in get. */
        while (last - atomic_load_explicit(&ring->first, memory_order_acquire) == DEPTH_LARGE)
                bench_relax(&tries);
        memcpy(ring->slot[last % DEPTH_LARGE], message, size);
        atomic_store_explicit(&ring->last, last + 1, memory_order_release);
}

EACH_PEER void ring_get(void *queue, void *message, size_t size)
{
        struct slot_ring *ring = queue;
        uint64_t first = atomic_load_explicit(&ring->first, memory_order_relaxed);
        unsigned tries = 0;

        /* Pairs with the release store in put. */
        while (atomic_load_explicit(&ring->last, memory_order_acquire) == first)
                bench_relax(&tries);
        memcpy(message, ring->slot[first % DEPTH_LARGE], size);
        atomic_store_explicit(&ring->first, first + 1, memory_order_release);
}

int main(int argc, char **argv)
{
        struct bench_options o = bench_options_parse(argc, argv);
        bool known = !strcmp(o.figure, "1MiB-in-place");

        if (known && !strcmp(o.peer, "brood"))
                measure(&o, MESSAGE_LARGEST, brood_make, brood_end, place_put, place_get);
        else if (known && !strcmp(o.peer, "ring"))
                measure(&o, MESSAGE_LARGEST, ring_make, ring_end, ring_put, ring_get);
        else
                bench_options_unknown(&o, "1MiB-in-place of brood, ring");
        return 0;
}
