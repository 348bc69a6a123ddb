/* SPDX-License-Identifier: MIT */
#include "os/child.h"
#include "os/errno.h"
#include "os/syscall.h"

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

/* A fork that failed leaves errno alone, and a child that was made does not so much as look at it. */
static int fork_failed(int before)
{
        int r = -errno;

        errno = before;
        return r;
}

CHILD_CODE pid_t child_fork(void)
{
        int before = errno;

        /* A child flushes these streams, so it must not inherit them locked by a thread that it does not have.  glibc takes care of
         * that. */
#ifndef __GLIBC__
        flockfile(stdout);
        flockfile(stderr);
#endif
        pid_t pid = fork();
#ifndef __GLIBC__
        funlockfile(stderr);
        funlockfile(stdout);
#endif
        return pid < 0 ? fork_failed(before) : pid;
}

void child_reap(pid_t pid)
{
        KEEP_ERRNO;
        while (waitpid(pid, NULL, __WALL) < 0 && errno == EINTR)
                ;
}

CHILD_CODE pid_t child_pid(void)
{
        return getpid();
}

pid_t child_parent(void)
{
        return getppid();
}

bool child_is_privileged(void)
{
        return getauxval(AT_SECURE) != 0;
}

/* Mostly nothing is buffered.  Then nothing of the stream is written to, and with glibc not even its code is entered: in a fresh
 * child each would cost a page fault. */
CHILD_CODE static void flush(FILE *stream)
{
#ifdef __GLIBC__
        if (stream->_mode <= 0 && stream->_IO_write_ptr == stream->_IO_write_base)
                return;
#endif
        KEEP_ERRNO;
        if (__fpending(stream) > 0)
                fflush(stream);
}

CHILD_CODE void child_flush(void)
{
        flush(stdout);
        flush(stderr);
}

CHILD_CODE void child_exit(int code)
{
        _exit(code);
}

int child_die_with_parent(pid_t parent)
{
        long r = kernel_call(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL);

        if (r < 0)
                return (int)r;
        return kernel_call(SYS_getppid) == parent ? 0 : -ESRCH;
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
        kernel_call(SYS_prctl, PR_SET_NAME, name);
}
