/* SPDX-License-Identifier: MIT */
#include "group.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

bool group_set(const char *path, const char *file, const char *value)
{
        char name[GROUP_PATH + 64];
        snprintf(name, sizeof name, "%s/%s", path, file);
        int fd = open(name, O_WRONLY | O_CLOEXEC);
        bool good = fd >= 0 && write(fd, value, strlen(value)) == (ssize_t)strlen(value);
        if (fd >= 0)
                close(fd);
        return good;
}

bool group_remove(void *path)
{
        return rmdir(path) == 0 || errno == ENOENT;
}

bool group_make(char path[GROUP_PATH])
{
        char made[GROUP_PATH];
        static const struct {
                const char *place, *limit, *swap, *swap_limit;
        } kinds[] = {
                { "/sys/fs/cgroup", "memory.max", "memory.swap.max", "0" },
                { "/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "67108864" },
        };
        for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
                snprintf(made, sizeof made, "%s/brood-test-%d", kinds[i].place, getpid());
                if (mkdir(made, 0755) == 0 && group_set(made, kinds[i].limit, "67108864")) {
                        group_set(made, kinds[i].swap, kinds[i].swap_limit); /* where swap is counted at all */
                        memcpy(path, made, sizeof made);
                        return true;
                }
                group_remove(made);
        }
        path[0] = '\0';
        printf("no control group with a limit of memory can be made here: nothing runs out of it\n");
        return false;
}

int group_touch_too_much(void)
{
        size_t size = (size_t)GROUP_MIB * 4 << 20;
        char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED)
                return 1;
        memset(memory, 1, size);
        return 0;
}
