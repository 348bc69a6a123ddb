/* SPDX-License-Identifier: MIT
 *
 * tests/process/test_cycles.c: ten thousand lives, and nothing left of them: no zombie, no descriptor, no mapping.
 */
#include "check.h"
#include "setting.h"

#include <errno.h>
#include <unistd.h>

static void expect_nothing_left(int descriptors, int mappings)
{
        assert_int_equal(support_count_children(getpid()), method == BROOD_START_FORKSERVER ? 1 : 0); /* the server */
        assert_int_equal(support_count_descriptors(), descriptors);
#if !CHECK_ASAN /* its allocator maps as it likes */
        assert_in_range(support_count_mappings(), 1, mappings);
#else
        (void)mappings;
#endif
}

/* One of each before the counting, for the mappings that the first life of each kind makes. */
static void test_start_and_join(void **state)
{
        (void)state;
        int rounds = support_rounds(10000), descriptors = 0, mappings = 0;
        int64_t since = support_now_ms();
        for (int i = 0; i < rounds + 10; i++) {
                if (i == 10) {
                        descriptors = support_count_descriptors();
                        mappings = support_count_mappings();
                }
                int number = i & 255;
                brood_process *p = start(return_number, &number);
                assert_int_equal(brood_process_join(p, BROOD_FOREVER), 0);
                expect_exitcode(p, number);
                brood_process_free(p);
        }
        print_message("%d lives in %d ms\n", rounds, (int)(support_now_ms() - since));
        expect_nothing_left(descriptors, mappings);
}

/* The other ways to an end: wait, free, fork, kill, detach; in turn, with a few alive at a time. */
static void test_all_ends(void **state)
{
        (void)state;
        enum { ALIVE = 8 };
        brood_process *nest[ALIVE] = { NULL };
        int rounds = support_rounds(10000) / 5, descriptors = 0, mappings = 0, number = 3;
        for (int i = 0; i < rounds + 100; i++) {
                if (i == 100) {
                        for (int j = 0; j < ALIVE; j++) {
                                brood_process_free(nest[j]);
                                nest[j] = NULL;
                        }
                        descriptors = support_count_descriptors();
                        mappings = support_count_mappings();
                }
                int at = (int)support_random(ALIVE);
                brood_process_free(nest[at]);
                nest[at] = NULL;
                switch (support_random(5)) {
                case 0:
                        nest[at] = start_bare(wait_for_ever);
                        break;
                case 1:
                        nest[at] = start(return_number, &number);
                        break;
                case 2: {
                        pid_t pid = brood_fork(&nest[at]);
                        if (pid == 0)
                                _exit(3);
                        assert_true(pid > 0);
                        break;
                }
                case 3:
                        nest[at] = start_detached(return_number, &number);
                        assert_int_equal(brood_process_join(nest[at], BROOD_FOREVER), 0);
                        break;
                case 4: {
                        pid_t pid = brood_wait(NULL, 0);
                        assert_true(pid > 0 || pid == -ECHILD || pid == -EAGAIN);
                        break;
                }
                }
        }
        for (int j = 0; j < ALIVE; j++)
                brood_process_free(nest[j]);
        expect_nothing_left(descriptors, mappings);
}

int main(int argc, char **argv)
{
        static const struct CMUnitTest tests[] = {
                process_test(test_start_and_join),
                process_test(test_all_ends),
        };
        return setting_main(argc, argv, "cycles", tests, sizeof tests / sizeof tests[0], 180);
}
