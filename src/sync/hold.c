/* SPDX-License-Identifier: MIT */
#include "sync/hold.h"

void death_record(struct death_shared *death, uint64_t before, struct user *user, uint32_t owner)
{
        int exitcode;
        pid_t pid = owners_death(user->owners, owner, &exitcode);

        /* A pid of 0: the number has been given up by somebody who had the proof first, and so has recorded it. */
        if (pid == 0)
                return;
        /* Another who had the proof may have come while the dead one could still be asked how it ended. */
        if (exitcode == BROOD_EXITCODE_UNKNOWN && (uint32_t)before == (uint32_t)pid)
                return;
        cas_u64(&death->word, before, (uint64_t)(uint32_t)exitcode << 32 | (uint32_t)pid);
}

bool hold_recover(struct hold_shared *hold, struct user *user, uint32_t owner)
{
        uint64_t before = load_seq_cst(&hold->death.word);
        uint32_t word = load_seq_cst(&hold->word);

        if ((word & HOLD_OWNER) != owner)
                return false;
        /* The record first, so that whoever gets the lock finds it. */
        death_record(&hold->death, before, user, owner);
        return cas_u32(&hold->word, word, HOLD_INCONSISTENT);
}
