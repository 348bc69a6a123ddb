/* SPDX-License-Identifier: MIT
 *
 * os/poller.h: waiting for one of many descriptors that come and go (epoll), and for a few (poll).
 */
#ifndef BROOD_OS_POLLER_H
#define BROOD_OS_POLLER_H

#include <stddef.h>
#include <stdint.h>

/* A set of descriptors, each with a pointer that names it: the set's own descriptor, close-on-exec, or a negative errno. */
int poller_new(void);
int poller_add(int poller, int fd, void *name);

/* The same, but told once for each time that it becomes readable again: an eventfd with each raise.  From then on as the
 * others. */
int poller_add_edge(int poller, int fd, void *name);
int poller_edge_to_level(int poller, int fd, void *name);

/* The same, but told once, and then no more.  It stays in the set, even if this process closes it, as long as anybody has a copy of
 * the descriptor, in this process or another; with the last copy it is gone. */
int poller_add_once(int poller, int fd, void *name);

void poller_remove(int poller, int fd);

/* Forget that those that are told once have become readable: up to 16 of them, the others in the next call. */
void poller_clear(int poller);

/* Wait until some are readable: how many, with their names in `ready`; -EAGAIN (deadline now), -ETIMEDOUT. */
int poller_wait(int poller, void **ready, size_t room, int64_t deadline);

/* Wait until one of `count` descriptors is readable (entries of -1 are passed over), or the deadline: a bit mask would not do
 * for many, so `ready[i]` tells.  How many; 0 at the deadline; -EBADF (one is not open), -EINVAL (more than may be), -ENOMEM.
 * */
int poll_readable(const int *fds, size_t count, unsigned char *ready, int64_t deadline);

#endif
