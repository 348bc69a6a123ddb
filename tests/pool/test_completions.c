/* SPDX-License-Identifier: MIT
 *
 * tests/pool/test_completions.c: what include/brood/completions.h says, sentence by sentence; brood_pool_submit() and its options.
 */
#include "tasks.h"

#include <brood/completions.h>

#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

enum { SHORT_MS = 30 };

/* Submit into completions, with nobody else to have the result. */
static void submit_into(brood_pool *pool, brood_completions *completions, brood_task_function function, intptr_t value)
{
        int number = (int)value;
        assert_int_equal(brood_pool_submit(pool, NULL,
                                           &(brood_task_options){
                                               .function = function,
                                               .arg = &number,
                                               .size = sizeof number,
                                               .callback_arg = (void *)value,
                                               .completions = completions,
                                           }),
                         0);
}

static brood_result *take(brood_completions *completions)
{
        brood_result *result = NULL;
        assert_int_equal(brood_completions_next(completions, &result, CHECK_HANG_MS), 0);
        assert_non_null(result);
        return result;
}

static void assert_none(brood_completions *completions)
{
        brood_result *untouched = (brood_result *)&completions, *result = untouched;
        assert_int_equal(brood_completions_count(completions), 0);
        assert_int_equal(brood_completions_next(completions, &result, BROOD_FOREVER), -ENODATA);
        assert_int_equal(brood_completions_next(completions, &result, 0), -ENODATA);
        assert_ptr_equal(result, untouched);
}

/* The result that is taken next is that of the echo of its callback_arg; it is freed. */
static int take_echo(brood_completions *completions)
{
        brood_result *result = take(completions);
        int value = -1;
        assert_int_equal(brood_result_ready(result), 1);
        assert_int_equal(brood_result_get(result, &value, sizeof value, 0), sizeof value);
        assert_int_equal((intptr_t)brood_result_callback_arg(result), value);
        brood_result_free(result);
        return value;
}

static void test_each_comes_out_once(void **state)
{
        (void)state;
        enum { TASKS = 5000 };
        static unsigned char seen[TASKS];
        brood_pool *pool = make_pool(3);
        brood_completions *completions = make_completions(pool);
        assert_none(completions);
        for (int round = 0; round < 2; round++) {
                memset(seen, 0, sizeof seen);
                for (int i = 0; i < TASKS; i++)
                        submit_into(pool, completions, echo_task, i);
                assert_int_equal(brood_completions_count(completions), TASKS);
                for (int i = 0; i < TASKS; i++)
                        seen[take_echo(completions)]++;
                for (int i = 0; i < TASKS; i++)
                        assert_int_equal(seen[i], 1);
                assert_none(completions);
        }
        brood_completions_free(completions);
        end_pool(pool);
}

/* One worker ends its tasks in the order in which they came. */
static void test_in_the_order_of_their_ends(void **state)
{
        (void)state;
        enum { TASKS = 200 };
        brood_pool *pool = make_pool(1);
        brood_completions *completions = make_completions(pool);
        for (int i = 0; i < TASKS; i++)
                submit_into(pool, completions, echo_task, i);
        for (int i = 0; i < TASKS; i++)
                assert_int_equal(take_echo(completions), i);
        brood_completions_free(completions);
        end_pool(pool);
}

