/* SPDX-License-Identifier: MIT
 *
 * tests/queue/test_leases.c: the table of leases, driven by hand: every state in which a death can leave an entry.
 *
 * The source is included, because two races need a step with a word that was read before others went on.
 */
#include "rig.h"

#include "queue/leases.c"

static uint64_t lease(uint32_t generation, uint32_t deliveries, unsigned kind, uint32_t owner)
{
        return (uint64_t)generation << 35 | (uint64_t)deliveries << 27 | (uint64_t)kind << 24 | owner;
}

static void make_rig(struct rig *rig, uint32_t max_deliveries)
{
        rig_make_planned(
            rig,
            &(struct rig_plan){
                .slots = 8, .message_size = 1000, .memory = 4096, .leases = true, .max_deliveries = max_deliveries });
}

static struct lease_entry *lease_at(struct rig *rig, uint32_t index)
{
        return entry_at(&rig->ring.leases, index);
}

#define assert_lease(rig, index, generation, deliveries, kind, owner)                                                  \
        assert_int_equal(load_relaxed(&lease_at((rig), (index))->word),                                                \
                         lease((generation), (deliveries), (kind), (owner)))

/* An entry as its owner left it, with a message that is its number. */
static void set_lease(struct rig *rig, uint32_t index, uint64_t word, uint64_t position, uint64_t message)
{
        struct lease_entry *at = lease_at(rig, index);

        store_relaxed(&at->position, position);
        store_relaxed(&at->body, body(sizeof message, 0, 0));
        memcpy(at->bytes, &message, sizeof message);
        store_seq_cst(&at->word, word);
        if (load_relaxed(&rig->ring.leases.shared->high) <= index)
                store_relaxed(&rig->ring.leases.shared->high, index + 1);
}

/* Lease the next message as the public function does: its number, or a negative errno. */
static int64_t take_lease(struct rig *rig, struct lease_claim *ret_claim)
{
        struct leases *leases = &rig->ring.leases;
        struct ring_claim claim;
        uint32_t index;
        uint64_t message;
        int r = leases_reserve(leases, rig->own, &index);

        if (r < 0)
                return r;
        r = ring_claim(&rig->ring, &claim, SIZE_MAX, DEADLINE_NOW);
        if (r < 0 || claim.slot == NULL) {
                leases_unreserve(leases, rig->own, index);
                if (r < 0)
                        return r;
                *ret_claim = claim.lease;
        } else {
                leases_hold(leases, rig->own, index, claim.at, claim.body, ret_claim);
        }
        memcpy(&message, ret_claim->bytes, sizeof message);
        return (int64_t)message;
}

/* ---- the life of a lease ---- */

static void test_life(void **state)
{
        (void)state;
        struct rig rig;
        struct lease_claim claim;

        make_rig(&rig, 0);
        struct leases *leases = &rig.ring.leases;
        assert_int_equal(take_lease(&rig, &claim), -EAGAIN);
        assert_lease(&rig, 0, 0, 0, FREE, 0);
        assert_int_equal(put(&rig, 5, 0), 0);
        assert_int_equal(take_lease(&rig, &claim), 5);
        assert_int_equal(claim.deliveries, 1);
        assert_int_equal(claim.size, 8);
        assert_lease(&rig, 0, 0, 1, HELD, rig.own);
        assert_int_equal(load_relaxed(&lease_at(&rig, 0)->position), place(0, 0));
        assert_state(&rig, 0, 1, EMPTY, 0); /* its place in the ring is free */
        assert_int_equal(ring_count(&rig.ring, 9), 0);
        assert_int_equal(ring_is_done(&rig.ring), 0);
        assert_int_equal(leases_give_back(leases, rig.own, 0, 0), 0);
        assert_lease(&rig, 0, 0, 1, READY, 0);
        assert_int_equal(load_relaxed(&leases->shared->returned), 1);
        assert_int_equal(ring_count(&rig.ring, 9), 1);
        assert_int_equal(take_lease(&rig, &claim), 5);
        assert_int_equal(claim.deliveries, 2);
        assert_int_equal(leases_acknowledge(leases, rig.own, claim.entry, claim.generation), 0);
        assert_lease(&rig, 0, 1, 0, FREE, 0);
        assert_int_equal(ring_is_done(&rig.ring), 1);

        assert_int_equal(leases_acknowledge(leases, rig.own, 0, 0), -EINVAL);
        assert_int_equal(leases_give_back(leases, rig.own, 0, 0), -EINVAL);
        assert_int_equal(leases_acknowledge(leases, rig.own, LEASES_COUNT, 0), -EINVAL);
        set_lease(&rig, 0, lease(1, 1, HELD, STRANGER), place(0, 0), 1);
        assert_int_equal(leases_acknowledge(leases, rig.own, 0, 1), -EPERM);
        assert_int_equal(leases_give_back(leases, rig.own, 0, 1), -EPERM);
        assert_lease(&rig, 0, 1, 1, HELD, STRANGER);
        rig_drop(&rig);
}

