/* SPDX-License-Identifier: MIT
 *
 * tests/queue/test_ring.c: the ring driven by hand.
 *
 * Most states that a death leaves behind last for nanoseconds.  Here they are written into the slots: the format of the state
 * words is stated a second time below, from doc/design/queue.md, so that a change of it is noticed too.  An owner number that
 * the table does not hold is dead; one whose entry names our parent lives, and is not us.
 */
#include "check.h"

#include <brood/common.h>

#include "os/clock.h"
#include "os/pidfd.h"
#include "queue/ring.h"
#include "sync/waitword.h"

#include <sys/syscall.h>

enum kind { EMPTY, WRITING, FULL, READING, CLOSED };

#define LAPS (UINT64_C(1) << 37)

enum {
        DEAD = 7u << 10 | 900,     /* an entry that nobody has taken */
        STRANGER = 3u << 10 | 901, /* see rig_prepare */
        BUSY_MS = 20,
};

static uint64_t word(uint64_t lap, enum kind kind, uint32_t owner)
{
        return (lap % LAPS) << 27 | (uint64_t)kind << 24 | owner;
}

static uint64_t place(uint64_t lap, uint32_t index)
{
        return (lap % LAPS) << 20 | index;
}

/* A ring in a region of its own, and what our entry in its table is. */
struct rig {
        struct region region;
        struct ring ring;
        uint32_t own;
};

static uint64_t entry(pid_t pid, uint32_t generation, uint32_t start)
{
        return (uint64_t)pid << 42 | (uint64_t)generation << 28 | start;
}

static void rig_prepare(struct rig *rig, size_t slots, size_t message_size)
{
        enum { SHARED = 64, OWNERS = SHARED + sizeof(struct ring_shared), SLOTS = OWNERS + sizeof(struct owners) };
        struct ring_geometry geometry;

        assert_int_equal(ring_plan(&geometry, slots, message_size), 0);
        size_t spill = SLOTS + geometry.slots_bytes;
        assert_int_equal(region_new(&rig->region, "test-ring", REGION_QUEUE, 1, spill + geometry.spill_bytes, spill),
                         0);
        ring_attach(&rig->ring, &geometry, &rig->region, SHARED, OWNERS, SLOTS, spill);
        store_relaxed(&rig->ring.owners->entries[STRANGER & 1023], entry(getppid(), STRANGER >> 10, 0));
}

static void rig_make(struct rig *rig, size_t slots, size_t message_size)
{
        rig_prepare(rig, slots, message_size);
        assert_int_equal(ring_own(&rig->ring, &rig->own), 0);
        assert_int_not_equal(rig->own, OWNER_NONE);
}

static void rig_drop(struct rig *rig)
{
        ring_detach(&rig->ring);
        region_drop(&rig->region);
}

static struct ring_slot *slot(struct rig *rig, uint32_t index)
{
        return (struct ring_slot *)(void *)(rig->ring.slots + (size_t)index * rig->ring.geometry.stride);
}

/* Write a slot's state; a message that it holds is its number. */
static void set(struct rig *rig, uint32_t index, uint64_t lap, enum kind kind, uint32_t owner)
{
        uint64_t message = lap % LAPS * rig->ring.geometry.slots + index;

        if (kind == FULL || kind == READING) {
                store_relaxed(&slot(rig, index)->size, sizeof message);
                memcpy(slot(rig, index)->bytes, &message, sizeof message);
        }
        store_seq_cst(&slot(rig, index)->state, word(lap, kind, owner));
}

static void set_hints(struct rig *rig, uint64_t tail, uint64_t head, uint64_t settled)
{
        store_relaxed(&rig->ring.shared->tail, tail);
        store_relaxed(&rig->ring.shared->head, head);
        store_relaxed(&rig->ring.shared->settled, settled);
}

#define assert_state(rig, index, lap, kind, owner)                                                                     \
        assert_int_equal(load_relaxed(&slot((rig), (index))->state), word((lap), (kind), (owner)))

static int put(struct rig *rig, uint64_t message, int timeout_ms)
{
        return ring_put(&rig->ring, &message, sizeof message, timeout_ms);
}

/* The next message, or a negative errno. */
static int64_t get(struct rig *rig, int timeout_ms)
{
        struct ring_claim claim;
        uint64_t message = 0;
        int r = ring_claim(&rig->ring, &claim, sizeof message, timeout_ms);

        if (r < 0)
                return r;
        if (claim.size != sizeof message)
                return -EBADMSG;
        memcpy(&message, claim.bytes, sizeof message);
        ring_release(&rig->ring, &claim);
        return (int64_t)message;
}

/* ---- sizes ---- */

static void test_plan(void **state)
{
        (void)state;
        static const struct {
                size_t message_size;
                uint32_t stride;
                bool spills;
        } plans[] = { { 1, 32, false },   { 8, 32, false },    { 9, 64, false },   { 48, 64, false },
                      { 49, 128, false }, { 112, 128, false }, { 113, 128, true }, { (size_t)1 << 30, 128, true } };
        struct ring_geometry g;

        for (size_t i = 0; i < array_length(plans); i++) {
                assert_int_equal(ring_plan(&g, 5, plans[i].message_size), 0);
                assert_int_equal(g.slots, 5);
                assert_int_equal(g.stride, plans[i].stride);
                assert_int_equal(g.inline_room, plans[i].stride - 16);
                assert_true(g.slots_bytes >= 5 * (size_t)g.stride && g.slots_bytes % 64 == 0);
                assert_int_equal(g.spill_stride > 0, plans[i].spills);
                if (plans[i].spills) {
                        assert_true(g.spill_stride >= plans[i].message_size && g.spill_stride % 64 == 0);
                        assert_int_equal(g.spill_bytes, 5 * g.spill_stride);
                }
        }
        assert_int_equal(ring_plan(&g, (size_t)1 << 20, (size_t)1 << 30), -E2BIG);
}

