/* SPDX-License-Identifier: MIT
 *
 * tests/queue/test_ring.c: a ring with a bound, driven by hand (see rig.h).  Rings without a bound are in test_blocks.c, buffers
 * in test_spill.c, leases in test_leases.c, and memory that says what cannot be in test_ring_damage.c.
 */
#include "rig.h"

#include "os/futex.h"
#include "os/pidfd.h"
#include "sync/waitword.h"

#include <sys/syscall.h>

/* ---- sizes ---- */

static void test_plan(void **state)
{
        (void)state;
        static const struct {
                size_t message_size;
                uint32_t stride;
                bool spills;
        } plans[] = { { 1, 16, false },    { 8, 16, false },   { 16, 16, false },
                      { 17, 64, false },   { 64, 64, false },  { 65, 128, false },
                      { 128, 128, false }, { 129, 128, true }, { (size_t)1 << 30, 128, true } };
        struct ring_geometry g;
        struct spill_geometry spill;

        for (size_t i = 0; i < array_length(plans); i++) {
                ring_plan(&g, 5, plans[i].message_size);
                assert_int_equal(g.slots, 5);
                assert_true(g.bounded);
                assert_int_equal(g.message_size, plans[i].message_size);
                assert_int_equal(g.cell_stride, plans[i].stride);
                assert_int_equal(g.inline_room, plans[i].stride);
                assert_true(g.cells_at >= 5 * sizeof(struct ring_slot) && g.cells_at % 64 == 0);
                assert_true(g.block_size >= g.cells_at + 5 * (size_t)g.cell_stride && g.block_size % 64 == 0);
                size_t end = spill_plan(&spill, 4096, plans[i].message_size, (size_t)1 << 30, g.inline_room);
                assert_int_equal(spill.classes > 0, plans[i].spills);
                assert_true(plans[i].spills ? end > plans[i].message_size : end == 4096);
        }

        /* Without a bound: laps of one block, and blocks of whole pages, so that each can go back by itself. */
        ring_plan(&g, 0, 100);
        assert_false(g.bounded);
        assert_int_equal(g.slots, BLOCK_SLOTS);
        assert_int_equal(g.block_size % 4096, 0);
        assert_true(g.block_size >= BLOCK_SLOTS * (sizeof(struct ring_slot) + 128));

        ring_plan_tickets(&g, 9);
        assert_int_equal(g.cell_stride, 0);
        assert_int_equal(g.inline_room, sizeof(uint64_t));
        assert_true(g.block_size >= 9 * sizeof(struct ring_slot));
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
        assert_int_equal(load_relaxed(&slot(&rig, 0)->body), body(8, 0, 0));
        assert_memory_equal(cell(&rig, 0), &message, 8);
        assert_int_equal(ring_claim(&rig.ring, &claim, 7, DEADLINE_NOW), -EMSGSIZE);
        assert_state(&rig, 0, 0, FULL, 0);
        assert_int_equal(ring_claim(&rig.ring, &claim, 8, DEADLINE_NOW), 0);
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
        static const size_t sizes[] = { 128, 129, LARGEST };
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
                        assert_int_equal(ring_claim(&rig.ring, &claim, size - 1, DEADLINE_NOW), -EMSGSIZE);
                        assert_int_equal(ring_claim(&rig.ring, &claim, size, DEADLINE_NOW), 0);
                        assert_int_equal(claim.size, size);
                        assert_memory_equal(claim.bytes, data[i], size);
                        ring_release(&rig.ring, &claim);
                }
        }

        /* No memory for it: the place that was claimed is passed over, and all goes on. */
        uint32_t class = rig.ring.spill.geometry.classes;
        struct spill_buffer *table = region_at(&rig.region, rig.ring.spill.geometry.table[class]);
        uint32_t used = load_relaxed(&rig.ring.spill.shared->class[class].high);
        assert_int_equal(load_relaxed(&table[0].committed), LARGEST);
        for (uint32_t i = 0; i < used; i++)
                store_relaxed(&table[i].committed, 0);
        struct region broken = rig.region;
        broken.fd = -1;
        rig.ring.spill.region = &broken;
        assert_int_equal(ring_put(&rig.ring, data[0], LARGEST, 0), -EBADF);
        assert_state(&rig, 0, 4, EMPTY, 0);
        assert_int_equal(load_relaxed(&rig.ring.shared->skipped), 1);
        /* Not even memory for the buffers' words: then no place is claimed. */
        rig.ring.spill.region = &rig.region;
        spill_trim(&rig.ring.spill, rig.own, 0);
        rig.ring.spill.region = &broken;
        assert_int_equal(load_relaxed(&rig.ring.spill.shared->class[class].high), 0);
        assert_int_equal(ring_put(&rig.ring, data[0], LARGEST, 0), -EBADF);
        assert_int_equal(load_relaxed(&rig.ring.shared->skipped), 1);
        rig.ring.spill.region = &rig.region;
        assert_int_equal(ring_count(&rig.ring, 9), 0);
        for (uint64_t i = 0; i < 4; i++)
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
                while ((r = ring_claim(&rig.ring, &claim, HUGE_SIZE, DEADLINE_NOW)) == -EAGAIN)
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
                assert_state(&rig, 0, lap, FULL, CAME_BACK);
                assert_state(&rig, 1, lap, READING, STRANGER);
                assert_state(&rig, 2, lap, FULL, CAME_BACK);
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
        assert_state(&rig, 1, 3, FULL, CAME_BACK);
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
        assert_state(&rig, 0, 0, FULL, CAME_BACK);
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

