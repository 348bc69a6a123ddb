/* SPDX-License-Identifier: MIT
 *
 * tests/process/setting.h: what the process tests share: the host's SIGCHLD setting, the start method, and small hosts of their
 * own.
 *
 * The programs run several times, with BROOD_TEST_SIGCHLD=default, =ignore (SIG_IGN) and =reap (a handler that calls
 * waitpid(-1) in a loop).  In the last two a stranger reaps brood's children, and the exit code is known only where
 * the kernel tells it (PIDFD_INFO_EXIT); expect_exitcode() knows what to ask for.
 *
 * And with BROOD_TEST_THREADS: while a test runs, the host has eight busy threads besides (company.h).  And with BROOD_TEST_INIT
 * (support.h): the host is PID 1 of a PID namespace, and so the parent of every orphan in it; it reaps those at the places where
 * the tests wait for the end of one.
 *
 * And with BROOD_TEST_START_METHOD=fork, =spawn and =forkserver.  What a target is given it is given as bytes, GIVEN(&thing), which
 * works with all three; descriptors in them mean the same in the child if they were said to keep_descriptor().  A test that is
 * about copies of the parent's memory is a fork_test(), and left out for the others.
 */
#ifndef BROOD_TESTS_PROCESS_SETTING_H
#define BROOD_TESTS_PROCESS_SETTING_H

#include "support.h"

#include <brood/process.h>

enum setting {
        SETTING_DEFAULT,
        SETTING_IGNORE,
        SETTING_REAP,
};
extern enum setting setting;

extern brood_start_method method;

/* What main() of such a program is: brood_main(), the variables, the tests. */
int setting_main(int argc, char **argv, const char *stem, const struct CMUnitTest *tests, size_t count,
                 int limit_seconds);

/* Whether it has busy threads besides. */
bool host_has_company(void);

/* Whether this process is PID 1; and if it is, reap the children that have ended and are none of brood's: those that it has
 * adopted, and plain ones. */
bool host_is_init(void);
void reap_adopted(void);
/* For support_until(): the process *pid is gone, and reaped. */
bool is_fully_gone(void *pid);

/* Members of brood_process_options: the method; and besides, `pointer` to what the target is given. */
#define METHOD .start_method = method, .setup = setting_kept()
#define GIVEN(pointer) METHOD, .bytes = (pointer), .size = sizeof *(pointer)

/* Children have this descriptor, too, under its number, until it is forgotten. */
void keep_descriptor(int fd);
void forget_descriptor(int fd);
brood_process_setup setting_kept(void);

/* This process has no child left; the fork server, which is one, is stopped. */
void expect_no_children(void);

int setting_setup(void **state);
int setting_teardown(void **state);
extern const char fork_only[];
#define fork_test(function)                                                                                            \
        {                                                                                                              \
#function, function, setting_setup, setting_teardown, (void *)(uintptr_t)fork_only                     \
        }
#define process_test(function)                                                                                         \
        {                                                                                                              \
#function, function, setting_setup, setting_teardown, NULL                                             \
        }

/* Whether the kernel tells the exit status of a process that was reaped by somebody. */
bool kernel_tells(void);

/* The exit code of an ended process is `code`, or unknown where it cannot be known. */
void expect_exitcode(brood_process *process, int code);
void expect_detached_exitcode(brood_process *process, int code);

/* Run `function` in a plainly forked child and return its value; HOST_DIED when it ended before it had one.  The
 * child's SIGCHLD setting is the same.  In it assertions must not be used: ask() returns the line from the function
 * instead. */
#define HOST_DIED (-1000000)
int in_child(int (*function)(void *arg), void *arg);
#define ask(condition)                                                                                                 \
        do {                                                                                                           \
                if (!(condition)) {                                                                                    \
                        fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                        \
                        return __LINE__;                                                                               \
                }                                                                                                      \
        } while (0)

/* End a plain child with SIGKILL and see to it that it is reaped, whatever the setting. */
void end_plain_child(pid_t pid);

/* A gate: up to 4,096 children wait in gate_pass() until the parent opens it. */
struct gate {
        int fds[2];
};
void gate_make(struct gate *gate);
int gate_pass(struct gate *gate);
void gate_open(struct gate *gate);

/* Targets.  wait_for_gate returns 7. */
int return_number(void *number);
int wait_for_gate(void *gate);
int wait_for_ever(void *unused);

/* Make and start; fail the test if that fails. */
brood_process *start_with(const brood_process_options *options);
#define start(function, pointer) start_with(&(brood_process_options){ .target = (function), GIVEN(pointer) })
#define start_bare(function) start_with(&(brood_process_options){ .target = (function), METHOD })
#define start_detached(function, pointer)                                                                              \
        start_with(&(brood_process_options){ .target = (function), .detached = true, GIVEN(pointer) })
#define start_bare_detached(function)                                                                                  \
        start_with(&(brood_process_options){ .target = (function), .detached = true, METHOD })

#endif
