/* SPDX-License-Identifier: MIT
 *
 * os/fence.h: a memory fence that one process executes for all: membarrier(2).
 *
 * Who is about to sleep must order "I have said so" before "I look once more", and who changes the state must order "I have
 * changed it" before "does somebody sleep?". The second is done once a message, the first once a sleep.  So the sleeper pays
 * for both: its fence_everybody() acts as a full fence in every thread that is running in a process which has registered.
 * On the fast side a compiler barrier suffices.
 */
#ifndef BROOD_OS_FENCE_H
#define BROOD_OS_FENCE_H

#include <stdbool.h>

/* Let this process be reached by fence_everybody() of others; inherited by forked children.  False: the kernel has no such
 * call, or a sandbox forbids it, and this process must fence for itself. */
bool fence_register(void);

/* A full fence here and in all registered processes; false: only here. */
bool fence_everybody(void);

#endif