/* A putter claimed a place, took a buffer for it, and died: the place is passed over, and with it the buffer is free. */
static void test_dead_writer_with_a_buffer(void **state)
{
        (void)state;
        struct rig rig;
        static unsigned char bytes[1000];

        /* One buffer of each class, so that a lost one would be missed. */
        rig_make_planned(&rig, &(struct rig_plan){ .slots = 4, .message_size = 1000, .memory = 1000 });
        struct body wanted = { .size = 1000, .class = 2 };
        assert_int_equal(spill_take(&rig.ring.spill, &wanted, spill_holder_position((struct position){ 0, 0 })), 0);
        set(&rig, 0, 0, WRITING, DEAD);
        set_hints(&rig, place(0, 1), 0, 0);
        assert_int_equal(ring_put(&rig.ring, bytes, 1000, 0), -EAGAIN); /* it looks like a queue that is full */
        assert_int_equal(get(&rig, 0), -EAGAIN);
        assert_state(&rig, 0, 1, EMPTY, 0);
        assert_int_equal(ring_put(&rig.ring, bytes, 1000, 0), 0);
        assert_int_equal(ring_get(&rig.ring, bytes, 1000, 0), 1000);
        rig_drop(&rig);
}

/* A getter died while it was reading a message from a buffer: the message and its buffer are as they were. */
static void test_dead_reader_of_a_buffer(void **state)
{
        (void)state;
        struct rig rig;
        unsigned char bytes[1000], got[1000];

        memset(bytes, 'b', sizeof bytes);
        rig_make_planned(&rig, &(struct rig_plan){ .slots = 4, .message_size = 1000, .memory = 1000 });
        assert_int_equal(ring_put(&rig.ring, bytes, 1000, 0), 0);
        store_seq_cst(&slot(&rig, 0)->state, word(0, READING, DEAD));
        store_relaxed(&rig.ring.shared->head, place(0, 1));
        assert_int_equal(ring_put(&rig.ring, bytes, 1000, 0), -EAGAIN);
        assert_int_equal(ring_get(&rig.ring, got, 1000, 0), 1000);
        assert_memory_equal(got, bytes, 1000);
        assert_int_equal(load_relaxed(&rig.ring.shared->repairs), 1);
        assert_int_equal(ring_put(&rig.ring, bytes, 1000, 0), 0);
        rig_drop(&rig);
}

/* A reservation that is given up, and a view that is put back, leave what a death in their place leaves. */
static void test_places_and_claims_given_up(void **state)
{
        (void)state;
        struct rig rig;
        struct ring_place first, second;
        struct ring_claim claim;
        uint64_t message = 1;

        rig_make(&rig, 4, 8);
        assert_int_equal(ring_reserve(&rig.ring, &first, 8, DEADLINE_NOW), 0);
        assert_int_equal(ring_reserve(&rig.ring, &second, 8, DEADLINE_NOW), 0);
        assert_state(&rig, 0, 0, WRITING, rig.own);
        memcpy(second.bytes, &message, sizeof message);
        ring_commit(&rig.ring, &second, 8);
        assert_state(&rig, 1, 0, FULL, 0);
        assert_int_equal(get(&rig, BUSY_MS), -ETIMEDOUT); /* it waits behind the first */
        ring_cancel(&rig.ring, &first);
        assert_state(&rig, 0, 1, EMPTY, 0);
        assert_int_equal(ring_claim(&rig.ring, &claim, 8, DEADLINE_NOW), 0);
        assert_int_equal(get(&rig, 0), -EAGAIN);
        ring_unclaim(&rig.ring, &claim);
        assert_state(&rig, 1, 0, FULL, CAME_BACK);
        assert_int_equal(get(&rig, 0), 1);
        assert_int_equal(ring_claimed(&rig.ring), 2);
        assert_int_equal(load_relaxed(&rig.ring.shared->skipped), 1);
        rig_drop(&rig);
}

