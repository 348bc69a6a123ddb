/* SPDX-License-Identifier: MIT
 *
 * tests/sync/test_ledger.c: a word and its accounts change as one, whoever dies in between.
 *
 * What a death leaves between the change of the word and that of the account is written here by hand: the format of the two is
 * stated a second time, from the head of sync/ledger.h, so that a change of it is noticed too.
 */
#include "check.h"

#include <sched.h>

#include "sync/ledger.h"

enum { ALICE = 3 << 10 | 17, BOB = 1 << 10 | 900 }; /* generation and index */

#define SEQ_MASK ((UINT64_C(1) << 28) - 1)
#define TAG_MASK ((UINT64_C(1) << 26) - 1)

static uint64_t word(uint64_t seq, enum effect effect, uint32_t owner, uint32_t payload)
{
        return (seq & SEQ_MASK) << 36 | (uint64_t)effect << 34 | (uint64_t)(owner & 1023) << 24 | payload;
}

static uint64_t account(uint64_t seq, uint32_t count, uint32_t owner)
{
        return (seq & TAG_MASK) << 38 | (uint64_t)count << 14 | owner >> 10;
}

struct rig {
        atomic_u64 word;
        struct ledger_accounts accounts;
        struct ledger ledger;
};

/* A ledger in the middle of its life, in which both have an account. */
static struct rig *rig_make(uint64_t seq, uint32_t payload)
{
        static struct rig rig;

        memset(&rig, 0, sizeof rig);
        rig.ledger = (struct ledger){ .word = &rig.word, .accounts = &rig.accounts };
        ledger_join(&rig.ledger, ALICE);
        ledger_join(&rig.ledger, BOB);
        store_relaxed(&rig.word, word(seq, EFFECT_NONE, 0, payload));
        return &rig;
}

static atomic_u64 *account_of(struct rig *rig, uint32_t owner)
{
        return &rig->accounts.of[owner & 1023];
}

static uint32_t count(struct rig *rig, uint32_t owner)
{
        return ledger_count(&rig->ledger, ledger_read(&rig->ledger), owner);
}

static bool change(struct rig *rig, uint32_t payload, enum effect effect, uint32_t owner)
{
        return ledger_change(&rig->ledger, ledger_read(&rig->ledger), payload, effect, owner);
}

static void test_changes(void **state)
{
        (void)state;
        struct rig *rig = rig_make(0, 5);

        store_relaxed(&rig->word, ledger_begin(5));
        assert_int_equal(ledger_payload(ledger_read(&rig->ledger)), 5);
        assert_true(change(rig, 4, EFFECT_ADD, ALICE));
        assert_int_equal(ledger_read(&rig->ledger), word(1, EFFECT_ADD, ALICE, 4));
        assert_int_equal(load_relaxed(account_of(rig, ALICE)), account(1, 1, ALICE));
        assert_true(change(rig, 3, EFFECT_ADD, ALICE));
        assert_true(change(rig, 2, EFFECT_ADD, BOB));
        assert_int_equal(count(rig, ALICE), 2);
        assert_int_equal(count(rig, BOB), 1);
        assert_true(change(rig, 3, EFFECT_TAKE, BOB));
        assert_true(change(rig, 4, EFFECT_TAKE, BOB)); /* nothing is less than nothing */
        assert_int_equal(count(rig, BOB), 0);
        assert_true(change(rig, 7, EFFECT_NONE, OWNER_NONE));
        assert_int_equal(count(rig, ALICE), 2);
        assert_true(change(rig, 9, EFFECT_CLEAR, ALICE));
        assert_int_equal(count(rig, ALICE), 0);
        assert_int_equal(ledger_read(&rig->ledger), word(7, EFFECT_CLEAR, ALICE, 9));

        /* From a word that is not there any more, nothing changes. */
        uint64_t now = ledger_read(&rig->ledger), of_alice = load_relaxed(account_of(rig, ALICE));
        assert_false(ledger_change(&rig->ledger, word(6, EFFECT_NONE, 0, 7), 1, EFFECT_ADD, ALICE));
        assert_int_equal(ledger_read(&rig->ledger), now);
        assert_int_equal(load_relaxed(account_of(rig, ALICE)), of_alice);
}

