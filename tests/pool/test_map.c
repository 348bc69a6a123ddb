/* SPDX-License-Identifier: MIT
 *
 * tests/pool/test_map.c: what include/brood/map.h says, sentence by sentence.
 */
#include "tasks.h"

#include <brood/map.h>

/* Squares an int; a negative one is the error of its item, and 1000000 kills the worker. */
static ssize_t square_task(const void *arg, size_t size, void *out, size_t room)
{
        int n = *(const int *)arg;
        if (size != sizeof n || room < sizeof n)
                return -EINVAL;
        if (n == 1000000)
                raise(SIGKILL);
        if (n < 0)
                return n;
        n *= n;
        memcpy(out, &n, sizeof n);
        return sizeof n;
}

static brood_map *start_map(brood_pool *pool, brood_map_options options)
{
        brood_map *map = NULL;
        assert_int_equal(brood_pool_map_async(pool, &map, &options), 0);
        assert_non_null(map);
        return map;
}

static void test_all_results_in_order(void **state)
{
        (void)state;
        enum { COUNT = 1000 };
        static int items[COUNT], results[COUNT];
        static const size_t chunks[] = { 0, 1, 7, 999, 1000, 1001, SIZE_MAX };
        brood_pool *pool = make_pool(3);
        for (int i = 0; i < COUNT; i++)
                items[i] = i;
        for (size_t c = 0; c < array_length(chunks); c++) {
                brood_map *map = start_map(pool, (brood_map_options){
                                                     .function = square_task,
                                                     .items = items,
                                                     .item_size = sizeof items[0],
                                                     .count = COUNT,
                                                     .result_size = sizeof results[0],
                                                     .chunksize = chunks[c],
                                                 });
                for (int again = 0; again < 2; again++) {
                        memset(results, 0xff, sizeof results);
                        assert_int_equal(brood_map_get(map, results, CHECK_HANG_MS), 0);
                        for (int i = 0; i < COUNT; i++)
                                assert_int_equal(results[i], i * i);
                }
                assert_int_equal(brood_map_ready(map), 1);
                assert_int_equal(brood_map_successful(map), 1);
                assert_string_equal(brood_map_reason(map), "the map succeeded");
                brood_map_free(map);
        }
        /* None; nothing to write. */
        brood_map *map = start_map(pool, (brood_map_options){ .function = square_task });
        assert_int_equal(brood_map_get(map, NULL, 0), 0);
        brood_map_free(map);
        end_pool(pool);
}

static void test_the_life_of_a_map(void **state)
{
        (void)state;
        int items[8] = { 1, 2, 3, 4, 5, 6, 7, 8 }, results[8];
        tasks_begin();
        brood_pool *pool = make_pool(2);
        brood_map *map = start_map(pool, (brood_map_options){
                                             .function = gated_task,
                                             .items = items,
                                             .item_size = sizeof items[0],
                                             .count = 8,
                                             .result_size = sizeof results[0],
                                         });
        memset(results, 0x55, sizeof results);
        assert_int_equal(brood_map_ready(map), 0);
        assert_int_equal(brood_map_successful(map), -EAGAIN);
        assert_int_equal(brood_map_wait(map, 0), -EAGAIN);
        assert_int_equal(brood_map_get(map, results, 0), -EAGAIN);
        int64_t start = support_now_ms();
        assert_int_equal(brood_map_wait(map, 30), -ETIMEDOUT);
        assert_int_equal(brood_map_get(map, results, 30), -ETIMEDOUT);
        assert_true(support_now_ms() - start >= 59);
        assert_string_equal(brood_map_reason(map), "the map has not ended");
        assert_int_equal(results[0], 0x55555555);
        /* The items have been copied. */
        memset(items, 0, sizeof items);
        atomic_store(&tasks_page->gate, 1);
        assert_int_equal(brood_map_wait(map, CHECK_HANG_MS), 0);
        assert_int_equal(brood_map_get(map, results, 0), 0);
        for (int i = 0; i < 8; i++)
                assert_int_equal(results[i], i + 1);
        /* The results outlive the pool. */
        end_pool(pool);
        memset(results, 0x55, sizeof results);
        assert_int_equal(brood_map_get(map, results, 0), 0);
        assert_int_equal(results[7], 8);
        brood_map_free(map);
        tasks_finish();
}