static void test_no_more_than_there_are_tasks_is_held(void **state)
{
        (void)state;
        enum { MOST = 4, ROUNDS = 300 };
        brood_pool *pool;
        assert_int_equal(brood_pool_new(&pool, &(brood_pool_options){ .processes = 2, .max_tasks = MOST }), 0);
        brood_completions *completions = make_completions(pool);
        for (int i = 0; i < ROUNDS; i++) {
                for (int j = 0; j < MOST; j++) {
                        int r, number = j;
                        brood_task_options options = { .function = echo_task,
                                                       .arg = &number,
                                                       .size = sizeof number,
                                                       .callback_arg = (void *)(intptr_t)j,
                                                       .completions = completions };
                        int64_t end = support_now_ms() + CHECK_HANG_MS;
                        while ((r = brood_pool_submit(pool, NULL, &options)) == -ENOBUFS)
                                assert_true(support_now_ms() < end);
                        assert_int_equal(r, 0);
                }
                int number = 0;
                assert_int_equal(brood_pool_submit(pool, NULL,
                                                   &(brood_task_options){
                                                       .function = echo_task,
                                                       .arg = &number,
                                                       .size = sizeof number,
                                                       .completions = completions,
                                                   }),
                                 -ENOBUFS);
                for (int j = 0; j < MOST; j++)
                        take_echo(completions);
                /* Freed before they come out: their tasks are given out again a moment after they have ended. */
                for (int j = 0; j < 2 * MOST; j++) {
                        brood_result *result = NULL;
                        int r;
                        int64_t end = support_now_ms() + CHECK_HANG_MS;
                        while ((r = brood_pool_apply_async(pool, &result, echo_task, &j, sizeof j)) == -ENOBUFS)
                                assert_true(support_now_ms() < end);
                        assert_int_equal(r, 0);
                        assert_int_equal(brood_completions_add(completions, result), 0);
                        assert_int_equal(brood_result_wait(result, CHECK_HANG_MS), 0);
                        brood_result_free(result);
                }
        }
        assert_none(completions);
        brood_completions_free(completions);
        end_pool(pool);
}

static void test_added_later(void **state)
{
        (void)state;
        tasks_begin();
        brood_pool *pool = make_pool(1), *other = make_pool(1);
        brood_completions *completions = make_completions(pool), *second = make_completions(pool);
        brood_result *done = submit_int(pool, echo_task, 1), *stranger = submit_int(other, echo_task, 2);
        assert_int_equal(brood_result_wait(done, CHECK_HANG_MS), 0);
        brood_result *running = submit_int(pool, gated_task, 3), *queued = submit_int(pool, echo_task, 4);

        assert_int_equal(brood_completions_add(completions, running), 0);
        assert_int_equal(brood_completions_add(completions, done), 0);
        assert_int_equal(brood_completions_add(completions, queued), 0);
        assert_int_equal(brood_completions_add(completions, running), -EBUSY);
        assert_int_equal(brood_completions_add(second, done), -EBUSY);
        assert_int_equal(brood_completions_add(completions, stranger), -EINVAL);
        assert_int_equal(brood_completions_count(completions), 3);
        assert_ptr_equal(take(completions), done);
        /* What was taken may be put in again. */
        assert_int_equal(brood_completions_add(second, done), 0);
        assert_ptr_equal(take(second), done);
        assert_none(second);

        brood_result *result = NULL;
        assert_int_equal(brood_completions_next(completions, &result, 0), -EAGAIN);
        int64_t start = support_now_ms();
        assert_int_equal(brood_completions_next(completions, &result, SHORT_MS), -ETIMEDOUT);
        assert_true(support_now_ms() - start >= SHORT_MS);
        assert_null(result);
        /* One that is freed does not come out. */
        brood_result_free(queued);
        atomic_store(&tasks_page->gate, 1);
        assert_ptr_equal(take(completions), running);
        assert_none(completions);
        brood_result_free(running);
        brood_result_free(done);
        brood_result_free(stranger);
        brood_completions_free(completions);
        brood_completions_free(second);
        end_pool(pool);
        end_pool(other);
        tasks_finish();
}

/* Who takes from one brings in what belongs to the other. */
static void test_two_of_one_pool(void **state)
{
        (void)state;
        enum { TASKS = 500 };
        brood_pool *pool = make_pool(2);
        brood_completions *first = make_completions(pool), *second = make_completions(pool);
        for (int i = 0; i < TASKS; i++) {
                submit_into(pool, first, echo_task, i);
                submit_into(pool, second, echo_task, i);
        }
        for (int i = 0; i < TASKS; i++)
                take_echo(first);
        assert_none(first);
        for (int i = 0; i < TASKS; i++)
                take_echo(second);
        assert_none(second);
        brood_completions_free(first);
        brood_completions_free(second);
        end_pool(pool);
}

struct takers {
        brood_completions *completions;
        atomic_int taken;
};

static void *take_all(void *arg)
{
        struct takers *takers = arg;
        brood_result *result;
        int r;
        while ((r = brood_completions_next(takers->completions, &result, CHECK_HANG_MS)) == 0) {
                atomic_fetch_add(&takers->taken, 1);
                brood_result_free(result);
        }
        return (void *)(intptr_t)r;
}

