/* SPDX-License-Identifier: MIT
 *
 * tests/support/namespace.h: a test process that is PID 1 of a PID namespace.
 *
 * The watcher stays outside, where it sees all, and can kill all; so the hang limit and the report are as ever.  Root needs nothing
 * else for it; another user needs a user namespace besides, in which the ids are as outside.
 */
#ifndef BROOD_TESTS_NAMESPACE_H
#define BROOD_TESTS_NAMESPACE_H

#include <stdbool.h>

/* In the watcher: the child that is forked next is PID 1.  0, or a negative errno where the machine does not allow it. */
int namespace_begin(void);
/* In the watcher, after that fork: further children are in its own namespace again, where that is allowed. */
void namespace_end(void);

/* In the child: a mount namespace with a /proc that shows the new PID namespace.  0 or a negative errno. */
int namespace_mount_proc(void);

#endif