/* ---- the life of a ring ---- */

/* Through many laps, beside a model, from a lap on. */
static void walk_from(size_t slots, uint64_t lap, bool stale_settled)
{
        struct rig rig;
        uint64_t next_put = 0, next_get = 0;

        rig_make(&rig, slots, 8);
        for (uint32_t i = 0; i < slots; i++)
                set(&rig, i, lap, EMPTY, 0);
        /* What lies before a position that is done with may be said to be done with long ago. */
        set_hints(&rig, place(lap, 0), place(lap, 0), place(stale_settled ? lap - 5 : lap, 0));
        for (int step = 0; step < 60 * (int)slots; step++) {
                size_t waiting = next_put - next_get;
                assert_int_equal(ring_count(&rig.ring, SIZE_MAX), waiting);
                assert_int_equal(ring_is_full(&rig.ring), waiting == slots);
                if (support_random(2)) {
                        int r = put(&rig, next_put, 0);
                        assert_int_equal(r, waiting == slots ? -EAGAIN : 0);
                        next_put += r == 0;
                } else {
                        int64_t got = get(&rig, 0);
                        assert_int_equal(got, waiting == 0 ? -EAGAIN : (int64_t)next_get);
                        next_get += got >= 0;
                }
        }
        assert_true(next_put > 3 * slots);
        rig_drop(&rig);
}

static void test_laps(void **state)
{
        (void)state;
        static const size_t sizes[] = { 1, 2, 3, 7 };
        static const uint64_t laps[] = { 0, LAPS / 2 - 2, LAPS - 3, LAPS - 1 };

        for (size_t s = 0; s < array_length(sizes); s++)
                for (size_t l = 0; l < array_length(laps); l++) {
                        walk_from(sizes[s], laps[l], false);
                        walk_from(sizes[s], laps[l], true);
                }
}

/* What each step leaves in the words. */
static void test_states(void **state)
{
        (void)state;
        struct rig rig;
        struct ring_claim claim;
        uint64_t message = 77;

        rig_make(&rig, 2, 8);
        assert_int_equal(put(&rig, message, 0), 0);
        assert_state(&rig, 0, 0, FULL, 0);
        assert_state(&rig, 1, 0, EMPTY, 0);
        assert_int_equal(load_relaxed(&slot(&rig, 0)->size), 8);
        assert_int_equal(ring_claim(&rig.ring, &claim, 7, 0), -EMSGSIZE);
        assert_state(&rig, 0, 0, FULL, 0);
        assert_int_equal(ring_claim(&rig.ring, &claim, 8, 0), 0);
        assert_state(&rig, 0, 0, READING, rig.own);
        assert_memory_equal(claim.bytes, &message, 8);
        assert_int_equal(ring_count(&rig.ring, 9), 0);
        ring_release(&rig.ring, &claim);
        assert_state(&rig, 0, 1, EMPTY, 0);
        assert_int_equal(load_relaxed(&rig.ring.shared->tail), place(0, 1));
        assert_int_equal(load_relaxed(&rig.ring.shared->head), place(0, 1));
        assert_int_equal(ring_count(&rig.ring, 0), 0);
        rig_drop(&rig);
}

static void test_large_messages(void **state)
{
        (void)state;
        enum { LARGEST = 100000 };
        static unsigned char data[3][LARGEST];
        static const size_t sizes[] = { 112, 113, LARGEST };
        struct ring_claim claim;
        struct rig rig;

        rig_make(&rig, 3, LARGEST);
        for (int lap = 0; lap < 3; lap++) {
                for (size_t i = 0; i < 3; i++) {
                        memset(data[i], lap * 3 + (int)i + 1, LARGEST);
                        assert_int_equal(ring_put(&rig.ring, data[i], sizes[(i + (size_t)lap) % 3], 0), 0);
                }
                for (size_t i = 0; i < 3; i++) {
                        size_t size = sizes[(i + (size_t)lap) % 3];
                        assert_int_equal(ring_claim(&rig.ring, &claim, size - 1, 0), -EMSGSIZE);
                        assert_int_equal(ring_claim(&rig.ring, &claim, size, 0), 0);
                        assert_int_equal(claim.size, size);
                        assert_memory_equal(claim.bytes, data[i], size);
                        ring_release(&rig.ring, &claim);
                }
        }
        assert_int_equal(slot(&rig, 0)->committed, LARGEST);

        /* No memory for it: the place that was claimed is passed over, and all goes on. */
        struct region broken = rig.region;
        broken.fd = -1;
        rig.ring.region = &broken;
        slot(&rig, 0)->committed = 0;
        assert_true(ring_put(&rig.ring, data[0], LARGEST, 0) < 0);
        rig.ring.region = &rig.region;
        assert_state(&rig, 0, 4, EMPTY, 0);
        assert_int_equal(ring_count(&rig.ring, 9), 0);
        for (uint64_t i = 0; i < 3; i++)
                assert_int_equal(put(&rig, i, 0), i < 3 ? 0 : -EAGAIN);
        for (int64_t i = 0; i < 3; i++)
                assert_int_equal(get(&rig, 0), i);
        rig_drop(&rig);
}

enum { HUGE_SIZE = 1 << 20, HUGE_COUNT = 30 };

