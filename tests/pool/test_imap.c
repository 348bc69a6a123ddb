/* SPDX-License-Identifier: MIT
 *
 * tests/pool/test_imap.c: what include/brood/imap.h says, sentence by sentence.
 */
#include "tasks.h"

#include <brood/imap.h>

enum { SHORT_MS = 30 };

/* Counts from 0 to `count`; then ends, or fails with `error`. */
struct input {
        int count, at, error;
        bool ended; /* it has said that there is no more */
};

static ssize_t next_number(void *arg, void *buf, size_t room)
{
        struct input *input = arg;
        if (input->ended || room < sizeof input->at)
                return -EBADE; /* asked again after the end */
        if (input->at == input->count) {
                input->ended = true;
                return input->error;
        }
        memcpy(buf, &input->at, sizeof input->at);
        input->at++;
        return sizeof input->at;
}

/* An int, doubled; of those that end with 7 an error, of those that end with 3 the worker's death. */
static ssize_t double_task(const void *arg, size_t size, void *out, size_t room)
{
        int n = *(const int *)arg;
        if (size != sizeof n || room < sizeof n)
                return -EINVAL;
        n *= 2;
        memcpy(out, &n, sizeof n);
        return sizeof n;
}

static ssize_t choosy_task(const void *arg, size_t size, void *out, size_t room)
{
        int n = *(const int *)arg;
        if (n % 10 == 3)
                raise(SIGKILL);
        if (n % 10 == 7)
                return -ENOTDIR;
        return double_task(arg, size, out, room);
}

static brood_imap *start(brood_pool *pool, brood_imap_options options, bool unordered)
{
        brood_imap *imap = NULL;
        assert_int_equal(
            unordered ? brood_pool_imap_unordered(pool, &imap, &options) : brood_pool_imap(pool, &imap, &options), 0);
        assert_non_null(imap);
        return imap;
}

static void assert_end(brood_imap *imap)
{
        size_t index = SIZE_MAX;
        for (int i = 0; i < 3; i++)
                assert_int_equal(brood_imap_next(imap, &index, NULL, 0, i ? 0 : BROOD_FOREVER), -ENODATA);
        assert_true(index == SIZE_MAX);
}

/* All of `count` numbers come, doubled; in order unless it is unordered. */
static void expect_doubles(brood_imap *imap, int count, bool unordered)
{
        static unsigned char seen[10000];
        memset(seen, 0, sizeof seen);
        for (int i = 0; i < count; i++) {
                size_t index = SIZE_MAX;
                int value = -1;
                assert_int_equal(brood_imap_next(imap, &index, &value, sizeof value, CHECK_HANG_MS), sizeof value);
                assert_true(index < (size_t)count);
                if (!unordered)
                        assert_int_equal(index, i);
                assert_int_equal(value, 2 * (int)index);
                seen[index]++;
        }
        for (int i = 0; i < count; i++)
                assert_int_equal(seen[i], 1);
        assert_end(imap);
}

static void test_all_items(void **state)
{
        (void)state;
        enum { COUNT = 1000 };
        static int items[2 * COUNT];
        static brood_bytes records[COUNT];
        static const size_t chunks[] = { 0, 1, 7, 999, 1001 }, windows[] = { 0, 1, 100000 };
        brood_pool *pool = make_pool(3);
        for (int i = 0; i < COUNT; i++) {
                items[2 * i] = i;
                records[i] = (brood_bytes){ .data = &items[2 * i], .size = sizeof items[0] };
        }
        for (size_t c = 0; c < array_length(chunks); c++)
                for (size_t w = 0; w < array_length(windows); w++)
                        for (int how = 0; how < 6; how++) {
                                struct input input = { .count = COUNT };
                                brood_imap_options options = {
                                        .function = double_task,
                                        .chunksize = chunks[c],
                                        .window = windows[w],
                                        .result_size = how == 0 ? 0 : sizeof(int),
                                };
                                if (how % 3 == 0) {
                                        options.next = next_number;
                                        options.next_arg = &input;
                                } else if (how % 3 == 1) {
                                        options.items = items;
                                        options.item_size = sizeof items[0];
                                        options.stride = 2 * sizeof items[0];
                                        options.count = COUNT;
                                } else {
                                        options.records = records;
                                        options.count = COUNT;
                                }
                                brood_imap *imap = start(pool, options, how >= 3);
                                expect_doubles(imap, COUNT, how >= 3);
                                brood_imap_free(imap);
                        }
        end_pool(pool);
}

