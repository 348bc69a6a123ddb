/* SPDX-License-Identifier: MIT
 *
 * tests/pool/test_pool_bad_input.c: tasks that do to their worker what no task should: what becomes of them, and that it hurts
 * nobody else (doc/design/pool.md, "Tasks that misbehave").  What a call refuses, what a callback may do, results after the pool,
 * and memory that was written over, are in test_pool.c, test_callbacks.c, test_workers.c and test_damage.c.
 */
#include "tasks.h"

#include <brood/completions.h>
#include <brood/imap.h>
#include <brood/map.h>

#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define ARRAY(type, ...) ((type[]){ __VA_ARGS__ })

static pid_t the_worker(brood_pool *pool)
{
        pid_t pids[16];
        await_workers(pool, pids);
        return pids[0];
}

/* The pool is as good as new: of that size, it runs tasks, and ends. */
static void check_unhurt(brood_pool *pool)
{
        for (int i = 0; i < 10; i++)
                check_value(submit_int(pool, echo_task, i), i);
        await_workers(pool, NULL);
        assert_null(brood_pool_reason(pool));
        end_pool(pool);
}

/* ---- items that fork ---- */

/* Two processes come back from it; each call is counted. */
static ssize_t forking_item(const void *arg, size_t size, void *out, size_t room)
{
        atomic_fetch_add(&tasks_page->started, 1);
        pid_t pid = fork();
        if (pid < 0)
                return -errno;
        while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
                ;
        return pid > 0 ? echo_task(arg, size, out, room) : 0;
}

enum { ITEMS = 6 };

static void check_items(const int *values, int stride)
{
        for (int i = 0; i < ITEMS; i++)
                assert_int_equal(values[i], 100 + i * stride);
        /* The children have not gone on with the items after theirs. */
        assert_int_equal(atomic_exchange(&tasks_page->started, 0), ITEMS);
}

static void test_items_that_fork(void **state)
{
        (void)state;
        int items[2 * ITEMS], values[ITEMS];
        for (int i = 0; i < 2 * ITEMS; i++)
                items[i] = 100 + i;
        tasks_begin();
        brood_pool *pool = make_pool(1);
        for (int stride = 1; stride <= 2; stride++) {
                brood_map *map;
                brood_map_options options = { .function = forking_item,
                                              .items = items,
                                              .item_size = sizeof(int),
                                              .stride = (size_t)stride * sizeof(int),
                                              .count = ITEMS,
                                              .result_size = sizeof(int),
                                              .chunksize = ITEMS };
                assert_int_equal(brood_pool_map_async(pool, &map, &options), 0);
                memset(values, 0, sizeof values);
                assert_int_equal(brood_map_get(map, values, CHECK_HANG_MS), 0);
                check_items(values, stride);
                brood_map_free(map);
        }
        brood_imap *imap;
        brood_imap_options options = {
                .function = forking_item, .items = items, .item_size = sizeof(int), .count = ITEMS, .chunksize = ITEMS
        };
        assert_int_equal(brood_pool_imap(pool, &imap, &options), 0);
        for (int i = 0; i < ITEMS; i++)
                assert_int_equal(brood_imap_next(imap, NULL, &values[i], sizeof(int), CHECK_HANG_MS), sizeof(int));
        check_items(values, 1);
        brood_imap_free(imap);
        check_unhurt(pool);
        tasks_finish();
}

/* ---- children of tasks ---- */

enum child {
        EXECUTES,
        EXITS,
        OUTLIVES, /* the task, its worker, and the pool */
};

static ssize_t bearing_task(const void *arg, size_t size, void *out, size_t room)
{
        enum child child = *(const enum child *)arg;
        pid_t pid = fork();
        (void)size, (void)room;
        if (pid == 0 && child == EXECUTES) {
                execl("/bin/sh", "sh", "-c", "exit 7", (char *)NULL);
                _exit(99);
        }
        if (pid == 0 && child == EXITS)
                exit(7);
        if (pid == 0) {
                gated_task(NULL, 0, NULL, 0);
                _exit(0);
        }
        int status = 0;
        while (pid > 0 && child != OUTLIVES && waitpid(pid, &status, 0) < 0 && errno == EINTR)
                ;
        memcpy(out, child == OUTLIVES ? &pid : &(int){ check_code(status) }, sizeof(int));
        return sizeof(int);
}

