/* SPDX-License-Identifier: MIT
 *
 * tests/pool/test_pool.c: what include/brood/pool.h and result.h say, sentence by sentence, while nobody dies.
 * Deaths, limits and broken pools are in test_pool_deaths.c.
 */
#include "tasks.h"

#include <brood/queue.h>

#include <dirent.h>
#include <dlfcn.h>
#include <signal.h>

static ssize_t seed_task(const void *arg, size_t size, void *out, size_t room)
{
        (void)arg;
        (void)size;
        if (room < sizeof(int))
                return -EMSGSIZE;
        memcpy(out, &(int){ 8888 }, sizeof(int));
        return sizeof(int);
}

static void test_ten_tasks(void **state)
{
        (void)state;
        brood_pool *pool = NULL;
        brood_result *results[10];
        assert_int_equal(brood_pool_new(&pool, NULL), 0);
        assert_int_equal(brood_pool_processes(pool), brood_cpu_count());
        for (int i = 0; i < 10; i++) {
                char msg[16];
                snprintf(msg, sizeof msg, "Tedu %d", i);
                results[i] = submit(pool, seed_task, msg, strlen(msg) + 1);
        }
        assert_int_equal(brood_pool_close(pool), 0);
        assert_int_equal(brood_pool_join(pool, CHECK_HANG_MS), 0);
        for (int i = 9; i >= 0; i--) {
                int value = 0;
                assert_int_equal(brood_result_get(results[i], &value, sizeof value, 0), sizeof value);
                assert_int_equal(value, 8888);
                brood_result_free(results[i]);
        }
        brood_pool_free(pool);
}

static int count_threads(void)
{
        DIR *tasks = opendir("/proc/self/task");
        int count = -2; /* "." and ".." */
        assert_non_null(tasks);
        while (readdir(tasks) != NULL)
                count++;
        closedir(tasks);
        return count;
}

static void look_at_dispositions(struct sigaction *actions)
{
        memset(actions, 0, (SIGRTMAX + 1) * sizeof *actions);
        for (int i = 1; i <= SIGRTMAX; i++)
                sigaction(i, NULL, &actions[i]);
}

/* All of brood at work at once: the host has no more threads than it made, and its signals are what they were. */
static void test_no_hidden_thread_and_no_handler(void **state)
{
        (void)state;
        static struct sigaction before[65], after[65];
        int threads = count_threads();
        look_at_dispositions(before);
        brood_pool *pool;
        brood_queue *queue;
        assert_int_equal(brood_pool_new(&pool, NULL), 0);
        assert_int_equal(brood_queue_new(&queue, NULL), 0);
        brood_result *result = submit(pool, seed_task, NULL, 0);
        assert_int_equal(brood_queue_put(queue, "x", 1, 0), 0);
        assert_int_equal(brood_result_wait(result, CHECK_HANG_MS), 0);

        assert_int_equal(count_threads(), threads);
        look_at_dispositions(after);
        for (int i = 1; i <= SIGRTMAX; i++) {
                assert_ptr_equal(after[i].sa_handler, before[i].sa_handler);
                assert_int_equal(after[i].sa_flags, before[i].sa_flags);
        }
        brood_result_free(result);
        brood_queue_free(queue);
        brood_pool_free(pool);
}

static void test_new_refuses(void **state)
{
        (void)state;
        static const struct {
                brood_pool_options options;
                int error;
        } refused[] = {
                { { .processes = -1 }, -EINVAL },
                { { .processes = BROOD_POOL_PROCESSES_LIMIT + 1 }, -EINVAL },
                { { .result_size = BROOD_POOL_RESULT_SIZE_LIMIT + 1 }, -EINVAL },
                { { .result_size = SIZE_MAX }, -EINVAL },
                { { .max_tasks = BROOD_POOL_MAX_TASKS_LIMIT + 1 }, -EINVAL },
                { { .max_tasks = SIZE_MAX }, -EINVAL },
                { { .memory = BROOD_POOL_MEMORY_LIMIT + 1 }, -EINVAL },
                { { .memory = SIZE_MAX }, -EINVAL },
                { { .result_size = 2 << 20, .memory = 1 << 20 }, -EINVAL },
        };
        brood_pool *untouched = (brood_pool *)&refused, *pool = untouched;
        assert_int_equal(brood_pool_new(NULL, NULL), -EINVAL);
        for (size_t i = 0; i < array_length(refused); i++) {
                assert_int_equal(brood_pool_new(&pool, &refused[i].options), refused[i].error);
                assert_ptr_equal(pool, untouched);
        }
        struct {
                brood_pool_options known;
                size_t unknown[2];
        } newer = { .known = { .processes = 1 }, .unknown = { 0, 1 } };
        assert_int_equal(brood_pool_new_sized(&pool, &newer.known, sizeof newer), -E2BIG);
        assert_ptr_equal(pool, untouched);
        newer.unknown[1] = 0;
        assert_int_equal(brood_pool_new_sized(&pool, &newer.known, sizeof newer), 0);
        assert_int_equal(brood_pool_processes(pool), 1);
        end_pool(pool);
}