static void test_no_items(void **state)
{
        (void)state;
        struct input input = { .count = 0 };
        int item = 0;
        brood_pool *pool = make_pool(1);
        for (int unordered = 0; unordered < 2; unordered++) {
                input.ended = false;
                brood_imap *imap = start(
                    pool, (brood_imap_options){ .function = double_task, .next = next_number, .next_arg = &input },
                    unordered);
                assert_string_equal(brood_imap_reason(imap), "no item was given");
                assert_end(imap);
                brood_imap_free(imap);
                imap = start(pool,
                             (brood_imap_options){ .function = double_task, .items = &item, .item_size = sizeof item },
                             unordered);
                assert_end(imap);
                brood_imap_free(imap);
        }
        end_pool(pool);
}

/* The input is asked for as much as is in the pool, and no more. */
static void test_back_pressure(void **state)
{
        (void)state;
        brood_pool *pool = make_pool(2);
        for (int unordered = 0; unordered < 2; unordered++)
                for (int chunk = 1; chunk <= 3; chunk += 2) {
                        struct input input = { .count = 10000 };
                        brood_imap *imap = start(pool,
                                                 (brood_imap_options){
                                                     .function = double_task,
                                                     .next = next_number,
                                                     .next_arg = &input,
                                                     .chunksize = (size_t)chunk,
                                                     .window = 5,
                                                 },
                                                 unordered);
                        assert_int_equal(input.at, 5 * chunk);
                        for (int taken = 0; taken < 100 * chunk; taken++) {
                                int value;
                                assert_int_equal(brood_imap_next(imap, NULL, &value, sizeof value, CHECK_HANG_MS),
                                                 sizeof value);
                                assert_int_equal(input.at, 5 * chunk + taken / chunk * chunk);
                        }
                        brood_imap_free(imap);
                }
        /* By default, about four tasks a worker. */
        struct input input = { .count = 10000 };
        brood_imap *imap = start(
            pool, (brood_imap_options){ .function = double_task, .next = next_number, .next_arg = &input }, false);
        assert_int_equal(input.at, 8);
        brood_imap_free(imap);
        end_pool(pool);
}

/* Unordered, a slow item holds up nobody; in order, it does. */
static void test_as_they_come(void **state)
{
        (void)state;
        tasks_begin();
        int items[4] = { 0, 1, 2, 3 };
        brood_pool *pool = make_pool(1);
        brood_result *first = submit_int(pool, gated_task, 0);
        for (int unordered = 0; unordered < 2; unordered++) {
                size_t index = SIZE_MAX;
                int value = -1;
                brood_imap *imap = start(pool,
                                         (brood_imap_options){
                                             .function = double_task,
                                             .items = items,
                                             .item_size = sizeof items[0],
                                             .count = 4,
                                         },
                                         unordered);
                assert_int_equal(brood_imap_next(imap, &index, &value, sizeof value, 0), -EAGAIN);
                int64_t begun = support_now_ms();
                assert_int_equal(brood_imap_next(imap, &index, &value, sizeof value, SHORT_MS), -ETIMEDOUT);
                assert_true(support_now_ms() - begun >= SHORT_MS);
                assert_true(index == SIZE_MAX && value == -1);
                atomic_store(&tasks_page->gate, 1);
                expect_doubles(imap, 4, unordered);
                brood_imap_free(imap);
                brood_result_free(first);
                atomic_store(&tasks_page->gate, 0);
                first = submit_int(pool, gated_task, 0);
        }
        atomic_store(&tasks_page->gate, 1);
        brood_result_free(first);
        end_pool(pool);

        /* Two workers, one of which is held by the first item. */
        atomic_store(&tasks_page->gate, 0);
        pool = make_pool(2);
        brood_result *held = submit_int(pool, gated_task, 0);
        brood_imap *imap = start(pool,
                                 (brood_imap_options){
                                     .function = double_task,
                                     .items = items,
                                     .item_size = sizeof items[0],
                                     .count = 4,
                                 },
                                 true);
        expect_doubles(imap, 4, true);
        brood_imap_free(imap);
        atomic_store(&tasks_page->gate, 1);
        brood_result_free(held);
        end_pool(pool);
        tasks_finish();
}

