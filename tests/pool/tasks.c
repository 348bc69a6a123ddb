/* SPDX-License-Identifier: MIT
 *
 * tests/pool/tasks.c: see tasks.h.
 */
#include "tasks.h"

#include <brood/completions.h>

#include <brood/process.h>

#include <sys/mman.h>

static struct tasks_memory *page;
static int page_fd = -1;

/* Where a worker finds the page that has no copy of the host's memory: a path. */
static const char page_variable[] = "BROOD_TEST_PAGE";

static struct tasks_memory *map_page(int fd)
{
        void *memory = mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        return memory == MAP_FAILED ? NULL : memory;
}

struct tasks_memory *tasks_page_here(void)
{
        if (!page && getenv(page_variable)) {
                int fd = open(getenv(page_variable), O_RDWR | O_CLOEXEC);
                page = map_page(fd);
                close(fd);
        }
        return page;
}

void tasks_begin(void)
{
        char path[64];
        page_fd = memfd_create("tasks", MFD_CLOEXEC);
        assert_true(page_fd >= 0);
        assert_int_equal(ftruncate(page_fd, sizeof *page), 0);
        page = map_page(page_fd);
        assert_non_null(page);
        snprintf(path, sizeof path, "/proc/%d/fd/%d", getpid(), page_fd);
        setenv(page_variable, path, 1);
}

void tasks_finish(void)
{
        unsetenv(page_variable);
        munmap(page, sizeof *page);
        page = NULL;
        close(page_fd);
}

/* ---- start methods ---- */

brood_start_method tasks_method = BROOD_START_FORK;

const char tasks_fork_only[] = "about fork only";

static int setup(void **state)
{
        return support_setup(state) < 0 ? -1 : brood_set_start_method(tasks_method);
}

/* The fork server is a child, which the leak checks would find. */
static int teardown(void **state)
{
        brood_forkserver_stop();
        return support_teardown(state);
}

int tasks_count_children(void)
{
        brood_forkserver_stop();
        return support_count_children(getpid());
}

pid_t tasks_host_of(pid_t keeper)
{
        pid_t parent = support_parent_of(keeper);
        return tasks_method == BROOD_START_FORKSERVER ? support_parent_of(parent) : parent;
}

int tasks_main(int argc, char **argv, const char *suite, const struct CMUnitTest *tests, size_t count,
               int limit_seconds)
{
        static const char *const names[] = { "", "fork", "spawn", "forkserver" };
        static struct CMUnitTest some[64];
        const char *wanted = getenv("BROOD_TEST_START_METHOD");
        size_t left = 0;
        if (count > array_length(some) || brood_main(argc, argv) < 0)
                return 1;
        for (int i = BROOD_START_FORK; wanted && i <= BROOD_START_FORKSERVER; i++)
                if (!strcmp(wanted, names[i]))
                        tasks_method = (brood_start_method)i;
        for (size_t i = 0; i < count; i++) {
                bool about_fork = tests[i].initial_state == (void *)(uintptr_t)tasks_fork_only;
                if (about_fork && tasks_method != BROOD_START_FORK)
                        continue;
                some[left] = tests[i];
                some[left].initial_state = NULL;
                some[left].setup_func = setup;
                some[left++].teardown_func = teardown;
        }
        if (left < count)
                printf("%s: without %zu tests that are about fork only\n", suite, count - left);
        return support_main(argc, argv, suite, some, left, limit_seconds);
}

ssize_t echo_task(const void *arg, size_t size, void *out, size_t room)
{
        if (size > room)
                return -EMSGSIZE;
        if (size)
                memcpy(out, arg, size);
        return (ssize_t)size;
}

ssize_t gated_task(const void *arg, size_t size, void *out, size_t room)
{
        atomic_fetch_add(&tasks_page->started, 1);
        while (!atomic_load(&tasks_page->gate))
                usleep(100);
        atomic_fetch_add(&tasks_page->ended, 1);
        return echo_task(arg, size, out, room);
}

ssize_t die_task(const void *arg, size_t size, void *out, size_t room)
{
        (void)size;
        (void)out;
        (void)room;
        int how = *(const int *)arg;
        if (how < 0)
                exit(-how);
        signal(how, SIG_DFL); /* a sanitizer may have taken it */
        sigset_t set;
        sigemptyset(&set);
        sigaddset(&set, how);
        sigprocmask(SIG_UNBLOCK, &set, NULL);
        kill(getpid(), how);
        return 0;
}