static void test_strides_and_records(void **state)
{
        (void)state;
        enum { COUNT = 100 };
        static struct row {
                int key, value;
                char rest[5];
        } rows[COUNT];
        static const char text[] = "abcdefghijklmnopqrstuvwxyz";
        static int results[COUNT];
        static char texts[COUNT][24];
        brood_bytes records[COUNT];
        brood_pool *pool = make_pool(2);

        for (int i = 0; i < COUNT; i++) {
                rows[i].value = i;
                records[i] = (brood_bytes){ .data = i % 20 == 0 ? NULL : text + i % 3, .size = i % 20 };
        }
        for (size_t chunk = 0; chunk < 8; chunk += 7) {
                memset(results, 0xff, sizeof results);
                memset(texts, 0xff, sizeof texts);
                brood_map *strides = start_map(pool, (brood_map_options){
                                                         .function = square_task,
                                                         .items = &rows[0].value,
                                                         .item_size = sizeof rows[0].value,
                                                         .stride = sizeof rows[0],
                                                         .count = COUNT,
                                                         .result_size = sizeof results[0],
                                                         .chunksize = chunk,
                                                     });
                brood_map *sizes = start_map(pool, (brood_map_options){
                                                       .function = echo_task,
                                                       .records = records,
                                                       .count = COUNT,
                                                       .result_size = sizeof texts[0],
                                                       .chunksize = chunk,
                                                   });
                assert_int_equal(brood_map_get(strides, results, CHECK_HANG_MS), 0);
                assert_int_equal(brood_map_get(sizes, texts, CHECK_HANG_MS), 0);
                for (int i = 0; i < COUNT; i++) {
                        char wanted[24] = "";
                        assert_int_equal(results[i], i * i);
                        memcpy(wanted, text + i % 3, (size_t)i % 20);
                        assert_memory_equal(texts[i], wanted, sizeof wanted);
                }
                brood_map_free(strides);
                brood_map_free(sizes);
        }
        end_pool(pool);
}

/* More chunks than the pool has room for: they follow in later calls. */
static void test_more_than_there_is_room_for(void **state)
{
        (void)state;
        enum { COUNT = 300 };
        static int items[COUNT], results[COUNT];
        static brood_bytes records[COUNT];
        brood_pool *pool;
        tasks_begin();
        assert_int_equal(brood_pool_new(&pool, &(brood_pool_options){ .processes = 2, .max_tasks = 8 }), 0);
        for (int i = 0; i < COUNT; i++) {
                items[i] = i;
                records[i] = (brood_bytes){ .data = &items[i], .size = sizeof items[i] };
        }
        for (int round = 0; round < 4; round++) {
                brood_map *map = start_map(pool, (brood_map_options){
                                                     .function = square_task,
                                                     .items = round % 2 ? NULL : items,
                                                     .item_size = round % 2 ? 0 : sizeof items[0],
                                                     .records = round % 2 ? records : NULL,
                                                     .count = COUNT,
                                                     .result_size = sizeof results[0],
                                                     .chunksize = 4,
                                                 });
                /* Looking at it is enough for it to go on. */
                for (int64_t end = support_now_ms() + CHECK_HANG_MS; round >= 2 && brood_map_ready(map) == 0;
                     usleep(100))
                        assert_true(support_now_ms() < end);
                memset(results, 0xff, sizeof results);
                assert_int_equal(brood_map_get(map, results, CHECK_HANG_MS), 0);
                for (int i = 0; i < COUNT; i++)
                        assert_int_equal(results[i], i * i);
                brood_map_free(map);
        }
        /* Closed before all was handed in. */
        brood_map *map = start_map(pool, (brood_map_options){
                                             .function = gated_task,
                                             .items = items,
                                             .item_size = sizeof items[0],
                                             .count = COUNT,
                                             .result_size = sizeof results[0],
                                             .chunksize = 1,
                                         });
        assert_int_equal(brood_pool_close(pool), 0);
        atomic_store(&tasks_page->gate, 1);
        assert_int_equal(brood_map_get(map, results, CHECK_HANG_MS), -EPIPE);
        assert_int_equal(brood_pool_join(pool, CHECK_HANG_MS), 0);
        brood_pool_free(pool);
        brood_map_free(map);
        tasks_finish();
}

static void test_the_first_failed_item(void **state)
{
        (void)state;
        enum { COUNT = 100 };
        int items[COUNT], results[COUNT];
        brood_bytes records[COUNT];
        brood_pool *pool = make_pool(2);
        for (int i = 0; i < COUNT; i++) {
                items[i] = i;
                records[i] = (brood_bytes){ .data = &items[i], .size = sizeof items[i] };
        }
        static const struct {
                int first, second, error;
                const char *reason;
        } cases[] = {
                { -ENOTDIR, -EISDIR, -ENOTDIR, "item 50" },
                { 1000000, -EISDIR, -EOWNERDEAD, "SIGKILL" },
                { -ENOTDIR, 1000000, -ENOTDIR, "item 50" },
        };
        for (size_t c = 0; c < 2 * array_length(cases); c++) {
                bool sized = c >= array_length(cases);
                size_t which = c % array_length(cases);
                items[57] = cases[which].first;
                items[70] = cases[which].second;
                brood_map *map = start_map(pool, (brood_map_options){
                                                     .function = square_task,
                                                     .items = sized ? NULL : items,
                                                     .item_size = sized ? 0 : sizeof items[0],
                                                     .records = sized ? records : NULL,
                                                     .count = COUNT,
                                                     .result_size = sizeof results[0],
                                                     .chunksize = 10,
                                                 });
                memset(results, 0x55, sizeof results);
                assert_int_equal(brood_map_get(map, results, CHECK_HANG_MS), cases[which].error);
                assert_int_equal(brood_map_get(map, results, 0), cases[which].error);
                assert_int_equal(brood_map_ready(map), 1);
                assert_int_equal(brood_map_successful(map), 0);
                assert_non_null(strstr(brood_map_reason(map), cases[which].reason));
                for (int i = 0; i < COUNT; i++)
                        assert_int_equal(results[i], 0x55555555);
                brood_map_free(map);
        }
        end_pool(pool);
}

