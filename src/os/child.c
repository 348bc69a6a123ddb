/* SPDX-License-Identifier: MIT */
#include "os/child.h"
#include "os/errno.h"

#include <signal.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

pid_t child_fork(void)
{
        KEEP_ERRNO;
        pid_t pid = fork();

        return pid < 0 ? -errno : pid;
}

void child_reap(pid_t pid)
{
        KEEP_ERRNO;
        while (waitpid(pid, NULL, __WALL) < 0 && errno == EINTR)
                ;
}

pid_t child_pid(void)
{
        return getpid();
}

void child_flush(void)
{
        KEEP_ERRNO;
        fflush(stdout);
        fflush(stderr);
}

void child_flush_pending(void)
{
        KEEP_ERRNO;
        if (__fpending(stdout) > 0)
                fflush(stdout);
        if (__fpending(stderr) > 0)
                fflush(stderr);
}

void child_exit(int code)
{
        _exit(code);
}

int child_die_with_parent(pid_t parent)
{
        KEEP_ERRNO;
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
                return -errno;
        return getppid() == parent ? 0 : -ESRCH;
}

void child_set_name(const char *name)
{
        prctl(PR_SET_NAME, name);
}
