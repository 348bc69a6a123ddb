/* SPDX-License-Identifier: MIT
 *
 * tests/pool/test_ended.c: the announcement of a task's end, killed after each instruction (src/pool/ended.h).
 *
 * In each scene a pool's only worker is busy, and two tasks that are waited for are queued behind.  The victim is a process
 * that is not the pool's: it plays the worker that has just ended the first of them.  The test process plays the keeper, and
 * is the host: the result must come out once, whether the host looks before the keeper's note, after it, or both.
 */
#include "step.h"
#include "tasks.h"

#include "os/descriptors.h"
#include "pool/ended.h"

enum {
        NUMBER = 77,  /* of a worker that there is not */
        STAGES = 4,   /* bits: another task is in the list already; somebody sleeps on it */
        MOST = 20000, /* instructions */
};

struct scene {
        brood_pool *pool;
        brood_completions *completions;
        brood_result *busy, *results[2];
        struct step_mark *mark;
};

/* What a worker does when it ends a task, up to where it tells. */
static void end_task(brood_result *result)
{
        struct task *task = result_task(result);
        task->worker = (uint32_t)getpid();
        task->value = 0;
        task->outcome = BROOD_OUTCOME_OK;
        uint64_t before = exchange_seq_cst(&task->state, task_state(result->generation, TASK_DONE, NUMBER));
        assert_int_equal(task_kind(before), TASK_QUEUED);
        assert_true(before & TASK_LISTED);
}

static void tell(void *arg)
{
        struct scene *scene = arg;
        struct task *task = result_task(scene->results[0]);
        if (ended_tell(scene->pool, task, TASK_WAITED | TASK_WATCHED | TASK_LISTED))
                eventfd_raise(scene->pool->bell);
}

static void scene_begin(struct scene *scene, int stage)
{
        tasks_begin();
        atomic_store(&scene->mark->begun, 0);
        atomic_store(&scene->mark->ended, 0);
        scene->pool = make_pool(1);
        assert_int_equal(brood_completions_new(&scene->completions, scene->pool), 0);
        scene->busy = submit_int(scene->pool, gated_task, 0);
        assert_true(check_reaches(&tasks_page->started, 1, CHECK_HANG_MS));
        for (int i = 0; i < 2; i++) {
                scene->results[i] = submit_int(scene->pool, echo_task, i);
                assert_int_equal(brood_completions_add(scene->completions, scene->results[i]), 0);
        }
        end_task(scene->results[0]);
        if (stage & 1) {
                end_task(scene->results[1]);
                ended_tell(scene->pool, result_task(scene->results[1]), TASK_LISTED);
        }
        if (stage & 2)
                atomic_fetch_or(&scene->pool->shared->ended, ENDED_SLEEPERS);
        assert_true(brood_completions_fileno(scene->completions) >= 0);
}

/* Take what is there; how often the victim's result came. */
static int look(struct scene *scene, int *others)
{
        brood_result *result;
        int times = 0, r;
        while ((r = brood_completions_next(scene->completions, &result, 0)) == 0) {
                times += result == scene->results[0];
                *others += result == scene->results[1];
        }
        assert_true(r == -EAGAIN || r == -ENODATA);
        return times;
}

