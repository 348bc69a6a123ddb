/* SPDX-License-Identifier: MIT
 *
 * proc_number.h: the numbers that the kernel tells in files of /proc, as in "MemAvailable:  8123456 kB".
 */
#ifndef BENCH_PROC_NUMBER_H
#define BENCH_PROC_NUMBER_H

#include "bench.h"

/* The number behind a name; false if there is none. */
static inline bool proc_number(const char *path, const char *name, uint64_t *ret_number)
{
        size_t length = strlen(name);
        bool found = false;
        char line[256];
        FILE *f = fopen(path, "re");

        while (f && !found && fgets(line, sizeof line, f))
                found = !strncmp(line, name, length) && sscanf(line + length, ": %" SCNu64, ret_number) == 1;
        if (f)
                fclose(f);
        return found;
}

/* What can be taken from the machine's memory without any of it being swapped, in KiB; 0 if that is not told. */
static inline uint64_t available_kib(void)
{
        uint64_t kib = 0;

        proc_number("/proc/meminfo", "MemAvailable", &kib);
        return kib;
}

#endif
