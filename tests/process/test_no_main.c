/* SPDX-License-Identifier: MIT
 *
 * tests/process/test_no_main.c: a program without brood_main(): the start methods that need it fail, and say so.
 */
#include "support.h"

#include <brood/pool.h>
#include <brood/process.h>

#include <errno.h>
#include <string.h>

static int return_five(void *unused)
{
        (void)unused;
        return 5;
}

static void test_without_brood_main(void **state)
{
        (void)state;
        brood_process *untouched = (void *)0x10, *p = untouched;
        for (int method = BROOD_START_SPAWN; method <= BROOD_START_FORKSERVER; method++) {
                const brood_process_options options = { .target = return_five,
                                                        .start_method = (brood_start_method)method };
                assert_int_equal(brood_process_new(&p, &options), -ENOTSUP);
                assert_ptr_equal(p, untouched);
                assert_int_equal(brood_set_start_method((brood_start_method)method), -ENOTSUP);
                assert_int_equal(brood_get_start_method(), BROOD_START_FORK);
        }
        assert_non_null(strstr(brood_strerror(-ENOTSUP), "brood_main"));
        assert_int_equal(brood_forkserver_stop(), 0); /* there is none */
        assert_int_equal(brood_process_new(&p, &(brood_process_options){ .target = return_five }), 0);
        assert_int_equal(brood_process_start(p), 0);
        assert_int_equal(brood_process_join(p, BROOD_FOREVER), 0);
        brood_process_free(p);
}

static void test_pool_without_brood_main(void **state)
{
        (void)state;
        brood_pool *untouched = (void *)0x10, *pool = untouched;
        for (int method = BROOD_START_SPAWN; method <= BROOD_START_FORKSERVER; method++) {
                assert_int_equal(brood_pool_new(&pool, &(brood_pool_options){ .start_method = method }), -ENOTSUP);
                assert_ptr_equal(pool, untouched);
        }
        assert_int_equal(brood_pool_new(&pool, &(brood_pool_options){ .start_method = BROOD_START_FORK }), 0);
        brood_pool_free(pool);
}

int main(int argc, char **argv)
{
        static const struct CMUnitTest tests[] = {
                support_test(test_without_brood_main),
                support_test(test_pool_without_brood_main),
        };
        return support_main(argc, argv, "no_main", tests, sizeof tests / sizeof *tests, 60);
}