static void test_failures_are_the_items_own(void **state)
{
        (void)state;
        enum { COUNT = 60 };
        brood_pool *pool = make_pool(2);
        for (int unordered = 0; unordered < 2; unordered++) {
                struct input input = { .count = COUNT };
                int good = 0, failed = 0, dead = 0;
                brood_imap *imap = start(
                    pool, (brood_imap_options){ .function = choosy_task, .next = next_number, .next_arg = &input },
                    unordered);
                for (int i = 0; i < COUNT; i++) {
                        size_t index = SIZE_MAX;
                        int value = -1;
                        ssize_t n = brood_imap_next(imap, &index, &value, sizeof value, CHECK_HANG_MS);
                        assert_true(index < COUNT);
                        if (index % 10 == 3) {
                                assert_int_equal(n, -EOWNERDEAD);
                                assert_non_null(strstr(brood_imap_reason(imap), "SIGKILL"));
                                dead++;
                        } else if (index % 10 == 7) {
                                assert_int_equal(n, -ENOTDIR);
                                assert_non_null(strstr(brood_imap_reason(imap), "returned"));
                                failed++;
                        } else {
                                assert_int_equal(n, sizeof value);
                                assert_int_equal(value, 2 * (int)index);
                                assert_string_equal(brood_imap_reason(imap), "the item succeeded");
                                good++;
                        }
                        if (n < 0)
                                assert_int_equal(value, -1);
                }
                assert_end(imap);
                brood_imap_free(imap);
                assert_int_equal(good, COUNT - COUNT / 5);
                assert_int_equal(failed, COUNT / 10);
                assert_int_equal(dead, COUNT / 10);
        }
        /* In chunks, the neighbours of a death share it. */
        int items[6] = { 0, 1, 2, 3, 4, 5 }, value;
        brood_imap *imap = start(pool,
                                 (brood_imap_options){
                                     .function = choosy_task,
                                     .items = items,
                                     .item_size = sizeof items[0],
                                     .count = 6,
                                     .chunksize = 2,
                                 },
                                 false);
        for (int i = 0; i < 6; i++)
                assert_int_equal(brood_imap_next(imap, NULL, &value, sizeof value, CHECK_HANG_MS),
                                 i == 2 || i == 3 ? -EOWNERDEAD : (int)sizeof value);
        assert_end(imap);
        brood_imap_free(imap);
        end_pool(pool);
}

static ssize_t next_too_large(void *arg, void *buf, size_t room)
{
        (void)arg;
        memset(buf, 0, room);
        return (ssize_t)room + 1;
}

static void test_the_input_fails(void **state)
{
        (void)state;
        brood_pool *pool = make_pool(2);
        for (int unordered = 0; unordered < 2; unordered++)
                for (size_t chunk = 1; chunk < 8; chunk += 6) {
                        struct input input = { .count = 20, .error = -ENETDOWN };
                        brood_imap *imap = start(pool,
                                                 (brood_imap_options){
                                                     .function = double_task,
                                                     .next = next_number,
                                                     .next_arg = &input,
                                                     .chunksize = chunk,
                                                 },
                                                 unordered);
                        size_t index;
                        int value;
                        for (int i = 0; i < 20; i++)
                                assert_int_equal(brood_imap_next(imap, &index, &value, sizeof value, CHECK_HANG_MS),
                                                 sizeof value);
                        index = SIZE_MAX;
                        assert_int_equal(brood_imap_next(imap, &index, &value, sizeof value, CHECK_HANG_MS), -ENETDOWN);
                        assert_true(index == SIZE_MAX);
                        assert_end(imap);
                        brood_imap_free(imap);
                }
        brood_imap *imap =
            start(pool, (brood_imap_options){ .function = double_task, .next = next_too_large, .item_room = 8 }, false);
        assert_int_equal(brood_imap_next(imap, NULL, NULL, 0, CHECK_HANG_MS), -EMSGSIZE);
        assert_end(imap);
        brood_imap_free(imap);
        end_pool(pool);
}

