/* SPDX-License-Identifier: MIT */
#include "os/oom.h"
#include "os/descriptors.h"
#include "os/errno.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Read a file of the group: its length or a negative errno. */
static ssize_t read_in_group(int group, const char *name, char *text, size_t size)
{
        char path[64];

        snprintf(path, sizeof path, "/proc/self/fd/%d/%s", group, name);
        return file_read(path, text, size);
}

/* False: the group does not count. */
static bool count_kills(int group, uint64_t *ret_kills)
{
        static const char *const files[] = { "memory.events.local", "memory.oom_control" };
        static const char key[] = "oom_kill ";
        char text[1024];

        for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
                if (read_in_group(group, files[i], text, sizeof text) < 0)
                        continue;
                for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
                        line += *line == '\n';
                        if (strncmp(line, key, sizeof key - 1) != 0)
                                continue;
                        *ret_kills = strtoull(line + sizeof key - 1, NULL, 10);
                        return true;
                }
        }
        return false;
}

void oom_watch_begin(struct oom_watch *watch, const char *directory)
{
        KEEP_ERRNO;
        char member[16];

        watch->group = descriptor_above_streams(open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC));
        if (watch->group < 0 || read_in_group(watch->group, "cgroup.procs", member, sizeof member) != 0 ||
            !count_kills(watch->group, &watch->kills))
                descriptor_close(&watch->group);
}

bool oom_watch_end(struct oom_watch *watch)
{
        KEEP_ERRNO;
        uint64_t kills;

        bool killed = watch->group >= 0 && count_kills(watch->group, &kills) && kills > watch->kills;
        descriptor_close(&watch->group);
        return killed;
}