static void test_bad_arguments(void **state)
{
        (void)state;
        char buf[8] = "";
        pid_t pids[4];
        brood_result *untouched = (brood_result *)&buf, *result = untouched;
        brood_pool *pool = make_pool(2);

        assert_int_equal(brood_pool_apply_async(NULL, &result, echo_task, NULL, 0), -EINVAL);
        assert_int_equal(brood_pool_apply_async(pool, &result, NULL, NULL, 0), -EINVAL);
        assert_int_equal(brood_pool_apply_async(pool, &result, echo_task, NULL, 1), -EINVAL);
        assert_int_equal(brood_pool_apply(NULL, echo_task, NULL, 0, buf, 8, 0), -EINVAL);
        assert_int_equal(brood_pool_apply(pool, NULL, NULL, 0, buf, 8, 0), -EINVAL);
        assert_int_equal(brood_pool_apply(pool, echo_task, NULL, 1, buf, 8, 0), -EINVAL);
        assert_int_equal(brood_pool_apply(pool, echo_task, NULL, 0, NULL, 8, 0), -EINVAL);
        assert_int_equal(brood_pool_map(NULL, echo_task, buf, 1, 8, buf, 1, 0, 0), -EINVAL);
        assert_int_equal(brood_pool_map(pool, NULL, buf, 1, 8, buf, 1, 0, 0), -EINVAL);
        assert_int_equal(brood_pool_map(pool, echo_task, NULL, 1, 8, buf, 1, 0, 0), -EINVAL);
        assert_int_equal(brood_pool_map(pool, echo_task, buf, 0, 8, buf, 1, 0, 0), -EINVAL);
        assert_int_equal(brood_pool_map(pool, echo_task, buf, 1, 8, NULL, 1, 0, 0), -EINVAL);
        assert_int_equal(brood_pool_map(pool, echo_task, buf, SIZE_MAX / 2, 3, buf, 1, 0, 0), -EINVAL);
        assert_int_equal(brood_pool_map(pool, echo_task, buf, 1, SIZE_MAX / 2, buf, 3, 0, 0), -EINVAL);
        assert_int_equal(brood_pool_close(NULL), -EINVAL);
        assert_int_equal(brood_pool_terminate(NULL), -EINVAL);
        assert_int_equal(brood_pool_join(NULL, 0), -EINVAL);
        assert_null(brood_pool_reason(NULL));
        assert_null(brood_pool_reason(pool));
        assert_int_equal(brood_pool_workers(NULL, pids, 4), -EINVAL);
        assert_int_equal(brood_pool_workers(pool, NULL, 4), -EINVAL);
        assert_int_equal(brood_pool_workers(pool, NULL, 0), 2);
        assert_int_equal(brood_pool_processes(NULL), -EINVAL);
        brood_pool_free(NULL);

        assert_int_equal(brood_result_get(NULL, buf, 8, 0), -EINVAL);
        assert_int_equal(brood_result_wait(NULL, 0), -EINVAL);
        assert_int_equal(brood_result_ready(NULL), -EINVAL);
        assert_int_equal(brood_result_successful(NULL), -EINVAL);
        assert_int_equal(brood_result_outcome(NULL), -EINVAL);
        assert_int_equal(brood_result_worker(NULL, pids, NULL), -EINVAL);
        assert_string_equal(brood_result_reason(NULL), "");
        brood_result_free(NULL);
        assert_ptr_equal(result, untouched);

        result = submit(pool, echo_task, "x", 1);
        assert_int_equal(brood_result_get(result, NULL, 8, CHECK_HANG_MS), -EINVAL);
        assert_int_equal(brood_result_get(result, buf, 8, CHECK_HANG_MS), 1);
        brood_result_free(result);
        end_pool(pool);
}

static void test_join_wants_close_first(void **state)
{
        (void)state;
        brood_pool *pool = make_pool(2);
        assert_int_equal(brood_pool_join(pool, 0), -EINVAL);
        assert_int_equal(brood_pool_join(pool, BROOD_FOREVER), -EINVAL);
        assert_int_equal(brood_pool_close(pool), 0);
        assert_int_equal(brood_pool_close(pool), 0);
        assert_int_equal(brood_pool_join(pool, CHECK_HANG_MS), 0);
        assert_int_equal(brood_pool_join(pool, 0), 0);
        assert_int_equal(brood_pool_join(pool, CHECK_HANG_MS), 0);
        assert_int_equal(brood_pool_close(pool), 0);
        assert_int_equal(brood_pool_terminate(pool), 0);
        assert_int_equal(brood_pool_workers(pool, NULL, 0), 0);
        assert_int_equal(brood_pool_processes(pool), 2);
        brood_pool_free(pool);
}

static void test_close_lets_tasks_finish(void **state)
{
        (void)state;
        tasks_begin();
        brood_pool *pool = make_pool(2);
        brood_result *results[6], *late = NULL;
        for (int i = 0; i < 6; i++)
                results[i] = submit_int(pool, gated_task, i);
        assert_true(check_reaches(&tasks_page->started, 2, CHECK_HANG_MS));
        assert_int_equal(brood_pool_close(pool), 0);
        assert_int_equal(brood_pool_apply_async(pool, &late, echo_task, NULL, 0), -EPIPE);
        assert_null(late);
        assert_int_equal(brood_pool_apply(pool, echo_task, NULL, 0, NULL, 0, 0), -EPIPE);
        int item = 1;
        assert_int_equal(brood_pool_map(pool, echo_task, &item, sizeof item, 1, &item, sizeof item, 0, 100), -EPIPE);
        assert_null(brood_pool_reason(pool)); /* closed is not broken */
        assert_int_equal(brood_pool_join(pool, 0), -EAGAIN);
        assert_int_equal(brood_pool_join(pool, 30), -ETIMEDOUT);
        atomic_store(&tasks_page->gate, 1);
        assert_int_equal(brood_pool_join(pool, CHECK_HANG_MS), 0);
        for (int i = 0; i < 6; i++) {
                int value = -1;
                assert_int_equal(brood_result_get(results[i], &value, sizeof value, 0), sizeof value);
                assert_int_equal(value, i);
                brood_result_free(results[i]);
        }
        brood_pool_free(pool);
        tasks_finish();
}