/* A message in a buffer: the buffer passes to the lease, and is free when that is over. */
static void test_buffers_pass(void **state)
{
        (void)state;
        struct rig rig;
        struct lease_claim claims[5];
        unsigned char bytes[1000] = { 3 };

        make_rig(&rig, 0);
        for (int i = 0; i < 4; i++) {
                assert_int_equal(ring_put(&rig.ring, bytes, sizeof bytes, 0), 0);
                assert_int_equal(take_lease(&rig, &claims[i]), 3);
                assert_memory_equal(claims[i].bytes, bytes, sizeof bytes);
        }
        assert_int_equal(ring_put(&rig.ring, bytes, sizeof bytes, 0), -EAGAIN); /* all four are held */
        assert_int_equal(leases_give_back(&rig.ring.leases, rig.own, claims[2].entry, claims[2].generation), 0);
        assert_int_equal(ring_put(&rig.ring, bytes, sizeof bytes, 0), -EAGAIN);
        assert_int_equal(ring_get(&rig.ring, bytes, sizeof bytes, 0), sizeof bytes);
        assert_int_equal(ring_put(&rig.ring, bytes, sizeof bytes, 0), 0);
        rig_drop(&rig);
}

static void test_oldest_first(void **state)
{
        (void)state;
        struct rig rig;
        static const uint64_t laps[] = { 0, LAPS - 1 }; /* before and across the end of the laps */

        for (size_t k = 0; k < array_length(laps); k++) {
                make_rig(&rig, 0);
                assert_int_equal(put(&rig, 99, 0), 0);
                set_lease(&rig, 0, lease(4, 1, READY, 0), place(laps[k] + 1, 2), 3);
                set_lease(&rig, 1, lease(0, 200, READY, 0), place(laps[k], 7), 1);
                set_lease(&rig, 2, lease(9, 1, HELD, STRANGER), place(laps[k], 0), 0);
                set_lease(&rig, 3, lease(1, 255, READY, 0), place(laps[k] + 1, 1), 2);
                store_relaxed(&rig.ring.leases.shared->returned, 1);
                struct lease_claim claim;
                assert_int_equal(take_lease(&rig, &claim), 1);
                assert_int_equal(claim.deliveries, 201);
                assert_int_equal(take_lease(&rig, &claim), 2);
                assert_int_equal(claim.deliveries, 255); /* where the count ends */
                assert_int_equal(take_lease(&rig, &claim), 3);
                assert_int_equal(take_lease(&rig, &claim), 99);
                uint32_t index, generation;
                assert_int_equal(leases_oldest(&rig.ring.leases, STRANGER, &index, &generation), 0);
                assert_int_equal(index, 2);
                assert_int_equal(generation, 9);
                assert_int_equal(leases_oldest(&rig.ring.leases, DEAD, &index, &generation), -ENOENT);
                rig_drop(&rig);
        }
}

/* ---- what deaths leave ---- */

/* Before the message moved: the entry is free again, and the slot decides. */
static void test_dead_while_filling(void **state)
{
        (void)state;
        struct rig rig;

        make_rig(&rig, 0);
        set(&rig, 0, 0, READING, DEAD);
        set_hints(&rig, place(0, 1), place(0, 1), 0);
        set_lease(&rig, 0, lease(3, 0, FILLING, DEAD), place(0, 0), 77);
        set_lease(&rig, 1, lease(3, 0, FILLING, STRANGER), place(0, 0), 77);
        assert_int_equal(get(&rig, BUSY_MS), 0); /* as it is in the slot */
        assert_int_equal(get(&rig, BUSY_MS), -ETIMEDOUT);
        assert_lease(&rig, 0, 3, 0, FREE, 0);
        assert_lease(&rig, 1, 3, 0, FILLING, STRANGER);
        rig_drop(&rig);
}