static void test_children_of_tasks(void **state)
{
        (void)state;
        for (int how = 0; how < 3; how++) {
                tasks_begin();
                brood_pool *pool = make_pool(1);
                pid_t worker = the_worker(pool), child = 0;
                for (int i = 0; i < 3; i++) {
                        check_value(submit_int(pool, bearing_task, EXECUTES), 7);
                        check_value(submit_int(pool, bearing_task, EXITS), 7);
                }
                assert_int_equal(brood_pool_apply(pool, bearing_task, ARRAY(int, OUTLIVES), sizeof(int), &child,
                                                  sizeof child, CHECK_HANG_MS),
                                 sizeof child);
                assert_int_equal(the_worker(pool), worker);
                /* It is its own master: neither the worker's end nor the pool's is its, and neither waits for it. */
                if (how == 1)
                        check_failure(submit_int(pool, die_task, SIGKILL), -EOWNERDEAD, BROOD_OUTCOME_SIGNALED,
                                      -SIGKILL);
                if (how == 2) {
                        assert_int_equal(brood_pool_terminate(pool), 0);
                        assert_int_equal(brood_pool_join(pool, CHECK_HANG_MS), 0);
                        brood_pool_free(pool);
                } else {
                        check_unhurt(pool);
                }
                assert_true(check_reaches(&tasks_page->started, 1, CHECK_HANG_MS));
                assert_false(support_process_gone(child, 0));
                atomic_store(&tasks_page->gate, 1);
                assert_true(support_process_gone(child, CHECK_HANG_MS));
                assert_int_equal(atomic_load(&tasks_page->ended), 1);
                tasks_finish();
        }
}

/* ---- tasks that end their worker ---- */

enum leave {
        BY_EXIT,
        BY_QUICK_EXIT,
        BY_END_OF_THREAD,
        BY_EXEC,
        BY_ABORT,
};

static ssize_t leaving_task(const void *arg, size_t size, void *out, size_t room)
{
        (void)size, (void)out, (void)room;
        signal(SIGABRT, SIG_DFL); /* a sanitizer may have taken it */
        switch (*(const enum leave *)arg) {
        case BY_EXIT:
                exit(3);
        case BY_QUICK_EXIT:
                quick_exit(4);
        case BY_END_OF_THREAD:
                pthread_exit(NULL);
        case BY_EXEC:
                execl("/bin/sh", "sh", "-c", "exit 5", (char *)NULL);
                return -errno;
        case BY_ABORT:
                abort();
        }
        return 0;
}

static void test_tasks_that_leave(void **state)
{
        (void)state;
        static const struct {
                enum leave how;
                brood_outcome outcome;
                int exitcode;
        } cases[] = {
                { BY_EXIT, BROOD_OUTCOME_EXITED, 3 },
                { BY_QUICK_EXIT, BROOD_OUTCOME_EXITED, 4 },
                { BY_EXEC, BROOD_OUTCOME_EXITED, 5 },
                { BY_ABORT, BROOD_OUTCOME_SIGNALED, -SIGABRT },
#if !CHECK_ASAN /* which takes for lost what the stack of that thread has led to */
                { BY_END_OF_THREAD, BROOD_OUTCOME_EXITED, 0 },
#endif
        };
        brood_pool *pool = make_pool(2);
        for (size_t i = 0; i < array_length(cases); i++) {
                check_failure(submit_int(pool, leaving_task, (int)cases[i].how), -EOWNERDEAD, cases[i].outcome,
                              cases[i].exitcode);
                check_value(submit_int(pool, echo_task, (int)i), (int)i);
        }
        check_unhurt(pool);
}

