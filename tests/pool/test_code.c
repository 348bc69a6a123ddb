/* SPDX-License-Identifier: MIT
 *
 * tests/pool/test_code.c: functions of the host in workers that are no copies of it (src/pool/code.h).
 */
#include "tasks.h"

#include "pool/pool.h"

static void test_as_it_is(void **state)
{
        (void)state;
        struct code_map map = { 0 };
        assert_true(code_here(&map, (uintptr_t)echo_task) == echo_task);
        assert_true(code_here(&map, 4711) == (brood_task_function)(uintptr_t)4711);
}

/* A table of this process, looked up in this process: all has moved by nothing.  Then in another place of the host's. */
static void test_lookup(void **state)
{
        (void)state;
        const uintptr_t code = (uintptr_t)echo_task, away = (uintptr_t)1 << 44;
        struct module_map modules;
        assert_int_equal(module_map_take(&modules), 0);
        size_t count = modules.count;
        struct code_module *table = calloc(count, sizeof *table);
        assert_non_null(table);
        code_table_write(table, &modules);
        for (size_t i = 0; i < count; i++) {
                assert_int_equal(table[i].start, modules.ranges[i].start);
                assert_int_equal(table[i].end, modules.ranges[i].end);
                assert_int_equal(table[i].here, 0);
                table[i].start += away;
                table[i].end += away;
        }
        struct code_map map;
        assert_int_equal(code_map_make(&map, table, count), 0);
        assert_true(map.count > 0);
        for (int i = 0; i < 2; i++) { /* the second time by the last answer */
                assert_true(code_here(&map, code + away) == echo_task);
                assert_true(code_here(&map, (uintptr_t)memcpy + away) != NULL);
                assert_null(code_here(&map, code));
                assert_null(code_here(&map, 0));
                assert_null(code_here(&map, UINT64_MAX));
        }
        for (size_t i = 0; i < map.count; i++) {
                assert_non_null(code_here(&map, map.moves[i].start));
                assert_non_null(code_here(&map, map.moves[i].end - 1));
        }
        free(map.moves);

        /* One that nobody can find, and one that is not here. */
        size_t own = 0;
        while (code + away < table[own].start || code + away >= table[own].end)
                own++;
        for (int i = 0; i < 2; i++) {
                for (size_t j = 0; j < count; j++)
                        table[j].here = 0;
                if (i == 0)
                        table[own].place.id[0] ^= 1;
                else
                        table[own].place.id_size = 0;
                assert_int_equal(code_map_make(&map, table, count), 0);
                assert_int_equal(table[own].here, 0);
                assert_null(code_here(&map, code + away));
                assert_true(map.count > 0);
                free(map.moves);
        }
        assert_true(module_map_holds(&modules, code));
        code_table_follow(table, &modules);
        assert_false(module_map_holds(&modules, code));
        assert_true(modules.count > 0 && modules.count < count);
        module_map_drop(&modules);
        free(table);
}

/* What is not in the table is an error of the task's, though it was asked for before: here somebody has written over it. */
static void test_damaged_function(void **state)
{
        (void)state;
        for (int method = BROOD_START_SPAWN; method <= BROOD_START_FORKSERVER; method++) {
                tasks_begin();
                brood_pool *pool = NULL;
                assert_int_equal(brood_pool_new(&pool, &(brood_pool_options){ .processes = 1, .start_method = method }),
                                 0);
                brood_result *first = submit_int(pool, gated_task, 1), *second = submit_int(pool, echo_task, 2);
                assert_true(check_reaches(&tasks_page->started, 1, CHECK_HANG_MS));
                pid_t before, after;
                assert_int_equal(brood_pool_workers(pool, &before, 1), 1);
                result_task(second)->function = 4711;
                atomic_store(&tasks_page->gate, 1);
                check_value(first, 1);
                check_failure(second, -ENOEXEC, BROOD_OUTCOME_ERROR, 0);
                check_value(submit_int(pool, echo_task, 3), 3);
                assert_int_equal(brood_pool_workers(pool, &after, 1), 1);
                assert_int_equal(after, before);
                end_pool(pool);
                tasks_finish();
        }
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                support_test(test_as_it_is),
                support_test(test_lookup),
                support_test(test_damaged_function),
        };
        return tasks_main(argc, argv, "code", tests, array_length(tests), 60);
}
