/* SPDX-License-Identifier: MIT */
#include "os/lifeline.h"
#include "os/descriptors.h"
#include "os/errno.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

int lifeline_open(struct lifeline *line)
{
        KEEP_ERRNO;
        int ends[2];

        if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
                return -errno;
        line->read_end = ends[0];
        line->write_end = ends[1];
        return 0;
}

void lifeline_leave(struct lifeline *line)
{
        descriptor_close(&line->read_end);
        descriptor_close(&line->write_end);
}

int lifeline_branch(const struct lifeline *line)
{
        KEEP_ERRNO;
        char path[40];

        snprintf(path, sizeof path, "/proc/self/fd/%d", line->read_end);
        int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        return fd < 0 ? -errno : fd;
}

int lifeline_arm(struct lifeline *line, int branch)
{
        KEEP_ERRNO;
        struct pollfd end = { .fd = branch };

        lifeline_leave(line);
        if (fcntl(branch, F_SETSIG, SIGKILL) < 0 || fcntl(branch, F_SETOWN, getpid()) < 0 ||
            fcntl(branch, F_SETFL, O_ASYNC | O_NONBLOCK) < 0)
                return -errno;
        /* A parent that ended before the arming sent no signal; but then there is no write end any more. */
        return poll(&end, 1, 0) > 0 && (end.revents & POLLHUP) ? -ESRCH : 0;
}
