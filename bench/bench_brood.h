/* SPDX-License-Identifier: MIT
 *
 * bench_brood.h: what the programs about brood share, whatever part of it they measure.
 */
#ifndef BENCH_BENCH_BROOD_H
#define BENCH_BENCH_BROOD_H

#include "bench.h"

#include <brood/common.h>

/* What a function of brood has returned, when anything but success is the end. */
static inline void brood_check(const char *what, ssize_t r)
{
        if (__builtin_expect(r < 0, 0))
                bench_die("%s: %s", what, brood_strerror((int)r));
}

/* The same of a call that gives a message, which must be of this size. */
static inline void brood_check_size(const char *what, ssize_t n, size_t size)
{
        brood_check(what, n);
        if (__builtin_expect((size_t)n != size, 0))
                bench_die("%s: %zd bytes instead of %zu", what, n, size);
}

#endif
