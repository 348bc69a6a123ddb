/* SPDX-License-Identifier: MIT
 *
 * sync/ledger.h: a word that many change, and an account for each of what it has taken: both change as one.
 *
 * A semaphore's value, a barrier's count and a reader/writer lock's readers are numbers to which every process contributes; and
 * when one dies, its own contribution must be known.  Two words, the number and the dead one's account, cannot be changed by
 * one instruction, and a death in between would lose a unit.  So the first word also says what is to happen to the second:
 *
 *   word      | seq 28 | effect 2 | who 10 | payload 24 |     what is, who changed it last, and what that does to its account
 *   account   | tag 26 | count 24 | generation 14 |           of the owner with that index; the tag says up to which change
 *
 *   to change        1. read the word     2. apply its effect, if the account's tag says that nobody has
 *                    3. CAS the word to the new payload, with the new effect     4. apply that
 *
 * The CAS in 3 is the linearisation point: before it nothing has happened, after it all has, since no later change gets past 2
 * without applying the effect.  Whoever is killed between 3 and 4 is helped by the next one, or by its repairer. (Helping is
 * Maurice Herlihy's, from his universal construction; here an operation needs no descriptor, for it fits into the word.)
 *
 *   L1  The word never moves on from a change whose effect has not been applied.
 *   L2  An effect is applied once: by a CAS on an account that was read before the word was seen not to have moved on; whoever
 *       comes later finds the tag, or that the word has moved, or its CAS fails.
 *   L3  A change never takes a number whose tag its account already has (ledger_change passes over it).
 *   L4  Whose number is given up has no effect in the word that is not applied, and a count of 0.
 *
 * Numbers come round: a process that stands still between its read and its CAS while exactly 2^28 changes (2^26 of one
 * account) are made, and then finds the same payload, would be deceived.
 *
 *   member of the shared part   written by                            read by
 *   word                        CAS of any user, payload and effect   anyone
 *   accounts[i]                 CAS of any user, to apply the effect; ledger_join, by the owner, before its first change
 *                                                                     anyone, by the tag
 */
#ifndef BROOD_SYNC_LEDGER_H
#define BROOD_SYNC_LEDGER_H

#include "shm/owners.h"

enum {
        LEDGER_PAYLOAD_BITS = 24,
        LEDGER_MOST = (1 << LEDGER_PAYLOAD_BITS) - 1, /* the largest payload, and the largest count */
};

/* What a change does to the account of the one that it names. */
enum effect {
        EFFECT_NONE,
        EFFECT_ADD,   /* count one more */
        EFFECT_TAKE,  /* count one less, unless it is 0 */
        EFFECT_CLEAR, /* count 0 */
};

struct ledger_accounts {
        atomic_u64 of[OWNERS_COUNT];
};

struct ledger {
        atomic_u64 *word;
        struct ledger_accounts *accounts;
};

static inline uint64_t ledger_read(struct ledger *ledger)
{
        return load_seq_cst(ledger->word);
}

static inline uint32_t ledger_payload(uint64_t word)
{
        return (uint32_t)(word & LEDGER_MOST);
}

/* What the account of `owner` counts, as long as the word is still `word`. */
uint32_t ledger_count(struct ledger *ledger, uint64_t word, uint32_t owner);

/* Change the word from `word` to a new payload, with an effect on the account of `owner`.  False: it was no longer `word`. */
bool ledger_change(struct ledger *ledger, uint64_t word, uint32_t payload, enum effect effect, uint32_t owner);

/* Open the account of a new owner. */
void ledger_join(struct ledger *ledger, uint32_t owner);

/* A word for a new ledger. */
static inline uint64_t ledger_begin(uint32_t payload)
{
        return payload;
}

#endif