/* What the host has registered runs in a worker that calls exit(3), as in any child. */
static struct {
        brood_pool *pool;
        bool stays;
        pid_t host;
} at_exit;

static void run_at_exit(void)
{
        if (tasks_page == NULL || getpid() == at_exit.host)
                return;
        atomic_fetch_add(&tasks_page->number, 1);
        brood_pool_free(at_exit.pool);
        while (at_exit.stays)
                pause();
}

static ssize_t exit_with_handlers_task(const void *arg, size_t size, void *out, size_t room)
{
        (void)out, (void)room;
        memcpy(&at_exit, arg, size);
        exit(6);
}

static void test_exit_handlers(void **state)
{
        (void)state;
        tasks_begin();
        at_exit.host = getpid();
        assert_int_equal(atexit(run_at_exit), 0);
        brood_pool *pool = at_exit.pool = make_pool(2);
        check_failure(submit(pool, exit_with_handlers_task, &at_exit, sizeof at_exit), -EOWNERDEAD,
                      BROOD_OUTCOME_EXITED, 6);
        assert_int_equal(atomic_load(&tasks_page->number), 1);
        /* One that does not come back is still in its task. */
        at_exit.stays = true;
        check_failure(submit_task(pool, .function = exit_with_handlers_task, .arg = &at_exit, .size = sizeof at_exit,
                                  .timeout_ms = 30),
                      -ETIME, BROOD_OUTCOME_TIME, -SIGKILL);
        assert_int_equal(atomic_load(&tasks_page->number), 2);
        at_exit.stays = false;
        check_unhurt(pool);
        tasks_finish();
}

/* ---- tasks that call the pool ---- */

/* Its argument is the pool's handle, which the worker has as well, at the same place. */
static ssize_t calling_task(const void *arg, size_t size, void *out, size_t room)
{
        brood_pool *pool;
        brood_result *result = NULL;
        pid_t pid;
        memcpy(&pool, arg, sizeof pool);
        bool good = brood_pool_apply_async(pool, &result, echo_task, NULL, 0) == -EPERM && result == NULL &&
                    brood_pool_close(pool) == -EPERM && brood_pool_terminate(pool) == -EPERM &&
                    brood_pool_join(pool, 0) == -EPERM && brood_pool_resize(pool, 1) == -EPERM &&
                    brood_pool_workers(pool, &pid, 1) == -EPERM && brood_pool_dispatch(pool) == -EPERM;
        brood_pool_free(pool);
        brood_pool_free(pool);
        return good ? echo_task(arg, size, out, room) : -EPROTO;
}

static void test_tasks_that_call_their_pool(void **state)
{
        (void)state;
        brood_pool *pool = make_pool(1);
        pid_t worker = the_worker(pool);
        for (int i = 0; i < 3; i++) {
                brood_pool *same = NULL;
                brood_result *result = submit(pool, calling_task, &pool, sizeof pool);
                ssize_t n = brood_result_get(result, &same, sizeof same, CHECK_HANG_MS);
                if (n != sizeof same)
                        fprintf(stderr, "%s\n", brood_result_reason(result));
                assert_int_equal(n, sizeof same);
                assert_ptr_equal(same, pool);
                brood_result_free(result);
        }
        assert_int_equal(the_worker(pool), worker);
        check_unhurt(pool);
}

/* ---- tasks that close what is the worker's ---- */

enum filling { WITH_NOTHING, WITH_FILES, WITH_EVENTS, WITH_POLLERS, FILLINGS };

/* Close all descriptors, and open others under their numbers. */
static ssize_t close_task(const void *arg, size_t size, void *out, size_t room)
{
        enum { MOST = 64 };
        enum filling filling = *(const enum filling *)arg;
        syscall(SYS_close_range, 0, ~0U, 0);
        for (int i = 0; i < MOST; i++) {
                int fd = 0;
                if (filling == WITH_FILES)
                        fd = open("/dev/null", O_RDWR);
                else if (filling == WITH_EVENTS)
                        fd = eventfd(0, EFD_NONBLOCK);
                else if (filling == WITH_POLLERS)
                        fd = epoll_create1(0);
                if (fd < 0)
                        return -errno;
        }
        return echo_task(arg, size, out, room);
}

