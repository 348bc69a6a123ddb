/* SPDX-License-Identifier: MIT */
#include "os/hugepages.h"
#include "os/errno.h"
#include "os/memfd.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* 5.14 */
#endif

void hugepages_advise(void *memory, size_t size)
{
        KEEP_ERRNO;
        madvise(memory, size, MADV_HUGEPAGE);
}

void hugepages_touch(void *memory, size_t size)
{
        KEEP_ERRNO;
        uintptr_t page = memory_page_size(), before = (uintptr_t)memory % page;

        if (size > 0)
                madvise((char *)memory - before, size + before, MADV_POPULATE_WRITE);
}

/* What a line of /proc/self/smaps adds: a mapping's lines follow the one with its addresses, *inside says whether it is ours. */
static size_t bytes_of_line(const char *line, uintptr_t begin, uintptr_t end, int *inside)
{
        static const char *const names[] = { "ShmemPmdMapped:", "FilePmdMapped:", "Shared_Hugetlb:",
                                             "Private_Hugetlb:" };
        unsigned long long first, last;

        if (sscanf(line, "%llx-%llx ", &first, &last) == 2)
                *inside = first >= begin && last <= end;
        for (size_t i = 0; *inside && i < sizeof names / sizeof names[0]; i++)
                if (strncmp(line, names[i], strlen(names[i])) == 0)
                        return (size_t)strtoull(line + strlen(names[i]), NULL, 10) << 10;
        return 0;
}

ssize_t hugepages_mapped(const void *memory, size_t size)
{
        KEEP_ERRNO;
        uintptr_t begin = (uintptr_t)memory;
        FILE *file = fopen("/proc/self/smaps", "re");
        char *line = NULL;
        size_t room = 0, sum = 0;
        int inside = 0;

        if (file == NULL)
                return -errno;
        while (getline(&line, &room, file) > 0)
                sum += bytes_of_line(line, begin, begin + size, &inside);
        free(line);
        fclose(file);
        return (ssize_t)sum;
}
