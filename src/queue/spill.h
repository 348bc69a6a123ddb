/* SPDX-License-Identifier: MIT
 *
 * queue/spill.h: buffers for messages that do not fit into a slot's cell.
 *
 * Buffers come in classes of 256 bytes, 1 KiB, 4 KiB and so on.  Each class has address space for `memory` bytes of them;
 * memory is put behind a buffer when it is used.
 *
 * Nobody has to free a buffer.  Its word says who holds it: a position in the ring, or a lease.  It is free exactly when its
 * holder is done with: when the position's slot is in a later lap, or the lease's entry in a later generation.  So there is
 * no moment of death in which a buffer is lost, or freed while a message is in it; what decides is the one word of the slot
 * or the entry.
 *
 *   shared word          written by                                        read by      under
 *   buffer word          whoever takes a free buffer, by CAS, after it     takers       -
 *                        claimed the position; a mover (queue/leases.h),
 *                        from position to lease; a trimmer
 *   buffer committed     the holder; a trimmer                             the same     -
 *   class high, cursor   anyone; hints where to look                       takers       -
 */
#ifndef BROOD_QUEUE_SPILL_H
#define BROOD_QUEUE_SPILL_H

#include "queue/slot.h"
#include "shm/region.h"

enum {
        SPILL_SMALLEST = 256,
        SPILL_CLASSES = 14, /* numbered from 1; the largest is of 16 GiB */
};

struct spill_shared {
        struct {
                atomic_u32 high;   /* no buffer from here on was ever used */
                atomic_u32 cursor; /* one that was freed lately */
        } class[SPILL_CLASSES + 2];
};
static_assert(sizeof(struct spill_shared) == 128, "two cache lines");

struct spill_buffer {
        atomic_u64 word;
        atomic_u64 committed; /* bytes from its start that have memory behind them */
};

struct spill_geometry {
        uint32_t classes; /* 0: every message fits into a cell */
        uint32_t count[SPILL_CLASSES + 1];
        size_t table[SPILL_CLASSES + 1]; /* offsets in the region */
        size_t data[SPILL_CLASSES + 1];
};

/* Whether what holds a buffer still does. */
typedef bool (*spill_held)(void *context, uint64_t holder);

struct spill {
        struct spill_geometry geometry;
        const struct region *region;
        struct owners *owners;
        struct spill_shared *shared;
        spill_held held;
        void *context;
        atomic_u64 released; /* bytes that this process has freed since it trimmed */
};

/* Lay the tables and the buffers out from `offset` on: the end, or 0 if that is beyond an address space. */
size_t spill_plan(struct spill_geometry *geometry, size_t offset, size_t message_size, size_t memory,
                  size_t inline_room);

/* The two kinds of holders, as words. */
uint64_t spill_holder_position(struct position at);
uint64_t spill_holder_lease(uint32_t entry, uint32_t generation);

/* What a holder's word says. */
bool spill_holder_is_lease(uint64_t holder, uint32_t *ret_entry, uint32_t *ret_generation);
struct position spill_holder_at(uint64_t holder);

/* A free buffer for `size` bytes, not taken yet: 0, or -EAGAIN if there is none. */
int spill_find(struct spill *spill, size_t size, struct body *ret_body);

/* Take a buffer for a holder, the one that was found or another, and put memory behind it: 0, -EAGAIN, -ENOMEM. */
int spill_take(struct spill *spill, struct body *body, uint64_t holder);

/* A buffer passes from one holder to another, unless it has done so. */
void spill_pass(struct spill *spill, struct body body, uint64_t from, uint64_t to);

/* Whether it is this holder's. */
bool spill_is_held_by(const struct spill *spill, struct body body, uint64_t holder);

/* Its holder is done with: look there first the next time. */
void spill_freed(struct spill *spill, struct body body);

/* Whether a body that was read from shared memory names a buffer that exists and has room for its size. */
bool spill_valid(const struct spill *spill, struct body body);

/* The bytes of a valid body. */
unsigned char *spill_bytes(const struct spill *spill, struct body body);

/* Bytes of buffers that were used since they were trimmed last: all there may be memory behind.  If it is less than what was
 * freed
 * meanwhile, the same buffers go round and round: then the count of what was freed begins anew. */
size_t spill_used(struct spill *spill);

/* Give the memory of free buffers back to the kernel, but for about `keep` bytes. */
void spill_trim(struct spill *spill, uint32_t owner, size_t keep);

#endif