static void test_the_life_of_a_result(void **state)
{
        (void)state;
        tasks_begin();
        brood_pool *pool = make_pool(1);
        int value = -1, code = -1;
        pid_t pid = -1, worker;
        brood_result *result = submit_int(pool, gated_task, 42);

        assert_int_equal(brood_result_ready(result), 0);
        assert_int_equal(brood_result_successful(result), -EAGAIN);
        assert_int_equal(brood_result_outcome(result), BROOD_OUTCOME_PENDING);
        assert_int_equal(brood_result_worker(result, &pid, &code), -EAGAIN);
        assert_int_equal(brood_result_wait(result, 0), -EAGAIN);
        assert_int_equal(brood_result_get(result, &value, sizeof value, 0), -EAGAIN);
        int64_t start = support_now_ms();
        assert_int_equal(brood_result_wait(result, 30), -ETIMEDOUT);
        assert_int_equal(brood_result_get(result, &value, sizeof value, 30), -ETIMEDOUT);
        assert_true(support_now_ms() - start >= 59);
        assert_non_null(brood_result_reason(result));
        assert_int_equal(pid, -1);
        assert_int_equal(code, -1);
        assert_int_equal(value, -1);

        assert_int_equal(brood_pool_workers(pool, &worker, 1), 1);
        atomic_store(&tasks_page->gate, 1);
        assert_int_equal(brood_result_wait(result, CHECK_HANG_MS), 0);
        assert_int_equal(brood_result_wait(result, 0), 0);
        assert_int_equal(brood_result_ready(result), 1);
        assert_int_equal(brood_result_successful(result), 1);
        assert_int_equal(brood_result_outcome(result), BROOD_OUTCOME_OK);
        assert_int_equal(brood_result_worker(result, &pid, &code), 0);
        assert_int_equal(pid, worker);
        assert_int_equal(code, 0);
        assert_int_equal(brood_result_worker(result, NULL, NULL), 0);
        assert_non_null(brood_result_reason(result));

        /* As often as wanted, and not by halves. */
        assert_int_equal(brood_result_get(result, &value, sizeof value - 1, 0), -EMSGSIZE);
        assert_int_equal(brood_result_get(result, NULL, 0, CHECK_HANG_MS), -EMSGSIZE);
        assert_int_equal(value, -1);
        for (int i = 0; i < 3; i++) {
                value = -1;
                assert_int_equal(brood_result_get(result, &value, sizeof value, i ? 0 : BROOD_FOREVER), sizeof value);
                assert_int_equal(value, 42);
        }
        brood_result_free(result);
        end_pool(pool);
        tasks_finish();
}

static ssize_t no_bytes_task(const void *arg, size_t size, void *out, size_t room)
{
        (void)arg;
        (void)size;
        (void)out;
        (void)room;
        return 0;
}

/* Returns what its argument, a ssize_t, says; writes nothing. */
static ssize_t return_task(const void *arg, size_t size, void *out, size_t room)
{
        (void)size;
        (void)out;
        (void)room;
        return *(const ssize_t *)arg;
}

static ssize_t fill_task(const void *arg, size_t size, void *out, size_t room)
{
        (void)size;
        memset(out, *(const unsigned char *)arg, room);
        return (ssize_t)room;
}

static void test_errors_of_the_function(void **state)
{
        (void)state;
        brood_pool *pool = make_pool(2);
        char buf[64] = "untouched";
        static const ssize_t codes[] = { -1, -ENOENT, -EAGAIN, -EINVAL, -EPIPE, -EOWNERDEAD, -ETIMEDOUT, -4095 };
        for (size_t i = 0; i < array_length(codes); i++) {
                brood_result *result = submit(pool, return_task, &codes[i], sizeof codes[i]);
                pid_t pid = -1;
                int code = -1;
                assert_int_equal(brood_result_get(result, buf, sizeof buf, CHECK_HANG_MS), codes[i]);
                assert_int_equal(brood_result_get(result, buf, sizeof buf, 0), codes[i]);
                assert_int_equal(brood_result_successful(result), 0);
                assert_int_equal(brood_result_ready(result), 1);
                assert_int_equal(brood_result_outcome(result), BROOD_OUTCOME_ERROR);
                assert_int_equal(brood_result_worker(result, &pid, &code), 0);
                assert_true(pid > 0);
                assert_int_equal(code, 0);
                assert_true(strlen(brood_result_reason(result)) > 0);
                brood_result_free(result);
                assert_int_equal(
                    brood_pool_apply(pool, return_task, &codes[i], sizeof codes[i], buf, sizeof buf, CHECK_HANG_MS),
                    codes[i]);
        }
        /* More than it had room for. */
        static const ssize_t beyond[] = { BROOD_POOL_RESULT_SIZE_DEFAULT + 1, PTRDIFF_MAX };
        for (size_t i = 0; i < array_length(beyond); i++) {
                brood_result *result = submit(pool, return_task, &beyond[i], sizeof beyond[i]);
                assert_int_equal(brood_result_get(result, buf, sizeof buf, CHECK_HANG_MS), -EMSGSIZE);
                assert_int_equal(brood_result_outcome(result), BROOD_OUTCOME_ERROR);
                brood_result_free(result);
        }
        /* A number that is no errno is an error all the same. */
        ssize_t lowest = PTRDIFF_MIN;
        ssize_t n = brood_pool_apply(pool, return_task, &lowest, sizeof lowest, buf, sizeof buf, CHECK_HANG_MS);
        assert_true(n < 0);
        assert_string_equal(buf, "untouched");
        end_pool(pool);
}

