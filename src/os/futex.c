/* SPDX-License-Identifier: MIT */
#include "os/futex.h"
#include "os/clock.h"
#include "os/syscall.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>

#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449 /* the same number on all architectures since 5.16 */
#endif

/* struct futex_waitv of <linux/futex.h>, which older headers lack. */
struct waitv_entry {
        uint64_t value;
        uint64_t address;
        uint32_t flags;
        uint32_t reserved;
};

#define WAITV_32 2 /* FUTEX_32; without FUTEX_PRIVATE_FLAG it is process-shared */

static atomic_u32 waitv_missing; /* 1 once the kernel has said so; process-private */

void futex_force_fallback(bool force)
{
        store_relaxed(&waitv_missing, force);
}

int futex_wait(atomic_u32 *word, uint32_t expected, int64_t deadline)
{
        struct timespec at = deadline_timespec(deadline);
        long r = kernel_call(SYS_futex, word, FUTEX_WAIT_BITSET, expected, deadline == DEADLINE_NEVER ? NULL : &at,
                             NULL, FUTEX_BITSET_MATCH_ANY);

        return r < 0 ? (int)r : 0;
}

int futex_wait_either(atomic_u32 *a, uint32_t expected_a, atomic_u32 *b, uint32_t expected_b, int64_t deadline)
{
        if (!load_relaxed(&waitv_missing)) {
                struct timespec at = deadline_timespec(deadline);
                struct waitv_entry entries[2] = {
                        { .value = expected_a, .address = (uintptr_t)a, .flags = WAITV_32 },
                        { .value = expected_b, .address = (uintptr_t)b, .flags = WAITV_32 },
                };
                long r = kernel_call(SYS_futex_waitv, entries, 2, 0, deadline == DEADLINE_NEVER ? NULL : &at,
                                     CLOCK_MONOTONIC);

                if (r >= 0)
                        return 0;
                /* Sandboxes made before the call answer EPERM, which the call itself never does. */
                if (r != -ENOSYS && r != -EPERM)
                        return (int)r;
                store_relaxed(&waitv_missing, 1);
        }
        if (load_seq_cst(b) != expected_b)
                return -EAGAIN;
        int64_t slice = deadline_slice(deadline, FUTEX_FALLBACK_SLICE);
        int r = futex_wait(a, expected_a, slice);
        return r == -ETIMEDOUT && slice != deadline ? 0 : r;
}

int futex_wake(atomic_u32 *word, int count)
{
        long r = kernel_call(SYS_futex, word, FUTEX_WAKE, count);

        return r < 0 ? 0 : (int)r;
}
