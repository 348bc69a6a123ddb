/* SPDX-License-Identifier: MIT */
#include "sync/user.h"
#include "os/clock.h"
#include "os/futex.h"

#include <errno.h>
#include <limits.h>

void user_init(struct user *user, struct user_shared *shared, struct owners *owners, const struct user_hooks *hooks,
               void *object)
{
        *user = (struct user){ .shared = shared, .owners = owners, .hooks = hooks, .object = object, .fences = 1 };
        spin_init(&user->spin);
}

/* ---- owners ---- */

static void recover(struct user *user, uint32_t owner)
{
        if (user->hooks->recover != NULL)
                user->hooks->recover(user->object, owner);
        owners_release(user->owners, owner);
}

void user_recover_all(struct user *user)
{
        uint32_t owner;

        for (uint32_t at = 0; (owner = owners_next(user->owners, &at)) != OWNER_NONE;)
                if (owner != user_owner(user) && !owners_alive(user->owners, owner))
                        recover(user, owner);
        if (user->hooks->watch != NULL)
                user->hooks->watch(user->object);
}

int user_own_slow(struct user *user)
{
        int r = process_mark_init();

        if (r < 0)
                return r;
        r = process_lock();
        if (r < 0)
                return r;
        if (load_relaxed(&user->mark) != process_mark()) {
                uint32_t owner = owners_register(user->owners, identity_self());

                if (owner == OWNER_NONE) {
                        user_recover_all(user);
                        owner = owners_register(user->owners, identity_self());
                }
                if (owner != OWNER_NONE) {
                        if (user->hooks->join != NULL)
                                user->hooks->join(user->object, owner);
                        user->owner = owner;
                        store_relaxed(&user->inside, 0); /* what a forked child inherits is about its parent */
                        store_relaxed(&user->fences, !fence_register());
                        store_release(&user->mark, process_mark()); /* R7: pairs with A7 in user_own */
                } else {
                        r = -EUSERS;
                }
        }
        process_unlock();
        return r;
}

void user_enter(struct user *user)
{
        fetch_add_seq_cst(&user->inside, 1);
}

void user_leave(struct user *user)
{
        /* After the count is down, the handle may be gone. */
        bool canceled = load_seq_cst(&user->canceled);

        if (fetch_add_seq_cst(&user->inside, UINT32_MAX) == 1 && canceled)
                futex_wake(&user->inside, INT_MAX);
}

void user_cancel(struct user *user)
{
        store_seq_cst(&user->canceled, 1);
        user->hooks->wake_all(user->object);
}

void user_end(struct user *user)
{
        uint32_t owner = user_owner(user), inside;

        if (owner == OWNER_NONE)
                return;
        user_cancel(user);
        while ((inside = load_seq_cst(&user->inside)) > 0) {
                /* One that has just begun to wait may not have been asleep yet. */
                enum { AGAIN_MS = 5 };
                futex_wait(&user->inside, inside, deadline_after_ms(AGAIN_MS));
                user->hooks->wake_all(user->object);
        }
        store_relaxed(&user->mark, 0);
        recover(user, owner);
}

/* ---- waiting ---- */

void user_wake_all(struct user *user, atomic_u32 *word)
{
        user_fence(user);
        if (load_relaxed(word) & WAITWORD_SLEEPERS)
                waitword_wake_all(word);
}

/* Look again and again, for as long as that has lately been paying. */
static int spin(struct user *user, const struct wait *wait, void *call)
{
        int r = -EAGAIN;

        for (uint32_t i = 0, most = load_relaxed(&user->spin.length); i < most && r == -EAGAIN; i++) {
                spin_pause(&user->spin, i);
                r = wait->look(user->object, call);
        }
        spin_adapt(&user->spin, r != -EAGAIN);
        return r;
}

/* Announce a sleep, and order that before all that this process reads from here on. */
static uint32_t prepare(struct user *user, atomic_u32 *word, uint32_t last)
{
        uint32_t prepared = waitword_prepare(word, last);

        if (!fence_everybody())
                set_bits_u32(&user->shared->fenced, 1);
        return prepared;
}

/* A sleeper has got what it came for, and whoever woke it has taken the mark of the others who sleep away. */
static void pass_on(struct user *user, const struct wait *wait)
{
        if (!waitword_has_others(wait->word))
                return;
        prepare(user, wait->word, 0);
        if (wait->more != NULL && wait->more(user->object))
                waitword_wake_one(wait->word);
}

void user_watch(struct user *user)
{
        uint64_t now = (uint64_t)clock_now(), checked = load_relaxed(&user->shared->checked);

        /* A time that lies ahead is damage, and no reason to wait for it. */
        if (now - checked >= (uint64_t)(WATCH_MS - WATCH_SLACK_MS) * NS_PER_MS &&
            cas_u64(&user->shared->checked, checked, now))
                user_recover_all(user);
}

static int wait_asleep(struct user *user, const struct wait *wait, void *call, int64_t deadline)
{
        uint32_t prepared = 0;
        bool slept = false;

        for (;;) {
                int r = slept ? wait->look(user->object, call) : -EAGAIN;

                if (r == -EAGAIN) {
                        prepared = prepare(user, wait->word, prepared);
                        if (load_seq_cst(&user->canceled)) {
                                /* Whoever woke this one meant somebody who takes what there is. */
                                if (slept)
                                        waitword_wake_one(wait->word);
                                return -ECANCELED;
                        }
                        r = wait->look(user->object, call);
                }
                if (r != -EAGAIN) {
                        if (slept)
                                pass_on(user, wait);
                        return r;
                }
                int64_t began = clock_now();
                if (began >= deadline)
                        return -ETIMEDOUT;
                if (waitword_sleep(wait->word, prepared, deadline_slice(deadline, WATCH_MS * NS_PER_MS)) != -ETIMEDOUT)
                        prepared = 0;
                slept = true;
                if (clock_now() - began < SPIN_SHORT_SLEEP_NS)
                        spin_adapt(&user->spin, true); /* a little more spinning would have saved the sleep */
                user_watch(user);
        }
}

int user_wait(struct user *user, const struct wait *wait, void *call, int64_t deadline)
{
        int r = wait->look(user->object, call);

        if (r != -EAGAIN)
                return r;
        user_enter(user);
        if (deadline != DEADLINE_NOW)
                r = spin(user, wait, call);
        if (r == -EAGAIN) {
                /* What is waited for may have died long ago. */
                user_watch(user);
                r = wait->look(user->object, call);
        }
        if (r == -EAGAIN && deadline != DEADLINE_NOW)
                r = wait_asleep(user, wait, call, deadline);
        user_leave(user);
        return r;
}