static void test_several_threads(void **state)
{
        (void)state;
        enum { THREADS = 4, TASKS = 4000 };
        pthread_t threads[THREADS];
        tasks_begin();
        brood_pool *pool = make_pool(2);
        struct takers takers = { .completions = make_completions(pool) };
        submit_into(pool, takers.completions, gated_task, 0);
        submit_into(pool, takers.completions, gated_task, 0);
        for (int i = 0; i < THREADS; i++)
                assert_int_equal(pthread_create(&threads[i], NULL, take_all, &takers), 0);
        for (int i = 2; i < TASKS; i++)
                submit_into(pool, takers.completions, echo_task, i);
        atomic_store(&tasks_page->gate, 1);
        for (int i = 0; i < THREADS; i++) {
                void *r;
                pthread_join(threads[i], &r);
                assert_int_equal((intptr_t)r, -ENODATA);
        }
        assert_int_equal(takers.taken, TASKS);
        brood_completions_free(takers.completions);
        end_pool(pool);
        tasks_finish();
}

/* ---- the descriptor ---- */

static int readable(int fd, int timeout_ms)
{
        return poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, timeout_ms);
}

/* Take as an event loop does; how many results came. */
static int drain(brood_completions *completions)
{
        brood_result *result;
        int count = 0, r;
        for (; (r = brood_completions_next(completions, &result, 0)) == 0; count++)
                brood_result_free(result);
        assert_true(r == -EAGAIN || r == -ENODATA);
        return count;
}

static void test_descriptor(void **state)
{
        (void)state;
        enum { ROUNDS = 300 };
        tasks_begin();
        brood_pool *pool = make_pool(2);
        brood_completions *completions = make_completions(pool), *other = make_completions(pool);
        int fd = brood_completions_fileno(completions), other_fd = brood_completions_fileno(other);
        assert_true(fd >= 0 && other_fd >= 0 && fd != other_fd);
        assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
        assert_int_equal(brood_completions_fileno(completions), fd);
        assert_int_equal(drain(completions), 0);
        assert_int_equal(readable(fd, 0), 0);

        submit_into(pool, completions, gated_task, 0);
        assert_int_equal(readable(fd, SHORT_MS), 0);
        atomic_store(&tasks_page->gate, 1);
        for (int left = 1; left > 0; left -= drain(completions))
                assert_int_equal(readable(fd, CHECK_HANG_MS), 1);

        for (int i = 0; i < ROUNDS; i++) {
                submit_into(pool, completions, echo_task, i);
                submit_into(pool, other, echo_task, i);
                for (int left = 1; left > 0; left -= drain(completions))
                        assert_int_equal(readable(fd, CHECK_HANG_MS), 1);
                /* The first may have brought in what belongs to the second. */
                for (int left = 1; left > 0; left -= drain(other))
                        assert_int_equal(readable(other_fd, CHECK_HANG_MS), 1);
        }
        /* Quiet after the pool's end, too. */
        end_pool(pool);
        for (int i = 0; i < 3; i++)
                drain(completions);
        assert_int_equal(readable(fd, 0), 0);
        brood_completions_free(completions);
        brood_completions_free(other);
        tasks_finish();
}

/* Asked for when results are there already. */
static void test_descriptor_asked_late(void **state)
{
        (void)state;
        for (int taken = 0; taken < 2; taken++) {
                brood_pool *pool = make_pool(1);
                brood_completions *completions = make_completions(pool);
                brood_result *last = submit_int(pool, echo_task, 1);
                submit_into(pool, completions, echo_task, 2);
                brood_result *behind = submit_int(pool, echo_task, 3);
                assert_int_equal(brood_result_wait(behind, CHECK_HANG_MS), 0);
                assert_int_equal(brood_completions_add(completions, last), 0); /* is taken in at once */
                int fd = brood_completions_fileno(completions);
                for (int left = 2; left > 0; left -= drain(completions))
                        assert_int_equal(readable(fd, CHECK_HANG_MS), 1);
                assert_int_equal(readable(fd, 0), 0);
                brood_result_free(behind);
                brood_completions_free(completions);
                end_pool(pool);
        }
}

