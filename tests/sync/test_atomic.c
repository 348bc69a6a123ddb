/* SPDX-License-Identifier: MIT
 *
 * tests/sync/test_atomic.c: counting and flagging without a lock, and sleeping until a word has changed.
 */
#include "check.h"

#include <brood/atomic.h>
#include <brood/shared.h>

/* ---- the operations ---- */

#define each_operation(type)                                                                                           \
        do {                                                                                                           \
                type word = 5, expected = 6;                                                                           \
                assert_true(brood_atomic_load(&word) == 5);                                                            \
                brood_atomic_store(&word, 7);                                                                          \
                assert_true(brood_atomic_exchange(&word, 12) == 7);                                                    \
                assert_false(brood_atomic_compare_exchange(&word, &expected, 1));                                      \
                assert_true(expected == 12 && word == 12);                                                             \
                assert_true(brood_atomic_compare_exchange(&word, &expected, 1));                                       \
                assert_true(expected == 12 && word == 1);                                                              \
                assert_true(brood_atomic_fetch_add(&word, 9) == 1);                                                    \
                assert_true(brood_atomic_fetch_sub(&word, 4) == 10);                                                   \
                assert_true(brood_atomic_fetch_and(&word, 3) == 6);                                                    \
                assert_true(brood_atomic_fetch_or(&word, 9) == 2);                                                     \
                assert_true(brood_atomic_fetch_xor(&word, 1) == 11);                                                   \
                assert_true(brood_atomic_load_relaxed(&word) == 10);                                                   \
                assert_true(brood_atomic_fetch_add_relaxed(&word, 1) == 10);                                           \
                assert_true(brood_atomic_load(&word) == 11);                                                           \
                word = 0;                                                                                              \
                assert_true(brood_atomic_fetch_sub(&word, 1) == 0);                                                    \
                assert_true(brood_atomic_load((const type *)&word) == (type)-1);                                       \
        } while (0)

static void test_operations(void **state)
{
        (void)state;
        each_operation(int8_t);
        each_operation(uint16_t);
        each_operation(int);
        each_operation(unsigned);
        each_operation(int32_t);
        each_operation(uint32_t);
        each_operation(int64_t);
        each_operation(uint64_t);
        each_operation(size_t);

        int32_t word = INT32_MAX;
        assert_int_equal(brood_atomic_fetch_add(&word, 1), INT32_MAX);
        assert_int_equal(word, INT32_MIN);
        /* Arguments count once. */
        uint64_t words[3] = { 0 }, *at = words;
        brood_atomic_fetch_add(at++, 1);
        brood_atomic_store(at++, 2);
        assert_ptr_equal(at, words + 2);
        assert_true(words[0] == 1 && words[1] == 2 && words[2] == 0);
}

static void test_doubles(void **state)
{
        (void)state;
        double sum = 0.5;

        assert_true(brood_atomic_fetch_add_double(&sum, 0.25) == 0.5);
        assert_true(brood_atomic_load_double(&sum) == 0.75);
        assert_true(brood_atomic_fetch_add_double(&sum, -1) == 0.75);
        assert_true(brood_atomic_load_double(&sum) == -0.25);
        sum = -0.0; /* what is compared are bits */
        assert_true(brood_atomic_fetch_add_double(&sum, 1) == 0);
        assert_true(sum == 1);
        sum = strtod("nan", NULL);
        double before = brood_atomic_fetch_add_double(&sum, 1);
        assert_true(before != before && sum != sum);
}

/* ---- between processes ---- */

enum { PARTIES = 4, ROUNDS = 40000 };

struct totals {
        uint64_t added, relaxed;
        int64_t down;
        uint32_t bits, swapped;
        double halves;
        uint32_t turn, woken, ready;
};

static brood_shared *make_totals(void)
{
        brood_shared *s = NULL;
        assert_int_equal(brood_shared_new(&s, sizeof(struct totals), NULL), 0);
        return s;
}

static int add_to_all(void *arg)
{
        struct totals *t = brood_shared_data(arg);

        for (int i = 0; i < ROUNDS; i++) {
                brood_atomic_fetch_add(&t->added, 3);
                brood_atomic_fetch_add_relaxed(&t->relaxed, 1);
                brood_atomic_fetch_sub(&t->down, 2);
                brood_atomic_fetch_xor(&t->bits, (uint32_t)1 << i % 32);
                brood_atomic_fetch_add_double(&t->halves, 0.5);
                uint32_t before = brood_atomic_load(&t->swapped);
                while (!brood_atomic_compare_exchange(&t->swapped, &before, before + 1))
                        ;
        }
        return 0;
}

