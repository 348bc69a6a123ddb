/* SPDX-License-Identifier: MIT
 *
 * os/lifeline.h: children that the kernel kills when their parent ends.
 *
 * PR_SET_PDEATHSIG fires when the *thread* that forked ends, which in a host with threads kills children of a living process.
 * The lifeline watches the process: a pipe whose write end only the parent has, and to which nobody ever writes.  A child has
 * a read end of its own with O_ASYNC, SIGKILL as the signal (F_SETSIG) and itself as the owner.  When the parent ends, in
 * whatever way, the kernel closes its descriptors; the last write end is gone, and the kernel tells the owners of the read ends
 * so: with SIGKILL.  No thread, no handler, no polling; it works from the moment at which the parent's files are closed.
 *
 *     parent: lifeline_open, once          fd = lifeline_branch(&line)
 *     fork                                 child: lifeline_leave(&line); lifeline_arm(fd)
 *
 * F_SETOWN belongs to an open file description, which a fork shares; so each child needs a description of its own, which
 * opening /proc/self/fd/N makes.  A branch whose child has been reaped has no owner any more, and may be the next one's.  A
 * forked child that is not armed must close the write end (lifeline_leave), or it would keep
 * its parent's lifeline up; a child that execs closes it by close-on-exec.
 */
#ifndef BROOD_OS_LIFELINE_H
#define BROOD_OS_LIFELINE_H

#include <stdbool.h>

struct lifeline {
        int read_end;
        int write_end;
};

#define LIFELINE_NONE                                                                                                  \
        {                                                                                                              \
                -1, -1                                                                                                 \
        }

int lifeline_open(struct lifeline *line);
void lifeline_leave(struct lifeline *line);

/* Whether a line that was opened is so still: whoever closes all descriptors does not know of it. */
bool lifeline_is_open(const struct lifeline *line);

/* In the parent, before the fork: a read end for one child, which lacks an owner only; or a negative errno (-ENOENT: no /proc). */
int lifeline_branch(const struct lifeline *line);

/* Give it a high number, if there is one: a program that the child executes expects its own descriptors at low ones.  A branch is
 * made so; its number is none of the streams' in any case. */
void lifeline_move_up(int *branch);

/* In the child, which has left the line itself: from here on the parent's end kills this process.  0; -ESRCH if the parent has
 * already gone; or a negative errno. */
int lifeline_arm(int branch);

/* Whether a number that was a branch's is still. */
bool lifeline_is_branch(int fd);

/* In the child, too: stay tied also as a program that is executed.  0 or a negative errno. */
int lifeline_keep(int branch);

/* The opposite of arming: it does not kill this process any more, which watches the branch itself (readable: the parent has gone).
 */
void lifeline_disarm(int branch);

/* A pidfd of whom a branch would kill; -ESRCH (nobody, any more), or another negative errno. */
int lifeline_owner(int branch);

#endif
