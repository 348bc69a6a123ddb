/* SPDX-License-Identifier: MIT
 *
 * tests/queue/test_spill.c: the buffers of large messages, with holders that the test invents.
 */
#include "rig.h"

/* | kind 3 | 61 bits |: the second statement of the words of buffers. */
enum { POSITION_KIND = 1, LEASE_KIND = 2, TRIMMER_KIND = 3, HOLDERS = 64 };

static uint64_t holder(unsigned kind, uint64_t what)
{
        return (uint64_t)kind << 61 | what;
}

/* Positions of lap 0 are held if the test says so. */
static bool held[HOLDERS];

static bool is_held(void *context, uint64_t holder)
{
        (void)context;
        struct position at = spill_holder_at(holder);
        return at.index < HOLDERS && held[at.index];
}

static struct spill *make_rig(struct rig *rig, size_t message_size, size_t memory)
{
        rig_make_planned(
            rig, &(struct rig_plan){ .slots = 4, .message_size = message_size, .memory = memory, .leases = true });
        memset(held, 0, sizeof held);
        rig->ring.spill.held = is_held;
        return &rig->ring.spill;
}

static struct spill_buffer *buffer(struct rig *rig, uint32_t class, uint32_t index)
{
        return (struct spill_buffer *)region_at(&rig->region, rig->ring.spill.geometry.table[class]) + index;
}

static int find(struct spill *spill, size_t size, struct body *ret_body)
{
        return spill_find(spill, size, ret_body);
}

/* Find and take for a position. */
static int take_for(struct spill *spill, size_t size, uint32_t index, struct body *ret_body)
{
        int r = spill_find(spill, size, ret_body);

        if (r < 0)
                return r;
        held[index] = true;
        return spill_take(spill, ret_body, spill_holder_position((struct position){ 0, index }));
}

static void test_plan(void **state)
{
        (void)state;
        struct spill_geometry g;
        static const struct {
                size_t message_size;
                uint32_t classes;
        } plans[] = { { 128, 0 },   { 129, 1 },   { 256, 1 },
                      { 257, 2 },   { 1024, 2 },  { 1025, 3 },
                      { 65536, 5 }, { 65537, 6 }, { (size_t)16 << 30, 14 } };

        for (size_t i = 0; i < array_length(plans); i++) {
                size_t end = spill_plan(&g, 12345, plans[i].message_size, (size_t)16 << 30, 128);
                assert_int_equal(g.classes, plans[i].classes);
                size_t at = 12345;
                for (uint32_t class = 1; class <= g.classes; class ++) {
                        size_t size = (size_t)256 << 2 * (class - 1);
                        assert_true(g.count[class] >= 1 && g.count[class] <= 1u << 24);
                        assert_true(g.table[class] >= at && g.table[class] % 4096 == 0 && g.data[class] % 4096 == 0);
                        assert_true(g.data[class] >= g.table[class] + g.count[class] * sizeof(struct spill_buffer));
                        at = g.data[class] + g.count[class] * size;
                }
                assert_int_equal(end, at);
        }
        /* A buffer of each class at least, and no more than an address space. */
        assert_true(spill_plan(&g, 4096, 300000, 300000, 128) > 0);
        assert_int_equal(g.count[7], 1);
        assert_int_equal(spill_plan(&g, 4096, (size_t)16 << 30, (size_t)1 << 44, 128), 0);
}

static void test_words(void **state)
{
        (void)state;
        uint32_t index = 0, generation = 0;
        struct position at = { .lap = LAPS - 1, .index = 0xfffff };

        assert_int_equal(spill_holder_position(at), holder(POSITION_KIND, place(LAPS - 1, 0xfffff)));
        assert_int_equal(spill_holder_lease(4095, 0x1fffffff), holder(LEASE_KIND, UINT64_C(0x1fffffff) << 12 | 4095));
        assert_false(spill_holder_is_lease(spill_holder_position(at), &index, &generation));
        assert_int_equal(spill_holder_at(spill_holder_position(at)).lap, LAPS - 1);
        assert_int_equal(spill_holder_at(spill_holder_position(at)).index, 0xfffff);
        assert_true(spill_holder_is_lease(spill_holder_lease(4095, 0x1fffffff), &index, &generation));
        assert_int_equal(index, 4095);
        assert_int_equal(generation, 0x1fffffff);
}

