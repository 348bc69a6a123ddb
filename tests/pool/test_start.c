/* SPDX-License-Identifier: MIT
 *
 * tests/pool/test_start.c: what is different from one start method of a pool to the other.  What is the same, the other programs of
 * this directory show, which run by each of them.
 */
#include "tasks.h"

#include <dlfcn.h>

static const int methods[] = { BROOD_START_FORK, BROOD_START_SPAWN, BROOD_START_FORKSERVER };

static brood_pool *make_by(int method, int processes)
{
        brood_pool *pool = NULL;
        assert_int_equal(brood_pool_new(&pool, &(brood_pool_options){ .processes = processes, .start_method = method }),
                         0);
        return pool;
}

static void check_echo(brood_pool *pool, int value)
{
        check_value(submit_int(pool, echo_task, value), value);
}

/* ---- whose memory it is ---- */

static int number = 1; /* in the program's file */

static ssize_t number_task(const void *arg, size_t size, void *out, size_t room)
{
        (void)arg, (void)size, (void)room;
        memcpy(out, &number, sizeof number);
        return sizeof number;
}

static void test_whose_memory(void **state)
{
        (void)state;
        number = 2;
        for (size_t i = 0; i < array_length(methods); i++) {
                brood_pool *pool = make_by(methods[i], 2);
                check_value(submit(pool, number_task, NULL, 0), methods[i] == BROOD_START_FORK ? 2 : 1);
                end_pool(pool);
        }
        number = 1;
}

/* Without a choice of its own it follows the one for all; and three pools of three kinds live side by side. */
static void test_which_method(void **state)
{
        (void)state;
        number = 2;
        brood_pool *pools[3][2];
        for (size_t i = 0; i < array_length(methods); i++) {
                assert_int_equal(brood_set_start_method((brood_start_method)methods[i]), 0);
                pools[i][0] = make_by(BROOD_START_DEFAULT, 1);
                pools[i][1] = make_by(BROOD_START_FORK, 1);
        }
        assert_int_equal(brood_set_start_method(BROOD_START_DEFAULT), 0);
        for (size_t i = 0; i < array_length(methods); i++) {
                check_value(submit(pools[i][0], number_task, NULL, 0), methods[i] == BROOD_START_FORK ? 2 : 1);
                check_value(submit(pools[i][1], number_task, NULL, 0), 2);
                end_pool(pools[i][0]);
                end_pool(pools[i][1]);
        }
        number = 1;
}

/* A task that makes a pool by fork: its workers are copies of that worker, which is no copy of the host. */
static ssize_t pool_task(const void *arg, size_t size, void *out, size_t room)
{
        brood_pool *pool;
        int r = brood_pool_new(&pool, &(brood_pool_options){ .processes = 1, .start_method = *(const int *)arg });
        if (r < 0)
                return r;
        number = 3;
        ssize_t n = brood_pool_apply(pool, number_task, arg, size, out, room, CHECK_HANG_MS);
        brood_pool_free(pool);
        brood_forkserver_stop();
        return n;
}

static void test_pools_in_workers(void **state)
{
        (void)state;
        for (size_t i = 0; i < array_length(methods); i++)
                for (size_t j = 0; j < array_length(methods); j++) {
                        brood_pool *pool = make_by(methods[i], 1);
                        check_value(submit_int(pool, pool_task, methods[j]), 1);
                        end_pool(pool);
                }
}

/* ---- what it is refused for ---- */

static int accept_anything(void *arg)
{
        (void)arg;
        return 0;
}

static void test_refused(void **state)
{
        (void)state;
        static const brood_pool_options refused[] = {
                { .start_method = -1 },
                { .start_method = BROOD_START_FORKSERVER + 1 },
                { .start_method = BROOD_START_SPAWN, .initarg = &number },
                { .start_method = BROOD_START_FORKSERVER, .initarg = &number },
                { .start_method = BROOD_START_SPAWN, .initarg_size = 1 },
                { .initarg_size = 1 },
                { .initarg = &number, .initarg_size = SIZE_MAX },
                { .initarg = &number, .initarg_size = BROOD_PROCESS_BYTES_MAX },
        };
        brood_pool *untouched = (brood_pool *)&refused, *pool = untouched;
        for (size_t i = 0; i < array_length(refused); i++) {
                assert_int_equal(brood_pool_new(&pool, &refused[i]), -EINVAL);
                assert_ptr_equal(pool, untouched);
        }
        assert_int_equal(brood_pool_new(&pool, &(brood_pool_options){ .initarg = &number }), 0);
        brood_pool_free(pool);
}

/* ---- initializer and finalizer ---- */

struct large {
        int number;
        char text[100000];
};

static int read_large(void *arg)
{
        const struct large *large = arg;
        if ((uintptr_t)arg % BROOD_BYTES_ALIGNMENT != 0 || strlen(large->text) != sizeof large->text - 1)
                return -EINVAL;
        atomic_store(&tasks_page->number, large->number);
        atomic_fetch_add(&tasks_page->initialized, 1);
        return 0;
}