static int put_huge(void *arg)
{
        struct rig *rig = arg;
        unsigned char *bytes = malloc(HUGE_SIZE);

        require(bytes != NULL);
        for (int i = 0; i < HUGE_COUNT; i++) {
                memset(bytes, i + 1, HUGE_SIZE);
                require_int(ring_put(&rig->ring, bytes, HUGE_SIZE, CHECK_HANG_MS), 0);
        }
        free(bytes);
        return 0;
}

/* A message cannot be claimed while it is being written, however long that takes. */
static void test_nothing_is_torn(void **state)
{
        (void)state;
        static struct rig rig; /* a putter goes on after a failure */
        struct check_thread putter;
        struct ring_claim claim;

        rig_make(&rig, 2, HUGE_SIZE);
        check_thread_start(&putter, put_huge, &rig);
        for (int i = 0; i < HUGE_COUNT; i++) {
                int r;
                int64_t end = support_now_ms() + CHECK_HANG_MS;
                while ((r = ring_claim(&rig.ring, &claim, HUGE_SIZE, 0)) == -EAGAIN)
                        assert_true(support_now_ms() < end);
                assert_int_equal(r, 0);
                assert_int_equal(claim.size, HUGE_SIZE);
                const unsigned char *bytes = claim.bytes;
                assert_int_equal(bytes[HUGE_SIZE - 1], i + 1);
                assert_int_equal(bytes[0], i + 1);
                ring_release(&rig.ring, &claim);
        }
        assert_int_equal(check_thread_join(&putter), 0);
        rig_drop(&rig);
}

/* ---- what deaths leave ---- */

static void test_dead_writer(void **state)
{
        (void)state;
        struct rig rig;

        rig_make(&rig, 4, 8);
        set(&rig, 0, 0, WRITING, DEAD);
        set(&rig, 1, 0, FULL, 0);
        set(&rig, 2, 0, WRITING, DEAD);
        set_hints(&rig, place(0, 3), 0, 0);
        assert_int_equal(ring_count(&rig.ring, 9), 1);
        assert_int_equal(put(&rig, 3, 0), 0); /* putters are not in its way */
        assert_int_equal(get(&rig, 0), 1);
        assert_state(&rig, 0, 1, EMPTY, 0);
        assert_int_equal(get(&rig, 0), 3);
        assert_state(&rig, 2, 1, EMPTY, 0);
        assert_int_equal(get(&rig, 0), -EAGAIN);
        for (uint64_t i = 4; i < 8; i++)
                assert_int_equal(put(&rig, i, 0), 0);
        assert_int_equal(put(&rig, 8, 0), -EAGAIN);
        for (int64_t i = 4; i < 8; i++)
                assert_int_equal(get(&rig, 0), i);
        rig_drop(&rig);
}

/* The writer of the lap before holds the place that the next put needs. */
static void test_dead_writer_a_lap_behind(void **state)
{
        (void)state;
        struct rig rig;

        rig_make(&rig, 2, 8);
        set(&rig, 0, 0, WRITING, DEAD);
        set(&rig, 1, 0, FULL, 0);
        set_hints(&rig, place(1, 0), 0, 0);
        assert_int_equal(put(&rig, 2, 0), 0);
        assert_state(&rig, 0, 1, FULL, 0);
        assert_int_equal(get(&rig, 0), 1);
        assert_int_equal(get(&rig, 0), 2);
        rig_drop(&rig);
}

static void test_claims_of_the_living(void **state)
{
        (void)state;
        struct rig rig;
        uint32_t owners[2] = { STRANGER, 0 };

        rig_make(&rig, 2, 8);
        owners[1] = rig.own; /* another thread of ours */
        for (int i = 0; i < 2; i++) {
                set(&rig, 0, 0, WRITING, owners[i]);
                set(&rig, 1, 0, FULL, 0);
                set_hints(&rig, place(1, 0), 0, 0);
                int64_t start = clock_now();
                assert_int_equal(get(&rig, 0), -EAGAIN);
                assert_int_equal(put(&rig, 9, 0), -EAGAIN);
                assert_int_equal(get(&rig, BUSY_MS), -ETIMEDOUT); /* and does not take the one behind it */
                assert_int_equal(put(&rig, 9, BUSY_MS), -ETIMEDOUT);
                assert_true(clock_now() - start >= 2 * BUSY_MS * NS_PER_MS);
                assert_state(&rig, 0, 0, WRITING, owners[i]);

                set(&rig, 0, 0, READING, owners[i]);
                assert_int_equal(get(&rig, 0), 1);
                assert_int_equal(get(&rig, 0), -EAGAIN);
                assert_int_equal(get(&rig, BUSY_MS), -ETIMEDOUT);
                assert_int_equal(put(&rig, 9, BUSY_MS), -ETIMEDOUT);
                ring_recover(&rig.ring, DEAD); /* another's death */
                assert_state(&rig, 0, 0, READING, owners[i]);
                set(&rig, 0, 1, EMPTY, 0);
                assert_int_equal(put(&rig, 2, 0), 0);
                assert_int_equal(get(&rig, 0), 2);
                set(&rig, 0, 0, EMPTY, 0);
                set(&rig, 1, 0, EMPTY, 0);
        }
        rig_drop(&rig);
}

static void test_dead_reader(void **state)
{
        (void)state;
        struct rig rig;

        rig_make(&rig, 4, 8);
        set(&rig, 0, 0, READING, DEAD);
        set(&rig, 1, 0, READING, DEAD);
        set(&rig, 2, 0, FULL, 0);
        set_hints(&rig, place(0, 3), place(0, 2), 0);
        assert_int_equal(get(&rig, 0), 2); /* nobody has met the dead yet */
        assert_int_equal(get(&rig, 0), 0);
        assert_int_equal(get(&rig, 0), 1);
        assert_int_equal(get(&rig, 0), -EAGAIN);
        assert_int_equal(ring_count(&rig.ring, 9), 0);
        rig_drop(&rig);
}

