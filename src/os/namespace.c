/* SPDX-License-Identifier: MIT */
#include "os/namespace.h"
#include "os/channel.h"
#include "os/child.h"
#include "os/descriptors.h"
#include "os/errno.h"
#include "os/outfit.h"
#include "os/pidfd.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static int write_file(const char *path, const char *text)
{
        int fd = open(path, O_WRONLY | O_CLOEXEC);

        if (fd < 0)
                return -errno;
        int r = write(fd, text, strlen(text)) < 0 ? -errno : 0;
        close(fd);
        return r;
}

/* This process keeps its user and its group, and there are no others. */
static int enter_user_namespace(void)
{
        uid_t user = geteuid();
        gid_t group = getegid();
        char map[48];

        if (unshare(CLONE_NEWUSER) < 0)
                return -errno;
        int r = write_file("/proc/self/setgroups", "deny");
        if (r < 0 && r != -ENOENT)
                return r;
        snprintf(map, sizeof map, "%u %u 1", (unsigned)group, (unsigned)group);
        r = write_file("/proc/self/gid_map", map);
        if (r < 0)
                return r;
        snprintf(map, sizeof map, "%u %u 1", (unsigned)user, (unsigned)user);
        return write_file("/proc/self/uid_map", map);
}

static int refusal(int error)
{
        switch (-error) {
        case EACCES:
        case EPERM:
        case EUSERS: /* the limit of namespaces, which may be 0 */
        case ENOSPC:
                return -EPERM;
        case EINVAL:
        case ENOSYS:
        case ENODEV:
                return -ENOTSUP;
        default:
                return error;
        }
}

static int enter(void)
{
        enum { SPACES = CLONE_NEWPID | CLONE_NEWNS };

        int r = unshare(SPACES) < 0 ? -errno : 0;
        if (r == -EPERM) {
                r = enter_user_namespace();
                if (r == 0)
                        r = unshare(SPACES) < 0 ? -errno : 0;
        }
        /* What is mounted here later is nobody else's; what others mount is seen here. */
        if (r == 0 && mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
                r = -errno;
        return r;
}

/* The life of the floor.  Whatever else it has open would stay open for as long as it lives. */
static _Noreturn void be_the_floor(int channel)
{
        const struct outfit bare = { .streams = { OUTFIT_INHERIT, OUTFIT_INHERIT, OUTFIT_INHERIT },
                                     .close_others = true };
        int kept[OUTFIT_KEPT] = { channel, -1 };
        enum outfit_step step;
        sigset_t sigchld;
        int signal;

        /* Sent from outside of the namespace, the signal is one that its first process hears, too. */
        int r = prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 ? -errno : 0;
        if (r == 0)
                r = streams_to_null();
        if (r == 0)
                r = outfit_wear(&bare, kept, &step);
        if (r == 0 && mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
                r = -errno;
        child_set_name("brood-floor");
        /* A parent that has ended before it could be watched has closed its end. */
        if (channel_send(channel, &r, sizeof r, NULL, 0) < 0 || r < 0)
                child_exit(1);
        close(channel);
        sigemptyset(&sigchld);
        sigaddset(&sigchld, SIGCHLD);
        for (;;) {
                while (waitpid(-1, NULL, WNOHANG | __WALL) > 0)
                        ;
                sigwait(&sigchld, &signal);
        }
}

/* What the floor says of its beginning. */
static int hear(int channel)
{
        bool truncated;
        size_t count;
        int said;

        ssize_t n = channel_receive(channel, &said, sizeof said, true, NULL, 0, &count, &truncated);
        return n == sizeof said ? said : n < 0 ? (int)n : -EAGAIN;
}

int namespace_enter(void)
{
        KEEP_ERRNO;
        int ends[2];

        int r = enter();
        if (r < 0)
                return refusal(r);
        r = channel_pair(ends);
        if (r < 0)
                return r;
        pid_t pid = child_fork();
        if (pid == 0) {
                close(ends[0]);
                be_the_floor(ends[1]);
        }
        descriptor_close(&ends[1]);
        r = pid < 0 ? pid : hear(ends[0]);
        descriptor_close(&ends[0]);
        return r < 0 ? refusal(r) : pidfd_of(pid);
}
