/* SPDX-License-Identifier: MIT
 *
 * tests/wait/test_wait_many.c: waiting for many things at once, and for some whose owners are killed meanwhile.
 */
#include "tasks.h"

#include <brood/wait.h>

#include <limits.h>
#include <sys/time.h>

enum { SHORT_MS = 30 };

static brood_queue *make_queue(size_t maxsize)
{
        brood_queue *q = NULL;
        assert_int_equal(brood_queue_new(&q, &(brood_queue_options){ .maxsize = maxsize, .message_size = 8 }), 0);
        return q;
}

static brood_event *make_event(void)
{
        brood_event *event = NULL;
        assert_int_equal(brood_event_new(&event), 0);
        return event;
}

static int put_int(brood_queue *q, int value)
{
        return brood_queue_put_nowait(q, &value, sizeof value);
}

/* The next message, or a negative errno. */
static int get_int(brood_queue *q)
{
        int value = 0;
        ssize_t n = brood_queue_get_nowait(q, &value, sizeof value);
        return n < 0 ? (int)n : value;
}

/* A process that lives until the pipe ends. */
static int live(void *arg)
{
        const int *ends = arg;
        char byte;
        close(ends[1]);
        while (read(ends[0], &byte, 1) > 0)
                ;
        return 7;
}

static brood_process *start(int (*target)(void *arg), void *arg)
{
        brood_process *p = NULL;
        assert_int_equal(brood_process_new(&p, &(brood_process_options){ .target = target, .arg = arg }), 0);
        assert_int_equal(brood_process_start(p), 0);
        return p;
}

/* Of these entries, exactly those in the mask are ready, in this call and in the next. */
static void check_ready(brood_waitable *what, size_t count, unsigned mask, int timeout_ms)
{
        for (int again = 0; again < 2; again++) {
                int r = brood_wait_many(what, count, again ? 0 : timeout_ms);
                unsigned seen = 0;
                if (mask == 0) {
                        assert_int_equal(r, again || timeout_ms == 0 ? -EAGAIN : -ETIMEDOUT);
                        continue;
                }
                for (size_t i = 0; i < count; i++)
                        seen |= what[i].ready ? 1u << i : 0;
                assert_int_equal(seen, mask);
                assert_int_equal(r, __builtin_popcount(mask));
        }
}

/* ---- one process, nobody dies ---- */

static int never(void *arg)
{
        (void)arg;
        return 0;
}

static void check_refused(brood_waitable one, int error)
{
        int ends[2];
        assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
        close(ends[1]);
        /* Beside one that is ready, which is not told. */
        brood_waitable what[] = { brood_waitable_fd(ends[0]), one };
        assert_int_equal(brood_wait_many(what, 2, 0), error);
        assert_int_equal(brood_wait_many(what, 2, CHECK_HANG_MS), error);
        assert_false(what[0].ready);
        what[1].ready = true;
        assert_int_equal(brood_wait_many(&what[1], 1, BROOD_FOREVER), error);
        assert_true(what[1].ready);
        close(ends[0]);
}

static int wait_for_oneself(void *arg)
{
        brood_waitable one = brood_waitable_process(*(brood_process **)arg);
        require_int(brood_wait_many(&one, 1, 0), -EINVAL);
        return 0;
}

