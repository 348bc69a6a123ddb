/* SPDX-License-Identifier: MIT */
#include "sync/waitword.h"
#include "os/futex.h"

#include <errno.h>
#include <limits.h>

uint32_t waitword_prepare(atomic_u32 *word, uint32_t last)
{
        for (;;) {
                uint32_t now = load_seq_cst(word);
                uint32_t next = now | WAITWORD_SLEEPERS;

                if (now & WAITWORD_SLEEPERS && now != last)
                        next |= WAITWORD_MANY;
                if (next == now || cas_u32(word, now, next))
                        return next;
        }
}

int waitword_sleep(atomic_u32 *word, uint32_t prepared, int64_t deadline)
{
        int r = futex_wait(word, prepared, deadline);

        return r == -ETIMEDOUT ? r : 0;
}

void waitword_wake_slow(atomic_u32 *word, int count)
{
        uint32_t now = load_seq_cst(word), next;

        do
                next = (now + WAITWORD_EVENT) & ~WAITWORD_SLEEPERS;
        while (!cas_u32(word, now, next) && (now = load_seq_cst(word), true));
        /* Nobody is left asleep: whoever has prepared since has changed the word. */
        if (futex_wake(word, count) < count && next & WAITWORD_MANY)
                cas_u32(word, next, next & ~WAITWORD_MANY);
}

void waitword_wake_all(atomic_u32 *word)
{
        waitword_wake_slow(word, INT_MAX);
}
