/* SPDX-License-Identifier: MIT
 *
 * process/guardian.h: a small process between a host and one child, which sees to it that nothing below the child outlives it.
 *
 *     host                                guardian                            target
 *     channel; fork  -------------------> lifeline armed
 *     its pidfd                           waits at the gate
 *     its ticket released --------------> lifeline disarmed, and watched
 *                                         adopts orphans; group, or namespace
 *                                         fork, or spawn  ------------------> lifeline armed
 *     pid and pidfd  <------------------- told; all other descriptors closed  waits at the gate (but for a program)
 *     the rest of the birth as of any child (start.c)
 *     ...                                 the target has ended, or the host: the rest is killed, the group removed
 *     how it ended  <-------------------- told; exit
 *     reaps the guardian
 *
 * The branch of the lifeline is shared by guardian and target.  The target is its owner, and killed by it, also when it has closed
 * its descriptors; the guardian looks whether it has hung up.
 *
 * Killed here -> what is left.  The host: the target is killed by the lifeline, the rest by the guardian.  The guardian: the target
 * goes on as any child of brood, without a fence; in a namespace all of it is killed.  A guardian that is killed before it has told
 * of a birth: whoever owns the branch is killed, and the start fails.
 */
#ifndef BROOD_PROCESS_GUARDIAN_H
#define BROOD_PROCESS_GUARDIAN_H

#include "os/spawn.h"
#include "process/start.h"

/* In the host, with the lock held and all signals blocked: have the child born under a guardian, by a fork (`spawn` NULL) or a
 * spawn.  0 in a forked child; its pid, with process->pidfd, ->channel, ->guardian and ->tree; or a negative errno, the step in
 * process->failed_step, and nothing left. */
pid_t guardian_bear(struct registry *registry, brood_process *process, struct birth *birth, struct spawn *spawn);

/* In the host: the guardian is not needed any more, or has ended; it is reaped, and what it may have left is removed.  It is given
 * a moment to do that itself.  If there is none, nothing is done. */
void guardian_end(brood_process *process);

/* In the host: the guardian has ended before its target. */
void guardian_lost(brood_process *process);

#endif