/* A result that the caller has no room for stays the next. */
static void test_room(void **state)
{
        (void)state;
        static const brood_bytes records[] = { { "abcdef", 7 }, { NULL, 0 }, { "xy", 3 } };
        char buf[8];
        size_t index = SIZE_MAX;
        brood_pool *pool = make_pool(1);
        brood_imap *imap = start(
            pool, (brood_imap_options){ .function = echo_task, .records = records, .count = 3, .chunksize = 2 }, false);
        assert_int_equal(brood_imap_next(imap, &index, buf, 6, CHECK_HANG_MS), -EMSGSIZE);
        assert_true(index == SIZE_MAX);
        assert_int_equal(brood_imap_next(imap, &index, buf, 7, CHECK_HANG_MS), 7);
        assert_string_equal(buf, "abcdef");
        assert_int_equal(index, 0);
        assert_int_equal(brood_imap_next(imap, &index, NULL, 0, CHECK_HANG_MS), 0);
        assert_int_equal(index, 1);
        assert_int_equal(brood_imap_next(imap, &index, NULL, 1, CHECK_HANG_MS), -EINVAL);
        assert_int_equal(brood_imap_next(imap, &index, buf, sizeof buf, CHECK_HANG_MS), 3);
        assert_string_equal(buf, "xy");
        assert_end(imap);
        brood_imap_free(imap);
        /* An item that writes too much for its room. */
        imap =
            start(pool, (brood_imap_options){ .function = echo_task, .records = records, .count = 3, .result_size = 3 },
                  false);
        index = SIZE_MAX;
        assert_int_equal(brood_imap_next(imap, &index, buf, sizeof buf, CHECK_HANG_MS), -EMSGSIZE);
        assert_int_equal(index, 0);
        assert_int_equal(brood_imap_next(imap, &index, buf, sizeof buf, CHECK_HANG_MS), 0);
        assert_int_equal(brood_imap_next(imap, &index, buf, sizeof buf, CHECK_HANG_MS), 3);
        brood_imap_free(imap);
        end_pool(pool);
}

/* Other tasks have the pool's places. */
static void test_a_pool_that_is_full(void **state)
{
        (void)state;
        tasks_begin();
        for (int unordered = 0; unordered < 2; unordered++) {
                struct input input = { .count = 50 };
                brood_result *others[4];
                brood_pool *pool;
                int value;
                atomic_store(&tasks_page->gate, 0);
                assert_int_equal(brood_pool_new(&pool, &(brood_pool_options){ .processes = 1, .max_tasks = 4 }), 0);
                for (int i = 0; i < 4; i++)
                        others[i] = submit_int(pool, gated_task, i);
                brood_imap *imap = start(
                    pool, (brood_imap_options){ .function = double_task, .next = next_number, .next_arg = &input },
                    unordered);
                assert_int_equal(brood_imap_next(imap, NULL, &value, sizeof value, 0), -ENOBUFS);
                atomic_store(&tasks_page->gate, 1);
                for (int i = 0; i < 3; i++) {
                        assert_int_equal(brood_result_wait(others[i], CHECK_HANG_MS), 0);
                        brood_result_free(others[i]);
                }
                expect_doubles(imap, 50, unordered);
                brood_imap_free(imap);
                brood_result_free(others[3]);
                end_pool(pool);
        }
        tasks_finish();
}

static void test_the_pool_ends_first(void **state)
{
        (void)state;
        for (int how = 0; how < 6; how++) {
                struct input input = { .count = 100 };
                int error = how % 3 == 0 ? -ECANCELED : -EPIPE, value, r;
                size_t index = SIZE_MAX;
                tasks_begin();
                brood_pool *pool = make_pool(1);
                brood_imap *imap =
                    start(pool, (brood_imap_options){ .function = gated_task, .next = next_number, .next_arg = &input },
                          how >= 3);
                pid_t pids[16];
                await_workers(pool, pids);
                assert_true(check_reaches(&tasks_page->started, 1, CHECK_HANG_MS));
                if (how % 3 == 0)
                        assert_int_equal(brood_pool_terminate(pool), 0);
                else if (how % 3 == 1)
                        kill(support_parent_of(pids[0]), SIGKILL);
                else
                        assert_int_equal(brood_pool_close(pool), 0);
                atomic_store(&tasks_page->gate, how % 3 == 2);
                /* What was in it, with results if it was closed; then, once, why there are no more; then the end. */
                for (int i = 0; i < 4; i++) {
                        index = SIZE_MAX;
                        r = (int)brood_imap_next(imap, &index, &value, sizeof value, CHECK_HANG_MS);
                        assert_true(index < 4);
                        assert_int_equal(r, how % 3 == 2 ? (int)sizeof value : error);
                }
                index = SIZE_MAX;
                assert_int_equal(brood_imap_next(imap, &index, &value, sizeof value, CHECK_HANG_MS), error);
                assert_true(index == SIZE_MAX);
                assert_end(imap);
                brood_pool_free(pool);
                brood_imap_free(imap);
                tasks_finish();
        }
}