static void test_take_and_free(void **state)
{
        (void)state;
        struct rig rig;
        struct body bodies[5], body;
        struct spill *spill = make_rig(&rig, 5000, 4096);

        /* Four buffers of 1 KiB. */
        for (uint32_t i = 0; i < 4; i++) {
                assert_int_equal(take_for(spill, 1000 + i, i, &bodies[i]), 0);
                assert_int_equal(bodies[i].class, 2);
                assert_int_equal(bodies[i].size, 1000 + i);
                assert_true(spill_valid(spill, bodies[i]));
                assert_int_equal(load_relaxed(&buffer(&rig, 2, bodies[i].buffer)->word), holder(POSITION_KIND, i));
                assert_int_equal(load_relaxed(&buffer(&rig, 2, bodies[i].buffer)->committed), 1000 + i);
                memset(spill_bytes(spill, bodies[i]), (int)i, bodies[i].size);
        }
        for (uint32_t i = 0; i < 4; i++)
                for (uint32_t j = 0; j < i; j++)
                        assert_int_not_equal(bodies[i].buffer, bodies[j].buffer);
        assert_int_equal(spill_bytes(spill, bodies[0])[999], 0);
        assert_int_equal(find(spill, 1000, &body), -EAGAIN);
        assert_int_equal(find(spill, 5000, &body), 0); /* another class */
        assert_int_equal(body.class, 4);

        /* The holder is done with: free, without a word to anybody. */
        held[2] = false;
        assert_int_equal(take_for(spill, 1024, 9, &body), 0);
        assert_int_equal(body.buffer, bodies[2].buffer);
        assert_int_equal(load_relaxed(&buffer(&rig, 2, body.buffer)->committed), 1024);

        /* Another has taken what was found: the next free one, or none. */
        held[0] = held[1] = false;
        assert_int_equal(find(spill, 1000, &body), 0);
        bodies[4] = body;
        held[10] = true;
        assert_int_equal(spill_take(spill, &body, spill_holder_position((struct position){ 0, 10 })), 0);
        held[11] = true;
        assert_int_equal(spill_take(spill, &bodies[4], spill_holder_position((struct position){ 0, 11 })), 0);
        assert_int_not_equal(bodies[4].buffer, body.buffer);
        assert_int_equal(spill_take(spill, &body, spill_holder_position((struct position){ 0, 12 })), -EAGAIN);
        rig_drop(&rig);
}

/* From a position to a lease, once: what comes late does nothing. */
static void test_pass(void **state)
{
        (void)state;
        struct rig rig;
        struct body body;
        struct spill *spill = make_rig(&rig, 5000, 4096);

        assert_int_equal(take_for(spill, 1000, 3, &body), 0);
        uint64_t from = spill_holder_position((struct position){ 0, 3 }), to = spill_holder_lease(7, 1);
        spill_pass(spill, body, spill_holder_position((struct position){ 0, 4 }), to);
        assert_int_equal(load_relaxed(&buffer(&rig, 2, body.buffer)->word), from);
        for (int i = 0; i < 2; i++) {
                spill_pass(spill, body, from, to);
                assert_int_equal(load_relaxed(&buffer(&rig, 2, body.buffer)->word), to);
        }
        rig_drop(&rig);
}

static void test_validity(void **state)
{
        (void)state;
        struct rig rig;
        struct spill *spill = make_rig(&rig, 5000, 8192);
        static const struct {
                struct body body;
                bool valid;
        } bodies[] = {
                { { .size = 256, .class = 1, .buffer = 31 }, true },
                { { .size = 257, .class = 1, .buffer = 0 }, false },
                { { .size = 0, .class = 4, .buffer = 0 }, true },
                { { .size = 0, .class = 4, .buffer = 1 }, false },
                { { .size = 1, .class = 0, .buffer = 0 }, false },
                { { .size = 1, .class = 5, .buffer = 0 }, false },
                { { .size = 1, .class = 31, .buffer = 0 }, false },
                { { .size = 1, .class = 1, .buffer = 32 }, false },
                { { .size = SIZE_MAX >> 29, .class = 1 }, false },
        };

        for (size_t i = 0; i < array_length(bodies); i++)
                assert_int_equal(spill_valid(spill, bodies[i].body), bodies[i].valid);
        rig_drop(&rig);
}

/* A trimmer died with buffers in its hands: they are free, and given memory anew; one that lives is left to its work. */
static void test_dead_trimmer(void **state)
{
        (void)state;
        struct rig rig;
        struct body body;
        struct spill *spill = make_rig(&rig, 5000, 1024);

        assert_int_equal(take_for(spill, 1000, 0, &body), 0);
        held[0] = false;
        store_relaxed(&buffer(&rig, 2, 0)->word, holder(TRIMMER_KIND, STRANGER));
        assert_int_equal(find(spill, 1000, &body), -EAGAIN);
        spill_trim(spill, rig.own, 0);
        assert_int_equal(load_relaxed(&buffer(&rig, 2, 0)->word), holder(TRIMMER_KIND, STRANGER));
        store_relaxed(&buffer(&rig, 2, 0)->word, holder(TRIMMER_KIND, DEAD));
        region_release(&rig.region, spill->geometry.data[2], 4096);
        assert_int_equal(take_for(spill, 500, 1, &body), 0);
        assert_int_equal(load_relaxed(&buffer(&rig, 2, 0)->committed), 500);
        assert_int_equal(load_relaxed(&buffer(&rig, 2, 0)->word), holder(POSITION_KIND, 1));
        /* Another trimmer does what the dead one had begun. */
        store_relaxed(&buffer(&rig, 2, 0)->word, holder(TRIMMER_KIND, DEAD));
        spill_trim(spill, rig.own, 0);
        assert_int_equal(load_relaxed(&buffer(&rig, 2, 0)->word), 0);
        assert_int_equal(load_relaxed(&buffer(&rig, 2, 0)->committed), 0);
        rig_drop(&rig);
}