static void test_terminated_broken_freed(void **state)
{
        (void)state;
        int items[8] = { 0 }, results[8];
        brood_map_options options = {
                .function = gated_task,
                .items = items,
                .item_size = sizeof items[0],
                .count = 8,
                .result_size = sizeof results[0],
        };
        tasks_begin();
        for (int how = 0; how < 3; how++) {
                brood_pool *pool = make_pool(2);
                brood_map *map = start_map(pool, options);
                if (how == 0)
                        assert_int_equal(brood_pool_terminate(pool), 0);
                else if (how == 1)
                        brood_pool_free(pool);
                else
                        brood_map_free(map);
                if (how < 2) {
                        assert_int_equal(brood_map_get(map, results, CHECK_HANG_MS), -ECANCELED);
                        brood_map_free(map);
                }
                if (how != 1)
                        brood_pool_free(pool);
        }
        tasks_finish();
}

static int use_in_a_child(void *arg)
{
        int result;
        require_int(brood_map_get(arg, &result, 0), -EPERM);
        require_int(brood_map_wait(arg, 0), -EPERM);
        require_int(brood_map_ready(arg), -EPERM);
        require_int(brood_map_successful(arg), -EPERM);
        brood_map_free(arg);
        return 0;
}

static void test_refuses(void **state)
{
        (void)state;
        int items[2] = { 1, 2 }, results[2];
        brood_bytes nothing = { .data = NULL, .size = 1 };
        const brood_map_options good = {
                .function = square_task,
                .items = items,
                .item_size = sizeof items[0],
                .count = 2,
                .result_size = sizeof results[0],
        };
        brood_map *untouched = (brood_map *)&items, *map = untouched;
        brood_pool *pool = make_pool(1);

        assert_int_equal(brood_pool_map_async(NULL, &map, &good), -EINVAL);
        assert_int_equal(brood_pool_map_async(pool, NULL, &good), -EINVAL);
        assert_int_equal(brood_pool_map_async(pool, &map, NULL), -EINVAL);
        for (int wrong = 0; wrong < 9; wrong++) {
                brood_map_options options = good;
                switch (wrong) {
                case 0:
                        options.function = NULL;
                        break;
                case 1:
                        options.items = NULL;
                        break;
                case 2:
                        options.item_size = 0;
                        break;
                case 3:
                        options.stride = 1;
                        break;
                case 4:
                        options.records = &nothing;
                        break;
                case 5:
                        options = (brood_map_options){ .function = square_task, .records = &nothing, .count = 1 };
                        break;
                case 6:
                        options.count = SIZE_MAX;
                        break;
                case 7:
                        options.result_size = SIZE_MAX;
                        break;
                default:
                        options.stride = SIZE_MAX;
                }
                assert_int_equal(brood_pool_map_async(pool, &map, &options), -EINVAL);
        }
        struct {
                brood_map_options known;
                size_t unknown;
        } newer = { .known = good, .unknown = 1 };
        assert_int_equal(brood_pool_map_async_sized(pool, &map, &newer.known, sizeof newer), -E2BIG);
        /* One chunk that is larger than the pool. */
        brood_map_options large = good;
        large.result_size = (size_t)1 << 40;
        assert_int_equal(brood_pool_map_async(pool, &map, &large), -ENOMEM);
        large.stride = 2 * sizeof items[0];
        large.count = 1;
        assert_int_equal(brood_pool_map_async(pool, &map, &large), -ENOMEM);
        assert_ptr_equal(map, untouched);

        assert_int_equal(brood_map_get(NULL, results, 0), -EINVAL);
        assert_int_equal(brood_map_wait(NULL, 0), -EINVAL);
        assert_int_equal(brood_map_ready(NULL), -EINVAL);
        assert_int_equal(brood_map_successful(NULL), -EINVAL);
        assert_string_equal(brood_map_reason(NULL), "");
        brood_map_free(NULL);
        map = start_map(pool, good);
        assert_int_equal(brood_map_get(map, NULL, CHECK_HANG_MS), -EINVAL);
        check_in_child(use_in_a_child, map);
        assert_int_equal(brood_map_get(map, results, CHECK_HANG_MS), 0);
        brood_map_free(map);
        assert_int_equal(brood_pool_close(pool), 0);
        map = untouched;
        assert_int_equal(brood_pool_map_async(pool, &map, &good), -EPIPE);
        assert_ptr_equal(map, untouched);
        brood_pool_free(pool);
}

int main(int argc, char **argv)
{
        static const struct CMUnitTest tests[] = {
                support_test(test_all_results_in_order),
                support_test(test_the_life_of_a_map),
                support_test(test_strides_and_records),
                support_test(test_more_than_there_is_room_for),
                support_test(test_the_first_failed_item),
                support_test(test_terminated_broken_freed),
                support_test(test_refuses),
        };
        return tasks_main(argc, argv, "map", tests, array_length(tests), 60);
}