static void test_freed_in_the_middle(void **state)
{
        (void)state;
        for (int how = 0; how < 4; how++) {
                struct input input = { .count = 10000 };
                int value;
                brood_pool *pool;
                assert_int_equal(brood_pool_new(&pool, &(brood_pool_options){ .processes = 2, .max_tasks = 16 }), 0);
                for (int round = 0; round < 20; round++) {
                        input.at = 0;
                        brood_imap_options options = {
                                .function = double_task, .next = next_number, .next_arg = &input, .chunksize = 3
                        };
                        brood_imap *imap = start(pool, options, how % 2);
                        for (int i = 0; i < round; i++)
                                assert_int_equal(brood_imap_next(imap, NULL, &value, sizeof value, CHECK_HANG_MS),
                                                 sizeof value);
                        if (round == 19 && how >= 2)
                                brood_pool_free(pool);
                        brood_imap_free(imap);
                }
                if (how < 2)
                        end_pool(pool);
        }
}

static int use_in_a_child(void *imap)
{
        require_int(brood_imap_next(imap, NULL, NULL, 0, 0), -EPERM);
        brood_imap_free(imap);
        return 0;
}

static void test_refuses(void **state)
{
        (void)state;
        struct input input = { .count = 3 };
        int item = 1, value;
        brood_pool *pool = make_pool(1);
        brood_imap *untouched = (brood_imap *)&item, *imap = untouched;
        const brood_imap_options good = { .function = double_task, .next = next_number, .next_arg = &input };
        assert_int_equal(brood_pool_imap(NULL, &imap, &good), -EINVAL);
        assert_int_equal(brood_pool_imap(pool, NULL, &good), -EINVAL);
        assert_int_equal(brood_pool_imap(pool, &imap, NULL), -EINVAL);
        for (int wrong = 0; wrong < 6; wrong++) {
                brood_imap_options options = good;
                switch (wrong) {
                case 0:
                        options.function = NULL;
                        break;
                case 1:
                        options.next = NULL;
                        break;
                case 2:
                        options.items = &item;
                        break;
                case 3:
                        options = (brood_imap_options){ .function = double_task, .count = 1 };
                        break;
                case 4:
                        options = (brood_imap_options){ .function = double_task, .items = &item, .count = 1 };
                        break;
                default:
                        options.result_size = BROOD_POOL_RESULT_SIZE_LIMIT + 1;
                }
                assert_int_equal(brood_pool_imap(pool, &imap, &options), -EINVAL);
                assert_int_equal(brood_pool_imap_unordered(pool, &imap, &options), -EINVAL);
        }
        struct {
                brood_imap_options known;
                size_t unknown;
        } newer = { .known = good, .unknown = 1 };
        assert_int_equal(brood_pool_imap_sized(pool, &imap, &newer.known, sizeof newer, false), -E2BIG);
        brood_imap_options huge = good;
        huge.chunksize = SIZE_MAX / 2;
        assert_int_equal(brood_pool_imap(pool, &imap, &huge), -ENOMEM);
        assert_ptr_equal(imap, untouched);
        assert_int_equal(input.at, 0);

        assert_int_equal(brood_imap_next(NULL, NULL, NULL, 0, 0), -EINVAL);
        assert_string_equal(brood_imap_reason(NULL), "");
        brood_imap_free(NULL);
        imap = start(pool, good, false);
        check_in_child(use_in_a_child, imap);
        assert_int_equal(brood_imap_next(imap, NULL, &value, sizeof value, CHECK_HANG_MS), sizeof value);
        brood_imap_free(imap);
        assert_int_equal(brood_pool_close(pool), 0);
        imap = untouched;
        assert_int_equal(brood_pool_imap(pool, &imap, &good), -EPIPE);
        assert_ptr_equal(imap, untouched);
        brood_pool_free(pool);
}

int main(int argc, char **argv)
{
        static const struct CMUnitTest tests[] = {
                support_test(test_all_items),
                support_test(test_no_items),
                support_test(test_back_pressure),
                support_test(test_as_they_come),
                support_test(test_failures_are_the_items_own),
                support_test(test_the_input_fails),
                support_test(test_room),
                support_test(test_a_pool_that_is_full),
                support_test(test_the_pool_ends_first),
                support_test(test_freed_in_the_middle),
                support_test(test_refuses),
        };
        return tasks_main(argc, argv, "imap", tests, array_length(tests), 100);
}
