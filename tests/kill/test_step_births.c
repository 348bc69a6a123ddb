/* SPDX-License-Identifier: MIT
 *
 * tests/kill/test_step_births.c: killed at every instruction of a birth, by each start method.
 *
 * The parent is killed in what it calls (births_parents.c), the child before its target, and the fork server while it makes one
 * (births_children.c).  How many instructions of each are tried is set by --rounds N (or BROOD_TEST_ROUNDS); by default it is a
 * dozen or some of each: every n-th, n a prime, from a random one on, so that other runs try others.  From 100,000 on it is each of
 * them; of a program that was executed, each entry to and exit from a system call, and a random number of instructions after that.
 *
 * --expect-failure turns the result round.  It is how a library that is broken on purpose is shown to be noticed.
 */
#include "births.h"

static void test_parents(void **state)
{
        (void)state;
        births_set_up();
        int failures = births_kill_parents(false);
        births_tear_down();
        assert_int_equal(failures, 0);
}

static void test_children(void **state)
{
        (void)state;
        births_set_up();
        int failures = births_kill_children(false);
        births_tear_down();
        assert_int_equal(failures, 0);
}

/* A harness that could not fail would prove nothing.  This library is broken, and one of the kills must show it. */
static void test_fault_is_noticed(void **state)
{
        (void)state;
        births_set_up();
        births_hang_ms = CHECK_HANG_MS;
        int failures = births_kill_parents(true) + births_kill_children(true);
        births_tear_down();
        assert_int_not_equal(failures, 0);
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = { support_test(test_parents), support_test(test_children) };
        const struct CMUnitTest faulty[] = { support_test(test_fault_is_noticed) };
        if (brood_main(argc, argv) < 0)
                return 1;
        if (argc > 1 && !strcmp(argv[1], "--expect-failure")) {
                argv[1] = argv[0];
                return support_main(argc - 1, argv + 1, "step births, broken", faulty, array_length(faulty), 280);
        }
        return support_main(argc, argv, "step births", tests, array_length(tests), 3500);
}