static void finish_large(void *arg)
{
        const struct large *large = arg;
        atomic_fetch_add(&tasks_page->ended, large->number);
}

/* What the worker gets is what was there when the pool was made. */
static void test_initarg(void **state)
{
        (void)state;
        static _Alignas(BROOD_BYTES_ALIGNMENT) struct large large;
        for (size_t i = 0; i < array_length(methods); i++) {
                tasks_begin();
                large.number = 4711;
                memset(large.text, 'x', sizeof large.text - 1);
                brood_pool *pool = NULL;
                assert_int_equal(brood_pool_new(&pool, &(brood_pool_options){ .processes = 2,
                                                                              .start_method = methods[i],
                                                                              .initializer = read_large,
                                                                              .finalizer = finish_large,
                                                                              .initarg = &large,
                                                                              .initarg_size = sizeof large }),
                                 0);
                memset(&large, 0, sizeof large);
                await_workers(pool, NULL);
                check_failure(submit_int(pool, die_task, SIGKILL), -EOWNERDEAD, BROOD_OUTCOME_SIGNALED, -SIGKILL);
                assert_true(check_reaches(&tasks_page->initialized, 3, CHECK_HANG_MS));
                end_pool(pool);
                assert_int_equal(atomic_load(&tasks_page->number), 4711);
                assert_int_equal(atomic_load(&tasks_page->ended), 2 * 4711);
                tasks_finish();
        }
}

static int refuse(void *arg)
{
        return arg == NULL ? -ENOENT : 0;
}

static void test_initializer_fails(void **state)
{
        (void)state;
        for (size_t i = 0; i < array_length(methods); i++) {
                brood_pool *pool = NULL;
                assert_int_equal(brood_pool_new(&pool, &(brood_pool_options){ .processes = 2,
                                                                              .start_method = methods[i],
                                                                              .initializer = refuse }),
                                 0);
                assert_true(pool_breaks(pool));
                assert_non_null(strstr(brood_pool_reason(pool), "the initializer returned -2"));
                brood_pool_free(pool);
        }
}

/* ---- functions in modules ---- */

static brood_task_function load(const char *variable)
{
        brood_task_function function;
        void *module = dlopen(getenv(variable), RTLD_NOW | RTLD_LOCAL);
        assert_non_null(module);
        *(void **)&function = dlsym(module, "late_task");
        assert_non_null(function);
        return function;
}

static void check_late(brood_pool *pool, brood_task_function function, bool here)
{
        char buf[8] = "";
        brood_result *result = NULL;
        if (here) {
                assert_int_equal(brood_pool_apply(pool, function, NULL, 0, buf, sizeof buf, CHECK_HANG_MS), 5);
                assert_string_equal(buf, "late");
        } else {
                assert_int_equal(brood_pool_apply_async(pool, &result, function, NULL, 0), -ENOEXEC);
                assert_null(result);
                int item = 0;
                assert_int_equal(brood_pool_map(pool, function, &item, sizeof item, 1, NULL, 0, 0, 100), -ENOEXEC);
        }
        check_echo(pool, 7);
}

/* With a build-id or without: what this program loads while it runs, one that is run again does not have. */
static void test_modules_that_are_not_there(void **state)
{
        (void)state;
        brood_task_function late = load("BROOD_TEST_MODULE"), nameless = load("BROOD_TEST_NAMELESS");
        for (size_t i = 0; i < array_length(methods); i++) {
                bool by_fork = methods[i] == BROOD_START_FORK;
                brood_pool *pool = make_by(methods[i], 1);
                check_late(pool, late, by_fork);
                check_late(pool, nameless, by_fork);
                end_pool(pool);

                pool = NULL;
                brood_pool_options options = { .processes = 1, .start_method = methods[i] };
                options.initializer = (int (*)(void *))(uintptr_t)late;
                assert_int_equal(brood_pool_new(&pool, &options), by_fork ? 0 : -ELIBACC);
                brood_pool_free(pool);
                pool = NULL;
                options.initializer = accept_anything;
                options.finalizer = (void (*)(void *))(uintptr_t)nameless;
                assert_int_equal(brood_pool_new(&pool, &options), by_fork ? 0 : -ENOEXEC);
                brood_pool_free(pool);
        }
}

static int preload(void)
{
        /* Something else first, so that it comes to lie where it does not in the host. */
        return dlopen(getenv("BROOD_TEST_NAMELESS"), RTLD_NOW | RTLD_LOCAL) != NULL &&
                       dlopen(getenv("BROOD_TEST_MODULE"), RTLD_NOW | RTLD_LOCAL) != NULL
                   ? 0
                   : -ENOENT;
}

static void test_modules_of_the_fork_server(void **state)
{
        (void)state;
        brood_task_function late = load("BROOD_TEST_MODULE");
        assert_int_equal(brood_set_forkserver_preload(preload), 0);
        brood_pool *pool = make_by(BROOD_START_FORKSERVER, 2);
        check_late(pool, late, true);
        end_pool(pool);
        assert_int_equal(brood_forkserver_stop(), 0);
        assert_int_equal(brood_set_forkserver_preload(NULL), 0);
        pool = make_by(BROOD_START_FORKSERVER, 2);
        check_late(pool, late, false);
        end_pool(pool);
}