/* Killed between the two steps: whoever comes next does the second, and nobody does it again. */
static void test_help(void **state)
{
        (void)state;
        static const struct {
                enum effect effect;
                uint32_t before, after;
        } cases[] = {
                { EFFECT_NONE, 3, 3 }, { EFFECT_ADD, 0, 1 },  { EFFECT_ADD, 3, 4 },
                { EFFECT_TAKE, 3, 2 }, { EFFECT_TAKE, 0, 0 }, { EFFECT_CLEAR, 3, 0 },
        };

        for (size_t i = 0; i < array_length(cases); i++)
                for (int who = 0; who < 4; who++) {
                        struct rig *rig = rig_make(41, 9);
                        store_relaxed(account_of(rig, ALICE), account(30, cases[i].before, ALICE));
                        store_relaxed(&rig->word, word(42, cases[i].effect, ALICE, 8));
                        switch (who) {
                        case 0: /* somebody asks for her count: her repairer, or another */
                                break;
                        case 1: /* another changes the word, with an effect of his own, */
                                assert_true(change(rig, 7, EFFECT_ADD, BOB));
                                assert_int_equal(count(rig, BOB), 1);
                                break;
                        case 2: /* or without, */
                                assert_true(change(rig, 7, EFFECT_NONE, OWNER_NONE));
                                break;
                        default: /* or has tried to, and came too late */
                                assert_false(ledger_change(&rig->ledger, word(41, 0, 0, 9), 7, EFFECT_ADD, BOB));
                                break;
                        }
                        for (int again = 0; again < 3; again++)
                                assert_int_equal(count(rig, ALICE), cases[i].after);
                        assert_true(change(rig, 6, EFFECT_NONE, OWNER_NONE));
                        assert_int_equal(count(rig, ALICE), cases[i].after);
                }
}

/* L3: a change whose number would say that its effect has been applied takes the next one. */
static void test_tags(void **state)
{
        (void)state;
        /* From this number on; among them the ones at which the tag, and the number, come round. */
        static const uint64_t starts[] = {
                0, 1, 41, TAG_MASK - 1, TAG_MASK, TAG_MASK + 1, 3 * (TAG_MASK + 1) - 1, SEQ_MASK - 1, SEQ_MASK
        };

        for (size_t i = 0; i < array_length(starts); i++)
                for (int effect = EFFECT_ADD; effect <= EFFECT_CLEAR; effect++) {
                        uint64_t seq = starts[i];
                        uint32_t after = effect == EFFECT_ADD ? 4 : effect == EFFECT_TAKE ? 2 : 0;

                        struct rig *rig = rig_make(seq, 9);
                        store_relaxed(account_of(rig, ALICE), account(seq + 1, 3, ALICE));
                        assert_true(change(rig, 8, (enum effect)effect, ALICE));
                        assert_int_equal(ledger_read(&rig->ledger), word(seq + 2, (enum effect)effect, ALICE, 8));
                        assert_int_equal(load_relaxed(account_of(rig, ALICE)), account(seq + 2, after, ALICE));

                        /* Of another's account it does not matter, */
                        rig = rig_make(seq, 9);
                        store_relaxed(account_of(rig, ALICE), account(seq + 1, 3, ALICE));
                        store_relaxed(account_of(rig, BOB), account(seq, 3, BOB));
                        assert_true(change(rig, 8, (enum effect)effect, BOB));
                        assert_int_equal(ledger_read(&rig->ledger), word(seq + 1, (enum effect)effect, BOB, 8));
                        assert_int_equal(load_relaxed(account_of(rig, BOB)), account(seq + 1, after, BOB));

                        /* nor where there is no effect. */
                        rig = rig_make(seq, 9);
                        store_relaxed(account_of(rig, ALICE), account(seq + 1, 3, ALICE));
                        assert_true(change(rig, 8, EFFECT_NONE, ALICE));
                        assert_int_equal(ledger_read(&rig->ledger), word(seq + 1, EFFECT_NONE, ALICE, 8));
                        assert_int_equal(load_relaxed(account_of(rig, ALICE)), account(seq + 1, 3, ALICE));
                }
}

static void test_generations(void **state)
{
        (void)state;
        struct rig *rig = rig_make(41, 9);
        uint32_t later = ALICE + (1 << 10);

        assert_true(change(rig, 8, EFFECT_ADD, ALICE));
        assert_int_equal(count(rig, ALICE), 1);
        assert_int_equal(count(rig, later), 0);
        assert_int_equal(count(rig, ALICE - (1 << 10)), 0);
        ledger_join(&rig->ledger, later);
        assert_int_equal(count(rig, ALICE), 0);
        assert_int_equal(count(rig, later), 0);
        /* The tag stays: what was applied to the account before is not applied once more. */
        assert_int_equal(load_relaxed(account_of(rig, later)), account(42, 0, later));
        assert_true(change(rig, 7, EFFECT_ADD, later));
        assert_int_equal(count(rig, later), 1);
        assert_int_equal(count(rig, ALICE), 0);
}

