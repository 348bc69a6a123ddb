/* SPDX-License-Identifier: MIT */
#include "process/told.h"
#include "os/channel.h"
#include "os/descriptors.h"

#include <errno.h>

struct birth_told {
        int32_t pid; /* or a negative errno; with its pidfd */
        int32_t step;
};

struct ending_told {
        int32_t exitcode;
        uint32_t core_dumped;
        int64_t user_ns, system_ns, peak_memory;
};

int tell_birth(int channel, pid_t pid, int pidfd)
{
        const struct birth_told told = { pid, OUTFIT_NONE };

        return channel_send(channel, &told, sizeof told, &pidfd, 1);
}

void tell_failure(int channel, int error, enum outfit_step step)
{
        const struct birth_told told = { error, (int32_t)step };

        channel_send(channel, &told, sizeof told, NULL, 0);
}

void tell_ending(int channel, const struct ending *ending)
{
        const struct ending_told told = {
                .exitcode = ending->exitcode,
                .core_dumped = ending->core_dumped,
                .user_ns = ending->user_ns,
                .system_ns = ending->system_ns,
                .peak_memory = ending->peak_memory,
        };

        channel_send(channel, &told, sizeof told, NULL, 0);
}

pid_t hear_birth(int channel, int *ret_pidfd, enum outfit_step *ret_step)
{
        struct birth_told told;
        bool truncated;
        size_t count;
        int pidfd = -1;

        ssize_t n = channel_receive(channel, &told, sizeof told, true, &pidfd, 1, &count, &truncated);
        if (n == sizeof told && told.pid > 0 && count == 1) {
                *ret_pidfd = pidfd;
                return told.pid;
        }
        descriptor_close(&pidfd);
        if (n < 0)
                return (pid_t)n;
        if (n < (ssize_t)sizeof told)
                return -EPIPE;
        if (told.pid >= 0)
                return -EMFILE; /* there was no room for the pidfd */
        *ret_step = (enum outfit_step)told.step;
        return told.pid;
}

int hear_ending(int channel, struct ending *ret_ending)
{
        struct ending_told told;
        bool truncated;
        size_t count;

        ssize_t n = channel_receive(channel, &told, sizeof told, false, NULL, 0, &count, &truncated);
        if (n == -EAGAIN)
                return -EAGAIN;
        if (n != sizeof told || told.exitcode < -64 || told.exitcode > 255)
                return -EPIPE;
        *ret_ending = (struct ending){
                .exitcode = told.exitcode,
                .core_dumped = told.core_dumped != 0,
                .measured = true,
                .user_ns = told.user_ns,
                .system_ns = told.system_ns,
                .peak_memory = told.peak_memory,
        };
        return 0;
}
