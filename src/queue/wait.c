/* SPDX-License-Identifier: MIT
 *
 * queue/wait.c: what a call does when there is nothing for it, in steps: look for a while, say that one sleeps, look again,
 * sleep.
 */
#include "os/clock.h"
#include "os/fence.h"
#include "os/futex.h"
#include "queue/bell.h"
#include "queue/inside.h"

#include <errno.h>
#include <limits.h>

enum {
        SLICE_WATCH_MS = 250, /* the longest sleep with nobody watching over the processes */
        SLICE_BUSY_MS = 64,   /* the longest sleep behind another's claim */
};

int look_error(enum look look, const struct sight *sight)
{
        switch (look) {
        case LOOK_DONE:
                return 0;
        case LOOK_CLOSED:
                return -EPIPE;
        case LOOK_TOO_LARGE:
                return -EMSGSIZE;
        case LOOK_FAILED:
                return sight->error;
        case LOOK_DAMAGED:
                return -EUCLEAN;
        default:
                return -EAGAIN;
        }
}

void ring_fence_all(struct ring *ring)
{
        set_bits_u32(&ring->shared->control, CONTROL_FENCED);
}

void ring_enter(struct ring *ring)
{
        fetch_add_seq_cst(&ring->inside, 1);
}

void ring_leave(struct ring *ring)
{
        /* After the count is down, the handle may be gone. */
        bool canceled = load_seq_cst(&ring->canceled);

        if (fetch_add_seq_cst(&ring->inside, UINT32_MAX) == 1 && canceled)
                futex_wake(&ring->inside, INT_MAX);
}

static bool is_closed(const struct ring *ring)
{
        return load_relaxed(&ring->shared->control) & CONTROL_CLOSED;
}

/* Look again and again, for as long as that has lately been paying; unless others are to go first.  Whether the look was final. */
static bool spin(struct ring *ring, const struct side *side, size_t size, uint32_t owner, struct sight *sight,
                 int64_t deadline, enum look *seen)
{
        struct turn *turn = &ring->turns[side->turn];
        atomic_u64 *plea = &ring->shared->pleas[side->turn];
        struct turn_wait wait = { .since = 0 };

        spin_rest(&ring->spin, position_count(ring, sight->at));
        for (uint32_t i = 0, most = load_relaxed(&ring->spin.length); i < most; i++) {
                if (i % TURN_LOOK == 0)
                        turn_stand_back(turn, plea, deadline);
                if (spin_offers(i)) {
                        turn_ask(turn, plea, &wait, (uint32_t)(position_count(ring, sight->at) / SAMPLE));
                        if (is_closed(ring))
                                return false; /* little will come any more */
                }
                spin_pause(&ring->spin, i);
                if (sight->slot != NULL && load_relaxed(&sight->slot->state) == sight->state)
                        continue;
                *seen = side->look(ring, size, owner, sight);
                if (look_is_final(*seen)) {
                        spin_adapt(&ring->spin, true);
                        return true;
                }
        }
        spin_adapt(&ring->spin, false);
        return false;
}

static bool is_called(struct ring *ring)
{
        return ring->called != NULL && ring->called(ring->called_arg);
}

/* Whether the calls of this process are to end. */
static bool is_over(struct ring *ring)
{
        return load_seq_cst(&ring->canceled) || is_called(ring);
}

/* One sleep; the time until which depends on what was seen.  What to prepare the next one with. */
static uint32_t sleep_a_slice(struct ring *ring, atomic_u32 *word, uint32_t prepared, bool fenced, enum look seen,
                              int64_t *busy_ms, int64_t deadline)
{
        int64_t began = clock_now(), until = deadline;

        if (seen == LOOK_BUSY) {
                until = deadline_slice(deadline, *busy_ms * NS_PER_MS);
                *busy_ms = *busy_ms * 2 < SLICE_BUSY_MS ? *busy_ms * 2 : SLICE_BUSY_MS;
        } else if (!ring->watched || !fenced) {
                until = deadline_slice(deadline, SLICE_WATCH_MS * NS_PER_MS);
        }
        fetch_add_relaxed(&ring->shared->waits, 1);
        int r = waitword_sleep(word, prepared, until);
        if (clock_now() - began < SPIN_SHORT_SLEEP_NS)
                spin_adapt(&ring->spin, true); /* a little more spinning would have saved the sleep */
        return r == -ETIMEDOUT ? prepared : 0;
}

/* Announce a sleep, and order that before all that this process reads from here on. */
static uint32_t prepare(struct ring *ring, atomic_u32 *word, uint32_t last, bool *ret_fenced)
{
        uint32_t prepared = waitword_prepare(word, last);

        *ret_fenced = fence_everybody();
        if (!*ret_fenced)
                ring_fence_all(ring);
        return prepared;
}

