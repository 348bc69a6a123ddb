/* SPDX-License-Identifier: MIT
 *
 * tests/queue/test_runs.c: batches that claim eight places with one word, and the states in which a death can leave them.
 */
#include "rig.h"

enum { SLOTS = 64 };

/* A batch of `count` messages that are numbers from `first` on: how many were put, or got. */
static ssize_t put_batch(struct rig *rig, uint64_t first, size_t count)
{
        uint64_t numbers[SLOTS];
        struct iovec messages[SLOTS];

        for (size_t i = 0; i < count; i++) {
                numbers[i] = first + i;
                messages[i] = (struct iovec){ &numbers[i], sizeof numbers[i] };
        }
        return ring_put_many(&rig->ring, messages, count, 0);
}

static ssize_t get_batch(struct rig *rig, uint64_t first, size_t count)
{
        uint64_t numbers[SLOTS];
        struct iovec messages[SLOTS];

        for (size_t i = 0; i < count; i++)
                messages[i] = (struct iovec){ &numbers[i], sizeof numbers[i] };
        ssize_t n = ring_get_many(&rig->ring, messages, count, 0);
        for (ssize_t i = 0; i < n; i++) {
                assert_int_equal(messages[i].iov_len, sizeof numbers[i]);
                assert_int_equal(numbers[i], first + (uint64_t)i);
        }
        return n;
}

static void test_batches(void **state)
{
        (void)state;
        struct rig rig;
        uint64_t put_count = 0, got = 0;

        /* Every length, so that runs begin at every place of the lap, and end with it. */
        rig_make(&rig, SLOTS, 8);
        for (size_t length = 1; length <= 40; length++) {
                assert_int_equal(put_batch(&rig, put_count, length), length);
                put_count += length;
                assert_int_equal(ring_count(&rig.ring, SIZE_MAX), length);
                while (got < put_count) {
                        ssize_t n = get_batch(&rig, got, 1 + length / 2);
                        assert_true(n > 0);
                        got += (uint64_t)n;
                }
        }
        assert_int_equal(get_batch(&rig, 0, 9), -EAGAIN);
        assert_int_equal(put_batch(&rig, put_count, SLOTS), SLOTS);
        assert_int_equal(put_batch(&rig, 0, 9), -EAGAIN);
        assert_int_equal(get_batch(&rig, got, SLOTS), SLOTS);
        assert_int_equal(ring_claimed(&rig.ring), put_count + SLOTS);
        rig_drop(&rig);
}

/* A putter of a run died when `published` of the seven others were there, and, in the second turn, a repairer after `undone`
 * of them. */
static void test_dead_putter(void **state)
{
        (void)state;
        for (uint32_t published = 0; published < RUN; published++)
                for (uint32_t undone = 0; undone < RUN; undone++) {
                        struct rig rig;

                        rig_make(&rig, SLOTS, 8);
                        for (uint32_t i = 0; i < 3; i++)
                                set(&rig, i, 0, FULL, 0);
                        set(&rig, 3, 0, WRITING_RUN, DEAD);
                        for (uint32_t i = 1; i <= published; i++)
                                set(&rig, 3 + i, 0, FULL, 0);
                        for (uint32_t i = RUN - undone; i < RUN; i++)
                                set(&rig, 3 + i, 1, EMPTY, 0);
                        set(&rig, 3 + RUN, 0, FULL, 0); /* of another, behind it */
                        assert_int_equal(ring_count(&rig.ring, 99), 4);
                        assert_int_equal(put(&rig, 12, 0), 0);
                        for (int64_t i = 0; i < 3; i++)
                                assert_int_equal(get(&rig, 0), i);
                        assert_int_equal(get(&rig, BUSY_MS), 3 + RUN);
                        assert_int_equal(get(&rig, 0), 12);
                        assert_int_equal(get(&rig, 0), -EAGAIN);
                        for (uint32_t i = 0; i < RUN; i++)
                                assert_state(&rig, 3 + i, 1, EMPTY, 0);
                        /* The whole ring is there, and nothing more. */
                        assert_int_equal(put_batch(&rig, 100, SLOTS), SLOTS);
                        assert_int_equal(put(&rig, 0, 0), -EAGAIN);
                        assert_int_equal(get_batch(&rig, 100, SLOTS), SLOTS);
                        rig_drop(&rig);
                }
}

