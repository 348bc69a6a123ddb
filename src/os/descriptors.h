/* SPDX-License-Identifier: MIT
 *
 * os/descriptors.h: small helpers around file descriptors.
 */
#ifndef BROOD_OS_DESCRIPTORS_H
#define BROOD_OS_DESCRIPTORS_H

#include <stddef.h>
#include <sys/types.h>

/* Close a descriptor and forget it; -1 is fine. */
void descriptor_close(int *fd);

/* Read a small file (of /proc or /sys) as a string: its length, or a negative errno. */
ssize_t file_read(const char *path, char *buffer, size_t size);

/* An event descriptor: readable once raised, until lowered.  Close-on-exec, non-blocking. */
int eventfd_new(void);
void eventfd_raise(int fd);
void eventfd_lower(int fd);

#endif