/* A sleeper has got what it came for.  Whoever was woken may be the only one who was: if there is more, the next one must
 * be; and if what is there is too large for this one alone, or it was called for something else, too.  The waker has taken the bit
 * away from the others who sleep. */
static void pass_on(struct ring *ring, const struct side *side, atomic_u32 *word, const struct sight *sight,
                    enum look seen)
{
        bool fenced;

        if (!waitword_has_others(word))
                return;
        prepare(ring, word, 0, &fenced);
        if (seen == LOOK_TOO_LARGE || (seen == LOOK_DONE && side->more(ring, sight)) || is_called(ring))
                waitword_wake_one(word);
}

int ring_wait(struct ring *ring, const struct side *side, size_t size, uint32_t owner, struct sight *sight,
              int64_t deadline)
{
        atomic_u32 *word = (atomic_u32 *)(void *)((unsigned char *)ring->shared + side->word);
        int64_t busy_ms = 1;
        int again = SETTLE_MOST;
        bool fenced = true, will_sleep = false;
        uint32_t prepared = 0;
        enum look seen;

        sight->patient = deadline != DEADLINE_NOW;
        if (sight->patient && !is_closed(ring) && spin(ring, side, size, owner, sight, deadline, &seen))
                return look_error(seen, sight);
        for (;;) {
                /* Who was woken looks first: what it finds needs no preparations. */
                seen = sight->slept ? side->look(ring, size, owner, sight) : LOOK_NOTHING;
                bool announced = false;
                if (!look_is_final(seen)) {
                        /* A closed ring mostly is at its end, and nobody sleeps; that is known without a fence. */
                        announced = sight->patient && (will_sleep || !is_closed(ring));
                        if (announced)
                                prepared = prepare(ring, word, prepared, &fenced);
                        if (is_over(ring)) {
                                /* Whoever woke this one meant somebody who takes what there is. */
                                if (sight->slept)
                                        waitword_wake_one(word);
                                return -ECANCELED;
                        }
                        seen = side->look(ring, size, owner, sight);
                }
                if (look_is_final(seen)) {
                        if (sight->slept)
                                pass_on(ring, side, word, sight, seen);
                        return look_error(seen, sight);
                }
                seen = side->settle(ring, sight);
                if (seen == LOOK_DONE) {
                        /* Each time something was set right; unless the memory is damaged so that it never is. */
                        if (again-- > 0)
                                continue;
                        seen = LOOK_BUSY;
                }
                if (look_is_final(seen))
                        return look_error(seen, sight);
                again = SETTLE_MOST;
                if (!sight->patient)
                        return -EAGAIN;
                int64_t now = clock_now();
                if (now >= deadline)
                        return -ETIMEDOUT;
                if (!announced) {
                        will_sleep = true;
                        continue;
                }
                prepared = sleep_a_slice(ring, word, prepared, fenced, seen, &busy_ms, deadline);
                sight->slept = true;
                if (side->trims && clock_now() - now >= SLICE_WATCH_MS * NS_PER_MS &&
                    load_relaxed(&ring->shared->litter) && exchange_seq_cst(&ring->shared->litter, 0))
                        ring_trim(ring);
        }
}

int ring_join(struct ring *ring, int64_t deadline)
{
        uint32_t owner;
        int r = ring_register(ring, &owner);

        if (r < 0)
                return r;
        ring_enter(ring);
        set_bits_u32(&ring->shared->control, CONTROL_JOINED);
        for (;;) {
                bool fenced;
                uint32_t prepared = prepare(ring, &ring->shared->joiners, 0, &fenced);

                r = load_seq_cst(&ring->canceled) ? -ECANCELED : ring_is_done(ring);
                if (r != 0)
                        break;
                if (deadline == DEADLINE_NOW) {
                        r = -EAGAIN;
                        break;
                }
                if (clock_now() >= deadline) {
                        r = -ETIMEDOUT;
                        break;
                }
                waitword_sleep(&ring->shared->joiners, prepared, deadline_slice(deadline, SLICE_WATCH_MS * NS_PER_MS));
                leases_recover(&ring->leases, OWNER_NONE);
        }
        ring_leave(ring);
        return r > 0 ? 0 : r;
}

void ring_cancel_waits(struct ring *ring)
{
        uint32_t inside;

        store_seq_cst(&ring->canceled, 1);
        while ((inside = load_seq_cst(&ring->inside)) > 0) {
                /* One that has just begun to wait may not have been asleep yet. */
                enum { AGAIN_MS = 5 };
                ring_wake_all(ring);
                futex_wait(&ring->inside, inside, deadline_after_ms(AGAIN_MS));
        }
}