static void test_sizes_of_arguments_and_results(void **state)
{
        (void)state;
        static const size_t sizes[] = {
                0, 1, 15, 16, 17, 63, 64, 65, 255, 1023, 1024, 4095, 4096, 4097, 65536, 1 << 20
        };
        size_t room = 1 << 20;
        unsigned char *in = malloc(room), *out = malloc(room);
        brood_pool *pool = NULL;
        assert_int_equal(brood_pool_new(&pool, &(brood_pool_options){ .processes = 2, .result_size = room }), 0);
        for (size_t i = 0; i < array_length(sizes); i++) {
                for (size_t j = 0; j < sizes[i]; j++)
                        in[j] = (unsigned char)(check_mix(i + j / 8) >> (8 * (j % 8)));
                memset(out, 0, room);
                assert_int_equal(brood_pool_apply(pool, echo_task, in, sizes[i], out, room, CHECK_HANG_MS), sizes[i]);
                assert_memory_equal(in, out, sizes[i]);
        }
        /* A result as large as its room. */
        assert_int_equal(brood_pool_apply(pool, fill_task, "q", 1, out, room, CHECK_HANG_MS), room);
        for (size_t i = 0; i < room; i++)
                assert_int_equal(out[i], 'q');
        /* An argument larger than a result, and one of nothing. */
        unsigned char *large = calloc(5, room);
        brood_result *result = submit(pool, no_bytes_task, large, 5 * room);
        assert_int_equal(brood_result_get(result, NULL, 0, CHECK_HANG_MS), 0);
        brood_result_free(result);
        assert_int_equal(brood_pool_apply(pool, no_bytes_task, NULL, 0, NULL, 0, CHECK_HANG_MS), 0);
        free(large);
        free(in);
        free(out);
        end_pool(pool);

        assert_int_equal(brood_pool_new(&pool, &(brood_pool_options){ .processes = 1, .result_size = 1 }), 0);
        char byte = 0;
        assert_int_equal(brood_pool_apply(pool, fill_task, "r", 1, &byte, 1, CHECK_HANG_MS), 1);
        assert_int_equal(byte, 'r');
        assert_int_equal(brood_pool_apply(pool, echo_task, "rr", 2, &byte, 1, CHECK_HANG_MS), -EMSGSIZE);
        end_pool(pool);
}

static ssize_t look_task(const void *arg, size_t size, void *out, size_t room)
{
        (void)size;
        struct sigaction usr1, chld;
        sigset_t mask;
        sigprocmask(SIG_SETMASK, NULL, &mask);
        sigaction(SIGUSR1, NULL, &usr1);
        sigaction(SIGCHLD, NULL, &chld);
        int look[6] = { usr1.sa_handler == SIG_IGN,
                        sigismember(&mask, SIGUSR2),
                        sigismember(&mask, SIGTERM) || sigismember(&mask, SIGINT) || sigismember(&mask, SIGCHLD),
                        (uintptr_t)arg % 16 == 0,
                        (uintptr_t)out % 16 == 0,
                        (int)room };
        memcpy(out, look, sizeof look);
        return sizeof look;
}

static void test_what_a_task_finds(void **state)
{
        (void)state;
        struct sigaction before;
        sigset_t mask, old;
        sigaction(SIGUSR1, &(struct sigaction){ .sa_handler = SIG_IGN }, &before);
        sigemptyset(&mask);
        sigaddset(&mask, SIGUSR2);
        sigprocmask(SIG_BLOCK, &mask, &old);
        brood_pool *pool = make_pool(2);
        sigprocmask(SIG_SETMASK, &old, NULL);
        sigaction(SIGUSR1, &before, NULL);

        for (size_t size = 1; size < 40; size++) {
                char arg[40] = "";
                int look[6] = { 0 };
                assert_int_equal(brood_pool_apply(pool, look_task, arg, size, look, sizeof look, CHECK_HANG_MS),
                                 sizeof look);
                assert_int_equal(look[0], 1);
                assert_int_equal(look[1], 1);
                assert_int_equal(look[2], 0);
                assert_int_equal(look[3], 1);
                assert_int_equal(look[4], 1);
                assert_int_equal(look[5], BROOD_POOL_RESULT_SIZE_DEFAULT);
        }
        /* The one that comes later has them too. */
        pid_t pids[16];
        await_workers(pool, pids);
        for (int i = 0; i < 2; i++) {
                kill(pids[i], SIGKILL);
                support_process_gone(pids[i], CHECK_HANG_MS);
        }
        await_workers(pool, NULL);
        int look[6] = { 0 };
        assert_int_equal(brood_pool_apply(pool, look_task, "", 1, look, sizeof look, CHECK_HANG_MS), sizeof look);
        assert_int_equal(look[0], 1);
        assert_int_equal(look[1], 1);
        assert_int_equal(look[2], 0);
        end_pool(pool);
}

static void test_apply(void **state)
{
        (void)state;
        tasks_begin();
        brood_pool *pool = make_pool(1);
        int value = 5, out = 0;
        assert_int_equal(brood_pool_apply(pool, echo_task, &value, sizeof value, &out, sizeof out, BROOD_FOREVER),
                         sizeof out);
        assert_int_equal(out, 5);
        assert_int_equal(brood_pool_apply(pool, echo_task, "abcdef", 6, &out, sizeof out, CHECK_HANG_MS), -EMSGSIZE);
        assert_int_equal(out, 5);

        /* Given up, a task goes on. */
        assert_int_equal(brood_pool_apply(pool, gated_task, &value, sizeof value, &out, sizeof out, 0), -EAGAIN);
        assert_int_equal(brood_pool_apply(pool, gated_task, &value, sizeof value, &out, sizeof out, 30), -ETIMEDOUT);
        atomic_store(&tasks_page->gate, 1);
        assert_true(check_reaches(&tasks_page->ended, 2, CHECK_HANG_MS));
        assert_int_equal(brood_pool_apply(pool, echo_task, &value, sizeof value, &out, sizeof out, CHECK_HANG_MS), 4);
        end_pool(pool);
        tasks_finish();
}

static void test_nobody_wants_to_know(void **state)
{
        (void)state;
        tasks_begin();
        brood_pool *pool = NULL;
        int value = 1;
        /* Such a task holds its place only until it has ended. */
        assert_int_equal(brood_pool_new(&pool, &(brood_pool_options){ .processes = 2, .max_tasks = 4 }), 0);
        atomic_store(&tasks_page->gate, 1);
        for (int i = 0; i < 200; i++) {
                int r;
                while ((r = brood_pool_apply_async(pool, NULL, gated_task, &value, sizeof value)) == -ENOBUFS)
                        usleep(100);
                assert_int_equal(r, 0);
        }
        assert_int_equal(brood_pool_close(pool), 0);
        assert_int_equal(brood_pool_join(pool, CHECK_HANG_MS), 0);
        assert_int_equal(atomic_load(&tasks_page->ended), 200);
        brood_pool_free(pool);
        tasks_finish();
}

