/* SPDX-License-Identifier: MIT
 *
 * tests/pool/tasks.h: what the pool's tests have in common: tasks, and a page that host and workers share.
 *
 * The programs run several times, with BROOD_TEST_START_METHOD=fork, =spawn and =forkserver, which is then what pools are made
 * with that choose none.  A test in which workers use other memory of the host's is a fork_test(), and left out for the others.
 */
#ifndef BROOD_TESTS_TASKS_H
#define BROOD_TESTS_TASKS_H

#include "check.h"

#include <brood/pool.h>
#include <brood/process.h>

#include <fcntl.h>

/* Shared by a test and all of its workers; made anew by each test that needs it, before the pool is. */
struct tasks_memory {
        atomic_int gate;    /* gated_task() waits until it is raised */
        atomic_int started; /* tasks that have begun */
        atomic_int ended;
        atomic_int initialized; /* initializers that have run */
        atomic_int number;
        pid_t pids[16];
        int64_t moment;
};
struct tasks_memory *tasks_page_here(void);
#define tasks_page tasks_page_here()

void tasks_begin(void);
void tasks_finish(void);

extern brood_start_method tasks_method;
extern const char tasks_fork_only[];
#define fork_test(function)                                                                                            \
        {                                                                                                              \
#function, function, support_setup, support_teardown, (void *)(uintptr_t)tasks_fork_only               \
        }

/* The children of this process, the fork server aside, which is stopped; and the host of a keeper. */
int tasks_count_children(void);
pid_t tasks_host_of(pid_t keeper);

/* main() of such a program. */
int tasks_main(int argc, char **argv, const char *suite, const struct CMUnitTest *tests, size_t count,
               int limit_seconds);

/* Gives back its argument. */
ssize_t echo_task(const void *arg, size_t size, void *out, size_t room);
/* Ends when the gate is raised; its result is its argument. */
ssize_t gated_task(const void *arg, size_t size, void *out, size_t room);
/* Does the argument, an int, to itself: above 0, that signal; below, exit with the negative. */
ssize_t die_task(const void *arg, size_t size, void *out, size_t room);

/* Takes as many milliseconds as its argument says; its result is its argument.  The stubborn one blocks all signals. */
ssize_t sleep_task(const void *arg, size_t size, void *out, size_t room);
ssize_t stubborn_task(const void *arg, size_t size, void *out, size_t room);
#define FOREVER_MS (10 * CHECK_HANG_MS)
/* Kills its worker until it has been begun as often as its argument says; its result is its argument. */
ssize_t nth_time_task(const void *arg, size_t size, void *out, size_t room);

brood_pool *make_pool(int processes);
/* Close, join within the limit, free. */
void end_pool(brood_pool *pool);
/* Wait until as many workers live as the pool was made with; their pids go to `pids` (room for 16), if not NULL. */
void await_workers(brood_pool *pool, pid_t *pids);
bool pool_breaks(brood_pool *pool);
brood_completions *make_completions(brood_pool *pool);
/* Submit; the result is returned. */
brood_result *submit(brood_pool *pool, brood_task_function function, const void *arg, size_t size);
brood_result *submit_int(brood_pool *pool, brood_task_function function, int value);

/* The same on terms. */
#define submit_task(pool, ...) submit_terms((pool), &(brood_task_options){ __VA_ARGS__ })
brood_result *submit_terms(brood_pool *pool, const brood_task_options *options);

/* Wait for the end of a task that must fail, or that must give this int, and free its result. */
void check_failure(brood_result *result, int error, brood_outcome outcome, int exitcode);
void check_value(brood_result *result, int wanted);

/* For check_thread_start(): until `stop`, kills one of a pool's three workers every millisecond or so, if all are there: a
 * worker that always dies before it is ready would break the pool. */
struct workers_killer {
        brood_pool *pool;
        atomic_int stop;
        uint64_t seed;
        int kills;
};
int kill_workers_at_random(void *arg);

#endif
