/* SPDX-License-Identifier: MIT
 *
 * os/channel.h: a pair of sockets between two processes, which carry messages as a whole, and descriptors with them.
 */
#ifndef BROOD_OS_CHANNEL_H
#define BROOD_OS_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum { CHANNEL_DESCRIPTORS_MAX = 253 }; /* with one message: the kernel's limit */

/* A pair; close-on-exec, and none of the standard streams' numbers.  0 or a negative errno. */
int channel_pair(int ret_ends[2]);

/* Send a message of at least a byte; waits while the other end has too many unread.  0; -EPIPE (the other end is closed; no signal
 * is raised), -ETOOMANYREFS, -EBADF, or another negative errno. */
int channel_send(int channel, const void *message, size_t size, const int *fds, size_t count);

/* Receive one: its size; 0 (the other end is closed); -EAGAIN (none is there, and `wait` is false).  Its descriptors,
 * close-on-exec, go to `fds`, up to `room`; if this process has no room for all, *ret_truncated is set, and some are there. */
ssize_t channel_receive(int channel, void *message, size_t size, bool wait, int *fds, size_t room, size_t *ret_count,
                        bool *ret_truncated);

#endif