static void test_limits(void **state)
{
        (void)state;
        struct rig *rig = rig_make(41, LEDGER_MOST);

        assert_int_equal(LEDGER_MOST, (1 << 24) - 1);
        assert_int_equal(ledger_payload(ledger_read(&rig->ledger)), LEDGER_MOST);
        store_relaxed(account_of(rig, ALICE), account(30, LEDGER_MOST - 1, ALICE));
        for (int i = 0; i < 3; i++) {
                assert_true(change(rig, LEDGER_MOST, EFFECT_ADD, ALICE));
                assert_int_equal(count(rig, ALICE), LEDGER_MOST);
        }
        assert_int_equal(load_relaxed(account_of(rig, ALICE)), account(44, LEDGER_MOST, ALICE));
        assert_true(change(rig, LEDGER_MOST, EFFECT_TAKE, ALICE));
        assert_int_equal(count(rig, ALICE), LEDGER_MOST - 1);

        /* A payload that is too large is cut off, and touches nothing beside it. */
        assert_true(change(rig, UINT32_MAX, EFFECT_ADD, BOB));
        assert_int_equal(ledger_read(&rig->ledger), word(46, EFFECT_ADD, BOB, LEDGER_MOST));

        /* Whatever the words say, a call ends when nobody else changes them. */
        for (int round = 0; round < support_rounds(2000); round++) {
                store_relaxed(&rig->word, support_random(UINT64_MAX));
                for (uint32_t i = 0; i < OWNERS_COUNT; i++)
                        if (support_random(16) == 0)
                                store_relaxed(&rig->accounts.of[i], support_random(UINT64_MAX));
                uint32_t owner = (uint32_t)support_random(1 << OWNER_BITS);
                assert_true(count(rig, owner) <= LEDGER_MOST);
                assert_true(change(rig, (uint32_t)support_random(LEDGER_MOST), (enum effect)support_random(4), owner));
        }
}

/* ---- many at once ---- */

enum { UNITS = 7, USERS = 4 };

struct bank {
        atomic_u64 word;
        struct ledger_accounts accounts;
        atomic_u32 stop, looks;
        uint32_t turns;
};

struct user {
        struct bank *bank;
        uint32_t owner;
        uint64_t seed;
};

static struct ledger ledger_of(struct bank *bank)
{
        return (struct ledger){ .word = &bank->word, .accounts = &bank->accounts };
}

/* Everything goes back: as a repairer does it, or the owner itself. */
static void give_all_back(struct ledger *ledger, uint32_t owner)
{
        uint32_t held;
        uint64_t now;

        do {
                now = ledger_read(ledger);
                held = ledger_count(ledger, now, owner);
                if (held == 0)
                        return;
        } while (!ledger_change(ledger, now, ledger_payload(now) + held, EFFECT_CLEAR, owner));
}

/* Takes and gives units as they come, and now and then becomes somebody else with the same index. */
static int use_bank(void *arg)
{
        struct user *user = arg;
        struct ledger ledger = ledger_of(user->bank);
        uint32_t owner = user->owner, held = 0;

        ledger_join(&ledger, owner);
        for (uint32_t i = 0; i < user->bank->turns; i++) {
                uint64_t now = ledger_read(&ledger);
                uint32_t units = ledger_payload(now), how = (uint32_t)check_random(&user->seed, 40);

                require(units <= UNITS);
                if (how == 0) {
                        give_all_back(&ledger, owner);
                        held = 0;
                        owner = (owner + (1 << 10)) & ((1 << OWNER_BITS) - 1);
                        ledger_join(&ledger, owner);
                } else if (how < 20 && units > 0) {
                        held += ledger_change(&ledger, now, units - 1, EFFECT_ADD, owner);
                } else if (held > 0) {
                        held -= ledger_change(&ledger, now, units + 1, EFFECT_TAKE, owner);
                } else {
                        sched_yield();
                }
                now = ledger_read(&ledger);
                uint32_t told = ledger_count(&ledger, now, owner);
                require_int(told, held); /* nobody else changes what this one has */
        }
        give_all_back(&ledger, owner);
        return 0;
}