ssize_t sleep_task(const void *arg, size_t size, void *out, size_t room)
{
        for (int64_t end = support_now_ms() + *(const int *)arg; support_now_ms() < end;)
                usleep(1000);
        return echo_task(arg, size, out, room);
}

ssize_t stubborn_task(const void *arg, size_t size, void *out, size_t room)
{
        sigset_t all;
        sigfillset(&all);
        sigprocmask(SIG_SETMASK, &all, NULL);
        return sleep_task(arg, size, out, room);
}

ssize_t nth_time_task(const void *arg, size_t size, void *out, size_t room)
{
        (void)size, (void)room;
        tasks_page->moment = support_now_ms();
        if (atomic_fetch_add(&tasks_page->started, 1) + 1 < *(const int *)arg)
                kill(getpid(), SIGKILL);
        memcpy(out, arg, sizeof(int));
        return sizeof(int);
}

brood_pool *make_pool(int processes)
{
        brood_pool *pool = NULL;
        assert_int_equal(brood_pool_new(&pool, &(brood_pool_options){ .processes = processes }), 0);
        assert_non_null(pool);
        return pool;
}

void end_pool(brood_pool *pool)
{
        assert_int_equal(brood_pool_close(pool), 0);
        assert_int_equal(brood_pool_join(pool, CHECK_HANG_MS), 0);
        brood_pool_free(pool);
}

void await_workers(brood_pool *pool, pid_t *pids)
{
        pid_t own[16];
        if (!pids)
                pids = own;
        int wanted = brood_pool_processes(pool);
        assert_true(wanted <= 16);
        for (int64_t end = support_now_ms() + CHECK_HANG_MS;; usleep(500)) {
                int n = brood_pool_workers(pool, pids, 16), alive = 0;
                for (int i = 0; i < n; i++) {
                        char state = support_process_state(pids[i]);
                        alive += state != 0 && state != 'Z' && state != 'X';
                }
                if (n == wanted && alive == wanted)
                        return;
                if (support_now_ms() > end)
                        check_hang("the pool does not get its workers back");
        }
}

static bool is_broken(void *arg)
{
        return brood_pool_reason(arg) != NULL;
}

bool pool_breaks(brood_pool *pool)
{
        return support_until(is_broken, pool, CHECK_HANG_MS);
}

brood_completions *make_completions(brood_pool *pool)
{
        brood_completions *completions = NULL;
        assert_int_equal(brood_completions_new(&completions, pool), 0);
        assert_non_null(completions);
        return completions;
}

brood_result *submit(brood_pool *pool, brood_task_function function, const void *arg, size_t size)
{
        brood_result *result = NULL;
        assert_int_equal(brood_pool_apply_async(pool, &result, function, arg, size), 0);
        assert_non_null(result);
        return result;
}

brood_result *submit_int(brood_pool *pool, brood_task_function function, int value)
{
        return submit(pool, function, &value, sizeof value);
}

brood_result *submit_terms(brood_pool *pool, const brood_task_options *options)
{
        brood_result *result = NULL;
        assert_int_equal(brood_pool_submit(pool, &result, options), 0);
        assert_non_null(result);
        return result;
}

void check_failure(brood_result *result, int error, brood_outcome outcome, int exitcode)
{
        int value = 77, code = 1000;
        ssize_t n = brood_result_get(result, &value, sizeof value, CHECK_HANG_MS);
        if (n != error)
                fprintf(stderr, "%s\n", brood_result_reason(result));
        assert_int_equal(n, error);
        assert_int_equal(value, 77);
        assert_int_equal(brood_result_outcome(result), outcome);
        assert_int_equal(brood_result_worker(result, NULL, &code), 0);
        assert_int_equal(code, exitcode);
        assert_true(strlen(brood_result_reason(result)) > 10);
        brood_result_free(result);
}

void check_value(brood_result *result, int wanted)
{
        int value = -1;
        ssize_t n = brood_result_get(result, &value, sizeof value, CHECK_HANG_MS);
        if (n != sizeof value)
                fprintf(stderr, "%s\n", brood_result_reason(result));
        assert_int_equal(n, sizeof value);
        assert_int_equal(value, wanted);
        brood_result_free(result);
}

int kill_workers_at_random(void *arg)
{
        struct workers_killer *killer = arg;
        while (!atomic_load(&killer->stop)) {
                pid_t pids[3];
                int n = brood_pool_workers(killer->pool, pids, 3);
                if (n == 3 && kill(pids[check_random(&killer->seed, 2)], SIGKILL) == 0)
                        killer->kills++;
                usleep((useconds_t)(300 + check_random(&killer->seed, 2000)));
        }
        return 0;
}