static void test_bad_input(void **state)
{
        (void)state;
        brood_process *p = NULL;
        int code;

        assert_int_equal(brood_wait_many(NULL, 0, BROOD_FOREVER), 0);
        assert_int_equal(brood_wait_many(NULL, 1, 0), -EINVAL);
        brood_waitable one = brood_waitable_fd(0);
        assert_int_equal(brood_wait_many(&one, 0, BROOD_FOREVER), 0);
        assert_int_equal(brood_wait_many(&one, (size_t)INT_MAX + 1, 0), -EINVAL);

        check_refused((brood_waitable){ 0 }, -EINVAL);
        check_refused((brood_waitable){ .kind = (brood_waitable_kind)99 }, -EINVAL);
        check_refused(brood_waitable_process(NULL), -EINVAL);
        check_refused(brood_waitable_queue(NULL), -EINVAL);
        check_refused(brood_waitable_event(NULL), -EINVAL);
        check_refused(brood_waitable_result(NULL), -EINVAL);
        check_refused(brood_waitable_connection(NULL), -EINVAL);
        check_refused(brood_waitable_fd(-1), -EBADF);
        check_refused(brood_waitable_fd(1000), -EBADF);
        assert_int_equal(brood_process_new(&p, &(brood_process_options){ .target = never }), 0);
        check_refused(brood_waitable_process(p), -EINVAL);
        brood_process_free(p);
        assert_int_equal(brood_process_new(&p, &(brood_process_options){ .target = wait_for_oneself, .arg = &p }), 0);
        assert_int_equal(brood_process_start(p), 0);
        assert_int_equal(brood_process_join(p, CHECK_HANG_MS), 0);
        assert_int_equal(brood_process_exitcode(p, &code), 0);
        assert_int_equal(code, 0);
        brood_process_free(p);
}

static void test_each_kind(void **state)
{
        (void)state;
        for (int timeout_ms = 0; timeout_ms <= SHORT_MS; timeout_ms += SHORT_MS) {
                int ends[2], value;
                brood_queue *q = make_queue(timeout_ms == 0 ? 4 : 0);
                brood_event *event = make_event();
                tasks_begin();
                brood_pool *pool = make_pool(1);
                brood_result *result = submit_int(pool, gated_task, 5);
                assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
                brood_process *p = start(live, ends);
                brood_waitable what[] = { brood_waitable_fd(ends[0]), brood_waitable_process(p),
                                          brood_waitable_queue(q), brood_waitable_event(event),
                                          brood_waitable_result(result) };
                for (int i = 0; i < 5; i++)
                        check_ready(&what[i], 1, 0, timeout_ms);
                check_ready(what, 5, 0, timeout_ms);

                assert_int_equal(brood_event_set(event), 0);
                check_ready(what, 5, 1 << 3, timeout_ms);
                assert_int_equal(brood_event_clear(event), 0);
                check_ready(what, 5, 0, timeout_ms);

                assert_int_equal(put_int(q, 1), 0);
                assert_int_equal(put_int(q, 2), 0);
                check_ready(what, 5, 1 << 2, timeout_ms);
                assert_int_equal(get_int(q), 1);
                check_ready(what, 5, 1 << 2, timeout_ms);
                assert_int_equal(get_int(q), 2);
                /* Its descriptor is still readable: it does not know yet. */
                check_ready(what, 5, 0, timeout_ms);

                atomic_store(&tasks_page->gate, 1);
                assert_int_equal(brood_wait_many(what, 5, CHECK_HANG_MS), 1);
                check_ready(what, 5, 1 << 4, CHECK_HANG_MS);
                assert_int_equal(brood_result_get(result, &value, sizeof value, 0), sizeof value);
                check_ready(what, 5, 1 << 4, timeout_ms);

                assert_int_equal(brood_event_set(event), 0);
                assert_int_equal(brood_queue_close(q), 0);
                check_ready(what, 5, 1 << 2 | 1 << 3 | 1 << 4, timeout_ms);
                assert_int_equal(get_int(q), -EPIPE);
                check_ready(what, 5, 1 << 2 | 1 << 3 | 1 << 4, timeout_ms);

                close(ends[1]);
                what[4] = brood_waitable_process(p);
                assert_int_equal(brood_wait_many(&what[4], 1, CHECK_HANG_MS), 1);
                check_ready(what, 5, 0x1f, timeout_ms); /* the pipe is at its end, too */
                assert_int_equal(brood_process_join(p, 0), 0);
                check_ready(&what[1], 1, 1, timeout_ms);

                brood_process_free(p);
                brood_result_free(result);
                end_pool(pool);
                tasks_finish();
                brood_event_free(event);
                brood_queue_free(q);
                close(ends[0]);
        }
}

