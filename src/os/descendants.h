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

/* From now on adopt the orphans among them: 0 or a negative errno. */
int descendants_adopt(void);

/* Kill them all, as far as one look can find them: who is born meanwhile is found by the next one.  How many got the signal; a negative
 * errno (-ENOENT: no /proc). */
int descendants_kill(void);

/* Reap one child that has ended, whichever: its pid, and how it has ended; 0 (none has ended), -ECHILD (there is none).  For
 * helpers of ours, whose children are all theirs; never for a host. */
pid_t descendants_reap(struct ending *ret_ending);

#endif
