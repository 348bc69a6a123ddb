/* SPDX-License-Identifier: MIT
 *
 * tests/support/support.h: what every test program of brood shares.
 *
 * A test program is a list of cmocka tests given to support_main().  support_main() runs them in a process group of their own
 * under a watcher: after `limit_seconds` the watcher prints where each process of the group stood (state, system call, kernel
 * function, and a backtrace where gdb is there), kills the group, and fails.  The watcher is the child subreaper (orphans go
 * to it and are reaped there, so that a zombie below the test process is always one that the test process forgot), and each test
 * is wrapped: a test that leaves behind a process, a zombie, a descriptor, a shared mapping of a memfd, or a name in
 * /dev/shm, fails.  A forked child that fails an assertion ends with exit code 99; a test that crashes ends the program.
 * With BROOD_TEST_INIT in the environment the test process is PID 1 of a PID namespace, with a /proc of its own, and adopts what
 * loses its parent; the watcher stays outside.  Where that is not allowed, the exit status is 77.
 * If no test ran to its end and none failed (all were skipped), the exit status is 77.
 *
 * No sleeps as synchronisation in tests: use pipes, queues, futexes, or support_until().
 */
#ifndef BROOD_TESTS_SUPPORT_H
#define BROOD_TESTS_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <cmocka.h>

/* A test wrapped by the leak checks. */
#define support_test(function)                                                                                         \
        {                                                                                                              \
#function, function, support_setup, support_teardown, NULL                                             \
        }
int support_setup(void **state);
int support_teardown(void **state);
/* Make the few descriptors and mappings that brood keeps per process: most from the first start on, two from the first wait for any
 * child on.  They are not leaks.  The first support_setup() does it, too; a child that counts its own has to ask.  0, or -1. */
int support_warm_up(void);

/* main() of a test program: `return support_main(argc, argv, "queue", tests, ARRAY_LENGTH, 60);`
 * Options: --seed N (else random, or from BROOD_TEST_SEED; always printed), --filter PATTERN, --rounds N (see support_rounds),
 * --no-fork, or BROOD_TEST_NO_FORK in the environment (no watcher: for a debugger or an emulator). */
int support_main(int argc, char **argv, const char *suite, const struct CMUnitTest *tests, size_t count,
                 int limit_seconds);

/* The number of rounds of a repeated test: --rounds or BROOD_TEST_ROUNDS, else `normal`. */
int support_rounds(int normal);

/* A seeded random number below `bound`. */
uint64_t support_random(uint64_t bound);

/* Milliseconds of the monotonic clock. */
int64_t support_now_ms(void);

/* Call `condition` (with small pauses) until it is true or `limit_ms` have passed; returns whether it came true.  For conditions
 * that have no event to wait for, such as "pid 17 is gone". */
bool support_until(bool (*condition)(void *arg), void *arg, int limit_ms);

/* The state letter of a process (`Z` zombie), 0 if it is gone. */
char support_process_state(pid_t pid);
/* Whether it is gone or a zombie within limit_ms. */
bool support_process_gone(pid_t pid, int limit_ms);
/* The parent's pid of a process, or -1. */
pid_t support_parent_of(pid_t pid);
/* The children of this process that have ended and that nobody has reaped; `room` of them. */
int support_zombies(pid_t *ret_pids, int room);
/* The number of children (zombies included) of a process. */
int support_count_children(pid_t pid);
/* The same, and who they are, up to `room`. */
int support_children(pid_t pid, pid_t *ret_pids, int room);
/* The numbers of open descriptors and of memory mappings of this process.  A malloc() may map and unmap single blocks, as musl's
 * does, so that an exact number can be expected of the shared mappings only. */
int support_count_descriptors(void);
int support_count_mappings(void);
int support_count_shared_mappings(void);

#endif