static void test_connection(void **state)
{
        (void)state;
        brood_connection *here, *there;
        char buf[8];

        assert_int_equal(brood_pipe(&here, &there, false), 0);
        brood_waitable one = brood_waitable_connection(here);
        check_refused(brood_waitable_connection(there), -EBADF);
        check_ready(&one, 1, 0, SHORT_MS);
        assert_int_equal(brood_connection_send(there, "ping", 4, 0), 0);
        check_ready(&one, 1, 1, BROOD_FOREVER);
        /* A message that has been looked at is in this process, and the kernel knows nothing of it. */
        assert_int_equal(brood_connection_send(there, "", 0, 0), 0);
        assert_int_equal(brood_connection_recv(here, buf, sizeof buf, 0), 4);
        assert_int_equal(brood_connection_next_size(here, 0), 0);
        check_ready(&one, 1, 1, BROOD_FOREVER);
        assert_int_equal(brood_connection_recv(here, buf, sizeof buf, 0), 0);
        check_ready(&one, 1, 0, SHORT_MS);
        /* A part of one is something, until it was taken. */
        assert_int_equal(write(brood_connection_fileno(there), "\0\0\0\4pi", 6), 6);
        check_ready(&one, 1, 1, BROOD_FOREVER);
        assert_int_equal(brood_connection_recv(here, buf, sizeof buf, 0), -EAGAIN);
        check_ready(&one, 1, 0, SHORT_MS);
        assert_int_equal(write(brood_connection_fileno(there), "ng", 2), 2);
        check_ready(&one, 1, 1, BROOD_FOREVER);
        assert_int_equal(brood_connection_recv(here, buf, sizeof buf, 0), 4);
        brood_connection_free(there);
        check_ready(&one, 1, 1, BROOD_FOREVER);
        assert_int_equal(brood_connection_recv(here, buf, sizeof buf, 0), -EPIPE);
        check_ready(&one, 1, 1, BROOD_FOREVER);
        brood_connection_close(here);
        check_refused(one, -EBADF);
        brood_connection_free(here);
}

/* One that does not come alone, and one that is there before anybody asks. */
static void test_duplicates(void **state)
{
        (void)state;
        brood_queue *q = make_queue(4);
        brood_pool *pool = make_pool(1);
        brood_result *result = submit_int(pool, echo_task, 1);
        brood_waitable what[6];
        int ends[2];

        assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
        assert_int_equal(put_int(q, 1), 0);
        assert_int_equal(write(ends[1], "x", 1), 1);
        assert_int_equal(brood_result_wait(result, CHECK_HANG_MS), 0);
        for (int i = 0; i < 2; i++) {
                what[3 * i] = brood_waitable_queue(q);
                what[3 * i + 1] = brood_waitable_fd(ends[0]);
                what[3 * i + 2] = brood_waitable_result(result);
        }
        check_ready(what, 6, 0x3f, BROOD_FOREVER);
        brood_result_free(result);
        end_pool(pool);
        brood_queue_free(q);
        close(ends[0]);
        close(ends[1]);
}

enum { MANY = 300 };

