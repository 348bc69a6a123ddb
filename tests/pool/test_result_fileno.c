/* SPDX-License-Identifier: MIT
 *
 * tests/pool/test_result_fileno.c: the descriptors of results, in poll and epoll, when all is well and when workers and
 * keepers die.
 */
#include "tasks.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

enum { SHORT_MS = 30 };

static int readable(int fd, int timeout_ms)
{
        return poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, timeout_ms);
}

/* Poll as an event loop does: look each time that it is readable, until the result is there.  How often it was so for
 * nothing. */
static int poll_until_ready(brood_result *result, int fd)
{
        int vain = 0;
        for (;; vain++) {
                assert_int_equal(readable(fd, CHECK_HANG_MS), 1);
                int r = brood_result_ready(result);
                if (r == 1)
                        return vain;
                assert_int_equal(r, 0);
        }
}

static void check_for_good(brood_result *result, int fd)
{
        for (int i = 0; i < 3; i++) {
                assert_int_equal(readable(fd, 0), 1);
                assert_int_equal(brood_result_ready(result), 1);
        }
        assert_int_equal(brood_result_fileno(result), fd);
}

static void test_one_after_the_other(void **state)
{
        (void)state;
        enum { TASKS = 5 };
        brood_result *results[TASKS];
        int fds[TASKS];

        tasks_begin();
        brood_pool *pool = make_pool(1);
        assert_int_equal(brood_result_fileno(NULL), -EINVAL);
        for (int round = 0; round < 10; round++) {
                brood_result *blocked = submit_int(pool, gated_task, 9);
                for (int i = 0; i < TASKS; i++) {
                        results[i] = submit_int(pool, echo_task, i);
                        fds[i] = brood_result_fileno(results[i]);
                        assert_true(fds[i] >= 0);
                        assert_true(fcntl(fds[i], F_GETFD) & FD_CLOEXEC);
                        assert_int_equal(brood_result_fileno(results[i]), fds[i]);
                        for (int j = 0; j < i; j++)
                                assert_true(fds[j] != fds[i]);
                        assert_int_equal(readable(fds[i], 0), 0);
                }
                assert_int_equal(readable(fds[0], round == 0 ? SHORT_MS : 0), 0);
                atomic_store(&tasks_page->gate, 1);
                for (int i = 0; i < TASKS; i++) {
                        poll_until_ready(results[i], fds[i]);
                        int value = -1;
                        assert_int_equal(brood_result_get(results[i], &value, sizeof value, 0), sizeof value);
                        assert_int_equal(value, i);
                        check_for_good(results[i], fds[i]);
                }
                for (int i = 0; i < TASKS; i++) {
                        check_for_good(results[i], fds[i]);
                        brood_result_free(results[i]);
                }
                brood_result_free(blocked);
                atomic_store(&tasks_page->gate, 0);
        }
        end_pool(pool);
        tasks_finish();
}

/* A look makes it quiet, and none is lost for that. */
static void test_another_task_ends(void **state)
{
        (void)state;
        tasks_begin();
        brood_pool *pool = make_pool(2);
        brood_result *waits = submit_int(pool, gated_task, 1);
        int fd = brood_result_fileno(waits);

        for (int round = 0; round < 200; round++) {
                brood_result *other = submit_int(pool, echo_task, 2);
                int other_fd = brood_result_fileno(other);
                poll_until_ready(other, other_fd);
                check_for_good(other, other_fd);
                /* The bell may have been rung a moment after the result was there. */
                while (brood_result_ready(waits) == 0 && readable(fd, 0) == 1)
                        ;
                assert_int_equal(readable(fd, 0), 0);
                brood_result_free(other);
        }
        atomic_store(&tasks_page->gate, 1);
        poll_until_ready(waits, fd);
        check_for_good(waits, fd);
        brood_result_free(waits);
        end_pool(pool);
        tasks_finish();
}

