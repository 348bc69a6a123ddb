/* SPDX-License-Identifier: MIT
 *
 * sync/atomic.c: sleeping on a word of the user's.
 */
#include <brood/atomic.h>

#include "os/clock.h"
#include "os/futex.h"

#include <errno.h>

/* The user's plain word as one of ours; NULL if it cannot be. */
static atomic_u32 *as_ours(const uint32_t *word)
{
        uintptr_t at = (uintptr_t)word;

        return at % sizeof(atomic_u32) == 0 ? (atomic_u32 *)at : NULL;
}

int brood_atomic_wait(const uint32_t *word, uint32_t expected, int timeout_ms)
{
        atomic_u32 *at = as_ours(word);

        if (at == NULL)
                return -EINVAL;
        if (load_seq_cst(at) != expected)
                return 0;
        int64_t deadline = deadline_after_ms(timeout_ms);
        int r = deadline == DEADLINE_NOW ? -EAGAIN : 0;
        while (r == 0 && load_seq_cst(at) == expected) {
                r = futex_wait(at, expected, deadline);
                if (r == -EAGAIN || r == -EINTR)
                        r = 0;
        }
        /* It may have changed in the last moment. */
        return load_seq_cst(at) == expected ? r : 0;
}

int brood_atomic_wake(const uint32_t *word, int count)
{
        atomic_u32 *at = as_ours(word);

        return at == NULL || count < 1 ? -EINVAL : futex_wake(at, count);
}
