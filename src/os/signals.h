/* SPDX-License-Identifier: MIT
 *
 * os/signals.h: the signal mask around a fork, the dispositions of our own helper processes, and names.
 */
#ifndef BROOD_OS_SIGNALS_H
#define BROOD_OS_SIGNALS_H

#include <signal.h>

/* Block every signal of the calling thread; the mask before goes to *ret_before. */
void signals_block_all(sigset_t *ret_before);
void signals_restore(const sigset_t *mask);

/* Have the calling thread hear a signal. */
void signals_unblock(int signal);

/* The signals that this process ignores; to ignore these besides; to have none ignored any more, but to their defaults. */
void signals_ignored(sigset_t *ret_ignored);
void signals_ignore(const sigset_t *ignored);
void signals_ignore_none(void);

/* Set SIGCHLD to its default in this process, so that its children can be waited for; what it was goes to *ret_before.
 * For the keeper and the fork server only, never for a host. */
void signals_default_sigchld(struct sigaction *ret_before);
void signals_restore_sigchld(const struct sigaction *before);

/* A descriptor that is readable when a child of this process has ended, until it is cleared; SIGCHLD is blocked and at its
 * default. */
int signals_sigchld_descriptor(void);
void signals_sigchld_clear(int fd);

/* "SIGKILL" for 9; "signal 40" for one without a name, written into `buffer`. */
#define SIGNAL_NAME_MAX 24
const char *signal_name(int signal, char buffer[SIGNAL_NAME_MAX]);

#endif
