/* SPDX-License-Identifier: MIT
 *
 * tests/sync/test_turn.c: who is to go first, who stands back, and for how long at most.  Whether a call stood back is told by the
 * clock: it returns no earlier than it was asked to, and nothing is said about how much later.
 */
#include "check.h"

#include "os/clock.h"
#include "os/futex.h"
#include "sync/turn.h"

enum { LONG_US = 1000000 };

static uint64_t plea_at(int64_t until_us, uint32_t done)
{
        return (uint64_t)(uint32_t)until_us << 32 | done;
}

static int64_t now_us(void)
{
        return clock_now() / 1000;
}

/* What a wait that began `ago` writes, while others did `others`; 0: nothing. */
static uint64_t ask(struct turn *turn, atomic_u64 *plea, int64_t ago, uint32_t others)
{
        struct turn_wait wait = { .since = now_us() - ago, .all = UINT32_MAX - 5 }; /* it wraps around */
        uint64_t before = load_relaxed(plea);

        turn_ask(turn, plea, &wait, UINT32_MAX - 5 + others);
        return load_relaxed(plea) == before ? 0 : load_relaxed(plea);
}

static uint32_t done_of(uint64_t plea)
{
        return (uint32_t)plea;
}

/* How long a plea that was written just now asks for: at most this. */
static int64_t left_of(uint64_t plea)
{
        return (int32_t)((uint32_t)(plea >> 32) - (uint32_t)now_us());
}

static void test_who_asks(void **state)
{
        (void)state;
        struct turn turn, other;
        struct turn_wait wait = { .since = 0 };
        atomic_u64 plea = 0;

        turn_init(&turn);
        turn_init(&other);
        turn_count(&turn, 70);
        turn_count(&turn, 7);
        turn_count(&other, 78);

        /* The first time only begins the wait. */
        turn_ask(&turn, &plea, &wait, 99);
        assert_true(wait.since > 0);
        assert_int_equal(wait.all, 99);
        assert_int_equal(load_relaxed(&plea), 0);

        /* Nobody asks at once, nor for longer than it has waited, nor for longer than a turn. */
        wait.since = now_us() + LONG_US;
        turn_ask(&turn, &plea, &wait, 99);
        assert_int_equal(load_relaxed(&plea), 0);
        uint64_t asked = ask(&turn, &plea, LONG_US, 0);
        assert_int_equal(done_of(asked), 77);
        assert_true(left_of(asked) <= TURN_MOST_US);
        store_relaxed(&plea, 0);
        int64_t began = now_us();
        asked = ask(&other, &plea, 2 * TURN_LEAST_US, 0);
        assert_int_equal(done_of(asked), 78);
        assert_true(left_of(asked) <= now_us() - began + 2 * TURN_LEAST_US);

        /* Of two the one that has done less is heard; the other one when that is over. */
        store_relaxed(&plea, plea_at(now_us() + LONG_US, 77));
        assert_int_equal(done_of(ask(&turn, &plea, LONG_US, 0)), 77); /* so long holds nothing */
        do
                store_relaxed(&plea, plea_at(began = now_us() + TURN_MOST_US, 77));
        while (ask(&other, &plea, LONG_US, 0) != 0 && now_us() >= began); /* unless we were not running just then */
        assert_int_equal(load_relaxed(&plea), plea_at(began, 77));
        turn_count(&other, UINT32_MAX - 1);
        assert_int_equal(done_of(ask(&other, &plea, LONG_US, 0)), 76);
        store_relaxed(&plea, plea_at(now_us(), 77));
        assert_int_equal(done_of(ask(&turn, &plea, LONG_US, 0)), 77);
}

/* What is long ago is forgotten, in both directions, and what was done since the last plea is not. */
static void test_debts(void **state)
{
        (void)state;
        static const uint32_t from[] = { 5, UINT32_MAX - 3 };
        struct turn turn;
        atomic_u64 plea;

        for (size_t i = 0; i < array_length(from); i++) {
                store_relaxed(&plea, plea_at(now_us(), from[i]));
                turn_init(&turn);
                store_relaxed(&turn.done, from[i] - 3 * TURN_DEBT);
                assert_int_equal(done_of(ask(&turn, &plea, LONG_US, 0)), from[i] - TURN_DEBT);
                assert_int_equal(load_relaxed(&turn.done), from[i] - TURN_DEBT);

                store_relaxed(&plea, plea_at(now_us(), from[i]));
                turn_init(&turn);
                store_relaxed(&turn.done, from[i] + 3 * TURN_DEBT);
                store_relaxed(&turn.then, from[i] + 3 * TURN_DEBT - 100);
                store_relaxed(&turn.owed, 100 * TURN_USE + 1);
                assert_int_equal(done_of(ask(&turn, &plea, LONG_US, 0)), from[i] + TURN_DEBT);
                assert_int_equal(load_relaxed(&turn.least), 2 * TURN_LEAST_US); /* a hundred were not enough */
        }
}