static void test_hundreds(void **state)
{
        (void)state;
        static brood_waitable what[3 * MANY];
        static brood_result *results[MANY];
        static int ends[MANY][2];
        brood_queue *queues[MANY / 10];
        int descriptors;

        tasks_begin();
        brood_pool *pool = make_pool(2);
        for (int i = 0; i < MANY; i++) {
                results[i] = submit_int(pool, gated_task, i);
                assert_int_equal(pipe2(ends[i], O_CLOEXEC), 0);
                if (i % 10 == 0)
                        queues[i / 10] = make_queue(0);
                what[i] = brood_waitable_result(results[i]);
                what[MANY + i] = brood_waitable_fd(ends[i][0]);
                what[2 * MANY + i] = brood_waitable_queue(queues[i / 10]);
        }
        descriptors = support_count_descriptors();
        assert_int_equal(brood_wait_many(what, 3 * MANY, SHORT_MS), -ETIMEDOUT);
        for (int round = 0; round < 20; round++) {
                int pick = (int)support_random(MANY);
                assert_int_equal(write(ends[pick][1], "x", 1), 1);
                assert_int_equal(brood_wait_many(what, 3 * MANY, CHECK_HANG_MS), 1);
                assert_true(what[MANY + pick].ready);
                assert_int_equal(read(ends[pick][0], &(char){ 0 }, 1), 1);
                assert_int_equal(put_int(queues[pick / 10], 1), 0);
                assert_int_equal(brood_wait_many(what, 3 * MANY, CHECK_HANG_MS), 10);
                for (int i = 0; i < MANY; i++)
                        assert_true(what[2 * MANY + i].ready == (i / 10 == pick / 10));
                assert_int_equal(get_int(queues[pick / 10]), 1);
        }
        /* All of them, one after the other. */
        atomic_store(&tasks_page->gate, 1);
        for (int left = MANY; left > 0;) {
                assert_true(brood_wait_many(what, (size_t)left, CHECK_HANG_MS) > 0);
                for (int i = 0; i < left;) {
                        if (!what[i].ready) {
                                i++;
                                continue;
                        }
                        assert_int_equal(brood_result_ready(what[i].result), 1);
                        what[i] = what[--left];
                }
        }
        assert_int_equal(support_count_descriptors(), descriptors);
        for (int i = 0; i < MANY; i++) {
                brood_result_free(results[i]);
                close(ends[i][0]);
                close(ends[i][1]);
                if (i % 10 == 0)
                        brood_queue_free(queues[i / 10]);
        }
        end_pool(pool);
        tasks_finish();
}

/* Results of several pools, and what their watching costs in descriptors. */
static void test_several_pools(void **state)
{
        (void)state;
        enum { POOLS = 4 };
        brood_pool *pools[POOLS];
        brood_result *results[POOLS];
        brood_waitable what[POOLS];

        tasks_begin();
        for (int i = 0; i < POOLS; i++) {
                pools[i] = make_pool(1);
                results[i] = submit_int(pools[i], gated_task, i);
                what[i] = brood_waitable_result(results[i]);
        }
        check_ready(what, POOLS, 0, SHORT_MS);
        struct rlimit before = check_descriptors_exhaust();
        assert_int_equal(brood_wait_many(what, POOLS, SHORT_MS), -EMFILE);
        assert_int_equal(brood_wait_many(what, POOLS, 0), -EAGAIN);
        check_descriptors_restore(&before);
        assert_int_equal(brood_pool_terminate(pools[2]), 0);
        check_ready(what, POOLS, 1 << 2, CHECK_HANG_MS);
        assert_int_equal(brood_result_get(results[2], NULL, 0, 0), -ECANCELED);
        atomic_store(&tasks_page->gate, 1);
        for (int i = 0; i < POOLS; i++) {
                assert_int_equal(brood_result_wait(results[i], CHECK_HANG_MS), 0);
                brood_result_free(results[i]);
                brood_pool_free(pools[i]);
        }
        tasks_finish();
}

static void count_signal(int sig)
{
        (void)sig;
}

static void test_signals(void **state)
{
        (void)state;
        brood_queue *q = make_queue(4);
        brood_event *event = make_event();
        brood_waitable what[] = { brood_waitable_queue(q), brood_waitable_event(event) };
        struct sigaction action = { .sa_handler = count_signal }, before;
        struct itimerval every = { { 0, 3000 }, { 0, 3000 } }, none = { 0 };

        assert_int_equal(sigaction(SIGALRM, &action, &before), 0);
        assert_int_equal(setitimer(ITIMER_REAL, &every, NULL), 0);
        errno = 77;
        int64_t began = support_now_ms();
        assert_int_equal(brood_wait_many(what, 2, 100), -ETIMEDOUT);
        assert_true(support_now_ms() - began >= 99);
        assert_int_equal(errno, 77);
        assert_int_equal(put_int(q, 1), 0);
        assert_int_equal(brood_wait_many(what, 2, BROOD_FOREVER), 1);
        assert_int_equal(setitimer(ITIMER_REAL, &none, NULL), 0);
        assert_int_equal(sigaction(SIGALRM, &before, NULL), 0);
        brood_event_free(event);
        brood_queue_free(q);
}