/* A getter of a run died when it had freed `freed` of the seven others; others have got what was behind. */
static void test_dead_getter(void **state)
{
        (void)state;
        for (uint32_t freed = 0; freed < RUN; freed++)
                for (int by_putter = 0; by_putter < 2; by_putter++) {
                        struct rig rig;

                        rig_make(&rig, SLOTS, 8);
                        for (uint32_t i = 0; i < SLOTS; i++)
                                set(&rig, i, 0, FULL, 0);
                        set(&rig, 0, 0, READING_RUN, DEAD);
                        for (uint32_t i = 1; i <= freed; i++)
                                set(&rig, i, 1, EMPTY, 0);
                        set_hints(&rig, place(1, 0), place(0, RUN), 0);
                        /* The freed ones are gone with the dead; their places are behind one that is not free. */
                        assert_int_equal(ring_count(&rig.ring, 99), SLOTS - RUN);
                        if (by_putter)
                                assert_int_equal(put(&rig, 0, 0), -EAGAIN);
                        else
                                for (int64_t i = RUN; i < SLOTS; i++)
                                        assert_int_equal(get(&rig, 0), i);
                        assert_int_equal(get(&rig, BUSY_MS), 0);
                        for (int64_t i = freed + 1; i < (by_putter ? SLOTS : RUN); i++)
                                assert_int_equal(get(&rig, 0), i);
                        assert_int_equal(get(&rig, 0), -EAGAIN);
                        assert_int_equal(put_batch(&rig, 100, SLOTS), SLOTS);
                        assert_int_equal(get_batch(&rig, 100, SLOTS), SLOTS);
                        rig_drop(&rig);
                }
}

/* A live owner's run is passed by all: nothing of it is taken, counted or overwritten. */
static void test_live_runs(void **state)
{
        (void)state;
        struct rig rig;

        rig_make(&rig, SLOTS, 8);
        set(&rig, 0, 0, WRITING_RUN, STRANGER);
        for (uint32_t i = 1; i < 4; i++)
                set(&rig, i, 0, FULL, 0);
        assert_int_equal(put_batch(&rig, RUN, SLOTS - RUN), SLOTS - RUN);
        assert_int_equal(ring_is_full(&rig.ring), 1);
        assert_int_equal(put(&rig, 0, 0), -EAGAIN);
        assert_int_equal(get(&rig, 0), -EAGAIN);
        assert_int_equal(ring_is_done(&rig.ring), 0);
        for (uint32_t i = 0; i < RUN; i++)
                set(&rig, RUN - 1 - i, 0, FULL, 0); /* the first one last */
        assert_int_equal(get_batch(&rig, 0, SLOTS), SLOTS);

        set(&rig, 0, 1, READING_RUN, STRANGER);
        for (uint32_t i = 1; i < RUN; i++)
                set(&rig, i, 1, i < 3 ? FULL : EMPTY, 0);
        for (uint32_t i = 3; i < RUN; i++)
                set(&rig, i, 2, EMPTY, 0);
        set_hints(&rig, place(1, RUN), place(1, 0), place(1, 0));
        assert_int_equal(put_batch(&rig, 0, 2), 2);
        assert_int_equal(ring_count(&rig.ring, 99), 2);
        assert_int_equal(get_batch(&rig, 0, 3), 2);
        assert_int_equal(get(&rig, 0), -EAGAIN);
        assert_int_equal(ring_is_done(&rig.ring), 0);
        rig_drop(&rig);
}

/* A message that came back may have others behind it that somebody is reading: it is not the first of a run. */
static void test_no_run_from_what_came_back(void **state)
{
        (void)state;
        struct rig rig;
        struct ring_claim claim;

        rig_make(&rig, SLOTS, 8);
        assert_int_equal(put_batch(&rig, 0, 2 * RUN), 2 * RUN);
        assert_int_equal(ring_claim(&rig.ring, &claim, 8, DEADLINE_NOW), 0);
        set(&rig, 3, 0, READING, STRANGER);
        ring_unclaim(&rig.ring, &claim);
        assert_state(&rig, 0, 0, FULL, CAME_BACK);
        assert_int_equal(get_batch(&rig, 0, 3), 3);
        assert_int_equal(get_batch(&rig, 4, 2 * RUN), 2 * RUN - 4);
        assert_state(&rig, 3, 0, READING, STRANGER);
        rig_drop(&rig);
}

int main(int argc, char **argv)
{
        static const struct CMUnitTest tests[] = {
                support_test(test_batches),
                support_test(test_dead_putter),
                support_test(test_dead_getter),
                support_test(test_live_runs),
                support_test(test_no_run_from_what_came_back),
        };

        return support_main(argc, argv, "runs", tests, array_length(tests), 60);
}
