/* SPDX-License-Identifier: MIT
 *
 * os/spawn.h: a program in a new process, without a copy of this one's memory.
 *
 * The child shares its parent's memory, and its parent's calling thread stands still, until it has executed the program or
 * failed to (CLONE_VM | CLONE_VFORK).  Its pidfd is there from its birth (CLONE_PIDFD), so nobody can reap it first and have its
 * pid mean another.  Since it has the parent's memory, it must run no handler of the parent's: signals are blocked before, and
 * those that are handled go back to their defaults before they are let through.
 *
 * A detached program is a second-level child:
 *
 *     parent                      first-level child            second-level child
 *     clone, stands still ----->  leaves the lifeline
 *                                 clone, stands still ------>  leaves it, too; armed by its branch
 *                                                              sends its pidfd
 *                                                              its outfit; the program, without the branch
 *                                 ends  <--------------------  (or how it failed)
 *     reaps it; the pidfd  <----
 *
 * Up to the program the parent's end kills the second-level child, and ends the first one with it; from then on there is nothing
 * that could.  The channel is close-on-exec: its end says that nobody uses the parent's memory any more, also if the first-level
 * child was killed.
 */
#ifndef BROOD_OS_SPAWN_H
#define BROOD_OS_SPAWN_H

#include "os/lifeline.h"
#include "os/outfit.h"

#include <signal.h>

struct spawn {
        const char *const *argv;
        const char *const *environment; /* NULL: this process's */
        const struct outfit *outfit;
        int branch;    /* of the lifeline, which the program inherits */
        sigset_t mask; /* that the program starts with */
        pid_t parent; /* 0; or the program is not run if this one, which makes it, has ended when the branch is armed */
        bool ignore_sigchld; /* it does, though this process does not */
        int letter; /* -1; or the program is this one again, and inherits this descriptor, the branch and the outfit's `handed`
                        * under the numbers that they have, which are none of the streams' */

        const struct lifeline *left; /* NULL; or the program is detached, and leaves this line */

        /* child_spawn's own: of a detached program to its parent; for run(). */
        int channel;
        char *stack;

        /* If it failed. */
        int error;
        enum outfit_step step;
};

/* The child's pid, and its pidfd; or a negative errno, with the step, and no child left (-EAGAIN: a detached one was killed before
 * its pid was known).  The caller has blocked all signals, and is the only one in here. */
pid_t child_spawn(struct spawn *spawn, int *ret_pidfd);

#endif