/* Somebody who watches gives all back at once: then the oldest comes first. */
static void test_recover(void **state)
{
        (void)state;
        struct rig rig;

        for (uint64_t lap = 0; lap <= LAPS - 1; lap += LAPS - 1) {
                rig_make(&rig, 6, 8);
                for (uint32_t i = 0; i < 6; i++)
                        set(&rig, i, lap, EMPTY, 0);
                set(&rig, 0, lap, READING, DEAD);
                set(&rig, 1, lap, READING, STRANGER);
                set(&rig, 2, lap, READING, DEAD);
                set(&rig, 3, lap, FULL, 0);
                set(&rig, 4, lap, WRITING, DEAD);
                set_hints(&rig, place(lap, 5), place(lap, 3), place(lap, 0));
                ring_recover(&rig.ring, DEAD);
                assert_state(&rig, 0, lap, FULL, 0);
                assert_state(&rig, 1, lap, READING, STRANGER);
                assert_state(&rig, 2, lap, FULL, 0);
                assert_state(&rig, 4, lap + 1, EMPTY, 0);
                assert_int_equal(ring_count(&rig.ring, 9), 3);
                int64_t first = (int64_t)(lap * 6);
                assert_int_equal(get(&rig, 0), first);
                assert_int_equal(get(&rig, 0), first + 2);
                assert_int_equal(get(&rig, 0), first + 3);
                assert_int_equal(get(&rig, 0), -EAGAIN);
                rig_drop(&rig);
        }
}

/* A ring that has never been seen empty: its last settled position is many laps old. */
static void test_recover_with_an_old_settled_position(void **state)
{
        (void)state;
        struct rig rig;

        rig_make(&rig, 4, 8);
        assert_int_equal(put(&rig, 0, 0), 0);
        for (uint64_t i = 1; i < 45; i++) {
                assert_int_equal(put(&rig, i, 0), 0);
                assert_int_equal(get(&rig, 0), i - 1);
        }
        assert_int_equal(load_relaxed(&rig.ring.shared->settled), 0);
        assert_state(&rig, 0, 11, FULL, 0); /* message 44 */
        set(&rig, 0, 11, READING, DEAD);
        store_relaxed(&rig.ring.shared->head, place(11, 1));
        ring_recover(&rig.ring, DEAD);
        assert_int_equal(ring_count(&rig.ring, 9), 1);
        assert_int_equal(get(&rig, 0), 44);

        assert_int_equal(put(&rig, 45, 0), 0);
        set(&rig, 1, 11, READING, DEAD);
        store_relaxed(&rig.ring.shared->head, place(11, 2));
        store_relaxed(&rig.ring.shared->settled, 0);
        assert_int_equal(get(&rig, 0), 45);
        assert_int_equal(get(&rig, 0), -EAGAIN);
        assert_int_equal(load_relaxed(&rig.ring.shared->settled), place(11, 2));
        rig_drop(&rig);
}

/* The oldest position that can be open: one slot is two laps ahead of the one behind it. */
static void test_the_oldest_open_position(void **state)
{
        (void)state;
        struct rig rig;

        rig_make(&rig, 2, 8);
        set(&rig, 0, 5, EMPTY, 0);
        set(&rig, 1, 3, READING, DEAD);
        set_hints(&rig, place(4, 1), place(4, 1), 0);
        assert_int_equal(get(&rig, 0), 7);
        set(&rig, 1, 3, READING, DEAD);
        set_hints(&rig, place(4, 1), place(4, 1), 0);
        ring_recover(&rig.ring, DEAD);
        assert_state(&rig, 1, 3, FULL, 0);
        assert_int_equal(ring_count(&rig.ring, 9), 1);
        rig_drop(&rig);
}

static void test_dead_reader_blocks_a_full_ring(void **state)
{
        (void)state;
        struct rig rig;

        rig_make(&rig, 4, 8);
        set(&rig, 0, 0, READING, DEAD);
        for (uint32_t i = 1; i < 4; i++)
                set(&rig, i, 1, EMPTY, 0); /* the others are done with */
        set_hints(&rig, place(1, 0), place(1, 0), 0);
        assert_int_equal(put(&rig, 4, 0), -EAGAIN); /* the message is back and waits */
        assert_state(&rig, 0, 0, FULL, 0);
        assert_int_equal(ring_is_full(&rig.ring), 1);
        assert_int_equal(ring_count(&rig.ring, 9), 1);
        assert_int_equal(get(&rig, 0), 0);
        for (uint64_t i = 4; i < 8; i++)
                assert_int_equal(put(&rig, i, 0), 0);
        for (int64_t i = 4; i < 8; i++)
                assert_int_equal(get(&rig, 0), i);
        rig_drop(&rig);
}

static void test_one_slot(void **state)
{
        (void)state;
        struct rig rig;

        rig_make(&rig, 1, 8);
        set(&rig, 0, 0, WRITING, DEAD);
        set_hints(&rig, place(1, 0), 0, 0);
        assert_int_equal(get(&rig, 0), -EAGAIN);
        assert_state(&rig, 0, 1, EMPTY, 0);
        assert_int_equal(put(&rig, 1, 0), 0);
        assert_int_equal(put(&rig, 2, 0), -EAGAIN);
        set(&rig, 0, 1, READING, DEAD);
        store_relaxed(&rig.ring.shared->head, place(2, 0));
        assert_int_equal(put(&rig, 2, 0), -EAGAIN);
        assert_int_equal(get(&rig, 0), 1);
        set(&rig, 0, 2, WRITING, DEAD);
        assert_int_equal(put(&rig, 3, 0), 0);
        assert_int_equal(get(&rig, 0), 3);
        ring_close(&rig.ring);
        assert_int_equal(get(&rig, 0), -EPIPE);
        assert_int_equal(put(&rig, 4, 0), -EPIPE);
        rig_drop(&rig);
}