static bool is_readable(int fd)
{
        struct pollfd descriptor = { .fd = fd, .events = POLLIN };
        return poll(&descriptor, 1, CHECK_HANG_MS) == 1;
}

static void await_by_result(brood_pool *pool)
{
        brood_result *result = submit_int(pool, sleep_task, 5);
        while (brood_result_ready(result) == 0)
                assert_true(is_readable(brood_result_fileno(result)));
        check_value(result, 5);
}

static void await_by_completions(brood_pool *pool, bool by_descriptor)
{
        brood_completions *completions;
        brood_result *result = NULL;
        int r, value = -1;
        assert_int_equal(brood_completions_new(&completions, pool), 0);
        int fd = by_descriptor ? brood_completions_fileno(completions) : -1;
        assert_int_equal(brood_pool_submit(pool, NULL,
                                           &(brood_task_options){ .function = sleep_task,
                                                                  .arg = ARRAY(int, 5),
                                                                  .size = sizeof(int),
                                                                  .completions = completions }),
                         0);
        while ((r = brood_completions_next(completions, &result, by_descriptor ? 0 : CHECK_HANG_MS)) == -EAGAIN)
                assert_true(is_readable(fd));
        assert_int_equal(r, 0);
        assert_int_equal(brood_result_get(result, &value, sizeof value, 0), sizeof value);
        assert_int_equal(value, 5);
        brood_result_free(result);
        brood_completions_free(completions);
}

static void count_call(brood_result *result, void *arg)
{
        *(int *)arg += brood_result_successful(result) == 1;
}

static void await_by_callback(brood_pool *pool)
{
        int calls = 0;
        int fd = brood_pool_fileno(pool);
        assert_int_equal(brood_pool_submit(pool, NULL,
                                           &(brood_task_options){ .function = sleep_task,
                                                                  .arg = ARRAY(int, 5),
                                                                  .size = sizeof(int),
                                                                  .callback = count_call,
                                                                  .callback_arg = &calls }),
                         0);
        while (calls == 0) {
                assert_true(is_readable(fd));
                assert_true(brood_pool_dispatch(pool) >= 0);
        }
}

static void await_limits(brood_pool *pool)
{
        check_failure(submit_task(pool, .function = sleep_task, .arg = ARRAY(int, FOREVER_MS), .size = sizeof(int),
                                  .timeout_ms = 20),
                      -ETIME, BROOD_OUTCOME_TIME, -SIGKILL);
}

static void test_all_descriptors_closed(void **state)
{
        (void)state;
        for (int filling = WITH_NOTHING; filling < FILLINGS; filling++) {
                brood_pool *pool = make_pool(1);
                for (int way = 0; way < 5; way++) {
                        check_value(submit_int(pool, close_task, filling), filling);
                        if (way == 0)
                                await_by_completions(pool, false);
                        else if (way == 1)
                                await_by_result(pool);
                        else if (way == 2)
                                await_limits(pool);
                        else if (way == 3)
                                await_by_completions(pool, true);
                        else
                                await_by_callback(pool);
                        check_value(
                            submit_task(pool, .function = echo_task, .arg = &way, .size = sizeof way, .retries = 1),
                            way);
                }
                check_unhurt(pool);
        }
}

/* ---- tasks that change their process ---- */

static ssize_t move_task(const void *arg, size_t size, void *out, size_t room)
{
        if (chdir("/") != 0)
                return -errno;
        umask(0777);
        fclose(stdout);
        fclose(stderr);
        return echo_task(arg, size, out, room);
}