/* Memory goes back, but for that of buffers in use. */
static void test_trim(void **state)
{
        (void)state;
        static const size_t sizes[] = { 200, 1000, 4096, 65536 };

        for (size_t k = 0; k < array_length(sizes); k++) {
                struct rig rig;
                struct body body, kept = { 0 };
                struct spill *spill = make_rig(&rig, 65536, (size_t)64 << 20);
                size_t size = sizes[k], count = ((size_t)16 << 20) / size;
                int64_t idle = rig_kib(&rig);

                for (int round = 0; round < 2; round++) {
                        /* What is held is held by one holder for all, and one of its own. */
                        held[0] = true;
                        for (size_t i = 0; i < count; i++) {
                                assert_int_equal(find(spill, size, &body), 0);
                                assert_int_equal(
                                    spill_take(spill, &body, spill_holder_position((struct position){ 0, i == 3 })), 0);
                                held[1] = true;
                                if (i == 3) {
                                        kept = body;
                                        memset(spill_bytes(spill, body), 'k', size);
                                }
                        }
                        assert_true(rig_kib(&rig) - idle >= 15 << 10);
                        spill_trim(spill, rig.own, 0);
                        assert_true(rig_kib(&rig) - idle >= 15 << 10);
                        held[0] = false;
                        spill_trim(spill, rig.own, 0);
                        /* The page of the one that is in use stays, with its neighbours if they share pages. */
                        assert_true(rig_kib(&rig) - idle <= 256 + 64);
                        assert_int_equal(spill_bytes(spill, kept)[size - 1], 'k');
                        held[1] = false;
                        spill_trim(spill, rig.own, 0);
                        assert_true(rig_kib(&rig) - idle <= 16);
                        assert_int_equal(load_relaxed(&spill->shared->class[kept.class].high), 0);
                }
                rig_drop(&rig);
        }
}

/* No memory behind a buffer: it is nobody's. */
static void test_no_memory(void **state)
{
        (void)state;
        struct rig rig;
        struct body body;
        struct spill *spill = make_rig(&rig, 5000, 1024);
        struct region broken = rig.region;

        assert_int_equal(take_for(spill, 300, 0, &body), 0);
        held[0] = false;
        broken.fd = -1;
        spill->region = &broken;
        assert_int_equal(take_for(spill, 300, 1, &body), 0); /* it has that much */
        held[1] = false;
        assert_int_equal(take_for(spill, 301, 2, &body), -EBADF);
        assert_int_equal(load_relaxed(&buffer(&rig, 2, 0)->word), 0);
        spill->region = &rig.region;
        assert_int_equal(take_for(spill, 301, 3, &body), 0);
        rig_drop(&rig);
}

/* A ring whose buffers are all held counts as full; a message that is gone makes room. */
static void test_a_ring_without_buffers_is_full(void **state)
{
        (void)state;
        struct rig rig;
        static unsigned char bytes[1000];

        rig_make_planned(&rig, &(struct rig_plan){ .slots = 4, .message_size = 1000, .memory = 2048 });
        for (int round = 0; round < 9; round++) {
                for (int i = 0; i < 2; i++)
                        assert_int_equal(ring_put(&rig.ring, bytes, 1000, 0), 0);
                assert_int_equal(ring_put(&rig.ring, bytes, 1000, 0), -EAGAIN);
                assert_int_equal(ring_put(&rig.ring, bytes, 1000, BUSY_MS), -ETIMEDOUT);
                assert_int_equal(ring_put(&rig.ring, bytes, 128, 0), 0);
                assert_int_equal(ring_get(&rig.ring, bytes, 1000, 0), 1000);
                assert_int_equal(ring_put(&rig.ring, bytes, 1000, 0), 0);
                assert_int_equal(ring_get(&rig.ring, bytes, 1000, 0), 1000);
                assert_int_equal(ring_get(&rig.ring, bytes, 1000, 0), 128);
                assert_int_equal(ring_get(&rig.ring, bytes, 1000, 0), 1000);
        }
        assert_int_equal(load_relaxed(&rig.ring.shared->skipped), 0);
        rig_drop(&rig);
}

int main(int argc, char **argv)
{
        static const struct CMUnitTest tests[] = {
                support_test(test_plan),
                support_test(test_words),
                support_test(test_take_and_free),
                support_test(test_pass),
                support_test(test_validity),
                support_test(test_dead_trimmer),
                support_test(test_trim),
                support_test(test_no_memory),
                support_test(test_a_ring_without_buffers_is_full),
        };
        return support_main(argc, argv, "spill", tests, array_length(tests), 60);
}
