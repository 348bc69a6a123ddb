/* SPDX-License-Identifier: MIT */
#include "os/child.h"
#include "os/errno.h"

#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

pid_t child_fork(void)
{
        KEEP_ERRNO;
        /* A child flushes these streams, so it must not inherit them locked by a thread that it does not have.  glibc takes care of
         * that. */
#ifndef __GLIBC__
        flockfile(stdout);
        flockfile(stderr);
#endif
        pid_t pid = fork();
        int r = pid < 0 ? -errno : pid;
#ifndef __GLIBC__
        funlockfile(stderr);
        funlockfile(stdout);
#endif
        return r;
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

void child_set_environment(const char *const *environment)
{
        environ = (char **)(uintptr_t)environment;
}

void child_set_name(const char *name)
{
        prctl(PR_SET_NAME, name);
}