static ssize_t square_task(const void *arg, size_t size, void *out, size_t room)
{
        int value;
        if (size != sizeof value || room < sizeof value)
                return -EDOM;
        memcpy(&value, arg, sizeof value);
        if (value < 0)
                return value;
        if (value == 1000000)
                exit(3);
        value *= value;
        memcpy(out, &value, sizeof value);
        return sizeof value;
}

/* Writes as many bytes 'x' as its argument says. */
static ssize_t bytes_task(const void *arg, size_t size, void *out, size_t room)
{
        (void)size;
        unsigned char count = *(const unsigned char *)arg;
        memset(out, 'x', count < room ? count : room);
        return count;
}

static void test_map(void **state)
{
        (void)state;
        enum { COUNT = 1000 };
        static int items[COUNT], results[COUNT];
        static const size_t chunks[] = { 0, 1, 7, 999, 1000, 1001, SIZE_MAX };
        brood_pool *pool = make_pool(3);
        for (int i = 0; i < COUNT; i++)
                items[i] = i;
        for (size_t c = 0; c < array_length(chunks); c++) {
                memset(results, 0xff, sizeof results);
                assert_int_equal(brood_pool_map(pool, square_task, items, sizeof items[0], COUNT, results,
                                                sizeof results[0], chunks[c], CHECK_HANG_MS),
                                 0);
                for (int i = 0; i < COUNT; i++)
                        assert_int_equal(results[i], i * i);
        }
        /* None, and one; nothing to write. */
        assert_int_equal(brood_pool_map(pool, square_task, items, sizeof items[0], 0, results, sizeof results[0], 0, 0),
                         0);
        assert_int_equal(brood_pool_map(pool, square_task, NULL, 0, 0, NULL, 0, 0, BROOD_FOREVER), 0);
        results[0] = -1;
        assert_int_equal(brood_pool_map(pool, square_task, items + 3, sizeof items[0], 1, results, sizeof results[0], 0,
                                        CHECK_HANG_MS),
                         0);
        assert_int_equal(results[0], 9);
        assert_int_equal(brood_pool_map(pool, no_bytes_task, items, sizeof items[0], COUNT, NULL, 0, 0, CHECK_HANG_MS),
                         0);

        /* Shorter results are padded with zeros. */
        unsigned char counts[9], texts[9][8];
        memset(texts, 0xff, sizeof texts);
        for (unsigned char i = 0; i < 9; i++)
                counts[i] = i;
        assert_int_equal(brood_pool_map(pool, bytes_task, counts, 1, 9, texts, 8, 2, CHECK_HANG_MS), 0);
        for (int i = 0; i < 9; i++)
                for (int j = 0; j < 8; j++)
                        assert_int_equal(texts[i][j], j < i ? 'x' : 0);
        end_pool(pool);
}

static void test_map_fails(void **state)
{
        (void)state;
        enum { COUNT = 100 };
        int items[COUNT], results[COUNT];
        tasks_begin();
        brood_pool *pool = make_pool(2);
        memset(results, 0x55, sizeof results);
        for (int i = 0; i < COUNT; i++)
                items[i] = i;

        /* An item's own error. */
        items[57] = -ENOTDIR;
        for (size_t chunk = 0; chunk < 9; chunk += 4)
                assert_int_equal(brood_pool_map(pool, square_task, items, sizeof items[0], COUNT, results,
                                                sizeof results[0], chunk, CHECK_HANG_MS),
                                 -ENOTDIR);
        /* The first of several in one chunk. */
        items[58] = -EISDIR;
        assert_int_equal(brood_pool_map(pool, square_task, items, sizeof items[0], COUNT, results, sizeof results[0],
                                        COUNT, CHECK_HANG_MS),
                         -ENOTDIR);
        /* One that writes too much. */
        unsigned char counts[3] = { 3, 9, 3 };
        assert_int_equal(brood_pool_map(pool, bytes_task, counts, 1, 3, results, 8, 0, CHECK_HANG_MS), -EMSGSIZE);
        /* A worker's death. */
        items[57] = 1000000;
        items[58] = 58;
        assert_int_equal(brood_pool_map(pool, square_task, items, sizeof items[0], COUNT, results, sizeof results[0],
                                        10, CHECK_HANG_MS),
                         -EOWNERDEAD);
        /* Time. */
        assert_int_equal(brood_pool_map(pool, gated_task, items, sizeof items[0], 4, results, sizeof results[0], 1, 0),
                         -EAGAIN);
        assert_int_equal(brood_pool_map(pool, gated_task, items, sizeof items[0], 4, results, sizeof results[0], 1, 30),
                         -ETIMEDOUT);
        atomic_store(&tasks_page->gate, 1);
        for (size_t i = 0; i < sizeof results; i++)
                assert_int_equal(((unsigned char *)results)[i], 0x55);

        /* And the pool goes on. */
        items[57] = 57;
        assert_int_equal(brood_pool_map(pool, square_task, items, sizeof items[0], COUNT, results, sizeof results[0], 0,
                                        CHECK_HANG_MS),
                         0);
        assert_int_equal(results[57], 57 * 57);
        end_pool(pool);
        tasks_finish();
}

