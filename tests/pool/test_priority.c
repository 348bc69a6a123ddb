/* SPDX-License-Identifier: MIT
 *
 * tests/pool/test_priority.c: tasks that go before others.
 */
#include "tasks.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>

#define MOST BROOD_TASK_PRIORITY_MOST
#define HIGH .priority = MOST

/* Says in which order tasks were begun. */
static struct order_page {
        atomic_int count;
        int numbers[4096];
} * order_page;

static ssize_t note_task(const void *arg, size_t size, void *out, size_t room)
{
        int number = *(const int *)arg;
        order_page->numbers[atomic_fetch_add(&order_page->count, 1)] = number;
        return echo_task(arg, size, out, room);
}

/* The same, and it kills its worker the first time. */
static ssize_t note_and_die_task(const void *arg, size_t size, void *out, size_t room)
{
        note_task(arg, size, out, room);
        if (atomic_fetch_add(&tasks_page->number, 1) == 0)
                kill(getpid(), SIGKILL);
        return echo_task(arg, size, out, room);
}

static void begin(void)
{
        tasks_begin();
        order_page = check_shared(sizeof *order_page);
}

static void finish(void)
{
        munmap(order_page, sizeof *order_page);
        order_page = NULL;
        tasks_finish();
}

/* Keep all workers busy until the gate is raised. */
static void occupy(brood_pool *pool, brood_result **gated)
{
        int processes = brood_pool_processes(pool);
        atomic_store(&tasks_page->gate, 0);
        atomic_store(&tasks_page->started, 0);
        for (int i = 0; i < processes; i++)
                gated[i] = submit_int(pool, gated_task, i);
        assert_true(check_reaches(&tasks_page->started, processes, CHECK_HANG_MS));
}

static void release(brood_pool *pool, brood_result **gated)
{
        atomic_store(&tasks_page->gate, 1);
        for (int i = 0; i < brood_pool_processes(pool); i++)
                check_value(gated[i], i);
}

/* One worker: the highest first, and of one level the oldest first.  The number tells the level and when it was handed in. */
static void test_order(void **state)
{
        (void)state;
        enum { TASKS = 400, ROUNDS = 5 };
        static brood_result *results[TASKS];
        brood_result *gated[1];
        begin();
        brood_pool *pool = make_pool(1);
        for (int round = 0; round < ROUNDS; round++) {
                occupy(pool, gated);
                atomic_store(&order_page->count, 0);
                for (int i = 0; i < TASKS; i++) {
                        int level = (int)support_random(MOST + 1);
                        results[i] =
                            submit_task(pool, .function = note_task, .arg = &(int){ (MOST - level) * TASKS + i },
                                        .size = sizeof(int), .priority = level);
                }
                release(pool, gated);
                for (int i = 0; i < TASKS; i++) {
                        assert_int_equal(brood_result_wait(results[i], CHECK_HANG_MS), 0);
                        brood_result_free(results[i]);
                }
                assert_int_equal(atomic_load(&order_page->count), TASKS);
                for (int i = 1; i < TASKS; i++)
                        assert_true(order_page->numbers[i - 1] < order_page->numbers[i]);
        }
        end_pool(pool);
        finish();
}

/* Workers that sleep are woken for a task of any level, each for one, at whatever moment it comes. */
static void test_wakes(void **state)
{
        (void)state;
        enum { ROUNDS = 3000, WORKERS = 3 };
        tasks_begin();
        brood_pool *pool = make_pool(WORKERS);
        for (int i = 0; i < ROUNDS; i++) {
                check_value(submit_task(pool, .function = echo_task, .arg = &i, .size = sizeof i,
                                        .priority = (int)support_random(MOST + 1)),
                            i);
                if (i % 100 == 0)
                        usleep(2000); /* all asleep, or not: both are to be met */
        }
        /* Each of these needs a worker of its own at the same time. */
        for (int i = 0; i < ROUNDS / 10; i++) {
                brood_result *results[WORKERS];
                atomic_store(&tasks_page->gate, 0);
                atomic_store(&tasks_page->started, 0);
                for (int j = 0; j < WORKERS; j++)
                        results[j] = submit_task(pool, .function = gated_task, .arg = &j, .size = sizeof j,
                                                 .priority = (int)support_random(MOST + 1));
                assert_true(check_reaches(&tasks_page->started, WORKERS, CHECK_HANG_MS));
                atomic_store(&tasks_page->gate, 1);
                for (int j = 0; j < WORKERS; j++)
                        check_value(results[j], j);
        }
        end_pool(pool);
        tasks_finish();
}