static ssize_t where_task(const void *arg, size_t size, void *out, size_t room)
{
        char path[1000];
        (void)arg, (void)size, (void)room;
        int there = getcwd(path, sizeof path) && strcmp(path, "/") == 0;
        memcpy(out, &there, sizeof there);
        return sizeof there;
}

static void test_tasks_that_move(void **state)
{
        (void)state;
        brood_pool *pool = make_pool(1);
        pid_t worker = the_worker(pool);
        check_value(submit_int(pool, where_task, 0), 0);
        check_value(submit_int(pool, move_task, 1), 1);
        /* The worker takes it along, and no other has it. */
        check_value(submit_int(pool, where_task, 0), 1);
        check_value(submit_int(pool, echo_task, 2), 2);
        assert_int_equal(the_worker(pool), worker);
        check_failure(submit_int(pool, die_task, SIGKILL), -EOWNERDEAD, BROOD_OUTCOME_SIGNALED, -SIGKILL);
        check_value(submit_int(pool, where_task, 0), 0);
        check_unhurt(pool);
}

static ssize_t deaf_task(const void *arg, size_t size, void *out, size_t room)
{
        sigset_t all;
        sigfillset(&all);
        sigprocmask(SIG_SETMASK, &all, NULL);
        return sleep_task(arg, size, out, room);
}

static void test_tasks_that_block_signals(void **state)
{
        (void)state;
        brood_pool *pool = make_pool(1);
        for (int i = 0; i < 3; i++) {
                /* The soft limit passes unheard, and the result stands; the signal goes with the worker. */
                pid_t worker = the_worker(pool);
                check_value(submit_task(pool, .function = deaf_task, .arg = ARRAY(int, 40), .size = sizeof(int),
                                        .soft_timeout_ms = 10),
                            40);
                check_value(submit_int(pool, echo_task, i), i);
                assert_int_not_equal(the_worker(pool), worker);
                /* Its mask stays with the worker; the next soft limit is heard, because that is unblocked first. */
                check_value(submit_int(pool, deaf_task, 0), 0);
                check_failure(submit_task(pool, .function = sleep_task, .arg = ARRAY(int, FOREVER_MS),
                                          .size = sizeof(int), .soft_timeout_ms = 10),
                              -ETIME, BROOD_OUTCOME_TIME, -BROOD_SOFT_TIMEOUT_SIGNAL);
                check_failure(submit_task(pool, .function = deaf_task, .arg = ARRAY(int, FOREVER_MS),
                                          .size = sizeof(int), .timeout_ms = 20),
                              -ETIME, BROOD_OUTCOME_TIME, -SIGKILL);
        }
        check_unhurt(pool);
}

static ssize_t stop_task(const void *arg, size_t size, void *out, size_t room)
{
        atomic_fetch_add(&tasks_page->started, 1);
        raise(SIGSTOP);
        return echo_task(arg, size, out, room);
}

static void test_tasks_that_stop(void **state)
{
        (void)state;
        tasks_begin();
        brood_pool *pool = make_pool(2);
        check_failure(submit_task(pool, .function = stop_task, .timeout_ms = 20), -ETIME, BROOD_OUTCOME_TIME, -SIGKILL);
        /* The soft limit's signal waits for it to go on. */
        check_failure(submit_task(pool, .function = stop_task, .soft_timeout_ms = 10, .timeout_ms = 30), -ETIME,
                      BROOD_OUTCOME_TIME, -SIGKILL);
        brood_result *result = submit(pool, stop_task, NULL, 0);
        assert_true(check_reaches(&tasks_page->started, 3, CHECK_HANG_MS));
        assert_int_equal(brood_result_cancel(result, true), 0);
        brood_result_free(result);
        check_unhurt(pool);
        pool = make_pool(2);
        result = submit(pool, stop_task, NULL, 0);
        assert_true(check_reaches(&tasks_page->started, 4, CHECK_HANG_MS));
        assert_int_equal(brood_pool_terminate(pool), 0);
        assert_int_equal(brood_pool_join(pool, CHECK_HANG_MS), 0);
        check_failure(result, -ECANCELED, BROOD_OUTCOME_CANCELED, 0);
        brood_pool_free(pool);
        tasks_finish();
}

