/* SPDX-License-Identifier: MIT */
#include "queue/leases.h"
#include "queue/ring.h"

#include <errno.h>

enum lease_kind {
        FREE = 0,
        FILLING = 1, /* the owner is about to move a message to it */
        HELD = 2,
        READY = 3,  /* back, and to be delivered again */
        TAKING = 5, /* HELD, but its holder is not ready for it to be done */
        BURIED = 4, /* a dead letter that may not have been counted yet */
};

enum {
        GENERATION_BITS = 29,
        DELIVERIES_BITS = 8,
        DELIVERIES_TOP = (1 << DELIVERIES_BITS) - 1,
        LOOK_EVERY = 256, /* how many calls of this process between two looks for the dead */
};

#define GENERATION_MASK ((UINT32_C(1) << GENERATION_BITS) - 1)

static uint64_t word_make(uint32_t generation, uint32_t deliveries, enum lease_kind kind, uint32_t owner)
{
        return (uint64_t)(generation & GENERATION_MASK) << 35 | (uint64_t)deliveries << 27 | (uint64_t)kind << 24 |
               owner;
}

static uint32_t word_generation(uint64_t word)
{
        return (uint32_t)(word >> 35);
}

static uint32_t word_deliveries(uint64_t word)
{
        return (uint32_t)(word >> 27 & DELIVERIES_TOP);
}

static enum lease_kind word_kind(uint64_t word)
{
        return (enum lease_kind)(word >> 24 & 7);
}

static bool is_held(uint64_t word)
{
        return word_kind(word) == HELD || word_kind(word) == TAKING;
}

static uint32_t word_owner(uint64_t word)
{
        return (uint32_t)(word & ((UINT32_C(1) << OWNER_BITS) - 1));
}

static struct lease_entry *entry_at(const struct leases *leases, uint32_t entry)
{
        return region_at(leases->ring->region, leases->offset + (size_t)entry * leases->stride);
}

static uint32_t used_entries(const struct leases *leases)
{
        uint32_t high = load_acquire(&leases->shared->high);

        return high < LEASES_COUNT ? high : LEASES_COUNT;
}

/* ---- taking and freeing entries ---- */

static bool reserve(struct leases *leases, uint32_t owner, uint32_t entry)
{
        atomic_u64 *word = &entry_at(leases, entry)->word;
        uint64_t seen = load_relaxed(word);

        return word_kind(seen) == FREE && cas_u64(word, seen, word_make(word_generation(seen), 0, FILLING, owner));
}

int leases_reserve(struct leases *leases, uint32_t owner, uint32_t *ret_entry)
{
        uint32_t high = used_entries(leases), recent = load_relaxed(&leases->recent);

        if (recent < high && reserve(leases, owner, recent)) {
                *ret_entry = recent;
                return 0;
        }
        for (uint32_t entry = 0; entry < high; entry++)
                if (reserve(leases, owner, entry)) {
                        *ret_entry = entry;
                        return 0;
                }
        for (; high < LEASES_COUNT; high++) {
                int r = region_commit(leases->ring->region, leases->offset + high * leases->stride, leases->stride);
                if (r < 0)
                        return r;
                if (reserve(leases, owner, high)) {
                        /* Others look below `high` only.  Should we die before the store, the entry holds nothing yet. */
                        uint32_t before = load_relaxed(&leases->shared->high);
                        while (before <= high && !cas_u32(&leases->shared->high, before, high + 1))
                                before = load_relaxed(&leases->shared->high);
                        *ret_entry = high;
                        return 0;
                }
        }
        return -ENOBUFS;
}

void leases_unreserve(struct leases *leases, uint32_t owner, uint32_t entry)
{
        atomic_u64 *word = &entry_at(leases, entry)->word;
        uint32_t generation = word_generation(load_relaxed(word));

        cas_u64(word, word_make(generation, 0, FILLING, owner), word_make(generation, 0, FREE, OWNER_NONE));
}

