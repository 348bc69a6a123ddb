/* SPDX-License-Identifier: MIT
 *
 * os/child.h: the fork itself, and what only a child does.
 */
#ifndef BROOD_OS_CHILD_H
#define BROOD_OS_CHILD_H

#include <stdbool.h>
#include <sys/types.h>

/* fork(3): the pid, 0 in the child, or a negative errno.  The caller has blocked all signals. */
pid_t child_fork(void);

/* Wait for the end of a child that has no pidfd, and which nobody has a reason to wait for but us. */
void child_reap(pid_t pid);

/* The calling process's pid, from the kernel. */
pid_t child_pid(void);

/* Its parent's; 0 if that is in another PID namespace. */
pid_t child_parent(void);

/* Whether it runs with more rights than whoever chose its environment (a set-user-id program). */
bool child_is_privileged(void);

/* Flush stdout and stderr if anything is buffered: so that what is buffered before a fork is not written twice. */
void child_flush(void);

/* End with `code`, without exit handlers. */
_Noreturn void child_exit(int code);

/* In a child of a parent with one thread: have the kernel send SIGKILL when that parent ends.  0; -ESRCH if the parent is no
 * longer `parent`. */
int child_die_with_parent(pid_t parent);

/* Replace the environment of this process; the strings must stay. */
void child_set_environment(const char *const *environment);

/* The environment of this process. */
const char *const *child_environment(void);

/* How many threads this process has; 1 if /proc does not tell. */
unsigned child_threads(void);

/* The name that ps shows, up to 15 bytes. */
void child_set_name(const char *name);

#endif
