/* SPDX-License-Identifier: MIT */
#include "os/clock.h"

#include <limits.h>

int64_t clock_now(void)
{
        struct timespec now;

        clock_gettime(CLOCK_MONOTONIC, &now);
        return now.tv_sec * NS_PER_S + now.tv_nsec;
}

int64_t clock_wall(void)
{
        struct timespec now;

        clock_gettime(CLOCK_REALTIME, &now);
        return now.tv_sec * NS_PER_S + now.tv_nsec;
}

int64_t deadline_after_ms(int timeout_ms)
{
        if (timeout_ms < 0)
                return DEADLINE_NEVER;
        if (timeout_ms == 0)
                return DEADLINE_NOW;
        return clock_now() + timeout_ms * NS_PER_MS;
}

int deadline_left_ms(int64_t deadline)
{
        if (deadline == DEADLINE_NEVER)
                return -1;
        if (deadline == DEADLINE_NOW)
                return 0;
        int64_t left = deadline - clock_now();
        if (left <= 0)
                return 0;
        left = (left + NS_PER_MS - 1) / NS_PER_MS;
        return left > INT_MAX ? INT_MAX : (int)left;
}

int64_t deadline_slice(int64_t deadline, int64_t ns)
{
        int64_t slice = clock_now() + ns;

        return slice < deadline ? slice : deadline;
}

struct timespec deadline_timespec(int64_t deadline)
{
        if (deadline < 0)
                deadline = 0;
        return (struct timespec){ .tv_sec = deadline / NS_PER_S, .tv_nsec = deadline % NS_PER_S };
}
