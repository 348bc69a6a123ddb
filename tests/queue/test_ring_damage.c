/* SPDX-License-Identifier: MIT
 *
 * tests/queue/test_ring_damage.c: rings in memory that says what no brood wrote.  Every call ends, soon, and with an error or
 * with a message of a size that can be; nothing is read or written outside of the region.
 */
#include "rig.h"

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
                r = ring_claim(&rig->ring, &claim, message_size, deadline_after_ms(timeout_ms));
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

                rig_make_planned(&rig, &(struct rig_plan){ .slots = slots,
                                                           .message_size = message_sizes[support_random(3)],
                                                           .leases = support_random(2) });
                for (uint64_t i = support_random(2 * slots + 1); i > 0; i--)
                        if (put(&rig, i, 0) < 0)
                                get(&rig, 0);
                switch (support_random(5)) {
                case 0: /* all of it */
                        scribble(rig.ring.shared, sizeof *rig.ring.shared);
                        scribble(rig.ring.slots, rig.ring.geometry.block_size);
                        scribble(rig.ring.owners, sizeof *rig.ring.owners);
                        break;
                case 1:
                        scribble(rig.ring.slots, rig.ring.geometry.block_size);
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
                                unsigned char *at =
                                    i % 2 ? (unsigned char *)rig.ring.slots : (unsigned char *)rig.ring.shared;
                                size_t size = i % 2 ? rig.ring.geometry.block_size : sizeof *rig.ring.shared;
                                at[support_random(size)] ^= (unsigned char)(1u << support_random(8));
                        }
                }
                use_damaged(&rig);
                rig_drop(&rig);
        }
}

/* A ring without a bound, with leases and buffers: the words that say where things are. */
static void test_damage_of_tables(void **state)
{
        (void)state;
        for (int round = 0; round < support_rounds(60); round++) {
                static const unsigned char bytes[200];
                struct rig rig;
                struct ring_claim claim;

                rig_make_planned(&rig, &(struct rig_plan){ .message_size = 200, .leases = true, .max_deliveries = 2 });
                struct blocks *blocks = &rig.ring.blocks;
                for (int i = 0; i < 700; i++)
                        assert_int_equal(ring_put(&rig.ring, bytes, (size_t)(i % 201), 0), 0);
                for (uint64_t i = support_random(600); i > 0; i--)
                        assert_int_equal(ring_get(&rig.ring, (void *)&(char[200]){ 0 }, 200, 0) >= 0, 1);
                switch (support_random(6)) {
                case 0:
                        scribble(blocks->shared, sizeof *blocks->shared);
                        break;
                case 1:
                        scribble(blocks->tables->directory, 64);
                        break;
                case 2:
                        scribble(blocks->tables->words, 64);
                        break;
                case 3:
                        scribble(rig.ring.leases.shared, sizeof *rig.ring.leases.shared);
                        scribble(region_at(&rig.region, rig.ring.leases.offset), 5 * rig.ring.leases.stride);
                        break;
                case 4:
                        scribble(rig.ring.spill.shared, sizeof *rig.ring.spill.shared);
                        scribble(region_at(&rig.region, rig.ring.spill.geometry.table[1]), 4096);
                        break;
                default: /* the bodies of messages */
                        for (uint32_t i = 0; i < BLOCK_SLOTS; i++)
                                store_relaxed(&blocks_slots(blocks, support_random(2))[i].body,
                                              support_random(UINT64_MAX));
                }
                int64_t start = support_now_ms();
                for (int i = 0; i < 20; i++) {
                        int r = ring_put(&rig.ring, bytes, support_random(201), 0);
                        assert_true(r <= 0 && r != -EFAULT);
                        r = ring_claim(&rig.ring, &claim, SIZE_MAX, DEADLINE_NOW);
                        assert_true(r <= 0 && r != -EFAULT);
                        if (r == 0) {
                                assert_true(claim.size <= 256);
                                unsigned char copy[256];
                                memcpy(copy, claim.bytes, claim.size);
                                ring_release(&rig.ring, &claim);
                        }
                }
                ssize_t count = ring_count(&rig.ring, SIZE_MAX);
                assert_true(count == -EUCLEAN || count >= 0);
                leases_recover(&rig.ring.leases, OWNER_NONE);
                ring_trim(&rig.ring);
                assert_true(support_now_ms() - start < 20000);
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
        store_relaxed(&slot(&rig, 0)->body, body(17, 0, 0)); /* larger than a cell */
        assert_int_equal(ring_claim(&rig.ring, &claim, SIZE_MAX, DEADLINE_NEVER), -EUCLEAN);
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
                support_test(test_damage),
                support_test(test_damage_of_tables),
                support_test(test_named_damage),
        };
        return support_main(argc, argv, "ring damage", tests, array_length(tests), 60);
}
