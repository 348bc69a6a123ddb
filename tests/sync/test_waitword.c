/* SPDX-License-Identifier: MIT
 *
 * tests/sync/test_waitword.c: no wake-up is lost, and none is paid for twice.
 */
#include "check.h"

#include <sched.h>

#include "os/clock.h"
#include "sync/waitword.h"

static int64_t in_ms(int ms)
{
        return clock_now() + ms * NS_PER_MS;
}

static void test_words(void **state)
{
        (void)state;
        atomic_u32 word = 0;

        /* Nobody asleep: a wake changes nothing. */
        waitword_wake_one(&word);
        assert_int_equal(load_relaxed(&word), 0);
        assert_false(waitword_has_sleepers(&word));

        uint32_t prepared = waitword_prepare(&word, 0);
        assert_int_equal(prepared, WAITWORD_SLEEPERS);
        assert_int_equal(load_relaxed(&word), prepared);
        /* The same sleeper again; another, who cannot know whose the bit is. */
        assert_int_equal(waitword_prepare(&word, prepared), prepared);
        assert_false(waitword_has_others(&word));
        assert_int_equal(waitword_prepare(&word, 0), WAITWORD_SLEEPERS | WAITWORD_MANY);
        assert_true(waitword_has_others(&word));
        assert_int_equal(waitword_sleep(&word, prepared, DEADLINE_NEVER), 0); /* it has changed: look again */
        store_relaxed(&word, prepared);
        assert_true(waitword_has_sleepers(&word));
        assert_int_equal(waitword_sleep(&word, prepared, DEADLINE_NOW), -ETIMEDOUT);
        int64_t deadline = in_ms(20);
        assert_int_equal(waitword_sleep(&word, prepared, deadline), -ETIMEDOUT);
        assert_true(clock_now() >= deadline);

        /* The waker came between the look and the sleep. */
        waitword_wake_one(&word);
        assert_int_equal(load_relaxed(&word), WAITWORD_EVENT);
        assert_int_equal(waitword_sleep(&word, prepared, DEADLINE_NEVER), 0);

        /* A bit that nobody stands behind any more costs one call, not one for each change. */
        waitword_prepare(&word, 0);
        waitword_wake_one(&word);
        assert_int_equal(load_relaxed(&word), 2 * WAITWORD_EVENT);
        waitword_wake_one(&word);
        assert_int_equal(load_relaxed(&word), 2 * WAITWORD_EVENT);

        /* Nor do two: the wake that finds nobody takes both away. */
        waitword_prepare(&word, 0);
        waitword_prepare(&word, 0);
        waitword_wake_one(&word);
        assert_int_equal(load_relaxed(&word), 3 * WAITWORD_EVENT);
        store_relaxed(&word, 2 * WAITWORD_EVENT);

        /* wake_all concerns also those whose bit another wake has cleared. */
        waitword_wake_all(&word);
        assert_int_equal(load_relaxed(&word), 3 * WAITWORD_EVENT);

        /* The count wraps around, and the bit with it not. */
        store_relaxed(&word, UINT32_MAX & ~WAITWORD_MANY);
        waitword_wake_one(&word);
        assert_int_equal(load_relaxed(&word), 0);
}

/* Tokens that are taken as they come: a lost wake-up leaves somebody asleep, and nobody wakes by himself. */
struct tokens {
        atomic_u32 word, count, taken;
        uint32_t each;
        uint64_t seed;
};

enum { TAKERS = 3, GIVERS = 2 };

static bool take(struct tokens *tokens)
{
        uint32_t count = load_seq_cst(&tokens->count);

        while (count > 0) {
                if (cas_u32(&tokens->count, count, count - 1))
                        return true;
                count = load_seq_cst(&tokens->count);
        }
        return false;
}

static int take_all(void *arg)
{
        struct tokens *tokens = arg;

        while (load_seq_cst(&tokens->taken) < GIVERS * tokens->each) {
                uint32_t prepared = waitword_prepare(&tokens->word, 0);
                if (take(tokens)) {
                        if (atomic_fetch_add(&tokens->taken, 1) + 1 == GIVERS * tokens->each)
                                waitword_wake_all(&tokens->word);
                        /* What the header asks of the woken: if there is more, wake the next. */
                        if (load_seq_cst(&tokens->count) > 0)
                                waitword_wake_one(&tokens->word);
                        continue;
                }
                if (load_seq_cst(&tokens->taken) == GIVERS * tokens->each)
                        break;
                require_int(waitword_sleep(&tokens->word, prepared, in_ms(CHECK_HANG_MS)), 0);
        }
        return 0;
}

