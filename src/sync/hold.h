/* SPDX-License-Identifier: MIT
 *
 * sync/hold.h: a word that one process holds, and that says who: the core of a lock that survives its holder.
 *
 *   word     | 0 7 | INCONSISTENT 1 | owner 24 |      owner OWNER_NONE: free
 *
 *   free -> held      CAS by the new holder
 *   held -> free      a store by the holder: nobody else may change the word of a living one
 *   held -> free      CAS by anyone on proof of the holder's death; sets INCONSISTENT, which stays through all later holders
 *                     until one of them has put right what the lock protects, and says so
 *
 * Killed at any instruction, a process holds it or does not, and the word says so.
 *
 *   struct hold_shared   written by                                read by
 *   word                 see above                                 anyone
 *   sleepers             who sleeps, who wakes (sync/waitword.h)   who releases
 *   death                who proves a death, before the word (CAS) who holds it while it is inconsistent
 */
#ifndef BROOD_SYNC_HOLD_H
#define BROOD_SYNC_HOLD_H

#include "sync/user.h"

#include <brood/lock.h>

#include <errno.h>

#define HOLD_OWNER ((UINT32_C(1) << OWNER_BITS) - 1)
#define HOLD_INCONSISTENT (UINT32_C(1) << OWNER_BITS)

/* How the last holder that died did: | exit code, as a signed number 32 | pid 32 |. */
struct death_shared {
        atomic_u64 word;
};

/* On proof of death.  `before` is what the record said before the word was read that names the dead one: who comes so late that
 * somebody else has recorded a later death meanwhile, changes nothing. */
void death_record(struct death_shared *death, uint64_t before, struct user *user, uint32_t owner);

static inline brood_death death_read(struct death_shared *death)
{
        uint64_t word = load_relaxed(&death->word);

        return (brood_death){ .pid = (pid_t)(uint32_t)word, .exitcode = (int)(uint32_t)(word >> 32) };
}

struct hold_shared {
        atomic_u32 word;
        atomic_u32 sleepers;
        struct death_shared death;
};
static_assert(sizeof(struct hold_shared) == 16, "shared");

/* Try to take it: 0, BROOD_HOLDER_DIED, or -EAGAIN. */
static inline int hold_try(struct hold_shared *hold, uint32_t owner)
{
        uint32_t word = load_relaxed(&hold->word);

#ifdef BROOD_FAULT_LATE_OWNER /* for a build that shows that the kill tests notice it (tests/kill/meson.build) */
        if (word & HOLD_OWNER || !cas_u32(&hold->word, word, word | HOLD_OWNER))
                return -EAGAIN;
        store_relaxed(&hold->word, (word & HOLD_INCONSISTENT) | owner);
#else
        if (word & HOLD_OWNER || !cas_u32(&hold->word, word, word | owner))
                return -EAGAIN;
#endif
        return word & HOLD_INCONSISTENT ? BROOD_HOLDER_DIED : 0;
}

static inline uint32_t hold_owner(struct hold_shared *hold)
{
        return load_relaxed(&hold->word) & HOLD_OWNER;
}

/* Whether this process holds it. */
static inline bool hold_is_mine(struct hold_shared *hold, struct user *user)
{
        uint32_t owner = user_owner(user);

        return owner != OWNER_NONE && hold_owner(hold) == owner;
}

/* Let go, by the holder.  A store will do: while it is held by the living, nobody else writes the word. */
static inline void hold_drop(struct hold_shared *hold)
{
        /* R8: pairs with the CAS in hold_try: what was done under the lock comes before. */
        store_release(&hold->word, load_relaxed(&hold->word) & HOLD_INCONSISTENT);
}

/* The holder has put right what the lock protects. */
static inline void hold_consistent(struct hold_shared *hold)
{
        store_relaxed(&hold->word, load_relaxed(&hold->word) & HOLD_OWNER);
}

/* On proof of death of `owner`: if it held this, it is free now, and inconsistent.  Whether it was so. */
bool hold_recover(struct hold_shared *hold, struct user *user, uint32_t owner);

#endif
