/* SPDX-License-Identifier: MIT
 *
 * os/atfork.h: the process-wide lock, and how a forked child learns that it is one.
 *
 * One recursive lock guards the slow, process-wide paths of brood (starting a process, registering as a user of a region).  It
 * is held across every fork(3), so that the child finds what it guards in a consistent state; the child gets the lock free,
 * and every room that keeps per-process state is told through the function that it registered.
 *
 * The lock is process-private; nothing here is shared.
 */
#ifndef BROOD_OS_ATFORK_H
#define BROOD_OS_ATFORK_H

#include <stdint.h>

#include "os/atomic.h"

/* Take and release the process-wide lock.  The first use installs the fork handlers: 0 or -ENOMEM; after a failure the lock
 * is not held. */
int process_lock(void);
void process_unlock(void);

/* Have `in_child` called in each forked child, with the lock held.  Call it with the lock held.  A few rooms only. */
void atfork_add(void (*in_child)(void));

/* The mark of this process: a number that no ancestor of this process has had.  It lives in a page that the kernel wipes at
 * every fork, so also a child that was made by a raw clone or _Fork(3), for which no handler runs, sees that the number in
 * a handle is not its own.  0 before process_mark_init(). */
extern _Atomic(atomic_u64 *) process_mark_page;

static inline uint64_t process_mark(void)
{
        return load_relaxed(load_acquire(&process_mark_page)); /* A5: pairs with R5 in process_mark_init */
}

/* Give this process its mark, if it has none: 0 or a negative errno. */
int process_mark_init(void);

#endif
