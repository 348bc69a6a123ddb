/* SPDX-License-Identifier: MIT
 *
 * tests/queue/rig.h: a ring in a region of its own, to be driven by hand.
 *
 * Most states that a death leaves behind last for nanoseconds.  The tests that include this write them into the shared words:
 * the format of these words is stated a second time below, from doc/design/queue.md, so that a change of it is noticed too.
 * An owner number that the table does not hold is dead; one whose entry names our parent lives, and is not us.
 */
#ifndef BROOD_TESTS_RIG_H
#define BROOD_TESTS_RIG_H

#include "check.h"

#include <brood/common.h>

#include "os/clock.h"
#include "queue/ring.h"

#include <sys/stat.h>

#define LAPS (UINT64_C(1) << 37)

enum {
        DEAD = 7u << 10 | 900,     /* an entry that nobody has taken */
        STRANGER = 3u << 10 | 901, /* see rig_prepare */
        BUSY_MS = 20,
};

static_assert(EMPTY == 0 && WRITING == 1 && FULL == 2 && READING == 3 && CLOSED == 4 && WRITING_RUN == 5 &&
                  READING_RUN == 6 && RUN == 8 && CAME_BACK == 1,
              "the kinds of a slot");

static inline uint64_t word(uint64_t lap, unsigned kind, uint32_t owner)
{
        return (lap % LAPS) << 27 | (uint64_t)kind << 24 | owner;
}

static inline uint64_t place(uint64_t lap, uint32_t index)
{
        return (lap % LAPS) << 20 | index;
}

static inline uint64_t entry(pid_t pid, uint32_t generation, uint32_t start)
{
        return (uint64_t)pid << 42 | (uint64_t)generation << 28 | start;
}

static inline uint64_t body(uint64_t size, uint32_t class, uint32_t buffer)
{
        return size << 29 | (uint64_t) class << 24 | buffer;
}

/* A ring in a region of its own, and what our number in its table is. */
struct rig {
        struct region region;
        struct ring ring;
        uint32_t own;
};

struct rig_plan {
        size_t slots; /* 0: without a bound */
        size_t message_size;
        size_t memory; /* of each size class; 0: enough */
        bool leases;
        uint32_t max_deliveries;
};

/* Nobody is registered yet but the stranger. */
static inline void rig_prepare(struct rig *rig, const struct rig_plan *plan)
{
        enum {
                SHARED = 64,
                BLOCKS = SHARED + sizeof(struct ring_shared),
                LEASES = BLOCKS + sizeof(struct blocks_shared),
                SPILL = LEASES + sizeof(struct leases_shared),
                OWNERS = SPILL + sizeof(struct spill_shared),
                COMMIT = OWNERS + sizeof(struct owners),
        };
        struct ring_geometry geometry;
        struct spill_geometry spill;

        ring_plan(&geometry, plan->slots, plan->message_size);
        size_t stride = sizeof(struct lease_entry) + geometry.cell_stride;
        size_t entries = round_up(COMMIT, 4096);
        size_t tables = round_up(entries + LEASES_COUNT * stride, 4096);
        size_t slots = tables + (geometry.bounded ? 0 : sizeof(struct blocks_tables));
        size_t end = slots + geometry.block_size * (geometry.bounded ? 1 : BLOCKS_MOST);
        end = spill_plan(&spill, end, plan->message_size, plan->memory ? plan->memory : (size_t)64 << 20,
                         geometry.inline_room);
        assert_true(end > 0);
        assert_int_equal(region_new(&rig->region, "test-ring", REGION_QUEUE, 1, end, COMMIT), 0);
        if (geometry.bounded)
                assert_int_equal(region_commit(&rig->region, slots, geometry.block_size), 0);
        ring_attach(&rig->ring, &geometry, &rig->region, SHARED, OWNERS, slots);
        rig->ring.spill.geometry = spill;
        rig->ring.spill.shared = region_at(&rig->region, SPILL);
        if (plan->leases)
                rig->ring.leases = (struct leases){
                        .ring = &rig->ring,
                        .shared = region_at(&rig->region, LEASES),
                        .offset = entries,
                        .stride = stride,
                        .max_deliveries = plan->max_deliveries,
                };
        if (!geometry.bounded) {
                rig->ring.blocks = (struct blocks){
                        .region = &rig->region,
                        .owners = rig->ring.owners,
                        .shared = region_at(&rig->region, BLOCKS),
                        .tables = region_at(&rig->region, tables),
                        .tables_offset = tables,
                        .offset = slots,
                        .stride = geometry.block_size,
                };
                store_relaxed(&rig->ring.shared->tail, place(1, 0));
                store_relaxed(&rig->ring.shared->head, place(1, 0));
                store_relaxed(&rig->ring.shared->settled, place(1, 0));
                assert_int_equal(blocks_format(&rig->ring.blocks), 0);
        }
        store_relaxed(&rig->ring.owners->entries[STRANGER & 1023], entry(getppid(), STRANGER >> 10, 0));
}

