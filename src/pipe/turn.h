/* SPDX-License-Identifier: MIT
 *
 * pipe/turn.h: whose turn it is at one direction of a connection: a lock between the threads of a process, with a deadline.
 *
 * A fork copies the lock as it stands.  If another thread held it then, nobody in the child will ever give it back, and what it
 * guards may be half changed.  So the word says which process took it; who finds it taken by a process that is not this one takes
 * it over, and is told so.
 */
#ifndef BROOD_PIPE_TURN_H
#define BROOD_PIPE_TURN_H

#include "os/atomic.h"

struct turn {
        atomic_u32 word; /* 0, or the mark of the process (os/atfork.h) with TURN_SLEEPERS */
};

/* Wait for it: 0; 1 (taken over); -EAGAIN, -ETIMEDOUT; or why this process can have no mark. */
int turn_take(struct turn *turn, int64_t deadline);

void turn_give(struct turn *turn);

/* Whether a thread of another process holds it. */
bool turn_is_foreign(struct turn *turn);

#endif