/* ---- closing ---- */

static void test_seal(void **state)
{
        (void)state;
        struct rig rig;

        rig_make(&rig, 3, 8);
        for (uint64_t i = 0; i < 2; i++)
                assert_int_equal(put(&rig, i, 0), 0);
        ring_close(&rig.ring);
        assert_int_equal(put(&rig, 2, BROOD_FOREVER), -EPIPE);
        assert_int_equal(get(&rig, BROOD_FOREVER), 0);
        assert_int_equal(get(&rig, BROOD_FOREVER), 1);
        assert_state(&rig, 2, 0, EMPTY, 0);
        assert_int_equal(get(&rig, BROOD_FOREVER), -EPIPE);
        assert_state(&rig, 2, 0, CLOSED, 0);
        assert_int_equal(get(&rig, BROOD_FOREVER), -EPIPE);
        assert_int_equal(ring_count(&rig.ring, 9), 0);
        /* A putter that had read the flag before it was set finds the seal. */
        store_relaxed(&rig.ring.shared->closed, 0);
        assert_int_equal(put(&rig, 2, BROOD_FOREVER), -EPIPE);
        store_relaxed(&rig.ring.shared->closed, 1);
        rig_drop(&rig);
}

static void test_seal_waits_for_claims(void **state)
{
        (void)state;
        struct rig rig;

        rig_make(&rig, 4, 8);
        ring_close(&rig.ring);
        /* A writer that was in time. */
        set(&rig, 0, 0, WRITING, STRANGER);
        assert_int_equal(get(&rig, 0), -EAGAIN);
        assert_int_equal(get(&rig, BUSY_MS), -ETIMEDOUT);
        set(&rig, 0, 0, FULL, 0);
        assert_int_equal(get(&rig, BUSY_MS), 0);
        /* A reader that may yet die. */
        set(&rig, 1, 0, READING, STRANGER);
        assert_int_equal(get(&rig, 0), -EAGAIN);
        assert_int_equal(get(&rig, BUSY_MS), -ETIMEDOUT);
        assert_state(&rig, 2, 0, EMPTY, 0);
        set(&rig, 1, 0, READING, DEAD);
        assert_int_equal(get(&rig, BROOD_FOREVER), 1);
        /* A writer that was in time and died. */
        set(&rig, 2, 0, WRITING, DEAD);
        assert_int_equal(get(&rig, BROOD_FOREVER), -EPIPE);
        assert_state(&rig, 2, 1, EMPTY, 0);
        assert_state(&rig, 3, 0, CLOSED, 0);
        rig_drop(&rig);
}

/* ---- owners ---- */

struct newcomer {
        struct rig *rig;
        atomic_int *waiting;
        uint32_t owner;
};

static int own_at_once(void *arg)
{
        struct newcomer *newcomer = arg;

        atomic_fetch_add(newcomer->waiting, 1);
        while (atomic_load(newcomer->waiting) < 4)
                ;
        require_int(ring_own(&newcomer->rig->ring, &newcomer->owner), 0);
        return 0;
}

/* The first of all tests: so that the threads also meet a process that has no mark yet.  For the thread sanitizer. */
static void test_threads_that_come_at_once(void **state)
{
        (void)state;
        for (int round = 0; round < 3; round++) {
                struct rig rig;
                struct check_thread threads[4];
                struct newcomer newcomers[4];
                atomic_int waiting = 0;

                rig_prepare(&rig, 4, 8);
                for (int i = 0; i < 4; i++) {
                        newcomers[i] = (struct newcomer){ &rig, &waiting, OWNER_NONE };
                        check_thread_start(&threads[i], own_at_once, &newcomers[i]);
                }
                for (int i = 0; i < 4; i++)
                        assert_int_equal(check_thread_join(&threads[i]), 0);
                for (int i = 0; i < 4; i++) {
                        assert_int_not_equal(newcomers[i].owner, OWNER_NONE);
                        assert_int_equal(newcomers[i].owner, newcomers[0].owner);
                }
                rig_drop(&rig);
        }
}

static int own_another_number(void *arg)
{
        struct rig *rig = arg;
        uint32_t owner;

        require_int(ring_own(&rig->ring, &owner), 0);
        require(owner != rig->own && owner != OWNER_NONE);
        require_int(get(rig, 0), 5);
        require_int(put(rig, 6, 0), 0);
        struct ring_claim claim;
        require_int(ring_claim(&rig->ring, &claim, 8, 0), 0);
        require(load_relaxed(&slot(rig, 1)->state) == word(0, READING, owner));
        return 0;
}

static void test_forked_child_has_its_own_number(void **state)
{
        (void)state;
        struct rig rig;
        uint32_t owner;

        rig_make(&rig, 4, 8);
        assert_int_equal(put(&rig, 5, 0), 0);
        check_in_child(own_another_number, &rig);
        assert_int_equal(ring_own(&rig.ring, &owner), 0);
        assert_int_equal(owner, rig.own);
        int probe = pidfd_of(getpid());
        if (probe != -ENOSYS) { /* under valgrind nobody can be proved dead */
                assert_int_equal(get(&rig, CHECK_HANG_MS), 6);
                close(probe);
        }
        rig_drop(&rig);
}