static inline void rig_make_planned(struct rig *rig, const struct rig_plan *plan)
{
        rig_prepare(rig, plan);
        assert_int_equal(ring_register(&rig->ring, &rig->own), 0);
        assert_int_not_equal(rig->own, OWNER_NONE);
}

static inline void rig_make(struct rig *rig, size_t slots, size_t message_size)
{
        rig_make_planned(rig, &(struct rig_plan){ .slots = slots, .message_size = message_size });
}

static inline void rig_drop(struct rig *rig)
{
        ring_detach(&rig->ring);
        region_drop(&rig->region);
}

/* Of a ring with a bound. */
static inline struct ring_slot *slot(struct rig *rig, uint32_t index)
{
        return &rig->ring.slots[index];
}

static inline unsigned char *cell(struct rig *rig, uint32_t index)
{
        const struct ring_geometry *geometry = &rig->ring.geometry;

        return (unsigned char *)rig->ring.slots + geometry->cells_at + (size_t)index * geometry->cell_stride;
}

/* Write a slot's state; a message that it holds is its number. */
static inline void set(struct rig *rig, uint32_t index, uint64_t lap, unsigned kind, uint32_t owner)
{
        uint64_t message = lap % LAPS * rig->ring.geometry.slots + index;

        if (kind == FULL || kind == READING) {
                store_relaxed(&slot(rig, index)->body, body(sizeof message, 0, 0));
                memcpy(cell(rig, index), &message, sizeof message);
        }
        store_seq_cst(&slot(rig, index)->state, word(lap, kind, owner));
}

static inline void set_hints(struct rig *rig, uint64_t tail, uint64_t head, uint64_t settled)
{
        store_relaxed(&rig->ring.shared->tail, tail);
        store_relaxed(&rig->ring.shared->head, head);
        store_relaxed(&rig->ring.shared->settled, settled);
}

#define assert_state(rig, index, lap, kind, owner)                                                                     \
        assert_int_equal(load_relaxed(&slot((rig), (index))->state), word((lap), (kind), (owner)))

static inline int put(struct rig *rig, uint64_t message, int timeout_ms)
{
        return ring_put(&rig->ring, &message, sizeof message, timeout_ms);
}

/* The next message, or a negative errno. */
static inline int64_t get(struct rig *rig, int timeout_ms)
{
        struct ring_claim claim;
        uint64_t message = 0;
        int r = ring_claim(&rig->ring, &claim, sizeof message, deadline_after_ms(timeout_ms));

        if (r < 0)
                return r;
        if (claim.size != sizeof message)
                return -EBADMSG;
        memcpy(&message, claim.bytes, sizeof message);
        ring_release(&rig->ring, &claim);
        return (int64_t)message;
}

/* Kibibytes of memory behind the region. */
static inline int64_t rig_kib(const struct rig *rig)
{
        struct stat status;

        assert_int_equal(fstat(rig->region.fd, &status), 0);
        return status.st_blocks / 2;
}

#endif
