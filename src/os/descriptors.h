/* SPDX-License-Identifier: MIT
 *
 * os/descriptors.h: small helpers around file descriptors.
 */
#ifndef BROOD_OS_DESCRIPTORS_H
#define BROOD_OS_DESCRIPTORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Close a descriptor and forget it; -1 is fine. */
void descriptor_close(int *fd);

/* Read a small file (of /proc or /sys) as a string: its length, or a negative errno. */
ssize_t file_read(const char *path, char *buffer, size_t size);

/* An event descriptor: readable once raised, until lowered.  Close-on-exec, non-blocking. */
int eventfd_new(void);

/* The same, counting: each raise must be met by one eventfd_lower(). */
int eventfd_new_counting(void);

/* The number by which the kernel knows an eventfd, the same in every process; -EBADF, -EINVAL (it is none), -ENOENT (no /proc). */
int64_t eventfd_id(int fd);

/* The number by which the kernel knows what is behind a descriptor of its kind, the same in every process; -EBADF. */
int64_t descriptor_id(int fd);

/* A duplicate, close-on-exec: the descriptor or a negative errno. */
int descriptor_duplicate(int fd);

/* Whether it can be read from now. */
bool descriptor_readable(int fd);
void eventfd_raise(int fd);
void eventfd_lower(int fd);

#endif