/* At every moment at which the word stands still, what is there and what is held are all the units. */
static int audit(void *arg)
{
        struct bank *bank = arg;
        struct ledger ledger = ledger_of(bank);

        while (!load_seq_cst(&bank->stop)) {
                uint64_t now = ledger_read(&ledger);
                uint32_t sum = ledger_payload(now);

                ledger_count(&ledger, now, ALICE); /* which helps, if there is something to help with */
                for (uint32_t i = 0; i < OWNERS_COUNT; i++)
                        sum += (uint32_t)(load_seq_cst(&bank->accounts.of[i]) >> 14 & LEDGER_MOST);
                if (ledger_read(&ledger) != now)
                        continue;
                require_int(sum, UNITS);
                fetch_add_relaxed(&bank->looks, 1);
        }
        return 0;
}

static void test_threads(void **state)
{
        (void)state;
        static struct bank bank;
        struct check_thread threads[USERS], auditor;
        struct user users[USERS];

        memset(&bank, 0, sizeof bank);
        store_relaxed(&bank.word, ledger_begin(UNITS));
        bank.turns = (uint32_t)support_rounds(20000);
        check_thread_start(&auditor, audit, &bank);
        for (uint32_t i = 0; i < USERS; i++) {
                users[i] = (struct user){ &bank, 1 << 10 | (i + 1), support_random(UINT64_MAX) };
                check_thread_start(&threads[i], use_bank, &users[i]);
        }
        for (int i = 0; i < USERS; i++)
                assert_int_equal(check_thread_join(&threads[i]), 0);
        store_seq_cst(&bank.stop, 1);
        assert_int_equal(check_thread_join(&auditor), 0);
        assert_int_equal(ledger_payload(load_relaxed(&bank.word)), UNITS);
        for (uint32_t i = 0; i < OWNERS_COUNT; i++)
                assert_int_equal(load_relaxed(&bank.accounts.of[i]) >> 14 & LEDGER_MOST, 0);
}

/* The same in processes, of which one after the other is killed somewhere, and repaired while the others go on. */
static void test_killed(void **state)
{
        (void)state;
        struct bank *bank = check_shared(sizeof *bank);
        struct ledger ledger = ledger_of(bank);
        struct user users[USERS];
        pid_t pids[USERS];

        store_relaxed(&bank->word, ledger_begin(UNITS));
        bank->turns = UINT32_MAX;
        for (uint32_t i = 0; i < USERS; i++) {
                users[i] = (struct user){ bank, 1 << 10 | (i + 1), support_random(UINT64_MAX) };
                pids[i] = check_start(use_bank, &users[i]);
        }
        for (int round = 0; round < support_rounds(40); round++) {
                uint32_t i = (uint32_t)support_random(USERS);
                for (uint64_t pause = support_random(20000); pause > 0; pause--)
                        cpu_relax();
                assert_int_equal(check_kill(pids[i]), -SIGKILL);
                /* It may have become somebody else by now: what it was last is in its account. */
                uint32_t index = users[i].owner & 1023;
                uint32_t generation = (uint32_t)load_seq_cst(&bank->accounts.of[index]) & ((1 << 14) - 1);
                give_all_back(&ledger, generation << 10 | index);
                users[i].owner = ((generation + 1) & ((1 << 14) - 1)) << 10 | index;
                users[i].seed = support_random(UINT64_MAX);
                pids[i] = check_start(use_bank, &users[i]);
        }
        for (uint32_t i = 0; i < USERS; i++) {
                assert_int_equal(check_kill(pids[i]), -SIGKILL);
                uint32_t index = users[i].owner & 1023;
                uint32_t generation = (uint32_t)load_seq_cst(&bank->accounts.of[index]) & ((1 << 14) - 1);
                give_all_back(&ledger, generation << 10 | index);
        }
        assert_int_equal(ledger_payload(load_relaxed(&bank->word)), UNITS);
        for (uint32_t i = 0; i < OWNERS_COUNT; i++)
                assert_int_equal(load_relaxed(&bank->accounts.of[i]) >> 14 & LEDGER_MOST, 0);
        munmap(bank, sizeof *bank);
}

int main(int argc, char **argv)
{
        static const struct CMUnitTest tests[] = {
                support_test(test_changes),     support_test(test_help),   support_test(test_tags),
                support_test(test_generations), support_test(test_limits), support_test(test_threads),
                support_test(test_killed),
        };
        return support_main(argc, argv, "ledger", tests, array_length(tests), 60);
}