/* Asked for when it is there already; of a pool that is gone; beside one that nobody has asked for. */
static void test_asked_late(void **state)
{
        (void)state;
        brood_pool *pool = make_pool(1);
        brood_result *results[3];
        for (int i = 0; i < 3; i++)
                results[i] = submit_int(pool, echo_task, i);
        assert_int_equal(brood_result_wait(results[1], CHECK_HANG_MS), 0);
        check_for_good(results[1], brood_result_fileno(results[1]));
        end_pool(pool);
        check_for_good(results[0], brood_result_fileno(results[0]));
        for (int i = 0; i < 3; i++)
                brood_result_free(results[i]);
}

static void test_hundreds(void **state)
{
        (void)state;
        enum { TASKS = 300 };
        static brood_result *results[TASKS];
        int epoll = epoll_create1(EPOLL_CLOEXEC), left = TASKS, wakes = 0;

        tasks_begin();
        brood_pool *pool = make_pool(2);
        for (int i = 0; i < TASKS; i++) {
                results[i] = submit_int(pool, gated_task, i);
                struct epoll_event event = { .events = EPOLLIN, .data.u32 = (uint32_t)i };
                assert_int_equal(epoll_ctl(epoll, EPOLL_CTL_ADD, brood_result_fileno(results[i]), &event), 0);
        }
        atomic_store(&tasks_page->gate, 1);
        for (; left > 0; wakes++) {
                struct epoll_event events[16];
                int n = epoll_wait(epoll, events, 16, CHECK_HANG_MS);
                assert_true(n > 0);
                for (int i = 0; i < n; i++) {
                        brood_result *result = results[events[i].data.u32];
                        if (brood_result_ready(result) == 0)
                                continue;
                        assert_int_equal(epoll_ctl(epoll, EPOLL_CTL_DEL, brood_result_fileno(result), NULL), 0);
                        brood_result_free(result);
                        left--;
                }
        }
        print_message("%d results with %d calls of epoll_wait\n", TASKS, wakes);
        end_pool(pool);
        tasks_finish();
        close(epoll);
}

static int ask_in_a_child(void *result)
{
        require_int(brood_result_fileno(result), -EPERM);
        brood_result_free(result);
        return 0;
}

static void test_no_descriptors(void **state)
{
        (void)state;
        tasks_begin();
        brood_pool *pool = make_pool(1);
        brood_result *result = submit_int(pool, gated_task, 1);
        struct rlimit before = check_descriptors_exhaust();
        assert_int_equal(brood_result_fileno(result), -EMFILE);
        check_descriptors_restore(&before);
        int fd = brood_result_fileno(result);
        assert_int_equal(readable(fd, 0), 0);
        check_in_child(ask_in_a_child, result);
        assert_int_equal(readable(fd, 0), 0);
        atomic_store(&tasks_page->gate, 1);
        poll_until_ready(result, fd);
        brood_result_free(result);
        end_pool(pool);
        tasks_finish();
}

/* ---- deaths ---- */

static void test_a_worker_is_killed(void **state)
{
        (void)state;
        tasks_begin();
        brood_pool *pool = make_pool(2);
        for (int round = 0; round < 20; round++) {
                brood_result *dying = submit_int(pool, gated_task, 1), *queued = submit_int(pool, gated_task, 2);
                brood_result *third = submit_int(pool, echo_task, 3);
                int fd = brood_result_fileno(dying), third_fd = brood_result_fileno(third);
                pid_t pids[16], pid;
                int code = 0;
                assert_true(check_reaches(&tasks_page->started, 2, CHECK_HANG_MS));
                await_workers(pool, pids);
                kill(pids[0], SIGKILL);
                kill(pids[1], SIGKILL);
                poll_until_ready(dying, fd);
                assert_int_equal(brood_result_get(dying, NULL, 0, 0), -EOWNERDEAD);
                assert_int_equal(brood_result_worker(dying, &pid, &code), 0);
                assert_int_equal(code, -SIGKILL);
                poll_until_ready(third, third_fd);
                assert_int_equal(brood_result_wait(queued, CHECK_HANG_MS), 0);
                brood_result_free(dying);
                brood_result_free(queued);
                brood_result_free(third);
                atomic_store(&tasks_page->started, 0);
        }
        end_pool(pool);
        tasks_finish();
}

