/* SPDX-License-Identifier: MIT
 *
 * tests/os/os.h: what the tests of this room share.
 */
#ifndef BROOD_TESTS_OS_OS_H
#define BROOD_TESTS_OS_OS_H

#include "check.h"

#include "os/clock.h"
#include "os/descriptors.h"
#include "os/pidfd.h"

#include <sys/time.h>

static inline int64_t in_ms(int ms)
{
        return clock_now() + ms * NS_PER_MS;
}

/* Valgrind may not know the calls: what needs them runs without it. */
static inline void need_pidfds(void)
{
        int fd = pidfd_of(getpid());

        if (fd == -ENOSYS)
                skip();
        descriptor_close(&fd);
}

static inline void ignore_signal(int signal)
{
        (void)signal;
}

/* SIGALRM every 10 ms, with a handler that does not ask for restarts. */
static inline void interrupt_often(bool on)
{
        struct sigaction action = { .sa_handler = ignore_signal };
        struct itimerval often = { 0 };

        sigaction(SIGALRM, &action, NULL);
        if (on)
                often = (struct itimerval){ { 0, 10000 }, { 0, 10000 } };
        setitimer(ITIMER_REAL, &often, NULL);
}

/* What tests mostly ask for of an ending. */
static inline int reap(int pidfd, int *ret_code)
{
        struct ending ending;
        int r = pidfd_reap(pidfd, &ending);

        if (r == 0)
                *ret_code = ending.exitcode;
        return r;
}

#endif