/* ---- hosts ---- */

/* A daemon has closed its streams: then the pool's descriptors might be 0, 1 and 2. */
static int use_without_streams(void *method)
{
        for (int fd = 0; fd < 3; fd++)
                close(fd);
        brood_pool *pool;
        int value = 0;
        if (brood_pool_new(&pool, &(brood_pool_options){ .processes = 1, .start_method = *(int *)method }) < 0)
                return 1;
        ssize_t n = brood_pool_apply(pool, echo_task, method, sizeof(int), &value, sizeof value, CHECK_HANG_MS);
        brood_pool_free(pool);
        brood_forkserver_stop();
        return n == sizeof value && value == *(int *)method ? 0 : 2;
}

static void test_a_host_without_streams(void **state)
{
        (void)state;
        for (size_t i = 0; i < array_length(methods); i++) {
                int method = methods[i];
                check_in_child(use_without_streams, &method);
        }
}

/* The server's end is none of the pool's; and a pool is made again by a new one. */
static void test_the_fork_server_ends(void **state)
{
        (void)state;
        brood_pool *pool = make_by(BROOD_START_FORKSERVER, 2);
        assert_int_equal(brood_forkserver_stop(), 0);
        check_echo(pool, 1);
        check_failure(submit_int(pool, die_task, SIGKILL), -EOWNERDEAD, BROOD_OUTCOME_SIGNALED, -SIGKILL);
        check_echo(pool, 2);
        brood_pool *other = make_by(BROOD_START_FORKSERVER, 2);
        check_echo(other, 3);
        end_pool(pool);
        end_pool(other);
}

/* ---- killed while the pool is made ---- */

/* The keeper is a child of the host, or of the fork server, which is the host's. */
struct hunt {
        int method;
        pid_t server;
        uint64_t after_us;
};

static int kill_the_keeper(void *arg)
{
        const struct hunt *hunt = arg;
        pid_t found[8];
        usleep((useconds_t)hunt->after_us);
        int n = support_children(hunt->server ? hunt->server : getpid(), found, 8);
        for (int i = 0; i < n && i < 8; i++)
                kill(found[i], SIGKILL);
        return 0;
}

static pid_t start_server(void)
{
        pid_t server;
        end_pool(make_by(BROOD_START_FORKSERVER, 1));
        assert_int_equal(support_children(getpid(), &server, 1), 1);
        return server;
}

static void test_keeper_killed_while_made(void **state)
{
        (void)state;
        int failed = 0, rounds = support_rounds(60);
        for (int i = 0; i < rounds; i++) {
                struct hunt hunt = { .method = methods[i % 3], .after_us = support_random(3000) };
                struct check_thread killer;
                brood_pool *untouched = (brood_pool *)&hunt, *pool = untouched;
                if (hunt.method == BROOD_START_FORKSERVER)
                        hunt.server = start_server();
                check_thread_start(&killer, kill_the_keeper, &hunt);
                int r = brood_pool_new(&pool, &(brood_pool_options){ .processes = 2, .start_method = hunt.method });
                assert_int_equal(check_thread_join(&killer), 0);
                if (r < 0) {
                        failed++;
                        assert_int_equal(r, -EAGAIN);
                        assert_ptr_equal(pool, untouched);
                } else {
                        brood_pool_free(pool);
                }
                assert_int_equal(tasks_count_children(), 0);
        }
        printf("%d of %d keepers were killed before the pool was made\n", failed, rounds);
}

static int make_pools(void *method)
{
        for (;;) {
                brood_pool *pool;
                if (brood_pool_new(&pool, &(brood_pool_options){ .processes = 2, .start_method = *(int *)method }) < 0)
                        return 1;
                brood_pool_free(pool);
        }
}

/* That nobody is left, the harness looks at. */
static void test_host_killed_while_made(void **state)
{
        (void)state;
        int rounds = support_rounds(60);
        for (int i = 0; i < rounds; i++) {
                int method = methods[i % 3];
                pid_t host = check_start(make_pools, &method);
                usleep((useconds_t)support_random(10000));
                kill(host, SIGKILL);
                assert_int_equal(check_wait(host), -SIGKILL);
        }
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                support_test(test_whose_memory),
                support_test(test_which_method),
                support_test(test_pools_in_workers),
                support_test(test_refused),
                support_test(test_initarg),
                support_test(test_initializer_fails),
                support_test(test_modules_of_the_fork_server), /* before the host has loaded them in the other order */
                support_test(test_modules_that_are_not_there),
                support_test(test_a_host_without_streams),
                support_test(test_the_fork_server_ends),
                support_test(test_keeper_killed_while_made),
                support_test(test_host_killed_while_made),
        };
        return tasks_main(argc, argv, "pool start", tests, array_length(tests), 60);
}
