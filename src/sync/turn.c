/* SPDX-License-Identifier: MIT */
#include "sync/turn.h"
#include "os/clock.h"
#include "os/futex.h"

enum { NS_PER_US = 1000 };

/* A plea: until when, in microseconds, and what was done. */
static uint64_t plea_make(uint32_t until, uint32_t done)
{
        return (uint64_t)until << 32 | done;
}

/* How long it still holds; none holds for longer than TURN_MOST, whatever the word says. */
static uint32_t plea_left(uint64_t plea, int64_t now)
{
        uint32_t left = (uint32_t)(plea >> 32) - (uint32_t)now;

        return left <= TURN_MOST_US ? left : 0;
}

/* How much more than the one who wrote it. */
static int32_t plea_lead(uint64_t plea, uint32_t done)
{
        return (int32_t)(done - (uint32_t)plea);
}

void turn_init(struct turn *turn)
{
        *turn = (struct turn){ .least = TURN_LEAST_US };
}

void turn_stand_back(const struct turn *turn, atomic_u64 *word, int64_t deadline)
{
        uint64_t plea = load_relaxed(word);

        if (plea == load_relaxed(&turn->plea) || plea_lead(plea, load_relaxed(&turn->done)) < TURN_LEAD)
                return;
        int64_t now = clock_now(), until = now + plea_left(plea, now / NS_PER_US) * INT64_C(1000);
        if (until > now)
                futex_wait(futex_low_half(word), (uint32_t)plea, until < deadline ? until : deadline);
}

void turn_ask(struct turn *turn, atomic_u64 *word, struct turn_wait *wait, uint32_t all)
{
        int64_t now = clock_now() / NS_PER_US, waited = now - wait->since;
        uint32_t done = load_relaxed(&turn->done), then = load_relaxed(&turn->then), least = load_relaxed(&turn->least);
        uint64_t plea = load_relaxed(word);

        if (wait->since == 0) {
                *wait = (struct turn_wait){ .since = now, .all = all };
                return;
        }
        if (waited < least)
                return;
        int32_t lead = plea_lead(plea, done);
        uint32_t beyond = lead > TURN_DEBT ? lead - TURN_DEBT : lead < -TURN_DEBT ? lead + TURN_DEBT : 0;
        done -= beyond;
        then -= beyond;
        store_relaxed(&turn->done, done);
        store_relaxed(&turn->then, then);
        if (plea_lead(plea, done) >= 0 && plea_left(plea, now) > 0)
                return; /* who asks has done less */

        uint32_t length = waited < TURN_MOST_US ? (uint32_t)waited : TURN_MOST_US;
        bool used = (uint64_t)(done - then) * TURN_USE >= load_relaxed(&turn->owed);
        least = used ? TURN_LEAST_US : least * 2;
        store_relaxed(&turn->least, least < TURN_RARELY_US ? least : TURN_RARELY_US);
        store_relaxed(&turn->then, done);
        store_relaxed(&turn->owed, (uint32_t)((uint64_t)(all - wait->all) * length / (uint64_t)waited));
        plea = plea_make((uint32_t)now + length, done);
        store_relaxed(&turn->plea, plea);
        store_relaxed(word, plea);
}