static void count_letter(struct leases *leases, struct lease_entry *entry, uint64_t seen)
{
        uint64_t letters = load_acquire(&entry->letters);
        uint64_t mine = (uint64_t)word_generation(seen) + 1;
        struct body body = body_of(load_relaxed(&entry->body));

        /* Once a generation, whoever helps: so a letter is counted exactly once, wherever its counter dies.  If the entry
         * has moved
         * on, the count that was read may be that of a later letter; if it has not, a later letter makes the swap fail. */
        if (load_acquire(&entry->word) != seen)
                return;
        if (letters >> 32 != mine)
                cas_u64(&entry->letters, letters, mine << 32 | (uint32_t)(letters + 1));
        cas_u64(&entry->word, seen, word_make(word_generation(seen) + 1, 0, FREE, OWNER_NONE));
        ring_freed(leases->ring, body);
}

/* A lease ends without having been acknowledged: deliver the message again, or bury it. */
static bool put_back(struct leases *leases, struct lease_entry *entry, uint64_t seen)
{
        uint32_t deliveries = word_deliveries(seen);
        bool last = leases->max_deliveries > 0 && deliveries >= leases->max_deliveries;
        uint64_t next = word_make(word_generation(seen), deliveries, last ? BURIED : READY, OWNER_NONE);

        /* First the hint, so that no death hides the entry from getters who trust it. */
        if (!last)
                store_seq_cst(&leases->shared->returned, 1);
        if (!cas_u64(&entry->word, seen, next))
                return false;
        if (last) {
                count_letter(leases, entry, next);
        } else {
                fetch_add_relaxed(&leases->shared->redeliveries, 1);
                ring_announce_return(leases->ring);
        }
        return true;
}

/* ---- from ring to entry ---- */

/* An entry was HELD by an owner that was READING the slot: the slot's part of the message is over.  Repeating this does
 * nothing.
 *
 *     we: read the word               others: settle, give back, take, acknowledge; the entry is filled anew
 *     we: read the position
 *
 * would settle a message that is not ours to settle.  So the word is read once more behind the position; if it is the same,
 * so is the message, and should it move on from here, then no word carries that position any more, and nothing happens. */
static void settle(struct leases *leases, uint32_t index, const struct lease_entry *entry, uint64_t seen)
{
        struct position at = position_of(load_acquire(&entry->position)); /* A10 */
        struct body body = body_of(load_acquire(&entry->body));

        if (load_relaxed(&entry->word) != seen)
                return;
        ring_pass_body(leases->ring, at, body, index, word_generation(seen));
        ring_free_moved(leases->ring, at, word_owner(seen));
}

void leases_hold(struct leases *leases, uint32_t owner, uint32_t index, struct position at, uint64_t body,
                 struct lease_claim *ret_claim)
{
        struct lease_entry *entry = entry_at(leases, index);
        uint32_t generation = word_generation(load_relaxed(&entry->word));
        uint64_t held = word_make(generation, 1, HELD, owner);

        /* R10: pair with A10 in settle: whoever sees one of these sees that the word is not the one of the lease before. */
        store_release(&entry->position, position_word(at));
        store_release(&entry->body, body);
        ret_claim->bytes = ring_copy_cell(leases->ring, at, body_of(body), entry->bytes);
        store_seq_cst(&entry->word, held); /* R9: pairs with A9 in leases_take and leases_settle_slot */
        settle(leases, index, entry, held);
        fetch_add_relaxed(&leases->shared->deliveries, 1);
        *ret_claim = (struct lease_claim){
                .entry = index,
                .generation = generation,
                .deliveries = 1,
                .bytes = ret_claim->bytes,
                .size = body_of(body).size,
        };
}

bool leases_settle_slot(struct leases *leases, uint32_t owner, struct position at)
{
        for (uint32_t i = 0, used = used_entries(leases); i < used; i++) {
                struct lease_entry *entry = entry_at(leases, i);
                uint64_t seen = load_acquire(&entry->word); /* A9 */

                if (is_held(seen) && word_owner(seen) == owner && load_relaxed(&entry->position) == position_word(at)) {
                        settle(leases, i, entry, seen);
                        return true;
                }
        }
        return false;
}

