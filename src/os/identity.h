/* SPDX-License-Identifier: MIT
 *
 * os/identity.h: which process is which, for words in shared memory.
 *
 * A pid alone is not enough, for pids are used again.  A pid and the time at which the process started are: a pid comes back
 * only after all others had their turn, and start times have a resolution of 10 ms.
 */
#ifndef BROOD_OS_IDENTITY_H
#define BROOD_OS_IDENTITY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct identity {
        pid_t pid;
        uint32_t start; /* the low bits of the start time in clock ticks; 0 if /proc does not tell */
};

#define IDENTITY_START_BITS 28

/* Who the calling process is. */
struct identity identity_self(void);

/* The same without the start time, which takes a look into /proc: for a process whose parent sees to it, before it forks again,
 * that the pid stands nowhere any more once the process has ended. */
struct identity identity_self_watched(void);

/* Whether that process lives.  False is a proof of its death (a zombie is dead: it runs no instruction any more).  A process
 * whose threads are not all dead is alive. */
bool identity_is_alive(struct identity who);

/* How it ended, while it is a zombie: its exit code, or -N for signal N.  -EAGAIN (it lives), -ENODATA (nobody can tell any
 * more). */
int identity_exitcode(struct identity who, int *ret_exitcode);

#endif