/* Results and pool are freed in any order, before and after the task has ended. */
static void test_freed_in_any_order(void **state)
{
        (void)state;
        tasks_begin();
        brood_pool *pool = make_pool(2);
        brood_result *early[8], *kept = submit_int(pool, echo_task, 7), *unfinished;
        int value = 0;
        for (int i = 0; i < 8; i++)
                early[i] = submit_int(pool, gated_task, i);
        assert_true(check_reaches(&tasks_page->started, 2, CHECK_HANG_MS));
        for (int i = 0; i < 8; i++)
                brood_result_free(early[i]); /* two run, six have not begun */
        atomic_store(&tasks_page->gate, 1);
        assert_true(check_reaches(&tasks_page->ended, 8, CHECK_HANG_MS)); /* they go on */

        atomic_store(&tasks_page->gate, 0);
        unfinished = submit_int(pool, gated_task, 1);
        assert_true(check_reaches(&tasks_page->started, 9, CHECK_HANG_MS));
        assert_int_equal(brood_result_wait(kept, CHECK_HANG_MS), 0);
        int64_t start = support_now_ms();
        brood_pool_free(pool);
        assert_true(support_now_ms() - start < 5000);

        assert_int_equal(brood_result_get(kept, &value, sizeof value, 0), sizeof value);
        assert_int_equal(value, 7);
        assert_int_equal(brood_result_outcome(kept), BROOD_OUTCOME_OK);
        assert_int_equal(brood_result_get(unfinished, &value, sizeof value, BROOD_FOREVER), -ECANCELED);
        assert_int_equal(brood_result_ready(unfinished), 1);
        assert_int_equal(brood_result_successful(unfinished), 0);
        assert_int_equal(brood_result_outcome(unfinished), BROOD_OUTCOME_CANCELED);
        assert_true(strlen(brood_result_reason(unfinished)) > 0);
        brood_result_free(unfinished);
        assert_int_equal(brood_result_get(kept, &value, sizeof value, 0), sizeof value);
        brood_result_free(kept);
        tasks_finish();
}

struct waiter {
        brood_result *result;
        int wanted;
        bool in_wait;
        atomic_int *ready;
};

static int wait_for_result(void *arg)
{
        struct waiter *waiter = arg;
        int value = 0;
        atomic_fetch_add(waiter->ready, 1);
        if (waiter->in_wait) {
                require_int(brood_result_wait(waiter->result, 2 * CHECK_HANG_MS), 0);
                require_int(brood_result_ready(waiter->result), 1);
        }
        require_int(brood_result_get(waiter->result, &value, sizeof value, 2 * CHECK_HANG_MS), waiter->wanted);
        return 0;
}

static void test_terminate_wakes_waiters(void **state)
{
        (void)state;
        tasks_begin();
        brood_pool *pool = make_pool(2);
        brood_result *finished = submit_int(pool, echo_task, 3), *results[8];
        struct waiter waiters[8];
        struct check_thread threads[8];
        assert_int_equal(brood_result_wait(finished, CHECK_HANG_MS), 0);
        for (int i = 0; i < 8; i++) {
                results[i] = submit_int(pool, gated_task, i);
                waiters[i] = (struct waiter){ results[i], -ECANCELED, i % 2, &tasks_page->number };
        }
        for (int i = 0; i < 8; i++)
                check_thread_start(&threads[i], wait_for_result, &waiters[i]);
        assert_true(check_reaches(&tasks_page->number, 8, CHECK_HANG_MS));
        assert_true(check_reaches(&tasks_page->started, 2, CHECK_HANG_MS));
        int64_t start = support_now_ms();
        assert_int_equal(brood_pool_terminate(pool), 0);
        for (int i = 0; i < 8; i++)
                assert_int_equal(check_thread_join(&threads[i]), 0);
        assert_int_equal(brood_pool_terminate(pool), 0);
        brood_result *late = NULL;
        assert_int_equal(brood_pool_apply_async(pool, &late, echo_task, NULL, 0), -ECANCELED);
        assert_null(late);
        assert_int_equal(brood_pool_join(pool, CHECK_HANG_MS), 0);
        assert_int_equal(brood_pool_join(pool, 0), 0);
        assert_true(support_now_ms() - start < 3000);
        assert_int_equal(brood_pool_workers(pool, NULL, 0), 0);
        int value = 0;
        assert_int_equal(brood_result_get(finished, &value, sizeof value, 0), sizeof value);
        assert_int_equal(value, 3);
        for (int i = 0; i < 8; i++) {
                assert_int_equal(brood_result_outcome(results[i]), BROOD_OUTCOME_CANCELED);
                brood_result_free(results[i]);
        }
        brood_result_free(finished);
        brood_pool_free(pool);
        tasks_finish();
}

static void test_many_wait_for_one_result(void **state)
{
        (void)state;
        tasks_begin();
        brood_pool *pool = make_pool(1);
        brood_result *result = submit_int(pool, gated_task, 1);
        struct waiter waiters[6];
        struct check_thread threads[6];
        for (int i = 0; i < 6; i++) {
                waiters[i] = (struct waiter){ result, sizeof(int), i % 2, &tasks_page->number };
                check_thread_start(&threads[i], wait_for_result, &waiters[i]);
        }
        assert_true(check_reaches(&tasks_page->number, 6, CHECK_HANG_MS));
        atomic_store(&tasks_page->gate, 1);
        for (int i = 0; i < 6; i++)
                assert_int_equal(check_thread_join(&threads[i]), 0);
        brood_result_free(result);
        end_pool(pool);
        tasks_finish();
}

struct stranger {
        brood_pool *pool;
        brood_result *result;
};

static int use_as_stranger(void *arg)
{
        struct stranger *s = arg;
        brood_result *result = NULL;
        char buf[8] = "";
        pid_t pid;
        int code;
        require_int(brood_pool_apply_async(s->pool, &result, echo_task, NULL, 0), -EPERM);
        require(result == NULL);
        require_int(brood_pool_apply(s->pool, echo_task, NULL, 0, buf, 8, 100), -EPERM);
        require_int(brood_pool_map(s->pool, echo_task, buf, 1, 8, buf, 1, 0, 100), -EPERM);
        require_int(brood_pool_close(s->pool), -EPERM);
        require_int(brood_pool_terminate(s->pool), -EPERM);
        require_int(brood_pool_join(s->pool, 100), -EPERM);
        require_int(brood_pool_workers(s->pool, NULL, 0), -EPERM);
        require_int(brood_result_get(s->result, buf, 8, 100), -EPERM);
        require_int(brood_result_wait(s->result, 100), -EPERM);
        require_int(brood_result_ready(s->result), -EPERM);
        require_int(brood_result_successful(s->result), -EPERM);
        require_int(brood_result_outcome(s->result), -EPERM);
        require_int(brood_result_worker(s->result, &pid, &code), -EPERM);
        brood_result_free(s->result);
        brood_pool_free(s->pool);
        /* A child has pools of its own. */
        brood_pool *own;
        require_int(brood_pool_new(&own, &(brood_pool_options){ .processes = 1 }), 0);
        require_int(brood_pool_apply(own, echo_task, "own", 4, buf, 8, CHECK_HANG_MS), 4);
        brood_pool_free(own);
        require_int(tasks_count_children(), 0);
        return 0;
}

