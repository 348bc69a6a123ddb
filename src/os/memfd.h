/* SPDX-License-Identifier: MIT
 *
 * os/memfd.h: anonymous shared memory.
 */
#ifndef BROOD_OS_MEMFD_H
#define BROOD_OS_MEMFD_H

#include <stddef.h>

/* A sealed memfd (it can neither shrink nor grow) of `size` bytes, close-on-exec, whose first `commit` bytes have memory behind
 * them.  `name` is what /proc/PID/maps shows.  The descriptor, or a negative errno. */
int memfd_new(const char *name, size_t size, size_t commit);

/* The same of the huge pages that the administrator has set aside: *size is rounded up to them.  -EOPNOTSUPP: the kernel has
 * none. */
int memfd_new_huge(const char *name, size_t *size, size_t commit);

/* Give memory to a part of a memfd: a shortage is -ENOMEM here, and not a SIGBUS at the first touch. */
int memfd_commit(int fd, size_t offset, size_t size);

/* Whether the machine has that much memory left, swap included: 0 or -ENOMEM.  To ask before a memfd_commit() of a size that a user
 * has chosen: the kernel promises more than there is, and then kills for it. */
int memory_ask(size_t size);

/* Give the memory of a part back to the kernel; it reads as zeros from then on, for everybody.  0 or a negative errno. */
int memfd_release(int fd, size_t offset, size_t size);

/* Whether a descriptor is a memfd that can never shrink (so that reading it is safe), and its size: 0; -EBADF; -EINVAL (no memfd);
 * -EPERM (it could shrink). */
int memfd_check(int fd, size_t *ret_size);

/* Map a memfd shared, or `size` bytes of anonymous shared memory if fd is -1.  0 or a negative errno. */
int memory_map(int fd, size_t size, void **ret_memory);

/* Address space of this process alone, which gets its memory page by page (and not in huge ones) as it is touched: 0 or a
 * negative errno. */
int memory_reserve(size_t size, void **ret_memory);

void memory_unmap(void *memory, size_t size);

/* In a forked child: unmap what is its parent's. */
void memory_leave(void *memory, size_t size);

size_t memory_page_size(void);

#endif