/* ---- descriptors that say too much ---- */

static int64_t cpu_ms(void)
{
        struct timespec now;
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
        return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int hold_a_lease(void *arg)
{
        brood_queue *q = ((void **)arg)[0];
        brood_event *held = ((void **)arg)[1];
        brood_lease lease;
        require_int(brood_queue_lease(q, &lease, CHECK_HANG_MS), 0);
        require_int(brood_event_set(held), 0);
        for (;;)
                pause();
}

/* Closed, and the last message is leased to another: readable for as long as that lives, and not ready. */
static void test_closed_and_leased(void **state)
{
        (void)state;
        brood_queue *q = make_queue(4);
        brood_event *held = make_event();
        brood_waitable one = brood_waitable_queue(q);
        void *arg[] = { q, held };

        assert_int_equal(put_int(q, 1), 0);
        pid_t pid = check_start(hold_a_lease, arg);
        assert_int_equal(brood_event_wait(held, CHECK_HANG_MS), 0);
        assert_int_equal(brood_queue_close(q), 0);
        assert_int_equal(get_int(q), -EAGAIN);
        int64_t began = cpu_ms();
        assert_int_equal(brood_wait_many(&one, 1, 1000), -ETIMEDOUT);
        int64_t used = cpu_ms() - began;
        print_message("a second beside a descriptor that is readable for nothing took %d ms\n", (int)used);
        assert_true(used < 700);
        check_kill(pid);
        assert_int_equal(brood_wait_many(&one, 1, CHECK_HANG_MS), 1);
        assert_int_equal(get_int(q), 1);
        assert_int_equal(brood_wait_many(&one, 1, CHECK_HANG_MS), 1);
        assert_int_equal(get_int(q), -EPIPE);
        brood_event_free(held);
        brood_queue_free(q);
}

/* Whose descriptors somebody has raised by hand. */
static void test_raised_for_nothing(void **state)
{
        (void)state;
        brood_queue *q = make_queue(4);
        brood_event *event = make_event();
        brood_waitable what[] = { brood_waitable_queue(q), brood_waitable_event(event) };
        uint64_t five = 5;

        check_ready(what, 2, 0, 0);
        assert_int_equal(write(brood_queue_fileno(q), &five, sizeof five), sizeof five);
        assert_int_equal(write(brood_event_fileno(event), &five, sizeof five), sizeof five);
        check_ready(what, 2, 0, SHORT_MS);
        assert_int_equal(write(brood_queue_fileno(q), &five, sizeof five), sizeof five);
        pid_t pid = fork();
        if (pid == 0) {
                usleep(20000);
                _exit(put_int(q, 3));
        }
        assert_int_equal(brood_wait_many(what, 2, CHECK_HANG_MS), 1);
        assert_int_equal(get_int(q), 3);
        assert_int_equal(check_wait(pid), 0);
        brood_event_free(event);
        brood_queue_free(q);
}

/* ---- processes and threads ---- */

enum { TAKERS = 3, TAKEN = 400 };

struct taking {
        brood_queue *queue;
        brood_event *stop;
        atomic_int *taken;
};

static int take_until_stopped(void *arg)
{
        struct taking *taking = arg;
        brood_waitable what[] = { brood_waitable_queue(taking->queue), brood_waitable_event(taking->stop) };
        int r;

        for (;;) {
                require(brood_wait_many(what, 2, CHECK_HANG_MS) > 0);
                require(what[0].ready || what[1].ready);
                while ((r = get_int(taking->queue)) >= 0)
                        require_int(atomic_fetch_add(&taking->taken[r], 1), 0);
                require_int(r, -EAGAIN);
                if (what[1].ready)
                        return 0;
        }
}

static void test_takers(void **state)
{
        (void)state;
        for (int threads = 0; threads < 2; threads++) {
                struct taking taking = { make_queue(16), make_event(), check_shared(TAKEN * sizeof(atomic_int)) };
                struct check_thread thread[TAKERS];
                pid_t pids[TAKERS];

                for (int i = 0; i < TAKERS; i++)
                        if (threads)
                                check_thread_start(&thread[i], take_until_stopped, &taking);
                        else
                                pids[i] = check_start(take_until_stopped, &taking);
                for (int i = 0; i < TAKEN; i++) {
                        assert_int_equal(brood_queue_put(taking.queue, &i, sizeof i, CHECK_HANG_MS), 0);
                        if (i % 10 == 0) /* let them all come to rest */
                                assert_true(check_reaches(&taking.taken[i], 1, CHECK_HANG_MS / 2));
                }
                for (int i = 0; i < TAKEN; i++)
                        assert_true(check_reaches(&taking.taken[i], 1, CHECK_HANG_MS));
                assert_int_equal(brood_event_set(taking.stop), 0);
                for (int i = 0; i < TAKERS; i++)
                        assert_int_equal(threads ? check_thread_join(&thread[i]) : check_wait(pids[i]), 0);
                munmap(taking.taken, TAKEN * sizeof(atomic_int));
                brood_event_free(taking.stop);
                brood_queue_free(taking.queue);
        }
}

static int wait_in_a_child(void *arg)
{
        brood_waitable *what = arg;
        require_int(brood_wait_many(&what[2], 1, 0), -EPERM);
        /* An inherited process, which is the parent's child, and the queue. */
        require_int(brood_wait_many(what, 2, SHORT_MS), -ETIMEDOUT);
        require_int(brood_wait_many(what, 3, SHORT_MS), -EPERM);
        require_int(put_int(what[1].queue, 4), 0);
        require_int(brood_wait_many(what, 2, CHECK_HANG_MS), 1);
        require(what[1].ready && !what[0].ready);
        require_int(brood_process_kill(what[0].process), 0);
        require_int(brood_wait_many(what, 1, CHECK_HANG_MS), 1);
        return 0;
}

static void test_fork(void **state)
{
        (void)state;
        brood_queue *q = make_queue(4);
        brood_pool *pool = make_pool(1);
        brood_result *result = submit_int(pool, echo_task, 1);
        int ends[2];
        assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
        brood_process *p = start(live, ends);
        brood_waitable what[] = { brood_waitable_process(p), brood_waitable_queue(q), brood_waitable_result(result) };

        check_in_child(wait_in_a_child, what);
        assert_int_equal(brood_wait_many(what, 3, CHECK_HANG_MS) > 0, 1);
        assert_int_equal(get_int(q), 4);
        brood_process_free(p);
        brood_result_free(result);
        end_pool(pool);
        brood_queue_free(q);
        close(ends[0]);
        close(ends[1]);
}

/* ---- deaths ---- */

/* Say when the process waits, and how its wait ended. */
struct waiter {
        brood_waitable *what;
        size_t count;
        atomic_int *begun;
};

static void *kill_when_asleep(void *arg)
{
        /* The test's own thread sleeps in the wait by then, or the test is no weaker than it was. */
        pid_t *pids = arg;
        for (int i = 0; i < 200 && support_process_state(pids[0]) != 'S'; i++)
                usleep(500);
        kill(pids[1], SIGKILL);
        return NULL;
}

/* Wait with the entries while that process is killed: how many are ready, and how long that took. */
static int wait_while_killed(brood_waitable *what, size_t count, pid_t victim, const char *which)
{
        pid_t pids[] = { getpid(), victim };
        pthread_t thread;

        assert_int_equal(pthread_create(&thread, NULL, kill_when_asleep, pids), 0);
        int64_t began = support_now_ms();
        int r = brood_wait_many(what, count, CHECK_HANG_MS);
        print_message("%s: told after %d ms\n", which, (int)(support_now_ms() - began));
        assert_int_equal(pthread_join(thread, NULL), 0);
        return r;
}

static void test_a_child_is_killed(void **state)
{
        (void)state;
        int ends[2], code;
        brood_queue *q = make_queue(4);
        assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
        brood_process *p = start(live, ends);
        brood_waitable what[] = { brood_waitable_queue(q), brood_waitable_process(p), brood_waitable_fd(ends[0]) };

        assert_int_equal(wait_while_killed(what, 3, brood_process_pid(p), "a child"), 1);
        assert_true(what[1].ready);
        assert_int_equal(brood_process_join(p, CHECK_HANG_MS), 0);
        assert_int_equal(brood_process_exitcode(p, &code), 0);
        assert_int_equal(code, -SIGKILL);
        brood_process_free(p);
        brood_queue_free(q);
        close(ends[0]);
        close(ends[1]);
}

static void test_a_lease_comes_back(void **state)
{
        (void)state;
        for (size_t maxsize = 0; maxsize <= 4; maxsize += 4) {
                brood_queue *q = make_queue(maxsize);
                brood_event *held = make_event();
                brood_waitable what[] = { brood_waitable_event(held), brood_waitable_queue(q) };
                void *arg[] = { q, held };

                assert_int_equal(put_int(q, 1), 0);
                pid_t pid = check_start(hold_a_lease, arg);
                assert_int_equal(brood_event_wait(held, CHECK_HANG_MS), 0);
                assert_int_equal(brood_event_clear(held), 0);
                check_ready(what, 2, 0, SHORT_MS);
                assert_int_equal(wait_while_killed(what, 2, pid, "a lease"), 1);
                assert_true(what[1].ready);
                assert_int_equal(get_int(q), 1);
                assert_int_equal(check_wait(pid), -SIGKILL);
                brood_event_free(held);
                brood_queue_free(q);
        }
}

static int hold_a_place(void *arg)
{
        brood_reservation place;
        require_int(brood_queue_reserve(((void **)arg)[0], &place, 4, 0), 0);
        require_int(brood_event_set(((void **)arg)[1]), 0);
        for (;;)
                pause();
}

/* A message behind the place of one that dies while it writes. */
static void test_a_writer_is_killed(void **state)
{
        (void)state;
        brood_queue *q = make_queue(4);
        brood_event *held = make_event();
        brood_waitable what[] = { brood_waitable_queue(q) };
        void *arg[] = { q, held };

        pid_t pid = check_start(hold_a_place, arg);
        assert_int_equal(brood_event_wait(held, CHECK_HANG_MS), 0);
        assert_int_equal(put_int(q, 2), 0);
        check_ready(what, 1, 0, SHORT_MS);
        assert_int_equal(wait_while_killed(what, 1, pid, "a place"), 1);
        assert_int_equal(get_int(q), 2);
        assert_int_equal(check_wait(pid), -SIGKILL);
        brood_event_free(held);
        brood_queue_free(q);
}

static void test_a_worker_is_killed(void **state)
{
        (void)state;
        pid_t pid;
        int code;
        tasks_begin();
        brood_pool *pool = make_pool(1);
        brood_result *result = submit_int(pool, gated_task, 1);
        brood_waitable what[] = { brood_waitable_result(result) };

        assert_true(check_reaches(&tasks_page->started, 1, CHECK_HANG_MS));
        pid_t pids[16];
        await_workers(pool, pids);
        assert_int_equal(wait_while_killed(what, 1, pids[0], "a worker"), 1);
        assert_int_equal(brood_result_get(result, NULL, 0, 0), -EOWNERDEAD);
        assert_int_equal(brood_result_worker(result, &pid, &code), 0);
        assert_int_equal(code, -SIGKILL);
        atomic_store(&tasks_page->gate, 1);
        brood_result_free(result);
        end_pool(pool);
        tasks_finish();
}

static void test_a_keeper_is_killed(void **state)
{
        (void)state;
        tasks_begin();
        brood_pool *pool = make_pool(2);
        brood_result *result = submit_int(pool, gated_task, 1), *waits = submit_int(pool, gated_task, 2);
        brood_waitable what[] = { brood_waitable_result(result), brood_waitable_result(waits) };

        assert_true(check_reaches(&tasks_page->started, 2, CHECK_HANG_MS));
        pid_t pids[16];
        await_workers(pool, pids);
        assert_int_equal(wait_while_killed(what, 2, support_parent_of(pids[0]), "a keeper"), 2);
        assert_int_equal(brood_result_get(result, NULL, 0, 0), -EPIPE);
        assert_int_equal(brood_result_get(waits, NULL, 0, 0), -EPIPE);
        brood_result_free(waits);
        brood_pool_free(pool);
        check_ready(what, 1, 1, BROOD_FOREVER); /* also without the pool */
        brood_result_free(result);
        tasks_finish();
}

/* The other end of a connection, in a process that is killed. */
static void test_a_peer_is_killed(void **state)
{
        (void)state;
        brood_connection *here, *there;
        brood_queue *q = make_queue(4);
        int ends[2];

        assert_int_equal(brood_pipe(&here, &there, true), 0);
        assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
        pid_t pid = check_start(live, ends);
        brood_connection_free(there);
        brood_waitable what[] = { brood_waitable_queue(q), brood_waitable_connection(here) };
        check_ready(what, 2, 0, SHORT_MS);
        assert_int_equal(wait_while_killed(what, 2, pid, "a peer"), 1);
        assert_true(what[1].ready);
        assert_int_equal(brood_connection_recv(here, NULL, 0, 0), -EPIPE);
        assert_int_equal(check_wait(pid), -SIGKILL);
        brood_connection_free(here);
        brood_queue_free(q);
        close(ends[0]);
        close(ends[1]);
}

static int wait_for_ever(void *arg)
{
        struct waiter *waiter = arg;
        atomic_store(waiter->begun, 1);
        brood_wait_many(waiter->what, waiter->count, BROOD_FOREVER);
        return 1;
}

/* Who is killed while it waits leaves nothing in the way of others. */
static void test_a_waiter_is_killed(void **state)
{
        (void)state;
        brood_queue *q = make_queue(4);
        brood_event *event = make_event();
        brood_waitable what[] = { brood_waitable_queue(q), brood_waitable_event(event) };
        struct waiter waiter = { what, 2, check_shared(sizeof(atomic_int)) };

        for (int round = 0; round < 5; round++) {
                atomic_store(waiter.begun, 0);
                pid_t pid = check_start(wait_for_ever, &waiter);
                assert_true(check_reaches(waiter.begun, 1, CHECK_HANG_MS));
                assert_true(check_asleep(pid));
                assert_int_equal(check_kill(pid), -SIGKILL);
                assert_int_equal(put_int(q, round), 0);
                check_ready(what, 2, 1, CHECK_HANG_MS);
                assert_int_equal(get_int(q), round);
                check_ready(what, 2, 0, 0);
        }
        munmap(waiter.begun, sizeof(atomic_int));
        brood_event_free(event);
        brood_queue_free(q);
}

int main(int argc, char **argv)
{
        static const struct CMUnitTest tests[] = {
                support_test(test_bad_input),
                support_test(test_each_kind),
                support_test(test_connection),
                support_test(test_duplicates),
                support_test(test_hundreds),
                support_test(test_several_pools),
                support_test(test_signals),
                support_test(test_closed_and_leased),
                support_test(test_raised_for_nothing),
                support_test(test_takers),
                support_test(test_fork),
                support_test(test_a_child_is_killed),
                support_test(test_a_lease_comes_back),
                support_test(test_a_writer_is_killed),
                support_test(test_a_worker_is_killed),
                support_test(test_a_keeper_is_killed),
                support_test(test_a_peer_is_killed),
                support_test(test_a_waiter_is_killed),
        };
        return support_main(argc, argv, "wait many", tests, array_length(tests), 100);
}