/* A task that is tried again keeps its level. */
static void test_retries(void **state)
{
        (void)state;
        enum { OTHERS = 50 };
        brood_result *gated[1], *others[OTHERS];
        begin();
        brood_pool *pool = make_pool(1);
        occupy(pool, gated);
        for (int i = 0; i < OTHERS; i++)
                others[i] = submit_task(pool, .function = note_task, .arg = &i, .size = sizeof i, .priority = i % MOST);
        brood_result *result = submit_task(pool, .function = note_and_die_task, .arg = &(int){ 1000 },
                                           .size = sizeof(int), HIGH, .retries = 1);
        release(pool, gated);
        check_value(result, 1000);
        for (int i = 0; i < OTHERS; i++)
                check_value(others[i], i);
        assert_int_equal(order_page->numbers[0], 1000);
        assert_int_equal(order_page->numbers[1], 1000);
        end_pool(pool);
        finish();
}

/* From here on the process dies where it asks for its CPU time: between the claim of a task with terms and its beginning. */
static ssize_t die_at_the_next_claim_task(const void *arg, size_t size, void *out, size_t room)
{
        (void)arg, (void)size, (void)out, (void)room;
        struct sock_filter filter[] = {
                BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clock_gettime, 0, 3),
                BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])), /* little-endian */
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, CLOCK_PROCESS_CPUTIME_ID, 0, 1),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        };
        struct sock_fprog program = { sizeof filter / sizeof *filter, filter };
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
                return -errno;
        pid_t pid = getpid();
        memcpy(out, &pid, sizeof pid);
        return sizeof pid;
}

/* A worker is killed with a ticket in its hands: the next one takes that, before all that is less urgent; also in a closed pool. */
static void test_killed_with_a_claim(void **state)
{
        (void)state;
        begin();
        for (int i = 0; i < 2 * (MOST + 1); i++) {
                brood_result *gated[1], *victim, *other;
                brood_result_report report;
                pid_t pid = 0;
                int level = i / 2;
                brood_pool *pool = make_pool(1);
                atomic_store(&order_page->count, 0);
                occupy(pool, gated);
                brood_result *arm = submit_task(pool, .function = die_at_the_next_claim_task, .priority = level);
                victim = submit_task(pool, .function = note_task, .arg = &(int){ 1 }, .size = sizeof(int),
                                     .priority = level, .measured = true);
                other = submit_task(pool, .function = note_task, .arg = &(int){ 2 }, .size = sizeof(int),
                                    .priority = level > 0 ? level - 1 : 0);
                if (i % 2)
                        assert_int_equal(brood_pool_close(pool), 0);
                release(pool, gated);
                assert_int_equal(brood_result_get(arm, &pid, sizeof pid, CHECK_HANG_MS), sizeof pid);
                assert_int_equal(brood_result_wait(victim, CHECK_HANG_MS), 0);
                assert_int_equal(brood_result_get_report(victim, &report), 0);
                assert_int_equal(report.attempts, 1);
                assert_true(report.worker != pid);
                check_value(victim, 1);
                check_value(other, 2);
                assert_int_equal(order_page->numbers[0], 1);
                assert_int_equal(order_page->numbers[1], 2);
                brood_result_free(arm);
                end_pool(pool);
        }
        finish();
}

/* What is waiting when the pool is closed is done, whatever its level; also what is tried again then. */
static void test_close(void **state)
{
        (void)state;
        enum { TASKS = 60, WORKERS = 2 };
        brood_result *gated[WORKERS], *results[TASKS], *retried;
        begin();
        for (int round = 0; round < 30; round++) {
                brood_pool *pool = make_pool(WORKERS);
                atomic_store(&order_page->count, 0);
                atomic_store(&tasks_page->number, 0);
                occupy(pool, gated);
                for (int i = 0; i < TASKS; i++)
                        results[i] = submit_task(pool, .function = note_task, .arg = &i, .size = sizeof i,
                                                 .priority = round % 2 ? i % (MOST + 1) : MOST);
                retried = submit_task(pool, .function = note_and_die_task, .arg = &(int){ 1000 }, .size = sizeof(int),
                                      HIGH, .retries = 1);
                assert_int_equal(brood_pool_close(pool), 0);
                release(pool, gated);
                assert_int_equal(brood_pool_join(pool, CHECK_HANG_MS), 0);
                for (int i = 0; i < TASKS; i++)
                        check_value(results[i], i);
                check_value(retried, 1000);
                assert_int_equal(atomic_load(&order_page->count), TASKS + 2);
                brood_pool_free(pool);
        }
        finish();
}

