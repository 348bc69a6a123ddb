/* SPDX-License-Identifier: MIT
 *
 * os/cgroup.h: control groups (version 2) as a fence: whatever is born in one stays in it, and all of it can be killed at once; and
 * of either version as something in which the kernel counts.
 *
 * A group is a directory; its path is its name here.
 */
#ifndef BROOD_OS_CGROUP_H
#define BROOD_OS_CGROUP_H

#include <stddef.h>
#include <stdint.h>

/* The group that this process is in: 0; -ENOTSUP (there is none of version 2, or it cannot be seen from here), -ENAMETOOLONG. */
int cgroup_own(char *path, size_t size);

/* Make a group that can be killed, in one that exists, and whose processes may go into it.  0; -EPERM (this process may not);
 * -ENOTSUP (that is no group, or the kernel, before 5.14, cannot kill one); or another negative errno, with no group. */
int cgroup_make(const char *path);

/* Make a group of either version, unless it is there already.  0; -EPERM (this process may not); -ENOTSUP (what it is to
 * be in is no directory); or another negative errno. */
int cgroup_make_plain(const char *path);

/* Kill all processes in it, and in the groups in it.  0 or a negative errno. */
int cgroup_kill(const char *path);

/* Remove it, and the groups in it, once the last process has ended; waits for that until the deadline.  0, also if there is none;
 * -EBUSY (somebody is in it still); or another negative errno. */
int cgroup_remove(const char *path, int64_t deadline);

#endif
