/* SPDX-License-Identifier: MIT
 *
 * sync/waitword.h: sleeping until something in shared memory has changed, at no cost to those who change it while nobody
 * sleeps.
 *
 * A wait word is a count of events with two bits: SLEEPERS, "somebody may be asleep", and MANY, "several may be".
 *
 *     sleeper                                   waker
 *     word = waitword_prepare(w)  (sets bit)    change the state
 *     look at the state again                   waitword_wake_one(w): if the bit is set, clear it, count up, futex_wake
 *     waitword_sleep(w, word)
 *
 * Either the waker sees the bit, or the sleeper, which set it before it looked, sees the change: both sides store first and
 * load second, with a full fence between (Dekker's argument; or the sleeper fences for both, see os/fence.h).  If the waker
 * comes in between, the count differs and the sleep returns at once.
 *
 * The bits are hints that may be stale: set with nobody asleep (a sleeper was killed) they cost one futex_wake, which
 * clears them.  SLEEPERS cleared with somebody asleep (the waker woke one of several) is set again by the woken one, if MANY
 * says that there may be others; and that one, when it has got what it came for and there is more, wakes the next.  Who was
 * the only sleeper is spared that.  A sleeper that is killed after it was woken and before it has done so leaves the others
 * asleep beside a change: therefore no sleep is longer than a slice, unless somebody watches over the processes and calls
 * waitword_wake_all() after a death.
 */
#ifndef BROOD_SYNC_WAITWORD_H
#define BROOD_SYNC_WAITWORD_H

#include "os/atomic.h"

#include <stdbool.h>

#define WAITWORD_SLEEPERS UINT32_C(1)
#define WAITWORD_MANY UINT32_C(2)
#define WAITWORD_EVENT UINT32_C(4)

/* Announce a sleep; the value to give to waitword_sleep after the state was looked at once more. `last` is what the same
 * call got when it prepared before, if it has since slept to the end of its time, or has not slept; otherwise 0.  If nothing has
 * changed since, the bit is its own.  (One that was woken cannot know: the kernel may have woken it for another.) */
uint32_t waitword_prepare(atomic_u32 *word, uint32_t last);

/* Sleep until an event or the deadline: 0 or -ETIMEDOUT.  May wake for no reason. */
int waitword_sleep(atomic_u32 *word, uint32_t prepared, int64_t deadline);

void waitword_wake_slow(atomic_u32 *word, int count);

static inline bool waitword_has_sleepers(atomic_u32 *word)
{
        return load_seq_cst(word) & WAITWORD_SLEEPERS;
}

/* Whether others may be asleep beside one that was woken. */
static inline bool waitword_has_others(atomic_u32 *word)
{
        return load_seq_cst(word) & WAITWORD_MANY;
}

/* Whether anybody may be asleep, also those whose mark a waker has taken away. */
static inline bool waitword_may_sleep(atomic_u32 *word)
{
        return load_seq_cst(word) & (WAITWORD_SLEEPERS | WAITWORD_MANY);
}

/* After a change that one sleeper can use. */
static inline void waitword_wake_one(atomic_u32 *word)
{
        if (waitword_has_sleepers(word))
                waitword_wake_slow(word, 1);
}

/* After a change that concerns all, or a death. */
void waitword_wake_all(atomic_u32 *word);

#endif
