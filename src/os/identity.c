/* SPDX-License-Identifier: MIT */
#include "os/identity.h"
#include "os/descriptors.h"
#include "os/pidfd.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Field 22 of /proc/PID/stat.  The second field, the command's name in parentheses, may itself hold blanks and parentheses. */
static uint32_t start_time_of(pid_t pid)
{
        char path[40], text[512];

        snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
        if (file_read(path, text, sizeof text) < 0)
                return 0;

        char *at = strrchr(text, ')');
        for (int field = 2; at != NULL && field < 22; field++)
                at = strchr(at + 1, ' ');
        return at == NULL ? 0 : (uint32_t)(strtoull(at, NULL, 10) & ((UINT32_C(1) << IDENTITY_START_BITS) - 1));
}

struct identity identity_self(void)
{
        pid_t pid = getpid();

        return (struct identity){ .pid = pid, .start = start_time_of(pid) };
}

bool identity_is_alive(struct identity who)
{
        /* The pidfd is taken first: it pins whoever has the pid now.  If that one is still there after the start time has
         * been read, then it is the one whose start time was read. */
        int pidfd = pidfd_of(who.pid);

        if (pidfd < 0)
                return pidfd != -ESRCH && pidfd != -EINVAL;
        uint32_t start = start_time_of(who.pid);
        bool same = start == 0 || who.start == 0 || start == who.start;
        bool alive = same && !pidfd_ended(pidfd);
        descriptor_close(&pidfd);
        return alive;
}
