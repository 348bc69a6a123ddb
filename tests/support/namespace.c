/* SPDX-License-Identifier: MIT
 *
 * tests/support/namespace.c: a test process that is PID 1 of a PID namespace: see namespace.h.
 */
#include "namespace.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

static int outside = -1;

static int write_file(const char *path, const char *text)
{
        int fd = open(path, O_WRONLY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        int r = write(fd, text, strlen(text)) < 0 ? -errno : 0;
        close(fd);
        return r;
}

/* This user's id stands for itself. */
static int map_id(const char *path, unsigned id)
{
        char map[64];
        snprintf(map, sizeof map, "%u %u 1", id, id);
        return write_file(path, map);
}

static int unshare_as_user(void)
{
        unsigned uid = geteuid(), gid = getegid();
        if (unshare(CLONE_NEWUSER | CLONE_NEWPID) < 0)
                return -errno;
        int r = write_file("/proc/self/setgroups", "deny");
        if (r == 0 || r == -ENOENT)
                r = map_id("/proc/self/uid_map", uid);
        return r < 0 ? r : map_id("/proc/self/gid_map", gid);
}

int namespace_begin(void)
{
        outside = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
        if (outside < 0)
                return -errno;
        if (unshare(CLONE_NEWPID) == 0)
                return 0;
        return errno == EPERM ? unshare_as_user() : -errno;
}

void namespace_end(void)
{
        /* Not allowed to whom a user namespace made PID 1: what it loses is the backtraces of a report. */
        if (outside >= 0 && setns(outside, CLONE_NEWPID) == 0)
                close(outside);
        outside = -1;
}

int namespace_mount_proc(void)
{
        if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
            mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
                return -errno;
        return 0;
}