#if !defined(__SANITIZE_THREAD__)
static void test_cloned_child_has_its_own_number(void **state)
{
        (void)state;
        struct rig rig;
        uint32_t before;

        rig_make(&rig, 4, 8);
        assert_int_equal(ring_own(&rig.ring, &before), 0);
        fflush(NULL);
        pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
        if (pid == 0) {
                uint32_t owner;
                int r = ring_own(&rig.ring, &owner);
                _exit(r == 0 && owner != before && owner != OWNER_NONE ? 0 : 1);
        }
        assert_int_equal(check_wait(pid), 0);
        rig_drop(&rig);
}
#endif

static void test_no_number_left(void **state)
{
        (void)state;
        struct rig rig;

        rig_make(&rig, 4, 8);
        ring_detach(&rig.ring);
        for (uint32_t i = 0; i < OWNERS_COUNT; i++)
                store_relaxed(&rig.ring.owners->entries[i], entry(getppid(), 1, 0));
        assert_int_equal(put(&rig, 1, 0), -EUSERS);
        assert_int_equal(get(&rig, 0), -EUSERS);
        assert_int_equal(get(&rig, BROOD_FOREVER), -EUSERS);

        /* One of them dies, inside a put: its number is free once what it claimed is undone. */
        int probe = pidfd_of(getpid());
        if (probe != -ENOSYS) {
                close(probe);
                store_relaxed(&rig.ring.owners->entries[500], entry(getpid(), 1, 1));
                set(&rig, 0, 0, WRITING, 1u << 10 | 500);
                set_hints(&rig, place(0, 1), 0, 0);
                assert_int_equal(put(&rig, 1, 0), 0);
                assert_state(&rig, 0, 1, EMPTY, 0);
                assert_int_equal(get(&rig, 0), 1);
                assert_int_equal(ring_own(&rig.ring, &rig.own), 0);
                assert_int_equal(rig.own, 2u << 10 | 500);
        }
        rig_drop(&rig);
}

/* ---- sleeping ---- */

struct sleeper {
        struct rig *rig;
        size_t room;
        int timeout_ms;
};

static int claim_and_tell(void *arg)
{
        struct sleeper *sleeper = arg;
        struct ring_claim claim;
        int r = ring_claim(&sleeper->rig->ring, &claim, sleeper->room, sleeper->timeout_ms);

        if (r == 0)
                ring_release(&sleeper->rig->ring, &claim);
        return -r;
}

static bool announced(void *arg)
{
        return waitword_has_sleepers(arg);
}

/* The one that is woken has no room for the message: the next must have its turn.  Watched: nobody wakes by himself. */
static void test_too_large_for_the_woken(void **state)
{
        (void)state;
        struct rig rig;
        struct check_thread threads[2];
        uint64_t message[4] = { 1, 2, 3, 4 };

        rig_make(&rig, 4, sizeof message);
        rig.ring.watched = true;
        struct sleeper small = { &rig, 8, CHECK_HANG_MS }, large = { &rig, sizeof message, CHECK_HANG_MS };
        check_thread_start(&threads[0], claim_and_tell, &small);
        assert_true(support_until(announced, &rig.ring.shared->getters, CHECK_HANG_MS));
        usleep(20000); /* the kernel wakes in the order of sleeping; were it another, the test would only be weaker */
        check_thread_start(&threads[1], claim_and_tell, &large);
        usleep(20000);
        int64_t start = support_now_ms();
        assert_int_equal(ring_put(&rig.ring, message, sizeof message, 0), 0);
        assert_int_equal(check_thread_join(&threads[0]), EMSGSIZE);
        assert_int_equal(check_thread_join(&threads[1]), 0);
        assert_true(support_now_ms() - start < CHECK_HANG_MS / 2);
        rig_drop(&rig);
}

/* One wake for several messages: each who is woken wakes the next, as long as there is more. */
static void test_the_woken_wake_the_next(void **state)
{
        (void)state;
        enum { SLEEPERS = 3 };
        struct rig rig;
        struct check_thread threads[SLEEPERS];
        struct sleeper sleeper = { &rig, 8, CHECK_HANG_MS };

        rig_make(&rig, 4, 8);
        rig.ring.watched = true;
        for (int i = 0; i < SLEEPERS; i++)
                check_thread_start(&threads[i], claim_and_tell, &sleeper);
        assert_true(support_until(announced, &rig.ring.shared->getters, CHECK_HANG_MS));
        usleep(50000);                        /* were one not yet asleep, the test would only be weaker */
        for (uint32_t i = SLEEPERS; i-- > 0;) /* the first last: nobody takes one before all are there */
                set(&rig, i, 0, FULL, 0);
        store_relaxed(&rig.ring.shared->tail, place(0, SLEEPERS));
        int64_t start = support_now_ms();
        waitword_wake_one(&rig.ring.shared->getters);
        for (int i = 0; i < SLEEPERS; i++)
                assert_int_equal(check_thread_join(&threads[i]), 0);
        /* A sleeper that nobody wakes finds its message all the same, at its deadline. */
        assert_true(support_now_ms() - start < CHECK_HANG_MS / 2);
        rig_drop(&rig);
}