static void test_processes_add_up(void **state)
{
        (void)state;
        brood_shared *s = make_totals();
        struct totals *t = brood_shared_data(s);
        pid_t pids[PARTIES];

        for (int i = 0; i < PARTIES; i++)
                pids[i] = check_start(add_to_all, s);
        for (int i = 0; i < PARTIES; i++)
                assert_int_equal(check_wait(pids[i]), 0);
        assert_int_equal(t->added, 3 * PARTIES * ROUNDS);
        assert_int_equal(t->relaxed, PARTIES * ROUNDS);
        assert_int_equal(t->down, -2 * PARTIES * ROUNDS);
        assert_int_equal(t->bits, 0); /* each was turned an even number of times */
        assert_int_equal(t->swapped, PARTIES * ROUNDS);
        assert_true(t->halves == PARTIES * ROUNDS / 2.0);
        brood_shared_free(s);
}

/* A counter that is killed has counted, or has not: what it had announced, or one less. */
static int count_for_ever(void *arg)
{
        struct totals *t = brood_shared_data(arg);

        while (brood_atomic_fetch_add(&t->relaxed, 1) < UINT64_MAX)
                brood_atomic_fetch_add(&t->added, 1);
        return 1;
}

static void test_killed_counters(void **state)
{
        (void)state;
        brood_shared *s = make_totals();
        struct totals *t = brood_shared_data(s);

        for (int round = 1; round <= support_rounds(50); round++) {
                uint64_t before = brood_atomic_load(&t->added);
                pid_t pid = check_start(count_for_ever, s);
                while (brood_atomic_load(&t->added) < before + 100)
                        sched_yield();
                assert_int_equal(check_kill(pid), -SIGKILL);
                assert_in_range(brood_atomic_load(&t->relaxed) - brood_atomic_load(&t->added), 0, (uint64_t)round);
        }
        brood_shared_free(s);
}

/* ---- waiting ---- */

static void test_wait_alone(void **state)
{
        (void)state;
        uint32_t word = 5, pair[2] = { 0 };
        const uint32_t *crooked = (const uint32_t *)((uintptr_t)pair + 1);

        errno = 4711;
        assert_int_equal(brood_atomic_wait(&word, 4, BROOD_FOREVER), 0);
        assert_int_equal(brood_atomic_wait(&word, 4, 0), 0);
        assert_int_equal(brood_atomic_wait(&word, 5, 0), -EAGAIN);
        int64_t start = support_now_ms();
        assert_int_equal(brood_atomic_wait(&word, 5, 30), -ETIMEDOUT);
        assert_true(support_now_ms() - start >= 29);
        assert_int_equal(brood_atomic_wait(NULL, 5, 0), -EINVAL);
        assert_int_equal(brood_atomic_wait(crooked, 0, 0), -EINVAL);
        assert_int_equal(brood_atomic_wake(&word, 1), 0);
        assert_int_equal(brood_atomic_wake(&word, BROOD_WAKE_ALL), 0);
        assert_int_equal(brood_atomic_wake(&word, 0), -EINVAL);
        assert_int_equal(brood_atomic_wake(&word, -1), -EINVAL);
        assert_int_equal(brood_atomic_wake(NULL, 1), -EINVAL);
        assert_int_equal(brood_atomic_wake(crooked, 1), -EINVAL);
        assert_int_equal(errno, 4711);
}

static int wait_until_ready(void *arg)
{
        struct totals *t = brood_shared_data(arg);

        require_int(brood_atomic_wait(&t->ready, 0, 6 * CHECK_HANG_MS), 0);
        require_int(brood_atomic_load(&t->added), 17); /* what was written before it */
        brood_atomic_fetch_add(&t->woken, 1);
        return 0;
}

static void test_gate(void **state)
{
        (void)state;
        for (int threads = 0; threads < 2; threads++) {
                brood_shared *s = make_totals();
                struct totals *t = brood_shared_data(s);
                struct check_thread waiters[PARTIES];
                pid_t pids[PARTIES];

                for (int i = 0; i < PARTIES; i++)
                        if (threads)
                                check_thread_start(&waiters[i], wait_until_ready, s);
                        else
                                pids[i] = check_start(wait_until_ready, s);
                for (int i = 0; i < PARTIES && !threads; i++)
                        assert_true(check_asleep(pids[i]));
                /* Who is woken for nothing sleeps on. */
                brood_atomic_wake(&t->ready, BROOD_WAKE_ALL);
                for (int i = 0; i < PARTIES && !threads; i++)
                        assert_true(check_asleep(pids[i]));
                assert_int_equal(brood_atomic_load(&t->woken), 0);
                t->added = 17;
                brood_atomic_store(&t->ready, 1);
                brood_atomic_wake(&t->ready, BROOD_WAKE_ALL);
                for (int i = 0; i < PARTIES; i++)
                        assert_int_equal(threads ? check_thread_join(&waiters[i]) : check_wait(pids[i]), 0);
                assert_int_equal(t->woken, PARTIES);
                brood_shared_free(s);
        }
}

