/* SPDX-License-Identifier: MIT
 *
 * os/descendants.h: for a process that answers for all that is below it.
 *
 * Its descendants are its children, theirs, and so on, as they are now: who has lost its parent is given to the nearest ancestor
 * that adopts, so nobody gets away by a double fork or a session of its own.
 */
#ifndef BROOD_OS_DESCENDANTS_H
#define BROOD_OS_DESCENDANTS_H

#include "os/pidfd.h"

#include <sys/types.h>

/* From now on adopt the orphans among them: 0; -ENOTSUP (/proc is not there, or is of another PID namespace). */
int descendants_adopt(void);

/* Kill them all, as far as one look can find them: who is born meanwhile is found by the next one.  Those that have the name
 * `spared` (NULL: none), and what is below them, are passed over.  How many got the signal; or a negative errno. */
int descendants_kill(const char *spared);

/* Reap one child that has ended, whichever: its pid, and how it has ended; 0 (none has ended), -ECHILD (there is none).  For
 * helpers of ours, whose children are all theirs; never for a host. */
pid_t descendants_reap(struct ending *ret_ending);

/* The pid of one that has ended, which is not reaped: the same one until it is.  0 or -ECHILD as above. */
pid_t descendants_ended(void);

#endif
