/* SPDX-License-Identifier: MIT
 *
 * unsafe_ring.h: a bounded queue in shared memory that keeps none of brood's promises, as the mark to measure against.
 *
 * The well-known bounded ring with a sequence number in each slot, credited to Dmitry Vyukov, written anew here.  A slot is
 * free for ticket t when its sequence is t, and full when it is t + 1; freeing it sets t + RING_SLOTS, its next lap.
 *
 * What it leaves out: nobody knows who holds a slot, so a process that is killed between its claim and its publishing store
 * stops the ring for ever; nobody sleeps, waiting is spinning and then sched_yield(2); messages have one fixed size.
 */
#ifndef BENCH_UNSAFE_RING_H
#define BENCH_UNSAFE_RING_H

#include "bench.h"

#define RING_SLOTS 1024u /* a power of two */
#define RING_MESSAGE 64u

#ifndef RING_STRIDE
#define RING_STRIDE 128
#endif

struct unsafe_ring_slot {
        _Alignas(RING_STRIDE) _Atomic uint64_t sequence;
        unsigned char message[RING_MESSAGE];
};

struct unsafe_ring {
        _Alignas(BENCH_CACHE_PAIR) _Atomic uint64_t put_ticket;
        _Alignas(BENCH_CACHE_PAIR) _Atomic uint64_t get_ticket;
        _Alignas(BENCH_CACHE_PAIR) struct unsafe_ring_slot slot[RING_SLOTS];
};

static inline struct unsafe_ring *unsafe_ring_new(void)
{
        struct unsafe_ring *ring = bench_shared(sizeof *ring);

        for (uint64_t i = 0; i < RING_SLOTS; i++)
                atomic_init(&ring->slot[i].sequence, i);
        return ring;
}

/* Claim the slot of the next ticket; `full` is 0 for a put and 1 for a get.  Waits until there is one. */
static inline struct unsafe_ring_slot *unsafe_ring_claim(struct unsafe_ring *ring, _Atomic uint64_t *next,
                                                         uint64_t full, uint64_t *ret_ticket)
{
        uint64_t ticket = atomic_load_explicit(next, memory_order_relaxed);
        unsigned tries = 0;

        for (;;) {
                struct unsafe_ring_slot *slot = &ring->slot[ticket & (RING_SLOTS - 1)];
                /* Pairs with the release store that ends the other side's put or get. */
                uint64_t sequence = atomic_load_explicit(&slot->sequence, memory_order_acquire);

                if (sequence == ticket + full) {
                        if (atomic_compare_exchange_weak_explicit(next, &ticket, ticket + 1, memory_order_relaxed,
                                                                  memory_order_relaxed)) {
                                *ret_ticket = ticket;
                                return slot;
                        }
                        continue; /* the failed exchange has loaded the ticket anew */
                }
                if ((int64_t)(sequence - (ticket + full)) < 0)
                        bench_relax(&tries); /* behind: full for a put, empty for a get */
                ticket = atomic_load_explicit(next, memory_order_relaxed);
        }
}

static inline void unsafe_ring_put(struct unsafe_ring *ring, const void *message)
{
        uint64_t ticket;
        struct unsafe_ring_slot *slot = unsafe_ring_claim(ring, &ring->put_ticket, 0, &ticket);

        memcpy(slot->message, message, RING_MESSAGE);
        atomic_store_explicit(&slot->sequence, ticket + 1, memory_order_release);
}

static inline void unsafe_ring_get(struct unsafe_ring *ring, void *message)
{
        uint64_t ticket;
        struct unsafe_ring_slot *slot = unsafe_ring_claim(ring, &ring->get_ticket, 1, &ticket);

        memcpy(message, slot->message, RING_MESSAGE);
        atomic_store_explicit(&slot->sequence, ticket + RING_SLOTS, memory_order_release);
}

#endif