static void test_no_descriptors(void **state)
{
        (void)state;
        brood_pool *pool = make_pool(1);
        brood_completions *completions = make_completions(pool);
        struct rlimit before = check_descriptors_exhaust();
        assert_int_equal(brood_completions_fileno(completions), -EMFILE);
        check_descriptors_restore(&before);
        assert_true(brood_completions_fileno(completions) >= 0);
        brood_completions_free(completions);
        end_pool(pool);
}

/* ---- deaths ---- */

static void test_workers_are_killed(void **state)
{
        (void)state;
        enum { TASKS = 150 };
        tasks_begin();
        brood_pool *pool = make_pool(2);
        brood_completions *completions = make_completions(pool);
        for (int fd = -1, round = 0; round < 2; round++) {
                int deaths = 0;
                for (int i = 0; i < TASKS; i++)
                        submit_into(pool, completions, i % 2 ? die_task : echo_task, i % 2 ? SIGKILL : i);
                for (int i = 0; i < TASKS; i++) {
                        brood_result *result = NULL;
                        int r;
                        while ((r = brood_completions_next(completions, &result, fd < 0 ? CHECK_HANG_MS : 0)) ==
                               -EAGAIN)
                                assert_int_equal(readable(fd, CHECK_HANG_MS), 1);
                        assert_int_equal(r, 0);
                        int outcome = brood_result_outcome(result);
                        assert_true(outcome == BROOD_OUTCOME_OK || outcome == BROOD_OUTCOME_SIGNALED);
                        deaths += outcome == BROOD_OUTCOME_SIGNALED;
                        brood_result_free(result);
                }
                assert_int_equal(deaths, TASKS / 2);
                assert_none(completions);
                fd = brood_completions_fileno(completions);
        }
        brood_completions_free(completions);
        end_pool(pool);
        tasks_finish();
}

/* From here on the process dies where it would wake who waits for the task: after that has ended, and before it is announced. */
static ssize_t die_before_the_announcement_task(const void *arg, size_t size, void *out, size_t room)
{
        (void)arg, (void)size, (void)out, (void)room;
        struct sock_filter filter[] = {
                BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_futex, 0, 4),
                BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
                BPF_STMT(BPF_ALU | BPF_AND | BPF_K, (uint32_t)FUTEX_CMD_MASK),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, FUTEX_WAKE, 0, 1),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        };
        struct sock_fprog program = { sizeof filter / sizeof *filter, filter };
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
                return -errno;
        atomic_fetch_add(&tasks_page->started, 1);
        while (atomic_load(&tasks_page->gate) == 0)
                usleep(100);
        return 0;
}

/* `more` other deaths are noted before the host looks, so that in the end it cannot tell from the notes. */
static void test_killed_before_the_announcement(void **state)
{
        (void)state;
        for (int more = 0; more <= 100; more += 100) {
                tasks_begin();
                brood_pool *pool = make_pool(1);
                brood_completions *completions = make_completions(pool);
                brood_result *result = submit(pool, die_before_the_announcement_task, NULL, 0);
                assert_int_equal(brood_completions_add(completions, result), 0);
                assert_true(check_reaches(&tasks_page->started, 1, CHECK_HANG_MS));
                assert_int_equal(brood_result_wait(result, SHORT_MS),
                                 -ETIMEDOUT); /* so that there is somebody to wake */
                pid_t pids[16];
                await_workers(pool, pids);
                atomic_store(&tasks_page->gate, 1);
                assert_true(support_process_gone(pids[0], CHECK_HANG_MS));
                for (int i = 0; i < more; i++)
                        brood_pool_apply(pool, die_task, &(int){ SIGKILL }, sizeof(int), NULL, 0, CHECK_HANG_MS);
                assert_ptr_equal(take(completions), result);
                assert_int_equal(brood_result_outcome(result), BROOD_OUTCOME_OK);
                brood_result_free(result);
                assert_none(completions);
                submit_into(pool, completions, echo_task, 7);
                assert_int_equal(take_echo(completions), 7);
                brood_completions_free(completions);
                end_pool(pool);
                tasks_finish();
        }
}

