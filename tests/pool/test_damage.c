/* SPDX-License-Identifier: MIT
 *
 * tests/pool/test_damage.c: what the host believes of the shared table.  A task that has run wild may have written anywhere in it;
 * the test does so in its place, between the end of a task and the moment at which its result is first looked at.
 */
#include "check.h"

#include "pool/pool.h"

static ssize_t answer_task(const void *arg, size_t size, void *out, size_t room)
{
        (void)arg, (void)size, (void)room;
        memcpy(out, &(int){ 8888 }, sizeof(int));
        return sizeof(int);
}

static bool has_ended(void *state)
{
        return task_kind(load_seq_cst((atomic_u64 *)state)) == TASK_DONE;
}

static void test_damaged_outcomes(void **state)
{
        (void)state;
        static const struct {
                int64_t value;
                int32_t outcome;
                ssize_t told;
        } cases[] = {
                { 4, BROOD_OUTCOME_OK, 4 },
                { 64, BROOD_OUTCOME_OK, 64 },
                { 65, BROOD_OUTCOME_OK, -EUCLEAN },
                { INT64_MAX, BROOD_OUTCOME_OK, -EUCLEAN },
                { -1, BROOD_OUTCOME_OK, -EUCLEAN },
                { INT64_MIN, BROOD_OUTCOME_OK, -EUCLEAN },
                { -ENOENT, BROOD_OUTCOME_ERROR, -ENOENT },
                { 4, BROOD_OUTCOME_ERROR, -EUCLEAN },
                { 4, BROOD_OUTCOME_PENDING, -EUCLEAN },
                { -EPIPE, BROOD_OUTCOME_BROKEN, -EUCLEAN },
                { -ECANCELED, BROOD_OUTCOME_CANCELED, -EUCLEAN },
                { -ETIME, BROOD_OUTCOME_TIME, -ETIME },
                { -ETIME, BROOD_OUTCOME_CPU, -ETIME },
                { -ENOMEM, BROOD_OUTCOME_MEMORY, -ENOMEM },
                { 4, BROOD_OUTCOME_TIME, -EUCLEAN },
                { 4, BROOD_OUTCOME_MEMORY, -EUCLEAN },
                { 4, 77, -EUCLEAN },
                { 4, -77, -EUCLEAN },
        };
        brood_pool *pool;
        unsigned char buf[64];
        assert_int_equal(brood_pool_new(&pool, &(brood_pool_options){ .processes = 1, .result_size = 64 }), 0);
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
                brood_result *result;
                assert_int_equal(brood_pool_apply_async(pool, &result, answer_task, NULL, 0), 0);
                struct task *task = result_task(result);
                assert_true(support_until(has_ended, &task->state, CHECK_HANG_MS));
                task->value = cases[i].value;
                task->outcome = cases[i].outcome;
                task->out = i % 2 ? UINT64_MAX : 0;
                task->message = i % 3 ? UINT32_MAX : 65;
                store_relaxed(&task->terms, i % 2 ? UINT64_MAX - 7 : pool->region.size - 8);
                assert_int_equal(brood_result_get(result, buf, sizeof buf, CHECK_HANG_MS), cases[i].told);
                brood_result_report report;
                assert_int_equal(brood_result_get_report(result, &report), 0);
                assert_false(report.measured);
                assert_string_equal(report.message, "");
                if (cases[i].told > 0)
                        assert_int_equal(*(int *)(void *)buf, 8888);
                brood_result_free(result);
        }
        brood_pool_free(pool);
}

static void test_damaged_subtasks(void **state)
{
        (void)state;
        enum { ROOM = 128 };
        const uint64_t good = (uintptr_t)answer_task;
        const struct {
                uint32_t used;
                struct {
                        uint64_t function;
                        uint32_t size;
                } first, second; /* the first one's argument has 16 bytes */
                ssize_t told;
        } cases[] = {
                { 48, { good, 16 }, { good, 0 }, 4 },
                { 32, { good, 16 }, { 1, UINT32_MAX }, 4 },
                { 0, { 1, UINT32_MAX }, { 1, UINT32_MAX }, 4 },
                { ROOM + 1, { good, 16 }, { good, 0 }, -EUCLEAN },
                { UINT32_MAX, { good, 16 }, { good, 0 }, -EUCLEAN },
                { 8, { good, 0 }, { good, 0 }, -EUCLEAN },
                { 40, { good, 16 }, { good, 0 }, -EUCLEAN },
                { 48, { good, 16 }, { good, 1 }, -EUCLEAN },
                { 64, { good, 16 }, { good, UINT32_MAX }, -EUCLEAN },
                { 64, { good, UINT32_MAX - 15 }, { good, 0 }, -EUCLEAN },
                { 48, { good, 16 }, { 4711, 0 }, -ENOEXEC },
                { 48, { UINT64_MAX, 16 }, { good, 0 }, -ENOEXEC },
        };
        brood_pool *pool;
        assert_int_equal(brood_pool_new(&pool, &(brood_pool_options){ .processes = 1, .result_size = 64 }), 0);
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
                brood_task_options options = { .function = answer_task, .subtasks_size = ROOM };
                brood_result *result;
                unsigned char buf[64];
                assert_int_equal(brood_pool_submit(pool, &result, &options), 0);
                struct task *task = result_task(result);
                assert_true(support_until(has_ended, &task->state, CHECK_HANG_MS));
                struct task_terms *terms = pool_terms(pool, task);
                unsigned char *area = (unsigned char *)(terms + 1);
                terms->subtasks_used = cases[i].used;
                *(struct subtask *)(void *)area =
                    (struct subtask){ .function = cases[i].first.function, .size = cases[i].first.size };
                *(struct subtask *)(void *)(area + 32) =
                    (struct subtask){ .function = cases[i].second.function, .size = cases[i].second.size };
                terms->subtasks_room = UINT32_MAX;
                assert_int_equal(brood_result_get(result, buf, sizeof buf, CHECK_HANG_MS), cases[i].told);
                brood_result_free(result);
        }
        assert_int_equal(brood_pool_close(pool), 0);
        assert_int_equal(brood_pool_join(pool, CHECK_HANG_MS), 0);
        brood_pool_free(pool);
}

int main(int argc, char **argv)
{
        static const struct CMUnitTest tests[] = {
                support_test(test_damaged_outcomes),
                support_test(test_damaged_subtasks),
        };
        return support_main(argc, argv, "damage", tests, sizeof tests / sizeof *tests, 60);
}
