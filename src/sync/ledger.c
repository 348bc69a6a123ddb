/* SPDX-License-Identifier: MIT */
#include "sync/ledger.h"

enum {
        EFFECT_BITS = 2,
        SEQ_BITS = 64 - LEDGER_PAYLOAD_BITS - OWNERS_INDEX_BITS - EFFECT_BITS,
        WHO_SHIFT = LEDGER_PAYLOAD_BITS,
        EFFECT_SHIFT = WHO_SHIFT + OWNERS_INDEX_BITS,
        SEQ_SHIFT = EFFECT_SHIFT + EFFECT_BITS,

        COUNT_BITS = LEDGER_PAYLOAD_BITS,
        TAG_BITS = 64 - COUNT_BITS - OWNERS_GENERATION_BITS,
        COUNT_SHIFT = OWNERS_GENERATION_BITS,
        TAG_SHIFT = COUNT_SHIFT + COUNT_BITS,
};
static_assert(SEQ_BITS == 28 && TAG_BITS == 26, "as the header says");

#define MASK(bits) ((UINT64_C(1) << (bits)) - 1)

static uint64_t word_seq(uint64_t word)
{
        return word >> SEQ_SHIFT;
}

static uint64_t word_tag(uint64_t word)
{
        return word_seq(word) & MASK(TAG_BITS);
}

static uint32_t word_who(uint64_t word)
{
        return (uint32_t)(word >> WHO_SHIFT) & (OWNERS_COUNT - 1);
}

static enum effect word_effect(uint64_t word)
{
        return (enum effect)(word >> EFFECT_SHIFT & MASK(EFFECT_BITS));
}

static uint64_t account_make(uint64_t tag, uint64_t count, uint32_t generation)
{
        return tag << TAG_SHIFT | count << COUNT_SHIFT | generation;
}

static uint64_t account_tag(uint64_t account)
{
        return account >> TAG_SHIFT;
}

static uint32_t account_count(uint64_t account)
{
        return (uint32_t)(account >> COUNT_SHIFT & MASK(COUNT_BITS));
}

static uint32_t account_generation(uint64_t account)
{
        return (uint32_t)(account & MASK(OWNERS_GENERATION_BITS));
}

static atomic_u64 *account_of(struct ledger *ledger, uint32_t owner)
{
        return &ledger->accounts->of[owner & (OWNERS_COUNT - 1)];
}

static uint32_t after(uint32_t count, enum effect effect)
{
        switch (effect) {
        case EFFECT_ADD:
                return count < LEDGER_MOST ? count + 1 : count;
        case EFFECT_TAKE:
                return count > 0 ? count - 1 : 0;
        case EFFECT_CLEAR:
                return 0;
        default:
                return count;
        }
}

/* Apply the effect of a word, unless that has been done. */
static void apply(struct ledger *ledger, uint64_t word)
{
        if (word_effect(word) == EFFECT_NONE)
                return;
        atomic_u64 *at = account_of(ledger, word_who(word));
        uint64_t account = load_seq_cst(at);
        if (account_tag(account) == word_tag(word))
                return;
        /* If the word has moved on since, its effect was applied before (L1), and `account` is from after that. */
        if (load_seq_cst(ledger->word) != word)
                return;
        cas_u64(at, account,
                account_make(word_tag(word), after(account_count(account), word_effect(word)),
                             account_generation(account)));
}

/* What somebody else has not come to. */
static void help(struct ledger *ledger, uint64_t word)
{
#ifdef BROOD_FAULT_NO_HELP /* for a build that shows that the kill tests notice it (tests/kill/meson.build) */
        (void)ledger, (void)word;
#else
        apply(ledger, word);
#endif
}

uint32_t ledger_count(struct ledger *ledger, uint64_t word, uint32_t owner)
{
        help(ledger, word);
        uint64_t account = load_seq_cst(account_of(ledger, owner));

        return account_generation(account) == owner >> OWNERS_INDEX_BITS ? account_count(account) : 0;
}

bool ledger_change(struct ledger *ledger, uint64_t word, uint32_t payload, enum effect effect, uint32_t owner)
{
        uint64_t seq = word_seq(word) + 1;

        help(ledger, word);
        /* If the account is changed from here on, then by a change of the word, which makes the CAS fail. */
        if (effect != EFFECT_NONE && (seq & MASK(TAG_BITS)) == account_tag(load_seq_cst(account_of(ledger, owner))))
                seq++;
        uint64_t next = (seq & MASK(SEQ_BITS)) << SEQ_SHIFT | (uint64_t)effect << EFFECT_SHIFT |
                        (uint64_t)(owner & (OWNERS_COUNT - 1)) << WHO_SHIFT | (payload & LEDGER_MOST);
        if (!cas_u64(ledger->word, word, next))
                return false;
        apply(ledger, next);
        return true;
}

void ledger_join(struct ledger *ledger, uint32_t owner)
{
        atomic_u64 *at = account_of(ledger, owner);
        uint64_t account;

        do
                account = load_seq_cst(at);
        while (!cas_u64(at, account, account_make(account_tag(account), 0, owner >> OWNERS_INDEX_BITS)));
}