static void test_in_a_forked_child(void **state)
{
        (void)state;
        tasks_begin();
        struct stranger s = { .pool = make_pool(2) };
        s.result = submit_int(s.pool, gated_task, 4);
        check_in_child(use_as_stranger, &s);
        atomic_store(&tasks_page->gate, 1);
        int value = 0;
        assert_int_equal(brood_result_get(s.result, &value, sizeof value, CHECK_HANG_MS), sizeof value);
        assert_int_equal(value, 4);
        brood_result_free(s.result);
        end_pool(s.pool);
        tasks_finish();
}

static void test_two_pools_at_once(void **state)
{
        (void)state;
        tasks_begin();
        brood_pool *a = make_pool(2), *b = make_pool(2);
        brood_result *stuck = submit_int(a, gated_task, 1);
        int value = 0;
        for (int i = 0; i < 50; i++) {
                brood_result *results[2] = { submit_int(a, echo_task, i), submit_int(b, echo_task, -i) };
                assert_int_equal(brood_result_get(results[1], &value, sizeof value, CHECK_HANG_MS), sizeof value);
                assert_int_equal(value, -i);
                assert_int_equal(brood_result_get(results[0], &value, sizeof value, CHECK_HANG_MS), sizeof value);
                assert_int_equal(value, i);
                brood_result_free(results[0]);
                brood_result_free(results[1]);
        }
        /* The end of one is not the end of the other. */
        assert_int_equal(brood_pool_terminate(b), 0);
        assert_int_equal(brood_pool_join(b, CHECK_HANG_MS), 0);
        brood_pool_free(b);
        assert_int_equal(brood_pool_workers(a, NULL, 0), 2);
        atomic_store(&tasks_page->gate, 1);
        assert_int_equal(brood_result_get(stuck, &value, sizeof value, CHECK_HANG_MS), sizeof value);
        brood_result_free(stuck);
        end_pool(a);
        tasks_finish();
}

struct submitter {
        brood_pool *pool;
        int first, count;
};

static int submit_many(void *arg)
{
        struct submitter *s = arg;
        enum { WINDOW = 32 };
        brood_result *window[WINDOW];
        for (int i = 0; i < s->count + WINDOW; i++) {
                if (i >= WINDOW) {
                        int value = 0;
                        require_int(brood_result_get(window[i % WINDOW], &value, sizeof value, CHECK_HANG_MS),
                                    sizeof value);
                        require_int(value, s->first + i - WINDOW);
                        brood_result_free(window[i % WINDOW]);
                }
                if (i < s->count) {
                        int value = s->first + i;
                        require_int(
                            brood_pool_apply_async(s->pool, &window[i % WINDOW], echo_task, &value, sizeof value), 0);
                }
        }
        return 0;
}

static void test_four_threads_submit(void **state)
{
        (void)state;
        brood_pool *pool = make_pool(3);
        struct submitter submitters[4];
        struct check_thread threads[4];
        for (int i = 0; i < 4; i++) {
                submitters[i] = (struct submitter){ pool, i * 100000, 5000 };
                check_thread_start(&threads[i], submit_many, &submitters[i]);
        }
        for (int i = 0; i < 4; i++)
                assert_int_equal(check_thread_join(&threads[i]), 0);
        end_pool(pool);
}

static int initialize(void *arg)
{
        atomic_fetch_add(&tasks_page->initialized, 1);
        memcpy(&tasks_page->number, arg, sizeof(int));
        return 0;
}

static void test_initializer(void **state)
{
        (void)state;
        tasks_begin();
        int number = 4711;
        brood_pool *pool = NULL;
        brood_pool_options options = {
                .processes = 3, .initializer = initialize, .initarg = &number, .initarg_size = sizeof number
        };
        assert_int_equal(brood_pool_new(&pool, &options), 0);
        assert_true(check_reaches(&tasks_page->initialized, 3, CHECK_HANG_MS));
        assert_int_equal(atomic_load(&tasks_page->number), 4711);
        pid_t pids[16];
        await_workers(pool, pids);
        kill(pids[1], SIGKILL);
        assert_true(check_reaches(&tasks_page->initialized, 4, CHECK_HANG_MS));
        await_workers(pool, NULL);
        end_pool(pool);
        assert_int_equal(atomic_load(&tasks_page->initialized), 4);
        tasks_finish();
}

/* Each task prints one line, the host prints some; all of it through stdio, into a file, so that buffers are full ones. */
static ssize_t print_task(const void *arg, size_t size, void *out, size_t room)
{
        (void)size;
        (void)out;
        (void)room;
        printf("task %d\n", *(const int *)arg);
        return 0;
}

static int print_much(void *arg)
{
        int fd = *(int *)arg;
        require(dup2(fd, STDOUT_FILENO) == STDOUT_FILENO);
        /* A fresh buffer: the harness's stdout is line-buffered. */
        static char buffer[65536];
        require_int(setvbuf(stdout, buffer, _IOFBF, sizeof buffer), 0);
        printf("before\n");
        brood_pool *pool;
        require_int(brood_pool_new(&pool, &(brood_pool_options){ .processes = 3 }), 0);
        printf("between\n");
        for (int i = 0; i < 300; i++)
                require_int(brood_pool_apply_async(pool, NULL, print_task, &i, sizeof i), 0);
        require_int(brood_pool_close(pool), 0);
        require_int(brood_pool_join(pool, CHECK_HANG_MS), 0);
        brood_pool_free(pool);
        printf("after\n");
        return 0;
}

