/* SPDX-License-Identifier: MIT */
#include "shm/owners.h"
#include "os/identity.h"

#include <brood/common.h>

enum { PID_BITS = 22, START_BITS = IDENTITY_START_BITS };
static_assert(PID_BITS + OWNERS_GENERATION_BITS + START_BITS == 64, "an entry is one word");

#define GENERATION_MASK ((UINT32_C(1) << OWNERS_GENERATION_BITS) - 1)

static uint64_t entry_make(struct identity who, uint32_t generation)
{
        return (uint64_t)(uint32_t)who.pid << (64 - PID_BITS) | (uint64_t)generation << START_BITS | who.start;
}

static struct identity entry_identity(uint64_t entry)
{
        return (struct identity){
                .pid = (pid_t)(entry >> (64 - PID_BITS)),
                .start = (uint32_t)(entry & ((UINT64_C(1) << START_BITS) - 1)),
        };
}

static uint32_t entry_generation(uint64_t entry)
{
        return (uint32_t)(entry >> START_BITS) & GENERATION_MASK;
}

static uint32_t owner_make(uint32_t index, uint64_t entry)
{
        return entry_generation(entry) << OWNERS_INDEX_BITS | index;
}

static uint32_t owner_index(uint32_t owner)
{
        return owner & (OWNERS_COUNT - 1);
}

uint32_t owners_register(struct owners *owners, struct identity self)
{
        for (uint32_t i = 1; i < OWNERS_COUNT; i++) {
                uint64_t entry = load_relaxed(&owners->entries[i]);

                if (entry_identity(entry).pid != 0)
                        continue;
                uint64_t mine = entry_make(self, (entry_generation(entry) + 1) & GENERATION_MASK);
                if (cas_u64(&owners->entries[i], entry, mine))
                        return owner_make(i, mine);
        }
        return OWNER_NONE;
}

void owners_release(struct owners *owners, uint32_t owner)
{
        atomic_u64 *at = &owners->entries[owner_index(owner)];
        uint64_t entry = load_relaxed(at);

        /* The generation stays, so that the next one is new. */
        if (owner_make(owner_index(owner), entry) == owner)
                cas_u64(at, entry, entry_make((struct identity){ 0 }, entry_generation(entry)));
}

/* Whether an entry stands for an owner number. */
static bool entry_is_of(uint64_t entry, uint32_t owner)
{
        return owner_index(owner) != 0 && entry_identity(entry).pid != 0 &&
               owner_make(owner_index(owner), entry) == owner;
}

bool owners_holds(struct owners *owners, uint32_t owner)
{
        return entry_is_of(load_seq_cst(&owners->entries[owner_index(owner)]), owner);
}

bool owners_alive(struct owners *owners, uint32_t owner)
{
        uint64_t entry = load_acquire(&owners->entries[owner_index(owner)]);

        return entry_is_of(entry, owner) && identity_is_alive(entry_identity(entry));
}

pid_t owners_death(struct owners *owners, uint32_t owner, int *ret_exitcode)
{
        uint64_t entry = load_acquire(&owners->entries[owner_index(owner)]);
        struct identity who = entry_identity(entry);

        *ret_exitcode = BROOD_EXITCODE_UNKNOWN;
        if (owner_make(owner_index(owner), entry) != owner)
                return 0;
        if (who.pid != 0)
                identity_exitcode(who, ret_exitcode);
        return who.pid;
}

uint32_t owners_next(struct owners *owners, uint32_t *at)
{
        while (++*at < OWNERS_COUNT) {
                uint64_t entry = load_acquire(&owners->entries[*at]);
                if (entry_identity(entry).pid != 0)
                        return owner_make(*at, entry);
        }
        return OWNER_NONE;
}

uint32_t owners_find(struct owners *owners, pid_t pid, uint32_t *at)
{
        uint32_t owner;

        do
                owner = owners_next(owners, at);
        while (owner != OWNER_NONE && entry_identity(load_relaxed(&owners->entries[*at])).pid != pid);
        return owner;
}