/* Whose claim a position is: what the public functions ask before they believe a struct of the caller's. */
static void test_find_claim(void **state)
{
        (void)state;
        struct rig rig;
        struct ring_slot *found = NULL;

        rig_make(&rig, 4, 8);
        set(&rig, 0, 0, WRITING, rig.own);
        set(&rig, 1, 0, READING, STRANGER);
        set(&rig, 2, 0, FULL, 0);
        assert_int_equal(ring_find_claim(&rig.ring, (struct position){ 0, 4 }, WRITING, &found), -EINVAL);
        assert_int_equal(ring_find_claim(&rig.ring, (struct position){ 1, 0 }, WRITING, &found), -EINVAL);
        assert_int_equal(ring_find_claim(&rig.ring, (struct position){ 0, 0 }, READING, &found), -EINVAL);
        assert_int_equal(ring_find_claim(&rig.ring, (struct position){ 0, 1 }, READING, &found), -EPERM);
        assert_int_equal(ring_find_claim(&rig.ring, (struct position){ 0, 2 }, READING, &found), -EINVAL);
        assert_null(found);
        assert_int_equal(ring_find_claim(&rig.ring, (struct position){ 0, 0 }, WRITING, &found), 0);
        assert_ptr_equal(found, slot(&rig, 0));
        rig_drop(&rig);
}

/* Whoever gives up his number gives back what he holds. */
static void test_detach_gives_back(void **state)
{
        (void)state;
        struct rig rig;
        struct ring_place unused;
        struct ring_claim claim;

        rig_make(&rig, 4, 8);
        assert_int_equal(put(&rig, 7, 0), 0);
        assert_int_equal(ring_reserve(&rig.ring, &unused, 8, DEADLINE_NOW), 0);
        assert_int_equal(ring_claim(&rig.ring, &claim, 8, DEADLINE_NOW), 0);
        fetch_add_relaxed(&rig.ring.holding, 2); /* as the public functions do */
        ring_detach(&rig.ring);
        assert_state(&rig, 0, 0, FULL, CAME_BACK);
        assert_state(&rig, 1, 1, EMPTY, 0);
        store_relaxed(&rig.ring.canceled, 0);
        assert_int_equal(get(&rig, 0), 7);
        assert_int_equal(get(&rig, 0), -EAGAIN);
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
        store_relaxed(&rig.ring.shared->control, 0);
        assert_int_equal(put(&rig, 2, BROOD_FOREVER), -EPIPE);
        store_relaxed(&rig.ring.shared->control, CONTROL_CLOSED);
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
        require_int(ring_register(&newcomer->rig->ring, &newcomer->owner), 0);
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

                rig_prepare(&rig, &(struct rig_plan){ .slots = 4, .message_size = 8 });
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

        require_int(ring_register(&rig->ring, &owner), 0);
        require(owner != rig->own && owner != OWNER_NONE);
        require_int(get(rig, 0), 5);
        require_int(put(rig, 6, 0), 0);
        struct ring_claim claim;
        require_int(ring_claim(&rig->ring, &claim, 8, DEADLINE_NOW), 0);
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
        assert_int_equal(ring_register(&rig.ring, &owner), 0);
        assert_int_equal(owner, rig.own);
        int probe = pidfd_of(getpid());
        if (probe != -ENOSYS) { /* under valgrind nobody can be proved dead */
                assert_int_equal(get(&rig, CHECK_HANG_MS), 6);
                close(probe);
        }
        rig_drop(&rig);
}