/* Who does not use its turns asks more and more rarely, until it does. */
static void test_turns_not_used(void **state)
{
        (void)state;
        struct turn turn;
        atomic_u64 plea = 0;
        uint32_t least = TURN_LEAST_US;

        turn_init(&turn);
        for (int i = 0; i < 20; i++) {
                store_relaxed(&plea, 0);
                /* In the time of a turn the others did 1000. */
                assert_int_not_equal(ask(&turn, &plea, TURN_RARELY_US, 1000 * TURN_RARELY_US / TURN_MOST_US), 0);
                assert_int_equal(load_relaxed(&turn.least), least);
                assert_true(load_relaxed(&turn.owed) <= 1000); /* less, if that took longer than it was said to */
                store_relaxed(&turn.owed, 1000);
                turn_count(&turn, 1000 / TURN_USE - 1);
                least = 2 * least < TURN_RARELY_US ? 2 * least : TURN_RARELY_US;
        }
        store_relaxed(&plea, 0);
        turn_count(&turn, 1);
        assert_int_not_equal(ask(&turn, &plea, LONG_US, 1000), 0);
        assert_int_equal(load_relaxed(&turn.least), TURN_LEAST_US);
}

/* Whether a call stood back for a plea that holds for a turn: how long it took is no proof that it did not. */
static bool stands_back(const struct turn *turn, uint32_t done)
{
        int64_t until = now_us() + TURN_MOST_US;
        atomic_u64 plea = plea_at(until, done);

        turn_stand_back(turn, &plea, DEADLINE_NEVER);
        return now_us() >= until;
}

static void test_who_stands_back(void **state)
{
        (void)state;
        struct turn turn;
        atomic_u64 plea = 0;

        turn_init(&turn);
        turn_count(&turn, 10);
        for (int i = 0; i < 10; i++) {
                assert_true(stands_back(&turn, 10 - TURN_LEAD));
                assert_true(stands_back(&turn, 10 - TURN_LEAD - TURN_DEBT));
        }
        /* These do not: of many tries one takes no time. */
        for (uint32_t done = 10 - TURN_LEAD + 1; done != 12; done++)
                while (stands_back(&turn, done))
                        ;
        while (stands_back(&turn, 10 + TURN_DEBT))
                ;

        /* Nor does who asks, and has done much since. */
        ask(&turn, &plea, LONG_US, 0);
        turn_count(&turn, 2 * TURN_LEAD);
        for (;;) {
                store_relaxed(&turn.plea, plea_at(now_us() + TURN_MOST_US, 10));
                store_relaxed(&plea, load_relaxed(&turn.plea));
                turn_stand_back(&turn, &plea, DEADLINE_NEVER);
                if (left_of(load_relaxed(&plea)) > 0)
                        break;
        }

        /* Its own time limit comes first. */
        for (;;) {
                store_relaxed(&plea, plea_at(now_us() + TURN_MOST_US, 0));
                turn_stand_back(&turn, &plea, DEADLINE_NOW);
                turn_stand_back(&turn, &plea, clock_now() + 1000);
                if (left_of(load_relaxed(&plea)) > 0)
                        break;
        }
}

/* Whatever the word says, nobody is kept for long by it. */
static void test_any_word(void **state)
{
        (void)state;
        struct turn turn;
        atomic_u64 plea;

        turn_init(&turn);
        for (int i = 0; i < 2000; i++) {
                uint64_t until =
                    support_random(2) ? support_random(UINT32_MAX) : (uint64_t)now_us() + support_random(8000);
                store_relaxed(&plea, plea_at((int64_t)until, (uint32_t)support_random(UINT32_MAX)));
                store_relaxed(&turn.done, (uint32_t)support_random(UINT32_MAX));
                if (support_random(2))
                        turn_stand_back(&turn, &plea, DEADLINE_NEVER);
                else
                        ask(&turn, &plea, (int64_t)support_random(LONG_US), (uint32_t)support_random(UINT32_MAX));
        }
}

int main(int argc, char **argv)
{
        static const struct CMUnitTest tests[] = {
                support_test(test_who_asks),        support_test(test_debts),    support_test(test_turns_not_used),
                support_test(test_who_stands_back), support_test(test_any_word),
        };
        return support_main(argc, argv, "turn", tests, array_length(tests), 60);
}