static int give_all(void *arg)
{
        struct tokens *tokens = arg;
        uint64_t random = tokens->seed;

        for (uint32_t i = 0; i < tokens->each; i++) {
                atomic_fetch_add(&tokens->count, 1);
                waitword_wake_one(&tokens->word);
                for (uint64_t pause = check_random(&random, 3) * check_random(&random, 200); pause > 0; pause--)
                        cpu_relax();
        }
        return 0;
}

static void run_tokens(struct tokens *tokens, bool processes)
{
        struct check_thread threads[TAKERS + GIVERS];
        pid_t pids[TAKERS + GIVERS];

        tokens->each = (uint32_t)support_rounds(1500);
        tokens->seed = support_random(UINT64_MAX);
        for (int i = 0; i < TAKERS + GIVERS; i++) {
                int (*function)(void *) = i < TAKERS ? take_all : give_all;
                if (processes)
                        pids[i] = check_start(function, tokens);
                else
                        check_thread_start(&threads[i], function, tokens);
        }
        for (int i = 0; i < TAKERS + GIVERS; i++)
                assert_int_equal(processes ? check_wait(pids[i]) : check_thread_join(&threads[i]), 0);
        assert_int_equal(load_seq_cst(&tokens->taken), GIVERS * tokens->each);
        assert_int_equal(load_seq_cst(&tokens->count), 0);
}

static void test_no_wake_is_lost(void **state)
{
        (void)state;
        struct tokens tokens = { 0 };

        run_tokens(&tokens, false);
        struct tokens *shared = check_shared(sizeof *shared);
        run_tokens(shared, true);
        munmap(shared, sizeof *shared);
}

/* One waker, one sleeper, in step: each wake is needed. */
static int answer(void *arg)
{
        struct tokens *tokens = arg;

        for (uint32_t i = 1; i <= tokens->each; i++) {
                while (load_seq_cst(&tokens->count) != i) {
                        uint32_t prepared = waitword_prepare(&tokens->word, 0);
                        if (load_seq_cst(&tokens->count) == i)
                                break;
                        require_int(waitword_sleep(&tokens->word, prepared, in_ms(CHECK_HANG_MS)), 0);
                }
                store_seq_cst(&tokens->taken, i);
        }
        return 0;
}

static void test_in_step(void **state)
{
        (void)state;
        struct tokens tokens = { .each = (uint32_t)support_rounds(2000) };
        struct check_thread thread;

        check_thread_start(&thread, answer, &tokens);
        for (uint32_t i = 1; i <= tokens.each; i++) {
                for (uint64_t pause = support_random(3) * support_random(300); pause > 0; pause--)
                        cpu_relax();
                store_seq_cst(&tokens.count, i);
                waitword_wake_one(&tokens.word);
                for (int64_t end = support_now_ms() + CHECK_HANG_MS; load_seq_cst(&tokens.taken) != i; sched_yield())
                        assert_true(support_now_ms() < end);
        }
        assert_int_equal(check_thread_join(&thread), 0);
}

static int sleep_until_set(void *arg)
{
        atomic_u32 *words = arg;

        while (load_seq_cst(&words[1]) == 0) {
                uint32_t prepared = waitword_prepare(&words[0], 0);
                if (load_seq_cst(&words[1]) != 0)
                        break;
                fetch_add_relaxed(&words[2], 1);
                require_int(waitword_sleep(&words[0], prepared, in_ms(CHECK_HANG_MS)), 0);
        }
        return 0;
}

static void test_wake_all(void **state)
{
        (void)state;
        enum { SLEEPERS = 4 };
        struct check_thread threads[SLEEPERS];

        for (int round = 0; round < 20; round++) {
                atomic_u32 words[3] = { 0 };
                for (int i = 0; i < SLEEPERS; i++)
                        check_thread_start(&threads[i], sleep_until_set, words);
                if (round % 2)
                        usleep((useconds_t)support_random(2000));
                else /* one of them is woken for nothing, which clears the bit; it may be the last to sleep again */
                        waitword_wake_one(&words[0]);
                store_seq_cst(&words[1], 1);
                waitword_wake_all(&words[0]);
                for (int i = 0; i < SLEEPERS; i++)
                        assert_int_equal(check_thread_join(&threads[i]), 0);
        }
}

int main(int argc, char **argv)
{
        static const struct CMUnitTest tests[] = {
                support_test(test_words),
                support_test(test_no_wake_is_lost),
                support_test(test_in_step),
                support_test(test_wake_all),
        };
        return support_main(argc, argv, "waitword", tests, array_length(tests), 60);
}
