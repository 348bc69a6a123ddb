/* SPDX-License-Identifier: MIT */
#include "scene.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The library's mappings of this memory, sorted by address as the kernel prints them. */
void read_ranges(struct scene *scene)
{
        FILE *maps = fopen("/proc/self/maps", "re");
        char line[512];
        scene->range_count = 0;
        must(maps != NULL);
        while (fgets(line, sizeof line, maps)) {
                unsigned long start, end, inode;
                if (sscanf(line, "%lx-%lx %*s %*s %*s %lu", &start, &end, &inode) != 3 || inode != scene->inode ||
                    start == (uintptr_t)scene->memory)
                        continue;
                must(scene->range_count < RANGES_MAX);
                scene->ranges[scene->range_count].start = start;
                scene->ranges[scene->range_count++].end = end;
        }
        fclose(maps);
}

static bool in_ranges(const struct scene *scene, uintptr_t at, size_t size)
{
        uintptr_t end = at + size;
        if (end < at)
                return false;
        for (size_t i = 0; i < scene->range_count && at < end; i++)
                if (scene->ranges[i].start <= at && at < scene->ranges[i].end)
                        at = scene->ranges[i].end;
        return at >= end;
}

void check_place(struct scene *scene, const char *call, const void *data, size_t size)
{
        uintptr_t at = (uintptr_t)data;
        if (size == 0)
                return;
        if (!in_ranges(scene, at, size)) {
                read_ranges(scene);
                if (!in_ranges(scene, at, size))
                        fail("%s: %zu bytes at %p are not inside the mapping", call, size, data);
        }
        if (size >= 16 && at % 16 != 0)
                fail("%s: %zu bytes at %p are not aligned", call, size, data);
}

/* Both ends of what is too large to read as a whole: an untouched page of a memfd takes memory when it is read. */
void read_bytes(const void *data, size_t size)
{
        const volatile unsigned char *bytes = data;
        unsigned sum = 0;
        size_t most = (size_t)1 << 20;
        for (size_t i = 0; i < size && i < most; i++)
                sum += bytes[i];
        for (size_t i = size > most ? size - most : size; i < size; i++)
                sum += bytes[i];
        (void)sum;
}