/* One wake, one waker's worth. */
static void test_wake_counts(void **state)
{
        (void)state;
        brood_shared *s = make_totals();
        struct totals *t = brood_shared_data(s);
        pid_t pids[PARTIES];

        t->added = 17;
        for (int i = 0; i < PARTIES; i++)
                pids[i] = check_start(wait_until_ready, s);
        for (int i = 0; i < PARTIES; i++)
                assert_true(check_asleep(pids[i]));
        brood_atomic_store(&t->ready, 1);
        int woken = brood_atomic_wake(&t->ready, 1);
        assert_in_range(woken, 0, 1); /* 0: one was on its way out or in by itself */
        woken += brood_atomic_wake(&t->ready, 2);
        assert_in_range(woken, 0, 3);
        brood_atomic_wake(&t->ready, BROOD_WAKE_ALL);
        for (int i = 0; i < PARTIES; i++)
                assert_int_equal(check_wait(pids[i]), 0);
        assert_int_equal(brood_atomic_wake(&t->ready, BROOD_WAKE_ALL), 0);
        brood_shared_free(s);
}

enum { TURNS = 3000 };

struct player {
        brood_shared *shared;
        uint32_t side;
};

/* The word says whose turn it is. */
static int play(void *arg)
{
        struct player *player = arg;
        struct totals *t = brood_shared_data(player->shared);

        for (int i = 0; i < TURNS; i++) {
                require_int(brood_atomic_wait(&t->turn, !player->side, 6 * CHECK_HANG_MS), 0);
                require_int(t->added, 2 * i + (int)player->side);
                t->added++;
                brood_atomic_store(&t->turn, !player->side);
                brood_atomic_wake(&t->turn, 1);
        }
        return 0;
}

static void test_turns(void **state)
{
        (void)state;
        brood_shared *s = make_totals();
        struct player other = { s, 1 }, self = { s, 0 };
        pid_t pid = check_start(play, &other);

        assert_int_equal(play(&self), 0);
        assert_int_equal(check_wait(pid), 0);
        assert_int_equal(((struct totals *)brood_shared_data(s))->added, 2 * TURNS);
        brood_shared_free(s);
}

static atomic_int ticks;

static void tick(int signal)
{
        (void)signal;
        atomic_fetch_add(&ticks, 1);
}

static int wait_among_signals(void *arg)
{
        struct sigaction ticking = { .sa_handler = tick };

        require_int(sigaction(SIGUSR1, &ticking, NULL), 0);
        brood_atomic_store(&((struct totals *)brood_shared_data(arg))->turn, 1);
        int r = wait_until_ready(arg);
        require(atomic_load(&ticks) > 0);
        return r;
}

static void test_signals(void **state)
{
        (void)state;
        brood_shared *s = make_totals();
        struct totals *t = brood_shared_data(s);
        pid_t pid = check_start(wait_among_signals, s);

        while (brood_atomic_load(&t->turn) == 0)
                sched_yield();
        for (int i = 0; i < 5; i++) {
                assert_true(check_asleep(pid));
                kill(pid, SIGUSR1);
        }
        assert_true(check_asleep(pid));
        t->added = 17;
        brood_atomic_store(&t->ready, 1);
        brood_atomic_wake(&t->ready, 1);
        assert_int_equal(check_wait(pid), 0);
        brood_shared_free(s);
}

/* Killed asleep, it leaves nothing: the others are woken as if it had never been there. */
static void test_killed_sleeper(void **state)
{
        (void)state;
        brood_shared *s = make_totals();
        struct totals *t = brood_shared_data(s);
        pid_t pids[2] = { check_start(wait_until_ready, s), check_start(wait_until_ready, s) };

        assert_true(check_asleep(pids[0]) && check_asleep(pids[1]));
        assert_int_equal(check_kill(pids[0]), -SIGKILL);
        t->added = 17;
        brood_atomic_store(&t->ready, 1);
        brood_atomic_wake(&t->ready, 1);
        assert_int_equal(check_wait(pids[1]), 0);
        assert_int_equal(t->woken, 1);
        brood_shared_free(s);
}

int main(int argc, char **argv)
{
        static const struct CMUnitTest tests[] = {
                support_test(test_operations),      support_test(test_doubles),    support_test(test_processes_add_up),
                support_test(test_killed_counters), support_test(test_wait_alone), support_test(test_gate),
                support_test(test_wake_counts),     support_test(test_turns),      support_test(test_signals),
                support_test(test_killed_sleeper),
        };
        return support_main(argc, argv, "atomic", tests, array_length(tests), 60);
}