static void test_no_output_lost_or_doubled(void **state)
{
        (void)state;
        FILE *file = tmpfile();
        assert_non_null(file);
        int fd = fileno(file);
        assert_int_equal(fcntl(fd, F_SETFL, O_APPEND), 0); /* one offset, many writers */
        check_in_child(print_much, &fd);
        int seen[300] = { 0 }, words[3] = { 0 }, other = 0, i;
        char line[64];
        rewind(file);
        while (fgets(line, sizeof line, file)) {
                if (sscanf(line, "task %d\n", &i) == 1 && i >= 0 && i < 300)
                        seen[i]++;
                else if (!strcmp(line, "before\n"))
                        words[0]++;
                else if (!strcmp(line, "between\n"))
                        words[1]++;
                else if (!strcmp(line, "after\n"))
                        words[2]++;
                else
                        other++;
        }
        fclose(file);
        for (i = 0; i < 300; i++)
                assert_int_equal(seen[i], 1);
        for (i = 0; i < 3; i++)
                assert_int_equal(words[i], 1);
        assert_int_equal(other, 0);
}

static void test_functions_that_workers_do_not_have(void **state)
{
        (void)state;
        brood_pool *pool = make_pool(1);
        brood_result *result = NULL;
        long size = sysconf(_SC_PAGESIZE);
        void *page = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        assert_true(page != MAP_FAILED);
        memset(page, 0xc3, (size_t)size);
        assert_int_equal(mprotect(page, (size_t)size, PROT_READ | PROT_EXEC), 0);
        static const uintptr_t bogus[] = { 1, 4096, 0x7ffffffff000, UINTPTR_MAX, (uintptr_t)INTPTR_MIN };
        for (size_t i = 0; i < array_length(bogus); i++)
                assert_int_equal(brood_pool_apply_async(pool, &result, (brood_task_function)bogus[i], NULL, 0),
                                 -ENOEXEC);
        assert_int_equal(brood_pool_apply_async(pool, &result, (brood_task_function)(uintptr_t)page, NULL, 0),
                         -ENOEXEC);
        assert_int_equal(brood_pool_apply(pool, (brood_task_function)(uintptr_t)page, NULL, 0, NULL, 0, 100), -ENOEXEC);
        int item = 0;
        assert_int_equal(
            brood_pool_map(pool, (brood_task_function)(uintptr_t)page, &item, sizeof item, 1, NULL, 0, 0, 100),
            -ENOEXEC);
        assert_null(result);
        munmap(page, (size_t)size);
        assert_int_equal(brood_pool_apply(pool, no_bytes_task, NULL, 0, NULL, 0, CHECK_HANG_MS), 0);
        end_pool(pool);
}

static void test_function_in_a_library(void **state)
{
        (void)state;
        const char *path = getenv("BROOD_TEST_MODULE");
        if (!path)
                skip();
        brood_pool *early = make_pool(1);
        void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        assert_non_null(module);
        brood_task_function late_task;
        *(void **)&late_task = dlsym(module, "late_task");
        assert_non_null(late_task);
        brood_pool *late = make_pool(1);
        char buf[8] = "";
        brood_result *result = NULL;
        assert_int_equal(brood_pool_apply_async(early, &result, late_task, NULL, 0), -ENOEXEC);
        assert_null(result);
        if (tasks_method == BROOD_START_FORK) {
                assert_int_equal(brood_pool_apply(late, late_task, NULL, 0, buf, sizeof buf, CHECK_HANG_MS), 5);
                assert_string_equal(buf, "late");
        } else {
                /* The program that was run again has not loaded it. */
                assert_int_equal(brood_pool_apply_async(late, &result, late_task, NULL, 0), -ENOEXEC);
        }
        end_pool(early);
        end_pool(late);
        dlclose(module);
}

static void test_no_descriptor_and_no_mapping_is_left(void **state)
{
        (void)state;
        end_pool(make_pool(1));
        int descriptors = support_count_descriptors(), mappings = support_count_mappings();
        for (int i = 0; i < 60; i++) {
                brood_pool *pool = make_pool(1 + i % 3);
                brood_result *result = submit_int(pool, echo_task, i);
                if (i % 2)
                        brood_pool_free(pool);
                brood_result_free(result);
                if (i % 2 == 0)
                        end_pool(pool);
        }
        assert_int_equal(support_count_descriptors(), descriptors);
        /* The allocator may have grown; a sanitizer's does.  (The harness counts those of memfds.) */
        assert_true(CHECK_ASAN || support_count_mappings() <= mappings + 4);
        assert_int_equal(tasks_count_children(), 0);
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                support_test(test_ten_tasks),
                support_test(test_no_hidden_thread_and_no_handler),
                support_test(test_new_refuses),
                support_test(test_bad_arguments),
                support_test(test_join_wants_close_first),
                support_test(test_close_lets_tasks_finish),
                support_test(test_the_life_of_a_result),
                support_test(test_errors_of_the_function),
                support_test(test_sizes_of_arguments_and_results),
                support_test(test_what_a_task_finds),
                support_test(test_apply),
                support_test(test_nobody_wants_to_know),
                support_test(test_map),
                support_test(test_map_fails),
                support_test(test_freed_in_any_order),
                support_test(test_terminate_wakes_waiters),
                support_test(test_many_wait_for_one_result),
                support_test(test_in_a_forked_child),
                support_test(test_two_pools_at_once),
                support_test(test_four_threads_submit),
                support_test(test_initializer),
                support_test(test_no_output_lost_or_doubled),
                support_test(test_functions_that_workers_do_not_have),
                support_test(test_function_in_a_library),
                support_test(test_no_descriptor_and_no_mapping_is_left),
        };
        return tasks_main(argc, argv, "pool", tests, array_length(tests), 90);
}
