/* SPDX-License-Identifier: MIT
 *
 * tests/pool/test_patterns.c: what programs make of a pool: results in place, and tasks that lead to tasks.
 */
#include "tasks.h"

#include <brood/completions.h>
#include <brood/shared.h>

#include <poll.h>

/* ---- large results, which the caller has given memory for ---- */

struct strip {
        uint32_t
            *to; /* in shared memory that was mapped before the pool was made: at the same address in each worker */
        uint32_t count, seed;
};

static ssize_t fill_strip(const void *arg, size_t size, void *out, size_t room)
{
        const struct strip *strip = arg;
        (void)size, (void)out, (void)room;
        for (uint32_t i = 0; i < strip->count; i++)
                strip->to[i] = strip->seed * i;
        return 0;
}

static void test_results_in_place(void **state)
{
        (void)state;
        enum { STRIPS = 16, COUNT = 100000 };
        brood_shared *shared = NULL;
        brood_result *results[STRIPS];
        assert_int_equal(brood_shared_new(&shared, STRIPS * COUNT * sizeof(uint32_t), NULL), 0);
        uint32_t *numbers = brood_shared_data(shared);
        brood_pool *pool = make_pool(2);
        for (uint32_t i = 0; i < STRIPS; i++) {
                struct strip strip = { numbers + i * COUNT, COUNT, i + 1 };
                assert_int_equal(brood_pool_apply_async(pool, &results[i], fill_strip, &strip, sizeof strip), 0);
        }
        for (uint32_t i = 0; i < STRIPS; i++) {
                assert_int_equal(brood_result_get(results[i], NULL, 0, CHECK_HANG_MS), 0);
                brood_result_free(results[i]);
                for (uint32_t j = 0; j < COUNT; j += 7)
                        assert_int_equal(numbers[i * COUNT + j], (i + 1) * j);
        }
        end_pool(pool);
        brood_shared_free(shared);
}

/* ---- tasks that lead to tasks: each one's callback hands in what it asks for ---- */

static ssize_t split_task(const void *arg, size_t size, void *out, size_t room)
{
        int depth;
        (void)size, (void)room;
        memcpy(&depth, arg, sizeof depth);
        int wanted[2] = { depth - 1, depth - 1 };
        memcpy(out, wanted, sizeof wanted);
        return depth > 0 ? sizeof wanted : 0;
}

struct walk {
        brood_pool *pool;
        int outstanding, leaves;
};

static void hand_in(struct walk *walk, int depth);

static void has_split(brood_result *result, void *arg)
{
        struct walk *walk = arg;
        int wanted[2];
        ssize_t size = brood_result_get(result, wanted, sizeof wanted, 0);
        assert_true(size == 0 || size == sizeof wanted);
        for (size_t i = 0; i < (size_t)size / sizeof *wanted; i++)
                hand_in(walk, wanted[i]);
        walk->leaves += size == 0;
        walk->outstanding--;
}

static void hand_in(struct walk *walk, int depth)
{
        walk->outstanding++;
        assert_int_equal(brood_pool_submit(walk->pool, NULL,
                                           &(brood_task_options){
                                               .function = split_task,
                                               .arg = &depth,
                                               .size = sizeof depth,
                                               .callback = has_split,
                                               .callback_arg = walk,
                                           }),
                         0);
}

static void test_tasks_that_lead_to_tasks(void **state)
{
        (void)state;
        enum { DEPTH = 10 };
        struct walk walk = { .pool = make_pool(2) };
        int fd = brood_pool_fileno(walk.pool);
        assert_true(fd >= 0);
        hand_in(&walk, DEPTH);
        while (walk.outstanding > 0) {
                struct pollfd entry = { .fd = fd, .events = POLLIN };
                assert_true(brood_pool_dispatch(walk.pool) >= 0);
                if (walk.outstanding > 0)
                        assert_true(poll(&entry, 1, CHECK_HANG_MS) == 1);
        }
        assert_int_equal(walk.leaves, 1 << DEPTH);
        end_pool(walk.pool);
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                support_test(test_results_in_place),
                support_test(test_tasks_that_lead_to_tasks),
        };
        return support_main(argc, argv, "pool patterns", tests, array_length(tests), 60);
}
