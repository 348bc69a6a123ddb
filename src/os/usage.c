/* SPDX-License-Identifier: MIT */
#include "os/usage.h"
#include "os/clock.h"
#include "os/descriptors.h"
#include "os/errno.h"

#include <stdio.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static int64_t read_clock(clockid_t clock)
{
        KEEP_ERRNO;
        struct timespec time;

        return clock_gettime(clock, &time) < 0 ? -errno : time.tv_sec * NS_PER_S + time.tv_nsec;
}

int64_t usage_cpu(void)
{
        return read_clock(CLOCK_PROCESS_CPUTIME_ID);
}

int64_t usage_cpu_of(pid_t pid)
{
        clockid_t clock;
        int error = clock_getcpuclockid(pid, &clock);

        return error > 0 ? -error : read_clock(clock);
}

int64_t usage_peak_memory(void)
{
        enum { KIB = 1024 };
        struct rusage usage;

        return getrusage(RUSAGE_SELF, &usage) < 0 ? 0 : usage.ru_maxrss * KIB;
}

int usage_limit_memory(uint64_t more, uint64_t *ret_before)
{
        KEEP_ERRNO;
        char text[128];
        unsigned long long pages;
        struct rlimit limit;

        ssize_t n = file_read("/proc/self/statm", text, sizeof text);
        if (n < 0)
                return (int)n;
        /* The sixth number: data and stack.  The limit is on the data alone, so that it is wider by the stack's size. */
        if (sscanf(text, "%*u %*u %*u %*u %*u %llu", &pages) != 1)
                return -ENODATA;
        if (getrlimit(RLIMIT_DATA, &limit) < 0)
                return -errno;
        *ret_before = limit.rlim_cur;
        uint64_t most = pages * (uint64_t)sysconf(_SC_PAGESIZE);
        if (__builtin_add_overflow(most, more, &most) || most >= limit.rlim_cur)
                return 0; /* there is a narrower one */
        limit.rlim_cur = most;
        return setrlimit(RLIMIT_DATA, &limit) < 0 ? -errno : 0;
}

void usage_unlimit_memory(uint64_t before)
{
        KEEP_ERRNO;
        struct rlimit limit;

        if (getrlimit(RLIMIT_DATA, &limit) == 0 && limit.rlim_cur != before) {
                limit.rlim_cur = before < limit.rlim_max ? before : limit.rlim_max;
                setrlimit(RLIMIT_DATA, &limit);
        }
}