/* ---- deliveries ---- */

int leases_take(struct leases *leases, uint32_t owner, size_t room, struct lease_claim *ret_claim)
{
        for (;;) {
                struct lease_entry *oldest = NULL;
                uint64_t oldest_seen = 0;
                uint32_t oldest_index = 0;

                for (uint32_t i = 0, used = used_entries(leases); i < used; i++) {
                        struct lease_entry *entry = entry_at(leases, i);
                        uint64_t seen = load_acquire(&entry->word); /* A9 */

                        if (word_kind(seen) != READY)
                                continue;
                        if (oldest != NULL &&
                            (int64_t)((load_relaxed(&entry->position) - load_relaxed(&oldest->position))
                                      << (64 - LAP_BITS - INDEX_BITS)) >= 0)
                                continue;
                        oldest = entry;
                        oldest_seen = seen;
                        oldest_index = i;
                }
                if (oldest == NULL) {
                        /* Take the hint down, and look once more: one that came back meanwhile has set it before. */
                        if (load_seq_cst(&leases->shared->returned) == 0)
                                return -EAGAIN;
                        store_seq_cst(&leases->shared->returned, 0);
                        struct leases_count count = leases_count(leases, OWNER_NONE);
                        if (count.ready == 0)
                                return -EAGAIN;
                        store_seq_cst(&leases->shared->returned, 1);
                        continue;
                }
                struct body body = body_of(load_relaxed(&oldest->body));
                if (!ring_body_valid(leases->ring, body))
                        return -EUCLEAN;
                if (body.size > room)
                        return -EMSGSIZE;
                uint32_t deliveries = word_deliveries(oldest_seen);
                deliveries += deliveries < DELIVERIES_TOP;
                if (!cas_u64(&oldest->word, oldest_seen,
                             word_make(word_generation(oldest_seen), deliveries, leases->tasks ? TAKING : HELD, owner)))
                        continue;
                fetch_add_relaxed(&leases->shared->deliveries, 1);
                *ret_claim = (struct lease_claim){
                        .entry = oldest_index,
                        .generation = word_generation(oldest_seen),
                        .deliveries = deliveries,
                        .bytes = ring_body_bytes(leases->ring, body, oldest->bytes),
                        .size = body.size,
                };
                return 0;
        }
}

/* The entry that a process says it holds: 0, -EINVAL, -EPERM. */
static int find_held(const struct leases *leases, uint32_t owner, uint32_t index, uint64_t ticket,
                     struct lease_entry **ret_entry, uint64_t *ret_seen)
{
        if (index >= used_entries(leases))
                return -EINVAL;
        struct lease_entry *entry = entry_at(leases, index);
        uint64_t seen = load_acquire(&entry->word);
        if (word_generation(seen) != (uint32_t)ticket || word_kind(seen) != HELD ||
            (ticket >> 32 != 0 && word_deliveries(seen) != ticket >> 32))
                return -EINVAL;
        if (word_owner(seen) != owner)
                return -EPERM;
        *ret_entry = entry;
        *ret_seen = seen;
        return 0;
}

int leases_acknowledge(struct leases *leases, uint32_t owner, uint32_t index, uint64_t ticket)
{
        struct lease_entry *entry;
        uint64_t seen;
        int r = find_held(leases, owner, index, ticket, &entry, &seen);

        if (r < 0)
                return r;
        struct body body = body_of(load_relaxed(&entry->body));
        /* The task of another thread of ours, which may not have come as far as to settle it.  It will find that the entry has
         * moved on, and leave the slot alone; and should we die now, the message must not come back from there. */
        if (leases->tasks)
                settle(leases, index, entry, seen);
        if (!cas_u64(&entry->word, seen, word_make(word_generation(seen) + 1, 0, FREE, OWNER_NONE)))
                return -EINVAL;
        store_relaxed(&leases->recent, index);
        ring_freed(leases->ring, body);
        return 0;
}