/* At the pool's end all come out: terminated, broken, freed. */
static void test_the_end_of_the_pool(void **state)
{
        (void)state;
        for (int how = 0; how < 6; how++) {
                tasks_begin();
                brood_pool *pool = make_pool(1);
                brood_completions *completions = make_completions(pool);
                int fd = how >= 3 ? brood_completions_fileno(completions) : -1, canceled = 0, broken = 0, ok = 0;
                submit_into(pool, completions, echo_task, 1);
                submit_into(pool, completions, gated_task, 2);
                submit_into(pool, completions, echo_task, 3);
                assert_true(check_reaches(&tasks_page->started, 1, CHECK_HANG_MS));
                pid_t pids[16];
                await_workers(pool, pids);
                if (how % 3 == 0)
                        assert_int_equal(brood_pool_terminate(pool), 0);
                else if (how % 3 == 1)
                        kill(support_parent_of(pids[0]), SIGKILL);
                else
                        brood_pool_free(pool);
                for (int i = 0; i < 3;) {
                        brood_result *result = NULL;
                        if (fd >= 0)
                                assert_int_equal(readable(fd, CHECK_HANG_MS), 1);
                        int r = brood_completions_next(completions, &result, fd >= 0 ? 0 : CHECK_HANG_MS);
                        if (fd >= 0 && r == -EAGAIN)
                                continue;
                        assert_int_equal(r, 0);
                        int outcome = brood_result_outcome(result);
                        canceled += outcome == BROOD_OUTCOME_CANCELED;
                        broken += outcome == BROOD_OUTCOME_BROKEN;
                        ok += outcome == BROOD_OUTCOME_OK;
                        brood_result_free(result);
                        i++;
                }
                assert_int_equal(ok, 1);
                assert_int_equal(how % 3 == 1 ? broken : canceled, 2);
                assert_none(completions);
                if (how % 3 != 2)
                        brood_pool_free(pool);
                brood_completions_free(completions);
                tasks_finish();
        }
}

/* Asleep when it happens. */
static void test_asleep_at_the_end(void **state)
{
        (void)state;
        for (int killed = 0; killed < 2; killed++) {
                enum { THREADS = 3 };
                pthread_t threads[THREADS];
                tasks_begin();
                brood_pool *pool = make_pool(1);
                struct takers takers = { .completions = make_completions(pool) };
                submit_into(pool, takers.completions, gated_task, 1);
                assert_true(check_reaches(&tasks_page->started, 1, CHECK_HANG_MS));
                for (int i = 0; i < THREADS; i++)
                        assert_int_equal(pthread_create(&threads[i], NULL, take_all, &takers), 0);
                usleep(20000); /* some sleep by now; it must hold if none does, too */
                pid_t pids[16];
                await_workers(pool, pids);
                if (killed)
                        kill(support_parent_of(pids[0]), SIGKILL);
                else
                        brood_pool_terminate(pool);
                for (int i = 0; i < THREADS; i++) {
                        void *r;
                        pthread_join(threads[i], &r);
                        assert_int_equal((intptr_t)r, -ENODATA);
                }
                assert_int_equal(takers.taken, 1);
                brood_completions_free(takers.completions);
                brood_pool_free(pool);
                tasks_finish();
        }
}

/* ---- freeing and refusing ---- */

static void test_freed_with_results_in_them(void **state)
{
        (void)state;
        for (int first = 0; first < 2; first++) {
                tasks_begin();
                brood_pool *pool = make_pool(1);
                brood_completions *completions = make_completions(pool);
                brood_result *mine = submit_int(pool, echo_task, 5);
                assert_int_equal(brood_completions_add(completions, mine), 0);
                assert_int_equal(brood_result_wait(mine, CHECK_HANG_MS), 0);
                for (int i = 0; i < 10; i++)
                        submit_into(pool, completions, i == 3 ? gated_task : echo_task, i);
                if (first)
                        brood_pool_free(pool);
                brood_completions_free(completions);
                int value = -1;
                assert_int_equal(brood_result_get(mine, &value, sizeof value, CHECK_HANG_MS), sizeof value);
                assert_int_equal(value, 5);
                brood_result_free(mine);
                atomic_store(&tasks_page->gate, 1);
                if (!first)
                        end_pool(pool);
                tasks_finish();
        }
}

