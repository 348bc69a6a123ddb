/* SPDX-License-Identifier: MIT
 *
 * tests/process/setting.h: what the process tests share: the host's SIGCHLD setting, and small hosts of their own.
 *
 * The programs run three times, with BROOD_TEST_SIGCHLD=default, =ignore (SIG_IGN) and =reap (a handler that calls
 * waitpid(-1) in a loop).  In the last two a stranger reaps brood's children, and the exit code is known only where
 * the kernel tells it (PIDFD_INFO_EXIT); expect_exitcode() knows what to ask for.
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

/* Reads BROOD_TEST_SIGCHLD; the names of the suites. */
const char *setting_suite(const char *stem, char *buf, size_t room);

int setting_setup(void **state);
int setting_teardown(void **state);
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

/* A gate: up to 256 children wait in gate_pass() until the parent opens it. */
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
brood_process *start(int (*target)(void *arg), void *arg);
brood_process *start_detached(int (*target)(void *arg), void *arg);

#endif