/* After the message moved and before the slot was freed: it is in both places, and counts in the entry only. */
static void test_dead_with_the_slot_reading(void **state)
{
        (void)state;
        for (int how = 0; how < 3; how++) {
                struct rig rig;

                make_rig(&rig, 0);
                set(&rig, 0, 0, READING, DEAD);
                set(&rig, 1, 0, FULL, 0);
                set_hints(&rig, place(0, 2), place(0, 1), 0);
                set_lease(&rig, 0, lease(0, 1, HELD, DEAD), place(0, 0), 77);
                if (how == 0)
                        ring_recover(&rig.ring, DEAD);
                else if (how == 1)
                        leases_recover(&rig.ring.leases, OWNER_NONE);
                else
                        assert_int_equal(get(&rig, 0), 1); /* nobody has met the dead yet */
                if (how < 2) {
                        assert_state(&rig, 0, 1, EMPTY, 0);
                        assert_lease(&rig, 0, 0, 1, READY, 0);
                        assert_int_equal(ring_count(&rig.ring, 9), 2);
                        assert_int_equal(get(&rig, 0), 77); /* before all that is in the queue */
                        assert_int_equal(get(&rig, 0), 1);
                } else {
                        assert_int_equal(get(&rig, BUSY_MS), 77);
                }
                assert_int_equal(get(&rig, BUSY_MS), -ETIMEDOUT);
                assert_int_equal(load_relaxed(&rig.ring.leases.shared->redeliveries), 1);
                assert_int_equal(ring_is_done(&rig.ring), 1);
                rig_drop(&rig);
        }
}

static void test_dead_with_the_slot_freed(void **state)
{
        (void)state;
        struct rig rig;

        make_rig(&rig, 0);
        set(&rig, 0, 1, EMPTY, 0);
        set_hints(&rig, place(0, 1), place(0, 1), place(0, 1));
        set_lease(&rig, 0, lease(0, 2, HELD, DEAD), place(0, 0), 77);
        assert_int_equal(ring_is_done(&rig.ring), 0);
        struct leases_count count = leases_count(&rig.ring.leases, rig.own);
        assert_int_equal(count.ready, 0);
        assert_int_equal(count.own, 0);
        assert_int_equal(count.others, 1);
        assert_int_equal(get(&rig, BUSY_MS), 77);
        assert_int_equal(ring_is_done(&rig.ring), 1);
        assert_state(&rig, 0, 1, EMPTY, 0);
        rig_drop(&rig);
}

/* Its slot is in use for a later message: that must not be touched. */
static void test_dead_with_the_slot_in_use_again(void **state)
{
        (void)state;
        struct rig rig;

        make_rig(&rig, 0);
        for (uint32_t i = 0; i < 8; i++)
                set(&rig, i, 1, i == 0 ? READING : EMPTY, i == 0 ? DEAD : 0);
        set_hints(&rig, place(1, 1), place(1, 1), 0);
        set_lease(&rig, 0, lease(0, 1, HELD, DEAD), place(0, 0), 77);
        leases_recover(&rig.ring.leases, OWNER_NONE);
        assert_state(&rig, 0, 1, READING, DEAD);
        assert_int_equal(get(&rig, 0), 77);
        assert_int_equal(get(&rig, 0), 8);
        rig_drop(&rig);
}

/* Given back, and the hint lost with the one who was to set it, or who took it down. */
static void test_lost_hint(void **state)
{
        (void)state;
        struct rig rig;

        make_rig(&rig, 0);
        set_lease(&rig, 0, lease(2, 1, READY, 0), place(0, 0), 77);
        assert_int_equal(load_relaxed(&rig.ring.leases.shared->returned), 0);
        assert_int_equal(ring_count(&rig.ring, 9), 1);
        assert_int_equal(get(&rig, 0), 77);
        assert_lease(&rig, 0, 3, 0, FREE, 0);
        /* A hint for nothing is taken down. */
        store_relaxed(&rig.ring.leases.shared->returned, 1);
        assert_int_equal(get(&rig, 0), -EAGAIN);
        assert_int_equal(load_relaxed(&rig.ring.leases.shared->returned), 0);
        rig_drop(&rig);
}