/* One that is canceled while it waits is not begun; and a worker that is dismissed while it sleeps goes. */
static void test_cancel_and_resize(void **state)
{
        (void)state;
        brood_result *gated[3];
        begin();
        brood_pool *pool = make_pool(3);
        occupy(pool, gated);
        brood_result *result = submit_task(pool, .function = note_task, .arg = &(int){ 1 }, .size = sizeof(int), HIGH);
        assert_int_equal(brood_result_cancel(result, false), 0);
        check_failure(result, -ECANCELED, BROOD_OUTCOME_CANCELED, 0);
        release(pool, gated);
        check_value(submit_task(pool, .function = echo_task, .arg = &(int){ 2 }, .size = sizeof(int), HIGH), 2);
        assert_int_equal(atomic_load(&order_page->count), 0);
        for (int processes = 3; processes > 0; processes--) {
                assert_int_equal(brood_pool_resize(pool, processes), 0);
                await_workers(pool, NULL);
                check_value(
                    submit_task(pool, .function = echo_task, .arg = &(int){ 3 }, .size = sizeof(int), .priority = 1),
                    3);
        }
        end_pool(pool);
        finish();
}

/* As many as there can be, all of one level, again and again. */
static void test_all_of_them(void **state)
{
        (void)state;
        enum { TASKS = 500 };
        static brood_result *results[TASKS];
        brood_result *gated[1], *result = NULL;
        tasks_begin();
        brood_pool *pool = NULL;
        assert_int_equal(brood_pool_new(&pool, &(brood_pool_options){ .processes = 1, .max_tasks = TASKS + 1 }), 0);
        for (int round = 0; round < 4 * (MOST + 1); round++) {
                brood_task_options options = { .function = echo_task, .priority = round % (MOST + 1) };
                occupy(pool, gated);
                for (int i = 0; i < TASKS; i++)
                        results[i] = submit_terms(pool, &options);
                assert_int_equal(brood_pool_submit(pool, &result, &options), -ENOBUFS);
                release(pool, gated);
                for (int i = 0; i < TASKS; i++) {
                        assert_int_equal(brood_result_get(results[i], NULL, 0, CHECK_HANG_MS), 0);
                        brood_result_free(results[i]);
                }
        }
        for (int priority = -1; priority <= MOST + 1; priority += MOST + 2)
                assert_int_equal(
                    brood_pool_submit(pool, &result,
                                      &(brood_task_options){ .function = echo_task, .priority = priority }),
                    -EINVAL);
        assert_null(result);
        end_pool(pool);
        tasks_finish();
}

/* Workers are killed all the time: nothing is lost, and nothing is done twice that has ended. */
static void test_kills(void **state)
{
        (void)state;
        enum { TASKS = 4000, RETRIES = 100 };
        static brood_result *results[TASKS];
        brood_pool *pool = make_pool(3);
        for (int i = 0; i < TASKS; i++) {
                results[i] = submit_task(pool, .function = echo_task, .arg = &i, .size = sizeof i, .retries = RETRIES,
                                         .priority = (int)support_random(MOST + 1));
                pid_t pids[16];
                int n = i % 50 == 0 ? brood_pool_workers(pool, pids, 16) : 0;
                if (n > 0)
                        kill(pids[support_random((uint64_t)n)], SIGKILL);
        }
        for (int i = 0; i < TASKS; i++)
                check_value(results[i], i);
        assert_null(brood_pool_reason(pool));
        end_pool(pool);
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                support_test(test_order),       support_test(test_wakes),
                support_test(test_retries),     support_test(test_killed_with_a_claim),
                support_test(test_close),       support_test(test_cancel_and_resize),
                support_test(test_all_of_them), support_test(test_kills),
        };
        return support_main(argc, argv, "priority", tests, array_length(tests), 90);
}