static void *stay(void *arg)
{
        while (pause() < 0)
                ;
        return arg;
}

static ssize_t thread_task(const void *arg, size_t size, void *out, size_t room)
{
        pthread_t thread;
        int r = pthread_create(&thread, NULL, stay, NULL);
        return r ? -r : echo_task(arg, size, out, room);
}

static void test_tasks_that_leave_threads(void **state)
{
        (void)state;
        brood_pool *pool = make_pool(2);
        for (int i = 0; i < 10; i++)
                check_value(submit_int(pool, thread_task, i), i);
        check_failure(submit_int(pool, leaving_task, BY_EXIT), -EOWNERDEAD, BROOD_OUTCOME_EXITED, 3);
        check_unhurt(pool);
}

#if !CHECK_ASAN
/* All of its heap, in which its copy of the pool's handle is. */
static ssize_t overwrite_task(const void *arg, size_t size, void *out, size_t room)
{
        char *end = sbrk(0), *start = end - *(const int *)arg;
        (void)size, (void)out, (void)room;
        memset(start, 0xa5, (size_t)(end - start));
        return 0;
}

static void test_tasks_that_overwrite_their_heap(void **state)
{
        (void)state;
        enum { SIZE = 100000 };
        free(malloc(10));
        brood_pool *pool = make_pool(2);
        for (int i = 0; i < 5; i++) {
                brood_result *result = submit_int(pool, overwrite_task, SIZE);
                ssize_t n = brood_result_get(result, NULL, 0, CHECK_HANG_MS);
                assert_true(n == -EOWNERDEAD || n == 0);
                brood_result_free(result);
                /* Its worker may take another one along. */
                for (int j = 0; j < 4; j++)
                        check_value(submit_task(pool, .function = echo_task, .arg = &j, .size = sizeof j, .retries = 2),
                                    j);
        }
        assert_null(brood_pool_reason(pool));
        brood_pool_free(pool);
}
#endif

static ssize_t orphan_task(const void *arg, size_t size, void *out, size_t room)
{
        (void)arg, (void)size, (void)out, (void)room;
        kill(getppid(), SIGKILL);
        while (pause() < 0)
                ;
        return 0;
}

static void test_a_task_that_kills_the_keeper(void **state)
{
        (void)state;
        for (int closed = 0; closed < 2; closed++) {
                brood_pool *pool = make_pool(1);
                pid_t worker = the_worker(pool);
                brood_result *before = submit_int(pool, echo_task, 1);
                assert_int_equal(brood_result_wait(before, CHECK_HANG_MS), 0);
                /* A worker dies with its keeper though it has lost what ties it. */
                if (closed)
                        check_value(submit_int(pool, close_task, WITH_EVENTS), WITH_EVENTS);
                check_failure(submit(pool, orphan_task, NULL, 0), -EPIPE, BROOD_OUTCOME_BROKEN, 0);
                assert_true(support_process_gone(worker, CHECK_HANG_MS));
                assert_non_null(strstr(brood_pool_reason(pool), "SIGKILL"));
                check_value(before, 1);
                brood_pool_free(pool);
        }
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                support_test(test_items_that_fork),
                support_test(test_children_of_tasks),
                support_test(test_tasks_that_leave),
                support_test(test_exit_handlers),
                support_test(test_tasks_that_call_their_pool),
                support_test(test_all_descriptors_closed),
                support_test(test_tasks_that_move),
                support_test(test_tasks_that_block_signals),
                support_test(test_tasks_that_stop),
                support_test(test_tasks_that_leave_threads),
#if !CHECK_ASAN
                support_test(test_tasks_that_overwrite_their_heap),
#endif
                support_test(test_a_task_that_kills_the_keeper),
        };
        return support_main(argc, argv, "pool bad input", tests, array_length(tests), 120);
}