#if !CHECK_TSAN
static void test_cloned_child_has_its_own_number(void **state)
{
        (void)state;
        struct rig rig;
        uint32_t before;

        rig_make(&rig, 4, 8);
        assert_int_equal(ring_register(&rig.ring, &before), 0);
        fflush(NULL);
        pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
        if (pid == 0) {
                uint32_t owner;
                int r = ring_register(&rig.ring, &owner);
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
                assert_int_equal(ring_register(&rig.ring, &rig.own), 0);
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
        int r = ring_claim(&sleeper->rig->ring, &claim, sleeper->room, deadline_after_ms(sleeper->timeout_ms));

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

/* ---- turns (sync/turn.h) ---- */

struct held {
        struct rig *rig;
        bool puts;
        atomic_bool stop;
};

/* Wait again and again, in vain. */
static int wait_in_vain(void *arg)
{
        struct held *held = arg;

        while (!atomic_load(&held->stop)) {
                if (held->puts)
                        require_int(put(held->rig, 1, BUSY_MS), -ETIMEDOUT);
                else
                        require_int(get(held->rig, BUSY_MS), -ETIMEDOUT);
        }
        return 0;
}

/* Who has done more than one that asks to go first is asleep on its plea, and not on the wait word, where any change wakes it. */
static void test_stand_back(void **state)
{
        (void)state;
        enum { PLACES = 4 };

        for (int puts = 0; puts < 2; puts++) {
                struct rig rig;
                struct held held = { .rig = &rig, .puts = puts };
                struct check_thread thread;
                int turn = puts ? PUTTING : GETTING;

                rig_make(&rig, PLACES, 8);
                for (int i = 0; puts && i < PLACES; i++)
                        assert_int_equal(put(&rig, 1, 0), 0);
                store_relaxed(&rig.ring.turns[turn].done, 2 * TURN_LEAD);
                check_thread_start(&thread, wait_in_vain, &held);
                atomic_u64 *plea = &rig.ring.shared->pleas[turn];
                int64_t began = support_now_ms();
                do {
                        uint64_t until = (uint32_t)(clock_now() / 1000) + TURN_MOST_US;
                        store_relaxed(plea, until << 32);
                        if (support_now_ms() - began > CHECK_HANG_MS)
                                check_hang("nobody stands back");
                } while (futex_wake(futex_low_half(plea), 1) == 0);
                atomic_store(&held.stop, true);
                assert_int_equal(check_thread_join(&thread), 0);
                rig_drop(&rig);
        }
}

/* Both sides count what they have done, and a batch counts as much as its messages one by one. */
static void test_counts(void **state)
{
        (void)state;
        enum { MESSAGES = 4096, SAMPLES = MESSAGES / 32 };
        static uint64_t numbers[MESSAGES];
        static struct iovec messages[MESSAGES];
        static const size_t batches[] = { 1, 7, 64, 1000 };

        for (size_t b = 0; b < array_length(batches); b++) {
                struct rig rig;
                rig_make(&rig, MESSAGES, 8);
                for (int i = 0; i < MESSAGES; i++)
                        messages[i] = (struct iovec){ &numbers[i], sizeof numbers[i] };
                for (size_t i = 0, n; i < MESSAGES; i += n) {
                        n = batches[b] < MESSAGES - i ? batches[b] : MESSAGES - i;
                        assert_int_equal(ring_put_many(&rig.ring, &messages[i], n, 0), n);
                }
                assert_int_equal(load_relaxed(&rig.ring.turns[PUTTING].done), SAMPLES);
                assert_int_equal(load_relaxed(&rig.ring.turns[GETTING].done), 0);
                for (size_t i = 0, n; i < MESSAGES; i += n) {
                        n = batches[b] < MESSAGES - i ? batches[b] : MESSAGES - i;
                        assert_int_equal(ring_get_many(&rig.ring, &messages[i], n, 0), n);
                }
                assert_int_equal(load_relaxed(&rig.ring.turns[GETTING].done), SAMPLES);
                rig_drop(&rig);
        }
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
                support_test(test_dead_writer_with_a_buffer),
                support_test(test_dead_reader_of_a_buffer),
                support_test(test_places_and_claims_given_up),
                support_test(test_find_claim),
                support_test(test_detach_gives_back),
                support_test(test_seal),
                support_test(test_seal_waits_for_claims),
                support_test(test_forked_child_has_its_own_number),
#if !CHECK_TSAN
                support_test(test_cloned_child_has_its_own_number),
#endif
                support_test(test_no_number_left),
                support_test(test_too_large_for_the_woken),
                support_test(test_the_woken_wake_the_next),
                support_test(test_every_sleeper_is_woken),
                support_test(test_hints_are_hints),
                support_test(test_stand_back),
                support_test(test_counts),
        };
        return support_main(argc, argv, "ring", tests, array_length(tests), 60);
}
