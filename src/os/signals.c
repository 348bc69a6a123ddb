/* SPDX-License-Identifier: MIT */
#include "os/signals.h"
#include "os/errno.h"
#include "os/syscall.h"

#include <stdint.h>
#include <stdio.h>
#include <sys/signalfd.h>
#include <unistd.h>

void signals_block_all(sigset_t *ret_before)
{
        sigset_t all;

        sigfillset(&all); /* without those that the libc keeps to itself */
        sigemptyset(ret_before);
        kernel_call(SYS_rt_sigprocmask, SIG_SETMASK, &all, ret_before, _NSIG / 8);
}

CHILD_CODE void signals_restore(const sigset_t *mask)
{
        kernel_call(SYS_rt_sigprocmask, SIG_SETMASK, mask, NULL, _NSIG / 8);
}

void signals_unblock(int signal)
{
        KEEP_ERRNO;
        sigset_t set;

        sigemptyset(&set);
        sigaddset(&set, signal);
        pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

void signals_ignored(sigset_t *ret_ignored)
{
        KEEP_ERRNO;
        sigemptyset(ret_ignored);
        for (int signal = 1; signal < _NSIG; signal++) {
                struct sigaction action;

                /* The libc keeps some numbers to itself, and says so of each. */
                if (sigaction(signal, NULL, &action) == 0 && action.sa_handler == SIG_IGN)
                        sigaddset(ret_ignored, signal);
        }
}

static void set_all(const sigset_t *signals, void (*disposition)(int))
{
        const struct sigaction action = { .sa_handler = disposition };

        for (int signal = 1; signal < _NSIG; signal++)
                if (sigismember(signals, signal) == 1)
                        sigaction(signal, &action, NULL);
}

void signals_ignore(const sigset_t *ignored)
{
        set_all(ignored, SIG_IGN);
}

void signals_ignore_none(void)
{
        sigset_t ignored;

        signals_ignored(&ignored);
        set_all(&ignored, SIG_DFL);
}

void signals_default_sigchld(struct sigaction *ret_before)
{
        struct sigaction action = { .sa_handler = SIG_DFL };

        sigaction(SIGCHLD, &action, ret_before);
}

void signals_restore_sigchld(const struct sigaction *before)
{
        if (before->sa_handler == SIG_DFL && !(before->sa_flags & (SA_NOCLDSTOP | SA_NOCLDWAIT)))
                return; /* as it is */
        sigaction(SIGCHLD, before, NULL);
}

int signals_sigchld_descriptor(void)
{
        KEEP_ERRNO;
        sigset_t sigchld;

        sigemptyset(&sigchld);
        sigaddset(&sigchld, SIGCHLD);
        int fd = signalfd(-1, &sigchld, SFD_CLOEXEC | SFD_NONBLOCK);
        return fd < 0 ? -errno : fd;
}

void signals_sigchld_clear(int fd)
{
        KEEP_ERRNO;
        struct signalfd_siginfo info;

        while (read(fd, &info, sizeof info) == sizeof info)
                ;
}

const char *signal_name(int signal, char buffer[SIGNAL_NAME_MAX])
{
        static const struct {
                int signal;
                const char *name;
        } names[] = {
                { SIGHUP, "SIGHUP" },       { SIGINT, "SIGINT" },   { SIGQUIT, "SIGQUIT" }, { SIGILL, "SIGILL" },
                { SIGTRAP, "SIGTRAP" },     { SIGABRT, "SIGABRT" }, { SIGBUS, "SIGBUS" },   { SIGFPE, "SIGFPE" },
                { SIGKILL, "SIGKILL" },     { SIGUSR1, "SIGUSR1" }, { SIGSEGV, "SIGSEGV" }, { SIGUSR2, "SIGUSR2" },
                { SIGPIPE, "SIGPIPE" },     { SIGALRM, "SIGALRM" }, { SIGTERM, "SIGTERM" }, { SIGSTKFLT, "SIGSTKFLT" },
                { SIGVTALRM, "SIGVTALRM" }, { SIGPROF, "SIGPROF" }, { SIGXCPU, "SIGXCPU" }, { SIGXFSZ, "SIGXFSZ" },
                { SIGIO, "SIGIO" },         { SIGPWR, "SIGPWR" },   { SIGSYS, "SIGSYS" },
        };

        for (size_t i = 0; i < sizeof names / sizeof *names; i++)
                if (names[i].signal == signal)
                        return names[i].name;
        snprintf(buffer, SIGNAL_NAME_MAX, "signal %d", signal);
        return buffer;
}
