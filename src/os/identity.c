/* SPDX-License-Identifier: MIT */
#include "os/identity.h"
#include "os/descriptors.h"
#include "os/pidfd.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The fields of /proc/PID/stat.  The second, the command's name in parentheses, may itself hold blanks and parentheses. */
enum { FIELD_STATE = 3, FIELD_START = 22, FIELD_EXIT_CODE = 52, STAT_ROOM = 1536 };

/* A field of what was read; NULL if it is not there. */
static const char *stat_field(const char *text, int field)
{
        const char *at = strrchr(text, ')');

        for (int i = 2; at != NULL && i < field; i++) {
                at = strchr(at, ' ');
                at = at == NULL ? NULL : at + 1;
        }
        return at;
}

static bool stat_read(pid_t pid, char text[STAT_ROOM])
{
        char path[40];

        snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
        return file_read(path, text, STAT_ROOM) >= 0;
}

static uint32_t start_time(const char *text)
{
        const char *at = stat_field(text, FIELD_START);

        return at == NULL ? 0 : (uint32_t)(strtoull(at, NULL, 10) & ((UINT32_C(1) << IDENTITY_START_BITS) - 1));
}

static uint32_t start_time_of(pid_t pid)
{
        char text[STAT_ROOM];

        return stat_read(pid, text) ? start_time(text) : 0;
}

struct identity identity_self(void)
{
        pid_t pid = getpid();

        return (struct identity){ .pid = pid, .start = start_time_of(pid) };
}

struct identity identity_self_watched(void)
{
        return (struct identity){ .pid = getpid() };
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

int identity_exitcode(struct identity who, int *ret_exitcode)
{
        char text[STAT_ROOM];

        if (!stat_read(who.pid, text) || start_time(text) != who.start)
                return -ENODATA;
        const char *state = stat_field(text, FIELD_STATE), *status = stat_field(text, FIELD_EXIT_CODE);
        if (state == NULL || status == NULL)
                return -ENODATA;
        if (*state != 'Z')
                return -EAGAIN;
        *ret_exitcode = exitcode_of_status(atoi(status));
        return 0;
}
