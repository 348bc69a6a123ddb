/* SPDX-License-Identifier: MIT
 *
 * queue/leases.h: messages that have left the ring and are not gone.
 *
 * A lease is an entry of a table.  Its word says all that others must know, and changes by compare-and-swap:
 *
 *     word        | generation 29 | deliveries 8 | kind 3 | owner 24 |
 *
 * (TAKING is HELD by a process that is still copying the message out of the entry.)
 *
 *     FREE(g) --reserve--> FILLING(g, me) --hold--> HELD(g, me, 1) --acknowledge--> FREE(g+1)
 *                             | owner dead              |    ^
 *                             v                given back    | take: one delivery more
 *                           FREE(g)            or owner dead |
 *                                                       v    |
 *                                                      READY(g) ...or, after the last delivery, BURIED(g) --> FREE(g+1)
 *
 * From ring to entry.  A message is never in neither, and never counts in both: the store of HELD is the moment at which it
 * moves.  Before it, the slot (READING by the same owner) decides; after it, the entry does, and the slot is freed by
 * settle() in leases.c, which anyone may repeat.  Whoever finds a slot that a dead process was reading asks first whether an
 * entry of the dead holds it.
 *
 *   shared member        written by                                    read by           frozen
 *   word                 all, by CAS                                   all               -
 *   position, body,      the owner while FILLING                       whoever sees      from HELD until FREE
 *     bytes                                                            HELD or READY
 *   letters              whoever buries the entry, once a generation   leases_letters    -
 *   high, returned       anyone; hints                                 all               -
 */
#ifndef BROOD_QUEUE_LEASES_H
#define BROOD_QUEUE_LEASES_H

#include "queue/slot.h"
#include "shm/region.h"

enum { LEASES_COUNT = 4096 };

struct lease_entry {
        atomic_u64 word;
        atomic_u64 position;
        atomic_u64 body;
        atomic_u64 letters; /* | generation 29 of the last burial, plus 1 | count 32 | */
        unsigned char bytes[];
};
static_assert(sizeof(struct lease_entry) == 32, "the bytes behind it are aligned to 16");

struct leases_shared {
        _Alignas(64) atomic_u32 high; /* no entry from here on was ever used */
        atomic_u32 returned;          /* not 0: there may be one that is READY */
        atomic_u64 deliveries, redeliveries;
        uint64_t reserved[5];
};
static_assert(sizeof(struct leases_shared) == 64, "a cache line");

struct ring;

struct leases {
        struct ring *ring; /* whose messages they are */
        struct leases_shared *shared;
        size_t offset, stride; /* of the entries in the region */
        bool tasks; /* what is taken is copied out, and another thread may report the oldest as done meanwhile */
        uint32_t max_deliveries; /* 0: no limit */
        atomic_u32 recent;       /* an entry that this process has freed */
        atomic_u32 calls;        /* counts towards the next look for the dead */
};

/* A lease that this process holds. */
struct lease_claim {
        uint32_t entry;
        uint32_t generation;
        uint32_t deliveries;
        const void *bytes;
        size_t size;
};

/* Take a free entry for a message that will be moved: 0; -ENOBUFS; -ENOMEM.  Give it back unused. */
int leases_reserve(struct leases *leases, uint32_t owner, uint32_t *ret_entry);
void leases_unreserve(struct leases *leases, uint32_t owner, uint32_t entry);

/* Move the message at `at`, whose slot this process is READING, to a reserved entry, and free the slot. */
void leases_hold(struct leases *leases, uint32_t owner, uint32_t entry, struct position at, uint64_t body,
                 struct lease_claim *ret_claim);

/* Take the oldest message that came back: 0; -EAGAIN (there is none); -EMSGSIZE (it is larger than `room`); -EUCLEAN. */
int leases_take(struct leases *leases, uint32_t owner, size_t room, struct lease_claim *ret_claim);

/* Which delivery of an entry's message is meant: | deliveries 32 (0: any) | generation 32 |. */
static inline uint64_t lease_ticket(const struct lease_claim *claim)
{
        return (uint64_t)claim->deliveries << 32 | claim->generation;
}

/* Give up a lease that this process holds: 0; -EINVAL (it is over); -EPERM (another process's). */
int leases_acknowledge(struct leases *leases, uint32_t owner, uint32_t entry, uint64_t ticket);
int leases_give_back(struct leases *leases, uint32_t owner, uint32_t entry, uint64_t ticket);

/* A task that was taken has been copied out: from now on it may be done. */
void leases_keep(struct leases *leases, uint32_t owner, const struct lease_claim *claim);

/* The lease that this process has held longest: 0 or -ENOENT. */
int leases_oldest(struct leases *leases, uint32_t owner, uint32_t *ret_entry, uint32_t *ret_generation);

/* Whether the owner has moved the message at `at` to an entry; the slot is freed if so. */
bool leases_settle_slot(struct leases *leases, uint32_t owner, struct position at);

/* Whether the holder of a buffer, an entry of some generation, still is what it was. */
bool leases_holds(const struct leases *leases, uint32_t entry, uint32_t generation);

/* What the dead held becomes READY, or a dead letter; so does what `owner` holds, dead or not (OWNER_NONE: nobody's). */
void leases_recover(struct leases *leases, uint32_t owner);

/* Count entries. */
struct leases_count {
        uint32_t ready;  /* to be taken */
        uint32_t own;    /* held by the owner that was asked for */
        uint32_t others; /* held by others, or on their way */
};
struct leases_count leases_count(const struct leases *leases, uint32_t owner);

uint64_t leases_letters(const struct leases *leases);

#endif