/* Buried, and dead before the letter was counted, or counted and dead before the entry was free. */
static void test_dead_undertaker(void **state)
{
        (void)state;
        for (int counted = 0; counted < 2; counted++) {
                struct rig rig;

                make_rig(&rig, 2);
                set_lease(&rig, 0, lease(6, 2, BURIED, 0), place(0, 0), 77);
                store_relaxed(&lease_at(&rig, 0)->letters, counted ? UINT64_C(7) << 32 | 5 : UINT64_C(3) << 32 | 4);
                leases_recover(&rig.ring.leases, OWNER_NONE);
                assert_int_equal(leases_letters(&rig.ring.leases), 5);
                assert_lease(&rig, 0, 7, 0, FREE, 0);
                leases_recover(&rig.ring.leases, OWNER_NONE);
                assert_int_equal(leases_letters(&rig.ring.leases), 5);
                assert_int_equal(get(&rig, 0), -EAGAIN);
                rig_drop(&rig);
        }
}

static void test_last_delivery(void **state)
{
        (void)state;
        struct rig rig;
        struct lease_claim claim;

        make_rig(&rig, 2);
        set_lease(&rig, 0, lease(0, 1, HELD, DEAD), place(0, 0), 77);
        assert_int_equal(get(&rig, 0), 77); /* the second delivery, as a message that is got */
        set_lease(&rig, 0, lease(5, 2, HELD, DEAD), place(0, 0), 78);
        assert_int_equal(get(&rig, BUSY_MS), -ETIMEDOUT);
        assert_int_equal(leases_letters(&rig.ring.leases), 1);
        assert_lease(&rig, 0, 6, 0, FREE, 0);
        /* Given back for the last time. */
        assert_int_equal(put(&rig, 9, 0), 0);
        for (int i = 0; i < 2; i++) {
                assert_int_equal(take_lease(&rig, &claim), 9);
                assert_int_equal(leases_give_back(&rig.ring.leases, rig.own, claim.entry, claim.generation), 0);
        }
        assert_int_equal(take_lease(&rig, &claim), -EAGAIN);
        assert_int_equal(leases_letters(&rig.ring.leases), 2);
        rig_drop(&rig);
}

/* ---- races ---- */

/* Two help to count a letter.  The slower one has read the word before the entry was freed, filled and buried anew. */
static void test_letters_are_counted_once(void **state)
{
        (void)state;
        struct rig rig;

        make_rig(&rig, 1);
        struct leases *leases = &rig.ring.leases;
        uint64_t seen = lease(0, 1, BURIED, 0), later = lease(1, 1, BURIED, 0);
        set_lease(&rig, 0, seen, place(0, 0), 77);
        count_letter(leases, lease_at(&rig, 0), seen);
        count_letter(leases, lease_at(&rig, 0), seen);
        assert_int_equal(leases_letters(leases), 1);
        assert_lease(&rig, 0, 1, 0, FREE, 0);
        set_lease(&rig, 0, later, place(0, 1), 78);
        count_letter(leases, lease_at(&rig, 0), later);
        assert_int_equal(leases_letters(leases), 2);
        count_letter(leases, lease_at(&rig, 0), seen);
        count_letter(leases, lease_at(&rig, 0), later);
        assert_int_equal(leases_letters(leases), 2);
        rig_drop(&rig);
}

static int recover_always(void *arg)
{
        struct rig *rig = arg;

        for (int i = 0; i < 3000; i++)
                leases_recover(&rig->ring.leases, OWNER_NONE);
        return 0;
}

/* The same with real threads, which bury what the dead hold. */
static void test_many_undertakers(void **state)
{
        (void)state;
        enum { UNDERTAKERS = 3, LETTERS = 40 };
        static struct rig rig; /* threads go on after a failure */
        struct check_thread threads[UNDERTAKERS];

        make_rig(&rig, 1);
        for (uint32_t i = 0; i < LETTERS; i++)
                set_lease(&rig, i, lease(i, 1, i % 2 ? HELD : BURIED, i % 2 ? DEAD : 0), place(0, 0), i);
        for (int i = 0; i < UNDERTAKERS; i++)
                check_thread_start(&threads[i], recover_always, &rig);
        for (int i = 0; i < UNDERTAKERS; i++)
                assert_int_equal(check_thread_join(&threads[i]), 0);
        assert_int_equal(leases_letters(&rig.ring.leases), LETTERS);
        assert_int_equal(load_relaxed(&rig.ring.shared->repairs), LETTERS / 2);
        rig_drop(&rig);
}

/* Somebody has read the word of an entry, and settles it when the entry has been filled anew, from a slot that its owner is still
 * reading. */
