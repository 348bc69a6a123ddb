/* SPDX-License-Identifier: MIT */
#include "os/lifeline.h"
#include "os/descriptors.h"
#include "os/errno.h"
#include "os/pidfd.h"
#include "os/syscall.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

int lifeline_open(struct lifeline *line)
{
        KEEP_ERRNO;
        int ends[2];

        if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
                return -errno;
        /* The kernel gives a pipe to whoever made it; branches are also made by whoever that has become since, with fewer rights.
         * Where this is forbidden, only that is lost. */
        (void)kernel_call(SYS_fchmod, ends[0], S_IRUSR | S_IRGRP | S_IROTH);
        line->read_end = ends[0];
        line->write_end = ends[1];
        int r = descriptor_mark(line->write_end);
        if (r < 0)
                lifeline_leave(line);
        return r;
}

CHILD_CODE bool lifeline_is_open(const struct lifeline *line)
{
        return descriptor_is_marked(line->write_end);
}

void lifeline_leave(struct lifeline *line)
{
        descriptor_close(&line->read_end);
        descriptor_close(&line->write_end);
}

void lifeline_move_up(int *branch)
{
        KEEP_ERRNO;
        enum { FROM = 100 };
        int copy = fcntl(*branch, F_DUPFD_CLOEXEC, FROM);

        if (copy >= 0) {
                close(*branch);
                *branch = copy;
        }
}

#define LINKS "/proc/self/fd/"
enum { LINK_SIZE = sizeof LINKS + 3 * sizeof(int) };

/* The link that opens anew what a descriptor refers to.  By hand: a pool's keeper would enter the libc's printing for this alone,
 * at the price of several page faults. */
static const char *link_of(int fd, char buffer[LINK_SIZE])
{
        char *at = &buffer[LINK_SIZE - 1];

        *at = '\0';
        do
                *--at = (char)('0' + fd % 10);
        while ((fd /= 10) > 0);
        at -= strlen(LINKS);
        return memcpy(at, LINKS, strlen(LINKS));
}

int lifeline_branch(const struct lifeline *line)
{
        KEEP_ERRNO;
        char buffer[LINK_SIZE];

        int fd = open(link_of(line->read_end, buffer), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        if (fd < 0)
                return -errno;
        lifeline_move_up(&fd);
        fd = descriptor_above_streams(fd);
        if (fd < 0)
                return fd;
        /* The signal is for the owner, who is nobody yet. */
        if (fcntl(fd, F_SETSIG, SIGKILL) < 0 || fcntl(fd, F_SETFL, O_ASYNC | O_NONBLOCK) < 0) {
                int r = -errno;
                close(fd);
                return r;
        }
        return fd;
}

CHILD_CODE int lifeline_arm(int branch)
{
        struct pollfd end = { .fd = branch };
        const struct timespec now = { 0 };

#ifdef BROOD_FAULT_UNARMED /* for a build that shows that the kill tests notice it (tests/kill/meson.build) */
        return 0;
#endif
        long r = kernel_call(SYS_fcntl, branch, F_SETOWN, kernel_call(SYS_getpid));
        if (r < 0)
                return (int)r;
        /* A parent that ended before the arming sent no signal; but then there is no write end any more. */
        r = kernel_call(SYS_ppoll, &end, 1, &now);
        return r > 0 && (end.revents & POLLHUP) ? -ESRCH : 0;
}

CHILD_CODE bool lifeline_is_branch(int fd)
{
        return kernel_call(SYS_fcntl, fd, F_GETSIG) == SIGKILL;
}

CHILD_CODE int lifeline_keep(int branch)
{
        return (int)kernel_call(SYS_fcntl, branch, F_SETFD, 0);
}

CHILD_CODE void lifeline_disarm(int branch)
{
        kernel_call(SYS_fcntl, branch, F_SETOWN, 0);
}

int lifeline_owner(int branch)
{
        KEEP_ERRNO;
        int pid = fcntl(branch, F_GETOWN);
        int pidfd = pid <= 0 ? -ESRCH : pidfd_of(pid);

        /* The kernel names an owner only while that one has not been reaped: the pid was not another's in between. */
        if (pidfd >= 0 && fcntl(branch, F_GETOWN) != pid)
                descriptor_close(&pidfd);
        return pidfd == -1 ? -ESRCH : pidfd;
}
