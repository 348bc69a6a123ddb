/* SPDX-License-Identifier: MIT
 *
 * large_host.h: a host that has grown, and what something costs there over what it costs in a small one.
 */
#ifndef BENCH_LARGE_HOST_H
#define BENCH_LARGE_HOST_H

#include "proc_number.h"

#define SMALL_HOST ((size_t)10 << 20)
#define LARGE_HOST_NEEDED_KIB ((uint64_t)6 << 20) /* 4 GiB, and what is too much to take from others */

/* In pages of the common size: huge ones would hide what a fork has to copy. */
static inline char *large_host_touch(size_t size)
{
        char *memory = (char *)mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (memory == MAP_FAILED)
                bench_skip("no %zu MiB of memory", size >> 20);
        madvise(memory, size, MADV_NOHUGEPAGE);
        for (size_t i = 0; i < size; i += 4096)
                memory[i] = 1;
        return memory;
}

static inline size_t large_host_size(uint64_t count)
{
        if (count < 5)
                return (size_t)64 << 20; /* the smoke test's */
        if (available_kib() >= LARGE_HOST_NEEDED_KIB)
                return (size_t)4 << 30;
        fputs("bench: 1 GiB instead of 4, memory is short\n", stderr);
        return (size_t)1 << 30;
}

/* How many times as much something costs in a host of 4 GiB as in one of 10 MiB. */
static inline double large_host_times(double (*cost)(const void *what, uint64_t count), const void *what,
                                      uint64_t count)
{
        size_t size = large_host_size(count);
        char *memory = large_host_touch(SMALL_HOST), *more;
        double before = cost(what, count), large, after;

        more = large_host_touch(size);
        large = cost(what, count);
        munmap(more, size);
        after = cost(what, count);
        munmap(memory, SMALL_HOST);
        return 2 * large / (before + after);
}

#endif
