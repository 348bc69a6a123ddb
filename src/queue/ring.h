/* SPDX-License-Identifier: MIT
 *
 * queue/ring.h: the bounded multi-producer multi-consumer ring in shared memory that queues and pools stand on.
 * The algorithm, its invariants and what each death leaves are in doc/design/queue.md; the labels here (I1, R1 ...) are its.
 *
 * A slot goes round EMPTY -> WRITING -> FULL -> READING -> EMPTY of the next lap.  Its state word says lap, kind and owner at
 * once, and every transition is one store or one compare-and-swap on that word, so there is no instant at which a death leaves
 * a slot that nobody can attribute.
 *
 *   shared word        written by                                   read by        under
 *   slot state         the claimer by CAS; then its owner by store;  all           -
 *                      a repairer by CAS, on proof of the owner's death
 *   slot size, bytes   the owner while WRITING                      all           frozen while FULL and READING
 *   slot committed     the owner while WRITING; only grows          the same      -
 *   tail, head         anyone; hints that may lag or lead           all           -
 *   settled            anyone; every position before it is done     getters       -
 *   closed             anyone, once: 0 -> 1                         all           -
 *   putters, getters   sleepers and wakers (sync/waitword.h)        all           -
 *
 * All that is fixed when the ring is made (sizes and offsets) is in each process's own `struct ring`.
 */
#ifndef BROOD_QUEUE_RING_H
#define BROOD_QUEUE_RING_H

#include "os/atomic.h"
#include "shm/owners.h"
#include "shm/region.h"
#include "sync/spin.h"

#include <stddef.h>
#include <sys/types.h>

struct ring_slot {
        atomic_u64 state;
        atomic_u32 size;
        uint32_t committed; /* bytes of this slot's spill area that have memory behind them */
        unsigned char bytes[];
};
static_assert(sizeof(struct ring_slot) == 16, "two slots of 48 bytes fill two cache lines");

/* Each line is written by one side only, as long as nobody sleeps. */
struct ring_shared {
        _Alignas(64) atomic_u64 tail; /* putters look here first */
        _Alignas(64) atomic_u64 head; /* getters look here first */
        atomic_u64 settled;
        _Alignas(64) atomic_u32 getters; /* the wait words */
        atomic_u32 putters;
        atomic_u32 closed;
};
static_assert(sizeof(struct ring_shared) == 192 && offsetof(struct ring_shared, head) == 64 &&
                  offsetof(struct ring_shared, getters) == 128,
              "the layout that the signature stands for");

struct ring_geometry {
        uint32_t slots;
        uint32_t stride;      /* bytes from slot to slot */
        uint32_t inline_room; /* a larger message lies in its slot's spill area */
        size_t message_size;
        size_t spill_stride; /* 0: every message fits inline */
        size_t slots_bytes, spill_bytes;
};

/* This process's view of a ring. */
struct ring {
        struct ring_geometry geometry;
        const struct region *region;
        struct ring_shared *shared;
        struct owners *owners;
        unsigned char *slots;
        size_t spill_offset; /* in the region */
        bool watched;        /* somebody recovers the dead and wakes the sleepers: sleep without slices */
        struct spin spin;
        uint32_t owner;  /* this process's owner number, valid under... */
        atomic_u64 mark; /* ...this process mark */
};

/* 0, or -E2BIG if the sizes do not fit into an address space. */
int ring_plan(struct ring_geometry *geometry, size_t maxsize, size_t message_size);

/* The memory of a new ring needs no more than zeros; `shared` is at a multiple of 64, as are the slots. */
void ring_attach(struct ring *ring, const struct ring_geometry *geometry, const struct region *region,
                 size_t shared_offset, size_t owners_offset, size_t slots_offset, size_t spill_offset);

/* A message that this process has claimed: the ring's slot is READING until ring_release(). */
struct ring_claim {
        struct ring_slot *slot;
        uint64_t next; /* the state that frees the slot */
        const void *bytes;
        size_t size;
};

/* Put: 0, -EAGAIN, -ETIMEDOUT, -EPIPE, -ENOMEM, -EUSERS, -EUCLEAN.  The size has been checked. */
int ring_put(struct ring *ring, const void *data, size_t size, int timeout_ms);

/* Claim the oldest message, if it has at most `room` bytes: 0, or as brood_queue_get(). */
int ring_claim(struct ring *ring, struct ring_claim *claim, size_t room, int timeout_ms);
void ring_release(struct ring *ring, const struct ring_claim *claim);

void ring_close(struct ring *ring);

/* Messages that could be claimed, counted up to `most`; or -EUCLEAN.  Whether a put would find no place. */
ssize_t ring_count(struct ring *ring, size_t most);
int ring_is_full(struct ring *ring);

/* The owner number of this process, registering it first if need be: 0, -EUSERS, or another negative errno. */
int ring_own(struct ring *ring, uint32_t *ret_owner);

/* Repair what a dead owner left and free its number.  Only on proof of death. */
void ring_recover(struct ring *ring, uint32_t owner);

/* Wake everybody who sleeps on this ring. */
void ring_wake_all(struct ring *ring);

/* Give up this process's owner number. */
void ring_detach(struct ring *ring);

#endif