static void test_stale_settle(void **state)
{
        (void)state;
        struct rig rig;

        make_rig(&rig, 0);
        struct leases *leases = &rig.ring.leases;
        set(&rig, 1, 0, READING, DEAD);
        set_lease(&rig, 0, lease(1, 0, FILLING, DEAD), place(0, 1), 77);
        settle(leases, 0, lease_at(&rig, 0), lease(0, 1, HELD, DEAD));
        assert_state(&rig, 1, 0, READING, DEAD);
        assert_false(leases_settle_slot(leases, DEAD, (struct position){ 0, 1 }));
        assert_state(&rig, 1, 0, READING, DEAD);
        /* Held by another, at another place, or by the owner with an entry that has come back. */
        set_lease(&rig, 0, lease(1, 1, HELD, STRANGER), place(0, 1), 77);
        assert_false(leases_settle_slot(leases, DEAD, (struct position){ 0, 1 }));
        set_lease(&rig, 0, lease(1, 1, HELD, DEAD), place(0, 2), 77);
        assert_false(leases_settle_slot(leases, DEAD, (struct position){ 0, 1 }));
        set_lease(&rig, 0, lease(1, 1, READY, 0), place(0, 1), 77);
        assert_false(leases_settle_slot(leases, DEAD, (struct position){ 0, 1 }));
        assert_state(&rig, 1, 0, READING, DEAD);
        set_lease(&rig, 0, lease(1, 1, HELD, DEAD), place(0, 1), 77);
        assert_true(leases_settle_slot(leases, DEAD, (struct position){ 0, 1 }));
        assert_state(&rig, 1, 1, EMPTY, 0);
        rig_drop(&rig);
}

/* ---- no entry left ---- */

static void test_table_full(void **state)
{
        (void)state;
        struct rig rig;
        struct lease_claim claim;
        uint32_t index;

        make_rig(&rig, 0);
        assert_int_equal(put(&rig, 5, 0), 0);
        for (uint32_t i = 0; i < LEASES_COUNT; i++)
                set_lease(&rig, i, lease(0, 1, HELD, STRANGER), place(0, i % 8), i);
        assert_int_equal(take_lease(&rig, &claim), -ENOBUFS);
        store_relaxed(&lease_at(&rig, 4000)->word, lease(8, 0, FREE, 0));
        assert_int_equal(take_lease(&rig, &claim), 5);
        assert_int_equal(claim.entry, 4000);
        assert_int_equal(claim.generation, 8);
        /* What is free is used before what never was. */
        assert_int_equal(leases_acknowledge(&rig.ring.leases, rig.own, 4000, 8), 0);
        assert_int_equal(leases_reserve(&rig.ring.leases, rig.own, &index), 0);
        assert_int_equal(index, 4000);
        leases_unreserve(&rig.ring.leases, rig.own, index);
        assert_lease(&rig, 4000, 9, 0, FREE, 0);
        rig_drop(&rig);
}

static void test_holders_of_buffers(void **state)
{
        (void)state;
        struct rig rig;

        make_rig(&rig, 0);
        static const bool holds[] = {
                [FREE] = false, [FILLING] = false, [HELD] = true, [READY] = true, [BURIED] = true
        };
        for (unsigned kind = FREE; kind <= BURIED; kind++) {
                set_lease(&rig, 3, lease(5, 1, kind, kind == HELD ? DEAD : 0), place(0, 0), 1);
                assert_int_equal(leases_holds(&rig.ring.leases, 3, 5), holds[kind]);
                assert_false(leases_holds(&rig.ring.leases, 3, 4));
        }
        assert_false(leases_holds(&rig.ring.leases, LEASES_COUNT, 0));
        rig_drop(&rig);
}

int main(int argc, char **argv)
{
        static const struct CMUnitTest tests[] = {
                support_test(test_life),
                support_test(test_buffers_pass),
                support_test(test_oldest_first),
                support_test(test_dead_while_filling),
                support_test(test_dead_with_the_slot_reading),
                support_test(test_dead_with_the_slot_freed),
                support_test(test_dead_with_the_slot_in_use_again),
                support_test(test_lost_hint),
                support_test(test_dead_undertaker),
                support_test(test_last_delivery),
                support_test(test_letters_are_counted_once),
                support_test(test_many_undertakers),
                support_test(test_stale_settle),
                support_test(test_table_full),
                support_test(test_holders_of_buffers),
        };
        return support_main(argc, argv, "leases", tests, array_length(tests), 60);
}
