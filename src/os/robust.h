/* SPDX-License-Identifier: MIT
 *
 * os/robust.h: a word that says whether a helper process lives, and that the kernel changes at its death.
 *
 * The kernel walks a dying thread's robust list, marks each futex in it whose value holds that thread's id with FUTEX_OWNER_DIED,
 * clears the id, and wakes one waiter.  A helper process of brood's own, which has one thread and uses no robust mutex, gives the
 * kernel a list of its own with one word in it.  Whoever is woken must wake the others, since the kernel wakes only one.
 *
 * Not for hosts: there the list of each thread belongs to the C library.
 */
#ifndef BROOD_OS_ROBUST_H
#define BROOD_OS_ROBUST_H

#include "os/atomic.h"

/* In a helper process, once: hold `word` for as long as this process lives.  0 or a negative errno. */
int robust_hold(atomic_u32 *word);

/* Whether a value read from such a word says that its holder lives. */
bool robust_alive(uint32_t value);

#endif