/* From here on the process dies where it would ring the bell: at a write of eight bytes. */
static ssize_t die_at_the_bell_task(const void *arg, size_t size, void *out, size_t room)
{
        (void)arg, (void)size, (void)out, (void)room;
        struct sock_filter filter[] = {
                BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_write, 0, 3),
                BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, sizeof(uint64_t), 0, 1),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        };
        struct sock_fprog program = { sizeof filter / sizeof *filter, filter };
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
                return -errno;
        while (atomic_load(&tasks_page->gate) == 0)
                usleep(100);
        return 0;
}

/* Killed after the task has ended, and before its end was told. */
static void test_killed_before_the_bell(void **state)
{
        (void)state;
        tasks_begin();
        brood_pool *pool = make_pool(1);
        pid_t pids[16];
        await_workers(pool, pids);
        brood_result *result = submit(pool, die_at_the_bell_task, NULL, 0);
        int fd = brood_result_fileno(result);
        assert_int_equal(readable(fd, 0), 0);
        atomic_store(&tasks_page->gate, 1);
        assert_int_equal(readable(fd, CHECK_HANG_MS), 1);
        assert_true(support_process_gone(pids[0], CHECK_HANG_MS));
        poll_until_ready(result, fd);
        assert_int_equal(brood_result_outcome(result), BROOD_OUTCOME_OK);
        check_for_good(result, fd);
        brood_result_free(result);
        end_pool(pool);
        tasks_finish();
}

static void test_a_keeper_is_killed(void **state)
{
        (void)state;
        for (int round = 0; round < 5; round++) {
                tasks_begin();
                brood_pool *pool = make_pool(1);
                brood_result *done = submit_int(pool, echo_task, 1), *running = submit_int(pool, gated_task, 2);
                brood_result *queued = submit_int(pool, echo_task, 3);
                int fds[] = { brood_result_fileno(done), brood_result_fileno(running), brood_result_fileno(queued) };
                pid_t pids[16];
                assert_true(check_reaches(&tasks_page->started, 1, CHECK_HANG_MS));
                await_workers(pool, pids);
                kill(support_parent_of(pids[0]), SIGKILL);
                poll_until_ready(queued, fds[2]);
                poll_until_ready(running, fds[1]);
                poll_until_ready(done, fds[0]);
                assert_int_equal(brood_result_outcome(done), BROOD_OUTCOME_OK);
                assert_int_equal(brood_result_outcome(running), BROOD_OUTCOME_BROKEN);
                assert_int_equal(brood_result_outcome(queued), BROOD_OUTCOME_BROKEN);
                brood_pool_free(pool);
                check_for_good(running, fds[1]);
                brood_result_free(queued);
                brood_result_free(running);
                brood_result_free(done);
                tasks_finish();
        }
}

/* Terminated, and freed, with results that wait: nobody looks before the descriptor says so. */
static void test_terminated(void **state)
{
        (void)state;
        for (int freed = 0; freed < 2; freed++) {
                tasks_begin();
                brood_pool *pool = make_pool(1);
                brood_result *result = submit_int(pool, gated_task, 2);
                int fd = brood_result_fileno(result);
                assert_int_equal(readable(fd, 0), 0);
                if (freed)
                        brood_pool_free(pool);
                else
                        assert_int_equal(brood_pool_terminate(pool), 0);
                assert_int_equal(readable(fd, CHECK_HANG_MS), 1);
                check_for_good(result, fd);
                assert_int_equal(brood_result_outcome(result), BROOD_OUTCOME_CANCELED);
                if (!freed)
                        brood_pool_free(pool);
                brood_result_free(result);
                tasks_finish();
        }
}

int main(int argc, char **argv)
{
        static const struct CMUnitTest tests[] = {
                support_test(test_one_after_the_other),
                support_test(test_another_task_ends),
                support_test(test_asked_late),
                support_test(test_hundreds),
                support_test(test_no_descriptors),
                support_test(test_a_worker_is_killed),
                support_test(test_killed_before_the_bell),
                support_test(test_a_keeper_is_killed),
                support_test(test_terminated),
        };
        return support_main(argc, argv, "result fileno", tests, array_length(tests), 100);
}