static int use_in_a_child(void *arg)
{
        brood_result *result = NULL;
        require_int(brood_completions_next(arg, &result, 0), -EPERM);
        require_int(brood_completions_count(arg), -EPERM);
        require_int(brood_completions_fileno(arg), -EPERM);
        brood_completions_free(arg);
        return 0;
}

static void test_refuses(void **state)
{
        (void)state;
        char buf[8];
        brood_pool *pool = make_pool(1), *other = make_pool(1);
        brood_completions *untouched = (brood_completions *)&buf, *completions = untouched;
        brood_result *none = (brood_result *)&buf, *result = none;
        assert_int_equal(brood_completions_new(NULL, pool), -EINVAL);
        assert_int_equal(brood_completions_new(&completions, NULL), -EINVAL);
        assert_ptr_equal(completions, untouched);
        assert_int_equal(brood_completions_add(NULL, NULL), -EINVAL);
        assert_int_equal(brood_completions_next(NULL, &result, 0), -EINVAL);
        assert_int_equal(brood_completions_count(NULL), -EINVAL);
        assert_int_equal(brood_completions_fileno(NULL), -EINVAL);
        brood_completions_free(NULL);
        completions = make_completions(pool);
        assert_int_equal(brood_completions_add(completions, NULL), -EINVAL);
        assert_int_equal(brood_completions_next(completions, NULL, 0), -EINVAL);
        check_in_child(use_in_a_child, completions);

        const brood_task_options good = { .function = echo_task, .arg = "x", .size = 1 };
        brood_task_options options = good;
        assert_int_equal(brood_pool_submit(NULL, &result, &good), -EINVAL);
        assert_int_equal(brood_pool_submit(pool, &result, NULL), -EINVAL);
        options.function = NULL;
        assert_int_equal(brood_pool_submit(pool, &result, &options), -EINVAL);
        options = good;
        options.arg = NULL;
        assert_int_equal(brood_pool_submit(pool, &result, &options), -EINVAL);
        options = good;
        options.room = BROOD_POOL_RESULT_SIZE_LIMIT + 1;
        assert_int_equal(brood_pool_submit(pool, &result, &options), -EINVAL);
        options = good;
        options.completions = completions;
        assert_int_equal(brood_pool_submit(other, &result, &options), -EINVAL);
        struct {
                brood_task_options known;
                size_t unknown;
        } newer = { .known = good, .unknown = 1 };
        assert_int_equal(brood_pool_submit_sized(pool, &result, &newer.known, sizeof newer), -E2BIG);
        assert_ptr_equal(result, none);
        assert_null(brood_result_callback_arg(NULL));

        /* Room of its own: less and more than the pool's. */
        options = good;
        options.arg = buf;
        options.size = sizeof buf;
        options.room = sizeof buf - 1;
        assert_int_equal(brood_pool_submit(pool, &result, &options), 0);
        assert_int_equal(brood_result_get(result, buf, sizeof buf, CHECK_HANG_MS), -EMSGSIZE);
        assert_null(brood_result_callback_arg(result));
        brood_result_free(result);
        options.room = sizeof buf;
        assert_int_equal(brood_pool_submit(pool, &result, &options), 0);
        assert_int_equal(brood_result_get(result, buf, sizeof buf, CHECK_HANG_MS), sizeof buf);
        brood_result_free(result);
        assert_int_equal(brood_pool_submit(pool, NULL, &options), 0);
        brood_completions_free(completions);
        end_pool(pool);
        end_pool(other);
}

int main(int argc, char **argv)
{
        static const struct CMUnitTest tests[] = {
                support_test(test_each_comes_out_once),
                support_test(test_in_the_order_of_their_ends),
                support_test(test_no_more_than_there_are_tasks_is_held),
                support_test(test_added_later),
                support_test(test_two_of_one_pool),
                support_test(test_several_threads),
                support_test(test_descriptor),
                support_test(test_descriptor_asked_late),
                support_test(test_no_descriptors),
                support_test(test_workers_are_killed),
                support_test(test_killed_before_the_announcement),
                support_test(test_the_end_of_the_pool),
                support_test(test_asleep_at_the_end),
                support_test(test_freed_with_results_in_them),
                support_test(test_refuses),
        };
        return tasks_main(argc, argv, "completions", tests, array_length(tests), 100);
}