/* A burst for several sleepers, of which a put wakes one each, and none twice. */
static void test_every_sleeper_is_woken(void **state)
{
        (void)state;
        enum { SLEEPERS = 3 };
        struct rig rig;
        struct check_thread threads[SLEEPERS];
        struct sleeper sleeper = { &rig, 8, CHECK_HANG_MS };

        for (int round = 0; round < support_rounds(5); round++) {
                rig_make(&rig, 4, 8);
                rig.ring.watched = true;
                for (int i = 0; i < SLEEPERS; i++)
                        check_thread_start(&threads[i], claim_and_tell, &sleeper);
                assert_true(support_until(announced, &rig.ring.shared->getters, CHECK_HANG_MS));
                usleep((useconds_t)support_random(3000));
                int64_t start = support_now_ms();
                for (uint64_t i = 0; i < SLEEPERS; i++)
                        assert_int_equal(put(&rig, i, 0), 0);
                for (int i = 0; i < SLEEPERS; i++)
                        assert_int_equal(check_thread_join(&threads[i]), 0);
                assert_true(support_now_ms() - start < CHECK_HANG_MS / 2);

                /* And at the close. */
                for (int i = 0; i < SLEEPERS; i++)
                        check_thread_start(&threads[i], claim_and_tell, &sleeper);
                usleep((useconds_t)support_random(3000));
                ring_close(&rig.ring);
                for (int i = 0; i < SLEEPERS; i++)
                        assert_int_equal(check_thread_join(&threads[i]), EPIPE);
                rig_drop(&rig);
        }
}

/* ---- hints ---- */

enum { PUTTERS = 2, GETTERS = 2 };

struct crowd {
        struct rig rig;
        uint64_t each; /* messages of a putter */
        atomic_int done;
        atomic_int *seen;
};

struct member {
        struct crowd *crowd;
        uint64_t number;
};

static int put_all(void *arg)
{
        struct member *member = arg;
        struct crowd *crowd = member->crowd;

        for (uint64_t i = 0; i < crowd->each; i++)
                require_int(put(&crowd->rig, member->number * crowd->each + i, CHECK_HANG_MS), 0);
        return 0;
}

static int get_all(void *arg)
{
        struct member *member = arg;
        struct crowd *crowd = member->crowd;
        int64_t message;

        while ((message = get(&crowd->rig, CHECK_HANG_MS)) >= 0) {
                require((uint64_t)message < PUTTERS * crowd->each);
                require_int(atomic_fetch_add(&crowd->seen[message], 1), 0);
        }
        require_int(message, -EPIPE);
        return 0;
}

/* The head may lag or lead; tail and settled may lag.  Whatever they say, the slots decide. */
static int confuse(void *arg)
{
        struct member *member = arg;
        struct crowd *crowd = member->crowd;
        struct ring_shared *shared = crowd->rig.ring.shared;
        uint32_t slots = crowd->rig.ring.geometry.slots;
        uint64_t random = member->number;

        while (atomic_load(&crowd->done) == 0) {
                uint64_t tail = load_relaxed(&shared->tail), settled = load_relaxed(&shared->settled);
                uint64_t lap = tail >> 20, back = check_random(&random, 4);
                uint64_t to = place(lap - (back < lap ? back : lap), (uint32_t)check_random(&random, slots));
                switch (check_random(&random, 3)) {
                case 0:
                        if (to < tail)
                                store_relaxed(&shared->tail, to);
                        break;
                case 1:
                        store_relaxed(&shared->head, to < tail ? to : tail);
                        break;
                default:
                        if (to < settled)
                                store_relaxed(&shared->settled, to);
                }
                usleep(20);
        }
        return 0;
}

static void test_hints_are_hints(void **state)
{
        (void)state;
        static const size_t sizes[] = { 1, 3, 16 };

        for (size_t s = 0; s < array_length(sizes); s++) {
                struct crowd crowd = { .each = (uint64_t)support_rounds(800) };
                struct check_thread threads[PUTTERS + GETTERS + 1];
                struct member members[PUTTERS + GETTERS + 1];

                rig_make(&crowd.rig, sizes[s], 8);
                crowd.seen = calloc(PUTTERS * crowd.each, sizeof *crowd.seen);
                assert_non_null(crowd.seen);
                for (size_t i = 0; i < array_length(threads); i++) {
                        members[i] = (struct member){ &crowd, i };
                        if (i == PUTTERS + GETTERS)
                                members[i].number = support_random(UINT64_MAX);
                        check_thread_start(&threads[i],
                                           i < PUTTERS             ? put_all
                                           : i < PUTTERS + GETTERS ? get_all
                                                                   : confuse,
                                           &members[i]);
                }
                for (size_t i = 0; i < PUTTERS; i++)
                        assert_int_equal(check_thread_join(&threads[i]), 0);
                ring_close(&crowd.rig.ring);
                for (size_t i = PUTTERS; i < PUTTERS + GETTERS; i++)
                        assert_int_equal(check_thread_join(&threads[i]), 0);
                atomic_store(&crowd.done, 1);
                assert_int_equal(check_thread_join(&threads[PUTTERS + GETTERS]), 0);
                for (uint64_t i = 0; i < PUTTERS * crowd.each; i++)
                        assert_int_equal(crowd.seen[i], 1);
                free(crowd.seen);
                rig_drop(&crowd.rig);
        }
}

/* ---- damage ---- */

static void scribble(void *memory, size_t size)
{
        unsigned char *bytes = memory;

        for (size_t i = 0; i < size; i++)
                bytes[i] = (unsigned char)support_random(256);
}

static bool is_one_of(int64_t r, const int *errors, size_t count)
{
        for (size_t i = 0; i < count; i++)
                if (r == errors[i])
                        return true;
        return r == 0;
}