int leases_give_back(struct leases *leases, uint32_t owner, uint32_t index, uint64_t ticket)
{
        struct lease_entry *entry;
        uint64_t seen;
        int r = find_held(leases, owner, index, ticket, &entry, &seen);

        if (r < 0)
                return r;
        return put_back(leases, entry, seen) ? 0 : -EINVAL;
}

void leases_keep(struct leases *leases, uint32_t owner, const struct lease_claim *claim)
{
        uint64_t taking = word_make(claim->generation, claim->deliveries, TAKING, owner);

        cas_u64(&entry_at(leases, claim->entry)->word, taking,
                word_make(claim->generation, claim->deliveries, HELD, owner));
}

int leases_oldest(struct leases *leases, uint32_t owner, uint32_t *ret_entry, uint32_t *ret_generation)
{
        uint64_t oldest = UINT64_MAX;
        int r = -ENOENT;

        for (uint32_t i = 0, used = used_entries(leases); i < used; i++) {
                const struct lease_entry *entry = entry_at(leases, i);
                uint64_t seen = load_acquire(&entry->word);

                if (word_kind(seen) != HELD || word_owner(seen) != owner)
                        continue;
                if (load_relaxed(&entry->position) < oldest) {
                        oldest = load_relaxed(&entry->position);
                        *ret_entry = i;
                        *ret_generation = word_generation(seen);
                        r = 0;
                }
        }
        return r;
}

/* ---- the dead ---- */

bool leases_holds(const struct leases *leases, uint32_t entry, uint32_t generation)
{
        if (entry >= LEASES_COUNT)
                return false;
        uint64_t seen = load_acquire(&entry_at(leases, entry)->word);
        enum lease_kind kind = word_kind(seen);
        return word_generation(seen) == generation && (is_held(seen) || kind == READY || kind == BURIED);
}

void leases_recover(struct leases *leases, uint32_t owner)
{
        uint32_t alive =
            leases->ring->owner; /* the last one that was found alive: most entries are of a few processes */

        for (uint32_t i = 0, used = used_entries(leases); i < used; i++) {
                struct lease_entry *entry = entry_at(leases, i);
                uint64_t seen = load_acquire(&entry->word);
                enum lease_kind kind = word_kind(seen);

                if (kind == BURIED) {
                        count_letter(leases, entry, seen);
                        continue;
                }
                if (!is_held(seen) && kind != FILLING)
                        continue;
                if (word_owner(seen) != owner) {
                        if (word_owner(seen) == alive)
                                continue;
                        if (owners_alive(leases->ring->owners, word_owner(seen))) {
                                alive = word_owner(seen);
                                continue;
                        }
                }
                if (kind == FILLING) {
                        cas_u64(&entry->word, seen, word_make(word_generation(seen), 0, FREE, OWNER_NONE));
                        continue;
                }
                /* The slot first: an entry that others may take must be the only place of its message. */
                settle(leases, i, entry, seen);
                if (put_back(leases, entry, seen))
                        ring_count_repair(leases->ring);
        }
}

struct leases_count leases_count(const struct leases *leases, uint32_t owner)
{
        struct leases_count count = { 0, 0, 0 };

        for (uint32_t i = 0, used = used_entries(leases); i < used; i++) {
                uint64_t seen = load_acquire(&entry_at(leases, i)->word);
                enum lease_kind kind = word_kind(seen);

                if (kind == READY)
                        count.ready++;
                else if (is_held(seen))
                        *(word_owner(seen) == owner ? &count.own : &count.others) += 1;
        }
        return count;
}

uint64_t leases_letters(const struct leases *leases)
{
        uint64_t letters = 0;

        for (uint32_t i = 0, used = used_entries(leases); i < used; i++)
                letters += (uint32_t)load_relaxed(&entry_at(leases, i)->letters);
        return letters;
}
