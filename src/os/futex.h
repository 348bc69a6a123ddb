/* SPDX-License-Identifier: MIT
 *
 * os/futex.h: sleeping on words of shared memory.  All waits are process-shared, end at an absolute deadline, and may wake
 * without a reason: callers look at their condition again.
 */
#ifndef BROOD_OS_FUTEX_H
#define BROOD_OS_FUTEX_H

#include "os/atomic.h"

/* Sleep while *word == expected.  0 (woken, or for no reason), -EAGAIN (it was different), -ETIMEDOUT, -EINTR. */
int futex_wait(atomic_u32 *word, uint32_t expected, int64_t deadline);

/* Sleep while *a == expected_a and *b == expected_b.  The same results.  Where the kernel has no futex_waitv (before 5.16)
 * this sleeps on `a` only, and at most FUTEX_FALLBACK_SLICE, and then wakes for no reason. */
int futex_wait_either(atomic_u32 *a, uint32_t expected_a, atomic_u32 *b, uint32_t expected_b, int64_t deadline);

#define FUTEX_FALLBACK_SLICE (20 * INT64_C(1000000))

/* Wake at most `count` sleepers; returns how many. */
int futex_wake(atomic_u32 *word, int count);

/* The low half of a 64-bit word, for sleeping on it. */
static inline atomic_u32 *futex_low_half(atomic_u64 *word)
{
        static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the low half comes first");
        return (atomic_u32 *)(void *)word;
}

/* Tests only: act as on a kernel without futex_waitv. */
void futex_force_fallback(bool force);

#endif