static void use_damaged(struct rig *rig)
{
        static const int errors[] = { -EAGAIN, -ETIMEDOUT, -EPIPE, -EMSGSIZE, -EUCLEAN, -ENOMEM, -EUSERS };
        static unsigned char bytes[256];
        struct ring_claim claim;
        size_t message_size = rig->ring.geometry.message_size;
        int64_t start = support_now_ms();

        for (int timeout_ms = 0; timeout_ms <= 2; timeout_ms += 2) {
                int r = ring_put(&rig->ring, bytes, support_random(message_size + 1), timeout_ms);
                assert_true(is_one_of(r, errors, array_length(errors)));
                r = ring_claim(&rig->ring, &claim, message_size, timeout_ms);
                assert_true(is_one_of(r, errors, array_length(errors)));
                if (r == 0) {
                        assert_true(claim.size <= message_size);
                        memcpy(bytes, claim.bytes, claim.size);
                        ring_release(&rig->ring, &claim);
                }
        }
        ssize_t count = ring_count(&rig->ring, SIZE_MAX);
        assert_true(count == -EUCLEAN || (count >= 0 && count <= 4 * (ssize_t)rig->ring.geometry.slots + 1));
        int full = ring_is_full(&rig->ring);
        assert_true(full == -EUCLEAN || full == 0 || full == 1);
        ring_recover(&rig->ring, (uint32_t)support_random(1u << OWNER_BITS));
        ring_wake_all(&rig->ring);
        if (support_random(4) == 0)
                ring_close(&rig->ring);
        assert_true(support_now_ms() - start < 2000);
}

static void test_damage(void **state)
{
        (void)state;
        for (int round = 0; round < support_rounds(400); round++) {
                static const size_t message_sizes[] = { 8, 48, 200 };
                struct rig rig;
                size_t slots = 1 + support_random(9);

                rig_make(&rig, slots, message_sizes[support_random(3)]);
                for (uint64_t i = support_random(2 * slots + 1); i > 0; i--)
                        if (put(&rig, i, 0) < 0)
                                get(&rig, 0);
                switch (support_random(5)) {
                case 0: /* all of it */
                        scribble(rig.ring.shared, sizeof *rig.ring.shared);
                        scribble(rig.ring.slots, rig.ring.geometry.slots_bytes);
                        scribble(rig.ring.owners, sizeof *rig.ring.owners);
                        break;
                case 1:
                        scribble(rig.ring.slots, rig.ring.geometry.slots_bytes);
                        break;
                case 2: /* laps that make sense, everything else that does not */
                        for (uint32_t i = 0; i < slots; i++)
                                store_relaxed(&slot(&rig, i)->state, support_random(4) << 27 | support_random(1 << 27));
                        break;
                case 3: /* hints within the ring, but anywhere */
                        set_hints(&rig, place(support_random(4), (uint32_t)support_random(slots)),
                                  place(support_random(4), (uint32_t)support_random(slots)),
                                  place(support_random(4), (uint32_t)support_random(slots)));
                        break;
                default: /* a few bits */
                        for (int i = 0; i < 3; i++) {
                                unsigned char *at = i % 2 ? rig.ring.slots : (unsigned char *)rig.ring.shared;
                                size_t size = i % 2 ? rig.ring.geometry.slots_bytes : sizeof *rig.ring.shared;
                                at[support_random(size)] ^= (unsigned char)(1u << support_random(8));
                        }
                }
                use_damaged(&rig);
                rig_drop(&rig);
        }
}

/* What cannot be is called by its name. */
static void test_named_damage(void **state)
{
        (void)state;
        struct rig rig;
        struct ring_claim claim;

        rig_make(&rig, 4, 8);
        set(&rig, 0, 0, FULL, 0);
        store_relaxed(&slot(&rig, 0)->size, 9);
        assert_int_equal(ring_claim(&rig.ring, &claim, SIZE_MAX, BROOD_FOREVER), -EUCLEAN);
        set(&rig, 0, 0, EMPTY, 0);
        store_relaxed(&rig.ring.shared->head, place(0, 4));
        assert_int_equal(get(&rig, BROOD_FOREVER), -EUCLEAN);
        assert_int_equal(ring_count(&rig.ring, 9), -EUCLEAN);
        store_relaxed(&rig.ring.shared->head, 0);
        store_relaxed(&rig.ring.shared->settled, place(0, 0xfffff));
        assert_int_equal(get(&rig, BROOD_FOREVER), -EUCLEAN);
        assert_int_equal(ring_count(&rig.ring, 9), -EUCLEAN);
        store_relaxed(&rig.ring.shared->settled, 0);
        store_relaxed(&rig.ring.shared->tail, place(7, 4));
        assert_int_equal(put(&rig, 1, BROOD_FOREVER), -EUCLEAN);
        assert_int_equal(ring_is_full(&rig.ring), -EUCLEAN);
        rig_drop(&rig);
}

int main(int argc, char **argv)
{
        static const struct CMUnitTest tests[] = {
                support_test(test_threads_that_come_at_once),
                support_test(test_plan),
                support_test(test_laps),
                support_test(test_states),
                support_test(test_large_messages),
                support_test(test_nothing_is_torn),
                support_test(test_dead_writer),
                support_test(test_dead_writer_a_lap_behind),
                support_test(test_claims_of_the_living),
                support_test(test_dead_reader),
                support_test(test_recover),
                support_test(test_recover_with_an_old_settled_position),
                support_test(test_the_oldest_open_position),
                support_test(test_dead_reader_blocks_a_full_ring),
                support_test(test_one_slot),
                support_test(test_seal),
                support_test(test_seal_waits_for_claims),
                support_test(test_forked_child_has_its_own_number),
#if !defined(__SANITIZE_THREAD__)
                support_test(test_cloned_child_has_its_own_number),
#endif
                support_test(test_no_number_left),
                support_test(test_too_large_for_the_woken),
                support_test(test_the_woken_wake_the_next),
                support_test(test_every_sleeper_is_woken),
                support_test(test_hints_are_hints),
                support_test(test_damage),
                support_test(test_named_damage),
        };
        return support_main(argc, argv, "ring", tests, array_length(tests), 60);
}