static void scene_end(struct scene *scene, int stage, bool look_before)
{
        brood_result *result = scene->results[0];
        int others = 0, times = look_before ? look(scene, &others) : 0;
        ended_note_death(scene->pool, result_task(result), ticket_make(result_index(result), result->generation),
                         NUMBER);
        times += look(scene, &others);
        assert_int_equal(times, 1);
        assert_int_equal(others, stage & 1);
        assert_false(result->listed);
        assert_int_equal(brood_result_outcome(result), BROOD_OUTCOME_OK);
        /* Noted twice: it is the past. */
        ended_note_death(scene->pool, result_task(result), ticket_make(result_index(result), result->generation),
                         NUMBER);
        assert_int_equal(look(scene, &others), 0);
        /* The other one ends as tasks do, and is found; the tickets of those that were played are thrown away. */
        atomic_store(&tasks_page->gate, 1);
        if (!(stage & 1)) {
                brood_result *other = NULL;
                assert_int_equal(brood_completions_next(scene->completions, &other, CHECK_HANG_MS), 0);
                assert_ptr_equal(other, scene->results[1]);
        }
        assert_int_equal(brood_completions_count(scene->completions), 0);
        brood_result_free(scene->busy);
        brood_result_free(scene->results[0]);
        brood_result_free(scene->results[1]);
        brood_completions_free(scene->completions);
        end_pool(scene->pool);
        tasks_finish();
}

static void test_killed_at_each_instruction(void **state)
{
        (void)state;
        const char *why;
        if (!step_possible(&why)) {
                print_message("skipped: %s\n", why);
                skip();
        }
        struct scene scene = { .mark = check_shared(sizeof(struct step_mark)) };
        int kills = 0;
        for (int stage = 0; stage < STAGES; stage++) {
                bool more = true;
                for (long k = 0; more && k < MOST; k++) {
                        scene_begin(&scene, stage);
                        struct step_victim victim = { .call = tell, .arg = &scene, .mark = scene.mark };
                        pid_t pid = step_start(&victim);
                        assert_true(pid > 0);
                        long count;
                        enum step_end end = step_run(pid, scene.mark, k, true, NULL, &count);
                        assert_true(end == STEP_THERE || end == STEP_ENDED);
                        more = end != STEP_ENDED;
                        step_kill(pid);
                        scene_end(&scene, stage, k % 2);
                        kills++;
                }
                assert_false(more);
        }
        print_message("%d kills\n", kills);
        munmap(scene.mark, sizeof *scene.mark);
}

/* What a task that has run wild may have written there leads nowhere, and what has ended still comes out. */
static void test_a_damaged_list(void **state)
{
        (void)state;
        static const uint32_t ids[] = { 1, 2, 3, 4, 1000, ENDED_INDEX };
        for (size_t i = 0; i < 2 * array_length(ids); i++) {
                brood_completions *completions;
                brood_result *results[2], *result;
                brood_pool *pool = make_pool(1);
                assert_int_equal(brood_completions_new(&completions, pool), 0);
                for (int j = 0; j < 2; j++) {
                        results[j] = submit_int(pool, echo_task, j);
                        assert_int_equal(brood_result_wait(results[j], CHECK_HANG_MS), 0);
                }
                brood_result_free(results[0]); /* its index is not listed, and free */
                results[0] = submit_int(pool, echo_task, 5);
                assert_int_equal(brood_completions_add(completions, results[0]), 0);
                assert_int_equal(brood_completions_add(completions, results[1]), 0);
                if (i % 2)
                        store_seq_cst(&result_task(results[0])->next_ended, ids[i / 2]);
                else
                        store_seq_cst(&pool->shared->ended, ids[i / 2] | ENDED_DEATHS);
                for (int j = 0; j < 2; j++) {
                        int r;
                        int64_t end = support_now_ms() + CHECK_HANG_MS;
                        while ((r = brood_completions_next(completions, &result, 10)) == -ETIMEDOUT) {
                                assert_true(support_now_ms() < end);
                                store_seq_cst(&pool->shared->ended, ENDED_INDEX); /* have it look again */
                        }
                        assert_int_equal(r, 0);
                        assert_true(result == results[0] || result == results[1]);
                        brood_result_free(result);
                }
                brood_completions_free(completions);
                end_pool(pool);
        }
}

int main(int argc, char **argv)
{
        static const struct CMUnitTest tests[] = {
                support_test(test_killed_at_each_instruction),
                support_test(test_a_damaged_list),
        };
        return support_main(argc, argv, "ended", tests, array_length(tests), 200);
}
