/* SPDX-License-Identifier: MIT */
#include "os/child.h"
#include "os/errno.h"

#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef __has_include
#if __has_include(<sys/single_threaded.h>)
#include <sys/single_threaded.h>
#define SINGLE_THREADED 1
#endif
#endif

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

bool child_is_privileged(void)
{
        return getauxval(AT_SECURE) != 0;
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

const char *const *child_environment(void)
{
        return (const char *const *)(uintptr_t)environ;
}

unsigned child_threads(void)
{
        KEEP_ERRNO;
        struct stat about;

        /* The libc knows for nothing that it has made none; else the directory of threads has a link for each, and two. */
#ifdef SINGLE_THREADED
        if (__libc_single_threaded)
                return 1;
#endif
        return stat("/proc/self/task", &about) < 0 || about.st_nlink < 3 ? 1 : (unsigned)about.st_nlink - 2;
}

void child_set_name(const char *name)
{
        prctl(PR_SET_NAME, name);
}
