/* SPDX-License-Identifier: MIT */
#include "sync/waitword.h"
#include "os/futex.h"

#include <errno.h>
#include <limits.h>

uint32_t waitword_prepare(atomic_u32 *word)
{
        for (;;) {
                uint32_t now = load_seq_cst(word);
                if (now & WAITWORD_SLEEPERS)
                        return now;
                if (cas_u32(word, now, now | WAITWORD_SLEEPERS))
                        return now | WAITWORD_SLEEPERS;
        }
}

int waitword_sleep(atomic_u32 *word, uint32_t prepared, int64_t deadline)
{
        int r = futex_wait(word, prepared, deadline);

        return r == -ETIMEDOUT ? r : 0;
}

void waitword_wake_slow(atomic_u32 *word, int count)
{
        uint32_t now = load_seq_cst(word);

        while (!cas_u32(word, now, (now + WAITWORD_EVENT) & ~WAITWORD_SLEEPERS))
                now = load_seq_cst(word);
        futex_wake(word, count);
}

void waitword_wake_all(atomic_u32 *word)
{
        waitword_wake_slow(word, INT_MAX);
}
